//! `sync`: a folder or a set of files, and a project, made the same.
//!
//! One file a subject, from plain data to the host: trees, the base, ignored files, the plan, its execution over two
//! stores, and the stores. This one reads the input, puts them together and reports.

mod base;
mod diff;
mod execute;
mod folder;
mod ignore;
mod plan;
mod project;
mod set;
mod tree;

use std::collections::BTreeMap;

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use self::base::{Base, Clients, Keeper, Stored};
use self::execute::{Sides, Store, Untaken, execute};
use self::folder::Folder;
use self::ignore::Selection;
use self::plan::{Change, Direction, Held, Plan, Resolution, Rules, Side, Step};
use self::project::ProjectStore;
use self::set::{Collected, Delete, SetFile, Write};
use self::tree::{Digest, Scan, Skipped, Tree};

/// Most text that one run hands to a caller who sent `files`, in bytes: an action's output is bounded.
const MAX_HANDED: usize = 3 << 20;
/// Most text of differences in one report, in bytes.
const MAX_DIFFERENCES: usize = 256 << 10;

/// What to sync.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Sync {
    /// The project, by id or by name. It must exist.
    project: ProjectReference,
    /// The local side: name of a folder that the manifest grants. Give either this or `files`.
    #[serde(default)]
    folder: Option<String>,
    /// Only with `folder`: the part of the folder to sync, such as `algorithms/momentum`. The project's paths begin there.
    #[serde(default)]
    path: Option<String>,
    /// The local side: all its files. The caller carries out what comes back in `write` and `delete`.
    #[serde(default)]
    files: Option<Vec<SetFile>>,
    /// Only with `files`: `base` of the output of the last sync; leave it out in the first one.
    #[serde(default)]
    base: Option<BTreeMap<String, Digest>>,
    /// Which side's changes are carried over: `push` from the local side into the project, `pull` the other way.
    #[serde(default)]
    direction: Direction,
    /// Report what would be done, and change nothing.
    #[serde(default)]
    plan_only: bool,
    /// Dot-files, and folders of them, that take part; no others do.
    #[serde(default)]
    include: Vec<String>,
    /// Whether a file that one side deleted since the last sync is deleted on the other.
    #[serde(default = "yes")]
    delete: bool,
    /// Decisions of conflicts that an earlier run reported.
    #[serde(default)]
    resolve: Vec<Resolve>,
}

fn yes() -> bool {
    true
}

/// The decision of a conflict.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Resolve {
    /// Path of the file.
    path: String,
    /// The side whose version stays.
    keep: Side,
    /// What the other side loses: `local-digest` or `project-digest` of the reported conflict; null if that was null.
    /// If that side holds something else by now, it stays a conflict.
    discard: Option<Digest>,
}

/// What a sync did.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Report {
    /// Id of the project.
    project_id: u32,
    /// Name of the project.
    project: String,
    /// Whether both sides hold the same now, once the caller has carried out `write` and `delete`. Files in `skipped`
    /// do not count.
    in_step: bool,
    /// The plan, in the order of its steps.
    steps: Vec<ReportedStep>,
    /// Files that both sides changed since the last sync. Neither side was touched.
    conflicts: Vec<ReportedConflict>,
    /// Changes that `direction` or `delete` kept back.
    held: Vec<ReportedHeld>,
    /// Files that take no part.
    skipped: Vec<Skipped>,
    /// Number of files that were the same before.
    unchanged: u32,
    /// Only with `files`: what the caller has to write, before it deletes.
    write: Vec<Write>,
    /// Only with `files`: what the caller has to delete.
    delete: Vec<Delete>,
    /// Only with `files`: the last synced state, for the next sync. The caller keeps it after it has carried out `write`
    /// and `delete`; for a file that it had to leave alone, it keeps what it sent as `base` before.
    base: Option<BTreeMap<String, Digest>>,
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Create,
    Update,
    Rename,
    Delete,
}

/// A step of the plan.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct ReportedStep {
    /// The side that is changed.
    side: Side,
    /// What is done.
    change: Kind,
    /// Path of the file, the new one of a rename.
    path: String,
    /// Only of a rename: the former path.
    from: Option<String>,
    /// Whether it was done; with `plan-only`, nothing is.
    done: bool,
    /// Why it could not be done.
    error: Option<String>,
}

/// A file that both sides changed.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct ReportedConflict {
    /// Path of the file.
    path: String,
    /// What happened, and what can be done.
    message: String,
    /// SHA-256 of the local version; null if there is none.
    local_digest: Option<Digest>,
    /// SHA-256 of the project's version; null if there is none.
    project_digest: Option<Digest>,
    /// From the project's version to the local one, as a unified diff.
    diff: String,
    /// Whether the difference is longer.
    is_cut: bool,
}

