//! The file in which the state is kept from one process to the next: an SQLite database with a row an entry.
//!
//! Invariant: a file that cannot be read is left as it is. One process at a time has a file open. Numbers and
//! ids that were given once are not given again, also after [`reset`]: the counters stay.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::assistance::{Agent, AgentDeployment, AgentTask, DataIssue, Ticket};
use super::backtest::{Backtest, Phase};
use super::compile::CompileJob;
use super::deployment::Deployment;
use super::kept::{Kept, Kind};
use super::node::Node;
use super::object::{Download, Object};
use super::optimization::Optimization;
use super::project::Project;
use super::{Connection as Authorization, Counters, FIRST_PROJECT, State};

/// The version of the layout and of the values in it. In version 1, agents, issues and tickets were missing, and closed
/// trades had one `symbol` and no `isWin`.
const VERSION: i64 = 2;
/// The application id of the file: "qcem".
const APPLICATION_ID: i64 = 0x7163_656d;
/// How long to wait for another process that has the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Seconds from the Unix epoch to the beginning of 2020, from which ids count when no counter can be read.
const YEAR_2020: i64 = 1_577_836_800;

/// Maximum bytes of a row. The largest one has a file of the object store, or the results of a long backtest.
const MAX_ROW: i32 = 256 << 20;
/// Bytes at least that a value is read with.
const MIN_SCRATCH: usize = 4096;

const LAYOUT: &str = "
CREATE TABLE counters (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    count INTEGER NOT NULL,
    next_project INTEGER NOT NULL,
    spent REAL NOT NULL
) STRICT;
CREATE TABLE entry (
    place INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
";

/// Gives every kind its word.
macro_rules! kinds {
    ($($kind:ident => $word:literal,)*) => {
        $(impl Kind for $kind {
            const WORD: &'static str = $word;
        })*
    };
}

kinds! {
    Project => "project",
    CompileJob => "compile",
    Backtest => "backtest",
    Optimization => "optimization",
    Deployment => "deployment",
    Object => "object",
    Download => "download",
    Authorization => "connection",
    Agent => "agent",
    AgentTask => "agent-task",
    AgentDeployment => "agent-deployment",
    DataIssue => "data-issue",
    Ticket => "ticket",
}

/// Why the data of an emulator cannot be used. Nothing in the file was changed.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another process uses it.
    #[error("{path} is in use by another process; end that, or wait for it")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A later version of this program wrote it.
    #[error(
        "{path} has format {found}, which a newer version of this program wrote; this one reads format {known}",
        known = VERSION
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        found: i64,
    },
    /// It is not what an emulator wrote, or not any more.
    #[error("{path} is damaged or is no emulator's data: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system does not let it be read or written.
    #[error("cannot use {path}: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}

impl DataError {
    /// Whether beginning afresh is a remedy.
    #[must_use]
    pub fn is_mended_by_reset(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Damaged { .. })
    }

    fn damaged(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn unusable(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn of(path: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse {
                path: path.to_owned(),
            },
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::damaged(path, error)
            }
            // A value of another type, or a table that is missing.
            None | Some(ErrorCode::Unknown) => Self::damaged(path, error),
            Some(_) => Self::unusable(path, error),
        }
    }
}

/// Why a change was not stored.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    Encode(#[from] ciborium::ser::Error<std::io::Error>),
    #[error("no place is left for an entry")]
    Full,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    connection: Connection,
    /// That of the file, which is brought to this version with the first change.
    version: i64,
    /// As they stand in the file; `None` if they do not.
    counters: Option<Counters>,
    /// The rows of the file.
    places: BTreeSet<i64>,
    /// The highest place that was given.
    last: i64,
    /// Why the latest changes are not in the file.
    problem: Option<String>,
}

