//! What nearly every agent needs: `use qchost_sdk::prelude::*;`.

pub use schemars::JsonSchema;

pub use crate::{Error, Event, Failure, agent};
pub use crate::{
    account, ai, backtests, collaboration, compile, files, lean_versions, live, live_commands,
    nodes, object_store, optimizations, projects, raw, server, types,
};
pub use crate::{
    answers, approvals, clock, config, grid, log, progress, state, statistics, wait, workflow,
};
pub use crate::{debug, error, info, trace, warn};
