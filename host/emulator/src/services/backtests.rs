//! `/backtests/…`: create, run, read, list, change and delete backtests, and their results.
//!
//! While a backtest has no result, its charts, orders, trades, insights, log and report are still
//! loading; of one that failed, the charts, orders, trades and insights are empty, and there is no
//! report.
//!
//! The report is a page of the statistics, without the cloud's pictures. The log is searched without
//! regard to case, which the cloud documents for live logs. Of the cloud's findings there is one: an
//! equity that never changed. Unlike the cloud's, a page of trades has a widest range, that of orders.
//!
//! Every result says in `nodeName` that it comes from the emulator's model and not from LEAN.
//!
//! Invariant: a node runs one backtest at a time, and backtests get nodes in the order of
//! their creation, a project that has chosen busy nodes excepted. The engine runs on a thread
//! of its own; the result of a backtest that was deleted meanwhile is dropped.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::answer::{Answer, Refusal, Reply, php_map, refuse};
use super::arguments::{Arguments, scalar_text, set};
use super::cloud::{Cloud, execute};
use super::pages::{
    ChartRequest, MAX_BACKTEST_ENTRIES, MAX_BACKTEST_LINES, Window, matching, summary,
};
use crate::engine::Report;
use crate::store::backtest::{Backtest, Phase};
use crate::store::{State, clock, limits};
use crate::text::{instant_text, seconds_text};

/// Refuses `count` more backtests where the store has no room for them.
pub(super) fn check_room(state: &State, count: usize) -> Result<(), Refusal> {
    if state.backtests.len() + count > limits::BACKTESTS {
        return Err(Refusal::full(limits::BACKTESTS, "backtests"));
    }
    Ok(())
}

pub(crate) fn create(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let compile = state.built(arguments, cloud.settings.timing.compile)?;
    let name = arguments.name("backtestName")?.to_owned();
    let parameters = arguments
        .optional("parameters", parameters_of)?
        .unwrap_or_default();
    check_room(state, 1)?;
    let project = state.project(arguments)?;
    let mut job = compile.job(project);
    for (name, value) in &parameters {
        let text = scalar_text(value).map(|text| (name.clone(), text));
        job.parameters.extend(text);
    }
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
    let id = backtest.id.clone();
    state.backtests.push(backtest.into());
    queue(cloud, id);
    let created = state.backtests.last();
    let created = created.map(|backtest| backtest_json(cloud, state, backtest));
    Reply::success(json!({"backtest": created, "debugging": false}))
}

/// Makes a queued backtest due after the shortest time in the queue.
fn queue(cloud: &Arc<Cloud>, id: String) {
    let wait = cloud.settings.timing.backtest_queue;
    let cloud = Arc::downgrade(cloud);
    tokio::spawn(async move {
        sleep(wait).await;
        let Some(cloud) = cloud.upgrade() else { return };
        let mut state = cloud.state();
        if let Some(backtest) = state.backtest_mut(&id)
            && let Phase::Queued { due } = &mut backtest.phase
        {
            *due = true;
        }
        dispatch(&cloud, &mut state);
    });
}

/// Starts due backtests on idle nodes. Callers call it whenever a node may have become idle.
pub(super) fn dispatch(cloud: &Arc<Cloud>, state: &mut State) {
    for index in 0..state.backtests.len() {
        let Some(backtest) = state.backtests.get(index) else {
            return;
        };
        if !matches!(backtest.phase, Phase::Queued { due: true }) {
            continue;
        }
        let node = state
            .projects
            .get(&backtest.project_id)
            .and_then(|project| state.idle_backtest_node(project));
        let (Some(node), Some(backtest)) = (node, state.backtests.get_mut(index)) else {
            continue;
        };
        let lasts = cloud.settings.timing.backtest;
        backtest.phase = Phase::Running {
            node: node.id,
            since: Instant::now(),
            lasts,
        };
        let id = backtest.id.clone();
        run(cloud, id);
    }
}

