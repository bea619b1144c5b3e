//! The gate: the policy enforcement point between plugins and QuantConnect. Every call of every plugin passes it; there
//! is no other connection.
//!
//! A plugin's authority is its manifest at the instant of the call, under the settings of that instant (`policy_store`).
//! The gate owns the connection, so it cannot be bypassed; and once a call is sent, it runs in a task of the gate's own,
//! so that no time-out, trap or reload of the plugin can lose its outcome.
//!
//! A call passes one struct a stage, each with just the stores that it needs; `gate` wires them:
//!
//! 1. `authorize`: halts, the account, and whether any grant covers the operation;
//! 2. `resolve`: what the call touches, by the host's own reads (`reads`, charged by `read_limits`); `evidence`: facts about
//!    its project, if a guardrail asks for them;
//! 3. `authorize`: grants and guardrails, and `trade`: the rules where money is at stake;
//! 4. `approve`: finds a permit, or requests one;
//! 5. `throttle`: rates and concurrency of its grants, the account's queue; before that queue, `sources` keeps what is
//!    compiled or deployed unchanged;
//! 6. `reserve` charges budgets in the ledger, and `dispatch` records, sends, and records the outcome.
//!
//! `admission` runs the stages up to the fifth, and repeats them for a call whose policy changed on the way.
//!
//! Administration is separate from the stages: `halt`, `liquidation`, `approvals`, `adoption`, `proposals`, `reconfigure`,
//! `reconcile`, `report` and `backup`. The texts behind decisions are recorded as well: `redacted_text` redacts values that may be
//! secrets, `texts` stores a text by its digest, `changes` records each change of what is in force before a call can be
//! decided by it, `retention` drops texts that no record names any more, and `why` joins all of this for one call.
//!
//! A gate in front of a connection, and a plugin that may list backtests and nothing else:
//!
//! ```
//! # use std::{collections::{BTreeMap, BTreeSet}, path::Path, sync::Arc, time::{Duration, Instant}};
//! # use qchost_audit::{Audit, Disk};
//! # use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Upstream, by_name};
//! # use qchost_gate::{Gate, Options, Principal, Refusal, Settings, Sources};
//! # use qchost_ledger::Ledger;
//! # use qchost_policy::{Guardrails, Manifest};
//! # use qchost_secrets::{Profiles, Secrets};
//! # use serde_json::{Map, json};
//! struct Cloud;
//!
//! impl Upstream for Cloud {
//!     fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
//!         Box::pin(async move {
//!             // Right before the bytes leave: the policy may have changed, or a halt may have come.
//!             call.clearance.clear()?;
//!             Ok(json!({ "success": true, "projects": [{ "projectId": 1, "name": "Lab/one" }] }))
//!         })
//!     }
//! #   fn download<'a>(&'a self, _: &'a str, _: &'a str, _: u64, _: Instant) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
//! #       Box::pin(async { Err(Failure::NotFound("nothing here".to_owned())) })
//! #   }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let secrets = Secrets::new(None)?;
//! # let settings = Settings {
//! #     profiles: Profiles::new(BTreeMap::new(), secrets.clone()),
//! #     secrets,
//! #     guardrails: Guardrails::none(),
//! #     accounts: [("paper".to_owned(), Default::default())].into(),
//! #     dormant: BTreeSet::new(),
//! #     derived_data: BTreeSet::new(),
//! #     node_prices: BTreeMap::new(),
//! #     node_maxima: BTreeMap::new(),
//! #     live_trading: false,
//! #     two_person: false,
//! #     production: false,
//! #     approval_ttl: Duration::from_secs(3600),
//! #     permit_ttl: Duration::from_secs(3600),
//! #     sources: Sources::default(),
//! # };
//! # let options = qchost_audit::Options {
//! #     folder: folder.path().join("audit"),
//! #     key: vec![7; 32].into(),
//! #     segment_bytes: 1 << 20,
//! #     keep: None,
//! #     reserve_bytes: 0,
//! #     anchor: None,
//! #     files: Arc::new(Disk),
//! # };
//! # let (audit, opening) = Audit::open(options, None)?;
//! # let options = Options {
//! #     settings,
//! #     ledger: Ledger::in_memory()?,
//! #     audit,
//! #     opening,
//! #     key: vec![7; 32].into(),
//! #     call_timeout: Duration::from_secs(10),
//! #     audit_share: u64::MAX,
//! #     evidence: None,
//! # };
//! let gate = Gate::open(Box::new(Cloud), options).await?;
//! let manifest = r#"
//!     plugin = "lab"
//!     component = "lab.wasm"
//!     account = "paper"
//!     [[grant]]
//!     name = "backtests"
//!     allow = ["backtests/list-backtests"]
//!     projects = ["Lab/*"]
//! "#;
//! gate.policies.install(Manifest::parse(manifest, Path::new("lab.toml"))?)?;
//! let plugin = Principal::new("lab", "sha256:0", "1");
//! let project = Map::from_iter([("projectId".to_owned(), json!(1))]);
//! let listing = by_name("backtests/list-backtests").expect("it is in the catalog");
//! gate.call(&plugin, listing, project.clone()).await?;
//! let deletion = by_name("projects/delete-project").expect("it is in the catalog");
//! let refusal = gate.call(&plugin, deletion, project).await.unwrap_err();
//! assert!(matches!(refusal, Refusal::Denied(_)));
//! # gate.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariant: no byte reaches [`Upstream`](qchost_catalog::Upstream) before the decision about it is made, and no byte of
//! a write before its record is on disk.

