//! What is watched: the folders on the way to each path, and in each the one name that leads on.
//!
//! Links are followed one by one, as the kernel does, so that every folder on the way is known by
//! its canonical path, and the link itself is a name like any other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Maximum links that are followed, as in the kernel.
const MAX_LINKS: usize = 40;

/// The relevant entries of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WatchedFolder {
    /// The entries that lead on, or are themselves relevant.
    pub(super) names: HashSet<OsString>,
    /// Whether the way ends here or follows a link: without this folder a change is missed.
    pub(super) near: bool,
    /// Whether every entry is relevant.
    pub(super) entries: bool,
}

/// Folders by canonical path.
pub(super) type WatchSet = HashMap<PathBuf, WatchedFolder>;

/// The folders on the way to all of these paths.
pub(super) fn walk(paths: &[PathBuf]) -> WatchSet {
    let mut set = WatchSet::new();
    for path in paths {
        follow(path, &mut set);
    }
    set
}

fn follow(path: &Path, set: &mut WatchSet) {
    let Ok(path) = std::path::absolute(path) else {
        return;
    };
    let mut at = PathBuf::from("/");
    let mut links = 0;
    let mut ahead: VecDeque<OsString> = parts(&path).collect();
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let found = std::fs::symlink_metadata(&next);
        let folder = set.entry(at.clone()).or_default();
        folder.names.insert(name);
        match found {
            Ok(found) if found.is_symlink() => {
                folder.near = true;
                links += 1;
                let Ok(target) = std::fs::read_link(&next) else {
                    return;
                };
                if links > MAX_LINKS {
                    return;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for part in parts(&target).rev() {
                    ahead.push_front(part);
                }
            }
            Ok(found) if found.is_dir() => {
                if ahead.is_empty() {
                    folder.near = true;
                }
                at = next;
            }
            // A file does not lead on. A missing entry would appear in this folder.
            _ => {
                folder.near = true;
                return;
            }
        }
    }
    let folder = set.entry(at).or_default();
    folder.near = true;
    folder.entries = true;
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A temporary folder, by its canonical path.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    fn names(set: &WatchSet, folder: &Path) -> Vec<String> {
        let folder = set.get(folder).cloned().unwrap_or_default();
        let mut names: Vec<String> = folder
            .names
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        if folder.entries {
            names.push("*".to_owned());
        }
        names.sort();
        names
    }

    #[test]
    fn a_mount_of_kubernetes_is_followed_through_both_links() {
        let (_kept, root) = folder();
        std::fs::create_dir(root.join("..2026")).unwrap();
        std::fs::write(root.join("..2026/a.toml"), "").unwrap();
        symlink("..2026", root.join("..data")).unwrap();
        symlink("..data/a.toml", root.join("a.toml")).unwrap();
        let set = walk(&[root.join("a.toml"), root.clone()]);
        assert_eq!(names(&set, &root), ["*", "..2026", "..data", "a.toml"]);
        assert_eq!(names(&set, &root.join("..2026")), ["a.toml"]);
        assert!(!set.contains_key(&root.join("..data")));
    }

    #[test]
    fn a_link_up_and_over_leads_to_the_folder_behind_it() {
        let (_kept, root) = folder();
        std::fs::create_dir_all(root.join("releases/2/plugins")).unwrap();
        std::fs::create_dir(root.join("etc")).unwrap();
        symlink("../releases/2", root.join("etc/current")).unwrap();
        let set = walk(&[root.join("etc/current/plugins")]);
        assert_eq!(names(&set, &root), ["etc", "releases"]);
        assert_eq!(names(&set, &root.join("etc")), ["current"]);
        assert_eq!(names(&set, &root.join("releases/2")), ["plugins"]);
        assert_eq!(names(&set, &root.join("releases/2/plugins")), ["*"]);
    }

    #[test]
    fn the_way_to_what_is_not_there_ends_where_the_next_folder_is_missing() {
        let (_kept, root) = folder();
        let set = walk(&[root.join("not/there/a.toml")]);
        assert_eq!(names(&set, &root), ["not"]);
        assert!(!set.contains_key(&root.join("not")));
    }

    #[test]
    fn links_that_lead_in_circles_end() {
        let (_kept, root) = folder();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        let set = walk(&[root.join("a/c")]);
        assert_eq!(names(&set, &root), ["a", "b"]);
    }
}
