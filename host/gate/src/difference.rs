//! Differences between untrusted texts, for an approver to read.
//!
//! Invariant: a difference takes no longer than its deadline, is no larger than its limit, and says how much it leaves
//! out. Omitted parts are reported as omitted, never taken as equal.

use std::collections::BTreeMap;
use std::time::Instant;

use similar::{ChangeTag, DiffOp, DiffTag, TextDiff, udiff::UnifiedHunkHeader};

/// Lines around a change.
const CONTEXT_LINES: usize = 3;
/// Maximum bytes shown of one line, unless the bounds say otherwise.
pub(crate) const MAX_LINE: usize = 1_000;
/// Maximum lines of both versions of a file together for a comparison: each takes memory.
const MAX_COMPARED: usize = 200_000;
/// Maximum number of omitted files that are named.
const MAX_NAMED: usize = 20;

/// A text that is built up to a limit.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// What is shown.
    pub text: String,
    /// What is omitted, in words; `None` if everything is shown.
    pub left_out: Option<String>,
}

/// Limits on size and time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub bytes: usize,
    /// Maximum bytes of one line.
    pub line: usize,
    pub deadline: Instant,
}

/// A unified difference of two sets of files, each as name and content.
pub(crate) fn difference(
    former: &[(String, String)],
    files: &[(String, String)],
    bounds: Bounds,
) -> Shown {
    let by_name = |files: &'_ [(String, String)]| -> BTreeMap<String, String> {
        files.iter().cloned().collect()
    };
    let (former, files) = (by_name(former), by_name(files));
    let mut names: Vec<&String> = former.keys().chain(files.keys()).collect();
    names.sort();
    names.dedup();
    let mut writer = Writer::new(bounds);
    for name in names {
        let (old, new) = (former.get(name), files.get(name));
        if old != new {
            writer.file(name, old.map(String::as_str), new.map(String::as_str));
        }
    }
    writer.end()
}

/// A text shown line by line.
pub(crate) fn excerpt(text: &str, bounds: Bounds) -> Shown {
    let mut writer = Writer::new(bounds);
    let mut lines = text.lines();
    for line in lines.by_ref() {
        if !writer.line("", line) {
            writer.hidden += 1;
            break;
        }
    }
    writer.hidden += lines.count();
    let hidden = writer.hidden;
    let mut shown = writer.end();
    if hidden > 0 {
        shown.left_out = Some(format!(
            "{hidden} more lines; all of it has {} bytes",
            text.len()
        ));
    }
    shown
}

struct Writer {
    bounds: Bounds,
    text: String,
    /// Number of truncated lines.
    cut: usize,
    /// Number of lines that are not shown.
    hidden: usize,
    added: usize,
    removed: usize,
    /// Files of which nothing is shown.
    unseen: Vec<String>,
    unseen_count: usize,
}

