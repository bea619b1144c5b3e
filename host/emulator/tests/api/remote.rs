//! The remote MCP server: both eras of MCP, and the tools over the state that the REST API shows.

use std::collections::BTreeSet;

use qchost_emulator::{Emulator, Fault, FaultKind, Remote, Revision};
use serde_json::{Value, json};

use crate::client::Cloud;
use crate::remote_client::{call, cloud};

/// A message of the revision without a handshake.
fn modern(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

/// Sends one with the headers that belong to it.
async fn send_modern(cloud: &Cloud, token: &str, message: &Value) -> (u16, Value) {
    let method = message["method"].as_str().unwrap();
    let mut request = cloud
        .message(token, message)
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", method);
    if let Some(name) = message["params"]["name"].as_str() {
        request = request.header("Mcp-Name", name);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn initialize(version: &str) -> Value {
    let params = json!({
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    });
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
}

/// A project with one file, made by the tools; its id.
async fn project(cloud: &Cloud, token: &str, content: &str) -> u64 {
    let files = json!([{"name": "main.py", "content": content}]);
    let asked = json!({"name": "Remote", "files": files});
    let made = cloud.done(token, "create_project", asked).await;
    made["project"]["projectId"].as_u64().unwrap()
}

#[tokio::test]
async fn the_handshake_settles_on_the_asked_revision_or_the_latest() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    for (asked, settled) in [
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let (status, answer) = cloud.rpc(&token, &initialize(asked)).await;
        assert_eq!(status, 200);
        assert_eq!(answer["result"]["protocolVersion"], settled, "{asked}");
    }
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let answer = cloud.message(&token, &initialized).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let unknown = cloud.message(&token, &call("list_skills", json!({})));
    let unknown = unknown.header("MCP-Protocol-Version", "1999-01-01");
    assert_eq!(unknown.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn the_revision_without_a_handshake_is_discovered_and_bound_to_its_headers() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let discover = modern("server/discover", json!({}));
    let (status, answer) = send_modern(&cloud, &token, &discover).await;
    assert_eq!(status, 200, "{answer}");
    let result = &answer["result"];
    assert_eq!(result["resultType"], "complete");
    let versions = result["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")), "{answer}");
    assert!(result["ttlMs"].is_u64() && result["cacheScope"] == "private");

    let list = modern("tools/list", json!({}));
    let (_, answer) = send_modern(&cloud, &token, &list).await;
    assert_eq!(answer["result"]["tools"].as_array().unwrap().len(), 48);

    let message = modern(
        "tools/call",
        json!({"name": "list_skills", "arguments": {}}),
    );
    let (_, answer) = send_modern(&cloud, &token, &message).await;
    assert_eq!(answer["result"]["structuredContent"]["success"], true);
    let other = cloud
        .message(&token, &message)
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", "tools/call")
        .header("Mcp-Name", "list_datasets");
    let answer = other.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"]["code"], -32_020);

    let (status, answer) = send_modern(&cloud, &token, &modern("ping", json!({}))).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!(-32_601)));
    let mut old = modern("tools/list", json!({}));
    old["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2025-11-25");
    let (status, answer) = cloud.rpc(&token, &old).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32_022)));
}

#[tokio::test]
async fn each_era_can_be_spoken_alone() {
    let old = cloud(Remote::new().revisions(&[Revision::March2025])).await;
    let token = old.log_in().await;
    let (_, answer) = old.rpc(&token, &modern("server/discover", json!({}))).await;
    assert_eq!(answer["error"]["code"], -32_601);
    let (_, answer) = old.rpc(&token, &initialize("2025-11-25")).await;
    assert_eq!(answer["result"]["protocolVersion"], "2025-03-26");

    let new = cloud(Remote::new().revisions(&[Revision::July2026])).await;
    let token = new.log_in().await;
    let (status, answer) = new.rpc(&token, &initialize("2025-11-25")).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32_022)));
    assert_eq!(answer["error"]["data"]["supported"], json!(["2026-07-28"]));
}

