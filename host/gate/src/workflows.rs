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
use crate::refusal_log::RefusalLog;
use crate::reserve::Reserver;

/// Charges and records batches.
pub(crate) struct Workflows {
    pub audit: Audit,
    pub fingerprints: Arc<Fingerprints>,
    pub reserver: Reserver,
    pub refusals: Arc<RefusalLog>,
}

impl Workflows {
    /// Charges a batch that was admitted, and records it or its refusal.
    pub(crate) async fn charge(
        &self,
        request: &CallRequest,
        decision: &CallDecision,
    ) -> Result<(), Refusal> {
        let context = AuditContext::of(decision, None);
        if let Err(refusal) = self.reserver.charge_read(request, decision).await {
            self.refusals.note(request, &context, &refusal);
            return Err(refusal);
        }
        let record = record::read(request, &context, &Ok(Value::Null), &self.fingerprints);
        self.audit.note(record.entry());
        Ok(())
    }
}
