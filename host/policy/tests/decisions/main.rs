//! What is allowed and what is denied. Every row is a call under a manifest and guardrails, with the expected
//! decision: the grants that cover it, or the reason for the denial. Each allowed call has a denied twin, and
//! the lines that a denial proposes are tried.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

// Tables with one row a line.
#[rustfmt::skip]
mod every;
#[rustfmt::skip]
mod guardrails;
#[rustfmt::skip]
mod projects;
#[rustfmt::skip]
mod requests;
#[rustfmt::skip]
mod scopes;

mod generate;
mod properties;
mod rows;