/// Runs a backtest that has a node, and gives the node to the next one.
fn run(cloud: &Arc<Cloud>, id: String) -> JoinHandle<()> {
    let cloud = Arc::downgrade(cloud);
    tokio::spawn(async move {
        run_backtest(&cloud, &id).await;
        if let Some(cloud) = cloud.upgrade() {
            dispatch(&cloud, &mut cloud.state());
        }
    })
}

/// Goes on with the backtests that an ended emulator left. One that ran is run again, and its time counts from
/// its first start; one that was queued has waited long enough if it would have by the clock. Returns the tasks
/// of those whose time is over.
pub(super) fn resume(cloud: &Arc<Cloud>, state: &mut State) -> Vec<JoinHandle<()>> {
    let wait = cloud.settings.timing.backtest_queue;
    let mut over = Vec::new();
    // Optimizations run theirs.
    let own = state.backtests.iter_mut();
    for backtest in own.filter(|backtest| backtest.optimization.is_none()) {
        let waited = clock::elapsed(backtest.created) >= wait;
        match &backtest.phase {
            Phase::Queued { .. } if waited => backtest.phase = Phase::Queued { due: true },
            Phase::Queued { .. } => queue(cloud, backtest.id.clone()),
            Phase::Running { since, lasts, .. } => {
                let is_over = since.elapsed() >= *lasts;
                let task = run(cloud, backtest.id.clone());
                if is_over {
                    over.push(task);
                }
            }
            Phase::Finished(_) => {}
        }
    }
    dispatch(cloud, state);
    over
}

/// Runs a backtest that is in the phase for it, for as long as that says at least, and stores its outcome.
/// Returns how long it took, or `None` if the backtest was deleted or the cloud dropped before it started.
pub(super) async fn run_backtest(cloud: &Weak<Cloud>, id: &str) -> Option<Duration> {
    let since = Instant::now();
    let (job, earliest) = {
        let cloud = cloud.upgrade()?;
        let state = cloud.state();
        let backtest = state.backtest_named(id)?;
        let Phase::Running { since, lasts, .. } = &backtest.phase else {
            return None;
        };
        (Arc::clone(&backtest.job), *since + *lasts)
    };
    let outcome = execute(cloud, job, earliest).await?;
    if let Some(cloud) = cloud.upgrade()
        && let Some(backtest) = cloud.state().backtest_mut(id)
    {
        backtest.phase = Phase::Finished(Box::new(outcome));
    }
    Some(since.elapsed())
}

pub(crate) fn read(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let backtest = backtest_json(cloud, state, state.backtest(arguments)?);
    Reply::success(json!({"backtest": backtest, "debugging": false}))
}

/// The most recent first.
pub(crate) fn list(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.project(arguments)?.id;
    let with_statistics = arguments.optional("includeStatistics", Arguments::flag)?;
    let recent = state.backtests.iter().rev();
    let backtests: Vec<Value> = recent
        .filter(|backtest| backtest.project_id == project)
        .map(|backtest| summary_json(backtest, with_statistics.unwrap_or(true)))
        .collect();
    Reply::success(json!({"count": backtests.len(), "backtests": backtests}))
}

pub(crate) fn update(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = state.backtest(arguments)?.id.clone();
    let name = arguments.optional("name", Arguments::name)?;
    let note = arguments.optional("note", Arguments::note)?;
    let tags = arguments.optional("tags", tags_of)?;
    if let Some(backtest) = state.backtest_mut(&id) {
        set(&mut backtest.name, name.map(str::to_owned));
        set(&mut backtest.note, note.map(|note| Some(note.to_owned())));
        set(&mut backtest.tags, tags);
    }
    Reply::done()
}

/// Replaces the tags.
pub(crate) fn update_tags(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = state.backtest(arguments)?.id.clone();
    let tags = tags_of(arguments, "tags")?;
    if let Some(backtest) = state.backtest_mut(&id) {
        backtest.tags = tags;
    }
    Reply::done()
}

