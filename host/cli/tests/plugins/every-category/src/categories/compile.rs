//! `compile`: a project that builds and one that does not.

use qchost_sdk::compile::State;
use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found};
use crate::setup;

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let project = checks.answer(
        "create-compile",
        "has a project",
        setup::project("compile"),
        |_| true,
    )?;
    let job = checks.answer(
        "create-compile",
        "begins a job",
        compile::create_compile(project),
        |it| !it.compile_id.is_empty() && it.project_id.is_none_or(|id| id == project),
    )?;
    checks.answer(
        "create-compile",
        "finds the parameters",
        Ok::<_, Error>(job.parameters),
        |it| {
            it.iter()
                .any(|it| it.file.as_deref() == Some("main.py") && !it.parameters.is_empty())
        },
    )?;
    checks.answer(
        "read-compile",
        "ends in success",
        setup::compiled(project),
        |it| it.state == State::BuildSuccess && !it.logs.is_empty(),
    )?;
    checks.refusal(
        "read-compile",
        "does not know a job",
        compile::read_compile(project, "none"),
        not_found,
    );
    checks.refusal(
        "create-compile",
        "does not know a project",
        compile::create_compile(1),
        not_found,
    );

    let broken = files::update_file_contents(project, "main.py", "def broken(:\n    pass\n", None);
    checks.answer("read-compile", "has a broken source", broken, |_| true)?;
    checks.answer(
        "read-compile",
        "ends in an error that names the file",
        setup::compiled(project),
        |it| it.state == State::BuildError && it.logs.iter().any(|it| it.contains("main.py")),
    )?;
    Some(())
}
