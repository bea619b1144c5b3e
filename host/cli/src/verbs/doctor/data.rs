//! The data folder: whether it is usable, who uses it, and whether its content is intact.
//!
//! Invariant: nothing is created or repaired. Checks while no host runs hold the lock, so that none starts meanwhile.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use qchost_audit::Disk;
use qchost_ledger::{Ledger, LedgerError};

use super::machine;
use super::report::{Check, Mark, Report};
use crate::config::Config;
use crate::control::{self, Presence, Route};
use crate::data_folder::DATABASE;
use crate::keys::{self, Key};
use crate::lock::Lock;
use crate::output::{Output, words};
use crate::requests::{AskHost, HostStatus, VerifyAudit};

/// What the other checks need to know of the data folder.
pub struct Folder {
    /// Whether plugins and accounts can be checked in it.
    pub usable: bool,
    /// Whether a host runs there and answers.
    pub running: bool,
    /// Whether the folder does not exist yet.
    pub is_new: bool,
}

/// Checks the data folder, and the host that has it.
pub async fn check(route: &Route, config: &Config, report: &mut Report, output: Output) -> Folder {
    let nothing = Folder {
        usable: false,
        running: false,
        is_new: false,
    };
    let what = "data folder";
    let folder = match config.data() {
        Ok(folder) => folder,
        Err(error) => {
            let fix = "set `data` in the configuration to a folder of this user's";
            report.fail(what, words(&error), fix);
            return nothing;
        }
    };
    let found = match usable(&folder) {
        Ok(found) => found,
        Err((cause, fix)) => {
            report.fail(what, cause, fix);
            return nothing;
        }
    };
    let is_new = found != folder;
    let shown = folder.display();
    match is_new {
        true => report.ok(what, format!("{shown}; a host makes it when it starts")),
        false => report.ok(what, shown.to_string()),
    }
    machine::disk(report, "data", &found);
    let running = match host(route, config, &folder, report, output).await {
        Host::Running => true,
        Host::None => false,
        Host::Unknown => return nothing,
    };
    let sound = match running {
        true => {
            unlocked(&folder, report).await;
            record_of_host(route, report, output).await
        }
        false if is_new => true,
        false => contents(&folder, report).await,
    };
    Folder {
        usable: sound,
        running,
        is_new,
    }
}

/// The folder, or its parent if it can be created there; or why it is unusable, and the remedy.
fn usable(folder: &Path) -> Result<PathBuf, (String, String)> {
    let shown = folder.display();
    let user = geteuid();
    Err(match std::fs::metadata(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return machine::can_be_made(folder).map_err(|error| (
                format!("there is no {shown}, and it cannot be made: {error}"),
                format!("make the folder for this user (mkdir -p -m 700 {shown}), or set `data` to another one"),
            ));
        }
        Err(error) => (
            format!("cannot look at {shown}: {error}"),
            format!("let this user into the folders above {shown}, or set `data` to another one"),
        ),
        Ok(found) if !found.is_dir() => (
            format!("{shown} is no folder"),
            "move what is there away, or set `data` to another folder".to_owned(),
        ),
        Ok(found) if found.uid() != user.as_raw() => (
            format!(
                "{shown} belongs to uid {}, and this is uid {user}",
                found.uid()
            ),
            format!(
                "run this as uid {}, whose folder it is, or set `data` to a folder of this user's",
                found.uid()
            ),
        ),
        Ok(found) if found.mode() & 0o077 != 0 => (
            format!("others can open {shown} (mode {:o})", found.mode() & 0o777),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => {
            match tempfile::NamedTempFile::new_in(folder).map_err(|error| (error.kind(), error)) {
                // The disk has a check of its own.
                Ok(_) | Err((ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _)) => {
                    return Ok(folder.to_owned());
                }
                Err((ErrorKind::ReadOnlyFilesystem, _)) => (
                    format!("the disk of {shown} is mounted read-only"),
                    "mount it for writing, or set `data` to a folder on another disk".to_owned(),
                ),
                Err((_, error)) => (
                    format!("cannot write in {shown}: {error}"),
                    format!("chmod u+rwx {shown}, or set `data` to another folder"),
                ),
            }
        }
    })
}

/// Whether a host has the folder.
enum Host {
    Running,
    None,
    /// Another process has it and does not answer.
    Unknown,
}

