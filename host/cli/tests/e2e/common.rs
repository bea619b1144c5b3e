//! Shared by the tests: a host's folder, the binary run in it, and the plugins that it loads.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Process, Ran, wait_until};

/// An algorithm that compiles.
pub const ALGORITHM: &str =
    include_str!("../../../../plugins/strategy-lab/strategies/moving-average-crossover/main.py");
/// An algorithm that compiles and fails in `initialize`.
pub const FAILING: &str = "from AlgorithmImports import *\n\n\nclass Failing(QCAlgorithm):\n    def initialize(self):\n        self.x = 1 / 0\n";
/// Maximum size of the component of a bundled plugin, in bytes.
pub const MAX_COMPONENT: u64 = 1_500_000;
pub const BINARY: &str = env!("CARGO_BIN_EXE_qchost");
pub const USER: u64 = 4711;
/// The emulator's API token: a word that nothing else contains.
pub const TOKEN: &str = "end-to-end-api-token";

/// A host's folder: configuration, manifests, state. It is removed when this is dropped.
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// A folder with a configuration, to which the paths of plugins and state are added.
    pub fn new(configuration: &str) -> Self {
        // Tests share compiled components and the key that authenticates them, since compiling takes most of
        // the time of a short run.
        Self::with_cache(configuration, &shared("cache"))
    }

    /// A folder with its own cache of compiled components, in `data/cache`, for tests that damage or count
    /// them.
    pub fn apart(configuration: &str) -> Self {
        Self::with_cache(configuration, Path::new("data/cache"))
    }

    fn with_cache(configuration: &str, cache: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("plugins")).unwrap();
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(folder.path().join("data"))
            .unwrap();
        private_file(&folder.path().join("data/host.key"), [7; 32]);
        let text = format!(
            "data = \"data\"\ncache = \"{}\"\n{configuration}",
            cache.display()
        );
        std::fs::write(folder.path().join("qchost.toml"), text).unwrap();
        Self { folder }
    }

    /// A folder whose account connects to a REST API through the embedded server.
    pub fn embedded(cloud: &str) -> Self {
        Self::new(&embedded(cloud))
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a manifest into the folder of manifests.
    pub fn manifest(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join("plugins").join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary with arguments, in this folder and without the environment of the tests.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(BINARY);
        command.args(arguments);
        command
    }

    /// The same under a limit that the shell sets.
    pub fn limited(&self, limit: &str, arguments: &[&str]) -> Command {
        let mut command = self.program("sh");
        let line = format!("{limit} && exec \"$0\" \"$@\"");
        command.args(["-c", &line, BINARY]).args(arguments);
        command
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path())
            .env("XDG_CACHE_HOME", shared("xdg"))
            .env("QUANTCONNECT_USER_ID", USER.to_string())
            .env("QUANTCONNECT_API_TOKEN", TOKEN);
        command
    }

    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(self.command(arguments), self.path())
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).wait()
    }

    /// Invokes an action and returns its output.
    pub fn invoke(&self, action: &str, input: &Value) -> Value {
        self.run(&["--json", "invoke", action, &input.to_string()])
            .json()
    }

    /// Calls a tool as the operator and returns the whole body.
    pub fn call(&self, tool: &str, arguments: &Value) -> Value {
        self.run(&["--json", "call", tool, &arguments.to_string()])
            .json()
    }

    /// Builds a project, and returns the id of the compile.
    pub fn compile(&self, project: &Value) -> Value {
        let compile = self.call("create_compile", &json!({ "projectId": project }));
        let compile = compile["compileId"].clone();
        wait_until("it is built", || {
            let job = json!({ "projectId": project, "compileId": compile });
            let job = self.call("read_compile", &job);
            (job["state"] == "BuildSuccess").then_some(())
        });
        compile
    }

    /// Has the plugin with the manifest of [`any_tool`] call tools; the outcome and the error of each.
    pub fn called(&self, calls: &[(&str, Value)]) -> Vec<(String, String)> {
        let calls: Vec<_> = calls
            .iter()
            .map(|(tool, arguments)| json!({ "tool": tool, "arguments": arguments }))
            .collect();
        let reports = self.invoke("any-tool.call", &json!({ "calls": calls }));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let reports = reports.as_array().unwrap().iter();
        reports
            .map(|report| (text(&report["outcome"]), text(&report["error"])))
            .collect()
    }

    /// Starts the host as a service and waits until it is ready.
    pub fn serve(&self, arguments: &[&str]) -> Process {
        let mut host = self.start(&[&["--json"], arguments].concat());
        host.until("the host is ready", |host| {
            host.stdout().contains("\"ready\":true").then_some(())
        });
        host
    }
}

/// Configuration of an account that connects to a REST API through the embedded server.
pub fn embedded(cloud: &str) -> String {
    format!("[account.research]\nconnection = \"embedded\"\ncloud = \"{cloud}\"\n")
}

/// Configuration of an account that connects to a REST API through `qchost mcp` as a child process.
pub fn served(cloud: &str) -> String {
    format!(
        "[account.research]\nconnection = \"stdio\"\ncommand = \"{BINARY}\"\nargs = [\"mcp\", \"--base-url\", \"{cloud}\"]\n"
    )
}

/// A grant to trade on paper.
pub const TRADE: &str = "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\n";

/// A host in production with a plugin that may trade, and whose manifest names no digest.
pub fn unpinned() -> Folder {
    let me = rustix::process::geteuid().as_raw();
    let folder = Folder::new(&format!(
        "mode = \"production\"\npeople.me = {{ uid = {me}, roles = [\"operator\"] }}\n{}",
        embedded("emulator")
    ));
    folder.manifest("strategy-lab", &format!("{}\n{TRADE}", strategy_lab()));
    folder
}

/// A folder in the target directory, kept after the test.
pub fn shared(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("e2e")
        .join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Writes a file that only its owner can read.
pub fn private_file(path: &Path, content: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
        .canonicalize()
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The component of a plugin in the repository.
pub fn component(folder: &str) -> PathBuf {
    let folder = repository(folder);
    let name = folder
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .replace('-', "_");
    let path = folder.join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is missing; run: make test (or: qchost plugin build {})",
        path.display(),
        folder.display()
    );
    path
}

/// The manifest of a plugin in the repository, with the path of its component.
pub fn bundled(folder: &str) -> String {
    let component = component(folder);
    let text = std::fs::read_to_string(repository(folder).join("manifest.toml")).unwrap();
    let relative = format!("\"{}\"", component.file_name().unwrap().to_str().unwrap());
    assert!(
        text.contains(&relative),
        "{folder}/manifest.toml does not name {relative}"
    );
    text.replace(&relative, &format!("\"{}\"", component.display()))
}

/// The manifest of a plugin that calls any tool that these grants allow.
pub fn any_tool(grants: &str) -> String {
    let component = component("host/cli/tests/plugins/any-tool");
    format!(
        "plugin = \"any-tool\"\ncomponent = \"{}\"\naccount = \"research\"\negress = \"licensed\"\n{grants}",
        component.display()
    )
}

pub fn strategy_lab() -> String {
    bundled("plugins/strategy-lab")
}

/// Waits until a file exists.
pub fn wait_for_file(path: &Path) {
    wait_until(&format!("{} is there", path.display()), || {
        path.exists().then_some(())
    });
}
