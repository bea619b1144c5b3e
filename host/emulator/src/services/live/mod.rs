//! `/live/…`: deployments, what they show, and commands to them. [`view`] says what one shows at a
//! moment.
//!
//! A deployment runs the engine once over the algorithm's own dates and then shows one simulated
//! day after the other, as fast as [`crate::Timing::live_day`] says; after the last day it goes on
//! running and the market stands still. A simulated day that ends while no emulator runs is over at the next
//! start.
//!
//! The model does not act on a command; it records it in the deployment's log, where a test can see
//! that it arrived.
//!
//! Several deployments of one project run side by side, each on a node of its own. QuantConnect does not say which of
//! them a stop, a liquidation or a command is for, nor which one the endpoints without a deployment's id show. Here
//! that is the latest of those that run for the former, and the latest for the latter.
//!
//! What is guessed, because QuantConnect's documentation of it is incomplete: that the log of a project has the lines of
//! its deployments one after the other, oldest first, and ends with those of the one that is named; that `latest` lists
//! the newest deployment of each project; and that an account of Interactive Brokers is a paper one if its name
//! begins with a `D`.

pub(crate) mod exports;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use self::view::LiveView;
use super::answer::{Answer, Refusal, Reply, php_map, refuse};
use super::arguments::{Arguments, number_of, scalar_text};
use super::backtests::parameters_of;
use super::cloud::{Cloud, execute};
use super::files::file_json;
use super::organizations::version_of;
use super::pages::{
    ChartRequest, MAX_LIVE_INSIGHTS, MAX_LIVE_LINES, MAX_LIVE_ORDERS, MAX_LIVE_TRADES, Window,
    matching, summary,
};
use crate::engine::SourceFile;
use crate::store::deployment::{
    ACCOUNTS, Brokerage, Command, Deployment, End, Holding, MODES, PAPER_BROKERAGE, Run,
};
use crate::store::node::NodeKind;
use crate::store::{State, limits};
use crate::text::instant_text;

/// Longest command, in bytes of JSON.
const MAX_COMMAND_BYTES: usize = 16 << 10;

pub(crate) fn create(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let compile = state.built(arguments, cloud.settings.timing.compile)?;
    let project = state.project(arguments)?;
    let project_id = project.id;
    let mut job = compile.job(project);
    let version = version_of(arguments, "versionId")?;
    let node = arguments.text("nodeId")?;
    let mut nodes = state.nodes.iter();
    if !nodes.any(|known| known.kind == NodeKind::Live && known.id == node) {
        return Err(Refusal::not_found("Live node", node));
    }
    let brokerage = brokerage_of(arguments)?;
    check_providers(arguments)?;
    check_settings(arguments)?;
    let parameters = arguments.optional("parameters", parameters_of)?;
    for (name, value) in parameters.iter().flatten() {
        job.parameters
            .insert(name.clone(), scalar_text(value).unwrap_or_default());
    }
    if state.user_of(node).is_some() {
        refuse!("The node {node} is busy");
    }
    if state.deployments.len() >= limits::DEPLOYMENTS {
        // Never a running one: there are fewer nodes than deployments.
        let old = state.deployments.iter().position(|it| it.stopped.is_some());
        if let Some(old) = old {
            state.deployments.remove(old);
        }
    }
    let deployment = Deployment {
        id: format!("L-{}", state.next_id()),
        project_id,
        node: node.to_owned(),
        brokerage,
        launched: Timestamp::now(),
        requested: Instant::now(),
        job: Arc::new(job),
        running: None,
        stopped: None,
        commands: Vec::new(),
    };
    start(cloud, &deployment);
    let answer = Reply::success(json!({
        "responseCode": "0",
        "source": "api-v2",
        "deployId": deployment.id,
        "versionId": version.unwrap_or(-1),
        "projectId": project_id,
        "live": deployment_json(cloud, state, &deployment),
    }));
    state.deployments.push(deployment.into());
    answer
}

