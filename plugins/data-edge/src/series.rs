//! A table whose rows have times, in the one form in which it is stored.
//!
//! Invariant: equal data has equal bytes, and so the same version: times are written in one form, and cells as CSV needs
//! it.

use std::ops::Range;

use qchost_sdk::prelude::JsonSchema;
use serde::Deserialize;

use crate::calendar;
use crate::table::{Invalid, Table};
use crate::time::{self, Clock, Zone};

/// How the rows of a data set are to be understood.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Shape {
    /// The column with the times: dates, times in ISO 8601, or seconds or milliseconds since 1970.
    pub(crate) time: String,
    /// The column that tells several series apart, such as `symbol`.
    pub(crate) key: Option<String>,
    /// The zone in which times are stored, and that of times without one. `utc`, unless the data is LEAN's of equities:
    /// these times are `new-york`'s.
    pub(crate) zone: Option<Zone>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            time: "time".to_owned(),
            key: None,
            zone: None,
        }
    }
}

/// Rows with times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) table: Table,
    /// The time of each row, in microseconds of [`crate::time`].
    pub(crate) times: Vec<i64>,
    pub(crate) time: usize,
    pub(crate) key: Option<usize>,
    pub(crate) zone: Zone,
}

impl Series {
    pub(crate) fn new(raw: &Table, shape: &Shape) -> Result<Self, Invalid> {
        let time = raw.column(&shape.time)?;
        let key = shape
            .key
            .as_deref()
            .map(|key| raw.column(key))
            .transpose()?;
        if key == Some(time) {
            return Err(Invalid::new("`key` and `time` name the same column"));
        }
        let zone = shape.zone.unwrap_or_default();
        let clock = Clock::new(zone);
        let mut table = Table::new(raw.columns().to_vec())?;
        let mut times = Vec::with_capacity(raw.rows());
        for row in 0..raw.rows() {
            let cell = raw.cell(row, time);
            let at = clock.parse(cell).filter(|at| calendar::is_plausible(*at));
            let (at, text) = at
                .and_then(|at| Some((at, time::text(at)?)))
                .ok_or_else(|| {
                    Invalid::new(format!(
                        "row {} has \"{}\" as its time, which is not one from 1800 to 2200 in a form that is read",
                        row.saturating_add(1),
                        beginning(cell)
                    ))
                })?;
            times.push(at);
            let cells = raw.row(row).enumerate();
            table.push(
                cells.map(|(column, cell)| if column == time { text.as_str() } else { cell }),
            )?;
        }
        Ok(Self {
            table,
            times,
            time,
            key,
            zone,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.times.len()
    }

    /// The key of a row; empty if the data has one series.
    pub(crate) fn key_of(&self, row: usize) -> &str {
        self.key.map_or("", |key| self.table.cell(row, key))
    }

    /// The line that names the columns.
    pub(crate) fn header(&self) -> Vec<u8> {
        line(self.table.columns().iter().map(String::as_str))
    }

    /// A row as a line of CSV.
    pub(crate) fn line(&self, row: usize) -> Vec<u8> {
        line(self.table.row(row))
    }

    /// Rows as a CSV file of their own.
    pub(crate) fn csv(&self, rows: Range<usize>) -> Vec<u8> {
        let mut bytes = self.header();
        for row in rows {
            bytes.extend_from_slice(&self.line(row));
        }
        bytes
    }
}

/// The beginning of a cell, for a message.
fn beginning(cell: &str) -> String {
    cell.chars()
        .filter(|it| !it.is_control())
        .take(40)
        .collect()
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            bytes.push(b'"');
            bytes.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
            bytes.push(b'"');
        } else {
            bytes.extend_from_slice(cell.as_bytes());
        }
    }
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::{Format, Reader};

    pub(crate) fn series(csv: &str, shape: &Shape) -> Result<Series, Invalid> {
        let mut reader = Reader::new(Some(Format::Csv));
        reader.file("a.csv", csv.as_bytes())?;
        Series::new(&reader.finish()?, shape)
    }

    #[test]
    fn equal_data_has_equal_bytes_however_its_times_are_written() {
        let one = series(
            "time,close\n2024-01-02,1\n2024-01-03 00:00,2\n",
            &Shape::default(),
        )
        .unwrap();
        let other = series("time,close\n20240102,1\n1704240000,2\n", &Shape::default()).unwrap();
        assert_eq!(one, other);
        let expected = "time,close\n2024-01-02 00:00:00,1\n2024-01-03 00:00:00,2\n";
        assert_eq!(String::from_utf8(one.csv(0..2)).unwrap(), expected);
        assert_eq!(one.csv(1..2), b"time,close\n2024-01-03 00:00:00,2\n");
    }

    #[test]
    fn a_row_without_a_time_is_named() {
        let refused = series("time,close\n2024-01-02,1\nsoon,2\n", &Shape::default()).unwrap_err();
        assert!(
            refused.0.starts_with("row 2 has \"soon\" as its time"),
            "{refused}"
        );
        assert!(series("time,close\n1066-10-14,1\n", &Shape::default()).is_err());
        let shape = Shape {
            key: Some("symbol".into()),
            ..Shape::default()
        };
        assert!(series("time,close\n2024-01-02,1\n", &shape).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(notes in prop::collection::vec("[ -~\n\"]{0,12}", 1..20)) {
            let mut raw = Table::new(vec!["time".into(), "note".into()]).unwrap();
            for note in &notes {
                raw.push(["2024-01-02", note.trim()]).unwrap();
            }
            let one = Series::new(&raw, &Shape::default()).unwrap();
            let text = String::from_utf8(one.csv(0..one.rows())).unwrap();
            prop_assert_eq!(series(&text, &Shape::default()).unwrap(), one);
        }
    }
}
