//! placeholder
pub mod engine;
pub mod patch;
