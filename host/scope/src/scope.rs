//! The resolver: from a call's arguments to what it touches.
//!
//! It uses only the selectors of an operation. It reads the name of the project (cached), the project of a backtest
//! and the like (cached), and where an error would be costly, more: the deployment that a command goes to, the host's
//! own estimate of an optimisation, whether a key of the Object Store is a folder.
//!
//! Invariant: a project's name, the project of a child and a cost come from the account or from the host's configuration,
//! never from an argument alone. What cannot be read is an error or counts as unknown; no default takes its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Once;
use std::time::Duration;

use qchost_catalog::host_calls::{LIST_OBJECT_STORE_FILES, READ_FILE};
use qchost_catalog::shape::Type;
use qchost_catalog::{Access, Failure, Operation, Selector};
use qchost_policy::{Context, Facts, Project, Resource, Usd};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::arguments::Arguments;
use crate::children::{Child, Children, elsewhere};
use crate::created::Created;
use crate::deployments::Deployments;
use crate::error::ScopeError;
use crate::jobs::{Jobs, Objects};
use crate::live::{self, LiveProfile};
use crate::patch::Patch;
use crate::projects::Projects;
use crate::reads::{Reader, read, refused, unavailable};
use crate::selection::Selection;
use crate::{cost, names};

/// Maximum folders of the Object Store that are listed to decide one call.
const MAX_LISTINGS: usize = 16;

/// What a call touches: what has to be decided, and what its answer is checked against.
#[derive(Debug, Clone)]
pub struct Touched {
    /// Facts that all have to be allowed; at least one.
    pub facts: Vec<Facts>,
    /// The project, by id and name.
    pub project: Option<(u32, String)>,
    /// The cost, if known.
    pub cost: Option<Usd>,
    /// The largest number of backtests of the grid that the call has; `None` if it has none, or the number is unknown.
    pub combinations: Option<u64>,
    /// Whether it requests everything of a kind: then each item of the answer is decided.
    pub listing: bool,
    /// Live deployments that said, when they were read, that they trade with real money.
    pub live_deployments: Vec<String>,
    pub(crate) check: Check,
}

impl Touched {
    /// The answer is this much older than the call: what is learned from it expires accordingly earlier.
    pub fn answered_earlier(&mut self, age: Duration) {
        let begun = self.check.begun;
        self.check.begun = begun.checked_sub(age).unwrap_or(begun);
    }
}

/// What a call touches, except the files of a patch in it, which has not been read yet. Nothing can be allowed before
/// that.
#[derive(Debug)]
pub struct Resolved {
    touched: Touched,
    patch: Option<Patch>,
}

impl Resolved {
    /// What is known without reading further. If no grant covers this, the call is refused; it is not enough to allow
    /// it.
    #[must_use]
    pub fn known(&self) -> &Touched {
        &self.touched
    }

    /// The number of bytes to be read, if any.
    #[must_use]
    pub fn unread(&self) -> Option<usize> {
        self.patch.as_ref().map(Patch::len)
    }

    /// Reads the rest, in linear time.
    ///
    /// # Errors
    /// When a patch names no file, too many, or one with an ambiguous name.
    pub fn read(self) -> Result<Touched, ScopeError> {
        let Self { mut touched, patch } = self;
        if let Some(patch) = patch {
            let files: Vec<String> = patch.files()?.into_iter().collect();
            let of_file = |facts: &Facts| {
                let facts = facts.clone();
                files.iter().map(move |file| {
                    let mut facts = facts.clone();
                    facts.context.file = Some(file.clone());
                    facts
                })
            };
            touched.facts = touched.facts.iter().flat_map(of_file).collect();
        }
        Ok(touched)
    }
}

impl From<Touched> for Resolved {
    fn from(touched: Touched) -> Self {
        Self {
            touched,
            patch: None,
        }
    }
}