#[tokio::test]
async fn the_tools_are_listed_with_schemas_that_refuse_what_they_do_not_name() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let (_, answer) = cloud.rpc(&token, &list).await;
    let tools = answer["result"]["tools"].as_array().unwrap();
    let names: BTreeSet<&str> = tools
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, Emulator::remote_tools().collect::<BTreeSet<_>>());
    for tool in tools {
        let name = tool["name"].as_str().unwrap();
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        let error = cloud
            .tool_refused(&token, name, json!({"surprise": 1}))
            .await;
        assert!(error.starts_with("Unknown argument 'surprise'"), "{error}");
    }
    let (_, answer) = cloud.rpc(&token, &call("read_account", json!({}))).await;
    assert_eq!(answer["error"]["code"], -32_602);
}

#[tokio::test]
async fn what_a_tool_writes_the_rest_api_reads_and_the_other_way_round() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let id = project(&cloud, &token, "code").await;
    let read = cloud.ok("/projects/read", json!({"projectId": id})).await;
    assert_eq!(read["projects"][0]["name"], "Remote");
    let other = cloud.project("other code").await;
    let read = cloud
        .done(&token, "read_project", json!({"projectId": other}))
        .await;
    let files = read["project"]["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file["content"] == "other code"));
    let open = cloud.done(&token, "read_open_project", json!({})).await;
    assert_eq!(open["project"]["projectId"], other);
    let listed = cloud
        .done(&token, "list_projects", json!({"query": "REMOTE"}))
        .await;
    assert_eq!(listed["projects"].as_array().unwrap().len(), 1);
    cloud
        .done(
            &token,
            "update_project",
            json!({"projectId": id, "description": "new"}),
        )
        .await;
    let read = cloud.ok("/projects/read", json!({"projectId": id})).await;
    assert_eq!(read["projects"][0]["description"], "new");
    let nothing = json!({"projectId": id});
    cloud.tool_refused(&token, "update_project", nothing).await;
    let without = json!({"name": "X", "files": [{"name": "a.py", "content": ""}]});
    cloud.tool_refused(&token, "create_project", without).await;
}

#[tokio::test]
async fn projects_come_in_pages_of_50() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    for number in 0..51 {
        let body = json!({"name": format!("P{number}"), "language": "Py"});
        cloud.ok("/projects/create", body).await;
    }
    let first = cloud.done(&token, "list_projects", json!({})).await;
    assert_eq!(first["projects"].as_array().unwrap().len(), 50);
    assert_eq!(first["projects"][0]["name"], "P50");
    let second = cloud
        .done(&token, "list_projects", json!({"page": 2}))
        .await;
    assert_eq!(second["projects"].as_array().unwrap().len(), 1);
    cloud
        .tool_refused(&token, "list_projects", json!({"page": 0}))
        .await;
}

#[tokio::test]
async fn a_file_is_overwritten_and_compiled_and_a_snippet_must_be_unique() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let id = project(&cloud, &token, "one two two").await;
    let written = json!({"projectId": id, "filePath": "main.py", "content": "SYNTAX ERROR"});
    let answer = cloud.done(&token, "create_file", written).await;
    assert_eq!(answer["state"], "BuildError");
    assert_eq!(answer["compileErrors"].as_array().unwrap().len(), 1);
    assert_eq!(answer["warnings"], answer["compileErrors"]);
    let read = json!({"projectId": id, "name": "main.py"});
    let read = cloud.ok("/files/read", read).await;
    assert_eq!(read["files"][0]["content"], "SYNTAX ERROR");

    let good = json!({"projectId": id, "filePath": "main.py", "content": "one two two"});
    let answer = cloud.done(&token, "create_file", good).await;
    assert_eq!(answer["state"], "BuildSuccess");
    let edit = |old: &str, new: &str| json!({"projectId": id, "filePath": "main.py", "oldString": old, "newString": new});
    let error = cloud
        .tool_refused(&token, "edit_file", edit("two", "three"))
        .await;
    assert!(error.contains("it occurs 2 times"), "{error}");
    cloud
        .tool_refused(&token, "edit_file", edit("four", "three"))
        .await;
    cloud
        .done(&token, "edit_file", edit("one", "ONE\nline"))
        .await;
    let lines = json!({"projectId": id, "filePath": "main.py", "startLine": 2, "endLine": 2});
    let read = cloud.done(&token, "read_file", lines).await;
    assert_eq!(read["content"], "line two two");
    let found = json!({"projectId": id, "query": "one"});
    let found = cloud.done(&token, "search_file_content", found).await;
    assert_eq!(found["matches"][0]["line"], 1);
    let notebook = json!({"projectId": id, "filePath": "research.ipynb"});
    cloud.tool_refused(&token, "read_file", notebook).await;
    let gone = json!({"projectId": id, "filePath": "main.py"});
    cloud.done(&token, "delete_file", gone.clone()).await;
    cloud.tool_refused(&token, "read_file", gone).await;
}

