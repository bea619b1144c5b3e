//! Halting and resuming, and stopping what runs with an account's money.
//!
//! Invariant: a halt is durable before it is answered for, and in force before it is durable: if it
//! cannot be written down, it holds all the same until the host ends, and the error says so.

use std::time::{Duration, Instant};

use qchost_audit::{AuditError, Entry, Kind};
use qchost_catalog::{Access, Call, Failure, Outcome, Target, always};
use qchost_ledger::{Halt, LedgerError};
use qchost_policy::Person;
use qchost_scope::Reader as _;
use qchost_traffic::Priority;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::gate::{Gate, known, now};
use crate::halts::{Departed, HaltScope};
use crate::judge::HostReads;

/// The principal of what the host does by itself.
const HOST: &str = "qchost";
/// How long a halt waits to learn how the calls end that had departed.
const PATIENCE: Duration = Duration::from_secs(30);
/// The ending of a call that the halt itself stopped.
const HALTED: &str = "halted";
/// How long stopping one deployment may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a halt is not complete. It is in force all the same.
#[derive(Debug, thiserror::Error)]
pub enum HaltError {
    /// It is not durable.
    #[error("halted, but only until the host ends, since the halt cannot be stored: {0}")]
    Ledger(#[from] LedgerError),
    /// It is not recorded.
    #[error("halted, but the halt cannot be recorded: {0}")]
    Audit(#[from] AuditError),
    /// Liquidation was asked for of a plugin that is not loaded, so that its account is not known.
    #[error(
        "halted, but nothing was liquidated: `{0}` is not loaded, so its account is not known; name the account"
    )]
    NoPlugin(String),
    /// The host itself failed.
    #[error("the host failed in the middle of it; look at `qchost halt --list`, and halt again")]
    Failed,
    /// Liquidation was asked for where there is no account to liquidate.
    #[error("halted, but nothing was liquidated: there is no account `{0}`")]
    NoAccount(String),
}

/// What a halt did.
#[derive(Debug, Clone, Serialize)]
pub struct HaltReport {
    /// The writes that had departed before, and how each ended.
    pub departed: Vec<Departed>,
    /// The live deployments that were liquidated or stopped.
    pub stopped: Vec<Stopped>,
}

/// What became of a live deployment.
#[derive(Debug, Clone, Serialize)]
pub struct Stopped {
    /// The account.
    pub account: String,
    /// The project, by id; nothing if the account's deployments cannot be listed.
    pub project: Option<u32>,
    /// Its name, or what is known of it.
    pub name: String,
    /// What was done: `liquidated`, `stopped`, `failed`.
    pub result: &'static str,
    /// The words of a failure.
    pub message: Option<String>,
}

impl Gate {
    /// Stops every write, destroy and trade of a scope at once; reads and what makes the account safer go
    /// on. With `liquidate`, liquidates the live deployments of the scope's accounts. Returns when
    /// the calls that had departed have ended, or after 30 seconds.
    ///
    /// # Errors
    /// When it is in force but cannot be made durable, or cannot be recorded.
    pub async fn halt(
        &self,
        by: &Person,
        scope: HaltScope,
        reason: &str,
        liquidate: bool,
    ) -> Result<HaltReport, HaltError> {
        let (gate, by, reason) = (self.clone(), by.clone(), reason.to_owned());
        // Whoever asked may leave: what was begun is stopped to its end.
        let halting =
            self.spawn(async move { gate.stop_all(&by, scope, &reason, liquidate).await });
        halting.await.unwrap_or(Err(HaltError::Failed))
    }

