//! The requests, who may make them, and what carries them out.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use qchost_catalog::{Access, Operation};
use qchost_gate::HaltScope;
use qchost_policy::{Person, Verb};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Reports;
use super::limits::Class;
use crate::config::Config;
use crate::host::Host;
use crate::reload::Reconciler;
use crate::verbs::{approvals, audit, backup, call, grants, halt, invoke, plugin, policy, reload};

/// A request of a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Asks for the host's status.
    Host,
    /// An action of a plugin.
    Invoke {
        /// `strategy-lab.sweep`
        action: String,
        /// The input.
        input: Value,
    },
    /// A QuantConnect tool.
    Call {
        /// The account.
        account: String,
        /// The tool.
        tool: String,
        /// Its arguments.
        arguments: Value,
    },
    /// The plugins with their problems.
    Plugins,
    /// The other files that the host follows, with their problems.
    Files,
    /// What a plugin may do, and how much of it is used.
    Grants {
        /// The plugin.
        plugin: String,
    },
    /// What the gate would decide about a call.
    Explain {
        /// The plugin.
        plugin: String,
        /// The operation.
        operation: String,
        /// Its arguments.
        arguments: Value,
        /// The name that the project is assumed to have.
        project: Option<String>,
    },
    /// The pending approvals, or all of them.
    Approvals {
        /// Whether to include decided ones.
        all: bool,
        /// Only those requested later than this one.
        after: Option<String>,
        /// Page size.
        limit: u32,
    },
    /// One approval.
    Approval {
        /// Its id.
        id: String,
        /// The page of a changed file, from 1.
        page: u32,
    },
    /// Approves a request.
    Approve {
        /// The approval's id.
        id: String,
        /// Set to permit several calls instead of one.
        standing: Option<StandingRequest>,
    },
    /// Revokes a permit, or the approval of a change.
    Revoke {
        /// The approval's or the permit's id.
        id: String,
    },
    /// Refuses a request.
    Refuse {
        /// The approval's id.
        id: String,
        /// The reason.
        reason: String,
    },
    /// Halts writes and trades.
    Halt {
        /// Of this account only.
        account: Option<String>,
        /// Of this plugin only.
        plugin: Option<String>,
        /// The reason.
        reason: String,
        /// Whether to liquidate what runs live.
        liquidate: bool,
    },
    /// Ends a halt.
    Resume {
        /// The account of the halt.
        account: Option<String>,
        /// The plugin of the halt.
        plugin: Option<String>,
    },
    /// The halts in force.
    Halts,
    /// The record of what was done.
    Audit(AuditRequest),
    /// Settles calls with unknown outcome.
    Reconcile {
        /// Calls that may be sent again although their outcome stays unknown.
        accept: Vec<String>,
    },
    /// Reloads the files.
    Reload,
    /// Makes a backup.
    Backup {
        /// The target; absolute.
        folder: PathBuf,
    },
}

/// The scope of a standing permit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct StandingRequest {
    /// Maximum number of calls.
    pub uses: u32,
    /// Validity in milliseconds.
    pub for_ms: u64,
    /// Maximum total cost in 1/10000 dollar.
    pub max_cost: Option<u64>,
}

/// A query of the audit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum AuditRequest {
    /// Its signed head.
    Head,
    /// Verifies it.
    Verify {
        /// A head that it must reach back to.
        since: Option<String>,
    },
    /// Records.
    Query(Box<Query>),
    /// Why a call was decided as it was.
    Why {
        /// The call.
        call: String,
    },
    /// Its last records, and optionally new ones.
    Tail {
        /// The number of records.
        lines: usize,
        /// Whether to wait for new ones.
        follow: bool,
    },
    /// Records for other programs.
    Export {
        /// The format.
        format: ExportFormat,
        /// The filter.
        query: Box<Query>,
    },
}

