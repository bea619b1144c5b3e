//! Reads CSV, JSON and LEAN's files into one table.
//!
//! LEAN's forms are those that its repository documents in `Data/equity/readme.md`: minute and second bars have the
//! milliseconds since midnight, hourly and daily ones a `YYYYMMDD HH:MM`; prices of equities are integers of a
//! ten-thousandth. The date of intraday bars is the beginning of the file's name.

use std::borrow::Cow;

use qchost_sdk::prelude::JsonSchema;
use serde::de::{DeserializeSeed, Deserializer as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::archive;
use crate::table::{Invalid, MAX_BYTES, Table, number};
use crate::time;

/// How a file or text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// Comma-separated values, whose first line names the columns.
    Csv,
    /// A list of objects, or an object in each line.
    Json,
    /// LEAN's bars of equities: prices are integers of a ten-thousandth.
    LeanEquity,
    /// LEAN's bars of futures, currencies or crypto-currencies: prices as they are.
    LeanUnscaled,
}

/// What is read so far, from one or more files with the same columns.
#[derive(Debug)]
pub(crate) struct Reader {
    format: Option<Format>,
    table: Option<Table>,
    bytes: usize,
}

impl Reader {
    /// Reads files of one format; without one, the end of each name decides between CSV and JSON.
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self {
            format,
            table: None,
            bytes: 0,
        }
    }

    /// The table of all that was read.
    pub(crate) fn finish(self) -> Result<Table, Invalid> {
        let table = self.table.filter(|table| table.rows() > 0);
        table.ok_or_else(|| Invalid::new("the data has no rows"))
    }

    /// Reads a file, or the one file in an archive.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Invalid> {
        if bytes.starts_with(b"PAR1") || name.to_ascii_lowercase().ends_with(".parquet") {
            return Err(Invalid::new(format!(
                "{name} is Parquet, which this plugin does not read: write it as CSV first, such as by \
                 `pandas.read_parquet(…).to_csv(…)`"
            )));
        }
        if archive::is_archive(bytes) {
            let (inside, content) = archive::only_file(name, bytes)?;
            // The archive has the date in its name; the file inside it may be named otherwise.
            let dated = if date_of(&inside).is_some() {
                inside
            } else {
                format!("{}/{inside}", base(name))
            };
            return self.plain(&dated, &content);
        }
        self.plain(name, bytes)
    }

    fn plain(&mut self, name: &str, bytes: &[u8]) -> Result<(), Invalid> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_BYTES.saturating_mul(2) {
            return Err(Invalid::new(format!(
                "the files have more than {} MiB together",
                MAX_BYTES >> 19
            )));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Invalid::new(format!("{name} is not text in UTF-8")))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_json = || {
            name.to_ascii_lowercase().ends_with(".json")
                || name.to_ascii_lowercase().ends_with(".jsonl")
        };
        let format = match self.format {
            Some(format) => format,
            None if is_json() => Format::Json,
            None => Format::Csv,
        };
        let read = match format {
            Format::Csv => self.csv(text),
            Format::Json => self.json(text),
            Format::LeanEquity => self.lean(name, text, true),
            Format::LeanUnscaled => self.lean(name, text, false),
        };
        read.map_err(|invalid| Invalid::new(format!("{name}: {invalid}")))
    }

    /// The table, which gets its columns from the first file.
    fn table(&mut self, columns: Vec<String>) -> Result<&mut Table, Invalid> {
        if let Some(table) = &self.table
            && table.columns() != columns
        {
            return Err(Invalid::new(format!(
                "it has the columns {}, and what was read before has {}",
                columns.join(", "),
                table.columns().join(", ")
            )));
        }
        match &mut self.table {
            Some(table) => Ok(table),
            none => Ok(none.insert(Table::new(columns)?)),
        }
    }

    fn csv(&mut self, text: &str) -> Result<(), Invalid> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let header = reader.headers().map_err(csv_error)?;
        if looks_like_data(header.get(0).unwrap_or_default()) {
            return Err(Invalid::new(
                "the first line has no names of columns; if these are LEAN's bars, say so by `format`: \"lean-equity\" or \
                 \"lean-unscaled\"",
            ));
        }
        let columns = header.iter().map(str::to_owned).collect();
        let table = self.table(columns)?;
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(csv_error)? {
            table.push(record.iter())?;
        }
        Ok(())
    }

    fn json(&mut self, text: &str) -> Result<(), Invalid> {
        let wrong = |error: serde_json::Error| {
            Invalid::new(format!(
                "it is neither a JSON list of objects nor an object in each line: {error}"
            ))
        };
        if text.trim_start().starts_with('[') {
            let mut problem = None;
            let mut reader = serde_json::Deserializer::from_str(text);
            let rows = Rows {
                reader: self,
                problem: &mut problem,
            };
            let read = reader.deserialize_seq(rows).and_then(|()| reader.end());
            return match problem {
                Some(invalid) => Err(invalid),
                None => read.map_err(wrong),
            };
        }
        for row in serde_json::Deserializer::from_str(text).into_iter::<Map<String, Value>>() {
            self.object(&row.map_err(wrong)?)?;
        }
        Ok(())
    }

    /// Adds an object as a row. The first one says which columns there are; what a later one lacks is empty.
    pub(crate) fn object(&mut self, row: &Map<String, Value>) -> Result<(), Invalid> {
        let table = match &mut self.table {
            Some(table) => table,
            none => none.insert(Table::new(row.keys().cloned().collect())?),
        };
        let number = table.rows().saturating_add(1);
        if let Some(other) = row.keys().find(|key| !table.columns().contains(key)) {
            return Err(Invalid::new(format!(
                "row {number} has a column \"{other}\", which the first row does not have"
            )));
        }
        let cells: Result<Vec<Cow<'_, str>>, Invalid> = table
            .columns()
            .iter()
            .map(|column| match row.get(column) {
                None | Some(Value::Null) => Ok(Cow::Borrowed("")),
                Some(Value::String(text)) => Ok(Cow::Borrowed(text.as_str())),
                Some(Value::Number(number)) => Ok(Cow::Owned(number.to_string())),
                Some(Value::Bool(it)) => Ok(Cow::Borrowed(if *it { "true" } else { "false" })),
                Some(Value::Array(_) | Value::Object(_)) => Err(Invalid::new(format!(
                    "row {number} has a list or an object in \"{column}\""
                ))),
            })
            .collect();
        let cells = cells?;
        table.push(cells.iter().map(AsRef::as_ref))
    }

    fn lean(&mut self, name: &str, text: &str, is_scaled: bool) -> Result<(), Invalid> {
        // A tick of a trade has as many values as a bar.
        if name.to_ascii_lowercase().contains("_tick.") {
            return Err(Invalid::new("LEAN's ticks are not read: use its bars"));
        }
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut record = csv::StringRecord::new();
        let mut number_of_line = 0_usize;
        while reader.read_record(&mut record).map_err(csv_error)? {
            number_of_line = number_of_line.saturating_add(1);
            let columns: &[&str] = match record.len() {
                6 => &["time", "open", "high", "low", "close", "volume"],
                11 => &[
                    "time",
                    "bid-open",
                    "bid-high",
                    "bid-low",
                    "bid-close",
                    "bid-size",
                    "ask-open",
                    "ask-high",
                    "ask-low",
                    "ask-close",
                    "ask-size",
                ],
                other => {
                    return Err(Invalid::new(format!(
                        "line {number_of_line} has {other} values: LEAN's bars have 6 (trades) or 11 (quotes)"
                    )));
                }
            };
            let time = lean_time(name, record.get(0).unwrap_or_default())
                .ok_or_else(|| Invalid::new(format!(
                    "line {number_of_line} begins with neither `YYYYMMDD HH:MM` nor milliseconds since midnight, or the name of the \
                     file does not begin with its date"
                )))?;
            let mut cells = vec![time];
            for (cell, column) in record.iter().zip(columns).skip(1) {
                let is_price = !matches!(*column, "volume" | "bid-size" | "ask-size");
                let cell = cell.trim();
                let value = match cell {
                    "" => Some(String::new()),
                    _ if is_scaled && is_price => unscaled(cell),
                    _ => number(cell).map(|_| cell.to_owned()),
                };
                cells.push(value.ok_or_else(|| {
                    Invalid::new(format!(
                        "line {number_of_line} has a {column} that is not a number of LEAN's"
                    ))
                })?);
            }
            let columns = columns.iter().map(|it| (*it).to_owned());
            self.table(columns.collect())?
                .push(cells.iter().map(String::as_str))?;
        }
        Ok(())
    }
}

