//! The host's own services to an agent: `qchost:agent/*`.
//!
//! Invariant: none of them reaches QuantConnect except `workflow`, which uses the same
//! [`CallContext`](crate::calls::CallContext) as the agent itself.

mod answers;
pub(crate) mod approvals;
pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod state;
pub(crate) mod state_limiter;
pub(crate) mod workflow;