/// What an answer is checked against.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    /// When the call was resolved: the answer is at least as recent.
    pub(crate) begun: Instant,
    /// The context common to all facts.
    pub(crate) context: Context,
    /// The live deployment that the call names.
    pub(crate) deployment: Option<String>,
    /// A child whose project is unknown until the answer names it.
    pub(crate) unverified: Option<(Child, String)>,
    /// The objects of a download.
    pub(crate) objects: Option<Objects>,
    /// The download that is requested.
    pub(crate) job: Option<String>,
}

/// Resolves calls, and remembers what it learned.
pub struct Scope {
    pub(crate) projects: Projects,
    pub(crate) children: Children,
    pub(crate) deployments: Deployments,
    pub(crate) jobs: Jobs,
    pub(crate) created: Created,
    /// Warns once of a listing that is not whole.
    pub(crate) partial_listing: Once,
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

/// The parts of the operator's configuration that are used for resolving. They may change between calls.
#[derive(Clone, Copy)]
pub struct Configured<'a> {
    /// The profiles.
    pub live_profile: LiveProfile<'a>,
    /// US dollars for an hour of one node, by node type: `O2-8`.
    pub node_prices: &'a BTreeMap<String, Usd>,
    /// The most nodes of one optimisation, by node type.
    pub node_maxima: &'a BTreeMap<String, u32>,
}

/// The plugin for which a call is resolved.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) reader: &'a dyn Reader,
    pub(crate) account: &'a str,
    pub(crate) plugin: &'a str,
}

/// Checks the form of the project's id, if a call has one: no grant makes a text a number. Reads nothing, and reveals
/// nothing about existing projects.
///
/// # Errors
/// When it is not a whole number, or not a possible id.
pub fn check_project_id(
    operation: &'static Operation,
    arguments: &Map<String, Value>,
) -> Result<(), ScopeError> {
    let Ok(given) = Arguments::of(operation, arguments) else {
        // Unknown arguments are reported once the rest is known to be granted.
        return Ok(());
    };
    for selector in operation.selectors {
        if let Selector::Project(name) = selector
            && arguments.get(*name).is_some_and(|value| !value.is_null())
        {
            given.positive(name)?;
        }
    }
    Ok(())
}

