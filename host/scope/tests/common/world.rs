//! The lenient server.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

use qchost_catalog::{BoxFuture, Failure, Operation, Outcome};
use qchost_scope::Reader;
use serde_json::{Map, Value, json};

use super::{MINE, OTHER};

pub const ORGANIZATION: &str = "0rg";

/// What a call touched.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A project.
    Project(u32),
    /// A name that was given to a project.
    Named(String),
    /// A file of a project was changed.
    File(u32, String),
    /// An object of the store.
    Object(String),
    /// Everything that runs in the organisation.
    Everything,
}

#[derive(Debug)]
pub struct State {
    pub projects: BTreeMap<u32, String>,
    /// Children by id: `bt-11`, `opt-22` …
    pub children: BTreeMap<String, u32>,
    pub objects: BTreeSet<String>,
    pub jobs: BTreeMap<String, Vec<String>>,
    /// Brokerages of the deployments, by project.
    pub brokerages: BTreeMap<u32, String>,
    /// Status and brokerage of a second deployment, `L-11b` and so on, by project.
    pub beside: BTreeMap<u32, (&'static str, &'static str)>,
    next: u32,
}

pub struct World {
    pub state: Mutex<State>,
    /// Every read that the host made on its own account.
    pub reads: Mutex<Vec<(&'static str, Map<String, Value>)>>,
    /// An operation whose reads fail.
    pub broken: Mutex<Option<(&'static str, Failure)>>,
    /// Yields to other tasks during each read.
    pub slow: bool,
    /// The answer to estimates.
    pub estimate: Mutex<Value>,
    /// The list of deployments, if it is another one.
    pub listed: Mutex<Option<Value>>,
}

impl Default for World {
    fn default() -> Self {
        let projects = BTreeMap::from([
            (MINE, "Lab/mine".to_owned()),
            (12, "Lab/second".to_owned()),
            (OTHER, "Private/SECRET".to_owned()),
        ]);
        let mut children = BTreeMap::new();
        for project in projects.keys() {
            for kind in ["bt", "opt", "co", "L"] {
                children.insert(format!("{kind}-{project}"), *project);
            }
        }
        let objects = [
            "lab/data",
            "lab/deep/x",
            "private/SECRET",
            "shared/SECRET",
            "single",
        ];
        Self {
            state: Mutex::new(State {
                projects,
                children,
                objects: objects.map(str::to_owned).into(),
                jobs: BTreeMap::new(),
                brokerages: BTreeMap::from([
                    (MINE, "PaperBrokerage".to_owned()),
                    (12, "InteractiveBrokersBrokerage".to_owned()),
                ]),
                beside: BTreeMap::new(),
                next: 100,
            }),
            reads: Mutex::default(),
            broken: Mutex::default(),
            slow: false,
            estimate: Mutex::new(json!({"estimateId": "e", "time": 36, "balance": 10})),
            listed: Mutex::default(),
        }
    }
}

impl Reader for World {
    fn read<'a>(
        &'a self,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            assert_eq!(
                operation.access,
                qchost_catalog::Access::Read,
                "the host only reads"
            );
            self.reads.lock().push((operation.name, arguments.clone()));
            if self.slow {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            if let Some((name, failure)) = &*self.broken.lock()
                && *name == operation.name
            {
                return Err(failure.clone());
            }
            if let Some(rows) = &*self.listed.lock()
                && operation.tool == "list_live_algorithms"
            {
                return Ok(json!({"live": rows}));
            }
            self.execute(operation, &arguments).1
        })
    }
}

/// A number from a JSON number or text.
fn coerced(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => number
            .as_f64()
            .map(|it| format!("{:.0}", it.trunc()))?
            .parse()
            .ok(),
        Value::String(text) => text.trim().split('.').next()?.parse().ok(),
        Value::Bool(true) => Some(MINE),
        Value::Array(items) => coerced(items.first()?),
        Value::Object(fields) => coerced(fields.values().next()?),
        _ => None,
    }
}

