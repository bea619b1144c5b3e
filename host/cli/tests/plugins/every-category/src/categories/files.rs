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
