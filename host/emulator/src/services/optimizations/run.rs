//! Runs an optimization: waits, then runs every combination as a backtest, as many at a
//! time as it has nodes.
//!
//! Invariant: its nodes are its own; they take none of the organisation's backtest nodes. After
//! an abort no backtest is started. A charge is booked for each backtest that completed.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::engine::Job;
use crate::services::backtests;
use crate::services::cloud::Cloud;
use crate::store::State;
use crate::store::backtest::{Backtest, Phase};
use crate::store::optimization::{Optimization, Status};
use crate::store::timing::Timing;

/// Shared by the backtests of one optimization.
struct Context {
    cloud: Weak<Cloud>,
    id: String,
    project_id: u32,
    job: Job,
    detected_parameters: usize,
    timing: Timing,
}

/// Starts the work for an optimization that is about to be stored.
pub(super) fn start(
    cloud: &Arc<Cloud>,
    optimization: &Optimization,
    job: Job,
    detected_parameters: usize,
) {
    let context = Arc::new(Context {
        cloud: Arc::downgrade(cloud),
        id: optimization.id.clone(),
        project_id: optimization.project_id,
        job,
        detected_parameters,
        timing: cloud.settings.timing,
    });
    let combinations = optimization.plan.combinations.clone();
    let parallel = usize::try_from(optimization.plan.parallel).unwrap_or(1);
    tokio::spawn(work(context, combinations, parallel));
}

async fn work(context: Arc<Context>, grid: Vec<BTreeMap<String, String>>, parallel: usize) {
    sleep(context.timing.optimization_queue).await;
    let began = context.change(|optimization, _| {
        if optimization.status == Status::New {
            optimization.status = Status::Running;
            optimization.started = Some(Instant::now());
        }
    });
    if began.is_none() {
        return;
    }
    let nodes = Arc::new(Semaphore::new(parallel));
    let mut running = JoinSet::new();
    for point in grid {
        let Ok(node) = Arc::clone(&nodes).acquire_owned().await else {
            return;
        };
        let Some(backtest) = context.begin(point) else {
            break;
        };
        let context = Arc::clone(&context);
        running.spawn(async move {
            context.run(&backtest).await;
            drop(node);
        });
        // Frees finished tasks early; a grid may have a thousand.
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
    context.change(|optimization, _| {
        if optimization.status == Status::Running {
            optimization.status = Status::Completed;
            optimization.finished = Some(Instant::now());
        }
    });
}

impl Context {
    /// Changes the optimization and the credit spent under the lock; `None` if it was deleted.
    fn change<T>(&self, change: impl FnOnce(&mut Optimization, &mut f64) -> T) -> Option<T> {
        let cloud = self.cloud.upgrade()?;
        let mut state = cloud.state();
        let State {
            optimizations,
            spent,
            ..
        } = &mut *state;
        let optimization = optimizations.iter_mut().find(|it| it.id == self.id)?;
        Some(change(optimization, spent))
    }

    /// Adds a running backtest to the project and returns its id; `None` if the optimization is not
    /// running.
    fn begin(&self, point: BTreeMap<String, String>) -> Option<String> {
        let cloud = self.cloud.upgrade()?;
        let mut state = cloud.state();
        let (backtest, snapshot) = (state.next_id(), state.next_number());
        let optimization = state.optimizations.iter_mut().find(|it| it.id == self.id)?;
        if optimization.status != Status::Running {
            return None;
        }
        optimization.backtests.push(backtest.clone());
        let number = optimization.backtests.len();
        let mut job = self.job.clone();
        job.parameters.extend(point.clone());
        let node = optimization.plan.node.name.to_owned();
        let name = format!("{} #{number}", optimization.name);
        state.backtests.push(Backtest {
            id: backtest.clone(),
            project_id: self.project_id,
            name,
            note: None,
            tags: Vec::new(),
            created: Timestamp::now(),
            snapshot,
            optimization: Some(self.id.clone()),
            parameters: point
                .into_iter()
                .map(|(name, value)| (name, Value::String(value)))
                .collect(),
            detected_parameters: self.detected_parameters,
            job: Arc::new(job),
            phase: Phase::Running {
                node,
                since: Instant::now(),
                lasts: self.timing.optimization_backtest,
            },
        });
        Some(backtest)
    }

    /// Runs the backtest and charges it.
    async fn run(&self, backtest: &str) {
        let lasts = self.timing.optimization_backtest;
        if let Some(worked) = backtests::run_backtest(&self.cloud, backtest, lasts).await {
            self.change(|optimization, spent| {
                optimization.worked += worked;
                *spent += optimization.plan.node.cost(1);
            });
        }
    }
}
