//! The table, the contract in `wit/` and the official server's own schemas say the same.
//!
//! The schemas are the stripped fixture that the conformance tests of our MCP server use too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};

use qchost_catalog::host_calls::showing;
use qchost_catalog::names::KEY;
use qchost_catalog::shape::{self, Field, Record, Type};
use qchost_catalog::units::UNITS;
use qchost_catalog::{Access, Effect, Exception, OPERATIONS, Selector, Unit, by_tool};
use serde_json::{Value, json};

/// Functions of the contract that are no tool: the host does them with several calls, or any.
const NOT_TOOLS: &[&str] = &["object-store/download", "raw/call-tool"];

/// Field names that only other servers than the official one send, or that its schemas leave open.
const NOT_OFFICIAL: &[(&str, &str)] = &[
    // The schema of an authorisation is open; QuantConnect sends the address there.
    ("authorization", "url"),
    // The schemas are of 2025; LEAN writes these since.
    ("backtest", "analysis"),
    ("backtest", "server-statistics"),
    ("closed-trade", "id"),
    ("closed-trade", "is-win"),
    ("closed-trade", "order-ids"),
    ("closed-trade", "orders"),
    ("closed-trade", "symbols"),
    ("portfolio-statistics", "drawdown-recovery"),
];

fn official() -> BTreeMap<String, Value> {
    let text = include_str!("../../quantconnect/tests/fixtures/official-tools.json");
    let fixture: Value = serde_json::from_str(text).unwrap();
    let tools = fixture["tools"].as_array().unwrap();
    tools
        .iter()
        .map(|tool| (tool["name"].as_str().unwrap().to_owned(), tool.clone()))
        .collect()
}

/// The schemas that a node may stand for, with references followed and null left out.
fn alternatives<'a>(root: &'a Value, node: &'a Value) -> Vec<&'a Value> {
    if let Some(reference) = node.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap();
        return alternatives(root, &root["$defs"][name]);
    }
    if let Some(any) = node.get("anyOf").and_then(Value::as_array) {
        return any
            .iter()
            .flat_map(|node| alternatives(root, node))
            .collect();
    }
    if node["type"] == "null" {
        vec![]
    } else {
        vec![node]
    }
}

/// The request of a tool: its own arguments, or the fields of the `model` that wraps them.
fn request(tool: &Value) -> (&Value, BTreeMap<String, Value>, BTreeSet<String>) {
    let root = &tool["inputSchema"];
    let object = match root["properties"].get("model") {
        Some(model) => alternatives(root, model)[0],
        None => root,
    };
    let fields = object["properties"].as_object();
    let required = object["required"].as_array();
    (
        root,
        fields
            .into_iter()
            .flatten()
            .map(|(name, node)| (name.clone(), node.clone()))
            .collect(),
        required
            .into_iter()
            .flatten()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
    )
}

#[test]
fn every_tool_has_one_row_and_one_function() {
    let official: BTreeSet<_> = official().into_keys().collect();
    assert_eq!(official.len(), 64);
    let tools: BTreeSet<_> = OPERATIONS
        .iter()
        .map(|operation| operation.tool.to_owned())
        .collect();
    // The official server has no tool for what is newer than it.
    let missing: Vec<_> = official.difference(&tools).collect();
    assert_eq!(missing, Vec::<&String>::new());
    assert_eq!(OPERATIONS.len(), tools.len(), "two rows have one tool");

    let typed = OPERATIONS.iter().filter(|operation| operation.is_typed());
    let rows: BTreeSet<_> = typed.map(|operation| operation.name.to_owned()).collect();
    let functions: BTreeSet<_> = shape::functions()
        .iter()
        .map(|function| format!("{}/{}", function.interface, function.name))
        .filter(|name| !NOT_TOOLS.contains(&name.as_str()))
        .collect();
    assert_eq!(rows, functions);
    for operation in OPERATIONS {
        let function = operation.name.split_once('/').unwrap().1;
        assert_eq!(function.replace('-', "_"), operation.tool);
        assert!(
            operation.description().len() > 10,
            "{} is not documented",
            operation.name
        );
    }
}

#[test]
fn every_field_of_a_request_is_a_parameter_or_a_listed_exception() {
    let official = official();
    for operation in OPERATIONS {
        let Some(tool) = official.get(operation.tool) else {
            continue;
        };
        let (_, fields, required) = request(tool);
        let mut ours: BTreeSet<_> = operation
            .function()
            .unwrap()
            .request()
            .iter()
            .map(|field| field.json.to_owned())
            .collect();
        for exception in operation.exceptions {
            ours.insert(exception.field().to_owned());
        }
        ours.retain(|name| !operation.newer.contains(&name.as_str()));
        assert_eq!(ours, fields.keys().cloned().collect(), "{}", operation.name);

        for field in operation.function().unwrap().request() {
            assert_eq!(
                !matches!(field.ty, Type::Option(_)),
                required.contains(field.json),
                "whether {} of {} is required",
                field.json,
                operation.name
            );
            assert!(
                !field.doc.is_empty(),
                "{} of {} is not documented",
                field.name,
                operation.name
            );
        }
        for exception in operation.exceptions {
            if let Exception::Constant(field, _) = exception {
                assert!(
                    !required.contains(*field),
                    "{field} is required of {}",
                    operation.name
                );
            }
        }
    }
}

