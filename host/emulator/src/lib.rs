//! QuantConnect's REST API v2 on this machine: an emulator of the cloud for tests and for
//! trying it without an account.
//!
//! It answers every endpoint that the official tools use and those of QuantConnect's `lean`
//! command line, in the cloud's own form, and it is asynchronous as the cloud is: a compile is
//! queued before it is built, a backtest waits for a node and shows progress, an optimization
//! runs its backtests, a live deployment logs in, initialises, runs and is stopped. All of
//! that follows the clock ([`Timing`]).
//!
//! With [`Builder::remote`] it is also QuantConnect's remote MCP server, behind an OAuth authorisation server and over
//! the same state. That part is built from public descriptions alone: arguments whose names are guesses say so in their
//! schema, and there is no notebook kernel.
//!
//! It does as the cloud does to an organisation without an agreement on derived data: it refuses downloads of objects,
//! unless [`Builder::derived_data`] is set. A project that is deleted is gone, whereas the cloud keeps it in the list
//! under `Recycle Bin/`. Agents, issues of data and tickets of the support are written down and come to nothing.
//!
//! What it is not: LEAN. Backtests, optimizations and deployments get their numbers from
//! [`engine`]'s documented model of synthetic prices; results say so in `nodeName`
//! (`datacenter` of a live algorithm). The AI tools check syntax and initialisation for real
//! and answer everything else from a few built-in lines.
//!
//! All state is in memory and ends with the process, unless [`Builder::keep`] names a file: then what was answered is
//! in the file, whatever ends the process (a power loss may take the last moments). The clock goes on meanwhile. What
//! was under way when the process ended goes on with the next one: a compile is over when it would have been; a
//! backtest that ran is run again, and is over if its time is; one that was queued starts, if its turn has come; the
//! rest of an optimization follows; a live algorithm is as many simulated days further, and what was stopped stays
//! stopped. Ids are never given again, also not after [`Emulator::reset`]. The remote server's clients, tokens and open
//! project are in memory only. Everything that clients can add to is bounded.
//!
//! ```no_run
//! # async fn example() -> Result<(), qchost_emulator::StartError> {
//! use qchost_emulator::Emulator;
//!
//! let emulator = Emulator::builder().start().await?;
//! println!("listening at {}", emulator.base_url());
//! // … let clients work …
//! for request in emulator.requests_to("/backtests/create") {
//!     println!("{} {}", request.time, request.body);
//! }
//! emulator.shutdown().await;
//! # Ok(())
//! # }
//! ```

pub mod engine;

mod builder;
mod http;
mod remote;
mod services;
mod store;
mod text;

pub use builder::{Builder, DEFAULT_ADDRESS, Emulator, StartError};
pub use http::faults::{Fault, FaultKind};
pub use http::request_log::{LoggedRequest, REDACTED};
pub use remote::settings::{Remote, Revision};
pub use services::seed::{Seed, SeedError, SeedProject};
pub use store::disk::DataError;
pub use store::patch;
pub use store::timing::Timing;
