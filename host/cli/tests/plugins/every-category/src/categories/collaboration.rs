//! `collaboration`: a user is added, gets more rights, and is removed; the lock.

use qchost_sdk::collaboration::Permission;
use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found, rejected};
use crate::setup;

const PERSON: &str = "987654";

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let project = checks.answer(
        "create-project-collaborator",
        "has a project",
        setup::project("collaboration"),
        |_| true,
    )?;
    let may = |all: &[collaboration::Collaborator], permission: &Permission, live: bool| {
        all.iter().any(|it| {
            it.public_id.as_deref() == Some(PERSON)
                && it.permission.as_ref() == Some(permission)
                && it.live_control == Some(live)
                && it.owner == Some(false)
        })
    };
    let create = || collaboration::create_project_collaborator(project, PERSON, false, false);
    checks.answer(
        "create-project-collaborator",
        "gives read alone",
        create(),
        |it| may(it, &Permission::Read, false),
    )?;
    checks.refusal(
        "create-project-collaborator",
        "refuses a second time",
        create(),
        rejected,
    );
    let updated = collaboration::update_project_collaborator(project, PERSON, true, true);
    checks.answer("update-project-collaborator", "gives more", updated, |it| {
        may(it, &Permission::Write, true)
    })?;
    let unknown = collaboration::update_project_collaborator(project, "111", true, true);
    checks.refusal(
        "update-project-collaborator",
        "does not know a person",
        unknown,
        not_found,
    );

    let team = collaboration::read_project_collaborators(project);
    checks.answer(
        "read-project-collaborators",
        "shows them and the owner",
        team,
        |it| {
            may(&it.collaborators, &Permission::Write, true)
                && it.collaborators.iter().any(|it| it.owner == Some(true))
                && it.user_permissions == Some(Permission::Write)
                && it.user_live_control == Some(true)
        },
    )?;

    let delete = || collaboration::delete_project_collaborator(project, PERSON);
    checks.answer(
        "delete-project-collaborator",
        "leaves the owner",
        delete(),
        |it| it.iter().all(|it| it.owner == Some(true)),
    )?;
    checks.refusal(
        "delete-project-collaborator",
        "leaves nothing to delete",
        delete(),
        not_found,
    );

    let locked = collaboration::lock_project_with_collaborators(project, "every-category");
    checks.answer(
        "lock-project-with-collaborators",
        "succeeds",
        locked,
        |()| true,
    )?;
    let stranger = files::create_file(project, "a.py", Some("A = 1\n"), Some("another"));
    checks.refusal(
        "lock-project-with-collaborators",
        "keeps others out",
        stranger,
        rejected,
    );
    let holder = files::create_file(project, "a.py", Some("A = 1\n"), Some("every-category"));
    checks.answer(
        "lock-project-with-collaborators",
        "lets its holder in",
        holder,
        |()| true,
    )?;
    Some(())
}
