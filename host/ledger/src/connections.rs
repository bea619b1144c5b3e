//! The threads that own the database's connections: one writer, and several readers, so that a slow read does not block
//! others.
//!
//! Invariant: a write is answered only after the COMMIT with its changes, and a refused request has changed nothing,
//! even if it shared its transaction with others. While one COMMIT waits for the disk, requests are collected for the
//! next one, which gives the throughput.

use parking_lot::Mutex;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use rusqlite::{Connection, Params, Row, params};
use tokio::sync::oneshot;

use crate::error::LedgerError;
use crate::file;
use crate::statements::Statements as _;

/// Maximum requests in one transaction.
const MAX_BATCH: usize = 512;
/// Number of reader threads.
const READERS: usize = 4;

/// Provides the audit's head, which is stored with each transaction.
pub type Head = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// All threads. Clones share them; dropping the last one ends them and closes the file.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Inner>);

struct Inner {
    /// `None` only while being dropped.
    queues: Option<Queues>,
    threads: Vec<JoinHandle<()>>,
    head: Arc<Mutex<Option<Head>>>,
}

struct Queues {
    writer: Sender<Box<dyn Job>>,
    reader: Sender<Box<dyn Job>>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl Connections {
    /// Opens the file. Blocks on the disk.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        let writer = file::open(path)?;
        let readers: Result<_, _> = (0..READERS).map(|_| file::reader(path)).collect();
        Self::start(writer, readers?)
    }

    /// An in-memory database has one connection, which reads too.
    pub(crate) fn in_memory() -> Result<Self, LedgerError> {
        Self::start(file::in_memory()?, Vec::new())
    }

    fn start(writer: Connection, readers: Vec<Connection>) -> Result<Self, LedgerError> {
        let head = Arc::new(Mutex::new(None));
        let (write, requests) = mpsc::channel();
        let stored_with = Arc::clone(&head);
        let mut threads = vec![spawn("ledger-writer", move || {
            write_all(&writer, &requests, &stored_with);
        })?];
        let read = if readers.is_empty() {
            write.clone()
        } else {
            let (read, requests) = mpsc::channel();
            let requests = Arc::new(Mutex::new(requests));
            for reader in readers {
                let requests = Arc::clone(&requests);
                threads.push(spawn("ledger-reader", move || {
                    read_all(&reader, &requests)
                })?);
            }
            read
        };
        Ok(Self(Arc::new(Inner {
            queues: Some(Queues {
                writer: write,
                reader: read,
            }),
            threads,
            head,
        })))
    }

    pub(crate) fn set_head(&self, head: Head) {
        *self.0.head.lock() = Some(head);
    }

