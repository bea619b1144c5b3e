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
//!
//! ```no_run
//! # // A component has to be built first.
//! use std::path::Path;
//! use std::time::Duration;
//!
//! use qchost_policy::Manifest;
//! use qchost_runtime::{Compiler, Options, Runtime};
//! use serde_json::json;
//!
//! # async fn example(gate: qchost_gate::Gate) -> Result<(), Box<dyn std::error::Error>> {
//! // A program that does nothing but call `compile_child`.
//! let compiler = Compiler { program: "qchost-compiler".into(), arguments: Vec::new() };
//! let runtime = Runtime::new(gate, Options::new("cache".into(), "key".into(), compiler))?;
//!
//! let text = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n";
//! let manifest = Manifest::parse(text, Path::new("manifests/lab.toml"))?;
//! let plugin = runtime.load(manifest).await?;
//! println!("{} offers {:?}", plugin.name(), plugin.description().actions);
//!
//! let output = runtime.invoke("lab", "sweep", json!({ "project": 7 }), None, None).await?;
//! println!("{output}");
//! runtime.shutdown(Duration::from_secs(30)).await;
//! # Ok(())
//! # }
//! ```

mod adapter;
mod admission;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod cache;
mod call_driver;
mod calls;
mod capabilities;
mod compiler;
mod component;
mod content;
mod contract;
mod declared;
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
mod linker;
mod load_error;
mod loader;
mod names;
mod options;
mod outgoing;
mod plugin;
mod plugin_log;
mod quarantine;
mod running;
mod schema;
mod services;
mod shared;
mod start_error;
mod swap;
mod tenants;
mod text;
mod version_context;
mod wasi;
mod watch;

pub use cache::CacheError;
pub use compiler::compile_child;
pub use description::{Action, Description, Hints};
pub use execution::StopReason;
pub use host::{PluginState, Runtime, Target};
pub use imports::{Import, Kind};
pub use inspect::Inspection;
pub use invoke_error::{ActionError, Failure, InvokeError};
pub use load_error::{ComponentError, LoadError};
pub use options::{Compiler, Options};
pub use plugin::Plugin;
pub use plugin_log::{InvocationLog, LogLevel, LogLine, LogReader};
pub use quarantine::Quarantine;
pub use services::progress::Progress;
pub use start_error::StartError;
pub use watch::{Watch, WatchError};
