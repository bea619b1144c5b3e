//! The `[config]` table of the agent's manifest, typed.
//!
//! An agent that names the type of its settings, `#[agent(config = Settings)]`, reads them with [`load`]: the host has
//! checked them against the type's schema. [`read`] is for single settings of an agent that does not.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use crate::bindings::qchost::agent::config::{all, get};

use crate::Failure;

/// All settings as a `T`, usually the type that `#[agent(config = T)]` names.
///
/// ```no_run
/// # use qchost_sdk::prelude::*;
/// /// The agent's settings.
/// #[derive(serde::Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     /// What results are compared with.
///     #[serde(default)]
///     benchmark: Option<String>,
/// }
/// # fn action() -> Result<(), Failure> {
/// let settings: Settings = config::load()?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If the settings are no `T`, which happens only if the agent does not describe them by it.
pub fn load<T: DeserializeOwned>() -> Result<T, Failure> {
    whole(all())
}

fn whole<T: DeserializeOwned>(settings: Vec<(String, String)>) -> Result<T, Failure> {
    let table = settings.into_iter().map(|(name, text)| {
        let value: Value = parse(&name, &text)?;
        Ok((name, value))
    });
    let table = table.collect::<Result<Map<String, Value>, Failure>>()?;
    serde_json::from_value(Value::Object(table)).map_err(|error| {
        Failure::Failed(format!(
            "`[config]` of the manifest is not what this agent expects: {error}"
        ))
    })
}

/// One setting as a `T`; `None` if the manifest does not have it.
///
/// ```no_run
/// # use qchost_sdk::prelude::*;
/// # fn action() -> Result<(), Failure> {
/// let benchmark: String = config::read("benchmark")?.unwrap_or_else(|| "SPY".into());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If the setting is there and is not a `T`; the message names it.
pub fn read<T: DeserializeOwned>(name: &str) -> Result<Option<T>, Failure> {
    get(name).map(|text| parse(name, &text)).transpose()
}

fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::Failed(format!(
            "`{name}` in `[config]` of the manifest is not what this agent expects: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_one_value() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {
            name: Option<String>,
            days: Vec<u8>,
        }
        let all = |name: &str| {
            let settings = [(name, "\"SPY\""), ("days", "[1, 2]")];
            settings.map(|(name, text)| (name.to_owned(), text.to_owned()))
        };
        let settings = Settings {
            name: Some("SPY".into()),
            days: vec![1, 2],
        };
        assert_eq!(whole(all("name").into()), Ok(settings));
        let failure = whole::<Settings>(all("nmae").into()).unwrap_err();
        let text = failure.to_string();
        assert!(
            text.contains("`[config]`") && text.contains("nmae"),
            "{text}"
        );
    }

    #[test]
    fn a_setting_of_the_wrong_type_is_named() {
        assert_eq!(parse::<String>("benchmark", "\"SPY\""), Ok("SPY".into()));
        let failure = parse::<u32>("risk", "\"high\"").unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("`risk` in `[config]`"), "{text}");
        assert!(text.contains("invalid type"), "{text}");
    }
}
