//! The table of operations, one row each.
//!
//! A row goes by the REST API unless it is made by [`only`]; `by` says what it is at the remote server as well.
//!
//! An operation is idempotent only if sending it twice leaves the same state *and* the second
//! answer reads as success. So deleting is not idempotent here, nor is renaming a file, nor
//! stopping. Giving another user rights on a project counts as trade, since live control is one of
//! them, and so does running a notebook: its code has the authority of the account, as have QuantConnect's own agents.

use crate::operation::Access::{Destroy, Reduce, Trade};
use crate::operation::{
    AnyOf, BRIEF_SECONDS, Choice, Effect, Ending, Exception, Licensed, Operation, PUBLIC, Selector,
    Transport,
};
use crate::remote::{self, Remote, RemoteTool, Way};
use crate::untyped::{self, Untyped};

use AnyOf::{Organizations, Projects};
use Choice::{Named, Unnamed};
use Effect::{Compiles, Creates, CreatesFile, Deploys, EndsDeployment, Removes, ReplacesFile};
use Exception::{Bytes, Constant, Flag, Null, OfProfile, Profile, Profiles};
use Licensed::{Always, Charts, Notebooks};
use Remote::{Handshake, Nothing, Tool};
use Selector::{
    AttachedProject, Backtest, Brokerage, Chart, Collaborator, Command, Compile, Cost, Deployment,
    DownloadJob, DownloadKey, ExcludedProject, File, Files, Library, LiveControl, Node, NodeType,
    ObjectKey, ObjectPath, Optimization, Organization, ParallelNodes, Parameters, Patch, Project,
    ProjectName, Published, Recipient,
};
use Transport::{
    EditFile, FilterOrders, FindProjects, Form, Redirect, SearchFiles, Upload, WriteFile,
};

/// A row that is reached by `raw` alone.
const fn raw(
    name: &'static str,
    tool: &'static str,
    endpoint: &'static str,
    untyped: &'static Untyped,
) -> Operation {
    op(name, tool, endpoint).untyped(untyped)
}

const fn op(name: &'static str, tool: &'static str, endpoint: &'static str) -> Operation {
    Operation::new(name, tool, endpoint)
}

/// A row that only the remote server has.
const fn only(name: &'static str, tool: &'static RemoteTool) -> Operation {
    Operation::only_remote(name, tool)
}

/// A read whose answer is a file.
const fn export(name: &'static str, tool: &'static str, endpoint: &'static str) -> Operation {
    op(name, tool, endpoint).reads().over(Transport::File)
}

const PROJECT: &[Selector] = &[Project("projectId")];
const PROJECT_FILE: &[Selector] = &[Project("projectId"), File("name")];
const BACKTEST_CHART: &[Selector] = &[Project("projectId"), Backtest("backtestId"), Chart("name")];
const LIVE_CHART: &[Selector] = &[Project("projectId"), Chart("name")];
const PROJECT_BACKTEST: &[Selector] = &[Project("projectId"), Backtest("backtestId")];
const PROJECT_DEPLOYMENT: &[Selector] = &[Project("projectId"), Deployment("deployId")];
const OPTIMIZATION: &[Selector] = &[Optimization("optimizationId")];
const ORGANIZATION: &[Selector] = &[Organization("organizationId")];
const PERSONS: &str = "data of persons";
/// Whatever its tools answered to it, of any project.
const CONVERSATION: &str = "what an agent of QuantConnect's read";
const ANY_IMAGE: &str = "images of any project";
const OBJECT: &[Selector] = &[Organization("organizationId"), ObjectKey("key")];

/// The end of a backtest. Its name and note are in the same answer.
const BACKTEST_ENDING: &Ending = &Ending {
    status: "backtest.status",
    id: "backtest.backtestId",
    completed: &["Completed.", "Completed"],
    failed: &["Runtime Error"],
    seconds: BRIEF_SECONDS,
};
/// The end of an optimisation. After an abort its last backtests may still run.
const OPTIMIZATION_ENDING: &Ending = &Ending {
    status: "optimization.status",
    id: "optimization.optimizationId",
    completed: &["completed"],
    failed: &["aborted"],
    seconds: BRIEF_SECONDS,
};

