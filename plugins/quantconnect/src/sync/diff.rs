//! Differences of two texts: bounded for people, complete as a patch.

use std::time::Duration;

use similar::TextDiff;

/// Most that is shown of one difference, in bytes.
const MAX_SHOWN: usize = 16 << 10;
/// After this time a difference is no longer the shortest one.
const TIMEOUT: Duration = Duration::from_millis(200);
/// A smaller file is replaced as a whole, in bytes: a patch would save nothing.
const MIN_PATCHED: usize = 4 << 10;
/// A patch is sent if it has at most one of so many parts of the file's bytes.
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

fn unified(path: &str, before: &str, after: &str) -> String {
    let diff = TextDiff::configure()
        .timeout(TIMEOUT)
        .diff_lines(before, after);
    let (before, after) = (format!("a/{path}"), format!("b/{path}"));
    diff.unified_diff().header(&before, &after).to_string()
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
