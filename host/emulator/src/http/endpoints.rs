//! The table of endpoints: each path of the API with its access and its handler.

use std::sync::Arc;

use crate::services::answer::{Answer, LaterAnswer};
use crate::services::arguments::Arguments;
use crate::services::cloud::Cloud;
use crate::services::{
    agents, ai, backtests, collaborators, compile, connections, exports, files, live, nodes,
    object_store, optimizations, organizations, projects, support,
};
use crate::store::State;

/// The path below which the API is served.
pub(crate) const BASE: &str = "/api/v2";

/// The function that answers an endpoint.
pub(super) enum Handler {
    /// Answers at once, with the state locked.
    Now(fn(&Arc<Cloud>, &mut State, &Arguments) -> Answer),
    /// Waits for work on another thread, and locks the state before and after.
    Later(fn(Arc<Cloud>, Arguments) -> LaterAnswer),
}

/// How an endpoint may be called.
#[derive(PartialEq, Eq)]
pub(super) enum Access {
    /// GET or POST, authenticated.
    Read,
    /// POST, authenticated.
    Write,
    /// GET by a browser, which has no API credentials; POST authenticated.
    Browser,
}

pub(super) struct Endpoint {
    /// Below [`BASE`].
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) handler: Handler,
}

/// The endpoint at a path below [`BASE`].
pub(super) fn endpoint(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
}

/// Every path of the API, such as `/projects/read`.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    ENDPOINTS.iter().map(|endpoint| endpoint.path)
}

/// The handler of an endpoint, from the function that answers it.
macro_rules! handler {
    (Now $service:path) => {
        Handler::Now($service)
    };
    (Later $service:path) => {
        Handler::Later(|cloud, arguments| Box::pin($service(cloud, arguments)))
    };
}

/// Keeps the table at one line an endpoint.
macro_rules! endpoints {
    ($($access:ident $handler:ident $path:literal => $service:path,)*) => {
        const ENDPOINTS: &[Endpoint] = &[$(Endpoint {
            path: $path,
            access: Access::$access,
            handler: handler!($handler $service),
        },)*];
    };
}