/// A change that was kept back.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct ReportedHeld {
    /// Path of the file.
    path: String,
    /// Why.
    reason: String,
}

/// The local side.
enum Local {
    Folder(Folder),
    Set(Collected),
}

/// Runs the action.
pub(crate) fn run(input: Sync) -> Result<Report, Failure> {
    let rules = Rules {
        direction: input.direction,
        delete: input.delete,
        resolutions: resolutions(input.resolve)?,
    };
    let writes = rules.direction != Direction::Push && !input.plan_only;
    let source = source(input.folder, input.path, input.files, input.base)?;
    progress::report(0.0, "reading both sides");
    let project = input.project.find()?;
    let id = project.project_id;
    let (mut local, selection, here, mut base, mut keeper) = match source {
        Source::Folder { name, path } => {
            let folder = Folder::open(&name, &path, writes)?;
            let (base, keeper) = Stored::open(id, &name, folder.prefix())?;
            let (selection, scan) = folder.read(input.include)?;
            let keeper: Box<dyn Keeper> = Box::new(keeper);
            (Local::Folder(folder), selection, scan, base, keeper)
        }
        Source::Set { files, base } => {
            let (selection, scan) = set::read(files, input.include)?;
            let keeper: Box<dyn Keeper> = Box::new(Clients);
            (
                Local::Set(Collected::default()),
                selection,
                scan,
                base,
                keeper,
            )
        }
    };
    let prefix = match &local {
        Local::Folder(folder) => folder.prefix().to_owned(),
        Local::Set(_) => String::new(),
    };
    let there = project::read(id, &prefix, &selection)?;
    let compared = Compared::new(here, there, &base, &selection, &prefix);
    let plan = plan::plan(&compared.base, &compared.local, &compared.project, &rules);
    if let Local::Set(_) = &local {
        check_handed(&plan, &compared.project)?;
    }
    let mut untaken = Vec::new();
    if !input.plan_only {
        let total = u32::try_from(plan.steps.len()).unwrap_or(u32::MAX);
        let mut store = ProjectStore { project: id };
        let local: &mut dyn Store = match &mut local {
            Local::Folder(folder) => folder,
            Local::Set(set) => set,
        };
        let mut sides = Sides {
            local,
            project: &mut store,
        };
        let mut reached = 0;
        let taken = execute(
            &plan,
            (&compared.local, &compared.project),
            &mut sides,
            &mut base,
            keeper.as_mut(),
            |at, step| {
                reached = u32::try_from(at).unwrap_or(u32::MAX);
                progress::steps(reached, total, &sentence(step));
            },
        );
        if taken.is_err() {
            error!(
                "the sync ended in step {} of {total}; the next one goes on",
                reached.saturating_add(1)
            );
        }
        untaken = taken?;
    }
    let set = match local {
        Local::Folder(_) => None,
        Local::Set(set) => Some((set, base)),
    };
    Ok(report(
        &project,
        &plan,
        compared,
        &untaken,
        input.plan_only,
        set,
    ))
}

/// The local side that the caller asks for.
enum Source {
    Folder { name: String, path: String },
    Set { files: Vec<SetFile>, base: Base },
}

fn source(
    folder: Option<String>,
    path: Option<String>,
    files: Option<Vec<SetFile>>,
    base: Option<BTreeMap<String, Digest>>,
) -> Result<Source, Failure> {
    match (folder, files) {
        (Some(name), None) => {
            if base.is_some() {
                return Err(Failure::invalid_input(
                    "`base` is for `files`: that of a folder is kept by this plugin",
                ));
            }
            let path = path.unwrap_or_default();
            Ok(Source::Folder { name, path })
        }
        (None, Some(files)) => {
            if path.is_some() {
                return Err(Failure::invalid_input("`path` is a part of a `folder`"));
            }
            let base = Base(base.unwrap_or_default());
            Ok(Source::Set { files, base })
        }
        _ => Err(Failure::invalid_input("give either a `folder` or `files`")),
    }
}

fn resolutions(resolve: Vec<Resolve>) -> Result<BTreeMap<String, Resolution>, Failure> {
    let mut resolutions = BTreeMap::new();
    for Resolve {
        path,
        keep,
        discard,
    } in resolve
    {
        if resolutions
            .insert(path.clone(), Resolution { keep, discard })
            .is_some()
        {
            return Err(Failure::invalid_input(format!(
                "`resolve` has \"{path}\" twice"
            )));
        }
    }
    Ok(resolutions)
}

/// What is compared: both sides and the base, without the files that take no part on either side.
struct Compared {
    base: Base,
    local: Tree,
    project: Tree,
    skipped: Vec<Skipped>,
}

