//! The compiled schemas of the official server, from the fixture.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

static OFFICIAL: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
    let fixture: Value = serde_json::from_str(include_str!(
        "../../../quantconnect/tests/fixtures/official-tools.json"
    ))
    .unwrap();
    fixture["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| {
            let name = tool["name"].as_str().unwrap().to_owned();
            (
                name,
                jsonschema::validator_for(&tool["outputSchema"]).unwrap(),
            )
        })
        .collect()
});

static OURS: LazyLock<BTreeMap<&'static str, Validator>> = LazyLock::new(|| {
    qchost_catalog::OPERATIONS
        .iter()
        .map(|operation| {
            let schema = Value::Object(operation.output_schema());
            (operation.tool, jsonschema::validator_for(&schema).unwrap())
        })
        .collect()
});

/// Checks an answer against both output schemas of its tool; against ours alone if the official server does not have it.
pub fn check(tool: &str, body: &Value) -> Result<(), String> {
    let official = OFFICIAL.get(tool).map(|validator| ("official", validator));
    for (whose, validator) in official.into_iter().chain([("our", &OURS[tool])]) {
        let faults: Vec<String> = validator
            .iter_errors(body)
            .take(3)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        if !faults.is_empty() {
            let faults: String = faults.join("; ").chars().take(1_500).collect();
            return Err(format!(
                "{tool}: does not fit {whose} output schema: {faults}"
            ));
        }
    }
    Ok(())
}
