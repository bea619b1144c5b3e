//! `/projects/collaboration/…`: who else works on a project, and the lock for editing it.
//!
//! The emulator has one user and knows no others: every user id that is added as a collaborator
//! counts as an existing user. Acquiring the lock takes it from the code source that held it, since
//! all code sources belong to the same user.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::{Answer, Refusal, Reply, refuse};
use super::arguments::{Arguments, at_most};
use super::cloud::Cloud;
use super::organizations::USER_NAME;
use crate::store::project::{Collaborator, Project};
use crate::store::{State, limits};

pub(crate) fn create(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.project_mut(arguments)?;
    let id = user_id(arguments, "collaboratorUserId")?;
    let collaborator = Collaborator {
        id: id.to_owned(),
        live_control: arguments.flag("collaborationLiveControl")?,
        write: arguments.flag("collaborationWrite")?,
    };
    if project.collaborators.iter().any(|known| known.id == id) {
        refuse!("'{id}' is a collaborator already");
    }
    if project.collaborators.len() >= limits::COLLABORATORS {
        refuse!("A project has at most 50 collaborators");
    }
    project.collaborators.push(collaborator);
    Reply::success(json!({"collaborators": all_json(cloud, project)}))
}

pub(crate) fn read(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.project(arguments)?;
    Reply::success(json!({
        "collaborators": all_json(cloud, project),
        "userLiveControl": true,
        "userPermissions": "write",
    }))
}

pub(crate) fn update(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.project_mut(arguments)?;
    let id = user_id(arguments, "collaboratorUserId")?;
    let live_control = arguments.flag("liveControl")?;
    let write = arguments.flag("write")?;
    let mut collaborators = project.collaborators.iter_mut();
    let collaborator = collaborators.find(|collaborator| collaborator.id == id);
    let collaborator = collaborator.ok_or_else(|| Refusal::not_found("Collaborator", id))?;
    collaborator.live_control = live_control;
    collaborator.write = write;
    Reply::success(json!({"collaborators": all_json(cloud, project)}))
}

pub(crate) fn delete(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.project_mut(arguments)?;
    let id = user_id(arguments, "collaboratorId")?;
    let before = project.collaborators.len();
    project.collaborators.retain(|known| known.id != id);
    if project.collaborators.len() == before {
        return Err(Refusal::not_found("Collaborator", id));
    }
    Reply::success(json!({"collaborators": all_json(cloud, project)}))
}

pub(crate) fn lock(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.project_mut(arguments)?;
    let source = arguments.text("codeSourceId")?;
    let source = at_most(limits::NAME_LENGTH, "codeSourceId", source)?;
    project.lock = Some(source.to_owned());
    Reply::done()
}

/// The owner first, then the others in the order in which they were added.
pub(super) fn all_json(cloud: &Cloud, project: &Project) -> Vec<Value> {
    let owner = Collaborator {
        id: cloud.settings.credentials.user_id.to_string(),
        live_control: true,
        write: true,
    };
    let others = project.collaborators.iter();
    std::iter::once(user_json(&owner, true))
        .chain(others.map(|other| user_json(other, false)))
        .collect()
}

fn user_json(user: &Collaborator, owner: bool) -> Value {
    json!({
        "uid": numeric_id(&user.id),
        "publicId": user.id,
        "liveControl": user.live_control,
        "permission": if user.write { "write" } else { "read" },
        "profileImage": "",
        "email": "",
        "name": if owner { USER_NAME } else { &user.id },
        "bio": "",
        "owner": owner,
    })
}

/// The public user id in a field.
fn user_id<'a>(arguments: &'a Arguments, field: &str) -> Result<&'a str, Refusal> {
    let id = arguments.filled_text(field)?;
    let plain = id
        .chars()
        .all(|character| character.is_ascii_alphanumeric() || "-_".contains(character));
    if plain && id.len() <= 64 {
        Ok(id)
    } else {
        Err(Refusal::not_found("User", id))
    }
}

/// The numeric id that goes with a public one.
fn numeric_id(id: &str) -> u64 {
    id.parse().unwrap_or_else(|_| {
        let digest = Sha256::digest(id);
        u32::from_be_bytes(digest.first_chunk().copied().unwrap_or_default()).into()
    })
}