/// A text from a JSON text or number.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Array(items) => text(items.first()?),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A path with `..`, doubled slashes and white space resolved.
fn tidied(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let path = path.replace('\\', "/");
    for part in path.split('/').map(str::trim) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// An argument under any spelling of its name, also inside a wrapper.
struct Loose(Map<String, Value>);

impl Loose {
    fn of(arguments: &Map<String, Value>) -> Self {
        let mut all = Map::new();
        for (name, value) in arguments {
            let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
            all.insert(plain.to_ascii_lowercase(), value.clone());
            if let Value::Object(inner) = value
                && matches!(name.as_str(), "model" | "request")
            {
                all.extend(Self::of(inner).0);
            }
        }
        Self(all)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(text)
    }
}

fn marked(state: &State, project: u32) -> String {
    match state.projects.get(&project) {
        Some(name) if name.starts_with("Lab/") => format!("of {project}"),
        _ => "SECRET".to_owned(),
    }
}

impl World {
    pub fn count(&self) -> usize {
        self.reads.lock().len()
    }

    /// Names of the reads since the last call of this, in order.
    pub fn drain(&self) -> Vec<&'static str> {
        let reads = std::mem::take(&mut *self.reads.lock());
        reads.into_iter().map(|(name, _)| name).collect()
    }

    pub fn rename(&self, project: u32, name: &str) {
        self.state.lock().projects.insert(project, name.to_owned());
    }

    pub fn name(&self, project: u32) -> Option<String> {
        self.state.lock().projects.get(&project).cloned()
    }

    /// Carries a call out and returns what it touched.
    pub fn execute(
        &self,
        operation: &Operation,
        arguments: &Map<String, Value>,
    ) -> (Vec<Effect>, Outcome) {
        let mut state = self.state.lock();
        let given = Loose::of(arguments);
        if operation.interface() == "object-store" {
            return store(&mut state, operation, &given);
        }
        if operation.tool == "broadcast_live_command" {
            return (vec![Effect::Everything], Ok(json!({"success": true})));
        }
        if operation.tool == "create_project" {
            let name = tidied(&given.text("name").unwrap_or_default());
            state.next += 1;
            let id = state.next;
            state.projects.insert(id, name.clone());
            let body = json!({"projects": [{"projectId": id, "name": name}], "success": true});
            return (vec![Effect::Named(name)], Ok(body));
        }
        let child = [
            "backtestid",
            "selectbacktest",
            "optimizationid",
            "compileid",
            "algorithmid",
            "deployid",
        ]
        .into_iter()
        .filter_map(|name| given.text(name))
        .find_map(|id| state.children.get(&id).map(|project| (id, *project)));
        let project = child
            .as_ref()
            .map(|(_, project)| *project)
            .or_else(|| given.get("projectid").and_then(coerced))
            .or_else(|| given.get("selectproject").and_then(coerced));
        let Some(project) = project else {
            return match operation.tool {
                "list_projects" | "read_project" | "find_projects" => {
                    (Vec::new(), Ok(projects(&state, None)))
                }
                "read_organization_nodes" => (Vec::new(), Ok(nodes())),
                "list_live_algorithms" => (Vec::new(), Ok(deployments(&state, None))),
                _ if operation.selectors.is_empty() => (Vec::new(), Ok(json!({"success": true}))),
                _ => (Vec::new(), Err(Failure::NotFound("nothing".to_owned()))),
            };
        };
        if !state.projects.contains_key(&project) {
            return (
                Vec::new(),
                Err(Failure::NotFound(format!("project {project}"))),
            );
        }
        let id = child.map_or_else(|| "none".to_owned(), |(id, _)| id);
        let estimate = self.estimate.lock().clone();
        on_project(&mut state, operation, &given, project, &id, estimate)
    }
}

