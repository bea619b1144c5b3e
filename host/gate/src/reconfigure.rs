//! Applies a changed configuration to a running gate.
//!
//! Invariant: all or nothing. Nothing changes before every manifest is compiled under the new guardrails
//! and the change is on disk.

use std::sync::Arc;

use qchost_audit::{Audit, Entry, Kind};
use qchost_ledger::{Ledger, LedgerError};
use qchost_scope::{Child, Scope};
use qchost_traffic::AccountQueues;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use crate::action::AdminAction;
use crate::body::{AdminBody, AdminDetail};
use crate::changes::Changes;
use crate::error::GateError;
use crate::policy_store::{PolicyStore, blocking};
use crate::settings::Settings;

/// Applies settings.
pub struct Reconfigurer {
    pub(crate) ledger: Ledger,
    pub(crate) audit: Audit,
    pub(crate) policies: Arc<PolicyStore>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) queues: Arc<AccountQueues>,
    pub(crate) tasks: TaskTracker,
    /// Held while the settings are changed.
    pub(crate) changing: Mutex<()>,
}

impl Reconfigurer {
    /// Applies new settings. They hold from the next decision on, also for calls that wait or are about
    /// to be retried: those are decided again.
    ///
    /// # Errors
    /// When a manifest cannot be enforced under the new guardrails, or ledger or audit cannot be used.
    /// Nothing has changed then.
    pub async fn reconfigure(self: &Arc<Self>, settings: Settings) -> Result<(), GateError> {
        let own = Arc::clone(self);
        // Runs detached: cancelling the caller does not abort the change half-way.
        let changing = self.tasks.spawn(async move { own.apply(settings).await });
        changing.await.unwrap_or(Err(GateError::Failed))
    }

    async fn apply(&self, settings: Settings) -> Result<(), GateError> {
        let _alone = self.changing.lock().await;
        let former = self.policies.settings();
        let new = settings.accounts.keys();
        let new = new.filter(|account| !former.accounts.contains_key(*account));
        recall(&self.scope, &self.ledger, new).await?;
        // Secrets read before must not leak in an answer that arrives later.
        let redactor = settings.secrets.redactor().clone();
        redactor.adopt(former.secrets.redactor());

        let (policies, changes) = (Arc::clone(&self.policies), Arc::clone(&self.changes));
        let preparing = blocking(move || {
            let rules = Arc::new(changes.keep_settings(settings));
            let noted = policies.differences(&rules);
            let prepared = policies.prepare_settings(Arc::clone(&rules))?;
            Ok((rules, noted, prepared))
        });
        let (settings, mut noted, prepared) = preparing.await?;
        for change in self.changes.attributed(&mut noted) {
            self.audit.record(change.entry()).await?;
        }
        let policies = Arc::clone(&self.policies);
        if let Err(error) = blocking(move || policies.commit(prepared, noted)).await {
            self.audit.record(not_changed(&error)).await?;
            return Err(error);
        }
        // Likewise those read since then for calls that were sent under the former settings.
        redactor.adopt(former.secrets.redactor());
        self.queues.update(settings.accounts.clone());
        Ok(())
    }
}

fn not_changed(error: &GateError) -> Entry {
    let reason = error.to_string();
    let detail = AdminDetail::Failed { reason };
    let body = AdminBody::new(AdminAction::SettingsNotChanged, None, detail);
    // A full disk must not keep the removal of rights from taking effect.
    Entry::new(Kind::Admin, true, &body)
}

/// Loads into a scope what the ledger remembers of accounts: the creators of projects, and the projects of compiles.
pub(crate) async fn recall(
    scope: &Scope,
    ledger: &Ledger,
    accounts: impl Iterator<Item = &String>,
) -> Result<(), LedgerError> {
    for account in accounts {
        for (plugin, project) in ledger.created(account).await? {
            scope.remember_created(account, &plugin, project);
        }
        for (compile, project) in ledger.compiles(account).await? {
            scope.remember_child(account, Child::Compile, &compile, project);
        }
    }
    Ok(())
}
