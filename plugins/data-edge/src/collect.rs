//! `collect`: deletes versions that nothing needs.
//!
//! Invariant: a version is not deleted if a strategy uses it, if a version that stays was made from it, or if this plugin
//! does not know it and the caller does not name it. The manifest object is the first to go, so no version is ever there
//! in part.

use std::collections::BTreeSet;

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::input::Settings;
use crate::lineage;
use crate::names;
use crate::store::{self, Host, Store};
use crate::time;
use crate::version::{self, MANIFEST, Record, Stage};

/// What may be deleted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Collect {
    /// Name of the data set.
    set: String,
    /// Prefix of the keys; that of the settings if not given.
    #[serde(default)]
    prefix: Option<String>,
    /// Complete versions that stay whatever their age: this many of the newest.
    #[serde(default = "keep")]
    keep: usize,
    /// Days that a version, or an interrupted upload, stays.
    #[serde(default = "days")]
    #[schemars(range(min = 0.0, max = 36_500.0))]
    days: f64,
    /// Versions to delete in place of all that are old, also if this plugin does not know them.
    #[serde(default)]
    versions: Vec<String>,
    /// Only say what would be deleted.
    #[serde(default = "dry_run")]
    dry_run: bool,
}

fn keep() -> usize {
    3
}

fn days() -> f64 {
    30.0
}

fn dry_run() -> bool {
    true
}

/// What becomes of the versions.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Collected {
    /// Whether nothing was deleted, since it was not to be.
    dry_run: bool,
    /// Versions that are deleted, or would be.
    deleted: Vec<Decided>,
    /// Versions that stay.
    kept: Vec<Decided>,
}

/// What becomes of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Decided {
    /// Name of the version.
    version: String,
    /// Why.
    reason: String,
}

/// Runs `collect`.
pub(crate) fn collect(input: &Collect) -> Result<Collected, Failure> {
    let settings: Settings = config::load()?;
    let prefix = settings.prefix(input.prefix.clone())?;
    names::set(&input.set)?;
    for version in &input.versions {
        names::version(version)?;
    }
    let mut host = Host::open(settings.organization)?;
    run(&mut host, &prefix, input)
}

fn run(store: &mut dyn Store, prefix: &str, input: &Collect) -> Result<Collected, Failure> {
    let (records, is_all) = version::records(store, prefix, &input.set)?;
    if !is_all {
        return Err(Failure::failed(
            "the data set has more versions than can be listed at once, so it is not known which of them others were made from",
        ));
    }
    let folder = format!("{prefix}/{}", input.set);
    let folders = store.list(&folder)?.into_iter().filter(|it| it.is_folder);
    let in_store: BTreeSet<String> = folders.map(|it| it.name).collect();
    let mut collected = decide(store, &folder, &records, &in_store, input)?;
    if input.dry_run {
        return Ok(collected);
    }
    for decided in std::mem::take(&mut collected.deleted) {
        match delete(store, prefix, &input.set, &decided.version)? {
            None => collected.deleted.push(decided),
            Some(reason) => collected.kept.push(Decided {
                reason,
                version: decided.version,
            }),
        }
    }
    Ok(collected)
}

/// Decides what becomes of each version.
fn decide(
    store: &mut dyn Store,
    folder: &str,
    records: &[Record],
    in_store: &BTreeSet<String>,
    input: &Collect,
) -> Result<Collected, Failure> {
    let limit = time::instant(store.now() - input.days.max(0.0) * 86_400.0);
    let mut collected = Collected {
        dry_run: input.dry_run,
        deleted: Vec::new(),
        kept: Vec::new(),
    };
    let mut newest = 0_usize;
    // What stays keeps its parents: a version comes before those that it was made from.
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    for record in records {
        let manifest = &record.manifest;
        let version = manifest.version.as_str();
        let is_named = input.versions.iter().any(|it| it == version);
        if record.stage == Stage::Complete {
            newest = newest.saturating_add(1);
        }
        let entries = store.list(&format!("{folder}/{version}"))?;
        let why_kept = if record.stage == Stage::Deleting {
            None
        } else if lineage::is_used(store, &manifest.place(), &entries)? {
            Some("a strategy uses it")
        } else if needed.contains(version) {
            Some("a version that stays was made from it")
        } else if is_named {
            None
        } else if !input.versions.is_empty() {
            Some("it is not named")
        } else if record.stage == Stage::Complete && newest <= input.keep {
            Some("it is one of the newest")
        } else if manifest.created > limit {
            Some("it is not old enough")
        } else {
            None
        };
        let (list, reason) = match (why_kept, record.stage) {
            (Some(reason), _) => {
                needed.extend(manifest.parents.iter().map(String::as_str));
                (&mut collected.kept, reason)
            }
            (None, Stage::Deleting) => (&mut collected.deleted, "its deletion was interrupted"),
            (None, _) if is_named => (&mut collected.deleted, "it is named"),
            (None, Stage::Uploading) => (&mut collected.deleted, "its upload was interrupted"),
            (None, Stage::Complete) => (&mut collected.deleted, "nothing needs it"),
        };
        list.push(Decided {
            version: version.to_owned(),
            reason: reason.to_owned(),
        });
    }
    for version in in_store {
        if records.iter().any(|it| it.manifest.version == *version) {
            continue;
        }
        let place = format!("{folder}/{version}");
        let entries = store.list(&place)?;
        let (list, reason) = if lineage::is_used(store, &place, &entries)? {
            (&mut collected.kept, "a strategy uses it")
        } else if needed.contains(version.as_str()) {
            (&mut collected.kept, "a version that stays was made from it")
        } else if input.versions.contains(version) {
            (&mut collected.deleted, "it is named")
        } else {
            (&mut collected.kept, "this plugin does not know it")
        };
        list.push(Decided {
            version: version.clone(),
            reason: reason.to_owned(),
        });
    }
    Ok(collected)
}

