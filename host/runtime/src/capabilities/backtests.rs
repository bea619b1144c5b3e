//! Backtests: `quantconnect:api/backtests`.

use crate::contract::quantconnect::api::backtests::{
    Backtest, BacktestChartRequest, BacktestId, BacktestList, BacktestLogPage, BacktestLogsRequest,
    BacktestOrderFilter, Chart, ClosedTradePage, CompileId, Error, FilteredOrders, Host,
    InsightPage, OrderPage, ParameterSet, ProjectId, add_to_linker,
};

capability! {
    create_backtest(project_id: ProjectId, compile_id: CompileId, backtest_name: String, parameters: Option<ParameterSet>) -> Backtest;
    read_backtest(project_id: ProjectId, backtest_id: BacktestId) -> Backtest;
    list_backtests(project_id: ProjectId, include_statistics: Option<bool>) -> BacktestList;
    read_backtest_chart(request: BacktestChartRequest) -> Chart;
    read_backtest_orders(project_id: ProjectId, backtest_id: BacktestId, start: u32, end: u32) -> OrderPage;
    filter_backtest_orders(request: BacktestOrderFilter) -> FilteredOrders;
    read_backtest_insights(project_id: ProjectId, backtest_id: BacktestId, start: u32, end: u32) -> InsightPage;
    read_backtest_trades(project_id: ProjectId, backtest_id: BacktestId, start: u32, end: u32) -> ClosedTradePage;
    read_backtest_logs(request: BacktestLogsRequest) -> BacktestLogPage;
    read_backtest_report(project_id: ProjectId, backtest_id: BacktestId) -> String;
    update_backtest_tags(project_id: ProjectId, backtest_id: BacktestId, tags: Vec<String>) -> ();
    update_backtest(project_id: ProjectId, backtest_id: BacktestId, name: Option<String>, note: Option<String>) -> ();
    delete_backtest(project_id: ProjectId, backtest_id: BacktestId) -> ();
}
