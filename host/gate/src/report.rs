//! Reports on a plugin's authority for operators: its grants and what is used of them, and what would be decided
//! about a call without sending anything.
//!
//! Invariant: nothing is sent, read at QuantConnect, charged or recorded. What only a read could tell is assumed, and the
//! report says so.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use qchost_catalog::host_calls::{
    ESTIMATE_OPTIMIZATION_TIME, LIST_LIVE_ALGORITHMS, LIST_OBJECT_STORE_FILES, READ_PROJECT,
};
use qchost_catalog::{Access, BoxFuture, Failure, Operation, Outcome, Selector};
use qchost_ledger::{Ledger, LedgerError, LiveProfile};
use qchost_policy::{
    Dollars, Facts, FolderGrant, Glob, Grant, GrantLimits, Manifest, Resource, Usd,
};
use qchost_scope::{Configured, Reader, Scope, check_project_id};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::approve::takes_two;
use crate::authorize::{
    Authorizer, check_covered, check_download, decide_all, named, requires_approval,
};
use crate::call::CallRequest;
use crate::clock::now;
use crate::decision::{Matched, is_live};
use crate::evidence::touches_as;
use crate::obligations::{obligations, obligations_under};
use crate::paper::PaperEvidence;
use crate::reconfigure::recall;
use crate::refusal::{Refusal, unresolved, unusable};
use crate::resolve::outside_catalog;
use crate::trade::TradeRules;

/// The id that a project is given which is only named: no project has it, so no grant of an id covers it.
const NAMED_PROJECT: u32 = u32::MAX;
/// The key of the limit that is money: an amount says its unit in its key.
const COST_PER_DAY: &str = "cost-per-day-usd";

/// The grants of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GrantsReport {
    /// The plugin.
    pub plugin: String,
    /// Its account.
    pub account: String,
    /// Why its writes are halted, if they are.
    pub halted: Option<String>,
    /// Whether a changed manifest whose component does not serve yet must allow each call as well.
    pub restricted: bool,
    /// Other names of its actions, with the action of each. They grant nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    /// The grants, in the order of the manifest, followed by those for other hosts and for folders.
    pub grants: Vec<GrantReport>,
}

/// A grant and its use.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GrantReport {
    /// Its name in counters and records; that of a grant for another host starts with `http:`, for a folder with `folder:`.
    pub name: String,
    /// What it allows.
    pub allow: Vec<String>,
    /// The resources and conditions it applies to.
    pub scope: BTreeMap<Cow<'static, str>, Condition>,
    /// Its obligations with their use: `per-day` → `{ "limit": 500, "used": 12 }`.
    pub obligations: BTreeMap<Cow<'static, str>, Obligation>,
    /// Operations that a changed manifest, not in force yet, does not allow or limits more: denied already.
    pub denied: BTreeSet<String>,
}

/// A resource or condition that a grant is limited to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Condition {
    /// A maximum.
    Amount(Amount),
    /// The names or patterns that it applies to.
    Names(Vec<String>),
}

/// An obligation of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Obligation {
    /// A limit on its use.
    Limit {
        /// The maximum.
        limit: Amount,
        /// What is used of it today, if that is counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        used: Option<Amount>,
    },
    /// The approval required for each call.
    Approval(String),
}

/// A number, or a sum of money in dollars, whose key ends with `-usd`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Amount {
    /// A number.
    Number(u64),
    /// A sum of money.
    Money(Dollars),
}

/// What a matching grant limits a call to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrantObligation {
    /// The grant's name in counters.
    pub grant: String,
    /// Its limits: `per-day` → 500.
    pub limits: BTreeMap<Cow<'static, str>, Amount>,
}

/// The decision that a call would get.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// `allowed`, or the name of the refusal.
    pub decision: Cow<'static, str>,
    /// Why it would be refused, and what would allow it.
    pub reason: Option<String>,
    /// The grants that match.
    pub grants: Vec<String>,
    /// The guardrails that forbid it.
    pub guardrails: Vec<String>,
    /// The obligations of every matching grant.
    pub obligations: Vec<GrantObligation>,
    /// Whether it needs approval.
    pub approval: bool,
    /// What was assumed, since only QuantConnect knows it.
    pub assumed: Vec<String>,
}

