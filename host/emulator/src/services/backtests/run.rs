//! Runs backtests: from the queue to a node to a result.
//!
//! Invariant: a node runs one backtest at a time, and backtests get nodes in the order of
//! their creation, a project that has chosen busy nodes excepted. The engine runs on a thread
//! of its own; the result of a backtest that was deleted meanwhile is dropped.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::services::cloud::{Cloud, execute};
use crate::store::State;
use crate::store::backtest::Phase;

/// Makes a queued backtest due after the shortest time in the queue.
pub(super) fn queue(cloud: &Arc<Cloud>, id: String) {
    let wait = cloud.settings.timing.backtest_queue;
    let cloud = Arc::downgrade(cloud);
    tokio::spawn(async move {
        sleep(wait).await;
        let Some(cloud) = cloud.upgrade() else { return };
        let mut state = cloud.state();
        if let Some(backtest) = state.backtest_mut(&id)
            && let Phase::Queued { due } = &mut backtest.phase
        {
            *due = true;
        }
        dispatch(&cloud, &mut state);
    });
}

/// Starts due backtests on idle nodes. Callers call it whenever a node may have become idle.
pub(crate) fn dispatch(cloud: &Arc<Cloud>, state: &mut State) {
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
        let lasts = cloud.settings.timing.backtest;
        backtest.phase = Phase::Running {
            node: node.id,
            since: Instant::now(),
            lasts,
        };
        let id = backtest.id.clone();
        let cloud = Arc::downgrade(cloud);
        tokio::spawn(async move {
            run_backtest(&cloud, &id, lasts).await;
            if let Some(cloud) = cloud.upgrade() {
                dispatch(&cloud, &mut cloud.state());
            }
        });
    }
}

/// Runs a stored backtest for at least `lasts` and stores its outcome. Returns how long it took, or
/// `None` if the backtest was deleted or the cloud dropped before it started.
pub(crate) async fn run_backtest(
    cloud: &Weak<Cloud>,
    id: &str,
    lasts: Duration,
) -> Option<Duration> {
    let since = Instant::now();
    let job = {
        let cloud = cloud.upgrade()?;
        let mut state = cloud.state();
        Arc::clone(&state.backtest_mut(id)?.job)
    };
    let outcome = execute(cloud, job, since + lasts).await?;
    if let Some(cloud) = cloud.upgrade()
        && let Some(backtest) = cloud.state().backtest_mut(id)
    {
        backtest.phase = Phase::Finished(Box::new(outcome));
    }
    Some(since.elapsed())
}
