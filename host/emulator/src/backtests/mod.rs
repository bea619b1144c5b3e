//! `/backtests/…`: a backtest, how it is shown, and the requests that create, read, list,
//! change and delete one. [`run`] moves it from queue to result, [`data`] serves what it made.
//!
//! Every result says in `nodeName` that it comes from the emulator's model and not from LEAN.

mod data;
mod run;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::answer::{Answer, Refusal, Reply, php_map};
use crate::arguments::{Arguments, scalar_text};
use crate::engine::{Job, Report, RuntimeError};
use crate::limits;
use crate::pages::summary;
use crate::state::{Cloud, State, instant_text, seconds_text};

pub(crate) use data::{chart, insights, log, orders};
pub(crate) use run::{dispatch, execute};

/// What the engine made of a job.
pub(crate) type Outcome = Result<Report, RuntimeError>;

/// Where a backtest stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Waits for its time and then for a node.
    Queued {
        /// Whether it has waited for the shortest time.
        due: bool,
    },
    /// Runs.
    Running {
        node: String,
        since: Instant,
        /// How long it is going to take at least.
        lasts: Duration,
    },
    /// Has a result.
    Finished(Arc<Outcome>),
}

/// One backtest.
#[derive(Debug)]
pub(crate) struct Backtest {
    pub(crate) id: String,
    pub(crate) project_id: u32,
    pub(crate) name: String,
    pub(crate) note: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) created: Timestamp,
    pub(crate) snapshot: u64,
    pub(crate) optimization: Option<String>,
    /// Parameters as they were given.
    pub(crate) parameters: Map<String, Value>,
    /// How many parameters the sources read.
    pub(crate) detected_parameters: usize,
    pub(crate) job: Arc<Job>,
    pub(crate) phase: Phase,
}

impl Backtest {
    pub(crate) fn finished(&self) -> bool {
        matches!(self.phase, Phase::Finished(_))
    }

    /// The result, if there is one and it is not an error.
    pub(crate) fn report(&self) -> Option<&Report> {
        match &self.phase {
            Phase::Finished(outcome) => outcome.as_ref().as_ref().ok(),
            _ => None,
        }
    }

    pub(crate) fn error(&self) -> Option<&RuntimeError> {
        match &self.phase {
            Phase::Finished(outcome) => outcome.as_ref().as_ref().err(),
            _ => None,
        }
    }

    /// The node on which it runs.
    pub(crate) fn running_on(&self) -> Option<&str> {
        match &self.phase {
            Phase::Running { node, .. } => Some(node),
            _ => None,
        }
    }

    /// From 0 to 1; 1 only with a result.
    pub(crate) fn progress(&self) -> f64 {
        match &self.phase {
            Phase::Queued { .. } => 0.0,
            Phase::Running { since, lasts, .. } => {
                let share = since.elapsed().as_secs_f64() / lasts.as_secs_f64().max(1e-3);
                ((share * 1000.0).round() / 1000.0).min(0.99)
            }
            Phase::Finished(_) => 1.0,
        }
    }

