//! Halting and resuming, and liquidating what runs live.
//!
//! Invariant: a halt is in force before it is stored, and its answer says where it is stored: if nowhere, it still holds
//! until the host ends.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use qchost_audit::{AuditError, Entry, Kind};
use qchost_ledger::{Halt, LedgerError};
use qchost_policy::Person;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::closing::Stopped;
use crate::gate::{Gate, now};
use crate::halts::{Departed, HaltScope, Kept, StandingHalt};

/// How long a halt waits to learn how departed calls end.
const PATIENCE: Duration = Duration::from_secs(30);
/// The outcome of a call that the halt itself stopped.
const HALTED: &str = "halted";

/// Why a halt or a resume failed.
#[derive(Debug, thiserror::Error)]
pub enum HaltError {
    /// An internal error.
    #[error("the host failed in the middle of it; look at `qchost halt --list`, and try again")]
    Failed,
    /// The file `halt` cannot be removed.
    #[error(
        "the halt stays: the file {} cannot be removed: {source}; remove it, then: qchost resume", path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The end of a halt cannot be stored.
    #[error("the halt stays, since its end cannot be stored: {0}")]
    Stays(LedgerError),
    /// The end of a halt cannot be written to the reserve.
    #[error("the halt stays, since its end cannot be stored: {0}")]
    Reserve(String),
    /// The end of a halt cannot be recorded.
    #[error("the halt stays, since its end cannot be recorded: {0}")]
    Unrecorded(AuditError),
}

/// The result of a halt.
#[derive(Debug, Clone, Serialize)]
pub struct HaltReport {
    /// The writes that had departed before, and how each ended.
    pub departed: Vec<Departed>,
    /// The live deployments that were liquidated or stopped.
    pub stopped: Vec<Stopped>,
    /// The halts in force afterwards, including this one.
    pub halts: Vec<StandingHalt>,
    /// What was requested and could not be done. The halt is in force regardless.
    pub problems: Vec<String>,
}

/// The result of a resume.
#[derive(Debug, Clone, Serialize)]
pub struct ResumeReport {
    /// How many halts ended: those of exactly the requested scope.
    pub ended: usize,
    /// The halts in force afterwards.
    pub halts: Vec<StandingHalt>,
    /// Liquidations of the halt that are still open. The host does not continue them.
    pub open: Vec<Stopped>,
}

