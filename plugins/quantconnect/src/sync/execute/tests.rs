//! Random histories of two stores in memory, which are killed at every step.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;

use super::super::plan::{Direction, Rules, plan};
use super::super::tree::{Digest, obstruct};
use super::*;

/// Paths of the histories: some are in each other's way in a folder, and some names are alike.
const PATHS: [&str; 6] = ["a.py", "b.py", "lib", "lib/a.py", "lib/b.py", "z.py"];
/// Contents: few, so that renames and equal changes on both sides happen; the first one is empty.
const CONTENTS: [&str; 4] = ["", "one\n", "two\n", "three\n"];

/// Ends a run after this number of moments, two for each change: before it and after it.
#[derive(Debug, Clone)]
struct Life(Rc<Cell<usize>>);

impl Life {
    fn of(moments: usize) -> Self {
        Self(Rc::new(Cell::new(moments)))
    }

    fn moment(&self) -> Result<(), Failure> {
        match self.0.get().checked_sub(1) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(Failure::failed("killed")),
        }
    }
}

#[derive(Debug, Clone)]
struct Disk {
    files: BTreeMap<String, String>,
    /// As in a folder, a path does not lead through a file, and a file can become empty; a project is flat, and takes
    /// empty files only when it creates them.
    is_folder: bool,
    changes: usize,
    life: Life,
}

impl Disk {
    fn new(is_folder: bool) -> Self {
        Self {
            files: BTreeMap::new(),
            is_folder,
            changes: 0,
            life: Life::of(usize::MAX),
        }
    }

    fn tree(&self) -> Tree {
        let files = self.files.iter();
        files
            .map(|(path, content)| (path.clone(), File::new(content.clone())))
            .collect()
    }

    fn change(&mut self, path: &str, content: Option<&str>) -> Result<(), StepError> {
        self.life.moment().map_err(StepError::Stop)?;
        self.changes += 1;
        match content {
            Some(content) => self.files.insert(path.to_owned(), content.to_owned()),
            None => self.files.remove(path),
        };
        self.life.moment().map_err(StepError::Stop)
    }

    fn check(&self, path: &str, seen: &File) -> Result<(), StepError> {
        match self.files.get(path) {
            Some(content) if *content == seen.content => Ok(()),
            _ => Err(StepError::Refused(format!("{path} changed"))),
        }
    }
}

impl Store for Disk {
    fn create(&mut self, path: &str, file: &File) -> Result<(), StepError> {
        let is_in_the_way =
            |other: &String| other == path || (self.is_folder && obstruct(path, other));
        if self.files.keys().any(is_in_the_way) {
            return Err(StepError::Refused(format!("{path} is taken")));
        }
        self.change(path, Some(&file.content))
    }

    fn update(&mut self, path: &str, seen: &File, file: &File) -> Result<(), StepError> {
        self.check(path, seen)?;
        if !self.is_folder && file.content.is_empty() {
            self.change(path, None)?;
        }
        self.change(path, Some(&file.content))
    }

    fn delete(&mut self, path: &str, seen: &File) -> Result<(), StepError> {
        self.check(path, seen)?;
        self.change(path, None)
    }
}

impl Renames for Disk {
    fn rename(&mut self, from: &str, to: &str, file: &File) -> Result<(), StepError> {
        self.check(from, file)?;
        if self.files.contains_key(to) {
            return Err(StepError::Refused(format!("{to} is taken")));
        }
        self.life.moment().map_err(StepError::Stop)?;
        self.changes += 1;
        self.files.remove(from);
        self.files.insert(to.to_owned(), file.content.clone());
        self.life.moment().map_err(StepError::Stop)
    }
}

#[derive(Debug, Clone)]
struct Kept {
    base: Base,
    life: Life,
}

impl Keeper for Kept {
    fn keep(&mut self, base: &Base) -> Result<(), Failure> {
        self.life.moment()?;
        self.base = base.clone();
        self.life.moment()
    }
}

#[derive(Debug, Clone)]
struct World {
    local: Disk,
    project: Disk,
    kept: Kept,
}