endpoints! {
    Read Now "/authenticate" => organizations::authenticate,
    Read Now "/account/read" => organizations::account,
    Read Now "/user/read" => organizations::user,
    Read Now "/organizations/list" => organizations::list,
    Read Now "/organizations/read" => organizations::read,
    Read Now "/organizations/encryption/keys/list" => organizations::encryption_keys,
    Write Now "/organizations/support/tickets/create" => support::create_ticket,
    Read Now "/organizations/support/tickets/read" => support::read_ticket,
    Read Now "/organizations/support/tickets/list" => support::list_tickets,
    Write Now "/community/data-library/issues/create" => support::create_issue,
    Read Now "/community/data-library/issues/list" => support::list_issues,
    Write Now "/agents/create" => agents::create,
    Read Now "/agents/read" => agents::read,
    Write Now "/agents/update" => agents::update,
    Write Now "/agents/delete" => agents::delete,
    Read Now "/agents/list" => agents::list,
    Write Now "/agents/tasks/create" => agents::create_task,
    Read Now "/agents/tasks/read" => agents::read_task,
    Write Now "/agents/tasks/update" => agents::update_task,
    Write Now "/agents/tasks/delete" => agents::delete_task,
    Read Now "/agents/tasks/list" => agents::list_tasks,
    Write Now "/agents/deployments/create" => agents::deploy,
    Read Now "/agents/deployments/read" => agents::read_deployment,
    Write Now "/agents/deployments/prompt" => agents::prompt,
    Read Now "/agents/deployments/list" => agents::list_deployments,
    Write Now "/agents/deployments/stop" => agents::stop,
    Write Now "/agents/deployments/delete" => agents::delete_deployment,
    Read Now "/agents/deployments/conversation/read" => agents::conversation,
    Read Now "/lean/versions/read" => organizations::versions,
    Read Now "/lean/environments/read" => organizations::environments,
    Read Now "/services/terminal-news" => organizations::news,
    Read Now "/modules/list" => organizations::modules,
    Read Now "/modules/read" => organizations::not_offered,
    Read Now "/market/data/list" => organizations::data_sets,
    Read Now "/data/list" => organizations::data_files,
    Read Now "/data/prices" => organizations::data_prices,
    Read Now "/data/read" => organizations::not_offered,
    Write Now "/projects/create" => projects::create,
    Read Now "/projects/read" => projects::read,
    Write Now "/projects/update" => projects::update,
    Write Now "/projects/delete" => projects::delete,
    Write Now "/projects/library/create" => projects::add_library,
    Write Now "/projects/library/delete" => projects::remove_library,
    Write Now "/projects/collaboration/create" => collaborators::create,
    Read Now "/projects/collaboration/read" => collaborators::read,
    Write Now "/projects/collaboration/update" => collaborators::update,
    Write Now "/projects/collaboration/delete" => collaborators::delete,
    Write Now "/projects/collaboration/lock/acquire" => collaborators::lock,
    Read Now "/projects/nodes/read" => nodes::read,
    Write Now "/projects/nodes/update" => nodes::update,
    Read Now "/nodes/read" => nodes::organization,
    Write Now "/files/create" => files::create,
    Read Now "/files/read" => files::read,
    Write Now "/files/update" => files::update,
    Write Now "/files/patch" => files::apply_patch,
    Write Now "/files/delete" => files::delete,
    Write Later "/compile/create" => compile::create,
    Read Now "/compile/read" => compile::read,
    Write Now "/backtests/create" => backtests::create,
    Read Now "/backtests/read" => backtests::read,
    Read Now "/backtests/list" => backtests::list,
    Write Now "/backtests/update" => backtests::update,
    Write Now "/backtests/delete" => backtests::delete,
    Read Now "/backtests/chart/read" => backtests::chart,
    Read Now "/backtests/orders/read" => backtests::orders,
    Read Now "/backtests/read/insights" => backtests::insights,
    Read Now "/backtests/read/log" => backtests::log,
    Read Now "/backtests/read/report" => backtests::report,
    Read Now "/backtests/trades/read" => backtests::trades,
    Write Now "/backtests/tags/update" => backtests::update_tags,
    Read Now "/backtests/export/orders" => exports::orders,
    Read Now "/backtests/export/trades" => exports::trades,
    Read Now "/backtests/export/insights" => exports::insights,
    Read Now "/backtests/export/logs" => exports::logs,
    Read Now "/optimizations/estimate" => optimizations::estimate,
    Write Now "/optimizations/create" => optimizations::create,
    Read Now "/optimizations/read" => optimizations::read,
    Read Now "/optimizations/list" => optimizations::list,
    Write Now "/optimizations/update" => optimizations::update,
    Write Now "/optimizations/abort" => optimizations::abort,
    Write Now "/optimizations/delete" => optimizations::delete,
    Write Now "/live/create" => live::create,
    Read Now "/live/read" => live::read,
    Read Now "/live/list" => live::list,
    Read Now "/live/chart/read" => live::chart,
    Read Now "/live/logs/read" => live::logs,
    Read Now "/live/portfolio/read" => live::portfolio,
    Read Now "/live/orders/read" => live::orders,
    Read Now "/live/trades/read" => live::trades,
    Read Now "/live/insights/read" => live::insights,
    Read Now "/live/export/orders" => live::exports::orders,
    Read Now "/live/export/trades" => live::exports::trades,
    Read Now "/live/export/insights" => live::exports::insights,
    Read Now "/live/export/logs" => live::exports::logs,
    Write Now "/live/update/stop" => live::stop,
    Write Now "/live/update/liquidate" => live::liquidate,
    Write Now "/live/commands/create" => live::command,
    Write Now "/live/commands/broadcast" => live::broadcast,
    Read Now "/live/auth0/read" => connections::read,
    Browser Now "/live/auth0/authorize" => connections::authorize,
    Browser Now "/live/auth0/consent" => connections::consent,
    Write Now "/object/set" => object_store::set,
    Read Now "/object/get" => object_store::get,
    Read Now "/object/properties" => object_store::properties,
    Read Now "/object/list" => object_store::list,
    Write Now "/object/delete" => object_store::delete,
    Browser Later "/object/download" => object_store::download,
    Read Later "/ai/tools/backtest-init" => ai::backtest_init,
    Read Now "/ai/tools/complete" => ai::complete,
    Read Now "/ai/tools/error-enhance" => ai::error_enhance,
    Read Now "/ai/tools/pep8-convert" => ai::pep8_convert,
    Read Later "/ai/tools/syntax-check" => ai::syntax_check,
    Read Now "/ai/tools/search" => ai::search,
}
