//! `/live/…`: a deployment, and the requests that create, read, list, stop and liquidate one.
//! [`view`] says what it shows at a moment, [`data`] serves that, [`commands`] takes orders
//! from outside.
//!
//! A deployment runs the engine once over the algorithm's own dates and then lets one
//! simulated day after the other come to light, as fast as [`crate::Timing::live_day`] says;
//! after the last day it goes on running and the market stands still.
//!
//! Invariant: no setting of a brokerage or data provider but its id, and for the paper
//! brokerage its cash and holdings, is kept.

mod commands;
mod data;
mod view;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::answer::{Answer, Refusal, Reply};
use crate::arguments::{Arguments, integer_of, number_of};
use crate::backtests::execute;
use crate::engine::{Job, Report, SourceFile};
use crate::limits;
use crate::nodes::Kind;
use crate::organizations::LEAN_VERSIONS;
use crate::pages::summary;
use crate::state::{Cloud, State, instant_text};

pub(crate) use commands::{broadcast, command};
pub(crate) use data::{chart, insights, logs, orders, portfolio};

use commands::Command;

/// How a deployment came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Stopped,
    Liquidated,
    RuntimeError,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Stopped => "Stopped",
            Self::Liquidated => "Liquidated",
            Self::RuntimeError => "RuntimeError",
        }
    }
}

/// The end of a deployment.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    at: Instant,
    time: Timestamp,
    end: End,
    message: String,
}

/// A position that the paper brokerage is given at the start.
#[derive(Debug, Clone)]
struct Holding {
    symbol_id: String,
    quantity: f64,
    average_price: f64,
}

/// One deployment.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) project_id: u32,
    pub(crate) node: String,
    brokerage: String,
    pub(crate) launched: Timestamp,
    requested: Instant,
    files: Vec<SourceFile>,
    holdings: Vec<Holding>,
    cash: Vec<(String, f64)>,
    /// The engine's report and since when it has been coming to light.
    running: Option<(Arc<Report>, Instant)>,
    pub(crate) stopped: Option<Stop>,
    commands: Vec<Command>,
}

