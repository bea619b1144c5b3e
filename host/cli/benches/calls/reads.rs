//! What is read in `calls`, and the plugins that read it.

use serde_json::{Map, Value, json};

use qchost_testing::Guest;

/// Calls in one invocation, which is then left out of the figure.
pub const CALLS: u32 = 100;

/// A read that is made: a small answer, or one with statistics and a chart's points to turn into records.
pub struct Read {
    pub name: &'static str,
    pub tool: &'static str,
    pub arguments: Map<String, Value>,
    /// A plugin of that name makes it `CALLS` times.
    pub guest: Vec<u8>,
}

impl Read {
    pub fn backtest(project: &Value, id: &str) -> Self {
        let arguments = json!({ "projectId": project, "backtestId": id });
        let length = id.len();
        let call = format!("(i32.const {project}) (i32.const 4096) (i32.const {length})");
        Self {
            name: "read-backtest",
            tool: "read_backtest",
            arguments: arguments.as_object().unwrap().clone(),
            guest: often("backtests", "read-backtest", "i32 i32 i32", &call)
                .more(&format!("(data (i32.const 4096) \"{id}\")"))
                .build(),
        }
    }

    pub fn project(project: &Value) -> Self {
        let arguments = json!({ "projectId": project });
        let call = format!("(i32.const 1) (i32.const {project})") + &" (i32.const 0)".repeat(4);
        Self {
            name: "read-project",
            tool: "read_project",
            arguments: arguments.as_object().unwrap().clone(),
            guest: often("projects", "read-project", "i32 i32 i32 i32 i32 i32", &call).build(),
        }
    }
}

/// A guest that calls a function `CALLS` times, each answer over the last one.
fn often(interface: &str, function: &str, parameters: &str, arguments: &str) -> Guest {
    let interface = format!("quantconnect:api/{interface}@0.1.0");
    let call = format!("(call $read {arguments} (i32.const 2048))");
    Guest::often(CALLS, &call).import(
        &format!("import {interface};"),
        &format!("(import \"{interface}\" \"{function}\" (func $read (param {parameters} i32)))"),
    )
}
