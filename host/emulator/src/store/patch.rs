//! Applies a unified diff, as `git diff` prints it, to the files of a project.
//!
//! A hunk has to match the file word for word. It may have moved (as `git apply` allows), but no
//! line of its context may differ. Creating, changing, deleting, renaming and copying files are
//! understood; binary patches, symbolic links and submodules are not.
//!
//! Invariant: all or nothing. [`apply`] only reads; what it returns are the complete changes of
//! a patch of which every hunk fitted.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use diffy::patch_set::{FileMode, FileOperation, FilePatch, ParseOptions, PatchKind, PatchSet};
use diffy::{Line, Patch};

/// Placing a hunk compares it with every line of the file in the worst case. A patch that would
/// take more comparisons of lines than this is refused instead of being searched for minutes.
const MAX_COMPARISONS: usize = 100_000_000;

/// Spaces in a line that begins a file's part.
const MAX_SPACES: usize = 100;

/// What a patch does to a project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Files that exist afterwards and were created or changed: name and whole new content.
    pub written: BTreeMap<String, String>,
    /// Files that no longer exist afterwards.
    pub deleted: BTreeSet<String>,
}

/// Why a patch was not applied. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The text is not a unified diff, or breaks off inside one.
    #[error("not a unified diff: {0}; send the output of `git diff`")]
    Malformed(String),
    /// A header names a file by an absolute path, with `..`, or not at all.
    #[error("the patch names {0:?}, which is not a path inside the project")]
    BadName(String),
    /// A file that should be changed or deleted is not there.
    #[error("{0}: the project has no such file")]
    MissingFile(String),
    /// A file that should be created is there already.
    #[error("{0}: the patch creates this file, but the project has it already")]
    FileExists(String),
    /// The same file is named by two parts of the patch.
    #[error("{0}: the patch names this file twice; combine both parts")]
    NamedTwice(String),
    /// A kind of change that projects cannot have.
    #[error("{file}: {what} cannot be applied to a project's files")]
    Unsupported {
        /// The file.
        file: String,
        /// Such as "a binary patch".
        what: &'static str,
    },
    /// The part of the patch about this file changes nothing.
    #[error("{0}: the patch has no hunk for this file")]
    NoHunks(String),
    /// The lines that a hunk expects are not in the file.
    #[error(
        "{file}: hunk {hunk} ({header}) does not fit: the file does not have the lines that it \
         expects; make the patch against the file's present content"
    )]
    DoesNotFit {
        /// The file.
        file: String,
        /// The hunk's number in this file, from 1.
        hunk: usize,
        /// The hunk's header, such as `@@ -1,3 +1,4 @@`.
        header: String,
    },
    /// A deletion whose hunks leave lines over.
    #[error("{0}: the patch deletes this file, but the file has lines that the patch does not")]
    DeletesOther(String),
    /// File and hunk are so large that placing the hunk would take too long.
    #[error("{0}: file and hunks are too large to be matched")]
    TooLarge(String),
}

/// Applies `patch` to `files` (name → content).
///
/// In a file whose lines all end in CRLF, a patch without any carriage return is applied as if
/// it had them, and one that has them on every line, headers included, is read without.
///
/// # Errors
/// The first thing that does not fit; nothing is applied then.
pub fn apply(files: &BTreeMap<String, String>, patch: &str) -> Result<Changes, PatchError> {
    let patch = in_canonical_form(patch);
    // The parser tries to part the names of such a line at each of its spaces.
    let spaced =
        |line: &&str| line.starts_with("diff --git ") && line.matches(' ').count() > MAX_SPACES;
    if let Some(line) = patch.lines().find(spaced) {
        let start: String = line.chars().take(80).collect();
        return Err(malformed(&format!("too many spaces in `{start}…`")));
    }
    let (parts, options) = if patch.lines().any(|line| line.starts_with("diff --git ")) {
        (vec![&*patch], ParseOptions::gitdiff())
    } else {
        (plain_parts(&patch), ParseOptions::unidiff())
    };
    let mut changes = Changes::default();
    let mut hunks = Vec::new();
    for part in parts
        .into_iter()
        .flat_map(|part| PatchSet::parse(part, options.clone()))
    {
        let part = part.map_err(|error| malformed(&error.to_string()))?;
        if let PatchKind::Text(text) = part.patch() {
            hunks.extend(text.hunks().iter().map(|hunk| hunk.lines().len()));
        }
        apply_part(files, &part, &mut changes)?;
    }
    check_nothing_left_over(&patch, hunks)?;
    Ok(changes)
}

