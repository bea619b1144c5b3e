//! What one call has been charged for the reads that the host makes to decide it.
//!
//! Invariant: [`ReadCharges::settle`] returns the units of the first read once; after that, no read is charged as the first.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use qchost_traffic::{GrantKey, RateLimits};

use crate::refusal::Refusal;

/// What one call has been charged so far.
#[derive(Default)]
pub(crate) struct ReadCharges {
    /// Reads that the host made for the call.
    pub reads: AtomicU32,
    /// The rates that are charged: those that gave a unit, and once the call is admitted those of the matching grants.
    pub charged_grants: Mutex<Vec<(GrantKey, RateLimits)>>,
    pub first: tokio::sync::Mutex<FirstRead>,
    /// Why a read was not sent, since a failed read cannot carry it.
    pub refused: Mutex<Option<Refusal>>,
}

/// Who pays for the first read of a call.
#[derive(Default)]
pub(crate) enum FirstRead {
    /// Nothing has been read so far.
    #[default]
    Due,
    /// The rates of these grants were charged one unit.
    Paid(Vec<(GrantKey, RateLimits)>),
    /// The call was admitted.
    Settled,
}

impl ReadCharges {
    /// How many reads the host made for the call.
    pub(crate) fn reads(&self) -> u32 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Returns the units that were charged; no unit is charged for a read from here on.
    pub(crate) async fn settle(&self) -> Vec<(GrantKey, RateLimits)> {
        match std::mem::replace(&mut *self.first.lock().await, FirstRead::Settled) {
            FirstRead::Paid(paid) => paid,
            FirstRead::Due | FirstRead::Settled => Vec::new(),
        }
    }
}
