//! `optimizations`: estimated, run until it ends, renamed, aborted, deleted.

use qchost_sdk::optimizations::{
    EstimateRequest, Extremum, NodeType, OptimizationParameter, OptimizationRequest,
    OptimizationStatus, Strategy, TargetStatistic,
};
use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found, unfit};
use crate::setup;

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let built = setup::built("optimizations");
    let (project, compile) =
        checks.answer("create-optimization", "has a build", built, |_| true)?;
    let request = |name: &str, max: f64| OptimizationRequest {
        project_id: project,
        name: name.to_owned(),
        target: TargetStatistic::SharpeRatio,
        target_to: Extremum::Maximum,
        target_value: None,
        strategy: Strategy::GridSearch,
        compile_id: compile.clone(),
        parameters: vec![axis(max)],
        constraints: None,
        estimated_cost: 1.0,
        node_type: NodeType::O2x8,
        parallel_nodes: 2,
    };

    estimate(checks, project, &compile)?;

    let created = optimizations::create_optimization(&request("one", 4.0));
    let begun = checks.answer("create-optimization", "gives an id", created, |it| {
        !it.optimization_id.is_empty() && it.name.as_deref() == Some("one")
    })?;
    let id = begun.optimization_id;
    let refused = optimizations::create_optimization(&request("none", 2.0));
    checks.refusal(
        "create-optimization",
        "refuses an end before the start",
        refused,
        unfit,
    );

    let read = |id: &str| optimizations::read_optimization(id);
    let ended = setup::until("the optimisation did not end", || {
        Ok(Some(read(&id)?).filter(|it| it.status == Some(OptimizationStatus::Completed)))
    });
    checks.answer(
        "read-optimization",
        "ends with its backtests",
        ended,
        |it| {
            it.project_id == project
                && it.optimization_target == Some(TargetStatistic::SharpeRatio)
                && it.runtime_statistic("Completed") == Some(2.0)
                && it.backtests.len() == 2
                && it.backtests.iter().all(|it| {
                    it.statistic("Sharpe Ratio").is_some_and(f64::is_finite)
                        && it.parameter_set.iter().any(|(name, _)| name == "fast")
                })
        },
    )?;
    checks.refusal(
        "read-optimization",
        "does not know an id",
        read("none"),
        not_found,
    );

    checks.answer(
        "read-optimization-analysis",
        "says how many backtests there are",
        optimizations::read_optimization_analysis(&id),
        |it| {
            it.status == Some(OptimizationStatus::Completed)
                && it.analysis.as_ref().is_some_and(|it| {
                    it.backtest_count_total == Some(2) && it.interpretation.is_some()
                })
        },
    )?;
    checks.refusal(
        "read-optimization-analysis",
        "does not know an id",
        optimizations::read_optimization_analysis("none"),
        not_found,
    );

    let renamed = optimizations::update_optimization(&id, "renamed");
    checks.answer("update-optimization", "succeeds", renamed, |()| true)?;
    checks.answer(
        "list-optimizations",
        "contains it",
        optimizations::list_optimizations(project),
        |it| {
            it.iter().any(|it| {
                it.optimization_id == id
                    && it.name.as_deref() == Some("renamed")
                    && it.sharpe_ratio.is_some()
            })
        },
    )?;

    let long = optimizations::create_optimization(&request("long", 200.0));
    let long = checks
        .answer("abort-optimization", "has one that runs", long, |_| true)?
        .optimization_id;
    checks.answer(
        "abort-optimization",
        "succeeds",
        optimizations::abort_optimization(&long),
        |()| true,
    )?;
    checks.answer("abort-optimization", "shows in a read", read(&long), |it| {
        it.status == Some(OptimizationStatus::Aborted)
    })?;
    let again = optimizations::abort_optimization(&long);
    checks.refusal("abort-optimization", "refuses a second time", again, |it| {
        matches!(it, Error::Rejected(_))
    });

    let delete = || optimizations::delete_optimization(&id);
    checks.answer("delete-optimization", "succeeds", delete(), |()| true)?;
    checks.refusal(
        "delete-optimization",
        "leaves nothing to delete",
        delete(),
        not_found,
    );
    Some(())
}

fn estimate(checks: &mut Checks, project: u32, compile: &str) -> Option<()> {
    let request = |project: u32| EstimateRequest {
        project_id: project,
        name: "estimate".into(),
        target: TargetStatistic::SharpeRatio,
        target_to: Extremum::Maximum,
        target_value: None,
        strategy: Strategy::GridSearch,
        compile_id: Some(compile.to_owned()),
        parameters: vec![axis(4.0)],
        constraints: None,
    };
    let function = "estimate-optimization-time";
    let estimate = optimizations::estimate_optimization_time(&request(project));
    checks.answer(function, "says how long", estimate, |it| {
        it.time.is_some_and(|it| it > 0.0)
    })?;
    let unknown = optimizations::estimate_optimization_time(&request(1));
    checks.refusal(function, "does not know a project", unknown, not_found);
    Some(())
}

/// The values of `fast`: from 3, in steps of 1.
fn axis(max: f64) -> OptimizationParameter {
    OptimizationParameter {
        name: "fast".into(),
        min: 3.0,
        max,
        step: 1.0,
        min_step: None,
    }
}
