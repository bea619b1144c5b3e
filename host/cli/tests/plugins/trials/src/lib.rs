//! trials: a test agent. It starts optimisations, and counts the trials of projects.

use qchost_sdk::optimizations::{
    Extremum, NodeType, OptimizationParameter, OptimizationRequest, Strategy, TargetStatistic,
};
use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// A search of a grid.
#[derive(Deserialize, JsonSchema)]
struct Search {
    /// The project's id.
    project: u32,
    /// A compile of the project.
    compile: String,
    /// How many values of the parameter `fast` to try.
    fast: u32,
    /// How many values of the parameter `slow` to try.
    slow: u32,
}

/// A project.
#[derive(Deserialize, JsonSchema)]
struct Project {
    /// The project's id.
    project: u32,
}

/// How often the strategy of a project was tried.
#[derive(Serialize, JsonSchema)]
struct Counted {
    /// All trials.
    count: u32,
    /// Backtests among them.
    backtests: u32,
    /// Combinations of optimisations among them.
    combinations: u32,
    /// Those of other projects.
    inherited: u32,
}

/// Starts optimisations, and counts trials.
#[agent(name = "trials")]
mod agent {
    use super::*;

    /// Start an optimisation; its id.
    #[action]
    fn search(search: Search) -> Result<String, Failure> {
        let request = OptimizationRequest {
            project_id: search.project,
            name: "search".to_owned(),
            target: TargetStatistic::SharpeRatio,
            target_to: Extremum::Maximum,
            target_value: None,
            strategy: Strategy::GridSearch,
            compile_id: search.compile,
            parameters: vec![axis("fast", search.fast), axis("slow", search.slow)],
            constraints: None,
            estimated_cost: 1.0,
            node_type: NodeType::O2x8,
            parallel_nodes: 1,
        };
        Ok(optimizations::create_optimization(&request)?.optimization_id)
    }

    /// Count the trials of a project.
    #[action(read_only)]
    fn count(project: Project) -> Result<Counted, Failure> {
        let trials = evidence::count_trials(project.project)?;
        Ok(Counted {
            count: trials.count,
            backtests: trials.backtests,
            combinations: trials.combinations,
            inherited: trials.inherited,
        })
    }
}

/// A parameter with this number of values.
fn axis(name: &str, values: u32) -> OptimizationParameter {
    OptimizationParameter {
        name: name.to_owned(),
        min: 1.0,
        max: f64::from(values),
        step: 1.0,
        min_step: None,
    }
}