/// Deletes a version; says why it stays if it is used by now.
fn delete(
    store: &mut dyn Store,
    prefix: &str,
    set: &str,
    version: &str,
) -> Result<Option<String>, Failure> {
    let key = version::record_key(prefix, set, version);
    let place = format!("{prefix}/{set}/{version}");
    let found = store::read::<Record>(store, &key)?;
    let marked = match found {
        Some((record, at)) if record.stage != Stage::Deleting => {
            let deleting = Record {
                stage: Stage::Deleting,
                ..record.clone()
            };
            if !store::write(store, &key, Some(at), &deleting)? {
                return Ok(Some(
                    "another invocation changes it at this moment".to_owned(),
                ));
            }
            Some(record)
        }
        _ => None,
    };
    let entries = store.list(&place)?;
    // A use that was noted before the mark is seen here; one that comes after it sees the mark.
    if let Some(record) = &marked
        && lineage::is_used(store, &place, &entries)?
    {
        let at = store::read::<Record>(store, &key)?.map(|it| it.1);
        store::write(store, &key, at, record)?;
        return Ok(Some("a strategy uses it".to_owned()));
    }
    let manifest = format!("{place}/{MANIFEST}");
    if entries.iter().any(|it| it.name == MANIFEST)
        && let Err(failure) = store.delete(&manifest)
    {
        // Where nothing was deleted, such as without the grant, the version is what it was.
        if let Some(record) = marked
            && is_undone(&failure)
        {
            let at = store::read::<Record>(store, &key)?.map(|it| it.1);
            store::write(store, &key, at, &record)?;
        }
        return Err(failure);
    }
    let objects = entries.iter().filter(|it| !it.is_folder);
    for entry in objects.filter(|it| it.name != MANIFEST) {
        store.delete(&format!("{place}/{}", entry.name))?;
    }
    store.forget(&key)?;
    Ok(None)
}

