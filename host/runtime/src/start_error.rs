//! Why a runtime cannot start.

use crate::cache::CacheError;

/// Why a runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cache of compiled components.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Not enough address space for this many concurrent invocations.
    #[error(
        "this machine has no room for {invocations} invocations at a time ({why}); lower `engine.invocations`, or raise the limits on address space (`ulimit -v`) and on mappings (`vm.max_map_count`)"
    )]
    Room {
        /// The configured number.
        invocations: u32,
        /// The cause.
        why: String,
    },
    /// The engine does not support the processor.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(wasmtime::Error),
}
