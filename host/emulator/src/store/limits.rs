//! Limits of what a client can make the emulator keep.
//!
//! Invariant: everything that a request can add to is bounded here; at the bound a request is
//! refused with the bound in the message, or the oldest entry is dropped.

use std::time::Duration;

/// Largest request body, in bytes.
pub(crate) const BODY: usize = 64 << 20;
/// Time limit for receiving a request's body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Projects.
pub(crate) const PROJECTS: usize = 2_000;
/// Files in a project.
pub(crate) const FILES: usize = 500;
/// Characters in a file.
pub(crate) const FILE_LENGTH: usize = 1_000_000;
/// Characters in a name (of a project, a file, a backtest, an optimization).
pub(crate) const NAME_LENGTH: usize = 200;
/// Characters in a description or a note.
pub(crate) const TEXT_LENGTH: usize = 10_000;
/// Parameters of a project or a backtest.
pub(crate) const PARAMETERS: usize = 100;
/// Compile jobs that are remembered; beyond, the oldest is forgotten.
pub(crate) const COMPILES: usize = 1_000;
/// Backtests, those of optimizations included.
pub(crate) const BACKTESTS: usize = 2_000;
/// Optimizations.
pub(crate) const OPTIMIZATIONS: usize = 500;
/// Parameter combinations of one optimization.
pub(crate) const COMBINATIONS: usize = 1_000;
/// Live deployments that are remembered; beyond, the oldest stopped one is forgotten.
pub(crate) const DEPLOYMENTS: usize = 500;
/// Commands recorded for a deployment.
pub(crate) const COMMANDS: usize = 1_000;
/// Collaborators of a project.
pub(crate) const COLLABORATORS: usize = 50;
/// Libraries of a project.
pub(crate) const LIBRARIES: usize = 50;
/// Objects in the object store.
pub(crate) const OBJECTS: usize = 10_000;
/// Download jobs that are remembered; beyond, the oldest is forgotten.
pub(crate) const DOWNLOADS: usize = 100;
/// Agents, and agents or tools that one of them uses.
pub(crate) const AGENTS: usize = 100;
/// Tasks of agents.
pub(crate) const AGENT_TASKS: usize = 500;
/// Deployments of agents.
pub(crate) const AGENT_DEPLOYMENTS: usize = 500;
/// What a deployment of an agent is told.
pub(crate) const PROMPTS: usize = 100;
/// Issues of data.
pub(crate) const ISSUES: usize = 500;
/// Messages of a support ticket.
pub(crate) const MESSAGES: usize = 100;
/// Characters of a text value that the request log keeps.
pub(crate) const LOGGED_TEXT: usize = 4_096;
