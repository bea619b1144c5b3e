//! Halting and resuming, and liquidating what runs live.
//!
//! Invariant: a halt is in force before it is stored, and its answer says where it is stored: if nowhere, it still holds
//! until the host ends.

use std::sync::Arc;
use std::time::Duration;

use qchost_catalog::{Access, by_name};
use qchost_ledger::Halt;
use qchost_policy::Person;
use serde::Serialize;
use tokio_util::task::TaskTracker;

use crate::body::HaltBody;
use crate::clock::now;
use crate::halt_store::{HaltError, HaltStore};
use crate::halts::{ActiveHalt, Departed, HaltScope, HaltStorage, Halts};
use crate::liquidation::{Liquidator, Stopped};
use crate::policy_store::PolicyStore;

/// How long a halt waits to learn how departed calls end.
const DEPARTED_TIMEOUT: Duration = Duration::from_secs(30);
/// The outcome of a call that the halt itself stopped.
const HALTED: &str = "halted";

/// Whether a call may start a live deployment. A tool that the catalog does not know may do anything.
fn may_deploy(call: &Departed) -> bool {
    by_name(&call.operation).is_none_or(|operation| operation.access == Access::Trade)
}

/// The states of projects, where a later one of a project replaces an earlier one.
fn merged(mut former: Vec<Stopped>, later: Vec<Stopped>) -> Vec<Stopped> {
    former.retain(|one| {
        let mut later = later.iter();
        !later.any(|it| it.account == one.account && it.project == one.project)
    });
    former.extend(later);
    former
}

/// The result of a halt.
#[derive(Debug, Clone, Serialize)]
pub struct HaltReport {
    /// The writes that had departed before, and how each ended.
    pub departed: Vec<Departed>,
    /// The live deployments that were liquidated or stopped.
    pub stopped: Vec<Stopped>,
    /// The halts in force afterwards, including this one.
    pub halts: Vec<ActiveHalt>,
    /// What was requested and could not be done. The halt is in force regardless.
    pub problems: Vec<String>,
}

/// The result of a resume.
#[derive(Debug, Clone, Serialize)]
pub struct ResumeReport {
    /// How many halts ended: those of exactly the requested scope.
    pub ended: usize,
    /// The halts in force afterwards.
    pub halts: Vec<ActiveHalt>,
    /// Liquidations of the halt that are still open. The host does not continue them.
    pub open: Vec<Stopped>,
}

/// Sets and ends halts.
pub struct HaltControl {
    /// Where halts are kept.
    pub store: Arc<HaltStore>,
    pub(crate) liquidator: Arc<Liquidator>,
    pub(crate) policies: Arc<PolicyStore>,
    pub(crate) tasks: TaskTracker,
}

impl HaltControl {
    fn halts(&self) -> &Halts {
        &self.store.halts
    }

    /// Stops every write, destroy and trade of a scope at once; reads and risk-reducing calls go on. With `liquidate`,
    /// liquidates the live deployments of the scope's accounts, and once more after calls have ended that may have started
    /// another one. The halt is in force when this function returns, before
    /// the future is polled. The future resolves when the calls that had departed have ended, or after 30 seconds;
    /// dropping it undoes nothing.
    ///
    /// # Errors
    /// On an internal error. All other problems are in the report.
    pub fn halt(
        self: &Arc<Self>,
        by: &Person,
        scope: HaltScope,
        reason: &str,
        liquidate: bool,
    ) -> impl Future<Output = Result<HaltReport, HaltError>> + Send + use<> {
        let halt = Halt {
            account: scope.account.clone(),
            plugin: scope.plugin.clone(),
            reason: reason.to_owned(),
            by: by.name.clone(),
            at: now(),
        };
        let body = HaltBody {
            what: HaltBody::HALT.to_owned(),
            account: scope.account.clone(),
            plugin: scope.plugin.clone(),
            reason: Some(reason.to_owned()),
            liquidate: Some(liquidate),
            file: None,
            person: Some(by.uid),
            person_name: Some(by.name.clone()),
        };
        let (generation, departed) = self.halts().halt(halt, &scope, body);
        self.store.tend(generation);
        let (own, by) = (Arc::clone(self), by.clone());
        let halting = self.tasks.spawn(async move {
            let liquidated = async {
                if liquidate {
                    own.liquidate(&by, &scope).await
                } else {
                    Ok(Vec::new())
                }
            };
            let (liquidated, ()) = tokio::join!(liquidated, own.store.kept(generation));
            let deploying: Vec<String> = departed
                .iter()
                .filter(|one| liquidate && may_deploy(one))
                .map(|one| one.call.clone())
                .collect();
            let departed = own.endings(departed).await;
            let (mut stopped, unliquidated) = match liquidated {
                Ok(stopped) => (stopped, None),
                Err(why) => (Vec::new(), Some(why)),
            };
            // A deployment that was being started may be in no list of the first time.
            if !deploying.is_empty()
                && let Ok(again) = own.liquidate(&by, &scope).await
            {
                stopped = merged(stopped, again);
            }
            own.liquidate_after(deploying, &by, &scope, generation);
            let halts = own.store.active_halts().await;
            let mut problems = own.unkept(&scope, &halts);
            problems.extend(unliquidated);
            HaltReport {
                departed,
                stopped,
                halts,
                problems,
            }
        });
        async { halting.await.map_err(|_| HaltError::Failed) }
    }