fn csv_error(error: csv::Error) -> Invalid {
    Invalid::new(format!("it is not CSV: {error}"))
}

/// Whether a cell of the first line is a value and not the name of a column.
fn looks_like_data(cell: &str) -> bool {
    cell.bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_digit())
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The date that a file's name, or that of its folder, begins with.
fn date_of(name: &str) -> Option<i64> {
    let clock = time::Clock::new(time::Zone::Utc);
    name.rsplit('/').find_map(|part| {
        let digits = part.get(..8)?;
        digits
            .bytes()
            .all(|it| it.is_ascii_digit())
            .then(|| clock.parse(digits))?
    })
}

/// A time of LEAN's in the form of all times.
fn lean_time(name: &str, cell: &str) -> Option<String> {
    let cell = cell.trim();
    if cell.contains(' ') {
        return time::text(time::Clock::new(time::Zone::Utc).parse(cell)?);
    }
    // Some files have fractions of milliseconds.
    let (whole, fraction) = cell.split_once('.').unwrap_or((cell, ""));
    let millis: i64 = whole
        .parse()
        .ok()
        .filter(|it| (0..86_400_000).contains(it))?;
    let micros = match fraction.get(..3.min(fraction.len()))? {
        "" => 0,
        digits => format!("{digits:0<3}")
            .parse::<i64>()
            .ok()
            .filter(|it| *it >= 0)?,
    };
    time::text(date_of(name)?.checked_add(millis.checked_mul(1000)?.checked_add(micros)?)?)
}

