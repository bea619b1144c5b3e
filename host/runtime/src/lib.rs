//! The runtime: runs agents, each invocation in a fresh sandboxed instance.
//!
//! A component is read and checked (`loader`, `component`), compiled once (`compiler`, `cache`),
//! and run (`execution`) under limits on memory, processor time and wall-clock time. Its imports
//! from QuantConnect are bound (`capabilities`) to the catalog by one line per operation, and every
//! call goes to the [gate](qchost_gate::Gate). Values cross between Wasm and JSON through one
//! `adapter`.
//!
//! Invariant: a plugin cannot harm the host. No trap, loop, allocation, output or timing of a
//! plugin takes another plugin or the host down.

mod adapter;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod cache;
mod calls;
mod capabilities;
mod compiler;
mod component;
mod content;
mod contract;
mod description;
mod engine;
mod execution;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod imports;
mod inspect;
mod instance;
mod invoke;
mod invoke_error;
pub mod json;
mod limits;
mod load_error;
mod loader;
mod meter;
mod options;
mod outgoing;
mod plugin;
mod quarantine;
mod schema;
mod services;
mod surroundings;
mod swap;
mod tenants;
mod text;
mod turns;
mod wasi;
mod watch;

pub use cache::CacheError;
pub use compiler::compile_child;
pub use description::{Action, Description, Hints};
pub use execution::Stopped;
pub use host::{Runtime, Standing, StartError};
pub use imports::{Import, Kind};
pub use inspect::Inspection;
pub use invoke_error::{Failure, InvokeError};
pub use load_error::LoadError;
pub use options::{Compiler, Options};
pub use plugin::Plugin;
pub use quarantine::Quarantine;
pub use services::progress::Progress;
pub use watch::{Watch, WatchError};
