//! Optimisations: `quantconnect:api/optimizations`.

use crate::contract::quantconnect::api::optimizations::{
    AnalyzedOptimization, Error, Estimate, EstimateRequest, Host, Optimization, OptimizationId,
    OptimizationRequest, OptimizationSummary, ProjectId, add_to_linker,
};

capability! {
    estimate_optimization_time(request: EstimateRequest) -> Estimate;
    create_optimization(request: OptimizationRequest) -> OptimizationSummary;
    read_optimization(optimization_id: OptimizationId) -> Optimization;
    read_optimization_analysis(optimization_id: OptimizationId) -> AnalyzedOptimization;
    list_optimizations(project_id: ProjectId) -> Vec<OptimizationSummary>;
    update_optimization(optimization_id: OptimizationId, name: String) -> ();
    abort_optimization(optimization_id: OptimizationId) -> ();
    delete_optimization(optimization_id: OptimizationId) -> ();
}
