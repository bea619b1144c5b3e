//! What a plugin can make happen through the gate, and what not. The connection is a fake that
//! writes down what reaches it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use qchost_catalog::{Access, BoxFuture, Call, Failure, OPERATIONS, Outcome, Upstream, by_name};
use qchost_gate::{Caller, Gate, Manifest, Options, Profiles, Refusal, Setting, StateStore};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

/// A connection that answers everything alike, once it may.
struct Fake {
    sent: Mutex<Vec<(String, Map<String, Value>)>>,
    done: Mutex<usize>,
    may_answer: Semaphore,
    outcome: Outcome,
}

#[derive(Clone)]
struct Handle(Arc<Fake>);

impl Upstream for Handle {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            self.0
                .sent
                .lock()
                .unwrap()
                .push((call.target.tool().to_owned(), call.arguments));
            let _permit = self.0.may_answer.acquire().await.unwrap();
            *self.0.done.lock().unwrap() += 1;
            self.0.outcome.clone()
        })
    }

    fn download<'a>(
        &'a self,
        _account: &'a str,
        _url: &'a str,
        _limit: u64,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async { Err(Failure::NotFound("nothing here".to_owned())) })
    }
}

struct World {
    gate: Gate,
    fake: Arc<Fake>,
    caller: Caller,
}

impl World {
    fn new(allow: &str) -> Self {
        Self::with(allow, Ok(json!({ "success": true })), BTreeMap::new())
    }

    fn with(
        allow: &str,
        outcome: Outcome,
        profiles: BTreeMap<String, BTreeMap<String, Setting>>,
    ) -> Self {
        let fake = Arc::new(Fake {
            sent: Mutex::default(),
            done: Mutex::default(),
            may_answer: Semaphore::new(1000),
            outcome,
        });
        let options = Options {
            profiles: Profiles::new(profiles),
            state: StateStore::in_memory().unwrap(),
            call_timeout: Duration::from_secs(5),
        };
        let gate = Gate::new(Box::new(Handle(Arc::clone(&fake))), options);
        gate.install(manifest(allow));
        let caller = Caller {
            plugin: "lab".into(),
            digest: "sha256:0".into(),
            invocation: "1".into(),
        };
        Self { gate, fake, caller }
    }

    async fn call(&self, name: &str, arguments: Value) -> Result<Value, Refusal> {
        let Value::Object(arguments) = arguments else {
            panic!("not an object")
        };
        self.gate
            .call(&self.caller, by_name(name).unwrap(), arguments)
            .await
    }

    fn sent(&self) -> Vec<String> {
        self.fake
            .sent
            .lock()
            .unwrap()
            .iter()
            .map(|(tool, _)| tool.clone())
            .collect()
    }
}

fn manifest(allow: &str) -> Manifest {
    let text = format!(
        "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\n[[grant]]\nname = \"g\"\nallow = [{allow}]\n"
    );
    Manifest::parse(&text, Path::new("lab.toml")).unwrap()
}

#[tokio::test]
async fn every_operation_passes_with_its_grant_and_is_denied_without() {
    for operation in OPERATIONS {
        let granted = World::new(&format!("\"{}\"", operation.name));
        let answer = granted.call(operation.name, json!({})).await;
        // Deploying needs a profile; that it is asked for shows that the grant was found.
        let profile = matches!(&answer, Err(Refusal::Failed(Failure::InvalidArgument(text))) if text.contains("profile"));
        assert!(answer.is_ok() || profile, "{}: {answer:?}", operation.name);

        let others = OPERATIONS
            .iter()
            .filter(|other| other.name != operation.name);
        let allow = others
            .map(|other| format!("\"{}\"", other.name))
            .collect::<Vec<_>>()
            .join(",");
        let denied = World::new(&allow);
        let Err(Refusal::Denied(denial)) = denied.call(operation.name, json!({})).await else {
            panic!("{} passed without a grant", operation.name)
        };
        assert!(denial.remedy.unwrap().contains(operation.name));
        assert_eq!(denied.sent(), Vec::<String>::new(), "{}", operation.name);
    }
}

#[tokio::test]
async fn a_star_does_not_cover_what_deletes_or_trades() {
    let world = World::new("\"*\"");
    for operation in OPERATIONS {
        let answer = world.call(operation.name, json!({})).await;
        let denied = matches!(answer, Err(Refusal::Denied(_)));
        let dangerous = matches!(operation.access, Access::Destroy | Access::Trade);
        assert_eq!(denied, dangerous, "{}", operation.name);
    }
}

