//! The connection to a brokerage that is authorised in a browser.

use jiff::Timestamp;

/// The connection to one brokerage.
#[derive(Debug)]
pub(crate) struct Connection {
    /// What the address of the consent page ends with.
    pub(crate) grant: String,
    /// When the consent was given.
    pub(crate) authorized: Option<Timestamp>,
}
