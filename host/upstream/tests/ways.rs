//! Two ways to one account: by which of them a call goes, and which server may be at the end of each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_catalog::{Call, Failure, Target, Upstream as _, Way, always, by_tool};
use qchost_upstream::{
    Account, AccountHealth, AccountOptions, AccountState, Accounts, Connector, NotProven, remote_of,
};
use serde_json::{Value, json};
use support::pipes::listing;
use support::{ACCOUNT, Memory, call, failure, options};

const LONG: u64 = 20_000;

/// The calls that a server got: tool and arguments.
type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// A tool with these arguments, of which those with a star are required.
fn tool(name: &str, arguments: &[&str]) -> Value {
    let bare = |argument: &&str| argument.trim_end_matches('*').to_owned();
    let properties: serde_json::Map<String, Value> = arguments
        .iter()
        .map(|argument| (bare(argument), json!({})))
        .collect();
    let required: Vec<String> = arguments
        .iter()
        .filter(|argument| argument.ends_with('*'))
        .map(bare)
        .collect();
    json!({ "name": name, "inputSchema": {
        "type": "object", "properties": properties, "required": required,
    } })
}

/// A server with these tools, which answers with `answer` and notes what it got.
fn server(
    tools: Vec<Value>,
    answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
) -> (impl Connector, Calls) {
    let calls = Calls::default();
    let seen = calls.clone();
    let list = move |_: &Value| json!({ "tools": tools });
    let reply = move |request: &Value| {
        let name = request["params"]["name"].as_str().unwrap();
        let arguments = &request["params"]["arguments"];
        seen.lock().push((name.to_owned(), arguments.clone()));
        let body = answer(name, arguments).to_string();
        let result = json!({ "content": [{ "type": "text", "text": body }] });
        vec![json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string()]
    };
    let connector = listing(Arc::default(), Arc::new(list), Arc::new(reply));
    (connector, calls)
}

/// The projects of a user.
fn projects(ids: &[u32]) -> Value {
    let list: Vec<_> = ids
        .iter()
        .map(|id| json!({ "projectId": id, "name": format!("Lab/{id}"), "organizationId": "org" }))
        .collect();
    json!({ "success": true, "projects": list })
}

/// The tools of a server in front of the REST API.
fn rest_tools() -> Vec<Value> {
    vec![
        tool("read_account", &[]),
        tool("list_projects", &[]),
        tool(
            "create_backtest",
            &["projectId*", "compileId*", "backtestName*"],
        ),
        tool("create_live_command", &["projectId*", "command*"]),
        tool("read_backtest_chart", &["projectId*", "backtestId*"]),
        tool("create_file", &["projectId*", "name*", "content"]),
        tool("read_mcp_server_version", &[]),
    ]
}

fn answer_of_rest(ids: &'static [u32]) -> impl Fn(&str, &Value) -> Value + Send + Sync {
    move |tool, _| match tool {
        "list_projects" => projects(ids),
        "read_account" => json!({ "success": true, "organizationId": "org" }),
        "create_backtest" => json!({ "success": true, "backtest": { "backtestId": "b" } }),
        _ => json!({ "success": true }),
    }
}

/// A server in front of the REST API, of a user with these projects.
fn rest(ids: &'static [u32]) -> (impl Connector, Calls) {
    server(rest_tools(), answer_of_rest(ids))
}

/// The tools of a remote server.
fn remote_tools() -> Vec<Value> {
    vec![
        tool("list_projects", &["page"]),
        tool("read_project", &["projectId*"]),
        tool("jupyter_read_cell", &["projectId", "index*"]),
        tool("jupyter_execute_cell", &["projectId", "index*"]),
        tool(
            "send_email_notification",
            &["address*", "subject*", "message*"],
        ),
        tool("list_skills", &[]),
        tool("read_open_project", &[]),
        tool("create_backtest", &["projectId"]),
        tool("create_file", &["projectId", "filePath*", "content*"]),
        tool("read_optimization", &["optimizationId*"]),
        tool("create_live_algorithm", &["projectId"]),
        tool("update_backtest", &["projectId", "backtestId", "name"]),
        tool("tool_of_tomorrow", &[]),
    ]
}

