//! Other data that has to survive the process.

use parking_lot::Mutex;
use std::sync::Arc;

use qchost_ledger::{Adoption, Halt, KeptIdentity, Ledger, LiveProfile, NewCompile, SourceState};

use crate::{HOUR, NOW, begin, counted, request};

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
        confirmed: true,
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

fn compile(plugin: &str, compile: &str, source: &str, bytes: usize) -> NewCompile {
    NewCompile {
        account: "research".to_owned(),
        plugin: plugin.to_owned(),
        compile: compile.to_owned(),
        project: 7,
        source: source.to_owned(),
        files: vec![("main.py".to_owned(), "x".repeat(bytes))],
        signature: None,
        contents: source.to_owned(),
        now: NOW,
    }
}

#[tokio::test]
async fn sources_are_kept_once_and_found_by_compile_and_hash() {
    let ledger = Ledger::in_memory().unwrap();
    let one = compile("lab", "c1", "h1", 10);
    let files = one.files.clone();
    for one in [one, compile("other", "c2", "h1", 10)] {
        assert_eq!(ledger.put_compile(one).await.unwrap(), SourceState::Known);
    }
    for compile in ["c1", "c2"] {
        let found = ledger.compile_source("research", compile).await.unwrap();
        assert_eq!(found, Some(("h1".to_owned(), 7)));
    }
    assert_eq!(ledger.source("h1").await.unwrap(), Some(files));
    // A compile of another client or another account is unknown.
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

/// 4 MiB each: the 17th exceeds the limit of 64 MiB.
#[tokio::test]
async fn a_plugin_fills_its_own_quota_of_sources_and_no_other_one() {
    const LARGE: usize = 4 << 20;
    let ledger = Ledger::in_memory().unwrap();
    let known = async |compile: &str| {
        let found = ledger.compile_source("research", compile).await.unwrap();
        let source = match &found {
            Some((hash, _)) => ledger.source(hash).await.unwrap(),
            None => None,
        };
        assert_eq!(
            found.is_some(),
            source.is_some(),
            "{compile}: known and kept are the same"
        );
        found.is_some()
    };
    let put = async |plugin: &str, name: &str| {
        let new = compile(plugin, &format!("c-{name}"), name, LARGE);
        ledger.put_compile(new).await.unwrap()
    };
    put("victim", "theirs").await;
    put("lab", "approved").await;
    put("lab", "awaited").await;
    ledger
        .set_approved_source("research", 7, "approved")
        .await
        .unwrap();
    let mut waiting = request();
    waiting.source = Some("awaited".to_owned());
    ledger.request_approval(waiting).await.unwrap();
    for number in 0..20 {
        assert_eq!(put("lab", &number.to_string()).await, SourceState::Known);
    }
    for (compile, expected) in [
        ("c-theirs", true),
        ("c-awaited", true),
        ("c-approved", false),
        ("c-0", false),
        ("c-19", true),
    ] {
        assert_eq!(known(compile).await, expected, "{compile}");
    }
    // The text that the next difference starts from is kept.
    assert!(ledger.source("approved").await.unwrap().is_some());
    // Sources that await a person's decision are never dropped to make room: instead the code of the plugin's
    // next compile is unknown.
    for number in 6..20 {
        let mut waiting = request();
        waiting.binding.arguments_hmac = number.to_string();
        waiting.source = Some(number.to_string());
        ledger.request_approval(waiting).await.unwrap();
    }
    assert_eq!(put("lab", "more").await, SourceState::OverQuota);
    assert!(!known("c-more").await);
    for number in 6..20 {
        assert!(known(&format!("c-{number}")).await, "{number}");
    }
    assert!(known("c-theirs").await);
    assert_eq!(put("victim", "theirs too").await, SourceState::Known);
    // Until no decision is pending any more.
    let mut later = compile("lab", "c-later", "later", LARGE);
    later.now = NOW + HOUR;
    assert_eq!(ledger.put_compile(later).await.unwrap(), SourceState::Known);
}

#[tokio::test]
async fn a_signature_that_says_otherwise_makes_both_compiles_unknown() {
    let ledger = Ledger::in_memory().unwrap();
    let signed = |name: &str, source: &str, signature: &str| NewCompile {
        signature: Some(signature.to_owned()),
        ..compile("lab", name, source, 10)
    };
    let put = async |new| ledger.put_compile(new).await.unwrap();
    let known = async |compile: &str| {
        let found = ledger.compile_source("research", compile).await;
        found.unwrap().is_some()
    };
    assert_eq!(put(signed("c1", "h1", "s1")).await, SourceState::Known);
    assert_eq!(put(signed("c2", "h1", "s1")).await, SourceState::Known);
    assert_eq!(put(signed("c3", "h2", "s2")).await, SourceState::Known);
    // The same contents may get another signature, for example from another version of the compiler.
    assert_eq!(put(signed("c4", "h2", "s3")).await, SourceState::Known);
    assert_eq!(
        put(signed("c5", "h2", "s1")).await,
        SourceState::Contradicted
    );
    for (compile, expected) in [
        ("c1", false),
        ("c2", false),
        ("c3", true),
        ("c4", true),
        ("c5", false),
    ] {
        assert_eq!(known(compile).await, expected, "{compile}");
    }
}

/// Sources are known by project, so it makes no difference which plugin compiled.
#[tokio::test]
async fn a_signature_that_says_otherwise_makes_the_compiles_of_all_plugins_of_the_project_unknown()
{
    let ledger = Ledger::in_memory().unwrap();
    let signed = |plugin: &str, name: &str, project: u32, source: &str| NewCompile {
        signature: Some("s1".to_owned()),
        project,
        ..compile(plugin, name, source, 10)
    };
    let put = async |new| ledger.put_compile(new).await.unwrap();
    assert_eq!(put(signed("lab", "c1", 7, "h1")).await, SourceState::Known);
    // The same signature in another project proves nothing.
    assert_eq!(put(signed("desk", "c2", 8, "h2")).await, SourceState::Known);
    let contradicted = put(signed("desk", "c3", 7, "h2")).await;
    assert_eq!(contradicted, SourceState::Contradicted);
    for (compile, expected) in [("c1", false), ("c2", true), ("c3", false)] {
        let found = ledger.compile_source("research", compile).await.unwrap();
        assert_eq!(found.is_some(), expected, "{compile}");
    }
}

#[tokio::test]
async fn each_change_stores_the_head_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.audit_head().await.unwrap(), None);
    let head = Arc::new(Mutex::new(Some("head 1".to_owned())));
    let current = Arc::clone(&head);
    ledger.set_head(Arc::new(move || current.lock().clone()));
    ledger
        .begin(begin("1", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap();
    assert_eq!(
        ledger.audit_head().await.unwrap().as_deref(),
        Some("head 1")
    );
    *head.lock() = Some("head 2".to_owned());
    // A call without changes stores nothing.
    ledger
        .begin(begin("2", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap_err();
    ledger.resume(None, None).await.unwrap();
    ledger
        .mark_rate("research", "k".to_owned(), 1)
        .await
        .unwrap();
    *head.lock() = None;
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

#[tokio::test]
async fn a_profile_that_trades_with_real_money_is_remembered_with_the_first_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    let deployed = async |account: &str, id: &str| ledger.profile_of(account, id).await.unwrap();
    assert_eq!(deployed("research", "L-1").await, None);
    for (id, profile) in [("L-1", "tradier"), ("L-2", "paper")] {
        let recorded = ledger.record_deployed("research", id, profile, NOW);
        recorded.await.unwrap();
    }
    assert_eq!(
        deployed("research", "L-1").await.as_deref(),
        Some("tradier")
    );
    assert_eq!(deployed("trading", "L-1").await, None);
    let live = |deployment: &str, at: i64| LiveProfile {
        profile: "tradier".to_owned(),
        account: "research".to_owned(),
        deployment: deployment.to_owned(),
        at,
    };
    ledger.record_live_profile(live("L-1", 1)).await.unwrap();
    ledger.record_live_profile(live("L-9", 2)).await.unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.live_profiles().await.unwrap(), [live("L-1", 1)]);
}

#[tokio::test]
async fn that_a_state_may_hold_licensed_data_is_kept_until_the_state_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    let on_state = async |ledger: &Ledger, work: fn(&Ledger)| {
        let ledger = ledger.clone();
        tokio::task::spawn_blocking(move || work(&ledger))
            .await
            .unwrap();
    };
    assert!(!ledger.holds_licensed_state("lab").await.unwrap());
    on_state(&ledger, |it| {
        it.state().set("lab", "k", b"v").unwrap();
    })
    .await;
    ledger.mark_licensed_state("lab").await.unwrap();
    ledger.mark_licensed_state("lab").await.unwrap();
    assert!(ledger.holds_licensed_state("lab").await.unwrap());
    assert!(!ledger.holds_licensed_state("other").await.unwrap());
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    assert!(ledger.holds_licensed_state("lab").await.unwrap());
    on_state(&ledger, |it| it.state().delete("lab", "k").unwrap()).await;
    assert!(!ledger.holds_licensed_state("lab").await.unwrap());
    // What is written afterwards was read under another manifest.
    on_state(&ledger, |it| {
        it.state().set("lab", "k", b"w").unwrap();
    })
    .await;
    assert!(!ledger.holds_licensed_state("lab").await.unwrap());
}

#[tokio::test]
async fn whose_an_account_is_is_kept_until_it_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    assert!(Ledger::stored_identities(&path).unwrap().is_empty());
    let kept = |connection: &str, identity: &str| KeptIdentity {
        connection: connection.to_owned(),
        identity: identity.to_owned(),
    };
    let ledger = Ledger::open(&path).unwrap();
    for (connection, identity) in [("research", "one"), ("desk", "two"), ("research", "three")] {
        let keeping = ledger.keep_identity(kept(connection, identity));
        keeping.await.unwrap();
    }
    let all = [kept("desk", "two"), kept("research", "three")];
    assert_eq!(ledger.identities().await.unwrap(), all);
    // Also beside the host.
    assert_eq!(Ledger::stored_identities(&path).unwrap(), all);
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    assert_eq!(ledger.identities().await.unwrap(), all);
    ledger.forget_identity("research").await.unwrap();
    assert_eq!(ledger.identities().await.unwrap(), all[..1]);
    drop(ledger);
    // As a version before left it.
    let older = rusqlite::Connection::open(&path).unwrap();
    older.execute_batch("DROP TABLE identities").unwrap();
    assert!(Ledger::stored_identities(&path).unwrap().is_empty());
}
