//! Scans the folder of manifests: which exist, and the content of those that changed.
//!
//! Invariant: an unreadable or invalid manifest still exists; only a file that the folder no longer lists
//! was removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Error;
use qchost_policy::Manifest;

use crate::fingerprint::{FileFingerprint, Text, is_briefly_dangling, read};
use crate::manifests::{self, Listing};
use crate::output::words;

/// A manifest's file as it was read.
#[derive(Debug)]
pub struct File {
    fingerprint: Option<FileFingerprint>,
    text: String,
    /// Its content, or what is wrong with it.
    pub manifest: Result<Manifest, String>,
    /// The plugin it is for, as far as it can be read.
    pub name: Option<String>,
}

/// A manifest, with the fingerprint of its component.
#[derive(Debug, Clone)]
pub struct ScannedManifest {
    pub file: Arc<File>,
    component: Option<FileFingerprint>,
}

impl ScannedManifest {
    /// Whether both text and component file are unchanged.
    pub fn is_same(&self, other: &Self) -> bool {
        self.file.text == other.file.text && self.component == other.component
    }
}

/// The result of a scan.
#[derive(Debug, Default)]
pub struct Scan {
    pub scanned: BTreeMap<PathBuf, ScannedManifest>,
    /// Where manifests may appear, and the components.
    pub watched: Vec<PathBuf>,
    /// Why the folder cannot be read; its manifests are as before then.
    pub problem: Option<Error>,
    /// Whether something is being written, so that another scan has to follow soon.
    pub unfinished: bool,
}

/// Scans a folder of manifests; files unchanged since `known` are not read again. With `defer_young_files`, an
/// invalid file that was modified just now is left as it was. Blocks.
pub fn scan(
    folder: &Path,
    known: &BTreeMap<PathBuf, ScannedManifest>,
    defer_young_files: bool,
) -> Scan {
    let Listing { manifests, watched } = match manifests::list(folder) {
        Ok(listing) => listing,
        Err(error) => {
            return Scan {
                scanned: known.clone(),
                problem: Some(error),
                ..Scan::default()
            };
        }
    };
    let mut scan = Scan {
        watched,
        ..Scan::default()
    };
    for path in manifests {
        let former = known.get(&path);
        let former_file = former.map(|scanned| &scanned.file);
        let file = match read_file(&path, former_file, defer_young_files) {
            Some(file) => file,
            None => {
                scan.unfinished = true;
                match former {
                    Some(former) => Arc::clone(&former.file),
                    None => continue,
                }
            }
        };
        let component = file.manifest.as_ref().ok().and_then(|manifest| {
            scan.watched.push(manifest.component.clone());
            FileFingerprint::of(&manifest.component).ok()
        });
        scan.scanned
            .insert(path, ScannedManifest { file, component });
    }
    scan
}

/// The current manifest; `None` while it is being written.
fn read_file(
    path: &Path,
    former: Option<&Arc<File>>,
    defer_young_files: bool,
) -> Option<Arc<File>> {
    if let Some(former) = former
        && former.fingerprint.is_some()
        && former.fingerprint == FileFingerprint::of(path).ok()
    {
        return Some(Arc::clone(former));
    }
    let file = match read(path) {
        Text::BeingWritten => return None,
        Text::Unreadable(fingerprint, error) => File {
            fingerprint,
            text: error.to_string(),
            manifest: Err(format!(
                "{}: cannot read the manifest: {error}",
                path.display()
            )),
            name: former.and_then(|former| former.name.clone()),
        },
        Text::Whole(fingerprint, text) => {
            let manifest = Manifest::parse(&text, path)
                .map(|mut manifest| {
                    manifest.origin.owner = Some(fingerprint.owner);
                    manifest
                })
                .map_err(|error| words(&Error::from(error)));
            let name = match &manifest {
                Ok(manifest) => Some(manifest.plugin.clone()),
                Err(_) => manifests::named(&text),
            };
            File {
                fingerprint: Some(fingerprint),
                text,
                manifest,
                name,
            }
        }
    };
    let is_young = match file.fingerprint {
        Some(fingerprint) => fingerprint.is_young(),
        None => is_briefly_dangling(path),
    };
    let incomplete = file.manifest.is_err() && is_young;
    if defer_young_files && incomplete && former.is_none_or(|former| former.text != file.text) {
        return None;
    }
    Some(Arc::new(file))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fingerprint::MIN_FILE_AGE;

    const GOOD: &str = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n";

    #[test]
    fn only_what_changed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.toml");
        std::fs::write(&path, GOOD).unwrap();
        let first = scan(folder.path(), &BTreeMap::new(), true);
        let lab = first.scanned.get(&path).unwrap();
        assert_eq!(lab.file.name.as_deref(), Some("lab"));
        assert!(first.watched.contains(&folder.path().join("lab.wasm")));

        let second = scan(folder.path(), &first.scanned, true);
        assert!(Arc::ptr_eq(
            &second.scanned.get(&path).unwrap().file,
            &lab.file
        ));

        // A rewritten manifest with equal text is unchanged; with a new component it is not.
        std::fs::write(&path, GOOD).unwrap();
        let third = scan(folder.path(), &first.scanned, true);
        assert!(third.scanned.get(&path).unwrap().is_same(lab));
        std::fs::write(folder.path().join("lab.wasm"), "").unwrap();
        let fourth = scan(folder.path(), &first.scanned, true);
        assert!(!fourth.scanned.get(&path).unwrap().is_same(lab));

        std::fs::remove_file(&path).unwrap();
        assert!(scan(folder.path(), &first.scanned, true).scanned.is_empty());
    }

    #[test]
    fn what_is_wrong_and_still_young_is_looked_at_again_before_it_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.toml");
        std::fs::write(&path, GOOD).unwrap();
        let first = scan(folder.path(), &BTreeMap::new(), true);

        std::fs::write(&path, GOOD.get(..20).unwrap()).unwrap();
        let half = scan(folder.path(), &first.scanned, true);
        assert!(half.unfinished);
        assert!(half.scanned.get(&path).unwrap().file.manifest.is_ok());

        // At the start there is no delay for incomplete files.
        let start = scan(folder.path(), &BTreeMap::new(), false);
        assert!(!start.unfinished && start.scanned.get(&path).unwrap().file.manifest.is_err());

        std::thread::sleep(MIN_FILE_AGE + Duration::from_millis(20));
        let wrong = scan(folder.path(), &first.scanned, true);
        assert!(!wrong.unfinished);
        let file = &wrong.scanned.get(&path).unwrap().file;
        assert!(file.manifest.is_err());
        assert_eq!(file.name, None);
    }

    #[test]
    fn a_folder_that_cannot_be_listed_removes_nothing_and_one_that_is_gone_everything() {
        let folder = tempfile::tempdir().unwrap();
        let plugins = folder.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        std::fs::write(plugins.join("lab.toml"), GOOD).unwrap();
        let first = scan(&plugins, &BTreeMap::new(), true);
        std::fs::remove_dir_all(&plugins).unwrap();
        std::fs::write(&plugins, "a file").unwrap();
        let unreadable = scan(&plugins, &first.scanned, true);
        assert!(unreadable.problem.is_some() && unreadable.scanned.len() == 1);
        std::fs::remove_file(&plugins).unwrap();
        let gone = scan(&plugins, &first.scanned, true);
        assert!(gone.problem.is_none() && gone.scanned.is_empty());
    }
}
