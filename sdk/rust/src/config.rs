//! The `[config]` table of the agent's manifest, typed.

use serde::de::DeserializeOwned;

pub use crate::bindings::qchost::agent::config::{all, get};

use crate::Failure;

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
    fn a_setting_of_the_wrong_type_is_named() {
        assert_eq!(parse::<String>("benchmark", "\"SPY\""), Ok("SPY".into()));
        let failure = parse::<u32>("risk", "\"high\"").unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("`risk` in `[config]`"), "{text}");
        assert!(text.contains("invalid type"), "{text}");
    }
}