impl World {
    fn new() -> Self {
        Self {
            local: Disk::new(true),
            project: Disk::new(false),
            kept: Kept {
                base: Base::default(),
                life: Life::of(usize::MAX),
            },
        }
    }

    /// The same, to be killed after this number of moments.
    fn mortal(&self, moments: usize) -> Self {
        let life = Life::of(moments);
        let mut mortal = self.clone();
        mortal.local.life = life.clone();
        mortal.project.life = life.clone();
        mortal.kept.life = life;
        mortal
    }

    fn plan(&self, rules: &Rules) -> Plan {
        plan(
            &self.kept.base,
            &self.local.tree(),
            &self.project.tree(),
            rules,
        )
    }

    /// Carries out a plan that was made of these trees.
    fn carry_out(
        &mut self,
        plan: &Plan,
        local: &Tree,
        project: &Tree,
    ) -> Result<Vec<Untaken>, Failure> {
        let mut base = self.kept.base.clone();
        let mut sides = Sides {
            local: &mut self.local,
            project: &mut self.project,
        };
        execute(
            plan,
            (local, project),
            &mut sides,
            &mut base,
            &mut self.kept,
            |_, _| {},
        )
    }

    fn sync(&mut self, rules: &Rules) -> Result<Vec<Untaken>, Failure> {
        let (local, project) = (self.local.tree(), self.project.tree());
        self.carry_out(&self.plan(rules), &local, &project)
    }

    fn changes(&self) -> usize {
        self.local.changes + self.project.changes
    }

    fn end(&self) -> (&BTreeMap<String, String>, &BTreeMap<String, String>, &Base) {
        (&self.local.files, &self.project.files, &self.kept.base)
    }

    fn edit(&mut self, edit: &Edit) {
        let disk = match edit.side {
            Side::Local => &mut self.local,
            Side::Project => &mut self.project,
        };
        let path = PATHS[edit.path];
        let content = match edit.what {
            What::Write(content) => CONTENTS[content].to_owned(),
            What::Delete => {
                disk.files.remove(path);
                return;
            }
            What::MoveFrom(from) => match disk.files.remove(PATHS[from]) {
                Some(content) => content,
                None => return,
            },
        };
        if disk.is_folder {
            disk.files.retain(|other, _| !obstruct(path, other));
        }
        disk.files.insert(path.to_owned(), content);
    }
}

#[derive(Debug, Clone)]
struct Edit {
    side: Side,
    path: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Write(usize),
    Delete,
    MoveFrom(usize),
}

/// Edits of both sides, and the sync after them.
type Round = (Vec<Edit>, Direction, bool);

fn edit() -> impl Strategy<Value = Edit> {
    let side = prop_oneof![Just(Side::Local), Just(Side::Project)];
    let what = prop_oneof![
        3 => (0..CONTENTS.len()).prop_map(What::Write),
        1 => Just(What::Delete),
        1 => (0..PATHS.len()).prop_map(What::MoveFrom),
    ];
    (side, 0..PATHS.len(), what).prop_map(|(side, path, what)| Edit { side, path, what })
}

fn round() -> impl Strategy<Value = Round> {
    let direction = prop_oneof![
        1 => Just(Direction::Push),
        1 => Just(Direction::Pull),
        2 => Just(Direction::Both),
    ];
    (
        proptest::collection::vec(edit(), 0..6),
        direction,
        any::<bool>(),
    )
}

fn rules(direction: Direction, delete: bool) -> Rules {
    Rules {
        direction,
        delete,
        ..Rules::default()
    }
}

/// What the sides hold when all steps of a plan are taken.
fn planned(plan: &Plan, world: &World) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut local, mut project) = (world.local.files.clone(), world.project.files.clone());
    for Step { side, path, change } in &plan.steps {
        let (source, target) = match side {
            Side::Project => (&world.local.files, &mut project),
            Side::Local => (&world.project.files, &mut local),
        };
        if let Change::Rename { from } = change {
            target.remove(from);
        }
        match source.get(path) {
            Some(content) => target.insert(path.clone(), content.clone()),
            None => target.remove(path),
        };
    }
    (local, project)
}

