//! One load of a manifest, beside others.

use std::sync::Arc;

use qchost_gate::Gate;
use qchost_policy::Manifest;
use qchost_runtime::{LoadError, Plugin, Runtime};
use tokio::sync::Semaphore;

use super::stamp::{SETTLING, Stamp};

/// Manifests that are compiled at a time, so that many which change at once leave the processors to who
/// is served.
static COMPILING: Semaphore = Semaphore::const_new(2);

/// How a load ended.
#[derive(Debug)]
pub enum Outcome {
    /// It serves.
    Loaded(Arc<Plugin>),
    /// It does not, and what served before serves on.
    Failed(LoadError),
    /// It does not, and the component is another one by now.
    Moving,
}

/// Loads a manifest when it is its turn; what it does not allow is denied before that. With `patience` a
/// component that cannot be used and was touched just now is not judged yet: it gets a while to become whole.
pub async fn load(
    runtime: Runtime,
    gate: Gate,
    manifest: Manifest,
    turns: Arc<Semaphore>,
    patience: bool,
) -> Outcome {
    {
        // It is never closed.
        let _compiling = COMPILING.acquire().await;
        if let Err(error) = gate.restrict(manifest.clone()).await {
            return Outcome::Failed(error.into());
        }
    }
    let turn = turns.acquire().await;
    let component = manifest.component.clone();
    let before = Stamp::of(&component).ok();
    let error = match runtime.load(manifest).await {
        Ok(plugin) => return Outcome::Loaded(plugin),
        Err(error) => error,
    };
    drop(turn);
    let half = !matches!(error, LoadError::AwaitsOperator { .. })
        && before.is_none_or(|stamp| stamp.is_young());
    if patience && half {
        tokio::time::sleep(SETTLING).await;
    }
    if Stamp::of(&component).ok() == before {
        Outcome::Failed(error)
    } else {
        Outcome::Moving
    }
}

/// Whether a failure may pass without the file being changed.
pub fn may_pass(error: &LoadError) -> bool {
    matches!(
        error,
        LoadError::AwaitsOperator { .. }
            | LoadError::NotAdmitted(_)
            | LoadError::Compiler { .. }
            | LoadError::Read { .. }
            | LoadError::Unloaded { .. }
    )
}
