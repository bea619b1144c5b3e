//! What is known of a version of a data set, and what differs between two.
//!
//! Invariant: a version is named by its content: the first half of the SHA-256 of its rows as one CSV file. What a
//! manifest says of rows and parts is computed from these rows alone.

use std::collections::BTreeMap;
use std::ops::Range;

use md5::Md5;
use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::quality::{Kind, Quality};
use crate::series::Series;
use crate::table::number;
use crate::time::{self, Zone};

/// Bytes after which a part ends, at the end of a row.
pub(crate) const PART_BYTES: usize = 4 << 20;
/// Maximum periods with digests of their own.
const MAX_PERIODS: usize = 400;
/// Hexadecimal digits of a version, and of the digest of a period.
const VERSION_DIGITS: usize = 32;
const PERIOD_DIGITS: usize = 16;

/// Whose data it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Label {
    /// The user's: values are shown in reports, and the account may download them again.
    #[default]
    Own,
    /// Of a vendor or of QuantConnect: no value is ever shown, and nothing is downloaded.
    Licensed,
}

/// A column of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Column {
    /// Name of the column.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) kind: ColumnKind,
    /// Rows without a value.
    pub(crate) empty: u64,
    /// Smallest number; null for other columns, and for licensed data.
    pub(crate) min: Option<f64>,
    /// Largest number; null for other columns, and for licensed data.
    pub(crate) max: Option<f64>,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ColumnKind {
    /// The times of the rows.
    Time,
    /// The key that tells series apart.
    Key,
    /// Numbers.
    Number,
    /// Anything else.
    Text,
}

/// An object with a part of the rows: a CSV file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Part {
    /// Name of the object in the folder of the version.
    pub(crate) name: String,
    /// Rows of the part.
    pub(crate) rows: u64,
    /// Size in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of its bytes.
    pub(crate) sha256: String,
    /// MD5 of its bytes, as QuantConnect says it of an object.
    pub(crate) md5: String,
}

/// The rows of a day or a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Period {
    /// Rows of the period.
    pub(crate) rows: u64,
    /// Beginning of the SHA-256 of these rows.
    pub(crate) digest: String,
}

/// What is known of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Manifest {
    /// Form of the manifest: 1.
    pub(crate) format: u32,
    /// Prefix of its keys in the Object Store.
    pub(crate) prefix: String,
    /// Name of the data set.
    pub(crate) set: String,
    /// Name of the version: the beginning of `sha256`.
    pub(crate) version: String,
    /// SHA-256 of all rows as one CSV file.
    pub(crate) sha256: String,
    /// When the upload began, UTC.
    pub(crate) created: String,
    /// Where the data is from, in the words of who uploaded it.
    pub(crate) source: String,
    /// Whose data it is.
    pub(crate) label: Label,
    /// Versions of this data set that it was made from.
    pub(crate) parents: Vec<String>,
    /// The version's place that it was promoted from, as `prefix/set/version`.
    pub(crate) promoted_from: Option<String>,
    /// Columns, in their order.
    pub(crate) columns: Vec<Column>,
    /// Zone of the times.
    pub(crate) zone: Zone,
    /// Number of rows.
    pub(crate) rows: u64,
    /// First time, in the zone.
    pub(crate) first: Option<String>,
    /// Last time, in the zone.
    pub(crate) last: Option<String>,
    /// Objects with the rows, in their order.
    pub(crate) parts: Vec<Part>,
    /// Rows of each month, at most 400 months.
    pub(crate) months: BTreeMap<String, Period>,
    /// Rows of each day, if there are at most 400 days.
    pub(crate) days: BTreeMap<String, Period>,
    /// Rows with findings, by kind, when it was uploaded.
    pub(crate) findings: BTreeMap<Kind, u64>,
}

/// What the caller says of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) prefix: String,
    pub(crate) set: String,
    pub(crate) created: String,
    pub(crate) source: String,
    pub(crate) label: Label,
    pub(crate) parents: Vec<String>,
}

/// The rows of each part.
pub(crate) type Cuts = Vec<Range<usize>>;

