//! The gate: every call of every plugin passes here, and nothing else reaches QuantConnect.
//!
//! A plugin's authority is its manifest as it stands at the instant of the call, under the settings of
//! that instant (`terms`). The gate owns the connection, so there is no way round it; and from the moment
//! a call is sent, it runs in a task of the gate's own, so that no time-out, trap or reload of the plugin
//! can lose its outcome.
//!
//! A call goes through these rooms, in this order: `ask` (what is asked for), `judge` (halts, grants
//! and guardrails by `qchost-policy` on what `qchost-scope` found that it touches), `trade` and
//! `approvals` (what money at stake asks for besides), `obligations` (rates, calls at a time, the
//! account's turn by `qchost-traffic`), `sources` (what is compiled or deployed stays as it is, under the
//! locks of `pins`), `reservations` and `sending` (reserve in `qchost-ledger`, record in `qchost-audit`,
//! send, record the outcome). `admission` sees to it that a call whose terms changed
//! on the way goes through them again.
//!
//! What decides is on record as well: `kept` takes out of a text what may be a secret, `texts` keeps it by its digest,
//! `changes` records each change of what is in force before a call can be decided by it, `retention` drops what no record
//! names any more, and `why` joins all of this for one call.
//!
//! Invariant: no byte reaches [`Upstream`](qchost_catalog::Upstream) before the decision about it is
//! made, and no byte of a write before the record of it is on disk.

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
pub use refusal::{DECISIONS, OUTCOMES, Refusal};
pub use report::{Explanation, GrantReport, GrantsReport};
pub use settings::{Settings, Sources, Waits};
pub use terms::Enforceable;
pub use texts::Texts;
pub use trade::{AdmitError, Waiting};
pub use why::{ApprovalWhy, OutcomeWhy, PartWhy, StepWhy, TextWhy, Why, why};
