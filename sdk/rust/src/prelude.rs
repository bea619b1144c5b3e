//! What nearly every agent needs: `use qchost_sdk::prelude::*;`.

pub use schemars::JsonSchema;

pub use crate::{Error, Event, Failure, ProjectReference, agent};
pub use crate::{
    account, ai, backtests, collaboration, compile, datasets, exports, files, lean_versions,
    libraries, live, live_commands, nodes, notifications, object_store, optimizations,
    organizations, projects, raw, research, server, skills, templates, types,
};
pub use crate::{
    answers, approvals, clock, config, evidence, folders, grid, log, lookup, progress, state,
    statistics, wait, workflow,
};
pub use crate::{debug, error, info, trace, warn};
