//! What an MCP client sees: the list of tools, the forms of arguments and of answers.

use std::collections::{BTreeMap, BTreeSet};

use qchost_catalog::OPERATIONS;
use qchost_quantconnect::Options;
use rmcp::model::{CallToolRequestParams, ErrorCode, Tool};
use rmcp::service::ServiceError;
use serde_json::{Value, json};

use crate::connection::{Connection, options, rest};
use crate::fake::{Fake, Seen, reply};

async fn tools(connection: &Connection) -> BTreeMap<String, Tool> {
    let list = connection.client.list_all_tools().await.unwrap();
    let by_rest = OPERATIONS.iter().filter(|operation| operation.rest);
    assert_eq!(list.len(), by_rest.count());
    list.into_iter()
        .map(|tool| (tool.name.to_string(), tool))
        .collect()
}

#[tokio::test]
async fn all_tools_are_listed_with_schemas_and_titles() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    let tools = tools(&connection).await;
    let fixture: Value =
        serde_json::from_str(include_str!("../fixtures/official-tools.json")).unwrap();
    let official: BTreeSet<_> = fixture["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    let names: BTreeSet<_> = tools.keys().cloned().collect();
    assert_eq!(official.difference(&names).next(), None);
    for tool in tools.values() {
        let name = &tool.name;
        assert!(
            tool.title.as_ref().is_some_and(|t| !t.contains('_')),
            "{name}"
        );
        assert!(
            tool.description.as_ref().is_some_and(|d| d.len() > 10),
            "{name}"
        );
        assert_eq!(tool.input_schema["type"], "object", "{name}");
        assert_eq!(
            tool.output_schema.as_ref().unwrap()["type"],
            "object",
            "{name}"
        );
    }
    assert_eq!(tools["read_compile"].title.as_deref(), Some("Read compile"));
    assert!(fake.seen().is_empty(), "listing asks nothing of the cloud");
}

#[tokio::test]
async fn annotations_tell_what_a_tool_can_do() {
    let fake = Fake::content().await;
    let tools = tools(&Connection::to(&fake.url).await).await;
    let hints = |name: &str| {
        let hints = tools[name].annotations.clone().unwrap();
        (
            hints.read_only_hint.unwrap(),
            hints.destructive_hint.unwrap(),
            hints.idempotent_hint.unwrap(),
        )
    };
    for read in [
        "read_live_orders",
        "list_projects",
        "read_live_chart",
        "check_syntax",
    ] {
        assert_eq!(hints(read), (true, false, true), "{read}");
    }
    for ends in [
        "delete_project",
        "delete_file",
        "delete_object",
        "stop_live_algorithm",
        "liquidate_live_algorithm",
        "abort_optimization",
        "create_live_algorithm",
        "broadcast_live_command",
    ] {
        assert_eq!(hints(ends), (false, true, false), "{ends}");
    }
    for once in ["create_file", "create_backtest", "create_project"] {
        assert_eq!(hints(once), (false, false, false), "{once}");
    }
    // What overwrites is destructive in MCP's words, even where it can be changed back.
    assert_eq!(hints("patch_file"), (false, true, false));
    for overwrites in ["update_file_contents", "upload_object", "update_project"] {
        assert_eq!(hints(overwrites), (false, true, true), "{overwrites}");
    }
    for operation in OPERATIONS.iter().filter(|operation| operation.rest) {
        let open = tools[operation.tool]
            .annotations
            .clone()
            .unwrap()
            .open_world_hint;
        assert_eq!(
            open,
            Some(!operation.answered_by_server()),
            "{}",
            operation.tool
        );
    }
}

#[tokio::test]
async fn arguments_go_out_as_they_came_in_flat_or_wrapped() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    let arguments = json!({ "projectId": 7, "name": "main.py", "content": "é\n" });
    connection.call("create_file", arguments.clone()).await;
    connection
        .call("create_file", json!({ "model": arguments.clone() }))
        .await;
    for seen in fake.seen() {
        assert_eq!(seen.path, "/api/v2/files/create");
        assert_eq!(seen.json(), arguments);
        assert!(seen.header("content-type").starts_with("application/json"));
    }
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn tools_without_arguments_take_none_in_every_form() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    for arguments in [json!({}), json!({ "model": {} }), json!({ "model": null })] {
        let (is_error, text) = connection.call("read_account", arguments).await;
        assert!(!is_error, "{text}");
    }
    connection
        .client
        .call_tool(CallToolRequestParams::new("read_account"))
        .await
        .unwrap();
    assert_eq!(fake.seen().len(), 4);
    assert!(fake.seen().iter().all(|seen| seen.json() == json!({})));
}

