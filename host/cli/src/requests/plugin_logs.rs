//! What a plugin logged lately, and what it logs from now on.
//!
//! The host keeps the lines in memory, so only a running one has them. They tell what a plugin does as the record does, and
//! the same people may read them.

use anyhow::{Result, bail, ensure};
use qchost_policy::{Person, Right};
use serde::{Deserialize, Serialize};

use super::rules::{Handler, Rules};
use crate::host::Host;
use crate::reports::{LogRow, Reports};

/// Asks for the lines of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[group(skip)]
#[serde(deny_unknown_fields)]
pub struct PluginLogs {
    /// The plugin.
    pub plugin: String,
    /// Number of lines.
    #[arg(long, short = 'n', default_value_t = 100, value_name = "N")]
    pub lines: usize,
    /// Print new lines as they are logged, until interrupted or until the host ends.
    #[arg(long, short)]
    pub follow: bool,
}

impl Handler for PluginLogs {
    type Answer = ();
    const RULES: Rules = Rules::reads(Right::ReadAudit);

    fn about(&self) -> Option<&str> {
        Some(&self.plugin)
    }

    async fn handle(self, host: &Host, _: &Person, reports: &Reports) -> Result<()> {
        let Self {
            plugin,
            lines,
            follow,
        } = self;
        let Some(mut reader) = host.runtime.log(&plugin, lines) else {
            host.check_plugin(&plugin)?;
            bail!("there is no plugin `{plugin}`; see: qchost plugin list");
        };
        let mut is_open = true;
        loop {
            let (came, missed) = reader.take();
            let missed = (missed > 0).then(|| LogRow::missed(&plugin, missed));
            let came = came.iter().map(|line| LogRow::new(&plugin, line));
            let rows: Vec<LogRow> = missed.into_iter().chain(came).collect();
            for row in rows {
                ensure!(
                    reports.line(serde_json::to_string(&row)?).await,
                    "the client reads no more"
                );
            }
            if !follow || !is_open {
                return Ok(());
            }
            is_open = reader.more().await;
        }
    }
}