#[test]
fn up_to_four_fields_are_parameters_and_more_are_one_record() {
    for operation in OPERATIONS.iter().filter(|operation| operation.is_typed()) {
        let function = operation.function().unwrap();
        let parameters = function.parameters.len();
        if matches!(
            function.parameters,
            [Field {
                name: "request",
                ..
            }]
        ) {
            assert!(function.request().len() > 4, "{}", operation.name);
        } else {
            assert!(parameters <= 4, "{}", operation.name);
        }
    }
}

#[test]
fn every_selector_names_a_field_of_the_request() {
    for operation in OPERATIONS {
        let fields: Vec<_> = operation.request().iter().map(|field| field.json).collect();
        for selector in operation.selectors {
            let field = &selector.argument();
            assert!(fields.contains(field), "{}: {field}", operation.name);
        }
        // Whatever names a project must say so, or a later scope would not see it.
        for field in fields
            .iter()
            .filter(|field| field.to_lowercase().ends_with("projectid"))
        {
            let of_project = [
                Selector::Project(field),
                Selector::ExcludedProject(field),
                Selector::AttachedProject(field),
            ];
            assert!(
                of_project
                    .iter()
                    .any(|selector| operation.selectors.contains(selector)),
                "{}: {field}",
                operation.name
            );
        }
    }
}

#[test]
fn the_read_that_shows_an_effect_is_about_what_was_written() {
    let mut shown = 0;
    for operation in OPERATIONS {
        let Some(effect) = operation.effect else {
            continue;
        };
        assert_ne!(operation.access, Access::Read, "{}", operation.name);
        let Some(read) = showing(effect) else {
            let named = matches!(effect, Effect::Creates { .. } | Effect::Removes { .. });
            assert!(!named, "{}", operation.name);
            continue;
        };
        shown += 1;
        assert_eq!(read.access, Access::Read, "{}", operation.name);
        for selector in read.selectors {
            assert!(operation.selectors.contains(selector), "{}", operation.name);
        }
        if let Effect::Creates { name, .. } = effect {
            let fields = operation.function().unwrap().request();
            assert!(fields.iter().any(|field| field.json == name), "{name}");
        }
    }
    assert_eq!(shown, 11);
}

/// Walks an official schema and the contract's type side by side.
struct Walk<'a> {
    root: &'a Value,
    /// Fields that the official schemas have, by our record.
    seen: &'a mut BTreeMap<&'static str, BTreeSet<String>>,
    /// Enumeration values that no case means.
    strangers: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn walk(&mut self, node: &Value, ty: &Type, path: &str) {
        for node in alternatives(self.root, node) {
            match ty {
                Type::Option(inner) => self.walk(node, inner, path),
                Type::List(inner) | Type::Entry(inner) => {
                    if let Some(items) = node.get("items") {
                        self.walk(items, inner, path);
                    }
                    match node.get("additionalProperties") {
                        Some(values @ Value::Object(_)) => {
                            let inner = if let Type::Entry(value) = inner {
                                value
                            } else {
                                inner
                            };
                            self.walk(values, inner, path);
                        }
                        _ => {
                            if let Type::List(Type::Record(record)) = ty
                                && node["properties"].is_object()
                                && record.name != "statistic"
                            {
                                // One record where the contract has a list, or an object by key.
                                self.record(node, record, path);
                            }
                        }
                    }
                }
                Type::Record(record) => self.record(node, record, path),
                Type::Variant(variant) => {
                    for value in node
                        .get("enum")
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten()
                    {
                        let text = value
                            .as_str()
                            .map_or_else(|| value.to_string(), str::to_owned);
                        if !variant.cases.iter().any(|case| case.means(&text)) {
                            self.strangers
                                .push(format!("{path}: {} has no case for {text:?}", variant.name));
                        }
                    }
                }
                Type::Bool
                | Type::U8
                | Type::U32
                | Type::S32
                | Type::F64
                | Type::String
                | Type::Json => {}
            }
        }
    }

    fn record(&mut self, node: &Value, record: &'static Record, path: &str) {
        let Some(properties) = node["properties"].as_object() else {
            return;
        };
        let seen = self.seen.entry(record.name).or_default();
        seen.extend(properties.keys().cloned());
        for field in record.fields {
            if let Some(node) = properties.get(field.json) {
                self.walk(node, &field.ty, &format!("{path}.{}", field.json));
            }
        }
    }
}

