//! `workflow`: batches of calls that the host makes concurrently for an agent.
//!
//! Each of these calls goes through the same function as the agent's own calls, so the gate decides
//! it like any other. Everything runs inside the invocation's own future: when that is dropped,
//! calls not sent yet never are, and the gate learns the outcome of those that were.
//!
//! Invariant: backtests of a batch are independent: each has its own result.

mod wait;

#[cfg(test)]
mod tests;

use std::time::Instant;

use qchost_catalog::host_calls::READ_BACKTEST;
use serde_json::Value;

use futures::stream::{self, StreamExt as _};

use self::wait::Deadline;
use super::progress::Reporter;
use crate::adapter::Arguments;
use crate::calls::{CallContext, invalid, refused};
use crate::contract::qchost::agent::workflow::{
    Backtest, Batch, CompileId, Error, Host, Item, ItemResult, Outcome, ParameterSet, ProjectId,
};
use crate::contract::quantconnect::api::backtests::{BacktestStatus, Host as Backtests};
use crate::contract::quantconnect::api::compile::{Host as Compile, State};

/// Maximum backtests of one batch.
const MAX_BATCH: usize = 1000;

/// How much of a backtest is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// All of it.
    Whole,
    /// Its figures only. The rest is most of a real backtest's megabyte, and a batch has hundreds.
    Figures,
}

/// The batches of one invocation.
#[derive(Debug, Clone)]
pub(crate) struct Workflow {
    calls: CallContext,
    progress: Reporter,
    deadline: Deadline,
    /// Maximum concurrent backtests, whatever the agent requests.
    parallel: u32,
}

impl Workflow {
    pub(crate) fn new(
        calls: CallContext,
        progress: Reporter,
        deadline: Instant,
        parallel: u32,
    ) -> Self {
        Self {
            calls,
            progress,
            deadline: Deadline::before(deadline),
            parallel: parallel.max(1),
        }
    }

    /// Checks that the manifest grants batches; the calls inside are decided individually.
    async fn granted(&self) -> Result<(), Error> {
        self.calls
            .gate()?
            .check_workflow(self.calls.principal())
            .await
            .map_err(refused)
    }

    async fn compile(&self, project: ProjectId) -> Result<Outcome, Error> {
        // Also between two polls.
        let _wait = self.calls.wait();
        let job = self
            .deadline
            .send(|sent_marker| {
                let mut calls = self.calls.with_marker(sent_marker);
                async move { calls.create_compile(project).await }
            })
            .await?;
        let read = || {
            let (mut calls, id) = (self.calls.clone(), job.compile_id.clone());
            async move { calls.read_compile(project, id).await }
        };
        let ended =
            |outcome: &Outcome| matches!(outcome.state, State::BuildSuccess | State::BuildError);
        self.deadline.poll("the compile", read, ended).await
    }

    async fn backtest(
        &self,
        project: ProjectId,
        compile: &CompileId,
        name: &str,
        parameters: &ParameterSet,
        detail: Detail,
    ) -> Result<Backtest, Error> {
        let _wait = self.calls.wait();
        let created = self
            .deadline
            .send(|sent_marker| {
                let mut calls = self.calls.with_marker(sent_marker);
                let (compile, name) = (compile.clone(), name.to_owned());
                let parameters = (!parameters.is_empty()).then(|| parameters.clone());
                async move {
                    calls
                        .create_backtest(project, compile, name, parameters)
                        .await
                }
            })
            .await?;
        if ended(&created) {
            return Ok(created);
        }
        let read = || self.read(project, &created.backtest_id, detail);
        self.deadline.poll("the backtest", read, ended).await
    }

    async fn read(&self, project: ProjectId, id: &str, detail: Detail) -> Result<Backtest, Error> {
        let mut arguments = Arguments::of(READ_BACKTEST);
        arguments
            .push(&project)
            .and_then(|()| arguments.push(&id))
            .map_err(|misfit| invalid(READ_BACKTEST, &misfit))?;
        let trim = |body: &mut Value| {
            if detail == Detail::Figures {
                trim(body);
            }
        };
        self.calls
            .call_and_trim(READ_BACKTEST, arguments.finish(), trim)
            .await
    }

    async fn item(self, project: ProjectId, compile: CompileId, item: Item) -> ItemResult {
        let outcome = self
            .backtest(
                project,
                &compile,
                &item.name,
                &item.parameters,
                Detail::Figures,
            )
            .await;
        ItemResult {
            name: item.name,
            parameters: item.parameters,
            outcome,
        }
    }
}

/// Removes everything from an answer of `read-backtest` that is not a figure.
fn trim(body: &mut Value) {
    let Some(backtest) = body.get_mut("backtest").and_then(Value::as_object_mut) else {
        return;
    };
    backtest.remove("charts");
    backtest.remove("rollingWindow");
    backtest.remove("analysis");
    if let Some(Value::Object(performance)) = backtest.get_mut("totalPerformance") {
        performance.remove("closedTrades");
    }
}

/// Whether a backtest has ended, successfully or not.
fn ended(backtest: &Backtest) -> bool {
    matches!(
        backtest.status,
        Some(BacktestStatus::Completed | BacktestStatus::RuntimeError)
    ) || backtest.completed == Some(true)
}

impl Host for Workflow {
    async fn compile_and_wait(&mut self, project_id: ProjectId) -> Result<Outcome, Error> {
        self.granted().await?;
        self.compile(project_id).await
    }

    async fn backtest_and_wait(
        &mut self,
        project_id: ProjectId,
        compile_id: CompileId,
        name: String,
        parameters: ParameterSet,
    ) -> Result<Backtest, Error> {
        self.granted().await?;
        self.backtest(project_id, &compile_id, &name, &parameters, Detail::Whole)
            .await
    }

    async fn run_backtests(&mut self, batch: Batch) -> Result<Vec<ItemResult>, Error> {
        self.granted().await?;
        let total = batch.items.len();
        if batch.concurrency == 0 {
            return Err(Error::InvalidArgument(
                "run-backtests: `concurrency` is 0; it begins at 1".to_owned(),
            ));
        }
        if total > MAX_BATCH {
            return Err(Error::InvalidArgument(format!(
                "run-backtests: {total} items; a batch has at most {MAX_BATCH}"
            )));
        }
        let parallel = usize::try_from(batch.concurrency.min(self.parallel)).unwrap_or(1);
        let running = batch.items.into_iter().enumerate().map(|(at, item)| {
            let (workflow, compile) = (self.clone(), batch.compile_id.clone());
            async move { (at, workflow.item(batch.project_id, compile, item).await) }
        });
        let mut running = stream::iter(running).buffer_unordered(parallel);
        let mut results = Vec::with_capacity(total);
        self.report(0, total);
        while let Some(result) = running.next().await {
            results.push(result);
            self.report(results.len(), total);
        }
        results.sort_by_key(|(at, _)| *at);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

impl Workflow {
    fn report(&self, ended: usize, total: usize) {
        let share = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
        let fraction = share(ended) / share(total.max(1));
        self.progress
            .send(fraction, &format!("{ended} of {total} backtests ended"));
    }
}
