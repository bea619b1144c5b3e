//! The host's durable state: budgets, permits, halts and the state of plugins, in one SQLite file.
//!
//! Invariant: the effect of a call is on disk before it returns, and nothing that limits a plugin is refilled by a
//! restart, a crash or a clock.

mod approval;
mod approvals;
mod backup;
mod blocks;
mod budgets;
mod connections;
mod counters;
mod deployed;
mod error;
mod file;
mod halts;
mod identifier;
mod identities;
mod in_force;
mod ledger;
mod licensed_state;
mod liquidations;
mod permits;
mod plugins;
mod reads;
mod recorded;
mod reservation;
mod reserve;
mod sources;
mod state;
mod statements;
mod subject;
mod trials;

pub use approval::{
    Approval, ApprovalError, ApprovalFilter, ApprovalKind, ApprovalPage, ApprovalVote, Binding,
    DecisionBy, NewApproval, PermitState, RequestError, StandingPermit, Status,
};
pub use connections::Head;
pub use counters::{ATTEMPTS_PER_CALL, CounterSuccessor, day_of, until_end};
pub use deployed::LiveProfile;
pub use error::LedgerError;
pub use halts::{Halt, StoredHalts};
pub use identities::KeptIdentity;
pub use in_force::{AdoptOutcome, InForce, NewInForce};
pub use ledger::Ledger;
pub use permits::Permit;
pub use plugins::{Adoption, RateMark};
pub use reservation::{
    BeginError, Charge, NewReservation, OpenReservation, PermitUse, Settlement, Usage,
};
pub use reserve::{HaltReserve, ReserveError};
pub use sources::{NewCompile, SourceState};
pub use state::{Entry, MAX_KEY, MAX_VALUE, StateError, StateStore};
pub use subject::Subject;
pub use trials::{MAX_TRIALS, Trial, TrialCounts, TrialKind};