    /// The status as the published schema of the API enumerates it. For a running backtest
    /// that is the placeholder with its quotes: the only text that the official clients'
    /// models accept. The percentage is in `progress`.
    fn status(&self) -> &'static str {
        match &self.phase {
            Phase::Queued { .. } => "In Queue...",
            Phase::Running { .. } => "'Running: _%'",
            Phase::Finished(outcome) if outcome.is_ok() => "Completed.",
            Phase::Finished(_) => "Runtime Error",
        }
    }

    fn json(&self, cloud: &Cloud, state: &State) -> Value {
        let report = self.report();
        let error = self.error();
        let siblings = state
            .backtests
            .iter()
            .filter(|other| other.project_id == self.project_id);
        json!({
            "backtestId": self.id,
            "projectId": self.project_id,
            "organizationId": cloud.settings.organization_id,
            "name": self.name,
            "note": self.note,
            "status": self.status(),
            "completed": self.finished(),
            "progress": self.progress(),
            "created": instant_text(self.created),
            "optimizationId": self.optimization,
            "snapshotId": self.snapshot,
            "nodeName": cloud.model_name(),
            "parameterSet": php_map(self.parameters.clone()),
            "tradeableDates": report.map(|report| report.tradeable_dates),
            "backtestStart": report.map(|report| seconds_text(report.start)),
            "backtestEnd": report.map(|report| seconds_text(report.end)),
            "researchGuide": {
                "minutes": 0,
                "backtestCount": siblings.count(),
                "parameters": self.detected_parameters,
            },
            "error": error.map(|error| &error.message),
            "stacktrace": error.map(|error| &error.stacktrace),
            "hasInitializeError": error.is_some_and(|error| error.in_initialize),
            "charts": report.map(|report| summary(&report.charts)),
            "statistics": report.map(|report| &report.statistics),
            "runtimeStatistics": report.map(|report| &report.runtime_statistics),
            "totalPerformance": report.map(|report| &report.total_performance),
            "rollingWindow": {},
            "outOfSampleMaxEndDate": null,
            "outOfSampleDays": null,
        })
    }

    fn summary(&self, with_statistics: bool) -> Value {
        let report = self.report();
        let statistic = |name: &str| -> Value {
            report
                .filter(|_| with_statistics)
                .and_then(|report| report.total_performance.get("portfolioStatistics"))
                .and_then(|statistics| statistics.get(name))
                .cloned()
                .unwrap_or_default()
        };
        let trades = report
            .filter(|_| with_statistics)
            .and_then(|report| report.total_performance.get("closedTrades"))
            .and_then(Value::as_array)
            .map(Vec::len);
        json!({
            "backtestId": self.id,
            "name": self.name,
            "status": self.status(),
            "created": instant_text(self.created),
            "progress": self.progress(),
            "optimizationId": self.optimization,
            "tradeableDates": report.map(|report| report.tradeable_dates),
            "parameterSet": php_map(self.parameters.clone()),
            "snapshotId": self.snapshot,
            "tags": self.tags,
            "sharpeRatio": statistic("sharpeRatio"),
            "alpha": statistic("alpha"),
            "beta": statistic("beta"),
            "compoundingAnnualReturn": statistic("compoundingAnnualReturn"),
            "drawdown": statistic("drawdown"),
            "lossRate": statistic("lossRate"),
            "netProfit": statistic("totalNetProfit"),
            "parameters": self.parameters.len(),
            "psr": statistic("probabilisticSharpeRatio"),
            "securityTypes": null,
            "sortinoRatio": statistic("sortinoRatio"),
            "trades": trades,
            "treynorRatio": statistic("treynorRatio"),
            "winRate": statistic("winRate"),
        })
    }
}

impl State {
    /// The backtest that `backtestId` names, if it belongs to the project that `projectId`
    /// names.
    fn backtest(&self, arguments: &Arguments) -> Result<&Backtest, Refusal> {
        let project = self.project(arguments)?.id;
        let id = arguments.text("backtestId")?;
        self.backtests
            .iter()
            .find(|backtest| backtest.id == id && backtest.project_id == project)
            .ok_or_else(|| Refusal::not_found("Backtest", id))
    }

    /// Refuses `count` more backtests than can be held.
    pub(crate) fn check_room_for_backtests(&self, count: usize) -> Result<(), Refusal> {
        if self.backtests.len() + count > limits::BACKTESTS {
            return Err(Refusal::because(format!(
                "The emulator holds at most {} backtests: delete some first",
                limits::BACKTESTS
            )));
        }
        Ok(())
    }
}