impl Writer {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            text: String::new(),
            cut: 0,
            hidden: 0,
            added: 0,
            removed: 0,
            unseen: Vec::new(),
            unseen_count: 0,
        }
    }

    /// Adds a line. Returns whether there was room for it.
    fn line(&mut self, sign: &str, line: &str) -> bool {
        let line = line.trim_end_matches(['\n', '\r']);
        let mut end = line.len().min(self.bounds.line);
        while !line.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let part = line.get(..end).unwrap_or_default();
        let room = self.bounds.bytes.saturating_sub(self.text.len());
        if part.len().saturating_add(sign.len() + 64) > room {
            return false;
        }
        self.text.push_str(sign);
        self.text.push_str(part);
        if part.len() < line.len() {
            self.cut += 1;
            let more = line.len().saturating_sub(part.len());
            self.text
                .push_str(&format!(" [and {more} bytes more in this line]"));
        }
        self.text.push('\n');
        true
    }

    fn file(&mut self, name: &str, old: Option<&str>, new: Option<&str>) {
        let late = Instant::now() >= self.bounds.deadline;
        let header = |file: Option<&str>| match file {
            Some(_) => name.to_owned(),
            None => "/dev/null".to_owned(),
        };
        if late || !self.line("--- ", &header(old)) || !self.line("+++ ", &header(new)) {
            self.unseen_count += 1;
            if self.unseen.len() < MAX_NAMED {
                self.unseen.push(name.chars().take(200).collect());
            }
            return;
        }
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        let lines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
        if lines(old).saturating_add(lines(new)) > MAX_COMPARED {
            return self.replaced(old, new);
        }
        let diff = TextDiff::configure()
            .deadline(self.bounds.deadline)
            .diff_lines(old, new);
        let mut full = false;
        for group in diff.grouped_ops(CONTEXT_LINES) {
            if group.is_empty() {
                continue;
            }
            full = full || !self.line("", &UnifiedHunkHeader::new(&group).to_string());
            for op in &group {
                let (mut removed, mut added) = (0, 0);
                if !full {
                    full = !self.op(&diff, op, &mut removed, &mut added);
                }
                if op.tag() != DiffTag::Equal {
                    self.removed += op.old_range().len().saturating_sub(removed);
                    self.added += op.new_range().len().saturating_sub(added);
                }
            }
        }
    }

    /// Shows a file that is too long to be compared as a replacement of the other.
    fn replaced(&mut self, old: &str, new: &str) {
        self.removed += old.lines().count();
        let mut lines = new.lines();
        for line in lines.by_ref() {
            if !self.line("+", line) {
                self.added += 1;
                break;
            }
        }
        self.added += lines.count();
    }

    /// Shows an operation of a difference as far as there is room, and counts the lines shown. Returns whether all of
    /// it had room.
    fn op(
        &mut self,
        diff: &TextDiff<'_, '_, str>,
        op: &DiffOp,
        removed: &mut usize,
        added: &mut usize,
    ) -> bool {
        for change in diff.iter_changes(op) {
            let (sign, count) = match change.tag() {
                ChangeTag::Delete => ("-", Some(&mut *removed)),
                ChangeTag::Insert => ("+", Some(&mut *added)),
                ChangeTag::Equal => (" ", None),
            };
            if !self.line(sign, change.value()) {
                return false;
            }
            if let Some(count) = count {
                *count += 1;
            }
        }
        true
    }

    fn end(self) -> Shown {
        let mut parts = Vec::new();
        if self.added + self.removed > 0 {
            parts.push(format!(
                "{} added and {} removed lines",
                self.added, self.removed
            ));
        }
        if self.cut > 0 {
            parts.push(format!("the ends of {} long lines", self.cut));
        }
        if self.unseen_count > 0 {
            let more = self.unseen_count.saturating_sub(self.unseen.len());
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            parts.push(format!("changed files: {}{more}", self.unseen.join(", ")));
        }
        Shown {
            text: self.text,
            left_out: (!parts.is_empty()).then(|| parts.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), (*content).to_owned()))
            .collect()
    }

    fn bounds() -> Bounds {
        Bounds {
            line: MAX_LINE,
            bytes: 64 << 10,
            deadline: Instant::now() + Duration::from_secs(60),
        }
    }

    #[test]
    fn a_difference_names_what_was_added_changed_and_removed() {
        let former = files(&[("a.py", "1\n2\n"), ("b.py", "same\n"), ("c.py", "gone\n")]);
        let now = files(&[("a.py", "1\n3\n"), ("b.py", "same\n"), ("d.py", "new\n")]);
        let shown = difference(&former, &now, bounds());
        for line in ["--- a.py", "-2", "+3", "-gone", "+++ /dev/null", "+new"] {
            let found = shown.text.lines().any(|shown| shown == line);
            assert!(found, "{line}: {}", shown.text);
        }
        assert!(!shown.text.contains("same"));
        assert_eq!(shown.left_out, None);
        assert_eq!(difference(&now, &now, bounds()).text, "");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let long: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
        let now = files(&[("a.py", &long), ("b.py", "1\n")]);
        let shown = difference(&[], &now, bounds());
        assert!(shown.text.len() <= 64 << 10);
        let lines = shown.text.lines().filter(|line| line.starts_with("+line"));
        let left = 20_000 - lines.count();
        let said = shown.left_out.unwrap();
        assert!(
            said.starts_with(&format!("{left} added and 0 removed lines")),
            "{said}"
        );
        assert!(said.contains("changed files: b.py"), "{said}");
        let one = "x".repeat(1 << 20);
        let shown = difference(&[], &files(&[("a.py", &one)]), bounds());
        assert!(shown.text.len() < 2_000 && shown.left_out.is_some());
        let text = excerpt(&long, bounds());
        assert!(text.left_out.unwrap().contains("more lines"));
        assert_eq!(excerpt("a\nb", bounds()).text, "a\nb\n");
    }

    /// The time that a difference takes is bounded, whatever the texts are.
    #[test]
    fn what_takes_too_long_is_said_to_be_left_out() {
        let late = Bounds {
            deadline: Instant::now(),
            ..bounds()
        };
        let now = files(&[("a.py", "1\n")]);
        let shown = difference(&[], &now, late);
        assert_eq!(shown.text, "");
        assert!(shown.left_out.unwrap().contains("a.py"));
        // Nothing but line feeds: as many lines as bytes.
        let (old, new) = ("\n".repeat(4 << 20), "\n".repeat(3 << 20));
        let shown = difference(
            &files(&[("a.py", &old)]),
            &files(&[("a.py", &new)]),
            bounds(),
        );
        assert!(shown.text.len() <= 64 << 10);
        assert!(
            shown
                .left_out
                .unwrap()
                .contains("and 4194304 removed lines")
        );
        // Distinct lines in another order: the worst case for a difference.
        let lines = |step: usize| -> String {
            (0..60_000_usize)
                .map(|line| format!("{}\n", line.wrapping_mul(step) % 60_013))
                .collect()
        };
        let (old, new) = (lines(7), lines(11));
        let begun = Instant::now();
        let soon = Bounds {
            deadline: begun + Duration::from_millis(200),
            ..bounds()
        };
        difference(&files(&[("a.py", &old)]), &files(&[("a.py", &new)]), soon);
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
    }
}
