//! Reduces answers to what the caller may see.
//!
//! An answer is untrusted in one respect: that it is about what was requested. Of a listing, each item is decided
//! separately.
//!
//! Invariant: a part of an answer that belongs to another project is removed or the answer is withheld, whatever the
//! server intended.

use std::collections::BTreeSet;

use qchost_catalog::host_calls::LIST_PROJECTS;
use qchost_catalog::{Access, Job, Operation, Selector, is_deleted_project};
use qchost_policy::{Context, Facts, Project, Resource};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::Reader;
use crate::children::{Child, elsewhere};
use crate::choice::check_named;
use crate::error::ScopeError;
use crate::live::reported_live;
use crate::reads::{Carried, project_in, read};
use crate::scope::{Caller, Scope, Touched, is_folder, object};

/// Lists whose items may belong to several projects or refer to one.
const LISTS: [&str; 5] = ["backtests", "live", "optimizations", "projects", "files"];
/// Fields with the number of items beside them.
const COUNTS: [&str; 3] = ["count", "length", "total"];
/// Maximum bytes of an id that is remembered; real ones have 32.
const MAX_ID: usize = 128;
/// Up to this many names are read individually; more with one listing.
const MAX_SINGLE_READS: usize = 3;

/// Decides about one item.
type Allowed<'a> = &'a (dyn Fn(&Facts) -> bool + Send + Sync);

/// What an answer revealed, for the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// A project that the plugin created.
    pub created: Option<u32>,
    /// A compile job that the plugin started: its project and its id.
    pub compile: Option<(u32, String)>,
    /// A backtest or an optimisation that the plugin started: its project, which of the two, and its id.
    pub started: Option<(u32, Job, String)>,
    /// A live deployment that said that it trades with real money.
    pub live_deployment: Option<String>,
}

impl Scope {
    /// Checks and filters the body of a successful answer. `allowed` decides as it did about [`Touched::facts`].
    ///
    /// # Errors
    /// When the answer is about another project than the call, or does not say which although only it can: it is
    /// withheld. When a read that is needed to decide about an item gave no answer.
    #[allow(clippy::too_many_arguments)]
    pub async fn answer(
        &self,
        reader: &dyn Reader,
        account: &str,
        plugin: &str,
        operation: &'static Operation,
        touched: &Touched,
        mut body: Value,
        allowed: &(dyn Fn(&Facts) -> bool + Send + Sync),
    ) -> Result<(Value, Learned), ScopeError> {
        let caller = Caller {
            reader,
            account,
            plugin,
        };
        if let Some((project, name)) = &touched.project {
            if operation.changes_project() {
                self.projects.forget(account, *project);
            }
            of_one_project(operation, touched, *project, &mut body)?;
            let project = self.named(account, plugin, *project, name.clone());
            self.keep_allowed_files(&project, touched, &mut body, allowed)?;
            if let Some(pools) = body.get_mut("nodes") {
                self.blank_other_projects(caller, Some(&project), touched, pools, allowed);
            }
        } else if operation.answers_nodes() {
            self.blank_other_projects(caller, None, touched, &mut body, allowed);
        }
        check_job(touched, operation, &body)?;
        check_named(operation, touched, selected(operation, &body))?;
        if operation.deploys()
            && let Some((project, _)) = &touched.project
        {
            self.deployments.forget(account, *project);
        }
        let learned = self.learn(caller, operation, touched, &body);
        if touched.listing {
            self.filter(caller, operation, touched, &mut body, allowed)
                .await?;
        }
        Ok((body, learned))
    }

    /// The denial for a call that the server refused, if the server's own text would distinguish an id that does not
    /// exist from one of another project.
    #[must_use]
    pub fn refused(&self, account: &str, touched: &Touched) -> Option<ScopeError> {
        let (child, id) = touched.check.unverified.as_ref()?;
        let (project, _) = touched.project.as_ref()?;
        let known = self.children.cached(account, *child, id);
        (known != Some(*project)).then(|| elsewhere(*child, id, *project))
    }