/// Applies one file's part of the patch.
fn apply_part(
    files: &BTreeMap<String, String>,
    part: &FilePatch<'_, str>,
    changes: &mut Changes,
) -> Result<(), PatchError> {
    let (from, to) = names(part.operation());
    let named = to.as_ref().or(from.as_ref()).cloned().unwrap_or_default();
    for name in [&from, &to].into_iter().flatten() {
        check_name(name)?;
    }
    let unsupported = |what| PatchError::Unsupported {
        file: named.clone(),
        what,
    };
    let PatchKind::Text(text) = part.patch() else {
        return Err(unsupported("a binary patch"));
    };
    for mode in [part.old_mode(), part.new_mode()].into_iter().flatten() {
        match mode {
            FileMode::Regular | FileMode::Executable => {}
            FileMode::Symlink => return Err(unsupported("a symbolic link")),
            FileMode::Gitlink => return Err(unsupported("a submodule")),
        }
    }
    let moves = matches!(
        part.operation(),
        FileOperation::Rename { .. } | FileOperation::Copy { .. }
    );
    let original = match &from {
        None => "",
        Some(name) => files
            .get(name)
            .ok_or_else(|| PatchError::MissingFile(name.clone()))?,
    };
    if text.hunks().is_empty() && from.is_some() && to.is_some() && !moves {
        return Err(PatchError::NoHunks(named));
    }
    let content = apply_text(&named, original, text)?;
    let keeps_source = matches!(part.operation(), FileOperation::Copy { .. });
    if let Some(name) = &from
        && from != to
        && !keeps_source
    {
        if to.is_none() && !content.is_empty() {
            return Err(PatchError::DeletesOther(named));
        }
        if changes.written.contains_key(name) || !changes.deleted.insert(name.clone()) {
            return Err(PatchError::NamedTwice(name.clone()));
        }
    }
    if let Some(name) = to {
        if from.as_ref() != Some(&name) && files.contains_key(&name) {
            return Err(PatchError::FileExists(name));
        }
        if changes.deleted.contains(&name) || changes.written.contains_key(&name) {
            return Err(PatchError::NamedTwice(name));
        }
        changes.written.insert(name, content);
    }
    Ok(())
}

/// The names before and after, without the `a/` and `b/` of git.
fn names(operation: &FileOperation<'_, str>) -> (Option<String>, Option<String>) {
    let strip = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    match operation {
        FileOperation::Create(name) => (None, Some(strip(name, "b/"))),
        FileOperation::Delete(name) => (Some(strip(name, "a/")), None),
        FileOperation::Modify { original, modified } => {
            match (original.strip_prefix("a/"), modified.strip_prefix("b/")) {
                (Some(original), Some(modified)) => {
                    (Some(original.to_owned()), Some(modified.to_owned()))
                }
                _ => (Some(original.to_string()), Some(modified.to_string())),
            }
        }
        // git writes these without prefixes.
        FileOperation::Rename { from, to } | FileOperation::Copy { from, to } => {
            (Some(from.to_string()), Some(to.to_string()))
        }
    }
}

fn check_name(name: &str) -> Result<(), PatchError> {
    let inside = !name.is_empty()
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if inside {
        Ok(())
    } else {
        Err(PatchError::BadName(name.to_owned()))
    }
}

/// Applies the hunks of one file.
fn apply_text(name: &str, original: &str, patch: &Patch<'_, str>) -> Result<String, PatchError> {
    let file_lines = original.lines().count().saturating_add(1);
    let hunk_lines: usize = patch.hunks().iter().map(|hunk| hunk.lines().len()).sum();
    if file_lines.saturating_mul(hunk_lines) > MAX_COMPARISONS {
        return Err(PatchError::TooLarge(name.to_owned()));
    }
    let carriage_returns = original.matches("\r\n").count();
    let convert = carriage_returns > 0
        && carriage_returns == original.matches('\n').count()
        && !patch.to_string().contains('\r');
    let base = if convert {
        original.replace("\r\n", "\n")
    } else {
        original.to_owned()
    };
    let changed = match apply_in_place(&base, patch) {
        Some(changed) => changed,
        None => {
            let moved = diffy::apply(&base, patch)
                .map_err(|error| does_not_fit(name, &error.to_string(), patch))?;
            if joins_lines(&base, &moved, patch) {
                return Err(does_not_fit(name, "", patch));
            }
            moved
        }
    };
    Ok(if convert {
        changed.replace('\n', "\r\n")
    } else {
        changed
    })
}

/// Applies hunks where their headers say, if all of them fit there. The library searches from the position
/// that it assumes, which is wrong for a hunk without context.
fn apply_in_place(original: &str, patch: &Patch<'_, str>) -> Option<String> {
    let lines: Vec<&str> = original.split_inclusive('\n').collect();
    let mut changed: Vec<&str> = Vec::with_capacity(lines.len());
    let mut at: usize = 0;
    for hunk in patch.hunks() {
        let range = hunk.old_range();
        let start = match range.len() {
            // After this line.
            0 => range.start(),
            _ => range.start().checked_sub(1)?,
        };
        changed.extend(lines.get(at..start)?);
        at = start;
        for line in hunk.lines() {
            if let Line::Context(text) | Line::Delete(text) = line {
                if lines.get(at) != Some(text) {
                    return None;
                }
                at = at.saturating_add(1);
            }
            if let Line::Context(text) | Line::Insert(text) = line {
                changed.push(text);
            }
        }
    }
    changed.extend(lines.get(at..)?);
    let (_, before_last) = changed.split_last().unwrap_or((&"", &[]));
    before_last
        .iter()
        .all(|line| line.ends_with('\n'))
        .then(|| changed.concat())
}

