//! A project: its files, its settings and who may work on it.
//!
//! Invariant: two files of a project never have the same name, and a lock names the one code
//! source whose edits are let through.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::arguments::Arguments;
use crate::collaborators::Collaborator;
use crate::engine::{Language, SourceFile};
use crate::limits;
use crate::organizations::LATEST_VERSION;
use crate::state::{Cloud, State, instant_text};

/// One file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) id: u64,
    pub(crate) content: String,
    pub(crate) modified: Timestamp,
}

/// One project.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) language: Language,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    /// By name, which is a path with slashes.
    pub(crate) files: BTreeMap<String, File>,
    /// Values for `get_parameter`, in the order in which they were given.
    pub(crate) parameters: Vec<(String, String)>,
    /// Identifiers of library projects.
    pub(crate) libraries: BTreeSet<u32>,
    /// Without the owner.
    pub(crate) collaborators: Vec<Collaborator>,
    /// The code source that holds the lock.
    pub(crate) lock: Option<String>,
    /// Nodes chosen for the project; empty means that any will do.
    pub(crate) nodes: BTreeSet<String>,
    /// A LEAN version, where the project is pinned to one.
    pub(crate) lean_version: Option<i64>,
    pub(crate) lean_environment: i64,
}

/// The name that the API has for a language.
pub(crate) fn language_name(language: Language) -> &'static str {
    match language {
        Language::Python => "Py",
        Language::CSharp => "C#",
    }
}

/// The language that the field `language` names.
pub(crate) fn language_of(arguments: &Arguments) -> Result<Language, Refusal> {
    match arguments.text("language")? {
        "Py" => Ok(Language::Python),
        "C#" => Ok(Language::CSharp),
        _ => Err(Refusal::invalid("language", "'Py' or 'C#'")),
    }
}

impl Project {
    /// Lets an edit through unless another code source holds the lock. A request that names no
    /// code source is let through: that is how the `lean` command line forces a push.
    pub(crate) fn check_lock(&self, arguments: &Arguments) -> Result<(), Refusal> {
        let source = arguments.optional_text("codeSourceId")?;
        match (&self.lock, source) {
            (Some(holder), Some(source)) if holder != source => Err(Refusal::because(format!(
                "The project is locked by another code source: '{holder}'. Acquire the lock first"
            ))),
            _ => Ok(()),
        }
    }

    /// Adds a file, or replaces the content of one.
    pub(crate) fn put(&mut self, name: String, content: String, id: u64, now: Timestamp) {
        self.modified = now;
        let file = self.files.entry(name).or_insert_with(|| File {
            id,
            content: String::new(),
            modified: now,
        });
        file.content = content;
        file.modified = now;
    }

    /// The files as the engine takes them.
    pub(crate) fn sources(&self) -> Vec<SourceFile> {
        let source = |(name, file): (&String, &File)| SourceFile {
            name: name.clone(),
            content: file.content.clone(),
        };
        self.files.iter().map(source).collect()
    }

    /// One file as the API shows it.
    pub(crate) fn file_json(&self, name: &str, file: &File) -> Value {
        json!({
            "id": file.id,
            "projectId": self.id,
            "name": name,
            "content": file.content,
            "modified": instant_text(file.modified),
            "open": false,
            "isLibrary": false,
        })
    }

    /// The project as the API shows it.
    pub(crate) fn json(&self, cloud: &Cloud, state: &State) -> Value {
        let pair = |(key, value): &(String, String)| json!({"key": key, "value": value});
        // QuantConnect's MCP server takes an object here and its command line both: where
        // there is nothing to list, both are served.
        let parameters = if self.parameters.is_empty() {
            json!({})
        } else {
            self.parameters.iter().map(pair).collect()
        };
        let libraries: Vec<Value> = self
            .libraries
            .iter()
            .filter_map(|id| state.projects.get(id))
            .map(|library| {
                json!({
                    "projectId": library.id,
                    "libraryName": library.name,
                    "ownerName": crate::organizations::USER_NAME,
                    "access": true,
                })
            })
            .collect();
        let last = state
            .deployments
            .iter()
            .rev()
            .find(|deployment| deployment.project_id == self.id);
        let running = last.is_some_and(|deployment| deployment.stopped.is_none())
            || state
                .backtests
                .iter()
                .any(|backtest| backtest.project_id == self.id && !backtest.finished());
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
            "projectId": self.id,
            "organizationId": cloud.settings.organization_id,
            "name": self.name,
            "description": self.description,
            "modified": instant_text(self.modified),
            "created": instant_text(self.created),
            "ownerId": cloud.settings.credentials.user_id,
            "owner": true,
            "language": language_name(self.language),
            "collaborators": crate::collaborators::all_json(cloud, self),
            "leanVersionId": self.lean_version.unwrap_or(LATEST_VERSION),
            "leanPinnedToMaster": self.lean_version.is_none(),
            "leanEnvironment": self.lean_environment,
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
}

/// A name for a project: a path with slashes, without empty parts.
pub(crate) fn check_project_name(name: &str) -> Result<String, Refusal> {
    let name = name.trim().trim_start_matches('/');
    check_path("name", name)?;
    Ok(name.to_owned())
}

/// A name for a file or a project: a relative path of bounded length with no way out.
pub(crate) fn check_path(field: &str, path: &str) -> Result<(), Refusal> {
    let fits = path.chars().count() <= limits::NAME_LENGTH;
    let plain = !path
        .chars()
        .any(|character| character.is_control() || character == '\\');
    let parts = path
        .split('/')
        .all(|part| !part.trim().is_empty() && part != "." && part != "..");
    if fits && plain && parts {
        return Ok(());
    }
    Err(Refusal::invalid(
        field,
        "a relative path of at most 200 characters without '.', '..' or empty parts",
    ))
}