pub(crate) fn create(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let compile = state.built(arguments, cloud.settings.timing.compile)?;
    let name = name_of(arguments, "backtestName")?;
    let parameters = parameters_of(arguments)?;
    state.check_room_for_backtests(1)?;
    let project = state.project(arguments)?;
    let mut values = project
        .parameters
        .iter()
        .cloned()
        .collect::<std::collections::BTreeMap<_, _>>();
    for (name, value) in &parameters {
        values.extend(scalar_text(value).map(|text| (name.clone(), text)));
    }
    let job = Job {
        language: compile.language,
        files: compile.files.clone(),
        parameters: values,
    };
    let (project_id, detected_parameters) = (project.id, compile.parameter_count());
    let backtest = Backtest {
        id: state.next_id(),
        project_id,
        name,
        note: None,
        tags: Vec::new(),
        created: Timestamp::now(),
        snapshot: state.next_number(),
        optimization: None,
        parameters,
        detected_parameters,
        job: Arc::new(job),
        phase: Phase::Queued { due: false },
    };
    run::submit(cloud, &mut state, backtest);
    let shown = state
        .backtests
        .last()
        .map(|backtest| backtest.json(cloud, &state));
    Reply::success(json!({"backtest": shown, "debugging": false}))
}

pub(crate) fn read(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let backtest = state.backtest(arguments)?.json(cloud, &state);
    Reply::success(json!({"backtest": backtest, "debugging": false}))
}

/// The most recent first.
pub(crate) fn list(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let project = state.project(arguments)?.id;
    let with_statistics = arguments
        .optional_flag("includeStatistics")?
        .unwrap_or(true);
    let backtests: Vec<Value> = state
        .backtests
        .iter()
        .rev()
        .filter(|backtest| backtest.project_id == project)
        .map(|backtest| backtest.summary(with_statistics))
        .collect();
    Reply::success(json!({"count": backtests.len(), "backtests": backtests}))
}

pub(crate) fn update(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let id = state.backtest(arguments)?.id.clone();
    let name = match arguments.get("name") {
        Some(_) => Some(name_of(arguments, "name")?),
        None => None,
    };
    let note = arguments.optional_text("note")?;
    if note.is_some_and(|note| note.chars().count() > limits::TEXT_LENGTH) {
        return Err(Refusal::invalid("note", "at most 10000 characters"));
    }
    let tags = arguments.optional_list("tags")?.map(tags_of).transpose()?;
    if let Some(backtest) = state
        .backtests
        .iter_mut()
        .find(|backtest| backtest.id == id)
    {
        if let Some(name) = name {
            backtest.name = name;
        }
        if let Some(note) = note {
            backtest.note = Some(note.to_owned());
        }
        if let Some(tags) = tags {
            backtest.tags = tags;
        }
    }
    Reply::done()
}

/// Deletes a backtest; one that is queued or running is cancelled by it.
pub(crate) fn delete(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let id = state.backtest(arguments)?.id.clone();
    state.backtests.retain(|backtest| backtest.id != id);
    dispatch(cloud, &mut state);
    Reply::done()
}

/// A name of bounded length that is not blank.
pub(crate) fn name_of(arguments: &Arguments, field: &str) -> Result<String, Refusal> {
    let name = arguments.filled_text(field)?;
    if name.chars().count() > limits::NAME_LENGTH {
        return Err(Refusal::invalid(field, "at most 200 characters"));
    }
    Ok(name.to_owned())
}

fn tags_of(items: &[Value]) -> Result<Vec<String>, Refusal> {
    let invalid = || Refusal::invalid("tags", "at most 50 short strings");
    if items.len() > 50 {
        return Err(invalid());
    }
    items
        .iter()
        .map(|item| {
            item.as_str()
                .filter(|tag| tag.chars().count() <= limits::NAME_LENGTH)
                .map(str::to_owned)
                .ok_or_else(invalid)
        })
        .collect()
}

/// `parameters`: a map of names to texts or numbers; an empty list is an empty map.
fn parameters_of(arguments: &Arguments) -> Result<Map<String, Value>, Refusal> {
    let invalid = || Refusal::invalid("parameters", "at most 100 names with a text or a number");
    match arguments.get("parameters") {
        None => Ok(Map::new()),
        Some(Value::Array(items)) if items.is_empty() => Ok(Map::new()),
        Some(Value::Object(fields))
            if fields.len() <= limits::PARAMETERS
                && fields.values().all(|value| scalar_text(value).is_some()) =>
        {
            Ok(fields.clone())
        }
        Some(_) => Err(invalid()),
    }
}
