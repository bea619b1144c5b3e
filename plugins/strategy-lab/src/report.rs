//! `report`: a backtest as one file to read and to pass on, in HTML with charts or in Markdown.
//!
//! This file reads what a report shows; what it computes and how it looks is in the files of `report`, which are plain data.
//!
//! Invariant: a report holds what the host answered, and every text of others in it is escaped.

use jiff::civil::Date;
use qchost_sdk::backtests::{BacktestChartRequest, BacktestStatus, BacktestSummary};
use qchost_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compare::ended;
use crate::drawdowns;
use crate::page;
use crate::project;
use crate::robustness::equity::{self, Curve};
use crate::robustness::walk_forward::Plan;
use crate::robustness::{CHART_POINTS, LAST_INSTANT, curve, walk};

mod charts;
mod content;
mod html;
mod markdown;
#[cfg(test)]
mod tests;
mod text;

use content::{Content, Statistic};

/// How many backtests are read for the windows at most.
const MAX_BACKTESTS: usize = 50;
/// How many drawdowns are shown.
const DRAWDOWNS: usize = 10;
/// How many statistics are shown at most.
const MAX_STATISTICS: usize = 60;
/// How many windows are shown at most.
const MAX_WINDOWS: usize = 40;
/// The longest key of an object, in bytes.
const MAX_KEY: usize = 200;

/// What to report.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    /// The project, by id or by name; the one in the agent's configuration if not given.
    #[serde(default)]
    project: Option<ProjectReference>,
    /// The backtest; the newest of the project if not given.
    #[serde(default)]
    backtest: Option<String>,
    /// How it is written.
    #[serde(default)]
    format: Format,
    /// The backtests for the heat map and the windows, such as those of a sweep; the newest completed ones of the project if none
    /// are given, at most 50 of them for the windows.
    #[serde(default)]
    backtests: Vec<String>,
    /// Adds a heat map of those backtests by two parameters.
    #[serde(default)]
    heat_map: Option<Map>,
    /// Adds the windows of a walk-forward analysis of those backtests.
    #[serde(default)]
    walk_forward: Option<Plan>,
    /// The key of an object in the object store to write the report to, such as `reports/momentum.html`. Without it the report is
    /// in the answer.
    #[serde(default)]
    key: Option<String>,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// One file with charts, which needs nothing else.
    #[default]
    Html,
    /// Tables alone.
    Markdown,
}

/// What a heat map shows.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Map {
    /// The parameter of the columns; the one with the most values if not given.
    #[serde(default)]
    across: Option<String>,
    /// The parameter of the rows; the one with the second most values if not given.
    #[serde(default)]
    down: Option<String>,
    /// The statistic of the cells.
    #[serde(default)]
    statistic: Statistic,
}

/// The report.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Written {
    /// The project's id.
    project_id: u32,
    /// The backtest.
    backtest_id: String,
    /// How it is written.
    format: Format,
    /// Its size in bytes.
    bytes: usize,
    /// The object that it was written to; null if it is in `report`.
    key: Option<String>,
    /// The report; null if it was written to an object.
    report: Option<String>,
    /// What was left out, and why.
    notes: Vec<String>,
}

/// Runs the action.
pub(crate) fn run(input: Report) -> Result<Written, Failure> {
    check(&input)?;
    let project = project::existing_or_default(input.project.clone())?;
    let id = page::backtest(&project, input.backtest.clone())?;
    progress::report(0.0, &format!("reading {id} of \"{}\"", project.name));
    let backtest = ended(&project, &id)?;
    let mut content = Content {
        project: project.name.clone(),
        backtest_id: id.clone(),
        name: backtest.name.clone().unwrap_or_else(|| id.clone()),
        parameters: backtest.parameter_set.clone(),
        ..Content::default()
    };
    add_statistics(&mut content, &backtest.statistics);
    let days: Vec<(Date, f64)> = curve(project.id, &id)?.days().collect();
    let benchmark = benchmark(project.id, &id, &mut content.notes)?;
    add_equity(&mut content, &days, &benchmark);
    if input.heat_map.is_some() || input.walk_forward.is_some() {
        let listed = backtests::list_backtests(project.id, Some(true))?.backtests;
        let chosen = chosen(&listed, &input.backtests)?;
        if let Some(map) = &input.heat_map {
            add_map(&mut content, &chosen, map);
        }
        if let Some(plan) = input.walk_forward {
            add_windows(&mut content, project.id, &chosen, plan)?;
        }
    }
    let report = write(&content, input.format)?;
    let bytes = report.len();
    let report = match &input.key {
        None => Some(report),
        Some(key) => {
            let organization = backtest.organization_id.ok_or(
                "QuantConnect does not say which organization the backtest belongs to, so the report cannot be written to an object; leave `key` out",
            )?;
            object_store::upload_object(&organization, key, report.as_bytes())?;
            None
        }
    };
    Ok(Written {
        project_id: project.id,
        backtest_id: id,
        format: input.format,
        bytes,
        key: input.key,
        report,
        notes: content.notes,
    })
}

/// Checks the input before anything is read.
fn check(input: &Report) -> Result<(), Failure> {
    let Some(key) = &input.key else {
        return Ok(());
    };
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./ ".contains(letter);
    let parts_are_names = key
        .split('/')
        .all(|part| !part.is_empty() && !part.starts_with('.'));
    if key.len() > MAX_KEY || !key.chars().all(is_plain) || !parts_are_names {
        return Err(Failure::invalid_input(format!(
            "`key` is no key for a report: at most {MAX_KEY} letters, digits, `-`, `_`, `.` and spaces, with `/` between the names of folders"
        )));
    }
    Ok(())
}

