//! `approvals`: waiting for a person's decision.
//!
//! The gate knows when it is made; this service limits the wait. It ends shortly before the
//! invocation does, so that the agent gets an error and can end in order. Meanwhile, the progress
//! tells the client what the invocation waits for.

use std::time::{Duration, Instant};

use crate::calls::{CallContext, refused};
use crate::contract::qchost::agent::approvals::{Error, Host};
use crate::services::progress::Reporter;

/// How often the progress reports what is waited for: a client may skip reports.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// Time left to the agent when waiting ends.
const RESERVED_TIME: Duration = Duration::from_secs(1);

/// The approvals of one invocation.
#[derive(Debug, Clone)]
pub(crate) struct Approvals {
    pub(crate) calls: CallContext,
    /// When the invocation is cut off.
    pub(crate) deadline: Instant,
    /// Receives the progress.
    pub(crate) progress: Reporter,
}

impl Approvals {
    /// Maximum duration of a wait: a tenth of the remaining time, at most a second, is reserved.
    fn max_wait(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.saturating_sub(RESERVED_TIME.min(left / 10))
    }

    /// Reports repeatedly in the progress what is waited for.
    async fn report_wait(&self, id: &str) {
        let id = crate::text::line(id, 64);
        let message = format!("waiting for approval {id} (qchost approvals show {id})");
        let mut interval = tokio::time::interval(PROGRESS_INTERVAL);
        loop {
            interval.tick().await;
            self.progress.set_message(&message);
        }
    }
}

impl Host for Approvals {
    async fn wait(&mut self, id: String) -> Result<(), Error> {
        let deciding = self
            .calls
            .gate()?
            .wait_approval(self.calls.principal(), &id);
        let _wait = self.calls.wait();
        let reporting = self.report_wait(&id);
        let decided = async {
            tokio::select! {
                biased;
                decided = deciding => decided,
                () = reporting => Ok(()),
            }
        };
        match tokio::time::timeout(self.max_wait(), decided).await {
            Ok(decided) => decided.map_err(refused),
            Err(_) => Err(Error::TimedOut(format!(
                "no decision was made on approval {} while this invocation could wait",
                crate::text::line(&id, 64)
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use qchost_ledger::{ApprovalKind, Binding, Ledger, NewApproval};
    use qchost_policy::{Person, Role};
    use serde_json::json;

    use super::*;
    use crate::services::progress::Progress;
    use qchost_testing::{Gated, uncalled};

    async fn asked(ledger: &Ledger, plugin: &str, arguments: &str) -> String {
        let approval = NewApproval {
            kind: ApprovalKind::Call,
            binding: Binding {
                account: "research".to_owned(),
                plugin: plugin.to_owned(),
                digest: "sha256:0".to_owned(),
                operation: "live/create-live-algorithm".to_owned(),
                profile_revision: String::new(),
                arguments_hmac: arguments.to_owned(),
            },
            view: json!({}),
            contents: None,
            unannounced: false,
            needs: 1,
            requester: None,
            interested: Vec::new(),
            reload_requesters: Vec::new(),
            scope: json!({}),
            cost: 0,
            source: None,
            now: 0,
            expires: i64::MAX,
        };
        ledger.request_approval(approval).await.unwrap().id
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_decision_or_before_the_invocation() {
        let ledger = Ledger::in_memory().unwrap();
        let gated = Gated::with(uncalled(), |options| options.ledger = ledger.clone()).await;
        let (reports, mut seen) = tokio::sync::watch::channel(Progress::default());
        let approvals = |plugin: &str, left: Duration| Approvals {
            calls: CallContext::for_test(gated.gate.clone(), plugin),
            deadline: Instant::now() + left,
            progress: Reporter(Some((reports.clone(), qchost_text::Redactor::default()))),
        };
        let person = Person {
            uid: 1000,
            name: "ada".to_owned(),
            roles: [Role::Approver].into(),
        };
        let long = Duration::from_secs(60);

        let yes = asked(&ledger, "lab", "one").await;
        let mut lab = approvals("lab", long);
        lab.progress.send(0.25, "compiled");
        seen.mark_unchanged();
        let (waited, decided) = tokio::join!(lab.wait(yes.clone()), async {
            // The client is told what the invocation waits for, and the fraction stays.
            seen.changed().await.unwrap();
            let told = seen.borrow_and_update().clone();
            assert_eq!(
                (told.fraction, told.message),
                (
                    0.25,
                    format!("waiting for approval {yes} (qchost approvals show {yes})")
                )
            );
            gated.gate.approvals.approve(&yes, &person, None).await
        });
        decided.unwrap();
        waited.unwrap();

        let no = asked(&ledger, "lab", "two").await;
        let (waited, decided) = tokio::join!(lab.wait(no.clone()), async {
            tokio::task::yield_now().await;
            gated.gate.approvals.refuse(&no, &person, "too large").await
        });
        decided.unwrap();
        let Err(Error::ApprovalRefused(reason)) = waited else {
            panic!("{waited:?}");
        };
        assert!(reason.contains("too large"), "{reason}");

        let open = asked(&ledger, "lab", "three").await;
        let begun = Instant::now();
        let mut hurried = approvals("lab", Duration::from_secs(2));
        let waited = hurried.wait(open.clone()).await;
        assert!(matches!(waited, Err(Error::TimedOut(_))), "{waited:?}");
        assert!(begun.elapsed() < Duration::from_secs(2));

        for (plugin, id) in [("other", open.as_str()), ("lab", "ap-none")] {
            let waited = approvals(plugin, long).wait(id.to_owned()).await;
            assert!(matches!(waited, Err(Error::NotFound(_))), "{waited:?}");
        }
        let mut describing = Approvals {
            calls: CallContext::describing_for_test(),
            deadline: Instant::now() + long,
            progress: Reporter::default(),
        };
        let waited = describing.wait(open).await;
        assert!(matches!(waited, Err(Error::Denied(_))), "{waited:?}");
    }
}
