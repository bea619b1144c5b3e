//! `/optimizations/…`: estimate, create, run, read, list, rename, abort and delete grid searches.
//! [`request`] reads what a client asks for. The statistics of a row are the array that the API's published
//! schema has, or an object by position, as the cloud may also send since the end of 2025.
//!
//! The analysis of one that is over counts its backtests and says so; the cloud's says which parameters matter.
//!
//! The estimated time is that of one backtest: so the `lean` command line reads it, which multiplies it by
//! the number of combinations. Estimate, charge and the account's balance agree with each other, not with
//! what the cloud would need.
//!
//! Invariant: the nodes of an optimization are its own; they take none of the organisation's backtest
//! nodes. After an abort no backtest is started. A charge is booked for each backtest that completed.

mod request;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use qchost_catalog::names::POSITIONS;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

pub(crate) use self::request::STRATEGY;
use self::request::plan_of;
use super::answer::{Answer, Refusal, Reply, refuse};
use super::arguments::Arguments;
use super::backtests::{check_room, run_backtest};
use super::cloud::Cloud;
use super::pages::thinned;
use crate::engine::{Job, Report};
use crate::store::backtest::{Backtest, Phase};
use crate::store::kept::Kept;
use crate::store::optimization::{Optimization, SECONDS_PER_BACKTEST, SearchPlan, Status};
use crate::store::{State, clock, limits};
use crate::text::{clock_text, instant_text, seconds_text};

/// How many statistics the array of a row has.
const STATISTICS_IN_A_ROW: usize = 21;

pub(crate) fn estimate(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    state.project(arguments)?;
    let compile = arguments.optional("compileId", Arguments::text)?;
    if compile.is_some_and(|id| !id.is_empty()) {
        state.built(arguments, cloud.settings.timing.compile)?;
    }
    let estimate_id = state.next_id();
    plan_of(arguments, false)?;
    // A whole number, as the published schema has it.
    let balance = format!("{:.0}", cloud.balance(state).floor());
    let balance: i64 = balance.parse().unwrap_or_default();
    Reply::success(json!({
        "estimate": {
            "estimateId": estimate_id,
            "time": SECONDS_PER_BACKTEST,
            "balance": balance,
        },
    }))
}

pub(crate) fn create(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let balance = cloud.balance(state);
    let compile = state.built(arguments, cloud.settings.timing.compile)?;
    let project_id = compile.project_id;
    let detected = compile.parameter_count();
    let plan = plan_of(arguments, true)?;
    let name = arguments.name("name")?.to_owned();
    let job = compile.job(state.project(arguments)?);
    if plan.estimated_cost > balance {
        refuse!(
            "Insufficient QuantConnect Credit: the estimated cost is {:.2}, the balance {balance:.2}",
            plan.estimated_cost
        );
    }
    if state.optimizations.len() >= limits::OPTIMIZATIONS {
        return Err(Refusal::full(limits::OPTIMIZATIONS, "optimizations"));
    }
    check_room(state, plan.combinations.len())?;
    let optimization = Optimization {
        id: state.next_id(),
        project_id,
        name,
        plan,
        job: Arc::new(job),
        detected_parameters: detected,
        created: Timestamp::now(),
        snapshot: state.next_number(),
        status: Status::New,
        started: None,
        finished: None,
        backtests: Vec::new(),
        worked: Duration::ZERO,
    };
    let summary = summary_json(state, &optimization);
    let work = Work {
        wait: cloud.settings.timing.optimization_queue,
        lasts: cloud.settings.timing.optimization_backtest,
        started: Vec::new(),
    };
    start(cloud, &optimization, work);
    state.optimizations.push(optimization.into());
    Reply::success(json!({"optimizations": [summary]}))
}

/// Shared by the backtests of one optimization.
struct Context {
    cloud: Weak<Cloud>,
    id: String,
    project_id: u32,
    job: Arc<Job>,
    detected_parameters: usize,
    /// Running time of each backtest, at least.
    lasts: Duration,
}

/// What is to be done for an optimization, besides the points of the grid that have no backtest yet.
struct Work {
    /// Until it begins.
    wait: Duration,
    /// Running time of each backtest, at least.
    lasts: Duration,
    /// The backtests that were started and have no result.
    started: Vec<String>,
}

