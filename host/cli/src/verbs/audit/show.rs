//! Records for people.

use anyhow::Result;
use serde_json::Value;

use crate::control::AuditRequest;
use crate::output::{Output, print, table};
use crate::terminal;
use crate::verbs::cell;

/// What a record is shown by.
const COLUMNS: [&str; 8] = [
    "time",
    "kind",
    "plugin",
    "operation",
    "project",
    "decision",
    "outcome",
    "reason",
];
/// The widths of all columns but the last, where rows are shown before all of them are known.
const WIDTHS: [usize; 7] = [27, 9, 20, 32, 20, 10, 12];

/// Shows records as they come: as they are for machines, in columns for people.
pub struct Shown {
    form: Form,
    rows: Vec<Vec<String>>,
}

enum Form {
    /// Line by line, as they are.
    Raw,
    /// Line by line, in columns of a fixed width.
    Columns,
    /// All at once, in a table.
    Table,
}

impl Shown {
    pub fn new(request: &AuditRequest, output: Output) -> Self {
        let form = match request {
            AuditRequest::Export { .. } => Form::Raw,
            _ if output.json => Form::Raw,
            AuditRequest::Tail { follow: true, .. } => Form::Columns,
            _ => Form::Table,
        };
        Self {
            form,
            rows: Vec::new(),
        }
    }

    /// Shows a record, or keeps it for the table.
    pub fn line(&mut self, line: &str) -> Result<()> {
        match self.form {
            Form::Raw => print(line),
            Form::Columns => print(&columns(&row(line))),
            Form::Table => {
                self.rows.push(row(line));
                Ok(())
            }
        }
    }

    /// Shows the table.
    pub fn end(&self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        print(&table(&COLUMNS, &self.rows))
    }
}

fn row(line: &str) -> Vec<String> {
    let Ok(record) = serde_json::from_str::<Value>(line) else {
        return vec![terminal::line(line)];
    };
    COLUMNS
        .iter()
        .map(|column| match (*column, record.get("project")) {
            ("project", Some(project @ Value::Object(_))) => match project.get("name") {
                Some(Value::String(name)) => terminal::line(name),
                _ => cell(project, "id"),
            },
            // What a person did stands in place of an operation.
            ("operation", _) if record.get("operation").is_none() => cell(&record, "what"),
            (column, _) => cell(&record, column),
        })
        .collect()
}

fn columns(row: &[String]) -> String {
    let widths = WIDTHS.iter().copied().chain(std::iter::repeat(0));
    let cells: Vec<_> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    cells.join("  ").trim_end().to_owned()
}

/// What verifying found.
pub fn report(report: &Value) -> String {
    let text = report
        .get("text")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let text = terminal::block(text);
    match report.get("head").and_then(Value::as_str) {
        Some(head) => format!("{text}\nhead: {}", terminal::line(head)),
        None => text,
    }
}

/// What became of calls whose outcome was unknown.
pub fn reconciled(found: &Value) -> String {
    let columns = [
        "call",
        "account",
        "plugin",
        "operation",
        "finding",
        "message",
    ];
    let rows: Vec<_> = found
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| columns.map(|column| cell(call, column)).to_vec())
        .collect();
    if rows.is_empty() {
        "every call has its outcome".to_owned()
    } else {
        table(&columns, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_row_whatever_is_in_it() {
        let line = r#"{"seq":1,"time":"2026-01-01T00:00:00.000001Z","kind":"denied","plugin":"lab","operation":"files/read-file","project":{"id":7,"name":"Lab/\u001bx"},"decision":"denied","reason":"no grant"}"#;
        assert_eq!(
            row(line),
            [
                "2026-01-01T00:00:00.000001Z",
                "denied",
                "lab",
                "files/read-file",
                "Lab/\\u{1b}x",
                "denied",
                "-",
                "no grant"
            ]
        );
        assert_eq!(row(r#"{"kind":"admin","what":"backup"}"#)[3], "backup");
        assert_eq!(row("\u{1b}"), ["\\u{1b}"]);
        let columns = columns(&row(line));
        assert!(columns.contains("denied     lab  "), "{columns}");
    }
}
