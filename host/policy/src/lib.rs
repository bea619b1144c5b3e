//! What a plugin may do: the manifest and the guardrails, compiled to Cedar, and the decision.
//!
//! A [`Manifest`] is what an operator wrote for one plugin, [`Guardrails`] apply to all of them.
//! Together they form an [`Authority`], which decides about [`Facts`]: one resource that a call
//! touches, and its context. [`People`] uses the same engine for people.
//!
//! Invariant: nothing is allowed by default. A call is allowed when a grant covers it, and denied
//! when a guardrail forbids it or cannot be evaluated, whatever grants there are.

mod authority;
mod denial;
mod difference;
mod engine;
mod facts;
mod glob;
mod grantable;
mod guardrails;
mod imports;
mod manifest;
mod people;
mod policy_test;
mod roles;
mod text_file;
mod usd;

pub use authority::{Authority, Decision};
pub use denial::Denial;
pub use difference::{Change, ChangeKind, Difference, Remembered, Retired, Successor, successors};
pub use engine::{PolicyError, cedar_schema};
pub use facts::{Brokerage, Context, Facts, Project, Resource};
pub use glob::{Glob, MAX_GLOB};
pub use grantable::{
    DOWNLOAD, HTTP, Pattern, PatternError, RAW, WORKFLOW, grantable, is_tool_name, nearest,
};
pub use guardrails::{Coverage, Guardrails};
pub use imports::ImportsDenied;
pub use manifest::{
    Approval, Grant, GrantLimits, HttpGrant, Limits, MAX_GRANTS, MAX_PATTERNS, Manifest,
    ManifestError, Prefix, ProjectScope, is_name, manifest_schema,
};
pub use people::{People, Person};
pub use policy_test::{CaseResult, PolicyTestError, run_policy_tests};
pub use roles::{Role, Verb};
pub use text_file::{Origin, read_owned_text, read_text};
pub use usd::Usd;