/// Runs the engine while the deployment logs in and initialises.
fn start(cloud: &Arc<Cloud>, deployment: &Deployment) -> JoinHandle<()> {
    let timing = cloud.settings.timing;
    let earliest = deployment.requested + timing.live_login + timing.live_initialize;
    let id = deployment.id.clone();
    let job = Arc::clone(&deployment.job);
    let cloud = Arc::downgrade(cloud);
    tokio::spawn(async move {
        let outcome = execute(&cloud, job, earliest).await;
        let (Some(cloud), Some(outcome)) = (cloud.upgrade(), outcome) else {
            return;
        };
        let mut state = cloud.state();
        let mut deployments = state.deployments.iter_mut();
        let found = deployments.find(|it| it.id == id && it.stopped.is_none());
        match (found, outcome) {
            (Some(deployment), Ok(report)) => {
                deployment.running = Some(Run {
                    report,
                    since: Instant::now(),
                });
            }
            (Some(deployment), Err(error)) => deployment.stop(End::RuntimeError, error.message),
            (None, _) => {}
        }
    })
}

/// Starts what an ended emulator did not get to run. Returns the tasks of what runs by the clock.
pub(super) fn resume(cloud: &Arc<Cloud>, state: &State) -> Vec<JoinHandle<()>> {
    let timing = cloud.settings.timing;
    let deployments = state.deployments.iter();
    let waiting = deployments.filter(|it| it.stopped.is_none() && it.running.is_none());
    let started = waiting.filter_map(|deployment| {
        let task = start(cloud, deployment);
        let runs = deployment.requested.elapsed() >= timing.live_login + timing.live_initialize;
        runs.then_some(task)
    });
    started.collect()
}

pub(crate) fn read(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = state.deployment_named(arguments, "deployId")?;
    Reply::success(deployment_json(cloud, state, deployment))
}

/// All deployments, or with `latest` the newest one of each project, the most recent first.
pub(crate) fn list(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    const FILTERS: [&str; 4] = ["Running", "Stopped", "RuntimeError", "Liquidated"];
    let project = arguments.optional("projectId", |arguments, _| state.project(arguments))?;
    let wanted = arguments.optional("status", Arguments::text)?;
    if wanted.is_some_and(|status| !FILTERS.contains(&status)) {
        return Err(Refusal::invalid(
            "status",
            "'Running', 'Stopped', 'RuntimeError' or 'Liquidated'",
        ));
    }
    let latest = arguments.optional("latest", Arguments::flag)? == Some(true);
    let login = cloud.settings.timing.live_login;
    let recent = state.deployments.iter().rev();
    let mut seen = BTreeSet::new();
    let live: Vec<Value> = recent
        .filter(|it| project.is_none_or(|project| it.project_id == project.id))
        .filter(|it| !latest || seen.insert(it.project_id))
        .filter(|it| wanted.is_none_or(|wanted| it.status(login) == wanted))
        .map(|deployment| summary_json(cloud, state, deployment))
        .collect();
    Reply::success(json!({"live": live}))
}

/// Stops trading and keeps the positions. Stopping what has stopped is a success.
pub(crate) fn stop(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = state.deployment_mut(arguments)?;
    if deployment.stopped.is_none() {
        deployment.stop(End::Stopped, String::new());
    }
    Reply::done()
}

/// Closes all positions and stops. What was stopped without being liquidated has no running
/// algorithm that could close a position.
pub(crate) fn liquidate(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = state.deployment_mut(arguments)?;
    match deployment.stopped.as_ref().map(|stop| stop.end) {
        None => deployment.stop(End::Liquidated, String::new()),
        Some(End::Liquidated) => {}
        Some(_) => {
            refuse!("The live algorithm is not running: nothing can be liquidated");
        }
    }
    Reply::done()
}

/// A chart of a deployment that does not run yet is still loading.
pub(crate) fn chart(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = state.deployment(arguments)?;
    let request = ChartRequest::read(arguments)?;
    let view = LiveView::of(cloud, deployment);
    match view.report() {
        Some(report) => Reply::success(json!({"chart": request.of(&report.charts, view.until())?})),
        None if deployment.stopped.is_some() => Err(Refusal::because(
            "The live algorithm never ran: it has no charts",
        )),
        None => Reply::loading(0.0),
    }
}

