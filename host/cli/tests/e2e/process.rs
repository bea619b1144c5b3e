//! A run of a program: its output goes to files, its time is limited, and it always ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Default time limit. Generous, so that a slow machine does not fail a test.
pub const BOUND: Duration = Duration::from_secs(90);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A process that runs. It is killed when this is dropped.
pub struct Process {
    child: Child,
    what: String,
    out: PathBuf,
    err: PathBuf,
}

/// A process that ended.
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    /// Starts a command with its output in files of the folder.
    pub fn start(mut command: Command, folder: &Path) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (
            folder.join(format!("{number}.out")),
            folder.join(format!("{number}.err")),
        );
        let what = format!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        Self {
            child,
            what,
            out,
            err,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    pub fn stderr(&self) -> String {
        read(&self.err)
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn terminate(&self) {
        signal(self.id(), rustix::process::Signal::TERM);
    }

    /// Ends it by SIGTERM, which must succeed.
    pub fn end(self) {
        self.terminate();
        self.wait().good();
    }

    pub fn wait(self) -> Ran {
        self.wait_for(BOUND)
    }

    pub fn wait_for(mut self, bound: Duration) -> Ran {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ran {
                    status,
                    stdout: self.stdout(),
                    stderr: self.stderr(),
                };
            }
            if begun.elapsed() > bound {
                panic!(
                    "{} still runs after {bound:?}:\n{}\n{}",
                    self.what,
                    tail(&self.stdout()),
                    tail(&self.stderr())
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until `found` finds something in the output, and fails if the process ends before that.
    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        wait_until(what, || {
            let ended = !self.runs();
            let found = found(self);
            if found.is_none() && ended {
                panic!(
                    "{} ended before {what}:\n{}\n{}",
                    self.what,
                    tail(&self.stdout()),
                    tail(&self.stderr())
                );
            }
            found
        })
    }
}

/// The reason of a failure is at the end of a long output.
impl std::fmt::Debug for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n{}\n{}",
            self.status,
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Ran {
    /// Standard output as JSON; the run must have succeeded.
    pub fn json(&self) -> Value {
        self.good();
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that the run succeeded.
    pub fn good(&self) -> &Self {
        assert!(self.status.success(), "{self:?}");
        self
    }

    /// Checks that the run failed, for any other reason than a command line that cannot be parsed.
    fn failed(&self) {
        assert!(matches!(self.status.code(), Some(1..=9)), "{self:?}");
        assert!(!self.stderr.contains("Usage: qchost"), "{self:?}");
    }

    /// The error in one line; it must be the last line and the only error. Progress may be reported before it.
    pub fn error(&self) -> &str {
        self.failed();
        let line = self.stderr.lines().last().unwrap_or_default();
        let error = line
            .strip_prefix("error: ")
            .unwrap_or_else(|| panic!("no error in one line: {self:?}"));
        assert_eq!(
            self.stderr.matches("error: ").count(),
            line.matches("error: ").count(),
            "{self:?}"
        );
        error
    }

    /// The text of the error that `--json` prints last.
    pub fn json_error(&self) -> String {
        self.failed();
        let line = self
            .stderr
            .lines()
            .last()
            .unwrap_or_else(|| panic!("{self:?}"));
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        value["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{self:?}"))
            .to_owned()
    }
}

/// The end of a long output.
pub fn tail(text: &str) -> &str {
    text.char_indices()
        .rev()
        .nth(3000)
        .map_or(text, |(at, _)| &text[at..])
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// Waits for a condition.
pub fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < BOUND, "not within {BOUND:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn signal(process: u32, signal: rustix::process::Signal) {
    let process = rustix::process::Pid::from_raw(process.try_into().unwrap()).unwrap();
    rustix::process::kill_process(process, signal).unwrap();
}

/// A process and all its descendants, from `/proc`.
pub fn tree(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may be gone by now.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else {
            continue;
        };
        // The name, in parentheses, may contain any character.
        let after = stat.rsplit(") ").next().unwrap();
        let parent: u32 = after.split(' ').nth(1).unwrap().parse().unwrap();
        parents.push((process, parent));
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(process, _)| process),
        );
        at += 1;
    }
    found
}

/// The command line of a process; empty if it is gone.
pub fn command_line(process: u32) -> String {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}