async fn host(
    route: &Route,
    config: &Config,
    folder: &Path,
    report: &mut Report,
    output: Output,
) -> Host {
    let what = "running host";
    let socket = match config.socket() {
        Ok(socket) => socket.display().to_string(),
        Err(error) => {
            report.add(what, Mark::Failed, words(&error), None);
            return Host::Unknown;
        }
    };
    let holder = || {
        let text = std::fs::read_to_string(folder.join("host.lock")).unwrap_or_default();
        let text: String = text.trim().chars().take(20).collect();
        match text.is_empty() {
            true => "an unknown process".to_owned(),
            false => format!("process {text}"),
        }
    };
    let answer = control::ask_running(route, AskHost {}, output).await;
    match answer {
        Ok(Some(status)) => {
            found(&status, folder, Path::new(&socket), report);
            Host::Running
        }
        Ok(None) if Lock::is_taken(folder) => {
            let holder = holder();
            let folder = folder.display();
            report.fail(
                what,
                format!("{holder} has {folder} and does not answer at {socket}"),
                "if it is a host that starts, wait and ask again; otherwise see what it logs, and end it by its process \
                 id",
            );
            Host::Unknown
        }
        Ok(None) => match std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(folder.join("host.lock"))
        {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let lock = folder.join("host.lock");
                report.fail(
                    what,
                    format!("the lock {} cannot be opened: {error}", lock.display()),
                    format!("no host runs: move {} away", lock.display()),
                );
                Host::Unknown
            }
            _ => {
                report.ok(what, "none; start it: qchost run");
                Host::None
            }
        },
        Err(error) => {
            report.fail(
                what,
                words(&error),
                format!("see what the host that has {} logs", folder.display()),
            );
            Host::Unknown
        }
    }
}

/// Reports which host answered, and where it is if that differs from the configuration.
fn found(status: &HostStatus, folder: &Path, socket: &Path, report: &mut Report) {
    let what = "running host";
    let process = format!("process {}", status.pid);
    let stage = status.stage.as_ref();
    let stage = stage.map_or_else(String::new, |stage| format!(", and is {stage}"));
    let announced = Presence::read(&Presence::in_data(folder)).map(|(it, _)| it);
    let announced = announced.filter(|it| it.pid == status.pid);
    let same = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    };
    let elsewhere = match announced {
        Some(host) if same(&host.socket, socket) => {
            return report.ok(
                what,
                format!("{process} serves at {}{stage}", socket.display()),
            );
        }
        Some(host) => format!("{}, and not at {}", host.socket.display(), socket.display()),
        // The folder announces no host if the disk was full when it started.
        None if socket.exists() => {
            return report.ok(
                what,
                format!("{process} serves at {}{stage}", socket.display()),
            );
        }
        None => format!(
            "the data folder {}, and not {}",
            status.data.display(),
            folder.display()
        ),
    };
    report.warn(
        what,
        format!("{process} serves with {elsewhere} as the configuration says now{stage}"),
        "start it again for that to take effect, or take the change back",
    );
}

/// Whether the database of a running host accepts writes.
async fn unlocked(folder: &Path, report: &mut Report) {
    let state = folder.join("state.db");
    if !state.exists() {
        return;
    }
    let path = state.clone();
    let checking = tokio::task::spawn_blocking(move || Ledger::check_unlocked(&path));
    match checking.await {
        // Beginning a transaction needs no disk space; committing does.
        Ok(Ok(())) if report.has_failed("data: writing") => report.fail(
            "state",
            "it takes no writes: nothing can be written on its disk",
            state_fix(&LedgerError::Full, &state),
        ),
        Ok(Ok(())) => report.ok("state", "it takes writes"),
        Ok(Err(error)) => {
            let fix = state_fix(&error, &state);
            report.fail("state", error.to_string(), fix);
        }
        Err(stopped) => report.unknown("state", stopped.to_string()),
    }
}

/// The remedy for an unusable database, by cause.
fn state_fix(error: &LedgerError, state: &Path) -> String {
    let shown = state.display();
    match error {
        LedgerError::Foreign { .. } | LedgerError::Damaged { .. } | LedgerError::Content { .. } => {
            "budgets, halts and permits are in it: bring it back from a backup: qchost restore BACKUP --digest DIGEST"
                .to_owned()
        }
        LedgerError::Full => format!(
            "make room on its disk: df -h {shown}; what is in it is still there, so nothing has to come from a backup"
        ),
        LedgerError::Locked => {
            format!("find out which process has it, and end it: fuser --verbose {shown}")
        }
        LedgerError::Newer { .. } => {
            "use the version of qchost that wrote it, or a newer one".to_owned()
        }
        _ => format!(
            "let this user write {shown} and its folder (ls -l {shown}), and check the disk; it may well be whole"
        ),
    }
}

