//! A backup taken while calls go on, opened elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qchost_gate::{Gate, Refusal};
use serde_json::{Value, json};

use qchost_testing::cloud::{
    Cloud, Setup, approve, call, file, parse, person, principal, records, required,
};

const GRANTS: &str = "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\nlimits = { per-day = 1000000 }\n\
    [[grant]]\nname = \"orders\"\nallow = [\"live-commands/create-live-command\"]\nprojects = [\"Lab/*\"]\ncommands = [\"*\"]\napproval = \"operator\"\n";

fn order(name: &str) -> Value {
    json!({ "projectId": 1, "command": { "$type": "Order", "order": name } })
}

async fn send_order(gate: &Gate, order: Value) -> Result<Value, Refusal> {
    call(
        gate,
        &principal("lab"),
        "live-commands/create-live-command",
        order,
    )
    .await
}

async fn write(gate: Gate, task: u32, ended: Arc<AtomicBool>) {
    for number in 0.. {
        if ended.load(Ordering::Relaxed) {
            return;
        }
        let file = file(&format!("f{task}-{number}"));
        call(&gate, &principal("lab"), "files/create-file", file)
            .await
            .unwrap();
        let order = order(&format!("o{task}-{number}"));
        let send = async || send_order(&gate, order.clone()).await;
        let id = required(send().await);
        approve(&gate, &id, &person(7, "ann")).await;
        send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_loses_and_doubles_no_budget_and_brings_no_permit_back() {
    let setup = Setup::grants(GRANTS);
    let world = Setup::grants(GRANTS).open().await;
    let ended = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|task| tokio::spawn(write(world.gate.clone(), task, Arc::clone(&ended))))
        .collect();
    let mut copies = Vec::new();
    for _ in 0..5 {
        let sent = world.cloud.sent();
        let before = sent
            .iter()
            .filter(|tool| tool.starts_with("create_"))
            .count();
        let copy = tempfile::tempdir().unwrap();
        world.gate.backups.backup(copy.path()).await.unwrap();
        copies.push((before, copy));
    }
    ended.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    for (before, copy) in copies {
        // Opening it elsewhere verifies the audit against the ledger's head, and settles what was open.
        let cloud = Cloud::new();
        let gate = setup.open_in(copy.path(), &cloud).await;
        gate.idle().await;
        let records = records(copy.path());
        let intents: Vec<&Value> = records
            .iter()
            .filter(|record| record["kind"] == "intent")
            .collect();
        assert!(intents.len() >= before, "{} of {before}", intents.len());
        let of = |operation: &str| {
            intents
                .iter()
                .filter(|intent| intent["operation"] == operation)
                .count()
        };
        let report = gate.reporter.grants("lab").await.unwrap().unwrap();
        let used = &json!(report.grants[0].obligations);
        assert_eq!(&used["per-day"]["used"], &json!(of("files/create-file")));
        // No permit can be used in the copy, which does not know what was sent after it was made.
        let all = qchost_ledger::ApprovalFilter {
            all: true,
            after: None,
            limit: 1000,
        };
        for approval in gate.approvals.list(all).await.unwrap().approvals {
            let approval = gate.approvals.get(&approval.id).await.unwrap().unwrap();
            let order = &approval.view["arguments"]["command"]["order"];
            let order = self::order(order.as_str().unwrap());
            match send_order(&gate, order).await {
                Err(Refusal::ApprovalRequired { .. }) => {}
                // The copy was made while the order was under way.
                Err(Refusal::Denied(denial)) => {
                    assert!(denial.reason.contains("is unknown"), "{denial:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(cloud.count("create_live_command"), 0);
    }
}

#[tokio::test]
async fn a_component_that_was_adopted_waits_for_a_new_yes_after_a_restore() {
    let grant = "[[grant]]\nname = \"orders\"\nallow = [\"live-commands/create-live-command\"]\nprojects = [\"Lab/*\"]\ncommands = [\"*\"]\n";
    let setup = Setup {
        production: true,
        ..Setup::grants(grant)
    };
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let digest: Arc<str> = "sha256:0".into();
    let opened = async |folder: &std::path::Path, cloud: &Arc<Cloud>| {
        let gate = setup.open_in(folder, cloud).await;
        let admitted = gate
            .adoptions
            .admit(&parse(&setup.manifest), &digest, &[], None)
            .await;
        admitted.unwrap();
        gate.proposals.end_adopting().await.unwrap();
        gate
    };
    let send = async |gate: &Gate| send_order(gate, order("o")).await;
    let gate = opened(folder.path(), &Cloud::new()).await;
    send(&gate).await.unwrap();
    gate.backups.backup(copy.path()).await.unwrap();
    let cloud = Cloud::new();
    let restored = opened(copy.path(), &cloud).await;
    let id = required(send(&restored).await);
    let orders = || cloud.count("create_live_command");
    assert_eq!(orders(), 0);
    approve(&restored, &id, &person(7, "ann")).await;
    send(&restored).await.unwrap();
    assert_eq!(orders(), 1);
}