#[tokio::test]
async fn a_null_is_an_argument_that_is_not_there() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    connection
        .call("read_file", json!({ "projectId": 7, "name": null }))
        .await;
    assert_eq!(fake.only().json(), json!({ "projectId": 7 }));
    let body = connection
        .fails("read_file", json!({ "projectId": null }))
        .await;
    assert!(
        body["errors"][0].as_str().unwrap().contains("projectId"),
        "{body}"
    );
}

#[tokio::test]
async fn a_null_is_sent_where_the_api_wants_one() {
    for (query, sent) in [
        (json!({}), Value::Null),
        (json!({ "query": null }), Value::Null),
        (json!({ "query": "error" }), json!("error")),
    ] {
        let fake = Fake::content().await;
        let connection = Connection::to(&fake.url).await;
        let mut arguments = json!({ "projectId": 7, "backtestId": "b", "start": 0, "end": 9 });
        for (name, value) in query.as_object().unwrap() {
            arguments[name] = value.clone();
        }
        connection
            .call("read_backtest_logs", arguments.clone())
            .await;
        arguments["query"] = sent;
        assert_eq!(fake.only().json(), arguments);
    }
}

#[tokio::test]
async fn orders_are_filtered_page_by_page() {
    let order = |id: u64| json!({ "id": id, "tag": if id == 120 { "Stop" } else { "" } });
    let page = move |seen: &Seen| {
        let body = seen.json();
        let [start, end] = ["start", "end"].map(|name| body[name].as_u64().unwrap());
        assert_eq!(
            body.as_object().unwrap().len(),
            4,
            "no filter is sent: {body}"
        );
        let orders: Vec<Value> = (start..end.min(150)).map(order).collect();
        json!({ "orders": orders, "length": 150, "success": true }).to_string()
    };
    let ask = |fields: Value| {
        let mut ask = json!({ "projectId": 7, "backtestId": "b", "start": 0, "end": 10 });
        for (name, value) in fields.as_object().unwrap() {
            ask[name] = value.clone();
        }
        ask
    };
    let fake = Fake::start(move |seen| reply(200, &[], page(seen))).await;
    let connection = Connection::to(&fake.url).await;
    let tool = "filter_backtest_orders";
    let (is_error, answer) = connection.call(tool, ask(json!({ "tag": "stop" }))).await;
    assert!(!is_error, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["orders"], json!([order(120)]));
    assert_eq!(answer["more"], false);
    assert_eq!(fake.seen().len(), 2);
    // A range that is full early is not searched for to the end.
    let (_, answer) = connection.call(tool, ask(json!({}))).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["orders"].as_array().unwrap().len(), 10);
    assert_eq!(answer["more"], true);
    assert_eq!(fake.seen().len(), 3);

    for wrong in [
        json!({ "end": 0 }),
        json!({ "end": 101 }),
        json!({ "start": 5, "end": 4 }),
        json!({ "date": "yesterday" }),
    ] {
        let body = connection.fails(tool, ask(wrong)).await;
        assert_eq!(body["failure"]["kind"], "invalid-argument");
    }
    assert_eq!(fake.seen().len(), 3);
    // What is no page is the answer, whichever page it is.
    let loading = "{\"progress\":0.5,\"status\":\"loading\",\"success\":true}";
    let later = move |seen: &Seen| match seen.json()["start"].as_u64() {
        Some(0) => page(seen),
        _ => loading.to_owned(),
    };
    let fake = Fake::start(move |seen| reply(200, &[], later(seen))).await;
    let connection = Connection::to(&fake.url).await;
    let (_, answer) = connection.call(tool, ask(json!({ "tag": "x" }))).await;
    assert_eq!(answer, loading);
    // An endless list is given up.
    let endless = "{\"success\":true,\"orders\":[".to_owned() + &["{}"; 100].join(",") + "]}";
    let fake = Fake::always(200, &endless).await;
    let connection = Connection::to(&fake.url).await;
    let body = connection.fails(tool, ask(json!({ "tag": "x" }))).await;
    assert_eq!(body["failure"]["kind"], "invalid-argument");
    assert_eq!(fake.seen().len(), 100);
}

