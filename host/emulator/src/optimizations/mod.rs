//! `/optimizations/…`: a grid search, how it is shown, and the requests that estimate, create,
//! read, list, rename, abort and delete one. [`request`] reads what is asked for, [`run`]
//! carries it out.
//!
//! Every backtest is charged as six seconds of node time, in QuantConnect Credit; the price by
//! node type is the one that the `lean` command line shows. The estimated time is that of the
//! whole search on one node. Estimate, charge and the account's balance agree with each other,
//! not with what the cloud would need.

mod request;
mod run;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::answer::{Answer, Refusal, Reply};
use crate::arguments::Arguments;
use crate::backtests::Backtest;
use crate::engine::Report;
use crate::limits;
use crate::pages::thinned;
use crate::state::{Cloud, State, instant_text, seconds_text};

use request::{Plan, STRATEGY};

/// Node time that one backtest is charged, in seconds.
const SECONDS_PER_BACKTEST: u32 = 6;

/// Where an optimization stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    New,
    Running,
    Completed,
    Aborted,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
        }
    }
}

/// One optimization.
#[derive(Debug)]
pub(crate) struct Optimization {
    pub(crate) id: String,
    pub(crate) project_id: u32,
    pub(crate) name: String,
    pub(crate) plan: Plan,
    created: Timestamp,
    snapshot: u64,
    status: Status,
    started: Option<Instant>,
    finished: Option<Instant>,
    /// Backtests that were started, in order.
    backtests: Vec<String>,
    /// Wall time of the backtests that have a result.
    worked: Duration,
}

impl Optimization {
    fn over(&self) -> bool {
        matches!(self.status, Status::Completed | Status::Aborted)
    }

    fn criterion(&self) -> Value {
        json!({
            "target": self.plan.target.path(),
            "extremum": if self.plan.maximize { "max" } else { "min" },
            "targetValue": self.plan.target_value,
        })
    }

    fn children<'s>(&self, state: &'s State) -> Vec<&'s Backtest> {
        state
            .backtests
            .iter()
            .filter(|backtest| backtest.optimization.as_deref() == Some(&self.id))
            .collect()
    }

    /// The best result by the criterion, among those that meet the constraints.
    fn best<'s>(&self, state: &'s State) -> Option<&'s Report> {
        let value = |report: &Report| self.plan.target.of(report).unwrap_or(f64::NEG_INFINITY);
        self.children(state)
            .into_iter()
            .filter_map(Backtest::report)
            .filter(|report| self.plan.constraints.iter().all(|it| it.holds(report)))
            .max_by(|one, other| {
                let order = value(one).total_cmp(&value(other));
                if self.plan.maximize {
                    order
                } else {
                    order.reverse()
                }
            })
    }

    fn summary(&self, state: &State) -> Value {
        let best = self.best(state);
        let statistic = |name: &str| -> Value {
            best.and_then(|report| report.total_performance.get("portfolioStatistics"))
                .and_then(|statistics| statistics.get(name))
                .cloned()
                .unwrap_or_default()
        };
        json!({
            "optimizationId": self.id,
            "projectId": self.project_id,
            "name": self.name,
            "status": self.status.name(),
            "nodeType": self.plan.node.name(),
            "criterion": self.criterion(),
            "created": instant_text(self.created),
            "psr": statistic("probabilisticSharpeRatio"),
            "sharpeRatio": statistic("sharpeRatio"),
            "trades": best.map(|report| report.orders.len()),
            "cloneId": null,
            "outOfSampleDays": 0,
            "outOfSampleMaxEndDate": null,
            "parameters": self.plan.axes_json(),
        })
    }

    fn json(&self, state: &State) -> Value {
        let children = self.children(state);
        let backtests: Map<String, Value> = children
            .iter()
            .map(|backtest| (backtest.id.clone(), child_json(backtest)))
            .collect();
        json!({
            "optimizationId": self.id,
            "snapshotId": self.snapshot,
            "projectId": self.project_id,
            "name": self.name,
            "status": self.status.name(),
            "nodeType": self.plan.node.name(),
            "parallelNodes": self.plan.parallel,
            "criterion": self.criterion(),
            "runtimeStatistics": self.runtime_statistics(&children),
            "constraints": self.plan.constraints.iter().map(|it| it.json()).collect::<Vec<_>>(),
            "parameters": self.plan.axes_json(),
            "backtests": backtests,
            "strategy": STRATEGY,
            "requested": instant_text(self.created),
            "optimizationTarget": self.plan.target.path(),
            "targetValue": self.plan.target_value,
            "gridLayout": [],
            "outOfSampleMaxEndDate": null,
            "outOfSampleDays": 0,
        })
    }

    fn runtime_statistics(&self, children: &[&Backtest]) -> Value {
        let count = |of: &dyn Fn(&Backtest) -> bool| {
            children.iter().filter(|backtest| of(backtest)).count()
        };
        let completed = count(&|backtest| backtest.report().is_some());
        let failed = count(&|backtest| backtest.error().is_some());
        let running = count(&|backtest| !backtest.finished());
        let total = self.plan.combinations.len();
        let waiting = match self.status {
            Status::New | Status::Running => total.saturating_sub(self.backtests.len()),
            Status::Completed | Status::Aborted => 0,
        };
        let ended = u32::try_from(completed + failed).unwrap_or(u32::MAX);
        let average = self.worked.checked_div(ended).unwrap_or_default();
        let runtime = match (self.started, self.finished) {
            (Some(started), Some(finished)) => finished - started,
            (Some(started), None) => started.elapsed(),
            (None, _) => Duration::ZERO,
        };
        json!({
            "Completed": completed.to_string(),
            "Failed": failed.to_string(),
            "Running": running.to_string(),
            "In Queue": waiting.to_string(),
            "Average Length": clock_text(average),
            "Total Runtime": clock_text(runtime),
            "Total": total.to_string(),
            "Consumed": format!("{:.2}", self.plan.node.cost(ended)),
        })
    }
}