#[tokio::test]
async fn a_backtest_compiles_by_itself_and_is_the_one_that_rest_reads() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let id = project(&cloud, &token, "code").await;
    let named = json!({"projectId": id, "name": "Mine"});
    let created = cloud.done(&token, "create_backtest", named).await;
    let backtest = created["backtestId"].as_str().unwrap().to_owned();
    assert!(cloud.emulator.requests_to("/compile/create").is_empty());
    let result = cloud.result(id, &backtest).await;
    assert_eq!(result["name"], "Mine");
    let which = json!({"projectId": id, "backtestId": backtest});
    let read = cloud.done(&token, "read_backtest", which.clone()).await;
    assert_eq!(read["backtest"]["statistics"], result["statistics"]);
    let orders = cloud
        .done(&token, "read_backtest_orders", which.clone())
        .await;
    assert_eq!(orders["orders"].as_array().unwrap().len(), 50);
    assert_eq!(orders["totalPages"], 3);
    let one = json!({"projectId": id, "backtestId": backtest, "id": 150});
    let one = cloud.done(&token, "read_backtest_orders", one).await;
    assert_eq!(one["orders"].as_array().unwrap().len(), 1);
    let logs = json!({"projectId": id, "backtestId": backtest, "query": ""});
    let logs = cloud.done(&token, "search_backtest_logs", logs).await;
    assert!(logs["length"].as_u64().unwrap() > 0);
    // The default that a gate has to avoid: the latest one.
    let note = json!({"projectId": id, "note": "latest"});
    cloud.done(&token, "update_backtest", note).await;
    let read = cloud.done(&token, "read_backtest", which.clone()).await;
    assert_eq!(read["backtest"]["note"], "latest");
    let listed = cloud
        .done(&token, "list_backtests", json!({"projectId": id}))
        .await;
    assert_eq!(listed["backtests"].as_array().unwrap().len(), 1);
    cloud.done(&token, "delete_backtest", which.clone()).await;
    cloud.tool_refused(&token, "read_backtest", which).await;
    let broken = project(&cloud, &token, "SYNTAX ERROR").await;
    let error = cloud
        .tool_refused(&token, "create_backtest", json!({"projectId": broken}))
        .await;
    assert!(error.starts_with("Build Error"), "{error}");
}

#[tokio::test]
async fn an_optimization_is_read_as_words() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let id = project(&cloud, &token, "PARAMETER fast\n").await;
    let asked = json!({
        "projectId": id,
        "name": "Search",
        "target": "TotalPerformance.PortfolioStatistics.SharpeRatio",
        "targetTo": "max",
        "parameters": [{"name": "fast", "min": 1, "max": 3, "step": 1}],
    });
    let created = cloud.done(&token, "create_optimization", asked).await;
    let optimization = created["optimizationId"].as_str().unwrap();
    let body = json!({"optimizationId": optimization});
    cloud
        .until("/optimizations/read", body.clone(), |it| {
            it["optimization"]["status"] == "completed"
        })
        .await;
    let read = cloud.done(&token, "read_optimization", body.clone()).await;
    let words = read["interpretation"].as_str().unwrap();
    assert!(words.contains("fast = 3"), "{words}");
    assert_eq!(read.get("backtests"), None);
    let listed = cloud
        .done(&token, "list_optimizations", json!({"projectId": id}))
        .await;
    assert_eq!(listed["optimizations"].as_array().unwrap().len(), 1);
    cloud
        .done(&token, "delete_optimization", body.clone())
        .await;
    cloud.tool_refused(&token, "read_optimization", body).await;
}

