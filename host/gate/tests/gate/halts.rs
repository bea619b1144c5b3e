//! Halts from the view of operators and plugins.

use qchost_gate::{HaltScope, PluginCalls as _, Refusal};
use qchost_testing::cloud::{Cloud, Setup, call, file, halt, person, principal, resume, until};
use serde_json::{Value, json};

const LAB: &str = "[[grant]]\nname = \"lab\"\nallow = [\"projects/*\", \"files/*\", \"backtests/*\", \"live/*\", \"files/delete-file\"]\nprojects = [\"Lab/*\"]\n";

fn halted(answer: Result<Value, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Halted(_)))
}

#[tokio::test]
async fn what_changes_something_stops_and_what_reads_or_makes_safer_goes_on() {
    let world = Setup::grants(LAB).open().await;
    world.create_file("a.py").await.unwrap();
    let sent = world.cloud.sent().len();
    halt(&world.gate, HaltScope::default()).await;
    assert_eq!(
        world.create_file("a.py").await.unwrap_err(),
        Refusal::Halted("ann halted everything: a drill".to_owned())
    );
    let named = json!({ "projectId": 1, "name": "a.py" });
    assert!(halted(world.call("files/delete-file", named).await));
    assert_eq!(world.cloud.sent().len(), sent);

    world
        .call("projects/list-projects", json!({}))
        .await
        .unwrap();
    for reduces in ["live/liquidate-live-algorithm", "live/stop-live-algorithm"] {
        let project = json!({ "projectId": 1 });
        world.call(reduces, project).await.unwrap();
    }
    resume(&world.gate, HaltScope::default()).await;
    world.create_file("a.py").await.unwrap();
}

#[tokio::test]
async fn a_halt_is_for_its_scope_and_survives_a_restart() {
    let setup = Setup::grants(LAB);
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let gate = setup.open_in(folder.path(), &cloud).await;
    let other = HaltScope {
        account: Some("other".to_owned()),
        plugin: None,
    };
    let this = HaltScope {
        account: Some("a".to_owned()),
        plugin: Some("lab".to_owned()),
    };
    halt(&gate, other).await;
    let create = async |gate: &qchost_gate::Gate| {
        call(gate, &principal("lab"), "files/create-file", file("a.py")).await
    };
    create(&gate).await.unwrap();
    halt(&gate, this.clone()).await;
    gate.idle().await;
    drop(gate);
    let gate = setup.open_in(folder.path(), &cloud).await;
    assert!(halted(create(&gate).await));
    assert_eq!(gate.halts.store.list().len(), 2);
    let resumed = resume(&gate, this).await;
    assert_eq!((resumed.ended, resumed.halts.len()), (1, 1));
    create(&gate).await.unwrap();
}

#[tokio::test]
async fn a_halt_names_what_had_left_and_how_it_ended() {
    let world = Setup::grants(LAB).open().await;
    // Its project is known by then, so that the write is the next thing to be answered.
    world.read_file().await.unwrap();
    world.cloud.hold();
    let create = world.start("files/create-file", file("a.py"));
    world.cloud.until_called("create_file").await;
    let gate = world.gate.clone();
    let halting = tokio::spawn(async move { halt(&gate, HaltScope::default()).await });
    // In force at once, while it still waits for departed calls.
    until("writes are halted", async || {
        halted(world.create_file("b.py").await)
    })
    .await;
    world.cloud.release();
    create.await.unwrap().unwrap();
    let report = halting.await.unwrap();
    assert_eq!(report.departed.len(), 1, "{report:?}");
    assert_eq!(report.departed[0].operation, "files/create-file");
    assert_eq!(report.departed[0].ended, "answered");
}