/// Whether it is known that a call that failed did nothing.
fn is_undone(failure: &Failure) -> bool {
    match failure {
        Failure::Capability(error) => !matches!(
            error,
            Error::UnknownOutcome(_) | Error::UnexpectedResponse(_)
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lineage::tests::noted;
    use crate::store::tests::Memory;
    use crate::upload::tests::version_of;

    fn input(json: &str) -> Collect {
        serde_json::from_str(json).unwrap()
    }

    const OLD: &str = r#"{"set": "spy", "keep": 1, "days": 0, "dry-run": false}"#;

    fn names(list: &[Decided]) -> Vec<(&str, &str)> {
        list.iter()
            .map(|it| (it.version.as_str(), it.reason.as_str()))
            .collect()
    }

    /// Three versions without parents, the second one used.
    fn three(store: &mut Memory) -> [String; 3] {
        let made = [&[1, 2, 3][..], &[2, 2, 2], &[3, 1, 1]].map(|values| {
            let text = crate::version::tests::csv(values);
            let parents = serde_json::json!({ "parents": [] });
            crate::upload::tests::uploaded(store, &text, parents).unwrap();
            let (records, _) = version::records(store, "data-edge", "spy").unwrap();
            records[0].manifest.version.clone()
        });
        noted(store, &made[1], "1").unwrap();
        made
    }

    #[test]
    fn nothing_is_deleted_unless_it_is_said() {
        let mut store = Memory::default();
        three(&mut store);
        let before = store.content();
        let least = input(r#"{"set": "spy"}"#);
        assert!(least.dry_run && least.keep == 3);
        let planned = run(
            &mut store,
            "data-edge",
            &input(&OLD.replace("false", "true")),
        )
        .unwrap();
        assert_eq!((planned.deleted.len(), store.content()), (1, before));
    }

    #[test]
    fn what_is_used_or_new_stays() {
        let mut store = Memory::default();
        let [old, used, new] = three(&mut store);
        let young = input(r#"{"set": "spy", "keep": 0, "days": 1, "dry-run": false}"#);
        assert_eq!(run(&mut store, "data-edge", &young).unwrap().deleted, []);
        let done = run(&mut store, "data-edge", &input(OLD)).unwrap();
        assert_eq!(names(&done.deleted), [(old.as_str(), "nothing needs it")]);
        let kept = [
            (new.as_str(), "it is one of the newest"),
            (used.as_str(), "a strategy uses it"),
        ];
        assert_eq!(names(&done.kept), kept);
        assert!(!store.objects.keys().any(|key| key.contains(&old)));
        assert!(!store.state.keys().any(|key| key.contains(&old)));
    }

    #[test]
    fn a_deletion_that_is_denied_leaves_the_version_as_it_was() {
        let mut store = Memory::default();
        three(&mut store);
        let before = store.content();
        store.denies_deletion = true;
        run(&mut store, "data-edge", &input(OLD)).unwrap_err();
        assert_eq!(store.content(), before);
        store.denies_deletion = false;
        assert_eq!(
            run(&mut store, "data-edge", &input(OLD))
                .unwrap()
                .deleted
                .len(),
            1
        );
    }

    #[test]
    fn a_parent_stays_as_long_as_its_child() {
        let mut store = Memory::default();
        let first = version_of(&mut store, &[1]);
        version_of(&mut store, &[2]);
        let done = run(&mut store, "data-edge", &input(OLD)).unwrap();
        assert_eq!((done.deleted.len(), done.kept.len()), (0, 2));
        let named = format!(r#"{{"set": "spy", "versions": ["{first}"], "dry-run": false}}"#);
        let done = run(&mut store, "data-edge", &input(&named)).unwrap();
        assert_eq!(done.deleted, []);
    }

    #[test]
    fn what_this_plugin_does_not_know_is_deleted_only_by_name() {
        let mut store = Memory::default();
        let [old, used, _] = three(&mut store);
        store.state.clear();
        assert_eq!(
            run(&mut store, "data-edge", &input(OLD)).unwrap().deleted,
            []
        );
        let named =
            format!(r#"{{"set": "spy", "versions": ["{old}", "{used}"], "dry-run": false}}"#);
        let done = run(&mut store, "data-edge", &input(&named)).unwrap();
        assert_eq!(names(&done.deleted), [(old.as_str(), "it is named")]);
        assert!(!store.objects.keys().any(|key| key.contains(&old)));
    }

    #[test]
    fn a_version_that_is_being_deleted_is_neither_found_nor_used_nor_uploaded() {
        let mut store = Memory::default();
        let [old, ..] = three(&mut store);
        store.life = Some(3);
        run(&mut store, "data-edge", &input(OLD)).unwrap_err();
        store.life = None;
        assert!(version::find(&mut store, "data-edge", "spy", Some(&old)).is_err());
        assert!(noted(&mut store, &old, "1").is_err());
        let again = crate::version::tests::csv(&[1, 2, 3]);
        assert!(crate::upload::tests::uploaded(&mut store, &again, serde_json::json!({})).is_err());
        let done = run(
            &mut store,
            "data-edge",
            &input(r#"{"set": "spy", "dry-run": false}"#),
        )
        .unwrap();
        assert_eq!(
            names(&done.deleted),
            [(old.as_str(), "its deletion was interrupted")]
        );
        version_of(&mut store, &[1, 2, 3]);
    }

    proptest! {
        #[test]
        fn killed_at_any_step_and_run_again_a_collection_ends_the_same(kills in prop::collection::vec(0_usize..14, 0..4)) {
            let mut whole = Memory::default();
            three(&mut whole);
            let mut store = whole.clone();
            run(&mut whole, "data-edge", &input(OLD)).unwrap();
            for life in kills {
                store.life = Some(life);
                if run(&mut store, "data-edge", &input(OLD)).is_ok() {
                    break;
                }
                // A version without its manifest is never known as complete.
                store.life = None;
                let (records, _) = version::records(&mut store, "data-edge", "spy").unwrap();
                for record in records {
                    let object = record.manifest.key(MANIFEST);
                    prop_assert!(record.stage != Stage::Complete || store.objects.contains_key(&object));
                }
            }
            store.life = None;
            run(&mut store, "data-edge", &input(OLD)).unwrap();
            prop_assert_eq!(store.content(), whole.content());
        }
    }
}
