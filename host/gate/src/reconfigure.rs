//! Applies a changed configuration to a running gate.
//!
//! Invariant: all or nothing. Nothing changes before every manifest is compiled under the new guardrails
//! and the change is on disk.

use std::sync::Arc;

use qchost_audit::{AuditError, Entry, Kind};
use qchost_policy::PolicyError;
use serde_json::{Map, Value};

use crate::gate::{Gate, GateError, recall};
use crate::settings::Settings;
use crate::terms::Rules;

/// Recorded for a change that was recorded but not made.
const NOT_CHANGED: &str = "settings not changed";

impl Gate {
    /// Applies new settings. They hold from the next decision on, also for calls that wait or are about
    /// to be retried: those are decided again.
    ///
    /// # Errors
    /// When a manifest cannot be enforced under the new guardrails, or ledger or audit cannot be used.
    /// Nothing has changed then.
    pub async fn reconfigure(&self, settings: Settings) -> Result<(), GateError> {
        let gate = self.clone();
        // Runs detached: cancelling the caller does not abort the change half-way.
        let changing = self.spawn(async move { gate.take_over(settings).await });
        changing.await.unwrap_or(Err(GateError::Failed))
    }

    async fn take_over(&self, settings: Settings) -> Result<(), GateError> {
        let _alone = self.0.reconfiguring.lock().await;
        let former = self.settings();
        let new = settings.accounts.keys();
        let new = new.filter(|account| !former.accounts.contains_key(*account));
        recall(&self.0.scope, &self.0.ledger, new).await?;
        // Secrets read before must not leak in an answer that arrives later.
        let redactor = settings.secrets.redactor().clone();
        redactor.adopt(former.secrets.redactor());

        let gate = self.clone();
        let preparing = blocking(move || {
            let rules = Arc::new(Rules::new(settings, &gate.0.changes));
            let noted = gate.0.terms.differences(&rules);
            let prepared = gate.0.terms.prepare(Arc::clone(&rules))?;
            Ok((rules, noted, prepared))
        });
        let (settings, mut noted, prepared) = preparing.await?;
        for change in self.0.changes.attributed(&mut noted) {
            self.0.audit.record(change.entry()).await?;
        }
        let gate = self.clone();
        if let Err(error) = blocking(move || gate.0.terms.commit(prepared, noted)).await {
            let reason = ("reason".to_owned(), error.to_string().into());
            self.note_settings(NOT_CHANGED, Map::from_iter([reason]))
                .await?;
            return Err(error);
        }
        // Likewise those read since then for calls that were sent under the former settings.
        redactor.adopt(former.secrets.redactor());
        self.0.lanes.update(settings.accounts.clone());
        Ok(())
    }

    async fn note_settings(
        &self,
        what: &str,
        detail: Map<String, Value>,
    ) -> Result<(), AuditError> {
        let entry = Entry {
            kind: Kind::Admin,
            // A full disk must not keep the removal of rights from taking effect.
            essential: true,
            body: Map::from_iter([
                ("what".to_owned(), what.into()),
                ("detail".to_owned(), detail.into()),
            ]),
        };
        self.0.audit.record(entry).await.map(drop)
    }
}

/// Policies take long to compile, so not on the serving threads.
pub(crate) async fn blocking<T: Send + 'static>(
    compile: impl FnOnce() -> Result<T, PolicyError> + Send + 'static,
) -> Result<T, GateError> {
    match tokio::task::spawn_blocking(compile).await {
        Ok(compiled) => Ok(compiled?),
        Err(_) => Err(GateError::Failed),
    }
}
