//! Evidence: facts about a project that the host establishes by reads of its own, for agents and for guardrails.
//!
//! How a fact follows from reads is not known here: the host plugs in an [`EvidenceSource`].
//!
//! Invariant: evidence is whole or absent. The reads for it are charged to the call that wants it, and made only if some
//! grant covers that call.

use std::fmt;
use std::sync::Arc;

use qchost_catalog::host_calls::{READ_PROJECT, TRIAL_READS};
use qchost_catalog::{Access, BoxFuture, Failure, Operation, Outcome};
use qchost_ledger::TrialCounts;
use qchost_policy::{EVIDENCE, Evidence, Facts, Resource};
use qchost_scope::{Reader as _, Touched};
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use crate::admission::AdmittedCall;
use crate::authorize::{Authorizer, check_granted, decide_all};
use crate::call::CallRequest;
use crate::call_log::CallLog;
use crate::decision::Refused;
use crate::record::AuditContext;
use crate::refusal::Refusal;
use crate::reserve::Reserver;
use crate::sources::SourceGuards;

/// Establishes facts about projects.
pub trait EvidenceSource: fmt::Debug + Send + Sync {
    /// How often the strategy of a project was tried on history.
    ///
    /// # Errors
    /// When a read gave no usable answer: what is unknown is no smaller number.
    fn trials<'a>(&'a self, reads: ProjectReads<'a>)
    -> BoxFuture<'a, Result<TrialCounts, Failure>>;
}

/// The host's reads about one project, for one call, which pays for them.
pub struct ProjectReads<'a> {
    guards: &'a SourceGuards,
    request: &'a CallRequest,
    project: u32,
}

impl fmt::Debug for ProjectReads<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectReads")
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

impl ProjectReads<'_> {
    /// The account that the project is in.
    #[must_use]
    pub fn account(&self) -> &str {
        self.request.account()
    }

    /// The id of the project.
    #[must_use]
    pub fn project(&self) -> u32 {
        self.project
    }

    /// Makes one read. `arguments` are flat, under their JSON names.
    ///
    /// # Errors
    /// When it gave no usable answer, or the plugin cannot pay for it.
    pub async fn read(
        &self,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> Outcome {
        let reads = self.guards.reads.for_call(self.request);
        reads.read(operation, arguments).await
    }

    /// A digest of the project's code and that of its libraries; `None` if it has none.
    ///
    /// # Errors
    /// When it cannot be read as a whole.
    pub async fn code(&self) -> Result<Option<String>, Failure> {
        self.guards.of(self.request, self.project).code().await
    }
}

/// The operation that touches the same as a call: the call's own, or, for evidence about a project, reading the project.
/// `None` for what the catalog does not know.
pub(crate) fn touches_as(request: &CallRequest) -> Option<&'static Operation> {
    let evidence = || (request.name == EVIDENCE).then_some(READ_PROJECT);
    request.operation.or_else(evidence)
}

/// Whether facts of a call on a project are about that one, or about a new name of it, which has no id.
fn is_about(facts: &Facts, project: u32) -> bool {
    matches!(&facts.resource, Resource::Project(about) if about.id.is_none_or(|id| id == project))
}

/// Gets evidence for calls.
pub(crate) struct EvidenceStage {
    /// `None` if this host establishes no facts.
    pub source: Option<Arc<dyn EvidenceSource>>,
    pub guards: Arc<SourceGuards>,
}

impl EvidenceStage {
    /// The trials of a project, by reads that are charged to the call.
    pub(crate) async fn trials(
        &self,
        request: &CallRequest,
        project: u32,
    ) -> Result<TrialCounts, Refusal> {
        let Some(source) = &self.source else {
            let none = "this host establishes no facts about projects".to_owned();
            return Err(Refusal::Failed(Failure::Unavailable(none)));
        };
        let reads = ProjectReads {
            guards: &self.guards,
            request,
            project,
        };
        let counted = source.trials(reads).await;
        counted.map_err(|failure| {
            // A failed read cannot say that it was not paid.
            let unpaid = request.read_charges.refused.lock().take();
            unpaid.unwrap_or_else(|| failure.into())
        })
    }

