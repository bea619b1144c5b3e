//! The bytes of a request or a response, with their limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body::Frame;
use wasmtime_wasi_io::bytes::Bytes;

/// Bytes passed in one direction. Clones share the count.
#[derive(Debug, Clone)]
pub(super) struct Count {
    passed: Arc<AtomicU64>,
    limit: u64,
}

impl Count {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            passed: Arc::default(),
            limit,
        }
    }

    /// Bytes passed so far; at most one chunk above the limit.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }

    /// The limit in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether the limit is exceeded.
    pub(super) fn exceeded(&self) -> bool {
        self.passed() > self.limit
    }

    /// Counts a chunk; `false` if the limit is exceeded.
    pub(super) fn add(&self, piece: &Frame<Bytes>) -> bool {
        let bytes = piece.data_ref().map_or(0, Bytes::len);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.passed.fetch_add(bytes, Ordering::AcqRel);
        !self.exceeded()
    }
}
