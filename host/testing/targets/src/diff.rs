//! The unified diffs of `patch_file`: how they are applied (`qchost_emulator::patch::apply`), and which files
//! they are decided about (`qchost_scope`).
//!
//! A diff, applied to the files that it was made from, gives the files that it was made to, as does
//! one whose newlines were changed on the way. Any other text is refused in one line, or changes
//! files by as many lines as it says, and only files that it names. Whatever changes, the gate decides about
//! each file of it, or refuses the patch.
//!
//! The first byte says what the rest is: what two versions of files are made of, or files and a
//! patch, with 0xFF between them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arbitrary::{Result, Unstructured};
use qchost_emulator::patch::{Changes, apply};
use qchost_scope::fuzzing::patched_files;
use similar::{Algorithm, TextDiff};

type Files = BTreeMap<String, String>;

/// The longest refusal. It names a file, which a patch may call by any name.
const ERROR: usize = 4 << 16;

pub(crate) fn run(data: &[u8]) {
    let Some((form, rest)) = data.split_first() else {
        return;
    };
    match form % 2 {
        // Too few bytes are no input.
        0 => drop(made(&mut Unstructured::new(rest))),
        _ => given(rest),
    }
}

/// Makes two versions of a project and the diff between them.
fn made(bytes: &mut Unstructured<'_>) -> Result<()> {
    let (mut before, mut after, mut patch) = (Files::new(), Files::new(), String::new());
    let git: bool = bytes.arbitrary()?;
    let mut parts = 0;
    for number in 0..bytes.int_in_range(1..=3)? {
        let name = format!("lib/file {number}.py");
        let newline = if bytes.ratio(1, 4)? { "\r\n" } else { "\n" };
        let old = lines(bytes)?;
        let new = edited(&old, bytes)?;
        // A patch cannot tell a file of no lines from none.
        let (old, new) = (joined(&old, newline, bytes)?, joined(&new, newline, bytes)?);
        if old.is_empty() && new.is_empty() {
            continue;
        }
        let radius = bytes.int_in_range(0..=4)?;
        part(&mut patch, &name, &old, &new, radius, git);
        parts += usize::from(old != new);
        for (files, text) in [(&mut before, old), (&mut after, new)] {
            if !text.is_empty() {
                files.insert(name.clone(), text);
            }
        }
    }
    // Where nothing differs, there is no diff.
    if before != after {
        expect(&before, &patch, &after);
        let short = patch.strip_suffix('\n').unwrap_or(&patch);
        expect(&before, short, &after);
        let headers = patch
            .lines()
            .filter(|line| line.starts_with("--- ") || line.starts_with("+++ "));
        // A patch with lines that look like headers may be refused, and no other.
        if headers.count() == 2 * parts {
            patched_files(&patch).unwrap_or_else(|error| panic!("{error}\n{patch:?}"));
        }
        if !patch.contains('\r') {
            expect(&before, &patch.replace('\n', "\r\n"), &after);
        }
    }
    Ok(())
}

/// The diff of one file, as git writes it or as plain `diff -u` does.
fn part(patch: &mut String, name: &str, old: &str, new: &str, radius: usize, git: bool) {
    if old == new {
        return;
    }
    let (from, to) = (format!("a/{name}"), format!("b/{name}"));
    let from = if old.is_empty() { "/dev/null" } else { &from };
    let to = if new.is_empty() { "/dev/null" } else { &to };
    if git {
        let mode = match (old, new) {
            ("", _) => "new file mode 100644\n",
            (_, "") => "deleted file mode 100644\n",
            _ => "",
        };
        write!(patch, "diff --git a/{name} b/{name}\n{mode}").expect("a text takes all");
    }
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Myers)
        .diff_lines(old, new);
    let mut diff = diff.unified_diff();
    diff.context_radius(radius).header(from, to);
    write!(patch, "{diff}").expect("a text takes all");
}

