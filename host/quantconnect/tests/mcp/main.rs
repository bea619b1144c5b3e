//! The server through an MCP client on one side and a REST API of the test's making on the
//! other: what a client sees, what is sent, what goes wrong, and what must never be shown.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod authentication;
mod authorizing;
mod cancellation;
mod composed;
mod connection;
mod failures;
mod fake;
mod protocol;
mod revisions;
mod secrets;
