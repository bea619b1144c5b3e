//! Batches of calls that the host runs for a plugin.
//!
//! Invariant: that a batch may run is charged and recorded like a read. Each call in it is decided by itself.

use std::sync::Arc;

use qchost_audit::Audit;
use serde_json::Value;

use crate::call::CallRequest;
use crate::decision::CallDecision;
use crate::fingerprint::Fingerprints;
use crate::record::{self, AuditContext};
use crate::refusal::Refusal;
use crate::reserve::Reserver;

/// Charges and records batches.
pub(crate) struct Workflows {
    pub audit: Audit,
    pub fingerprints: Arc<Fingerprints>,
    pub reserver: Reserver,
}

impl Workflows {
    /// Charges a batch that was admitted, and records it or its refusal.
    pub(crate) async fn charge(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
    ) -> Result<(), Refusal> {
        self.reserver.charge_read(request, decision).await?;
        let context = AuditContext::of(decision, None);
        let record = record::read(request, &context, &Ok(Value::Null), &self.fingerprints);
        self.audit.note(record.entry());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use qchost_policy::WORKFLOW;
    use qchost_scope::Scope;
    use serde_json::json;

    use super::*;
    use crate::testing::{Stores, allowed};

    #[tokio::test]
    async fn a_batch_is_charged_and_recorded_like_a_read() {
        let grant = format!(
            "[[grant]]\nname = \"one\"\nallow = [\"{WORKFLOW}\"]\nlimits = {{ per-day = 1 }}\n"
        );
        let stores = Stores::new(&grant).await;
        let workflows = Workflows {
            audit: stores.audit.clone(),
            fingerprints: Arc::clone(&stores.fingerprints),
            reserver: stores.reserver(),
        };
        let request = stores.request(WORKFLOW, json!({}));
        let decision = allowed(Scope::new().service());
        workflows.charge(&request, &decision).await.unwrap();
        assert_eq!(stores.kinds().await, ["read"]);
        let refusal = workflows.charge(&request, &decision).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Exhausted { .. }), "{refusal:?}");
        assert_eq!(stores.kinds().await, ["read", "denied"]);
    }
}