/// Starts the work for an optimization.
fn start(cloud: &Arc<Cloud>, optimization: &Optimization, work: Work) -> JoinHandle<()> {
    let context = Arc::new(Context {
        cloud: Arc::downgrade(cloud),
        id: optimization.id.clone(),
        project_id: optimization.project_id,
        job: Arc::clone(&optimization.job),
        detected_parameters: optimization.detected_parameters,
        lasts: work.lasts,
    });
    let grid = optimization.plan.combinations.iter();
    let rest = grid.skip(optimization.backtests.len()).cloned().collect();
    let parallel = usize::try_from(optimization.plan.parallel).unwrap_or(1);
    tokio::spawn(carry_out(context, work, rest, parallel))
}

/// Goes on with the optimizations that an ended emulator left: what ran is run again, and the rest of the grid
/// follows, at once if the whole would be over by the clock. Returns the tasks of those.
pub(super) fn resume(cloud: &Arc<Cloud>, state: &State) -> Vec<JoinHandle<()>> {
    let timing = cloud.settings.timing;
    let resumed = state.optimizations.iter().filter_map(|optimization| {
        let children = optimization.children(&state.backtests);
        let open = children.filter(|backtest| !backtest.finished());
        let started: Vec<String> = open.map(|backtest| backtest.id.clone()).collect();
        // An aborted one waits for those that ran.
        if optimization.over() && started.is_empty() {
            return None;
        }
        let plan = &optimization.plan;
        let total = u32::try_from(plan.combinations.len()).unwrap_or(u32::MAX);
        let rounds = total.div_ceil(plan.parallel.max(1));
        let whole = timing.optimization_queue + timing.optimization_backtest * rounds;
        let age = clock::elapsed(optimization.created);
        let is_over = age >= whole;
        let work = Work {
            wait: timing.optimization_queue.saturating_sub(age),
            lasts: match is_over {
                true => Duration::ZERO,
                false => timing.optimization_backtest,
            },
            started,
        };
        let task = start(cloud, optimization, work);
        is_over.then_some(task)
    });
    resumed.collect()
}

