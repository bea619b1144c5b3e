//! From the queue to a node to a result.
//!
//! Invariant: a node runs one backtest at a time, and backtests get nodes in the order of
//! their creation, a project that has chosen busy nodes excepted. The engine runs on a thread
//! of its own; what it gives for a backtest that was deleted meanwhile is dropped.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Backtest, Outcome, Phase};
use crate::engine::{Job, RuntimeError};
use crate::state::{Cloud, State};

/// Adds a backtest to the queue.
pub(super) fn submit(cloud: &Arc<Cloud>, state: &mut State, backtest: Backtest) {
    let id = backtest.id.clone();
    state.backtests.push(backtest);
    let wait = cloud.settings.timing.backtest_queue;
    let cloud = Arc::downgrade(cloud);
    tokio::spawn(async move {
        sleep(wait).await;
        // A cloud that is gone needs no result.
        let Some(cloud) = cloud.upgrade() else { return };
        let mut state = cloud.state();
        if let Some(backtest) = state
            .backtests
            .iter_mut()
            .find(|backtest| backtest.id == id)
            && let Phase::Queued { due } = &mut backtest.phase
        {
            *due = true;
        }
        dispatch(&cloud, &mut state);
    });
}

/// Gives idle nodes to backtests that wait. To be called whenever a node may have become idle.
pub(crate) fn dispatch(cloud: &Arc<Cloud>, state: &mut State) {
    let lasts = cloud.settings.timing.backtest;
    for index in 0..state.backtests.len() {
        let Some(backtest) = state.backtests.get(index) else {
            return;
        };
        if !matches!(backtest.phase, Phase::Queued { due: true }) {
            continue;
        }
        let node = state
            .projects
            .get(&backtest.project_id)
            .and_then(|project| state.idle_backtest_node(project));
        let (Some(node), Some(backtest)) = (node, state.backtests.get_mut(index)) else {
            continue;
        };
        let since = Instant::now();
        backtest.phase = Phase::Running {
            node: node.id,
            since,
            lasts,
        };
        let (id, job) = (backtest.id.clone(), Arc::clone(&backtest.job));
        let cloud = Arc::downgrade(cloud);
        tokio::spawn(async move {
            finish(&cloud, &id, job, since, lasts).await;
        });
    }
}

async fn finish(cloud: &Weak<Cloud>, id: &str, job: Arc<Job>, since: Instant, lasts: Duration) {
    let outcome = execute(cloud, job, since + lasts).await;
    let (Some(cloud), Some(outcome)) = (cloud.upgrade(), outcome) else {
        return;
    };
    let mut state = cloud.state();
    if let Some(backtest) = state
        .backtests
        .iter_mut()
        .find(|backtest| backtest.id == id)
    {
        backtest.phase = Phase::Finished(Arc::new(outcome));
    }
    dispatch(&cloud, &mut state);
}

/// Runs a job on a thread of its own and gives its outcome, not before `earliest`; nothing if
/// the cloud is gone.
pub(crate) async fn execute(
    cloud: &Weak<Cloud>,
    job: Arc<Job>,
    earliest: Instant,
) -> Option<Outcome> {
    let engine = Arc::clone(&cloud.upgrade()?.engine);
    let running = tokio::task::spawn_blocking(move || engine.run(&job));
    let outcome = running.await.unwrap_or_else(|_| {
        Err(RuntimeError {
            message: "The emulator's engine failed on this algorithm".to_owned(),
            stacktrace: String::new(),
            in_initialize: false,
        })
    });
    sleep_until(earliest).await;
    Some(outcome)
}