    /// Adds to what a call touches the evidence that its guardrails ask for. What cannot be established stays absent, which
    /// such a guardrail forbids if it is written so.
    ///
    /// # Errors
    /// When the plugin has to wait until it can pay for the reads.
    pub(crate) async fn complete(
        &self,
        request: &CallRequest,
        touched: &mut Touched,
    ) -> Result<(), Refusal> {
        let Some((project, _)) = touched.project else {
            return Ok(());
        };
        // No guardrail keeps a person from making the account safer.
        if request.principal.is_operator() && request.access == Access::Reduce {
            return Ok(());
        }
        let wants = |facts: &Facts| {
            let mut authorities = request.policy.authorities();
            is_about(facts, project)
                && authorities.any(|authority| authority.wants_evidence(&request.name, facts))
        };
        if !touched.facts.iter().any(wants)
            || check_granted(&request.policy, request, &touched.facts).is_err()
        {
            return Ok(());
        }
        match self.trials(request, project).await {
            Ok(counts) => {
                let evidence = Evidence {
                    trials: counts.total(),
                };
                for facts in &mut touched.facts {
                    if is_about(facts, project) {
                        facts.context.evidence = Some(evidence);
                    }
                }
            }
            Err(refusal @ (Refusal::RateLimited(_) | Refusal::Exhausted { .. })) => {
                return Err(refusal);
            }
            Err(refusal) => {
                if request.principal.may_be_logged() {
                    tracing::warn!(target: "gate", plugin = request.plugin(), project, %refusal, "the trials of a project cannot be counted, so guardrails decide without them");
                }
            }
        }
        Ok(())
    }
}

/// Counts trials for agents.
pub(crate) struct TrialCounter {
    pub authorizer: Arc<Authorizer>,
    pub evidence: Arc<EvidenceStage>,
    pub reserver: Reserver,
    pub log: Arc<CallLog>,
    pub tasks: TaskTracker,
}

impl TrialCounter {
    /// Counts the trials of the project of an admitted call. It runs to completion even if its caller goes away.
    pub(crate) async fn count(
        self: &Arc<Self>,
        request: CallRequest,
        admitted: AdmittedCall,
    ) -> Result<TrialCounts, Refusal> {
        let counter = Arc::clone(self);
        let counting = async move { counter.run(&request, admitted).await };
        let counted = self.tasks.spawn(counting).await;
        counted.unwrap_or_else(|_| {
            let failed = "the host failed while it counted trials";
            Err(Refusal::Failed(Failure::Unavailable(failed.to_owned())))
        })
    }

    async fn run(
        &self,
        request: &CallRequest,
        admitted: AdmittedCall,
    ) -> Result<TrialCounts, Refusal> {
        let AdmittedCall {
            decision,
            mut guards,
            ..
        } = admitted;
        // Each of its reads waits for the rate limit by itself.
        guards.account_admission = None;
        let touched = &decision.touched;
        let Some((project, _)) = touched.project else {
            return Err(Refusal::denied("evidence is about a project"));
        };
        self.check_reads(request, touched)?;
        self.reserver.charge_read(request, &decision).await?;
        let context = AuditContext::of(&decision, None);
        let counting = self.evidence.trials(request, project);
        let counted = self
            .authorizer
            .while_allowed(request, &decision, counting)
            .await;
        let redactor = request.settings().secrets.redactor();
        let clean = |text: String| redactor.clean(&text).into_owned();
        let counted = match counted {
            Ok(Some(counts)) => Ok(counts),
            Ok(None) => Err(Refusal::denied(
                "what the plugin may do changed while the trials were counted; ask again",
            )),
            Err(Refusal::Failed(failure)) => Err(Refusal::Failed(failure.map_text(clean))),
            Err(refusal) => Err(refusal),
        };
        let outcome = match &counted {
            Ok(counts) => Ok(counts.total().into()),
            Err(Refusal::Failed(failure)) => Err(failure.clone()),
            Err(refusal) => {
                self.log.note_refusal(request, &context, refusal);
                return counted;
            }
        };
        self.log.note_read(request, &context, &outcome);
        counted
    }

