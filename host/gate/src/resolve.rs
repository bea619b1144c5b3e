//! Resolution: what a call touches, as the host reads it for itself.
//!
//! Invariant: reads (a project's name, a cost) are made only for a call that some grant covers, so a call that no grant
//! covers causes no traffic. A plugin is told the same of what it may not see as of what does not exist.

use std::sync::Arc;

use qchost_catalog::{Failure, Selector};
use qchost_policy::{DOWNLOAD, Project, Resource, WORKFLOW};
use qchost_scope::{Configured, Resolved, Scope, ScopeError, Touched};

use crate::authorize::{check_granted, named, out_of_sight};
use crate::call::CallRequest;
use crate::decision::Refused;
use crate::evidence::touches_as;
use crate::long_reads::LongReads;
use crate::paper::PaperEvidence;
use crate::reads::HostReader;
use crate::refusal::{Refusal, unresolved};

/// The refusal of a call whose read failed, or could not be paid.
fn refused(request: &CallRequest, error: ScopeError) -> Refusal {
    let unpaid = request.read_charges.refused.lock().take();
    unpaid.unwrap_or_else(|| unresolved(error))
}

/// Resolves calls.
pub(crate) struct Resolver {
    pub scope: Arc<Scope>,
    pub reads: Arc<HostReader>,
    pub paper: Arc<PaperEvidence>,
    pub long_reads: LongReads,
}

impl Resolver {
    /// What a call touches.
    pub(crate) async fn resolve(&self, request: &CallRequest) -> Result<Touched, Refused> {
        let touched = self.touched(request).await;
        let touched = touched.map_err(|refused| self.refuse(request, refused))?;
        let live = &touched.live_deployments;
        self.paper.note_live(request.account(), live).await;
        Ok(touched)
    }

    /// Checks that it is clear which of several live deployments an allowed call is about.
    pub(crate) async fn check_deployment(
        &self,
        request: &CallRequest,
        touched: &Touched,
    ) -> Result<(), Refusal> {
        let Some(operation) = request.operation else {
            return Ok(());
        };
        let reads = self.reads.for_call(request);
        let checked = self
            .scope
            .check_deployment(&reads, request.account(), operation, touched)
            .await;
        checked.map_err(|error| refused(request, error))
    }

    /// Checks that an allowed call which waited still touches no file that it was not allowed for.
    pub(crate) async fn check_files(
        &self,
        request: &CallRequest,
        touched: &Touched,
    ) -> Result<(), Refusal> {
        let Some(operation) = request.operation else {
            return Ok(());
        };
        let reads = self.reads.for_call(request);
        let checked = self.scope.check_files(&reads, operation, touched).await;
        checked.map_err(|error| refused(request, error))
    }

    /// The refusal of a call whose targets cannot be resolved.
    fn refuse(&self, request: &CallRequest, refused: Refused) -> Refused {
        let unpaid = request.read_charges.refused.lock().take();
        if let Some(unpaid) = unpaid {
            return unpaid.into();
        }
        // Nothing is hidden from an operator, nor from a plugin that is granted every project.
        let mut authorities = request.policy.authorities();
        if request.principal.is_operator()
            || authorities.all(|authority| authority.sees_all(&request.name, request.access))
        {
            return as_not_found(refused);
        }
        let public = match (&refused.internal, named(request)) {
            (Refusal::Denied(_), Resource::Project(Project { id: Some(id), .. })) => {
                let scope = &self.scope;
                let known = scope.known_project(request.account(), request.plugin(), id);
                let authority = &request.policy.authority;
                let sees = |project| authority.sees(&request.name, request.access, &project);
                (!known.is_some_and(sees)).then(|| out_of_sight(authority, request))
            }
            (Refusal::Denied(_), _) if names_child(request) => {
                Some(out_of_sight(&request.policy.authority, request))
            }
            _ => None,
        };
        Refused {
            public: public.or(refused.public),
            ..refused
        }
    }

