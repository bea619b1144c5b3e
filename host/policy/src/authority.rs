//! The authority of one plugin: its manifest and the guardrails, compiled into slices, and the decision.
//!
//! A slice holds what concerns one action on one kind of resource: the grants that mention the action, with grants of
//! equal conditions as one policy, and the guardrails that may apply. Slices are compiled when the manifest is loaded.
//! A decision first rules out policies that certainly do not apply and asks Cedar about the rest; decisions are not
//! cached.
//!
//! Invariant: a grant counts when Cedar finds that it applies. A guardrail is passed when Cedar finds that it does not
//! apply, or when that is certain without asking. Whatever cannot be evaluated is denied.

pub(crate) mod explain;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::ResourceConstraint;
use qchost_catalog::Access;
use serde_json::Value;

use crate::denial::Denial;
use crate::engine::{
    Action, Compiled, ConditionsKey, EVIDENCE_ATTRIBUTE, Evaluation, Kind, PolicyError, Prefilter,
    Question, View, actions, by_name, grant_conditions, http_conditions, principal, with_stack,
};
use crate::facts::{Evidence, Facts, Project, Resource};
use crate::grantable::{HTTP, RAW};
use crate::guardrails::{Guardrail, Guardrails};
use crate::manifest::{Manifest, ProjectScope};

/// Bytes of stack that Cedar needs, with a margin.
const MIN_STACK: usize = 256 << 10;
/// Bytes of stack that are provided if there are fewer.
const STACK: usize = 1 << 20;

/// What a plugin may do. Compiled again when its manifest or a guardrail changes.
#[derive(Debug)]
pub struct Authority {
    manifest: Arc<Manifest>,
    /// By action and kind of resource.
    slices: HashMap<(usize, Kind), Slice>,
}

/// The result of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// All grants that cover it, as indices into the manifest's `grants`; for an outgoing request into its `http`. The
    /// obligations of all of them apply.
    pub grants: Vec<usize>,
    /// The ids of the guardrails that deny it.
    pub guardrails: Vec<String>,
    /// Why it is not allowed.
    pub denial: Option<Denial>,
}

#[derive(Debug, Default)]
struct Slice {
    permits: Vec<Permit>,
    forbids: Vec<Forbid>,
    /// Whether some guardrail is deep.
    is_deep: bool,
}

#[derive(Debug)]
struct Permit {
    /// The grants with these conditions.
    grants: Vec<usize>,
    compiled: Arc<Compiled>,
}

#[derive(Debug)]
struct Forbid {
    guardrail: Arc<Guardrail>,
    compiled: Arc<Compiled>,
}

impl Authority {
    /// Compiles the authority of a manifest under guardrails.
    ///
    /// # Errors
    /// When Cedar rejects a policy; a manifest that was parsed always compiles.
    pub fn new(manifest: Arc<Manifest>, guardrails: &Guardrails) -> Result<Self, PolicyError> {
        // Compiling a grant recurses deeper than the stack of a thread allows in a build without optimisation.
        let slices = with_stack(|| Self::slices(&manifest, guardrails))?;
        Ok(Self { manifest, slices })
    }