impl Disk {
    /// Opens a file, which is made if it is missing, and reads the state of a cloud with these nodes. Blocks,
    /// for a few seconds if another process has the file.
    pub(crate) fn open(path: &Path, nodes: Vec<Node>) -> Result<(Self, State), DataError> {
        let (connection, version) = connect(path)?;
        let failed = |error: rusqlite::Error| DataError::of(path, &error);
        let counters = counters(&connection).map_err(failed)?;
        let mut state = State::new(nodes);
        if let Some(counters) = counters {
            state.count_from(counters);
        }
        let places = read_entries(path, &connection, &mut state)?;
        if version < VERSION {
            renew(&mut state);
        }
        let disk = Self {
            path: path.to_owned(),
            connection,
            version,
            counters,
            last: places.last().copied().unwrap_or(0),
            places,
            problem: None,
        };
        Ok((disk, state))
    }

    /// Whether nothing was ever kept in the file, also no seed.
    pub(crate) fn is_new(&self) -> bool {
        // They are first written in one transaction with the seed. A reset leaves them.
        self.counters.is_none()
    }

    /// Stores what was changed. A failure is kept, and what failed is tried again with the next change.
    pub(crate) fn save(&mut self, state: &State) {
        match self.write(state) {
            Ok(()) => self.problem = None,
            Err(error) => {
                let problem = format!("{}: {error}", self.path.display());
                if self.problem.is_none() {
                    tracing::error!(problem, "the emulator cannot store its data");
                }
                self.problem = Some(problem);
            }
        }
    }

    /// Stores what was changed, or says why it cannot.
    pub(crate) fn store(&mut self, state: &State) -> Result<(), DataError> {
        self.write(state)
            .map_err(|error| DataError::unusable(&self.path, error))
    }

    /// Why the latest changes are not stored.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn write(&mut self, state: &State) -> Result<(), SaveError> {
        let counters = state.counters();
        let mut count: usize = 0;
        let mut changed = self.counters != Some(counters);
        for entry in state.entries() {
            count += 1;
            changed |= entry.is_changed();
        }
        // An entry that is gone is not marked, but missing; a new one is marked.
        if !changed && count == self.places.len() && self.version == VERSION {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        let mut places = BTreeSet::new();
        let mut last = self.last;
        let mut written = Vec::new();
        for entry in state.entries() {
            let place = match entry.place() {
                Some(place) => place,
                None => {
                    last = last.checked_add(1).ok_or(SaveError::Full)?;
                    last
                }
            };
            places.insert(place);
            if entry.is_changed() {
                let sql = "INSERT OR REPLACE INTO entry (place, kind, body) VALUES (?1, ?2, ?3)";
                let body = entry.encode()?;
                transaction
                    .prepare_cached(sql)?
                    .execute(params![place, entry.word(), body])?;
                written.push((entry, place));
            }
        }
        for gone in self.places.difference(&places) {
            let sql = "DELETE FROM entry WHERE place = ?1";
            transaction.prepare_cached(sql)?.execute(params![gone])?;
        }
        put_counters(&transaction, counters)?;
        if self.version != VERSION {
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
        self.version = VERSION;
        for (entry, place) in written {
            entry.stored(place);
        }
        self.counters = Some(counters);
        self.places = places;
        self.last = last;
        Ok(())
    }
}

/// Forgets everything in a file but the counters, and returns a state that goes on counting. A file that cannot
/// be read is replaced; one that another process uses is refused.
pub(crate) fn reset(path: &Path) -> Result<(Disk, State), DataError> {
    match Disk::open(path, Vec::new()) {
        Ok((disk, before)) => {
            let mut state = State::new(Vec::new());
            state.count_from(Counters {
                spent: 0.0,
                ..before.counters()
            });
            Ok((disk, state))
        }
        Err(error) if error.is_mended_by_reset() => {
            let counters = readable_counters(path);
            for name in ["", "-wal", "-shm", "-journal"] {
                let mut file = path.as_os_str().to_owned();
                file.push(name);
                match std::fs::remove_file(PathBuf::from(file)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(DataError::unusable(path, error));
                    }
                    _ => {}
                }
            }
            let (disk, mut state) = Disk::open(path, Vec::new())?;
            state.count_from(counters.unwrap_or_else(counters_by_clock));
            Ok((disk, state))
        }
        Err(error) => Err(error),
    }
}

