//! `projects`: created, read in four ways, changed, deleted. `libraries` of a project.

use qchost_sdk::prelude::*;
use qchost_sdk::types::{Language, ProjectId, SourceFile};

use crate::checks::{Checks, not_found, unfit};
use crate::setup;

/// Settings and files of a project.
fn configure(checks: &mut Checks, id: ProjectId) -> Option<()> {
    let configuration = |project_id| projects::ProjectConfiguration {
        project_id,
        parameters: Some(vec![("fast".to_owned(), "5".to_owned())]),
        version_id: Some(-1),
        lean_environment: Some(1),
        code_source_id: None,
    };
    let configured = projects::configure_project(&configuration(id));
    checks.answer("configure-project", "succeeds", configured, |()| true)?;
    checks.answer(
        "configure-project",
        "shows in a read",
        projects::read_project(Some(id), None, None),
        |it| {
            it.iter().any(|it| {
                it.parameters == [("fast".to_owned(), "5".to_owned())]
                    && it.lean_environment == Some(1)
            })
        },
    )?;
    checks.refusal(
        "configure-project",
        "does not know a project",
        projects::configure_project(&configuration(1)),
        not_found,
    );

    let file = |name: &str| SourceFile {
        name: name.to_owned(),
        content: "a = 1\n".to_owned(),
    };
    let replace = |files: &[SourceFile]| projects::replace_project_files(id, files, None);
    let replaced = replace(&[file("main.py"), file("lib/a.py")]);
    checks.answer("replace-project-files", "succeeds", replaced, |()| true)?;
    checks.answer(
        "replace-project-files",
        "leaves no other file",
        files::read_file(id, None, None),
        |it| it.len() == 2 && it.iter().all(|it| it.content.as_deref() == Some("a = 1\n")),
    )?;
    checks.refusal(
        "replace-project-files",
        "refuses a name that is there twice",
        replace(&[file("main.py"), file("main.py")]),
        unfit,
    );
    Some(())
}

/// `libraries`: one is added to a project, and taken away.
pub(crate) fn libraries(checks: &mut Checks) -> Option<()> {
    let id = checks.answer(
        "add-library",
        "has a project",
        setup::project("imports"),
        |_| true,
    )?;
    let library = checks.answer(
        "add-library",
        "has a library",
        setup::project("library"),
        |_| true,
    )?;
    let has = || -> Result<bool, Error> {
        let read = projects::read_project(Some(id), None, None)?;
        let mut libraries = read.iter().flat_map(|it| &it.libraries);
        Ok(libraries.any(|it| it.project_id == library))
    };
    let added = libraries::add_library(id, library);
    checks.answer("add-library", "succeeds", added, |()| true)?;
    checks.answer("add-library", "shows in a read", has(), |it| *it)?;
    checks.refusal(
        "add-library",
        "does not know a library",
        libraries::add_library(id, 1),
        not_found,
    );
    let remove = || libraries::remove_library(id, library);
    checks.answer("remove-library", "succeeds", remove(), |()| true)?;
    checks.answer("remove-library", "shows in a read", has(), |it| !*it)?;
    checks.refusal(
        "remove-library",
        "leaves nothing to remove",
        remove(),
        not_found,
    );
    Some(())
}

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

    let found = projects::find_projects(
        project.organization_id.as_deref(),
        Some(&name.to_uppercase()),
        Some(0),
        Some(2),
    );
    checks.answer("find-projects", "finds it by its name", found, |it| {
        matches!(it.projects.as_slice(), [only] if only.project_id == id) && !it.more
    })?;
    let empty = projects::find_projects(None, None, Some(3), Some(3));
    checks.refusal("find-projects", "refuses an empty range", empty, unfit);
    configure(checks, id)?;

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