/// Reports on authority.
pub struct Reporter {
    pub(crate) ledger: Ledger,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) trade: Arc<TradeRules>,
    pub(crate) paper: Arc<PaperEvidence>,
    pub(crate) scope: Arc<Scope>,
}

impl Reporter {
    /// The brokerage profiles that count as ones for real money because a deployment said so, whatever their settings.
    #[must_use]
    pub fn live_profiles(&self) -> Vec<LiveProfile> {
        self.paper.reports()
    }

    /// The grants of a plugin, with today's use; `None` if it has no manifest.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn grants(&self, plugin: &str) -> Result<Option<GrantsReport>, LedgerError> {
        let Some(policy) = self.authorizer.policies.of(plugin) else {
            return Ok(None);
        };
        let manifest = policy.authority.manifest();
        let ledger = &self.ledger;
        let used = ledger.usage(&manifest.account, plugin, now()).await?;
        let report = |name: &str, limits: GrantLimits| {
            let used = used.iter().find(|used| used.grant == name);
            let (count, cost) = used.map_or((0, 0), |used| (used.count, used.cost));
            let mut obligations = BTreeMap::new();
            let money = |usd: Usd| Amount::Money(Dollars(usd));
            let mut put = |name, limit: Option<Amount>, used| {
                if let Some(limit) = limit {
                    obligations.insert(Cow::Borrowed(name), Obligation::Limit { limit, used });
                }
            };
            put("concurrent", limits.concurrent.map(Amount::from), None);
            put("per-second", limits.per_second.map(Amount::from), None);
            put("per-minute", limits.per_minute.map(Amount::from), None);
            let (count, cost) = (Some(Amount::from(count)), Some(money(Usd(cost))));
            put("per-day", limits.per_day.map(Amount::from), count);
            put(COST_PER_DAY, limits.cost_per_day.map(money), cost);
            obligations
        };
        let in_force = |http: bool, grants: usize| {
            let all = Matched {
                grants: (0..grants).collect(),
                pending: Vec::new(),
            };
            let limits = obligations_under(&policy, http, &all);
            let limits = limits.map(|(name, limits)| (name.into_owned(), limits));
            limits.collect::<Vec<_>>()
        };
        let denied = |index| match &policy.pending {
            Some(pending) => manifest.not_allowed_by(index, pending.manifest()),
            None => BTreeSet::new(),
        };
        let mut grants: Vec<GrantReport> = manifest
            .grants
            .iter()
            .zip(in_force(false, manifest.grants.len()))
            .enumerate()
            .map(|(index, (grant, (name, limits)))| {
                let mut obligations = report(&name, limits);
                if grant.approval == qchost_policy::Approval::Operator {
                    let operator = Obligation::Approval("operator".to_owned());
                    obligations.insert("approval".into(), operator);
                }
                GrantReport {
                    name,
                    allow: grant.allow.iter().map(ToString::to_string).collect(),
                    scope: limits_of(grant),
                    obligations,
                    denied: denied(index),
                }
            })
            .collect();
        let http = in_force(true, manifest.http.len());
        grants.extend(
            manifest
                .http
                .iter()
                .zip(http)
                .map(|(grant, (name, limits))| GrantReport {
                    obligations: report(&name, limits),
                    name,
                    allow: grant
                        .methods
                        .iter()
                        .map(|method| format!("{method} {}", grant.url))
                        .collect(),
                    scope: BTreeMap::new(),
                    denied: BTreeSet::new(),
                }),
        );
        let allowed_by = |folder: &FolderGrant, policy: Option<&Manifest>| {
            let mut folders = policy.into_iter().flat_map(|manifest| &manifest.folders);
            policy.is_none() || folders.any(|other| folder.is_within(other))
        };
        let pending = policy.pending.as_ref().map(|pending| &**pending.manifest());
        grants.extend(manifest.folders.iter().map(|folder| {
            let allow = format!("{} {}", folder.mode, folder.path.display());
            GrantReport {
                name: format!("folder:{}", folder.name),
                denied: match allowed_by(folder, pending) {
                    true => BTreeSet::new(),
                    false => BTreeSet::from([allow.clone()]),
                },
                allow: vec![allow],
                scope: BTreeMap::new(),
                obligations: BTreeMap::new(),
            }
        }));
        let aliases = manifest.aliases.iter();
        Ok(Some(GrantsReport {
            aliases: aliases
                .map(|alias| (alias.name.clone(), alias.action.clone()))
                .collect(),
            plugin: plugin.to_owned(),
            account: manifest.account.clone(),
            halted: self.authorizer.halts.reason(&manifest.account, plugin),
            restricted: policy.pending.is_some(),
            grants,
        }))
    }

    /// What would be decided about a plugin's call. Nothing is sent: a project's name is known only if the host has
    /// read it recently, or if it is given here.
    ///
    /// # Errors
    /// When there is no such operation, or the plugin has no manifest.
    pub(crate) async fn explain(
        &self,
        request: CallRequest,
        project_name: Option<String>,
    ) -> Result<Explanation, Refusal> {
        let (known, plugin) = (touches_as(&request), request.plugin());
        let assumed = Mutex::new(Vec::new());
        let take = || std::mem::take(&mut *assumed.lock());
        let refused = |refusal: Refusal, guardrails| Explanation {
            decision: refusal.word().into(),
            reason: Some(refusal.to_string()),
            guardrails,
            assumed: take(),
            ..Explanation::default()
        };
        if let Err(refusal) = self.authorizer.check_halt(&request) {
            return Ok(refused(refusal, Vec::new()));
        }
        if let Some(Err(error)) = known.map(|known| check_project_id(known, &request.arguments)) {
            return Ok(refused(unresolved(error), Vec::new()));
        }
        let covered = Facts::of(named(&request));
        if let Err(refusal) = check_covered(&request, &covered) {
            return Ok(refused(refusal, Vec::new()));
        }
        if let Err(refusal) = check_download(&request.policy, &request) {
            return Ok(refused(refusal, Vec::new()));
        }
        let touched = match known {
            Some(operation) => {
                // What is only given or assumed here must not be used for decisions.
                let known = self.new_scope(request.account()).await.map_err(unusable)?;
                let reader = AssumingReader {
                    project_name,
                    scope: &self.scope,
                    account: request.account(),
                    arguments: &request.arguments,
                    deployment: deployment(operation, &request.arguments),
                    assumed: &assumed,
                };
                let settings = request.settings();
                let configured = Configured {
                    live_profile: &|profile| self.paper.is_live(&settings.profiles, profile),
                    node_prices: &settings.node_prices,
                    node_maxima: &settings.node_maxima,
                };
                let (account, arguments) = (request.account(), &request.arguments);
                known
                    .resolve(&reader, configured, account, plugin, operation, arguments)
                    .await
            }
            None => outside_catalog(&self.scope, &request),
        };
        let mut touched = match touched {
            Ok(touched) => touched,
            Err(error) => return Ok(refused(unresolved(error), Vec::new())),
        };
        for facts in &mut touched.facts {
            if let Resource::Project(project) = &mut facts.resource
                && project.id == Some(NAMED_PROJECT)
            {
                project.id = None;
            }
        }
        let wants_evidence = |facts: &Facts| {
            let mut authorities = request.policy.authorities();
            authorities.any(|authority| authority.wants_evidence(&request.name, facts))
        };
        if touched.facts.iter().any(wants_evidence) {
            let unknown =
                "how often the project was tried on history is unknown: only reads can tell";
            assumed.lock().push(unknown.to_owned());
        }
        let matched = match decide_all(&request.policy, &request, &touched.facts) {
            Ok(matched) => matched,
            Err(error) => return Ok(refused(error.internal, error.guardrails)),
        };
        let live = is_live(&touched);
        if request.access == Access::Trade
            && let Err(refusal) = self.trade.check_live(&request, live).await
        {
            return Ok(refused(refusal, Vec::new()));
        }
        Ok(Explanation {
            decision: "allowed".into(),
            grants: obligations(&request, &matched)
                .map(|(name, _)| name.into_owned())
                .collect(),
            obligations: obligations(&request, &matched)
                .map(|(grant, limits)| GrantObligation {
                    grant: grant.into_owned(),
                    limits: amounts(limits),
                })
                .collect(),
            approval: requires_approval(&request.policy, &matched) || takes_two(&request, live),
            assumed: take(),
            ..Explanation::default()
        })
    }

    /// A separate scope with what the ledger remembers of an account.
    async fn new_scope(&self, account: &str) -> Result<Scope, LedgerError> {
        let scope = Scope::new();
        let account = account.to_owned();
        recall(&scope, &self.ledger, std::iter::once(&account)).await?;
        Ok(scope)
    }
}

