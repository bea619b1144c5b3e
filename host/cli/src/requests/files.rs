//! The files that the host follows and the accounts, with their problems; and what makes the host look at them now.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use qchost_gate::{AdminAction, AdminDetail, PendingApproval};
use qchost_policy::{Person, Right};
use qchost_upstream::{AccountState, account_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plugins::{ListPlugins, PluginRow, Status};
use super::rules::{Handler, Rules};
use crate::file_table::FileState;
use crate::host::Host;
use crate::reports::Reports;

/// How long an account may take to report its state.
const ACCOUNT_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Lists the files that are not manifests, and the accounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFiles {}

/// Reloads the files, and lists all of them, and the accounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {}

/// A file or an account, with its state.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FileRow {
    Account {
        /// The word `account`, and the account's name.
        file: String,
        account: String,
        status: AccountState,
        /// Why it cannot be used.
        detail: Option<String>,
        /// The remedy.
        fix: Option<String>,
    },
    File {
        /// The approval that it waits for.
        approval: Option<String>,
        file: PathBuf,
        status: Status,
        detail: Option<String>,
        /// Number of its contents that could not be used.
        failures: u64,
        /// Whether it is the folder of guardrails.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        guardrails: bool,
    },
    Manifest {
        file: PathBuf,
        status: Status,
        plugin: Option<String>,
        /// What differs from the file, or the digest of the component.
        detail: Option<String>,
    },
    /// An account that is not in force, connected for what makes it safer.
    Dormant {
        /// The word `account`, and the account's name.
        file: String,
        status: Dormant,
        detail: String,
    },
}

/// The status of an account that is not in force.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dormant {
    Dormant,
}

impl FileRow {
    /// The file; or the word `account`, and the account's name.
    pub fn file(&self) -> &Path {
        match self {
            Self::Account { file, .. } | Self::Dormant { file, .. } => Path::new(file),
            Self::File { file, .. } | Self::Manifest { file, .. } => file,
        }
    }

    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Account { detail, .. }
            | Self::File { detail, .. }
            | Self::Manifest { detail, .. } => detail.as_deref(),
            Self::Dormant { detail, .. } => Some(detail),
        }
    }

    /// Whether the file is in effect as it is, or is about to be, and whether the account is usable as far as is known.
    pub fn is_in_effect(&self) -> bool {
        match self {
            Self::Account { status, .. } => !status.is_problem(),
            Self::File { status, .. } | Self::Manifest { status, .. } => status.is_in_effect(),
            Self::Dormant { .. } => true,
        }
    }
}

impl PluginRow {
    /// What serves of a plugin and what of it is denied, if that differs from its files.
    pub fn standing(&self) -> Option<String> {
        let names = |names: Vec<&str>| (!names.is_empty()).then(|| names.join(", "));
        let serves = self.serves.as_ref();
        let serves = serves.map(|serves| format!("serves {}", serves.version));
        let mut words = vec![serves.unwrap_or_else(|| "does not serve".to_owned())];
        let denied = self.denied.iter().flatten().map(String::as_str);
        words.extend(
            names(denied.collect())
                .map(|names| format!("denied, or limited more, by the changed manifest: {names}")),
        );
        let gains = self.waits_for.iter().flatten().map(String::as_str);
        match (&self.approval, names(gains.collect())) {
            (Some(id), Some(gains)) => words.push(format!(
                "{gains} waits for an admin: qchost approvals show {id}"
            )),
            (Some(id), None) => words.push(format!(
                "its code changed, and trade is denied to it until it is approved: qchost approvals show {id}"
            )),
            (None, _) if words.len() == 1 => return None,
            (None, _) => {}
        }
        Some(words.join("; "))
    }
}

impl Handler for ListFiles {
    type Answer = Vec<FileRow>;
    const RULES: Rules = Rules::reads(Right::Status);

    async fn handle(self, host: &Host, _: &Person, _: &Reports) -> Result<Vec<FileRow>> {
        Ok(files(host))
    }
}

impl Handler for Reload {
    type Answer = Vec<FileRow>;
    const RULES: Rules = Rules {
        waits_for_plugins: true,
        ..Rules::acts(Right::Reload, "qchost plugin list")
    };

