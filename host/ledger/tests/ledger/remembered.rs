//! Everything else that must outlive the process.

use std::sync::{Arc, Mutex};

use qchost_ledger::{Adoption, Halt, Ledger};

use crate::{HOUR, NOW, begin, counted};

fn halt(account: Option<&str>, plugin: Option<&str>, at: i64) -> Halt {
    Halt {
        account: account.map(str::to_owned),
        plugin: plugin.map(str::to_owned),
        reason: "drill".to_owned(),
        by: "ann".to_owned(),
        at,
    }
}

#[tokio::test]
async fn a_halt_holds_until_just_that_one_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    let all = [
        halt(None, None, 1),
        halt(Some("research"), None, 2),
        halt(None, Some("lab"), 3),
        halt(Some("research"), Some("lab"), 4),
    ];
    for halt in &all {
        ledger.halt(halt.clone()).await.unwrap();
    }
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.halts().await.unwrap(), all);
    assert_eq!(ledger.resume(Some("trading"), None).await.unwrap(), 0);
    assert_eq!(ledger.resume(Some("research"), None).await.unwrap(), 1);
    assert_eq!(ledger.resume(None, None).await.unwrap(), 1);
    assert_eq!(ledger.halts().await.unwrap(), all[2..]);
    let again = Halt {
        reason: "for real".to_owned(),
        ..halt(None, Some("lab"), 5)
    };
    ledger.halt(again.clone()).await.unwrap();
    assert_eq!(ledger.halts().await.unwrap(), [all[3].clone(), again]);
}

#[tokio::test]
async fn the_last_adoption_counts() {
    let ledger = Ledger::in_memory().unwrap();
    assert_eq!(ledger.adopted("research", "lab").await.unwrap(), None);
    let adoption = |digest: &str| Adoption {
        digest: digest.to_owned(),
        imports: vec!["quantconnect:api/live".to_owned()],
        by: "ann".to_owned(),
        at: NOW,
    };
    for digest in ["sha256:aa", "sha256:bb"] {
        ledger
            .adopt("research", "lab", adoption(digest))
            .await
            .unwrap();
    }
    assert_eq!(
        ledger.adopted("research", "lab").await.unwrap(),
        Some(adoption("sha256:bb"))
    );
    assert_eq!(ledger.adopted("trading", "lab").await.unwrap(), None);
}

#[tokio::test]
async fn who_made_a_project_is_known() {
    let ledger = Ledger::in_memory().unwrap();
    ledger.record_created("research", "lab", 7).await.unwrap();
    ledger.record_created("research", "risk", 8).await.unwrap();
    ledger.record_created("trading", "lab", 9).await.unwrap();
    let made = ledger.created("research").await.unwrap();
    assert_eq!(made, [("lab".to_owned(), 7), ("risk".to_owned(), 8)]);
}

#[tokio::test]
async fn a_mark_never_goes_back() {
    let ledger = Ledger::in_memory().unwrap();
    for at in [NOW, NOW + HOUR, NOW - HOUR] {
        ledger
            .mark_rate("research", "lab/runs".to_owned(), at)
            .await
            .unwrap();
    }
    let marks = ledger.rate_marks().await.unwrap();
    assert_eq!(marks.len(), 1);
    assert_eq!(
        (marks[0].key.as_str(), marks[0].at_ms),
        ("lab/runs", NOW + HOUR)
    );
}

#[tokio::test]
async fn sources_are_kept_once_and_found_by_compile_and_hash() {
    let ledger = Ledger::in_memory().unwrap();
    let files = vec![("main.py".to_owned(), "class A: pass".to_owned())];
    ledger
        .put_compile("research", "c1", 7, "h1", &files)
        .await
        .unwrap();
    ledger
        .put_compile("research", "c2", 7, "h1", &files)
        .await
        .unwrap();
    for compile in ["c1", "c2"] {
        let found = ledger.compile_source("research", compile).await.unwrap();
        assert_eq!(found, Some(("h1".to_owned(), 7)));
    }
    assert_eq!(ledger.source("h1").await.unwrap(), Some(files));
    // A compile that is not the host's own is not known, nor one of another account.
    assert_eq!(ledger.compile_source("research", "c3").await.unwrap(), None);
    assert_eq!(ledger.compile_source("trading", "c1").await.unwrap(), None);
    assert_eq!(ledger.approved_source("research", 7).await.unwrap(), None);
    ledger
        .set_approved_source("research", 7, "h1")
        .await
        .unwrap();
    assert_eq!(
        ledger
            .approved_source("research", 7)
            .await
            .unwrap()
            .as_deref(),
        Some("h1")
    );
    assert_eq!(ledger.approved_source("trading", 7).await.unwrap(), None);
}

#[tokio::test]
async fn sources_stay_within_a_bound_and_the_approved_one_stays() {
    let ledger = Ledger::in_memory().unwrap();
    let files = |number: u32| vec![("main.py".to_owned(), number.to_string().repeat(4 << 20))];
    for number in 1..=9 {
        let (compile, hash) = (format!("c{number}"), format!("h{number}"));
        ledger
            .put_compile("research", &compile, 7, &hash, &files(number))
            .await
            .unwrap();
        if number == 1 {
            ledger
                .set_approved_source("research", 7, "h1")
                .await
                .unwrap();
        }
    }
    let kept = ledger.source("h2").await.unwrap();
    assert_eq!(kept, Some(files(2)));
    // 4 MiB each: the bound of 64 MiB is passed with the 17th.
    for number in 10..=20 {
        let (compile, hash) = (format!("c{number}"), format!("h{number}"));
        let files = vec![("main.py".to_owned(), "x".repeat(4 << 20))];
        ledger
            .put_compile("research", &compile, 7, &hash, &files)
            .await
            .unwrap();
    }
    assert_eq!(
        ledger.source("h1").await.unwrap(),
        Some(files(1)),
        "the approved one"
    );
    assert_eq!(ledger.source("h2").await.unwrap(), None);
    assert!(ledger.source("h20").await.unwrap().is_some());
    let forgotten = ledger.compile_source("research", "c2").await.unwrap();
    assert_eq!(forgotten, Some(("h2".to_owned(), 7)));
}

#[tokio::test]
async fn each_change_stores_the_head_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.audit_head().await.unwrap(), None);
    let head = Arc::new(Mutex::new(Some("head 1".to_owned())));
    let current = Arc::clone(&head);
    ledger.set_head(Arc::new(move || current.lock().unwrap().clone()));
    ledger
        .begin(begin("1", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap();
    assert_eq!(
        ledger.audit_head().await.unwrap().as_deref(),
        Some("head 1")
    );
    *head.lock().unwrap() = Some("head 2".to_owned());
    // What changes nothing stores nothing.
    ledger
        .begin(begin("2", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap_err();
    ledger.resume(None, None).await.unwrap();
    ledger
        .mark_rate("research", "k".to_owned(), 1)
        .await
        .unwrap();
    *head.lock().unwrap() = None;
    ledger
        .mark_rate("research", "k".to_owned(), 2)
        .await
        .unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(
        ledger.audit_head().await.unwrap().as_deref(),
        Some("head 2")
    );
}
