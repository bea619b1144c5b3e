//! Every operation with valid arguments, in the scope of its grant and out of it.

use qchost_catalog::{OPERATIONS, Operation, Selector};
use qchost_gate::Refusal;
use qchost_testing::cloud::{Setup, World};
use serde_json::{Map, Value, json};

/// What has no scope, and why.
const UNSCOPED: &[(&str, &str)] = &[
    ("account/read-account", "it is about the account itself"),
    (
        "ai/check-initialization-errors",
        "it is about the text that is given",
    ),
    ("ai/complete-code", "it is about the text that is given"),
    (
        "ai/enhance-error-message",
        "it is about the text that is given",
    ),
    (
        "ai/update-code-to-pep8",
        "it is about the text that is given",
    ),
    ("ai/check-syntax", "it is about the text that is given"),
    ("ai/search-quantconnect", "it searches what is public"),
    ("datasets/list-datasets", "it is the same for every account"),
    (
        "datasets/get-dataset-details",
        "it is the same for every account",
    ),
    (
        "datasets/environment-library-support",
        "it is the same for every account",
    ),
    ("data-issues/list-data-issues", "the issues are public"),
    (
        "lean-versions/read-lean-versions",
        "it is the same for every account",
    ),
    (
        "lean-versions/read-lean-environments",
        "it is the same for every account",
    ),
    (
        "organizations/list-organizations",
        "it is the list from which scopes are written",
    ),
    (
        "projects/list-projects",
        "each project of the answer is decided",
    ),
    ("server/read-mcp-server-version", "it is about the server"),
    (
        "server/read-latest-mcp-server-version",
        "it is about the server",
    ),
    ("skills/list-skills", "it is the same for every account"),
    ("skills/load-skill", "it is the same for every account"),
    (
        "templates/read-project-templates",
        "it is the same for every account",
    ),
];

/// What the host reads by itself to decide a call, besides the names of projects.
const HOST_READS: &[&str] = &[
    "estimate_optimization_time",
    "list_live_algorithms",
    "list_object_store_files",
    "list_projects",
    "read_backtest",
    "read_compile",
    "read_file",
    "read_live_algorithm",
    "read_optimization",
];

/// A plugin with a grant of one operation, by its name, on a part of everything.
async fn world(operation: &Operation, recipient: &str) -> World {
    let mut setup = Setup::grants(&format!(
        "[[grant]]\nname = \"g\"\nallow = [\"{}\"]\nprojects = [\"Lab/*\"]\norganizations = [\"o\"]\nkeys = [\"lab/*\"]\n\
         brokerages = [\"paper\"]\ndata-providers = [\"paper\"]\ncommands = [\"OrderCommand\"]\ncollaborators = [\"ada\"]\n\
         recipients = [\"{recipient}\"]\n",
        operation.name
    ));
    setup.profiles = crate::approvals::profiles();
    setup.live_trading = true;
    let world = setup.open().await;
    world.cloud.hook(|tool, arguments| {
        let id = arguments.get("optimizationId").and_then(Value::as_str)?;
        let project = if id == "foreign" { 9 } else { 1 };
        let optimization = json!({ "optimizationId": id, "projectId": project });
        let answer = json!({ "success": true, "optimization": optimization });
        (tool == "read_optimization").then_some(Ok(answer))
    });
    world
}

/// Valid arguments in the scope of the grant.
fn inside(operation: &Operation) -> Map<String, Value> {
    let schema = operation.input_schema();
    let properties = schema["properties"].as_object().unwrap();
    let value = |name: &str, schema: &Value| match name {
        "projectId" | "libraryId" | "select-project" => json!(1),
        "excludeProjectId" => json!(2),
        "files" if operation.tool == "replace_project_files" => {
            json!([{ "name": "main.py", "content": "a = 1" }])
        }
        "backtestId" | "select-backtest" => json!("b1"),
        "optimizationId" => json!("o1"),
        "compileId" => json!("c1"),
        "algorithmId" | "deployId" => json!("L-1"),
        "organizationId" => json!("o"),
        "keys" => json!(["lab/k"]),
        "key" => json!("lab/k"),
        "path" => json!("lab"),
        "brokerage" => json!("paper"),
        "dataProviders" => json!(["paper"]),
        "patch" => json!("--- a/main.py\n+++ b/main.py\n@@ -1 +1 @@\n-a\n+b\n"),
        "nodeType" => json!("O2-8"),
        "command" => json!({ "$type": "OrderCommand" }),
        "collaboratorUserId" | "collaboratorId" => json!("ada"),
        "address" | "phoneNumber" | "chatId" => json!("ops@example.com"),
        "public" => json!(false),
        _ => match schema["type"].as_str() {
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            Some("array") => json!([]),
            Some("object") => json!({}),
            _ => json!("text"),
        },
    };
    let mut all: Map<String, Value> = properties
        .iter()
        .map(|(name, schema)| (name.clone(), value(name, schema)))
        .collect();
    all.remove("objectDataBase64");
    if operation.selects(|selector| matches!(selector, Selector::ProjectName(_))) {
        all.insert("name".to_owned(), json!("Lab/new"));
    }
    all
}

