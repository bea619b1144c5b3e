//! Where versions are: objects of the organisation, and what this plugin keeps of them in its state.
//!
//! The bytes of objects can mostly not be downloaded, so what a manifest says is kept in the state as well. The manifest
//! object decides whether a version is complete; the state is what can be read.

use qchost_sdk::prelude::*;
use qchost_sdk::{StateError, account};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An object or folder directly in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Last part of its key.
    pub(crate) name: String,
    pub(crate) is_folder: bool,
    pub(crate) size: Option<u64>,
}

/// What QuantConnect says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) size: Option<u64>,
    pub(crate) md5: Option<String>,
}

/// A value of the state with the version that a change has to name.
pub(crate) type Stored = (Vec<u8>, u32);

/// The objects and the state.
pub(crate) trait Store {
    /// Lists a folder: all of it, or an error. A folder that is not there is empty.
    fn list(&mut self, folder: &str) -> Result<Vec<Entry>, Failure>;
    /// `None` if there is no such object.
    fn properties(&mut self, key: &str) -> Result<Option<Properties>, Failure>;
    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<(), Failure>;
    /// Succeeds if there is no such object.
    fn delete(&mut self, key: &str) -> Result<(), Failure>;
    fn download(&mut self, key: &str) -> Result<Vec<u8>, Failure>;
    fn get(&mut self, key: &str) -> Result<Option<Stored>, Failure>;
    /// Writes a value if the one there is of this version: `false` if it is not.
    fn swap(&mut self, key: &str, expected: Option<u32>, value: &[u8]) -> Result<bool, Failure>;
    fn forget(&mut self, key: &str) -> Result<(), Failure>;
    /// Keys that begin with a prefix, and whether these are all.
    fn keys(&mut self, prefix: &str) -> Result<(Vec<String>, bool), Failure>;
    /// Seconds since 1970.
    fn now(&mut self) -> f64;
}

/// Reads JSON of the state.
pub(crate) fn read<T: DeserializeOwned>(
    store: &mut dyn Store,
    key: &str,
) -> Result<Option<(T, u32)>, Failure> {
    let Some((value, version)) = store.get(key)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&value).map_err(|error| {
        Failure::failed(format!(
            "what is kept as state `{key}` cannot be read: {error}"
        ))
    })?;
    Ok(Some((value, version)))
}

/// Writes JSON into the state, as [`Store::swap`].
pub(crate) fn write<T: Serialize>(
    store: &mut dyn Store,
    key: &str,
    expected: Option<u32>,
    value: &T,
) -> Result<bool, Failure> {
    let value = serde_json::to_vec(value).map_err(|error| Failure::failed(error.to_string()))?;
    store.swap(key, expected, &value)
}

/// The host's.
#[derive(Debug)]
pub(crate) struct Host {
    organization: String,
}

/// Keys that one call of the host lists.
const MAX_KEYS: usize = 1000;

impl Host {
    /// Finds the organisation: the one given, or the account's.
    pub(crate) fn open(organization: Option<String>) -> Result<Self, Failure> {
        if let Some(organization) = organization {
            return Ok(Self { organization });
        }
        let account = account::read_account()?;
        let organization = account.organization_id.ok_or_else(|| {
            Failure::failed("QuantConnect does not say which organisation the account belongs to: set `organization` in [config]")
        })?;
        Ok(Self { organization })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a whole number that both types hold"
)]
fn size(size: Option<f64>) -> Option<u64> {
    size.filter(|it| (0.0..9e15).contains(it) && it.fract() == 0.0)
        .map(|it| it as u64)
}

