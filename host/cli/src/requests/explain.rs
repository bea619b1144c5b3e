//! What the gate would decide about a call, without sending anything.

use std::sync::Arc;

use anyhow::{Result, bail};
use qchost_gate::Explanation;
use qchost_policy::{Person, Right};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rules::{Handler, MAX_ARGUMENT_BYTES, Rules};
use crate::config::Config;
use crate::exit_status::{ErrorKind, Failed};
use crate::host::Host;
use crate::reports::Reports;

/// Asks what would be decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    pub plugin: String,
    pub operation: String,
    pub arguments: Map<String, Value>,
    /// The name that the project is assumed to have.
    pub project: Option<String>,
}

impl Handler for Explain {
    type Answer = Explanation;
    const RULES: Rules = Rules {
        max_bytes: MAX_ARGUMENT_BYTES,
        ..Rules::reads(Right::Explain)
    };

    fn about(&self) -> Option<&str> {
        Some(&self.plugin)
    }

    async fn prepare(&self, host: &Arc<Host>, config: &Config) -> Result<()> {
        host.install(config, &self.plugin)
    }

    async fn handle(self, host: &Host, _: &Person, _: &Reports) -> Result<Explanation> {
        let operation = &self.operation;
        let plugin = &self.plugin;
        host.check_plugin(plugin)?;
        if host.gate.policies.manifest(plugin).is_none() {
            host.check_plugin_name(plugin)?;
            bail!(
                "the plugin `{plugin}` is still being loaded; ask again when it is: qchost plugin list"
            );
        }
        if qchost_catalog::by_name(operation).is_none()
            && qchost_catalog::by_tool(operation).is_none()
            && let Some(near) = qchost_policy::nearest_operation(operation)
        {
            let message = format!("there is no operation `{operation}`; did you mean `{near}`?");
            let hint = format!("qchost tools {near}");
            return Err(Failed::hinted(ErrorKind::Usage, message, hint));
        }
        let explaining = host
            .gate
            .explain(&self.plugin, operation, self.arguments, self.project);
        Ok(explaining.await?)
    }
}
