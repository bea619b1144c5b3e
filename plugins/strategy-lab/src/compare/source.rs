//! Differences of the files of two projects.
//!
//! Invariant: a difference is bounded in size and time, and says where it is cut off.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use similar::algorithms::{Capture, Replace, myers};
use similar::udiff::UnifiedHunkHeader;
use similar::{DiffTag, group_diff_ops};

/// Most that is shown of all files of one project, in bytes.
const MAX_SHOWN: usize = 32 << 10;
/// Files that are named at most.
const MAX_FILES: usize = 50;
/// A longer file is not compared line by line, in bytes.
const MAX_COMPARED: usize = 1 << 20;
/// Lines around a change that are the same.
const CONTEXT: usize = 3;
/// After this time the difference of a file is no longer the shortest one.
const TIMEOUT: Duration = Duration::from_millis(100);

/// The files of a project by their names.
pub(crate) type Files = BTreeMap<String, String>;

/// How the files of a project differ from those of the first backtest's project.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Difference {
    /// Whether all files are the same.
    pub(crate) same: bool,
    /// The files that differ, at most 50.
    pub(crate) files: Vec<FileDifference>,
    /// How many more files differ.
    pub(crate) more_files: usize,
}

/// A file that differs.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct FileDifference {
    /// Its path in the project.
    pub(crate) name: String,
    /// What became of it from the first project to this one.
    pub(crate) change: Change,
    /// A unified difference; empty where there was no room.
    pub(crate) diff: String,
    /// Whether the difference is cut off.
    pub(crate) is_cut: bool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Change {
    /// Only this project has it.
    Added,
    /// Only the first project has it.
    Removed,
    /// Both have it, with other texts.
    Changed,
}

/// What this project has instead of the first one's files.
pub(crate) fn difference(first: &Files, this: &Files) -> Difference {
    let mut names: Vec<&String> = first.keys().chain(this.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| first.get(*name) != this.get(*name));
    let mut room = MAX_SHOWN;
    let shown = names.iter().take(MAX_FILES);
    Difference {
        same: names.is_empty(),
        files: shown
            .map(|name| file(name, first.get(*name), this.get(*name), &mut room))
            .collect(),
        more_files: names.len().saturating_sub(MAX_FILES),
    }
}

fn file(
    name: &str,
    before: Option<&String>,
    after: Option<&String>,
    room: &mut usize,
) -> FileDifference {
    let change = match (before, after) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        _ => Change::Changed,
    };
    let text = |side: Option<&String>| side.cloned().unwrap_or_default();
    let (before, after) = (text(before), text(after));
    let mut diff = if before.len().max(after.len()) > MAX_COMPARED {
        String::new()
    } else {
        unified(&before, &after)
    };
    let is_cut = diff.len() > *room || diff.is_empty();
    let end = diff.floor_char_boundary(diff.len().min(*room));
    let end = match diff.get(..end).and_then(|text| text.rfind('\n')) {
        Some(newline) if is_cut => newline.saturating_add(1),
        _ => end,
    };
    diff.truncate(end);
    *room = room.saturating_sub(diff.len());
    FileDifference {
        name: name.to_owned(),
        change,
        diff,
        is_cut,
    }
}

/// Myers' algorithm alone: with the choice of all that the crate has, it is a sixth of the component.
fn unified(before: &str, after: &str) -> String {
    let lines = |text| -> Vec<&str> { str::split_inclusive(text, '\n').collect() };
    let (old, new) = (lines(before), lines(after));
    let mut hook = Replace::new(Capture::new());
    let Ok(()) = myers::diff_deadline_raw(
        &mut hook,
        old.as_slice(),
        0..old.len(),
        new.as_slice(),
        0..new.len(),
        Instant::now().checked_add(TIMEOUT),
    );
    let mut text = String::new();
    for hunk in group_diff_ops(hook.into_inner().into_ops(), CONTEXT) {
        text.push_str(&format!("{}\n", UnifiedHunkHeader::new(&hunk)));
        for op in &hunk {
            let (removed, added) = (old.get(op.old_range()), new.get(op.new_range()));
            if op.tag() == DiffTag::Equal {
                add(&mut text, ' ', removed);
            } else {
                add(&mut text, '-', removed);
                add(&mut text, '+', added);
            }
        }
    }
    text
}

/// Adds lines to a hunk, each after this mark.
fn add(text: &mut String, mark: char, lines: Option<&[&str]>) {
    for line in lines.into_iter().flatten() {
        text.push(mark);
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(files: &[(&str, &str)]) -> Files {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        files.iter().map(owned).collect()
    }

    #[test]
    fn what_the_second_project_has_instead_is_shown() {
        let first = files(&[("main.py", "a\nb\n"), ("old.py", "x\n"), ("same.py", "s")]);
        let this = files(&[("main.py", "a\nc\n"), ("new.py", "y"), ("same.py", "s")]);
        let found = difference(&first, &this);
        let shown: Vec<_> = found
            .files
            .iter()
            .map(|it| (it.name.as_str(), it.change, it.diff.as_str(), it.is_cut))
            .collect();
        assert_eq!(
            shown,
            [
                (
                    "main.py",
                    Change::Changed,
                    "@@ -1,2 +1,2 @@\n a\n-b\n+c\n",
                    false
                ),
                (
                    "new.py",
                    Change::Added,
                    "@@ -0,0 +1 @@\n+y\n\\ No newline at end of file\n",
                    false
                ),
                ("old.py", Change::Removed, "@@ -1 +0,0 @@\n-x\n", false),
            ]
        );
        assert!(!found.same);
        assert!(difference(&first, &first).same);
    }

    #[test]
    fn what_is_shown_of_large_files_is_bounded() {
        let many: Files = (0..80)
            .map(|number| (format!("f{number:02}.py"), "line é\n".repeat(2_000)))
            .collect();
        let found = difference(&Files::new(), &many);
        assert_eq!((found.files.len(), found.more_files), (MAX_FILES, 30));
        let shown: usize = found.files.iter().map(|it| it.diff.len()).sum();
        assert!(shown <= MAX_SHOWN, "{shown}");
        let last = found.files.last().unwrap();
        assert!(last.is_cut && last.diff.is_empty());
        let huge = files(&[("huge.py", &"x\n".repeat(MAX_COMPARED))]);
        let found = difference(&Files::new(), &huge);
        assert!(found.files[0].is_cut && found.files[0].diff.is_empty());
    }

    proptest! {
        #[test]
        fn any_texts_are_compared_within_the_bounds(
            first in proptest::collection::btree_map("[a-c]{1,2}", "[ab\n]{0,40}", 0..5),
            this in proptest::collection::btree_map("[a-c]{1,2}", "[ab\n]{0,40}", 0..5),
        ) {
            let found = difference(&first, &this);
            prop_assert_eq!(found.same, first == this);
            prop_assert_eq!(found.files.is_empty(), first == this);
            for file in &found.files {
                let mark = |mark: char| file.diff.lines().filter(|it| it.starts_with(mark)).count();
                let lines = |files: &Files| files.get(&file.name).map_or(0, |it| it.split_inclusive('\n').count());
                prop_assert_eq!(mark('-') + mark(' ') <= lines(&first), true);
                prop_assert_eq!(mark('+') + mark(' ') <= lines(&this), true);
                prop_assert!(!file.is_cut || file.diff.is_empty());
            }
        }
    }
}
