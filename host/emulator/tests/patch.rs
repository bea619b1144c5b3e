//! Patches as agents send them: applied whole or refused whole, with the file and the hunk named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use qchost_emulator::patch::{PatchError, apply};

fn project(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files
        .iter()
        .map(|(name, content)| ((*name).to_owned(), (*content).to_owned()))
        .collect()
}

#[test]
fn several_files_are_created_changed_and_deleted_at_once() {
    let files = project(&[
        ("main.py", "import a\nfast = 10\nslow = 50\n"),
        ("old.py", "x = 1\n"),
        ("other.py", "untouched\n"),
    ]);
    let changes = apply(
        &files,
        "diff --git a/main.py b/main.py\nindex 1111111..2222222 100644\n--- a/main.py\n+++ b/main.py\n\
         @@ -1,3 +1,3 @@\n import a\n-fast = 10\n+fast = 20\n slow = 50\n\
         diff --git a/lib/new.py b/lib/new.py\nnew file mode 100644\nindex 0000000..3333333\n\
         --- /dev/null\n+++ b/lib/new.py\n@@ -0,0 +1,2 @@\n+y = 2\n+z = 3\n\
         diff --git a/old.py b/old.py\ndeleted file mode 100644\nindex 4444444..0000000\n\
         --- a/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x = 1\n",
    )
    .unwrap();
    assert_eq!(
        changes.written,
        project(&[
            ("lib/new.py", "y = 2\nz = 3\n"),
            ("main.py", "import a\nfast = 20\nslow = 50\n"),
        ])
    );
    assert_eq!(changes.deleted.into_iter().collect::<Vec<_>>(), ["old.py"]);
}

#[test]
fn a_plain_diff_without_git_headers_or_prefixes_is_applied() {
    let files = project(&[("main.py", "a\nb\n")]);
    let changes = apply(
        &files,
        "--- main.py\n+++ main.py\n@@ -1,2 +1,2 @@\n a\n-b\n+c",
    )
    .unwrap();
    assert_eq!(changes.written["main.py"], "a\nc\n");
}

#[test]
fn a_plain_diff_goes_on_after_a_file_without_a_last_newline() {
    let files = project(&[("a.py", "a"), ("b.py", "-- b\n")]);
    let changes = apply(
        &files,
        "--- a.py\n+++ a.py\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n\
         --- b.py\n+++ b.py\n@@ -1 +1 @@\n--- b\n+++ c\n",
    )
    .unwrap();
    assert_eq!(
        changes.written,
        project(&[("a.py", "b"), ("b.py", "++ c\n")])
    );
}

#[test]
fn a_hunk_without_context_is_applied_where_it_says() {
    let files = project(&[("a.py", "x\ny\nx\n")]);
    let changes = apply(
        &files,
        "--- a.py\n+++ a.py\n@@ -0,0 +1,2 @@\n+\n+\n@@ -3 +4,0 @@\n-x\n",
    )
    .unwrap();
    assert_eq!(changes.written["a.py"], "\n\nx\ny\n");
}

#[test]
fn a_missing_newline_at_the_end_is_kept_and_changed() {
    let files = project(&[("main.py", "a\nb")]);
    let marker = "\\ No newline at end of file\n";
    let kept = format!("--- a/main.py\n+++ b/main.py\n@@ -1,2 +1,2 @@\n-a\n+A\n b\n{marker}");
    assert_eq!(apply(&files, &kept).unwrap().written["main.py"], "A\nb");
    let added = format!("--- a/main.py\n+++ b/main.py\n@@ -1,2 +1,2 @@\n a\n-b\n{marker}+b\n");
    assert_eq!(apply(&files, &added).unwrap().written["main.py"], "a\nb\n");
}

#[test]
fn carriage_returns_survive_in_every_way_of_writing_the_patch() {
    let files = project(&[("main.py", "a\r\nb\r\nc\r\n")]);
    let body = "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n";
    let headers = "--- a/main.py\n+++ b/main.py\n";
    let as_git_writes_it = format!(
        "{headers}{}",
        body.replace('\n', "\r\n").replacen("@@\r\n", "@@\n", 1)
    );
    for patch in [
        as_git_writes_it,
        format!("{headers}{body}"),
        format!("{headers}{body}").replace('\n', "\r\n"),
    ] {
        let changes = apply(&files, &patch).unwrap();
        assert_eq!(changes.written["main.py"], "a\r\nB\r\nc\r\n", "{patch:?}");
    }
}

