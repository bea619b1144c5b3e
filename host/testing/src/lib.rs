//! Helpers of tests and benchmarks that more than one crate uses, or several programs of one crate: a test program, a
//! benchmark and an example cannot share a module otherwise. Never a dependency outside of tests.
//!
//! A crate below depends on this one in turn, as a dev-dependency. Its unit tests are then another crate to the helpers
//! than the one that they name, so unit tests use only helpers without types of their own crate.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at what they do not expect"
)]

#[cfg(feature = "gate")]
pub mod cloud;
#[cfg(feature = "gate")]
pub mod cost;
mod documents;
#[cfg(feature = "gate")]
mod gate;
#[cfg(feature = "guest")]
mod guest;
mod harness;
pub mod instances;
#[cfg(feature = "mcp")]
pub mod mcp;
pub mod measure;
mod plugins;
mod privileges;
pub mod report;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "gate")]
mod scripted;

pub use documents::DOCUMENTS;
#[cfg(feature = "gate")]
pub use gate::Gated;
#[cfg(feature = "guest")]
pub use guest::Guest;
pub use harness::is_listing;
pub use plugins::plugins_in;
pub use privileges::{Mounted, can_change_user, has_program, in_own_run};
#[cfg(feature = "runtime")]
pub use runtime::Host;
#[cfg(feature = "gate")]
pub use scripted::{COMPILED, Scripted, Sent, uncalled};
