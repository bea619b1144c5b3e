//! Live trading: `quantconnect:api/live`.

use crate::contract::quantconnect::api::live::{
    Authorization, AuthorizedBrokerage, Chart, ClosedTradePage, DeployId, Deployment, Error, Host,
    InsightPage, Launch, LiveAlgorithm, LiveChartRequest, LiveDetails, LiveStatusFilter,
    LiveSummary, LogPage, LogSearch, OrderPage, Portfolio, ProjectId, add_to_linker,
};

capability! {
    authorize_connection(brokerage: AuthorizedBrokerage) -> Authorization;
    create_live_algorithm(request: Deployment) -> Launch;
    read_live_algorithm(project_id: ProjectId, deploy_id: Option<DeployId>) -> LiveAlgorithm;
    read_live_details(project_id: ProjectId, deploy_id: Option<DeployId>) -> LiveDetails;
    list_live_algorithms(project_id: Option<ProjectId>, status: Option<LiveStatusFilter>) -> Vec<LiveSummary>;
    list_latest_live_algorithms(project_id: Option<ProjectId>, status: Option<LiveStatusFilter>) -> Vec<LiveSummary>;
    read_live_chart(request: LiveChartRequest) -> Chart;
    read_live_logs(project_id: ProjectId, algorithm_id: DeployId, start_line: u32, end_line: u32) -> LogPage;
    search_live_logs(request: LogSearch) -> LogPage;
    read_live_portfolio(project_id: ProjectId) -> Portfolio;
    read_live_orders(project_id: ProjectId, start: u32, end: u32) -> OrderPage;
    read_live_trades(project_id: ProjectId, deploy_id: Option<DeployId>, start: u32, end: u32) -> ClosedTradePage;
    read_live_insights(project_id: ProjectId, start: Option<u32>, end: u32, algorithm_id: Option<DeployId>) -> InsightPage;
    stop_live_algorithm(project_id: ProjectId) -> ();
    liquidate_live_algorithm(project_id: ProjectId) -> ();
}
