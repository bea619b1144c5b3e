//! Calls of tools by name that the catalog does not know.
//!
//! Invariant: a name that is no tool's, or that no server of the account has, is refused before it is decided: a denial
//! would suggest lines of a manifest that grant it, and granting would not help.

use std::sync::Arc;

use qchost_catalog::{Failure, OPERATIONS, Upstream};
use qchost_policy::{is_tool_name, nearest};

use crate::call::{CallRequest, Callee};
use crate::call_log::{CallLog, shown};
use crate::record::AuditContext;
use crate::refusal::Refusal;

/// Checks that a name can be a tool's, and that a server may have it. A refusal is recorded.
pub(crate) fn check(
    upstream: &dyn Upstream,
    log: &Arc<CallLog>,
    request: &CallRequest,
    tool: &str,
) -> Result<(), Refusal> {
    let failure = if !is_tool_name(tool) {
        Failure::InvalidArgument(format!(
            "`{}` is no tool's name: letters, digits, `_`, `-`, `.` and at most 128 of them",
            request.tool
        ))
    } else if upstream.has_tool(request.account(), tool) == Some(false) {
        let near = nearest(tool, OPERATIONS.iter().map(|known| known.tool));
        let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Failure::NotFound(format!(
            "no server of the account `{}` has a tool of this name{near}",
            request.account()
        ))
    } else {
        return Ok(());
    };
    let refusal = Refusal::Failed(failure);
    log.note_refusal(request, &AuditContext::default(), &refusal);
    Err(refusal)
}

/// What is called by this name. The record and the error contain only the beginning of what is no tool's name.
pub(crate) fn callee(tool: &str) -> Callee {
    Callee::unknown_tool(if is_tool_name(tool) {
        tool.to_owned()
    } else {
        shown(tool)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Stores;

    #[tokio::test]
    async fn a_name_that_no_server_knows_or_that_is_no_tool_s_is_refused_and_recorded() {
        let stores = Stores::new("[[grant]]\nname = \"one\"\nallow = [\"files/*\"]\n").await;
        let log = stores.log();
        let check = |tool: &str| {
            let request = stores.request_to(callee(tool), json!({}));
            super::check(&*stores.cloud, &log, &request, tool)
        };
        check("new_tool").unwrap();
        assert!(stores.records().await.is_empty());
        let unknown = check("create_backtests").unwrap_err().to_string();
        assert!(
            unknown.contains("did you mean `create_backtest`"),
            "{unknown}"
        );
        let invalid = check("a\nb").unwrap_err().to_string();
        assert!(invalid.contains("`a\\nb` is no tool's name"), "{invalid}");
        assert_eq!(stores.kinds().await, ["denied", "denied"]);
    }
}
