//! What becomes of work that was under way when an emulator ended whose data is kept.
//!
//! The clock of the cloud goes on: a compile that would be over by now is over, a live algorithm is as many
//! simulated days further. What the engine had not finished it runs again, with the same result, because an engine is
//! a pure function of its job.

use std::sync::Arc;
use std::time::Duration;

use super::cloud::Cloud;
use super::{backtests, live, optimizations};

/// How long a start waits for what would be over by the clock. What takes longer is shown as running.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(3);

/// Goes on with everything that was under way, and waits for what would be over by the clock.
pub(crate) async fn resume(cloud: &Arc<Cloud>) {
    let over = {
        let mut state = cloud.state();
        let mut over = backtests::resume(cloud, &mut state);
        over.extend(optimizations::resume(cloud, &state));
        over.extend(live::resume(cloud, &state));
        over
    };
    let catching_up = async {
        for task in over {
            // A task that panicked left its work unfinished, as it shows.
            drop(task.await);
        }
    };
    if tokio::time::timeout(CATCH_UP_TIMEOUT, catching_up)
        .await
        .is_err()
    {
        tracing::info!("the emulator still runs what would be over by the clock");
    }
}
