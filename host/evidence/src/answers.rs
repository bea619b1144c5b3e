//! What answers of QuantConnect say about trials.
//!
//! Invariant: an answer that is not understood as a whole is an error.

use std::collections::BTreeMap;

use qchost_catalog::host_calls::{LIST_BACKTESTS, LIST_OPTIMIZATIONS, READ_OPTIMIZATION};
use qchost_catalog::{Failure, Lifetime, Operation};
use serde_json::Value;

/// Maximum bytes of an id; real ones have 32.
const MAX_ID: usize = 128;

/// The backtests of a project.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Backtests {
    /// The ids of those that no optimisation started.
    pub(crate) alone: Vec<String>,
    /// How many each optimisation started, by its id.
    pub(crate) of_optimizations: BTreeMap<String, u32>,
}

/// The error for an answer that is not understood.
fn misfit(operation: &Operation, what: &str) -> Failure {
    Failure::UnexpectedResponse(format!("{}: {what}", operation.tool))
}

/// The id of a row.
fn id_of(operation: &Operation, row: &Value, field: &str) -> Result<String, Failure> {
    let id = row.get(field).and_then(Value::as_str);
    match id.filter(|id| (1..=MAX_ID).contains(&id.len())) {
        Some(id) => Ok(id.to_owned()),
        None => Err(misfit(operation, &format!("a row has no `{field}`"))),
    }
}

/// Reads the list of a project's backtests.
pub(crate) fn backtests(answer: &Value) -> Result<Backtests, Failure> {
    let operation = LIST_BACKTESTS;
    let rows = answer.get("backtests").and_then(Value::as_array);
    let rows = rows.ok_or_else(|| misfit(operation, "there is no list"))?;
    let listed = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let said = answer.get("count").and_then(Value::as_u64);
    if let Some(said) = said.filter(|said| *said > listed) {
        let what = format!("only {listed} of {said} backtests are listed");
        return Err(misfit(operation, &what));
    }
    let mut backtests = Backtests::default();
    for row in rows {
        let id = id_of(operation, row, "backtestId")?;
        match row.get("optimizationId") {
            None | Some(Value::Null) => backtests.alone.push(id),
            Some(Value::String(none)) if none.is_empty() => backtests.alone.push(id),
            Some(_) => {
                let optimization = id_of(operation, row, "optimizationId")?;
                let started = backtests.of_optimizations.entry(optimization).or_default();
                *started = started.saturating_add(1);
            }
        }
    }
    Ok(backtests)
}

/// Reads the list of a project's optimisations: their ids.
pub(crate) fn optimizations(answer: Value) -> Result<Vec<String>, Failure> {
    let operation = LIST_OPTIMIZATIONS;
    let rows = operation.select(answer);
    let rows = rows.as_ref().and_then(Value::as_array);
    let rows = rows.ok_or_else(|| misfit(operation, "there is no list"))?;
    let ids = rows
        .iter()
        .map(|row| id_of(operation, row, "optimizationId"));
    ids.collect()
}

/// Reads an optimisation: how many backtests it has started, and whether it has ended.
pub(crate) fn optimization(id: &str, answer: Value) -> Result<(u32, bool), Failure> {
    let operation = READ_OPTIMIZATION;
    let ended = match operation.lifetime {
        Lifetime::Proof(ending) => ending.of(id, &answer).is_some(),
        _ => false,
    };
    let one = operation.select(answer).unwrap_or_default();
    if one.get("optimizationId").and_then(Value::as_str) != Some(id) {
        return Err(misfit(operation, "the answer is about another one"));
    }
    let started = match one.get("backtests") {
        Some(Value::Object(started)) => started.len(),
        // PHP has no empty objects.
        Some(Value::Array(started)) => started.len(),
        _ => return Err(misfit(operation, "there are no `backtests`")),
    };
    Ok((u32::try_from(started).unwrap_or(u32::MAX), ended))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn backtests_of_optimisations_are_told_from_the_others() {
        let answer = json!({ "success": true, "count": 4, "backtests": [
            { "backtestId": "a", "optimizationId": null },
            { "backtestId": "b" },
            { "backtestId": "c", "optimizationId": "o" },
            { "backtestId": "d", "optimizationId": "o" },
        ] });
        let listed = backtests(&answer).unwrap();
        assert_eq!(listed.alone, ["a", "b"]);
        assert_eq!(
            listed.of_optimizations,
            BTreeMap::from([("o".to_owned(), 2)])
        );
    }

    #[test]
    fn a_list_that_is_not_whole_or_not_understood_is_an_error() {
        for answer in [
            json!({ "success": true }),
            json!({ "backtests": {} }),
            json!({ "backtests": [{ "backtestId": "a" }], "count": 2 }),
            json!({ "backtests": [{ "backtestId": "" }] }),
            json!({ "backtests": [{ "backtestId": 7 }] }),
            json!({ "backtests": [{ "backtestId": "a", "optimizationId": 7 }] }),
            json!({ "backtests": [{ "backtestId": "a".repeat(129) }] }),
        ] {
            assert!(backtests(&answer).is_err(), "{answer}");
        }
        for answer in [
            json!({ "success": true }),
            json!({ "optimizations": [{ "name": "x" }] }),
        ] {
            assert!(optimizations(answer.clone()).is_err(), "{answer}");
        }
    }

    #[test]
    fn an_optimisation_says_what_it_started_and_whether_that_was_all() {
        let answer = |status: &str, backtests: Value| {
            let one = json!({ "optimizationId": "o", "status": status, "backtests": backtests });
            json!({ "success": true, "optimization": one })
        };
        let three = json!({ "1": {}, "2": {}, "3": {} });
        for (answer, found) in [
            (answer("running", three.clone()), (3, false)),
            (answer("completed", three.clone()), (3, true)),
            (answer("aborted", three.clone()), (3, true)),
            (answer("new", json!([])), (0, false)),
        ] {
            assert_eq!(optimization("o", answer).unwrap(), found);
        }
        for wrong in [answer("completed", Value::Null), json!({ "success": true })] {
            assert!(optimization("o", wrong).is_err());
        }
        assert!(optimization("p", answer("completed", three)).is_err());
    }
}
