//! A report as one HTML file that needs nothing else.
//!
//! Invariant: it has no script and makes no request. Its policy forbids both, and allows no style but that of `style.css`, by its hash.
//! Texts of others are escaped by `maud`, and drawings come from `charts` alone.

use jiff::civil::Date;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts::{self, ChartError, Kind};
use super::content::{Content, HeatMap, Month};
use super::text::{number, percent, shown};
use crate::robustness::walk_forward::Outcome;

pub(super) const STYLESHEET: &str = include_str!("style.css");
/// The SHA-256 of [`STYLESHEET`] in base64, which a test compares.
pub(super) const STYLESHEET_HASH: &str = "C733uFZX96tuuk2ElAi0MxZETKWTySxc3emsU8Bocrs=";
/// Names of months.
pub(super) const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The whole file.
pub(super) fn page(content: &Content) -> Result<String, ChartError> {
    let title = title(content);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{STYLESHEET_HASH}'; base-uri 'none'; form-action 'none'"
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLESHEET)) }
            }
            body {
                main {
                    h1 { (title) }
                    p .quiet { "Project " (shown(&content.project)) ", backtest " (shown(&content.backtest_id)) }
                    @if !content.parameters.is_empty() {
                        h2 { "Parameters" }
                        (pairs("Parameters", &content.parameters))
                    }
                    h2 { "Statistics" }
                    (pairs("Statistics", &content.statistics))
                    (equity(content)?)
                    (drawdowns(content)?)
                    (monthly(&content.months)?)
                    @if let Some(map) = &content.heat_map {
                        (heat_map(map)?)
                    }
                    @if let Some(outcomes) = &content.walk_forward {
                        (walk_forward(outcomes)?)
                    }
                    @if !content.notes.is_empty() {
                        h2 { "Left out" }
                        ul { @for note in &content.notes { li { (shown(note)) } } }
                    }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// The heading of a report.
pub(super) fn title(content: &Content) -> String {
    format!("Report on {}", shown(&content.name))
}

/// A drawing with its description; `id` is unique in the page.
fn chart(id: &str, drawing: &str, title: &str, description: &str, caption: Markup) -> Markup {
    let (title_id, description_id) = (format!("{id}-title"), format!("{id}-desc"));
    let names = format!("{title_id} {description_id}");
    // A drawing begins with its size, and is made by `charts`.
    let (attributes, inner) = drawing.split_once('>').unwrap_or_default();
    let is_large = !attributes.contains("\"0 0 1280 ");
    let begin = format!(
        "<svg {attributes} role=\"img\" aria-labelledby=\"{names}\"{}>",
        if is_large { " class=\"large\"" } else { "" }
    );
    html! {
        figure {
            (scroll(title, html! {
                (PreEscaped(begin))
                title id=(title_id) { (title) }
                desc id=(description_id) { (description) }
                (PreEscaped(inner))
            }))
            figcaption { (caption) }
        }
    }
}

/// What may be wider than the page, which a keyboard can scroll.
fn scroll(label: &str, inner: Markup) -> Markup {
    html! { div .scroll tabindex="0" role="region" aria-label=(label) { (inner) } }
}

/// The data behind a drawing.
fn data(summary: &str, table: Markup) -> Markup {
    html! { details { summary { (summary) } (scroll(summary, table)) } }
}

fn pairs(label: &str, pairs: &[(String, String)]) -> Markup {
    scroll(
        label,
        html! {
            table {
                tbody {
                    @for (name, value) in pairs {
                        tr { th scope="row" { (shown(name)) } td .text { (shown(value)) } }
                    }
                }
            }
        },
    )
}

fn equity(content: &Content) -> Result<Markup, ChartError> {
    let days = &content.equity;
    let (Some((first, start)), Some((last, end))) = (days.first(), days.last()) else {
        return Ok(html! { h2 { "Equity" } p { "The backtest has no equity." } });
    };
    let has_benchmark = !content.benchmark.is_empty();
    let mut lines: Vec<&[(Date, f64)]> = vec![days];
    if has_benchmark {
        lines.push(&content.benchmark);
    }
    let drawing = charts::over_days(&lines, Kind::Lines, |value| format!("{value:.0}"))?;
    let description = format!(
        "From {} on {first} to {} on {last}: {}.",
        number(*start),
        number(*end),
        percent(end / start - 1.0)
    );
    let caption = html! {
        "Solid line: equity in the account's currency."
        @if has_benchmark { " Dashed line: the benchmark, scaled to the equity of the first day." }
        " " (description)
    };
    let table = html! {
        table id="equity-data" {
            thead {
                tr {
                    th scope="col" { "Day" }
                    th scope="col" { "Equity" }
                    th scope="col" { "Drawdown" }
                    @if has_benchmark { th scope="col" { "Benchmark" } }
                }
            }
            tbody {
                @for (position, (day, value)) in days.iter().enumerate() {
                    tr {
                        th scope="row" { (day) }
                        td { (number(*value)) }
                        td { (at(&content.depth, position, percent)) }
                        @if has_benchmark { td { (at(&content.benchmark, position, number)) } }
                    }
                }
            }
        }
    };
    Ok(html! {
        h2 { "Equity" }
        (chart("equity", &drawing, "Equity over time", &description, caption))
        (data("Equity and drawdown as a table", table))
    })
}

/// The value of a day.
fn at(days: &[(Date, f64)], position: usize, format: fn(f64) -> String) -> String {
    let value = days.get(position).map(|(_, value)| format(*value));
    value.unwrap_or_default()
}

fn drawdowns(content: &Content) -> Result<Markup, ChartError> {
    if content.depth.is_empty() {
        return Ok(html! {});
    }
    let drawing = charts::over_days(&[&content.depth], Kind::Area, percent)?;
    let deepest = content.drawdowns.first();
    let description = deepest.map_or_else(
        || "The equity never fell below an earlier one.".to_owned(),
        |it| {
            format!(
                "The deepest fall is {}, from {} to {}.",
                percent(it.depth),
                it.peak,
                it.trough
            )
        },
    );
    let caption = html! { "How far the equity is below its highest so far. " (description) };
    Ok(html! {
        h2 { "Drawdown" }
        (chart("drawdown", &drawing, "Drawdown over time", &description, caption))
        (scroll("Deepest drawdowns", html! {
            table id="drawdown-data" {
                thead {
                    tr {
                        @for head in ["Peak", "Trough", "Recovered", "Depth", "Days to trough", "Days to recovery", "Days in all"] {
                            th scope="col" { (head) }
                        }
                    }
                }
                tbody {
                    @for fall in &content.drawdowns {
                        tr {
                            th scope="row" { (fall.peak) }
                            td { (fall.trough) }
                            td { (fall.recovered.as_deref().unwrap_or("not yet")) }
                            td { (percent(fall.depth)) }
                            td { (fall.falling_days) }
                            td { (fall.recovery_days.map_or_else(|| "–".to_owned(), |it| it.to_string())) }
                            td { (fall.length_days) }
                        }
                    }
                }
            }
        }))
    })
}

/// Months by year, January first; `None` where there is none.
pub(super) fn by_year(months: &[Month]) -> Vec<(i16, [Option<f64>; 12])> {
    let mut years: Vec<(i16, [Option<f64>; 12])> = Vec::new();
    for month in months {
        if years.last().is_none_or(|(year, _)| *year != month.year) {
            years.push((month.year, [None; 12]));
        }
        let position = usize::try_from(month.month - 1).unwrap_or(usize::MAX);
        let cell = years
            .last_mut()
            .and_then(|(_, cells)| cells.get_mut(position));
        if let Some(cell) = cell {
            *cell = Some(month.value);
        }
    }
    years
}

/// The return of a year by those of its months.
pub(super) fn whole_year(months: &[Option<f64>; 12]) -> f64 {
    months.iter().flatten().map(|it| 1.0 + it).product::<f64>() - 1.0
}

fn monthly(months: &[Month]) -> Result<Markup, ChartError> {
    if months.is_empty() {
        return Ok(html! {});
    }
    let drawing = charts::monthly(months)?;
    let gains = months.iter().filter(|it| it.value > 0.0).count();
    let description = format!("{gains} of {} months have a gain.", months.len());
    let caption = html! { "A bar for each month: gains go up, losses go down. " (description) };
    Ok(html! {
        h2 { "Monthly returns" }
        (chart("months", &drawing, "Monthly returns", &description, caption))
        (scroll("Monthly returns as a table", html! {
            table id="month-data" {
                thead {
                    tr {
                        th scope="col" { "Year" }
                        @for month in MONTHS { th scope="col" { (month) } }
                        th scope="col" { "Year's" }
                    }
                }
                tbody {
                    @for (year, cells) in by_year(months) {
                        tr {
                            th scope="row" { (year) }
                            @for cell in cells { td { (cell.map(percent).unwrap_or_default()) } }
                            td { (percent(whole_year(&cells))) }
                        }
                    }
                }
            }
        }))
    })
}

/// What a heat map shows, in words.
pub(super) fn map_words(map: &HeatMap) -> String {
    let down = map
        .down
        .as_deref()
        .map(|it| format!(", {} down", shown(it)));
    format!(
        "The best {} of the backtests: {} across{}. The stronger the shade of a cell, the better.",
        map.statistic.name(),
        shown(&map.across),
        down.unwrap_or_default()
    )
}

fn heat_map(map: &HeatMap) -> Result<Markup, ChartError> {
    let drawing = charts::heat_map(map)?;
    let words = map_words(map);
    let table = html! {
        table id="map-data" {
            thead {
                tr {
                    th scope="col" { (shown(map.down.as_deref().unwrap_or_default())) }
                    @for column in &map.columns { th scope="col" { (shown(column)) } }
                }
            }
            tbody {
                @for (row, cells) in map.rows.iter().zip(&map.cells) {
                    tr {
                        th scope="row" { (shown(row)) }
                        @for cell in cells {
                            td { (cell.map_or_else(|| "–".to_owned(), |it| charts::value_label(map, it))) }
                        }
                    }
                }
            }
        }
    };
    Ok(html! {
        h2 { "Parameters that were tried" }
        (chart("map", &drawing, "Heat map of the backtests", &words, html! { (words) }))
        (data("The map as a table", table))
    })
}

fn walk_forward(outcomes: &[Outcome]) -> Result<Markup, ChartError> {
    if outcomes.is_empty() {
        return Ok(html! {});
    }
    let drawing = charts::windows(outcomes)?;
    let gains = outcomes
        .iter()
        .filter(|it| it.out_of_sample_return > 0.0)
        .count();
    let description = format!(
        "{gains} of {} windows have a gain out of sample.",
        outcomes.len()
    );
    let caption = html! {
        "Frame: the period in which the best backtest was chosen. Filled: the period after it. Right: its annual return in each. "
        (description)
    };
    Ok(html! {
        h2 { "Walk-forward windows" }
        (chart("windows", &drawing, "Walk-forward windows", &description, caption))
        (scroll("Walk-forward windows as a table", html! {
            table id="window-data" {
                thead {
                    tr {
                        @for head in ["In sample from", "Out of sample from", "To", "In sample, annual", "Out of sample, annual"] {
                            th scope="col" { (head) }
                        }
                    }
                }
                tbody {
                    @for outcome in outcomes {
                        tr {
                            th scope="row" { (outcome.in_sample_first) }
                            td { (outcome.out_of_sample_first) }
                            td { (outcome.out_of_sample_last) }
                            td { (percent(outcome.in_sample_return)) }
                            td { (percent(outcome.out_of_sample_return)) }
                        }
                    }
                }
            }
        }))
    })
}