    /// What a call touches. Long texts of the plugin are read only if some grant covers the rest of the call.
    async fn touched(&self, request: &CallRequest) -> Result<Touched, Refused> {
        let resolved = self.resolved(request).await?;
        let Some(bytes) = resolved.unread() else {
            return Ok(resolved.read().map_err(unresolved)?);
        };
        check_granted(&request.policy, request, &resolved.known().facts)
            .map_err(|refused| refused.about(resolved.known()))?;
        let project = resolved.known().project.clone();
        let read = self
            .long_reads
            .run(&request.principal, bytes, move || resolved.read())
            .await?;
        read.map_err(|error| Refused {
            project,
            ..unresolved(error).into()
        })
    }

    /// What a call touches, as far as it can be read without delay.
    async fn resolved(&self, request: &CallRequest) -> Result<Resolved, Refusal> {
        let Some(operation) = touches_as(request) else {
            return outside_catalog(&self.scope, request)
                .map(Into::into)
                .map_err(unresolved);
        };
        let reads = self.reads.for_call(request);
        let settings = request.settings();
        self.scope
            .resolve_known(
                &reads,
                Configured {
                    live_profile: &|profile| self.paper.is_live(&settings.profiles, profile),
                    node_prices: &settings.node_prices,
                    node_maxima: &settings.node_maxima,
                },
                request.account(),
                request.plugin(),
                operation,
                &request.arguments,
            )
            .await
            .map_err(unresolved)
    }
}

/// What a call touches that is no operation of the catalog.
pub(crate) fn outside_catalog(scope: &Scope, request: &CallRequest) -> Result<Touched, ScopeError> {
    let text = |name: &str| request.text(name).unwrap_or_default();
    match &*request.name {
        DOWNLOAD => scope.download(text("organizationId"), text("key")),
        WORKFLOW => Ok(scope.service()),
        _ => Ok(scope.unknown_tool(&request.tool)),
    }
}

/// For a principal from whom nothing is hidden, a target that cannot be resolved does not exist.
fn as_not_found(refused: Refused) -> Refused {
    match refused.internal {
        Refusal::Denied(denial) => Refused {
            internal: Refusal::Failed(Failure::NotFound(denial.reason)),
            ..refused
        },
        internal => Refused {
            internal,
            ..refused
        },
    }
}

/// Whether a call names a child object of a project.
fn names_child(request: &CallRequest) -> bool {
    let selectors = request
        .operation
        .map_or(&[][..], |operation| operation.selectors);
    selectors.iter().any(|selector| {
        matches!(
            selector,
            Selector::Backtest(_)
                | Selector::Optimization(_)
                | Selector::Compile(_)
                | Selector::Deployment(_)
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Stores;

    const GRANT: &str =
        "[[grant]]\nname = \"lab\"\nallow = [\"backtests/*\"]\nprojects = [\"Lab/*\"]\n";

    fn resolver(stores: &Stores) -> Resolver {
        Resolver {
            scope: Arc::default(),
            reads: stores.reads(),
            paper: stores.paper(),
            long_reads: LongReads::default(),
        }
    }

    #[tokio::test]
    async fn a_project_is_named_by_the_host_s_own_read() {
        let stores = Stores::new(GRANT).await;
        let request = stores.request("backtests/list-backtests", json!({ "projectId": 1 }));
        let resolved = resolver(&stores).resolve(&request).await;
        let touched = resolved.unwrap_or_else(|refused| panic!("{:?}", refused.internal));
        assert_eq!(touched.project, Some((1, "Lab/one".to_owned())));
        assert_eq!(stores.cloud.sent(), ["read_project"]);
    }

    #[tokio::test]
    async fn of_a_project_that_is_not_there_a_plugin_learns_no_more_than_of_one_it_may_not_see() {
        let stores = Stores::new(GRANT).await;
        let request = stores.request("backtests/list-backtests", json!({ "projectId": 2 }));
        let resolved = resolver(&stores).resolve(&request).await;
        let refused = resolved.err().unwrap();
        let told = refused.public.unwrap().to_string();
        assert!(!told.contains("Lab/one"), "{told}");
        assert!(matches!(refused.internal, Refusal::Denied(_)));
    }
}
