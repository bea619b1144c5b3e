//! Tables and lists of named values for people, within the width of the terminal.
//!
//! Invariant: nothing is left out. A value that is too wide goes on below its beginning and never below the first column, so
//! that no part of it passes for another row. `--json` has every value as it is.

use std::sync::OnceLock;

use comfy_table::{CellAlignment, Table, presets};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::terminal;

/// Columns between two values.
const GAP: usize = 2;
/// The smallest width of the last value of a row, whose words are broken if they are longer.
const MIN_LAST: usize = 16;
/// The smallest width that output is laid out for.
const MIN_WIDTH: usize = 40;

/// Not set in tests, which then depend on no terminal.
static WIDTH: OnceLock<Option<usize>> = OnceLock::new();

/// Measures what standard output goes to: `COLUMNS` if it is set, otherwise the terminal if it is one.
pub fn measure() {
    WIDTH.get_or_init(|| {
        let given = std::env::var("COLUMNS").ok();
        let given = given.and_then(|columns| columns.trim().parse::<usize>().ok());
        let columns = given.filter(|columns| *columns > 0).or_else(terminal_width);
        columns.map(|columns| columns.max(MIN_WIDTH))
    });
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn width() -> Option<usize> {
    WIDTH.get().copied().flatten()
}

/// Whether a line is not wider than the terminal.
pub fn fits(line: &str) -> bool {
    width().is_none_or(|limit| line.width() <= limit)
}

/// A table without rules. Columns of numbers, where `-` stands for a missing one, are aligned to the right. One that is too
/// wide, even with its cells in several lines, becomes a list of named values for each row.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    table_within(header, rows, width())
}

/// A list of named values for each row. A value that there is not is left out.
pub fn records(header: &[&str], rows: &[Vec<String>]) -> String {
    records_within(header, rows, width())
}

/// Names, each with its value beside it, indented.
pub fn fields(indent: usize, rows: &[(String, String)]) -> String {
    fields_within(indent, rows, width())
}

/// A line of words that goes on, indented, in the next line.
pub fn folded(line: &str) -> String {
    folded_within(line, width())
}

fn table_within(header: &[&str], rows: &[Vec<String>], limit: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().enumerate();
            cells
                .map(|(at, cell)| match at {
                    0 => terminal::line(cell),
                    _ => clean(cell),
                })
                .collect()
        })
        .collect();
    let Some(limit) = limit else {
        return aligned(header, rows);
    };
    let columns: Vec<Column> = (0..header.len())
        .map(|at| Column::new(header, &rows, at))
        .collect();
    let Some(widths) = widths(&columns, limit) else {
        return records_within(header, &rows, Some(limit));
    };
    let wrap = |row: Vec<String>| -> Vec<String> {
        let cells = row.into_iter().zip(&widths);
        cells
            .map(|(cell, width)| wrapped(&cell, *width).join("\n"))
            .collect()
    };
    aligned(header, rows.into_iter().map(wrap).collect())
}

