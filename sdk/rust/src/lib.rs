//! Write an agent plugin of qchost in Rust.
//!
//! An agent is a module of documented functions. Each function that is marked `#[action]` can be
//! invoked; its documentation is the action's description, and the JSON Schemas of its input
//! and output come from its types.
//!
//! ```
//! use qchost_sdk::prelude::*;
//!
//! /// Counts projects.
//! #[agent(name = "counter")]
//! mod counter {
//!     use super::*;
//!
//!     /// Count the projects of the account.
//!     #[action(read_only)]
//!     fn count() -> Result<usize, Failure> {
//!         Ok(projects::list_projects()?.len())
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! One with an input, an output, state and an event:
//!
//! ```
//! use qchost_sdk::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! /// What to look at.
//! #[derive(Deserialize, JsonSchema)]
//! struct Question {
//!     /// The project's id.
//!     project: u32,
//! }
//!
//! /// The best backtest.
//! #[derive(Serialize, JsonSchema)]
//! struct Answer {
//!     /// Its name.
//!     name: Option<String>,
//!     /// Its Sharpe ratio.
//!     sharpe_ratio: f64,
//! }
//!
//! /// Finds good backtests.
//! #[agent(name = "best-of")]
//! mod agent {
//!     use super::*;
//!
//!     /// Find the backtest with the highest Sharpe ratio.
//!     #[action(read_only)]
//!     fn best(question: Question) -> Result<Answer, Failure> {
//!         let list = backtests::list_backtests(question.project, Some(true))?;
//!         let best = list.backtests.into_iter().filter_map(|it| Some((it.sharpe_ratio?, it.name)));
//!         let best = best.max_by(|a, b| a.0.total_cmp(&b.0));
//!         let (sharpe_ratio, name) = best.ok_or("the project has no finished backtest")?;
//!         info!("the best has a Sharpe ratio of {sharpe_ratio}");
//!         Ok(Answer { name, sharpe_ratio })
//!     }
//!
//!     /// Count what ends.
//!     #[on("backtest-finished")]
//!     fn count(event: Event) -> Result<(), Failure> {
//!         state::update(&event.subject, |seen: Option<u32>| Ok(seen.unwrap_or(0) + 1))?;
//!         Ok(())
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! # The crate of a plugin
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! qchost-sdk = { path = "../qchost/sdk/rust" }   # a clone of the repository, in a folder beside the plugin's
//! schemars = "1"
//! serde = { version = "1", features = ["derive"] }
//!
//! # A small component: about 60 % of the size of one without these lines.
//! [profile.release]
//! opt-level = "s"
//! lto = true
//! codegen-units = 1
//! strip = true
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes the component. It imports only what the
//! code uses, so its manifest needs grants for that alone. Built for the machine at hand, as by
//! `cargo test`, every call into the host panics: test the logic between the calls.
//!
//! # What there is
//!
//! - One module a category of QuantConnect, with one function an operation: [`account`],
//!   [`projects`], [`collaboration`], [`nodes`], [`compile`], [`files`], [`backtests`],
//!   [`optimizations`], [`live`], [`live_commands`], [`object_store`], [`exports`],
//!   [`lean_versions`], [`organizations`], [`libraries`], [`ai`], [`server`], and [`raw`] for any tool by its name; [`research`], [`notifications`],
//!   [`datasets`], [`skills`] and [`templates`] where the account has QuantConnect's remote server. Their types are in [`types`] and
//!   in the modules themselves.
//! - The host's services: [`mod@log`], [`state`], [`config`], [`clock`], [`progress`] and
//!   [`workflow`], which runs many backtests side by side: an agent itself does one thing at a time.
//! - [`evidence`] has facts about a project that the host establishes itself: how often its strategy was tried on history.
//! - [`folders`] has files in those folders of the host's machine that the manifest grants.
//! - [`answers`] says how many rows of lists the host could not read and left out.
//! - [`approvals`] waits for a person where a call needs one.
//! - Requests to other hosts go by `wasi:http`, through its bindings (the crate `wasip2`) or a client
//!   built on them, as far as an `[[http]]` of the manifest allows them. The host puts granted secrets
//!   into their headers; a plugin that follows a redirect asks for another request.
//! - [`Error`] for a call that has no answer and [`Failure`] for an action that has none; `?`
//!   turns the one into the other.
//! - [`ProjectReference`] for a project that a caller names by its id or its name ([`lookup`]).
//! - [`grid`] for parameter grids, [`wait`] for answers that are not ready,
//!   [`statistics`] for figures by name.
//!
//! A panic ends the invocation. Its message is in the host's log, as is whatever the agent
//! prints to standard error.

pub mod approvals;
#[doc(hidden)]
pub mod bindings;
pub mod clock;
pub mod config;
#[doc(hidden)]
pub mod dispatch;
mod errors;
mod failure;
pub mod folders;
pub mod grid;
pub mod log;
pub mod lookup;
pub mod prelude;
pub mod progress;
pub mod state;
pub mod statistics;
pub mod wait;

pub use bindings::exports::qchost::agent::guest::{Action, Description, Event, Guest, Hints};
pub use bindings::qchost::agent::{answers, evidence, workflow};
pub use bindings::quantconnect::api::{
    account, ai, backtests, collaboration, compile, datasets, exports, files, lean_versions,
    libraries, live, live_commands, nodes, notifications, object_store, optimizations,
    organizations, projects, raw, research, server, skills, templates, types,
};
pub use errors::{Error, FolderError, StateError};
pub use failure::Failure;
pub use lookup::ProjectReference;
pub use qchost_macros::agent;