impl Compared {
    fn new(local: Scan, project: Scan, base: &Base, selection: &Selection, prefix: &str) -> Self {
        let mut skipped = local.skipped;
        skipped.extend(project.skipped);
        skipped.sort_by(|one, other| one.path.cmp(&other.path));
        skipped.dedup_by(|one, other| one.path == other.path);
        let mut compared = Self {
            base: base.clone(),
            local: local.tree,
            project: project.tree,
            skipped,
        };
        // What is ignored now is not deleted, and its base is there again once it is not.
        compared
            .base
            .0
            .retain(|path, _| selection.takes(&format!("{prefix}{path}")));
        for Skipped { path, .. } in &compared.skipped {
            compared.base.0.remove(path);
            compared.local.remove(path);
            compared.project.remove(path);
        }
        compared
    }
}

/// The output of an action is bounded: what does not fit is refused before anything is changed.
fn check_handed(plan: &Plan, project: &Tree) -> Result<(), Failure> {
    let written = plan.steps.iter().filter(|it| it.side == Side::Local);
    // As they are in the answer: what JSON escapes counts.
    let size = |text: &String| serde_json::to_string(text).map_or(usize::MAX, |json| json.len());
    let sizes = written.filter_map(|it| Some(size(&project.get(&it.path)?.content)));
    let total = sizes.fold(0_usize, usize::saturating_add);
    if total > MAX_HANDED {
        return Err(Failure::invalid_input(
            "the project's changes have more than 3 MiB together, which is more than one answer carries: sync with a \
             granted `folder`",
        ));
    }
    Ok(())
}

fn sentence(step: &Step) -> String {
    let side = match step.side {
        Side::Local => "locally",
        Side::Project => "in the project",
    };
    let path = &step.path;
    match &step.change {
        Change::Create => format!("creating {path} {side}"),
        Change::Update => format!("updating {path} {side}"),
        Change::Rename { from } => format!("renaming {from} to {path} {side}"),
        Change::Delete => format!("deleting {path} {side}"),
    }
}

fn report(
    project: &projects::Project,
    plan: &Plan,
    compared: Compared,
    untaken: &[Untaken],
    plan_only: bool,
    set: Option<(Collected, Base)>,
) -> Report {
    let steps = plan.steps.iter().map(|step| {
        let error = untaken
            .iter()
            .find(|it| it.step == *step)
            .map(|it| it.reason.clone());
        reported(step, plan_only, error)
    });
    let steps: Vec<ReportedStep> = steps.collect();
    let held: Vec<ReportedHeld> = plan.held.iter().map(held).collect();
    let conflicts = conflicts(plan, &compared);
    let same = plan
        .in_step
        .iter()
        .filter(|path| compared.local.contains_key(*path));
    let in_step = conflicts.is_empty() && held.is_empty() && steps.iter().all(|step| step.done);
    let (set, base) = match set {
        Some((set, base)) => (set, Some(base.0)),
        None => (Collected::default(), None),
    };
    Report {
        project_id: project.project_id,
        project: project.name.clone(),
        in_step,
        steps,
        conflicts,
        held,
        unchanged: u32::try_from(same.count()).unwrap_or(u32::MAX),
        skipped: compared.skipped,
        write: set.write,
        delete: set.delete,
        base,
    }
}

fn reported(step: &Step, plan_only: bool, error: Option<String>) -> ReportedStep {
    let (change, from) = match &step.change {
        Change::Create => (Kind::Create, None),
        Change::Update => (Kind::Update, None),
        Change::Rename { from } => (Kind::Rename, Some(from.clone())),
        Change::Delete => (Kind::Delete, None),
    };
    ReportedStep {
        side: step.side,
        change,
        path: step.path.clone(),
        from,
        done: !plan_only && error.is_none(),
        error,
    }
}

fn held(held: &Held) -> ReportedHeld {
    let reason = match (held.side, held.is_deletion) {
        (Side::Local, false) => "the project changed it; `pull` or `both` takes it over",
        (Side::Project, false) => "the local side changed it; `push` or `both` takes it over",
        (Side::Local, true) => "the project deleted it, and `delete` is false",
        (Side::Project, true) => "the local side deleted it, and `delete` is false",
    };
    ReportedHeld {
        path: held.path.clone(),
        reason: reason.to_owned(),
    }
}

