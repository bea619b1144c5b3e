//! A host that runs while its files change: how tests change them, and what they wait for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{Folder, embedded};
use crate::process::{BOUND, Process, tail, wait_until};
use crate::socket::{Answer, Control};

/// Every call that the plugins of these tests make is allowed.
pub const GRANT: &str = "[[grant]]\nname = \"raw\"\nallow = [\"raw/*\"]\n\
    [[grant]]\nname = \"account\"\nallow = [\"account/*\"]\n";
pub const PROJECTS: &str =
    "[[grant]]\nname = \"projects\"\nallow = [\"projects/*\"]\nprojects = [\"*\"]\n";

/// A host, its folder, its cloud and its control socket.
pub struct Running {
    pub host: Process,
    pub control: Control,
    pub folder: Folder,
    pub cloud: Cloud,
}

impl Running {
    /// `configuration` is put before the account's, `prepare` writes further files before the start.
    pub fn start(configuration: &str, prepare: impl FnOnce(&Folder)) -> Self {
        let cloud = Cloud::start();
        // These tests count what is sent.
        let account = format!("{}keep-answers = false\n", embedded(cloud.url()));
        let folder = Folder::apart(&format!("{configuration}\n{account}"));
        prepare(&folder);
        Self::of(serve(&folder), folder, cloud)
    }

    /// With a host that is ready, and its usual socket.
    pub fn of(host: Process, folder: Folder, cloud: Cloud) -> Self {
        Self {
            host,
            control: Control::of(&folder),
            folder,
            cloud,
        }
    }

    /// Ends the host, changes its folder, and starts it again.
    pub fn restarted(self, between: impl FnOnce(&Folder)) -> Self {
        let Self {
            host,
            folder,
            cloud,
            ..
        } = self;
        host.end();
        between(&folder);
        Self::of(serve(&folder), folder, cloud)
    }

    /// A host with a plugin `lab`.
    pub fn with_lab(component: &[u8], lines: &str) -> Self {
        Self::start("", |folder| plugin(folder, "lab", component, lines))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn act(&self, plugin: &str) -> Answer {
        self.control.invoke(&format!("{plugin}.act"), &json!({}))
    }

    /// Waits until a plugin's answer is as expected; returns how long that took.
    pub fn until(&self, plugin: &str, so: impl Fn(&Answer) -> bool) -> Duration {
        let begun = Instant::now();
        let mut last = None;
        while !last.as_ref().is_some_and(&so) {
            assert!(
                begun.elapsed() < BOUND,
                "{plugin} answers {last:?}: {:#?}\n{}",
                self.control.plugins(),
                tail(&self.host.stderr())
            );
            std::thread::sleep(Duration::from_millis(2));
            last = Some(self.act(plugin));
        }
        begun.elapsed()
    }

    /// Waits until a plugin answers this number.
    pub fn until_version(&self, plugin: &str, number: u32) -> Duration {
        self.until(plugin, |answer| *answer == Answer::Done(json!(number)))
    }

    /// Checks that a plugin answers this number now.
    pub fn is_version(&self, plugin: &str, number: u32) {
        let answer = self.act(plugin);
        assert_eq!(
            answer,
            Answer::Done(json!(number)),
            "{plugin}: {:#?}",
            self.control.plugins()
        );
    }

    /// Waits until a plugin has this state in the list, and returns the reason.
    pub fn until_status(&self, plugin: &str, status: &str) -> String {
        wait_until(&format!("{plugin} is {status}"), || {
            let rows = self.control.plugins();
            let row = rows
                .into_iter()
                .find(|row| row["plugin"] == plugin && row["status"] == status)?;
            Some(row["error"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// Waits until a plugin serves while its files are not in effect, for a reason that contains this text.
    pub fn until_reason(&self, plugin: &str, words: &str) {
        let begun = Instant::now();
        loop {
            let why = self.until_status(plugin, "degraded");
            if why.contains(words) {
                return;
            }
            assert!(begun.elapsed() < BOUND, "not `{words}` but: {why}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the log has this number of loads of a plugin. A version serves shortly before it is
    /// logged.
    pub fn until_loads(&self, plugin: &str, times: usize) {
        wait_until(&format!("{plugin} was loaded {times} times"), || {
            (self.loads(plugin) >= times).then_some(())
        });
        assert_eq!(self.loads(plugin), times, "{}", tail(&self.host.stderr()));
    }

    /// The number of loads of a plugin in the log.
    pub fn loads(&self, plugin: &str) -> usize {
        let log = self.host.stderr();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| {
                let fields = &line["fields"];
                let target = line["target"].as_str().unwrap_or_default();
                target.starts_with("qchost_runtime")
                    && fields["message"] == "loaded"
                    && fields["plugin"] == plugin
            })
            .count()
    }

    /// Changes the configuration.
    pub fn configure(&self, from: &str, to: &str) {
        edit(&self.path("qchost.toml"), from, to);
    }

    /// `qchost reload`, after which every file was checked.
    pub fn reload(&self) -> crate::process::Ran {
        self.folder.run(&["reload"])
    }

    pub fn end(self) {
        self.host.end();
    }
}

/// Starts a host that logs loads, but not invocations.
pub fn serve(folder: &Folder) -> Process {
    const LOG: &str = "info,gate=warn,qchost_runtime::invoke=warn,qchost_runtime::execution=warn";
    folder.serve(&["--log", LOG, "--log-json", "run"])
}

/// Writes a plugin: its component in `builds`, and its manifest.
pub fn plugin(folder: &Folder, name: &str, component: &[u8], lines: &str) {
    let builds = folder.path().join("builds");
    std::fs::create_dir_all(&builds).unwrap();
    replace(&builds.join(format!("{name}.wasm")), component);
    let path = folder.path().join("plugins").join(format!("{name}.toml"));
    replace(
        &path,
        manifest(name, &format!("../builds/{name}.wasm"), lines),
    );
}

pub fn manifest(name: &str, component: &str, lines: &str) -> String {
    format!("plugin = \"{name}\"\ncomponent = \"{component}\"\naccount = \"research\"\n{lines}")
}

/// Replaces a file in one step.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let draft = beside(path);
    std::fs::write(&draft, content).unwrap();
    std::fs::rename(&draft, path).unwrap();
}

/// Replaces a link in one step.
pub fn relink(path: &Path, to: &str) {
    let draft = beside(path);
    std::os::unix::fs::symlink(to, &draft).unwrap();
    std::fs::rename(&draft, path).unwrap();
}

/// Replaces a part of a file in one step.
pub fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    replace(path, text.replace(from, to));
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap());
    name.push(".new");
    path.with_file_name(name)
}
