//! `/projects/…`: create, read, update, delete, and the libraries of a project.
//!
//! Two things are done as the cloud does them although another choice would be simpler: a new
//! project comes with a code file and a notebook, and a name that is taken is not refused but
//! gets a number at its end, as the documentation of `lean cloud push` describes.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal, Reply, refuse};
use super::arguments::{Arguments, check_path, integer_of, scalar_text, set};
use super::backtests::dispatch;
use super::cloud::Cloud;
use super::collaborators;
use super::organizations::{LATEST_VERSION, USER_NAME, version_of, versions_json};
use crate::engine::{Language, SourceFile};
use crate::store::project::Project;
use crate::store::{State, limits};
use crate::text::instant_text;

const PYTHON: &str = include_str!("templates/main.py");
const CSHARP: &str = include_str!("templates/Main.cs");
const NOTEBOOK: &str = include_str!("templates/research.ipynb");

pub(crate) fn create(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    arguments.filled_text("name")?;
    let wanted = name_of(arguments, "name")?;
    let language = arguments.language()?;
    cloud.check_optional_organization(arguments)?;
    if state.projects.len() >= limits::PROJECTS {
        return Err(Refusal::full(limits::PROJECTS, "projects"));
    }
    let id = state.next_project_id();
    let mut project = Project::new(id, free_name(state, wanted), language);
    let (code, content, notebook) = match language {
        Language::Python => ("main.py", PYTHON, "research.ipynb"),
        Language::CSharp => ("Main.cs", CSHARP, "Research.ipynb"),
    };
    project.put(code, content, state.next_number());
    project.put(notebook, NOTEBOOK, state.next_number());
    let answer = project_json(cloud, state, &project);
    state.projects.insert(id, project.into());
    Reply::success(json!({"projects": [answer], "versions": versions_json()}))
}

pub(crate) fn read(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_optional_organization(arguments)?;
    let projects: Vec<Value> = if arguments.get("projectId").is_some() {
        vec![project_json(cloud, state, state.project(arguments)?)]
    } else {
        // The most recent first, as in the cloud.
        let start = arguments
            .optional("start", Arguments::integer)?
            .unwrap_or(0);
        let end = arguments.optional("end", Arguments::integer)?;
        let invalid = || Refusal::because("start must be at least 0 and less than end");
        let skip = usize::try_from(start).map_err(|_| invalid())?;
        let take = match end {
            Some(end) if end > start => usize::try_from(end - start).map_err(|_| invalid())?,
            Some(_) => return Err(invalid()),
            None => usize::MAX,
        };
        let recent = state.projects.values().rev().skip(skip).take(take);
        recent
            .map(|project| project_json(cloud, state, project))
            .collect()
    };
    Reply::success(json!({"projects": projects, "versions": versions_json()}))
}

/// Changes only what the request names. `files` replaces all files: it is how the `lean`
/// command line pushes a project.
pub(crate) fn update(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = state.unlocked_project(arguments)?.id;
    let name = arguments.optional("name", name_of)?;
    let mut others = state.projects.values().filter(|other| other.id != id);
    if let Some(name) = name
        && others.any(|other| other.name == *name)
    {
        refuse!("A project with the name '{name}' already exists");
    }
    let description = arguments.optional("description", Arguments::note)?;
    let parameters = arguments.optional("parameters", parameters_of)?;
    let files = arguments.optional("files", files_of)?;
    let libraries = libraries_of(state, id, arguments)?;
    let version = arguments.optional("versionId", version_of)?;
    let environment = arguments.optional("leanEnvironment", Arguments::integer)?;

    let count = files.as_ref().map_or(0, Vec::len);
    let numbers: Vec<u64> = (0..count).map(|_| state.next_number()).collect();
    let project = state.project_mut(arguments)?;
    project.modified = Timestamp::now();
    set(&mut project.name, name.map(str::to_owned));
    set(&mut project.description, description.map(str::to_owned));
    if let Some(files) = files {
        project
            .files
            .retain(|name, _| files.iter().any(|file| file.name == *name));
        for (file, number) in files.iter().zip(numbers) {
            project.put(&file.name, &file.content, number);
        }
    }
    set(&mut project.parameters, parameters);
    set(&mut project.libraries, libraries);
    set(&mut project.lean_version, version);
    set(&mut project.lean_environment, environment);
    Reply::done()
}

/// Deletes a project with all its jobs. A project that trades live must be stopped first.
pub(crate) fn delete(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let id = state.project(arguments)?.id;
    if state.trades_live(id) {
        refuse!("The project has a running live algorithm: stop it before deleting the project");
    }
    state.remove_project(id);
    dispatch(cloud, state);
    Reply::done()
}

pub(crate) fn add_library(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let library = state.project_with(arguments.integer("libraryId")?)?.id;
    let project = state.project_mut(arguments)?;
    check_library(project.id, library)?;
    if project.libraries.len() >= limits::LIBRARIES {
        refuse!("The project has too many libraries");
    }
    project.libraries.insert(library);
    Reply::done()
}

