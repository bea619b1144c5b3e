//! `evidence`: facts about a project that the host establishes by its own reads.
//!
//! Invariant: an agent names a project and nothing else; no part of a fact is what it says.

use std::sync::Arc;

use qchost_gate::{PluginCalls, Principal};

use crate::calls::CallContext;
use crate::contract::qchost::agent::evidence::{Error, Host, ProjectId, Trials};

impl Host for CallContext {
    async fn count_trials(&mut self, project_id: ProjectId) -> Result<Trials, Error> {
        let _wait = self.wait();
        let call = move |gate: Arc<dyn PluginCalls>, principal: Principal| async move {
            gate.count_trials(&principal, project_id).await
        };
        let counts = self.hand_over(call).await?;
        Ok(Trials {
            count: counts.total(),
            backtests: counts.backtests,
            combinations: counts.combinations,
            inherited: counts.inherited,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use qchost_catalog::host_calls::LIST_BACKTESTS;
    use qchost_catalog::{BoxFuture, Failure};
    use qchost_gate::{EvidenceSource, ProjectReads};
    use qchost_ledger::TrialCounts;
    use qchost_policy::Manifest;
    use qchost_testing::{Gated, Scripted};
    use serde_json::{Map, json};

    use super::*;

    /// Reads once, and says always the same.
    #[derive(Debug)]
    struct Fixed;

    impl EvidenceSource for Fixed {
        fn trials<'a>(
            &'a self,
            reads: ProjectReads<'a>,
        ) -> BoxFuture<'a, Result<TrialCounts, Failure>> {
            Box::pin(async move {
                reads.read(LIST_BACKTESTS, Map::new()).await?;
                Ok(TrialCounts {
                    backtests: 3,
                    combinations: 4,
                    inherited: 5,
                })
            })
        }
    }

    async fn count(allow: &str, projects: &str) -> (Result<Trials, Error>, usize) {
        let upstream = Scripted::new(|_| (Duration::ZERO, Ok(json!({ "success": true }))));
        let gated = Gated::with(upstream.clone(), |options| {
            options.evidence = Some(Arc::new(Fixed));
        })
        .await;
        let manifest = format!(
            "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n[[grant]]\nname = \"lab\"\nallow = [{allow}]\nprojects = [{projects}]\n"
        );
        let manifest = Manifest::parse(&manifest, Path::new("lab.toml")).unwrap();
        gated.gate.policies.install(manifest).unwrap();
        let mut calls = CallContext::for_test(gated.gate.clone(), "lab");
        let counted = calls.count_trials(1).await;
        (counted, upstream.sent().len())
    }

    #[tokio::test]
    async fn an_agent_gets_the_trials_of_projects_that_its_manifest_grants_and_of_no_others() {
        let all = r#""evidence", "files/*", "backtests/*", "optimizations/*""#;
        let (counted, sent) = count(all, r#""Lab/*""#).await;
        let trials = counted.unwrap();
        let numbers = [trials.count, trials.backtests, trials.combinations];
        assert_eq!((numbers, trials.inherited, sent), ([7, 3, 4], 5, 1));
        for (allow, projects) in [
            (all, r#""Prod/*""#),
            (r#""evidence", "backtests/*""#, r#""Lab/*""#),
            (
                r#""files/*", "backtests/*", "optimizations/*""#,
                r#""Lab/*""#,
            ),
        ] {
            let (counted, sent) = count(allow, projects).await;
            assert!(matches!(counted, Err(Error::Denied(_))), "{counted:?}");
            assert_eq!(sent, 0);
        }
    }

    #[tokio::test]
    async fn a_component_that_describes_itself_learns_nothing() {
        let counted = CallContext::describing_for_test().count_trials(1).await;
        assert!(matches!(counted, Err(Error::Denied(_))), "{counted:?}");
    }
}