/// Which records.
#[derive(Debug, Clone, Default, Serialize, Deserialize, clap::Args)]
#[group(skip)]
pub struct Query {
    /// Of this plugin.
    #[arg(long)]
    pub plugin: Option<String>,
    /// Of this operation: `backtests/create-backtest`.
    #[arg(long)]
    pub operation: Option<String>,
    /// Of this project, by its id or name.
    #[arg(long)]
    pub project: Option<String>,
    /// Of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// With this decision: `allowed`, `denied` …
    #[arg(long)]
    pub decision: Option<String>,
    /// Of this kind: `intent`, `outcome`, `denied`, `approval`, `change`, `halt` …
    #[arg(long)]
    pub kind: Option<String>,
    /// Of operations of this class: `read`, `write`, `destroy`, `trade`, `reduce`.
    #[arg(long)]
    pub access: Option<String>,
    /// Of this call, with the request for its approval.
    #[arg(long)]
    pub call: Option<String>,
    /// About this approval: asked for, decided, used.
    #[arg(long)]
    pub approval: Option<String>,
    /// About this permit: given, used.
    #[arg(long)]
    pub permit: Option<String>,
    /// Of this invocation.
    #[arg(long)]
    pub invocation: Option<String>,
    /// Of this person, by user id or name.
    #[arg(long)]
    pub person: Option<String>,
    /// Allowed by this grant.
    #[arg(long)]
    pub grant: Option<String>,
    /// Forbidden by this guardrail.
    #[arg(long)]
    pub guardrail: Option<String>,
    /// Decided under this manifest, guardrails, configuration or component, or a change from or to it: `sha256:…`.
    #[arg(long)]
    pub digest: Option<String>,
    /// That ended so: `answered`, `rejected`, `timed-out` …
    #[arg(long)]
    pub outcome: Option<String>,
    /// What a person did or what changed: `reload`, `approve`, `manifest`, `people` …
    // The request that this is part of has a field `what` of its own.
    #[serde(rename = "deed")]
    #[arg(long)]
    pub what: Option<String>,
    /// Not before: `2026-01-31`, `2026-01-31T09:30:00Z`, or so long ago: `24h`.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Before; as --from.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// At most this many: the newest, or with --oldest-first the oldest.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// The oldest first; an export always is.
    #[arg(long)]
    #[serde(default)]
    pub oldest_first: bool,
}

/// What records are exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// A line a record, with a header.
    Csv,
    /// One array.
    Json,
}

/// The kind of a request, which is all that its first line says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestKind {
    Host,
    Invoke,
    Call,
    /// A call of a tool that makes an account safer.
    Reduce,
    Plugins,
    Files,
    Grants,
    Explain,
    Approvals,
    Approval,
    Approve,
    Refuse,
    Revoke,
    Halt,
    Resume,
    Halts,
    Audit,
    Reconcile,
    Reload,
    Backup,
}

impl RequestKind {
    /// The verb in the rules about people.
    pub(super) fn verb(self) -> Verb {
        match self {
            Self::Invoke => Verb::Invoke,
            Self::Call => Verb::Call,
            Self::Reduce => Verb::Reduce,
            Self::Host | Self::Plugins | Self::Files | Self::Halts => Verb::Status,
            Self::Grants => Verb::Grants,
            Self::Explain => Verb::Explain,
            Self::Approvals | Self::Approval => Verb::ListApprovals,
            Self::Approve => Verb::Approve,
            // The right to refuse includes the right to revoke.
            Self::Refuse | Self::Revoke => Verb::Refuse,
            Self::Halt => Verb::Halt,
            Self::Resume => Verb::Resume,
            Self::Audit => Verb::ReadAudit,
            Self::Reconcile => Verb::Reconcile,
            Self::Reload => Verb::Reload,
            Self::Backup => Verb::Backup,
        }
    }

    /// The class it is counted in.
    pub(super) fn class(self) -> Class {
        match self {
            Self::Host | Self::Halt | Self::Resume | Self::Halts => Class::Control,
            Self::Invoke | Self::Call | Self::Reduce => Class::Invocation,
            Self::Audit => Class::Read,
            _ => Class::Other,
        }
    }

    /// Maximum size in bytes.
    pub(super) fn max_bytes(self) -> u64 {
        match self {
            Self::Invoke | Self::Call | Self::Reduce | Self::Explain => 32 << 20,
            _ => 64 << 10,
        }
    }

    /// Whether it concerns the accounts of one configuration, and must not be carried out with those of another.
    pub(super) fn is_for_accounts(self) -> bool {
        matches!(self, Self::Invoke | Self::Call | Self::Reduce)
    }

    /// Whether it has no effects, so that it can be given up at any time.
    pub(super) fn only_looks(self) -> bool {
        self.read_back().is_none()
    }

    /// The command that shows whether it took effect; `None` if it has no effects.
    pub(super) fn read_back(self) -> Option<&'static str> {
        Some(match self {
            Self::Halt | Self::Resume => "qchost halt --list",
            Self::Approve | Self::Refuse | Self::Revoke => "qchost approvals list --all",
            Self::Reload => "qchost plugin list",
            Self::Invoke | Self::Call | Self::Reduce | Self::Reconcile | Self::Backup => {
                "qchost audit query --limit 20"
            }
            Self::Host
            | Self::Plugins
            | Self::Files
            | Self::Grants
            | Self::Explain
            | Self::Approvals
            | Self::Approval
            | Self::Halts
            | Self::Audit => return None,
        })
    }

    /// Whether it may have to wait until plugins are loaded.
    pub(super) fn waits_for_plugins(self) -> bool {
        matches!(self, Self::Invoke | Self::Reload)
    }
}