/// Every operation.
#[rustfmt::skip]
pub static OPERATIONS: &[Operation] = &[
    op("account/read-account", "read_account", "/account/read").reads(),
    op("account/read-organization-account", "read_organization_account", "/account/read").reads().on(ORGANIZATION),

    raw("agents/create-agent", "create_agent", "/agents/create", &untyped::CREATE_AGENT).adds().prompts()
        .on(&[Organization("organizationId"), Published("public")]),
    raw("agents/read-agent", "read_agent", "/agents/read", &untyped::READ_AGENT).reads().on_any_of(Organizations),
    raw("agents/update-agent", "update_agent", "/agents/update", &untyped::UPDATE_AGENT).idempotent().prompts().on_any_of(Organizations)
        .on(&[Published("public")]),
    raw("agents/delete-agent", "delete_agent", "/agents/delete", &untyped::DELETE_AGENT).is(Destroy).on_any_of(Organizations),
    raw("agents/list-agents", "list_agents", "/agents/list", &untyped::LIST_AGENTS).reads().on(ORGANIZATION),

    raw("agent-tasks/create-agent-task", "create_agent_task", "/agents/tasks/create", &untyped::CREATE_TASK).adds().prompts().on(ORGANIZATION),
    raw("agent-tasks/read-agent-task", "read_agent_task", "/agents/tasks/read", &untyped::READ_TASK).reads().on_any_of(Organizations),
    raw("agent-tasks/update-agent-task", "update_agent_task", "/agents/tasks/update", &untyped::UPDATE_TASK).idempotent().on_any_of(Organizations),
    raw("agent-tasks/delete-agent-task", "delete_agent_task", "/agents/tasks/delete", &untyped::DELETE_TASK).is(Destroy).on_any_of(Organizations),
    raw("agent-tasks/list-agent-tasks", "list_agent_tasks", "/agents/tasks/list", &untyped::LIST_TASKS).reads().on(ORGANIZATION),

    raw("agent-deployments/create-agent-deployment", "create_agent_deployment", "/agents/deployments/create",
        &untyped::CREATE_DEPLOYMENT).is(Trade).prompts().licensed(Always).on_any_of(Organizations),
    raw("agent-deployments/read-agent-deployment", "read_agent_deployment", "/agents/deployments/read",
        &untyped::READ_DEPLOYMENT).reads().licensed(Always).on_any_of(Organizations),
    raw("agent-deployments/prompt-agent-deployment", "prompt_agent_deployment", "/agents/deployments/prompt",
        &untyped::PROMPT_DEPLOYMENT).is(Trade).prompts().licensed(Always).on_any_of(Organizations),
    raw("agent-deployments/list-agent-deployments", "list_agent_deployments", "/agents/deployments/list",
        &untyped::LIST_DEPLOYMENTS).reads().licensed(Always).on_any_of(Organizations),
    raw("agent-deployments/stop-agent-deployment", "stop_agent_deployment", "/agents/deployments/stop",
        &untyped::STOP_DEPLOYMENT).is(Reduce).licensed(Always).on_any_of(Organizations),
    raw("agent-deployments/delete-agent-deployment", "delete_agent_deployment", "/agents/deployments/delete",
        &untyped::DELETE_DEPLOYMENT).is(Destroy).licensed(Always).on_any_of(Organizations),
    raw("agent-deployments/read-agent-conversation", "read_agent_conversation", "/agents/deployments/conversation/read",
        &untyped::READ_CONVERSATION).reads().licensed(Always).named_for(CONVERSATION).on_any_of(Organizations),

    op("ai/check-initialization-errors", "check_initialization_errors", "/ai/tools/backtest-init").reads(),
    op("ai/complete-code", "complete_code", "/ai/tools/complete").reads(),
    op("ai/enhance-error-message", "enhance_error_message", "/ai/tools/error-enhance").reads(),
    op("ai/update-code-to-pep8", "update_code_to_pep8", "/ai/tools/pep8-convert").reads(),
    op("ai/check-syntax", "check_syntax", "/ai/tools/syntax-check").reads(),
    op("ai/search-quantconnect", "search_quantconnect", "/ai/tools/search").reads(),

    op("backtests/create-backtest", "create_backtest", "/backtests/create").adds().answers("backtest")
        .does(Creates { list: "backtests/list-backtests", items: "backtests", name: "backtestName" })
        .on(&[Project("projectId"), Compile("compileId"), Parameters("parameters")]),
    op("backtests/read-backtest", "read_backtest", "/backtests/read").reads().proves(BACKTEST_ENDING).answers("backtest").on(PROJECT_BACKTEST),
    op("backtests/list-backtests", "list_backtests", "/backtests/list").reads().brief().on(PROJECT),
    op("backtests/read-backtest-chart", "read_backtest_chart", "/backtests/chart/read").reads().licensed(Charts).finished().answers("chart").on(BACKTEST_CHART),
    op("backtests/read-backtest-orders", "read_backtest_orders", "/backtests/orders/read").reads().finished().on(PROJECT_BACKTEST),
    op("backtests/filter-backtest-orders", "filter_backtest_orders", "/backtests/orders/read").reads().finished().over(FilterOrders).on(PROJECT_BACKTEST),
    op("backtests/read-backtest-insights", "read_backtest_insights", "/backtests/read/insights").reads().finished().on(PROJECT_BACKTEST),
    op("backtests/read-backtest-trades", "read_backtest_trades", "/backtests/trades/read").reads().finished().on(PROJECT_BACKTEST),
    op("backtests/read-backtest-logs", "read_backtest_logs", "/backtests/read/log").reads().licensed(Always).finished().on(PROJECT_BACKTEST).except(&[Null("query")]),
    op("backtests/read-backtest-report", "read_backtest_report", "/backtests/read/report").reads().finished().answers("report").on(PROJECT_BACKTEST),
    op("backtests/update-backtest-tags", "update_backtest_tags", "/backtests/tags/update").idempotent().on(PROJECT_BACKTEST),
    op("backtests/update-backtest", "update_backtest", "/backtests/update").idempotent().on(PROJECT_BACKTEST),
    op("backtests/delete-backtest", "delete_backtest", "/backtests/delete").is(Destroy)
        .does(Removes { read: "backtests/read-backtest" }).on(PROJECT_BACKTEST),

    op("collaboration/create-project-collaborator", "create_project_collaborator", "/projects/collaboration/create").is(Trade)
        .answers("collaborators").on(&[Project("projectId"), Collaborator("collaboratorUserId"), LiveControl("collaborationLiveControl")]),
    op("collaboration/read-project-collaborators", "read_project_collaborators", "/projects/collaboration/read").reads().on(PROJECT),
    op("collaboration/update-project-collaborator", "update_project_collaborator", "/projects/collaboration/update").is(Trade).idempotent()
        .answers("collaborators").on(&[Project("projectId"), Collaborator("collaboratorUserId"), LiveControl("liveControl")]),
    op("collaboration/delete-project-collaborator", "delete_project_collaborator", "/projects/collaboration/delete").is(Destroy)
        .answers("collaborators").on(&[Project("projectId"), Collaborator("collaboratorId")]),
    op("collaboration/lock-project-with-collaborators", "lock_project_with_collaborators", "/projects/collaboration/lock/acquire")
        .adds().idempotent().on(PROJECT),

    op("compile/create-compile", "create_compile", "/compile/create").adds().does(Compiles).on(PROJECT),
    op("compile/read-compile", "read_compile", "/compile/read").reads().on(&[Project("projectId"), Compile("compileId")]),

    only("datasets/list-datasets", &remote::LIST_DATASETS).reads().cacheable(),
    only("datasets/get-dataset-details", &remote::GET_DATASET_DETAILS).reads().cacheable(),
    only("datasets/environment-library-support", &remote::ENVIRONMENT_LIBRARY_SUPPORT).reads().cacheable(),

    raw("data-issues/create-data-issue", "create_data_issue", "/community/data-library/issues/create", &untyped::CREATE_DATA_ISSUE)
        .adds().to(PUBLIC).on(&[AttachedProject("select-project"), Backtest("select-backtest")]),
    raw("data-issues/list-data-issues", "list_data_issues", "/community/data-library/issues/list", &untyped::LIST_DATA_ISSUES).reads(),

    export("exports/export-backtest-orders", "export_backtest_orders", "/backtests/export/orders").on(PROJECT_BACKTEST),
    export("exports/export-backtest-trades", "export_backtest_trades", "/backtests/export/trades").on(PROJECT_BACKTEST),
    export("exports/export-backtest-insights", "export_backtest_insights", "/backtests/export/insights").on(PROJECT_BACKTEST),
    export("exports/export-backtest-logs", "export_backtest_logs", "/backtests/export/logs").licensed(Always).on(PROJECT_BACKTEST),
    export("exports/export-live-orders", "export_live_orders", "/live/export/orders").on(PROJECT),
    export("exports/export-live-trades", "export_live_trades", "/live/export/trades").on(PROJECT),
    export("exports/export-live-insights", "export_live_insights", "/live/export/insights").on(PROJECT_DEPLOYMENT),
    export("exports/export-live-logs", "export_live_logs", "/live/export/logs").licensed(Always).per_half_hour(45).on(PROJECT_DEPLOYMENT),

    op("files/create-file", "create_file", "/files/create").adds().does(CreatesFile).on(PROJECT_FILE),
    op("files/read-file", "read_file", "/files/read").reads().licensed(Notebooks).answers("files").on(PROJECT_FILE),
    op("files/update-file-name", "update_file_name", "/files/update").on(&[Project("projectId"), File("name"), File("newName")]),
    op("files/update-file-contents", "update_file_contents", "/files/update").idempotent().licensed(Notebooks).answers("files").does(ReplacesFile).on(PROJECT_FILE),
    op("files/write-file", "write_file", "/files/update").idempotent().licensed(Notebooks).does(ReplacesFile).over(WriteFile).on(PROJECT_FILE)
        .by(Tool(&remote::CREATE_FILE)),
    op("files/edit-file", "edit_file", "/files/update").licensed(Notebooks).over(EditFile).on(PROJECT_FILE)
        .by(Tool(&remote::EDIT_FILE)),
    op("files/search-file-content", "search_file_content", "/files/read").reads().licensed(Notebooks).over(SearchFiles).on(PROJECT)
        .by(Tool(&remote::SEARCH_FILE_CONTENT)),
    op("files/patch-file", "patch_file", "/files/patch").on(&[Project("projectId"), Patch("patch")]),
    op("files/delete-file", "delete_file", "/files/delete").is(Destroy).does(Removes { read: "files/read-file" }).on(PROJECT_FILE),

    op("lean-versions/read-lean-versions", "read_lean_versions", "/lean/versions/read").reads().cacheable().answers("versions"),
    op("lean-versions/read-lean-environments", "read_lean_environments", "/lean/environments/read").reads().cacheable()
        .answers("environments"),

    op("libraries/add-library", "add_library", "/projects/library/create").on(&[Project("projectId"), Library("libraryId")]),
    op("libraries/remove-library", "remove_library", "/projects/library/delete").on(PROJECT),

    op("live/authorize-connection", "authorize_connection", "/live/auth0/authorize").adds().idempotent().secret_answer()
        .answers("authorization").over(Redirect).on(&[Brokerage("brokerage")]),
    op("live/create-live-algorithm", "create_live_algorithm", "/live/create").is(Trade).licensed(Notebooks).does(Deploys)
        .on(&[Project("projectId"), Compile("compileId"), Node("nodeId"), Selector::Profile("brokerage"), Selector::Profile("dataProviders")])
        .except(&[
            Profile("brokerage"), Profiles("dataProviders"),
            OfProfile("automaticRedeploy"), OfProfile("notification"), OfProfile("parameters"),
        ])
        .newer(&["automaticRedeploy", "notification", "parameters"]),
    op("live/read-live-algorithm", "read_live_algorithm", "/live/read").reads().licensed(Notebooks).on(PROJECT_DEPLOYMENT).of_one(Named)
        .newer(&["deployId"]),
    op("live/read-live-details", "read_live_details", "/live/read").reads().licensed(Notebooks).on(PROJECT_DEPLOYMENT).of_one(Named),
    op("live/list-live-algorithms", "list_live_algorithms", "/live/list").reads().answers("live").on(PROJECT),
    op("live/list-latest-live-algorithms", "list_latest_live_algorithms", "/live/list").reads().answers("live").on(PROJECT)
        .except(&[Flag("latest")]),
    op("live/read-live-chart", "read_live_chart", "/live/chart/read").reads().licensed(Charts).answers("chart").on(LIVE_CHART).of_one(Unnamed),
    op("live/read-live-logs", "read_live_logs", "/live/logs/read").reads().licensed(Always)
        .on(&[Project("projectId"), Deployment("algorithmId")]).except(&[Constant("format", "json")]),
    op("live/search-live-logs", "search_live_logs", "/live/logs/read").reads().licensed(Always)
        .on(&[Project("projectId"), Deployment("algorithmId")]).except(&[Constant("format", "json")]),
    op("live/read-live-portfolio", "read_live_portfolio", "/live/portfolio/read").reads().answers("portfolio").on(PROJECT)
        .of_one(Unnamed),
    op("live/read-live-orders", "read_live_orders", "/live/orders/read").reads().on(PROJECT).of_one(Unnamed),
    op("live/read-live-trades", "read_live_trades", "/live/trades/read").reads().on(PROJECT_DEPLOYMENT),
    op("live/read-live-insights", "read_live_insights", "/live/insights/read").reads()
        .on(&[Project("projectId"), Deployment("algorithmId")]).of_one(Named).newer(&["algorithmId"]),
    op("live/stop-live-algorithm", "stop_live_algorithm", "/live/update/stop").is(Reduce).does(EndsDeployment).on(PROJECT)
        .by(Tool(&remote::STOP_LIVE_ALGORITHM)),
    op("live/liquidate-live-algorithm", "liquidate_live_algorithm", "/live/update/liquidate").is(Reduce).does(EndsDeployment).on(PROJECT)
        .by(Tool(&remote::LIQUIDATE_LIVE_ALGORITHM)),

    op("live-commands/create-live-command", "create_live_command", "/live/commands/create").is(Trade)
        .on(&[Project("projectId"), Command("command")]).of_one(Unnamed),
    op("live-commands/broadcast-live-command", "broadcast_live_command", "/live/commands/broadcast").is(Trade)
        .on(&[Organization("organizationId"), ExcludedProject("excludeProjectId"), Command("command")]),

    op("nodes/read-project-nodes", "read_project_nodes", "/projects/nodes/read").reads().on(PROJECT),
    op("nodes/read-organization-nodes", "read_organization_nodes", "/nodes/read").reads().on(ORGANIZATION),
    op("nodes/update-project-nodes", "update_project_nodes", "/projects/nodes/update").idempotent().on(&[Project("projectId"), Node("nodes")]),

    only("notifications/send-email-notification", &remote::SEND_EMAIL).adds().on(&[Recipient("address")]),
    only("notifications/send-sms-notification", &remote::SEND_SMS).adds().on(&[Recipient("phoneNumber")]),
    only("notifications/send-telegram-notification", &remote::SEND_TELEGRAM).adds().on(&[Recipient("chatId")]),

    op("object-store/upload-object", "upload_object", "/object/set").idempotent().over(Upload).on(OBJECT)
        .except(&[Bytes("objectData", "objectDataBase64")]),
    op("object-store/read-object-properties", "read_object_properties", "/object/properties").reads().licensed(Always).brief().answers("metadata").on(OBJECT),
    op("object-store/read-object-store-file-job-id", "read_object_store_file_job_id", "/object/get").reads().licensed(Always).secret_answer()
        .on(&[Organization("organizationId"), DownloadKey("keys")]),
    op("object-store/read-object-store-file-download-url", "read_object_store_file_download_url", "/object/get").reads().licensed(Always).secret_answer()
        .on(&[Organization("organizationId"), DownloadJob("jobId")]),
    op("object-store/list-object-store-files", "list_object_store_files", "/object/list").reads().brief()
        .on(&[Organization("organizationId"), ObjectPath("path")]),
    op("object-store/delete-object", "delete_object", "/object/delete").is(Destroy).does(Removes { read: "object-store/read-object-properties" }).on(OBJECT),

    op("optimizations/estimate-optimization-time", "estimate_optimization_time", "/optimizations/estimate").reads().answers("estimate")
        .on(&[Project("projectId"), Compile("compileId"), Parameters("parameters")]),
    op("optimizations/create-optimization", "create_optimization", "/optimizations/create").adds().answers("optimizations.0")
        .does(Creates { list: "optimizations/list-optimizations", items: "optimizations", name: "name" })
        .on(&[Project("projectId"), Compile("compileId"), Parameters("parameters"), Cost("estimatedCost"), NodeType("nodeType"), ParallelNodes("parallelNodes")]),
    op("optimizations/read-optimization", "read_optimization", "/optimizations/read").reads().proves(OPTIMIZATION_ENDING).answers("optimization").on(OPTIMIZATION),
    op("optimizations/read-optimization-analysis", "read_optimization_analysis", "/optimizations/read").reads().proves(OPTIMIZATION_ENDING).answers("optimization").on(OPTIMIZATION),
    op("optimizations/list-optimizations", "list_optimizations", "/optimizations/list").reads().brief().answers("optimizations").on(PROJECT),
    op("optimizations/update-optimization", "update_optimization", "/optimizations/update").idempotent().on(OPTIMIZATION),
    op("optimizations/abort-optimization", "abort_optimization", "/optimizations/abort").is(Reduce).on(OPTIMIZATION),
    op("optimizations/delete-optimization", "delete_optimization", "/optimizations/delete").is(Destroy)
        .does(Removes { read: "optimizations/read-optimization" }).on(OPTIMIZATION),

    op("organizations/list-organizations", "list_organizations", "/organizations/list").reads().brief().answers("organizations"),
    op("organizations/read-organization", "read_organization", "/organizations/read").reads().named_for(PERSONS).answers("organization").on(ORGANIZATION),

    op("projects/create-project", "create_project", "/projects/create").adds().answers("projects.0")
        .does(Creates { list: "projects/list-projects", items: "projects", name: "name" })
        .on(&[ProjectName("name"), Organization("organizationId")]),
    op("projects/read-project", "read_project", "/projects/read").reads().brief().answers("projects").on(PROJECT)
        .by(Tool(&remote::READ_PROJECT)),
    op("projects/list-projects", "list_projects", "/projects/read").reads().brief().answers("projects").by(Tool(&remote::LIST_PROJECTS)),
    op("projects/find-projects", "find_projects", "/projects/read").reads().brief().over(FindProjects).on(ORGANIZATION),
    op("projects/update-project", "update_project", "/projects/update").idempotent().on(&[Project("projectId"), ProjectName("name")]),
    op("projects/configure-project", "configure_project", "/projects/update").idempotent().over(Form)
        .on(&[Project("projectId"), Parameters("parameters")]),
    op("projects/replace-project-files", "replace_project_files", "/projects/update").is(Destroy).idempotent().over(Form)
        .on(&[Project("projectId"), Files("files")]),
    op("projects/delete-project", "delete_project", "/projects/delete").is(Destroy).does(Removes { read: "projects/read-project" }).on(PROJECT),

    only("research/jupyter-create-cell", &remote::CREATE_CELL).licensed(Always).on(PROJECT),
    only("research/jupyter-read-cell", &remote::READ_CELL).reads().licensed(Always).on(PROJECT),
    only("research/jupyter-update-cell", &remote::UPDATE_CELL).licensed(Always).on(PROJECT),
    only("research/jupyter-delete-cell", &remote::DELETE_CELL).is(Destroy).on(PROJECT),
    only("research/jupyter-execute-cell", &remote::EXECUTE_CELL).is(Trade).licensed(Always).on(PROJECT),
    only("research/jupyter-create-notebook", &remote::CREATE_NOTEBOOK).licensed(Always).on(PROJECT),
    only("research/jupyter-read-notebook", &remote::READ_NOTEBOOK).reads().licensed(Always).on(PROJECT),
    only("research/jupyter-execute-notebook", &remote::EXECUTE_NOTEBOOK).is(Trade).licensed(Always).on(PROJECT),
    only("research/jupyter-get-image", &remote::GET_IMAGE).reads().licensed(Always).named_for(ANY_IMAGE).on_any_of(Projects),

    op("server/read-mcp-server-version", "read_mcp_server_version", "").reads().cacheable().answers("result").by(Handshake),
    op("server/read-latest-mcp-server-version", "read_latest_mcp_server_version", "").reads().cacheable().answers("result")
        .by(Nothing("QuantConnect runs the remote server, and publishes no version of it")),

    only("skills/list-skills", &remote::LIST_SKILLS).reads(),
    only("skills/load-skill", &remote::LOAD_SKILL).reads(),

    raw("support/create-support-ticket", "create_support_ticket", "/organizations/support/tickets/create", &untyped::CREATE_TICKET)
        .adds().to("support").on(&[Organization("organizationId"), AttachedProject("projectId"), Backtest("backtestId"), Deployment("deployId")]),
    raw("support/read-support-ticket", "read_support_ticket", "/organizations/support/tickets/read", &untyped::READ_TICKET).reads()
        .on(ORGANIZATION),
    raw("support/list-support-tickets", "list_support_tickets", "/organizations/support/tickets/list", &untyped::LIST_TICKETS).reads()
        .on(ORGANIZATION),

    only("templates/read-project-templates", &remote::READ_PROJECT_TEMPLATES).reads(),
];