impl Scope {
    /// A scope that has learned nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            projects: Projects::new(),
            children: Children::new(),
            deployments: Deployments::new(),
            jobs: Jobs::new(),
            created: Created::default(),
            partial_listing: Once::new(),
        }
    }

    /// Adds a project created by a plugin, as stored in the ledger.
    pub fn remember_created(&self, account: &str, plugin: &str, project: u32) {
        self.created.remember(account, plugin, project);
    }

    /// Adds the project of a child, as stored in the ledger for compile jobs, so that it need not be read.
    pub fn remember_child(&self, account: &str, child: Child, id: &str, project: u32) {
        self.children.learn(account, child, id, project);
    }

    /// The name of a project, if it is known and no older than a minute.
    #[must_use]
    pub fn project_name_cached(&self, account: &str, project: u32) -> Option<String> {
        self.projects.cached(account, project)
    }

    /// A project as far as it is known without a read, for a plugin that may have created it.
    #[must_use]
    pub fn known_project(&self, account: &str, plugin: &str, project: u32) -> Option<Project> {
        let name = self.projects.cached(account, project)?;
        Some(self.named(account, plugin, project, name))
    }

    /// A project of this name, for a plugin that may have created it.
    pub(crate) fn named(&self, account: &str, plugin: &str, id: u32, name: String) -> Project {
        Project {
            id: Some(id),
            name,
            created: self.created.by(account, plugin, id),
        }
    }

    /// A tool that the catalog does not know: it is unknown what it touches.
    #[must_use]
    pub fn unknown_tool(&self, tool: &str) -> Touched {
        let context = Context {
            tool: Some(tool.to_owned()),
            live: true,
            ..Context::default()
        };
        Touched::one(Resource::Account, context)
    }

    /// A service of the host that touches nothing by itself.
    #[must_use]
    pub fn service(&self) -> Touched {
        Touched::one(Resource::Account, Context::default())
    }

    /// The bytes of one object.
    ///
    /// # Errors
    /// When organisation or key are ambiguous.
    pub fn download(&self, organization: &str, key: &str) -> Result<Touched, ScopeError> {
        names::identifier("organization-id", organization)?;
        names::path("key", key)?;
        let context = Context {
            organization: Some(organization.to_owned()),
            ..Context::default()
        };
        Ok(Touched::one(object(organization, key), context))
    }

    /// Resolves what a call touches, including long texts.
    ///
    /// # Errors
    /// As [`resolve_known`](Self::resolve_known) and [`Resolved::read`].
    pub async fn resolve(
        &self,
        reader: &dyn Reader,
        configured: Configured<'_>,
        account: &str,
        plugin: &str,
        operation: &'static Operation,
        arguments: &Map<String, Value>,
    ) -> Result<Touched, ScopeError> {
        self.resolve_known(reader, configured, account, plugin, operation, arguments)
            .await?
            .read()
    }

    /// Resolves what a call touches, except long texts. `arguments` are flat, under their JSON names, with profiles
    /// still by name.
    ///
    /// # Errors
    /// When an argument is missing, of the wrong type or ambiguous; when it names something that does not exist or
    /// belongs to another project; when a necessary read gave no answer. Only reads of the host's own were sent then.
    pub async fn resolve_known(
        &self,
        reader: &dyn Reader,
        configured: Configured<'_>,
        account: &str,
        plugin: &str,
        operation: &'static Operation,
        arguments: &Map<String, Value>,
    ) -> Result<Resolved, ScopeError> {
        let begun = Instant::now();
        let given = Arguments::of(operation, arguments)?;
        let mut selection = Selection::of(operation, &given, configured.live_profile)?;
        if let (Some(node_type), Some(nodes)) = (&selection.node_type, selection.parallel_nodes) {
            cost::check_nodes(configured.node_maxima, node_type, nodes)?;
        }
        let patch = selection.patch.take();
        let caller = Caller {
            reader,
            account,
            plugin,
        };
        let project = self.project(caller, operation, &selection).await?;
        let unverified = self.check_children(caller, operation, &selection).await?;
        let objects = self.objects(caller, operation, &selection).await?;
        let libraries = self.libraries(caller, &selection).await?;
        if let (true, Some(project)) = (selection.replaces_files, selection.project) {
            // What is not in the list is deleted.
            let present = present_files(reader, project).await?;
            let given = std::mem::take(&mut selection.files);
            let all: BTreeSet<String> = given.into_iter().chain(present).collect();
            selection.files = all.into_iter().collect();
        }

        let mut context = selection.context();
        let id = project.as_ref().and_then(|project| project.id);
        let mut live_deployments = Vec::new();
        context.live = self
            .live_at_stake(caller, operation, &selection, id, &mut live_deployments)
            .await?;
        if let (Some(claimed), Some(node_type)) = (selection.claimed, &selection.node_type) {
            let price = configured.node_prices.get(node_type).copied();
            context.cost = cost::cost(reader, price, &given, claimed, selection.backtests).await?;
        }

        let contexts = contexts(&selection, &context);
        let facts = resources(&selection, project.as_ref(), objects.as_ref())
            .into_iter()
            .chain(libraries.into_iter().map(Resource::Project))
            .flat_map(|resource| {
                contexts.iter().map(move |context| Facts {
                    resource: resource.clone(),
                    context: context.clone(),
                })
            })
            .collect();
        let touched = Touched {
            facts,
            cost: context.cost,
            combinations: selection.backtests,
            project: project.and_then(|project| Some((project.id?, project.name))),
            listing: selection.listing,
            live_deployments,
            check: Check {
                begun,
                context,
                deployment: selection.named(Child::Deployment),
                unverified,
                objects,
                job: selection.job,
            },
        };
        Ok(Resolved { touched, patch })
    }

    /// The project, with its name from the account: the current one for irreversible calls and for those about the
    /// name.
    async fn project(
        &self,
        caller: Caller<'_>,
        operation: &Operation,
        selection: &Selection,
    ) -> Result<Option<Project>, ScopeError> {
        let Caller {
            reader,
            account,
            plugin,
        } = caller;
        let id = match (selection.project, selection.children.as_slice()) {
            (Some(project), _) => project,
            (None, [(child, id)]) => {
                let children = &self.children;
                children.project(reader, account, *child, id, None).await?
            }
            (None, _) => return Ok(None),
        };
        let exact =
            matches!(operation.access, Access::Destroy | Access::Trade) || selection.name.is_some();
        let name = if exact {
            self.projects.name_now(reader, account, id).await?
        } else {
            self.projects.name(reader, account, id).await?
        };
        if operation.changes_project() {
            self.projects.forget(account, id);
        }
        Ok(Some(self.named(account, plugin, id, name)))
    }

    /// The projects whose files become readable for another one's algorithm, with their current names.
    async fn libraries(
        &self,
        caller: Caller<'_>,
        selection: &Selection,
    ) -> Result<Vec<Project>, ScopeError> {
        let mut libraries = Vec::new();
        for id in &selection.libraries {
            let (reader, account) = (caller.reader, caller.account);
            let name = self.projects.name_now(reader, account, *id).await?;
            libraries.push(self.named(account, caller.plugin, *id, name));
        }
        Ok(libraries)
    }

    /// Checks again that a call which replaces the files of a project deletes none that was not decided about: while it
    /// waited, the project may have got another one.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if it has got one, and the error of the read if its files cannot be listed.
    pub async fn check_files(
        &self,
        reader: &dyn Reader,
        operation: &Operation,
        touched: &Touched,
    ) -> Result<(), ScopeError> {
        let replaces = operation.selects(|selector| matches!(selector, Selector::Files(_)));
        let Some((project, _)) = touched.project.as_ref().filter(|_| replaces) else {
            return Ok(());
        };
        let present = present_files(reader, *project).await?;
        let files = touched.facts.iter();
        let decided: BTreeSet<&str> = files
            .filter_map(|facts| facts.context.file.as_deref())
            .collect();
        if present.iter().all(|name| decided.contains(name.as_str())) {
            return Ok(());
        }
        // Not which one: the plugin may not be allowed to see it.
        Err(ScopeError::Failed(Failure::Unavailable(format!(
            "project {project} got another file while the call waited, so it was not sent; make the call again"
        ))))
    }

    /// Checks that children belong to the project that the call claims. Returns the one that has to be checked in the
    /// answer.
    async fn check_children(
        &self,
        caller: Caller<'_>,
        operation: &Operation,
        selection: &Selection,
    ) -> Result<Option<(Child, String)>, ScopeError> {
        let Some(project) = selection.project else {
            return Ok(None);
        };
        let mut unverified = None;
        for (child, id) in &selection.children {
            let known = self.children.cached(caller.account, *child, id);
            if known.is_none() && operation.access == Access::Read && carries(operation, *child) {
                unverified = Some((*child, id.clone()));
                continue;
            }
            let children = &self.children;
            let found = children
                .project(caller.reader, caller.account, *child, id, Some(project))
                .await;
            // The same text, so that the plugin does not learn what exists elsewhere.
            match found {
                Ok(found) if found == project => {}
                Ok(_) | Err(ScopeError::Denied(_)) => {
                    return Err(elsewhere(*child, id, project));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unverified)
    }

    /// Whether real money, or rights over it, may be at stake.
    async fn live_at_stake(
        &self,
        caller: Caller<'_>,
        operation: &Operation,
        selection: &Selection,
        project: Option<u32>,
        reported: &mut Vec<String>,
    ) -> Result<bool, ScopeError> {
        if let Some(brokerage) = &selection.brokerage {
            return Ok(brokerage.live);
        }
        if operation.access != Access::Trade {
            return Ok(false);
        }
        match (selection.live_control, &selection.command, project) {
            (Some(live_control), _, _) => Ok(live_control),
            (None, Some(_), Some(project)) => {
                let (reader, account) = (caller.reader, caller.account);
                let deployments = &self.deployments;
                let on_paper = live::on_paper(reader, account, deployments, project, reported);
                Ok(!on_paper.await?)
            }
            _ => Ok(true),
        }
    }

    /// The objects, with `KEY/` beside `KEY` if the server would include what is below it.
    async fn objects(
        &self,
        caller: Caller<'_>,
        operation: &Operation,
        selection: &Selection,
    ) -> Result<Option<Objects>, ScopeError> {
        let Some(organization) = &selection.organization else {
            return Ok(None);
        };
        if let Some(job) = &selection.job {
            let (account, plugin) = (caller.account, caller.plugin);
            let objects = self.jobs.objects(account, plugin, job, organization);
            return objects.map(Some);
        }
        if selection.keys.is_empty() {
            return Ok(None);
        }
        let mut keys = selection.keys.clone();
        if operation.takes_folders() {
            let folders = folders(caller.reader, organization, &selection.keys).await?;
            keys.extend(folders.into_iter().map(|key| format!("{key}/")));
        }
        Ok(Some(Objects {
            organization: organization.clone(),
            keys,
        }))
    }
}

impl Touched {
    /// A single resource, whose answer needs no check.
    fn one(resource: Resource, context: Context) -> Self {
        Self {
            project: None,
            cost: None,
            combinations: None,
            listing: false,
            live_deployments: Vec::new(),
            check: Check {
                begun: Instant::now(),
                context: context.clone(),
                deployment: None,
                unverified: None,
                objects: None,
                job: None,
            },
            facts: vec![Facts { resource, context }],
        }
    }
}

pub(crate) fn object(organization: &str, key: &str) -> Resource {
    Resource::Object {
        organization: organization.to_owned(),
        key: key.to_owned(),
    }
}

/// Whether the contract's answer names the project of a child, and the child itself.
fn carries(operation: &Operation, child: Child) -> bool {
    let Some(Type::Record(record)) = operation.function().and_then(|function| function.result)
    else {
        return false;
    };
    let has = |name: &str| record.fields.iter().any(|field| field.json == name);
    has("projectId") && has(child.field())
}

/// The names of the files that a project has.
async fn present_files(reader: &dyn Reader, project: u32) -> Result<Vec<String>, ScopeError> {
    let what = format!("the list of files of project {project}");
    let arguments = Map::from_iter([("projectId".to_owned(), Value::from(project))]);
    let answer = read(reader, READ_FILE, arguments, &what).await?;
    let files = answer.get("files").and_then(Value::as_array);
    let names = files.map(|files| {
        let names = files.iter().map(|file| file.get("name")?.as_str());
        names
            .map(|name| name.map(str::to_owned))
            .collect::<Option<Vec<_>>>()
    });
    names
        .flatten()
        .ok_or_else(|| unavailable(&what, "the answer does not name them"))
}

/// The keys that are, or may be, folders.
///
/// The keys of one folder share one listing, so a call with many keys costs as many reads as it names folders, at
/// most [`MAX_LISTINGS`].
async fn folders<'a>(
    reader: &dyn Reader,
    organization: &str,
    keys: &'a [String],
) -> Result<Vec<&'a str>, ScopeError> {
    let mut by_parent: BTreeMap<&str, BTreeSet<&'a str>> = BTreeMap::new();
    for key in keys {
        let parent = key.rsplit_once('/').map_or("/", |(parent, _)| parent);
        by_parent.entry(parent).or_default().insert(key);
    }
    if by_parent.len() > MAX_LISTINGS {
        return Err(ScopeError::Invalid(format!(
            "the keys are of {} folders, and one call may name keys of at most {MAX_LISTINGS}; split it",
            by_parent.len()
        )));
    }
    let mut folders = Vec::new();
    for (parent, keys) in by_parent {
        if let (1, Some(only)) = (keys.len(), keys.first()) {
            let listed = listing(reader, organization, only).await?;
            // A key unknown to the server is not a folder.
            let folder = |entries: &[Value]| !entries.iter().all(|entry| is_object(entry, only));
            if listed.is_some_and(|entries| folder(&entries)) {
                folders.push(*only);
            }
            continue;
        }
        let listed = listing(reader, organization, parent).await?;
        let objects: BTreeSet<&str> = listed
            .iter()
            .flatten()
            .filter_map(|entry| keys.iter().find(|key| is_object(entry, key)).copied())
            .collect();
        let below = |key: &str| format!("{key}/");
        let may_be_folder = |key: &str| {
            let mut entries = listed.iter().flatten();
            let is_folder = entries.any(|entry| {
                let at = key_in(entry);
                (at == Some(key) && !is_object(entry, key))
                    || at.is_some_and(|at| at.starts_with(&below(key)))
            });
            // A key missing in the listing may be a folder: the listing may be partial.
            is_folder || !objects.contains(key)
        };
        folders.extend(keys.iter().copied().filter(|key| may_be_folder(key)));
    }
    Ok(folders)
}

