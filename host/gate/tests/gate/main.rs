//! The gate from the view of plugins and operators, on a cloud in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod approvals;
mod backups;
mod budgets;
mod calls;
mod changes;
mod fairness;
mod folders;
mod halt_storage;
mod halts;
mod histories;
mod kept_state;
mod liquidation;
mod narrowed;
mod out_of_scope;
mod paper;
mod reconfigured;
mod records;
mod refused;
mod retries;
mod secrets;
mod sources;
mod widened;