#[tokio::test]
async fn only_paper_can_be_deployed() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let id = project(&cloud, &token, "code").await;
    let real = json!({"projectId": id, "brokerage": {"id": "InteractiveBrokersBrokerage"}});
    cloud
        .tool_refused(&token, "create_live_algorithm", real)
        .await;
    let which = json!({"projectId": id});
    let created = cloud
        .done(&token, "create_live_algorithm", which.clone())
        .await;
    let running = cloud
        .until("/live/read", which.clone(), |it| it["status"] == "Running")
        .await;
    assert_eq!(running["deployId"], created["deployId"]);
    assert_eq!(running["brokerage"], "PaperBrokerage");
    let read = cloud
        .done(&token, "read_live_algorithm", which.clone())
        .await;
    assert_eq!(read["deployId"], created["deployId"]);
    let holdings = cloud
        .done(&token, "read_live_holdings", which.clone())
        .await;
    assert!(holdings["holdings"].is_object() && holdings.get("cash").is_none());
    let logs = json!({"projectId": id, "query": ""});
    cloud.done(&token, "search_live_logs", logs).await;
    cloud
        .done(&token, "liquidate_live_algorithm", which.clone())
        .await;
    let read = cloud.ok("/live/read", which.clone()).await;
    assert_eq!(read["status"], "Liquidated");
    cloud.done(&token, "stop_live_algorithm", which).await;
}

#[tokio::test]
async fn cells_are_stored_in_the_projects_notebook_and_answer_what_is_scripted() {
    let remote = Remote::new().cell_output("print(6 * 7)", "42");
    let cloud = cloud(remote).await;
    let token = cloud.log_in().await;
    let id = project(&cloud, &token, "code").await;
    let notebook = json!({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 2});
    let text = json!({"projectId": id, "notebook": notebook.to_string()});
    cloud.done(&token, "jupyter_create_notebook", text).await;
    for source in ["print(6 * 7)", "import os"] {
        let cell = json!({"projectId": id, "source": source});
        cloud.done(&token, "jupyter_create_cell", cell).await;
    }
    let at = |index: u64| json!({"projectId": id, "index": index});
    // The notebook of a new project has its source as a list of lines.
    let other = json!({"projectId": cloud.project("code").await, "index": 0});
    let read = cloud.done(&token, "jupyter_read_cell", other).await;
    assert_eq!(read["cell"]["source"], "qb = QuantBook()");
    let run = cloud.done(&token, "jupyter_execute_cell", at(0)).await;
    assert_eq!(run["outputs"][0]["text"], "42");
    let run = cloud.done(&token, "jupyter_execute_cell", at(1)).await;
    assert_eq!(run["outputs"], json!([]));
    let warning = run["warnings"][0].as_str().unwrap();
    assert!(warning.contains("no kernel"), "{warning}");
    let all = cloud
        .done(&token, "jupyter_execute_notebook", json!({"projectId": id}))
        .await;
    assert_eq!(all["outputs"].as_array().unwrap().len(), 1);
    let read = cloud.done(&token, "jupyter_read_cell", at(0)).await;
    assert_eq!(read["cell"]["execution_count"], 2);
    // The REST API shows the same notebook.
    let file = json!({"projectId": id, "name": "research.ipynb"});
    let file = cloud.ok("/files/read", file).await;
    assert!(file["files"][0]["content"].as_str().unwrap().contains("42"));
    let changed = json!({"projectId": id, "index": 0, "source": "pass"});
    cloud.done(&token, "jupyter_update_cell", changed).await;
    let whole = cloud
        .done(&token, "jupyter_read_notebook", json!({"projectId": id}))
        .await;
    assert!(!whole["notebook"].as_str().unwrap().contains("42"));
    cloud.done(&token, "jupyter_delete_cell", at(1)).await;
    cloud.tool_refused(&token, "jupyter_read_cell", at(1)).await;
    let image = json!({"url": format!("{}/research/a.png", cloud.emulator.base_url())});
    cloud.done(&token, "jupyter_get_image", image).await;
    let elsewhere = json!({"url": "http://127.0.0.1:1/a.png"});
    cloud
        .tool_refused(&token, "jupyter_get_image", elsewhere)
        .await;
}