/// The entries of a folder, or the object itself; empty if the server has neither.
async fn listing(
    reader: &dyn Reader,
    organization: &str,
    path: &str,
) -> Result<Option<Vec<Value>>, ScopeError> {
    let arguments = Map::from_iter([
        ("organizationId".to_owned(), Value::from(organization)),
        ("path".to_owned(), Value::from(path)),
    ]);
    let mut answer = match reader.read(LIST_OBJECT_STORE_FILES, arguments).await {
        Ok(answer) => answer,
        // Servers have their own errors for listing something that is not a folder.
        Err(Failure::NotFound(_) | Failure::Rejected(_) | Failure::InvalidArgument(_)) => {
            return Ok(None);
        }
        Err(failure) => return Err(refused(failure, "the folder")),
    };
    Ok(match answer.get_mut("objects").map(Value::take) {
        Some(Value::Array(entries)) => Some(entries),
        _ => None,
    })
}

/// The key of an entry, without surrounding slashes in some answers.
fn key_in(entry: &Value) -> Option<&str> {
    let key = entry.get("key").and_then(Value::as_str)?;
    Some(key.trim_matches('/'))
}

/// Whether an entry of a listing is the object of this key rather than a folder.
fn is_object(entry: &Value, key: &str) -> bool {
    key_in(entry) == Some(key) && !is_folder(entry)
}

