//! `promote-strategy` and `rollback`: the files of one project in another one, in one step.
//!
//! Invariant: the target's files are replaced all at once, only if they are still those of the plan, and only after their
//! texts are kept. What was changed in the target since it was last promoted to is a conflict: nothing is replaced unless the
//! caller gives up exactly that text.

use std::collections::{BTreeMap, BTreeSet};

use qchost_sdk::prelude::*;
use qchost_sdk::types::SourceFile;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::difference;
use crate::input::Settings;
use crate::manifest::sha256;
use crate::names::{self, STRATEGIES};
use crate::store::{self, Host, Store};
use crate::time;

/// Versions of a project that can be gone back to.
const MAX_HISTORY: usize = 20;
/// Maximum bytes of a version's texts, as they are kept: a value of the state has no more.
const MAX_TEXTS: usize = 1 << 20;
/// Maximum bytes of all differences in an answer.
const MAX_DIFFERENCES: usize = 256 << 10;
/// The environment that a lock of the project is checked against.
const CODE_SOURCE: &str = "qchost";

/// Files by their paths.
pub(crate) type Tree = BTreeMap<String, String>;

/// The files of projects.
pub(crate) trait Projects {
    /// All files, those that take no part included.
    fn read(&mut self, project: u32) -> Result<Tree, Failure>;
    /// Replaces all files in one step.
    fn replace(&mut self, project: u32, files: &Tree) -> Result<(), Failure>;
}

/// The account's.
struct Account;

impl Projects for Account {
    fn read(&mut self, project: u32) -> Result<Tree, Failure> {
        read_all(project)
    }

    fn replace(&mut self, project: u32, files: &Tree) -> Result<(), Failure> {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|(name, content)| SourceFile {
                name: name.clone(),
                content: content.clone(),
            })
            .collect();
        Ok(wait::until_ready(|| {
            projects::replace_project_files(project, &files, Some(CODE_SOURCE))
        })?)
    }
}

fn read_all(project: u32) -> Result<Tree, Failure> {
    answers::left_out();
    let files = wait::until_ready(|| files::read_file(project, None, None))?;
    if answers::left_out() > 0 {
        return Err(Failure::failed(format!(
            "the list of the files of project {project} came incomplete, so it is not known which it has"
        )));
    }
    let mut tree = Tree::new();
    for file in files {
        if file.is_library == Some(true) {
            continue;
        }
        let content = file.content.ok_or_else(|| {
            Failure::failed(format!(
                "the answer has no text of {} of project {project}",
                file.name
            ))
        })?;
        tree.insert(file.name, content);
    }
    Ok(tree)
}

/// The files of a project that make its strategy.
pub(crate) fn read(project: u32) -> Result<Tree, Failure> {
    Ok(strategy_of(read_all(project)?))
}

/// Notebooks are research: they stay where they are.
fn takes_part(path: &str) -> bool {
    !path.to_ascii_lowercase().ends_with(".ipynb")
}

fn strategy_of(mut tree: Tree) -> Tree {
    tree.retain(|path, _| takes_part(path));
    tree
}

/// The version of files: the first half of a SHA-256 over their paths and digests.
pub(crate) fn version(tree: &Tree) -> String {
    let mut digest = Sha256::new();
    for (path, content) in tree {
        digest.update(format!("{path}\0{}\n", sha256(content.as_bytes())));
    }
    hex::encode(digest.finalize()).chars().take(32).collect()
}

fn digests(tree: &Tree) -> BTreeMap<String, String> {
    let files = tree.iter();
    files
        .map(|(path, content)| (path.clone(), sha256(content.as_bytes())))
        .collect()
}

/// A version that the target had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Step {
    /// The version.
    version: String,
    /// When it came, or was first seen, UTC.
    time: String,
    /// Where it came from.
    from: String,
}

/// A replacement that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pending {
    /// What the target had.
    before: String,
    goal: Step,
    /// The digests of the goal.
    files: BTreeMap<String, String>,
}

/// What the state keeps of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Log {
    /// What the target had after it was last promoted to; absent before the first time.
    base: Option<BTreeMap<String, String>>,
    pending: Option<Pending>,
    /// Versions of the target, the present one last.
    history: Vec<Step>,
}

