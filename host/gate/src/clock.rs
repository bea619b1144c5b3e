//! The clock of records and counters.

use jiff::Timestamp;

/// Unix time in milliseconds.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_millisecond()
}
