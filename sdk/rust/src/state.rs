//! State that the agent keeps across invocations: bytes under keys, and helpers for JSON values.
//!
//! Invariant: [`update`] never loses a change that another invocation made in between.

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::qchost::agent::state::{
    Entry, compare_and_swap, delete, get, list_keys, set,
};

use crate::{Failure, StateError};

/// How often [`update`] starts over before it gives up.
const MAX_ATTEMPTS: u32 = 100;

/// The JSON under a key as a `T`; `None` if there is none.
///
/// # Errors
/// If the state cannot be read, or holds something else.
pub fn read<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Failure> {
    get(key)?.map(|entry| parse(key, &entry.value)).transpose()
}

/// Stores a value as JSON under a key, unconditionally.
///
/// # Errors
/// If the state cannot be written, or the value has no JSON form.
pub fn write<T: Serialize>(key: &str, value: &T) -> Result<(), Failure> {
    set(key, &text(key, value)?)?;
    Ok(())
}

/// Changes the JSON under a key, and returns what is there now. When another invocation writes the
/// key in between, the change is applied again to the new value: `change` may be called more than
/// once.
///
/// ```no_run
/// # use qchost_sdk::prelude::*;
/// # fn action() -> Result<(), Failure> {
/// let runs = state::update("runs", |runs: Option<u32>| Ok(runs.unwrap_or(0) + 1))?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The error that `change` returns; or if the state cannot be read or written, holds something
/// else, or other invocations keep changing the key.
pub fn update<T, F>(key: &str, change: F) -> Result<T, Failure>
where
    T: Serialize + DeserializeOwned,
    F: FnMut(Option<T>) -> Result<T, Failure>,
{
    swap(
        key,
        change,
        || get(key),
        |expected, value| compare_and_swap(key, expected, value),
    )
}

fn swap<T: Serialize + DeserializeOwned>(
    key: &str,
    mut change: impl FnMut(Option<T>) -> Result<T, Failure>,
    mut read: impl FnMut() -> Result<Option<Entry>, StateError>,
    mut write: impl FnMut(Option<u32>, &[u8]) -> Result<u32, StateError>,
) -> Result<T, Failure> {
    for _ in 0..MAX_ATTEMPTS {
        let entry = read()?;
        let version = entry.as_ref().map(|entry| entry.version);
        let old = entry.map(|entry| parse(key, &entry.value)).transpose()?;
        let new = change(old)?;
        match write(version, &text(key, &new)?) {
            Ok(_) => return Ok(new),
            Err(StateError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::Failed(format!(
        "state `{key}` could not be changed: others wrote it first {MAX_ATTEMPTS} times in a row"
    )))
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::Failed(format!(
            "state `{key}` is not what this version of the agent expects: {error}"
        ))
    })
}

fn text<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| {
        Failure::Failed(format!(
            "the new value of state `{key}` has no JSON form: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn entry(value: &str, version: u32) -> Entry {
        Entry {
            value: value.into(),
            version,
        }
    }

    #[test]
    fn an_update_builds_on_what_another_invocation_wrote_in_between() {
        let cell = RefCell::new(entry("1", 1));
        let mut disturbances = 3;
        let result = swap(
            "runs",
            |old: Option<u32>| Ok(old.unwrap_or(0) + 100),
            || {
                let seen = cell.borrow().clone();
                if disturbances > 0 {
                    disturbances -= 1;
                    let Entry { value, version } = seen.clone();
                    let number: u32 = serde_json::from_slice(&value).unwrap();
                    *cell.borrow_mut() = entry(&(number + 1).to_string(), version + 1);
                }
                Ok(Some(seen))
            },
            |expected, value| {
                let version = cell.borrow().version;
                if expected != Some(version) {
                    return Err(StateError::Conflict(Some(version)));
                }
                *cell.borrow_mut() = Entry {
                    value: value.into(),
                    version: version + 1,
                };
                Ok(version + 1)
            },
        );
        assert_eq!(result, Ok(104));
        assert_eq!(*cell.borrow(), entry("104", 5));
    }

    #[test]
    fn the_first_write_expects_nothing() {
        let result = swap(
            "runs",
            |old: Option<u32>| Ok(old.map_or(1, |old| old + 1)),
            || Ok(None),
            |expected, _| {
                assert_eq!(expected, None);
                Ok(1)
            },
        );
        assert_eq!(result, Ok(1));
    }

    #[test]
    fn an_update_gives_up_on_endless_conflicts_and_on_other_errors() {
        let always = |error: StateError| {
            swap(
                "runs",
                |_: Option<u32>| Ok(1),
                || Ok(None),
                move |_, _| Err(error.clone()),
            )
            .unwrap_err()
            .to_string()
        };
        assert!(always(StateError::Conflict(None)).contains("100 times in a row"));
        assert!(always(StateError::QuotaExceeded("1 MiB".into())).contains("is full: 1 MiB"));
    }

    #[test]
    fn a_foreign_value_is_named_and_kept() {
        let failure = swap(
            "runs",
            |_: Option<u32>| Ok(1),
            || Ok(Some(entry("not json", 7))),
            |_, _| panic!("written over"),
        )
        .unwrap_err();
        assert!(
            failure.to_string().contains("state `runs` is not what"),
            "{failure}"
        );
    }
}