impl Log {
    /// Brings a replacement to its end whose run ended in between: it was made, or it was not.
    fn settle(&mut self, present: &str) {
        if let Some(pending) = self.pending.take_if(|it| it.goal.version == present) {
            self.finish(pending);
        }
        self.pending = None;
    }

    fn finish(&mut self, pending: Pending) {
        let Pending {
            before,
            goal,
            files,
        } = pending;
        if self.history.last().is_none_or(|it| it.version != before) {
            self.history.push(Step {
                version: before,
                time: goal.time.clone(),
                from: "what the project had".to_owned(),
            });
        }
        self.history.push(goal);
        let surplus = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..surplus);
        self.base = Some(files);
    }
}

/// What to promote.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PromoteStrategy {
    /// The project with the files, by id or by name.
    from: ProjectReference,
    /// The project that is to have them, by id or by name. It has to exist.
    to: ProjectReference,
    /// The version of the source that it has to be, as an earlier plan said; refused if it is another one.
    #[serde(default)]
    version: Option<String>,
    /// Conflicts that are decided: paths with the SHA-256 of the target's text that is given up; null where the target has
    /// no file.
    #[serde(default)]
    discard: BTreeMap<String, Option<String>>,
    /// Only say what would be done.
    #[serde(default)]
    plan_only: bool,
}

/// Where to go back to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Rollback {
    /// The project, by id or by name.
    project: ProjectReference,
    /// A version of its history; the one before the present one if not given.
    #[serde(default)]
    version: Option<String>,
    /// Conflicts that are decided, as in `promote-strategy`.
    #[serde(default)]
    discard: BTreeMap<String, Option<String>>,
    /// Only say what would be done.
    #[serde(default)]
    plan_only: bool,
}

/// A file that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Change {
    /// Path of the file.
    path: String,
    /// What becomes of it.
    change: Kind,
    /// SHA-256 of the target's text now; null if it has no such file.
    target: Option<String>,
    /// Whether it is a conflict that is not decided: it was changed in the target since it was last promoted to, or the target
    /// was never promoted to and has another text.
    conflict: bool,
    /// From the target's text to the new one, as a unified diff, as far as there is room.
    diff: String,
    /// Whether the difference is longer.
    is_cut: bool,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// It is created.
    Create,
    /// Its text is replaced.
    Update,
    /// It is deleted.
    Delete,
}

/// What was done, or would be.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Outcome {
    /// The target's id.
    project_id: u32,
    /// Whether the target has the version now.
    done: bool,
    /// The version that it is to have.
    version: String,
    /// The version that it had.
    before: String,
    /// Files that are changed; none if it has the version already.
    changes: Vec<Change>,
    /// Versions that it can go back to, the present one last.
    history: Vec<Step>,
}

/// Runs `promote-strategy`.
pub(crate) fn promote(input: &PromoteStrategy) -> Result<Outcome, Failure> {
    let settings: Settings = config::load()?;
    let prefix = settings.prefix(None)?;
    let (from, to) = (input.from.find()?, input.to.find()?);
    if from.project_id == to.project_id {
        return Err(Failure::invalid_input(
            "`from` and `to` are the same project",
        ));
    }
    let goal = read(from.project_id)?;
    if let Some(expected) = &input.version
        && *expected != version(&goal)
    {
        return Err(Failure::invalid_input(format!(
            "the source is the version {} by now, and not {expected}: plan it again",
            version(&goal)
        )));
    }
    let mut host = Host::open(settings.organization)?;
    let target = Target {
        prefix: &prefix,
        project: to.project_id,
    };
    let order = Order {
        goal: &goal,
        from: format!("project {} \"{}\"", from.project_id, from.name),
        discard: &input.discard,
        plan_only: input.plan_only,
    };
    target.apply(&mut host, &mut Account, &order)
}

/// Runs `rollback`.
pub(crate) fn rollback(input: &Rollback) -> Result<Outcome, Failure> {
    let settings: Settings = config::load()?;
    let prefix = settings.prefix(None)?;
    if let Some(version) = &input.version {
        names::version(version)?;
    }
    let project = input.project.find()?.project_id;
    let mut host = Host::open(settings.organization)?;
    let target = Target {
        prefix: &prefix,
        project,
    };
    target.go_back(&mut host, &mut Account, input)
}