fn child_json(backtest: &Backtest) -> Value {
    let report = backtest.report();
    let equity = report
        .and_then(|report| {
            report
                .charts
                .iter()
                .find(|chart| chart.name == "Strategy Equity")
        })
        .and_then(|chart| chart.series.first())
        .map(|series| {
            let points = series.samples.iter();
            thinned(points.map(|it| json!([it.time, it.value])).collect(), 100)
        });
    json!({
        "id": backtest.id,
        "name": backtest.name,
        "progress": backtest.progress(),
        "exitCode": i32::from(backtest.error().is_some()),
        "statistics": report.map(request::statistics).unwrap_or_default(),
        "parameterSet": backtest.parameters,
        "equity": equity.unwrap_or_default(),
        "startDate": report.map(|report| seconds_text(report.start)),
        "endDate": report.map(|report| seconds_text(report.end)),
        "outOfSampleDays": 0,
        "outOfSampleMaxEndDate": null,
    })
}

/// Hours, minutes and seconds.
fn clock_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

impl State {
    fn optimization(&self, arguments: &Arguments) -> Result<&Optimization, Refusal> {
        let id = arguments.text("optimizationId")?;
        self.optimizations
            .iter()
            .find(|optimization| optimization.id == id)
            .ok_or_else(|| Refusal::not_found("Optimization", id))
    }

    fn optimization_mut(&mut self, arguments: &Arguments) -> Result<&mut Optimization, Refusal> {
        let id = arguments.text("optimizationId")?;
        self.optimizations
            .iter_mut()
            .find(|optimization| optimization.id == id)
            .ok_or_else(|| Refusal::not_found("Optimization", id))
    }
}

pub(crate) fn estimate(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let estimate_id = {
        let mut state = cloud.state();
        state.project(arguments)?;
        if arguments
            .optional_text("compileId")?
            .is_some_and(|id| !id.is_empty())
        {
            state.built(arguments, cloud.settings.timing.compile)?;
        }
        state.next_id()
    };
    let plan = Plan::read(arguments, false)?;
    let count = u32::try_from(plan.combinations.len()).unwrap_or(u32::MAX);
    let balance = crate::organizations::balance(cloud).floor();
    // A whole number, as the published schema has it.
    let balance: i64 = format!("{balance:.0}").parse().unwrap_or_default();
    Reply::success(json!({
        "estimate": {
            "estimateId": estimate_id,
            "time": count.saturating_mul(SECONDS_PER_BACKTEST).div_ceil(plan.parallel),
            "balance": balance,
        },
    }))
}

pub(crate) fn create(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let balance = crate::organizations::balance(cloud);
    let mut state = cloud.state();
    let compile = state.built(arguments, cloud.settings.timing.compile)?;
    let project_id = compile.project_id;
    let detected = compile.parameter_count();
    let plan = Plan::read(arguments, true)?;
    let name = crate::backtests::name_of(arguments, "name")?;
    let job = request::base_job(compile, state.project(arguments)?);
    if plan.estimated_cost > balance {
        return Err(Refusal::because(format!(
            "Insufficient QuantConnect Credit: the estimated cost is {:.2}, the balance {balance:.2}",
            plan.estimated_cost
        )));
    }
    if state.optimizations.len() >= limits::OPTIMIZATIONS {
        return Err(Refusal::because(format!(
            "The emulator holds at most {} optimizations: delete some first",
            limits::OPTIMIZATIONS
        )));
    }
    state.check_room_for_backtests(plan.combinations.len())?;
    let optimization = Optimization {
        id: state.next_id(),
        project_id,
        name,
        plan,
        created: Timestamp::now(),
        snapshot: state.next_number(),
        status: Status::New,
        started: None,
        finished: None,
        backtests: Vec::new(),
        worked: Duration::ZERO,
    };
    let summary = optimization.summary(&state);
    run::start(cloud, &optimization, job, detected);
    state.optimizations.push(optimization);
    Reply::success(json!({"optimizations": [summary]}))
}

pub(crate) fn read(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let optimization = state.optimization(arguments)?.json(&state);
    Reply::success(json!({"optimization": optimization}))
}

/// The most recent first.
pub(crate) fn list(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let project = state.project(arguments)?.id;
    let optimizations: Vec<Value> = state
        .optimizations
        .iter()
        .rev()
        .filter(|optimization| optimization.project_id == project)
        .map(|optimization| optimization.summary(&state))
        .collect();
    Reply::success(json!({"optimizations": optimizations}))
}

pub(crate) fn update(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let name = crate::backtests::name_of(arguments, "name")?;
    state.optimization_mut(arguments)?.name = name;
    Reply::done()
}

/// Starts no further backtest; those that run come to their end.
pub(crate) fn abort(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let optimization = state.optimization_mut(arguments)?;
    if optimization.over() {
        return Err(Refusal::because(format!(
            "The optimization is {} already",
            optimization.status.name()
        )));
    }
    optimization.status = Status::Aborted;
    optimization.finished = Some(Instant::now());
    Reply::done()
}

/// Deletes an optimization with its backtests; one that runs is aborted by it.
pub(crate) fn delete(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let id = state.optimization(arguments)?.id.clone();
    state
        .optimizations
        .retain(|optimization| optimization.id != id);
    state
        .backtests
        .retain(|backtest| backtest.optimization.as_deref() != Some(&id));
    Reply::done()
}