    /// Makes the host look, and waits until the changes are done.
    async fn handle(self, host: &Host, person: &Person, reports: &Reports) -> Result<Vec<FileRow>> {
        let Some(follower) = host.follower() else {
            bail!("this process does not follow its files");
        };
        let detail = AdminDetail::Nothing {};
        host.gate
            .note_admin(person, AdminAction::Reload, detail)
            .await?;
        // This person triggered the reload, so cannot be one of two approvers of what it finds.
        let requester = host.gate.changes.reload_asked_by(person.uid);
        let done = follower.reload().await;
        ensure!(
            done,
            "the host ends: it loads nothing any more, and what the files take away is denied to what still runs; \
             `qchost plugin list` shows it"
        );
        host.connections.check_now(ACCOUNT_CHECK_TIMEOUT).await;
        drop(requester);
        let mut rows = files(host);
        let plugins = ListPlugins {}.handle(host, person, reports).await?;
        rows.extend(plugins.into_iter().map(manifest));
        Ok(rows)
    }
}

/// A plugin, as the row of its manifest.
fn manifest(row: PluginRow) -> FileRow {
    let detail = match (row.error.clone(), row.standing()) {
        (None, None) => row.serves.map(|serves| serves.digest),
        (None, Some(standing)) => Some(standing),
        // It says what is denied too.
        (Some(error), Some(standing)) if row.waits_for.is_none() && row.denied.is_some() => {
            Some(match error.contains('\n') {
                // Its last lines are there to be pasted.
                true => format!("{standing}; {error}"),
                false => format!("{error}; {standing}"),
            })
        }
        (error, _) => error,
    };
    FileRow::Manifest {
        file: row.manifest,
        status: row.status,
        plugin: row.plugin,
        detail,
    }
}

/// The files that are not manifests, and the accounts.
fn files(host: &Host) -> Vec<FileRow> {
    let config = host.current();
    let config = &config.config;
    let files = host.table.files();
    let mut rows = vec![file(&config.file, &files.configuration)];
    if let Some(policies) = config.policies() {
        let mut row = file(&policies, &files.guardrails);
        if let FileRow::File {
            detail, guardrails, ..
        } = &mut row
        {
            *guardrails = true;
            let says = detail.as_ref().is_some_and(|it| it.contains("hold on"));
            if let (Some(problem), false) = (&files.guardrails.problem, says) {
                *detail = Some(format!(
                    "{}; the guardrails that were in effect hold on",
                    problem.trim_end()
                ));
            }
        }
        rows.push(row);
    }
    if files.folder.problem.is_some() {
        rows.push(file(&config.plugins(), &files.folder));
    }
    if files.credentials.problem.is_some() {
        rows.push(file(Path::new("credentials"), &files.credentials));
    }
    drop(files);
    let connections = &host.connections;
    rows.extend(connections.health().into_iter().map(|health| {
        let file = format!("account {}", health.account);
        if config.dormant.contains(account_of(&health.account)) {
            let detail =
                "not in force; connected for `qchost halt --liquidate` and what else makes it safer";
            return FileRow::Dormant {
                file,
                status: Dormant::Dormant,
                detail: detail.to_owned(),
            };
        }
        let remedy = || connections.remedy(&health);
        FileRow::Account {
            file,
            status: health.state,
            detail: connections.trouble(&health),
            fix: health.state.is_problem().then(remedy),
            account: health.account,
        }
    }));
    rows
}

fn file(file: &Path, state: &FileState) -> FileRow {
    let pending = state.pending.as_ref();
    let detail = state.problem.clone();
    let detail = detail.or_else(|| pending.map(PendingApproval::words));
    FileRow::File {
        approval: pending.map(|pending| pending.approval.clone()),
        file: file.to_owned(),
        status: match (&state.problem, pending) {
            (Some(_), _) => Status::Degraded,
            (None, Some(_)) => Status::Waiting,
            (None, None) => Status::Ready,
        },
        detail: detail.or_else(|| state.until_restart()),
        failures: state.failures,
        guardrails: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(error: &str) -> String {
        let row = serde_json::json!({
            "denied": ["files/read-file"],
            "waits-for": null,
            "plugin": "lab",
            "status": "degraded",
            "approval": null,
            "manifest": "lab.toml",
            "failures": 1,
            "loading": false,
            "error": error,
        });
        let row: PluginRow = serde_json::from_value(row).unwrap();
        manifest(row).detail().unwrap().to_owned()
    }

    #[test]
    fn lines_to_be_pasted_are_the_last_ones() {
        let standing =
            "does not serve; denied, or limited more, by the changed manifest: files/read-file";
        assert_eq!(detail("it is wrong"), format!("it is wrong; {standing}"));
        let lines = "[[grant]]\nname = \"lab\"\nallow = [\"files/*\"]\n";
        let shown = detail(&format!("add to the manifest:\n{lines}"));
        assert_eq!(shown, format!("{standing}; add to the manifest:\n{lines}"));
    }
}