/// Deletes a backtest; one that is queued or running is cancelled by it.
pub(crate) fn delete(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = state.backtest(arguments)?.id.clone();
    state.backtests.retain(|backtest| backtest.id != id);
    dispatch(cloud, state);
    Reply::done()
}

pub(crate) fn chart(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let backtest = state.backtest(arguments)?;
    let request = ChartRequest::read(arguments)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    let charts = backtest.report().map_or(&[][..], |report| &report.charts);
    Reply::success(json!({"chart": request.of(charts, None)?}))
}

pub(crate) fn orders(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    entries(state, arguments, "orders", |report| &report.orders)
}

pub(crate) fn insights(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    entries(state, arguments, "insights", |report| &report.insights)
}

fn entries(
    state: &State,
    arguments: &Arguments,
    name: &str,
    of: fn(&Report) -> &[Value],
) -> Answer {
    let backtest = state.backtest(arguments)?;
    let window = Window::read(arguments, ("start", "end"), false, MAX_BACKTEST_ENTRIES)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    window.answer(name, backtest.report().map_or(&[][..], of))
}

pub(crate) fn trades(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    entries(state, arguments, "trades", Report::closed_trades)
}

pub(crate) fn log(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let backtest = state.backtest(arguments)?;
    let window = Window::read(arguments, ("start", "end"), false, MAX_BACKTEST_LINES)?;
    let query = arguments.optional("query", Arguments::text)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    window.answer("logs", &matching(lines(backtest), query))
}

/// The whole log: that of the algorithm, and the error that ended it.
pub(super) fn lines(backtest: &Backtest) -> Vec<String> {
    let report = backtest.report();
    let mut lines = report.map_or_else(Vec::new, |report| report.logs.clone());
    let error = backtest.error();
    lines.extend(error.map(|error| format!("Runtime Error: {error}")));
    lines
}

pub(crate) fn report(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let backtest = state.backtest(arguments)?;
    if let Some(loading) = loading(backtest) {
        return loading;
    }
    let Some(report) = backtest.report() else {
        refuse!("The backtest {} failed: there is no report", backtest.id);
    };
    let statistics = report.statistics.as_object().into_iter().flatten();
    let rows: String = statistics
        .map(|(name, value)| {
            let value = value.as_str().unwrap_or_default();
            format!("<tr><th>{}</th><td>{}</td></tr>", html(name), html(value))
        })
        .collect();
    let (name, model) = (html(&backtest.name), html(&cloud.model_name()));
    Reply::success(json!({"report": format!(
        "<!DOCTYPE html><html><head><title>{name}</title></head><body><h1>{name}</h1>\
         <p>{model}</p><table>{rows}</table></body></html>"
    )}))
}

/// A text in HTML.
fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The answer of a result that is not there yet.
pub(super) fn loading(backtest: &Backtest) -> Option<Answer> {
    (!backtest.finished()).then(|| Reply::loading(backtest.progress()))
}

fn tags_of(arguments: &Arguments, field: &str) -> Result<Vec<String>, Refusal> {
    let tag = |item: &Value| {
        let tag = item.as_str()?;
        (tag.chars().count() <= limits::NAME_LENGTH).then(|| tag.to_owned())
    };
    Some(arguments.list(field)?)
        .filter(|items| items.len() <= 50)
        .and_then(|items| items.iter().map(tag).collect())
        .ok_or_else(|| Refusal::invalid(field, "at most 50 short strings"))
}

/// A map of names to strings or numbers; an empty list is an empty map.
pub(super) fn parameters_of(
    arguments: &Arguments,
    field: &str,
) -> Result<Map<String, Value>, Refusal> {
    match arguments.get(field) {
        Some(Value::Array(items)) if items.is_empty() => Ok(Map::new()),
        Some(Value::Object(fields))
            if fields.len() <= limits::PARAMETERS
                && fields.values().all(|value| scalar_text(value).is_some()) =>
        {
            Ok(fields.clone())
        }
        _ => Err(Refusal::invalid(
            field,
            "at most 100 names with a string or a number",
        )),
    }
}

