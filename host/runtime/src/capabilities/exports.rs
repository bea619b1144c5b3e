//! Exports: `quantconnect:api/exports`.

use crate::contract::quantconnect::api::exports::{
    BacktestId, DeployId, Error, Exported, Host, ProjectId, add_to_linker,
};

capability! {
    export_backtest_orders(project_id: ProjectId, backtest_id: BacktestId) -> Exported;
    export_backtest_trades(project_id: ProjectId, backtest_id: BacktestId) -> Exported;
    export_backtest_insights(project_id: ProjectId, backtest_id: BacktestId) -> Exported;
    export_backtest_logs(project_id: ProjectId, backtest_id: BacktestId) -> Exported;
    export_live_orders(project_id: ProjectId, start: Option<u32>, end: Option<u32>) -> Exported;
    export_live_trades(project_id: ProjectId, start: Option<u32>) -> Exported;
    export_live_insights(project_id: ProjectId, deploy_id: DeployId) -> Exported;
    export_live_logs(project_id: ProjectId, deploy_id: DeployId) -> Exported;
}