    /// Runs `work` in the next transaction and answers after its COMMIT. An error undoes what `work` did. Once sent, it
    /// is carried out even if the future is dropped.
    pub(crate) async fn write<T: Send + 'static, E: WorkError>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.run(|queues| &queues.writer, work).await
    }

    /// Runs `work` on the committed state.
    pub(crate) async fn read<T: Send + 'static, E: WorkError>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.run(|queues| &queues.reader, work).await
    }

    /// As [`write`](Self::write), on a thread that may block.
    pub(crate) fn write_blocking<T: Send + 'static, E: WorkError>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.run_blocking(|queues| &queues.writer, work)
    }

    /// As [`read`](Self::read), on a thread that may block.
    pub(crate) fn read_blocking<T: Send + 'static, E: WorkError>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.run_blocking(|queues| &queues.reader, work)
    }

    /// Writes by a single statement; returns the number of changed rows.
    pub(crate) async fn change(
        &self,
        sql: &'static str,
        values: impl Params + Send + 'static,
    ) -> Result<usize, LedgerError> {
        self.write(move |it| Ok(it.change(sql, values)?)).await
    }

    /// Reads the first row of a query, if there is any.
    pub(crate) async fn row<T: Send + 'static>(
        &self,
        sql: &'static str,
        values: impl Params + Send + 'static,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Option<T>, LedgerError> {
        self.read(move |it| Ok(it.row(sql, values, read)?)).await
    }

    /// Reads all rows of a query.
    pub(crate) async fn rows<T, C: FromIterator<T> + Send + 'static>(
        &self,
        sql: &'static str,
        values: impl Params + Send + 'static,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<C, LedgerError> {
        self.read(move |it| Ok(it.rows(sql, values, read)?)).await
    }

    async fn run<T: Send + 'static, E: WorkError>(
        &self,
        queue: impl FnOnce(&Queues) -> &Sender<Box<dyn Job>>,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.send(queue, work, move |result| {
            // The caller has gone, but the work is done.
            reply.send(result).ok();
        });
        answer
            .await
            .unwrap_or_else(|_| Err(LedgerError::Closed.into()))
    }

    fn run_blocking<T: Send + 'static, E: WorkError>(
        &self,
        queue: impl FnOnce(&Queues) -> &Sender<Box<dyn Job>>,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.send(queue, work, move |result| {
            reply.send(result).ok();
        });
        answer
            .recv()
            .unwrap_or_else(|_| Err(LedgerError::Closed.into()))
    }

    /// A request that cannot be sent drops its reply channel, which the receiver sees as `Closed`.
    fn send<T: Send + 'static, E: WorkError>(
        &self,
        queue: impl FnOnce(&Queues) -> &Sender<Box<dyn Job>>,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        reply: impl FnOnce(Result<T, E>) + Send + 'static,
    ) {
        if let Some(queues) = &self.0.queues {
            let request = Request {
                work: Some(work),
                result: None,
                reply,
            };
            queue(queues).send(Box::new(request)).ok();
        }
    }
}

/// What work on a connection may fail with.
pub(crate) trait WorkError: From<LedgerError> + fmt::Display + Send + 'static {}

impl<E: From<LedgerError> + fmt::Display + Send + 'static> WorkError for E {}

impl Drop for Inner {
    fn drop(&mut self) {
        // The threads end once their queues are closed and empty.
        self.queues = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the database panicked");
            }
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LedgerError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| LedgerError::Thread(error.to_string()))
}

/// A request of any type.
trait Job: Send {
    /// Does the work; returns an error text if it has to be undone.
    fn run(&mut self, connection: &Connection) -> Result<(), String>;
    /// Answers the request, given the result of the transaction.
    fn answer(self: Box<Self>, transaction: Result<(), LedgerError>);
}

struct Request<W, T, E, R> {
    work: Option<W>,
    result: Option<Result<T, E>>,
    reply: R,
}

impl<W, T, E, R> Job for Request<W, T, E, R>
where
    W: FnOnce(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: WorkError,
    R: FnOnce(Result<T, E>) + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), String> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        let result = work(connection);
        let outcome = result.as_ref().map(drop).map_err(ToString::to_string);
        self.result = Some(result);
        outcome
    }

    fn answer(self: Box<Self>, transaction: Result<(), LedgerError>) {
        let Self { result, reply, .. } = *self;
        // A refusal may be based on changes of another request in a failed transaction, so it is void too.
        reply(match transaction {
            Ok(()) => result.unwrap_or_else(|| Err(LedgerError::Closed.into())),
            Err(error) => Err(error.into()),
        });
    }
}

fn write_all(
    connection: &Connection,
    requests: &Receiver<Box<dyn Job>>,
    head: &Mutex<Option<Head>>,
) {
    let mut stored_head = None;
    while let Ok(first) = requests.recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(next) = requests.try_recv()
        {
            batch.push(next);
        }
        let outcome = transact(connection, &mut batch, head, &mut stored_head);
        if let Err(error) = &outcome {
            tracing::error!(requests = batch.len(), %error, "a transaction of the database failed");
        }
        for job in batch {
            job.answer(outcome.clone());
        }
    }
}

