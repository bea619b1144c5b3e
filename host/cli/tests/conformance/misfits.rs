//! Arguments that do not fit a tool, made from arguments that do and the tool's own schema.

use serde_json::{Map, Value, json};

/// One variation each: a required argument missing, an argument of another type, an argument that
/// does not exist. What the schema leaves open is left out.
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
