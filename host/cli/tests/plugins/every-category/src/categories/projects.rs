//! `projects`: created, read in three ways, changed, deleted.

use qchost_sdk::prelude::*;
use qchost_sdk::types::Language;

use crate::checks::{Checks, not_found, unfit};

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let created = projects::create_project("Every/projects", &Language::Python, None);
    let project = checks.answer(
        "create-project",
        "has its name and language",
        created,
        |it| it.name.starts_with("Every/projects") && it.language == Some(Language::Python),
    )?;
    let id = project.project_id;
    let refused = projects::create_project("", &Language::Python, None);
    checks.refusal("create-project", "refuses an empty name", refused, unfit);
    let refused =
        projects::create_project("Every/unknown", &Language::Other("Fortran".into()), None);
    checks.refusal(
        "create-project",
        "refuses a language that there is not",
        refused,
        unfit,
    );

    checks.answer("read-project", "gives one by its id", projects::read_project(Some(id), None, None), |it| {
        matches!(it.as_slice(), [only] if only.project_id == id && only.organization_id == project.organization_id)
    })?;
    checks.answer(
        "read-project",
        "gives a slice",
        projects::read_project(None, Some(0), Some(1)),
        |it| it.len() == 1,
    )?;
    checks.refusal(
        "read-project",
        "does not know an id",
        projects::read_project(Some(1), None, None),
        not_found,
    );
    checks.answer(
        "list-projects",
        "contains it",
        projects::list_projects(),
        |it| it.iter().any(|it| it.project_id == id),
    )?;

    let name = format!("Every/renamed-{id}");
    let updated = projects::update_project(id, Some(&name), Some("A description"));
    checks.answer("update-project", "succeeds", updated, |()| true)?;
    checks.answer(
        "update-project",
        "shows in a read",
        projects::read_project(Some(id), None, None),
        |it| {
            it.iter()
                .any(|it| it.name == name && it.description.as_deref() == Some("A description"))
        },
    )?;

    checks.answer(
        "delete-project",
        "succeeds",
        projects::delete_project(id),
        |()| true,
    )?;
    checks.refusal(
        "delete-project",
        "leaves nothing to delete",
        projects::delete_project(id),
        not_found,
    );
    Some(())
}
