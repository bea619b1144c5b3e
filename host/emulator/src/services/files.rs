//! `/files/…`: the files of a project.
//!
//! As in the cloud, a file that exists is not created again, one that does not exist is not
//! updated, and a content that is given must not be empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use qchost_text::excerpt;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal, Reply, refuse};
use super::arguments::{Arguments, check_content, check_path};
use super::cloud::Cloud;
use crate::store::project::{File, Project};
use crate::store::{State, limits, patch};
use crate::text::instant_text;

pub(crate) fn create(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let number = state.next_number();
    let project = state.unlocked_project(arguments)?;
    let name = arguments.path("name")?;
    let content = arguments
        .optional("content", content_of)?
        .unwrap_or_default();
    check_free(project, name)?;
    check_room(project, 1)?;
    project.put(name, content, number);
    one_file(project, name)
}

pub(crate) fn read(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.project(arguments)?;
    if let Some(name) = arguments.optional("name", Arguments::text)? {
        return one_file(project, name);
    }
    let files = project.files.iter();
    let files: Vec<Value> = files
        .map(|(name, file)| stored_json(project, name, file))
        .collect();
    Reply::success(json!({"files": files}))
}

/// Renames (`newName`), replaces the content (`content`), or both.
pub(crate) fn update(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.unlocked_project(arguments)?;
    let mut name = arguments.text("name")?;
    let found = project.files.get(name);
    let file = found
        .ok_or_else(|| Refusal::not_found("File", name))?
        .clone();
    let content = arguments.optional("content", content_of)?;
    let renamed = arguments.optional("newName", Arguments::path)?;
    if content.is_none() && renamed.is_none() {
        refuse!("Missing required field: content or newName");
    }
    if let Some(new_name) = renamed
        && new_name != name
    {
        check_free(project, new_name)?;
        project.files.remove(name);
        project.files.insert(new_name.to_owned(), file);
        project.modified = Timestamp::now();
        name = new_name;
    }
    if let Some(content) = content {
        project.put(name, content, 0);
    }
    one_file(project, name)
}

/// Applies a unified diff: all of it or nothing.
pub(crate) fn apply_patch(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.unlocked_project(arguments)?;
    let diff = arguments.filled_text("patch")?;
    let before: BTreeMap<String, String> = project
        .files
        .iter()
        .map(|(name, file)| (name.clone(), file.content.clone()))
        .collect();
    let changes = patch::apply(&before, diff)
        .map_err(|error| Refusal::because(excerpt(&format!("Invalid patch: {error}"), 1_000)))?;
    for (name, content) in &changes.written {
        check_path("patch", name)?;
        check_content(content)?;
    }
    let written = changes.written.keys();
    let added = written.filter(|name| !before.contains_key(*name));
    check_room(project, added.count())?;
    project.modified = Timestamp::now();
    for name in &changes.deleted {
        project.files.remove(name);
    }
    for (name, content) in changes.written {
        let number = state.next_number();
        state.project_mut(arguments)?.put(&name, &content, number);
    }
    Reply::done()
}

pub(crate) fn delete(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let project = state.unlocked_project(arguments)?;
    let name = arguments.text("name")?;
    if project.files.remove(name).is_none() {
        return Err(Refusal::not_found("File", name));
    }
    project.modified = Timestamp::now();
    Reply::done()
}

/// The content of a file that is written by itself.
fn content_of<'a>(arguments: &'a Arguments, field: &str) -> Result<&'a str, Refusal> {
    let content = arguments.text(field)?;
    check_content(content)?;
    if content.is_empty() {
        refuse!("The content of a file must not be empty");
    }
    Ok(content)
}

fn check_free(project: &Project, name: &str) -> Result<(), Refusal> {
    if project.files.contains_key(name) {
        refuse!("The file '{name}' already exists");
    }
    Ok(())
}

fn check_room(project: &Project, added: usize) -> Result<(), Refusal> {
    if project.files.len() + added > limits::FILES {
        refuse!("A project holds at most 500 files");
    }
    Ok(())
}

fn one_file(project: &Project, name: &str) -> Answer {
    let file = project.files.get(name);
    let file = file.ok_or_else(|| Refusal::not_found("File", name))?;
    Reply::success(json!({"files": [stored_json(project, name, file)]}))
}

fn stored_json(project: &Project, name: &str, file: &File) -> Value {
    file_json(
        Some(file.id),
        project.id,
        name,
        &file.content,
        file.modified,
    )
}

/// A file as the API shows it; one of a deployment has no id.
pub(super) fn file_json(
    id: Option<u64>,
    project: u32,
    name: &str,
    content: &str,
    modified: Timestamp,
) -> Value {
    json!({
        "id": id,
        "projectId": project,
        "name": name,
        "content": content,
        "modified": instant_text(modified),
        "open": false,
        "isLibrary": false,
    })
}