#[test]
fn a_rename_moves_the_file_and_applies_its_hunks() {
    let files = project(&[("old.py", "a\nb\n")]);
    let patch = "diff --git a/old.py b/new.py\nsimilarity index 50%\nrename from old.py\n\
                 rename to new.py\n--- a/old.py\n+++ b/new.py\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n";
    let changes = apply(&files, patch).unwrap();
    assert_eq!(changes.written, project(&[("new.py", "a\nc\n")]));
    assert!(changes.deleted.contains("old.py"));
}

#[test]
fn a_hunk_that_moved_is_found_and_one_that_differs_is_refused_by_number() {
    let files = project(&[("main.py", "0\n0\n0\na\nb\nc\nx\ny\nz\n")]);
    let moved = "--- a/main.py\n+++ b/main.py\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n";
    assert_eq!(
        apply(&files, moved).unwrap().written["main.py"],
        "0\n0\n0\na\nB\nc\nx\ny\nz\n"
    );
    let second_differs = format!("{moved}@@ -4,3 +4,3 @@\n x\n-Y\n+yy\n z\n");
    let error = apply(&files, &second_differs).unwrap_err();
    assert_eq!(
        error,
        PatchError::DoesNotFit {
            file: "main.py".into(),
            hunk: 2,
            header: "@@ -4,3 +4,3 @@".into()
        }
    );
    assert!(error.to_string().starts_with("main.py: hunk 2"));
}

#[test]
fn what_does_not_fit_the_project_is_refused() {
    let files = project(&[("main.py", "a\n"), ("b.py", "b\nc\n")]);
    let change = |name: &str| format!("--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-a\n+b\n");
    let refused = |patch: &str| apply(&files, patch).unwrap_err();
    assert_eq!(
        refused(&change("none.py")),
        PatchError::MissingFile("none.py".into())
    );
    assert_eq!(
        refused("--- /dev/null\n+++ b/main.py\n@@ -0,0 +1 @@\n+b\n"),
        PatchError::FileExists("main.py".into())
    );
    assert_eq!(
        refused("--- a/b.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n"),
        PatchError::DeletesOther("b.py".into())
    );
    assert_eq!(
        refused(&change("main.py").repeat(2)),
        PatchError::NamedTwice("main.py".into())
    );
    assert_eq!(
        refused("--- /dev/null\n+++ b/../x.py\n@@ -0,0 +1 @@\n+b\n"),
        PatchError::BadName("../x.py".into())
    );
    assert_eq!(
        refused("--- a/main.py\n+++ b/main.py\n"),
        PatchError::NoHunks("main.py".into())
    );
    let link =
        "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+x\n";
    assert!(matches!(refused(link), PatchError::Unsupported { .. }));
    let binary =
        "diff --git a/i b/i\nnew file mode 100644\nBinary files /dev/null and b/i differ\n";
    assert!(matches!(refused(binary), PatchError::Unsupported { .. }));
}

#[test]
fn a_malformed_patch_is_refused_and_loses_no_line_in_silence() {
    let files = project(&[("main.py", "a\nb\nc\n")]);
    let header = "--- a/main.py\n+++ b/main.py\n";
    for patch in [
        String::new(),
        "please change a to b".to_owned(),
        format!("{header}@@ nonsense @@\n-a\n+b\n"),
        format!("{header}@@ -1,3 +1,3 @@\n a\n-b\n"),
        // The header counts one line; two follow.
        format!("{header}@@ -1 +1 @@\n-a\n+A\n-b\n+B\n"),
        format!("{header}@@ -1 +1 @@\n-a\n+A\njunk\n@@ -3 +3 @@\n-c\n+C\n"),
    ] {
        let error = apply(&files, &patch).unwrap_err();
        assert!(
            matches!(error, PatchError::Malformed(_)),
            "{patch:?}: {error}"
        );
    }
}

