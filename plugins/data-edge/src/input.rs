//! The rows that an action is given, and what is set for all actions.

use qchost_sdk::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::formats::{Format, Reader};
use crate::names;
use crate::series::{Series, Shape};
use crate::time::Zone;

/// Maximum files of one data set.
const MAX_FILES: usize = 400;
const DEFAULT_PREFIX: &str = "data-edge";

/// The agent's settings.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Prefix of keys in the Object Store, for an invocation that names none; `data-edge` if it is not set.
    #[serde(default)]
    pub(crate) prefix: Option<String>,
    /// The organisation whose Object Store it is; that of the account if it is not set.
    #[serde(default)]
    pub(crate) organization: Option<String>,
}

impl Settings {
    /// The prefix: the caller's, or that of the settings.
    pub(crate) fn prefix(&self, given: Option<String>) -> Result<String, Failure> {
        let set = given.or_else(|| self.prefix.clone());
        let prefix = set.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
        names::prefix(&prefix)?;
        Ok(prefix)
    }
}

/// Where the rows are: one of `rows`, `text`, and `folder` with `files`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Data {
    /// Rows as objects, whose members are texts, numbers, booleans or null. The first one says which columns there are.
    #[serde(default)]
    rows: Option<Vec<Map<String, Value>>>,
    /// The content of a CSV or JSON file.
    #[serde(default)]
    text: Option<String>,
    /// A folder that the manifest grants.
    #[serde(default)]
    folder: Option<String>,
    /// Paths of files in the folder, in the order of their rows: CSV, JSON, or zip archives with one of these or of
    /// LEAN's files each; all with the same columns. A path that ends with `/` stands for all files below it, by name.
    #[serde(default)]
    files: Vec<String>,
    /// How they are written; by the ends of their names if it is not said, which never means LEAN's.
    #[serde(default)]
    format: Option<Format>,
}

impl Data {
    /// Reads the rows.
    pub(crate) fn read(&self, shape: &Shape) -> Result<Series, Failure> {
        let mut reader = Reader::new(self.format);
        match (&self.rows, &self.text, &self.folder) {
            (Some(rows), None, None) => {
                for row in rows {
                    reader.object(row)?;
                }
            }
            (None, Some(text), None) => {
                let is_json = text.trim_start().starts_with(['[', '{']);
                let name = if is_json { "text.json" } else { "text.csv" };
                reader.file(name, text.as_bytes())?;
            }
            (None, None, Some(folder)) => {
                for path in self.paths(folder)? {
                    reader.file(&path, &folders::read_file(folder, &path)?)?;
                }
            }
            _ => {
                return Err(Failure::invalid_input(
                    "`data` has exactly one of `rows`, `text`, and `folder` with `files`",
                ));
            }
        }
        let is_of_exchange = self.format == Some(Format::LeanEquity);
        let shape = Shape {
            zone: shape.zone.or(is_of_exchange.then_some(Zone::NewYork)),
            ..shape.clone()
        };
        if is_of_exchange && shape.zone != Some(Zone::NewYork) {
            return Err(Failure::invalid_input(
                "LEAN's bars of equities have New York's times: leave `zone` out",
            ));
        }
        Ok(Series::new(&reader.finish()?, &shape)?)
    }

    fn paths(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let mut paths = Vec::new();
        for path in &self.files {
            if path.ends_with('/') {
                let listed = folders::list_files(folder, path)?;
                paths.extend(listed.into_iter().map(|file| file.path));
            } else {
                paths.push(path.clone());
            }
        }
        match paths.len() {
            0 => Err(Failure::invalid_input(
                "`files` names no file of the folder",
            )),
            1..=MAX_FILES => Ok(paths),
            more => Err(Failure::invalid_input(format!(
                "these are {more} files; at most {MAX_FILES} are read at once"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Series, Failure> {
        let data: Data = serde_json::from_str(json).unwrap();
        data.read(&Shape::default())
    }

    #[test]
    fn rows_and_texts_of_the_same_content_are_the_same() {
        let rows = read(r#"{"rows": [{"time": "2024-01-02", "close": 1.5}]}"#).unwrap();
        assert_eq!(
            read(r#"{"text": "time,close\n2024-01-02,1.5\n"}"#).unwrap(),
            rows
        );
        assert_eq!(
            read(r#"{"text": "[{\"time\": \"2024-01-02\", \"close\": 1.5}]"}"#).unwrap(),
            rows
        );
    }

    #[test]
    fn there_is_one_place_of_the_rows() {
        for json in [
            "{}",
            r#"{"rows": [], "text": ""}"#,
            r#"{"text": "", "folder": "a"}"#,
        ] {
            assert!(
                matches!(read(json), Err(Failure::InvalidInput(_))),
                "{json}"
            );
        }
        assert!(
            read(r#"{"rows": []}"#)
                .unwrap_err()
                .to_string()
                .contains("no rows")
        );
    }

    #[test]
    fn bars_of_equities_are_in_the_time_of_the_exchange() {
        let daily =
            r#"{"text": "20240102 00:00,10000,10000,10000,10000,5\n", "format": "lean-equity"}"#;
        assert_eq!(read(daily).unwrap().zone, Zone::NewYork);
        let data: Data = serde_json::from_str(daily).unwrap();
        let shape = Shape {
            zone: Some(Zone::Utc),
            ..Shape::default()
        };
        assert!(data.read(&shape).is_err());
    }

    #[test]
    fn a_prefix_is_the_callers_or_that_of_the_settings() {
        let settings = Settings {
            prefix: Some("lab".into()),
            ..Settings::default()
        };
        assert_eq!(settings.prefix(None).as_deref(), Ok("lab"));
        assert_eq!(
            settings.prefix(Some("other".into())).as_deref(),
            Ok("other")
        );
        assert_eq!(
            Settings::default().prefix(None).as_deref(),
            Ok(DEFAULT_PREFIX)
        );
        assert!(settings.prefix(Some("../x".into())).is_err());
    }
}
