//! The protocol between host and compiler: a line of JSON in each direction, followed by bytes.
//!
//! Both ends are the same executable, so there is only one version of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::CodeSettings;

/// Maximum length of a line in bytes.
pub(super) const MAX_LINE: u64 = 64 << 10;

/// A request to compile; the component's bytes follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The code of the host's engine.
    pub(super) code: CodeSettings,
    /// Limit on processor time in seconds.
    pub(super) cpu: u64,
    /// Limit on address space in bytes.
    pub(super) memory: u64,
    /// Number of bytes that follow.
    pub(super) size: u64,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// `size` bytes of compiled code follow.
    Compiled { size: u64 },
    /// The component is not valid.
    Invalid { why: String },
    /// Memory was exhausted.
    OutOfMemory,
}

/// A limit in whole seconds, at least one, as the kernel counts them.
pub(super) fn seconds(limit: Duration) -> u64 {
    let whole = limit.as_secs();
    whole
        .saturating_add(u64::from(limit.subsec_nanos() > 0))
        .max(1)
}