/// The log of a project up to the end of a deployment's own lines, which are the only ones with `deploymentLogs`. With
/// a `query`, only lines that contain it in any case exist: positions and lengths count those.
pub(crate) fn logs(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    arguments.text("algorithmId")?;
    let deployment = state.deployment_named(arguments, "algorithmId")?;
    let window = Window::read(arguments, ("startLine", "endLine"), false, MAX_LIVE_LINES)?;
    let own_only = arguments.optional("deploymentLogs", Arguments::flag)? == Some(true);
    let query = arguments.optional("query", Arguments::text)?;
    let lines_of =
        |deployment: &Deployment| matching(LiveView::of(cloud, deployment).logs(), query);
    let mut lines = Vec::new();
    if !own_only {
        let all = state.deployments.iter();
        let former = all.filter(|it| it.project_id == deployment.project_id);
        for former in former.take_while(|it| it.id != deployment.id) {
            lines.extend(lines_of(former));
        }
    }
    let offset = lines.len();
    lines.extend(lines_of(deployment));
    Reply::success(json!({
        "logs": window.of(&lines),
        "length": lines.len(),
        "deploymentOffset": offset,
    }))
}

pub(crate) fn portfolio(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let view = LiveView::of(cloud, state.deployment(arguments)?);
    Reply::success(json!({"portfolio": view.portfolio()}))
}

pub(crate) fn orders(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = state.deployment(arguments)?;
    let window = Window::read(arguments, ("start", "end"), false, MAX_LIVE_ORDERS)?;
    window.answer("orders", &LiveView::of(cloud, deployment).orders())
}

/// The closed trades of a deployment, or of all of the project without `deployId`, by their exit in each. They are still
/// loading while one of the deployments does not run yet.
pub(crate) fn trades(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    if arguments.fields.get("deployId") == Some(&Value::Null) {
        return Err(Refusal::invalid("deployId", "a string, or no such field"));
    }
    let named = arguments.optional("deployId", Arguments::text)?;
    let latest = state.deployment_named(arguments, "deployId")?;
    let window = Window::read(arguments, ("start", "end"), false, MAX_LIVE_TRADES)?;
    let all = state.deployments.iter();
    let wanted = all.filter(|it| match named {
        Some(id) => it.id == id,
        None => it.project_id == latest.project_id,
    });
    let mut trades = Vec::new();
    for deployment in wanted {
        if deployment.running.is_none() && deployment.stopped.is_none() {
            return Reply::loading(0.0);
        }
        trades.extend(LiveView::of(cloud, deployment).trades());
    }
    window.answer("trades", &trades)
}

pub(crate) fn insights(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let deployment = state.deployment_named(arguments, "algorithmId")?;
    let window = Window::read(arguments, ("start", "end"), true, MAX_LIVE_INSIGHTS)?;
    window.answer("insights", LiveView::of(cloud, deployment).insights())
}

pub(crate) fn command(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let text = command_text(arguments)?;
    let deployment = state.deployment_mut(arguments)?;
    if !deployment.is_running() {
        refuse!("The live algorithm is not running: it takes no commands");
    }
    record(cloud, deployment, &text)?;
    Reply::done()
}

/// Sends a command to every running algorithm of the organisation but those of one project.
pub(crate) fn broadcast(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let text = command_text(arguments)?;
    let excluded = arguments.optional("excludeProjectId", Arguments::integer)?;
    let excluded = excluded.map(|id| state.project_with(id)).transpose()?;
    let excluded = excluded.map(|project| project.id);
    for deployment in &mut state.deployments {
        if deployment.is_running() && Some(deployment.project_id) != excluded {
            record(cloud, deployment, &text)?;
        }
    }
    Reply::done()
}