impl Gate {
    /// Stops every write, destroy and trade of a scope at once; reads and risk-reducing calls go on. With `liquidate`,
    /// liquidates the live deployments of the scope's accounts. The halt is in force when this function returns, before
    /// the future is polled. The future resolves when the calls that had departed have ended, or after 30 seconds;
    /// dropping it undoes nothing.
    ///
    /// # Errors
    /// On an internal error. All other problems are in the report.
    pub fn halt(
        &self,
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
        let body = json!({ "what": "halt", "account": scope.account, "plugin": scope.plugin, "reason": reason, "liquidate": liquidate });
        let changes = self.0.halts.changes();
        let (generation, departed) = self.0.halts.halt(halt, &scope, admin_body(by, body));
        self.tend(generation);
        let (gate, by) = (self.clone(), by.clone());
        let halting = self.spawn(async move {
            let liquidated = async {
                if liquidate {
                    gate.liquidate(&by, &scope).await
                } else {
                    Ok(Vec::new())
                }
            };
            let (liquidated, ()) = tokio::join!(liquidated, gate.kept(generation));
            let departed = gate.endings(departed, changes).await;
            let (stopped, unliquidated) = match liquidated {
                Ok(stopped) => (stopped, None),
                Err(why) => (Vec::new(), Some(why)),
            };
            let halts = gate.standing_halts().await;
            let mut problems = gate.unkept(&scope, &halts);
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

    /// The problems of storing a halt.
    fn unkept(&self, scope: &HaltScope, halts: &[StandingHalt]) -> Vec<String> {
        let own = halts
            .iter()
            .find(|one| one.halt.account == scope.account && one.halt.plugin == scope.plugin);
        let Some(own) = own else {
            return vec!["it was ended meanwhile; look at: qchost halt --list".to_owned()];
        };
        let trouble = own.trouble.as_deref().unwrap_or("nothing took it in time");
        let mut problems = Vec::new();
        if own.kept == Kept::Memory && self.0.halts.file().is_some() {
            problems.push(format!(
                "it is in force, but only until the host ends, since it cannot be stored: {trouble}"
            ));
        }
        problems
    }

    /// Waits until departed calls have ended, for at most 30 seconds, and returns how.
    async fn endings(
        &self,
        departed: Vec<Departed>,
        mut changes: watch::Receiver<u64>,
    ) -> Vec<Departed> {
        let end = Instant::now() + PATIENCE;
        while departed
            .iter()
            .any(|one| self.0.halts.is_under_way(&one.call))
        {
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, changes.changed()).await {
                Ok(Ok(())) => {}
                _ => break,
            }
        }
        // A call that was only waiting for its connection had been cleared too, and was then stopped: it never left.
        departed
            .into_iter()
            .map(|one| Departed {
                ended: self.0.halts.ending(&one.call),
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
    pub async fn resume(&self, by: &Person, scope: HaltScope) -> Result<ResumeReport, HaltError> {
        let (gate, by) = (self.clone(), by.clone());
        // Detached: cancelling the caller must not leave the halt ended in only some stores.
        let resuming = self.spawn(async move {
            let ended = usize::from(gate.lift(&by, &scope).await?);
            let open = match ended {
                0 => Vec::new(),
                _ => gate.give_up_closing(&scope).await,
            };
            let halts = gate.standing_halts().await;
            Ok(ResumeReport { ended, halts, open })
        });
        resuming.await.unwrap_or(Err(HaltError::Failed))
    }

    /// The halts in force.
    #[must_use]
    pub fn halts(&self) -> Vec<StandingHalt> {
        self.0.halts.list()
    }

    /// Records an administrative action of a person, durably.
    ///
    /// # Errors
    /// When it cannot be recorded; the action should not be taken then.
    pub async fn note_admin(
        &self,
        by: &Person,
        what: &str,
        detail: Value,
    ) -> Result<(), AuditError> {
        let body = json!({ "what": what, "detail": detail });
        self.record_admin(Kind::Admin, by, body).await
    }

    pub(crate) async fn record_approval(
        &self,
        by: &Person,
        what: &str,
        mut body: Map<String, Value>,
    ) -> Result<(), AuditError> {
        body.insert("what".to_owned(), what.into());
        self.record_admin(Kind::Approval, by, body.into()).await
    }

    async fn record_admin(&self, kind: Kind, by: &Person, body: Value) -> Result<(), AuditError> {
        let entry = Entry {
            kind,
            essential: false,
            body: admin_body(by, body),
        };
        self.0.audit.record(entry).await.map(drop)
    }

    /// Liquidates every live deployment of the scope's accounts, stops what cannot be liquidated, and continues in the
    /// background with what is still open.
    ///
    /// # Errors
    /// When the accounts are unknown, with the reason.
    async fn liquidate(&self, by: &Person, scope: &HaltScope) -> Result<Vec<Stopped>, String> {
        let settings = self.settings();
        // A deployment keeps running when its account is removed from the configuration.
        let all = settings.accounts.keys().chain(&settings.dormant);
        let accounts: Vec<String> = match &scope.account {
            Some(account)
                if !settings.accounts.contains_key(account)
                    && !settings.dormant.contains(account) =>
            {
                return Err(format!(
                    "nothing was liquidated: there is no account `{account}`"
                ));
            }
            Some(account) => vec![account.clone()],
            None => match scope.plugin.as_deref() {
                Some(plugin) => match self.manifest(plugin) {
                    Some(manifest) => vec![manifest.account.clone()],
                    None => {
                        return Err(format!(
                            "nothing was liquidated: `{plugin}` is not loaded, so its account is not known; name the account"
                        ));
                    }
                },
                None => all.cloned().collect(),
            },
        };
        Ok(self.close_accounts(by, scope, accounts).await)
    }
}

/// The audit body of an administrative action.
pub(crate) fn admin_body(by: &Person, body: Value) -> Map<String, Value> {
    let mut fields = match body {
        Value::Object(fields) => fields,
        other => Map::from_iter([("what".to_owned(), other)]),
    };
    fields.insert("person".to_owned(), by.uid.into());
    fields.insert("person-name".to_owned(), by.name.as_str().into());
    fields
}
