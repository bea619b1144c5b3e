//! What is in force, and the counters that belong to it.

use qchost_ledger::{
    AdoptOutcome, ApprovalError, ApprovalKind, CounterSuccessor, Ledger, NewApproval, NewInForce,
    Settlement, Status, Subject,
};

use crate::{DAY, HOUR, NOW, begin, counted, request};

fn adopt(text: &str, successors: Vec<CounterSuccessor>) -> NewInForce {
    NewInForce {
        subject: Subject::Manifest,
        name: "lab".to_owned(),
        digest: format!("digest of {text}"),
        text: text.to_owned(),
        by: "ann".to_owned(),
        now: NOW,
        approval: None,
        account: "research".to_owned(),
        successors,
    }
}

fn successor(to: &str, of: &[&str]) -> CounterSuccessor {
    CounterSuccessor {
        to: to.to_owned(),
        adds: false,
        of: Some(of.iter().map(|name| (*name).to_owned()).collect()),
        at_least: Vec::new(),
    }
}

/// The count of each grant.
async fn used(ledger: &Ledger, now: i64) -> Vec<(String, u32)> {
    let used = ledger.usage("research", "lab", now).await.unwrap();
    used.into_iter().map(|it| (it.grant, it.count)).collect()
}

#[tokio::test]
async fn what_is_in_force_is_there_after_a_restart_and_to_be_confirmed_after_a_restore() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    assert!(!ledger.has_adopted().await.unwrap());
    assert_eq!(
        ledger.in_force(Subject::Manifest, "lab").await.unwrap(),
        None
    );
    ledger
        .bring_into_force(adopt("one", Vec::new()))
        .await
        .unwrap();
    ledger.set_adopted().await.unwrap();
    let copy = folder.path().join("copy.db");
    ledger.backup_to(&copy).await.unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    let row = ledger
        .in_force(Subject::Manifest, "lab")
        .await
        .unwrap()
        .unwrap();
    assert!(row.confirmed && row.text == "one" && row.by == "ann");
    assert!(ledger.has_adopted().await.unwrap());
    // Other subjects and names are not affected.
    assert_eq!(
        ledger.in_force(Subject::Guardrails, "lab").await.unwrap(),
        None
    );
    assert_eq!(
        ledger.in_force(Subject::Manifest, "other").await.unwrap(),
        None
    );

    Ledger::restore(&copy).unwrap();
    let restored = Ledger::open(&copy).unwrap();
    assert!(restored.has_adopted().await.unwrap());
    let row = restored
        .in_force(Subject::Manifest, "lab")
        .await
        .unwrap()
        .unwrap();
    assert!(!row.confirmed);
    restored
        .bring_into_force(adopt("one", Vec::new()))
        .await
        .unwrap();
    let row = restored
        .in_force(Subject::Manifest, "lab")
        .await
        .unwrap()
        .unwrap();
    assert!(row.confirmed);
}

#[tokio::test]
async fn a_counter_takes_over_what_others_counted_and_keeps_its_own() {
    let ledger = Ledger::in_memory().unwrap();
    for (call, grants) in [("1", vec!["a"]), ("2", vec!["a", "b"]), ("3", vec!["c"])] {
        let charges = grants.into_iter().map(|grant| counted(grant, 9)).collect();
        let taken = ledger.begin(begin(call, NOW, charges)).await.unwrap();
        ledger.settle(taken, Settlement::Commit).await.unwrap();
    }
    let successors = vec![
        successor("new", &["a", "b"]),
        CounterSuccessor {
            adds: true,
            ..successor("c", &["a"])
        },
        successor("b", &["c"]),
        CounterSuccessor {
            of: None,
            ..successor("any", &[])
        },
        CounterSuccessor {
            at_least: vec!["a".to_owned()],
            ..successor("least", &["c"])
        },
    ];
    ledger
        .bring_into_force(adopt("two", successors))
        .await
        .unwrap();
    let expected = [
        ("a", 2),
        ("any", 4),
        ("b", 1),
        ("c", 3),
        ("least", 2),
        ("new", 3),
    ];
    let expected: Vec<_> = expected
        .map(|(name, count)| (name.to_owned(), count))
        .into();
    assert_eq!(used(&ledger, NOW).await, expected);
    // Only that day is affected.
    assert_eq!(used(&ledger, NOW + DAY).await, Vec::new());
}

#[tokio::test]
async fn those_who_are_interested_are_none_of_two_and_a_change_that_came_into_force_is_used_up() {
    let ledger = Ledger::in_memory().unwrap();
    let change = |interested: Vec<u32>, needs: u8| NewApproval {
        kind: ApprovalKind::Change,
        needs,
        requester: None,
        interested,
        ..request()
    };
    let asked = ledger.request_approval(change(vec![7], 2)).await.unwrap();
    // Requested again, also by another person.
    let again = ledger.request_approval(change(vec![8], 2)).await.unwrap();
    assert_eq!(asked.id, again.id);
    let yes = async |uid: u32| {
        let until = NOW + HOUR;
        ledger
            .approve(&asked.id, uid, "somebody", None, until, NOW)
            .await
    };
    for uid in [7, 8] {
        assert!(
            matches!(yes(uid).await, Err(ApprovalError::Interested)),
            "{uid}"
        );
    }
    yes(9).await.unwrap();
    let approved = yes(10).await.unwrap();
    assert_eq!(approved.status, Status::Approved);
    let used = NewInForce {
        approval: Some(asked.id.clone()),
        ..adopt("three", Vec::new())
    };
    ledger.bring_into_force(used).await.unwrap();
    let now = ledger.approval(&asked.id, NOW).await.unwrap().unwrap();
    assert_eq!(now.status, Status::Used);
    let next = ledger.request_approval(change(vec![7], 2)).await.unwrap();
    assert_ne!(next.id, asked.id);
}

#[tokio::test]
async fn a_change_whose_approval_cannot_be_used_does_not_come_into_force() {
    let ledger = Ledger::in_memory().unwrap();
    ledger
        .bring_into_force(adopt("one", Vec::new()))
        .await
        .unwrap();
    let change = NewApproval {
        kind: ApprovalKind::Change,
        needs: 1,
        requester: None,
        ..request()
    };
    let asked = ledger.request_approval(change).await.unwrap();
    let bring = async |now: i64| {
        let used = NewInForce {
            approval: Some(asked.id.clone()),
            now,
            ..adopt("two", Vec::new())
        };
        ledger.bring_into_force(used).await.unwrap()
    };
    let text = async || {
        let row = ledger.in_force(Subject::Manifest, "lab").await.unwrap();
        row.unwrap().text
    };
    // Pending, expired, revoked.
    assert_eq!(bring(NOW).await, AdoptOutcome::NotApproved);
    let yes = ledger.approve(&asked.id, 9, "ann", None, NOW + HOUR, NOW);
    assert_eq!(yes.await.unwrap().status, Status::Approved);
    assert_eq!(bring(asked.expires).await, AdoptOutcome::NotApproved);
    let revoked = ledger.revoke(&asked.id, "ann", NOW).await.unwrap();
    assert_eq!(revoked.status, Status::Revoked);
    assert_eq!(revoked.closed.as_deref(), Some("revoked by ann"));
    assert_eq!(bring(NOW).await, AdoptOutcome::NotApproved);
    assert_eq!(text().await, "one");
    let again = ledger.revoke(&asked.id, "ann", NOW).await;
    assert!(
        matches!(again, Err(ApprovalError::NothingToRevoke(Status::Revoked))),
        "{again:?}"
    );
}
