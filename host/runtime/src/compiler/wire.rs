//! What host and compiler say to each other: a line of JSON each way, and bytes behind it.
//!
//! Both ends are the same program, so there is one version of this.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest line, in bytes.
pub(super) const LINE: u64 = 64 << 10;

/// What is to be compiled; the component's bytes follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) baseline: bool,
    /// Seconds on the processor.
    pub(super) cpu: u64,
    /// Bytes of address space.
    pub(super) memory: u64,
    /// How many bytes follow.
    pub(super) size: u64,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// So many bytes of compiled code follow.
    Compiled { size: u64 },
    /// The component is not valid.
    Invalid { why: String },
    /// The memory did not suffice.
    OutOfMemory,
}

/// The whole seconds of a limit, at least one: the kernel counts no others.
pub(super) fn seconds(limit: Duration) -> u64 {
    let whole = limit.as_secs();
    whole
        .saturating_add(u64::from(limit.subsec_nanos() > 0))
        .max(1)
}
