//! Projects: create, list, read, change, and starter projects.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::rest;
use super::workspace::Workspace;
use crate::engine::{Language, SourceFile};
use crate::services::answer::{Answer, Refusal, Reply, refuse};
use crate::services::arguments::Arguments;
use crate::services::projects;
use crate::store::State;
use crate::text::instant_text;

/// Projects in one answer.
const PAGE: usize = 50;

/// The file that a project has to have.
fn main_file(language: Language) -> &'static str {
    match language {
        Language::Python => "main.py",
        Language::CSharp => "Main.cs",
    }
}

/// Makes a project with files, which has to have a main file, and opens it.
pub(super) fn create(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let files = arguments.files("files")?;
    let has = |language: Language| {
        let name = main_file(language);
        files
            .iter()
            .any(|file| file.name.eq_ignore_ascii_case(name))
    };
    let language = match arguments.optional("language", |arguments, _| arguments.language())? {
        Some(language) => language,
        None if has(Language::CSharp) => Language::CSharp,
        None => Language::Python,
    };
    if !has(language) {
        refuse!("The files must contain {}", main_file(language));
    }
    let asked = rest::arguments(json!({
        "name": arguments.text("name")?,
        "language": language.to_string(),
    }));
    let created = rest::answered(projects::create(&workspace.cloud, state, &asked))?;
    let id = created.get("projects").and_then(|projects| projects.get(0));
    let id = id.and_then(|project| project.get("projectId")?.as_i64());
    let id = id.and_then(|id| u32::try_from(id).ok());
    let id = id.ok_or_else(|| Refusal::because("The project was not created"))?;
    for SourceFile { name, content } in &files {
        let number = state.next_number();
        if let Some(project) = state.projects.get_mut(&id) {
            // The template's `Main.cs` goes where the client's file is called `main.cs`.
            let same = |other: &String| other.eq_ignore_ascii_case(name);
            project
                .files
                .retain(|other, _| other == name || !same(other));
            project.put(name, content, number);
        }
    }
    workspace.open(id);
    Reply::success(json!({"project": project_json(workspace, state, id)?}))
}

/// The projects of the organisation, newest change first.
pub(super) fn list(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let query = arguments.optional("query", Arguments::text)?;
    let query = query.unwrap_or_default();
    let projects = state.projects.values();
    let projects = projects
        .filter(|it| rest::contains(&it.name, query) || rest::contains(&it.description, query));
    let mut found: Vec<_> = projects.map(|it| Reverse((it.modified, it.id))).collect();
    found.sort();
    let show = |Reverse((_, id)): &Reverse<(Timestamp, u32)>| summary_json(workspace, state, *id);
    Reply::success(rest::page(arguments, "projects", &found, PAGE, show)?)
}

/// One project with its files. It is the open one afterwards.
pub(super) fn read(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    let id = state.project(arguments)?.id;
    workspace.open(id);
    Reply::success(json!({"project": project_json(workspace, state, id)?}))
}

/// The open project with its files.
pub(super) fn read_open(workspace: &Workspace, state: &mut State, _: &Arguments) -> Answer {
    let asked = rest::arguments(json!({"projectId": workspace.open_project()?}));
    read(workspace, state, &asked)
}

/// Renames or redescribes a project.
pub(super) fn update(workspace: &Workspace, state: &mut State, arguments: &Arguments) -> Answer {
    if arguments.get("name").is_none() && arguments.get("description").is_none() {
        refuse!("Missing required field: name or description");
    }
    projects::update(&workspace.cloud, state, arguments)
}

/// A starter project.
struct Template {
    name: &'static str,
    description: &'static str,
    content: &'static str,
}

/// Invented, since QuantConnect's own are not public as a list.
const TEMPLATES: [Template; 2] = [
    Template {
        name: "Moving averages",
        description: "trend following with two moving averages of one equity",
        content: "from AlgorithmImports import *\n\n\nclass MovingAverages(QCAlgorithm):\n    \
                  def initialize(self):\n        self.set_start_date(2020, 1, 1)\n        \
                  self.add_equity(\"SPY\", Resolution.DAILY)\n",
    },
    Template {
        name: "Monthly rebalance",
        description: "monthly rebalancing of a portfolio of equities",
        content: "from AlgorithmImports import *\n\n\nclass MonthlyRebalance(QCAlgorithm):\n    \
                  def initialize(self):\n        self.set_start_date(2020, 1, 1)\n        \
                  self.add_equity(\"BND\", Resolution.DAILY)\n",
    },
];

/// The starter projects that share a word with a description, or all if none does.
pub(super) fn templates(_: &Workspace, _: &mut State, arguments: &Arguments) -> Answer {
    let wanted = arguments.filled_text("description")?;
    let shares = |template: &&Template| {
        let mut words = wanted.split_whitespace();
        words.any(|word| word.len() > 3 && rest::contains(template.description, word))
    };
    let json = |template: &Template| {
        json!({
            "name": template.name,
            "description": template.description,
            "language": Language::Python.to_string(),
            "files": [{"name": "main.py", "content": template.content}],
        })
    };
    let mut found: Vec<Value> = TEMPLATES.iter().filter(shares).map(json).collect();
    if found.is_empty() {
        found = TEMPLATES.iter().map(json).collect();
    }
    Reply::success(json!({"templates": found}))
}

/// A project as the REST API shows it.
fn summary_json(workspace: &Workspace, state: &mut State, id: u32) -> Result<Value, Refusal> {
    let asked = rest::arguments(json!({"projectId": id}));
    let mut read = rest::answered(projects::read(&workspace.cloud, state, &asked))?;
    let project = read.get_mut("projects").and_then(|all| all.get_mut(0));
    let project = project.map(Value::take);
    project.ok_or_else(|| Refusal::not_found("Project", id))
}

/// The same with its files.
fn project_json(workspace: &Workspace, state: &mut State, id: u32) -> Result<Value, Refusal> {
    let mut json = summary_json(workspace, state, id)?;
    let files = state.projects.get(&id).into_iter();
    let files = files.flat_map(|project| &project.files);
    let files: Vec<Value> = files
        .map(|(name, file)| file_json(name, &file.content, file.modified))
        .collect();
    if let Some(fields) = json.as_object_mut() {
        fields.insert("files".to_owned(), files.into());
    }
    Ok(json)
}

/// A file as the tools show it.
pub(super) fn file_json(name: &str, content: &str, modified: Timestamp) -> Value {
    json!({"name": name, "content": content, "modified": instant_text(modified)})
}
