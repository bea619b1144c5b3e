//! The plugins of a host, with their problems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;
use qchost_policy::{Manifest, Person, Right};
use qchost_runtime::Quarantine;
use qchost_upstream::{AccountState, account_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{Handler, Rules};
use crate::config::Config;
use crate::file_table::{ManifestState, Problem};
use crate::host::Host;
use crate::reload::Reconciler;
use crate::reports::Reports;

/// Lists the plugins.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListPlugins {}

/// The state of a plugin or of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// In effect as its file says.
    Ready,
    /// Found just now.
    Loading,
    /// An admin has to approve a change of it.
    Waiting,
    /// An older version is in effect, since the file cannot be used.
    Degraded,
    /// Its account cannot be used.
    Unavailable,
    /// It keeps failing.
    Quarantined,
    /// Nothing of it is in effect.
    Broken,
}

impl Status {
    /// Whether the file is in effect as it is, or is about to be.
    pub fn is_in_effect(self) -> bool {
        matches!(self, Self::Ready | Self::Loading | Self::Unavailable)
    }
}

/// A manifest, with the plugin that serves because of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PluginRow {
    /// Operations that a changed manifest, not in force yet, does not allow or limits more: denied already.
    pub denied: Option<BTreeSet<String>>,
    /// What an admin has to approve.
    pub waits_for: Option<Vec<String>>,
    pub plugin: Option<String>,
    pub status: Status,
    /// The approval that it waits for.
    pub approval: Option<String>,
    pub manifest: PathBuf,
    /// Number of contents of the manifest that could not be used.
    pub failures: u64,
    /// Whether its component is being checked and compiled.
    pub loading: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_state: Option<AccountState>,
    #[serde(flatten)]
    pub serves: Option<ServingVersion>,
    #[serde(flatten)]
    pub invocations: Option<Invocations>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The version of a plugin that serves.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ServingVersion {
    pub version: String,
    pub account: String,
    pub actions: Vec<String>,
    /// Other names of its actions, with the action of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    pub digest: String,
    /// The name that the component has by itself, if it is another one.
    pub calls_itself: Option<String>,
    /// When it was loaded.
    pub loaded: Option<Timestamp>,
}

/// The numbers of a plugin's invocations.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Invocations {
    /// Running on the serving version.
    pub running: usize,
    /// Waiting to be admitted.
    pub waiting: usize,
    /// Still running on former versions.
    pub draining: usize,
}

impl Handler for ListPlugins {
    type Answer = Vec<PluginRow>;
    const RULES: Rules = Rules::reads(Right::Status);

    async fn prepare(&self, host: &Arc<Host>, _: &Config) -> Result<()> {
        Reconciler::new(Arc::clone(host)).reconcile_once().await;
        Ok(())
    }

    async fn handle(self, host: &Host, _: &Person, _: &Reports) -> Result<Vec<PluginRow>> {
        // A changed component may run; its trades await approval.
        let approvals = host.gate.approvals.waiting_components().await?;
        let rows = host.table.rows();
        Ok(rows
            .iter()
            .map(|row| describe(host, row, &approvals))
            .collect())
    }
}