#[tokio::test]
async fn a_file_comes_as_an_answer_with_its_type_and_text() {
    let arguments = || json!({ "projectId": 7, "backtestId": "b" });
    let csv = "Time,Tag\r\n1,\"a \"\"b\"\"\"\r\n";
    for (media_type, told, text) in [
        ("text/csv; charset=utf-8", "text/csv", csv),
        ("application/json", "application/json", "[{\"id\":1}]"),
        ("text/plain", "text/plain", ""),
        ("text/plain", "text/plain", "not JSON"),
        ("application/json", "application/json", "{\"insights\":[]}"),
    ] {
        let fake = Fake::start(move |_| reply(200, &[("content-type", media_type)], text)).await;
        let connection = Connection::to(&fake.url).await;
        let (is_error, answer) = connection.call("export_backtest_logs", arguments()).await;
        assert!(!is_error, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let expected = json!({ "success": true, "mediaType": told, "content": text });
        assert_eq!(answer, expected);
    }
    // What the API says instead of a file stays what it is.
    for (body, refused) in [
        ("{\"success\":false,\"errors\":[\"no\"]}", true),
        (
            "{\"success\":true,\"status\":\"loading\",\"progress\":0.5}",
            false,
        ),
    ] {
        let fake = Fake::always(200, body).await;
        let connection = Connection::to(&fake.url).await;
        let (is_error, answer) = connection.call("export_backtest_logs", arguments()).await;
        assert_eq!((is_error, answer.as_str()), (refused, body));
    }
    let fake = Fake::start(|_| reply(200, &[("content-type", "text/csv")], vec![0xff_u8])).await;
    let connection = Connection::to(&fake.url).await;
    let body = connection.fails("export_backtest_logs", arguments()).await;
    assert_eq!(body["failure"]["kind"], "unexpected-response");
}

#[tokio::test]
async fn nulls_below_the_top_are_data() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    let arguments = json!({ "projectId": 7, "command": { "$type": "X", "tag": null } });
    connection
        .call("create_live_command", arguments.clone())
        .await;
    assert_eq!(fake.only().json(), arguments);
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_refused_unsent() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    for (tool, arguments, says) in [
        ("read_compile", json!({ "projectId": 7 }), "compileId"),
        (
            "read_compile",
            json!({ "projectId": "7", "compileId": "c" }),
            "/projectId",
        ),
        (
            "read_compile",
            json!({ "projectId": -7, "compileId": "c" }),
            "/projectId",
        ),
        (
            "read_compile",
            json!({ "projectId": 7.5, "compileId": "c" }),
            "/projectId",
        ),
        (
            "read_compile",
            json!({ "projectid": 7, "compileId": "c" }),
            "projectId, compileId",
        ),
        (
            "read_compile",
            json!({ "model": { "projectId": 7 } }),
            "compileId",
        ),
        ("read_compile", json!({ "model": 7 }), "\"model\""),
        (
            "read_compile",
            json!({ "model": { "projectId": 7, "compileId": "c" }, "projectId": 7 }),
            "\"model\"",
        ),
        ("read_account", json!({ "verbose": true }), "no arguments"),
        (
            "create_backtest",
            json!({ "projectId": 7, "compileId": "c", "backtestName": "b",
            "parameters": { "fast": [1] } }),
            "/parameters/fast",
        ),
        (
            "upload_object",
            json!({ "organizationId": "o", "key": "k" }),
            "upload_object",
        ),
        (
            "upload_object",
            json!({ "organizationId": "o", "key": "k",
            "objectDataBase64": "%" }),
            "objectDataBase64",
        ),
    ] {
        let body = connection.fails(tool, arguments.clone()).await;
        assert_eq!(body["failure"]["kind"], "invalid-argument", "{arguments}");
        let error = body["errors"][0].as_str().unwrap();
        assert!(error.contains(says), "{arguments}: {error}");
        assert!(error.starts_with(tool), "{error}");
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_hostile_argument_name_is_cut() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    let body = connection
        .fails("read_account", json!({ "x".repeat(100_000): 1 }))
        .await;
    assert!(body.to_string().len() < 500);
}

#[tokio::test]
async fn an_unknown_tool_is_a_protocol_error() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    for name in [
        "read_everything",
        "READ_ACCOUNT",
        "",
        "account/read-account",
    ] {
        let error = connection
            .client
            .call_tool(CallToolRequestParams::new(name))
            .await
            .unwrap_err();
        let ServiceError::McpError(error) = error else {
            panic!("{error}");
        };
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
        assert!(error.message.contains("unknown tool"), "{}", error.message);
    }
    assert!(fake.seen().is_empty());
}