impl Request {
    /// The kind of the request.
    pub(super) fn kind(&self) -> RequestKind {
        match self {
            Self::Host => RequestKind::Host,
            Self::Invoke { .. } => RequestKind::Invoke,
            Self::Call { tool, .. } => {
                let reduces = |operation: &Operation| operation.access == Access::Reduce;
                match qchost_catalog::by_tool(tool).is_some_and(reduces) {
                    true => RequestKind::Reduce,
                    false => RequestKind::Call,
                }
            }
            Self::Plugins => RequestKind::Plugins,
            Self::Files => RequestKind::Files,
            Self::Grants { .. } => RequestKind::Grants,
            Self::Explain { .. } => RequestKind::Explain,
            Self::Approvals { .. } => RequestKind::Approvals,
            Self::Approval { .. } => RequestKind::Approval,
            Self::Approve { .. } => RequestKind::Approve,
            Self::Refuse { .. } => RequestKind::Refuse,
            Self::Revoke { .. } => RequestKind::Revoke,
            Self::Halt { .. } => RequestKind::Halt,
            Self::Resume { .. } => RequestKind::Resume,
            Self::Halts => RequestKind::Halts,
            Self::Audit(_) => RequestKind::Audit,
            Self::Reconcile { .. } => RequestKind::Reconcile,
            Self::Reload => RequestKind::Reload,
            Self::Backup { .. } => RequestKind::Backup,
        }
    }

    /// The plugin or account it concerns.
    pub(super) fn about(&self) -> Option<&str> {
        match self {
            Self::Invoke { action, .. } => action.split_once('.').map(|(plugin, _)| plugin),
            Self::Call { account, .. } => Some(account),
            Self::Grants { plugin } | Self::Explain { plugin, .. } => Some(plugin),
            Self::Halt {
                account, plugin, ..
            }
            | Self::Resume { account, plugin } => plugin.as_deref().or(account.as_deref()),
            _ => None,
        }
    }

    /// Whether its effect outlasts the host.
    pub(super) fn outlasts(&self) -> bool {
        matches!(self, Self::Halt { .. } | Self::Resume { .. })
    }

    /// Prepares a host that was opened for this request only.
    pub(super) async fn prepare(&self, host: &Arc<Host>, config: &Config) -> Result<()> {
        match self {
            Self::Invoke { .. } | Self::Plugins => {
                Reconciler::new(Arc::clone(host)).once().await;
                Ok(())
            }
            Self::Grants { plugin } | Self::Explain { plugin, .. } => host.install(config, plugin),
            _ => Ok(()),
        }
    }

    /// Carries it out in this process, if the person may request it.
    pub(super) async fn carry_out_here(
        self,
        host: &Host,
        person: &Person,
        reports: &Reports,
    ) -> Result<Value> {
        let (verb, about) = (self.kind().verb(), self.about());
        let decision = host.current().people.decide(person, verb, about);
        if !decision.allowed {
            let reason = decision
                .denial
                .map(|denial| denial.reason)
                .unwrap_or_default();
            let detail = json!({ "about": about, "reason": reason });
            host.gate
                .note_admin(person, &format!("{} (denied)", verb.word()), detail)
                .await?;
            bail!("denied: {reason}");
        }
        self.carry_out(host, person, reports).await
    }

    /// Carries it out. The caller has checked that the person may request it.
    pub(super) async fn carry_out(
        self,
        host: &Host,
        person: &Person,
        reports: &Reports,
    ) -> Result<Value> {
        match self {
            Self::Invoke { action, input } => {
                invoke::by_host(host, person, &action, input, reports).await
            }
            Self::Call {
                account,
                tool,
                arguments,
            } => call::by_host(host, person, &account, &tool, arguments).await,
            Self::Host => bail!("which host this is, its socket says"),
            Self::Plugins => plugin::by_host(host).await,
            Self::Files => Ok(reload::files(host).into()),
            Self::Grants { plugin } => grants::by_host(host, &plugin).await,
            Self::Explain {
                plugin,
                operation,
                arguments,
                project,
            } => policy::by_host(host, &plugin, &operation, arguments, project).await,
            Self::Approvals { all, after, limit } => {
                approvals::list_by_host(host, all, after, limit).await
            }
            Self::Revoke { id } => approvals::revoke_by_host(host, person, &id).await,
            Self::Approval { id, page } => approvals::show_by_host(host, &id, page).await,
            Self::Approve { id, standing } => {
                approvals::approve_by_host(host, person, &id, standing).await
            }
            Self::Refuse { id, reason } => {
                approvals::refuse_by_host(host, person, &id, &reason).await
            }
            Self::Halt {
                account,
                plugin,
                reason,
                liquidate,
            } => {
                let scope = halt::scope(host, account, plugin)?;
                halt::by_host(host, person, scope, &reason, liquidate, reports).await
            }
            Self::Resume { account, plugin } => {
                halt::resume_by_host(host, person, HaltScope { account, plugin }).await
            }
            Self::Halts => Ok(halt::list_by_host(host).await),
            Self::Audit(request) => audit::by_host(host, person, request, reports).await,
            Self::Reconcile { accept } => audit::reconcile_by_host(host, person, &accept).await,
            Self::Reload => reload::by_host(host, person).await,
            Self::Backup { folder } => backup::by_host(host, person, &folder).await,
        }
    }
}
