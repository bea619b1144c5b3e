//! The HTTP side: authentication, encodings of fields, the endpoint table, and the request log and
//! faults that tests use.
//!
//! Invariant: this side knows the services and not the other way round; what both need, the fields
//! of a request and the form of an answer, is in [`crate::services::arguments`] and
//! [`crate::services::answer`].

mod auth;
mod body;
pub(crate) mod connection;
pub(crate) mod endpoints;
pub(crate) mod faults;
pub(crate) mod request_log;
pub(crate) mod router;