/// Computes the manifest of rows, and which rows are in which part.
pub(crate) fn describe(
    series: &Series,
    about: &About,
    quality: &Quality,
    part_bytes: usize,
) -> (Manifest, Cuts) {
    let header = series.header();
    let mut whole = Sha256::new();
    whole.update(&header);
    let (mut months, mut days) = (Periods::default(), Periods::default());
    let mut cuts = Cuts::new();
    let (mut start, mut size) = (0_usize, header.len());
    for row in 0..series.rows() {
        let line = series.line(row);
        whole.update(&line);
        let time = series.times.get(row).copied().unwrap_or_default();
        let text = time::text(time).unwrap_or_default();
        months.add(text.get(..7).unwrap_or_default(), &line);
        days.add(text.get(..10).unwrap_or_default(), &line);
        if size.saturating_add(line.len()) > part_bytes && row > start {
            cuts.push(start..row);
            (start, size) = (row, header.len());
        }
        size = size.saturating_add(line.len());
    }
    cuts.push(start..series.rows());
    let parts = cuts.iter().enumerate().map(|(at, rows)| {
        let bytes = series.csv(rows.clone());
        Part {
            name: format!("part-{at:04}.csv"),
            rows: count(rows.len()),
            bytes: count(bytes.len()),
            sha256: sha256(&bytes),
            md5: md5(&bytes),
        }
    });
    let sha256 = hex::encode(whole.finalize());
    let manifest = Manifest {
        format: 1,
        prefix: about.prefix.clone(),
        set: about.set.clone(),
        version: sha256.chars().take(VERSION_DIGITS).collect(),
        sha256,
        created: about.created.clone(),
        source: about.source.clone(),
        label: about.label,
        parents: about.parents.clone(),
        promoted_from: None,
        columns: columns(series, about.label),
        zone: series.zone,
        rows: count(series.rows()),
        first: series.times.iter().min().and_then(|it| time::text(*it)),
        last: series.times.iter().max().and_then(|it| time::text(*it)),
        parts: parts.collect(),
        months: months.finish(),
        days: days.finish(),
        findings: quality.counts(),
    };
    (manifest, cuts)
}

impl Manifest {
    /// The key of an object of the version.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{}/{}/{name}", self.prefix, self.set, self.version)
    }

    /// The bytes of the manifest's own object.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec_pretty(self).map_err(|error| Failure::failed(error.to_string()))
    }

    /// Its place, as other manifests name it.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}/{}", self.prefix, self.set, self.version)
    }
}

/// The rows of periods as they come.
#[derive(Debug, Default)]
struct Periods {
    found: BTreeMap<String, (Sha256, u64)>,
    is_full: bool,
}

impl Periods {
    fn add(&mut self, name: &str, line: &[u8]) {
        if self.is_full {
            return;
        }
        if let Some((digest, rows)) = self.found.get_mut(name) {
            digest.update(line);
            *rows = rows.saturating_add(1);
            return;
        }
        if self.found.len() >= MAX_PERIODS {
            self.is_full = true;
            self.found.clear();
            return;
        }
        let mut digest = Sha256::new();
        digest.update(line);
        self.found.insert(name.to_owned(), (digest, 1));
    }

    fn finish(self) -> BTreeMap<String, Period> {
        let found = self.found.into_iter();
        found
            .map(|(name, (digest, rows))| {
                let digest = hex::encode(digest.finalize());
                let digest = digest.chars().take(PERIOD_DIGITS).collect();
                (name, Period { rows, digest })
            })
            .collect()
    }
}