async fn carry_out(
    context: Arc<Context>,
    work: Work,
    grid: Vec<BTreeMap<String, String>>,
    parallel: usize,
) {
    sleep(work.wait).await;
    let began = context.change(|optimization, _| {
        if optimization.status == Status::New {
            optimization.status = Status::Running;
            optimization.started = Some(Instant::now());
        }
    });
    if began.is_none() {
        return;
    }
    let nodes = Arc::new(Semaphore::new(parallel));
    let mut running = JoinSet::new();
    for backtest in work.started {
        let Ok(node) = Arc::clone(&nodes).acquire_owned().await else {
            return;
        };
        let context = Arc::clone(&context);
        running.spawn(async move {
            context.run(&backtest).await;
            drop(node);
        });
    }
    for point in grid {
        let Ok(node) = Arc::clone(&nodes).acquire_owned().await else {
            return;
        };
        let Some(backtest) = context.begin(point) else {
            break;
        };
        let context = Arc::clone(&context);
        running.spawn(async move {
            context.run(&backtest).await;
            drop(node);
        });
        // Frees finished tasks early; a grid may have a thousand.
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
    context.change(|optimization, _| {
        if optimization.status == Status::Running {
            optimization.status = Status::Completed;
            optimization.finished = Some(Instant::now());
        }
    });
}

impl Context {
    /// Changes the optimization and the credit spent under the lock; `None` if it was deleted.
    fn change<T>(&self, change: impl FnOnce(&mut Optimization, &mut f64) -> T) -> Option<T> {
        let cloud = self.cloud.upgrade()?;
        let mut state = cloud.state();
        let State {
            optimizations,
            spent,
            ..
        } = &mut *state;
        let optimization = optimizations.iter_mut().find(|it| it.id == self.id)?;
        Some(change(Kept::value_mut(optimization), spent))
    }

    /// Adds a running backtest to the project and returns its id; `None` if the optimization is not
    /// running.
    fn begin(&self, point: BTreeMap<String, String>) -> Option<String> {
        let cloud = self.cloud.upgrade()?;
        let mut state = cloud.state();
        let (backtest, snapshot) = (state.next_id(), state.next_number());
        let optimization = state.optimizations.iter_mut().find(|it| it.id == self.id)?;
        if optimization.status != Status::Running {
            return None;
        }
        optimization.backtests.push(backtest.clone());
        let number = optimization.backtests.len();
        let mut job = Job::clone(&self.job);
        job.parameters.extend(point.clone());
        let node = optimization.plan.node.name.to_owned();
        let name = format!("{} #{number}", optimization.name);
        let added = Backtest {
            id: backtest.clone(),
            project_id: self.project_id,
            name,
            note: None,
            tags: Vec::new(),
            created: Timestamp::now(),
            snapshot,
            optimization: Some(self.id.clone()),
            parameters: point
                .into_iter()
                .map(|(name, value)| (name, Value::String(value)))
                .collect(),
            detected_parameters: self.detected_parameters,
            job: Arc::new(job),
            phase: Phase::Running {
                node,
                since: Instant::now(),
                lasts: self.lasts,
            },
        };
        state.backtests.push(added.into());
        Some(backtest)
    }

    /// Runs the backtest and charges it.
    async fn run(&self, backtest: &str) {
        if let Some(worked) = run_backtest(&self.cloud, backtest).await {
            self.change(|optimization, spent| {
                optimization.worked += worked;
                *spent += optimization.plan.node.cost(1);
            });
        }
    }
}

pub(crate) fn read(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let keyed = cloud.settings.keyed_statistics;
    let optimization = optimization_json(state, state.optimization(arguments)?, keyed);
    Reply::success(json!({"optimization": optimization}))
}

/// The most recent first.
pub(crate) fn list(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.project(arguments)?.id;
    let recent = state.optimizations.iter().rev();
    let optimizations: Vec<Value> = recent
        .filter(|optimization| optimization.project_id == project)
        .map(|optimization| summary_json(state, optimization))
        .collect();
    Reply::success(json!({"optimizations": optimizations}))
}

pub(crate) fn update(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let name = arguments.name("name")?.to_owned();
    state.optimization_mut(arguments)?.name = name;
    Reply::done()
}

/// Starts no further backtest; running ones finish.
pub(crate) fn abort(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let optimization = state.optimization_mut(arguments)?;
    if optimization.over() {
        refuse!("The optimization is {} already", optimization.status);
    }
    optimization.status = Status::Aborted;
    optimization.finished = Some(Instant::now());
    Reply::done()
}

/// Deletes an optimization with its backtests; one that runs is aborted by it.
pub(crate) fn delete(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = state.optimization(arguments)?.id.clone();
    state.optimizations.retain(|it| it.id != id);
    state
        .backtests
        .retain(|backtest| backtest.optimization.as_deref() != Some(&id));
    Reply::done()
}

fn summary_json(state: &State, optimization: &Optimization) -> Value {
    let plan = &optimization.plan;
    let best = optimization.best(&state.backtests);
    let statistic = |name: &str| best.and_then(|report| report.portfolio_statistic(name));
    json!({
        "optimizationId": optimization.id,
        "projectId": optimization.project_id,
        "name": optimization.name,
        "status": optimization.status,
        "nodeType": plan.node.name,
        "criterion": criterion_json(plan),
        "created": instant_text(optimization.created),
        "psr": best.and_then(|report| report.bare_statistic("Probabilistic Sharpe Ratio")),
        "sharpeRatio": statistic("sharpeRatio"),
        "trades": best.map(|report| report.orders.len()),
        "cloneId": null,
        "outOfSampleDays": 0,
        "outOfSampleMaxEndDate": null,
        "parameters": plan.axes,
    })
}

fn optimization_json(state: &State, optimization: &Optimization, keyed: bool) -> Value {
    let plan = &optimization.plan;
    let children: Vec<&Backtest> = optimization.children(&state.backtests).collect();
    let backtests: Map<String, Value> = children
        .iter()
        .map(|backtest| (backtest.id.clone(), child_json(backtest, keyed)))
        .collect();
    json!({
        "optimizationId": optimization.id,
        "snapshotId": optimization.snapshot,
        "projectId": optimization.project_id,
        "name": optimization.name,
        "status": optimization.status,
        "nodeType": plan.node.name,
        "parallelNodes": plan.parallel,
        "criterion": criterion_json(plan),
        "runtimeStatistics": runtime_statistics(optimization, &children),
        "constraints": plan.constraints,
        "parameters": plan.axes,
        "backtests": backtests,
        "strategy": STRATEGY,
        "requested": instant_text(optimization.created),
        "optimizationTarget": plan.target,
        "targetValue": plan.target_value,
        "gridLayout": [],
        "analysis": optimization.over().then(|| analysis(&children)),
        "outOfSampleMaxEndDate": null,
        "outOfSampleDays": 0,
    })
}

/// The cloud's analysis of an optimization that is over, as far as the model has one.
fn analysis(children: &[&Backtest]) -> Value {
    let failed: Vec<&str> = children
        .iter()
        .filter(|backtest| backtest.error().is_some())
        .map(|backtest| backtest.id.as_str())
        .collect();
    let sharpe = |backtest: &Backtest| backtest.report()?.bare_statistic("Sharpe Ratio");
    let ratios: Vec<f64> = children.iter().copied().filter_map(sharpe).collect();
    let count = u32::try_from(ratios.len()).unwrap_or(u32::MAX);
    let mean = (count > 0).then(|| ratios.iter().sum::<f64>() / f64::from(count));
    json!({
        "interpretation": format!(
            "{count} of {} backtests have a result. This is the emulator's summary and not QuantConnect's.",
            children.len()
        ),
        "backtestCountTotal": children.len(),
        "backtestCountUsed": count,
        "overallSharpe": mean,
        "best": null,
        "parameters": {},
        "clusters": [],
        "modes": [],
        "failedBacktests": failed,
    })
}

fn runtime_statistics(optimization: &Optimization, children: &[&Backtest]) -> Value {
    let count =
        |of: &dyn Fn(&Backtest) -> bool| children.iter().filter(|backtest| of(backtest)).count();
    let completed = count(&|backtest| backtest.report().is_some());
    let failed = count(&|backtest| backtest.error().is_some());
    let running = count(&|backtest| !backtest.finished());
    let plan = &optimization.plan;
    let total = plan.combinations.len();
    let waiting = match optimization.status {
        Status::New | Status::Running => total.saturating_sub(optimization.backtests.len()),
        Status::Completed | Status::Aborted => 0,
    };
    let ended = u32::try_from(completed + failed).unwrap_or(u32::MAX);
    let average = optimization.worked.checked_div(ended).unwrap_or_default();
    let runtime = match (optimization.started, optimization.finished) {
        (Some(started), Some(finished)) => finished - started,
        (Some(started), None) => started.elapsed(),
        (None, _) => Duration::ZERO,
    };
    json!({
        "Completed": completed.to_string(),
        "Failed": failed.to_string(),
        "Running": running.to_string(),
        "In Queue": waiting.to_string(),
        "Average Length": clock_text(average.as_secs()),
        "Total Runtime": clock_text(runtime.as_secs()),
        "Total": total.to_string(),
        "Consumed": format!("{:.2}", plan.node.cost(ended)),
    })
}

fn criterion_json(plan: &SearchPlan) -> Value {
    json!({
        "target": plan.target,
        "extremum": if plan.maximize { "max" } else { "min" },
        "targetValue": plan.target_value,
    })
}

fn child_json(backtest: &Backtest, keyed: bool) -> Value {
    let report = backtest.report();
    let mut charts = report.iter().flat_map(|report| &report.charts);
    let equity = charts
        .find(|chart| chart.name == "Strategy Equity")
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
        "statistics": report.map_or_else(|| json!([]), |report| statistics(report, keyed)),
        "parameterSet": backtest.parameters,
        "equity": equity.unwrap_or_default(),
        "startDate": report.map(|report| seconds_text(report.start)),
        "endDate": report.map(|report| seconds_text(report.end)),
        "outOfSampleDays": 0,
        "outOfSampleMaxEndDate": null,
    })
}

/// The statistics of a backtest in the order in which the API documents them, as bare numbers:
/// percentages in per cent. One that has no number is 0 in the array, and left out of the object.
fn statistics(report: &Report, keyed: bool) -> Value {
    let positions = POSITIONS.iter();
    let own = positions.filter(|(record, ..)| *record == "optimization-backtest");
    let names = own.flat_map(|(_, _, names)| *names);
    let numbers = names.map(|(name, _)| report.bare_statistic(name));
    if keyed {
        let fields = numbers
            .enumerate()
            .filter_map(|(position, number)| Some((position.to_string(), Value::from(number?))));
        return Value::Object(fields.collect());
    }
    numbers
        .take(STATISTICS_IN_A_ROW)
        .map(Option::unwrap_or_default)
        .collect()
}