/// Resolving a name and connecting happen between the decision and the first byte.
#[tokio::test]
async fn a_request_elsewhere_is_halted_until_its_bytes_go_out() {
    let http = "[[http]]\nname = \"hooks\"\nallow = \"https://hooks.example/\"\n";
    let world = Setup::grants(http).open().await;
    let ask = async |method: &str| {
        let request = qchost_gate::Outgoing {
            method: method.to_owned(),
            scheme: "https".to_owned(),
            host: "hooks.example".to_owned(),
            port: 443,
            path: "/a".to_owned(),
        };
        world.gate.outgoing(&world.principal, request).await
    };
    let (post, get) = (ask("POST").await.unwrap(), ask("GET").await.unwrap());
    post.clear().unwrap();
    halt(&world.gate, HaltScope::default()).await;
    assert!(matches!(post.clear(), Err(Refusal::Halted(_))));
    get.clear().unwrap();
    assert!(matches!(ask("POST").await, Err(Refusal::Halted(_))));
    get.finish(Ok(200), 0, 10);
    let read = world.records_of("http").await.remove(0);
    assert_eq!(read["status"], 200);
    assert_eq!(read["grants"], json!(["http:hooks"]));
}

#[tokio::test]
async fn halts_that_come_together_all_hold() {
    let world = Setup::grants(LAB).open().await;
    let ann = person(7, "ann");
    let of = |plugin: &str| HaltScope {
        account: None,
        plugin: Some(plugin.to_owned()),
    };
    let (one, two, ended) = tokio::join!(
        world.gate.halts.halt(&ann, of("lab"), "x", false),
        world.gate.halts.halt(&ann, of("other"), "y", false),
        world.gate.halts.resume(&ann, HaltScope::default()),
    );
    one.unwrap();
    two.unwrap();
    ended.unwrap();
    assert_eq!(world.gate.halts.store.list().len(), 2);
    // The account of a plugin that is not loaded is unknown, and the halt does not cover all
    // accounts.
    let unknown = world.gate.halts.halt(&ann, of("other"), "y", true).await;
    let problems = unknown.unwrap().problems;
    assert!(problems[0].contains("name the account"), "{problems:?}");
    assert_eq!(world.cloud.count("liquidate_live_algorithm"), 0);
}

/// An operator who calls directly, beside a plugin with the same grants.
#[tokio::test]
async fn no_guardrail_keeps_an_operator_from_making_an_account_safer() {
    let rule = "forbid (principal, action, resource);";
    let mut setup = Setup::grants(LAB);
    let files = [(std::path::PathBuf::from("all.cedar"), rule.to_owned())];
    setup.guardrails = qchost_policy::Guardrails::read(&files).unwrap();
    let world = setup.open().await;
    let operator = qchost_policy::Manifest::operator("a");
    let hand = principal(&operator.plugin);
    world.gate.policies.install(operator).unwrap();
    let project = json!({ "projectId": 1 });
    for (principal, name, allowed) in [
        (&hand, "live/liquidate-live-algorithm", true),
        (&hand, "live/stop-live-algorithm", true),
        (&hand, "live/read-live-algorithm", false),
        (&hand, "files/delete-file", false),
        (&world.principal, "live/stop-live-algorithm", false),
        (&world.principal, "live/liquidate-live-algorithm", false),
    ] {
        let before = world.cloud.sent().len();
        let mut arguments = project.clone();
        if name == "files/delete-file" {
            arguments["name"] = "a.py".into();
        }
        let answer = call(&world.gate, principal, name, arguments).await;
        assert_eq!(answer.is_ok(), allowed, "{name}: {answer:?}");
        let sent = usize::from(allowed);
        assert_eq!(world.cloud.sent().len() - before, sent, "{name}");
    }
}

#[tokio::test]
async fn a_call_that_waited_is_decided_about_by_the_authority_of_then() {
    let mut setup = Setup::grants(LAB);
    setup.limits.in_flight = std::num::NonZeroU32::new(1);
    let world = setup.open().await;
    world.read_file().await.unwrap();
    world.cloud.hold();
    let first = world.start("files/create-file", file("a.py"));
    world.cloud.until_called("create_file").await;
    let second = world.start("files/create-file", file("b.py"));
    tokio::task::yield_now().await;
    world.gate.proposals.remove("lab");
    world.cloud.release();
    first.await.unwrap().unwrap();
    assert!(matches!(second.await.unwrap(), Err(Refusal::Denied(_))));
    assert_eq!(world.cloud.count("create_file"), 1);
}