fn answer_of_remote(ids: &'static [u32]) -> impl Fn(&str, &Value) -> Value + Send + Sync {
    move |tool, arguments| match (tool, arguments["page"].as_u64()) {
        // Two on a page.
        ("list_projects", page) => {
            let skip = usize::try_from(page.unwrap_or(1) - 1).unwrap() * 2;
            let page: Vec<u32> = ids.iter().skip(skip).take(2).copied().collect();
            projects(&page)
        }
        ("jupyter_read_cell", _) => json!({ "success": true, "cell": { "source": "x" } }),
        ("jupyter_execute_cell", _) => json!({ "success": true, "outputs": [] }),
        ("list_skills", _) => json!({ "success": true, "skills": ["one"] }),
        _ => json!({ "success": true }),
    }
}

/// A remote server whose login is of a user with these projects.
fn remote(ids: &'static [u32]) -> (impl Connector, Calls) {
    server(remote_tools(), answer_of_remote(ids))
}

fn by_rest(connector: impl Connector + 'static) -> Account {
    Account::new(ACCOUNT, Arc::new(connector), options())
}

fn by_remote(connector: impl Connector + 'static) -> Account {
    let options = AccountOptions {
        way: Way::Remote,
        ..options()
    };
    Account::new(remote_of(ACCOUNT), Arc::new(connector), options)
}

fn tools(calls: &Calls) -> Vec<String> {
    let calls = calls.lock();
    calls.iter().map(|(tool, _)| tool.clone()).collect()
}

/// The same without the lists of projects, by which logins are compared.
fn others(calls: &Calls) -> Vec<String> {
    let mut others = tools(calls);
    others.retain(|tool| tool != "list_projects");
    others
}