/// Whether the audit of a running host is intact, according to that host.
pub async fn record_of_host(route: &Route, report: &mut Report, output: Output) -> bool {
    let verify = VerifyAudit { since: None };
    match control::ask_running(route, verify, output).await {
        Ok(Some(verified)) if verified.sound => report.ok("record", "whole"),
        Ok(Some(verified)) => damaged(report, &verified.text),
        Ok(None) => report.unknown("record", "the host ended before it was asked"),
        Err(error) => report.unknown("record", words(&error)),
    }
    true
}

fn damaged(report: &mut Report, text: &str) {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take(4)
        .collect();
    report.fail(
        "record",
        format!("it is not whole: {}", lines.join("; ")),
        "keep the data folder as it is, find out who changed it, and compare with a backup: qchost audit verify",
    );
}

/// Whether key, state and audit of a folder without a host are intact.
async fn contents(folder: &Path, report: &mut Report) -> bool {
    let state = folder.join(DATABASE);
    if let Err(error) = Ledger::check_version(&state) {
        let fix = state_fix(&error, &state);
        report.fail("state", error.to_string(), fix);
        return false;
    }
    let _lock = match Lock::take(folder) {
        Ok(lock) => lock,
        Err(refused) => {
            report.unknown("record", words(&control::refused(folder, refused)));
            return false;
        }
    };
    let key_file = keys::path(folder);
    let audit = folder.join("audit");
    let used = audit.exists() || state.exists();
    let key = match key_file.exists() {
        // A new folder, in which a host creates one.
        false if !used => return true,
        false => Err(anyhow::anyhow!("{} is gone", key_file.display())),
        true => Key::read(&key_file),
    };
    let key = match key {
        Ok(key) => {
            report.ok("host key", key_file.display().to_string());
            key
        }
        Err(error) => {
            let shown = key_file.display();
            let fix = match keys::is_open_to_others(&key_file) {
                true => format!("chmod 600 {shown}; see who could read it meanwhile"),
                false => format!(
                    "bring {shown} back from a backup, for its owner alone (mode 600); without it the record cannot be verified"
                ),
            };
            report.fail("host key", words(&error), fix);
            return false;
        }
    };
    let opened = state_opens(state.clone()).await;
    let record = record_verifies(audit, &key, report).await;
    match opened {
        Ok(()) => {
            report.ok("state", "it opens");
            record
        }
        // Each check fails for its own cause only.
        Err(LedgerError::Full) if report.0.iter().any(is_full_disk) => {
            report.unknown(
                "state",
                "not known: it cannot be opened while its disk is full",
            );
            false
        }
        Err(error) => {
            let fix = state_fix(&error, &state);
            report.fail("state", error.to_string(), fix);
            false
        }
    }
}

fn is_full_disk(check: &Check) -> bool {
    check.mark == Mark::Failed && check.what.starts_with("data: ")
}

async fn state_opens(state: PathBuf) -> Result<(), LedgerError> {
    if !state.exists() {
        return Ok(());
    }
    let opening = tokio::task::spawn_blocking(move || Ledger::open(&state).map(drop));
    opening
        .await
        .unwrap_or_else(|stopped| Err(LedgerError::Thread(stopped.to_string())))
}

async fn record_verifies(audit: PathBuf, key: &Key, report: &mut Report) -> bool {
    if !audit.is_dir() {
        report.ok("record", "none yet");
        return true;
    }
    let verified = match key.audit() {
        Ok(key) => {
            let verifying = tokio::task::spawn_blocking(move || {
                qchost_audit::verify(&Disk, &audit, &key, None)
            });
            match verifying.await {
                Ok(verified) => verified.map_err(anyhow::Error::from),
                Err(stopped) => Err(stopped.into()),
            }
        }
        Err(error) => Err(error),
    };
    match verified {
        Ok(found) if found.sound() => {
            report.ok("record", "whole");
            true
        }
        Ok(found) => {
            damaged(report, &found.to_string());
            false
        }
        Err(error) => {
            damaged(report, &words(&error));
            false
        }
    }
}