/// The project that is changed.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    prefix: &'a str,
    project: u32,
}

/// What it is to have.
struct Order<'a> {
    goal: &'a Tree,
    from: String,
    discard: &'a BTreeMap<String, Option<String>>,
    plan_only: bool,
}

impl Target<'_> {
    fn log_key(self) -> String {
        format!("strategy/{}/{}", self.prefix, self.project)
    }

    fn texts_key(self, version: &str) -> String {
        format!("strategy-text/{}/{}/{version}", self.prefix, self.project)
    }

    fn object(self, version: &str) -> String {
        format!(
            "{}/{STRATEGIES}/{}/{version}.json",
            self.prefix, self.project
        )
    }

    fn go_back(
        self,
        store: &mut dyn Store,
        projects: &mut dyn Projects,
        input: &Rollback,
    ) -> Result<Outcome, Failure> {
        let found = store::read::<Log>(store, &self.log_key())?;
        let mut log = found.map(|it| it.0).unwrap_or_default();
        log.settle(&version(&strategy_of(projects.read(self.project)?)));
        let wanted = match &input.version {
            Some(wanted) => log.history.iter().find(|it| it.version == *wanted),
            None => log.history.iter().rev().nth(1),
        };
        let wanted = wanted.ok_or_else(|| {
            let known: Vec<&str> = log.history.iter().map(|it| it.version.as_str()).collect();
            Failure::invalid_input(format!(
                "project {} has no such version to go back to; its history has: {}",
                self.project,
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ))
        })?;
        let goal = self.texts(store, &wanted.version)?;
        let order = Order {
            goal: &goal,
            from: "rollback".to_owned(),
            discard: &input.discard,
            plan_only: input.plan_only,
        };
        self.apply(store, projects, &order)
    }

    /// The texts of a version: of the state, or of the Object Store where it can be downloaded.
    fn texts(self, store: &mut dyn Store, wanted: &str) -> Result<Tree, Failure> {
        let object = self.object(wanted);
        let bytes = match store.get(&self.texts_key(wanted))? {
            Some((bytes, _)) => bytes,
            None => store.download(&object).map_err(|error| {
                Failure::failed(format!("the texts of {wanted} are not kept any more, and {object} cannot be read: {error}"))
            })?,
        };
        let tree: Tree = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(format!("the texts of {wanted} cannot be read: {error}"))
        })?;
        if version(&tree) != wanted {
            return Err(Failure::failed(format!(
                "the texts that are kept of {wanted} are those of another version"
            )));
        }
        Ok(tree)
    }

    /// Keeps the texts of a version, in the state and as an object.
    fn keep(self, store: &mut dyn Store, tree: &Tree) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(tree)?;
        if bytes.len() > MAX_TEXTS {
            return Err(Failure::failed(format!(
                "the files of a version have more than 1 MiB together, so project {} could not go back to it; nothing was changed",
                self.project
            )));
        }
        let version = version(tree);
        let key = self.texts_key(&version);
        store.put(&self.object(&version), &bytes)?;
        if store.get(&key)?.is_none() {
            // If another invocation comes first, it keeps the same texts.
            store.swap(&key, None, &bytes)?;
        }
        Ok(())
    }

    fn apply(
        self,
        store: &mut dyn Store,
        projects: &mut dyn Projects,
        order: &Order<'_>,
    ) -> Result<Outcome, Failure> {
        if order.goal.is_empty() {
            return Err(Failure::invalid_input("there is no file to promote"));
        }
        let all = projects.read(self.project)?;
        let target = strategy_of(all.clone());
        let before = version(&target);
        let found = store::read::<Log>(store, &self.log_key())?;
        let (known, mut at) = match found {
            Some((log, at)) => (log, Some(at)),
            None => (Log::default(), None),
        };
        let mut log = known.clone();
        log.settle(&before);
        let changes = plan(order.goal, &target, log.base.as_ref(), order.discard);
        let goal = version(order.goal);
        let mut outcome = Outcome {
            project_id: self.project,
            done: changes.is_empty(),
            version: goal.clone(),
            before: before.clone(),
            changes,
            history: log.history.clone(),
        };
        let has_conflict = outcome.changes.iter().any(|it| it.conflict);
        if order.plan_only || has_conflict {
            return Ok(outcome);
        }
        if outcome.changes.is_empty() {
            if log != known {
                self.note(store, &mut at, &log)?;
            }
            return Ok(outcome);
        }
        self.keep(store, &target)?;
        self.keep(store, order.goal)?;
        let pending = Pending {
            before: before.clone(),
            goal: Step {
                version: goal,
                time: time::instant(store.now()),
                from: order.from.clone(),
            },
            files: digests(order.goal),
        };
        log.pending = Some(pending.clone());
        self.note(store, &mut at, &log)?;
        if projects.read(self.project)? != all {
            return Err(Failure::failed(format!(
                "project {} was changed at this moment; nothing was replaced. Plan it again",
                self.project
            )));
        }
        let mut files = order.goal.clone();
        files.extend(all.into_iter().filter(|(path, _)| !takes_part(path)));
        projects.replace(self.project, &files)?;
        log.pending = None;
        let former: BTreeSet<String> = log.history.iter().map(|it| it.version.clone()).collect();
        log.finish(pending);
        self.note(store, &mut at, &log)?;
        // The objects stay, for the record.
        for version in former {
            if !log.history.iter().any(|it| it.version == version) {
                store.forget(&self.texts_key(&version))?;
            }
        }
        outcome.done = true;
        outcome.history = log.history;
        Ok(outcome)
    }

    fn note(self, store: &mut dyn Store, at: &mut Option<u32>, log: &Log) -> Result<(), Failure> {
        if !store::write(store, &self.log_key(), *at, log)? {
            return Err(Failure::failed(format!(
                "another invocation changes project {} at this moment: run it again once that has ended",
                self.project
            )));
        }
        *at = store.get(&self.log_key())?.map(|it| it.1);
        Ok(())
    }
}