#[tokio::test]
async fn an_empty_manifest_allows_nothing() {
    let world = World::new("");
    for operation in OPERATIONS {
        assert!(matches!(
            world.call(operation.name, json!({})).await,
            Err(Refusal::Denied(_))
        ));
    }
    assert!(world.gate.check_workflow(&world.caller).is_err());
    assert!(
        world
            .gate
            .download(&world.caller, "org", "key", 10)
            .await
            .is_err()
    );
    assert_eq!(world.sent(), Vec::<String>::new());
}

#[tokio::test]
async fn a_known_tool_by_its_name_needs_the_grant_of_its_operation() {
    let world = World::new("\"raw/*\", \"compile/read-compile\"");
    let raw = async |tool: &str| world.gate.call_raw(&world.caller, tool, Map::new()).await;
    assert!(raw("read_compile").await.is_ok());
    assert!(matches!(
        raw("create_compile").await,
        Err(Refusal::Denied(_))
    ));
    assert!(matches!(
        raw("brand_new_tool").await,
        Err(Refusal::Denied(_))
    ));
    assert_eq!(world.sent(), ["read_compile"]);

    let exact = World::new("\"raw/brand_new_tool\"");
    assert!(
        exact
            .gate
            .call_raw(&exact.caller, "brand_new_tool", Map::new())
            .await
            .is_ok()
    );
    assert!(
        exact
            .gate
            .call_raw(&exact.caller, "other_tool", Map::new())
            .await
            .is_err()
    );
}

/// A server takes a wrapper off in which the gate would find neither a profile nor a project.
#[tokio::test]
async fn nothing_is_smuggled_past_the_gate_in_an_argument_that_does_not_exist() {
    let world = World::new("\"raw/*\", \"live/create-live-algorithm\", \"compile/read-compile\"");
    let raw = async |tool: &str, arguments: Value| {
        let arguments = arguments.as_object().unwrap().clone();
        world.gate.call_raw(&world.caller, tool, arguments).await
    };
    let settings = json!({ "brokerage": { "id": "InteractiveBrokersBrokerage" } });
    for (tool, arguments) in [
        ("create_live_algorithm", json!({ "model": settings })),
        ("read_compile", json!({ "model": { "projectId": 1 } })),
        ("read_compile", json!({ "projectId": 1, "compileID": "c" })),
    ] {
        let error = raw(tool, arguments).await.unwrap_err().to_string();
        assert!(error.contains("there is no argument"), "{error}");
    }
    assert_eq!(world.sent(), Vec::<String>::new());
    raw("read_compile", json!({ "projectId": 1, "compileId": "c" }))
        .await
        .unwrap();
    assert_eq!(world.sent(), ["read_compile"]);
}

/// Once a person has logged in, the answer holds the brokerage's tokens.
#[tokio::test]
async fn a_plugin_learns_that_a_connection_is_authorised_and_not_its_tokens() {
    for (answer, seen) in [
        (
            json!({ "url": "https://log.in" }),
            json!({ "url": "https://log.in" }),
        ),
        (
            json!({ "alpaca-access-token": "t", "accounts": [] }),
            json!({}),
        ),
        (json!("a-token"), json!({})),
    ] {
        let outcome = Ok(json!({ "authorization": answer, "success": true }));
        let world = World::with("\"raw/*\", \"live/*\"", outcome, BTreeMap::new());
        let arguments = json!({ "brokerage": "alpaca" })
            .as_object()
            .unwrap()
            .clone();
        let raw = world
            .gate
            .call_raw(&world.caller, "authorize_connection", arguments)
            .await;
        assert_eq!(
            raw.unwrap(),
            json!({ "authorization": seen, "success": true })
        );
    }
}

#[tokio::test]
async fn a_download_that_was_begun_ends_even_if_nobody_waits() {
    let world = World::new("\"object-store/download\"");
    world.fake.may_answer.forget_permits(1000);
    let cut_off = tokio::time::timeout(
        Duration::from_millis(20),
        world.gate.download(&world.caller, "org", "key", 10),
    );
    assert!(cut_off.await.is_err());
    world.fake.may_answer.add_permits(1);
    tokio::time::timeout(Duration::from_secs(5), world.gate.idle())
        .await
        .unwrap();
    assert_eq!(*world.fake.done.lock().unwrap(), 1);
    // The next step would have been the invocation's to ask for.
    assert_eq!(world.sent(), ["read_object_store_file_job_id"]);
}

#[tokio::test]
async fn authority_is_read_at_every_call() {
    let world = World::new("\"compile/*\"");
    let read = async || world.call("compile/read-compile", json!({})).await;
    assert!(read().await.is_ok());
    world.gate.install(manifest("\"files/*\""));
    let Err(Refusal::Denied(denial)) = read().await else {
        panic!("still allowed")
    };
    assert!(
        denial
            .reason
            .contains("no grant of `lab` allows `compile/read-compile` (read)"),
        "{}",
        denial.reason
    );
    world.gate.install(manifest("\"compile/*\""));
    assert!(read().await.is_ok());
    world.gate.remove("lab");
    assert!(matches!(read().await, Err(Refusal::Denied(_))));
    assert_eq!(world.sent().len(), 2);
}