fn read_all(connection: &Connection, requests: &Mutex<Receiver<Box<dyn Job>>>) {
    // The lock is held while a reader waits for a request, and released before it reads.
    let next = || requests.lock().recv();
    while let Ok(mut job) = next() {
        // A single transaction, so that all reads of a request see the same instant.
        let outcome = execute(connection, "BEGIN").and_then(|()| {
            job.run(connection).ok();
            execute(connection, "COMMIT")
        });
        if outcome.is_err() && !connection.is_autocommit() {
            execute(connection, "ROLLBACK").ok();
        }
        job.answer(outcome);
    }
}

/// Runs the whole batch in one transaction. After an error nothing of it is kept.
fn transact(
    connection: &Connection,
    batch: &mut [Box<dyn Job>],
    head: &Mutex<Option<Head>>,
    stored_head: &mut Option<String>,
) -> Result<(), LedgerError> {
    execute(connection, "BEGIN IMMEDIATE")?;
    let outcome = run_all(connection, batch, head, stored_head)
        .and_then(|new_head| execute(connection, "COMMIT").map(|()| new_head));
    match outcome {
        Ok(new_head) => {
            *stored_head = new_head.or_else(|| stored_head.take());
            Ok(())
        }
        Err(error) => {
            // After some errors SQLite has rolled back already.
            if !connection.is_autocommit() {
                execute(connection, "ROLLBACK")?;
            }
            Err(error)
        }
    }
}

/// Returns the head that was stored, if there was a new one.
fn run_all(
    connection: &Connection,
    batch: &mut [Box<dyn Job>],
    head: &Mutex<Option<Head>>,
    stored_head: &Option<String>,
) -> Result<Option<String>, LedgerError> {
    let changes = connection.total_changes();
    for job in batch {
        execute(connection, "SAVEPOINT request")?;
        let outcome = job.run(connection);
        if connection.is_autocommit() {
            let why = outcome
                .err()
                .unwrap_or_else(|| "without a reason".to_owned());
            return Err(LedgerError::RolledBack(why));
        }
        if outcome.is_err() {
            execute(connection, "ROLLBACK TO request")?;
        }
        execute(connection, "RELEASE request")?;
    }
    if connection.total_changes() == changes {
        return Ok(None);
    }
    let head = head.lock().clone();
    let new_head = head
        .and_then(|head| head())
        .filter(|head| Some(head) != stored_head.as_ref());
    if let Some(head) = &new_head {
        let sql = "INSERT OR REPLACE INTO meta VALUES ('audit-head', ?1)";
        connection.change(sql, params![head])?;
    }
    Ok(new_head)
}

/// A transaction without changes that nevertheless counts as a write, so that the head is stored with it.
pub(crate) fn touch(connection: &Connection) -> Result<(), LedgerError> {
    let sql = "INSERT INTO meta (name, value) VALUES ('touched', '') ON CONFLICT DO UPDATE SET value = ''";
    connection.change(sql, [])?;
    Ok(())
}

/// The id of the data folder that the file belongs to; an unbound file is bound to this one.
pub(crate) fn bind(connection: &Connection, folder: &str) -> Result<String, LedgerError> {
    let sql = "INSERT INTO meta (name, value) VALUES ('data-folder', ?1) ON CONFLICT DO NOTHING";
    connection.change(sql, [folder])?;
    Ok(connection.value("SELECT value FROM meta WHERE name = 'data-folder'", [])?)
}

pub(crate) fn audit_head(connection: &Connection) -> Result<Option<String>, LedgerError> {
    Ok(connection.row(
        "SELECT value FROM meta WHERE name = 'audit-head'",
        [],
        |row| row.get(0),
    )?)
}