fn record(cloud: &Cloud, deployment: &mut Deployment, text: &str) -> Result<(), Refusal> {
    if deployment.commands.len() >= limits::COMMANDS {
        let limit = limits::COMMANDS;
        refuse!("The emulator records at most {limit} commands of a deployment");
    }
    deployment.commands.push(Command {
        after: LiveView::of(cloud, deployment).log_length(),
        line: format!("Command received: {text}"),
    });
    Ok(())
}

fn command_text(arguments: &Arguments) -> Result<String, Refusal> {
    let text = Value::Object(arguments.object("command")?.clone()).to_string();
    if text.len() > MAX_COMMAND_BYTES {
        return Err(Refusal::invalid("command", "at most 16 KB of JSON"));
    }
    Ok(text)
}

/// The brokerage's name and, for the paper brokerage, what it starts with.
fn brokerage_of(arguments: &Arguments) -> Result<Brokerage, Refusal> {
    let settings = arguments.object("brokerage")?;
    let id = settings.get("id").and_then(Value::as_str);
    let id = id.unwrap_or_default();
    if id.is_empty() || id.chars().count() > limits::NAME_LENGTH {
        return Err(Refusal::missing("brokerage.id"));
    }
    if id != "QuantConnectBrokerage" {
        return Ok(Brokerage {
            name: id.to_owned(),
            details: details_of(settings)?,
            ..Brokerage::default()
        });
    }
    let cash = |item: &Value| {
        let currency = item.get("currency")?.as_str()?;
        let amount = number_of(item.get("amount")?)?;
        (currency.len() <= 16).then(|| (currency.to_owned(), amount))
    };
    let holding = |item: &Value| {
        let symbol = item.get("symbolId").or_else(|| item.get("symbol"))?;
        let symbol = symbol.as_str()?;
        let holding = Holding {
            symbol_id: symbol.to_owned(),
            quantity: number_of(item.get("quantity")?)?,
            average_price: number_of(item.get("averagePrice")?)?,
        };
        (symbol.len() <= 64).then_some(holding)
    };
    let expected = "a symbolId, a quantity and an averagePrice each";
    Ok(Brokerage {
        name: PAPER_BROKERAGE.to_owned(),
        details: Vec::new(),
        cash: items_of(settings, "cash", "an amount and a currency each", cash)?,
        holdings: items_of(settings, "holdings", expected, holding)?,
    })
}

/// What a deployment says of its brokerage.
fn details_of(settings: &Map<String, Value>) -> Result<Vec<(String, String)>, Refusal> {
    let mut details = Vec::new();
    for name in ACCOUNTS.iter().chain(&MODES) {
        match settings.get(*name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.chars().count() <= limits::NAME_LENGTH => {
                details.push(((*name).to_owned(), text.clone()));
            }
            Some(_) => {
                let field = format!("brokerage.{name}");
                return Err(Refusal::invalid(&field, "a short string"));
            }
        }
    }
    let account = settings.get("ib-account").and_then(Value::as_str);
    if let Some(account) = account {
        let mode = if account.starts_with('D') {
            "paper"
        } else {
            "live"
        };
        details.retain(|(name, _)| name != "ib-trading-mode");
        details.push(("ib-trading-mode".to_owned(), mode.to_owned()));
    }
    Ok(details)
}

/// The items of a list of the paper brokerage, which may be left out.
fn items_of<T>(
    settings: &Map<String, Value>,
    field: &str,
    expected: &str,
    read: fn(&Value) -> Option<T>,
) -> Result<Vec<T>, Refusal> {
    let items = match settings.get(field) {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(items)) if items.len() <= 100 => items,
        Some(_) => return Err(Refusal::invalid(field, "a list of at most 100 entries")),
    };
    let items: Option<Vec<T>> = items.iter().map(read).collect();
    items.ok_or_else(|| Refusal::invalid(&format!("brokerage.{field}"), expected))
}

