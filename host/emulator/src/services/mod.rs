//! The endpoints of the cloud, one file or folder a category of the API.
//!
//! An endpoint is a function from the [`arguments`] of a request to an [`answer`], over the
//! [`cloud`] and its locked state: it finds what the request names ([`lookup`]), changes the store,
//! and shows the result as the cloud does.
//!
//! Invariant: services know nothing of HTTP beyond the answer's form; `crate::http` calls them.

pub(crate) mod agents;
pub(crate) mod ai;
pub(crate) mod answer;
pub(crate) mod arguments;
pub(crate) mod backtests;
pub(crate) mod cloud;
pub(crate) mod collaborators;
pub(crate) mod compile;
pub(crate) mod connections;
pub(crate) mod exports;
pub(crate) mod files;
pub(crate) mod live;
mod lookup;
pub(crate) mod nodes;
pub(crate) mod object_store;
pub(crate) mod optimizations;
pub(crate) mod organizations;
mod pages;
pub(crate) mod projects;
pub(crate) mod resume;
pub(crate) mod seed;
pub(crate) mod support;
