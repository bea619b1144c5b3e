//! The emulated cloud: its settings, its engine and its state.
//!
//! Invariant: the state is behind one lock that is never held over an await, so every request
//! sees and leaves a consistent whole. The engine works on threads of its own, so that it holds up no
//! request. What was changed under the lock is stored before the lock is released, and so before any answer,
//! if the emulator keeps its data.

use parking_lot::{Mutex, MutexGuard};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::task::spawn_blocking;
use tokio::time::sleep_until;

use super::answer::Refusal;
use super::arguments::Arguments;
use crate::engine::{Compilation, Engine, Job, Language, RuntimeError, SourceFile};
use crate::store::State;
use crate::store::backtest::Outcome;
use crate::store::disk::Disk;
use crate::store::settings::Settings;

/// The emulated cloud.
pub(crate) struct Cloud {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) settings: Settings,
    /// The address under which clients reach the API, without a slash at its end.
    pub(crate) base_url: String,
    kept: Mutex<KeptState>,
}

/// The state, and the file that it is kept in, if it is.
struct KeptState {
    state: State,
    disk: Option<Disk>,
    /// Whether something may have been changed since it was stored: what only reads does not look for changes.
    is_dirty: bool,
}

/// The locked state.
pub(crate) struct StateGuard<'c>(MutexGuard<'c, KeptState>);

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.0.is_dirty = true;
        &mut self.0.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        let KeptState {
            state,
            disk,
            is_dirty,
        } = &mut *self.0;
        if *is_dirty && let Some(disk) = disk {
            disk.save(state);
            // What failed is tried again.
            *is_dirty = disk.problem().is_some();
        }
    }
}

impl Cloud {
    /// A cloud in a state, which is kept on the disk if there is one.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        settings: Settings,
        base_url: String,
        state: State,
        disk: Option<Disk>,
    ) -> Self {
        Self {
            engine,
            settings,
            base_url,
            kept: Mutex::new(KeptState {
                state,
                disk,
                is_dirty: false,
            }),
        }
    }

    /// Locks the state. A thread that panicked while holding the lock does not take the
    /// emulator down with it.
    pub(crate) fn state(&self) -> StateGuard<'_> {
        StateGuard(self.kept.lock())
    }

    /// Why the latest changes are in memory only, although they should be stored.
    pub(crate) fn storage_problem(&self) -> Option<String> {
        let kept = self.kept.lock();
        kept.disk.as_ref()?.problem().map(str::to_owned)
    }

    /// Closes the file. Later changes are not stored.
    pub(crate) fn close(&self) {
        self.kept.lock().disk = None;
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

/// Compiles sources and gives them back.
pub(super) async fn check(
    cloud: &Cloud,
    language: Language,
    files: Vec<SourceFile>,
) -> Result<(Compilation, Vec<SourceFile>), Refusal> {
    let engine = Arc::clone(&cloud.engine);
    spawn_blocking(move || (engine.compile(language, &files), files))
        .await
        .map_err(|_| panicked())
}

/// Runs a job.
pub(super) async fn run(engine: Arc<dyn Engine>, job: Arc<Job>) -> Result<Outcome, Refusal> {
    spawn_blocking(move || engine.run(&job))
        .await
        .map_err(|_| panicked())
}

fn panicked() -> Refusal {
    Refusal::because("The emulator's engine failed on these sources")
}

/// Runs a job and gives its outcome, not before `earliest`; `None` if the cloud was dropped
/// before the run started.
pub(super) async fn execute(
    cloud: &Weak<Cloud>,
    job: Arc<Job>,
    earliest: Instant,
) -> Option<Outcome> {
    let engine = Arc::clone(&cloud.upgrade()?.engine);
    let outcome = run(engine, job).await;
    sleep_until(earliest.into()).await;
    Some(outcome.unwrap_or_else(|_| {
        Err(RuntimeError {
            message: "The emulator's engine failed on this algorithm".to_owned(),
            stacktrace: String::new(),
            in_initialize: false,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::Model;
    use crate::store::project::Project;
    use crate::store::settings::Credentials;
    use crate::store::timing::Timing;

    #[test]
    fn only_what_may_have_changed_the_state_stores_it() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, mut state) = Disk::open(&folder.path().join("it.db"), Vec::new()).unwrap();
        let project = Project::new(1, "one".to_owned(), Language::Python);
        state.projects.insert(1, project.into());
        let settings = Settings {
            credentials: Credentials {
                user_id: 1,
                token: "token".to_owned(),
            },
            organization_id: "organization".to_owned(),
            organization_name: "name".to_owned(),
            credit: 1.0,
            timing: Timing::default(),
            object_store_quota: 1,
            derived_data: false,
            keyed_statistics: false,
        };
        let cloud = Cloud::new(Arc::new(Model), settings, String::new(), state, Some(disk));
        let is_stored = || {
            let kept = cloud.kept.lock();
            !kept.disk.as_ref().unwrap().is_new()
        };
        assert_eq!(cloud.state().projects.len(), 1);
        assert!(!is_stored());
        cloud.state().spent = 0.5;
        assert!(is_stored());
        assert!(!cloud.kept.lock().is_dirty);
    }
}