    /// Keeps the files that the caller may see. Deployments return files too.
    fn keep_allowed_files(
        &self,
        project: &Project,
        touched: &Touched,
        body: &mut Value,
        allowed: Allowed<'_>,
    ) -> Result<(), ScopeError> {
        // What was established about the project after it was resolved.
        let evidence = touched
            .facts
            .iter()
            .find_map(|facts| facts.context.evidence);
        let visibility = |file: &Value| {
            let Some(name) = file.get("name").and_then(Value::as_str) else {
                return Visibility::Unreadable;
            };
            Visibility::from(allowed(&Facts {
                resource: Resource::Project(project.clone()),
                context: Context {
                    file: Some(name.to_owned()),
                    evidence,
                    ..touched.check.context.clone()
                },
            }))
        };
        let one = touched
            .facts
            .iter()
            .any(|facts| facts.context.file.is_some());
        let Value::Object(fields) = body else {
            return Ok(());
        };
        if let Some(files) = fields.get_mut("files")
            && keep(files, &visibility) == FilterResult::NoneOfSome
            && one
        {
            return Err(ScopeError::Denied(
                "the answer is about another file than the call; it is withheld".to_owned(),
            ));
        }
        for part in fields.values_mut() {
            if let Some(files) = part.get_mut("files") {
                keep(files, &visibility);
            }
        }
        Ok(())
    }

    /// The nodes of an organisation, by what they are for, reveal which project uses them. `project` is the one that the
    /// call is about, if it is about one.
    fn blank_other_projects(
        &self,
        caller: Caller<'_>,
        project: Option<&Project>,
        touched: &Touched,
        pools: &mut Value,
        allowed: Allowed<'_>,
    ) {
        let Value::Object(kinds) = pools else {
            return;
        };
        let own = project.and_then(|project| project.id);
        let nodes = kinds.values_mut().filter_map(Value::as_array_mut).flatten();
        for node in nodes {
            let busy = self
                .named_project(caller, node, "projectName")
                .or_else(|| only_named(node));
            let may_see = own.map(Carried::Project) == Some(project_in(node))
                || busy.is_some_and(|busy| {
                    allowed(&Facts {
                        resource: Resource::Project(busy),
                        context: touched.check.context.clone(),
                    })
                });
            if may_see {
                continue;
            }
            for field in ["projectId", "projectName"] {
                if let Some(value) = node.get_mut(field) {
                    *value = Value::Null;
                }
            }
        }
    }

    /// The project of an item: its id, and its name in a field.
    fn named_project(&self, caller: Caller<'_>, item: &Value, field: &str) -> Option<Project> {
        let Carried::Project(id) = project_in(item) else {
            return None;
        };
        let name = item.get(field)?.as_str()?.to_owned();
        Some(self.named(caller.account, caller.plugin, id, name))
    }

    /// Remembers the names and project relations in an answer.
    fn learn(
        &self,
        caller: Caller<'_>,
        operation: &Operation,
        touched: &Touched,
        body: &Value,
    ) -> Learned {
        let (account, begun) = (caller.account, touched.check.begun);
        let project = touched.project.as_ref().map(|(project, _)| *project);
        let parts = [Some(body), selected(operation, body)];
        let items = LISTS.iter().filter_map(|list| body.get(list)?.as_array());
        for part in parts.into_iter().flatten().chain(items.flatten()) {
            self.learn_children(account, part, project);
        }
        self.learn_names(caller, body, begun);
        let mut learned = Learned::default();
        let new = touched.facts.first().map(|facts| &facts.resource);
        if let Some(Resource::Project(Project { id: None, .. })) = new
            && let Some(Carried::Project(created)) = selected(operation, body).map(project_in)
        {
            self.created.remember(account, caller.plugin, created);
            learned.created = Some(created);
        }
        let compile = body.get("compileId").and_then(Value::as_str);
        if let (Some(project), Some(compile)) = (project, compile)
            && operation.access == Access::Write
        {
            learned.compile = Some((project, compile.to_owned()));
        }
        if let (Some(project), Some((job, member))) = (project, operation.starts())
            && let Some(id) = selected(operation, body).and_then(|it| it.get(member)?.as_str())
            && id.len() <= MAX_ID
        {
            learned.started = Some((project, job, id.to_owned()));
        }
        if operation.deployment.is_some() {
            learned.live_deployment = reported_live(body);
        }
        if let Some(objects) = &touched.check.objects
            && operation.downloads()
            && let Some(job) = body.get("jobId").and_then(Value::as_str)
        {
            self.jobs
                .remember(account, caller.plugin, job, objects.clone());
        }
        learned
    }