pub(crate) fn remove_library(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let library = state.project_with(arguments.integer("libraryId")?)?.id;
    let project = state.project_mut(arguments)?;
    if !project.libraries.remove(&library) {
        return Err(Refusal::not_found("Library", library));
    }
    Reply::done()
}

/// A name for a project: a path with slashes, without empty parts.
fn name_of<'a>(arguments: &'a Arguments, field: &str) -> Result<&'a str, Refusal> {
    let name = arguments.text(field)?.trim().trim_start_matches('/');
    check_path(field, name)?;
    Ok(name)
}

fn free_name(state: &State, wanted: &str) -> String {
    let taken = |name: &str| state.projects.values().any(|project| project.name == name);
    let mut numbered = (1..=limits::PROJECTS).map(|number| format!("{wanted} {number}"));
    if !taken(wanted) {
        return wanted.to_owned();
    }
    let free = numbered.find(|name| !taken(name));
    free.unwrap_or_else(|| wanted.to_owned())
}

/// `[{"key": …, "value": …}]`, or the plain map `{key: value}`.
fn parameters_of(arguments: &Arguments, field: &str) -> Result<Vec<(String, String)>, Refusal> {
    let parameters: Option<Vec<(String, String)>> = match arguments.get(field) {
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
        _ => None,
    };
    parameters
        .filter(|parameters| parameters.len() <= limits::PARAMETERS)
        .ok_or_else(|| Refusal::invalid(field, "a list of at most 100 keys and values"))
}

fn files_of(arguments: &Arguments, field: &str) -> Result<Vec<SourceFile>, Refusal> {
    let files = arguments.files(field)?;
    let mut names = BTreeSet::new();
    if let Some(file) = files.iter().find(|file| !names.insert(&file.name)) {
        refuse!("The file '{}' is given twice", file.name);
    }
    Ok(files)
}

fn libraries_of(
    state: &State,
    project: u32,
    arguments: &Arguments,
) -> Result<Option<BTreeSet<u32>>, Refusal> {
    let Some(items) = arguments.optional("libraries", Arguments::list)? else {
        return Ok(None);
    };
    if items.len() > limits::LIBRARIES {
        return Err(Refusal::invalid("libraries", "at most 50 libraries"));
    }
    let mut libraries = BTreeSet::new();
    for item in items {
        let id = integer_of(item).ok_or_else(|| Refusal::invalid("libraries", "project ids"))?;
        let library = state.project_with(id)?.id;
        check_library(project, library)?;
        libraries.insert(library);
    }
    Ok(Some(libraries))
}

fn check_library(project: u32, library: u32) -> Result<(), Refusal> {
    if project == library {
        refuse!("A project cannot be its own library");
    }
    Ok(())
}

/// The project as the API shows it.
fn project_json(cloud: &Cloud, state: &State, project: &Project) -> Value {
    let pair = |(key, value): &(String, String)| json!({"key": key, "value": value});
    // QuantConnect's MCP server takes an object here and its command line both: where
    // there is nothing to list, both are served.
    let parameters = if project.parameters.is_empty() {
        json!({})
    } else {
        project.parameters.iter().map(pair).collect()
    };
    let libraries: Vec<Value> = project
        .libraries
        .iter()
        .filter_map(|id| state.projects.get(id))
        .map(|library| {
            json!({
                "projectId": library.id,
                "libraryName": library.name,
                "ownerName": USER_NAME,
                "access": true,
            })
        })
        .collect();
    let mut deployments = state.deployments.iter().rev();
    let last = deployments.find(|deployment| deployment.project_id == project.id);
    let mut backtests = state.backtests.iter();
    let running = state.trades_live(project.id)
        || backtests.any(|backtest| backtest.project_id == project.id && !backtest.finished());
    let last_launch = last.map(|deployment| instant_text(deployment.launched));
    let live_form = last.map(|deployment| {
        json!({
            "brokerageData": null,
            "dataProvidersData": [],
            "node": deployment.node,
            "notifyInsights": "false",
            "notifyOrderEvents": "false",
            "autoRestart": "false",
        })
    });
    json!({
        "projectId": project.id,
        "organizationId": cloud.settings.organization_id,
        "name": project.name,
        "description": project.description,
        "modified": instant_text(project.modified),
        "created": instant_text(project.created),
        "ownerId": cloud.settings.credentials.user_id,
        "owner": true,
        "language": project.language.to_string(),
        "collaborators": collaborators::all_json(cloud, project),
        "leanVersionId": project.lean_version.unwrap_or(LATEST_VERSION),
        "leanPinnedToMaster": project.lean_version.is_none(),
        "leanEnvironment": project.lean_environment,
        "channelId": null,
        "parameters": parameters,
        "libraries": libraries,
        "grid": null,
        "liveGrid": null,
        "paperEquity": null,
        "lastLiveDeployment": last_launch,
        "liveForm": live_form,
        "encrypted": false,
        "encryptionKey": null,
        "codeRunning": running,
    })
}