#[test]
fn every_enumeration_value_has_its_case_and_every_field_is_an_official_one() {
    let official = official();
    let (mut seen, mut strangers) = (BTreeMap::new(), Vec::new());
    for operation in OPERATIONS {
        let Some(tool) = official.get(operation.tool) else {
            continue;
        };
        let (root, fields, _) = request(tool);
        let mut walk = Walk {
            root,
            seen: &mut seen,
            strangers: &mut strangers,
        };
        for field in operation.function().unwrap().request() {
            if !operation
                .exceptions
                .iter()
                .any(|exception| exception.field() == field.json)
                && !operation.newer.contains(&field.json)
            {
                walk.walk(&fields[field.json], &field.ty, operation.tool);
            }
        }
        let root = &tool["outputSchema"];
        let mut walk = Walk {
            root,
            seen: &mut seen,
            strangers: &mut strangers,
        };
        let Some(result) = &operation.function().unwrap().result else {
            continue;
        };
        let mut node = root.clone();
        for step in operation.answer_path() {
            let alternatives = alternatives(root, &node);
            let next = alternatives.iter().find_map(|node| {
                if step.parse::<usize>().is_ok() {
                    node.get("items")
                } else {
                    node["properties"].get(step)
                }
            });
            node = next
                .unwrap_or_else(|| panic!("{} has no {step}", operation.tool))
                .clone();
        }
        walk.walk(&node, result, operation.tool);
    }
    assert_eq!(strangers, Vec::<String>::new());

    for (name, fields) in &seen {
        let rust = name
            .split('-')
            .map(|word| word.split_at(1))
            .map(|(first, rest)| first.to_uppercase() + rest)
            .collect::<String>();
        for field in shape::record(&rust).unwrap().fields {
            let official = fields.contains(field.json) || field.json == KEY;
            assert!(
                official || NOT_OFFICIAL.contains(&(name, field.name)),
                "{name}.{} is in no official schema",
                field.json
            );
        }
    }
    assert!(seen.len() > 40, "the walk met only {} records", seen.len());
}

