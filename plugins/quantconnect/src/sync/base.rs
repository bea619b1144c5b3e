//! The last synced state of two sides: what each path held when both held the same.
//!
//! Invariant: the base never runs ahead. It names a content only after both sides held it, so a run that ends early
//! leaves a base from which the next run reaches the same end.

use std::collections::BTreeMap;

use qchost_sdk::StateError;
use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use super::tree::Digest;

/// Paths with the content that both sides held last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Base(pub(crate) BTreeMap<String, Digest>);

impl Base {
    pub(crate) fn get(&self, path: &str) -> Option<&Digest> {
        self.0.get(path)
    }

    /// Notes what both sides hold at a path now; `None` for nothing.
    pub(crate) fn note(&mut self, path: &str, digest: Option<&Digest>) {
        match digest {
            Some(digest) => self.0.insert(path.to_owned(), digest.clone()),
            None => self.0.remove(path),
        };
    }
}

/// Where the base of a sync is kept.
pub(crate) trait Keeper {
    /// Keeps the base as it is after a step.
    fn keep(&mut self, base: &Base) -> Result<(), Failure>;
}

/// The base of a project and a folder, in the state of this plugin.
#[derive(Debug)]
pub(crate) struct Stored {
    key: String,
    version: Option<u32>,
}

impl Stored {
    /// Reads the base of a project and what is below `path` in a folder; an empty one before their first sync.
    pub(crate) fn open(project: u32, folder: &str, path: &str) -> Result<(Base, Self), Failure> {
        let key = key(project, folder, path);
        let entry = state::get(&key)?;
        let base = match &entry {
            Some(entry) => serde_json::from_slice(&entry.value).map_err(|error| {
                Failure::failed(format!(
                    "the base of the last sync, state `{key}`, is damaged: {error}"
                ))
            })?,
            None => Base::default(),
        };
        let version = entry.map(|entry| entry.version);
        Ok((base, Self { key, version }))
    }
}

impl Keeper for Stored {
    fn keep(&mut self, base: &Base) -> Result<(), Failure> {
        let value = serde_json::to_vec(base).map_err(|error| Failure::failed(error.to_string()))?;
        match state::compare_and_swap(&self.key, self.version, &value) {
            Ok(version) => {
                self.version = Some(version);
                Ok(())
            }
            Err(StateError::Conflict(_)) => Err(Failure::failed(
                "another sync of the same project and folder is running; this one stopped between two steps. \
                 Run it again once the other has ended",
            )),
            Err(error) => Err(error.into()),
        }
    }
}

/// The key does not grow with the names: a key of the state has at most 256 bytes.
fn key(project: u32, folder: &str, path: &str) -> String {
    let names = Digest::of(&format!("{folder}\0{path}"));
    format!("sync/{project}/{}", names.as_str())
}

/// The base of a set of files: the client that sends the set keeps it.
#[derive(Debug)]
pub(crate) struct Clients;

impl Keeper for Clients {
    fn keep(&mut self, _: &Base) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_project_and_folder_has_a_base_of_its_own() {
        let keys = [
            key(1, "work", ""),
            key(2, "work", ""),
            key(1, "work", "a"),
            key(1, "worka", ""),
            key(1, "other", &"long/".repeat(200)),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(one.len() <= 256);
            assert!(keys.iter().skip(at + 1).all(|other| other != one));
        }
    }

    #[test]
    fn a_base_is_an_object_of_paths_and_digests() {
        let mut base = Base::default();
        base.note("main.py", Some(&Digest::of("a")));
        base.note("old.py", Some(&Digest::of("b")));
        base.note("old.py", None);
        let text = serde_json::to_string(&base).unwrap();
        assert_eq!(
            text,
            format!("{{\"main.py\":\"{}\"}}", Digest::of("a").as_str())
        );
        assert_eq!(serde_json::from_str::<Base>(&text).unwrap(), base);
    }
}
