//! `/projects/…`: create, read, update, delete, and the libraries of a project.
//!
//! Two things are done as the cloud does them although another choice would be simpler: a new
//! project comes with a code file and a notebook, and a name that is taken is not refused but
//! gets a number at its end, as the documentation of `lean cloud push` describes.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answer::{Answer, Refusal, Reply};
use crate::arguments::{Arguments, integer_of, scalar_text};
use crate::engine::Language;
use crate::files::check_content;
use crate::limits;
use crate::organizations::{LEAN_VERSIONS, versions_json};
use crate::project::{Project, check_path, check_project_name, language_of};
use crate::state::{Cloud, State};

const PYTHON: &str = include_str!("templates/main.py");
const CSHARP: &str = include_str!("templates/Main.cs");
const NOTEBOOK: &str = include_str!("templates/research.ipynb");

pub(crate) fn create(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let wanted = check_project_name(arguments.filled_text("name")?)?;
    let language = language_of(arguments)?;
    cloud.check_optional_organization(arguments)?;
    let mut state = cloud.state();
    if state.projects.len() >= limits::PROJECTS {
        return Err(Refusal::because(format!(
            "The emulator holds at most {} projects: delete one first",
            limits::PROJECTS
        )));
    }
    let now = Timestamp::now();
    let mut project = Project {
        id: state.next_project_id(),
        name: free_name(&state, wanted),
        description: String::new(),
        language,
        created: now,
        modified: now,
        files: Default::default(),
        parameters: Vec::new(),
        libraries: BTreeSet::new(),
        collaborators: Vec::new(),
        lock: None,
        nodes: BTreeSet::new(),
        lean_version: None,
        lean_environment: 1,
    };
    let (code, content, notebook) = match language {
        Language::Python => ("main.py", PYTHON, "research.ipynb"),
        Language::CSharp => ("Main.cs", CSHARP, "Research.ipynb"),
    };
    project.put(
        code.to_owned(),
        content.to_owned(),
        state.next_number(),
        now,
    );
    project.put(
        notebook.to_owned(),
        NOTEBOOK.to_owned(),
        state.next_number(),
        now,
    );
    let answer = project.json(cloud, &state);
    state.projects.insert(project.id, project);
    Reply::success(json!({"projects": [answer], "versions": versions_json()}))
}

pub(crate) fn read(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    cloud.check_optional_organization(arguments)?;
    let state = cloud.state();
    let projects: Vec<Value> = if arguments.get("projectId").is_some() {
        vec![state.project(arguments)?.json(cloud, &state)]
    } else {
        // The most recent first, as in the cloud.
        let start = arguments.optional_integer("start")?.unwrap_or(0);
        let end = arguments.optional_integer("end")?;
        let invalid = || Refusal::because("start must be at least 0 and less than end");
        let skip = usize::try_from(start).map_err(|_| invalid())?;
        let take = match end {
            Some(end) if end > start => usize::try_from(end - start).map_err(|_| invalid())?,
            Some(_) => return Err(invalid()),
            None => usize::MAX,
        };
        let recent = state.projects.values().rev().skip(skip).take(take);
        recent.map(|project| project.json(cloud, &state)).collect()
    };
    Reply::success(json!({"projects": projects, "versions": versions_json()}))
}

/// Changes only what the request names. `files` replaces all files: it is how the `lean`
/// command line pushes a project.
pub(crate) fn update(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let project = state.project(arguments)?;
    project.check_lock(arguments)?;
    let id = project.id;
    let name = arguments
        .optional_text("name")?
        .map(check_project_name)
        .transpose()?;
    if let Some(name) = &name
        && state
            .projects
            .values()
            .any(|other| other.id != id && other.name == *name)
    {
        return Err(Refusal::because(format!(
            "A project with the name '{name}' already exists"
        )));
    }
    let description = arguments.optional_text("description")?;
    if description.is_some_and(|text| text.chars().count() > limits::TEXT_LENGTH) {
        return Err(Refusal::invalid("description", "at most 10000 characters"));
    }
    let parameters = parameters_of(arguments)?;
    let files = files_of(arguments)?;
    let libraries = libraries_of(&state, id, arguments)?;
    let version = version_of(arguments)?;
    let environment = arguments.optional_integer("leanEnvironment")?;

    let now = Timestamp::now();
    let mut numbers: Vec<u64> = Vec::new();
    for _ in files.iter().flatten() {
        numbers.push(state.next_number());
    }
    let project = state.project_mut(arguments)?;
    project.modified = now;
    if let Some(name) = name {
        project.name = name;
    }
    if let Some(description) = description {
        project.description = description.to_owned();
    }
    if let Some(parameters) = parameters {
        project.parameters = parameters;
    }
    if let Some(libraries) = libraries {
        project.libraries = libraries;
    }
    if let Some(version) = version {
        project.lean_version = version;
    }
    if let Some(environment) = environment {
        project.lean_environment = environment;
    }
    if let Some(files) = files {
        project
            .files
            .retain(|name, _| files.iter().any(|(kept, _)| kept == name));
        for ((name, content), number) in files.into_iter().zip(numbers) {
            project.put(name, content, number, now);
        }
    }
    Reply::done()
}

