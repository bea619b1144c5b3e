//! The host's durable state: budgets, permits, halts and the state of plugins, in one SQLite file.
//!
//! Invariant: the effect of a call is on disk before it returns, and nothing that limits a plugin is refilled by a
//! restart, a crash or a clock.

mod approval;
mod approvals;
mod backup;
mod budgets;
mod connections;
mod error;
mod file;
mod halts;
mod identifier;
mod in_force;
mod leases;
mod ledger;
mod liquidations;
mod permits;
mod plugins;
mod recorded;
mod reserve;
mod sources;
mod state;

pub use approval::{
    Approval, ApprovalError, ApprovalFilter, ApprovalKind, ApprovalPage, Binding, DecisionBy,
    NewApproval, PermitState, RequestError, Standing, Status, Verdict,
};
pub use budgets::{
    ATTEMPTS_PER_CALL, Begin, BeginError, Charge, Heir, OpenReservation, Settle, Usage, day_of,
    until_end,
};
pub use connections::Head;
pub use error::LedgerError;
pub use halts::{Halt, StoredHalts};
pub use in_force::{Adopt, Brought, InForce, Subject};
pub use ledger::Ledger;
pub use permits::{Permit, PermitUse};
pub use plugins::{Adoption, RateMark};
pub use reserve::{HaltReserve, ReserveError};
pub use sources::{NewCompile, Remembered};
pub use state::{Entry, MAX_KEY, MAX_VALUE, StateError, StateStore};
