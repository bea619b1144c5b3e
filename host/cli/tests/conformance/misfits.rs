//! Arguments that violate the schema of a tool, derived from valid ones.

use serde_json::{Map, Value, json};

/// Variations of valid arguments, each with one fault: an unknown argument, a missing one that is required,
/// or one of another type.
pub fn of(schema: &Map<String, Value>, good: &Map<String, Value>) -> Vec<Value> {
    let with = |name: &str, value: Value| {
        let mut arguments = good.clone();
        arguments.insert(name.to_owned(), value);
        Value::Object(arguments)
    };
    let mut misfits = vec![with("noSuchArgument", json!(1))];
    for name in good.keys() {
        if required(schema).any(|required| required == name) {
            let mut arguments = good.clone();
            arguments.remove(name);
            misfits.push(Value::Object(arguments));
        }
        match schema["properties"][name]["type"].as_str() {
            Some("integer") => {
                misfits.push(with(name, json!("seven")));
                misfits.push(with(name, json!(1.5)));
                misfits.push(with(name, json!(-1)));
            }
            Some("number" | "boolean" | "array" | "object") => {
                misfits.push(with(name, json!("seven")));
            }
            Some("string") => misfits.push(with(name, json!({ "seven": 7 }))),
            _ => misfits.push(with(name, json!([[7]]))),
        }
    }
    misfits
}

fn required(schema: &Map<String, Value>) -> impl Iterator<Item = &str> {
    schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