/// The operation behind an MCP tool: `read_compile`.
#[must_use]
pub fn by_tool(tool: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.tool == tool)
}

/// The operation behind a WIT function: `compile/read-compile`.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

/// The way of a server that has a tool of this name, if no server of the other way has one.
#[must_use]
pub fn way_of(tool: &str) -> Option<Way> {
    let rest = by_tool(tool).is_some_and(|operation| operation.rest);
    let is_named = |operation: &Operation| match operation.remote {
        Remote::Tool(known) => known.name == tool,
        Remote::No | Remote::Handshake | Remote::Nothing(_) => false,
    };
    let remote = remote::not_by_remote(tool).is_some() || OPERATIONS.iter().any(is_named);
    match (rest, remote) {
        (true, false) => Some(Way::Rest),
        (false, true) => Some(Way::Remote),
        _ => None,
    }
}

/// The operation behind an MCP tool, looked up at compile time.
///
/// # Panics
/// When there is none: in a constant, the program does not compile.
#[must_use]
#[allow(clippy::panic)]
pub const fn operation(tool: &str) -> &'static Operation {
    let mut rest: &'static [Operation] = OPERATIONS;
    while let [first, tail @ ..] = rest {
        if same(first.tool.as_bytes(), tool.as_bytes()) {
            return first;
        }
        rest = tail;
    }
    panic!("the catalog has no tool of this name")
}

const fn same(mut one: &[u8], mut two: &[u8]) -> bool {
    while let ([a, one_tail @ ..], [b, two_tail @ ..]) = (one, two) {
        if *a != *b {
            return false;
        }
        one = one_tail;
        two = two_tail;
    }
    one.is_empty() && two.is_empty()
}
