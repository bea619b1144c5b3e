//! Why a runtime cannot start.

use crate::cache::CacheError;

/// Why a runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cache of compiled components.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The engine does not support the processor.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(wasmtime::Error),
}