/// A plugin as people see it. `approvals` are those of components, as pairs of plugin and id.
fn describe(host: &Host, row: &ManifestState, approvals: &[(String, String)]) -> PluginRow {
    let plugin = row
        .serving
        .as_deref()
        .and_then(|name| host.runtime.plugin(name));
    let plugin = plugin.as_ref();
    let own = row.problem.as_ref().and_then(|it| it.approval.clone());
    let approval = own.or_else(|| {
        let name = plugin?.name();
        let (_, approval) = approvals.iter().find(|(waits, _)| waits == name)?;
        Some(approval.clone())
    });
    let standing = plugin.and_then(|plugin| host.runtime.standing(plugin.name()));
    let quarantine = standing.as_ref().and_then(|it| it.quarantine.as_ref());
    let health = plugin.and_then(|plugin| host.connections.health_of(&plugin.manifest().account));
    let unusable = health.as_ref().and_then(|health| {
        let trouble = host.connections.trouble(health)?;
        let account = account_of(&health.account);
        Some(format!("its account `{account}` is {trouble}"))
    });
    let status = match status(row, quarantine, plugin.is_some(), approval.is_some()) {
        Status::Ready if unusable.is_some() => Status::Unavailable,
        status => status,
    };
    PluginRow {
        denied: plugin.map(|plugin| host.gate.proposals.denied(plugin.name(), plugin.digest())),
        waits_for: plugin
            .and_then(|plugin| host.gate.proposals.pending_approval(plugin.name()))
            .map(|pending| pending.gains),
        plugin: match plugin {
            Some(plugin) => Some(plugin.name().to_owned()),
            None => row.name.clone(),
        },
        status,
        approval,
        manifest: row.path.clone(),
        failures: row.failures,
        loading: row.loading,
        account_state: health.as_ref().map(|health| health.state),
        serves: plugin.map(|plugin| {
            let actions = plugin.description().actions.iter();
            ServingVersion {
                version: plugin.description().version.clone(),
                account: plugin.manifest().account.clone(),
                actions: actions.map(|action| action.name.clone()).collect(),
                aliases: aliases(plugin.manifest()),
                digest: plugin.digest().to_owned(),
                calls_itself: plugin.other_name().map(str::to_owned),
                loaded: row
                    .loaded
                    .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            }
        }),
        invocations: standing.as_ref().map(|it| Invocations {
            running: it.running,
            waiting: it.waiting,
            draining: it.draining,
        }),
        error: wrong(row.problem.as_ref(), quarantine).or(unusable),
    }
}

/// The aliases of a manifest, with the action of each.
pub fn aliases(manifest: &Manifest) -> BTreeMap<String, String> {
    let aliases = manifest.aliases.iter();
    aliases
        .map(|alias| (alias.name.clone(), alias.action.clone()))
        .collect()
}

/// Why a plugin is in quarantine.
fn refused(quarantine: &Quarantine) -> String {
    let Quarantine {
        failures,
        remaining,
        reason,
    } = quarantine;
    let again = match remaining.is_zero() {
        true => "the next invocation is a trial".to_owned(),
        false => format!("is tried again in {} s", remaining.as_secs_f64().ceil()),
    };
    format!("it failed {failures} times in a row, and {again}: {reason}")
}

/// The problem of a plugin. A problem with its file comes first, since the operator can fix it.
fn wrong(problem: Option<&Problem>, quarantine: Option<&Quarantine>) -> Option<String> {
    match (problem, quarantine) {
        (Some(problem), Some(quarantine)) => Some(format!(
            "{}; what serves meanwhile is quarantined: {}",
            problem.reason,
            refused(quarantine)
        )),
        (Some(problem), None) => Some(problem.reason.clone()),
        (None, quarantine) => quarantine.map(refused),
    }
}

/// The state of a plugin; a quarantine does not hide a problem with its file.
fn status(
    row: &ManifestState,
    quarantine: Option<&Quarantine>,
    serves: bool,
    awaits: bool,
) -> Status {
    match (&row.problem, serves) {
        (None, _) if quarantine.is_some() => Status::Quarantined,
        _ if awaits => Status::Waiting,
        (Some(_), true) => Status::Degraded,
        (None, true) => Status::Ready,
        (None, false) => Status::Loading,
        (Some(_), false) => Status::Broken,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exit_status::ErrorKind;

    #[test]
    fn a_quarantine_does_not_hide_a_manifest_that_cannot_be_read() {
        let quarantine = |seconds| Quarantine {
            failures: 5,
            remaining: Duration::from_secs(seconds),
            reason: "a trap".to_owned(),
        };
        let broken = ManifestState {
            problem: Some(Problem {
                kind: ErrorKind::Failed,
                reason: "line 1: expected a key".to_owned(),
                approval: None,
            }),
            ..ManifestState::default()
        };
        let said = wrong(broken.problem.as_ref(), Some(&quarantine(7))).unwrap();
        assert!(said.starts_with("line 1: expected a key; "), "{said}");
        assert!(
            said.contains("quarantined") && said.contains("in 7 s: a trap"),
            "{said}"
        );
        let status = |row: &ManifestState| status(row, Some(&quarantine(7)), true, false);
        assert_eq!(status(&broken), Status::Degraded);
        assert!(!status(&broken).is_in_effect());
        assert_eq!(status(&ManifestState::default()), Status::Quarantined);
        // The quarantine has expired, and no call has come.
        let said = wrong(None, Some(&quarantine(0))).unwrap();
        assert!(
            !said.contains("0 s") && said.contains("next invocation"),
            "{said}"
        );
    }
}