/// Answers from what it was given and what the host knows; explaining reads nothing. A child and its project are
/// taken from the caller unchecked, since a call for which they are wrong is denied.
struct AssumingReader<'a> {
    project_name: Option<String>,
    scope: &'a Scope,
    account: &'a str,
    /// Of the call.
    arguments: &'a Map<String, Value>,
    /// The deployment that the call names.
    deployment: Option<&'a str>,
    assumed: &'a Mutex<Vec<String>>,
}

/// The deployment that a call names.
fn deployment<'a>(operation: &Operation, arguments: &'a Map<String, Value>) -> Option<&'a str> {
    operation
        .selectors
        .iter()
        .find_map(|selector| match selector {
            Selector::Deployment(name) => arguments.get(*name)?.as_str(),
            _ => None,
        })
}

impl AssumingReader<'_> {
    fn assume(&self, what: String) {
        let mut assumed = self.assumed.lock();
        if !assumed.contains(&what) {
            assumed.push(what);
        }
    }

    /// A listing of a folder of the Object Store in which the call's own keys are objects.
    fn listing(&self, path: &str) -> Value {
        let several = self.arguments.get("keys").and_then(Value::as_array);
        let keys = several
            .into_iter()
            .flatten()
            .chain(self.arguments.get("key"));
        let parent = |key: &str| {
            key.rsplit_once('/')
                .map_or_else(|| "/".to_owned(), |(parent, _)| parent.to_owned())
        };
        let objects: Vec<_> = keys
            .filter_map(Value::as_str)
            .filter(|key| *key == path || parent(key) == path)
            .map(|key| {
                self.assume(format!("{key:?} is no folder"));
                json!({ "key": key, "folder": false })
            })
            .collect();
        json!({ "success": true, "objects": objects })
    }

    fn answer(&self, operation: &Operation, arguments: &Map<String, Value>) -> Outcome {
        let number = arguments.get("projectId").and_then(Value::as_u64);
        let project = number.and_then(|number| u32::try_from(number).ok());
        let text = |name: &str| arguments.get(name).and_then(Value::as_str);
        let child = [
            ("compileId", "compile", None),
            ("backtestId", "backtest", Some("backtest")),
            ("optimizationId", "optimisation", Some("optimization")),
        ]
        .into_iter()
        .find_map(|(field, word, part)| Some((field, text(field)?, word, part)));
        match (project, child) {
            (Some(project), _) if operation == READ_PROJECT => {
                let cached = || self.scope.project_name_cached(self.account, project);
                let name = self.project_name.clone().or_else(cached).ok_or_else(|| {
                    Failure::Unavailable(format!(
                        "to explain, nothing is read, and the host has not read the name of project {project} in the last \
                         minute; name it with --project"
                    ))
                })?;
                Ok(json!({ "success": true, "projects": [{ "projectId": project, "name": name }] }))
            }
            (Some(project), _) if operation == LIST_LIVE_ALGORITHMS => {
                let live = self.deployment.map(|id| {
                    self.assume(format!("the deployment {id:?} is of project {project}"));
                    json!({ "deployId": id, "projectId": project })
                });
                // A command is for whatever runs; a deployment is named by reads only.
                if live.is_none() {
                    self.assume(format!("real money is at stake in project {project}"));
                }
                Ok(json!({ "success": true, "live": Vec::from_iter(live) }))
            }
            _ if operation == ESTIMATE_OPTIMIZATION_TIME => {
                self.assume(
                    "the cost is not known: how long one backtest takes is not asked".to_owned(),
                );
                Ok(json!({ "success": true }))
            }
            _ if operation == LIST_OBJECT_STORE_FILES => {
                Ok(self.listing(text("path").unwrap_or_default()))
            }
            (Some(project), Some((field, id, word, part))) => {
                self.assume(format!("the {word} {id:?} is of project {project}"));
                Ok(child_of(project, field, id, part))
            }
            (None, Some((field, id, word, part))) => {
                let name = self.project_name.as_deref().ok_or_else(|| {
                    Failure::Unavailable(format!(
                        "to explain, nothing is read, and the project of the {word} is known only by `{}`; name it with \
                         --project",
                        operation.name
                    ))
                })?;
                self.assume(format!("the {word} {id:?} is of the project {name:?}"));
                Ok(child_of(NAMED_PROJECT, field, id, part))
            }
            _ => Err(Failure::Unavailable(format!(
                "to explain, nothing is read, and what this touches is known only by `{}`",
                operation.name
            ))),
        }
    }
}