#[tokio::test]
async fn objects_datasets_skills_and_templates_are_there() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let skill = json!({"key": ".assistant/skills/mine/skill.md", "content": "# Mine"});
    cloud.done(&token, "object_store_set", skill).await;
    let skills = cloud.done(&token, "list_skills", json!({})).await;
    assert!(
        skills["skills"]
            .as_array()
            .unwrap()
            .contains(&json!("mine"))
    );
    let loaded = cloud
        .done(&token, "load_skill", json!({"name": "mine"}))
        .await;
    assert_eq!(loaded["content"], "# Mine");
    cloud
        .tool_refused(&token, "load_skill", json!({"name": "none"}))
        .await;
    let pdf = json!({"key": "a.pdf", "content": "%PDF-1.7"});
    cloud.done(&token, "object_store_set", pdf).await;
    let read = cloud
        .done(
            &token,
            "object_store_pdf_to_markdown",
            json!({"key": "a.pdf"}),
        )
        .await;
    assert!(read["markdown"].is_string() && !read["warnings"].as_array().unwrap().is_empty());
    let out = json!({"key": "a.pdf", "outputPath": "a.md"});
    cloud
        .done(&token, "object_store_pdf_to_markdown", out)
        .await;
    let organization = cloud.emulator.organization_id();
    let stored = json!({"organizationId": organization, "key": "a.md"});
    cloud.ok("/object/properties", stored).await;
    let datasets = cloud.done(&token, "list_datasets", json!({})).await;
    let name = &datasets["datasets"][0];
    let details = cloud
        .done(&token, "get_dataset_details", json!({"name": name}))
        .await;
    assert_eq!(&details["name"], name);
    cloud
        .done(&token, "environment_library_support", json!({}))
        .await;
    let wanted = json!({"description": "a monthly rebalance"});
    let templates = cloud.done(&token, "read_project_templates", wanted).await;
    assert_eq!(templates["templates"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn notifications_are_recorded_and_not_sent() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let email = json!({"address": "a@example.com", "subject": "s", "message": "m"});
    cloud
        .done(&token, "send_email_notification", email.clone())
        .await;
    let sms = json!({"phoneNumber": "1", "message": "m"});
    cloud.done(&token, "send_sms_notification", sms).await;
    let telegram = json!({"id": "1", "message": "m", "token": "hush"});
    cloud
        .done(&token, "send_telegram_notification", telegram)
        .await;
    let requests = cloud.emulator.requests_to("/mcp/send_email_notification");
    assert_eq!(requests[0].body, email);
    assert_eq!(requests[0].success, Some(true));
    assert!(!format!("{:?}", cloud.emulator.requests()).contains("hush"));
}

#[tokio::test]
async fn without_an_agent_node_every_tool_says_so_and_does_nothing() {
    let cloud = cloud(Remote::new().agent_node(false)).await;
    let token = cloud.log_in().await;
    let files = json!([{"name": "main.py", "content": ""}]);
    let message = call("create_project", json!({"name": "X", "files": files}));
    let (status, answer) = cloud.rpc(&token, &message).await;
    assert_eq!(status, 200);
    assert_eq!(answer["result"]["isError"], true);
    let text = answer["result"]["structuredContent"]["errors"][0]
        .as_str()
        .unwrap();
    assert!(
        text.contains("requires a dedicated Assistant node"),
        "{text}"
    );
    let read = cloud.ok("/projects/read", json!({})).await;
    assert_eq!(read["projects"], json!([]));
}

#[tokio::test]
async fn a_tool_without_a_project_uses_the_open_one_or_says_that_none_is() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let error = cloud
        .tool_refused(&token, "list_backtests", json!({}))
        .await;
    assert!(error.contains("projectId"), "{error}");
    project(&cloud, &token, "code").await;
    cloud.done(&token, "list_backtests", json!({})).await;
}

#[tokio::test]
async fn faults_strike_a_tool_by_its_name() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let fault = Fault::at("/mcp/list_skills", FaultKind::Status(503));
    cloud.emulator.set_faults(vec![fault]);
    let message = call("list_skills", json!({}));
    let answer = cloud.message(&token, &message).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    cloud.done(&token, "list_datasets", json!({})).await;
}

#[tokio::test]
async fn a_page_of_another_site_reaches_nothing() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    let message = call("list_skills", json!({}));
    let request = cloud.message(&token, &message);
    let answer = request.header("Origin", "https://example.com").send().await;
    assert_eq!(answer.unwrap().status(), 403);
    let request = cloud.message(&token, &message);
    let answer = request.header("Host", "example.com").send().await;
    assert_eq!(answer.unwrap().status(), 421);
    let endpoint = cloud.emulator.remote_url().unwrap();
    assert_eq!(cloud.open(endpoint).await.status(), 405);
}
