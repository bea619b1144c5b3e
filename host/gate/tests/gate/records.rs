//! The audit of what passes the gate: complete, in order, and on disk before anything is sent.

use std::collections::BTreeSet;
use std::sync::Arc;

use qchost_audit::faults::{Drive, Event};
use qchost_audit::{Kind, Record};
use qchost_catalog::Failure;
use qchost_gate::{
    AdminDetail, ApprovalDetail, Body, CallBody, HaltBody, Refusal, RevokedApproval, Subject,
};
use qchost_testing::cloud::{Cloud, Setup, person, principal, records};
use serde_json::{Value, json};

const LAB: &str = "[[grant]]\nname = \"lab\"\nallow = [\"projects/*\", \"files/*\", \"live/*\"]\nprojects = [\"Lab/*\"]\nlimits = { per-day = 100 }\n";

fn file(name: &str) -> Value {
    json!({ "projectId": 1, "name": name, "content": "x".repeat(300) })
}

#[tokio::test]
async fn every_decision_is_recorded_with_what_it_was_made_of() {
    let world = Setup::grants(LAB).open().await;
    world.call("files/create-file", file("a.py")).await.unwrap();
    world
        .call("files/read-file", json!({ "projectId": 1, "name": "a.py" }))
        .await
        .unwrap();
    world
        .call(
            "files/create-file",
            json!({ "projectId": 9, "name": "a.py" }),
        )
        .await
        .unwrap_err();
    let records = world.records().await;
    let kinds: Vec<_> = records
        .iter()
        .map(|record| record["kind"].as_str().unwrap())
        .collect();
    for kind in ["intent", "outcome", "read", "denied"] {
        assert_eq!(
            kinds.iter().filter(|one| **one == kind).count(),
            1,
            "{kind}: {kinds:?}"
        );
    }
    let of = |kind: &str| {
        records
            .iter()
            .find(|record| record["kind"] == kind)
            .unwrap()
    };
    let intent = of("intent");
    assert_eq!(intent["operation"], "files/create-file");
    assert_eq!(intent["project"], json!({ "id": 1, "name": "Lab/one" }));
    assert_eq!(intent["grants"], json!(["lab"]));
    assert_eq!(intent["decision"], "allowed");
    assert_eq!(intent["arguments"]["content"]["bytes"], 300);
    assert!(intent["reservation"].is_i64());
    let outcome = of("outcome");
    assert_eq!(outcome["call"], intent["call"]);
    assert_eq!(outcome["outcome"], "answered");
    assert!(
        outcome["response-hash"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    let denied = of("denied");
    assert_eq!(denied["decision"], "denied");
    assert_eq!(denied["project"], json!({ "id": 9, "name": "Prod/main" }));
}

#[tokio::test]
async fn nothing_is_sent_before_its_intent_is_on_disk() {
    let drive = Drive::new();
    drive.remember();
    let mut setup = Setup::grants(LAB);
    setup.files = Arc::new(drive.clone());
    let world = setup.open().await;
    let sending = drive.clone();
    world.cloud.hook(move |tool, arguments| {
        if tool == "create_file" {
            sending.mark(arguments["name"].as_str().unwrap());
        }
        None
    });
    let calls =
        (0..50).map(|number| world.call("files/create-file", file(&format!("f{number}.py"))));
    for answer in futures::future::join_all(calls).await {
        answer.unwrap();
    }
    let (mut written, mut synced, mut sent) = (Vec::new(), String::new(), 0);
    for event in drive.events() {
        match event {
            Event::Written { name, bytes, .. } => {
                written.push((name, String::from_utf8_lossy(&bytes).into_owned()));
            }
            Event::Synced(name) => {
                let (done, left): (Vec<_>, _) =
                    written.into_iter().partition(|(of, _)| *of == name);
                written = left;
                synced.extend(done.into_iter().map(|(_, text)| text));
            }
            Event::FolderSynced => {}
            Event::Mark(name) => {
                let intent = |line: &str| {
                    line.contains("\"kind\":\"intent\"") && line.contains(&format!("\"{name}\""))
                };
                assert!(synced.lines().any(intent), "{name} was sent too early");
                sent += 1;
            }
        }
    }
    assert_eq!(sent, 50);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_lets_reads_and_what_makes_safer_go_on() {
    let drive = Drive::new();
    let mut setup = Setup::grants(LAB);
    setup.files = Arc::new(drive.clone());
    let world = setup.open().await;
    world.call("files/create-file", file("a.py")).await.unwrap();
    drive.set_capacity(Some(drive.used()));
    let refused = world.call("files/create-file", file("b.py")).await;
    let Err(Refusal::Failed(Failure::Unavailable(message))) = &refused else {
        panic!("{refused:?}")
    };
    assert!(message.contains("full"), "{message}");
    assert_eq!(world.cloud.sent(), ["create_file"]);
    world
        .call("files/read-file", json!({ "projectId": 1, "name": "a.py" }))
        .await
        .unwrap();
    world
        .call("live/stop-live-algorithm", json!({ "projectId": 1 }))
        .await
        .unwrap();
    let stops = |drive: &Drive| {
        let query = qchost_audit::query(
            Arc::new(drive.clone()),
            &world.folder.path().join("audit"),
            qchost_audit::Filter::default(),
        );
        let records = query.unwrap().map(|record| record.unwrap());
        records
            .filter(|record| record.summary().operation == Some("live/stop-live-algorithm"))
            .count()
    };
    world.gate.idle().await;
    assert_eq!(stops(&drive), 2, "an intent and its outcome");
    drive.set_capacity(None);
    world.call("files/create-file", file("c.py")).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_is_found_again_by_reading() {
    let world = Setup::grants(LAB).open().await;
    world.cloud.hook(|tool, _| {
        (tool == "create_project").then(|| Err(Failure::UnknownOutcome("lost".to_owned())))
    });
    let create = async |name: &str| {
        world
            .call(
                "projects/create-project",
                json!({ "name": name, "language": "Py" }),
            )
            .await
    };
    create("Lab/there").await.unwrap_err();
    create("Lab/missing").await.unwrap_err();
    world.cloud.hook(|tool, _| {
        (tool == "list_projects").then(|| {
            Ok(json!({ "success": true, "projects": [{ "projectId": 5, "name": "Lab/there", "created": "2999-01-01 00:00:00" }] }))
        })
    });
    let ann = person(7, "ann");
    let found = world.gate.reconciler.reconcile(&ann, &[]).await.unwrap();
    let findings: Vec<_> = found.iter().map(|one| one.finding).collect();
    assert_eq!(
        findings,
        [qchost_gate::Finding::Done, qchost_gate::Finding::NotDone]
    );
    let again = world.gate.reconciler.reconcile(&ann, &[]).await.unwrap();
    assert!(again.is_empty());
    let records = world.records().await;
    assert!(
        records
            .iter()
            .any(|record| record["outcome"] == "reconciled: done")
    );
}

const REPEATED: &str = "[[grant]]\nname = \"lab\"\nallow = [\"backtests/*\", \"compile/*\", \"live-commands/create-live-command\", \"files/*\"]\n\
                        projects = [\"Lab/*\"]\ncommands = [\"*\"]\n";

fn backtest(name: &str) -> serde_json::Value {
    json!({ "projectId": 1, "compileId": "c1", "backtestName": name })
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again_before_it_is_known() {
    let mut setup = Setup::grants(REPEATED);
    setup.live_trading = true;
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let lost = [
        ("backtests/create-backtest", backtest("x")),
        (
            "live-commands/create-live-command",
            json!({ "projectId": 1, "command": { "$type": "Order", "quantity": 5 } }),
        ),
    ];
    cloud.hook(|tool, _| {
        let writes = ["create_backtest", "create_live_command", "create_compile"].contains(&tool);
        writes.then(|| Err(Failure::UnknownOutcome("lost".to_owned())))
    });
    let principal = principal("lab");
    let call = async |gate: &qchost_gate::Gate, name: &str, arguments: serde_json::Value| {
        qchost_testing::cloud::call(gate, &principal, name, arguments).await
    };
    let gate = setup.open_in(folder.path(), &cloud).await;
    for (name, arguments) in &lost {
        let refused = call(&gate, name, arguments.clone()).await.unwrap_err();
        assert_eq!(refused.word(), "unknown-outcome", "{name}");
    }
    // What changes nothing when it is done twice may be.
    let compile = json!({ "projectId": 1 });
    call(&gate, "compile/create-compile", compile.clone())
        .await
        .unwrap_err();
    let gate = setup.restart(gate, folder.path(), &cloud).await;
    cloud.hook(|_, _| None);
    let sent = |cloud: &Cloud| {
        cloud
            .sent()
            .into_iter()
            .filter(|tool| tool.starts_with("create_"))
            .count()
    };
    let before = sent(&cloud);
    let mut calls = Vec::new();
    for (name, arguments) in &lost {
        let refused = call(&gate, name, arguments.clone()).await.unwrap_err();
        assert_eq!(refused.word(), "denied", "{name}");
        let words = refused.to_string();
        let (_, call) = words.split_once("--accept ").unwrap();
        calls.push(call.to_owned());
    }
    assert_eq!(sent(&cloud), before, "nothing was sent");
    // Other arguments are another call.
    call(&gate, "backtests/create-backtest", backtest("y"))
        .await
        .unwrap();
    call(&gate, "compile/create-compile", compile)
        .await
        .unwrap();

    let ann = person(7, "ann");
    let unknown = gate
        .reconciler
        .reconcile(&ann, &["no-such".to_owned()])
        .await
        .unwrap_err();
    assert!(unknown.to_string().contains("no-such"), "{unknown}");
    // One is found out, of the other nothing can be seen, and a person takes it on.
    cloud.hook(|tool, _| {
        (tool == "list_backtests").then(|| Ok(json!({ "success": true, "backtests": [] })))
    });
    gate.reconciler.reconcile(&ann, &calls[1..]).await.unwrap();
    cloud.hook(|_, _| None);
    for (name, arguments) in &lost {
        call(&gate, name, arguments.clone()).await.unwrap();
    }
    gate.close().await;
    drop(gate);
    let outcomes: Vec<_> = records(folder.path())
        .into_iter()
        .filter_map(|record| Some(record["outcome"].as_str()?.to_owned()))
        .filter(|outcome| outcome.starts_with("reconciled"))
        .collect();
    assert_eq!(outcomes, ["reconciled: not done", "reconciled: accepted"]);
}

/// Records that the version before wrote: of every kind, with every combination of members.
const FORMER: &str = include_str!("fixtures/records.jsonl");

fn body_of(line: &str) -> (Record, Body) {
    let record = Record::parse(line.to_owned()).unwrap();
    let body = Body::read(&record);
    (record, body)
}

#[test]
fn records_of_the_version_before_are_read_as_types_and_written_again_as_they_were() {
    let mut kinds = BTreeSet::new();
    for line in FORMER.lines() {
        let (record, body) = body_of(line);
        let kind = record.kind().unwrap();
        kinds.insert(kind.word());
        let own = [Kind::Recovered, Kind::Gap, Kind::Rotated, Kind::Retention];
        assert_eq!(
            matches!(body, Body::Other(_)),
            own.contains(&kind),
            "{line}"
        );
        let is_known = match &body {
            Body::Approval(step) => !matches!(step.detail, Some(ApprovalDetail::Other(_))),
            Body::Admin(action) => !matches!(action.detail, Some(AdminDetail::Other(_))),
            _ => true,
        };
        assert!(is_known, "{line}");
        let Value::Object(written) = serde_json::to_value(&body).unwrap() else {
            panic!("{line}");
        };
        let [before, after] = [record.fields, written].map(|mut members| {
            for name in ["group", "hash", "kind", "prev", "seq", "time"] {
                members.remove(name);
            }
            qchost_audit::canonical_object(&members)
        });
        assert_eq!(before, after);
    }
    assert_eq!(kinds, BTreeSet::from(Kind::ALL.map(Kind::word)));
}

#[test]
fn a_record_of_another_version_is_read_as_far_as_it_is_known() {
    let line = r#"{"kind":"denied","call":"c-1","operation":{"bytes":5000,"digest":"sha256:00"},
        "plugin":"lab","grants":7,"reason":"no","member":"of another version"}"#;
    let (record, body) = body_of(line);
    assert_eq!(record.summary().plugin, Some("lab"));
    let read = CallBody {
        call: "c-1".to_owned(),
        plugin: "lab".to_owned(),
        reason: Some("no".to_owned()),
        ..CallBody::default()
    };
    assert_eq!(body, Body::Call(Box::new(read)));
    let (_, halted) = body_of(r#"{"kind":"halt","what":"halt"}"#);
    let halt = HaltBody {
        what: "halt".to_owned(),
        ..HaltBody::default()
    };
    assert_eq!(halted, Body::Halt(halt));
    for unknown in [
        r#"{"kind":"of another version","plugin":"lab"}"#,
        r#"{"kind":"change","plugin":"lab"}"#,
        r#"{"plugin":"lab"}"#,
    ] {
        let (record, body) = body_of(unknown);
        assert_eq!(body, Body::Other(record.fields.clone()));
        assert_eq!(record.summary().plugin, Some("lab"));
    }
}

#[test]
fn a_further_member_of_another_version_hides_none_of_those_that_are_known() {
    let detail_of = |kind: &str, detail: &str| {
        body_of(&format!(
            r#"{{"kind":"{kind}","what":"x","detail":{detail}}}"#
        ))
        .1
    };
    let (approval, reason) = ("ap-1".to_owned(), "no".to_owned());
    for (detail, read) in [
        (
            r#"{"approval":"ap-1","attempt":"approve","reason":"no","member":1}"#,
            ApprovalDetail::Failed {
                approval: Some(approval.clone()),
                attempt: "approve".to_owned(),
                reason: reason.clone(),
            },
        ),
        (
            r#"{"approval":"ap-1","reason":"no","member":1}"#,
            ApprovalDetail::Refuse {
                approval: Some(approval.clone()),
                reason: reason.clone(),
            },
        ),
        (
            r#"{"approval":"ap-1","standing":null,"member":1}"#,
            ApprovalDetail::Approve {
                approval: approval.clone(),
                standing: None,
            },
        ),
        (
            r#"{"approval":"ap-1"}"#,
            ApprovalDetail::Revoke(RevokedApproval { approval }),
        ),
        (
            r#"{"approval":"ap-1","standing":{"member":1}}"#,
            ApprovalDetail::Other(json!({ "approval": "ap-1", "standing": { "member": 1 } })),
        ),
    ] {
        let Body::Approval(step) = detail_of("approval", detail) else {
            panic!("{detail}");
        };
        assert_eq!(step.detail, Some(read));
    }
    for (detail, read) in [
        (
            r#"{"about":null,"reason":"no","member":1}"#,
            AdminDetail::Denied {
                about: None,
                reason: reason.clone(),
            },
        ),
        (
            r#"{"account":"lab","ends":null,"reason":"no","member":1}"#,
            AdminDetail::Account {
                account: "lab".to_owned(),
                ends: None,
                reason: Some(reason.clone()),
            },
        ),
        (
            r#"{"reason":"no","member":1}"#,
            AdminDetail::Failed { reason },
        ),
        (r#"{"member":1}"#, AdminDetail::Nothing {}),
        (r#"["member"]"#, AdminDetail::Other(json!(["member"]))),
    ] {
        let Body::Admin(action) = detail_of("admin", detail) else {
            panic!("{detail}");
        };
        assert_eq!(action.detail, Some(read));
    }
    let of_unknown_subject =
        r#"{"kind":"change","what":"of another version","file":"/p","member":1}"#;
    let (_, Body::Change(change)) = body_of(of_unknown_subject) else {
        panic!("{of_unknown_subject}");
    };
    assert_eq!(
        change.subject,
        Subject::Other("of another version".to_owned())
    );
    assert_eq!(change.file.as_deref(), Some("/p"));
}