/// Whether an entry of a listing is a folder: the flag has two names, depending on who describes it.
pub(crate) fn is_folder(entry: &Value) -> bool {
    let flag = |name: &str| entry.get(name).and_then(Value::as_bool) == Some(true);
    flag("folder") || flag("isFolder")
}

/// One context for each combination of touched items.
fn contexts(selection: &Selection, base: &Context) -> Vec<Context> {
    let mut contexts = vec![base.clone()];
    let mut each = |several: &[String], set: fn(&mut Context, String)| {
        if several.is_empty() {
            return;
        }
        contexts = contexts
            .iter()
            .flat_map(|context| {
                several.iter().map(|one| {
                    let mut context = context.clone();
                    set(&mut context, one.clone());
                    context
                })
            })
            .collect();
    };
    each(&selection.files, |context, file| context.file = Some(file));
    each(&selection.nodes, |context, node| context.node = Some(node));
    each(&selection.providers, |context, provider| {
        context.data_provider = Some(provider);
    });
    contexts
}

/// The touched resources; at least one.
fn resources(
    selection: &Selection,
    project: Option<&Project>,
    objects: Option<&Objects>,
) -> Vec<Resource> {
    let mut resources: Vec<Resource> = project
        .cloned()
        .map(Resource::Project)
        .into_iter()
        .collect();
    let called = project.map(|project| project.name.as_str());
    if let Some(name) = &selection.name
        && called != Some(name.as_str())
    {
        resources.push(Resource::Project(Project {
            id: None,
            name: name.clone(),
            created: false,
        }));
    }
    if let Some(Objects { organization, keys }) = objects {
        resources.extend(keys.iter().map(|key| object(organization, key)));
    }
    match &selection.organization {
        _ if !resources.is_empty() => {}
        Some(organization) if !selection.listing => {
            resources.push(Resource::Organization(organization.clone()));
        }
        _ => resources.push(Resource::Account),
    }
    resources
}
