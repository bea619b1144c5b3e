//! Files: write, edit, read, delete and search. Only `.py` and `.cs` files are seen.
//!
//! A write compiles the project afterwards. The file is written even if it does not compile: the answer is a success
//! whose `compileErrors` and `warnings` say why. QuantConnect's form of this answer is not public.

use std::sync::Arc;

use serde_json::{Value, json};

use super::compile::{compile, project_of};
use super::projects::file_json;
use super::rest;
use super::workspace::Workspace;
use crate::services::answer::{Answer, Refusal, Reply, fields, refuse};
use crate::services::arguments::{Arguments, check_content};
use crate::services::files;
use crate::store::project::Project;
use crate::store::{State, limits};

/// Matches in one answer.
const PAGE: usize = 50;

fn is_code(name: &str) -> bool {
    [".py", ".cs"].iter().any(|ending| name.ends_with(ending))
}

/// The path of a code file.
fn path_of(arguments: &Arguments) -> Result<&str, Refusal> {
    let path = arguments.path("filePath")?;
    if !is_code(path) {
        return Err(Refusal::invalid(
            "filePath",
            "a name that ends in .py or .cs",
        ));
    }
    Ok(path)
}

fn content_of<'p>(project: &'p Project, path: &str) -> Result<&'p str, Refusal> {
    let file = project.files.get(path);
    let file = file.ok_or_else(|| Refusal::not_found("File", path))?;
    Ok(&file.content)
}

/// Writes a file, whole: one that exists is overwritten. Then compiles.
pub(super) async fn create(workspace: Arc<Workspace>, arguments: Arguments) -> Answer {
    let content = arguments.text("content")?.to_owned();
    write(&workspace, &arguments, |_, _| Ok(content)).await
}

/// Replaces a text that occurs exactly once. Then compiles.
pub(super) async fn edit(workspace: Arc<Workspace>, arguments: Arguments) -> Answer {
    let new = match arguments.optional("newString", Arguments::text)? {
        Some(new) => new,
        None => arguments
            .optional("content", Arguments::text)?
            .ok_or_else(|| Refusal::missing("newString"))?,
    };
    let old = arguments.filled_text("oldString")?;
    let replaced = |project: &Project, path: &str| {
        let content = content_of(project, path)?;
        match content.matches(old).count() {
            1 => Ok(content.replacen(old, new, 1)),
            count => Err(Refusal::because(format!(
                "oldString must occur exactly once in {path}; it occurs {count} times"
            ))),
        }
    };
    write(&workspace, &arguments, replaced).await
}

/// Writes what a function makes of a project and a path, and compiles.
async fn write(
    workspace: &Workspace,
    arguments: &Arguments,
    content: impl FnOnce(&Project, &str) -> Result<String, Refusal>,
) -> Answer {
    let path = path_of(arguments)?;
    let file = {
        let mut state = workspace.cloud.state();
        let number = state.next_number();
        let project = state.project_mut(arguments)?;
        let content = content(&*project, path)?;
        check_content(&content)?;
        let added = !project.files.contains_key(path);
        if added && project.files.len() >= limits::FILES {
            refuse!("A project holds at most 500 files");
        }
        project.put(path, &content, number);
        file_json(path, &content, project.modified)
    };
    let compiled = compile(&workspace.cloud, &project_of(arguments)?).await?;
    let mut answer = fields(compiled.after_write());
    answer.insert("file".to_owned(), file);
    Reply::success(Value::Object(answer))
}

/// A file, or a range of its lines, counted from 1.
pub(super) fn read(_: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let path = path_of(arguments)?;
    let project = state.project(arguments)?;
    let content = content_of(project, path)?;
    let first = arguments.optional("startLine", Arguments::integer)?;
    let last = arguments.optional("endLine", Arguments::integer)?;
    if first.is_none() && last.is_none() {
        return Reply::success(json!({"filePath": path, "content": content}));
    }
    let first = first.unwrap_or(1);
    let last = last.unwrap_or(i64::MAX);
    if first < 1 || last < first {
        refuse!("Invalid range: startLine must be at least 1 and not above endLine");
    }
    let lines = (1..).zip(content.lines());
    let lines = lines.filter(|(number, _): &(i64, &str)| (first..=last).contains(number));
    let lines: Vec<&str> = lines.map(|(_, line)| line).collect();
    Reply::success(json!({"filePath": path, "content": lines.join("\n")}))
}

pub(super) fn delete(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let project = project_of(arguments)?;
    let asked = rest::arguments(json!({"projectId": project, "name": path_of(arguments)?}));
    files::delete(&workspace.cloud, state, &asked)
}

/// The lines of all code files that contain a text, whatever the case of its letters.
pub(super) fn search(_: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let query = arguments.filled_text("query")?;
    let project = state.project(arguments)?;
    let code = project.files.iter().filter(|(name, _)| is_code(name));
    let lines = code.flat_map(|(name, file)| {
        let numbered = (1u64..).zip(file.content.lines());
        numbered.map(move |(number, line)| (name, number, line))
    });
    let found: Vec<Value> = lines
        .filter(|(_, _, line)| rest::contains(line, query))
        .map(|(name, number, line)| json!({"filePath": name, "line": number, "text": line}))
        .collect();
    let show = |found: &Value| Ok(found.clone());
    Reply::success(rest::page(arguments, "matches", &found, PAGE, show)?)
}