/// The report in its format.
fn write(content: &Content, format: Format) -> Result<String, Failure> {
    match format {
        Format::Html => html::page(content).map_err(|error| Failure::failed(error.to_string())),
        Format::Markdown => Ok(markdown::text(content)),
    }
}

fn add_statistics(content: &mut Content, statistics: &[qchost_sdk::types::Statistic]) {
    let shown = statistics.iter().take(MAX_STATISTICS);
    content.statistics = shown.map(|it| (it.name.clone(), it.text.clone())).collect();
    let more = statistics.len().saturating_sub(MAX_STATISTICS);
    if more > 0 {
        content
            .notes
            .push(format!("{more} more statistics are not shown"));
    }
}

/// The benchmark's value by day; empty if there is none.
fn benchmark(
    project: u32,
    backtest: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<(Date, f64)>, Failure> {
    let request = BacktestChartRequest {
        project_id: project,
        backtest_id: backtest.to_owned(),
        name: "Benchmark".to_owned(),
        count: CHART_POINTS,
        start: 0,
        end: LAST_INSTANT,
    };
    match wait::until_ready(|| backtests::read_backtest_chart(&request)) {
        Ok(chart) => Ok(Curve::of_series(&chart, "Benchmark").days().collect()),
        // An algorithm may have none; a refusal by the policy is no such thing.
        Err(error @ (Error::NotFound(_) | Error::Rejected(_))) => {
            notes.push(format!("the benchmark is not shown: {error}"));
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// Adds the equity, and what follows from it.
fn add_equity(content: &mut Content, days: &[(Date, f64)], benchmark: &[(Date, f64)]) {
    let depth = content::depths(days);
    let kept = content::thinned(days, &depth);
    if kept.len() < days.len() {
        content.notes.push(format!(
            "the charts of equity and drawdown and their table have {} of {} days; all other figures are of all days",
            kept.len(),
            days.len()
        ));
    }
    let only_kept = |all: &[(Date, f64)]| -> Vec<(Date, f64)> {
        all.iter()
            .filter(|(day, _)| kept.contains(day))
            .copied()
            .collect()
    };
    content.drawdowns = drawdowns::deepest(drawdowns::all(days.iter().copied()), DRAWDOWNS);
    content.months = content::months(days);
    content.equity = only_kept(days);
    content.depth = only_kept(&depth);
    content.benchmark = scaled(&content.equity, benchmark);
    if content.benchmark.is_empty() && !benchmark.is_empty() {
        let note = "the benchmark is not shown: it has no value on some days of the equity";
        content.notes.push(note.to_owned());
    }
}

/// The benchmark on the days of the equity, scaled to its first one; empty if a day is missing.
fn scaled(equity: &[(Date, f64)], benchmark: &[(Date, f64)]) -> Vec<(Date, f64)> {
    let by_day: std::collections::BTreeMap<Date, f64> = benchmark.iter().copied().collect();
    let values: Option<Vec<(Date, f64)>> = equity
        .iter()
        .map(|(day, _)| Some((*day, *by_day.get(day)?)))
        .collect();
    let values = values.unwrap_or_default();
    let (Some((_, start)), Some((_, first))) = (equity.first(), values.first().copied()) else {
        return Vec::new();
    };
    let scale = start / first;
    values
        .into_iter()
        .map(|(day, value)| (day, value * scale))
        .collect()
}

/// The completed backtests that are named, or all.
fn chosen<'a>(
    listed: &'a [BacktestSummary],
    named: &[String],
) -> Result<Vec<&'a BacktestSummary>, Failure> {
    let is_completed = |it: &&BacktestSummary| it.status == Some(BacktestStatus::Completed);
    if named.is_empty() {
        return Ok(listed.iter().filter(is_completed).collect());
    }
    let find = |id: &String| {
        let found = listed
            .iter()
            .filter(is_completed)
            .find(|it| it.backtest_id == *id);
        found.ok_or_else(|| {
            Failure::from(Error::NotFound(format!(
                "the project has no completed backtest {id}"
            )))
        })
    };
    named.iter().map(find).collect()
}

fn add_map(content: &mut Content, chosen: &[&BacktestSummary], map: &Map) {
    let (across, down) = (map.across.as_deref(), map.down.as_deref());
    let found = content::heat_map(chosen, across, down, map.statistic, &mut content.notes);
    match found {
        Ok(found) => content.heat_map = Some(found),
        Err(reason) => content
            .notes
            .push(format!("there is no heat map: {reason}")),
    }
}

fn add_windows(
    content: &mut Content,
    project: u32,
    chosen: &[&BacktestSummary],
    plan: Plan,
) -> Result<(), Failure> {
    let read: Vec<&&BacktestSummary> = chosen.iter().take(MAX_BACKTESTS).collect();
    if read.len() < chosen.len() {
        content.notes.push(format!(
            "the windows are those of {MAX_BACKTESTS} backtests of {}",
            chosen.len()
        ));
    }
    let mut curves = Vec::new();
    for (number, backtest) in (0u32..).zip(&read) {
        progress::report(
            f64::from(number) / read.len() as f64,
            &format!("reading the equity of {}", backtest.backtest_id),
        );
        curves.push(curve(project, &backtest.backtest_id)?);
    }
    let curves: Vec<&Curve> = curves.iter().collect();
    match walk(&equity::aligned(&curves), Some(plan)) {
        Ok(mut walked) => {
            let more = walked.windows.len().saturating_sub(MAX_WINDOWS);
            if more > 0 {
                content
                    .notes
                    .push(format!("{more} later windows are not shown"));
                walked.windows.truncate(MAX_WINDOWS);
            }
            content.walk_forward = Some(walked.windows);
        }
        Err(reason) => content
            .notes
            .push(format!("there are no windows: {reason}")),
    }
    Ok(())
}