/// Checks that a file can be opened, if it is there, and returns whether anything was ever kept in it. It is opened to be
/// read only, and another process may open it meanwhile.
pub(crate) fn check(path: &Path) -> Result<bool, DataError> {
    if !path.exists() {
        return Ok(false);
    }
    check_file(path)?;
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let failed = |error: rusqlite::Error| DataError::of(path, &error);
    connection.execute_batch("BEGIN").map_err(failed)?;
    let header = header(&connection).map_err(failed)?;
    header.check(path)?;
    if header.tables == 0 {
        return Ok(false);
    }
    let counters = counters(&connection).map_err(failed)?;
    read_entries(path, &connection, &mut State::new(Vec::new()))?;
    Ok(counters.is_some())
}

/// The counters in a file of another version, or in one that is damaged elsewhere.
fn readable_counters(path: &Path) -> Option<Counters> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
    let found = counters(&connection).ok()??;
    Some(Counters {
        spent: 0.0,
        ..found
    })
}

/// Counters beyond any that were given, when none can be read: as if one number and one project a second had
/// been given since 2020.
fn counters_by_clock() -> Counters {
    let seconds = Timestamp::now().as_second().saturating_sub(YEAR_2020);
    let seconds = u32::try_from(seconds).unwrap_or_default();
    Counters {
        count: u64::from(seconds),
        next_project: FIRST_PROJECT.saturating_add(seconds),
        spent: 0.0,
    }
}

/// Opens the file for this process alone, checks or makes its layout, and says the version of what is in it.
fn connect(path: &Path) -> Result<(Connection, i64), DataError> {
    // SQLite would make a file that everyone can read.
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(DataError::unusable(path, error));
        }
        _ => {}
    }
    check_file(path)?;
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let failed = |error: rusqlite::Error| DataError::of(path, &error);
    // Before the first read: the lock is held from there until the connection is closed.
    connection
        .pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))
        .map_err(failed)?;
    let header = header(&connection).map_err(failed)?;
    header.check(path)?;
    let is_empty = header.tables == 0;
    prepare(&connection, is_empty).map_err(failed)?;
    let version = if is_empty { VERSION } else { header.version };
    Ok((connection, version))
}

/// Refuses what another user could change or have put there: a link, and a file of theirs.
fn check_file(path: &Path) -> Result<(), DataError> {
    let found =
        std::fs::symlink_metadata(path).map_err(|error| DataError::unusable(path, error))?;
    if !found.is_file() {
        return Err(DataError::unusable(path, "it is a link, or no file"));
    }
    let (owner, us) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != us {
        let reason = format!("it belongs to the user {owner}, and this is the user {us}");
        return Err(DataError::unusable(path, reason));
    }
    Ok(())
}

/// Opens a file that is there. Its schema is not trusted, and a row has a bound.
fn open(path: &Path, access: OpenFlags) -> Result<Connection, DataError> {
    let opened = || -> Result<Connection, rusqlite::Error> {
        let connection =
            Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    };
    opened().map_err(|error| DataError::unusable(path, error))
}

/// What a file says that it is.
struct Header {
    application: i64,
    version: i64,
    tables: i64,
}

impl Header {
    /// Refuses what is neither of this version, nor of an earlier one, nor empty.
    fn check(&self, path: &Path) -> Result<(), DataError> {
        match (self.application, self.version, self.tables) {
            (APPLICATION_ID, 1..=VERSION, _) | (0, 0, 0) => Ok(()),
            (APPLICATION_ID, found, _) if found > VERSION => Err(DataError::Newer {
                path: path.to_owned(),
                found,
            }),
            _ => Err(DataError::damaged(path, "another program wrote it")),
        }
    }
}

fn header(connection: &Connection) -> Result<Header, rusqlite::Error> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(Header {
        application: number("application_id")?,
        version: number("user_version")?,
        tables: connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
    })
}

/// Makes the layout, if the file is empty, and takes the lock.
fn prepare(connection: &Connection, is_empty: bool) -> Result<(), rusqlite::Error> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // A commit survives the end of the process in any way, and a power loss once the system wrote it.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Takes the lock, also if the journal had this mode.
    connection.execute_batch("BEGIN EXCLUSIVE")?;
    if is_empty {
        connection.execute_batch(LAYOUT)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.pragma_update(None, "user_version", VERSION)?;
    }
    connection.execute_batch("COMMIT")
}