/// Deletes a project with all its jobs. A project that trades live must be stopped first.
pub(crate) fn delete(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let id = state.project(arguments)?.id;
    let trading = state
        .deployments
        .iter()
        .any(|deployment| deployment.project_id == id && deployment.stopped.is_none());
    if trading {
        return Err(Refusal::because(
            "The project has a running live algorithm: stop it before deleting the project",
        ));
    }
    state.projects.remove(&id);
    state.compiles.retain(|compile| compile.project_id != id);
    state.backtests.retain(|backtest| backtest.project_id != id);
    state
        .optimizations
        .retain(|optimization| optimization.project_id != id);
    state
        .deployments
        .retain(|deployment| deployment.project_id != id);
    for project in state.projects.values_mut() {
        project.libraries.remove(&id);
    }
    crate::backtests::dispatch(cloud, &mut state);
    Reply::done()
}

pub(crate) fn add_library(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let library = library_id(&state, arguments)?;
    let project = state.project_mut(arguments)?;
    if project.id == library {
        return Err(Refusal::because("A project cannot be its own library"));
    }
    if project.libraries.len() >= limits::LIBRARIES {
        return Err(Refusal::because("The project has too many libraries"));
    }
    project.libraries.insert(library);
    Reply::done()
}

pub(crate) fn remove_library(cloud: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let mut state = cloud.state();
    let library = library_id(&state, arguments)?;
    let project = state.project_mut(arguments)?;
    if !project.libraries.remove(&library) {
        return Err(Refusal::not_found("Library", library));
    }
    Reply::done()
}

fn library_id(state: &State, arguments: &Arguments) -> Result<u32, Refusal> {
    known_project(state, arguments.integer("libraryId")?)
}

fn known_project(state: &State, id: i64) -> Result<u32, Refusal> {
    u32::try_from(id)
        .ok()
        .filter(|id| state.projects.contains_key(id))
        .ok_or_else(|| Refusal::not_found("Project", id))
}

fn free_name(state: &State, wanted: String) -> String {
    let taken = |name: &str| state.projects.values().any(|project| project.name == name);
    if !taken(&wanted) {
        return wanted;
    }
    (1..=limits::PROJECTS)
        .map(|number| format!("{wanted} {number}"))
        .find(|name| !taken(name))
        .unwrap_or(wanted)
}

/// `[{"key": …, "value": …}]`, or the plain map `{key: value}`.
fn parameters_of(arguments: &Arguments) -> Result<Option<Vec<(String, String)>>, Refusal> {
    let invalid = || Refusal::invalid("parameters", "a list of at most 100 keys and values");
    let parameters: Option<Vec<(String, String)>> = match arguments.get("parameters") {
        None => Some(Vec::new()),
        Some(Value::Object(fields)) => fields
            .iter()
            .map(|(key, value)| Some((key.clone(), scalar_text(value)?)))
            .collect(),
        Some(Value::String(text)) if text.is_empty() => Some(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| {
                let key = item.get("key")?.as_str()?.to_owned();
                Some((key, scalar_text(item.get("value")?)?))
            })
            .collect(),
        Some(_) => None,
    };
    let parameters = parameters.ok_or_else(invalid)?;
    if parameters.len() > limits::PARAMETERS {
        return Err(invalid());
    }
    Ok(arguments.get("parameters").map(|_| parameters))
}

fn files_of(arguments: &Arguments) -> Result<Option<Vec<(String, String)>>, Refusal> {
    let Some(items) = arguments.optional_list("files")? else {
        return Ok(None);
    };
    if items.len() > limits::FILES {
        return Err(Refusal::invalid("files", "at most 500 files"));
    }
    let mut files = Vec::new();
    for item in items {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let (Some(name), Some(content)) = (text("name"), text("content")) else {
            return Err(Refusal::invalid(
                "files",
                "a name and a content for each file",
            ));
        };
        check_path("files", name)?;
        check_content(content)?;
        if files.iter().any(|(earlier, _)| earlier == name) {
            return Err(Refusal::because(format!(
                "The file '{name}' is given twice"
            )));
        }
        files.push((name.to_owned(), content.to_owned()));
    }
    Ok(Some(files))
}

fn libraries_of(
    state: &State,
    id: u32,
    arguments: &Arguments,
) -> Result<Option<BTreeSet<u32>>, Refusal> {
    let Some(items) = arguments.optional_list("libraries")? else {
        return Ok(None);
    };
    if items.len() > limits::LIBRARIES {
        return Err(Refusal::invalid("libraries", "at most 50 libraries"));
    }
    let mut libraries = BTreeSet::new();
    for item in items {
        let library =
            integer_of(item).ok_or_else(|| Refusal::invalid("libraries", "project ids"))?;
        let library = known_project(state, library)?;
        if library == id {
            return Err(Refusal::because("A project cannot be its own library"));
        }
        libraries.insert(library);
    }
    Ok(Some(libraries))
}

/// `versionId`: -1 follows the master branch.
fn version_of(arguments: &Arguments) -> Result<Option<Option<i64>>, Refusal> {
    match arguments.optional_integer("versionId")? {
        None => Ok(None),
        Some(-1) => Ok(Some(None)),
        Some(id) if LEAN_VERSIONS.iter().any(|version| version.id == id) => Ok(Some(Some(id))),
        Some(id) => Err(Refusal::not_found("LEAN version", id)),
    }
}
