//! What differs between two texts, for people.

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

/// The change from one text to another as a unified diff, and whether it is cut off.
pub(crate) fn shown(path: &str, before: &str, after: &str) -> (String, bool) {
    let mut text = unified(path, before, after);
    let is_cut = text.len() > MAX_SHOWN;
    if is_cut {
        text.truncate(text.floor_char_boundary(MAX_SHOWN));
    }
    (text, is_cut)
}

/// Myers' algorithm alone: with the choice of all that the crate has, it is a sixth of a component.
fn unified(path: &str, before: &str, after: &str) -> String {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after.split_inclusive('\n').collect();
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
            if op.tag() == DiffTag::Equal {
                add(&mut text, ' ', old.get(op.old_range()));
            } else {
                add(&mut text, '-', old.get(op.old_range()));
                add(&mut text, '+', new.get(op.new_range()));
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
    use super::*;

    #[test]
    fn a_difference_is_a_unified_diff_and_long_ones_are_cut() {
        let (text, is_cut) = shown("main.py", "a\nb\n", "a\nc\n");
        assert_eq!(
            text,
            "--- a/main.py\n+++ b/main.py\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
        );
        assert!(!is_cut);
        let (text, is_cut) = shown("a", "", &"é\n".repeat(MAX_SHOWN));
        assert!(is_cut && text.len() <= MAX_SHOWN);
    }
}
