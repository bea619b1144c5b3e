//! Decides what to do about the manifests found, without doing any of it.
//!
//! Invariants: a plugin keeps serving only while there is a manifest for it. An invalid manifest keeps what it stood for
//! before, and one that could not be loaded stands for nothing new. If two manifests name the same plugin, neither is
//! loaded, since it is unknown which one is meant, and the one that serves stays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A manifest.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub path: &'a Path,
    /// The plugin it is for; `None` if it is invalid.
    pub plugin: Option<&'a str>,
    /// The plugin that serves because of it, and may.
    pub serving: Option<&'a str>,
    /// Whether it was tried in its current form, and cannot be loaded.
    pub failed: bool,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Plugins without a manifest: unloaded at once.
    pub unload: BTreeSet<String>,
    /// Manifests to be loaded, unless they are loaded already.
    pub load: BTreeSet<PathBuf>,
    /// Manifests that name the same plugin as another, with that other one.
    pub contested: BTreeMap<PathBuf, PathBuf>,
}

/// Decides for these manifests, while these plugins serve.
pub fn plan<'a>(manifests: &[Candidate<'_>], served: impl IntoIterator<Item = &'a str>) -> Plan {
    let mut claims = BTreeMap::<&str, Vec<&Candidate<'_>>>::new();
    for manifest in manifests {
        if let Some(plugin) = manifest.plugin {
            claims.entry(plugin).or_default().push(manifest);
        }
    }
    let mut plan = Plan::default();
    for claiming in claims.values() {
        match claiming.as_slice() {
            [manifest] if manifest.failed => {}
            [manifest] => drop(plan.load.insert(manifest.path.to_owned())),
            [first, second, ..] => {
                for manifest in claiming {
                    let other = if manifest.path == first.path {
                        second
                    } else {
                        first
                    };
                    let contested = (manifest.path.to_owned(), other.path.to_owned());
                    plan.contested.extend([contested]);
                }
            }
            [] => {}
        }
    }
    for plugin in served {
        let stands = manifests.iter().any(|manifest| {
            manifest.serving == Some(plugin) && manifest.plugin.is_none_or(|now| now == plugin)
        });
        let claiming = claims.get(plugin).map(Vec::as_slice);
        let follows = matches!(claiming, Some([manifest]) if !manifest.failed);
        if !stands && !follows {
            plan.unload.insert(plugin.to_owned());
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Path, plugin, the one that serves because of it: `-` is none, and `!` before the plugin is a failure.
    fn decide(manifests: &[(&'static str, &'static str, &'static str)], served: &[&str]) -> Plan {
        let some = |text: &'static str| (text != "-").then_some(text);
        let manifests: Vec<_> = manifests
            .iter()
            .map(|(path, plugin, serving)| Candidate {
                path: Path::new(*path),
                plugin: some(plugin.trim_start_matches('!')),
                serving: some(serving),
                failed: plugin.starts_with('!'),
            })
            .collect();
        plan(&manifests, served.iter().copied())
    }

    fn expected(unload: &[&str], load: &[&str], contested: &[(&str, &str)]) -> Plan {
        Plan {
            unload: unload.iter().map(|&name| name.to_owned()).collect(),
            load: load.iter().map(PathBuf::from).collect(),
            contested: contested
                .iter()
                .map(|(path, other)| (path.into(), other.into()))
                .collect(),
        }
    }

    #[test]
    fn what_is_new_is_loaded_and_what_is_gone_unloaded() {
        assert_eq!(decide(&[("a", "x", "-")], &[]), expected(&[], &["a"], &[]));
        assert_eq!(
            decide(&[("a", "x", "x")], &["x", "y"]),
            expected(&["y"], &["a"], &[])
        );
        assert_eq!(decide(&[], &["x"]), expected(&["x"], &[], &[]));
    }

    #[test]
    fn a_wrong_manifest_stands_for_what_it_stood_for_and_for_nothing_new() {
        assert_eq!(decide(&[("a", "-", "x")], &["x"]), expected(&[], &[], &[]));
        assert_eq!(
            decide(&[("a", "-", "-")], &["x"]),
            expected(&["x"], &[], &[])
        );
    }

    #[test]
    fn a_manifest_of_another_name_is_a_removal_and_an_addition() {
        assert_eq!(
            decide(&[("a", "y", "x")], &["x"]),
            expected(&["x"], &["a"], &[])
        );
        // Two manifests that exchange their names are swapped, and neither plugin is unloaded.
        assert_eq!(
            decide(&[("a", "y", "x"), ("b", "x", "y")], &["x", "y"]),
            expected(&[], &["a", "b"], &[])
        );
    }

    #[test]
    fn of_two_for_one_plugin_neither_is_loaded_and_what_serves_keeps_serving() {
        let both = [("a", "b"), ("b", "a")];
        assert_eq!(
            decide(&[("a", "x", "x"), ("b", "x", "-")], &["x"]),
            expected(&[], &[], &both)
        );
        assert_eq!(
            decide(&[("a", "x", "-"), ("b", "x", "-")], &[]),
            expected(&[], &[], &both)
        );
        // The one that served is gone, and it is unknown which of the others is meant.
        assert_eq!(
            decide(&[("b", "x", "-"), ("c", "x", "-")], &["x"]),
            expected(&["x"], &[], &[("b", "c"), ("c", "b")])
        );
    }

    #[test]
    fn a_file_of_another_name_for_the_same_plugin_takes_over_without_a_gap() {
        assert_eq!(
            decide(&[("b", "x", "-")], &["x"]),
            expected(&[], &["b"], &[])
        );
        assert_eq!(
            decide(&[("a", "-", "x"), ("b", "x", "-")], &["x"]),
            expected(&[], &["b"], &[])
        );
    }

    #[test]
    fn one_that_cannot_be_loaded_takes_nothing_over() {
        assert_eq!(
            decide(&[("a", "-", "x"), ("b", "!x", "-")], &["x"]),
            expected(&[], &[], &[])
        );
        assert_eq!(
            decide(&[("b", "!x", "-")], &["x"]),
            expected(&["x"], &[], &[])
        );
        // Its own plugin keeps serving.
        assert_eq!(decide(&[("b", "!x", "x")], &["x"]), expected(&[], &[], &[]));
    }

    proptest! {
        #[test]
        fn no_plugin_is_loaded_twice_nor_both_loaded_and_unloaded(
            manifests in proptest::collection::vec((0..5_usize, 0..5_usize, any::<bool>()), 0..7),
            served in proptest::collection::btree_set(1..5_usize, 0..5),
        ) {
            const NAMES: [&str; 5] = ["", "w", "x", "y", "z"];
            let name = |at: usize| Some(NAMES[at]).filter(|name| !name.is_empty());
            let paths: Vec<_> = (0..manifests.len()).map(|at| PathBuf::from(at.to_string())).collect();
            let candidates: Vec<_> = manifests
                .iter()
                .zip(&paths)
                .map(|((plugin, serving, failed), path)| Candidate {
                    path,
                    plugin: name(*plugin),
                    serving: name(*serving),
                    failed: *failed,
                })
                .collect();
            let served: Vec<_> = served.into_iter().filter_map(name).collect();
            let plan = plan(&candidates, served.iter().copied());

            let loaded: Vec<_> = candidates
                .iter()
                .filter(|manifest| plan.load.contains(manifest.path))
                .filter_map(|manifest| manifest.plugin)
                .collect();
            let distinct: BTreeSet<_> = loaded.iter().collect();
            prop_assert_eq!(distinct.len(), loaded.len());
            prop_assert!(loaded.iter().all(|plugin| !plan.unload.contains(*plugin)));
            prop_assert!(plan.unload.iter().all(|plugin| served.contains(&plugin.as_str())));
            for manifest in &candidates {
                let chosen = plan.load.contains(manifest.path);
                let contested = plan.contested.contains_key(manifest.path);
                prop_assert!(!(chosen && (contested || manifest.failed)));
                let decided = chosen || contested || manifest.failed;
                prop_assert!(decided || manifest.plugin.is_none());
                prop_assert!(manifest.plugin.is_some() || !(chosen || contested));
            }
            for plugin in served.iter().filter(|plugin| !plan.unload.contains(**plugin)) {
                let stands = candidates.iter().any(|manifest| {
                    let serving = manifest.serving == Some(plugin);
                    match manifest.plugin {
                        Some(now) => now == *plugin && (serving || !manifest.failed),
                        None => serving,
                    }
                });
                prop_assert!(stands, "{} serves without a manifest", plugin);
            }
        }
    }
}
