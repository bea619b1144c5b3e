//! The host's own services to an agent: `qchost:agent/*`.
//!
//! Invariant: none of them reaches QuantConnect except `workflow` and `evidence`, which use the same
//! [`CallContext`](crate::calls::CallContext) as the agent itself.

mod answers;
pub(crate) mod approvals;
pub(crate) mod clock;
pub(crate) mod config;
mod evidence;
pub(crate) mod folders;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod state;
pub(crate) mod state_limiter;
pub(crate) mod workflow;
