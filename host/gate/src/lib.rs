//! The gate: every call of every plugin passes here, and nothing else reaches QuantConnect.
//!
//! A plugin's authority is its manifest as it stands at the instant of the call. The gate owns the
//! connection, so there is no way round it; and from the moment a call is sent, it runs in a task of
//! the gate's own, so that no time-out, trap or reload of the plugin can lose its outcome.
//!
//! Invariant: no byte reaches [`Upstream`](qchost_catalog::Upstream) before the decision about it is made.

mod download;
mod gate;
mod grantable;
mod manifest;
mod profiles;
mod refusal;
mod state;

pub use gate::{Caller, Gate, Options};
pub use grantable::{DOWNLOAD, Pattern, PatternError, RAW, WORKFLOW, grantable, nearest};
pub use manifest::{Grant, Limits, Manifest, ManifestError, is_name};
pub use profiles::{Profile, Profiles, SecretError, Setting, read_secret};
pub use refusal::{Denial, ImportsDenied, Refusal};
pub use state::{Entry, MAX_KEY, MAX_VALUE, StateError, StateStore};
