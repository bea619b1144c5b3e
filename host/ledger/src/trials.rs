//! What was tried on history in each project, and which projects have held the same source.
//!
//! Projects that have held the same source are of one family, which is kept even if the source that joined them is
//! forgotten: what was tried in one of them counts for all.
//!
//! Invariant: a trial counts once, however often it is recorded, and is never forgotten. What is known for certain of an
//! optimisation is not changed by a later guess.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::statements::Statements as _;

/// Maximum backtests and optimisations stored for one project; more are not told apart, and add nothing.
pub const MAX_TRIALS: usize = 100_000;
/// Maximum sources stored for one project; the oldest are forgotten, but not the family that they joined.
const MAX_SOURCES: i64 = 10_000;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialKind {
    /// A backtest that no optimisation started.
    Backtest,
    /// An optimisation: a backtest for each combination.
    Optimization,
}

/// A backtest or an optimisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Which of the two.
    pub kind: TrialKind,
    /// The id assigned by the server.
    pub id: String,
    /// 1 for a backtest. The combinations of an optimisation: as many as there can be until it has ended.
    pub tries: u32,
    /// Whether that number is certain. An uncertain one only grows until then.
    pub settled: bool,
}

impl Trial {
    /// A backtest.
    #[must_use]
    pub fn backtest(id: impl Into<String>) -> Self {
        Self {
            kind: TrialKind::Backtest,
            id: id.into(),
            tries: 1,
            settled: true,
        }
    }

    /// An optimisation with this number of combinations.
    #[must_use]
    pub fn optimization(id: impl Into<String>, combinations: u32, settled: bool) -> Self {
        Self {
            kind: TrialKind::Optimization,
            id: id.into(),
            tries: combinations,
            settled,
        }
    }
}

/// The trials of a project and of its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrialCounts {
    /// Backtests.
    pub backtests: u32,
    /// Combinations of optimisations.
    pub combinations: u32,
    /// How many of both are of other projects than the one that was asked about.
    pub inherited: u32,
}

impl TrialCounts {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u32 {
        self.backtests.saturating_add(self.combinations)
    }
}

impl TrialKind {
    fn word(self) -> &'static str {
        match self {
            Self::Backtest => "backtest",
            Self::Optimization => "optimization",
        }
    }
}

impl Ledger {
    /// Stores what was tried in a project.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn record_trials(
        &self,
        account: &str,
        project: u32,
        trials: Vec<Trial>,
    ) -> Result<(), LedgerError> {
        let account = account.to_owned();
        self.connections()
            .write(move |it| record(it, &account, project, &trials))
            .await
    }

    /// The ids of a project's trials of a kind whose number is certain.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn settled_trials(
        &self,
        account: &str,
        project: u32,
        kind: TrialKind,
    ) -> Result<BTreeSet<String>, LedgerError> {
        let sql =
            "SELECT id FROM trials WHERE account = ?1 AND project = ?2 AND kind = ?3 AND settled";
        let values = (account.to_owned(), project, kind.word());
        self.connections()
            .rows(sql, values, |row| row.get::<_, String>(0))
            .await
    }

    /// Stores that a project holds a source, which joins it with all projects that have held it.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn hold_source(
        &self,
        account: &str,
        project: u32,
        source: &str,
    ) -> Result<(), LedgerError> {
        let (account, source) = (account.to_owned(), source.to_owned());
        self.connections()
            .write(move |it| hold(it, &account, project, &source))
            .await
    }

    /// The trials of a project that holds this source now, and of its family. The source is stored if something was tried
    /// in the family, or another project has held it: the code of a template, in which nothing was tried, joins no projects.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn count_trials(
        &self,
        account: &str,
        project: u32,
        source: Option<String>,
    ) -> Result<TrialCounts, LedgerError> {
        let account = account.to_owned();
        self.connections()
            .write(move |it| {
                if let Some(source) = &source
                    && (is_tried(it, &account, project)?
                        || is_shared(it, &account, project, source)?)
                {
                    hold(it, &account, project, source)?;
                }
                counts(it, &account, project)
            })
            .await
    }
}

