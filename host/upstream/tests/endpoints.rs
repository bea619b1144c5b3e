//! Several endpoints of one account: which of them carries a call, and what becomes of it when one fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_catalog::{Failure, Upstream as _};
use qchost_upstream::{Account, AccountOptions, AccountState, Accounts, HttpConnector, NotProven};
use serde_json::{Value, json};
use support::pipes::scripted;
use support::web::{Web, endpoint_at, free_port, page, success, unsent};
use support::{ACCOUNT, Log, Memory, call, failure, options};

const LONG: u64 = 20_000;

fn connector(port: u16) -> Arc<HttpConnector> {
    Arc::new(HttpConnector::new(&format!("http://127.0.0.1:{port}/mcp"), vec![]).unwrap())
}

fn of_two(one: u16, two: u16, options: AccountOptions) -> Accounts {
    let account = Account::new(ACCOUNT, connector(one), options);
    Accounts::new([account.with_endpoint(connector(two), options)]).unwrap()
}

/// The same with what is remembered of it.
fn of_two_remembered(servers: &[Server; 2], memory: &Arc<Memory>) -> Accounts {
    let account = Account::new(ACCOUNT, connector(servers[0].port), options());
    let account = account.with_endpoint(connector(servers[1].port), options());
    Accounts::new([account.with_memory(Arc::<Memory>::clone(memory))]).unwrap()
}

/// What is remembered of an account with this one project.
fn remembered(project: u32) -> Value {
    json!({ "organization": "o", "projects": { project.to_string(): "Lab" } })
}

/// Lets both endpoints prove that they are the account's.
async fn prove(accounts: &Accounts) {
    let deadline = Instant::now() + Duration::from_secs(20);
    accounts.check(ACCOUNT, deadline).await.unwrap();
    for health in accounts.endpoints(ACCOUNT).unwrap() {
        assert_eq!(health.state, AccountState::Connected, "{health:?}");
    }
}

/// Makes a call for each id, one after the other, and each is answered.
async fn call_in_row(accounts: &Accounts, tool: &str, ids: std::ops::Range<u64>) {
    for id in ids {
        call(accounts, tool, json!({ "id": id }), LONG)
            .await
            .unwrap();
    }
}

/// Makes this many calls at once, every other one a write, and each is answered.
async fn read_and_write_at_once(accounts: &Accounts, count: u64) {
    let calls = (0..count).map(|id| {
        let tool = match id % 2 {
            0 => "read_backtest",
            _ => "create_backtest",
        };
        call(accounts, tool, json!({ "id": id }), LONG)
    });
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap();
    }
}

/// A server that can be made to fail in several ways.
struct Server {
    port: u16,
    /// Its account's project.
    project: u32,
    mode: Arc<AtomicU8>,
    delay: Arc<AtomicU64>,
    /// How often each write arrived, by its id.
    writes: Arc<Mutex<HashMap<u64, usize>>>,
    reads: Arc<AtomicUsize>,
    running: Option<Web>,
}

const HEALTHY: u8 = 0;
const BROKEN: u8 = 1;
const GARBAGE: u8 = 2;
/// It has no connection to QuantConnect, and says so.
const CUT_OFF: u8 = 3;
/// It takes a call, and closes the connection without an answer.
const CLOSING: u8 = 4;

impl Server {
    fn start() -> Self {
        Self::of(1)
    }

    fn of(project: u32) -> Self {
        let mut server = Self {
            port: free_port(),
            project,
            mode: Arc::new(AtomicU8::new(HEALTHY)),
            delay: Arc::default(),
            writes: Arc::default(),
            reads: Arc::default(),
            running: None,
        };
        server.restart();
        server
    }