/// Whether a hunk whose last line has no newline was put before the end of the file: its line and the one
/// that follows have become one.
fn joins_lines(before: &str, after: &str, patch: &Patch<'_, str>) -> bool {
    let mut expected = before.lines().count();
    for line in patch.hunks().iter().flat_map(|hunk| hunk.lines()) {
        match line {
            Line::Insert(_) => expected = expected.saturating_add(1),
            Line::Delete(_) => expected = expected.saturating_sub(1),
            Line::Context(_) => {}
        }
    }
    after.lines().count() != expected
}

/// Names the hunk that does not fit. diffy tells its number only at the end of its message.
fn does_not_fit(name: &str, message: &str, patch: &Patch<'_, str>) -> PatchError {
    let hunk: usize = message
        .rsplit('#')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(1);
    let header = patch.hunks().get(hunk.saturating_sub(1)).map_or_else(
        || "@@".to_owned(),
        |hunk| format!("@@ -{} +{} @@", hunk.old_range(), hunk.new_range()),
    );
    PatchError::DoesNotFit {
        file: name.to_owned(),
        hunk,
        header,
    }
}

/// The patch with the newline at its end that copying often loses, and without carriage returns if
/// every line ends in CRLF: git ends its own headers in LF, so an editor converted the whole patch.
fn in_canonical_form(patch: &str) -> Cow<'_, str> {
    let everywhere = !patch.is_empty()
        && patch
            .split_inclusive('\n')
            .all(|line| line.ends_with("\r\n") || !line.ends_with('\n'));
    let mut patch = if everywhere {
        Cow::Owned(patch.replace("\r\n", "\n"))
    } else {
        Cow::Borrowed(patch)
    };
    if !patch.is_empty() && !patch.ends_with('\n') {
        patch.to_mut().push('\n');
    }
    patch
}

/// The parser's message, which may quote the patch, on one line and shortened.
fn malformed(message: &str) -> PatchError {
    let mut line = String::new();
    for letter in message.chars().take(200) {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    PatchError::Malformed(line)
}

/// A plain diff, taken apart where a file's part begins. The parser would take a `---` that follows a
/// line without its newline for one more deleted line of the hunk before it.
fn plain_parts(patch: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = patch;
    // Lines of the hunk that are to come, of the old file and of the new one.
    let (mut old, mut new): (usize, usize) = (0, 0);
    let mut length: usize = 0;
    let mut begun = false;
    for line in patch.split_inclusive('\n') {
        if old > 0 || new > 0 {
            match line.as_bytes().first() {
                Some(b'-') => old = old.saturating_sub(1),
                Some(b'+') => new = new.saturating_sub(1),
                Some(b'\\') => {}
                _ => (old, new) = (old.saturating_sub(1), new.saturating_sub(1)),
            }
        } else if let Some(counts) = hunk_counts(line) {
            (old, new) = counts;
        } else if line.starts_with("--- ") {
            if let (true, Some((part, following))) = (begun, rest.split_at_checked(length)) {
                parts.push(part);
                rest = following;
                length = 0;
            }
            begun = true;
        }
        length = length.saturating_add(line.len());
    }
    parts.push(rest);
    parts
}

/// The counts of a hunk's header: `@@ -1,3 +1 @@` has 3 and 1.
fn hunk_counts(line: &str) -> Option<(usize, usize)> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let count = |range: &str| match range.split_once(',') {
        Some((_, count)) => count.parse().ok(),
        None => Some(1),
    };
    Some((count(old)?, count(new)?))
}

/// Refuses lines after a hunk that its header does not count: the parser would ignore them as a
/// comment. `hunks` are the lengths of the hunks that it found, in order.
fn check_nothing_left_over(patch: &str, hunks: Vec<usize>) -> Result<(), PatchError> {
    let mut hunks = hunks.into_iter();
    let mut inside: usize = 0;
    let mut after_hunk = false;
    for (number, line) in patch.split_inclusive('\n').enumerate() {
        if inside > 0 {
            if !line.starts_with('\\') {
                inside -= 1;
            }
        } else if line.starts_with("@@ ") {
            after_hunk = true;
            inside = hunks.next().ok_or_else(|| left_over(number))?;
        } else if line.starts_with("diff --git ") || line.starts_with("--- ") {
            after_hunk = false;
        } else if after_hunk && line.starts_with(['+', '-', ' ']) && line.trim_end() != "--" {
            return Err(left_over(number));
        }
    }
    Ok(())
}

fn left_over(index: usize) -> PatchError {
    PatchError::Malformed(format!(
        "line {} stands outside every hunk: the counts in the hunk header before it are wrong",
        index.saturating_add(1)
    ))
}