fn expect(before: &Files, patch: &str, after: &Files) {
    let changes =
        apply(before, patch).unwrap_or_else(|error| panic!("{error}\n{patch:?}\n{before:?}"));
    assert_decided(patch, &changes);
    assert_eq!(&applied(before, changes), after, "{patch:?}\n{before:?}");
}

/// Fails where a file changes that would not have been decided about.
fn assert_decided(patch: &str, changes: &Changes) {
    match patched_files(patch) {
        Ok(files) => {
            for name in changes.written.keys().chain(&changes.deleted) {
                assert!(
                    files.contains(name),
                    "{name:?} hides in {patch:?}: {files:?}"
                );
            }
        }
        // It is not sent.
        Err(refused) => crate::assert_line(&refused.to_string(), ERROR),
    }
}

fn applied(files: &Files, changes: Changes) -> Files {
    let mut files = files.clone();
    for name in &changes.deleted {
        assert!(files.remove(name).is_some(), "{name} was not there");
    }
    for name in changes.written.keys() {
        let inside = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        assert!(inside, "{name:?} is outside of the project");
    }
    files.extend(changes.written);
    files
}

/// Lines of few different texts, so that hunks fit in more than one place.
fn lines(bytes: &mut Unstructured<'_>) -> Result<Vec<String>> {
    let length = bytes.int_in_range(0..=40)?;
    (0..length).map(|_| line(bytes)).collect()
}

fn line(bytes: &mut Unstructured<'_>) -> Result<String> {
    const LINES: [&str; 14] = [
        "",
        " ",
        "x",
        "y",
        "    return 1",
        "-- a",
        "++ b",
        "- ",
        "+++ b/x",
        "--- a/x",
        "@@ -1 +1 @@",
        "\\ No newline",
        "diff --git a/x b/x",
        "-- ",
    ];
    Ok((*bytes.choose(&LINES)?).to_owned())
}

fn edited(old: &[String], bytes: &mut Unstructured<'_>) -> Result<Vec<String>> {
    if bytes.ratio(1, 16)? {
        return lines(bytes);
    }
    let mut new = old.to_vec();
    for _ in 0..bytes.int_in_range(0..=5)? {
        let at = bytes.int_in_range(0..=new.len())?;
        match bytes.int_in_range(0..=2)? {
            0 => new.insert(at, line(bytes)?),
            1 if at < new.len() => drop(new.remove(at)),
            _ if at < new.len() => new[at] = line(bytes)?,
            _ => {}
        }
    }
    Ok(new)
}

fn joined(lines: &[String], newline: &str, bytes: &mut Unstructured<'_>) -> Result<String> {
    let mut text: String = lines
        .iter()
        .map(|line| format!("{line}{newline}"))
        .collect();
    if bytes.ratio(1, 4)? {
        text.truncate(text.len().saturating_sub(newline.len()));
    }
    Ok(text)
}

/// Files `main.py` and `lib/x.py`, and a patch that may be anything.
fn given(data: &[u8]) {
    let mut texts = data
        .splitn(3, |byte| *byte == 0xff)
        .map(|text| String::from_utf8_lossy(text).into_owned());
    let patch = texts.next().unwrap_or_default();
    let files: Files = ["main.py", "lib/x.py"]
        .map(str::to_owned)
        .into_iter()
        .zip(texts)
        .collect();
    match apply(&files, &patch) {
        Ok(changes) => {
            let read = unescaped(&patch);
            for name in changes.written.keys().chain(&changes.deleted) {
                let named = patch.contains(name.as_str()) || read.contains(name.as_str());
                assert!(named, "{name:?} was not named");
            }
            assert_decided(&patch, &changes);
            let moves = ["rename ", "copy "].iter().any(|word| patch.contains(word));
            let after = applied(&files, changes);
            if !moves && patch.contains("\n@@ ") && !patch.contains('\r') {
                assert_eq!(
                    grown(&files, &after),
                    said(&patch),
                    "{patch:?}\n{files:?}\n{after:?}"
                );
            }
        }
        Err(error) => crate::assert_line(&error.to_string(), ERROR),
    }
}