fn counters(connection: &Connection) -> Result<Option<Counters>, rusqlite::Error> {
    let sql = "SELECT count, next_project, spent FROM counters";
    let row = connection.query_row(sql, [], |row| {
        let count: i64 = row.get(0)?;
        Ok(Counters {
            count: u64::try_from(count).unwrap_or_default(),
            next_project: row.get(1)?,
            spent: row.get(2)?,
        })
    });
    row.optional()
}

fn put_counters(connection: &Connection, counters: Counters) -> Result<(), rusqlite::Error> {
    let sql =
        "INSERT OR REPLACE INTO counters (one, count, next_project, spent) VALUES (1, ?1, ?2, ?3)";
    let count = i64::try_from(counters.count).unwrap_or(i64::MAX);
    connection.prepare_cached(sql)?.execute(params![
        count,
        counters.next_project,
        counters.spent
    ])?;
    Ok(())
}

/// Reads the entries of a file into a state, and returns their places.
fn read_entries(
    path: &Path,
    connection: &Connection,
    state: &mut State,
) -> Result<BTreeSet<i64>, DataError> {
    let failed = |error: rusqlite::Error| DataError::of(path, &error);
    let mut places = BTreeSet::new();
    let sql = "SELECT place, kind, body FROM entry ORDER BY place";
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let place: i64 = row.get(0).map_err(failed)?;
        let kind: String = row.get(1).map_err(failed)?;
        let body: Vec<u8> = row.get(2).map_err(failed)?;
        add(state, place, &kind, &body).map_err(|reason| DataError::damaged(path, reason))?;
        places.insert(place);
    }
    Ok(places)
}

/// Adds a stored entry to the state. Rows come in the order of their places.
fn add(state: &mut State, place: i64, kind: &str, body: &[u8]) -> Result<(), String> {
    match kind {
        Project::WORD => {
            let project: Kept<Project> = decode(place, body)?;
            state.projects.insert(project.id, project);
        }
        CompileJob::WORD => state.compiles.push_back(decode(place, body)?),
        Backtest::WORD => state.backtests.push(decode(place, body)?),
        Optimization::WORD => state.optimizations.push(decode(place, body)?),
        Deployment::WORD => state.deployments.push(decode(place, body)?),
        Object::WORD => {
            let object: Kept<Object> = decode(place, body)?;
            state.objects.objects.insert(object.key.clone(), object);
        }
        Download::WORD => state.objects.downloads.push_back(decode(place, body)?),
        Authorization::WORD => {
            let found: Kept<Authorization> = decode(place, body)?;
            state.connections.insert(found.brokerage.clone(), found);
        }
        Agent::WORD => {
            let agent: Kept<Agent> = decode(place, body)?;
            state.agents.agents.insert(agent.id, agent);
        }
        AgentTask::WORD => {
            let task: Kept<AgentTask> = decode(place, body)?;
            state.agents.tasks.insert(task.id, task);
        }
        AgentDeployment::WORD => {
            let found: Kept<AgentDeployment> = decode(place, body)?;
            state.agents.deployments.insert(found.id.clone(), found);
        }
        DataIssue::WORD => state.issues.push(decode(place, body)?),
        Ticket::WORD => state.tickets.push(decode(place, body)?),
        _ => return Err(format!("row {place} is of no known kind")),
    }
    Ok(())
}

/// Brings what an earlier version wrote to this one, marked as changed.
fn renew(state: &mut State) {
    let backtests = state.backtests.iter_mut().map(Kept::value_mut);
    let finished = backtests.filter_map(|backtest| match &mut backtest.phase {
        Phase::Finished(outcome) => Result::as_mut(outcome).ok(),
        _ => None,
    });
    let deployments = state.deployments.iter_mut().map(Kept::value_mut);
    let running = deployments.filter_map(|deployment| deployment.running.as_mut());
    for report in finished.chain(running.map(|run| &mut run.report)) {
        let trades = report.total_performance.get_mut("closedTrades");
        let trades = trades.and_then(Value::as_array_mut).into_iter().flatten();
        for trade in trades.filter_map(Value::as_object_mut) {
            let symbol = trade.remove("symbol").filter(|symbol| !symbol.is_null());
            let symbols: Vec<Value> = symbol.into_iter().collect();
            let gain = trade.get("profitLoss").and_then(Value::as_f64);
            trade.insert("symbols".to_owned(), symbols.into());
            trade.insert(
                "isWin".to_owned(),
                gain.is_some_and(|gain| gain > 0.0).into(),
            );
        }
    }
}