/// Rows of clean cells in columns.
fn aligned(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    let numeric = |at: usize| {
        let cell = |row: &Vec<String>| row.get(at).cloned().unwrap_or_default();
        let cells: Vec<String> = rows.iter().map(cell).collect();
        let may_be = |cell: &String| cell == "-" || is_number(cell);
        cells.iter().all(may_be) && cells.iter().any(|cell| is_number(cell))
    };
    let numeric: Vec<bool> = (0..header.len()).map(numeric).collect();
    table.add_rows(rows);
    for (column, numeric) in table.column_iter_mut().zip(numeric) {
        column.set_padding((0, 2));
        if numeric {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn is_number(cell: &str) -> bool {
    let number = cell.trim_end_matches('%').replace(',', "");
    number.parse::<f64>().is_ok()
}

/// The text as it is measured and shown.
fn clean(text: &str) -> String {
    terminal::block(text).replace('\t', "    ")
}

/// How wide a column is.
#[derive(Debug, Clone, Copy)]
struct Column {
    /// With every value in its own lines.
    natural: usize,
    /// With a value in several lines, but each of its words in one.
    least: usize,
}

impl Column {
    fn new(header: &[&str], rows: &[Vec<String>], at: usize) -> Self {
        let name = header.get(at).map_or(0, |name| name.width());
        let cells = rows.iter().filter_map(|row| row.get(at));
        let widest = |separator: char| {
            let parts = cells.clone().flat_map(|cell| cell.split(['\n', separator]));
            parts.map(str::width).max().unwrap_or_default().max(name)
        };
        let (natural, word) = (widest('\n'), widest(' '));
        let least = match at {
            // What goes on in the first column would pass for another row.
            0 => natural,
            at if at + 1 == header.len() => word.min(name.max(MIN_LAST)),
            _ => word,
        };
        Self { natural, least }
    }
}

/// The widths of columns that share a line; `None` if it is too narrow for them. What is left over goes to the columns that
/// want least of it first, so that as many as possible stay in one line.
fn widths(columns: &[Column], limit: usize) -> Option<Vec<usize>> {
    let gaps = GAP * columns.len().saturating_sub(1);
    let least: usize = columns.iter().map(|column| column.least).sum();
    let mut spare = limit.checked_sub(gaps + least)?;
    let mut widths: Vec<usize> = columns.iter().map(|column| column.least).collect();
    let mut wants: Vec<(usize, &mut usize)> = columns
        .iter()
        .map(|column| column.natural - column.least)
        .zip(&mut widths)
        .collect();
    wants.sort_unstable_by_key(|(want, _)| *want);
    let mut waiting = wants.len();
    for (want, width) in wants {
        let given = want.min(spare / waiting);
        *width += given;
        spare -= given;
        waiting -= 1;
    }
    Some(widths)
}

fn records_within(header: &[&str], rows: &[Vec<String>], limit: Option<usize>) -> String {
    let record = |row: &Vec<String>| {
        let named = header.iter().zip(row);
        let named = named.filter(|(_, cell)| !matches!(cell.as_str(), "" | "-"));
        let named: Vec<_> = named
            .map(|(name, cell)| (name.to_uppercase(), cell.clone()))
            .collect();
        fields_within(0, &named, limit)
    };
    rows.iter().map(record).collect::<Vec<_>>().join("\n\n")
}

fn fields_within(indent: usize, rows: &[(String, String)], limit: Option<usize>) -> String {
    let rows: Vec<(String, String)> = rows
        .iter()
        .map(|(name, value)| (terminal::line(name), clean(value)))
        .collect();
    let names = rows.iter().map(|(name, _)| name.width()).max();
    let below = indent + names.unwrap_or_default() + GAP;
    let mut lines = Vec::new();
    for (name, value) in rows {
        let parts = match limit {
            Some(limit) => wrapped(&value, limit.saturating_sub(below).max(MIN_LAST)),
            None => value.split('\n').map(str::to_owned).collect(),
        };
        let mut before = format!("{:indent$}{name}", "");
        for part in parts {
            let pad = below.saturating_sub(before.width());
            lines.push(format!("{before}{:pad$}{part}", "").trim_end().to_owned());
            before.clear();
        }
    }
    lines.join("\n")
}

fn folded_within(line: &str, limit: Option<usize>) -> String {
    let line = clean(line);
    match limit {
        None => line,
        Some(limit) => wrapped(&line, limit.saturating_sub(GAP)).join("\n  "),
    }
}

/// A text in lines of at most this width. Only words that are wider are broken.
fn wrapped(text: &str, limit: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut end = |line: &mut String| lines.push(std::mem::take(line).trim_end().to_owned());
    for whole in text.split('\n') {
        let (mut line, mut used) = (String::new(), 0);
        for (at, word) in whole.split(' ').enumerate() {
            let wide = word.width();
            if at > 0 && used + 1 + wide <= limit {
                line.push(' ');
                used += 1;
            } else if at > 0 {
                end(&mut line);
                used = 0;
            }
            if used + wide <= limit {
                line.push_str(word);
                used += wide;
                continue;
            }
            for letter in word.chars() {
                let wide = letter.width().unwrap_or_default();
                if used > 0 && used + wide > limit {
                    end(&mut line);
                    used = 0;
                }
                line.push(letter);
                used += wide;
            }
        }
        end(&mut line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        let row = |row: &&[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
        rows.iter().map(row).collect()
    }

    #[test]
    fn a_table_that_fits_or_that_is_for_a_file_is_not_changed() {
        let rows = rows(&[&["lab", "1", "a b"], &["desk", "-", "c"]]);
        let expected = "PLUGIN  COUNT  WORDS\nlab         1  a b\ndesk        -  c";
        for limit in [None, Some(80), Some(20)] {
            assert_eq!(
                table_within(&["plugin", "count", "words"], &rows, limit),
                expected
            );
        }
    }

    #[test]
    fn a_column_without_any_value_is_not_one_of_numbers() {
        let table =
            |rows: &[&[&str]]| table_within(&["account", "problem"], &self::rows(rows), None);
        assert_eq!(
            table(&[&["lab", "-"], &["desk", "-"]]),
            "ACCOUNT  PROBLEM\nlab      -\ndesk     -"
        );
        assert_eq!(
            table(&[&["lab", "-"], &["desk", "2"]]),
            "ACCOUNT  PROBLEM\nlab            -\ndesk           2"
        );
    }

    #[test]
    fn a_long_value_goes_on_below_itself_and_no_word_is_broken() {
        let rows = rows(&[&["ok", "call-17", "one two three four"]]);
        let shown = table_within(&["", "call", "finding"], &rows, Some(30));
        assert_eq!(
            shown,
            "    CALL     FINDING\nok  call-17  one two three\n             four"
        );
    }

    #[test]
    fn a_table_that_is_too_wide_becomes_a_list_for_each_row() {
        let long = "x".repeat(30);
        let rows = rows(&[&[&long, &long, "one two"], &["a", "-", "b"]]);
        let shown = table_within(&["id", "call", ""], &rows, Some(40));
        let expected = format!("ID    {long}\nCALL  {long}\n      one two\n\nID  a\n    b");
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_stands_in_the_first_column_begins_a_row() {
        let hostile = "lab ready\nother  ready";
        for limit in [40, 44, 60, 80] {
            let rows = rows(&[&["1", hostile, &"word ".repeat(20)]]);
            let shown = table_within(&["id", "name", "actions"], &rows, Some(limit));
            for line in shown.lines().skip(2) {
                assert!(line.starts_with("   "), "{limit}: {shown}");
            }
        }
    }

    #[test]
    fn named_values_are_aligned_with_and_without_a_limit() {
        let rows = [
            ("allow".to_owned(), "a b c".to_owned()),
            ("per-day".to_owned(), "1".to_owned()),
        ];
        let expected = "  allow    a b c\n  per-day  1";
        assert_eq!(fields_within(2, &rows, None), expected);
        assert_eq!(fields_within(2, &rows, Some(80)), expected);
        assert_eq!(
            folded_within("by the grants a, b", Some(17)),
            "by the grants\n  a, b"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal_and_nothing_is_lost(
            cells in proptest::collection::vec(
                proptest::collection::vec("[a-zA-Z日本é\u{1b}\u{202e}\t\n -]{0,90}", 3..4), 1..4),
            limit in 40_usize..120,
        ) {
            let shown = table_within(&["id", "name", "details"], &cells, Some(limit));
            for line in shown.lines() {
                prop_assert!(line.width() <= limit, "{} of {limit}: {line:?}", line.width());
                prop_assert!(!line.contains(['\u{1b}', '\u{202e}', '\t']), "{line:?}");
            }
            let visible = |text: &str| text.chars().filter(|it| !it.is_whitespace()).count();
            let all: usize = cells.iter().flatten().map(|cell| visible(&clean(cell))).sum();
            prop_assert!(visible(&shown) >= all.saturating_sub(3 * cells.len()), "{shown}");
        }
    }
}