impl Store for Host {
    fn list(&mut self, folder: &str) -> Result<Vec<Entry>, Failure> {
        answers::left_out();
        let listed = wait::until_ready(|| {
            object_store::list_object_store_files(&self.organization, Some(folder))
        });
        let listing = match listed {
            Ok(listing) => listing,
            Err(Error::NotFound(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        if answers::left_out() > 0 || listing.total_pages.is_some_and(|it| it > 1) {
            return Err(Failure::failed(format!(
                "the list of the folder \"{folder}\" of the Object Store came incomplete, so it is not known what is in it"
            )));
        }
        let entries = listing.objects.into_iter().filter_map(|object| {
            let key = object.key.unwrap_or_default();
            let name = object.name.unwrap_or_default();
            let name = if name.is_empty() { key } else { name };
            let name = name.trim_end_matches('/').rsplit('/').next()?.to_owned();
            let is_folder =
                object.folder == Some(true) || object.mime.as_deref() == Some("directory");
            (!name.is_empty()).then_some(Entry {
                name,
                is_folder,
                size: size(object.size),
            })
        });
        Ok(entries.collect())
    }

    fn properties(&mut self, key: &str) -> Result<Option<Properties>, Failure> {
        let read =
            wait::until_ready(|| object_store::read_object_properties(&self.organization, key));
        match read {
            Ok(found) => Ok(Some(Properties {
                size: size(found.size),
                md5: found.md5,
            })),
            // The API has no kind of error for an object that is not there.
            Err(Error::NotFound(_) | Error::Rejected(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<(), Failure> {
        Ok(wait::until_ready(|| {
            object_store::upload_object(&self.organization, key, bytes)
        })?)
    }

    fn delete(&mut self, key: &str) -> Result<(), Failure> {
        match wait::until_ready(|| object_store::delete_object(&self.organization, key)) {
            Ok(()) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn download(&mut self, key: &str) -> Result<Vec<u8>, Failure> {
        Ok(wait::until_ready(|| {
            object_store::download(&self.organization, key)
        })?)
    }

    fn get(&mut self, key: &str) -> Result<Option<Stored>, Failure> {
        let entry = state::get(key)?;
        Ok(entry.map(|entry| (entry.value, entry.version)))
    }

    fn swap(&mut self, key: &str, expected: Option<u32>, value: &[u8]) -> Result<bool, Failure> {
        match state::compare_and_swap(key, expected, value) {
            Ok(_) => Ok(true),
            Err(StateError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn forget(&mut self, key: &str) -> Result<(), Failure> {
        Ok(state::delete(key)?)
    }

    fn keys(&mut self, prefix: &str) -> Result<(Vec<String>, bool), Failure> {
        let keys = state::list_keys(prefix)?;
        let is_all = keys.len() < MAX_KEYS;
        Ok((keys, is_all))
    }

    fn now(&mut self) -> f64 {
        clock::now()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::manifest::md5;

    /// Objects and state in memory, which can end a run before or after any change.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Memory {
        pub(crate) objects: BTreeMap<String, Vec<u8>>,
        pub(crate) state: BTreeMap<String, Stored>,
        pub(crate) time: f64,
        /// Whether objects can be downloaded.
        pub(crate) is_readable: bool,
        /// Moments until the run is killed, two for each change; none if it is not.
        pub(crate) life: Option<usize>,
        pub(crate) puts: Vec<String>,
        pub(crate) denies_deletion: bool,
    }

    impl Memory {
        fn moment(&mut self) -> Result<(), Failure> {
            match &mut self.life {
                Some(0) => Err(Failure::failed("killed")),
                Some(left) => {
                    *left -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }

        fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> Result<T, Failure> {
            self.moment()?;
            let changed = change(self);
            self.moment()?;
            Ok(changed)
        }

        /// The objects, and the values of the state without their versions.
        pub(crate) fn content(&self) -> (BTreeMap<String, Vec<u8>>, BTreeMap<String, Vec<u8>>) {
            let state = self.state.iter();
            let state = state.map(|(key, (value, _))| (key.clone(), value.clone()));
            (self.objects.clone(), state.collect())
        }
    }

    impl Store for Memory {
        fn list(&mut self, folder: &str) -> Result<Vec<Entry>, Failure> {
            let mut folders = BTreeSet::new();
            let mut entries = Vec::new();
            for (key, bytes) in &self.objects {
                let Some(rest) = key.strip_prefix(&format!("{folder}/")) else {
                    continue;
                };
                match rest.split_once('/') {
                    Some((name, _)) => drop(folders.insert(name.to_owned())),
                    None => entries.push(Entry {
                        name: rest.to_owned(),
                        is_folder: false,
                        size: Some(bytes.len() as u64),
                    }),
                }
            }
            entries.extend(folders.into_iter().map(|name| Entry {
                name,
                is_folder: true,
                size: None,
            }));
            Ok(entries)
        }

        fn properties(&mut self, key: &str) -> Result<Option<Properties>, Failure> {
            Ok(self.objects.get(key).map(|bytes| Properties {
                size: Some(bytes.len() as u64),
                md5: Some(md5(bytes)),
            }))
        }

        fn put(&mut self, key: &str, bytes: &[u8]) -> Result<(), Failure> {
            self.puts.push(key.to_owned());
            self.change(|it| drop(it.objects.insert(key.to_owned(), bytes.to_owned())))
        }

        fn delete(&mut self, key: &str) -> Result<(), Failure> {
            if self.denies_deletion {
                return Err(Error::Halted("a test".into()).into());
            }
            self.change(|it| drop(it.objects.remove(key)))
        }

        fn download(&mut self, key: &str) -> Result<Vec<u8>, Failure> {
            if !self.is_readable {
                return Err(Failure::failed("denied: derived data"));
            }
            let found = self.objects.get(key).cloned();
            found.ok_or_else(|| Failure::failed(format!("not found: {key}")))
        }

        fn get(&mut self, key: &str) -> Result<Option<Stored>, Failure> {
            Ok(self.state.get(key).cloned())
        }

        fn swap(
            &mut self,
            key: &str,
            expected: Option<u32>,
            value: &[u8],
        ) -> Result<bool, Failure> {
            let version = self.state.get(key).map(|it| it.1);
            if version != expected {
                return Ok(false);
            }
            let entry = (value.to_owned(), version.unwrap_or_default() + 1);
            self.change(|it| drop(it.state.insert(key.to_owned(), entry)))?;
            Ok(true)
        }

        fn forget(&mut self, key: &str) -> Result<(), Failure> {
            self.change(|it| drop(it.state.remove(key)))
        }

        fn keys(&mut self, prefix: &str) -> Result<(Vec<String>, bool), Failure> {
            let keys = self.state.keys().filter(|key| key.starts_with(prefix));
            Ok((keys.cloned().collect(), true))
        }

        fn now(&mut self) -> f64 {
            self.time += 1.0;
            self.time
        }
    }

    #[test]
    fn a_size_is_a_whole_number() {
        assert_eq!(size(Some(12.0)), Some(12));
        for odd in [None, Some(1.5), Some(-1.0), Some(f64::NAN), Some(1e300)] {
            assert_eq!(size(odd), None);
        }
    }
}
