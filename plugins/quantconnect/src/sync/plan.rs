//! Decides what a sync does: a three-way comparison of the base, the local side and the project.
//!
//! Invariant: a step replaces or deletes only what its side still holds as in the base, or what the caller gave up by
//! its digest. If both sides changed a path, it is a conflict, and no step touches it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::base::Base;
use super::tree::{Digest, Tree, obstruct};

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// The folder, or the set of files.
    Local,
    /// The project at QuantConnect.
    Project,
}

/// Which side's changes are carried over to the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Direction {
    /// Local changes go into the project.
    Push,
    /// Changes of the project go to the local side.
    Pull,
    /// Each side gets the changes of the other.
    #[default]
    Both,
}

impl Direction {
    fn changes(self, side: Side) -> bool {
        matches!(
            (self, side),
            (Self::Both, _) | (Self::Push, Side::Project) | (Self::Pull, Side::Local)
        )
    }
}

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The side that is changed.
    pub(crate) side: Side,
    /// The path, the new one of a rename.
    pub(crate) path: String,
    pub(crate) change: Change,
}

/// What becomes of a file. Its new content is what the other side has at the step's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Create,
    Update,
    /// Only in the project.
    Rename {
        from: String,
    },
    Delete,
}

/// A path that both sides changed since the base, each to something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) path: String,
    /// Whether the caller decided it, but about another version than there is now.
    pub(crate) is_outdated: bool,
}

/// A change that the caller's options keep from being carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) path: String,
    /// The side that would be changed.
    pub(crate) side: Side,
    /// Whether it is held since nothing may be deleted; otherwise since the direction is the other one.
    pub(crate) is_deletion: bool,
}

/// The caller's decision of a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolution {
    /// The side whose version stays.
    pub(crate) keep: Side,
    /// What the other side holds, which is given up; `None` if it holds nothing.
    pub(crate) discard: Option<Digest>,
}

/// What the caller allows.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) direction: Direction,
    /// Whether files may be deleted.
    pub(crate) delete: bool,
    pub(crate) resolutions: BTreeMap<String, Resolution>,
}

/// What a sync does, and what it leaves to the caller.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order in which they are taken.
    pub(crate) steps: Vec<Step>,
    pub(crate) conflicts: Vec<Conflict>,
    pub(crate) held: Vec<Held>,
    /// Paths where both sides hold the same; absent from both, if the base alone has them.
    pub(crate) in_step: Vec<String>,
}

/// Compares the sides.
pub(crate) fn plan(base: &Base, local: &Tree, project: &Tree, rules: &Rules) -> Plan {
    let mut plan = Plan::default();
    let paths: BTreeSet<&String> = base
        .0
        .keys()
        .chain(local.keys())
        .chain(project.keys())
        .collect();
    let empty = Digest::of("");
    for path in paths {
        let before = base.get(path);
        let here = local.get(path).map(|file| &file.digest);
        let there = project.get(path).map(|file| &file.digest);
        if here == there {
            plan.in_step.push(path.clone());
            continue;
        }
        let target = if there == before {
            Some(Side::Project)
        } else if here == before {
            Some(Side::Local)
        } else if there.is_none() && here == Some(&empty) {
            // QuantConnect takes no empty text for a file that has one, so such a file is deleted and created. A run
            // that ended in between goes on here; creating what is empty loses nothing in any case.
            Some(Side::Project)
        } else {
            None
        };
        let target = match (target, rules.resolutions.get(path)) {
            (Some(target), _) => target,
            (None, Some(Resolution { keep, discard })) => {
                let (target, given_up) = match keep {
                    Side::Local => (Side::Project, there),
                    Side::Project => (Side::Local, here),
                };
                if discard.as_ref() != given_up {
                    plan.conflict(path, true);
                    continue;
                }
                target
            }
            (None, None) => {
                plan.conflict(path, false);
                continue;
            }
        };
        let (source, seen) = match target {
            Side::Project => (here, there),
            Side::Local => (there, here),
        };
        let change = match (source, seen) {
            (Some(_), None) => Change::Create,
            (Some(_), Some(_)) => Change::Update,
            (None, _) => Change::Delete,
        };
        let is_deletion = change == Change::Delete;
        if !rules.direction.changes(target) || (is_deletion && !rules.delete) {
            plan.held.push(Held {
                path: path.clone(),
                side: target,
                is_deletion: rules.direction.changes(target),
            });
            continue;
        }
        plan.steps.push(Step {
            side: target,
            path: path.clone(),
            change,
        });
    }
    find_renames(&mut plan.steps, local, project);
    order(&mut plan.steps);
    plan
}

impl Plan {
    fn conflict(&mut self, path: &str, is_outdated: bool) {
        self.conflicts.push(Conflict {
            path: path.to_owned(),
            is_outdated,
        });
    }
}