#[test]
fn a_hunk_that_ends_a_file_is_not_put_into_its_middle() {
    let ends = "--- a/main.py\n+++ b/main.py\n@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n";
    let moved = project(&[("main.py", "0\na\n")]);
    assert_eq!(apply(&moved, ends).unwrap().written["main.py"], "0\nb");
    // `b` and `c` would become one line.
    let middle = project(&[("main.py", "0\na\nc\n")]);
    assert!(matches!(
        apply(&middle, ends),
        Err(PatchError::DoesNotFit { hunk: 1, .. })
    ));
}

#[test]
fn a_good_part_before_a_bad_one_is_not_applied() {
    let files = project(&[("a.py", "a\n"), ("b.py", "b\n")]);
    let patch = "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-a\n+A\n\
                 --- a/b.py\n+++ b/b.py\n@@ -1 +1 @@\n-no\n+B\n";
    assert!(matches!(
        apply(&files, patch),
        Err(PatchError::DoesNotFit { file, hunk: 1, .. }) if file == "b.py"
    ));
}

#[test]
fn a_patch_that_would_take_minutes_to_place_is_refused() {
    let files = project(&[("main.py", &"a\n".repeat(200_000))]);
    let hunk = "-a\n".repeat(100_000);
    let patch = format!("--- a/main.py\n+++ b/main.py\n@@ -1,100001 +0,0 @@\n{hunk}-b\n");
    assert_eq!(
        apply(&files, &patch),
        Err(PatchError::TooLarge("main.py".into()))
    );
}

/// A text of few distinct lines, so that context is ambiguous, with every kind of line ending.
fn text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just(""),
        Just("a"),
        Just("b"),
        Just("-- a"),
        Just("++ b"),
        Just("@@ -1 +1 @@"),
        Just(" "),
        Just("\\"),
        Just("é")
    ];
    let ending = prop_oneof![4 => Just("\n"), 1 => Just("\r\n")];
    (prop::collection::vec((line, ending), 0..30), any::<bool>()).prop_map(|(lines, cut)| {
        let mut text: String = lines.iter().flat_map(|(line, end)| [*line, *end]).collect();
        if cut && text.ends_with('\n') {
            text.pop();
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_difference_of_two_texts_turns_one_into_the_other(from in text(), to in text()) {
        prop_assume!(from != to);
        let patch = diffy::DiffOptions::new()
            .set_original_filename("a/main.py")
            .set_modified_filename("b/main.py")
            .create_patch(&from, &to)
            .to_string();
        let changes = apply(&project(&[("main.py", &from)]), &patch);
        prop_assert_eq!(&changes.unwrap().written["main.py"], &to, "{}", patch);
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(garbage in "\\PC{0,200}") {
        let files = project(&[("main.py", "a\nb\n")]);
        prop_assert!(apply(&files, &garbage).is_err());
    }

    #[test]
    fn a_damaged_patch_never_panics(
        pieces in prop::collection::vec(prop_oneof![
            Just("diff --git a/main.py b/main.py\n"), Just("--- a/main.py\n"), Just("+++ b/main.py\n"),
            Just("--- /dev/null\n"), Just("+++ /dev/null\n"), Just("@@ -1,2 +1,2 @@\n"),
            Just("@@ -1 +1 @@\n"), Just("@@ -0,0 +1 @@\n"), Just("@@ -99999999999999999999 +1 @@\n"),
            Just("@@ -18446744073709551615,0 +1 @@\n"), Just(" a\n"), Just("-a\n"), Just("+b\n"),
            Just("-b\n"), Just("\\ No newline at end of file\n"), Just("rename from main.py\n"),
            Just("rename to \"\\303\n"), Just("GIT binary patch\n"), Just("literal 9\n"), Just("\r\n"),
            Just("new file mode 100644\n"), Just("From x\n"), Just("é"),
        ], 0..14)
    ) {
        let files = project(&[("main.py", "a\nb\n")]);
        let _ = apply(&files, &pieces.concat());
    }
}