    /// Remembers the project of a part of an answer. If it does not name one, it is the requested one.
    fn learn_children(&self, account: &str, part: &Value, requested: Option<u32>) {
        let project = match project_in(part) {
            Carried::Project(project) => Some(project),
            Carried::Nothing => requested,
            Carried::Other => None,
        };
        let Some(project) = project else {
            return;
        };
        for child in Child::ALL {
            if let Some(id) = part.get(child.field()).and_then(Value::as_str) {
                self.children.learn(account, child, id, project);
            }
        }
    }

    /// Keeps the items of a listing that the caller may see.
    async fn filter(
        &self,
        caller: Caller<'_>,
        operation: &Operation,
        touched: &Touched,
        body: &mut Value,
        allowed: Allowed<'_>,
    ) -> Result<(), ScopeError> {
        let context = &touched.check.context;
        let decide = |resource: Resource| {
            allowed(&Facts {
                resource,
                context: context.clone(),
            })
        };
        if operation.selects(|selector| matches!(selector, Selector::ObjectPath(_))) {
            let organization = context.organization.as_deref().unwrap_or_default();
            if is_partial(body) {
                self.partial_listing.call_once(|| {
                    tracing::warn!(
                        target: "scope",
                        operation = operation.name,
                        "QuantConnect's answer has several pages, and only the first can be asked for: objects are missing in it"
                    );
                });
            }
            filter_objects(body, &|key| decide(object(organization, key)));
            return Ok(());
        }
        if operation.answers_projects() {
            keep_in(body, "projects", &|item| {
                let project = self.named_project(caller, item, "name");
                project.map_or(Visibility::Unreadable, |project| {
                    let shown = !is_deleted_project(&project.name);
                    (shown && decide(Resource::Project(project))).into()
                })
            });
            return Ok(());
        }
        let list = operation.answer;
        let projects = self.projects_of(caller, body.get(list)).await?;
        let visible: BTreeSet<u32> = projects
            .into_iter()
            .filter_map(|project| {
                let id = project.id?;
                decide(Resource::Project(project)).then_some(id)
            })
            .collect();
        keep_in(body, list, &|item| match project_in(item) {
            Carried::Project(id) => visible.contains(&id).into(),
            Carried::Nothing | Carried::Other => Visibility::Unreadable,
        });
        Ok(())
    }

