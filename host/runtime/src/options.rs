//! What the operator sets for all plugins together; what one plugin may use stands in its manifest.

use std::path::PathBuf;

/// Settings of a runtime.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of compiled components. Made if it is not there, and closed to everybody else.
    pub cache: PathBuf,
    /// The file with the host's key, which vouches for what is in the cache. Made if it is not
    /// there. It belongs outside of the cache's folder.
    pub key: PathBuf,
    /// Invocations at a time, of all plugins together.
    pub invocations: u32,
    /// Bytes of memory of all running plugins together.
    pub memory: u64,
    /// Invocations of one plugin that may wait for their turn.
    pub queue: usize,
    /// The most backtests of one batch at a time.
    pub parallel: u32,
    /// Bytes of the largest component that is loaded.
    pub component: u64,
    /// Bytes of the largest input of an action.
    pub input: u64,
}

impl Options {
    /// The defaults, with what has none.
    #[must_use]
    pub fn new(cache: PathBuf, key: PathBuf) -> Self {
        Self {
            cache,
            key,
            invocations: 128,
            memory: 4 << 30,
            queue: 64,
            parallel: 8,
            component: 64 << 20,
            input: 4 << 20,
        }
    }
}