/// What has to be changed in the target.
fn plan(
    goal: &Tree,
    target: &Tree,
    base: Option<&BTreeMap<String, String>>,
    discard: &BTreeMap<String, Option<String>>,
) -> Vec<Change> {
    let paths: BTreeSet<&String> = goal.keys().chain(target.keys()).collect();
    let mut left = MAX_DIFFERENCES;
    let mut changes = Vec::new();
    for path in paths {
        let (new, old) = (goal.get(path), target.get(path));
        if new == old {
            continue;
        }
        let change = match (new, old) {
            (Some(_), None) => Kind::Create,
            (Some(_), Some(_)) => Kind::Update,
            (None, _) => Kind::Delete,
        };
        let digest = old.map(|text| sha256(text.as_bytes()));
        let is_changed = match base {
            Some(base) => base.get(path) != digest.as_ref(),
            None => digest.is_some(),
        };
        let is_decided = discard.get(path) == Some(&digest);
        let empty = String::new();
        let (mut diff, mut is_cut) =
            difference::shown(path, old.unwrap_or(&empty), new.unwrap_or(&empty));
        if diff.len() > left {
            (diff, is_cut) = (String::new(), true);
        }
        left = left.saturating_sub(diff.len());
        changes.push(Change {
            path: path.clone(),
            change,
            target: digest,
            conflict: is_changed && !is_decided,
            diff,
            is_cut,
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::tests::Memory;

    #[derive(Debug, Clone, Default)]
    struct Files {
        files: BTreeMap<u32, Tree>,
        /// Replacements until the run is killed after one; none if it is not.
        is_killed: bool,
        replacements: usize,
    }

    impl Projects for Files {
        fn read(&mut self, project: u32) -> Result<Tree, Failure> {
            Ok(self.files.get(&project).cloned().unwrap_or_default())
        }

        fn replace(&mut self, project: u32, files: &Tree) -> Result<(), Failure> {
            self.replacements += 1;
            self.files.insert(project, files.clone());
            if self.is_killed {
                return Err(Failure::failed("killed"));
            }
            Ok(())
        }
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        let files = files.iter();
        files
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect()
    }

    const TARGET: Target<'_> = Target {
        prefix: "data-edge",
        project: 2,
    };

    struct World {
        store: Memory,
        projects: Files,
    }

    impl World {
        fn new(target: &[(&str, &str)]) -> Self {
            let mut projects = Files::default();
            projects.files.insert(2, tree(target));
            Self {
                store: Memory::default(),
                projects,
            }
        }

        fn promote(
            &mut self,
            goal: &[(&str, &str)],
            discard: &[(&str, Option<&str>)],
        ) -> Result<Outcome, Failure> {
            self.order(goal, discard, false)
        }

        fn order(
            &mut self,
            goal: &[(&str, &str)],
            discard: &[(&str, Option<&str>)],
            plan_only: bool,
        ) -> Result<Outcome, Failure> {
            let discard = discard
                .iter()
                .map(|(path, text)| ((*path).to_owned(), text.map(|it| sha256(it.as_bytes()))));
            let order = Order {
                goal: &tree(goal),
                from: "project 1".into(),
                discard: &discard.collect(),
                plan_only,
            };
            TARGET.apply(&mut self.store, &mut self.projects, &order)
        }

        fn rollback(&mut self, more: &str) -> Result<Outcome, Failure> {
            let input: Rollback =
                serde_json::from_str(&format!(r#"{{"project": 2{more}}}"#)).unwrap();
            TARGET.go_back(&mut self.store, &mut self.projects, &input)
        }

        fn target(&self) -> Tree {
            self.projects.files[&2].clone()
        }
    }

    fn kinds(outcome: &Outcome) -> Vec<(&str, Kind, bool)> {
        let changes = outcome.changes.iter();
        changes
            .map(|it| (it.path.as_str(), it.change, it.conflict))
            .collect()
    }

    #[test]
    fn a_project_gets_the_files_of_another_and_goes_back() {
        let mut world = World::new(&[("research.ipynb", "{}")]);
        let first = world
            .promote(&[("main.py", "1"), ("lib.py", "x")], &[])
            .unwrap();
        assert_eq!(
            kinds(&first),
            [
                ("lib.py", Kind::Create, false),
                ("main.py", Kind::Create, false)
            ]
        );
        // A notebook of the target stays.
        assert_eq!(
            world.target(),
            tree(&[("main.py", "1"), ("lib.py", "x"), ("research.ipynb", "{}")])
        );
        let second = world.promote(&[("main.py", "2")], &[]).unwrap();
        assert_eq!(
            kinds(&second),
            [
                ("lib.py", Kind::Delete, false),
                ("main.py", Kind::Update, false)
            ]
        );
        assert!(second.changes[1].diff.contains("-1"), "{second:?}");
        let back = world.rollback("").unwrap();
        assert!(back.done);
        assert_eq!(
            world.target(),
            tree(&[("main.py", "1"), ("lib.py", "x"), ("research.ipynb", "{}")])
        );
        assert_eq!(back.history.len(), 4);
        assert_eq!(back.history[3].version, back.history[1].version);
        let forth = world
            .rollback(&format!(r#", "version": "{}""#, second.version))
            .unwrap();
        assert_eq!(
            (forth.done, &world.target()["main.py"]),
            (true, &"2".to_owned())
        );
        let none = world
            .rollback(&format!(r#", "version": "{}""#, "0".repeat(32)))
            .unwrap_err();
        assert!(none.to_string().contains("its history has"), "{none}");
    }

    #[test]
    fn what_was_changed_in_the_target_is_replaced_only_if_exactly_that_is_given_up() {
        let mut world = World::new(&[("main.py", "template")]);
        let goal = [("main.py", "1")];
        let first = world.promote(&goal, &[]).unwrap();
        assert_eq!(
            (first.done, kinds(&first)),
            (false, vec![("main.py", Kind::Update, true)])
        );
        assert_eq!(
            (world.target(), world.store.objects.len()),
            (tree(&[("main.py", "template")]), 0)
        );
        assert!(
            !world
                .promote(&goal, &[("main.py", Some("other"))])
                .unwrap()
                .done
        );
        assert!(
            world
                .promote(&goal, &[("main.py", Some("template"))])
                .unwrap()
                .done
        );
        // What a person changes in the target comes back by a rollback.
        world
            .projects
            .files
            .insert(2, tree(&[("main.py", "hotfix")]));
        let next = [("main.py", "2")];
        assert!(!world.promote(&next, &[]).unwrap().done);
        let done = world
            .promote(&next, &[("main.py", Some("hotfix"))])
            .unwrap();
        assert_eq!(done.history.len(), 4);
        world.rollback("").unwrap();
        assert_eq!(world.target(), tree(&[("main.py", "hotfix")]));
        // So does a file that a person deleted.
        world.projects.files.insert(2, Tree::new());
        assert!(!world.promote(&next, &[]).unwrap().done);
        assert!(world.promote(&next, &[("main.py", None)]).unwrap().done);
    }

    #[test]
    fn a_plan_and_a_second_promotion_change_nothing() {
        let mut world = World::new(&[]);
        let plan = world.order(&[("main.py", "1")], &[], true).unwrap();
        assert!(!plan.done && world.target().is_empty() && world.store.objects.is_empty());
        let done = world.promote(&[("main.py", "1")], &[]).unwrap();
        assert_eq!(plan.changes, done.changes);
        let again = world.promote(&[("main.py", "1")], &[]).unwrap();
        assert!(again.done && again.changes.is_empty());
        assert_eq!(world.projects.replacements, 1);
        assert!(world.promote(&[], &[]).is_err());
    }

    #[test]
    fn a_replacement_whose_end_was_lost_is_in_the_history() {
        let mut world = World::new(&[]);
        world.promote(&[("main.py", "1")], &[]).unwrap();
        world.projects.is_killed = true;
        world.promote(&[("main.py", "2")], &[]).unwrap_err();
        world.projects.is_killed = false;
        assert_eq!(world.target(), tree(&[("main.py", "2")]));
        world.rollback("").unwrap();
        assert_eq!(world.target(), tree(&[("main.py", "1")]));
    }

    #[test]
    fn old_texts_are_dropped_and_too_large_ones_refused_before_anything_is_done() {
        let mut world = World::new(&[]);
        for number in 0..30 {
            world
                .promote(&[("main.py", &number.to_string())], &[])
                .unwrap();
        }
        let (texts, _) = world.store.keys("strategy-text/").unwrap();
        assert_eq!(texts.len(), MAX_HISTORY);
        let large = "x".repeat(MAX_TEXTS);
        let refused = world.promote(&[("main.py", &large)], &[]).unwrap_err();
        assert!(
            refused.to_string().contains("nothing was changed"),
            "{refused}"
        );
        assert_eq!(world.target(), tree(&[("main.py", "29")]));
    }

    proptest! {
        #[test]
        fn killed_at_any_step_and_run_again_a_promotion_ends_the_same(kills in prop::collection::vec(0_usize..12, 0..4), after: bool) {
            let prepare = || {
                let mut world = World::new(&[]);
                world.promote(&[("main.py", "1")], &[]).unwrap();
                world
            };
            let goal = [("main.py", "2"), ("lib.py", "x")];
            let mut whole = prepare();
            whole.promote(&goal, &[]).unwrap();
            let mut world = prepare();
            for life in kills {
                world.store.life = Some(life);
                world.projects.is_killed = after;
                if world.promote(&goal, &[]).is_ok() {
                    break;
                }
            }
            (world.store.life, world.projects.is_killed) = (None, false);
            let done = world.promote(&goal, &[]).unwrap();
            prop_assert!(done.done);
            prop_assert_eq!(world.target(), whole.target());
            let versions = |history: &[Step]| history.iter().map(|it| it.version.clone()).collect::<Vec<_>>();
            let log = |world: &mut World| store::read::<Log>(&mut world.store, &TARGET.log_key()).unwrap().unwrap().0;
            prop_assert_eq!(versions(&log(&mut world).history), versions(&log(&mut whole).history));
            world.rollback("").unwrap();
            prop_assert_eq!(world.target(), tree(&[("main.py", "1")]));
        }
    }
}
