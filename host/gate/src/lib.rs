//! The gate: the policy enforcement point between plugins and QuantConnect. Every call of every plugin passes it; there
//! is no other connection.
//!
//! A plugin's authority is its manifest at the instant of the call, under the settings of that instant (`terms`). The
//! gate owns the connection, so it cannot be bypassed; and once a call is sent, it runs in a task of the gate's own, so
//! that no time-out, trap or reload of the plugin can lose its outcome.
//!
//! A call passes these modules in this order: `ask` (the request), `judge` (halts, grants and guardrails by
//! `qchost-policy` on what `qchost-scope` found that it touches), `trade` and `approvals` (additional rules where money
//! is at stake), `obligations` (rates, concurrency, the account's rate limit by `qchost-traffic`), `sources` (keeps what
//! is compiled or deployed unchanged, under the locks of `pins`), `reservations` and `sending` (reserve in
//! `qchost-ledger`, record in `qchost-audit`, send, record the outcome). `admission` repeats these steps for a call whose
//! terms changed on the way.
//!
//! The texts behind decisions are recorded as well: `kept` redacts values that may be secrets, `texts` stores a text by
//! its digest, `changes` records each change of what is in force before a call can be decided by it, `retention` drops
//! texts that no record names any more, and `why` joins all of this for one call.
//!
//! Invariant: no byte reaches [`Upstream`](qchost_catalog::Upstream) before the decision about it is made, and no byte of
//! a write before its record is on disk.

mod admission;
mod answer;
mod approvals;
mod aside;
mod ask;
mod asking;
mod backup;
mod changes;
mod closing;
mod components;
mod contents;
mod difference;
mod download;
mod effort;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod halt_file;
mod halts;
mod in_force;
mod judge;
mod keeping;
mod kept;
mod liquidation;
mod obligations;
mod outgoing;
mod pace;
mod pins;
mod reconcile;
mod reconfigure;
mod record;
mod refusal;
mod refusals;
mod report;
mod reservations;
mod retention;
mod sending;
mod settings;
mod share;
mod sources;
mod terms;
mod texts;
mod toll;
mod trade;
mod why;

pub use approvals::DecideError;
pub use ask::{Caller, Intended};
pub use backup::BackupError;
pub use changes::{Asked, Change, Subject};
pub use closing::{OpenLiquidation, Position, Stopped};
pub use effort::{Effort, processor_time};
pub use gate::{Gate, GateError, Options};
pub use halt_file::{HALT_FILE, make_halt_file};
pub use halts::{Departed, HaltScope, Kept, StandingHalt};
pub use in_force::{Admitted, HeldBack, KeptText, Proposal, Sealer};
pub use keeping::{StoredHalts, stored_halts};
pub use liquidation::{HaltError, HaltReport, ResumeReport};
pub use outgoing::{Outgoing, Passage};
pub use pace::{HostPace, Pace, RATE};
pub use reconcile::{Finding, ReconcileError, Reconciled};
pub use refusal::{Refusal, decisions, outcomes};
pub use report::{Explanation, GrantReport, GrantsReport};
pub use settings::{Settings, Sources, Waits};
pub use terms::Enforceable;
pub use texts::Texts;
pub use trade::{AdmitError, Waiting};
pub use why::{ApprovalWhy, OutcomeWhy, PartWhy, StepWhy, TextWhy, Why, why};