/// Key order, white space and every digit: things that a round trip through a parser loses.
const ODD: &str = "{ \"z\": 1.10, \"a\": 12345678901234567890123, \"success\":true ,\"n\": 1e2 }";

#[tokio::test]
async fn the_text_is_the_body_byte_for_byte() {
    let fake = Fake::always(200, ODD).await;
    let connection = Connection::to(&fake.url).await;
    let result = connection.result("read_account", json!({})).await;
    assert_eq!(crate::connection::text(&result), ODD);
    let structured = result.structured_content.unwrap();
    assert_eq!(structured["z"], json!(1.1));
    let keys: Vec<_> = structured.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["z", "a", "success", "n"]);
}

#[tokio::test]
async fn a_price_survives_as_a_structured_number() {
    // Numbers whose nearest doubles a fast parser misses by one unit.
    let fake = Fake::always(200, r#"{"creditBalance": 9007199254740993.5, "a": 1.7976931348623157e308, "b": 5e-324, "c": 31.245270191439438}"#).await;
    let connection = Connection::to(&fake.url).await;
    let structured = connection
        .result("read_account", json!({}))
        .await
        .structured_content
        .unwrap();
    for (key, value) in [
        ("creditBalance", "9007199254740993.5"),
        ("a", "1.7976931348623157e308"),
        ("b", "5e-324"),
        ("c", "31.245270191439438"),
    ] {
        assert_eq!(
            structured[key].as_f64().unwrap(),
            value.parse::<f64>().unwrap(),
            "{key}"
        );
    }
}

#[tokio::test]
async fn text_only_sends_the_body_once_and_promises_no_schema() {
    let fake = Fake::always(200, ODD).await;
    let connection = Connection::open(rest(&options(&fake.url)), Options { text_only: true }).await;
    assert!(
        tools(&connection)
            .await
            .values()
            .all(|t| t.output_schema.is_none())
    );
    let result = connection.result("read_account", json!({})).await;
    assert_eq!(result.structured_content, None);
    assert_eq!(crate::connection::text(&result), ODD);
}

#[tokio::test]
async fn a_refusal_by_the_cloud_is_an_error_with_its_body() {
    let body = r#"{"errors":["No such project"],"success":false,"extra":[1]}"#;
    let fake = Fake::always(200, body).await;
    let connection = Connection::to(&fake.url).await;
    let result = connection
        .result("read_file", json!({ "projectId": 7 }))
        .await;
    assert_eq!(result.is_error, Some(true));
    assert_eq!(result.structured_content, None);
    assert_eq!(crate::connection::text(&result), body);
}

#[tokio::test]
async fn both_version_tools_answer_without_the_cloud() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    let tools = tools(&connection).await;
    for tool in ["read_mcp_server_version", "read_latest_mcp_server_version"] {
        let result = connection.result(tool, json!({})).await;
        let answer = json!({ "result": env!("CARGO_PKG_VERSION") });
        assert_eq!(result.structured_content, Some(answer));
        assert!(
            tools[tool]
                .description
                .as_ref()
                .unwrap()
                .contains("no registry")
        );
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn an_object_is_uploaded_as_a_form() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    for (argument, value, bytes) in [
        ("objectData", "Grüße\r\n", "Grüße\r\n".as_bytes()),
        ("objectDataBase64", "AP+A", &[0x00, 0xff, 0x80][..]),
        ("objectData", "", &[]),
    ] {
        let (is_error, text) = connection
            .call(
                "upload_object",
                json!({ "organizationId": "org", "key": "a/b c", argument: value }),
            )
            .await;
        assert!(!is_error, "{text}");
        let seen = fake.seen().pop().unwrap();
        assert_eq!(seen.path, "/api/v2/object/set");
        let kind = seen.header("content-type");
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
        let mut expected = Vec::new();
        for (head, data) in [
            ("name=\"organizationId\"", "org".as_bytes()),
            ("name=\"key\"", "a/b c".as_bytes()),
            (
                "name=\"objectData\"; filename=\"upload\"\r\nContent-Type: application/octet-stream",
                bytes,
            ),
        ] {
            expected.extend_from_slice(
                format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n")
                    .as_bytes(),
            );
            expected.extend_from_slice(data);
            expected.extend_from_slice(b"\r\n");
        }
        expected.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        assert_eq!(
            String::from_utf8_lossy(&seen.body),
            String::from_utf8_lossy(&expected)
        );
        assert_eq!(seen.body, expected);
    }
}