fn conflicts(plan: &Plan, compared: &Compared) -> Vec<ReportedConflict> {
    let mut left = MAX_DIFFERENCES;
    let conflicts = plan.conflicts.iter().map(|conflict| {
        let path = &conflict.path;
        let (local, project) = (compared.local.get(path), compared.project.get(path));
        let what = match (local, project) {
            (Some(_), Some(_)) if compared.base.get(path).is_none() => {
                "both sides have it, and differ"
            }
            (Some(_), Some(_)) => "both sides changed it",
            (Some(_), None) => "the project deleted it, and the local side changed it",
            (None, _) => "the local side deleted it, and the project changed it",
        };
        let decided = if conflict.is_outdated {
            "; `resolve` gives up another version than there is now"
        } else {
            ""
        };
        let text =
            |file: Option<&tree::File>| file.map_or_else(String::new, |it| it.content.clone());
        let (mut diff, mut is_cut) = diff::shown(path, &text(project), &text(local));
        if diff.len() > left {
            (diff, is_cut) = (String::new(), true);
        }
        left -= diff.len();
        ReportedConflict {
            path: path.clone(),
            message: format!("{what}{decided}; make both sides the same, or name it in `resolve`"),
            local_digest: local.map(|file| file.digest.clone()),
            project_digest: project.map(|file| file.digest.clone()),
            diff,
            is_cut,
        }
    });
    conflicts.collect()
}

#[cfg(test)]
mod tests {
    use super::tree::File;
    use super::*;

    fn input(json: &str) -> Result<Sync, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn the_least_input_goes_both_ways_and_deletes() {
        let sync = input(r#"{"project": 7, "folder": "work"}"#).unwrap();
        assert_eq!(sync.direction, Direction::Both);
        assert!(sync.delete && !sync.plan_only && sync.include.is_empty());
        assert!(input(r#"{"folder": "work"}"#).is_err());
        assert!(input(r#"{"project": 7, "dry-run": true}"#).is_err());
    }

    #[test]
    fn there_is_one_local_side() {
        let refused = |json: &str| {
            let sync = input(json).unwrap();
            source(sync.folder, sync.path, sync.files, sync.base).is_err()
        };
        assert!(refused(r#"{"project": 7}"#));
        assert!(refused(r#"{"project": 7, "folder": "a", "files": []}"#));
        assert!(refused(r#"{"project": 7, "files": [], "path": "a"}"#));
        assert!(refused(r#"{"project": 7, "folder": "a", "base": {}}"#));
        assert!(!refused(r#"{"project": 7, "folder": "a", "path": "b"}"#));
        assert!(!refused(
            r#"{"project": 7, "files": [{"path": "a", "content": ""}], "base": {}}"#
        ));
    }

    fn scan(files: &[(&str, &str)]) -> Scan {
        let mut scan = Scan::default();
        for (path, content) in files {
            scan.tree
                .insert((*path).to_owned(), File::new((*content).to_owned()));
        }
        scan
    }

    #[test]
    fn a_file_that_one_side_cannot_read_takes_no_part_on_the_other() {
        let mut local = scan(&[("main.py", "1")]);
        local.skip("data.bin", "it is not text in UTF-8");
        let project = scan(&[("main.py", "1"), ("data.bin", "text")]);
        let mut base = Base::default();
        base.note("data.bin", Some(&Digest::of("text")));
        base.note(".env", Some(&Digest::of("named once")));
        let compared = Compared::new(local, project, &base, &Selection::default(), "");
        let plan = plan::plan(
            &compared.base,
            &compared.local,
            &compared.project,
            &Rules::default(),
        );
        assert_eq!((plan.steps.len(), plan.conflicts.len()), (0, 0));
        assert_eq!(plan.in_step, ["main.py"]);
        assert_eq!(compared.skipped.len(), 1);
    }

    #[test]
    fn a_conflict_is_reported_with_both_versions() {
        let (local, project) = (scan(&[("a.py", "x = 1\n")]), scan(&[("a.py", "x = 2\n")]));
        let compared = Compared::new(local, project, &Base::default(), &Selection::default(), "");
        let plan = plan::plan(
            &compared.base,
            &compared.local,
            &compared.project,
            &Rules::default(),
        );
        let project = projects::Project {
            project_id: 7,
            ..projects::Project::default()
        };
        let report = report(&project, &plan, compared, &[], false, None);
        assert!(!report.in_step);
        let [conflict] = report.conflicts.as_slice() else {
            panic!("one conflict: {report:?}");
        };
        assert!(
            conflict.diff.contains("-x = 2\n+x = 1\n"),
            "{}",
            conflict.diff
        );
        assert!(
            conflict
                .message
                .starts_with("both sides have it, and differ; ")
        );
        assert_eq!(conflict.local_digest, Some(Digest::of("x = 1\n")));
        assert_eq!(conflict.project_digest, Some(Digest::of("x = 2\n")));
    }

    #[test]
    fn more_than_one_answer_carries_is_refused_before_anything_is_done() {
        let large = "\n".repeat(MAX_HANDED / 2 + 1);
        let project = scan(&[("a.py", large.as_str())]).tree;
        let plan = plan::plan(&Base::default(), &Tree::new(), &project, &Rules::default());
        assert!(matches!(
            check_handed(&plan, &project),
            Err(Failure::InvalidInput(_))
        ));
        assert_eq!(check_handed(&plan, &scan(&[("a.py", "x")]).tree), Ok(()));
    }
}