/// A valid value of an argument that is out of the scope of the grant; `None` if no scope is about it.
fn outside(selector: &Selector, inside: &Value) -> Option<Value> {
    let like = |value: &str| match inside {
        Value::Array(_) => json!([value]),
        _ => json!(value),
    };
    Some(match selector {
        Selector::Project(_) | Selector::AttachedProject(_) | Selector::Library(_) => json!(9),
        Selector::ProjectName(_) => json!("Prod/new"),
        Selector::Organization(_) => json!("elsewhere"),
        Selector::ObjectKey(_) | Selector::DownloadKey(_) => like("other/k"),
        Selector::Optimization(_) => json!("foreign"),
        Selector::Profile(_) | Selector::Brokerage(_) => like("ib"),
        Selector::Command(_) => json!({ "$type": "Another" }),
        Selector::Collaborator(_) => json!("eve"),
        Selector::Recipient(_) => json!("eve@example.com"),
        Selector::Published(_) => json!(true),
        // They belong to a project, narrow one, or are conditions.
        Selector::ExcludedProject(_)
        | Selector::File(_)
        | Selector::Files(_)
        | Selector::Patch(_)
        | Selector::DownloadJob(_)
        | Selector::ObjectPath(_)
        | Selector::Backtest(_)
        | Selector::Compile(_)
        | Selector::Deployment(_)
        | Selector::Node(_)
        | Selector::NodeType(_)
        | Selector::ParallelNodes(_)
        | Selector::LiveControl(_)
        | Selector::Cost(_)
        | Selector::Parameters(_)
        | Selector::Chart(_) => return None,
    })
}

/// Makes a call that has to be denied, and of which nothing but the host's own reads may be sent.
async fn denied(operation: &Operation, recipient: &str, arguments: &Map<String, Value>) {
    let world = world(operation, recipient).await;
    let refused = world
        .call(operation.name, Value::Object(arguments.clone()))
        .await;
    let what = format!("{} {arguments:?}: {refused:?}", operation.name);
    assert!(matches!(refused, Err(Refusal::Denied(_))), "{what}");
    let sent = world.cloud.sent();
    assert!(
        sent.iter().all(|tool| HOST_READS.contains(&tool.as_str())),
        "{sent:?}: {what}"
    );
    let records = world.records().await;
    let sent = records
        .iter()
        .any(|record| record["kind"] == "intent" || record["kind"] == "read");
    assert!(!sent, "{what}: {records:#?}");
}

#[tokio::test]
async fn whatever_a_call_names_out_of_the_scope_of_its_grant_is_denied_and_not_sent() {
    let mut unscoped = Vec::new();
    for operation in OPERATIONS {
        let all = inside(operation);
        let mut scoped = 0;
        // Whom it is for, and what it may touch any of, no argument says.
        if operation.audience.is_some() || operation.any_of.is_some() {
            denied(operation, "ops@example.com", &all).await;
            scoped += 1;
        }
        let recipient = operation.audience.unwrap_or("ops@example.com");
        for selector in operation.selectors {
            let argument = selector.argument();
            let Some(value) = outside(selector, &all[argument]) else {
                continue;
            };
            let mut arguments = all.clone();
            arguments.insert(argument.to_owned(), value);
            denied(operation, recipient, &arguments).await;
            scoped += 1;
        }
        if scoped == 0 {
            unscoped.push(operation.name);
        }
    }
    let listed: Vec<_> = UNSCOPED.iter().map(|(name, _)| *name).collect();
    assert_eq!(unscoped, listed);
}

/// The twin: the same arguments within the scope.
#[tokio::test]
async fn what_a_call_names_within_the_scope_of_its_grant_is_not_denied() {
    // The address of a download belongs to one that this plugin began.
    let begun_before = "object-store/read-object-store-file-download-url";
    let operations = OPERATIONS
        .iter()
        .filter(|operation| operation.any_of.is_none() && operation.name != begun_before);
    for operation in operations {
        let recipient = operation.audience.unwrap_or("ops@example.com");
        let world = world(operation, recipient).await;
        let arguments = Value::Object(inside(operation));
        let answer = world.call(operation.name, arguments).await;
        // An answer that does not say of which project it is, is withheld after it was sent.
        let was_sent = world.cloud.sent().iter().any(|tool| tool == operation.tool)
            || operation.tool == "read_project";
        let was_denied = matches!(answer, Err(Refusal::Denied(_)));
        assert!(was_sent || !was_denied, "{}: {answer:?}", operation.name);
    }
}