fn decode<T: DeserializeOwned>(place: i64, body: &[u8]) -> Result<Kept<T>, String> {
    // For the longest name of a member, which has no bound of its own.
    let mut scratch = vec![0; body.len().max(MIN_SCRATCH)];
    let value: T = ciborium::from_reader_with_buffer(body, &mut scratch)
        .map_err(|error| format!("row {place} cannot be read: {error}"))?;
    Ok(Kept::read(value, place))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Instant;

    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;
    use crate::engine::{Chart, Day, Job, Language, Report, RuntimeError, Sample, Series};
    use crate::store::node::fleet;

    fn report(numbers: &[f64], text: &str, whole: i64) -> Report {
        let samples = numbers.iter().map(|value| Sample {
            time: whole,
            value: *value,
        });
        let series = Series {
            name: text.to_owned(),
            unit: "$".to_owned(),
            kind: 0,
            samples: samples.collect(),
        };
        let days = numbers.iter().map(|number| Day {
            time: whole,
            equity: *number,
            cash: -number,
            holdings: Vec::new(),
            orders: 1,
            insights: 2,
            logs: 3,
        });
        Report {
            start: whole,
            end: whole,
            tradeable_dates: 7,
            parameters: BTreeMap::from([("fast".to_owned(), text.to_owned())]),
            statistics: json!({"Sharpe Ratio": text, "second": [1, null], ("long".repeat(2_000)): true}),
            runtime_statistics: Value::Null,
            total_performance: json!({"of": numbers, "whole": whole, "first": true}),
            orders: vec![json!({"quantity": numbers})],
            insights: Vec::new(),
            charts: vec![Chart {
                name: text.to_owned(),
                series: vec![series],
            }],
            logs: vec![text.to_owned()],
            days: days.collect(),
        }
    }

    fn backtest(id: String, phase: Phase) -> Backtest {
        Backtest {
            id,
            project_id: 1,
            name: "one".to_owned(),
            note: None,
            tags: vec!["tag".to_owned()],
            created: Timestamp::from_second(1_700_000_000).unwrap(),
            snapshot: 3,
            optimization: None,
            parameters: serde_json::Map::new(),
            detected_parameters: 0,
            job: Arc::new(Job {
                language: Language::Python,
                files: Vec::new(),
                parameters: BTreeMap::new(),
            }),
            phase,
        }
    }

    /// One of each thing that people write down.
    fn write_down(state: &mut State, text: &str) {
        let noted: Map<String, Value> =
            Map::from_iter([(text.to_owned(), json!({"text": text, "none": null}))]);
        let agent = Agent {
            id: state.next_number(),
            settings: noted.clone(),
        };
        let task = AgentTask {
            id: state.next_number(),
            agent: agent.id,
            name: text.to_owned(),
            prompt: text.to_owned(),
            preference: String::new(),
        };
        let deployment = AgentDeployment {
            id: state.next_id(),
            task: task.id,
            stopped: true,
            prompts: vec![text.to_owned(); 2],
        };
        let issue = DataIssue {
            id: state.next_number(),
            fields: noted.clone(),
        };
        let ticket = Ticket {
            hash: state.next_id(),
            subject: text.to_owned(),
            closed: true,
            messages: vec![text.to_owned()],
            attached: noted,
        };
        state.agents.agents.insert(agent.id, agent.into());
        state.agents.tasks.insert(task.id, task.into());
        let id = deployment.id.clone();
        state.agents.deployments.insert(id, deployment.into());
        state.issues.push(issue.into());
        state.tickets.push(ticket.into());
    }

    /// What the state contains, without its places. Finished entries only: instants are read again by the clock.
    fn contents(state: &State) -> Vec<(&'static str, Vec<u8>)> {
        let entries = state.entries();
        entries
            .map(|entry| (entry.word(), entry.encode().unwrap()))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn what_is_stored_is_what_is_read(
            texts in prop::collection::vec(".{0,40}", 1..4),
            numbers in prop::collection::vec(any::<f64>().prop_filter("JSON has no others", |it| it.is_finite()), 0..6),
            bytes in prop::collection::vec(any::<u8>(), 0..6_000),
            whole in any::<i64>(),
            fails in any::<bool>(),
            removed in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("cloud.db");
            let (mut disk, mut state) = Disk::open(&path, fleet(2, 1)).unwrap();
            prop_assert!(disk.is_new());
            let at = Timestamp::from_microsecond(whole % (1 << 50)).unwrap();
            for (number, text) in texts.iter().enumerate() {
                let id = state.next_project_id();
                let mut project = Project::new(id, text.clone(), Language::CSharp);
                project.put("main.py", &text.repeat(300), state.next_number());
                project.parameters.push((text.clone(), "1".to_owned()));
                state.projects.insert(id, project.into());
                let outcome = match fails {
                    true => Err(RuntimeError {
                        message: text.clone(),
                        stacktrace: String::new(),
                        in_initialize: true,
                    }),
                    false => Ok(report(&numbers, text, whole)),
                };
                let id = state.next_id();
                state.backtests.push(backtest(id, Phase::Finished(Box::new(outcome))).into());
                let object = Object {
                    key: format!("{number}"),
                    bytes: Bytes::from(bytes.clone()),
                    created: at,
                    modified: at,
                };
                state.objects.objects.insert(object.key.clone(), object.into());
                write_down(&mut state, text);
            }
            state.spent = 0.1 + 0.2;
            disk.save(&state);
            prop_assert_eq!(disk.problem(), None);
            if removed {
                state.backtests.remove(0);
                state.tickets.remove(0);
                let changed = state.projects.values_mut().next_back().unwrap();
                changed.description = "changed".to_owned();
                disk.save(&state);
            }
            drop(disk);
            let (disk, read) = Disk::open(&path, fleet(2, 1)).unwrap();
            prop_assert!(!disk.is_new());
            prop_assert_eq!(contents(&read), contents(&state));
            prop_assert_eq!(read.counters(), state.counters());
        }
    }

    #[test]
    fn a_file_of_version_1_is_read_and_brought_to_this_version_with_the_first_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        let (mut disk, mut state) = Disk::open(&path, Vec::new()).unwrap();
        let mut old = report(&[], "text", 0);
        let symbol = json!({"value": "SPY"});
        old.total_performance = json!({"closedTrades": [{"symbol": symbol, "profitLoss": 2.5}]});
        let phase = Phase::Finished(Box::new(Ok(old)));
        state
            .backtests
            .push(backtest("old".to_owned(), phase).into());
        disk.save(&state);
        let version = |disk: &Disk| -> i64 {
            disk.connection
                .pragma_query_value(None, "user_version", |row| row.get(0))
                .unwrap()
        };
        disk.connection
            .pragma_update(None, "user_version", 1)
            .unwrap();
        drop(disk);
        let trades = json!([{"symbols": [symbol], "profitLoss": 2.5, "isWin": true}]);
        for _ in 0..2 {
            let (disk, state) = Disk::open(&path, Vec::new()).unwrap();
            let read = state.backtests.first().and_then(|it| it.report()).unwrap();
            assert_eq!(read.total_performance["closedTrades"], trades);
            // To read a file changes nothing in it.
            assert_eq!(version(&disk), 1);
        }
        let (mut disk, state) = Disk::open(&path, Vec::new()).unwrap();
        disk.save(&state);
        assert_eq!(disk.problem(), None);
        assert_eq!(version(&disk), VERSION);
        drop(disk);
        let (_, state) = Disk::open(&path, Vec::new()).unwrap();
        let read = state.backtests.first().and_then(|it| it.report()).unwrap();
        assert_eq!(read.total_performance["closedTrades"], trades);
        assert!(state.entries().all(|entry| !entry.is_changed()));
    }

    #[test]
    fn only_what_was_changed_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut disk, mut state) = Disk::open(&folder.path().join("it.db"), Vec::new()).unwrap();
        for id in 1..=3 {
            let project = Project::new(id, format!("project {id}"), Language::Python);
            state.projects.insert(id, project.into());
        }
        disk.save(&state);
        assert!(state.entries().all(|entry| !entry.is_changed()));
        assert_eq!(state.projects.get(&2).unwrap().name, "project 2");
        assert!(state.entries().all(|entry| !entry.is_changed()));
        state.projects.get_mut(&2).unwrap().name = "other".to_owned();
        assert_eq!(
            state.entries().filter(|entry| entry.is_changed()).count(),
            1
        );
        disk.save(&state);
        assert!(state.entries().all(|entry| !entry.is_changed()));
    }

    #[test]
    fn a_file_is_private_and_for_one_process_at_a_time() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        let (disk, _) = Disk::open(&path, Vec::new()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let began = Instant::now();
        let second = Disk::open(&path, Vec::new());
        assert!(
            matches!(second, Err(DataError::InUse { .. })),
            "{:?}",
            second.err()
        );
        assert!(began.elapsed() >= Duration::from_secs(1));
        drop(disk);
        Disk::open(&path, Vec::new()).unwrap();
    }

    #[test]
    fn a_check_leaves_a_file_as_it_is_and_says_whether_anything_is_kept_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        assert!(!check(&path).unwrap());
        assert!(!path.exists());
        // As it is left by a process that ends before it keeps anything.
        std::fs::write(&path, "").unwrap();
        assert!(!check(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        let (mut disk, state) = Disk::open(&path, Vec::new()).unwrap();
        assert!(matches!(check(&path), Err(DataError::InUse { .. })));
        drop(disk);
        assert!(!check(&path).unwrap());
        (disk, _) = Disk::open(&path, Vec::new()).unwrap();
        disk.store(&state).unwrap();
        drop(disk);
        let before = std::fs::read(&path).unwrap();
        assert!(check(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_link_and_a_file_without_a_free_place_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        let (mut disk, mut state) = Disk::open(&path, Vec::new()).unwrap();
        disk.store(&state).unwrap();
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for refused in [
            Disk::open(&link, Vec::new()).map(|_| ()),
            check(&link).map(|_| ()),
        ] {
            let error = refused.unwrap_err();
            assert!(matches!(error, DataError::Unusable { .. }), "{error}");
        }

        disk.last = i64::MAX;
        let project = Project::new(1, "one".to_owned(), Language::Python);
        state.projects.insert(1, project.into());
        disk.save(&state);
        assert!(disk.problem().unwrap().contains("no place"));
        disk.last = 0;
        disk.save(&state);
        assert_eq!(disk.problem(), None);
        // What is in a file is never an instruction, and a row has a bound.
        let trusted: i64 = disk
            .connection
            .pragma_query_value(None, "trusted_schema", |row| row.get(0))
            .unwrap();
        assert_eq!(trusted, 0);
        let sql = format!("SELECT length(zeroblob({}))", i64::from(MAX_ROW) + 1);
        let length = disk
            .connection
            .query_row(&sql, [], |row| row.get::<_, i64>(0));
        assert_eq!(
            length.unwrap_err().sqlite_error_code(),
            Some(ErrorCode::TooBig)
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_stays_until_it_is_reset_and_no_id_is_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        std::fs::write(
            &path,
            "no database, and longer than the header of one ".repeat(200),
        )
        .unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = Disk::open(&path, Vec::new()).unwrap_err();
        assert!(matches!(error, DataError::Damaged { .. }), "{error}");
        assert!(error.is_mended_by_reset());
        assert_eq!(std::fs::read(&path).unwrap(), before);

        let (mut disk, state) = reset(&path).unwrap();
        let first = state.counters();
        assert!(first.next_project > FIRST_PROJECT + 100_000_000);
        disk.save(&state);
        // What is known is counted on from.
        disk.connection
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        drop(disk);
        let error = Disk::open(&path, Vec::new()).unwrap_err();
        assert!(
            matches!(error, DataError::Newer { found: 3, .. }),
            "{error}"
        );
        let (_, state) = reset(&path).unwrap();
        assert_eq!(state.counters(), first);
    }
}
