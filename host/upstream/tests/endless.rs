//! Servers that never finish: lists without a last page, empty streams, requests that hang.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Response};
use axum::routing::any;
use qchost_catalog::Failure;
use qchost_upstream::{AccountOptions, AccountState, Accounts, HttpConnector};
use serde_json::{Value, json};
use support::pipes::{listing, no_such_method};
use support::web::{Web, by_hand};
use support::{
    ACCOUNT, Log, accounts, call, failure, is_running, options, server, stdio, supervisor,
    wait_until,
};

const LONG: u64 = 20_000;

fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

#[tokio::test]
async fn a_list_of_tools_without_an_end_is_given_up_and_not_asked_for_again_at_once() {
    type Page = fn(usize) -> Value;
    let lists: [(&str, usize, Page); 5] = [
        (
            "repeated",
            3,
            |_| json!({ "tools": [tool("read_backtest")], "nextCursor": "again" }),
        ),
        (
            "new tools, old cursor",
            3,
            |page| json!({ "tools": [tool(&page.to_string())], "nextCursor": "again" }),
        ),
        (
            "no tools",
            2,
            |page| json!({ "tools": [], "nextCursor": page.to_string() }),
        ),
        (
            "growing",
            10,
            |page| json!({ "tools": [tool(&page.to_string())], "nextCursor": "x".repeat(1 << (page + 8)) }),
        ),
        (
            "a new cursor each time",
            256,
            |page| json!({ "tools": [tool(&page.to_string())], "nextCursor": page.to_string() }),
        ),
    ];
    for (name, most, page) in lists {
        let (opened, listed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let pages = listed.clone();
        let list = Arc::new(move |_: &Value| page(pages.fetch_add(1, Ordering::SeqCst)));
        let patient = AccountOptions {
            backoff: qchost_upstream::Backoff {
                initial: Duration::from_secs(60),
                max: Duration::from_secs(60),
                jitter: 0.0,
            },
            ..options()
        };
        let connector = listing(opened.clone(), list, Arc::new(|_| Vec::new()));
        let accounts = accounts(connector, patient);
        for _ in 0..3 {
            let outcome = call(&accounts, "read_backtest", json!({}), LONG).await;
            let Failure::Unavailable(reason) = failure(outcome) else {
                panic!("{name}")
            };
            assert!(reason.contains("does not end"), "{name}: {reason}");
        }
        assert_eq!(opened.load(Ordering::SeqCst), 1, "{name}");
        assert!(listed.load(Ordering::SeqCst) <= most, "{name}: {listed:?}");
        assert_eq!(
            accounts.health(ACCOUNT).unwrap().state,
            AccountState::Unreachable
        );
    }
}

#[tokio::test]
async fn a_list_that_ends_with_an_empty_cursor_is_a_list() {
    let list = Arc::new(|_: &Value| json!({ "tools": [tool("read_backtest")], "nextCursor": "" }));
    let accounts = accounts(
        listing(Arc::default(), list, Arc::new(|_| Vec::new())),
        options(),
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    let health = accounts.connect(ACCOUNT, deadline).await.unwrap();
    assert_eq!(health.server.unwrap().tools, 1);
}

/// How a server behind HTTP reacts to a call, and to a request for an event stream.
type Act = Arc<dyn Fn(&Method, &HeaderMap, &Value) -> Option<Response<Body>> + Send + Sync>;

/// Number of requests in progress. A request is dropped with its connection.
#[derive(Clone, Default)]
struct Open(Arc<AtomicUsize>);

struct Handled(Open);

impl Open {
    fn begin(&self) -> Handled {
        self.0.fetch_add(1, Ordering::SeqCst);
        Handled(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server that completes the handshake and lists a tool, and otherwise acts as `act` says. If `act` says
/// nothing, the request hangs.
fn web(open: Open, hangs_at: Option<&'static str>, act: Act) -> Web {
    let handler = move |method: Method, headers: HeaderMap, body: Bytes| {
        let (open, act) = (open.clone(), act.clone());
        async move {
            let _handled = open.begin();
            let request: Value = serde_json::from_slice(&body).unwrap_or_default();
            let asked = request["method"].as_str().unwrap_or_default();
            if hangs_at == Some(asked) {
                std::future::pending::<()>().await;
            }
            let json = |result: Value| {
                let body = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
                Response::builder()
                    .header("content-type", "application/json")
                    .header("mcp-session-id", "s")
                    .body(Body::from(body.to_string()))
                    .unwrap()
            };
            match asked {
                "initialize" => json(json!({
                    "protocolVersion": request["params"]["protocolVersion"],
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "endless", "version": "0" },
                })),
                "tools/list" => {
                    json(json!({ "tools": [tool("read_backtest"), tool("create_backtest")] }))
                }
                "server/discover" => Response::builder().status(404).body(Body::empty()).unwrap(),
                "notifications/initialized" => {
                    Response::builder().status(202).body(Body::empty()).unwrap()
                }
                _ => match act(&method, &headers, &request) {
                    Some(response) => response,
                    None => std::future::pending().await,
                },
            }
        }
    };
    Web::serve(Router::new().fallback(any(handler)), 0)
}

fn reach(web: &Web, options: AccountOptions) -> Accounts {
    accounts(HttpConnector::new(&web.url(), []).unwrap(), options)
}

fn events(text: &'static str) -> Response<Body> {
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from(text))
        .unwrap()
}

#[tokio::test]
async fn an_event_stream_without_an_answer_is_asked_for_a_few_times_and_never_after_the_call() {
    let asked = Arc::new(Mutex::new((0_usize, 0_usize)));
    let seen = asked.clone();
    let web = web(
        Open::default(),
        None,
        Arc::new(move |method, headers, _| match *method {
            Method::GET => {
                let mut seen = seen.lock();
                match headers.contains_key("last-event-id") {
                    true => seen.0 += 1,
                    false => seen.1 += 1,
                }
                Some(events(""))
            }
            Method::POST => Some(events("id: 1\nretry: 0\ndata:\n\n")),
            _ => Some(events("")),
        }),
    );
    let accounts = reach(&web, options());
    // The deadline passes before the last resumption.
    let outcome = call(&accounts, "create_backtest", json!({}), 1_500).await;
    assert!(matches!(failure(outcome), Failure::UnknownOutcome(_)));
    let (resumed, alone) = *asked.lock();
    assert!((1..=6).contains(&resumed), "{resumed}");
    assert_eq!(alone, 0, "no use is made of such a stream");
    // Ten a second until then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(asked.lock().0, resumed, "after the call failed");
}

#[tokio::test]
async fn a_stream_that_is_resumed_with_an_answer_is_an_answer() {
    let id = Arc::new(Mutex::new(Value::Null));
    let web = web(
        Open::default(),
        None,
        Arc::new(move |method, headers, request| match *method {
            Method::GET => {
                assert_eq!(headers["last-event-id"], "7");
                let content = json!([{ "type": "text", "text": r#"{"success": true}"# }]);
                let answer = json!({
                    "jsonrpc": "2.0", "id": *id.lock(), "result": { "content": content },
                });
                let stream = format!("id: 8\ndata: {answer}\n\n");
                Some(
                    Response::builder()
                        .header("content-type", "text/event-stream")
                        .body(Body::from(stream))
                        .unwrap(),
                )
            }
            Method::POST => {
                *id.lock() = request["id"].clone();
                Some(events("id: 7\nretry: 10\ndata:\n\n"))
            }
            _ => Some(events("")),
        }),
    );
    let answer = call(&reach(&web, options()), "create_backtest", json!({}), LONG).await;
    assert_eq!(answer, Ok(json!({ "success": true })));
}

#[tokio::test]
async fn a_request_that_hangs_is_closed_at_the_deadline_of_its_call() {
    // Hangs before the answer, and within its stream.
    let hanging: [Act; 2] = [
        Arc::new(|method, _, _| (*method == Method::DELETE).then(|| events(""))),
        Arc::new(|method, _, _| {
            let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
            let response = Response::builder().header("content-type", "text/event-stream");
            (*method != Method::DELETE).then(|| response.body(Body::from_stream(never)).unwrap())
        }),
    ];
    for act in hanging {
        let open = Open::default();
        let web = web(open.clone(), None, act);
        let accounts = reach(&web, options());
        let calls = (0..8).map(|_| call(&accounts, "create_backtest", json!({}), 500));
        for outcome in futures::future::join_all(calls).await {
            assert!(matches!(failure(outcome), Failure::UnknownOutcome(_)));
        }
        wait_until("the end of the requests", || open.count() == 0).await;
        // The session continues.
        assert_eq!(accounts.health(ACCOUNT).unwrap().sessions, 1);
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_is_closed_when_it_is_given_up() {
    for step in ["initialize", "notifications/initialized", "tools/list"] {
        let open = Open::default();
        let web = web(
            open.clone(),
            Some(step),
            Arc::new(|_, _, _| Some(events(""))),
        );
        let hasty = AccountOptions {
            connect_timeout: Duration::from_millis(300),
            ..options()
        };
        let accounts = reach(&web, hasty);
        let outcome = call(&accounts, "read_backtest", json!({}), 700).await;
        assert!(
            matches!(failure(outcome), Failure::Unavailable(_)),
            "{step}"
        );
        wait_until("the end of the requests", || open.count() == 0).await;
    }
}

#[tokio::test]
async fn a_server_that_stops_answering_is_replaced() {
    let opened = Arc::new(AtomicUsize::new(0));
    let list = Arc::new(|_: &Value| json!({ "tools": [tool("read_backtest")] }));
    // A line that is no answer does not end the connection.
    let silent =
        Arc::new(|_: &Value| vec![r#"{"jsonrpc":"2.0","method":"notifications/x"}"#.to_owned()]);
    let accounts = accounts(listing(opened.clone(), list, silent), options());
    for _ in 0..16 {
        let outcome = call(&accounts, "read_backtest", json!({}), 50).await;
        assert!(matches!(failure(outcome), Failure::TimedOut { .. }));
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1);
    drop(call(&accounts, "read_backtest", json!({}), 500).await);
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_flood_without_an_answer_ends_the_session() {
    let list =
        Arc::new(|_: &Value| json!({ "tools": [tool("read_backtest"), tool("create_backtest")] }));
    let line = json!({
        "jsonrpc": "2.0", "method": "notifications/message",
        "params": { "level": "info", "data": "x".repeat(1 << 20) },
    })
    .to_string();
    let flood = Arc::new(move |_: &Value| vec![line.clone(); 1_000]);
    let accounts = accounts(listing(Arc::default(), list, flood), options());
    let outcome = call(&accounts, "create_backtest", json!({}), 60_000).await;
    let Failure::UnknownOutcome(reason) = failure(outcome) else {
        panic!()
    };
    assert!(reason.contains("without answering"), "{reason}");
}

#[tokio::test]
async fn a_server_that_asks_for_no_wait_is_not_asked_at_once() {
    for after in ["0", "Tue, 14 Nov 2023 22:13:20 GMT"] {
        let (seen, web) =
            by_hand(move |_, _| (429, vec![("retry-after", after.to_owned())], String::new()));
        let started = Instant::now();
        let outcome = call(&reach(&web, options()), "create_backtest", json!({}), LONG).await;
        assert!(matches!(failure(outcome), Failure::RateLimited { .. }));
        assert_eq!(seen.calls(), 5);
        // 50, 100, 200 and 400 ms.
        assert!(started.elapsed() >= Duration::from_millis(750));
    }
}

#[tokio::test]
async fn a_server_whose_host_is_killed_ends_although_it_ignores_sigterm() {
    let log = Log::new();
    let mut host = std::process::Command::new(server())
        .args(["host".as_ref(), log.path.as_os_str()])
        .args(["stubborn", "child"])
        .spawn()
        .unwrap();
    let server = log.wait_for("start", 1).await[0]["pid"].clone();
    let child = log.wait_for("child", 1).await[0]["pid"].clone();
    assert!(is_running(&server) && is_running(&child));
    // After SIGKILL, none of the host's code runs any more.
    host.kill().unwrap();
    host.wait().unwrap();
    wait_until("the end of the server and of its child", || {
        !is_running(&server) && !is_running(&child)
    })
    .await;
}

/// It has left the process group that the host and the supervisor could kill.
#[tokio::test]
async fn a_server_in_a_session_of_its_own_that_ignores_sigterm_ends_with_its_host() {
    let ends = async |log: &Log| {
        let server = log.events("start")[0]["pid"].clone();
        wait_until("the end of the server", || !is_running(&server)).await;
    };
    // The host is killed.
    let log = Log::new();
    let mut host = std::process::Command::new(server())
        .args(["host".as_ref(), log.path.as_os_str()])
        .args(["stubborn", "apart"])
        .spawn()
        .unwrap();
    let pid = log.wait_for("start", 1).await[0]["pid"].clone();
    assert!(is_running(&pid));
    host.kill().unwrap();
    host.wait().unwrap();
    ends(&log).await;

    // The host closes the account.
    let apart = |log: &Log| {
        let connector = stdio(log, &["stubborn", "apart"], &[]).supervised(supervisor());
        accounts(connector, options())
    };
    let log = Log::new();
    let calm = apart(&log);
    let answer = call(&calm, "read_account", json!({ "id": 1 }), LONG).await;
    answer.unwrap();
    calm.close().await;
    ends(&log).await;

    // The host's runtime ends, and the process stays.
    let log = Log::new();
    let gone = apart(&log);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let answer = runtime.block_on(call(&gone, "read_account", json!({ "id": 1 }), LONG));
        answer.unwrap();
    })
    .join()
    .unwrap();
    ends(&log).await;
}

#[tokio::test]
async fn a_supervised_server_is_closed_and_reported_like_any_other() {
    let log = Log::new();
    let connector = stdio(&log, &["stubborn", "child"], &[]).supervised(supervisor());
    let calm = accounts(connector, options());
    call(&calm, "read_account", json!({ "id": 1 }), LONG)
        .await
        .unwrap();
    let server = log.events("start")[0]["pid"].clone();
    let child = log.events("child")[0]["pid"].clone();
    calm.close().await;
    wait_until("the end", || !is_running(&server) && !is_running(&child)).await;

    let log = Log::new();
    let crashing = accounts(
        stdio(&log, &["crash"], &[]).supervised(supervisor()),
        options(),
    );
    let outcome = call(&crashing, "read_account", json!({}), 1_000).await;
    let Failure::Unavailable(reason) = failure(outcome) else {
        panic!()
    };
    assert!(
        reason.contains("exit status: 7") && reason.contains("no beans"),
        "{reason}"
    );

    let nothing =
        qchost_upstream::StdioConnector::new("no-such-command", vec![], vec![], vec![], None)
            .unwrap()
            .supervised(supervisor());
    let outcome = call(
        &accounts(nothing, options()),
        "read_account",
        json!({}),
        LONG,
    )
    .await;
    let Failure::Unavailable(reason) = failure(outcome) else {
        panic!()
    };
    assert!(reason.contains("cannot run `no-such-command`"), "{reason}");
}

/// The message that an endless server repeats.
fn ping(id: usize) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "ping" })
}

fn changed(_: usize) -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" })
}

/// A server that completes the handshake and, from the first call on, writes messages without end: either as
/// fast as it can while reading, or with pauses and without reading. Counts the connections and the lines
/// that were read from it.
fn chatty(
    line: fn(usize) -> Value,
    pause: Option<Duration>,
) -> (
    Arc<AtomicUsize>,
    Arc<AtomicUsize>,
    impl qchost_upstream::Connector,
) {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, split};
    let (opened, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (opened.clone(), taken.clone());
    let connector = qchost_upstream::PipeConnector::new("chatty", move || {
        counts.0.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = tokio::io::duplex(4 * 1024);
        let taken = counts.1.clone();
        tokio::spawn(async move {
            let (read, mut write) = split(theirs);
            let mut lines = BufReader::new(read).lines();
            while let Some(asked) = lines.next_line().await.unwrap_or_default() {
                let request: Value = serde_json::from_str(&asked).unwrap();
                if request["method"] == "server/discover" {
                    let answer = no_such_method(&request);
                    write.write_all(format!("{answer}\n").as_bytes()).await?;
                    continue;
                }
                let result = match request["method"].as_str() {
                    Some("initialize") => json!({
                        "protocolVersion": request["params"]["protocolVersion"],
                        "capabilities": { "tools": {} },
                        "serverInfo": { "name": "chatty", "version": "0" },
                    }),
                    Some("tools/list") => {
                        json!({ "tools": [tool("read_backtest"), tool("create_backtest")] })
                    }
                    Some("tools/call") => break,
                    _ => continue,
                };
                let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
                write.write_all(format!("{answer}\n").as_bytes()).await?;
            }
            let reading = async {
                match pause {
                    None => while lines.next_line().await?.is_some() {},
                    Some(_) => std::future::pending().await,
                }
                Ok(())
            };
            let writing = async {
                loop {
                    let id = taken.fetch_add(1, Ordering::SeqCst);
                    write
                        .write_all(format!("{}\n", line(id)).as_bytes())
                        .await?;
                    if let Some(pause) = pause {
                        tokio::time::sleep(pause).await;
                    }
                }
            };
            let ended: std::io::Result<()> = tokio::select! {
                ended = reading => ended,
                ended = writing => ended,
            };
            ended
        });
        Ok::<_, std::io::Error>(split(ours))
    });
    (opened, taken, connector)
}

/// Longer than any test.
fn patient() -> AccountOptions {
    AccountOptions {
        backoff: qchost_upstream::Backoff {
            initial: Duration::from_secs(60),
            max: Duration::from_secs(60),
            jitter: 0.0,
        },
        ..options()
    }
}

#[tokio::test]
async fn a_server_that_writes_without_end_is_left_before_it_fills_the_memory() {
    for line in [ping, changed] {
        let (opened, taken, connector) = chatty(line, None);
        let accounts = accounts(connector, patient());
        let log = Log::new();
        let calm = support::accounts(support::pipes::scripted(log.path.clone()), options());
        let (outcome, ()) =
            tokio::join!(call(&accounts, "create_backtest", json!({}), LONG), async {
                for id in 0..5 {
                    let begun = Instant::now();
                    let arguments = json!({ "id": id });
                    call(&calm, "read_account", arguments, LONG).await.unwrap();
                    assert!(begun.elapsed() < Duration::from_secs(5));
                }
            });
        let Failure::UnknownOutcome(reason) = failure(outcome) else {
            panic!()
        };
        assert!(reason.contains("messages without end"), "{reason}");
        // The burst, plus what the pipe buffers.
        let lines = taken.load(Ordering::SeqCst);
        assert!(lines < 11_000, "{lines}");
        // The next attempt uses back-off, although the handshake succeeded.
        let outcome = call(&accounts, "read_backtest", json!({}), 300).await;
        assert!(matches!(failure(outcome), Failure::Unavailable(_)));
        assert_eq!(opened.load(Ordering::SeqCst), 1);
        assert_eq!(
            accounts.health(ACCOUNT).unwrap().state,
            AccountState::Unreachable
        );
    }
}

#[tokio::test]
async fn a_server_that_asks_without_end_and_takes_no_reply_is_not_read() {
    let (_, taken, connector) = chatty(ping, Some(Duration::from_millis(1)));
    let accounts = accounts(connector, patient());
    let outcome = call(&accounts, "create_backtest", json!({}), LONG).await;
    let Failure::UnknownOutcome(reason) = failure(outcome) else {
        panic!()
    };
    // Its replies fill the pipe, and then no more of them is read.
    assert!(reason.contains("takes none of the replies"), "{reason}");
    let lines = taken.load(Ordering::SeqCst);
    assert!(lines < 1_000, "{lines}");
}

#[tokio::test]
async fn an_event_stream_of_pings_without_end_ends_the_connection() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let web = web(
        Open::default(),
        None,
        Arc::new(move |method, _, request| {
            if *method != Method::POST || request["method"] != "tools/call" {
                return Some(Response::builder().status(202).body(Body::empty()).unwrap());
            }
            let counted = counted.clone();
            let pings = futures::stream::repeat_with(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                // Many at once: one by one they would take as long as those of an honest server on a busy
                // machine.
                let events = format!("data: {}\n\n", changed(0)).repeat(1_000);
                Ok::<_, std::io::Error>(Bytes::from(events))
            });
            let response = Response::builder().header("content-type", "text/event-stream");
            Some(response.body(Body::from_stream(pings)).unwrap())
        }),
    );
    let accounts = reach(&web, patient());
    // To read that many events takes a busy machine long.
    let outcome = call(&accounts, "create_backtest", json!({}), 6 * LONG).await;
    let Failure::UnknownOutcome(reason) = failure(outcome) else {
        panic!()
    };
    assert!(reason.contains("messages without end"), "{reason}");
    let outcome = call(&accounts, "read_backtest", json!({}), 300).await;
    assert!(matches!(failure(outcome), Failure::Unavailable(_)));
    let events = sent.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(sent.load(Ordering::SeqCst), events, "the stream is closed");
}

#[tokio::test]
async fn a_long_call_with_many_reports_is_answered() {
    let list = Arc::new(|_: &Value| json!({ "tools": [tool("read_backtest")] }));
    let reports = Arc::new(|request: &Value| {
        let progress = json!({
            "jsonrpc": "2.0", "method": "notifications/progress",
            "params": { "progressToken": 1, "progress": 0.5 },
        });
        let mut lines = vec![progress.to_string(); 5_000];
        let content = json!([{ "type": "text", "text": r#"{"success": true}"# }]);
        let answer = json!({ "content": content });
        lines.push(json!({ "jsonrpc": "2.0", "id": request["id"], "result": answer }).to_string());
        lines
    });
    let opened = Arc::new(AtomicUsize::new(0));
    let accounts = accounts(listing(opened.clone(), list, reports), options());
    let answer = call(&accounts, "read_backtest", json!({}), LONG).await;
    assert_eq!(answer, Ok(json!({ "success": true })));
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}
