//! Exports records as a table, as one JSON document or as JSON lines.
//!
//! Invariant: no cell of a table is a formula to a spreadsheet, and every text is read back by removing one apostrophe
//! from the beginning of each cell that has one. A table does not distinguish the text `5` from the number, nor what is
//! absent from what is empty: both forms of JSON do, and hold each record exactly as recorded.

use std::io::{self, Write};
use std::sync::Arc;

use csv::{QuoteStyle, WriterBuilder};
use serde_json::{Map, Value};

use crate::error::AuditError;
use crate::query::Record;

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table with a header (RFC 4180). Fields without a column of their own are in `other`, as
    /// JSON. A text that a spreadsheet would interpret as a formula, or that begins with an
    /// apostrophe, is prefixed with an apostrophe.
    Csv,
    /// An array with one record per line, each exactly as recorded.
    Json,
    /// One record per line, each exactly as recorded.
    JsonLines,
}

/// What makes a text a formula to a spreadsheet if it begins with it, by OWASP's list.
const FORMULA: [char; 11] = [
    '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
];

/// The columns of the table; the last one holds all other fields.
const COLUMNS: [&str; 24] = [
    "seq",
    "time",
    "kind",
    "call",
    "account",
    "plugin",
    "digest",
    "invocation",
    "person",
    "operation",
    "access",
    "project",
    "decision",
    "grants",
    "policies",
    "reason",
    "permit",
    "reservation",
    "outcome",
    "latency-us",
    "arguments",
    "prev",
    "hash",
    "other",
];

/// Writes records. Returns how many.
///
/// # Errors
/// A record could not be read, or `to` could not be written: the output so far is then not a
/// complete export.
pub fn export(
    records: impl Iterator<Item = Result<Record, AuditError>>,
    format: Format,
    to: &mut dyn Write,
) -> Result<u64, AuditError> {
    let writing = |error: io::Error| AuditError::Export(Arc::new(error));
    let count = match format {
        Format::Csv => table(records, to)?,
        Format::Json => {
            let mut count = 0;
            for record in records {
                let before = if count == 0 { "[\n" } else { ",\n" };
                let record = record?;
                to.write_all(before.as_bytes()).map_err(writing)?;
                to.write_all(record.line.as_bytes()).map_err(writing)?;
                count += 1;
            }
            let end = if count == 0 { "[]\n" } else { "\n]\n" };
            to.write_all(end.as_bytes()).map_err(writing)?;
            count
        }
        Format::JsonLines => {
            let mut count = 0;
            for record in records {
                let record = record?;
                to.write_all(record.line.as_bytes()).map_err(writing)?;
                to.write_all(b"\n").map_err(writing)?;
                count += 1;
            }
            count
        }
    };
    to.flush().map_err(writing)?;
    Ok(count)
}

fn table(
    records: impl Iterator<Item = Result<Record, AuditError>>,
    to: &mut dyn Write,
) -> Result<u64, AuditError> {
    let writing = |error: csv::Error| AuditError::Export(Arc::new(error.into()));
    // A text in quotes is one cell also where another separator is usual.
    let mut table = WriterBuilder::new()
        .quote_style(QuoteStyle::NonNumeric)
        .from_writer(to);
    table.write_record(COLUMNS).map_err(writing)?;
    let mut count = 0;
    for record in records {
        let mut fields = record?.fields;
        let mut row: Vec<String> = Vec::with_capacity(COLUMNS.len());
        for column in COLUMNS.iter().take(COLUMNS.len() - 1) {
            row.push(fields.shift_remove(*column).map_or_else(String::new, cell));
        }
        row.push(rest(fields));
        table.write_record(&row).map_err(writing)?;
        count += 1;
    }
    table
        .flush()
        .map_err(|error| AuditError::Export(Arc::new(error)))?;
    Ok(count)
}

/// A value as a cell. Only texts can be formulas: a number is one although it may be negative.
fn cell(value: Value) -> String {
    match value {
        // The second, so that removing one apostrophe always gives the text.
        Value::String(text) if text.starts_with(FORMULA) || text.starts_with('\'') => {
            format!("'{text}")
        }
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn rest(fields: Map<String, Value>) -> String {
    if fields.is_empty() {
        String::new()
    } else {
        Value::Object(fields).to_string()
    }
}
