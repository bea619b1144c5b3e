//! What a plugin may do, under which conditions, and how much of it is used.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use qchost_gate::GrantsReport;
use qchost_policy::{Person, Right};
use serde::{Deserialize, Serialize};

use super::rules::{Handler, Rules};
use crate::config::Config;
use crate::host::Host;
use crate::reports::Reports;

/// Asks for the grants of a plugin as the host enforces them.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// The plugin.
    pub plugin: String,
}

impl Handler for Grants {
    type Answer = GrantsReport;
    const RULES: Rules = Rules::reads(Right::Grants);

    fn about(&self) -> Option<&str> {
        Some(&self.plugin)
    }

    async fn prepare(&self, host: &Arc<Host>, config: &Config) -> Result<()> {
        host.install(config, &self.plugin)
    }

    async fn handle(self, host: &Host, _: &Person, _: &Reports) -> Result<GrantsReport> {
        let plugin = self.plugin;
        host.check_plugin(&plugin)?;
        let report = host.gate.reporter.grants(&plugin).await?;
        ensure!(
            report.is_some() || !host.awaits(&plugin),
            "the plugin `{plugin}` is still being loaded; ask again when it is: qchost plugin list"
        );
        report.with_context(|| format!("there is no plugin `{plugin}`; see: qchost plugin list"))
    }
}