fn columns(series: &Series, label: Label) -> Vec<Column> {
    let table = &series.table;
    let names = table.columns().iter().enumerate();
    names
        .map(|(column, name)| {
            let (mut empty, mut is_number) = (0_u64, true);
            let mut range: Option<(f64, f64)> = None;
            for row in 0..table.rows() {
                let cell = table.cell(row, column);
                if cell.is_empty() {
                    empty = empty.saturating_add(1);
                    continue;
                }
                match number(cell) {
                    Some(value) => {
                        let (min, max) = range.unwrap_or((value, value));
                        range = Some((min.min(value), max.max(value)));
                    }
                    None => is_number = false,
                }
            }
            let kind = match column {
                _ if column == series.time => ColumnKind::Time,
                _ if Some(column) == series.key => ColumnKind::Key,
                _ if is_number && range.is_some() => ColumnKind::Number,
                _ => ColumnKind::Text,
            };
            let range = range.filter(|_| kind == ColumnKind::Number && label == Label::Own);
            Column {
                name: name.clone(),
                kind,
                empty,
                min: range.map(|it| it.0),
                max: range.map(|it| it.1),
            }
        })
        .collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn md5(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

pub(crate) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What differs from one version to another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Difference {
    /// Whether both have the same rows.
    pub(crate) same: bool,
    /// Rows of the second less those of the first.
    pub(crate) rows: i64,
    /// Columns that only the second has.
    pub(crate) added_columns: Vec<String>,
    /// Columns that only the first has.
    pub(crate) removed_columns: Vec<String>,
    /// Columns that both have, and that hold something else or other extremes: what each holds.
    pub(crate) changed_columns: Vec<ChangedColumn>,
    /// What the names in `periods` are.
    pub(crate) unit: Unit,
    /// Days or months whose rows differ.
    pub(crate) periods: BTreeMap<String, ChangedPeriod>,
}

/// What the periods of a difference are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    /// Days.
    #[default]
    Day,
    /// Months.
    Month,
    /// A version covers more than 400 months, so that it is not known which of them differ.
    Unknown,
}

/// A column of two versions.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ChangedColumn {
    /// In the first.
    pub(crate) before: Column,
    /// In the second.
    pub(crate) after: Column,
}

/// A period of two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ChangedPeriod {
    /// Rows in the first; null if it has none.
    pub(crate) before: Option<u64>,
    /// Rows in the second; null if it has none.
    pub(crate) after: Option<u64>,
}