    /// Liquidates again when calls have ended that take longer than a halt waits, unless the halt has ended.
    fn liquidate_after(
        self: &Arc<Self>,
        mut calls: Vec<String>,
        by: &Person,
        scope: &HaltScope,
        generation: u64,
    ) {
        calls.retain(|call| self.halts().is_under_way(call));
        if calls.is_empty() {
            return;
        }
        let (own, by, scope) = (Arc::clone(self), by.clone(), scope.clone());
        self.tasks.spawn(async move {
            let under_way = |call: &String| own.halts().is_under_way(call);
            let all_ended = || (!calls.iter().any(under_way)).then_some(());
            own.halts().until(all_ended).await;
            if own.halts().entry(generation).is_some()
                && let Err(why) = own.liquidate(&by, &scope).await
            {
                tracing::warn!(target: "gate", why, "a deployment that was being started may run");
            }
        });
    }

    /// The problems of storing a halt.
    fn unkept(&self, scope: &HaltScope, halts: &[ActiveHalt]) -> Vec<String> {
        let own = halts
            .iter()
            .find(|one| one.halt.account == scope.account && one.halt.plugin == scope.plugin);
        let Some(own) = own else {
            return vec!["it was ended meanwhile; look at: qchost halt --list".to_owned()];
        };
        let trouble = own.trouble.as_deref().unwrap_or("nothing took it in time");
        let mut problems = Vec::new();
        if own.kept == HaltStorage::Memory && self.halts().file().is_some() {
            problems.push(format!(
                "it is in force, but only until the host ends, since it cannot be stored: {trouble}"
            ));
        }
        problems
    }

    /// Waits until departed calls have ended, for at most 30 seconds, and returns how.
    async fn endings(&self, departed: Vec<Departed>) -> Vec<Departed> {
        let under_way = |one: &Departed| self.halts().is_under_way(&one.call);
        let all_ended = || (!departed.iter().any(under_way)).then_some(());
        drop(tokio::time::timeout(DEPARTED_TIMEOUT, self.halts().until(all_ended)).await);
        // A call that waited for its next attempt had been cleared for the former one, and was then stopped: nothing was
        // done.
        departed
            .into_iter()
            .map(|one| Departed {
                ended: self.halts().ending(&one.call),
                ..one
            })
            .filter(|one| one.ended != HALTED)
            .collect()
    }

    /// Ends halts: those of exactly this scope.
    ///
    /// # Errors
    /// When the end of the halt cannot be recorded or stored, or the file `halt` cannot be removed: it stays in force
    /// then.
    pub async fn resume(
        self: &Arc<Self>,
        by: &Person,
        scope: HaltScope,
    ) -> Result<ResumeReport, HaltError> {
        let (own, by) = (Arc::clone(self), by.clone());
        // Detached: cancelling the caller must not leave the halt ended in only some stores.
        let resuming = self.tasks.spawn(async move {
            let ended = usize::from(own.store.lift(&by, &scope).await?);
            let open = match ended {
                0 => Vec::new(),
                _ => own.liquidator.give_up(&scope).await,
            };
            let halts = own.store.active_halts().await;
            Ok(ResumeReport { ended, halts, open })
        });
        resuming.await.unwrap_or(Err(HaltError::Failed))
    }

    /// Liquidates every live deployment of the scope's accounts, stops what cannot be liquidated, and continues in the
    /// background with what is still open.
    ///
    /// # Errors
    /// When the accounts are unknown, with the reason.
    async fn liquidate(&self, by: &Person, scope: &HaltScope) -> Result<Vec<Stopped>, String> {
        let settings = self.policies.settings();
        // A deployment keeps running when its account is removed from the configuration.
        let all = settings.accounts.keys().chain(&settings.dormant);
        let accounts: Vec<String> = match &scope.account {
            Some(account) if !settings.has_account(account) => {
                return Err(format!(
                    "nothing was liquidated: there is no account `{account}`"
                ));
            }
            Some(account) => vec![account.clone()],
            None => match scope.plugin.as_deref() {
                Some(plugin) => match self.policies.of(plugin) {
                    Some(policy) => vec![policy.authority.manifest().account.clone()],
                    None => {
                        return Err(format!(
                            "nothing was liquidated: `{plugin}` is not loaded, so its account is not known; name the account"
                        ));
                    }
                },
                None => all.cloned().collect(),
            },
        };
        Ok(self.liquidator.close(by, scope, accounts).await)
    }
}
