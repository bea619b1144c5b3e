//! One file a category of QuantConnect: every function of it is called, with typed answers and
//! at least one typed error where one can be had.

pub(crate) mod account;
pub(crate) mod ai;
pub(crate) mod backtests;
pub(crate) mod collaboration;
pub(crate) mod compile;
pub(crate) mod files;
pub(crate) mod live;
pub(crate) mod live_commands;
pub(crate) mod nodes;
pub(crate) mod object_store;
pub(crate) mod optimizations;
pub(crate) mod projects;
pub(crate) mod raw;