    fn slices(
        manifest: &Manifest,
        guardrails: &Guardrails,
    ) -> Result<HashMap<(usize, Kind), Slice>, PolicyError> {
        let mut compiler = Compiler::default();
        let mut slices = HashMap::new();
        for (index, action) in actions().iter().enumerate() {
            for kind in action.kinds.iter().copied() {
                let permits = compiler.permits(manifest, action, kind)?;
                let forbids = guardrails.iter().filter_map(|guardrail| {
                    let compiled = guardrail.applies(&manifest.plugin, index, kind)?;
                    Some(Forbid {
                        guardrail: Arc::clone(guardrail),
                        compiled: Arc::clone(compiled),
                    })
                });
                let forbids: Vec<Forbid> = forbids.collect();
                let slice = Slice {
                    permits,
                    is_deep: forbids.iter().any(|forbid| forbid.compiled.is_deep()),
                    forbids,
                };
                slices.insert((index, kind), slice);
            }
        }
        Ok(slices)
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Decides whether the plugin, running the code of this digest, may do this: `operation` is its name in the
    /// catalog (`backtests/create-backtest`) or one of the host's own (`raw/some_tool`, `object-store/download`,
    /// `workflow`, `http/request`), `access` its class.
    #[must_use]
    pub fn decide(&self, digest: &str, operation: &str, access: Access, facts: &Facts) -> Decision {
        let question = explain::Call {
            manifest: &self.manifest,
            operation,
            access,
            facts,
        };
        let kind = Kind::of(&facts.resource);
        let Some((index, action)) = by_name(operation) else {
            return denied(question.denial("there is no operation of this name"));
        };
        let Some(slice) = self.slices.get(&(index, kind)) else {
            let what = format!("it cannot be decided on {}", kind.words());
            return denied(question.denial(&what));
        };
        if let Some(what) = action.attributes.stray(&facts.context) {
            let article = if what.starts_with('o') { "an" } else { "a" };
            let what =
                format!("it has {article} {what}, which no grant of this operation is asked about");
            return denied(question.denial(&what));
        }
        let tool = operation.strip_prefix("raw/");
        if action.name == RAW && facts.context.tool.as_deref() != tool {
            return denied(question.denial("it does not say for which tool"));
        }
        if let Some(what) = path_ambiguity(facts).or_else(|| steers_assistants(facts)) {
            return denied(question.denial(what));
        }
        let mut evaluator = Evaluator {
            view: View {
                plugin: &self.manifest.plugin,
                account: &self.manifest.account,
                facts,
            },
            digest,
            index,
            question: None,
        };
        // A plugin's call is made on the stack of its instance, where Cedar would find no space and deny everything.
        let decide = || slice.decide(&mut evaluator, &question, action);
        match slice.is_deep {
            true => with_stack(decide),
            false => stacker::maybe_grow(MIN_STACK, STACK, decide),
        }
    }

    /// Whether a decision about this may depend on evidence, which is not in the facts yet: some guardrail asks for it, and
    /// what is known does not already say whether that one applies.
    #[must_use]
    pub fn wants_evidence(&self, operation: &str, facts: &Facts) -> bool {
        let kind = Kind::of(&facts.resource);
        let Some((index, action)) = by_name(operation) else {
            return false;
        };
        let mut attributes = action.attributes.iter();
        if !attributes.any(|attribute| attribute.name == EVIDENCE_ATTRIBUTE) {
            return false;
        }
        let Some(slice) = self.slices.get(&(index, kind)) else {
            return false;
        };
        // Which number it is makes no difference: a comparison with it is unknown to the filter.
        let mut supposed = facts.clone();
        supposed.context.evidence = Some(Evidence { trials: 0 });
        let holds = |forbid: &Forbid, facts: &Facts| {
            let view = View {
                plugin: &self.manifest.plugin,
                account: &self.manifest.account,
                facts,
            };
            forbid.compiled.prefilter.holds(&view)
        };
        let depends = |forbid: &Forbid| {
            let without = holds(forbid, facts);
            without.is_none() || without != holds(forbid, &supposed)
        };
        let asking = slice.forbids.iter();
        let mut asking = asking.filter(|forbid| forbid.guardrail.asks_evidence);
        match slice.is_deep {
            true => with_stack(|| asking.any(depends)),
            false => asking.any(depends),
        }
    }

    /// Whether a project is in the scope of some grant for this operation.
    #[must_use]
    pub fn sees(&self, operation: &str, access: Access, project: &Project) -> bool {
        let mut scopes = self.scopes(operation, access);
        scopes.any(|scopes| explain::covers_project(scopes, project))
    }

    /// Whether some grant for this operation covers every project, so that none is hidden from the plugin.
    #[must_use]
    pub fn sees_all(&self, operation: &str, access: Access) -> bool {
        let mut scopes = self.scopes(operation, access);
        scopes.any(explain::covers_every_project)
    }

    /// The scopes of projects of the grants for this operation.
    fn scopes(&self, operation: &str, access: Access) -> impl Iterator<Item = &[ProjectScope]> {
        let grants = self.manifest.grants.iter();
        let covering = grants.filter(move |grant| grant.allows(operation, access));
        covering.map(|grant| grant.projects.as_slice())
    }

    /// The grants for this operation, on any resource, as indices into the manifest's `grants`.
    pub fn covering(&self, operation: &str, access: Access) -> impl Iterator<Item = usize> {
        let grants = self.manifest.grants.iter().enumerate();
        grants.filter_map(move |(at, grant)| grant.allows(operation, access).then_some(at))
    }

    /// Checks that there is a grant for this operation at all, on any resource. `facts` are what is known before
    /// anything is read, for the suggested lines of the denial.
    ///
    /// # Errors
    /// When there is none.
    pub fn check_covered(
        &self,
        operation: &str,
        access: Access,
        facts: &Facts,
    ) -> Result<(), Denial> {
        if self.covering(operation, access).next().is_some() {
            return Ok(());
        }
        Err(self.uncovered(operation, access, facts))
    }

    /// The denial of an uncovered operation, with lines that would allow it unless a guardrail forbids it anyway.
    #[must_use]
    pub fn uncovered(&self, operation: &str, access: Access, facts: &Facts) -> Denial {
        let question = explain::Call {
            manifest: &self.manifest,
            operation,
            access,
            facts,
        };
        let Some((index, action)) = by_name(operation) else {
            return question.denial("there is no operation of this name");
        };
        let mut kinds = action.kinds.iter().copied();
        let slices = || {
            action
                .kinds
                .iter()
                .filter_map(|kind| self.slices.get(&(index, *kind)))
        };
        // Hardly anything is known of the resource here, so only guardrails that forbid all resources are certain.
        let certain = |kind| {
            let slice = self.slices.get(&(index, kind))?;
            slice
                .forbids
                .iter()
                .find(|forbid| forbid.is_unconditional())
        };
        if let Some(first) = action.kinds.first().and_then(|kind| certain(*kind))
            && kinds.all(|kind| certain(kind).is_some())
        {
            return question.denial(&format!("the guardrail `{}` forbids it", first.id()));
        }
        let mut denial = question.uncovered(action);
        let possible: BTreeSet<&str> = slices()
            .flat_map(|slice| &slice.forbids)
            .map(Forbid::id)
            .collect();
        if let Some(remedy) = denial.remedy.as_mut().filter(|_| !possible.is_empty()) {
            let ids: Vec<_> = possible.into_iter().map(explain::shown).collect();
            remedy.push_str(&format!(
                "# It may be forbidden all the same, by the guardrail {}.\n",
                ids.join(", ")
            ));
        }
        denial
    }
}

impl Forbid {
    fn id(&self) -> &str {
        &self.guardrail.id
    }

