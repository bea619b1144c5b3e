//! An agent as an author writes one, and what a host sees of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use qchost_sdk::Guest as _;
use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What to add.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sum {
    /// The first number.
    first: u32,
    /// The second one.
    #[serde(default)]
    second: Option<u32>,
}

/// What came out.
#[derive(Serialize, JsonSchema)]
struct Total {
    /// The sum.
    total: u32,
}

/// What the operator sets.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Settings {
    /// The largest sum.
    limit: u32,
}

/// Adds numbers,
/// and counts events.
///
/// This paragraph is for readers of the source.
#[agent(name = "adder", version = "3.2.1", config = Settings)]
mod adder {
    use super::*;

    /// Add two numbers.
    ///
    /// The second one may be left out.
    #[action(read_only, idempotent)]
    fn add_up(sum: Sum) -> Result<Total, Failure> {
        let second = sum.second.unwrap_or(0);
        let total = sum.first.checked_add(second);
        let total = total.ok_or("the sum does not fit in 32 bits")?;
        Ok(Total { total })
    }

    /// Fail as a call to QuantConnect would.
    #[action(name = "fail", destructive)]
    fn failing() -> Result<(), Error> {
        Err(not_found())
    }

    /// Hear of two kinds of events.
    #[on("backtest-finished", "optimization-finished")]
    fn finished(event: Event) -> Result<(), Failure> {
        Err(Failure::failed(format!("{} {}", event.kind, event.subject)))
    }

    /// Hear of another.
    #[on("halted")]
    fn halted(_: Event) -> Result<(), Failure> {
        Ok(())
    }

    fn not_found() -> Error {
        Error::NotFound("project 7".into())
    }
}

/// An agent that takes its name and version from the crate.
#[agent]
mod nameless {
    use super::*;

    /// Do nothing.
    #[action]
    fn nothing() -> Result<(), Failure> {
        Ok(())
    }
}

use adder::Agent;

fn event(kind: &str) -> Event {
    Event {
        id: "1".into(),
        kind: kind.into(),
        subject: "7".into(),
        time: "2024-01-31T14:30:00Z".into(),
        data: "{}".into(),
    }
}

#[test]
fn the_description_comes_from_names_and_doc_comments() {
    let description = Agent::describe();
    assert_eq!(description.name, "adder");
    assert_eq!(description.version, "3.2.1");
    assert_eq!(description.summary, "Adds numbers, and counts events.");
    let [add, fail] = description.actions.as_slice() else {
        panic!("two actions");
    };
    assert_eq!(add.name, "add-up");
    assert_eq!(
        add.description,
        "Add two numbers.\n\nThe second one may be left out."
    );
    assert!(add.hints.read_only && add.hints.idempotent && !add.hints.destructive);
    assert_eq!(fail.name, "fail");
    assert!(fail.hints.destructive && !fail.hints.read_only && !fail.hints.idempotent);

    let nameless = nameless::Agent::describe();
    assert_eq!(nameless.name, "qchost-sdk");
    assert_eq!(nameless.version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn schemas_come_from_types() {
    let actions = Agent::describe().actions;
    let input: Value = serde_json::from_str(&actions[0].input_schema).unwrap();
    assert_eq!(input["type"], "object");
    assert_eq!(input["description"], "What to add.");
    assert_eq!(input["required"], json!(["first"]));
    assert_eq!(input["additionalProperties"], json!(false));
    assert_eq!(input["properties"]["first"]["type"], "integer");
    assert_eq!(
        input["properties"]["first"]["description"],
        "The first number."
    );
    let output: Value = serde_json::from_str(&actions[0].output_schema).unwrap();
    assert_eq!(output["required"], json!(["total"]));

    let settings = Agent::describe().config_schema.unwrap();
    let settings: Value = serde_json::from_str(&settings).unwrap();
    assert_eq!(settings["required"], json!(["limit"]));
    assert_eq!(settings["additionalProperties"], json!(false));
    assert_eq!(
        settings["properties"]["limit"]["description"],
        "The largest sum."
    );
    assert_eq!(nameless::Agent::describe().config_schema, None);

    let none: Value = serde_json::from_str(&actions[1].input_schema).unwrap();
    assert_eq!(none["type"], "object");
    assert_eq!(none["additionalProperties"], json!(false));
}

#[test]
fn an_action_runs_on_json() {
    let answer = Agent::invoke("add-up".into(), r#"{"first": 2, "second": 3}"#.into());
    assert_eq!(answer, Ok(r#"{"total":5}"#.into()));
    let answer = nameless::Agent::invoke("nothing".into(), "{}".into());
    assert_eq!(answer, Ok("null".into()));
}

#[test]
fn a_wrong_input_is_named_and_reaches_no_action() {
    for (input, word) in [
        ("", "EOF"),
        ("[", "EOF"),
        ("{}", "`first`"),
        (r#"{"first": -1}"#, "-1"),
        (r#"{"first": 1, "third": 1}"#, "`third`"),
        (r#"{"first": 1} trailing"#, "trailing"),
    ] {
        match Agent::invoke("add-up".into(), input.into()) {
            Err(Failure::InvalidInput(text)) => assert!(text.contains(word), "{input}: {text}"),
            other => panic!("{input}: {other:?}"),
        }
    }
    assert!(matches!(
        Agent::invoke("fail".into(), r#"{"what": 1}"#.into()),
        Err(Failure::InvalidInput(_))
    ));
}

#[test]
fn failures_keep_their_kind() {
    let overflow = format!(r#"{{"first": {0}, "second": {0}}}"#, u32::MAX);
    assert_eq!(
        Agent::invoke("add-up".into(), overflow),
        Err(Failure::Failed("the sum does not fit in 32 bits".into()))
    );
    assert_eq!(
        Agent::invoke("fail".into(), "{}".into()),
        Err(Failure::Capability(Error::NotFound("project 7".into())))
    );
    assert_eq!(
        Agent::invoke("add_up".into(), "{}".into()),
        Err(Failure::Unsupported(
            "this agent has no action \"add_up\"; it has add-up, fail".into()
        ))
    );
}

#[test]
fn an_event_reaches_its_handler() {
    assert_eq!(
        Agent::handle(event("optimization-finished")),
        Err(Failure::Failed("optimization-finished 7".into()))
    );
    assert_eq!(Agent::handle(event("halted")), Ok(()));
    assert_eq!(
        Agent::handle(event("deployed")),
        Err(Failure::Unsupported(
            "this agent has no handler for \"deployed\"; \
             it has backtest-finished, optimization-finished, halted"
                .into()
        ))
    );
}