fn backtest_json(cloud: &Cloud, state: &State, backtest: &Backtest) -> Value {
    let report = backtest.report();
    let error = backtest.error();
    let all = state.backtests.iter();
    let siblings = all.filter(|other| other.project_id == backtest.project_id);
    json!({
        "backtestId": backtest.id,
        "projectId": backtest.project_id,
        "organizationId": cloud.settings.organization_id,
        "name": backtest.name,
        "note": backtest.note,
        "status": backtest.status(),
        "completed": backtest.finished(),
        "progress": backtest.progress(),
        "created": instant_text(backtest.created),
        "optimizationId": backtest.optimization,
        "snapshotId": backtest.snapshot,
        "nodeName": cloud.model_name(),
        "parameterSet": php_map(&backtest.parameters),
        "tradeableDates": report.map(|report| report.tradeable_dates),
        "backtestStart": report.map(|report| seconds_text(report.start)),
        "backtestEnd": report.map(|report| seconds_text(report.end)),
        "researchGuide": {
            "minutes": 0,
            "backtestCount": siblings.count(),
            "parameters": backtest.detected_parameters,
        },
        "error": error.map(|error| &error.message),
        "stacktrace": error.map(|error| &error.stacktrace),
        "hasInitializeError": error.is_some_and(|error| error.in_initialize),
        "charts": report.map(|report| summary(&report.charts)),
        "statistics": report.map(|report| &report.statistics),
        "runtimeStatistics": report.map(|report| &report.runtime_statistics),
        "totalPerformance": report.map(|report| &report.total_performance),
        "serverStatistics": {},
        "analysis": report.map_or_else(Vec::new, findings),
        "rollingWindow": {},
        "outOfSampleMaxEndDate": null,
        "outOfSampleDays": null,
    })
}

/// What is wrong with a result.
fn findings(report: &Report) -> Vec<Value> {
    let equity = report.days.iter().map(|day| day.equity);
    let first = report.days.first().map(|day| day.equity);
    let flat = first.is_some_and(|first| equity.clone().all(|value| value == first));
    let finding = json!({
        "name": "FlatEquityCurveAnalysis",
        "issue": "The equity of the algorithm never changed: it did not trade.",
        "sample": {"equity": first},
        "count": report.days.len(),
        "solutions": ["Check the conditions under which the algorithm orders."],
    });
    flat.then_some(finding).into_iter().collect()
}

fn summary_json(backtest: &Backtest, with_statistics: bool) -> Value {
    let report = backtest.report();
    let shown = report.filter(|_| with_statistics);
    let statistic = |name: &str| shown.and_then(|report| report.portfolio_statistic(name));
    // The cloud lists these in per cent, unlike the shares of winning and losing trades.
    let percentage = |name: &str| shown.and_then(|report| report.bare_statistic(name));
    let trades = shown.map(|report| report.closed_trades().len());
    json!({
        "backtestId": backtest.id,
        "name": backtest.name,
        "status": backtest.status(),
        "created": instant_text(backtest.created),
        "progress": backtest.progress(),
        "optimizationId": backtest.optimization,
        "tradeableDates": report.map(|report| report.tradeable_dates),
        "parameterSet": php_map(&backtest.parameters),
        "snapshotId": backtest.snapshot,
        "tags": backtest.tags,
        "sharpeRatio": statistic("sharpeRatio"),
        "alpha": statistic("alpha"),
        "beta": statistic("beta"),
        "compoundingAnnualReturn": percentage("Compounding Annual Return"),
        "drawdown": percentage("Drawdown"),
        "lossRate": statistic("lossRate"),
        "netProfit": percentage("Net Profit"),
        "parameters": backtest.parameters.len(),
        "psr": percentage("Probabilistic Sharpe Ratio"),
        "securityTypes": null,
        "sortinoRatio": statistic("sortinoRatio"),
        "trades": trades,
        "treynorRatio": statistic("treynorRatio"),
        "winRate": statistic("winRate"),
    })
}