fn unavailable(outcome: Result<Value, Failure>) -> String {
    match failure(outcome) {
        Failure::Unavailable(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_the_rest_api_can_do_goes_by_it_and_the_rest_by_the_remote_server() {
    let ((one, by_one), (two, by_two)) = (rest(&[1, 2, 3]), remote(&[1, 2, 3]));
    let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
    let backtest = json!({ "projectId": 1, "compileId": "c", "backtestName": "b" });
    call(&accounts, "create_backtest", backtest, LONG)
        .await
        .unwrap();
    call(&accounts, "list_projects", json!({}), LONG)
        .await
        .unwrap();
    assert_eq!(tools(&by_one), ["create_backtest", "list_projects"]);
    assert!(by_two.lock().is_empty(), "shared names go by the REST API");

    let cell = json!({ "projectId": 1, "index": 0 });
    let answer = call(&accounts, "jupyter_read_cell", cell.clone(), LONG)
        .await
        .unwrap();
    assert_eq!(answer["cell"]["source"], "x");
    let sent = by_two.lock().clone();
    assert_eq!(
        sent.last().unwrap(),
        &("jupyter_read_cell".to_owned(), cell)
    );
    // Compared once.
    call(&accounts, "list_skills", json!({}), LONG)
        .await
        .unwrap();
    assert_eq!(others(&by_two), ["jupyter_read_cell", "list_skills"]);
    // All pages, until one has nothing new.
    assert_eq!(tools(&by_two).len(), 5);
}

#[tokio::test]
async fn a_login_of_another_user_carries_nothing() {
    // Another user's projects, also on a later page, or only some of the account's.
    const OTHERS: [&[u32]; 5] = [&[9], &[1, 9], &[1, 2, 3, 9], &[], &[1, 2]];
    for theirs in OTHERS {
        let ((one, _), (two, by_two)) = (rest(&[1, 2, 3]), remote(theirs));
        let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
        let mut compared = None;
        for _ in 0..2 {
            let cell = json!({ "projectId": 1, "index": 0 });
            let refused = call(&accounts, "jupyter_execute_cell", cell, LONG).await;
            let reason = unavailable(refused);
            assert!(
                reason.contains("is not known to be the account's"),
                "{reason}"
            );
            let raw = call(&accounts, "tool_of_tomorrow", json!({}), LONG).await;
            assert!(raw.is_err());
            // Once for all of them.
            let lists = tools(&by_two).len();
            assert_eq!(*compared.get_or_insert(lists), lists, "{theirs:?}");
        }
        assert!(others(&by_two).is_empty(), "{theirs:?}");
    }
}

/// The health of the connection to the remote server after a check.
async fn checked(accounts: &Accounts) -> AccountHealth {
    let deadline = Instant::now() + Duration::from_millis(LONG);
    accounts.check(&remote_of(ACCOUNT), deadline).await.unwrap()
}

#[tokio::test]
async fn a_login_of_another_user_is_shown_before_any_call_and_until_the_next_login() {
    const OTHERS: [&[u32]; 4] = [&[9], &[1, 9], &[], &[1, 2]];
    let name = remote_of(ACCOUNT);
    for theirs in OTHERS {
        let ((one, _), (two, by_two)) = (rest(&[1, 2, 3]), remote(theirs));
        let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
        for _ in 0..2 {
            let health = checked(&accounts).await;
            assert_eq!(health.state, AccountState::Unauthorized, "{health:?}");
            assert_eq!(health.not_proven, Some(NotProven::Other), "{theirs:?}");
            let reason = health.last_error.unwrap();
            let said = "is not known to be the account's";
            assert!(reason.contains(said), "{reason}");
        }
        let endpoints = accounts.endpoints(&name).unwrap();
        assert_eq!(endpoints[0].state, AccountState::Unauthorized);
        assert!(tools(&by_two).iter().all(|tool| tool == "list_projects"));
        let health = accounts.health(ACCOUNT).unwrap();
        assert!(!health.state.is_problem(), "{health:?}");
        // The twin: the next login is of the account's user.
        let ((one, _), (two, by_own)) = (rest(&[1, 2, 3]), remote(&[1, 2, 3]));
        let next = vec![by_rest(one), by_remote(two)];
        accounts.update(next, &[]).await.unwrap();
        let health = checked(&accounts).await;
        assert_eq!(health.state, AccountState::Connected, "{health:?}");
        assert_eq!(health.not_proven, None);
        // So the first call needs no comparison any more.
        let compared = tools(&by_own).len();
        call(&accounts, "list_skills", json!({}), LONG)
            .await
            .unwrap();
        assert_eq!(tools(&by_own)[compared..], ["list_skills"]);
    }
}

#[tokio::test]
async fn an_account_without_a_project_is_proven_by_the_first_one() {
    let exists = Arc::new(AtomicBool::new(false));
    let (for_rest, for_remote) = (Arc::clone(&exists), Arc::clone(&exists));
    let (of_rest, of_remote) = (answer_of_rest(&[1]), answer_of_remote(&[1]));
    let (one, _) = server(rest_tools(), move |tool, arguments| {
        match tool == "list_projects" && !for_rest.load(Ordering::SeqCst) {
            true => projects(&[]),
            false => of_rest(tool, arguments),
        }
    });
    let (two, by_two) = server(remote_tools(), move |tool, arguments| {
        match tool == "list_projects" && !for_remote.load(Ordering::SeqCst) {
            true => projects(&[]),
            false => of_remote(tool, arguments),
        }
    });
    let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
    let health = checked(&accounts).await;
    assert_eq!(health.state, AccountState::Unauthorized, "{health:?}");
    assert_eq!(health.not_proven, Some(NotProven::NoProject));
    let reason = health.last_error.unwrap();
    assert!(reason.contains("no project to compare"), "{reason}");
    let reason = unavailable(call(&accounts, "list_skills", json!({}), LONG).await);
    assert!(reason.contains("no project to compare"), "{reason}");
    assert!(tools(&by_two).iter().all(|tool| tool == "list_projects"));
    exists.store(true, Ordering::SeqCst);
    let health = checked(&accounts).await;
    assert_eq!(health.state, AccountState::Connected, "{health:?}");
    assert_eq!(health.not_proven, None);
    call(&accounts, "list_skills", json!({}), LONG)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_login_that_cannot_be_compared_is_not_said_to_be_another_user_s() {
    let is_down = Arc::new(AtomicBool::new(true));
    let (down, of_rest) = (Arc::clone(&is_down), answer_of_rest(&[1]));
    let (one, _) = server(rest_tools(), move |tool, arguments| {
        match tool == "list_projects" && down.load(Ordering::SeqCst) {
            true => json!({ "success": false, "errors": ["out of order"] }),
            false => of_rest(tool, arguments),
        }
    });
    let (two, by_two) = remote(&[1]);
    let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
    let health = checked(&accounts).await;
    assert_eq!(health.state, AccountState::Unreachable, "{health:?}");
    let reason = health.last_error.unwrap();
    assert!(reason.contains("out of order"), "{reason}");
    assert_eq!(health.not_proven, Some(NotProven::NoReference));
    assert!(tools(&by_two).iter().all(|tool| tool == "list_projects"));
    is_down.store(false, Ordering::SeqCst);
    let health = checked(&accounts).await;
    assert_eq!(health.state, AccountState::Connected, "{health:?}");
}

#[tokio::test]
async fn each_login_is_compared_before_its_first_use() {
    let ((one, _), (two, by_two)) = (rest(&[1, 2]), remote(&[1, 2]));
    let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
    call(&accounts, "list_skills", json!({}), LONG)
        .await
        .unwrap();
    assert_eq!(tools(&by_two)[0], "list_projects");
    assert_eq!(others(&by_two), ["list_skills"]);
    // The next login is another user's.
    let ((one, _), (two, by_other)) = (rest(&[1, 2]), remote(&[9]));
    let next = vec![by_rest(one), by_remote(two)];
    accounts.update(next, &[]).await.unwrap();
    let reason = unavailable(call(&accounts, "list_skills", json!({}), LONG).await);
    assert!(
        reason.contains("is not known to be the account's"),
        "{reason}"
    );
    assert!(others(&by_other).is_empty());
    assert_eq!(others(&by_two), ["list_skills"]);
    // And the one after it the account's own again.
    let ((one, _), (two, by_own)) = (rest(&[1, 2]), remote(&[1, 2]));
    let next = vec![by_rest(one), by_remote(two)];
    accounts.update(next, &[]).await.unwrap();
    call(&accounts, "list_skills", json!({}), LONG)
        .await
        .unwrap();
    assert_eq!(tools(&by_own)[0], "list_projects");
    assert_eq!(others(&by_own), ["list_skills"]);
}

#[tokio::test]
async fn a_shared_name_with_another_meaning_is_not_sent_to_the_remote_server() {
    let (two, by_two) = remote(&[1]);
    let accounts = Accounts::new([by_remote(two)]).unwrap();
    for (tool, arguments) in [
        (
            "create_file",
            json!({ "projectId": 1, "name": "a.py", "content": "x" }),
        ),
        (
            "create_backtest",
            json!({ "projectId": 1, "compileId": "c", "backtestName": "b" }),
        ),
        ("read_optimization", json!({ "optimizationId": "o" })),
        (
            "create_live_algorithm",
            json!({ "projectId": 1, "compileId": "c" }),
        ),
        (
            "update_backtest",
            json!({ "projectId": 1, "backtestId": "b", "name": "n" }),
        ),
    ] {
        let reason = unavailable(call(&accounts, tool, arguments, LONG).await);
        assert!(
            reason.contains("[account.research]\nconnection = "),
            "{tool}: {reason}"
        );
    }
    assert!(by_two.lock().is_empty());
    // The twin, which means the same.
    let read = call(&accounts, "read_project", json!({ "projectId": 1 }), LONG).await;
    assert!(read.is_err(), "this server answers no project");
    assert_eq!(tools(&by_two), ["read_project"]);
}

#[tokio::test]
async fn a_missing_way_is_said_with_the_lines_that_add_it() {
    let (one, by_one) = rest(&[1]);
    let accounts = Accounts::new([by_rest(one)]).unwrap();
    let message = json!({ "address": "a@example.com", "subject": "s", "message": "m" });
    let reason = unavailable(call(&accounts, "send_email_notification", message, LONG).await);
    assert!(
        reason.contains("`notifications/send-email-notification`"),
        "{reason}"
    );
    assert!(
        reason.contains("[account.research.remote]\nurl = "),
        "{reason}"
    );
    assert!(by_one.lock().is_empty());
}

#[tokio::test]
async fn a_server_of_the_other_kind_is_refused_in_either_place() {
    let ((one, by_one), (two, by_two)) = (remote(&[1]), rest(&[1]));
    let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
    let reason = unavailable(call(&accounts, "read_account", json!({}), LONG).await);
    assert!(reason.contains("[account.research.remote]"), "{reason}");
    let reason = unavailable(call(&accounts, "list_skills", json!({}), LONG).await);
    assert!(reason.contains("no remote MCP server"), "{reason}");
    assert!(by_one.lock().is_empty() && by_two.lock().is_empty());
}

#[tokio::test]
async fn a_tool_that_would_act_on_what_it_has_open_gets_nothing() {
    let mut tools_without = remote_tools();
    tools_without.retain(|it| it["name"] != "jupyter_execute_cell");
    // As if the guess were wrong that it takes the project's id.
    tools_without.push(tool("jupyter_execute_cell", &["index*"]));
    // And one that wants more than is known.
    tools_without.retain(|it| it["name"] != "jupyter_read_cell");
    tools_without.push(tool(
        "jupyter_read_cell",
        &["projectId", "index*", "kernel*"],
    ));
    let (two, by_two) = server(tools_without, answer_of_remote(&[1]));
    let accounts = Accounts::new([by_remote(two)]).unwrap();
    for (tool, argument) in [
        ("jupyter_execute_cell", "projectId"),
        ("jupyter_read_cell", "kernel"),
    ] {
        let cell = json!({ "projectId": 1, "index": 0 });
        let reason = unavailable(call(&accounts, tool, cell, LONG).await);
        assert!(
            reason.contains(argument) && reason.contains("nothing was sent"),
            "{reason}"
        );
    }
    assert!(by_two.lock().is_empty());
}

#[tokio::test]
async fn all_pages_of_projects_are_read_of_a_remote_server_alone() {
    let (two, by_two) = remote(&[1, 2, 3]);
    let accounts = Accounts::new([by_remote(two)]).unwrap();
    for tool in ["list_projects", "read_project"] {
        let answer = call(&accounts, tool, json!({}), LONG).await.unwrap();
        assert_eq!(answer["projects"].as_array().unwrap().len(), 3, "{tool}");
    }
    assert!(tools(&by_two).iter().all(|tool| tool == "list_projects"));
    let range = json!({ "projectId": 1, "start": 0, "end": 2 });
    let refused = failure(call(&accounts, "read_project", range, LONG).await);
    assert!(
        matches!(refused, Failure::InvalidArgument(_)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_version_of_a_remote_server_is_that_of_its_handshake() {
    let (two, by_two) = remote(&[1]);
    let accounts = Accounts::new([by_remote(two)]).unwrap();
    let version = call(&accounts, "read_mcp_server_version", json!({}), LONG).await;
    assert_eq!(version.unwrap(), json!({ "result": "0" }));
    let latest = call(&accounts, "read_latest_mcp_server_version", json!({}), LONG).await;
    assert!(matches!(failure(latest), Failure::NotFound(_)));
    assert!(by_two.lock().is_empty());
}

#[tokio::test]
async fn a_raw_call_reaches_what_only_the_remote_server_has_unless_it_is_listed() {
    let ((one, by_one), (two, by_two)) = (rest(&[1]), remote(&[1]));
    let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
    call(&accounts, "tool_of_tomorrow", json!({}), LONG)
        .await
        .unwrap();
    assert_eq!(others(&by_two), ["tool_of_tomorrow"]);
    let reason = unavailable(call(&accounts, "read_open_project", json!({}), LONG).await);
    assert!(reason.contains("another session may change"), "{reason}");
    assert_eq!(others(&by_two), ["tool_of_tomorrow"]);
    assert!(!tools(&by_one).contains(&"tool_of_tomorrow".to_owned()));
}

#[tokio::test]
async fn no_call_goes_by_the_name_of_a_connection() {
    let ((one, by_one), (two, by_two)) = (rest(&[1]), remote(&[1]));
    let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
    let remote = remote_of(ACCOUNT);
    for tool in ["list_skills", "read_account", "tool_of_tomorrow"] {
        let called = accounts.call(Call {
            account: &remote,
            target: by_tool(tool).map_or(Target::Unknown(tool), Target::Known),
            arguments: serde_json::Map::new(),
            deadline: Instant::now() + Duration::from_millis(LONG),
            clearance: always(),
            sends: None,
        });
        let Failure::InvalidArgument(reason) = failure(called.await) else {
            panic!("{tool}")
        };
        assert!(
            reason.contains("no account `research.remote`; configured are: research"),
            "{reason}"
        );
        assert!(!reason.contains(", research.remote"), "{reason}");
    }
    assert!(by_one.lock().is_empty() && by_two.lock().is_empty());
    // By the name of the account, the same call is sent.
    call(&accounts, "list_skills", json!({}), LONG)
        .await
        .unwrap();
    assert_eq!(tools(&by_two).last().unwrap(), "list_skills");
}

#[tokio::test]
async fn a_connection_that_an_account_no_longer_has_is_gone() {
    let ((one, _), (two, _)) = (rest(&[1]), remote(&[1]));
    let accounts = Accounts::new([by_rest(one), by_remote(two)]).unwrap();
    call(&accounts, "list_skills", json!({}), LONG)
        .await
        .unwrap();
    let (again, _) = rest(&[1]);
    accounts.update(vec![by_rest(again)], &[]).await.unwrap();
    assert_eq!(accounts.names(), [ACCOUNT]);
    let reason = unavailable(call(&accounts, "list_skills", json!({}), LONG).await);
    assert!(reason.contains("[account.research.remote]"), "{reason}");
    accounts
        .update(Vec::new(), &[ACCOUNT.to_owned()])
        .await
        .unwrap();
    assert!(accounts.names().is_empty());
}

#[tokio::test]
async fn a_later_login_of_another_user_is_refused_until_the_user_is_forgotten() {
    let name = remote_of(ACCOUNT);
    let memory = Arc::new(Memory::default());
    let log_in = |ids: &'static [u32]| {
        let (two, by_two) = remote(ids);
        let account = by_remote(two).with_login(Arc::<Memory>::clone(&memory));
        (Accounts::new([account]).unwrap(), by_two)
    };
    // The first login says whose the account is, on all pages.
    let (accounts, by_first) = log_in(&[1, 2, 3]);
    call(&accounts, "list_skills", json!({}), LONG)
        .await
        .unwrap();
    assert_eq!(tools(&by_first).last().unwrap(), "list_skills");
    let kept = memory.get(&name).unwrap();
    let kept = kept["projects"].as_object().unwrap();
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["1", "2", "3"]);
    // Another user, also one who shares projects: only the comparison is sent.
    let others: [&[u32]; 3] = [&[8, 9], &[1, 2, 9], &[]];
    for other in others {
        let (accounts, by_other) = log_in(other);
        for tool in ["list_skills", "send_email_notification", "tool_of_tomorrow"] {
            let arguments = json!({ "address": "a@x.test", "subject": "s", "message": "m" });
            let reason = unavailable(call(&accounts, tool, arguments, LONG).await);
            for said in ["project", "log in as that user", "account logout"] {
                assert!(reason.contains(said), "{reason}");
            }
        }
        assert!(tools(&by_other).iter().all(|tool| tool == "list_projects"));
        assert!(accounts.is_other(&name));
        let health = accounts.health(&name).unwrap();
        assert_eq!(health.state, AccountState::Unauthorized, "{health:?}");
    }
    // The same user, with a project more.
    let (accounts, _) = log_in(&[1, 2, 3, 4]);
    call(&accounts, "list_skills", json!({}), LONG)
        .await
        .unwrap();
    assert!(!accounts.is_other(&name));
    // Forgotten, as by a logout.
    memory.forget(&name);
    let (accounts, _) = log_in(&[8, 9]);
    call(&accounts, "list_skills", json!({}), LONG)
        .await
        .unwrap();
    let kept = memory.get(&name).unwrap();
    assert!(kept["projects"]["8"].is_string(), "{kept}");
}
