//! What a standing permit is limited to, and what the ledger keeps with an approval of a component or a change.
//!
//! Invariant: the same scope has the same JSON in every version, since the ledger finds standing permits by it.

use std::collections::BTreeSet;

use qchost_audit::read_members;
use qchost_ledger::Approval;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a standing permit is limited to besides the operation: the project and the kind of account. One given for paper
/// trading is not valid for a live brokerage, and one person's is not valid where two approvals are required.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallScope {
    /// Whether two approvals are required.
    #[serde(rename = "two people")]
    pub two_people: bool,
    /// Whether real money is at stake.
    pub live: bool,
    /// The brokerage profiles, and whether each is live.
    pub brokerages: BTreeSet<(String, bool)>,
    /// The data-provider profiles.
    #[serde(rename = "data providers")]
    pub data_providers: BTreeSet<String>,
    /// The id of the project; `null` if the call has none.
    pub project: Option<u32>,
    /// The name of the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The keyed digest of the arguments of a call without a project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

impl CallScope {
    /// That of the approval of a call.
    #[must_use]
    pub fn of(approval: &Approval) -> Self {
        read(&approval.scope)
    }
}

/// What a component imports that is to be adopted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ComponentScope {
    pub imports: Vec<String>,
}

impl ComponentScope {
    /// That of the approval of a component.
    pub(crate) fn of(approval: &Approval) -> Self {
        read(&approval.scope)
    }
}

fn read<T: DeserializeOwned + Default>(scope: &Value) -> T {
    scope.as_object().map_or_else(T::default, read_members)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_scope_keeps_the_form_in_which_the_ledger_compares_it() {
        for kept in [
            json!({
                "two people": true, "live": true, "brokerages": [["paper", false], ["tradier", true]],
                "data providers": ["polygon"], "project": 7, "name": "Lab/one",
            }),
            json!({
                "two people": false, "live": false, "brokerages": [], "data providers": [], "project": null,
                "arguments": "00ff",
            }),
        ] {
            let scope: CallScope = read(&kept);
            assert_eq!(json!(scope), kept);
        }
    }
}