/// Makes one rename of a deletion and a creation of the same content in the project. On the local side they stay apart:
/// a folder has no rename, and one of them can be refused without the other.
///
/// Not where a deleted file is in the way of a created one: there the deletion has to come first.
fn find_renames(steps: &mut Vec<Step>, local: &Tree, project: &Tree) {
    let paths = |change: &Change| -> Vec<String> {
        let steps = steps.iter();
        let steps = steps.filter(|it| it.side == Side::Project && it.change == *change);
        steps.map(|it| it.path.clone()).collect()
    };
    let (created, deleted) = (paths(&Change::Create), paths(&Change::Delete));
    let is_apart =
        |path: &str, others: &[String]| !others.iter().any(|other| obstruct(path, other));
    let mut by_content: HashMap<&Digest, Vec<&String>> = HashMap::new();
    for path in deleted.iter().rev().filter(|path| is_apart(path, &created)) {
        // Empty files are alike by chance.
        if let Some(file) = project.get(path).filter(|file| !file.content.is_empty()) {
            by_content.entry(&file.digest).or_default().push(path);
        }
    }
    let mut renamed = BTreeSet::new();
    for step in steps.iter_mut() {
        let is_created = step.side == Side::Project && step.change == Change::Create;
        if !is_created || !is_apart(&step.path, &deleted) {
            continue;
        }
        let file = local.get(&step.path);
        let alike = file.and_then(|file| by_content.get_mut(&file.digest));
        if let Some(from) = alike.and_then(Vec::pop) {
            renamed.insert(from.clone());
            step.change = Change::Rename { from: from.clone() };
        }
    }
    steps.retain(|it| {
        it.side != Side::Project || it.change != Change::Delete || !renamed.contains(&it.path)
    });
}

/// Deletions come last, so that every content is in two places while the run lasts; except for those that are in the
/// way of what is created.
fn order(steps: &mut [Step]) {
    let created: Vec<(Side, String)> = steps
        .iter()
        .filter(|it| it.change == Change::Create)
        .map(|it| (it.side, it.path.clone()))
        .collect();
    steps.sort_by_key(|step| match &step.change {
        Change::Delete => {
            let mut created = created.iter();
            let is_in_the_way =
                created.any(|(side, path)| *side == step.side && obstruct(path, &step.path));
            if is_in_the_way { 0 } else { 4 }
        }
        Change::Rename { .. } => 1,
        Change::Create => 2,
        Change::Update => 3,
    });
}

