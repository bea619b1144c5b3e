//! A desk: a host that runs as one user, and people who reach it as other users.
//!
//! Only root can act as other users, so without root these tests are left out (`qchost_testing::can_change_user`).

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use qchost_testing::can_change_user;
use serde_json::Value;

use crate::categories::{EVERY, PAPER};
use crate::cloud::Cloud;
use crate::common::{Folder, bundled, embedded};
use crate::process::{Process, Ran};

/// Uids that no user of the machine has, by the role of the person.
pub const VIEWER: u32 = 64_001;
pub const OPERATOR: u32 = 64_002;
pub const APPROVER: u32 = 64_003;
pub const SECOND: u32 = 64_004;
pub const ADMIN: u32 = 64_005;
/// In the group, but unknown to the host.
pub const STRANGER: u32 = 64_006;

const PEOPLE: &str = r#"
[people.viewer]
uid = 64001
roles = ["viewer"]
[people.operator]
uid = 64002
roles = ["operator"]
[people.approver]
uid = 64003
roles = ["approver"]
[people.second]
uid = 64004
roles = ["approver", "operator"]
[people.admin]
uid = 64005
roles = ["admin"]
"#;

/// A host with the test agent in it, for which five people are configured.
pub struct Desk {
    pub cloud: Cloud,
    pub folder: Folder,
    group: u32,
}

impl Desk {
    /// `configuration` comes before everything else, `manifest` sees the test agent's own. `None` without root: the
    /// test is left out.
    pub fn new(configuration: &str, manifest: impl Fn(&str) -> String) -> Option<Self> {
        if !can_change_user() {
            return None;
        }
        let (group, gid) = some_group();
        let cloud = Cloud::start();
        let folder = Folder::new(&format!(
            "{configuration}\n{}{PAPER}{PEOPLE}[control]\nsocket = \"run/control.sock\"\ngroup = \"{group}\"\n",
            embedded(cloud.url())
        ));
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::create_dir(folder.path().join("run")).unwrap();
        let written = folder.manifest("every-category", &manifest(&bundled(EVERY)));
        // Whatever the umask of the tests: the people read the configuration, and find the socket.
        for inner in ["", "run", "plugins"] {
            open(&folder.path().join(inner), 0o755);
        }
        open(&folder.path().join("qchost.toml"), 0o644);
        open(&written, 0o644);
        Some(Self {
            cloud,
            folder,
            group: gid,
        })
    }

    /// Starts the host, as root.
    pub fn serve(&self) -> Process {
        self.folder.serve(&["run"])
    }

    /// The command line of another user, in the socket's group.
    pub fn run_as(&self, uid: u32, arguments: &[&str]) -> Ran {
        self.run_in(uid, self.group, arguments)
    }

    /// Starts the same without waiting for it to end.
    pub fn start_as(&self, uid: u32, arguments: &[&str]) -> Process {
        self.start_in(uid, self.group, arguments)
    }

    /// The command line of another user, in another group.
    pub fn run_in(&self, uid: u32, gid: u32, arguments: &[&str]) -> Ran {
        self.start_in(uid, gid, arguments).wait()
    }

    fn start_in(&self, uid: u32, gid: u32, arguments: &[&str]) -> Process {
        let mut command = self.folder.command(arguments);
        command.uid(uid).gid(gid);
        Process::start(command, self.folder.path())
    }

    /// A project with a compile, made before approvals are required.
    pub fn prepare(&self, by: u32) -> Value {
        self.run_as(by, &["--json", "invoke", "every-category.prepare"])
            .json()
    }
}

/// A group of this machine that is not root's.
pub fn some_group() -> (String, u32) {
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        (gid != 0).then(|| (name.to_owned(), gid))
    });
    found.expect("no group in /etc/group but root's")
}

/// The approval that an error names.
pub fn approval(error: &str) -> String {
    let at = error
        .find("ap-")
        .unwrap_or_else(|| panic!("no approval in: {error}"));
    error[at..]
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect()
}