    /// The projects of the items of a list, as far as they can be resolved.
    async fn projects_of(
        &self,
        caller: Caller<'_>,
        list: Option<&Value>,
    ) -> Result<Vec<Project>, ScopeError> {
        let items = list.and_then(Value::as_array).into_iter().flatten();
        let ids: BTreeSet<u32> = items
            .filter_map(|item| match project_in(item) {
                Carried::Project(id) => Some(id),
                _ => None,
            })
            .collect();
        let unknown = |id: &&u32| self.projects.cached(caller.account, **id).is_none();
        if ids.iter().filter(unknown).count() > MAX_SINGLE_READS {
            self.read_all_names(caller).await?;
        }
        let mut projects = Vec::new();
        for id in ids {
            match self.projects.name(caller.reader, caller.account, id).await {
                Ok(name) => projects.push(self.named(caller.account, caller.plugin, id, name)),
                Err(ScopeError::Denied(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(projects)
    }

    async fn read_all_names(&self, caller: Caller<'_>) -> Result<(), ScopeError> {
        let begun = Instant::now();
        let what = "the list of projects";
        let answer = read(caller.reader, LIST_PROJECTS, Map::new(), what).await?;
        self.learn_names(caller, &answer, begun);
        Ok(())
    }

    /// Remembers the names in a list of projects.
    fn learn_names(&self, caller: Caller<'_>, answer: &Value, begun: Instant) {
        let projects = answer.get("projects").and_then(Value::as_array);
        for item in projects.into_iter().flatten() {
            if let Some(Project {
                id: Some(id), name, ..
            }) = self.named_project(caller, item, "name")
            {
                self.projects.learn(caller.account, id, &name, begun);
            }
        }
    }
}

/// The project of a node that has only its name: a grant can cover it by name.
fn only_named(node: &Value) -> Option<Project> {
    let name = node.get("projectName")?.as_str()?;
    (project_in(node) == Carried::Nothing && !name.is_empty()).then(|| Project {
        id: None,
        name: name.to_owned(),
        created: false,
    })
}

/// Withholds an answer about another project, and drops the items of one.
fn of_one_project(
    operation: &Operation,
    touched: &Touched,
    project: u32,
    body: &mut Value,
) -> Result<(), ScopeError> {
    let withheld = || match &touched.check.unverified {
        // The same text as for one that does not exist: the answer would otherwise reveal that it exists elsewhere.
        Some((child, id)) => elsewhere(*child, id, project),
        None => ScopeError::Denied(format!(
            "the answer of `{}` is not about project {project} as far as can be seen; it is withheld",
            operation.name
        )),
    };
    let part = selected(operation, body).filter(|part| part.is_object());
    let carried = [Some(project_in(body)), part.map(project_in)];
    let mut carried = carried.into_iter().flatten();
    if carried.any(|it| !matches!(it, Carried::Nothing) && it != Carried::Project(project)) {
        return Err(withheld());
    }
    if let Some((child, id)) = &touched.check.unverified {
        let says_so = |part: &Value| {
            project_in(part) == Carried::Project(project)
                && part.get(child.field()).and_then(Value::as_str) == Some(id)
        };
        if !part.is_some_and(says_so) {
            return Err(withheld());
        }
    }
    let of_it = |item: &Value| match project_in(item) {
        Carried::Nothing => Visibility::Seen,
        Carried::Project(of) => (of == project).into(),
        Carried::Other => Visibility::Unreadable,
    };
    for list in LISTS {
        if body.get(list).is_some_and(Value::is_array)
            && keep_in(body, list, &of_it) == FilterResult::NoneOfSome
        {
            return Err(withheld());
        }
    }
    Ok(())
}

/// The part of an answer that the contract returns.
fn selected<'a>(operation: &Operation, body: &'a Value) -> Option<&'a Value> {
    operation.answer_path().try_fold(body, |value, step| {
        step.parse::<usize>()
            .map_or_else(|_| value.get(step), |at| value.get(at))
    })
}

/// Withholds an answer about another download than the requested one.
fn check_job(touched: &Touched, operation: &Operation, body: &Value) -> Result<(), ScopeError> {
    let Some(requested) = &touched.check.job else {
        return Ok(());
    };
    match body.get("jobId") {
        None | Some(Value::Null) => Ok(()),
        Some(answered) if answered.as_str() == Some(requested) => Ok(()),
        Some(_) => Err(ScopeError::Denied(format!(
            "the answer of `{}` is about another download; it is withheld",
            operation.name
        ))),
    }
}

/// The result of filtering a list.
#[derive(Debug, PartialEq, Eq)]
enum FilterResult {
    All,
    Some,
    /// There were items, and none is left.
    NoneOfSome,
}

/// Whether an item may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visibility {
    Seen,
    Hidden,
    /// It is unclear what it is.
    Unreadable,
}

impl From<bool> for Visibility {
    fn from(may_see: bool) -> Self {
        if may_see { Self::Seen } else { Self::Hidden }
    }
}

/// Keeps the items that may be shown. A value that should be a list and is not becomes `false`: that reveals nothing, and
/// is reported as an answer that does not match. An empty list would wrongly say that there are no items. The same is
/// done to an item whose identity is unclear, so that it is counted as unreadable.
fn keep(list: &mut Value, visibility: &dyn Fn(&Value) -> Visibility) -> FilterResult {
    let Value::Array(items) = list else {
        if !list.is_null() {
            *list = Value::Bool(false);
        }
        return FilterResult::All;
    };
    let before = items.len();
    items.retain_mut(|item| match visibility(item) {
        Visibility::Seen => true,
        Visibility::Hidden => false,
        Visibility::Unreadable => {
            *item = Value::Bool(false);
            true
        }
    });
    match items.len() {
        after if after == before => FilterResult::All,
        0 => FilterResult::NoneOfSome,
        _ => FilterResult::Some,
    }
}

/// The same in an answer, with the counts beside the list.
fn keep_in(
    body: &mut Value,
    list: &str,
    visibility: &dyn Fn(&Value) -> Visibility,
) -> FilterResult {
    let Value::Object(fields) = body else {
        *body = Value::Object(Map::new());
        return FilterResult::All;
    };
    let Some(items) = fields.get_mut(list) else {
        return FilterResult::All;
    };
    let filtered = keep(items, visibility);
    if filtered != FilterResult::All {
        let left = items.as_array().map_or(0, Vec::len);
        for count in COUNTS {
            if let Some(count) = fields.get_mut(count) {
                *count = Value::from(left);
            }
        }
    }
    filtered
}

/// Whether a listing of objects has more pages than the one that it is.
fn is_partial(body: &Value) -> bool {
    body.get("totalPages")
        .and_then(Value::as_u64)
        .is_some_and(|pages| pages > 1)
}

/// Keeps the entries of a folder that may be shown; a folder counts as `KEY/`. A leading slash is removed from keys, so
/// that they can be used in requests. The size of the whole store is only shown to a caller that may see all of it.
fn filter_objects(body: &mut Value, may_see: &dyn Fn(&str) -> bool) {
    let entries = body.get_mut("objects").and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten() {
        if let Some(Value::String(key)) = entry.get_mut("key") {
            *key = key.trim_start_matches('/').to_owned();
        }
        if is_folder(entry)
            && let Value::Object(fields) = entry
        {
            fields.insert("folder".to_owned(), true.into());
        }
    }
    keep_in(body, "objects", &|entry| {
        let folder = is_folder(entry);
        match entry.get("key").and_then(Value::as_str) {
            Some(key) if folder => may_see(&format!("{}/", key.trim_end_matches('/'))).into(),
            Some(key) => may_see(key).into(),
            None => Visibility::Unreadable,
        }
    });
    if !may_see("")
        && let Value::Object(fields) = body
    {
        fields.remove("objectStorageUsed");
        fields.remove("objectStorageUsedHuman");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_listing_with_several_pages_is_partial() {
        for (body, partial) in [
            (json!({ "totalPages": 2 }), true),
            (json!({ "totalPages": 1 }), false),
            (json!({ "totalPages": null }), false),
            (json!({}), false),
        ] {
            assert_eq!(is_partial(&body), partial, "{body}");
        }
    }

    #[test]
    fn a_folder_is_one_under_either_name_of_the_flag() {
        for flag in ["folder", "isFolder"] {
            let entry = json!({ "key": "/lab", flag: true });
            assert!(is_folder(&entry), "{entry}");
            let mut body = json!({ "objects": [entry] });
            filter_objects(&mut body, &|key| key == "lab");
            assert_eq!(
                body["objects"],
                json!([]),
                "only what is below it is granted"
            );
        }
    }
}
