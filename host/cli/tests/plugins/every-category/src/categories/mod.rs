//! One file per category of QuantConnect: calls every function of it, and checks typed answers and, where
//! possible, at least one typed error.

pub(crate) mod account;
pub(crate) mod ai;
pub(crate) mod backtests;
pub(crate) mod collaboration;
pub(crate) mod compile;
pub(crate) mod exports;
pub(crate) mod files;
pub(crate) mod live;
pub(crate) mod live_commands;
pub(crate) mod nodes;
pub(crate) mod object_store;
pub(crate) mod optimizations;
pub(crate) mod projects;
pub(crate) mod raw;
pub(crate) mod units;