    async fn stop_all(
        &self,
        by: &Person,
        scope: HaltScope,
        reason: &str,
        liquidate: bool,
    ) -> Result<HaltReport, HaltError> {
        let halt = Halt {
            account: scope.account.clone(),
            plugin: scope.plugin.clone(),
            reason: reason.to_owned(),
            by: by.name.clone(),
            at: now(),
        };
        let mut changes = self.0.halts.changes();
        let departed = self.0.halts.halt(halt.clone(), &scope);
        let stored = self.0.ledger.halt(halt).await;
        let body = json!({ "what": "halt", "account": scope.account, "plugin": scope.plugin, "reason": reason, "liquidate": liquidate });
        let recorded = self.record_admin(Kind::Halt, true, by, body).await;
        let liquidated = if liquidate {
            self.liquidate(by, &scope).await
        } else {
            Ok(Vec::new())
        };
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
        // A call that was only waiting for its connection was cleared too, and then stopped: it never left.
        let departed = departed
            .into_iter()
            .map(|one| Departed {
                ended: self.0.halts.ending(&one.call),
                ..one
            })
            .filter(|one| one.ended != HALTED)
            .collect();
        stored?;
        recorded?;
        Ok(HaltReport {
            departed,
            stopped: liquidated?,
        })
    }

    /// Ends halts: those of exactly this scope. Returns how many there were.
    ///
    /// # Errors
    /// When the end of the halt cannot be recorded or stored: it goes on then.
    pub async fn resume(&self, by: &Person, scope: HaltScope) -> Result<usize, HaltError> {
        // What ends no halt is not recorded as if it had.
        if !self.0.halts.is_set(&scope) {
            return Ok(0);
        }
        let body = json!({ "what": "resume", "account": scope.account, "plugin": scope.plugin });
        self.record_admin(Kind::Halt, true, by, body).await?;
        let ledger = &self.0.ledger;
        let ended = ledger
            .resume(scope.account.as_deref(), scope.plugin.as_deref())
            .await?;
        self.0.halts.resume(&scope);
        Ok(ended)
    }

    /// The halts that are in force.
    #[must_use]
    pub fn halts(&self) -> Vec<Halt> {
        self.0.halts.list()
    }

    /// Records what a person did with the host itself, durably.
    ///
    /// # Errors
    /// When it cannot be recorded; it should not be done then.
    pub async fn note_admin(
        &self,
        by: &Person,
        what: &str,
        detail: Value,
    ) -> Result<(), AuditError> {
        let body = json!({ "what": what, "detail": detail });
        self.record_admin(Kind::Admin, false, by, body).await
    }

    pub(crate) async fn record_approval(
        &self,
        by: &Person,
        what: &str,
        detail: Value,
    ) -> Result<(), AuditError> {
        let body = json!({ "what": what, "detail": detail });
        self.record_admin(Kind::Approval, false, by, body).await
    }

    async fn record_admin(
        &self,
        kind: Kind,
        essential: bool,
        by: &Person,
        body: Value,
    ) -> Result<(), AuditError> {
        let mut fields = match body {
            Value::Object(fields) => fields,
            other => Map::from_iter([("what".to_owned(), other)]),
        };
        fields.insert("person".to_owned(), by.uid.into());
        fields.insert("person-name".to_owned(), by.name.as_str().into());
        let entry = Entry {
            kind,
            essential,
            body: fields,
        };
        self.0.audit.record(entry).await.map(drop)
    }

    /// Liquidates every live deployment of the scope's accounts, and stops what cannot be liquidated.
    async fn liquidate(&self, by: &Person, scope: &HaltScope) -> Result<Vec<Stopped>, HaltError> {
        let settings = self.settings();
        let all = settings.accounts.keys();
        let accounts: Vec<String> = match &scope.account {
            Some(account) if !settings.accounts.contains_key(account) => {
                return Err(HaltError::NoAccount(account.clone()));
            }
            Some(account) => vec![account.clone()],
            None => match scope.plugin.as_deref() {
                Some(plugin) => match self.manifest(plugin) {
                    Some(manifest) => vec![manifest.account.clone()],
                    None => return Err(HaltError::NoPlugin(plugin.to_owned())),
                },
                None => all.cloned().collect(),
            },
        };
        let mut stopped = Vec::new();
        for account in accounts {
            let deployments = match self.deployments(&account).await {
                Ok(deployments) => deployments,
                Err(failure) => {
                    stopped.push(Stopped {
                        account,
                        project: None,
                        name: "its deployments cannot be listed".to_owned(),
                        result: "failed",
                        message: Some(failure.to_string()),
                    });
                    continue;
                }
            };
            for (project, name) in deployments {
                stopped.push(match project {
                    Some(project) => self.stop(by, &account, project, name).await,
                    None => Stopped {
                        account: account.clone(),
                        project,
                        name,
                        result: "failed",
                        message: Some("the list does not say of which project it is".to_owned()),
                    },
                });
            }
        }
        Ok(stopped)
    }