    /// Checks that the reads which counting takes are granted too; a refusal is recorded.
    fn check_reads(&self, request: &CallRequest, touched: &Touched) -> Result<(), Refusal> {
        for operation in TRIAL_READS {
            let arguments = request.arguments.clone();
            let read = request.followed_by(request.call.clone(), operation, arguments);
            let Err(refused) = decide_all(&request.policy, &read, &touched.facts) else {
                continue;
            };
            let Refused {
                internal,
                public,
                guardrails,
                project,
            } = refused.about(touched);
            let context = AuditContext {
                project: project.as_ref(),
                guardrails: &guardrails,
                ..AuditContext::default()
            };
            self.log.note_refusal(request, &context, &internal);
            return Err(public.unwrap_or(internal));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use qchost_policy::Guardrails;
    use serde_json::json;

    use super::*;
    use crate::testing::Stores;

    const RULE: &str =
        "forbid (principal, action == Action::\"backtests/create-backtest\", resource)
        unless { context has evidence && context.evidence.trials < 10 };";
    const GRANT: &str =
        "[[grant]]\nname = \"lab\"\nallow = [\"backtests/*\"]\nprojects = [\"Lab/*\"]\n";

    /// Says how many trials there are, after a read.
    #[derive(Debug)]
    struct Said(Result<u32, Failure>);

    impl EvidenceSource for Said {
        fn trials<'a>(
            &'a self,
            reads: ProjectReads<'a>,
        ) -> BoxFuture<'a, Result<TrialCounts, Failure>> {
            Box::pin(async move {
                reads.code().await?;
                let backtests = self.0.clone()?;
                Ok(TrialCounts {
                    backtests,
                    ..TrialCounts::default()
                })
            })
        }
    }

    async fn stores() -> Stores {
        Stores::with(GRANT, |settings| {
            let file = (PathBuf::from("rails.cedar"), RULE.to_owned());
            settings.guardrails = Guardrails::read(&[file]).unwrap();
        })
        .await
    }

    async fn evidence(
        stores: &Stores,
        said: Result<u32, Failure>,
        name: &str,
        project: &str,
    ) -> Option<Evidence> {
        let stage = EvidenceStage {
            source: Some(Arc::new(Said(said))),
            guards: stores.sources(),
        };
        let request = stores.request(name, json!({ "projectId": 1 }));
        let mut touched = qchost_scope::Scope::new().service();
        touched.project = Some((1, project.to_owned()));
        touched.facts = vec![Facts::of(Resource::Project(qchost_policy::Project {
            id: Some(1),
            name: project.to_owned(),
            created: false,
        }))];
        stage.complete(&request, &mut touched).await.unwrap();
        touched.facts[0].context.evidence
    }

    #[tokio::test]
    async fn evidence_is_read_for_the_calls_that_a_guardrail_forbids_without_it() {
        let stores = stores().await;
        let create = "backtests/create-backtest";
        let found = evidence(&stores, Ok(7), create, "Lab/one").await;
        assert_eq!(found, Some(Evidence { trials: 7 }));
        assert_eq!(stores.cloud.sent(), ["read_project", "read_file"]);
    }

    #[tokio::test]
    async fn nothing_is_read_for_a_call_that_no_guardrail_or_no_grant_concerns() {
        let stores = stores().await;
        let read = "backtests/list-backtests";
        assert_eq!(evidence(&stores, Ok(7), read, "Lab/one").await, None);
        let create = "backtests/create-backtest";
        assert_eq!(evidence(&stores, Ok(7), create, "Prod/one").await, None);
        assert!(stores.cloud.sent().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_established_is_absent() {
        let stores = stores().await;
        let failed = Err(Failure::Unavailable("no answer".to_owned()));
        let create = "backtests/create-backtest";
        assert_eq!(evidence(&stores, failed, create, "Lab/one").await, None);
    }
}