    /// Whether it forbids every question, on any resource.
    fn is_unconditional(&self) -> bool {
        let mut policies = self.compiled.policy.policies();
        *self.compiled.prefilter == Prefilter::Known(true)
            // A slice has a single kind.
            && policies.all(|policy| {
                let resource = policy.resource_constraint();
                matches!(resource, ResourceConstraint::Any | ResourceConstraint::Is(_))
            })
    }
}

impl Slice {
    fn decide(
        &self,
        evaluator: &mut Evaluator<'_>,
        question: &explain::Call<'_>,
        action: &Action,
    ) -> Decision {
        let mut decision = Decision::default();
        let mut broken = None;
        for forbid in &self.forbids {
            match evaluator.evaluate(&forbid.compiled) {
                Evaluation::DoesNot => continue,
                Evaluation::Applies => {}
                Evaluation::Failed(why) => {
                    broken.get_or_insert((forbid.id(), why));
                }
            }
            decision.guardrails.push(forbid.id().to_owned());
        }
        for permit in &self.permits {
            // A grant that fails to evaluate is no permission.
            if evaluator.evaluate(&permit.compiled) == Evaluation::Applies {
                decision.grants.extend(&permit.grants);
            }
        }
        decision.grants.sort_unstable();
        decision.grants.dedup();
        decision.denial = match (broken, decision.guardrails.first()) {
            (Some((id, why)), _) => Some(question.denial(&format!(
                "the guardrail `{id}` could not be evaluated, so it denies: {why}"
            ))),
            (None, Some(id)) => Some(question.denial(&format!("the guardrail `{id}` forbids it"))),
            (None, None) if decision.grants.is_empty() => Some(question.uncovered(action)),
            (None, None) => None,
        };
        decision.allowed = decision.denial.is_none();
        decision
    }
}

/// A decision in progress. Cedar's form of the question is created when it is first needed.
struct Evaluator<'a> {
    view: View<'a>,
    digest: &'a str,
    index: usize,
    question: Option<Result<Question, String>>,
}

impl Evaluator<'_> {
    fn evaluate(&mut self, compiled: &Compiled) -> Evaluation {
        if compiled.prefilter.holds(&self.view) == Some(false) {
            return Evaluation::DoesNot;
        }
        let question = self.question.get_or_insert_with(|| {
            let plugin = principal(self.view.plugin, self.view.account, self.digest)?;
            Question::new(self.index, &plugin, &self.view)
        });
        match question {
            Ok(question) => question.evaluate(compiled),
            Err(why) => Evaluation::Failed(why.clone()),
        }
    }
}