/// Every version that a side has and the base does not is at its path afterwards, on one side at least.
fn is_lossless(before: &World, after: &World) -> Result<(), String> {
    for files in [&before.local.files, &before.project.files] {
        for (path, content) in files {
            let is_new = before.kept.base.get(path) != Some(&Digest::of(content));
            let mut sides = [&after.local.files, &after.project.files].into_iter();
            if is_new && !sides.any(|files| files.get(path) == Some(content)) {
                return Err(format!("{path} with {content:?} is lost"));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_history_ends_as_planned_without_a_loss_and_wherever_it_is_killed(
        rounds in proptest::collection::vec(round(), 1..5),
    ) {
        let mut world = World::new();
        for (edits, direction, delete) in rounds {
            edits.iter().for_each(|edit| world.edit(edit));
            let rules = rules(direction, delete);
            let before = world.clone();
            let plan = before.plan(&rules);
            let untaken = world.sync(&rules).unwrap();
            if untaken.is_empty() {
                let (local, project) = planned(&plan, &before);
                prop_assert_eq!((&local, &project), (&world.local.files, &world.project.files));
            }
            if let Err(loss) = is_lossless(&before, &world) {
                return Err(TestCaseError::fail(loss));
            }
            for conflict in &plan.conflicts {
                let at = |files: &BTreeMap<String, String>| files.get(&conflict.path).cloned();
                prop_assert_eq!(at(&before.local.files), at(&world.local.files));
                prop_assert_eq!(at(&before.project.files), at(&world.project.files));
            }

            let mut again = world.clone();
            again.sync(&rules).unwrap();
            prop_assert_eq!(again.changes(), world.changes(), "the second run changed something");
            prop_assert_eq!(again.end(), world.end());

            for moments in 0.. {
                let mut killed = before.mortal(moments);
                if killed.sync(&rules).is_ok() {
                    break;
                }
                let mut killed = killed.mortal(usize::MAX);
                killed.sync(&rules).unwrap();
                prop_assert_eq!(killed.end(), world.end(), "killed after {} moments: {:?}", moments, plan);
            }
        }
    }

    #[test]
    fn an_edit_while_a_run_lasts_is_never_overwritten(
        first in round(), second in round(), meanwhile in proptest::collection::vec(edit(), 1..4),
    ) {
        let mut world = World::new();
        for (edits, direction, delete) in [first, second] {
            edits.iter().for_each(|edit| world.edit(edit));
            let rules = rules(direction, delete);
            let plan = world.plan(&rules);
            let (local, project) = (world.local.tree(), world.project.tree());
            meanwhile.iter().for_each(|edit| world.edit(edit));
            let edited = world.clone();
            world.carry_out(&plan, &local, &project).unwrap();
            for (tree, edited, now) in [
                (&local, &edited.local.files, &world.local.files),
                (&project, &edited.project.files, &world.project.files),
            ] {
                for (path, content) in edited {
                    if tree.get(path).is_none_or(|file| file.content != *content) {
                        prop_assert_eq!(now.get(path), Some(content), "{} of {:?}", path, plan);
                    }
                }
            }
        }
    }
}

#[test]
fn a_run_that_is_refused_again_and_again_leaves_the_rest() {
    let mut world = World::new();
    for number in 0..8 {
        world.local.files.insert(format!("{number}.py"), "1".into());
    }
    let plan = world.plan(&rules(Direction::Push, true));
    let (local, project) = (world.local.tree(), world.project.tree());
    for number in 0..8 {
        world
            .project
            .files
            .insert(format!("{number}.py"), "2".into());
    }
    let untaken = world.carry_out(&plan, &local, &project).unwrap();
    assert_eq!(untaken.len(), 8);
    let untried = untaken
        .iter()
        .filter(|it| it.reason.starts_with("not tried"));
    assert_eq!(untried.count(), 8 - MAX_REFUSED);
    assert_eq!(world.project.changes, 0);
}
