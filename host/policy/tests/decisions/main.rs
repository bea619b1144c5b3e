//! What is allowed and what is not: every row is a call under a manifest and guardrails, and what must
//! come of it, with the grants that cover it or the reason why none does. Each permission stands
//! beside its denied twin; and of each denial that lines of a manifest would end, those lines are
//! tried.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

// Tables, a row a line.
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
