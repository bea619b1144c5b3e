//! What a user sees of a host that runs as another user.
//!
//! Invariant: what only the host's user can check is reported as unknown; what the host can report is requested from it.

use std::os::unix::fs::MetadataExt as _;

use nix::unistd::geteuid;
use qchost_upstream::AccountState;

use super::data;
use super::host::{
    changed_identities, followed, guardrails, halts, live_profiles, permits, plugins,
};
use super::report::{Mark, Report};
use crate::config::Config;
use crate::control::{self, Route};
use crate::output::{Output, words};
use crate::requests::{AskHost, FileRow, ListFiles};
use crate::verbs::cells::text;

/// The owner of the data folder, if that is another user.
pub fn owner(config: &Config) -> Option<u32> {
    let folder = config.data().ok()?;
    // If this user cannot even see the folder, the owner of the socket is the host's user.
    let found = std::fs::metadata(folder).ok();
    let found = found.or_else(|| std::fs::metadata(config.socket().ok()?).ok());
    let uid = found?.uid();
    (uid != geteuid().as_raw()).then_some(uid)
}

/// Checks what is visible from here.
pub async fn check(route: &Route, config: &Config, report: &mut Report, output: Output) {
    let Some(owner) = owner(config) else { return };
    let unknown = |report: &mut Report, what: &str, why: &str| {
        let finding = match why.is_empty() {
            true => format!("not known to this user (uid {})", geteuid()),
            false => format!("not known to this user (uid {}): {why}", geteuid()),
        };
        let fix = format!("run this as uid {owner}");
        report.add(what, Mark::Unknown, finding, Some(fix));
    };
    for what in [
        "data folder",
        "data: disk space",
        "host key",
        "state",
        "cache",
    ] {
        unknown(report, what, "");
    }
    match config.policies().map(|folder| folder.read_dir()) {
        Some(Err(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            unknown(report, "guardrails", &error.to_string());
        }
        _ => guardrails(config, report),
    }
    let answer = control::ask_running(route, AskHost {}, output).await;
    match answer {
        Ok(Some(status)) => {
            let stage = status.stage.map(|stage| format!(", and is {stage}"));
            let finding = format!(
                "process {} serves, with the configuration {}{}",
                status.pid,
                text(&status.configuration.to_string_lossy()),
                stage.unwrap_or_default()
            );
            report.ok("running host", finding);
        }
        Ok(None) => unknown(report, "running host", &route.none_found()),
        Err(error) => {
            let why = words(&error);
            let denied = why.starts_with("denied") || why.contains("is not a person of this host");
            match denied || why.contains("was found") {
                true => unknown(report, "running host", &why),
                false => report.fail(
                    "running host",
                    why,
                    "see what the host logs, and whether it is stopped or hangs",
                ),
            }
        }
    }
    if report.0.last().is_some_and(|check| check.mark == Mark::Ok) {
        data::record_of_host(route, report, output).await;
        plugins(route, report, output).await;
        permits(route, report, output).await;
        halts(route, report, output).await;
        live_profiles(route, report, output).await;
        followed(route, report, output).await;
        accounts(route, report, output).await;
        changed_identities(route, report, output).await;
    } else {
        for what in ["record", "plugins", "accounts"] {
            unknown(report, what, "");
        }
    }
    if config.vault.is_some() {
        unknown(report, "vault", "");
    }
}

/// The state of the accounts that the host can use; [`followed`] shows the others.
async fn accounts(route: &Route, report: &mut Report, output: Output) {
    let rows = control::ask_running(route, ListFiles {}, output).await;
    for row in rows.ok().flatten().unwrap_or_default() {
        let FileRow::Account {
            account, status, ..
        } = row
        else {
            continue;
        };
        if status.is_problem() {
            continue;
        }
        let what = format!("account {account}");
        let finding = format!("{status}, says the running host");
        match status {
            AccountState::Connected => report.ok(what, finding),
            _ => report.unknown(what, finding),
        }
    }
}
