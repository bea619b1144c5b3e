//! `raw`: a known tool is the same operation, an unknown one needs its own grant.

use qchost_sdk::prelude::*;
use serde_json::Value;

use crate::checks::{Checks, not_found};
use crate::setup;

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let call = |tool: &str, arguments: &str| {
        let answer = raw::call_tool(tool, arguments)?;
        serde_json::from_str::<Value>(&answer)
            .map_err(|error| Error::UnexpectedResponse(format!("{error}: {answer}")))
    };
    let function = "call-tool";
    checks.answer(
        function,
        "gives the whole answer",
        call("read_account", "{}"),
        |it| it.get("organizationId").is_some_and(Value::is_string),
    )?;
    let refused = call("read_project", r#"{"projectId": 1}"#);
    checks.refusal(function, "keeps the kind of an error", refused, not_found);
    for arguments in ["", "{", "[]", "7"] {
        let refused = call("read_account", arguments);
        checks.refusal(
            function,
            "refuses arguments that are no JSON object",
            refused,
            |it| matches!(it, Error::InvalidArgument(_)),
        );
    }
    let organization = checks.answer(
        function,
        "has an organisation",
        setup::organization(),
        |_| true,
    )?;
    let of_organization = serde_json::json!({ "organizationId": organization }).to_string();
    let listed = call("list_agents", &of_organization);
    checks.answer(function, "reaches what has no function", listed, |it| {
        it.get("agents").is_some_and(Value::is_array)
    })?;
    let agent = serde_json::json!({ "organizationId": organization, "name": "Every" });
    checks.refusal(
        function,
        "steers no agent by a pattern",
        call("create_agent", &agent.to_string()),
        |it| matches!(it, Error::Denied(_)),
    );
    checks.refusal(
        function,
        "hands the account to no agent by a pattern",
        call("create_agent_deployment", r#"{"taskId": 1}"#),
        |it| matches!(it, Error::Denied(_)),
    );
    checks.refusal(
        function,
        "says that no server has a tool, granted or not",
        call("another_tool", "{}"),
        |it| matches!(it, Error::NotFound(words) if !words.is_empty()),
    );
    Some(())
}
