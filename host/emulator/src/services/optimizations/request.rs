//! Reads a request for an optimization: the grid, the target, the constraints and the nodes.
//!
//! Both encodings of the cloud's clients are read: JSON, and the form of the `lean` command
//! line, whose names differ (`key` for `name`, `target-value` for `targetValue`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::services::answer::Refusal;
use crate::services::arguments::{Arguments, number_of};
use crate::store::limits;
use crate::store::optimization::{Axis, Constraint, NodeType, SearchPlan, Target};

/// The only strategy that the API documents.
pub(crate) const STRATEGY: &str =
    "QuantConnect.Optimizer.Strategies.GridSearchOptimizationStrategy";

/// Reads the fields that an estimate and a creation share; `complete` also requires
/// those of a creation.
pub(super) fn plan_of(arguments: &Arguments, complete: bool) -> Result<SearchPlan, Refusal> {
    arguments.filled_text("name")?;
    let target = target_of(arguments.text("target")?, "target")?;
    let maximize = match arguments.text("targetTo")? {
        "max" => true,
        "min" => false,
        _ => return Err(Refusal::invalid("targetTo", "'max' or 'min'")),
    };
    // The command line sends an empty string for no value.
    let target_value = match arguments.get("targetValue") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(_) => Some(arguments.number("targetValue")?),
    };
    if arguments.text("strategy")? != STRATEGY {
        return Err(Refusal::invalid("strategy", STRATEGY));
    }
    let axes = arguments.list("parameters")?.iter().map(axis_of);
    let axes: Vec<Axis> = axes.collect::<Result<_, _>>()?;
    let constraints = arguments.optional("constraints", Arguments::list)?;
    let constraints = constraints.unwrap_or_default().iter().map(constraint_of);
    let (node, parallel, estimated_cost) = if complete {
        let node = NodeType::named(arguments.text("nodeType")?)
            .ok_or_else(|| Refusal::invalid("nodeType", "'O2-8', 'O4-12' or 'O8-16'"))?;
        let limit = node.max_parallel;
        let parallel = u32::try_from(arguments.integer("parallelNodes")?)
            .ok()
            .filter(|count| (1..=limit).contains(count));
        let parallel = parallel.ok_or_else(|| {
            Refusal::invalid("parallelNodes", &format!("a number from 1 to {limit}"))
        })?;
        let cost = arguments.number("estimatedCost")?;
        if cost < 0.0 {
            return Err(Refusal::invalid("estimatedCost", "a number not below 0"));
        }
        (node, parallel, cost)
    } else {
        (NodeType::SMALL, 1, 0.0)
    };
    Ok(SearchPlan {
        target,
        maximize,
        target_value,
        constraints: constraints.collect::<Result<_, _>>()?,
        combinations: grid(&axes)?,
        axes,
        node,
        parallel,
        estimated_cost,
    })
}

fn target_of(path: &str, field: &str) -> Result<Target, Refusal> {
    Target::named(path)
        .ok_or_else(|| Refusal::invalid(field, "one of the documented target statistics"))
}

fn constraint_of(item: &Value) -> Result<Constraint, Refusal> {
    let invalid = |what: &str| Refusal::invalid("constraints", what);
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let operator = text("operator").unwrap_or_default();
    if !Constraint::is_operator(operator) {
        return Err(invalid("a documented operator for each constraint"));
    }
    let value = item.get("targetValue").or_else(|| item.get("target-value"));
    Ok(Constraint {
        target: target_of(text("target").unwrap_or_default(), "constraints")?,
        operator: operator.to_owned(),
        value: value
            .and_then(number_of)
            .ok_or_else(|| invalid("a targetValue for each constraint"))?,
    })
}

fn axis_of(item: &Value) -> Result<Axis, Refusal> {
    let invalid = |what: &str| Refusal::invalid("parameters", what);
    let name = item.get("name").or_else(|| item.get("key"));
    let name = name.and_then(Value::as_str).unwrap_or_default();
    if name.trim().is_empty() || name.chars().count() > limits::NAME_LENGTH {
        return Err(invalid("a name for each parameter"));
    }
    let number = |field: &str| {
        item.get(field)
            .and_then(number_of)
            .ok_or_else(|| invalid("numbers min, max and step for each parameter"))
    };
    let axis = Axis {
        name: name.to_owned(),
        min: number("min")?,
        max: number("max")?,
        step: number("step")?,
        min_step: item.get("minStep").and_then(number_of),
    };
    if axis.step <= 0.0 || axis.max < axis.min {
        return Err(invalid("a step above 0 and a max not below min"));
    }
    Ok(axis)
}

fn grid(axes: &[Axis]) -> Result<Vec<BTreeMap<String, String>>, Refusal> {
    if axes.is_empty() {
        return Err(Refusal::invalid("parameters", "at least one parameter"));
    }
    let limit = limits::COMBINATIONS;
    let too_many = || Refusal::because(format!("The grid has more than {limit} combinations"));
    let mut combinations = vec![BTreeMap::new()];
    for axis in axes {
        if combinations
            .iter()
            .any(|point| point.contains_key(&axis.name))
        {
            return Err(Refusal::invalid("parameters", "each parameter once"));
        }
        let values = axis.values().ok_or_else(too_many)?;
        if combinations.len().saturating_mul(values.len()) > limit {
            return Err(too_many());
        }
        combinations = combinations
            .iter()
            .flat_map(|point| {
                values.iter().map(|value| {
                    let mut point = point.clone();
                    point.insert(axis.name.clone(), value.clone());
                    point
                })
            })
            .collect();
    }
    Ok(combinations)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn any_axis_ends(min in any::<f64>(), max in any::<f64>(), step in any::<f64>()) {
            let item = json!({"name": "p", "min": min, "max": max, "step": step});
            if let Ok(axis) = axis_of(&item) {
                let _ = axis.values();
            }
        }
    }
}