impl Deployment {
    fn status(&self, cloud: &Cloud) -> &'static str {
        match (&self.stopped, &self.running) {
            (Some(stop), _) => stop.end.name(),
            (None, Some(_)) => "Running",
            (None, None) if self.requested.elapsed() < cloud.settings.timing.live_login => {
                "LoggingIn"
            }
            (None, None) => "Initializing",
        }
    }

    fn json(&self, cloud: &Cloud, state: &State) -> Map<String, Value> {
        let project = state.projects.get(&self.project_id);
        let files: Vec<Value> = self
            .files
            .iter()
            .map(|file| {
                json!({
                    "id": null,
                    "projectId": self.project_id,
                    "name": file.name,
                    "content": file.content,
                    "modified": instant_text(self.launched),
                    "open": false,
                    "isLibrary": false,
                })
            })
            .collect();
        let report = self.running.as_ref().map(|(report, _)| report);
        let body = json!({
            "message": self.stopped.as_ref().map_or("", |stop| stop.message.as_str()),
            "deployId": self.id,
            "projectId": self.project_id,
            "projectName": project.map(|project| &project.name),
            "status": self.status(cloud),
            "cloneId": self.project_id,
            "launched": instant_text(self.launched),
            "stopped": self.stopped.as_ref().map(|stop| instant_text(stop.time)),
            "brokerage": self.brokerage,
            "securityTypes": "Equity",
            "datacenter": cloud.model_name(),
            "isPublicStreaming": false,
            "public": false,
            "files": files,
            "runtimeStatistics": self.view(cloud).runtime_statistics(),
            "charts": report.map(|report| summary(&report.charts)),
        });
        match body {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

impl State {
    /// The latest deployment of the project that `projectId` names.
    fn deployment(&self, arguments: &Arguments) -> Result<&Deployment, Refusal> {
        let project = self.project(arguments)?.id;
        self.deployments
            .iter()
            .rev()
            .find(|deployment| deployment.project_id == project)
            .ok_or_else(|| Refusal::not_found("Live algorithm of project", project))
    }

    fn deployment_mut(&mut self, arguments: &Arguments) -> Result<&mut Deployment, Refusal> {
        let id = self.deployment(arguments)?.id.clone();
        self.deployments
            .iter_mut()
            .find(|deployment| deployment.id == id)
            .ok_or_else(|| Refusal::not_found("Live algorithm", id))
    }
}

pub(crate) fn create(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let compile = state.built(arguments, cloud.settings.timing.compile)?;
    let project = state.project(arguments)?;
    let project_id = project.id;
    let job = Job {
        language: compile.language,
        files: compile.files.clone(),
        parameters: project.parameters.iter().cloned().collect(),
    };
    let version = version_of(arguments)?;
    let node = arguments.text("nodeId")?;
    if state.node(node).is_none_or(|node| node.kind != Kind::Live) {
        return Err(Refusal::not_found("Live node", node));
    }
    let (brokerage, cash, holdings) = brokerage_of(arguments)?;
    check_providers(arguments)?;
    if state.user_of(node).is_some() {
        return Err(Refusal::because(format!("The node {node} is busy")));
    }
    let trading = state
        .deployments
        .iter()
        .any(|deployment| deployment.project_id == project_id && deployment.stopped.is_none());
    if trading {
        return Err(Refusal::because(
            "The project has a running live algorithm already: stop it first",
        ));
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
        files: job.files.clone(),
        holdings,
        cash,
        running: None,
        stopped: None,
        commands: Vec::new(),
    };
    start(cloud, &deployment, job);
    let answer = Reply::success(json!({
        "responseCode": "0",
        "source": "api-v2",
        "deployId": deployment.id,
        "versionId": version,
        "projectId": project_id,
        "live": deployment.json(cloud, &state),
    }));
    state.deployments.push(deployment);
    answer
}

/// Lets the engine work while the deployment logs in and initialises.
fn start(cloud: &Arc<Cloud>, deployment: &Deployment, job: Job) {
    let timing = cloud.settings.timing;
    let earliest = deployment.requested + timing.live_login + timing.live_initialize;
    let id = deployment.id.clone();
    let cloud = Arc::downgrade(cloud);
    tokio::spawn(async move {
        let outcome = execute(&cloud, Arc::new(job), earliest).await;
        let (Some(cloud), Some(outcome)) = (cloud.upgrade(), outcome) else {
            return;
        };
        let mut state = cloud.state();
        let Some(deployment) = state.deployments.iter_mut().find(|it| it.id == id) else {
            return;
        };
        if deployment.stopped.is_some() {
            return;
        }
        match outcome {
            Ok(report) => deployment.running = Some((Arc::new(report), Instant::now())),
            Err(error) => {
                deployment.stopped = Some(Stop {
                    at: Instant::now(),
                    time: Timestamp::now(),
                    end: End::RuntimeError,
                    message: error.message,
                });
            }
        }
    });
}

pub(crate) fn read(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let deployment = state.deployment(arguments)?.json(cloud, &state);
    Reply::success(Value::Object(deployment))
}

/// All deployments, the most recent first.
pub(crate) fn list(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let project = match arguments.get("projectId") {
        Some(_) => Some(state.project(arguments)?.id),
        None => None,
    };
    let status = arguments.optional_text("status")?;
    const FILTERS: [&str; 4] = ["Running", "Stopped", "RuntimeError", "Liquidated"];
    if status.is_some_and(|status| !FILTERS.contains(&status)) {
        return Err(Refusal::invalid(
            "status",
            "'Running', 'Stopped', 'RuntimeError' or 'Liquidated'",
        ));
    }
    let live: Vec<Value> = state
        .deployments
        .iter()
        .rev()
        .filter(|it| project.is_none_or(|project| it.project_id == project))
        .filter(|it| status.is_none_or(|status| it.status(cloud) == status))
        .map(|deployment| {
            let stop = deployment.stopped.as_ref();
            let failed = stop.filter(|stop| stop.end == End::RuntimeError);
            let project = state.projects.get(&deployment.project_id);
            json!({
                "projectId": deployment.project_id,
                "deployId": deployment.id,
                "status": deployment.status(cloud),
                "launched": instant_text(deployment.launched),
                "stopped": stop.map(|stop| instant_text(stop.time)),
                "brokerage": deployment.brokerage,
                "subscription": "Strategy Equity",
                "equity": deployment.view(cloud).equity(),
                "environment": "paper",
                "description": project.map(|project| &project.description),
                "error": failed.map(|stop| &stop.message),
                "leagues": [],
            })
        })
        .collect();
    Reply::success(json!({"live": live}))
}

/// Stops trading and keeps the positions. Stopping what has stopped is a success.
pub(crate) fn stop(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let deployment = state.deployment_mut(arguments)?;
    if deployment.stopped.is_none() {
        deployment.end(End::Stopped);
    }
    Reply::done()
}

/// Closes all positions and stops. What was stopped without being liquidated has no running
/// algorithm that could close a position.
pub(crate) fn liquidate(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let deployment = state.deployment_mut(arguments)?;
    match deployment.stopped.as_ref().map(|stop| stop.end) {
        None => deployment.end(End::Liquidated),
        Some(End::Liquidated) => {}
        Some(_) => {
            return Err(Refusal::because(
                "The live algorithm is not running: nothing can be liquidated",
            ));
        }
    }
    Reply::done()
}

impl Deployment {
    fn end(&mut self, end: End) {
        self.stopped = Some(Stop {
            at: Instant::now(),
            time: Timestamp::now(),
            end,
            message: String::new(),
        });
    }
}

/// `versionId`: a number or its text; -1 is the latest.
fn version_of(arguments: &Arguments) -> Result<i64, Refusal> {
    let value = arguments
        .get("versionId")
        .ok_or_else(|| Refusal::missing("versionId"))?;
    let id = integer_of(value).ok_or_else(|| Refusal::invalid("versionId", "a version id"))?;
    if id == -1 || LEAN_VERSIONS.iter().any(|version| version.id == id) {
        return Ok(id);
    }
    Err(Refusal::not_found("LEAN version", id))
}

type Brokerage = (String, Vec<(String, f64)>, Vec<Holding>);

/// The brokerage's name and, for the paper brokerage, what it starts with.
fn brokerage_of(arguments: &Arguments) -> Result<Brokerage, Refusal> {
    let settings = arguments.object("brokerage")?;
    let id = settings
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if id.is_empty() || id.chars().count() > limits::NAME_LENGTH {
        return Err(Refusal::missing("brokerage.id"));
    }
    if id != "QuantConnectBrokerage" {
        return Ok((id.to_owned(), Vec::new(), Vec::new()));
    }
    let invalid = |field: &str, what: &str| Refusal::invalid(field, what);
    let mut cash = Vec::new();
    for item in items(settings, "cash")? {
        let currency = item.get("currency").and_then(Value::as_str);
        let amount = item.get("amount").and_then(number_of);
        match (currency, amount) {
            (Some(currency), Some(amount)) if currency.len() <= 16 => {
                cash.push((currency.to_owned(), amount));
            }
            _ => return Err(invalid("brokerage.cash", "an amount and a currency each")),
        }
    }
    let mut holdings = Vec::new();
    for item in items(settings, "holdings")? {
        let symbol = item.get("symbolId").or_else(|| item.get("symbol"));
        let symbol = symbol.and_then(Value::as_str);
        let quantity = item.get("quantity").and_then(number_of);
        let price = item.get("averagePrice").and_then(number_of);
        match (symbol, quantity, price) {
            (Some(symbol), Some(quantity), Some(average_price)) if symbol.len() <= 64 => {
                holdings.push(Holding {
                    symbol_id: symbol.to_owned(),
                    quantity,
                    average_price,
                });
            }
            _ => {
                return Err(invalid(
                    "brokerage.holdings",
                    "a symbolId, a quantity and an averagePrice each",
                ));
            }
        }
    }
    Ok(("PaperBrokerage".to_owned(), cash, holdings))
}

fn items<'a>(settings: &'a Map<String, Value>, field: &str) -> Result<&'a [Value], Refusal> {
    match settings.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) if items.len() <= 100 => Ok(items),
        Some(_) => Err(Refusal::invalid(field, "a list of at most 100 entries")),
    }
}

/// Data providers: each names itself in its settings.
fn check_providers(arguments: &Arguments) -> Result<(), Refusal> {
    if arguments.get("dataProviders").is_none() {
        return Ok(());
    }
    let providers = arguments.object("dataProviders")?;
    let named = |settings: &Value| settings.get("id").is_some_and(Value::is_string);
    if providers
        .values()
        .all(|settings| settings.is_null() || named(settings))
    {
        Ok(())
    } else {
        Err(Refusal::invalid("dataProviders", "an id for each provider"))
    }
}
