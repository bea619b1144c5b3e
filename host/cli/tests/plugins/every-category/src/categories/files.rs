//! `files`: created, read, renamed, replaced, patched, deleted.

use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found, rejected};
use crate::setup;

const PATCH: &str = "--- a/lib/names.py\n+++ b/lib/names.py\n@@ -1,2 +1,2 @@\n FIRST = 1\n-SECOND = 2\n+SECOND = 3\n";

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let project = checks.answer(
        "create-file",
        "has a project",
        setup::project("files"),
        |_| true,
    )?;
    let content = |name: &str| {
        let files = files::read_file(project, Some(name), None)?;
        Ok::<_, Error>(
            files
                .into_iter()
                .next()
                .and_then(|it| it.content)
                .unwrap_or_default(),
        )
    };

    let create = || files::create_file(project, "lib/n.py", Some("FIRST = 1\nSECOND = 2\n"), None);
    checks.answer("create-file", "succeeds", create(), |()| true)?;
    checks.refusal("create-file", "refuses one that exists", create(), rejected);
    checks.answer(
        "read-file",
        "gives the content",
        content("lib/n.py"),
        |it| it == "FIRST = 1\nSECOND = 2\n",
    )?;
    checks.answer(
        "read-file",
        "gives all files",
        files::read_file(project, None, None),
        |it| {
            let has = |name: &str| it.iter().any(|it| it.name == name);
            has("main.py") && has("lib/n.py")
        },
    )?;
    checks.refusal(
        "read-file",
        "does not know a name",
        content("none.py"),
        not_found,
    );

    let renamed = files::update_file_name(project, "lib/n.py", "lib/names.py", None);
    checks.answer("update-file-name", "succeeds", renamed, |()| true)?;
    let gone = content("lib/n.py");
    checks.refusal(
        "update-file-name",
        "leaves nothing under the old name",
        gone,
        not_found,
    );
    let patched = files::patch_file(project, PATCH, None);
    checks.answer("patch-file", "succeeds", patched, |()| true)?;
    checks.answer(
        "patch-file",
        "shows in a read",
        content("lib/names.py"),
        |it| it.contains("SECOND = 3"),
    )?;
    let again = files::patch_file(project, PATCH, None);
    checks.refusal("patch-file", "does not fit a second time", again, rejected);

    let updated = files::update_file_contents(project, "lib/names.py", "THIRD = 3\n", None);
    checks.answer("update-file-contents", "gives the file", updated, |it| {
        it.iter().any(|it| it.name == "lib/names.py")
    })?;
    checks.answer(
        "update-file-contents",
        "shows in a read",
        content("lib/names.py"),
        |it| it == "THIRD = 3\n",
    )?;
    let missing = files::update_file_contents(project, "none.py", "x = 1\n", None);
    checks.refusal(
        "update-file-contents",
        "does not know a name",
        missing,
        not_found,
    );

    for (name, text) in [
        ("lib/names.py", "FOURTH = 4\n"),
        ("lib/more.py", "FIFTH = 5\n"),
    ] {
        let written = files::write_file(project, name, text, None);
        checks.answer("write-file", "succeeds", written, |()| true)?;
        checks.answer("write-file", "shows in a read", content(name), |it| {
            it == text
        })?;
    }
    let unknown = files::write_file(1, "lib/names.py", "x = 1\n", None);
    checks.refusal("write-file", "does not know a project", unknown, not_found);
    let edit = || files::edit_file(project, "lib/names.py", "FOURTH = 4", "FOURTH = 44");
    checks.answer("edit-file", "succeeds", edit(), |()| true)?;
    checks.answer(
        "edit-file",
        "shows in a read",
        content("lib/names.py"),
        |it| it == "FOURTH = 44\n",
    )?;
    let ambiguous = files::edit_file(project, "lib/names.py", "4", "5");
    checks.refusal(
        "edit-file",
        "refuses what occurs twice",
        ambiguous,
        rejected,
    );
    let found = files::search_file_content(project, "fifth");
    checks.answer("search-file-content", "finds a line", found, |it| {
        let [file] = it.files.as_slice() else {
            return false;
        };
        let line = file.matches.first();
        !it.more && file.name == "lib/more.py" && line.is_some_and(|it| it.line == 1)
    })?;
    let unknown = files::search_file_content(1, "fifth");
    checks.refusal(
        "search-file-content",
        "does not know a project",
        unknown,
        not_found,
    );

    let delete = || files::delete_file(project, "lib/names.py", None);
    checks.answer("delete-file", "succeeds", delete(), |()| true)?;
    checks.refusal(
        "delete-file",
        "leaves nothing to delete",
        delete(),
        not_found,
    );
    Some(())
}