fn on_project(
    state: &mut State,
    operation: &Operation,
    given: &Loose,
    project: u32,
    child: &str,
    estimate: Value,
) -> (Vec<Effect>, Outcome) {
    let mark = marked(state, project);
    let mut effects = vec![Effect::Project(project)];
    let made = |kind: &str, state: &mut State| {
        state.next += 1;
        let id = format!("{kind}-{}", state.next);
        state.children.insert(id.clone(), project);
        id
    };
    let file = |name: &str| {
        json!({"name": name, "projectId": project, "content": match name {
            name if name.starts_with("notes/") => mark.clone(),
            _ => "SECRET".to_owned(),
        }})
    };
    let body = match operation.tool {
        "read_project" => projects(state, Some(project)),
        "list_live_algorithms" => deployments(state, Some(project)),
        "create_backtest" => {
            json!({"backtest": {"backtestId": made("bt", state), "projectId": project, "name": mark}})
        }
        "read_backtest" => {
            json!({"backtest": {"backtestId": child, "projectId": project, "name": mark}})
        }
        "list_backtests" => {
            json!({"backtests": [{"backtestId": format!("bt-{project}"), "name": mark}], "count": 1})
        }
        "create_compile" => {
            json!({"compileId": made("co", state), "projectId": project, "state": "InQueue"})
        }
        "read_compile" => json!({"compileId": child, "projectId": project, "logs": [mark]}),
        "create_optimization" => {
            json!({"optimizations": [{"optimizationId": made("opt", state), "projectId": project, "name": mark}]})
        }
        "read_optimization" => {
            json!({"optimization": {"optimizationId": child, "projectId": project, "name": mark}})
        }
        "list_optimizations" => {
            json!({"optimizations": [{"optimizationId": format!("opt-{project}"), "projectId": project, "name": mark}]})
        }
        "estimate_optimization_time" => json!({"estimate": estimate}),
        "create_live_algorithm" => json!({"deployId": made("L", state), "projectId": project,
            "live": {"projectName": mark, "files": [file("main.py"), file("notes/a.md")]}}),
        "read_live_algorithm" | "read_live_details" => {
            let beside = state.beside.get(&project);
            let (id, brokerage) = match beside.filter(|_| child.ends_with('b')) {
                Some((_, brokerage)) => (child.to_owned(), Some((*brokerage).to_owned())),
                None => (
                    format!("L-{project}"),
                    state.brokerages.get(&project).cloned(),
                ),
            };
            json!({"deployId": id, "projectName": mark, "brokerage": brokerage,
                "files": [file("main.py"), file("notes/a.md")]})
        }
        "read_file" => match given.text("name") {
            Some(name) => json!({"files": [file(&tidied(&name))]}),
            None => json!({"files": [file("main.py"), file("notes/a.md")]}),
        },
        "search_file_content" => json!({"files": [file("main.py"), file("notes/a.md")]}),
        "add_library" => {
            let library = given.get("libraryid").and_then(coerced);
            effects.extend(library.map(Effect::Project));
            json!({})
        }
        "replace_project_files" => {
            let files = given.get("files").and_then(Value::as_array);
            let names = files
                .into_iter()
                .flatten()
                .filter_map(|file| text(&file["name"]));
            let present = ["main.py", "notes/a.md"].map(str::to_owned);
            let touched = names.map(|name| tidied(&name)).chain(present);
            effects.extend(touched.map(|name| Effect::File(project, name)));
            json!({})
        }
        "read_project_nodes" | "update_project_nodes" => json!({"nodes": {"backtest": [
            {"id": "n1", "projectId": project, "projectName": mark},
            {"id": "n2", "projectId": OTHER, "projectName": "Private/SECRET"},
            {"id": "n3", "projectId": null, "projectName": ""},
        ]}}),
        "update_project" => {
            if let Some(name) = given.text("name") {
                let name = tidied(&name);
                effects.push(Effect::Named(name.clone()));
                state.projects.insert(project, name);
            }
            json!({})
        }
        _ => json!({"what": mark, "logs": [mark], "orders": [{"tag": mark}]}),
    };
    if operation.interface() == "files" && operation.tool != "read_file" {
        for name in ["name", "newname"] {
            effects.extend(
                given
                    .text(name)
                    .map(|name| Effect::File(project, tidied(&name))),
            );
        }
        let patch = given.text("patch").unwrap_or_default();
        for line in patch.lines() {
            let name = [
                "--- a/",
                "+++ b/",
                "--- ",
                "+++ ",
                "rename to ",
                "rename from ",
            ]
            .into_iter()
            .find_map(|start| line.strip_prefix(start));
            effects.extend(name.map(|name| Effect::File(project, tidied(name))));
        }
    }
    (effects, Ok(body))
}

/// The nodes of an organisation, some of which say less about their project than others.
fn nodes() -> Value {
    json!({"backtest": [
        {"id": "n1", "projectId": MINE, "projectName": "Lab/mine"},
        {"id": "n2", "projectId": OTHER, "projectName": "Private/SECRET"},
    ], "live": [
        {"id": "n3", "projectName": "Lab/mine"},
        {"id": "n4", "projectName": "Private/SECRET"},
        {"id": "n5", "projectId": "", "projectName": "Private/SECRET"},
        {"id": "n6", "projectName": ""},
    ], "success": true})
}

