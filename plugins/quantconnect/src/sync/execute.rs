//! Takes the steps of a plan on two stores, and keeps the base after each.
//!
//! Invariant: after a run that ended between two calls, a new plan and run reach the same end.

use qchost_sdk::prelude::*;

use super::base::{Base, Keeper};
use super::plan::{Change, Plan, Side, Step};
use super::tree::{File, Tree};

/// After this many refused steps of one run the others are not tried: what is wrong concerns them as well, such as a
/// lock that another client holds.
const MAX_REFUSED: usize = 5;

/// Where the files of one side are. Each call changes a file only if it still is what was planned with.
pub(crate) trait Store {
    /// Creates a file that is not there.
    fn create(&mut self, path: &str, file: &File) -> Result<(), StepError>;
    /// Replaces the content of a file.
    fn update(&mut self, path: &str, seen: &File, file: &File) -> Result<(), StepError>;
    /// Deletes a file.
    fn delete(&mut self, path: &str, seen: &File) -> Result<(), StepError>;
}

/// A store that can rename in one step: the project.
pub(crate) trait Renames: Store {
    /// Gives a file another path, at which there is none.
    fn rename(&mut self, from: &str, to: &str, file: &File) -> Result<(), StepError>;
}

/// Why a step was not taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StepError {
    /// The side does not hold what was planned with, or does not take the change: why.
    Refused(String),
    /// No further step can be taken.
    Stop(Failure),
}

/// A step that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Untaken {
    pub(crate) step: Step,
    pub(crate) reason: String,
}

/// The two sides.
pub(crate) struct Sides<'a> {
    pub(crate) local: &'a mut dyn Store,
    pub(crate) project: &'a mut dyn Renames,
}

/// Takes the steps. `local` and `project` are the trees that were compared; `before` hears of each step.
///
/// # Errors
/// What ended the run. The base has what was done until then.
pub(crate) fn execute(
    plan: &Plan,
    (local, project): (&Tree, &Tree),
    sides: &mut Sides<'_>,
    base: &mut Base,
    keeper: &mut dyn Keeper,
    mut before: impl FnMut(usize, &Step),
) -> Result<Vec<Untaken>, Failure> {
    let known = base.clone();
    for path in &plan.in_step {
        base.note(path, local.get(path).map(|file| &file.digest));
    }
    if *base != known {
        keeper.keep(base)?;
    }
    let mut untaken = Vec::new();
    for (at, step) in plan.steps.iter().enumerate() {
        if untaken.len() >= MAX_REFUSED {
            untaken.push(Untaken {
                step: step.clone(),
                reason: format!("not tried, since {MAX_REFUSED} steps were refused before"),
            });
            continue;
        }
        before(at, step);
        let source = match step.side {
            Side::Project => local,
            Side::Local => project,
        };
        match take(step, sides, local, project) {
            Ok(()) => {
                if let Change::Rename { from } = &step.change {
                    base.note(from, None);
                }
                base.note(&step.path, source.get(&step.path).map(|file| &file.digest));
                keeper.keep(base)?;
            }
            Err(StepError::Refused(reason)) => untaken.push(Untaken {
                step: step.clone(),
                reason,
            }),
            Err(StepError::Stop(failure)) => return Err(failure),
        }
    }
    Ok(untaken)
}

fn take(step: &Step, sides: &mut Sides<'_>, local: &Tree, project: &Tree) -> Result<(), StepError> {
    let find = |tree: &'_ Tree, path: &str| -> Result<File, StepError> {
        let file = tree.get(path).cloned();
        file.ok_or_else(|| {
            StepError::Refused(format!("`{path}` was planned with and is not there"))
        })
    };
    let path = &step.path;
    if let Change::Rename { from } = &step.change {
        return sides.project.rename(from, path, &find(local, path)?);
    }
    let (store, source, target): (&mut dyn Store, _, _) = match step.side {
        Side::Project => (sides.project, local, project),
        Side::Local => (sides.local, project, local),
    };
    if step.change == Change::Delete {
        return store.delete(path, &find(target, path)?);
    }
    let file = find(source, path)?;
    match target.get(path) {
        Some(seen) => store.update(path, seen, &file),
        None => store.create(path, &file),
    }
}

#[cfg(test)]
#[path = "execute/tests.rs"]
mod tests;
