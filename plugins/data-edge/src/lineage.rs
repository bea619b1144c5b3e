//! `list`, `show`, `diff` and `use`: which versions there are, what became of them, and who uses them.

use std::collections::{BTreeMap, BTreeSet};

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::input::Settings;
use crate::manifest::{self, Difference, Label, Manifest};
use crate::names;
use crate::store::{self, Entry, Host, Store};
use crate::strategy;
use crate::time;
use crate::version::{self, Stage, USES};

/// Data sets whose folders `list` reads.
const MAX_SETS: usize = 100;
/// Maximum bytes of a note.
const MAX_NOTE: usize = 2 << 10;

/// Which versions to list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct List {
    /// Only this data set.
    #[serde(default)]
    set: Option<String>,
    /// Prefix of the keys; that of the settings if not given.
    #[serde(default)]
    prefix: Option<String>,
}

/// Data sets with their versions.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Listed {
    /// Prefix of the keys.
    prefix: String,
    /// Data sets by name.
    sets: BTreeMap<String, ListedSet>,
    /// Whether these are all; a list without a set reads at most 100 of them.
    complete: bool,
}

/// The versions of a data set.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ListedSet {
    /// Versions that this plugin knows, newest first.
    versions: Vec<ListedVersion>,
    /// Folders of versions in the Object Store that its state does not know: those of another plugin, or of before the state
    /// was lost. `show` reads them where the account may download objects.
    unknown: Vec<String>,
}

/// A version.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ListedVersion {
    /// Name of the version.
    version: String,
    /// How far it is.
    stage: Stage,
    /// When its upload began, UTC.
    created: String,
    /// Number of rows.
    rows: u64,
    /// First time.
    first: Option<String>,
    /// Last time.
    last: Option<String>,
    /// Where the data is from.
    source: String,
    /// Whose data it is.
    label: Label,
}

/// Runs `list`.
pub(crate) fn list(input: List) -> Result<Listed, Failure> {
    let settings: Settings = config::load()?;
    let prefix = settings.prefix(input.prefix)?;
    if let Some(set) = &input.set {
        names::set(set)?;
    }
    let mut host = Host::open(settings.organization)?;
    listed(&mut host, prefix, input.set)
}

fn listed(store: &mut dyn Store, prefix: String, set: Option<String>) -> Result<Listed, Failure> {
    let mut complete = true;
    let sets = match set {
        Some(set) => BTreeSet::from([set]),
        None => {
            let known = format!("version/{prefix}/");
            let (keys, is_all) = store.keys(&known)?;
            complete = is_all;
            let of_key =
                |key: &String| Some(key.strip_prefix(&known)?.split_once('/')?.0.to_owned());
            let mut sets: BTreeSet<String> = keys.iter().filter_map(of_key).collect();
            let folders = store.list(&prefix)?.into_iter().filter(|it| it.is_folder);
            let names = folders.map(|it| it.name);
            sets.extend(names.filter(|name| names::set(name).is_ok()));
            sets
        }
    };
    complete &= sets.len() <= MAX_SETS;
    let mut listed = Listed {
        prefix,
        sets: BTreeMap::new(),
        complete,
    };
    for set in sets.into_iter().take(MAX_SETS) {
        let (records, is_all) = version::records(store, &listed.prefix, &set)?;
        listed.complete &= is_all;
        let known: BTreeSet<&str> = records
            .iter()
            .map(|it| it.manifest.version.as_str())
            .collect();
        let folders = store.list(&format!("{}/{set}", listed.prefix))?;
        let folders = folders
            .into_iter()
            .filter(|it| it.is_folder)
            .map(|it| it.name);
        let unknown = folders
            .filter(|name| !known.contains(name.as_str()))
            .collect();
        let versions = records.iter().map(|record| ListedVersion {
            version: record.manifest.version.clone(),
            stage: record.stage,
            created: record.manifest.created.clone(),
            rows: record.manifest.rows,
            first: record.manifest.first.clone(),
            last: record.manifest.last.clone(),
            source: record.manifest.source.clone(),
            label: record.manifest.label,
        });
        let versions = versions.collect();
        listed.sets.insert(set, ListedSet { versions, unknown });
    }
    Ok(listed)
}

/// Which version to show.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Show {
    /// Name of the data set.
    set: String,
    /// Name of the version; the newest complete one if not given.
    #[serde(default)]
    version: Option<String>,
    /// Prefix of the keys; that of the settings if not given.
    #[serde(default)]
    prefix: Option<String>,
}

