//! Helpers of the integration tests.

#![allow(dead_code)]

pub mod person;
pub mod pipes;
pub mod web;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_catalog::{
    BoxFuture, Call, Clearance, Failure, Outcome, Sends, Target, Upstream as _, always, by_tool,
};
use qchost_upstream::{
    Account, AccountOptions, Accounts, Backoff, Connector, Identity, IdentityChange,
    IdentityMemory, StdioConnector, Supervisor,
};
use secrecy::SecretString;
use serde_json::{Map, Value};

pub const ACCOUNT: &str = "research";

/// Whose accounts are, by connection, in place of the host's ledger.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<String, Identity>>, Mutex<Vec<IdentityChange>>);

impl Memory {
    /// With this of one connection.
    pub fn of(connection: &str, identity: Value) -> Arc<Self> {
        let memory = Arc::new(Self::default());
        memory.put(connection, identity);
        memory
    }

    pub fn put(&self, connection: &str, identity: Value) {
        let identity = serde_json::from_value(identity).unwrap();
        self.0.lock().insert(connection.to_owned(), identity);
    }

    /// What replaced something that it does not match.
    pub fn changes(&self) -> Vec<IdentityChange> {
        self.1.lock().clone()
    }

    pub fn forget(&self, connection: &str) {
        self.0.lock().remove(connection);
    }

    pub fn get(&self, connection: &str) -> Option<Value> {
        let found = self.recall(connection)?;
        Some(serde_json::to_value(found).unwrap())
    }
}

impl IdentityMemory for Memory {
    fn recall(&self, connection: &str) -> Option<Identity> {
        self.0.lock().get(connection).cloned()
    }

    fn replaced(&self, _: &str, change: IdentityChange) {
        self.1.lock().push(change);
    }

    fn remember<'a>(&'a self, connection: &'a str, identity: Identity) -> BoxFuture<'a, ()> {
        self.0.lock().insert(connection.to_owned(), identity);
        Box::pin(std::future::ready(()))
    }
}

/// Short and predictable waits.
pub fn options() -> AccountOptions {
    AccountOptions {
        connections: 1,
        connect_timeout: Duration::from_secs(20),
        backoff: Backoff {
            initial: Duration::from_millis(50),
            max: Duration::from_millis(400),
            jitter: 0.0,
        },
        ..AccountOptions::default()
    }
}

pub fn accounts(connector: impl Connector + 'static, options: AccountOptions) -> Accounts {
    Accounts::new([Account::new(ACCOUNT, Arc::new(connector), options)]).unwrap()
}

/// Calls a tool with these arguments and a time limit in milliseconds.
pub async fn call(accounts: &Accounts, tool: &str, arguments: Value, millis: u64) -> Outcome {
    call_if(accounts, tool, arguments, millis, always()).await
}

/// Calls a tool if its clearance permits.
pub async fn call_if(
    accounts: &Accounts,
    tool: &str,
    arguments: Value,
    millis: u64,
    clearance: &dyn Clearance,
) -> Outcome {
    let target = by_tool(tool).map_or(Target::Unknown(tool), Target::Known);
    let arguments: Map<String, Value> = serde_json::from_value(arguments).unwrap();
    accounts
        .call(Call {
            account: ACCOUNT,
            target,
            arguments,
            deadline: Instant::now() + Duration::from_millis(millis),
            clearance,
            sends: None,
        })
        .await
}

/// Reads, and takes a kept answer too: `sends` tells.
pub async fn read(accounts: &Accounts, tool: &str, arguments: Value, sends: &Sends) -> Outcome {
    accounts
        .call(Call {
            account: ACCOUNT,
            target: Target::Known(by_tool(tool).unwrap()),
            arguments: serde_json::from_value(arguments).unwrap(),
            deadline: Instant::now() + Duration::from_secs(20),
            clearance: always(),
            sends: Some(sends),
        })
        .await
}

/// A clearance that is decided when a call is sent, and never announced.
pub struct AtSending<F>(pub F);

impl<F: Fn() -> Result<(), Failure> + Send + Sync> Clearance for AtSending<F> {
    fn clear(&self) -> Result<(), Failure> {
        self.0()
    }

    fn withdrawn(&self) -> BoxFuture<'_, Failure> {
        Box::pin(std::future::pending())
    }
}

/// The scripted server's log.
pub struct Log {
    _directory: tempfile::TempDir,
    pub path: PathBuf,
}

impl Log {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        Self {
            _directory: directory,
            path,
        }
    }

    pub fn events(&self, kind: &str) -> Vec<Value> {
        let log = std::fs::read_to_string(&self.path).unwrap_or_default();
        log.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["event"] == kind)
            .collect()
    }

    /// Waits, with a time limit, until there are this many events of a kind.
    pub async fn wait_for(&self, kind: &str, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} times `{kind}`"), || {
            self.events(kind).len() >= count
        })
        .await;
        self.events(kind)
    }
}

pub async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The scripted server as a program. `cargo test` builds it with the tests.
pub fn server() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.parent().and_then(Path::parent).unwrap();
    let server = directory.join("examples").join("scripted_server");
    assert!(
        server.exists(),
        "{} is missing; run: cargo build -p qchost-upstream --examples",
        server.display()
    );
    server
}

/// A connector that runs the scripted server with these additional arguments.
pub fn stdio(log: &Log, words: &[&str], secrets: &[(&str, &str)]) -> StdioConnector {
    let mut args = vec![log.path.display().to_string()];
    args.extend(words.iter().map(|word| (*word).to_owned()));
    let secrets = secrets
        .iter()
        .map(|(name, value)| ((*name).to_owned(), SecretString::from(*value)))
        .collect();
    let command = server().display().to_string();
    StdioConnector::new(
        command,
        args,
        vec![("PLAIN".to_owned(), "kept".to_owned())],
        secrets,
        None,
    )
    .unwrap()
}

/// The scripted server as the supervisor of another scripted server.
pub fn supervisor() -> Supervisor {
    Supervisor {
        program: server(),
        arguments: vec!["supervise".to_owned()],
    }
}

pub fn is_running(pid: &Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is no longer running.
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

pub fn failure(outcome: Outcome) -> Failure {
    outcome.unwrap_err()
}
