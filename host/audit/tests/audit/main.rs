//! The audit from outside: what it promises to those who record, to those who check, and what
//! is left of it after tampering, power loss, a full disk and a failing one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]

mod copies;
mod durable;
mod full;
mod lifecycle;
mod power;
mod reading;
mod refused;
mod support;
mod tamper;