/// A patch as it reads where git has put names in quotes: `\303\244` is `ä`.
fn unescaped(patch: &str) -> String {
    let (mut read, mut rest) = (Vec::new(), patch.as_bytes());
    while let [first, after @ ..] = rest {
        let (byte, left) = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', left @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), left)
            }
            (b'\\', [b'a', left @ ..]) => (7, left),
            (b'\\', [b'b', left @ ..]) => (8, left),
            (b'\\', [b't', left @ ..]) => (b'\t', left),
            (b'\\', [b'n', left @ ..]) => (b'\n', left),
            (b'\\', [b'v', left @ ..]) => (11, left),
            (b'\\', [b'f', left @ ..]) => (12, left),
            (b'\\', [b'r', left @ ..]) => (b'\r', left),
            (b'\\', [quoted @ (b'"' | b'\\'), left @ ..]) => (*quoted, left),
            (byte, left) => (*byte, left),
        };
        read.push(byte);
        rest = left;
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// By how many lines the files grew.
fn grown(before: &Files, after: &Files) -> i64 {
    let lines = |files: &Files| -> i64 {
        let lines: usize = files.values().map(|text| text.lines().count()).sum();
        i64::try_from(lines).expect("an input is small")
    };
    lines(after) - lines(before)
}

/// By how many lines the hunks of a patch, by their headers' counts, make files grow.
fn said(patch: &str) -> i64 {
    let (mut left, mut right, mut grown) = (0, 0, 0);
    for line in patch.lines() {
        if left <= 0 && right <= 0 {
            if let Some((old, new)) = counts(line) {
                (left, right) = (old, new);
            }
            continue;
        }
        match line.as_bytes().first() {
            Some(b'+') => {
                right -= 1;
                grown += 1;
            }
            Some(b'-') => {
                left -= 1;
                grown -= 1;
            }
            Some(b'\\') => {}
            _ => {
                left -= 1;
                right -= 1;
            }
        }
    }
    grown
}

/// The counts of a hunk's header: `@@ -1,3 +1 @@` has 3 and 1.
fn counts(line: &str) -> Option<(i64, i64)> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let count = |range: &str| match range.split_once(',') {
        Some((_, count)) => count.parse().ok(),
        None => Some(1),
    };
    Some((count(old)?, count(new)?))
}

/// What patches are made of.
pub(crate) fn words() -> Vec<String> {
    [
        "--- a/main.py\n+++ b/main.py\n",
        "--- a/lib/x.py\n+++ b/lib/x.py\n",
        "@@ -1,3 +1,3 @@\n",
        "@@ -1 +1 @@\n",
        "@@ -0,0 +1,2 @@\n",
        "@@ -1,2 +0,0 @@\n",
        "\n+",
        "\n-",
        "\n ",
        "\\ No newline at end of file\n",
        "diff --git a/main.py b/main.py\n",
        "/dev/null",
        "new file mode 100644\n",
        "deleted file mode 100644\n",
        "rename from main.py\nrename to y.py\n",
        "copy from main.py\ncopy to y.py\n",
        "similarity index 100%\n",
        "index 0000000..1111111 100644\n",
        "GIT binary patch\n",
        "Binary files a/main.py and b/main.py differ\n",
        "old mode 100644\nnew mode 120000\n",
        "../",
        "\"a/\\303\\244\"",
        "-- \n2.40.0\n",
        "\r\n",
        "\r",
        "\u{2028}",
        "\t2024-01-01 00:00:00",
        "--- main.py\n+++ main.py\n",
        "+++ b/y.py\n",
        "Index: y.py\n",
        "18446744073709551615",
    ]
    .map(str::to_owned)
    .to_vec()
}