/// Compares two versions by what their manifests say: no row is read.
pub(crate) fn difference(from: &Manifest, to: &Manifest) -> Difference {
    let mut difference = Difference {
        same: from.sha256 == to.sha256,
        rows: i64::try_from(to.rows)
            .unwrap_or(i64::MAX)
            .saturating_sub(i64::try_from(from.rows).unwrap_or(i64::MAX)),
        ..Difference::default()
    };
    let find = |manifest: &Manifest, name: &str| {
        manifest.columns.iter().find(|it| it.name == name).cloned()
    };
    for column in &to.columns {
        match find(from, &column.name) {
            None => difference.added_columns.push(column.name.clone()),
            Some(before) if before != *column => {
                difference.changed_columns.push(ChangedColumn {
                    before,
                    after: column.clone(),
                });
            }
            Some(_) => {}
        }
    }
    let gone = from
        .columns
        .iter()
        .filter(|it| find(to, &it.name).is_none());
    difference.removed_columns = gone.map(|it| it.name.clone()).collect();
    let has = |periods: &BTreeMap<String, Period>, manifest: &Manifest| {
        !periods.is_empty() || manifest.rows == 0
    };
    let (unit, before, after) = if has(&from.days, from) && has(&to.days, to) {
        (Unit::Day, &from.days, &to.days)
    } else if has(&from.months, from) && has(&to.months, to) {
        (Unit::Month, &from.months, &to.months)
    } else {
        difference.unit = Unit::Unknown;
        return difference;
    };
    difference.unit = unit;
    for name in before.keys().chain(after.keys()) {
        let (one, other) = (before.get(name), after.get(name));
        if one != other {
            let changed = ChangedPeriod {
                before: one.map(|it| it.rows),
                after: other.map(|it| it.rows),
            };
            difference.periods.insert(name.clone(), changed);
        }
    }
    difference
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quality::{self, Expectations};
    use crate::series::Shape;
    use crate::series::tests::series;

    pub(crate) fn described(csv: &str, part_bytes: usize) -> (Series, Manifest, Cuts) {
        let series = series(csv, &Shape::default()).unwrap();
        let quality = quality::check(&series, &Expectations::default(), false);
        let about = About {
            prefix: "data-edge".into(),
            set: "spy".into(),
            created: "2024-01-02T00:00:00Z".into(),
            source: "test".into(),
            ..About::default()
        };
        let (manifest, cuts) = describe(&series, &about, &quality, part_bytes);
        (series, manifest, cuts)
    }

    #[test]
    fn a_version_is_named_by_its_rows() {
        let (series, manifest, _) =
            described("time,close\n2024-01-02,1\n2024-01-03,2\n", PART_BYTES);
        assert_eq!(manifest.sha256, sha256(&series.csv(0..2)));
        assert!(manifest.sha256.starts_with(&manifest.version));
        assert_eq!(
            manifest.key("part-0000.csv"),
            format!("data-edge/spy/{}/part-0000.csv", manifest.version)
        );
        assert_eq!(
            (manifest.first.as_deref(), manifest.rows),
            (Some("2024-01-02 00:00:00"), 2)
        );
        assert_eq!(manifest.columns[1].max, Some(2.0));
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }

    #[test]
    fn a_difference_names_days_and_columns() {
        let (_, one, _) = described(
            "time,close,old\n2024-01-02,1,a\n2024-01-03,2,a\n2024-01-04,3,a\n",
            PART_BYTES,
        );
        let (_, other, _) = described(
            "time,close,new\n2024-01-02,1,a\n2024-01-03,9,a\n2024-01-05,3,a\n",
            PART_BYTES,
        );
        let found = difference(&one, &other);
        assert_eq!((found.same, found.rows, found.unit), (false, 0, Unit::Day));
        assert_eq!(
            (found.added_columns, found.removed_columns),
            (vec!["new".to_owned()], vec!["old".to_owned()])
        );
        assert_eq!(found.changed_columns[0].after.max, Some(9.0));
        let changed = |before, after| ChangedPeriod { before, after };
        let expected = [
            ("2024-01-03".to_owned(), changed(Some(1), Some(1))),
            ("2024-01-04".to_owned(), changed(Some(1), None)),
            ("2024-01-05".to_owned(), changed(None, Some(1))),
        ];
        assert_eq!(found.periods, expected.into());
    }

    #[test]
    fn long_histories_are_compared_by_month_and_endless_ones_as_a_whole() {
        let rows = |step: i64, count: i64| {
            let days = (0..count).map(|it| time::text(it * step * time::DAY).unwrap());
            days.fold("time,x\n".to_owned(), |csv, day| format!("{csv}{day},1\n"))
        };
        let (_, daily, _) = described(&rows(1, 500), PART_BYTES);
        assert!(daily.days.is_empty() && daily.months.len() == 17);
        assert_eq!(difference(&daily, &daily).unit, Unit::Month);
        let (_, endless, _) = described(&rows(40, 500), PART_BYTES);
        assert_eq!(difference(&daily, &endless).unit, Unit::Unknown);
    }

    #[test]
    fn nothing_of_licensed_values_is_in_a_manifest() {
        let series = series("time,close\n2024-01-02,73.25\n", &Shape::default()).unwrap();
        let about = About {
            label: Label::Licensed,
            ..About::default()
        };
        let quality = quality::check(&series, &Expectations::default(), true);
        let (manifest, _) = describe(&series, &about, &quality, PART_BYTES);
        assert!(!serde_json::to_string(&manifest).unwrap().contains("73.25"));
    }

    proptest! {
        #[test]
        fn parts_have_all_rows_once_and_a_version_differs_from_none_but_others(
            values in prop::collection::vec(0_u32..1000, 1..60),
            part_bytes in 20_usize..200,
        ) {
            let rows = values.iter().enumerate().map(|(day, value)| {
                format!("{},{value}\n", time::text(i64::try_from(day).unwrap() * time::DAY).unwrap())
            });
            let csv = rows.fold("time,x\n".to_owned(), |csv, row| csv + &row);
            let (series, manifest, cuts) = described(&csv, part_bytes);
            let mut joined = series.header();
            for (part, cut) in manifest.parts.iter().zip(&cuts) {
                let bytes = series.csv(cut.clone());
                prop_assert_eq!(&part.sha256, &sha256(&bytes));
                joined.extend_from_slice(bytes.strip_prefix(series.header().as_slice()).unwrap());
            }
            prop_assert_eq!(&manifest.sha256, &sha256(&joined));
            // Where the cuts are does not change the version.
            let (_, whole, _) = described(&csv, PART_BYTES);
            prop_assert_eq!(&whole.version, &manifest.version);
            let same = difference(&manifest, &whole);
            prop_assert!(same.same && same.periods.is_empty() && same.changed_columns.is_empty());
        }
    }
}
