//! Puts a version into the Object Store, and finds what is known of versions.
//!
//! Invariant: the manifest object is written last, in one request, so a version is complete or it is not there. Whatever
//! ends a run between two calls, running again reaches the same end, and sends no part twice whose object is there.

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, count, md5, sha256};
use crate::names;
use crate::store::{self, Entry, Store};

/// The name of the manifest's object in the folder of a version.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The folder with the uses of a version, in its folder.
pub(crate) const USES: &str = "uses";

/// How far a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// Parts are being sent; the upload goes on when it is made again.
    Uploading,
    /// All of it is there.
    Complete,
    /// It is being deleted.
    Deleting,
}

/// What the state keeps of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) stage: Stage,
    pub(crate) manifest: Manifest,
}

/// What an upload did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sent {
    /// Whether the version was complete before.
    pub(crate) was_there: bool,
    /// Parts that were sent, and those that were there from an earlier run.
    pub(crate) sent: u64,
    pub(crate) kept: u64,
}

/// Gives the bytes of a part by its place.
pub(crate) type PartSource<'a> = dyn FnMut(&mut dyn Store, usize) -> Result<Vec<u8>, Failure> + 'a;

/// The key of a version in the state.
pub(crate) fn record_key(prefix: &str, set: &str, version: &str) -> String {
    format!("version/{prefix}/{set}/{version}")
}

fn key_of(manifest: &Manifest) -> String {
    record_key(&manifest.prefix, &manifest.set, &manifest.version)
}

/// Puts a version into the store.
///
/// Returns the manifest that is in the store: that of an earlier upload of the same rows, if there is one.
pub(crate) fn put(
    store: &mut dyn Store,
    manifest: Manifest,
    part: &mut PartSource<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Manifest, Sent), Failure> {
    let key = key_of(&manifest);
    let found = store::read::<Record>(store, &key)?;
    let mut sent = Sent::default();
    let (manifest, is_resumed) = match found {
        Some((record, _)) if record.manifest.sha256 != manifest.sha256 => {
            return Err(Failure::failed(format!(
                "the version {} holds other rows, whose SHA-256 begins alike",
                manifest.place()
            )));
        }
        Some((record, _)) if record.stage == Stage::Deleting => {
            return Err(Failure::failed(format!(
                "{} is being deleted: run `collect` until it is gone, then upload it again",
                manifest.place()
            )));
        }
        Some((record, version)) => {
            if record.stage == Stage::Complete && is_complete(store, &record.manifest)? {
                sent.was_there = true;
                return Ok((record.manifest, sent));
            }
            // An interrupted upload keeps its time, and is cut again if this version of the plugin cuts otherwise.
            let mut manifest = match record.stage {
                Stage::Complete => record.manifest.clone(),
                _ => manifest,
            };
            manifest.created.clone_from(&record.manifest.created);
            let record_now = Record {
                stage: Stage::Uploading,
                manifest: manifest.clone(),
            };
            if record_now != record && !store::write(store, &key, Some(version), &record_now)? {
                return Err(conflict(&manifest));
            }
            (manifest, true)
        }
        None => {
            let record = Record {
                stage: Stage::Uploading,
                manifest: manifest.clone(),
            };
            if !store::write(store, &key, None, &record)? {
                return Err(conflict(&manifest));
            }
            (manifest, false)
        }
    };
    let total = manifest.parts.len();
    for (at, described) in manifest.parts.iter().enumerate() {
        progress(at, total);
        let object = manifest.key(&described.name);
        if is_resumed && holds(store, &object, described.bytes, &described.md5)? {
            sent.kept = sent.kept.saturating_add(1);
            continue;
        }
        let bytes = part(store, at)?;
        if sha256(&bytes) != described.sha256 {
            return Err(Failure::failed(format!(
                "part {at} of {} is not what its manifest says: the data is cut otherwise, or has changed",
                manifest.place()
            )));
        }
        store.put(&object, &bytes)?;
        sent.sent = sent.sent.saturating_add(1);
    }
    let bytes = manifest.bytes()?;
    store.put(&manifest.key(MANIFEST), &bytes)?;
    complete(store, &key, &manifest)?;
    Ok((manifest, sent))
}

/// Notes in the state that a version is complete.
fn complete(store: &mut dyn Store, key: &str, manifest: &Manifest) -> Result<(), Failure> {
    let record = Record {
        stage: Stage::Complete,
        manifest: manifest.clone(),
    };
    let version = match store::read::<Record>(store, key)? {
        // Another run of the same upload came first.
        Some((found, _)) if found == record => return Ok(()),
        Some((found, _)) if found.stage == Stage::Deleting => return Err(conflict(manifest)),
        found => found.map(|it| it.1),
    };
    if store::write(store, key, version, &record)? {
        return Ok(());
    }
    Err(conflict(manifest))
}

