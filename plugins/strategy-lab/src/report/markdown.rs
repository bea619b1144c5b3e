//! A report as Markdown: the tables, without the drawings.
//!
//! Invariant: texts of others are escaped (`text::markdown`): they are no markup, and no address in them becomes a link.

use super::charts::value_label;
use super::content::Content;
use super::html::{MONTHS, by_year, map_words, title, whole_year};
use super::text::{markdown, number, percent};

/// The whole text.
pub(super) fn text(content: &Content) -> String {
    let mut text = format!(
        "# {}\n\nProject {}, backtest {}\n",
        markdown(&title(content)),
        markdown(&content.project),
        markdown(&content.backtest_id)
    );
    let pair = |(name, value): &(String, String)| vec![markdown(name), markdown(value)];
    if !content.parameters.is_empty() {
        let rows = content.parameters.iter().map(pair);
        section(&mut text, "Parameters", &["Name", "Value"], rows);
    }
    let rows = content.statistics.iter().map(pair);
    section(&mut text, "Statistics", &["Name", "Value"], rows);
    let rows = content.drawdowns.iter().map(|it| {
        vec![
            it.peak.clone(),
            it.trough.clone(),
            it.recovered.clone().unwrap_or_else(|| "not yet".to_owned()),
            percent(it.depth),
            it.length_days.to_string(),
        ]
    });
    let heads = ["Peak", "Trough", "Recovered", "Depth", "Days in all"];
    section(&mut text, "Drawdowns", &heads, rows);
    let heads: Vec<&str> = std::iter::once("Year")
        .chain(MONTHS)
        .chain(["Year's"])
        .collect();
    let rows = by_year(&content.months).into_iter().map(|(year, cells)| {
        let months = cells.iter().map(|it| it.map(percent).unwrap_or_default());
        std::iter::once(year.to_string())
            .chain(months)
            .chain([percent(whole_year(&cells))])
            .collect()
    });
    section(&mut text, "Monthly returns", &heads, rows);
    if let Some(map) = &content.heat_map {
        let down = markdown(map.down.as_deref().unwrap_or_default());
        let columns: Vec<String> = map.columns.iter().map(|it| markdown(it)).collect();
        let heads: Vec<&str> = std::iter::once(down.as_str())
            .chain(columns.iter().map(String::as_str))
            .collect();
        let rows = map.rows.iter().zip(&map.cells).map(|(row, cells)| {
            let values = cells
                .iter()
                .map(|it| it.map_or_else(|| "–".to_owned(), |it| value_label(map, it)));
            std::iter::once(markdown(row)).chain(values).collect()
        });
        section(&mut text, "Parameters that were tried", &heads, rows);
        text.push_str(&format!("\n{}\n", markdown(&map_words(map))));
    }
    if let Some(outcomes) = &content.walk_forward {
        let heads = [
            "In sample from",
            "Out of sample from",
            "To",
            "In sample, annual",
            "Out of sample, annual",
        ];
        let rows = outcomes.iter().map(|it| {
            vec![
                it.in_sample_first.clone(),
                it.out_of_sample_first.clone(),
                it.out_of_sample_last.clone(),
                percent(it.in_sample_return),
                percent(it.out_of_sample_return),
            ]
        });
        section(&mut text, "Walk-forward windows", &heads, rows);
    }
    let heads = ["Day", "Equity", "Drawdown"];
    let rows = content
        .equity
        .iter()
        .zip(&content.depth)
        .map(|((day, value), (_, depth))| vec![day.to_string(), number(*value), percent(*depth)]);
    section(&mut text, "Equity", &heads, rows);
    if !content.notes.is_empty() {
        text.push_str("\n## Left out\n\n");
        for note in &content.notes {
            text.push_str(&format!("- {}\n", markdown(note)));
        }
    }
    text
}

/// A heading and a table; nothing without rows. What is in a cell is escaped already.
fn section(
    text: &mut String,
    heading: &str,
    heads: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return;
    }
    text.push_str(&format!("\n## {heading}\n\n| {} |\n|", heads.join(" | ")));
    for (position, _) in heads.iter().enumerate() {
        text.push_str(if position == 0 { "---|" } else { "---:|" });
    }
    text.push('\n');
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
}
