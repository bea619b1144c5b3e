//! Names that become parts of keys.
//!
//! Invariant: a key that is made of them has only characters that LEAN's Object Store takes: letters, digits, `/`, `_`
//! and `-`.

use qchost_sdk::Failure;

/// The folder of a prefix with the texts of strategies; no data set has this name.
pub(crate) const STRATEGIES: &str = "strategies";

/// Maximum bytes of a name: a key of the state with several of them has at most 256.
const MAX_NAME: usize = 48;

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let first = name.bytes().next();
    name.len() <= MAX_NAME
        && first.is_some_and(|it| it.is_ascii_alphanumeric())
        && name.bytes().all(plain)
}

/// Checks the name of a data set.
pub(crate) fn set(name: &str) -> Result<(), Failure> {
    if is_name(name) && name != STRATEGIES {
        return Ok(());
    }
    Err(Failure::invalid_input(format!(
        "\"{}\" cannot be the name of a data set: letters, digits, `-` and `_`, at most {MAX_NAME}, and not `{STRATEGIES}`",
        shown(name)
    )))
}

/// Checks a prefix of keys.
pub(crate) fn prefix(name: &str) -> Result<(), Failure> {
    if is_name(name) {
        return Ok(());
    }
    Err(Failure::invalid_input(format!(
        "\"{}\" cannot be a prefix: letters, digits, `-` and `_`, at most {MAX_NAME}",
        shown(name)
    )))
}

/// Checks the name of a version.
pub(crate) fn version(name: &str) -> Result<(), Failure> {
    if name.len() == 32
        && name
            .bytes()
            .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Ok(());
    }
    Err(Failure::invalid_input(format!(
        "\"{}\" is not a version: 32 hexadecimal digits, as `list` shows them",
        shown(name)
    )))
}

fn shown(name: &str) -> String {
    name.chars()
        .filter(|it| !it.is_control())
        .take(80)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        for name in ["spy-daily", "SPY_1m", "a", "0"] {
            assert!(set(name).is_ok() && prefix(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "-a",
            "a/b",
            "..",
            "a.b",
            "é",
            ".assistant",
            &"a".repeat(49),
        ] {
            assert!(set(name).is_err() && prefix(name).is_err(), "{name}");
        }
        assert!(set(STRATEGIES).is_err());
        assert!(version(&"0a".repeat(16)).is_ok());
        assert!(version(&"0A".repeat(16)).is_err() && version("latest").is_err());
    }
}