/// A type's records, with those inside.
fn records(ty: &Type, found: &mut BTreeMap<&'static str, &'static Record>) {
    match ty {
        Type::Option(inner) | Type::List(inner) | Type::Entry(inner) => records(inner, found),
        Type::Record(record) if found.insert(record.name, *record).is_none() => {
            for field in record.fields {
                records(&field.ty, found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_number_has_one_unit_and_only_answers_are_converted() {
    let (mut sent, mut answered) = (BTreeMap::new(), BTreeMap::new());
    for function in shape::functions() {
        for parameter in function.parameters {
            records(&parameter.ty, &mut sent);
            let number = matches!(parameter.ty, Type::F64 | Type::Option(Type::F64));
            assert!(!number, "{} of {}", parameter.name, function.name);
        }
        if let Some(ty) = &function.result {
            records(ty, &mut answered);
        }
    }
    for (name, record) in sent.iter().chain(&answered) {
        for field in record.fields {
            let entries = UNITS
                .iter()
                .filter(|(of, _, fields)| of == name && fields.contains(&field.name));
            let listed = entries.count();
            assert!(listed < 2, "{name}.{} is listed twice", field.name);
            if matches!(field.ty, Type::F64 | Type::Option(Type::F64)) {
                assert_eq!(listed, 1, "{name}.{} has no unit", field.name);
            }
            match field.unit {
                // One that cannot be read is absent, and none is required.
                Unit::Percent => assert!(
                    matches!(field.ty, Type::Option(Type::F64)),
                    "{name}.{}",
                    field.name
                ),
                Unit::Labelled => assert!(
                    record.fields.iter().any(|field| field.json == "unit"),
                    "{name}.{}",
                    field.name
                ),
                _ => continue,
            }
            assert!(!sent.contains_key(name), "{name}.{} is sent", field.name);
        }
    }
}

#[test]
fn classes_are_ours_and_not_the_hints() {
    let official = official();
    for operation in OPERATIONS {
        let tool = official.get(operation.tool);
        if operation.access == Access::Read {
            assert!(operation.idempotent, "{} reads", operation.name);
        } else {
            assert!(
                tool.is_none_or(|tool| tool["annotations"]["readOnlyHint"] != true),
                "{} is called read-only",
                operation.name
            );
        }
    }
    // The official hints call these two idempotent; a second sending of either is an error.
    for tool in ["patch_file", "create_file"] {
        assert_eq!(official[tool]["annotations"]["idempotentHint"], true);
        assert!(!by_tool(tool).unwrap().idempotent);
    }
}

#[test]
fn schemas_are_valid_and_tell_good_from_bad() {
    for operation in OPERATIONS {
        let schemas = [operation.input_schema().clone(), operation.output_schema()];
        for schema in schemas.map(Value::Object) {
            assert!(
                jsonschema::draft202012::meta::is_valid(&schema),
                "{}",
                operation.name
            );
        }
    }
    for (tool, arguments, fits) in [
        (
            "read_compile",
            json!({ "projectId": 1, "compileId": "c" }),
            true,
        ),
        ("read_compile", json!({ "projectId": 1 }), false),
        (
            "read_compile",
            json!({ "projectId": "1", "compileId": "c" }),
            false,
        ),
        (
            "read_compile",
            json!({ "projectId": 1, "compileId": "c", "more": 1 }),
            false,
        ),
        (
            "create_backtest",
            json!({ "projectId": 1, "compileId": "c", "backtestName": "b", "parameters": { "a": 1 } }),
            true,
        ),
        (
            "upload_object",
            json!({ "organizationId": "o", "key": "k", "objectData": "d" }),
            true,
        ),
        (
            "upload_object",
            json!({ "organizationId": "o", "key": "k", "objectDataBase64": "ZA==" }),
            true,
        ),
        (
            "upload_object",
            json!({ "organizationId": "o", "key": "k" }),
            false,
        ),
        (
            "create_project",
            json!({ "name": "n", "language": "Py" }),
            true,
        ),
        (
            "create_live_command",
            json!({ "projectId": 1, "command": "halt" }),
            false,
        ),
        (
            "read_live_logs",
            json!({ "projectId": 1, "algorithmId": "a", "startLine": 0, "endLine": 9, "format": "json" }),
            true,
        ),
    ] {
        let schema = Value::Object(by_tool(tool).unwrap().input_schema().clone());
        assert_eq!(
            jsonschema::is_valid(&schema, &arguments),
            fits,
            "{tool} {arguments}"
        );
    }
}

#[test]
fn exports_of_live_logs_are_limited_as_quantconnect_documents_it() {
    for operation in OPERATIONS {
        let limit = (operation.tool == "export_live_logs").then_some(45);
        assert_eq!(operation.calls_per_half_hour, limit, "{}", operation.name);
    }
}

#[test]
fn the_answer_is_taken_out_by_its_path() {
    let create = by_tool("create_project").unwrap();
    assert_eq!(
        create.select(json!({ "projects": [{ "projectId": 7 }] })),
        Some(json!({ "projectId": 7 }))
    );
    assert_eq!(create.select(json!({ "projects": [] })), None);
    assert_eq!(create.select(json!({ "success": true })), None);
    let whole = by_tool("read_compile").unwrap();
    assert_eq!(
        whole.select(json!({ "state": "InQueue" })),
        Some(json!({ "state": "InQueue" }))
    );
}

#[test]
fn what_has_no_function_is_reached_by_raw_alone_and_takes_no_secret() {
    let untyped: Vec<_> = OPERATIONS
        .iter()
        .filter(|operation| !operation.is_typed())
        .collect();
    assert_eq!(untyped.len(), 22);
    let interfaces: BTreeSet<_> = shape::functions().iter().map(|it| it.interface).collect();
    for operation in untyped {
        assert!(operation.function().is_none(), "{}", operation.name);
        assert!(
            !interfaces.contains(operation.interface()),
            "{}",
            operation.name
        );
        let schema = Value::Object(operation.input_schema().clone());
        for field in operation.request() {
            assert!(
                field.doc.ends_with('.'),
                "{}: {}",
                operation.name,
                field.json
            );
            assert!(
                schema["properties"].get(field.json).is_some(),
                "{}",
                operation.name
            );
        }
        assert!(
            schema["properties"].get("token").is_none(),
            "{}",
            operation.name
        );
        let nested = json!({ "organizationId": "o", "name": "n", "chainedAgents": [
            { "agentId": 1, "step": 1, "agent": { "token": { "llmApiTokenUser": "s" } } },
        ] });
        assert!(
            !jsonschema::is_valid(&schema, &nested),
            "{}",
            operation.name
        );
    }
    let access = |tool: &str| by_tool(tool).unwrap().access;
    assert_eq!(access("create_agent_deployment"), Access::Trade);
    assert_eq!(access("prompt_agent_deployment"), Access::Trade);
    assert_eq!(access("stop_agent_deployment"), Access::Reduce);
    for tool in [
        "delete_agent",
        "delete_agent_task",
        "delete_agent_deployment",
    ] {
        assert_eq!(access(tool), Access::Destroy);
    }
    for tool in [
        "create_agent",
        "update_agent",
        "create_agent_task",
        "create_data_issue",
        "create_support_ticket",
    ] {
        assert_eq!(access(tool), Access::Write);
    }
}