/// Data providers: each names itself in its settings.
fn check_providers(arguments: &Arguments) -> Result<(), Refusal> {
    let providers = arguments.optional("dataProviders", Arguments::object)?;
    let named = |settings: &Value| settings.get("id").is_some_and(Value::is_string);
    let mut providers = providers.iter().flat_map(|providers| providers.values());
    if providers.all(|settings| settings.is_null() || named(settings)) {
        Ok(())
    } else {
        Err(Refusal::invalid("dataProviders", "an id for each provider"))
    }
}

/// Settings of a deployment that change nothing here: nothing is redeployed, and no notification is sent.
fn check_settings(arguments: &Arguments) -> Result<(), Refusal> {
    arguments.optional("automaticRedeploy", Arguments::flag)?;
    let Some(notification) = arguments.optional("notification", Arguments::object)? else {
        return Ok(());
    };
    let is_list = |name: &str| notification.get(name).is_some_and(Value::is_array);
    if is_list("events") && is_list("targets") {
        return Ok(());
    }
    Err(Refusal::invalid(
        "notification",
        "a list of events and one of targets",
    ))
}

fn deployment_json(cloud: &Cloud, state: &State, deployment: &Deployment) -> Value {
    let project = state.projects.get(&deployment.project_id);
    let (id, launched) = (deployment.project_id, deployment.launched);
    let file = |file: &SourceFile| file_json(None, id, &file.name, &file.content, launched);
    let files: Vec<Value> = deployment.job.files.iter().map(file).collect();
    let report = deployment.running.as_ref().map(|run| &run.report);
    let stop = deployment.stopped.as_ref();
    let details = deployment.brokerage.details.iter();
    let details: Map<String, Value> = details
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({
        "message": stop.map_or("", |stop| stop.message.as_str()),
        "deployId": deployment.id,
        "projectId": deployment.project_id,
        "projectName": project.map(|project| &project.name),
        "status": deployment.status(cloud.settings.timing.live_login),
        "cloneId": deployment.project_id,
        "launched": instant_text(launched),
        "stopped": stop.map(|stop| instant_text(stop.time)),
        "brokerage": deployment.brokerage.name,
        "securityTypes": "Equity",
        "datacenter": cloud.model_name(),
        "isPublicStreaming": false,
        "public": false,
        "files": files,
        "deploymentDetails": php_map(&details),
        "description": project.map(|project| &project.description),
        "serverStatistics": server_statistics(cloud, deployment),
        "runtimeStatistics": LiveView::of(cloud, deployment).runtime_statistics(),
        "charts": report.map(|report| summary(&report.charts)),
    })
}

/// The machine that a deployment runs on; nothing before it runs. Nothing of it is measured: the emulator has no machine
/// of its own for an algorithm.
fn server_statistics(cloud: &Cloud, deployment: &Deployment) -> Value {
    let Some(run) = &deployment.running else {
        return json!([]);
    };
    let stop = deployment.stopped.as_ref();
    let until = stop.map_or_else(Instant::now, |stop| stop.at);
    let up = until.saturating_duration_since(run.since).as_secs();
    json!({
        "CPU Usage": "0%",
        "Hostname": cloud.model_name(),
        "Up Time": format!("{}.{:02}:{:02}:{:02}", up / 86_400, up / 3_600 % 24, up / 60 % 60, up % 60),
        "Used RAM (MB)": "0",
    })
}

fn summary_json(cloud: &Cloud, state: &State, deployment: &Deployment) -> Value {
    let stop = deployment.stopped.as_ref();
    let failed = stop.filter(|stop| stop.end == End::RuntimeError);
    let project = state.projects.get(&deployment.project_id);
    json!({
        "projectId": deployment.project_id,
        "deployId": deployment.id,
        "status": deployment.status(cloud.settings.timing.live_login),
        "launched": instant_text(deployment.launched),
        "stopped": stop.map(|stop| instant_text(stop.time)),
        "brokerage": deployment.brokerage.name,
        "subscription": "Strategy Equity",
        "equity": LiveView::of(cloud, deployment).equity(),
        "environment": if deployment.brokerage.is_paper() { "paper" } else { "live" },
        "description": project.map(|project| &project.description),
        "error": failed.map(|stop| &stop.message),
        "leagues": [],
    })
}