/// A price in integers of a ten-thousandth as a decimal, without going through floating point.
fn unscaled(cell: &str) -> Option<String> {
    // Adjusted data of LEAN has fractions, as zeros.
    let cell = cell.strip_suffix(".0").unwrap_or(cell);
    let value: i64 = cell.parse().ok()?;
    let (sign, value) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    let (whole, fraction) = (value / 10_000, value % 10_000);
    if fraction == 0 {
        return Some(format!("{sign}{whole}"));
    }
    let fraction = format!("{fraction:04}");
    Some(format!("{sign}{whole}.{}", fraction.trim_end_matches('0')))
}

/// Reads a list of objects one at a time, so that the list is never in memory as JSON.
struct Rows<'a> {
    reader: &'a mut Reader,
    problem: &'a mut Option<Invalid>,
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element_seed(Row)? {
            if let Err(invalid) = self.reader.object(&row) {
                *self.problem = Some(invalid);
                return Err(serde::de::Error::custom("a row cannot be taken"));
            }
        }
        Ok(())
    }
}

struct Row;

impl<'de> DeserializeSeed<'de> for Row {
    type Value = Map<String, Value>;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        Map::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::archive::tests::packed;

    fn read(name: &str, text: &str, format: Option<Format>) -> Result<Vec<String>, Invalid> {
        let mut reader = Reader::new(format);
        reader.file(name, text.as_bytes())?;
        Ok(lines(&reader.finish()?))
    }

    fn lines(table: &Table) -> Vec<String> {
        let header = std::iter::once(table.columns().join("|"));
        let rows = (0..table.rows()).map(|row| table.row(row).collect::<Vec<_>>().join("|"));
        header.chain(rows).collect()
    }

    #[test]
    fn csv_and_json_of_the_same_rows_are_the_same() {
        let csv = "time,close,note\n2024-01-02,1.5,\"a, b\"\r\n2024-01-03, 2 ,\n";
        let expected = ["time|close|note", "2024-01-02|1.5|a, b", "2024-01-03|2|"];
        assert_eq!(read("a.csv", csv, None).unwrap(), expected);
        let json = r#"[{"time": "2024-01-02", "close": 1.5, "note": "a, b"}, {"close": 2, "time": "2024-01-03", "note": null}]"#;
        assert_eq!(read("a.json", json, None).unwrap(), expected);
        let lines = json.trim_matches(['[', ']']).replace("}, {", "}\n{");
        assert_eq!(read("a.jsonl", &lines, None).unwrap(), expected);
    }

