//! For every request to every endpoint, the answer is the cloud's kind of answer, and the
//! emulator goes on.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use qchost_emulator::Emulator;
use serde_json::{Map, Value, json};

use crate::client::{Cloud, cloud};

/// Fields that endpoints read.
const FIELDS: [&str; 40] = [
    "projectId",
    "organizationId",
    "name",
    "newName",
    "content",
    "language",
    "description",
    "parameters",
    "files",
    "libraries",
    "libraryId",
    "patch",
    "compileId",
    "backtestId",
    "backtestName",
    "optimizationId",
    "start",
    "end",
    "count",
    "startLine",
    "endLine",
    "algorithmId",
    "target",
    "targetTo",
    "strategy",
    "constraints",
    "nodes",
    "nodeId",
    "nodeType",
    "parallelNodes",
    "estimatedCost",
    "versionId",
    "brokerage",
    "dataProviders",
    "command",
    "keys",
    "key",
    "path",
    "sentence",
    "criteria",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        (-2i64..200).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop_oneof![
            Just("Py"),
            Just("C#"),
            Just("max"),
            Just("main.py"),
            Just("/"),
            Just("")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned),
        1 => "[a-zA-Z-]{1,10}",
    ]
}

/// An endpoint with a body in which some fields are right.
fn request() -> impl Strategy<Value = (&'static str, Map<String, Value>, u8)> {
    let endpoints: Vec<&str> = Emulator::endpoints().collect();
    let fields = prop::collection::vec((field(), value()), 0..8);
    (prop::sample::select(endpoints), fields, any::<u8>())
        .prop_map(|(path, fields, right)| (path, fields.into_iter().collect(), right))
}

struct World {
    cloud: Cloud,
    right: [(&'static str, Value); 8],
}

impl World {
    async fn new() -> Self {
        let cloud = cloud().await;
        let project = cloud.project("code").await;
        let compile = cloud.built(project).await;
        let backtest = cloud.backtest(project, &compile).await;
        cloud.result(project, &backtest).await;
        let deployment = cloud
            .deployment(project, &compile, json!({"id": "QuantConnectBrokerage"}))
            .await;
        let right = [
            ("projectId", json!(project)),
            ("compileId", json!(compile)),
            ("backtestId", json!(backtest)),
            ("organizationId", json!(cloud.emulator.organization_id())),
            ("nodeId", deployment["nodeId"].clone()),
            ("brokerage", deployment["brokerage"].clone()),
            ("name", json!("main.py")),
            ("language", json!("Py")),
        ];
        Self { cloud, right }
    }

    async fn check(&self, path: &str, mut body: Map<String, Value>, right: u8) {
        for (bit, (field, value)) in self.right.iter().enumerate() {
            if right & (1 << bit) != 0 {
                body.insert((*field).to_owned(), value.clone());
            }
        }
        let body = Value::Object(body);
        let response = self.cloud.send(path, &body).await;
        let status = response.status().as_u16();
        assert!(status == 200 || status == 302, "{path} {body}: {status}");
        let text = response.text().await.unwrap();
        let answer = serde_json::from_str::<Value>(&text);
        // An export that is not refused is a file.
        if path.contains("/export/") && !answer.as_ref().is_ok_and(Value::is_object) {
            return;
        }
        let answer = answer.unwrap();
        let success = answer["success"].as_bool();
        assert!(success.is_some(), "{path} {body}: {answer}");
        if success == Some(false) {
            let errors = answer["errors"].as_array().unwrap();
            assert!(
                !errors.is_empty() && errors.iter().all(Value::is_string),
                "{path} {body}"
            );
        }
    }
}

#[test]
fn any_body_to_any_endpoint_is_answered() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    let config = Config {
        cases: 1_500,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&request(), |(path, body, right)| {
            runtime.block_on(world.check(path, body, right));
            Ok(())
        })
        .unwrap();
    // And it is still there.
    let account = runtime.block_on(world.cloud.ok("/account/read", json!({})));
    assert_eq!(account["success"], true);
}