fn execute(connection: &Connection, statement: &str) -> Result<(), LedgerError> {
    connection.change(statement, [])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(connection: &Connection, name: &str) -> Result<(), LedgerError> {
        connection.execute("INSERT INTO meta VALUES (?1, '')", [name])?;
        Ok(())
    }

    async fn notes(connections: &Connections) -> Vec<String> {
        connections
            .read(|it| {
                let mut query = it.prepare("SELECT name FROM meta ORDER BY name")?;
                let rows = query.query_map([], |row| row.get(0))?;
                Ok::<_, LedgerError>(rows.collect::<Result<_, _>>()?)
            })
            .await
            .unwrap()
    }

    type Work = fn(&Connection) -> Result<(), LedgerError>;

    /// Runs all of them in one transaction: they are collected while the one before them is blocked.
    fn together(connections: &Connections, works: &[Work]) -> Vec<Result<(), LedgerError>> {
        let (begun, has_begun) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let before = move |_: &Connection| {
            begun.send(()).unwrap();
            wait.recv().unwrap();
            Ok::<_, LedgerError>(())
        };
        connections.send(|queues| &queues.writer, before, drop);
        has_begun.recv().unwrap();
        let (reply, answers) = mpsc::channel();
        for work in works {
            let reply = reply.clone();
            connections.send(
                |queues| &queues.writer,
                *work,
                move |answer| reply.send(answer).unwrap(),
            );
        }
        drop(reply);
        go.send(()).unwrap();
        answers.iter().collect()
    }

    #[tokio::test]
    async fn a_refused_request_undoes_itself_and_no_other() {
        let connections = Connections::in_memory().unwrap();
        let refused: Work = |it| {
            note(it, "b")?;
            Err(LedgerError::Closed)
        };
        let works: [Work; 3] = [|it| note(it, "a"), refused, |it| note(it, "c")];
        let answers = together(&connections, &works);
        assert!(
            answers[0].is_ok() && answers[1].is_err() && answers[2].is_ok(),
            "{answers:?}"
        );
        assert_eq!(notes(&connections).await, ["a", "c"]);
    }

    /// As SQLite does when the disk fails.
    #[tokio::test]
    async fn a_transaction_that_is_rolled_back_is_acknowledged_to_no_caller() {
        let connections = Connections::in_memory().unwrap();
        let rolled_back: Work = |it| {
            it.execute_batch("ROLLBACK")?;
            Err(LedgerError::Full)
        };
        let works: [Work; 3] = [|it| note(it, "a"), rolled_back, |it| note(it, "c")];
        for answer in together(&connections, &works) {
            let error = answer.unwrap_err().to_string();
            assert!(
                error.contains("gave up a transaction") && error.contains("is full"),
                "{error}"
            );
        }
        assert_eq!(notes(&connections).await, Vec::<String>::new());
        connections.write(|it| note(it, "later")).await.unwrap();
        assert_eq!(notes(&connections).await, ["later"]);
    }

    /// A slow read does not delay those of another plugin.
    #[tokio::test]
    async fn reads_do_not_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let connections = Connections::open(&folder.path().join("state.db")).unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let long = move |_: &Connection| {
            begun.send(()).unwrap();
            wait.recv().unwrap();
            Ok::<_, LedgerError>(())
        };
        connections.send(|queues| &queues.reader, long, drop);
        has_begun.recv().unwrap();
        for _ in 0..100 {
            assert_eq!(notes(&connections).await, Vec::<String>::new());
        }
        go.send(()).unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_refuses_what_does_not_fit_and_the_rest_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let connections = Connections::open(&folder.path().join("state.db")).unwrap();
        let cap: Work = |it| {
            let pages: i64 = it.pragma_query_value(None, "page_count", |row| row.get(0))?;
            it.pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(()))?;
            Ok(())
        };
        connections.write(cap).await.unwrap();
        let large: Work = |it| note(it, &"x".repeat(1 << 20));
        let error = connections.write(large).await.unwrap_err().to_string();
        assert!(
            error.contains("disk") && error.contains("is full"),
            "{error}"
        );
        connections.write(|it| note(it, "small")).await.unwrap();
        assert_eq!(notes(&connections).await, ["small"]);
    }
}