    #[test]
    fn minute_bars_of_lean_get_their_date_from_the_name_and_their_prices_by_ten_thousand() {
        let zip = packed(&[(
            "20131007_spy_minute_trade.csv",
            b"34200000,1684900,1685000,1684800,1684912,1000\n",
        )]);
        let mut reader = Reader::new(Some(Format::LeanEquity));
        reader
            .file("equity/usa/minute/spy/20131007_trade.zip", &zip)
            .unwrap();
        assert_eq!(
            lines(&reader.finish().unwrap()),
            [
                "time|open|high|low|close|volume",
                "2013-10-07 09:30:00|168.49|168.5|168.48|168.4912|1000"
            ]
        );
        // The name of the archive stands in where the entry has no date.
        let zip = packed(&[("spy.csv", b"34200000,1,2,3,4,5\n")]);
        let mut reader = Reader::new(Some(Format::LeanEquity));
        reader.file("minute/20131008_trade.zip", &zip).unwrap();
        assert!(lines(&reader.finish().unwrap())[1].starts_with("2013-10-08 09:30:00|0.0001|"));
    }

    #[test]
    fn daily_bars_and_quotes_of_lean_are_read() {
        let daily = read(
            "spy.csv",
            "19980102 00:00,973100,974400,963400,973800,2150000\n",
            Some(Format::LeanEquity),
        );
        assert_eq!(
            daily.unwrap()[1],
            "1998-01-02 00:00:00|97.31|97.44|96.34|97.38|2150000"
        );
        let quote = "34200000,,,,,,1,2,3,4,5\n";
        let quotes = read("20131007_quote.csv", quote, Some(Format::LeanEquity)).unwrap();
        assert_eq!(
            quotes[1],
            "2013-10-07 09:30:00||||||0.0001|0.0002|0.0003|0.0004|5"
        );
        let forex = read(
            "20131007_quote.csv",
            "0,1.3,1.4,1.2,1.35,7\n",
            Some(Format::LeanUnscaled),
        )
        .unwrap();
        assert_eq!(forex[1], "2013-10-07 00:00:00|1.3|1.4|1.2|1.35|7");
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_file_and_row() {
        for (name, text, format, why) in [
            (
                "a.csv",
                "time,close\n2024-01-02\n",
                None,
                "a.csv: row 1 has 1 cells",
            ),
            ("a.csv", "34200000,1,2,3,4,5\n", None, "say so by `format`"),
            ("a.csv", "time,close\n", None, "no rows"),
            ("a.json", "[1]", None, "JSON list of objects"),
            (
                "a.json",
                r#"[{"a": [1]}]"#,
                None,
                "a list or an object in \"a\"",
            ),
            (
                "a.json",
                r#"[{"a": 1}, {"b": 1}]"#,
                None,
                "row 2 has a column \"b\"",
            ),
            (
                "spy.csv",
                "34200000,1,2,3,4,5\n",
                Some(Format::LeanEquity),
                "does not begin with its date",
            ),
            (
                "20240102.csv",
                "86400000,1,2,3,4,5\n",
                Some(Format::LeanEquity),
                "since midnight",
            ),
            (
                "20240102.csv",
                "0,1.5,2,3,4,5\n",
                Some(Format::LeanEquity),
                "open that is not a number",
            ),
            ("a.parquet", "PAR1", None, "Parquet"),
            (
                "20131008_bac_Trade_Tick.csv",
                "0,1,2,3,4,5\n",
                Some(Format::LeanUnscaled),
                "ticks are not read",
            ),
            (
                "20131008.csv",
                "14400009.367,137450,100,D,1,0\n",
                Some(Format::LeanUnscaled),
                "low that is not a number",
            ),
        ] {
            let refused = read(name, text, format).unwrap_err();
            assert!(refused.0.contains(why), "{refused}");
        }
        let mut reader = Reader::new(None);
        assert!(reader.file("a.csv", &[0xff, 0xfe]).is_err());
        reader.file("a.csv", b"time,a\n1,2\n").unwrap();
        let other = reader.file("b.csv", b"time,b\n1,2\n").unwrap_err();
        assert!(
            other.0.starts_with("b.csv: it has the columns time, b"),
            "{other}"
        );
    }

    proptest! {
        #[test]
        fn a_price_is_scaled_without_loss(value in -1_000_000_000_i64..1_000_000_000) {
            let text = unscaled(&value.to_string()).unwrap();
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let digits: i64 = format!("{}{fraction:0<4}", whole.trim_start_matches('-')).parse().unwrap();
            prop_assert_eq!(digits, value.abs());
            prop_assert_eq!(text.starts_with('-'), value < 0);
        }

        #[test]
        fn no_text_breaks_a_reader(text in ".{0,200}", format in 0_usize..4) {
            let formats = [Format::Csv, Format::Json, Format::LeanEquity, Format::LeanUnscaled];
            let _ = read("20240102_a.csv", &text, Some(formats[format]));
        }
    }
}
