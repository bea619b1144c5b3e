//! Optimisations: create, read as prose, list and delete.

use std::sync::Arc;

use serde_json::{Value, json};

use super::compile::{built, project_of};
use super::rest;
use super::workspace::Workspace;
use crate::services::answer::{Answer, Reply, fields};
use crate::services::arguments::Arguments;
use crate::services::optimizations::{self, STRATEGY};
use crate::store::State;

/// The smallest node, if the call names none.
const NODE: &str = "O2-8";

/// Compiles, and queues an optimisation. There is no estimate beforehand.
pub(super) async fn create(workspace: Arc<Workspace>, arguments: Arguments) -> Answer {
    let project = project_of(&arguments)?;
    let compile = built(&workspace.cloud, &project).await?;
    let mut asked = fields(json!({
        "compileId": compile,
        "strategy": STRATEGY,
        "nodeType": NODE,
        "parallelNodes": 1,
        "estimatedCost": 0,
    }));
    asked.extend(arguments.fields);
    let asked = rest::arguments(Value::Object(asked));
    let mut state = workspace.cloud.state();
    let created = rest::answered(optimizations::create(&workspace.cloud, &mut state, &asked))?;
    let created = created.get("optimizations").and_then(|all| all.get(0));
    let id = created.and_then(|optimization| optimization.get("optimizationId"));
    Reply::success(json!({"optimizationId": id, "projectId": project}))
}

/// A reading of the results in words; the table of the backtests is not in it.
pub(super) fn read(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let read = rest::answered(optimizations::read(&workspace.cloud, state, arguments))?;
    let id = arguments.text("optimizationId")?;
    let optimization = read.get("optimization");
    let text = |name: &str| {
        let value = optimization.and_then(|optimization| optimization.get(name));
        value.and_then(Value::as_str).unwrap_or_default()
    };
    let counted = |name: &str| {
        let counts = optimization.and_then(|optimization| optimization.get("runtimeStatistics"));
        let count = counts.and_then(|counts| counts.get(name)?.as_str());
        count.unwrap_or("0").to_owned()
    };
    let status = text("status");
    let (total, completed, failed) = (counted("Total"), counted("Completed"), counted("Failed"));
    let mut interpretation = format!(
        "The optimization {} is {status}: of {total} backtests, {completed} completed and {failed} failed.",
        text("name")
    );
    let stored = state.optimizations.iter().find(|it| it.id == id);
    let best = stored.and_then(|stored| stored.best(&state.backtests));
    if let Some(best) = best {
        let sharpe = best.portfolio_statistic("sharpeRatio");
        let sharpe = sharpe.and_then(Value::as_f64).unwrap_or_default();
        let parameters = best.parameters.iter();
        let parameters: Vec<String> = parameters
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        interpretation.push_str(&format!(
            " The best one ran with {} and has a Sharpe ratio of {sharpe:.2}. \
             These words are the emulator's, from its model and not from LEAN.",
            parameters.join(", ")
        ));
    }
    Reply::success(json!({
        "optimizationId": id,
        "status": status,
        "interpretation": interpretation,
    }))
}

pub(super) fn list(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    optimizations::list(&workspace.cloud, state, arguments)
}

pub(super) fn delete(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    optimizations::delete(&workspace.cloud, state, arguments)
}
