//! A QuantConnect tool, called by the operator.
//!
//! It passes the gate like every call, as a caller that has every grant and a name that no plugin can have.

use anyhow::Result;
use qchost_catalog::Access;
use qchost_gate::{PluginCalls as _, Principal};
use qchost_policy::{Manifest, Person, Right};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rules::{Class, Handler, MAX_ARGUMENT_BYTES, Rules};
use crate::exit_status::{ErrorKind, Failed};
use crate::host::Host;
use crate::reports::Reports;

/// Calls a tool.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub account: String,
    pub tool: String,
    pub arguments: Map<String, Value>,
}

/// The rules of a call whose tool makes an account safer.
pub const REDUCING: Rules = Rules {
    right: Right::Reduce,
    ..Call::RULES
};

impl Call {
    /// Whether the tool makes the account safer.
    pub fn reduces(&self) -> bool {
        let tool = qchost_catalog::by_tool(&self.tool);
        tool.is_some_and(|operation| operation.access == Access::Reduce)
    }
}

impl Handler for Call {
    /// QuantConnect's answer.
    type Answer = Value;
    const RULES: Rules = Rules {
        class: Class::Invocation,
        max_bytes: MAX_ARGUMENT_BYTES,
        is_for_accounts: true,
        ..Rules::acts(Right::Call, "qchost audit query --limit 20")
    };

    fn about(&self) -> Option<&str> {
        Some(&self.account)
    }

    async fn handle(self, host: &Host, person: &Person, _: &Reports) -> Result<Value> {
        let Self {
            account,
            tool,
            arguments,
        } = self;
        if qchost_catalog::by_tool(&tool).is_none() {
            let known = qchost_catalog::OPERATIONS.iter();
            let known = known.flat_map(|operation| [operation.tool, operation.name]);
            let near = qchost_policy::nearest(&tool, known);
            let (message, hint) = match near {
                Some(near) => (
                    format!("there is no tool `{tool}`; did you mean `{near}`?"),
                    format!("qchost tools {near}"),
                ),
                None => (
                    format!("there is no tool `{tool}`; list them: qchost tools"),
                    "qchost tools".to_owned(),
                ),
            };
            return Err(Failed::hinted(ErrorKind::Usage, message, hint));
        }
        let operator = Manifest::operator(&account);
        let principal = Principal {
            person: Some(person.uid),
            ..Principal::new(&operator.plugin, "", "call")
        };
        // Until no other settings come into force meanwhile.
        while !host
            .gate
            .policies
            .enforce(&host.gate.policies.prepare(operator.clone()).await?)
        {}
        Ok(host.gate.call_raw(&principal, &tool, arguments).await?)
    }
}