/// The projects of the family of project `?2`. One that has no family yet is alone.
const FAMILY: &str = "SELECT ?2 UNION SELECT project FROM trial_projects WHERE account = ?1
    AND family = (SELECT family FROM trial_projects WHERE account = ?1 AND project = ?2)";

fn record(
    connection: &Connection,
    account: &str,
    project: u32,
    trials: &[Trial],
) -> Result<(), LedgerError> {
    let sql = "SELECT count(*) FROM trials WHERE account = ?1 AND project = ?2";
    let stored: i64 = connection.value(sql, params![account, project])?;
    let mut room = MAX_TRIALS.saturating_sub(usize::try_from(stored).unwrap_or(MAX_TRIALS));
    for trial in trials {
        let kind = trial.kind.word();
        let sql = "SELECT EXISTS (SELECT 1 FROM trials WHERE account = ?1 AND project = ?2 AND kind = ?3 AND id = ?4)";
        let is_known: bool = connection.value(sql, params![account, project, kind, trial.id])?;
        if !is_known {
            if room == 0 {
                continue;
            }
            room -= 1;
        }
        let sql = "INSERT INTO trials VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET
            tries = CASE WHEN excluded.settled THEN excluded.tries ELSE max(trials.tries, excluded.tries) END,
            settled = excluded.settled
            WHERE NOT trials.settled";
        let values = params![account, project, kind, trial.id, trial.tries, trial.settled];
        connection.change(sql, values)?;
    }
    Ok(())
}

fn hold(
    connection: &Connection,
    account: &str,
    project: u32,
    source: &str,
) -> Result<(), LedgerError> {
    let sql = "INSERT OR IGNORE INTO trial_projects VALUES (?1, ?2, ?2)";
    connection.change(sql, params![account, project])?;
    let sql = "INSERT OR IGNORE INTO trial_sources (account, project, source) VALUES (?1, ?2, ?3)";
    connection.change(sql, params![account, project, source])?;
    let sql = "SELECT DISTINCT family FROM trial_projects WHERE account = ?1
        AND project IN (SELECT project FROM trial_sources WHERE account = ?1 AND source = ?2) ORDER BY family";
    let families: Vec<i64> = connection.rows(sql, params![account, source], |row| row.get(0))?;
    if let [first, others @ ..] = families.as_slice() {
        let sql = "UPDATE trial_projects SET family = ?3 WHERE account = ?1 AND family = ?2";
        for other in others {
            connection.change(sql, params![account, other, first])?;
        }
    }
    let sql = "DELETE FROM trial_sources WHERE account = ?1 AND project = ?2 AND id <= (SELECT id FROM trial_sources
        WHERE account = ?1 AND project = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)";
    connection.change(sql, params![account, project, MAX_SOURCES])?;
    Ok(())
}

/// Whether something was tried in the family of a project.
fn is_tried(connection: &Connection, account: &str, project: u32) -> Result<bool, LedgerError> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM trials WHERE account = ?1 AND project IN ({FAMILY}))"
    );
    Ok(connection.value(&sql, params![account, project])?)
}

/// Whether another project has held a source.
fn is_shared(
    connection: &Connection,
    account: &str,
    project: u32,
    source: &str,
) -> Result<bool, LedgerError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM trial_sources WHERE account = ?1 AND source = ?3 AND project <> ?2)";
    Ok(connection.value(sql, params![account, project, source])?)
}

fn counts(
    connection: &Connection,
    account: &str,
    project: u32,
) -> Result<TrialCounts, LedgerError> {
    let sql = format!(
        "SELECT coalesce(sum(tries) FILTER (WHERE kind = 'backtest'), 0),
            coalesce(sum(tries) FILTER (WHERE kind = 'optimization'), 0),
            coalesce(sum(tries) FILTER (WHERE project <> ?2), 0)
         FROM trials WHERE account = ?1 AND project IN ({FAMILY})"
    );
    let counted = connection.row(&sql, params![account, project], |row| {
        let number = |at: usize| -> rusqlite::Result<u32> {
            let number: i64 = row.get(at)?;
            Ok(u32::try_from(number).unwrap_or(u32::MAX))
        };
        Ok(TrialCounts {
            backtests: number(0)?,
            combinations: number(1)?,
            inherited: number(2)?,
        })
    })?;
    Ok(counted.unwrap_or_default())
}