/// A version and what became of it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Shown {
    /// What is known of it.
    manifest: Manifest,
    /// Names of its objects that are not in the Object Store, or have another size.
    missing: Vec<String>,
    /// Strategy versions that use it.
    uses: Vec<Use>,
    /// Versions that were made from it.
    children: Vec<String>,
}

/// Runs `show`.
pub(crate) fn show(input: Show) -> Result<Shown, Failure> {
    let settings: Settings = config::load()?;
    let prefix = settings.prefix(input.prefix)?;
    names::set(&input.set)?;
    let mut host = Host::open(settings.organization)?;
    shown(&mut host, &prefix, &input.set, input.version.as_deref())
}

fn shown(
    store: &mut dyn Store,
    prefix: &str,
    set: &str,
    version: Option<&str>,
) -> Result<Shown, Failure> {
    let manifest = version::find(store, prefix, set, version)?;
    let entries = store.list(&manifest.place())?;
    let missing = version::missing(&manifest, &entries);
    let (records, _) = version::records(store, prefix, set)?;
    let children = records
        .into_iter()
        .filter(|it| it.manifest.parents.contains(&manifest.version));
    let children = children.map(|it| it.manifest.version).collect();
    let uses = uses(store, &manifest)?;
    Ok(Shown {
        manifest,
        missing,
        uses,
        children,
    })
}

/// Which versions to compare.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Diff {
    /// Name of the data set.
    set: String,
    /// The first version.
    from: String,
    /// The second version; the newest complete one if not given.
    #[serde(default)]
    to: Option<String>,
    /// Prefix of the keys; that of the settings if not given.
    #[serde(default)]
    prefix: Option<String>,
    /// Prefix of the second version; the same if not given.
    #[serde(default)]
    to_prefix: Option<String>,
}

/// What differs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Compared {
    /// The first version.
    from: String,
    /// The second version.
    to: String,
    /// What differs from the first to the second.
    difference: Difference,
}

/// Runs `diff`.
pub(crate) fn diff(input: Diff) -> Result<Compared, Failure> {
    let settings: Settings = config::load()?;
    let prefix = settings.prefix(input.prefix)?;
    let other = input.to_prefix.unwrap_or_else(|| prefix.clone());
    names::prefix(&other)?;
    names::set(&input.set)?;
    let mut host = Host::open(settings.organization)?;
    let from = version::find(&mut host, &prefix, &input.set, Some(&input.from))?;
    let to = version::find(&mut host, &other, &input.set, input.to.as_deref())?;
    Ok(Compared {
        difference: manifest::difference(&from, &to),
        from: from.version,
        to: to.version,
    })
}

/// Which strategy uses which version.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct UseInput {
    /// Name of the data set.
    set: String,
    /// Name of the version; the newest complete one if not given.
    #[serde(default)]
    version: Option<String>,
    /// Prefix of the keys; that of the settings if not given.
    #[serde(default)]
    prefix: Option<String>,
    /// The project whose present source uses it, by id or by name.
    project: ProjectReference,
    /// What it is used for, such as the id of a backtest.
    #[serde(default)]
    note: Option<String>,
}

/// The use of a version by a strategy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Use {
    /// The version's place: prefix, data set and version.
    data: String,
    /// Id of the project.
    project_id: u32,
    /// Name of the project then.
    project: String,
    /// The version of its source: the beginning of a SHA-256 over the names and texts of its files.
    source: String,
    /// When it was first noted, UTC.
    time: String,
    /// What it is used for.
    note: Option<String>,
}

/// Runs `use`.
pub(crate) fn use_version(input: UseInput) -> Result<Use, Failure> {
    let settings: Settings = config::load()?;
    let prefix = settings.prefix(input.prefix)?;
    names::set(&input.set)?;
    if input.note.as_ref().is_some_and(|it| it.len() > MAX_NOTE) {
        return Err(Failure::invalid_input("`note` has more than 2 KiB"));
    }
    let project = input.project.find()?;
    let tree = strategy::read(project.project_id)?;
    let mut host = Host::open(settings.organization)?;
    let version = input.version.as_deref();
    let found = version::find(&mut host, &prefix, &input.set, version)?;
    let used = Use {
        data: found.place(),
        project_id: project.project_id,
        project: project.name,
        source: strategy::version(&tree),
        time: time::instant(host.now()),
        note: input.note,
    };
    note(&mut host, &found, used)
}

