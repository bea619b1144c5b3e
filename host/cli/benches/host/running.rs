//! A host that runs in a folder of its own, reached by its control socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qchost_emulator::Emulator;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take before the benchmark gives up.
pub const BOUND: Duration = Duration::from_secs(120);
/// How long a host does nothing before it idles.
const IDLE: Duration = Duration::from_secs(3);
/// What is nothing, in hundredths of a second on a processor.
const NOTHING: u64 = 3;

/// The host that is measured: a release of it.
pub fn program() -> String {
    std::env::var("QCHOST_SHIPPED")
        .expect("QCHOST_SHIPPED does not name a release of the host; run: make bench")
}

/// A folder for a host: configuration, plugins, data, cache.
pub struct Folder {
    folder: TempDir,
    user: String,
    token: String,
}

impl Folder {
    /// For a host that makes no calls: there is no server in place of the cloud.
    pub fn new(more: &str) -> Self {
        Self::before("http://127.0.0.1:9/api/v2", "1", "of-a-benchmark", more)
    }

    /// For a host before this cloud.
    pub fn with_cloud(cloud: &Emulator) -> Self {
        let user = cloud.user_id().to_string();
        Self::before(cloud.base_url(), &user, cloud.token(), "")
    }

    fn before(cloud: &str, user: &str, token: &str, more: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("plugins")).unwrap();
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(folder.path().join("data"))
            .unwrap();
        let account = format!(
            "data = \"data\"\ncache = \"cache\"\n[account.research]\nconnection = \"embedded\"\ncloud = \"{cloud}\"\n"
        );
        std::fs::write(
            folder.path().join("qchost.toml"),
            format!("{account}{more}"),
        )
        .unwrap();
        Self {
            folder,
            user: user.to_owned(),
            token: token.to_owned(),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a component in place as a whole: written beside it, then renamed.
    pub fn component(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join("plugins").join(format!("{name}.wasm"));
        let beside = self.path().join(format!("{name}.new"));
        std::fs::write(&beside, bytes).unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    pub fn plugin(&self, name: &str, bytes: &[u8]) {
        self.component(name, bytes);
        self.manifest(
            name,
            &format!("plugin = \"{name}\"\ncomponent = \"{name}.wasm\"\naccount = \"research\"\n"),
        );
    }

    pub fn manifest(&self, name: &str, text: &str) {
        std::fs::write(
            self.path().join("plugins").join(format!("{name}.toml")),
            text,
        )
        .unwrap();
    }

    /// Starts a host and waits until it is ready.
    pub fn start(&self) -> Running {
        let begun = Instant::now();
        let log = std::fs::File::create(self.path().join("host.log")).unwrap();
        let mut child = Command::new(program())
            .args(["--json", "run"])
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path())
            .env("QUANTCONNECT_USER_ID", &self.user)
            .env("QUANTCONNECT_API_TOKEN", &self.token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let took = begun.elapsed();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}: {}", self.log()));
        assert_eq!(ready["broken"], json!(0), "{}", self.log());
        Running {
            child,
            took,
            socket: self.path().join(ready["socket"].as_str().unwrap()),
            config: self.path().canonicalize().unwrap().join("qchost.toml"),
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("host.log")).unwrap()
    }
}

/// A host. It is ended with this.
pub struct Running {
    child: Child,
    /// From its start until it was ready.
    pub took: Duration,
    socket: PathBuf,
    config: PathBuf,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it does nothing any more, so that what it takes is what it keeps.
    pub fn idle(&self) {
        let begun = Instant::now();
        let mut spent = self.spent();
        loop {
            std::thread::sleep(IDLE);
            let now = self.spent();
            if now <= spent + NOTHING {
                return;
            }
            assert!(begun.elapsed() < BOUND, "it does not come to rest");
            spent = now;
        }
    }

    /// Its time on the processors so far, in hundredths of a second.
    fn spent(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // After the program's name, in brackets: of what follows, the 12th and 13th.
        let (_, after) = stat.rsplit_once(") ").unwrap();
        let times = after.split(' ').skip(11).take(2);
        times.map(|time| time.parse::<u64>().unwrap()).sum()
    }

    /// Invokes an action without input.
    pub fn invoke(&self, action: &str) -> Result<Value, String> {
        self.invoke_with(action, json!({}))
    }

    /// Invokes an action.
    pub fn invoke_with(&self, action: &str, input: Value) -> Result<Value, String> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let request = json!({ "verb": "invoke", "action": action, "input": input }).to_string();
        let about = action.split_once('.').map(|(plugin, _)| plugin);
        let head = json!({
            "config": self.config,
            "verb": "invoke",
            "about": about,
            "bytes": request.len(),
        });
        let head = json!({ "version": 3, "message": head });
        stream
            .write_all(format!("{head}\n{request}").as_bytes())
            .unwrap();
        for line in BufReader::new(stream).lines() {
            let reply: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let reply = &reply["message"];
            if let Some(done) = reply.get("done") {
                return Ok(done.clone());
            }
            if let Some(failed) = reply.get("failed") {
                return Err(failed.to_string());
            }
        }
        Err("the host closed the connection".to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
