//! Entry points for benchmarks: the engine as configured for invocations, and the adapter without a
//! gate. Not a stable interface.

pub use crate::contract::quantconnect::api::backtests::{Backtest, Chart};
pub use crate::contract::quantconnect::api::types::Error;

use qchost_catalog::host_calls::{READ_BACKTEST, READ_BACKTEST_CHART};
use serde_json::Value;

use crate::adapter::{self, LeftOut};
use crate::engine::Machine;

/// An engine with the runtime's own settings, whose epoch advances while this lives.
pub struct Engine {
    machine: Machine,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine with room for `invocations` concurrent invocations.
    ///
    /// # Errors
    /// When the engine does not start.
    pub fn new(invocations: u32) -> wasmtime::Result<Self> {
        let machine = Machine::new(invocations, false)?;
        // It never stops.
        std::mem::forget(machine.tick());
        Ok(Self { machine })
    }

    /// The engine itself.
    #[must_use]
    pub fn engine(&self) -> &wasmtime::Engine {
        &self.machine.engine
    }
}

/// Decodes what `read-backtest` returns from the body of an answer.
///
/// # Errors
/// When the body does not match.
pub fn backtest(body: Value) -> Result<Backtest, String> {
    adapter::decode_answer(READ_BACKTEST, body, &LeftOut::default())
        .map_err(|misfit| misfit.to_string())
}

/// Decodes what `read-backtest-chart` returns from the body of an answer.
///
/// # Errors
/// When the body does not match.
pub fn chart(body: Value) -> Result<Chart, String> {
    adapter::decode_answer(READ_BACKTEST_CHART, body, &LeftOut::default())
        .map_err(|misfit| misfit.to_string())
}