/// Notes a use, in the state and as an object. One that is noted already stays as it is.
pub(crate) fn note(store: &mut dyn Store, manifest: &Manifest, used: Use) -> Result<Use, Failure> {
    let name = format!("{}-{}", used.project_id, used.source);
    let key = format!("{}{name}", uses_key(manifest));
    let used = match store::read::<Use>(store, &key)? {
        Some((used, _)) => used,
        None => {
            if !store::write(store, &key, None, &used)? {
                return Err(Failure::failed(
                    "the use was noted by another invocation at this moment",
                ));
            }
            used
        }
    };
    let bytes = serde_json::to_vec_pretty(&used)?;
    store.put(&manifest.key(&format!("{USES}/{name}.json")), &bytes)?;
    // A collection that began in between has seen the use, or is seen here.
    version::find(
        store,
        &manifest.prefix,
        &manifest.set,
        Some(&manifest.version),
    )?;
    Ok(used)
}

fn uses_key(manifest: &Manifest) -> String {
    format!("use/{}/", manifest.place())
}

/// The uses of a version.
pub(crate) fn uses(store: &mut dyn Store, manifest: &Manifest) -> Result<Vec<Use>, Failure> {
    let (keys, _) = store.keys(&uses_key(manifest))?;
    let mut uses = Vec::new();
    for key in keys {
        uses.extend(store::read::<Use>(store, &key)?.map(|it| it.0));
    }
    Ok(uses)
}

/// Whether a version is used, by the state or by what its folder holds.
pub(crate) fn is_used(
    store: &mut dyn Store,
    place: &str,
    entries: &[Entry],
) -> Result<bool, Failure> {
    let is_in_store = entries.iter().any(|it| it.name == USES);
    Ok(is_in_store || !store.keys(&format!("use/{place}/"))?.0.is_empty())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::store::tests::Memory;
    use crate::upload::tests::version_of;

    pub(crate) fn noted(store: &mut Memory, version: &str, time: &str) -> Result<Use, Failure> {
        let manifest = version::find(store, "data-edge", "spy", Some(version))?;
        let used = Use {
            data: manifest.place(),
            project_id: 7,
            project: "Lab/one".into(),
            source: "ab".repeat(16),
            time: time.into(),
            note: None,
        };
        note(store, &manifest, used)
    }

    #[test]
    fn a_use_is_noted_once_and_shown() {
        let mut store = Memory::default();
        let version = version_of(&mut store, &[1, 2]);
        let first = noted(&mut store, &version, "1").unwrap();
        assert_eq!(noted(&mut store, &version, "2").unwrap(), first);
        let shown = shown(&mut store, "data-edge", "spy", None).unwrap();
        assert_eq!(shown.uses, [first]);
        let object = format!("data-edge/spy/{version}/uses/7-{}.json", "ab".repeat(16));
        assert!(store.objects.contains_key(&object));
    }

    #[test]
    fn a_list_has_what_the_state_knows_and_what_only_the_store_has() {
        let mut store = Memory::default();
        let old = version_of(&mut store, &[1]);
        let new = version_of(&mut store, &[2]);
        store
            .objects
            .insert("data-edge/other/ab/manifest.json".into(), Vec::new());
        store
            .state
            .remove(&version::record_key("data-edge", "spy", &old));
        let listed = listed(&mut store, "data-edge".into(), None).unwrap();
        let spy = &listed.sets["spy"];
        assert_eq!(
            (spy.versions.len(), spy.versions[0].version.as_str()),
            (1, new.as_str())
        );
        assert_eq!(
            (spy.unknown.as_slice(), listed.complete),
            ([old].as_slice(), true)
        );
        assert_eq!(listed.sets["other"].unknown, ["ab"]);
    }

    #[test]
    fn a_version_shows_its_children_and_what_it_lost() {
        let mut store = Memory::default();
        let old = version_of(&mut store, &[1, 2, 3, 4]);
        let new = version_of(&mut store, &[2]);
        store
            .objects
            .remove(&format!("data-edge/spy/{old}/part-0001.csv"));
        let shown = shown(&mut store, "data-edge", "spy", Some(&old)).unwrap();
        assert_eq!(
            (shown.children, shown.missing),
            (vec![new], vec!["part-0001.csv".to_owned()])
        );
    }
}
