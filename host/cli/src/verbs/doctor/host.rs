//! What the host has, or would have: guardrails, plugins, permits, halts and the files that it follows.

use std::path::Path;

use jiff::Timestamp;

use super::report::{EXPIRY_WARNING, Mark, Report};
use crate::config::Config;
use crate::control::{self, Route};
use crate::output::{Output, counted, words};
use crate::requests::{
    AccountStatus, FileRow, ListApprovals, ListFiles, ListHalts, ListLiveProfiles, ListPlugins,
    PermitRow, PluginRow, Status,
};
use crate::verbs::cells::{maybe, text, word};

/// Maximum pages of approvals that are checked.
const MAX_PAGES: usize = 100;
const PAGE_SIZE: u32 = 100;

/// Whether the guardrails are valid: without them no host starts.
pub fn guardrails(config: &Config, report: &mut Report) {
    match config.guardrails() {
        Ok(found) => {
            let beside = || config.file.with_file_name("policies");
            let folder = config.policies.clone().unwrap_or_else(beside);
            let number = match found.ids().count() {
                0 => "none".to_owned(),
                number => counted(number, "guardrail"),
            };
            report.ok("guardrails", format!("{number} in {}", folder.display()));
        }
        Err(error) => {
            let gone = config.policies.as_ref().filter(|folder| !folder.exists());
            let fix = match gone {
                Some(folder) => bring_back(folder),
                None => {
                    "correct the line; `qchost schema guardrails` shows what a guardrail can name"
                        .to_owned()
                }
            };
            report.fail("guardrails", words(&error), fix);
        }
    }
}

/// The remedy for a missing folder of guardrails.
fn bring_back(folder: &Path) -> String {
    format!(
        "bring the folder {} back: a host that runs holds on to the guardrails that it had until then, and one that starts \
         does not start without them",
        folder.display()
    )
}

/// Whether the plugins load, or are loaded by the running host.
pub async fn plugins(route: &Route, report: &mut Report, output: Output) {
    match control::perform(route, ListPlugins {}, output).await {
        Ok(rows) if rows.is_empty() => report.warn(
            "plugins",
            route.config().map_or_else(
                |_| "the running host has none".to_owned(),
                |config| format!("no manifest in {}", config.plugins().display()),
            ),
            "put one there: `qchost init` writes an example",
        ),
        Ok(rows) => {
            for row in rows {
                plugin(&row, report);
            }
        }
        Err(error) => {
            let no_folder = |config: &Config| !config.plugins().is_dir();
            let fix = match route.config().is_ok_and(no_folder) {
                true => "set `plugins` in the configuration to the folder of manifests",
                false => "correct what it names, then: qchost plugin list",
            };
            report.fail("plugins", words(&error), fix);
        }
    }
}

fn plugin(row: &PluginRow, report: &mut Report) {
    let what = format!("plugin {}", row.plugin.as_deref().unwrap_or_default());
    let manifest = row.manifest.display();
    match (row.status, &row.error) {
        (Status::Waiting, _) => {
            let approval = row.approval.as_ref();
            let fix = approval.map(|id| format!("see: qchost approvals show {id}"));
            report.add(what, Mark::Warning, row.standing().unwrap_or_default(), fix);
        }
        (_, None) => report.ok(what, manifest.to_string()),
        // The account has checks of its own.
        (Status::Unavailable, Some(reason)) => report.add(what, Mark::Warning, reason, None),
        (Status::Broken, Some(error)) => report.fail(
            format!("manifest {manifest}"),
            error,
            "correct it, then: qchost plugin list",
        ),
        (status, Some(reason)) => {
            let fix = match status {
                Status::Quarantined => {
                    "correct its code, or what it needs; a new component is tried at once"
                }
                _ => "correct it, then: qchost reload",
            };
            let finding = format!("{}: {reason}", word(status));
            report.fail(what, finding, fix);
        }
    }
}

/// Whether a standing permit expires soon.
pub async fn permits(route: &Route, report: &mut Report, output: Output) {
    let now = Timestamp::now();
    let (mut soon, mut after) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let request = ListApprovals {
            all: true,
            after: after.take(),
            limit: PAGE_SIZE,
        };
        let page = match control::perform(route, request, output).await {
            Ok(page) => page,
            Err(error) => return report.unknown("approvals", words(&error)),
        };
        for approval in page.approvals {
            let permit = approval.permit.filter(is_in_use);
            if let Some(ends) = permit.and_then(|permit| permit.expires) {
                let left = ends.duration_since(now);
                if !left.is_negative() && left < EXPIRY_WARNING {
                    soon.push(format!("{} at {ends}", approval.id));
                }
            }
            after = Some(approval.id);
        }
        if page.more == 0 {
            break;
        }
    }
    match soon.is_empty() {
        true => report.ok("approvals", "no standing permit ends within a day"),
        false => report.warn(
            "approvals",
            format!(
                "these standing permits end within a day: {}",
                soon.join(", ")
            ),
            "approve again what goes on after that: qchost approvals list --all",
        ),
    }
}

