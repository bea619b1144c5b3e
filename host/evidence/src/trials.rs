//! Trials: how often the strategy of a project was tried on history.
//!
//! What is listed is merged into the ledger, which has what was tried through this host and what was listed before, also if it
//! was deleted since. Each combination of an optimisation is a trial; its backtests are not counted a second time. A project
//! has the trials of every project that has held the same code; of those, what the ledger has counts.
//!
//! Invariant: a trial that is listed or in the ledger is counted, and once.

use std::collections::BTreeMap;

use qchost_catalog::Failure;
use qchost_catalog::host_calls::{LIST_BACKTESTS, LIST_OPTIMIZATIONS, READ_OPTIMIZATION};
use qchost_gate::ProjectReads;
use qchost_ledger::{Ledger, LedgerError, Trial, TrialCounts, TrialKind};
use serde_json::{Map, Value};

use crate::answers;

/// Maximum optimisations that are read for one count.
const MAX_READ: usize = 50;

/// Counts the trials of a project.
pub(crate) async fn count(
    ledger: &Ledger,
    reads: &ProjectReads<'_>,
) -> Result<TrialCounts, Failure> {
    // Before the lists: what is tried meanwhile is tried with this code or a later one, which is noted when it is compiled.
    let code = reads.code().await?;
    let (account, project) = (reads.account(), reads.project());
    let mut options = about(project);
    options.insert("includeStatistics".to_owned(), false.into());
    let listed = answers::backtests(&reads.read(LIST_BACKTESTS, options).await?)?;
    let known = ledger.settled_trials(account, project, TrialKind::Backtest);
    let known = known.await.map_err(unusable)?;
    let alone = listed.alone.into_iter().filter(|id| !known.contains(id));
    let new = alone.map(Trial::backtest).collect();
    let recorded = ledger.record_trials(account, project, new).await;
    recorded.map_err(unusable)?;
    count_optimizations(ledger, reads, listed.of_optimizations).await?;
    let counted = ledger.count_trials(account, project, code).await;
    counted.map_err(unusable)
}

/// Merges the optimisations of a project into the ledger. `started`: how many backtests of each are listed.
async fn count_optimizations(
    ledger: &Ledger,
    reads: &ProjectReads<'_>,
    mut started: BTreeMap<String, u32>,
) -> Result<(), Failure> {
    let (account, project) = (reads.account(), reads.project());
    let listed = answers::optimizations(reads.read(LIST_OPTIMIZATIONS, about(project)).await?)?;
    let settled = ledger.settled_trials(account, project, TrialKind::Optimization);
    let settled = settled.await.map_err(unusable)?;
    started.retain(|id, _| !settled.contains(id));
    let mut open: Vec<_> = listed
        .into_iter()
        .filter(|id| !settled.contains(id))
        .collect();
    open.sort();
    open.dedup();
    let left = open.len().saturating_sub(MAX_READ);
    for id in open.into_iter().take(MAX_READ) {
        let arguments = Map::from_iter([("optimizationId".to_owned(), id.as_str().into())]);
        let answer = reads.read(READ_OPTIMIZATION, arguments).await?;
        let (tries, ended) = answers::optimization(&id, answer)?;
        let tries = tries.max(started.remove(&id).unwrap_or_default());
        // One by one, so that those which were read are not read again if a later one fails.
        let trial = Trial::optimization(id, tries, ended);
        let recorded = ledger.record_trials(account, project, vec![trial]).await;
        recorded.map_err(unusable)?;
    }
    if left > 0 {
        return Err(Failure::Unavailable(format!(
            "the combinations of {left} more optimisations of project {project} have to be read; ask again"
        )));
    }
    // Those whose backtests are listed, but not they themselves.
    let rest = started.into_iter();
    let rest = rest.map(|(id, tries)| Trial::optimization(id, tries, false));
    let recorded = ledger.record_trials(account, project, rest.collect()).await;
    recorded.map_err(unusable)
}

fn about(project: u32) -> Map<String, Value> {
    Map::from_iter([("projectId".to_owned(), project.into())])
}

fn unusable(error: LedgerError) -> Failure {
    Failure::Unavailable(format!("the trials cannot be counted: {error}"))
}