fn projects(state: &State, project: Option<u32>) -> Value {
    let all: Vec<Value> = state
        .projects
        .iter()
        .filter(|(id, _)| project.is_none_or(|project| **id == project))
        .map(|(id, name)| json!({"projectId": id, "name": name}))
        .collect();
    json!({"projects": all})
}

fn deployments(state: &State, project: Option<u32>) -> Value {
    let all: Vec<Value> = state
        .projects
        .keys()
        .filter(|id| project.is_none_or(|project| **id == project))
        .flat_map(|id| {
            let row = |deployment: String, status: Option<&str>| {
                json!({"projectId": id, "deployId": deployment, "status": status, "description": marked(state, *id)})
            };
            let beside = state.beside.get(id);
            let beside = beside.map(|(status, _)| row(format!("L-{id}b"), Some(*status)));
            [row(format!("L-{id}"), None)].into_iter().chain(beside)
        })
        .collect();
    json!({"live": all})
}

fn store(state: &mut State, operation: &Operation, given: &Loose) -> (Vec<Effect>, Outcome) {
    if given.text("organizationid").as_deref() != Some(ORGANIZATION) {
        return (
            Vec::new(),
            Err(Failure::NotFound("organization".to_owned())),
        );
    }
    let below = |state: &State, key: &str| -> Vec<String> {
        let (key, folder) = (tidied(key), format!("{}/", tidied(key)));
        let found = state.objects.iter();
        let found = found.filter(|it| key.is_empty() || **it == key || it.starts_with(&folder));
        found.cloned().collect()
    };
    let touched = |keys: &[String]| keys.iter().cloned().map(Effect::Object).collect();
    match operation.tool {
        "list_object_store_files" => {
            let path = tidied(&given.text("path").unwrap_or_default());
            let mut entries = BTreeMap::new();
            for key in below(state, &path) {
                let rest = key
                    .strip_prefix(&path)
                    .unwrap_or(&key)
                    .trim_start_matches('/');
                let name = rest.split('/').next().unwrap_or_default().to_owned();
                let shown = format!("/{}", tidied(&format!("{path}/{name}")));
                entries.insert(name, json!({"key": shown, "folder": rest.contains('/')}));
            }
            if entries.is_empty() {
                return (
                    Vec::new(),
                    Err(Failure::Rejected(vec!["no such folder".to_owned()])),
                );
            }
            let entries: Vec<Value> = entries.into_values().collect();
            (
                Vec::new(),
                Ok(json!({"objects": entries, "objectStorageUsed": 5, "total": entries.len()})),
            )
        }
        "read_object_store_file_job_id" => {
            let asked = match given.get("keys") {
                Some(Value::Array(items)) => items.iter().filter_map(text).collect(),
                other => other.and_then(text).into_iter().collect::<Vec<_>>(),
            };
            let keys: Vec<String> = asked.iter().flat_map(|key| below(state, key)).collect();
            state.next += 1;
            let job = format!("job-{}", state.next);
            state.jobs.insert(job.clone(), keys.clone());
            (touched(&keys), Ok(json!({"jobId": job, "url": null})))
        }
        "read_object_store_file_download_url" => {
            let job = given.text("jobid").unwrap_or_default();
            let keys = state.jobs.get(&job).cloned().unwrap_or_default();
            (
                touched(&keys),
                Ok(json!({"jobId": job, "url": keys.join(",")})),
            )
        }
        "delete_object" => {
            let keys = below(state, &given.text("key").unwrap_or_default());
            state.objects.retain(|key| !keys.contains(key));
            (touched(&keys), Ok(json!({})))
        }
        _ => {
            let key = tidied(&given.text("key").unwrap_or_default());
            (
                touched(std::slice::from_ref(&key)),
                Ok(json!({"metadata": {"key": key}})),
            )
        }
    }
}

impl World {
    /// Gives a project a second deployment.
    pub fn beside(&self, project: u32, status: &'static str, brokerage: &'static str) {
        let mut state = self.state.lock();
        state.children.insert(format!("L-{project}b"), project);
        state.beside.insert(project, (status, brokerage));
    }
}