fn conflict(manifest: &Manifest) -> Failure {
    Failure::failed(format!(
        "another invocation changes {} at this moment: run it again once that has ended",
        manifest.place()
    ))
}

/// Whether the manifest object of a version is there, as it was written, and each part with its size.
fn is_complete(store: &mut dyn Store, manifest: &Manifest) -> Result<bool, Failure> {
    let bytes = manifest.bytes()?;
    let entries = store.list(&manifest.place())?;
    Ok(missing(manifest, &entries).is_empty()
        && holds(
            store,
            &manifest.key(MANIFEST),
            count(bytes.len()),
            &md5(&bytes),
        )?)
}

/// The objects of a version that are not in its folder, or have another size.
pub(crate) fn missing(manifest: &Manifest, entries: &[Entry]) -> Vec<String> {
    let is_there = |name: &str, bytes: Option<u64>| {
        let mut found = entries.iter().filter(|it| it.name == name && !it.is_folder);
        // A size that is not said is not known to be another one.
        found.any(|it| it.size.is_none() || bytes.is_none() || it.size == bytes)
    };
    let parts = manifest.parts.iter();
    let parts = parts.map(|part| (part.name.as_str(), Some(part.bytes)));
    parts
        .chain([(MANIFEST, None)])
        .filter(|(name, bytes)| !is_there(name, *bytes))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Whether an object is known to have this content. What QuantConnect does not say is not known.
fn holds(store: &mut dyn Store, key: &str, bytes: u64, md5: &str) -> Result<bool, Failure> {
    let Some(found) = store.properties(key)? else {
        return Ok(false);
    };
    let is_same = |other: &String| other.eq_ignore_ascii_case(md5);
    Ok(found.size == Some(bytes) && found.md5.as_ref().is_some_and(is_same))
}

/// What the state knows of the versions of a data set, newest first, and whether these are all.
pub(crate) fn records(
    store: &mut dyn Store,
    prefix: &str,
    set: &str,
) -> Result<(Vec<Record>, bool), Failure> {
    let (keys, is_all) = store.keys(&record_key(prefix, set, ""))?;
    let mut records = Vec::new();
    for key in keys {
        // Deleted since it was listed.
        if let Some((record, _)) = store::read::<Record>(store, &key)? {
            records.push(record);
        }
    }
    records.sort_by(|one, other| {
        let (one, other) = (&one.manifest, &other.manifest);
        (&other.created, &other.version).cmp(&(&one.created, &one.version))
    });
    Ok((records, is_all))
}

/// The complete version of this name, or the newest one.
///
/// A version that the state does not know is read from its manifest object, if the account may download it, and known from
/// then on.
pub(crate) fn find(
    store: &mut dyn Store,
    prefix: &str,
    set: &str,
    version: Option<&str>,
) -> Result<Manifest, Failure> {
    let Some(version) = version else {
        let (records, _) = records(store, prefix, set)?;
        let newest = records.into_iter().find(|it| it.stage == Stage::Complete);
        return newest.map(|it| it.manifest).ok_or_else(|| {
            Failure::invalid_input(format!(
                "this plugin knows no complete version of {prefix}/{set}: upload one, or name one that `list` shows"
            ))
        });
    };
    names::version(version)?;
    let key = record_key(prefix, set, version);
    match store::read::<Record>(store, &key)? {
        Some((record, _)) if record.stage == Stage::Complete => return Ok(record.manifest),
        Some((record, _)) => {
            let what = match record.stage {
                Stage::Deleting => "is being deleted",
                _ => {
                    "is not complete: its upload was interrupted, and goes on when it is made again"
                }
            };
            return Err(Failure::failed(format!("{prefix}/{set}/{version} {what}")));
        }
        None => {}
    }
    let object = format!("{prefix}/{set}/{version}/{MANIFEST}");
    let bytes = store.download(&object).map_err(|error| {
        Failure::failed(format!(
            "this plugin's state does not know {prefix}/{set}/{version}, and its manifest cannot be read from the Object Store: \
             {error}"
        ))
    })?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::failed(format!("{object} is not a manifest: {error}")))?;
    if (
        manifest.prefix.as_str(),
        manifest.set.as_str(),
        manifest.version.as_str(),
    ) != (prefix, set, version)
        || !manifest.sha256.starts_with(version)
    {
        return Err(Failure::failed(format!(
            "{object} is the manifest of another version"
        )));
    }
    complete(store, &key, &manifest)?;
    Ok(manifest)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::difference;
    use crate::manifest::tests::described;
    use crate::store::tests::Memory;
    use crate::time;

    pub(crate) fn csv(values: &[u32]) -> String {
        let rows = values.iter().enumerate().map(|(day, value)| {
            let day = i64::try_from(day).unwrap() * time::DAY;
            format!("{},{value}\n", time::text(day).unwrap())
        });
        rows.fold("time,x\n".to_owned(), |csv, row| csv + &row)
    }

    pub(crate) fn uploaded(
        store: &mut Memory,
        values: &[u32],
        created: &str,
    ) -> Result<(Manifest, Sent), Failure> {
        let (series, mut manifest, cuts) = described(&csv(values), 60);
        manifest.created = created.to_owned();
        put(
            store,
            manifest,
            &mut |_, at| Ok(series.csv(cuts[at].clone())),
            &mut |_, _| {},
        )
    }

    #[test]
    fn the_manifest_comes_last_and_a_second_upload_sends_nothing() {
        let mut store = Memory::default();
        let (manifest, sent) = uploaded(&mut store, &[1, 2, 3, 4], "1").unwrap();
        assert!(sent.sent > 1 && !sent.was_there);
        assert_eq!(store.puts.last(), Some(&manifest.key(MANIFEST)));
        let puts = store.puts.len();
        let (again, sent) = uploaded(&mut store, &[1, 2, 3, 4], "2").unwrap();
        assert_eq!(
            (again, sent.was_there, store.puts.len()),
            (manifest, true, puts)
        );
    }

    #[test]
    fn an_interrupted_upload_sends_only_what_is_missing() {
        let mut store = Memory {
            life: Some(6),
            ..Memory::default()
        };
        uploaded(&mut store, &[1, 2, 3, 4], "1").unwrap_err();
        store.life = None;
        let error = find(&mut store, "data-edge", "spy", None).unwrap_err();
        assert!(error.to_string().contains("no complete version"), "{error}");
        let (manifest, sent) = uploaded(&mut store, &[1, 2, 3, 4], "2").unwrap();
        assert_eq!((sent.kept, manifest.created.as_str()), (2, "1"));
        assert_eq!(sent.kept + sent.sent, manifest.parts.len() as u64);
    }

    #[test]
    fn an_object_that_was_changed_or_deleted_is_sent_again() {
        let mut store = Memory::default();
        let (manifest, _) = uploaded(&mut store, &[1, 2, 3, 4], "1").unwrap();
        let whole = store.clone();
        store.objects.remove(&manifest.key(MANIFEST));
        store
            .objects
            .insert(manifest.key("part-0001.csv"), b"other".to_vec());
        let (_, sent) = uploaded(&mut store, &[1, 2, 3, 4], "2").unwrap();
        assert_eq!(sent.sent, 1);
        assert_eq!(store.content(), whole.content());
    }

    #[test]
    fn a_version_that_the_state_lost_is_read_from_the_store_if_it_can_be() {
        let mut store = Memory::default();
        let (manifest, _) = uploaded(&mut store, &[1, 2], "1").unwrap();
        store.state.clear();
        let version = manifest.version.as_str();
        let refused = find(&mut store, "data-edge", "spy", Some(version)).unwrap_err();
        assert!(refused.to_string().contains("does not know"), "{refused}");
        store.is_readable = true;
        assert_eq!(
            find(&mut store, "data-edge", "spy", Some(version)).unwrap(),
            manifest
        );
        assert_eq!(
            find(&mut store, "data-edge", "spy", None).unwrap(),
            manifest
        );
        // A manifest of another version is none.
        store.state.clear();
        let other = "0".repeat(32);
        let bytes = manifest.bytes().unwrap();
        store
            .objects
            .insert(format!("data-edge/spy/{other}/{MANIFEST}"), bytes);
        assert!(find(&mut store, "data-edge", "spy", Some(&other)).is_err());
    }

    proptest! {
        #[test]
        fn killed_at_any_step_and_run_again_an_upload_ends_the_same(
            values in prop::collection::vec(0_u32..9, 1..12),
            kills in prop::collection::vec(0_usize..12, 0..4),
        ) {
            let mut whole = Memory::default();
            uploaded(&mut whole, &values, "1").unwrap();
            let mut store = Memory::default();
            for life in kills {
                store.life = Some(life);
                if uploaded(&mut store, &values, "1").is_ok() {
                    break;
                }
            }
            store.life = None;
            let (manifest, _) = uploaded(&mut store, &values, "1").unwrap();
            prop_assert_eq!(store.content(), whole.content());
            // What is shown does not differ from what was sent, nor from itself.
            let shown = find(&mut store, "data-edge", "spy", None).unwrap();
            let same = difference(&manifest, &shown);
            prop_assert!(same.same && same.periods.is_empty() && same.rows == 0);
        }
    }
}
