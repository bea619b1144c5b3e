//! The files that a patch touches.
//!
//! It is not published how the cloud parses a patch, and tools differ: in what ends a line, where a name with
//! white space ends, whether the counts of a hunk are trusted. So this finds every file that any of them would
//! find, and possibly more; a patch for which that cannot be determined is rejected.

use std::collections::BTreeSet;

use crate::error::{ScopeError, shown};
use crate::names;

/// Maximum files in one patch.
const MAX_FILES: usize = 500;
/// Maximum bytes of one patch. Scanning takes a few tens of milliseconds at this size, whatever its content.
const MAX_PATCH: usize = 1 << 20;
const DEV_NULL: &str = "/dev/null";

/// An unread patch.
#[derive(Debug)]
pub(crate) struct Patch {
    argument: &'static str,
    text: String,
}

impl Patch {
    pub(crate) fn new(argument: &'static str, text: &str) -> Result<Self, ScopeError> {
        if text.len() > MAX_PATCH {
            return Err(ScopeError::Invalid(format!(
                "`{argument}`: it has more than 1 MiB; send the change in several patches"
            )));
        }
        Ok(Self {
            argument,
            text: text.to_owned(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn files(&self) -> Result<BTreeSet<String>, ScopeError> {
        files(self.argument, &self.text)
    }
}

/// The files that `patch` names; at least one. `argument` is the argument that holds the patch.
///
/// Takes time and memory linear in the patch: lines are never collected, and names are rejected as soon as there
/// are too many or one is invalid.
fn files(argument: &str, patch: &str) -> Result<BTreeSet<String>, ScopeError> {
    let invalid = |why: &str| ScopeError::Invalid(format!("`{argument}`: {why}"));
    let mut found = Found {
        argument,
        names: BTreeSet::new(),
    };
    found.scan(lines(patch).map(|line| line.trim_end_matches('\r')))?;
    if lines(patch).any(|line| line.contains(other_break)) {
        found.scan(lines(patch).flat_map(|line| line.split(other_break)))?;
    }
    if found.names.is_empty() {
        return Err(invalid(
            "it names no file; write a unified diff with `diff --git`, `---` and `+++` lines",
        ));
    }
    Ok(found.names)
}

/// The lines of a patch without their line feeds, and without one carriage return before each.
fn lines(patch: &str) -> impl Iterator<Item = &str> + Clone {
    patch.split_inclusive('\n').map(|line| {
        let ended = line.strip_suffix("\r\n");
        ended.or_else(|| line.strip_suffix('\n')).unwrap_or(line)
    })
}

/// Characters other than a line feed that end a line in some languages.
fn other_break(character: char) -> bool {
    matches!(
        character,
        '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

struct Found<'a> {
    argument: &'a str,
    names: BTreeSet<String>,
}

impl Found<'_> {
    fn invalid(&self, why: &str) -> ScopeError {
        ScopeError::Invalid(format!("`{}`: {why}", self.argument))
    }

    fn scan<'a>(
        &mut self,
        mut lines: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), ScopeError> {
        let mut hunk = Hunk::default();
        let mut paired = false;
        while let Some(line) = lines.next() {
            // No line of a hunk begins with a letter or a star: these are headers anywhere.
            if let Some(names) = line.strip_prefix("diff --git ") {
                self.git_header(names)?;
            } else if let Some(name) = moved(line) {
                self.readings(name)?;
            } else if line.starts_with("Index: ") || line.starts_with("*** ") {
                return Err(self.invalid("it is not in unified format, as `git diff` writes it"));
            }
            let old = line.strip_prefix("--- ");
            let new = line.strip_prefix("+++ ");
            // Only after `---` lines, so that empty lines between two of them are skipped once.
            let next = old.and_then(|_| lines.clone().find(|line| !line.is_empty()));
            let follows = next.and_then(|line| line.strip_prefix("+++ "));
            let inside = hunk.takes(line);
            match (old, new) {
                // A pair is a header even if a hunk should continue according to its counts.
                (Some(old), _) if follows.is_some() => {
                    self.pair(old, follows.unwrap_or_default())?;
                    paired = true;
                }
                (None, Some(_)) if paired => paired = false,
                (Some(name), _) | (None, Some(name)) if !inside => {
                    self.pair(name, DEV_NULL)?;
                    self.pair(DEV_NULL, name)?;
                    self.readings(until_tab(name))?;
                }
                _ => {}
            }
            hunk.begin(line);
        }
        Ok(())
    }

    /// The names before and after, without git's `a/` and `b/`.
    fn pair(&mut self, old: &str, new: &str) -> Result<(), ScopeError> {
        let (old, new) = (until_tab(old), until_tab(new));
        let stripped = |name: &str, prefix: &str| name.strip_prefix(prefix).map(str::to_owned);
        match (stripped(old, "a/"), stripped(new, "b/")) {
            (Some(old), Some(new)) => {
                self.readings(&old)?;
                self.readings(&new)
            }
            (Some(old), None) if new == DEV_NULL => self.readings(&old),
            (None, Some(new)) if old == DEV_NULL => self.readings(&new),
            (old_stripped, new_stripped) => {
                for name in [
                    Some(old.to_owned()),
                    Some(new.to_owned()),
                    old_stripped,
                    new_stripped,
                ]
                .into_iter()
                .flatten()
                {
                    self.readings(&name)?;
                }
                Ok(())
            }
        }
    }

    /// `a/NAME b/NAME`. Names with spaces are recognised by being equal, so they split in the middle.
    fn git_header(&mut self, names: &str) -> Result<(), ScopeError> {
        let parted = |at: usize| {
            let (old, new) = names.split_at_checked(at)?;
            Some((old, new.strip_prefix(' ')?))
        };
        let same = |(old, new): &(&str, &str)| {
            let stripped = old.strip_prefix("a/").zip(new.strip_prefix("b/"));
            old == new || stripped.is_some_and(|(old, new)| old == new)
        };
        let only = || names.split_once(' ').filter(|(_, new)| !new.contains(' '));
        let halves = parted(names.len() / 2).filter(same).or_else(only);
        let Some((old, new)) = halves else {
            return Err(self.invalid(&format!(
                "the names in `diff --git {}` cannot be told apart",
                shown(names)
            )));
        };
        self.pair(old, new)
    }

    /// A name as given and, since some tools end it there, up to its first white space.
    fn readings(&mut self, name: &str) -> Result<(), ScopeError> {
        if name.starts_with('"') {
            return Err(self.invalid("it has a name in quotation marks; only plain names are read"));
        }
        if name != DEV_NULL {
            self.insert(name)?;
        }
        if let Some((first, _)) = name.split_once(char::is_whitespace) {
            self.insert(first)?;
        }
        Ok(())
    }

    fn insert(&mut self, name: &str) -> Result<(), ScopeError> {
        if self.names.contains(name) {
            return Ok(());
        }
        names::path(self.argument, name)?;
        if self.names.len() >= MAX_FILES {
            return Err(self.invalid("it names more than 500 files"));
        }
        self.names.insert(name.to_owned());
        Ok(())
    }
}

/// The name in a line of git's that moves or copies a file; it has no prefix.
fn moved(line: &str) -> Option<&str> {
    ["rename from ", "rename to ", "copy from ", "copy to "]
        .into_iter()
        .find_map(|start| line.strip_prefix(start))
}

/// A time follows after a tab.
fn until_tab(name: &str) -> &str {
    name.split('\t').next().unwrap_or(name)
}

/// The remaining lines of a hunk, according to its header.
#[derive(Default)]
struct Hunk {
    old: u64,
    new: u64,
}

impl Hunk {
    /// Whether a line belongs to the hunk.
    fn takes(&mut self, line: &str) -> bool {
        if self.old == 0 && self.new == 0 {
            return false;
        }
        match line.chars().next() {
            None | Some(' ') => {
                self.old = self.old.saturating_sub(1);
                self.new = self.new.saturating_sub(1);
            }
            Some('-') => self.old = self.old.saturating_sub(1),
            Some('+') => self.new = self.new.saturating_sub(1),
            Some('\\') => {}
            Some(_) => {
                *self = Self::default();
                return false;
            }
        }
        true
    }

    /// Parses `@@ -1,3 +1,4 @@`; a missing count is 1.
    fn begin(&mut self, line: &str) {
        let Some(ranges) = line.strip_prefix("@@ -") else {
            return;
        };
        let count = |range: Option<&str>| -> u64 {
            let counted = range.and_then(|range| range.split_once(','));
            counted.map_or(1, |(_, count)| count.parse().unwrap_or(0))
        };
        let mut ranges = ranges.split(' ');
        self.old = count(ranges.next());
        self.new = count(ranges.next());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(patch: &str) -> Vec<String> {
        files("patch", patch).unwrap().into_iter().collect()
    }

    #[test]
    fn a_patch_that_is_too_long_is_refused_unread() {
        assert!(Patch::new("patch", &"\n".repeat(MAX_PATCH)).is_ok());
        let error = Patch::new("patch", &"\n".repeat(MAX_PATCH + 1)).unwrap_err();
        assert!(error.to_string().contains("more than 1 MiB"), "{error}");
        let many: String = (0..=MAX_FILES)
            .map(|at| format!("--- a/{at}\n+++ b/{at}\n"))
            .collect();
        let error = files("patch", &many).unwrap_err();
        assert!(error.to_string().contains("more than 500 files"), "{error}");
    }

    const GIT: &str = "diff --git a/main.py b/main.py\nindex 5a38b08..72c8d1e 100644\n--- a/main.py\n+++ b/main.py\n@@ -2,4 +2,4 @@\n from AlgorithmImports import *\n # endregion\n\n-a = 1\n+a = 2\n";

    #[test]
    fn every_file_is_found() {
        for (patch, expected) in [
            (GIT.to_owned(), vec!["main.py"]),
            (GIT.replace('\n', "\r\n"), vec!["main.py"]),
            (
                "--- main.py\n+++ main.py\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
                vec!["main.py"],
            ),
            (
                "--- a/x.py\t2024-01-01\n+++ b/x.py\t2024-01-02\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
                vec!["x.py"],
            ),
            (
                "--- a/x.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n".to_owned(),
                vec!["x.py"],
            ),
            (
                "--- /dev/null\n+++ b/lib/y.py\n@@ -0,0 +1 @@\n+a\n".to_owned(),
                vec!["lib/y.py"],
            ),
            (
                "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n"
                    .to_owned(),
                vec!["x", "y"],
            ),
            (
                "diff --git a/x b/z\ncopy from x\ncopy to z\n".to_owned(),
                vec!["x", "z"],
            ),
            (
                "diff --git a/x b/x\nold mode 100644\nnew mode 100755\n".to_owned(),
                vec!["x"],
            ),
            (
                "diff --git x x\ndeleted file mode 100644\n".to_owned(),
                vec!["x"],
            ),
            // Only one has git's prefix, which may be a folder.
            (
                "--- a/x\n+++ x\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
                vec!["a/x", "x"],
            ),
            // Some tools end a name at white space.
            (
                "--- a/main.py x.md\n+++ b/main.py x.md\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
                vec!["main.py", "main.py x.md"],
            ),
            // An incomplete header.
            (
                "+++ b/x\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
                vec!["b/x", "x"],
            ),
        ] {
            assert_eq!(named(&patch), expected, "{patch}");
        }
    }

    #[test]
    fn a_second_file_cannot_hide() {
        let evil = "--- a/evil.py\n+++ b/evil.py\n@@ -1 +1 @@\n-a\n+b\n";
        for patch in [
            format!("{GIT}{evil}"),
            // In a hunk whose header claims more lines than it has.
            format!("{}{evil}", GIT.replace("-2,4 +2,4", "-2,40 +2,40")),
            // After the line breaks of other languages.
            GIT.replace(
                "+a = 2\n",
                &format!("+a = 2\u{2028}{}", evil.replace('\n', "\u{2028}")),
            ),
            GIT.replace("+a = 2\n", &format!("+a = 2\r{}", evil.replace('\n', "\r"))),
            format!("{GIT}{}", evil.replace('\n', "\r\r\n")),
            format!("{GIT}rename to evil.py\n"),
            format!("{GIT}diff --git a/evil.py b/evil.py\n"),
            format!("{GIT}+++ evil.py\n"),
        ] {
            assert!(named(&patch).contains(&"evil.py".to_owned()), "{patch}");
        }
    }

    #[test]
    fn what_a_hunk_changes_is_no_file() {
        let patch = "--- a/x.sql\n+++ b/x.sql\n@@ -1,2 +1,2 @@\n --- kept\n--- dropped comment\n+++ counter\n@@ -9 +9 @@\n-a\n+b\n";
        // A removed line next to an added one looks like a header to a tool that ignores counts.
        assert!(named(patch).contains(&"x.sql".to_owned()));
        let patch = "--- a/x.sql\n+++ b/x.sql\n@@ -1,2 +1,1 @@\n a\n--- dropped comment\n";
        assert_eq!(named(patch), ["x.sql"]);
        let patch = "--- a/x.c\n+++ b/x.c\n@@ -1 +1,2 @@\n a\n+++ i;\n";
        assert_eq!(named(patch), ["x.c"]);
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        for (patch, why) in [
            ("", "names no file"),
            ("just words\n", "names no file"),
            ("@@ -1 +1 @@\n-a\n+b\n", "names no file"),
            (
                "--- a/../../secret\n+++ b/../../secret\n",
                "empty, `.` or `..`",
            ),
            ("--- /etc/passwd\n+++ /etc/passwd\n", "begins with `/`"),
            ("--- a/x\\y\n+++ b/x\\y\n", "backslash"),
            ("--- \"a/x\\ty\"\n+++ \"b/x\\ty\"\n", "quotation marks"),
            ("diff --git a/x y b/z w\n", "told apart"),
            ("Index: x\n--- x\n+++ x\n", "unified format"),
            ("*** x\n--- y\n", "unified format"),
            ("--- /dev/null\n+++ /dev/null\n", "names no file"),
        ] {
            let error = files("patch", patch).unwrap_err().to_string();
            assert!(error.contains(why), "{patch:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_patch_breaks_it(patch in "(diff --git |--- |\\+\\+\\+ |rename from |@@ -1,9 \\+1 @@|a/|b/|x|y| |\n|\r|\t|\"|/dev/null){0,40}") {
            if let Ok(names) = files("patch", &patch) {
                prop_assert!(!names.is_empty());
            }
        }

        /// Whatever surrounds it, the file of a well-formed part is found.
        #[test]
        fn a_part_is_found_in_any_company(before in "[-+ @a-z\n]{0,60}", name in "[a-z]{1,8}\\.py") {
            let patch = format!("{before}\n--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-a\n+b\n");
            if let Ok(names) = files("patch", &patch) {
                prop_assert!(names.contains(&name), "{names:?}");
            }
        }
    }
}