/// Whether a permit allows further calls.
fn is_in_use(permit: &PermitRow) -> bool {
    permit.standing && permit.revoked_by.is_none() && permit.uses_left > 0
}

/// The brokerage profiles that count as ones for real money because of a deployment.
pub async fn live_profiles(route: &Route, report: &mut Report, output: Output) {
    // As with halts, the check of plugins reports what keeps it from being asked.
    let listed = control::perform(route, ListLiveProfiles {}, output).await;
    for live in listed.unwrap_or_default() {
        report.warn(
            format!("brokerage profile {}", text(&live.profile)),
            text(&live.words()),
            "this is never forgotten: for a paper account, make a profile of another name and deploy by that",
        );
    }
}

/// What to do about an account that is not as it was remembered.
pub const CHANGED_FIX: &str = "if the account was not changed on purpose, correct its credentials; a running host shows this until it is started again";

/// The accounts whose first endpoint was found to be not as it was remembered, since the host started.
pub async fn changed_identities(route: &Route, report: &mut Report, output: Output) {
    let rows = control::ask_running(route, AccountStatus { account: None }, output).await;
    for row in rows.ok().flatten().unwrap_or_default() {
        if let Some(change) = row.identity_changed {
            let what = format!("account {}: identity", row.account);
            report.warn(what, text(&change), CHANGED_FIX);
        }
    }
}

/// Halts, and whether a halt left positions open.
pub async fn halts(route: &Route, report: &mut Report, output: Output) {
    // The check of plugins reports missing rights and an unreachable host.
    let listed = control::perform(route, ListHalts {}, output).await;
    for halt in listed.unwrap_or_default() {
        // An account whose deployments cannot be listed has a row without a project.
        let open = halt.liquidating.iter().map(|one| &one.state);
        let (known, unknown): (Vec<_>, Vec<_>) = open.partition(|one| one.project.is_some());
        let mut finding = String::new();
        if !known.is_empty() {
            finding += &format!(
                "; positions open: {} still being liquidated",
                counted(known.len(), "live deployment")
            );
        }
        for one in &unknown {
            finding += &format!(
                "; whether positions are open on account {} is not known: {}",
                text(&one.account),
                maybe(one.message.as_ref())
            );
        }
        let mark = match finding.is_empty() {
            true => Mark::Warning,
            false => Mark::Failed,
        };
        let by = format!("by {}: {}{finding}", text(&halt.by), text(&halt.reason));
        let fix = "see: qchost halt --list; end it: qchost resume".to_owned();
        report.add("halted", mark, by, Some(fix));
    }
}

/// Whether the running host has applied its files as they are.
pub async fn followed(route: &Route, report: &mut Report, output: Output) {
    let files = control::ask_running(route, ListFiles {}, output).await;
    for row in files.ok().flatten().unwrap_or_default() {
        let Some(note) = row.detail() else {
            continue;
        };
        // The remedy, with which the detail of an account ends, is shown as the fix.
        let note = match &row {
            FileRow::Account { fix: Some(fix), .. } => {
                let without = note.strip_suffix(fix.as_str());
                let without = without.and_then(|note| note.strip_suffix("; "));
                without.unwrap_or(note)
            }
            _ => note,
        };
        let what = format!("running host: {}", text(&row.file().to_string_lossy()));
        let (mark, fix) = match &row {
            FileRow::Account { fix, .. } => (Mark::Failed, maybe(fix.as_ref())),
            FileRow::File {
                status: Status::Degraded,
                file,
                guardrails: true,
                ..
            } if !file.exists() => (Mark::Failed, bring_back(file)),
            FileRow::File {
                status: Status::Waiting,
                approval,
                ..
            } => (
                Mark::Warning,
                format!(
                    "an admin decides: qchost approvals show {}",
                    approval.as_deref().unwrap_or("ID")
                ),
            ),
            FileRow::File {
                status: Status::Degraded,
                ..
            } => (
                Mark::Failed,
                "correct what it names: the host picks up the change, and `qchost reload` shows the result. Do not start the \
                 host again before: it keeps what was in effect, and a start would read the files as they are"
                    .to_owned(),
            ),
            _ => (
                Mark::Warning,
                "restart the host when convenient: until then what it had stays in effect".to_owned(),
            ),
        };
        report.add(what, mark, note, Some(fix));
    }
}
