//! Differences of two texts: bounded for people, complete as a patch.

use std::time::{Duration, Instant};

use similar::algorithms::{Capture, Replace, myers};
use similar::udiff::UnifiedHunkHeader;
use similar::{DiffTag, group_diff_ops};

/// Most that is shown of one difference, in bytes.
const MAX_SHOWN: usize = 16 << 10;
/// Lines around a change that are the same.
const CONTEXT: usize = 3;
/// After this time a difference is no longer the shortest one.
const TIMEOUT: Duration = Duration::from_millis(200);
/// A smaller file is replaced as a whole, in bytes: a patch would save nothing.
const MIN_PATCHED: usize = 4 << 10;
/// A patch is sent if it has at most a quarter of the file's bytes: this is the divisor.
const PATCH_SHARE: usize = 4;

/// What the local side has instead of the project's text, as a unified diff, and whether it is cut off.
pub(crate) fn shown(path: &str, project: &str, local: &str) -> (String, bool) {
    let mut text = unified(path, project, local);
    let is_cut = text.len() > MAX_SHOWN;
    if is_cut {
        let end = text.floor_char_boundary(MAX_SHOWN);
        let end = text
            .get(..end)
            .and_then(|text| text.rfind('\n'))
            .unwrap_or(end);
        text.truncate(end);
    }
    (text, is_cut)
}

/// A patch that makes `after` of `before`, if sending it is worth its while and every tool reads it alike.
pub(crate) fn patch(path: &str, before: &str, after: &str) -> Option<String> {
    // Tools differ in lines without an end, in carriage returns and other line breaks, and in names with spaces.
    let is_plain = |text: &str| {
        text.ends_with('\n')
            && !text.contains(['\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'])
    };
    let is_plain_name = path
        .chars()
        .all(|it| it.is_ascii_graphic() && !matches!(it, '"' | '\\'));
    if after.len() < MIN_PATCHED || !is_plain(before) || !is_plain(after) || !is_plain_name {
        return None;
    }
    let patch = unified(path, before, after);
    (patch.len() <= after.len() / PATCH_SHARE)
        .then(|| format!("diff --git a/{path} b/{path}\n{patch}"))
}

/// Myers' algorithm alone: with the choice of all that the crate has, it is a sixth of the component.
fn unified(path: &str, before: &str, after: &str) -> String {
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
    let mut text = format!("--- a/{path}\n+++ b/{path}\n");
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

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_from_the_project_to_the_local_side() {
        let (text, is_cut) = shown("main.py", "a\nb\n", "a\nc\n");
        assert_eq!(
            text,
            "--- a/main.py\n+++ b/main.py\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
        );
        assert!(!is_cut);
    }

    #[test]
    fn changes_that_are_apart_are_hunks_of_their_own_and_a_missing_end_is_said() {
        let before: String = (1..=30).map(|line| format!("{line}\n")).collect();
        let after = before.replace("\n2\n", "\n").replace("30\n", "thirty");
        let (text, _) = shown("a", &before, &after);
        assert_eq!(
            text,
            "--- a/a\n+++ b/a\n@@ -1,5 +1,4 @@\n 1\n-2\n 3\n 4\n 5\n@@ -27,4 +26,4 @@\n 27\n 28\n 29\n-30\n\
             +thirty\n\\ No newline at end of file\n"
        );
        let (text, _) = shown("a", "", "1\n");
        assert!(text.ends_with("@@ -0,0 +1 @@\n+1\n"), "{text}");
    }

    #[test]
    fn a_long_difference_is_cut_at_a_line() {
        let (text, is_cut) = shown("main.py", "", &"é line\n".repeat(5000));
        assert!(
            is_cut && text.len() <= MAX_SHOWN && text.ends_with("+é line"),
            "{}",
            text.len()
        );
    }

    #[test]
    fn only_a_small_change_of_a_large_plain_file_is_a_patch() {
        let large: String = (0..1000).map(|line| format!("line {line}\n")).collect();
        let changed = large.replace("line 500\n", "line five hundred\n");
        let patch = super::patch("lib/a.py", &large, &changed).unwrap();
        assert!(
            patch.starts_with(
                "diff --git a/lib/a.py b/lib/a.py\n--- a/lib/a.py\n+++ b/lib/a.py\n@@ "
            )
        );
        assert!(
            patch.contains("\n-line 500\n+line five hundred\n"),
            "{patch}"
        );

        assert_eq!(super::patch("a.py", "a\n", "b\n"), None);
        assert_eq!(
            super::patch("a.py", &large, &large.replace("line", "word")),
            None
        );
        assert_eq!(super::patch("a b.py", &large, &changed), None);
        assert_eq!(super::patch("a.py", &large, changed.trim_end()), None);
        assert_eq!(
            super::patch("a.py", &large, &changed.replace('\n', "\r\n")),
            None
        );
    }
}
