//! The emulator over real HTTP, one module a category. Where results matter, an engine of a
//! few lines stands in for the model, so that a test knows what comes out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    missing_docs
)]

mod account;
mod ai;
mod arbitrary;
mod assistance;
mod backtests;
mod client;
mod collaboration;
mod compile;
mod engine;
mod exports;
mod faults;
mod files;
mod kept;
mod live;
mod oauth;
mod object_store;
mod optimizations;
mod projects;
mod remote;
mod remote_client;
mod transport;