#[cfg(test)]
mod tests {
    use super::super::tree::File;
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let files = files.iter();
        files
            .map(|(path, content)| ((*path).to_owned(), File::new((*content).to_owned())))
            .collect()
    }

    fn base(files: &[(&str, &str)]) -> Base {
        let files = files.iter();
        Base(
            files
                .map(|(path, content)| ((*path).to_owned(), Digest::of(content)))
                .collect(),
        )
    }

    fn rules(direction: Direction) -> Rules {
        Rules {
            direction,
            delete: true,
            ..Rules::default()
        }
    }

    type Files<'a> = &'a [(&'a str, &'a str)];

    fn planned(
        known: Files<'_>,
        local: Files<'_>,
        project: Files<'_>,
        direction: Direction,
    ) -> Plan {
        plan(
            &base(known),
            &tree(local),
            &tree(project),
            &rules(direction),
        )
    }

    fn step(side: Side, path: &str, change: Change) -> Step {
        Step {
            side,
            path: path.into(),
            change,
        }
    }

    #[test]
    fn a_change_of_one_side_is_carried_to_the_other() {
        let known = [("changed", "1"), ("deleted", "1"), ("same", "1")];
        let changed = [("changed", "2"), ("created", "1"), ("same", "1")];
        let created = [("created", "1")];
        for direction in [Direction::Push, Direction::Both] {
            let push = planned(&known, &changed, &known, direction);
            let renamed = Change::Rename {
                from: "deleted".into(),
            };
            assert_eq!(
                push.steps,
                [
                    step(Side::Project, "created", renamed),
                    step(Side::Project, "changed", Change::Update),
                ]
            );
        }
        for direction in [Direction::Pull, Direction::Both] {
            let pull = planned(&known, &known, &changed, direction);
            assert_eq!(
                pull.steps,
                [
                    step(Side::Local, "created", Change::Create),
                    step(Side::Local, "changed", Change::Update),
                    step(Side::Local, "deleted", Change::Delete),
                ]
            );
        }
        let push = planned(&[], &created, &[], Direction::Push);
        assert_eq!(push.steps, [step(Side::Project, "created", Change::Create)]);
        let delete = planned(&known, &[], &known, Direction::Push);
        assert_eq!(delete.steps.len(), 3);
        assert!(delete.steps.iter().all(|it| it.change == Change::Delete));
    }

    #[test]
    fn a_change_against_the_direction_is_held_and_does_nothing() {
        let held = planned(&[("a", "1")], &[("a", "1")], &[("a", "2")], Direction::Push);
        assert_eq!(held.steps, []);
        let expected = Held {
            path: "a".into(),
            side: Side::Local,
            is_deletion: false,
        };
        assert_eq!(held.held, [expected]);
        let held = planned(&[], &[("a", "1")], &[], Direction::Pull);
        assert_eq!((held.steps.len(), held.held.len()), (0, 1));
    }

    #[test]
    fn nothing_is_deleted_that_the_base_does_not_have_or_the_caller_forbids() {
        let first = planned(&[], &[], &[("a", "1")], Direction::Push);
        assert_eq!((first.steps.len(), first.held.len()), (0, 1));
        let first = planned(&[], &[], &[("a", "1")], Direction::Both);
        assert_eq!(first.steps, [step(Side::Local, "a", Change::Create)]);

        let forbidden = Rules::default();
        let plan = plan(
            &base(&[("a", "1")]),
            &tree(&[]),
            &tree(&[("a", "1")]),
            &forbidden,
        );
        assert_eq!(plan.steps, []);
        assert!(plan.held.iter().all(|it| it.is_deletion));
        assert_eq!(plan.held.len(), 1);
    }

    #[test]
    fn what_both_sides_changed_is_a_conflict_in_every_direction() {
        for direction in [Direction::Push, Direction::Pull, Direction::Both] {
            for (known, local, project) in [
                (&[("a", "1")][..], &[("a", "2")][..], &[("a", "3")][..]),
                (&[("a", "1")], &[], &[("a", "3")]),
                (&[("a", "1")], &[("a", "2")], &[]),
                (&[], &[("a", "2")], &[("a", "3")]),
            ] {
                let plan = planned(known, local, project, direction);
                assert_eq!((plan.steps.len(), plan.held.len()), (0, 0), "{plan:?}");
                assert_eq!(plan.conflicts.len(), 1, "{plan:?}");
            }
        }
    }

    #[test]
    fn both_sides_with_the_same_are_in_step_whatever_the_base_says() {
        for known in [&[][..], &[("a", "1")], &[("a", "2")]] {
            let plan = planned(known, &[("a", "1")], &[("a", "1")], Direction::Both);
            assert_eq!(plan.in_step, ["a"]);
            assert!(plan.steps.is_empty() && plan.conflicts.is_empty());
        }
        let gone = planned(&[("a", "1")], &[], &[], Direction::Push);
        assert_eq!(gone.in_step, ["a"]);
    }

    #[test]
    fn a_conflict_is_decided_only_for_the_version_that_the_caller_saw() {
        let decided = |keep, discard: Option<&str>| {
            let resolution = Resolution {
                keep,
                discard: discard.map(Digest::of),
            };
            let rules = Rules {
                resolutions: [("a".to_owned(), resolution)].into(),
                ..rules(Direction::Both)
            };
            plan(
                &base(&[("a", "1")]),
                &tree(&[("a", "2")]),
                &tree(&[("a", "3")]),
                &rules,
            )
        };
        let local = decided(Side::Local, Some("3"));
        assert_eq!(local.steps, [step(Side::Project, "a", Change::Update)]);
        let project = decided(Side::Project, Some("2"));
        assert_eq!(project.steps, [step(Side::Local, "a", Change::Update)]);
        for outdated in [
            decided(Side::Local, Some("2")),
            decided(Side::Project, None),
        ] {
            assert_eq!(outdated.steps, []);
            assert!(outdated.conflicts.iter().all(|it| it.is_outdated));
            assert_eq!(outdated.conflicts.len(), 1);
        }
    }

    #[test]
    fn a_rename_is_found_once_for_each_file_and_never_for_empty_ones() {
        let known = [("a", "1"), ("b", "1"), ("e", ""), ("z", "2")];
        let local = [("c", "1"), ("d", "1"), ("f", "1"), ("g", ""), ("z", "2")];
        let plan = planned(&known, &local, &known, Direction::Push);
        let project = |path: &str, change| step(Side::Project, path, change);
        assert_eq!(
            plan.steps,
            [
                project("c", Change::Rename { from: "a".into() }),
                project("d", Change::Rename { from: "b".into() }),
                project("f", Change::Create),
                project("g", Change::Create),
                project("e", Change::Delete),
            ]
        );
    }

    #[test]
    fn a_file_that_is_in_the_way_of_a_new_one_is_deleted_first() {
        let plan = planned(
            &[("a", "1")],
            &[("a", "1")],
            &[("a/b", "1")],
            Direction::Pull,
        );
        assert_eq!(
            plan.steps,
            [
                step(Side::Local, "a", Change::Delete),
                step(Side::Local, "a/b", Change::Create),
            ]
        );
    }
}