/// Compiles each set of conditions once, however many operations a grant mentions, and shares them among all actions
/// of the same form, so that compiling a manifest takes time in proportion to its patterns.
#[derive(Default)]
struct Compiler {
    compiled: HashMap<(Kind, String), Arc<Compiled>>,
    /// By the grant's index in the manifest; `None` where it never allows such an action.
    grants: HashMap<(usize, Kind, ConditionsKey), Option<Arc<Compiled>>>,
}

impl Compiler {
    fn permits(
        &mut self,
        manifest: &Manifest,
        action: &Action,
        kind: Kind,
    ) -> Result<Vec<Permit>, PolicyError> {
        let mut permits = Vec::new();
        if action.name == HTTP {
            for (at, grant) in manifest.http.iter().enumerate() {
                if let Some(conditions) = http_conditions(grant) {
                    let compiled = self.compile(&grant.name, kind, conditions)?;
                    add(&mut permits, at, &compiled);
                }
            }
            return Ok(permits);
        }
        for (at, grant) in manifest.grants.iter().enumerate() {
            let covered = action.covered_by(grant);
            if covered.is_empty() {
                continue;
            }
            let known = (at, kind, action.conditions_key());
            let compiled = match self.grants.get(&known) {
                Some(compiled) => compiled.clone(),
                None => {
                    let tools: Vec<&str> = covered.into_iter().flatten().collect();
                    let conditions = grant_conditions(grant, action, kind, &tools);
                    let compiled = conditions
                        .map(|conditions| self.compile(&grant.name, kind, conditions))
                        .transpose()?;
                    self.grants.insert(known, compiled.clone());
                    compiled
                }
            };
            if let Some(compiled) = compiled {
                add(&mut permits, at, &compiled);
            }
        }
        Ok(permits)
    }

    fn compile(
        &mut self,
        name: &str,
        kind: Kind,
        conditions: Value,
    ) -> Result<Arc<Compiled>, PolicyError> {
        let key = (kind, conditions.to_string());
        if let Some(compiled) = self.compiled.get(&key) {
            return Ok(Arc::clone(compiled));
        }
        let all = serde_json::json!({ "op": "All" });
        let compiled = Compiled::new("permit", all, conditions, kind).map_err(|message| {
            PolicyError::Compile {
                what: format!("the grant `{name}`"),
                message,
            }
        })?;
        let compiled = Arc::new(compiled);
        self.compiled.insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}

/// Adds a grant to those with equal conditions. There are at most [`MAX_GRANTS`](crate::MAX_GRANTS) of them.
fn add(permits: &mut Vec<Permit>, grant: usize, compiled: &Arc<Compiled>) {
    let same = permits
        .iter_mut()
        .find(|permit| Arc::ptr_eq(&permit.compiled, compiled));
    match same {
        Some(permit) => permit.grants.push(grant),
        None => permits.push(Permit {
            grants: vec![grant],
            compiled: Arc::clone(compiled),
        }),
    }
}

/// Why a path is ambiguous: a server might resolve it to something else than what was decided.
fn path_ambiguity(facts: &Facts) -> Option<&'static str> {
    let Resource::Url { path, .. } = &facts.resource else {
        return None;
    };
    let mut path = path.to_ascii_lowercase();
    // Some servers decode twice.
    for _ in 0..4 {
        path = path
            .replace("%2e", ".")
            .replace("%2f", "/")
            .replace("%5c", "\\")
            .replace("%25", "%");
    }
    let dots = |segment: &str| matches!(segment, "." | "..") || segment.starts_with("..;");
    path.split(['/', '\\'])
        .any(dots)
        .then_some("its path goes up or stays, by a segment of dots")
}

/// The folder of the Object Store with the skills, memories and templates that QuantConnect's assistants follow.
const ASSISTANT_FOLDER: &str = ".assistant";

/// Why no grant covers an object: a plugin that writes there gives orders to agents that have the authority of the whole
/// organisation, and what is there was told to them and not to it.
fn steers_assistants(facts: &Facts) -> Option<&'static str> {
    let Resource::Object { key, .. } = &facts.resource else {
        return None;
    };
    let folder = key.trim_start_matches('/').split('/').next()?;
    // Upper-case letters are the same to some servers.
    folder
        .eq_ignore_ascii_case(ASSISTANT_FOLDER)
        .then_some("objects in `.assistant/` steer QuantConnect's own agents, so no grant covers them; they are changed on QuantConnect's pages")
}

fn denied(denial: Denial) -> Decision {
    Decision {
        denial: Some(denial),
        ..Decision::default()
    }
}
