//! Carries an optimization out: waits, then runs every combination as a backtest, so many at a
//! time as it has nodes.
//!
//! Invariant: its nodes are its own; they take none of the organisation's backtest nodes. After
//! an abort no backtest is started. A charge is booked for each backtest that ran to its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Optimization, Status};
use crate::backtests::{Backtest, Phase, execute};
use crate::engine::Job;
use crate::state::{Cloud, State};

/// What the backtests of one optimization share.
struct Context {
    cloud: Weak<Cloud>,
    id: String,
    project_id: u32,
    job: Job,
    detected_parameters: usize,
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
    });
    let combinations = optimization.plan.combinations.clone();
    let parallel = usize::try_from(optimization.plan.parallel).unwrap_or(1);
    tokio::spawn(async move {
        work(context, combinations, parallel).await;
    });
}

async fn work(context: Arc<Context>, grid: Vec<BTreeMap<String, String>>, parallel: usize) {
    let Some(wait) = context
        .cloud
        .upgrade()
        .map(|cloud| cloud.settings.timing.optimization_queue)
    else {
        return;
    };
    sleep(wait).await;
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
        let Some((backtest, job)) = context.begin(point) else {
            break;
        };
        let context = Arc::clone(&context);
        running.spawn(async move {
            context.run(&backtest, job).await;
            drop(node);
        });
        // Finished tasks need not be kept until the end.
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
    /// Changes the optimization under the lock; nothing if it is gone.
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

    /// Puts a running backtest into the project; nothing if the optimization is not running.
    fn begin(&self, point: BTreeMap<String, String>) -> Option<(String, Arc<Job>)> {
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
        let job = Arc::new(job);
        let node = optimization.plan.node.name().to_owned();
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
            job: Arc::clone(&job),
            phase: Phase::Running {
                node,
                since: Instant::now(),
                lasts: cloud.settings.timing.optimization_backtest,
            },
        });
        Some((backtest, job))
    }

    async fn run(&self, backtest: &str, job: Arc<Job>) {
        let since = Instant::now();
        let Some(lasts) = self
            .cloud
            .upgrade()
            .map(|cloud| cloud.settings.timing.optimization_backtest)
        else {
            return;
        };
        let Some(outcome) = execute(&self.cloud, job, since + lasts).await else {
            return;
        };
        self.change(|optimization, spent| {
            optimization.worked += since.elapsed();
            *spent += optimization.plan.node.cost(1);
        });
        if let Some(cloud) = self.cloud.upgrade() {
            let mut state = cloud.state();
            if let Some(backtest) = state.backtests.iter_mut().find(|it| it.id == backtest) {
                backtest.phase = Phase::Finished(Arc::new(outcome));
            }
        }
    }
}
