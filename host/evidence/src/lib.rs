//! Facts about projects that the host establishes by reads of its own, for guardrails and for agents.
//!
//! What a plugin says is never among them. The gate makes the reads, charges them to the plugin that wants the fact, and asks this
//! crate what follows from them; what must outlive a listing is in the ledger.
//!
//! Invariant: a fact is whole or there is none. What was not read, or not understood, never makes a number smaller.

mod answers;
mod trials;

use qchost_catalog::{BoxFuture, Failure};
use qchost_gate::{EvidenceSource, ProjectReads};
use qchost_ledger::{Ledger, TrialCounts};

/// All facts that this host establishes.
#[derive(Debug, Clone)]
pub struct Evidence {
    ledger: Ledger,
}

impl Evidence {
    /// Facts that are remembered in this ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }
}

impl EvidenceSource for Evidence {
    fn trials<'a>(
        &'a self,
        reads: ProjectReads<'a>,
    ) -> BoxFuture<'a, Result<TrialCounts, Failure>> {
        Box::pin(async move { trials::count(&self.ledger, &reads).await })
    }
}