    fn restart(&mut self) {
        let (mode, writes, reads) = (
            Arc::clone(&self.mode),
            Arc::clone(&self.writes),
            Arc::clone(&self.reads),
        );
        let reply = move |_: usize, request: &Value| {
            let mode = mode.load(Ordering::Relaxed);
            match request["params"]["name"].as_str() {
                _ if mode == CUT_OFF => return unsent(request),
                Some("create_backtest" | "update_backtest") => {
                    let id = request["params"]["arguments"]["id"].as_u64().unwrap();
                    *writes.lock().entry(id).or_default() += 1;
                }
                _ => {
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            }
            match mode {
                BROKEN => page(503),
                CLOSING => (0, Vec::new(), String::new()),
                GARBAGE => page(200),
                _ => success(request),
            }
        };
        let (_, web) = endpoint_at(self.port, self.project, Arc::clone(&self.delay), reply);
        self.running = Some(web);
    }

    fn kill(&mut self) {
        if let Some(web) = self.running.take() {
            web.kill();
        }
    }

    /// Fails in the way with this number.
    fn fail(&mut self, way: usize) {
        match way {
            0 => self.kill(),
            1 => self.delay.store(2_000, Ordering::Relaxed),
            2 => self.mode.store(GARBAGE, Ordering::Relaxed),
            _ => self.mode.store(BROKEN, Ordering::Relaxed),
        }
    }

    fn heal(&mut self) {
        self.mode.store(HEALTHY, Ordering::Relaxed);
        self.delay.store(0, Ordering::Relaxed);
        if self.running.is_none() {
            self.restart();
        }
    }
}

/// A minute: longer than any wait in it, so that a mistake adds up.
const UNDER_LOAD: Duration = Duration::from_secs(60);
const PHASE: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_fail_by_turns_fail_no_read_and_no_write_is_sent_twice() {
    let mut servers = [Server::start(), Server::start()];
    let options = AccountOptions {
        failover_after: Duration::from_millis(300),
        ..options()
    };
    let accounts = of_two(servers[0].port, servers[1].port, options);
    prove(&accounts).await;
    let ended = Arc::new(AtomicBool::new(false));
    let readers = (0..8).map(|reader| {
        let (accounts, ended) = (accounts.clone(), Arc::clone(&ended));
        tokio::spawn(async move {
            let (mut times, mut failures) = (Vec::new(), Vec::new());
            while !ended.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let read = call(&accounts, "read_backtest", json!({ "id": reader }), LONG).await;
                times.push(begun.elapsed());
                failures.extend(read.err());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (times, failures)
        })
    });
    let next = Arc::new(AtomicU64::new(0));
    let writers = (0..2).map(|_| {
        let (accounts, ended, next) = (accounts.clone(), Arc::clone(&ended), Arc::clone(&next));
        tokio::spawn(async move {
            let mut written = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let id = next.fetch_add(1, Ordering::Relaxed);
                let outcome = call(&accounts, "create_backtest", json!({ "id": id }), LONG).await;
                written.push((id, outcome));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            written
        })
    });
    let (readers, writers): (Vec<_>, Vec<_>) = (readers.collect(), writers.collect());
    let begun = Instant::now();
    for phase in 0.. {
        if begun.elapsed() >= UNDER_LOAD {
            break;
        }
        // Each fails in each way, and the other one right afterwards in another way.
        let failing = phase % 2;
        let way = (phase / 2 + failing) % 4;
        tokio::task::block_in_place(|| servers[failing].fail(way));
        tokio::time::sleep(PHASE).await;
        tokio::task::block_in_place(|| servers[failing].heal());
    }
    ended.store(true, Ordering::Relaxed);
    let (mut times, mut failures) = (Vec::new(), Vec::new());
    for reader in readers {
        let (its_times, its_failures) = reader.await.unwrap();
        times.extend(its_times);
        failures.extend(its_failures);
    }
    times.sort_unstable();
    assert!(times.len() > 5_000, "only {} reads", times.len());
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
    assert!(
        *times.last().unwrap() < Duration::from_secs(10),
        "{:?}",
        times.last()
    );
    assert!(
        failures.len() * 1_000 < times.len(),
        "{} of {}, such as {:?}",
        failures.len(),
        times.len(),
        failures.first()
    );
    let mut done = 0;
    for writer in writers {
        for (id, outcome) in writer.await.unwrap() {
            let arrived = |server: &Server| server.writes.lock().get(&id).copied().unwrap_or(0);
            let arrived: usize = servers.iter().map(arrived).sum();
            assert!(
                arrived <= 1,
                "write {id} was sent {arrived} times: {outcome:?}"
            );
            match outcome {
                Ok(_) => {
                    assert_eq!(arrived, 1);
                    done += 1;
                }
                // Unknown is unknown; but what is said not to be done must not be.
                Err(Failure::UnknownOutcome(_)) => {}
                Err(failure) => assert_eq!(arrived, 0, "{id}: {failure}"),
            }
        }
    }
    assert!(done > 100, "only {done} writes were done");
}

#[tokio::test]
async fn the_least_loaded_endpoint_carries_a_call() {
    let servers = [Server::start(), Server::start()];
    let wide = AccountOptions {
        calls_per_connection: 64,
        ..options()
    };
    let accounts = of_two(servers[0].port, servers[1].port, wide);
    prove(&accounts).await;
    for server in &servers {
        server.delay.store(200, Ordering::Relaxed);
    }
    let calls = (0..20).map(|id| call(&accounts, "read_backtest", json!({ "id": id }), LONG));
    for outcome in futures::future::join_all(calls).await {
        outcome.unwrap();
    }
    let carried = servers
        .each_ref()
        .map(|server| server.reads.load(Ordering::Relaxed));
    assert_eq!(carried, [10, 10]);
}

#[tokio::test]
async fn equally_loaded_endpoints_carry_calls_in_turn() {
    let servers = [Server::start(), Server::start()];
    let accounts = of_two(servers[0].port, servers[1].port, options());
    prove(&accounts).await;
    call_in_row(&accounts, "read_backtest", 0..20).await;
    let carried = servers
        .each_ref()
        .map(|server| server.reads.load(Ordering::Relaxed));
    assert_eq!(carried, [10, 10]);
}

#[tokio::test]
async fn an_account_whose_first_endpoint_is_down_at_its_start_is_served_by_the_second() {
    let mut servers = [Server::start(), Server::start()];
    servers[0].kill();
    let memory = Memory::of(ACCOUNT, remembered(1));
    let accounts = of_two_remembered(&servers, &memory);
    read_and_write_at_once(&accounts, 20).await;
    assert_eq!(servers[1].reads.load(Ordering::Relaxed), 10);
    assert_eq!(servers[1].writes.lock().len(), 10);
    let state = accounts.health(ACCOUNT).unwrap().state;
    assert_eq!(state, AccountState::Connected);
    // The first one proves itself when it is back.
    servers[0].heal();
    let until = Instant::now() + Duration::from_secs(20);
    while accounts.endpoints(ACCOUNT).unwrap()[0].state != AccountState::Connected {
        assert!(Instant::now() < until, "it is not used again");
        accounts.check(ACCOUNT, until).await.unwrap();
    }
    call_in_row(&accounts, "read_backtest", 0..10).await;
    assert_eq!(servers[0].reads.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_check_finds_the_endpoint_that_answers() {
    let mut servers = [Server::start(), Server::start()];
    servers[0].kill();
    let memory = Memory::of(ACCOUNT, remembered(1));
    let accounts = of_two_remembered(&servers, &memory);
    let deadline = Instant::now() + Duration::from_secs(20);
    let health = accounts.check(ACCOUNT, deadline).await.unwrap();
    assert_eq!(health.state, AccountState::Connected, "{health:?}");
    assert!(Instant::now() < deadline - Duration::from_secs(10));
    let endpoints = accounts.endpoints(ACCOUNT).unwrap();
    let states: Vec<_> = endpoints.iter().map(|health| health.state).collect();
    assert_eq!(states, [AccountState::Unreachable, AccountState::Connected]);
}

#[tokio::test]
async fn a_first_endpoint_that_comes_back_as_another_users_carries_nothing() {
    let mut servers = [Server::of(9), Server::of(1)];
    servers[0].kill();
    let memory = Memory::of(ACCOUNT, remembered(1));
    let accounts = of_two_remembered(&servers, &memory);
    call(&accounts, "read_backtest", json!({ "id": 0 }), LONG)
        .await
        .unwrap();
    servers[0].heal();
    let until = Instant::now() + Duration::from_secs(20);
    while accounts.endpoints(ACCOUNT).unwrap()[0].state != AccountState::Unauthorized {
        assert!(Instant::now() < until, "it is not compared");
        accounts.check(ACCOUNT, until).await.unwrap();
    }
    call_in_row(&accounts, "create_backtest", 1..10).await;
    assert_eq!(servers[0].reads.load(Ordering::Relaxed), 0);
    assert!(servers[0].writes.lock().is_empty());
    assert_eq!(servers[1].writes.lock().len(), 9);
}

#[tokio::test]
async fn a_first_endpoint_that_is_another_users_than_remembered_is_told_once_with_both_organisations()
 {
    let servers = [Server::of(9), Server::of(9)];
    for (identity, former, changes) in [
        (
            json!({ "organization": "other", "projects": { "1": "Lab" } }),
            Some("other"),
            1,
        ),
        (remembered(1), Some("o"), 1),
        // The twin: it is as it was.
        (remembered(9), None, 0),
    ] {
        let memory = Memory::of(ACCOUNT, identity);
        // Also when the account is configured again.
        for _ in 0..2 {
            let accounts = of_two_remembered(&servers, &memory);
            prove(&accounts).await;
        }
        let told = memory.changes();
        assert_eq!(told.len(), changes, "{told:?}");
        if let Some(change) = told.first() {
            assert_eq!(change.former.as_deref(), former);
            assert_eq!(change.now.as_deref(), Some("o"));
            assert!(change.to_string().contains("is o now"), "{change}");
        }
    }
}

/// No server gets a call; returns the reason of the last one.
async fn none_is_sent(accounts: &Accounts, servers: &[Server; 2]) -> String {
    let mut reason = String::new();
    for tool in ["create_backtest", "read_backtest"] {
        reason = failure(call(accounts, tool, json!({ "id": 1 }), 1_000).await).to_string();
    }
    for server in servers {
        assert_eq!(server.reads.load(Ordering::Relaxed), 0);
        assert!(server.writes.lock().is_empty());
    }
    reason
}

#[tokio::test]
async fn an_endpoint_that_is_not_what_is_remembered_takes_no_place_of_the_first_one() {
    let mut servers = [Server::of(1), Server::of(9)];
    servers[0].kill();
    for (identity, why) in [
        (remembered(1), "project 1"),
        (
            json!({ "organization": "other", "projects": { "9": "Lab" } }),
            "organisation",
        ),
        (
            json!({ "organization": null, "projects": { "9": "Lab" } }),
            "organisation",
        ),
        (
            json!({ "organization": "o", "projects": { "9": "Other" } }),
            "name",
        ),
    ] {
        let memory = Memory::of(ACCOUNT, identity.clone());
        let accounts = of_two_remembered(&servers, &memory);
        none_is_sent(&accounts, &servers).await;
        let health = accounts.endpoints(ACCOUNT).unwrap();
        assert_eq!(health[1].state, AccountState::Unauthorized, "{health:?}");
        let reason = health[1].last_error.as_deref().unwrap();
        assert!(reason.contains(why), "{reason}");
        assert_eq!(memory.get(ACCOUNT), Some(identity));
    }
    // The twin: what is remembered is its own.
    let memory = Memory::of(ACCOUNT, remembered(9));
    let accounts = of_two_remembered(&servers, &memory);
    call(&accounts, "create_backtest", json!({ "id": 1 }), LONG)
        .await
        .unwrap();
    assert_eq!(servers[1].writes.lock().len(), 1);
}

#[tokio::test]
async fn without_anything_remembered_the_first_endpoint_has_to_answer_once() {
    let mut servers = [Server::start(), Server::start()];
    servers[0].kill();
    let nothing = json!({ "organization": "o", "projects": {} });
    for memory in [Arc::new(Memory::default()), Memory::of(ACCOUNT, nothing)] {
        let accounts = of_two_remembered(&servers, &memory);
        let reason = none_is_sent(&accounts, &servers).await;
        assert!(reason.contains("endpoint 1 has to answer once"), "{reason}");
        let health = accounts.health(ACCOUNT).unwrap();
        assert_eq!(health.state, AccountState::Unreachable);
        let reason = health.last_error.unwrap();
        assert!(reason.contains("endpoint 1 has to answer once"), "{reason}");
    }
    // It answers, and is remembered: then it may be down at the next start.
    servers[0].heal();
    let memory = Arc::new(Memory::default());
    prove(&of_two_remembered(&servers, &memory)).await;
    assert_eq!(memory.get(ACCOUNT), Some(remembered(1)));
    servers[0].kill();
    let accounts = of_two_remembered(&servers, &memory);
    call(&accounts, "create_backtest", json!({ "id": 1 }), LONG)
        .await
        .unwrap();
    assert_eq!(servers[1].writes.lock().len(), 1);
}

#[tokio::test]
async fn a_first_endpoint_that_was_changed_is_the_account_and_is_remembered() {
    let servers = [Server::of(9), Server::of(1)];
    let memory = Memory::of(ACCOUNT, remembered(1));
    let accounts = of_two_remembered(&servers, &memory);
    call_in_row(&accounts, "create_backtest", 0..10).await;
    assert_eq!(servers[0].writes.lock().len(), 10);
    // The second one is what the account was.
    assert!(servers[1].writes.lock().is_empty());
    assert_eq!(memory.get(ACCOUNT), Some(remembered(9)));
}

#[tokio::test]
async fn what_is_remembered_follows_the_lists_of_projects() {
    let servers = [Server::start(), Server::start()];
    let memory = Arc::new(Memory::default());
    let accounts = of_two_remembered(&servers, &memory);
    prove(&accounts).await;
    memory.put(ACCOUNT, remembered(7));
    call(&accounts, "list_projects", json!({}), LONG)
        .await
        .unwrap();
    assert_eq!(memory.get(ACCOUNT), Some(remembered(1)));
}

#[tokio::test]
async fn an_endpoint_of_another_user_carries_nothing() {
    let servers = [Server::of(1), Server::of(9)];
    let accounts = of_two(servers[0].port, servers[1].port, options());
    read_and_write_at_once(&accounts, 40).await;
    assert_eq!(servers[0].reads.load(Ordering::Relaxed), 20);
    assert_eq!(servers[1].reads.load(Ordering::Relaxed), 0);
    assert!(servers[1].writes.lock().is_empty());
    let health = accounts.endpoints(ACCOUNT).unwrap();
    assert_eq!(health[1].state, AccountState::Unauthorized);
    assert_eq!(health[1].not_proven, Some(NotProven::Other));
    let reason = health[1].last_error.as_deref().unwrap();
    assert!(reason.contains("project 9"), "{reason}");
    // Also if the first one fails: what cannot be compared is not used.
    let mut servers = servers;
    servers[0].kill();
    let outcome = call(&accounts, "read_backtest", json!({ "id": 1 }), 1_000).await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!(servers[1].reads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_left_alone_and_used_again_when_it_is_back() {
    let mut servers = [Server::start(), Server::start()];
    let accounts = of_two(servers[0].port, servers[1].port, options());
    prove(&accounts).await;
    servers[0].kill();
    for id in 0..50 {
        let begun = Instant::now();
        call(&accounts, "read_backtest", json!({ "id": id }), LONG)
            .await
            .unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
    assert_eq!(servers[1].reads.load(Ordering::Relaxed), 50);
    let health = accounts.endpoints(ACCOUNT).unwrap();
    let states: Vec<_> = health.iter().map(|health| health.state).collect();
    assert_eq!(states, [AccountState::Unreachable, AccountState::Connected]);
    // The account is as well as its best endpoint.
    assert_eq!(
        accounts.health(ACCOUNT).unwrap().state,
        AccountState::Connected
    );
    servers[0].heal();
    let until = Instant::now() + Duration::from_secs(30);
    while servers[0].reads.load(Ordering::Relaxed) < 10 {
        assert!(Instant::now() < until, "it is not used again");
        call(&accounts, "read_backtest", json!({ "id": 1 }), LONG)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_write_that_was_certainly_not_sent_goes_to_another_endpoint_and_arrives_once() {
    for listens in [true, false] {
        let mut servers = [Server::start(), Server::start()];
        let accounts = of_two(servers[0].port, servers[1].port, options());
        prove(&accounts).await;
        match listens {
            true => servers[0].mode.store(CUT_OFF, Ordering::Relaxed),
            false => servers[0].kill(),
        }
        call_in_row(&accounts, "create_backtest", 0..10).await;
        call_in_row(&accounts, "update_backtest", 10..20).await;
        let writes = servers[1].writes.lock();
        assert_eq!(writes.len(), 20);
        assert!(writes.values().all(|arrived| *arrived == 1), "{writes:?}");
        assert!(servers[0].writes.lock().is_empty());
    }
}

#[tokio::test]
async fn a_write_that_no_endpoint_can_send_is_unavailable_and_not_in_doubt() {
    let mut servers = [Server::start(), Server::start()];
    let accounts = of_two(servers[0].port, servers[1].port, options());
    prove(&accounts).await;
    for server in &servers {
        server.mode.store(CUT_OFF, Ordering::Relaxed);
    }
    for tool in ["create_backtest", "update_backtest"] {
        let failed = failure(call(&accounts, tool, json!({ "id": 1 }), LONG).await);
        assert!(matches!(failed, Failure::Unavailable(_)), "{failed:?}");
    }
    for server in &mut servers {
        server.kill();
    }
    for tool in ["create_backtest", "update_backtest"] {
        let failed = failure(call(&accounts, tool, json!({ "id": 1 }), 1_000).await);
        assert!(matches!(failed, Failure::Unavailable(_)), "{failed:?}");
    }
}

/// The twin: the server may have carried it out.
#[tokio::test]
async fn a_write_whose_connection_was_closed_is_in_doubt_and_goes_nowhere_else() {
    let servers = [Server::start(), Server::start()];
    let accounts = of_two(servers[0].port, servers[1].port, options());
    prove(&accounts).await;
    for server in &servers {
        server.mode.store(CLOSING, Ordering::Relaxed);
    }
    for id in 0..4 {
        let failed = failure(call(&accounts, "create_backtest", json!({ "id": id }), LONG).await);
        assert!(matches!(failed, Failure::UnknownOutcome(_)), "{failed:?}");
        let arrived = servers.each_ref().map(|server| {
            let writes = server.writes.lock();
            writes.get(&id).copied().unwrap_or(0)
        });
        assert_eq!(arrived.iter().sum::<usize>(), 1, "write {id}: {arrived:?}");
    }
}

#[tokio::test]
async fn retries_of_many_calls_have_one_budget() {
    let server = Server::start();
    server.mode.store(BROKEN, Ordering::Relaxed);
    let accounts =
        Accounts::new([Account::new(ACCOUNT, connector(server.port), options())]).unwrap();
    let begun = Instant::now();
    let calls = (0..200).map(|id| call(&accounts, "read_backtest", json!({ "id": id }), LONG));
    for outcome in futures::future::join_all(calls).await {
        assert!(matches!(failure(outcome), Failure::Unavailable(_)));
    }
    let sent = server.reads.load(Ordering::Relaxed);
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    // Without a budget it would be 1,000.
    assert!(
        sent <= 200 + 100 + 200 / 5 + 5 * seconds,
        "{sent} in {seconds} s"
    );
    let figures = accounts.figures(ACCOUNT).unwrap().since_start;
    assert_eq!((figures.calls, figures.errors), (200, 200));
    let sent = u64::try_from(sent).unwrap();
    assert_eq!((figures.sends, figures.retries), (sent, sent - 200));
    assert_eq!(figures.error_rate, Some(1.0));
}

#[tokio::test]
async fn what_a_former_connection_still_writes_is_not_kept_by_the_new_one() {
    let (former, new) = (Log::new(), Log::new());
    let account =
        |log: &Log| Account::new(ACCOUNT, Arc::new(scripted(log.path.clone())), options());
    let accounts = Accounts::new([account(&former)]).unwrap();
    let slow = json!({ "id": 1, "projectId": 1, "script": [{ "sleep": 500 }] });
    let writing = call(&accounts, "create_backtest", slow, LONG);
    let update = async {
        former.wait_for("call", 1).await;
        drop(accounts.update(vec![account(&new)], &[]));
        // Requested while the write is under way.
        let versions = json!({ "id": 2 });
        let sends = qchost_catalog::Sends::default();
        support::read(&accounts, "read_lean_versions", versions.clone(), &sends)
            .await
            .unwrap();
        former.wait_for("slept", 1).await;
        versions
    };
    let (written, versions) = tokio::join!(writing, update);
    written.unwrap();
    let sends = qchost_catalog::Sends::default();
    support::read(&accounts, "read_lean_versions", versions, &sends)
        .await
        .unwrap();
    assert_eq!((sends.count(), sends.cached()), (1, None));
    assert_eq!(new.events("call").len(), 2);
}

#[tokio::test]
async fn three_accounts_side_by_side_share_no_answer_and_no_figure() {
    let names = ["ann", "ben", "eve"];
    let logs = names.map(|_| Log::new());
    let account = |index: usize| {
        let connector = Arc::new(scripted(logs[index].path.clone()));
        Account::new(names[index], connector, options())
    };
    let accounts = Accounts::new((0..3).map(account)).unwrap();
    for (index, name) in names.iter().enumerate() {
        for _ in 0..=index {
            let sends = qchost_catalog::Sends::default();
            let target = qchost_catalog::Target::Known(
                qchost_catalog::by_tool("read_lean_versions").unwrap(),
            );
            accounts
                .call(qchost_catalog::Call {
                    account: name,
                    target,
                    arguments: serde_json::from_value(json!({ "id": 1 })).unwrap(),
                    deadline: Instant::now() + Duration::from_millis(LONG),
                    clearance: qchost_catalog::always(),
                    sends: Some(&sends),
                })
                .await
                .unwrap();
        }
    }
    for (index, name) in names.iter().enumerate() {
        assert_eq!(logs[index].events("call").len(), 1, "{name}");
        let figures = accounts.figures(name).unwrap().since_start;
        let hits = u64::try_from(index).unwrap();
        assert_eq!((figures.calls, figures.hits), (hits + 1, hits), "{name}");
    }
}