    /// The projects of an account whose algorithms run with money.
    async fn deployments(&self, account: &str) -> Result<Vec<(Option<u32>, String)>, Failure> {
        let reads = HostReads {
            inner: &self.0,
            account,
            plugin: HOST,
            priority: Priority::Safety,
            deadline: Instant::now() + STOP_TIMEOUT,
            clearance: always(),
        };
        let answer = reads
            .read(known("live/list-live-algorithms")?, Map::new())
            .await?;
        let listed = answer.get("live").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| {
            Failure::UnexpectedResponse("the answer has no list of deployments".to_owned())
        })?;
        let ended = [
            "Stopped",
            "Liquidated",
            "RuntimeError",
            "DeployError",
            "Completed",
        ];
        Ok(listed
            .iter()
            .filter(|one| {
                // Whatever is not known to have ended is taken to run.
                let status = one.get("status").and_then(Value::as_str);
                status.is_none_or(|status| !ended.contains(&status))
            })
            .map(|one| {
                let project = one.get("projectId").and_then(Value::as_u64);
                let project = project.and_then(|project| u32::try_from(project).ok());
                let name = one.get("name").and_then(Value::as_str).map(str::to_owned);
                let known = || self.0.scope.project_name_cached(account, project?);
                (project, name.or_else(known).unwrap_or_default())
            })
            .collect())
    }

    async fn stop(&self, by: &Person, account: &str, project: u32, name: String) -> Stopped {
        let (mut message, mut result) = (None, "failed");
        for (operation, word) in [
            ("live/liquidate-live-algorithm", "liquidated"),
            ("live/stop-live-algorithm", "stopped"),
        ] {
            match self.reduce(by, account, project, operation).await {
                Ok(_) => {
                    result = word;
                    break;
                }
                Err(failure) => message = Some(failure.to_string()),
            }
        }
        Stopped {
            account: account.to_owned(),
            project: Some(project),
            name,
            result,
            message,
        }
    }

    /// Makes one call of the host's own that makes an account safer, recorded like any other. It is sent
    /// even if it cannot be recorded: money may be at stake.
    async fn reduce(&self, by: &Person, account: &str, project: u32, name: &str) -> Outcome {
        let operation = known(name)?;
        let call = format!("{HOST}-{project}-{}", now());
        let record = |kind: Kind, outcome: Option<&str>| {
            let body = json!({
                "call": call, "account": account, "plugin": HOST, "person": by.uid, "operation": name,
                "access": Access::Reduce.word(), "project": { "id": project }, "arguments": { "projectId": project },
                "decision": "allowed", "outcome": outcome,
            });
            let body = match body {
                Value::Object(body) => body,
                _ => Map::new(),
            };
            let entry = Entry {
                kind,
                essential: true,
                body,
            };
            async {
                if let Err(error) = self.0.audit.record(entry).await {
                    tracing::error!(target: "gate", project, %error, "a deployment is stopped without a record of it");
                }
            }
        };
        record(Kind::Intent, None).await;
        let mut arguments = Map::new();
        arguments.insert("projectId".to_owned(), project.into());
        let outcome = self
            .0
            .upstream
            .call(Call {
                account,
                target: Target::Known(operation),
                arguments,
                deadline: Instant::now() + STOP_TIMEOUT,
                clearance: always(),
            })
            .await;
        let word = outcome.as_ref().map_or_else(Failure::word, |_| "answered");
        let kind = match outcome {
            Err(Failure::UnknownOutcome(_)) => Kind::Lost,
            _ => Kind::Outcome,
        };
        record(kind, Some(word)).await;
        outcome
    }
}