mod action;
mod admission;
mod adoption;
mod answer;
mod approval_contents;
mod approval_requests;
mod approval_scope;
mod approvals;
mod approve;
mod audit_quota;
mod authorize;
mod backup;
mod body;
mod call;
mod call_log;
mod change_signal;
mod changes;
mod clock;
mod components;
mod decision;
mod difference;
mod dispatch;
mod download;
mod error;
mod evidence;
mod fingerprint;
mod folders;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod halt;
mod halt_file;
mod halt_store;
mod halts;
mod in_place;
mod invocation_approvals;
mod liquidation;
mod long_reads;
mod obligations;
mod outgoing;
mod paper;
mod plugin_calls;
mod policy;
mod policy_store;
mod proposal;
mod proposals;
mod raw_tools;
mod read_charges;
mod read_limits;
mod reads;
mod reconcile;
mod reconfigure;
mod record;
mod redacted_text;
mod refusal;
mod report;
mod reserve;
mod resolve;
mod retention;
mod settings;
mod source_locks;
mod sources;
#[cfg(test)]
mod testing;
mod texts;
mod throttle;
mod trade;
mod unsettled;
mod why;

pub use action::{AdminAction, denial};
pub use adoption::Adoptions;
pub use approval_contents::ApprovalViewer;
pub use approval_scope::CallScope;
pub use approvals::{Approvals, DecideError};
pub use backup::{BackupError, Backups};
pub use body::{
    AdminBody, AdminDetail, ApprovalBody, ApprovalDetail, Body, CallBody, Change, HaltBody,
    Project, Repeated, RevokedApproval, Sample, StopsDeployment, Subject, actions,
};
pub use call::{Principal, SentMarker};
pub use changes::{Changes, RequesterGuard};
pub use error::GateError;
pub use evidence::{EvidenceSource, ProjectReads};
pub use fingerprint::Sealer;
pub use folders::{FolderAction, FolderAnswer, FolderFailure, FolderRequest, open_folders};
pub use gate::{Gate, Options};
pub use halt::{HaltControl, HaltReport, ResumeReport};
pub use halt_file::{HALT_FILE, make_halt_file};
pub use halt_store::{HaltError, HaltStore, StoredHalts, stored_halts};
pub use halts::{ActiveHalt, Departed, HaltScope, HaltStorage};
pub use liquidation::{Liquidator, OpenLiquidation, Position, Stopped};
pub use outgoing::{Outgoing, RequestPermission};
pub use plugin_calls::PluginCalls;
pub use policy_store::{CompiledPolicy, PolicyStore};
pub use proposal::{AdmitError, Admitted, PendingApproval, Proposal, StoredText, Waiting};
pub use proposals::Proposals;
pub use qchost_scope::NODE_TYPES;
pub use qchost_traffic::{CpuMeter, LogLimiter, processor_time};
pub use reconcile::{Finding, ReconcileError, Reconciled, Reconciler};
pub use reconfigure::Reconfigurer;
pub use redacted_text::PortableText;
pub use refusal::{Refusal, RefusalKind, decisions, outcomes};
pub use report::{
    Amount, Condition, Explanation, GrantObligation, GrantReport, GrantsReport, Obligation,
    Reporter,
};
pub use settings::{Settings, Sources, Waits};
pub use texts::Texts;
pub use why::{ApprovalWhy, OutcomeWhy, PartWhy, StepWhy, TextWhy, Why, why};
