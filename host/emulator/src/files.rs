//! `/files/…`: the files of a project.
//!
//! As in the cloud, a file that exists is not created again, one that does not exist is not
//! updated, and a content that is given must not be empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answer::{Answer, Refusal, Reply, shorten};
use crate::arguments::Arguments;
use crate::limits;
use crate::patch;
use crate::project::{Project, check_path};
use crate::state::Cloud;

pub(crate) fn create(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    state.project(arguments)?.check_lock(arguments)?;
    let name = file_name(arguments, "name")?;
    let content = match arguments.optional_text("content")? {
        Some(content) => filled(content)?,
        None => "",
    };
    let number = state.next_number();
    let project = state.project_mut(arguments)?;
    check_free(project, &name)?;
    if project.files.len() >= limits::FILES {
        return Err(Refusal::because("A project holds at most 500 files"));
    }
    project.put(name.clone(), content.to_owned(), number, Timestamp::now());
    Reply::success(json!({"files": one_file(project, &name)}))
}

pub(crate) fn read(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let state = cloud.state();
    let project = state.project(arguments)?;
    let files: Vec<Value> = match arguments.optional_text("name")? {
        Some(name) if !project.files.contains_key(name) => {
            return Err(Refusal::not_found("File", name));
        }
        Some(name) => one_file(project, name),
        None => project
            .files
            .iter()
            .map(|(name, file)| project.file_json(name, file))
            .collect(),
    };
    Reply::success(json!({"files": files}))
}

/// Renames (`newName`), replaces the content (`content`), or both.
pub(crate) fn update(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let project = state.project_mut(arguments)?;
    project.check_lock(arguments)?;
    let mut name = arguments.text("name")?.to_owned();
    if !project.files.contains_key(&name) {
        return Err(Refusal::not_found("File", name));
    }
    let content = arguments
        .optional_text("content")?
        .map(filled)
        .transpose()?;
    let renamed = match arguments.get("newName") {
        Some(_) => Some(file_name(arguments, "newName")?),
        None => None,
    };
    if content.is_none() && renamed.is_none() {
        return Err(Refusal::because(
            "Missing required field: content or newName",
        ));
    }
    if let Some(new_name) = renamed
        && new_name != name
    {
        check_free(project, &new_name)?;
        if let Some(file) = project.files.remove(&name) {
            project.files.insert(new_name.clone(), file);
        }
        project.modified = Timestamp::now();
        name = new_name;
    }
    if let Some(content) = content {
        project.put(name.clone(), content.to_owned(), 0, Timestamp::now());
    }
    Reply::success(json!({"files": one_file(project, &name)}))
}

/// Applies a unified diff: all of it or nothing.
pub(crate) fn apply_patch(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let project = state.project(arguments)?;
    project.check_lock(arguments)?;
    let diff = arguments.filled_text("patch")?;
    let before: BTreeMap<String, String> = project
        .files
        .iter()
        .map(|(name, file)| (name.clone(), file.content.clone()))
        .collect();
    let changes = patch::apply(&before, diff)
        .map_err(|error| Refusal::because(shorten(&format!("Invalid patch: {error}"), 1_000)))?;
    let mut numbered = Vec::new();
    for (name, content) in changes.written {
        check_path("patch", &name)?;
        check_content(&content)?;
        numbered.push((name, content, state.next_number()));
    }
    let project = state.project_mut(arguments)?;
    let added = numbered
        .iter()
        .filter(|(name, ..)| !project.files.contains_key(name));
    if project.files.len() + added.count() > limits::FILES {
        return Err(Refusal::because("A project holds at most 500 files"));
    }
    let now = Timestamp::now();
    project.modified = now;
    for name in changes.deleted {
        project.files.remove(&name);
    }
    for (name, content, number) in numbered {
        project.put(name, content, number, now);
    }
    Reply::done()
}

pub(crate) fn delete(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let project = state.project_mut(arguments)?;
    project.check_lock(arguments)?;
    let name = arguments.text("name")?;
    if project.files.remove(name).is_none() {
        return Err(Refusal::not_found("File", name));
    }
    project.modified = Timestamp::now();
    Reply::done()
}

/// Refuses what is longer than a file may be.
pub(crate) fn check_content(content: &str) -> Result<(), Refusal> {
    if content.chars().count() > limits::FILE_LENGTH {
        return Err(Refusal::invalid("content", "at most 1000000 characters"));
    }
    Ok(())
}

fn filled(content: &str) -> Result<&str, Refusal> {
    check_content(content)?;
    if content.is_empty() {
        return Err(Refusal::because("The content of a file must not be empty"));
    }
    Ok(content)
}

fn file_name(arguments: &Arguments, field: &str) -> Result<String, Refusal> {
    let name = arguments.filled_text(field)?;
    check_path(field, name)?;
    Ok(name.to_owned())
}

fn check_free(project: &Project, name: &str) -> Result<(), Refusal> {
    if project.files.contains_key(name) {
        return Err(Refusal::because(format!(
            "The file '{name}' already exists"
        )));
    }
    Ok(())
}

fn one_file(project: &Project, name: &str) -> Vec<Value> {
    let file = project.files.get(name);
    file.map(|file| project.file_json(name, file))
        .into_iter()
        .collect()
}