impl Reader for AssumingReader<'_> {
    fn read<'a>(
        &'a self,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { self.answer(operation, &arguments) })
    }
}

/// The answer about a child of a project.
fn child_of(project: u32, field: &str, id: &str, part: Option<&str>) -> Value {
    let child = json!({ field: id, "projectId": project });
    match part {
        Some(part) => json!({ part: child }),
        None => child,
    }
}

impl From<u32> for Amount {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// The limits that there are, by their keys in reports.
fn amounts(limits: GrantLimits) -> BTreeMap<Cow<'static, str>, Amount> {
    let counts = limits.counts().into_iter();
    let counts = counts.filter_map(|(name, most)| Some((name, Amount::from(most?))));
    let cost = limits.cost_per_day.map(|most| Amount::Money(Dollars(most)));
    let all = counts.chain(cost.map(|most| (COST_PER_DAY, most)));
    all.map(|(name, most)| (Cow::Borrowed(name), most))
        .collect()
}

fn limits_of(grant: &Grant) -> BTreeMap<Cow<'static, str>, Condition> {
    let mut scope = BTreeMap::new();
    let mut put = |name, list: Vec<String>| {
        if !list.is_empty() {
            scope.insert(Cow::Borrowed(name), Condition::Names(list));
        }
    };
    let texts = |list: &[Glob]| list.iter().map(ToString::to_string).collect();
    put("organizations", texts(&grant.organizations));
    put("keys", texts(&grant.keys));
    put("brokerages", texts(&grant.brokerages));
    put("data-providers", texts(&grant.data_providers));
    put("commands", texts(&grant.commands));
    put("collaborators", texts(&grant.collaborators));
    put("recipients", texts(&grant.recipients));
    put("files", texts(grant.files.as_deref().unwrap_or_default()));
    put("charts", texts(grant.charts.as_deref().unwrap_or_default()));
    put("nodes", texts(grant.nodes.as_deref().unwrap_or_default()));
    let projects = grant.projects.iter().map(ToString::to_string);
    put("projects", projects.collect());
    let cost = grant.max_cost.map(|limit| Amount::Money(Dollars(limit)));
    let parameters = grant.max_parameters.map(Amount::from);
    for (name, limit) in [("max-cost-usd", cost), ("max-parameters", parameters)] {
        scope.extend(limit.map(|limit| (Cow::Borrowed(name), Condition::Amount(limit))));
    }
    scope
}