#[tokio::test]
async fn imports_without_a_grant_print_the_missing_lines() {
    let world = World::new("\"compile/read-compile\", \"workflow\"");
    let check = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        world.gate.manifest("lab").unwrap().check_imports(&names)
    };
    assert!(check(&["compile", "workflow"]).is_ok());
    let error = check(&["compile", "backtests", "live-commands", "raw"])
        .unwrap_err()
        .to_string();
    for expected in [
        "backtests",
        "allow = [\"backtests/*\"]",
        "allow = [\"live-commands/create-live-command\"]",
        "allow = [\"raw/*\"]",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    // What is printed can be pasted, and then it loads.
    let lines: String = error.lines().skip(1).collect::<Vec<_>>().join("\n");
    let text = format!(
        "plugin = \"lab\"\ncomponent = \"l\"\naccount = \"a\"\n[[grant]]\nname = \"compile\"\nallow = [\"compile/*\"]\n{lines}"
    );
    world
        .gate
        .install(Manifest::parse(&text, Path::new("lab.toml")).unwrap());
    assert!(check(&["compile", "backtests", "live-commands", "raw"]).is_ok());
}

#[tokio::test]
async fn a_write_that_was_sent_ends_even_if_nobody_waits() {
    let world = World::new("\"projects/create-project\"");
    world.fake.may_answer.forget_permits(1000);
    let cut_off = tokio::time::timeout(
        Duration::from_millis(20),
        world.call("projects/create-project", json!({ "name": "x" })),
    );
    assert!(cut_off.await.is_err());
    assert_eq!(*world.fake.done.lock().unwrap(), 0);
    world.fake.may_answer.add_permits(1);
    tokio::time::timeout(Duration::from_secs(5), world.gate.idle())
        .await
        .unwrap();
    assert_eq!(
        (world.sent().len(), *world.fake.done.lock().unwrap()),
        (1, 1)
    );
}

#[tokio::test]
async fn the_host_fills_in_profiles_and_takes_secrets_out_of_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "pass-of-the-test\n").unwrap();
    let profiles = || {
        let profile = BTreeMap::from([
            (
                "id".to_owned(),
                Setting::Plain(json!("InteractiveBrokersBrokerage")),
            ),
            (
                "ib-password".to_owned(),
                Setting::File { file: file.clone() },
            ),
        ]);
        BTreeMap::from([("ib".to_owned(), profile)])
    };
    let echo = Err(Failure::Rejected(vec![
        "bad password: pass-of-the-test".to_owned(),
    ]));
    let world = World::with("\"live/create-live-algorithm\"", echo, profiles());
    let deploy = async |brokerage: Value| {
        world
            .call(
                "live/create-live-algorithm",
                json!({ "brokerage": brokerage, "dataProviders": ["ib"] }),
            )
            .await
    };

    // A secret that others can read is not used.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        deploy(json!("ib"))
            .await
            .unwrap_err()
            .to_string()
            .contains("chmod 600")
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

    // A plugin cannot bring settings of its own, nor a profile that is not there.
    assert!(
        deploy(json!({ "id": "X" }))
            .await
            .unwrap_err()
            .to_string()
            .contains("never its settings")
    );
    assert!(
        deploy(json!("none"))
            .await
            .unwrap_err()
            .to_string()
            .contains("no profile `none`")
    );
    assert_eq!(world.sent(), Vec::<String>::new());

    let error = deploy(json!("ib")).await.unwrap_err().to_string();
    assert!(
        error.contains("[redacted]") && !error.contains("pass-of-the-test"),
        "{error}"
    );
    // Nor does it come back in an answer that repeats what was sent.
    let echo = Ok(json!({ "live": { "settings": ["ib-password: pass-of-the-test"] } }));
    let echoing = World::with("\"live/create-live-algorithm\"", echo, profiles());
    let answer = echoing
        .call("live/create-live-algorithm", json!({ "brokerage": "ib" }))
        .await;
    assert_eq!(
        answer.unwrap(),
        json!({ "live": { "settings": ["ib-password: [redacted]"] } })
    );
    let twice = json!({ "brokerage": "ib", "dataProviders": ["ib", "ib"] });
    let error = echoing.call("live/create-live-algorithm", twice).await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("two profiles for `InteractiveBrokersBrokerage`")
    );

    let sent = world.fake.sent.lock().unwrap();
    assert_eq!(sent[0].1["brokerage"]["ib-password"], "pass-of-the-test");
    assert_eq!(
        sent[0].1["dataProviders"]["InteractiveBrokersBrokerage"]["ib-password"],
        "pass-of-the-test"
    );
}
