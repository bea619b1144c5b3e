//! The emulated cloud: its settings, its engine and its state.
//!
//! Invariant: the state is behind one lock that is never held over an await, so every request
//! sees and leaves a consistent whole.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

use super::answer::Refusal;
use super::arguments::Arguments;
use crate::engine::Engine;
use crate::store::State;
use crate::store::node::Node;
use crate::store::settings::Settings;

/// The emulated cloud.
pub(crate) struct Cloud {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) settings: Settings,
    /// The address under which clients reach the API, without a slash at its end.
    pub(crate) base_url: String,
    state: Mutex<State>,
}

impl Cloud {
    /// A cloud that was not used yet.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        settings: Settings,
        base_url: String,
        nodes: Vec<Node>,
    ) -> Self {
        Self {
            engine,
            settings,
            base_url,
            state: Mutex::new(State::new(nodes)),
        }
    }

    /// Locks the state. A thread that panicked while holding the lock does not take the
    /// emulator down with it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The name under which results are shown: they are a model's, not LEAN's.
    pub(crate) fn model_name(&self) -> String {
        format!("{}, not LEAN", self.engine.name())
    }

    /// QuantConnect Credit that is left, to the cent.
    pub(crate) fn balance(&self, state: &State) -> f64 {
        let left = self.settings.credit - state.spent;
        (left * 100.0).round() / 100.0
    }

    /// Refuses a request whose `organizationId` is missing or not the emulator's.
    pub(crate) fn check_organization(&self, arguments: &Arguments) -> Result<(), Refusal> {
        let id = arguments.text("organizationId")?;
        if id == self.settings.organization_id {
            Ok(())
        } else {
            Err(Refusal::not_found("Organization", id))
        }
    }

    /// The same for a request that may leave the field out.
    pub(crate) fn check_optional_organization(&self, arguments: &Arguments) -> Result<(), Refusal> {
        let check = |arguments: &Arguments, _: &str| self.check_organization(arguments);
        arguments.optional("organizationId", check).map(|_| ())
    }
}
