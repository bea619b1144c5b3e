//! A backup made under load is a consistent snapshot of the ledger, and is checked before it is used.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use qchost_ledger::{
    Adoption, ApprovalKind, Halt, Ledger, LedgerError, NewApproval, NewCompile, NewInForce, Permit,
    StandingPermit, Status, Subject,
};
use rusqlite::Connection;

use crate::{DAY, HOUR, NOW, begin, binding, counted, request, with_permit};

const LIMIT: u32 = 100_000;

/// Usage according to the ledger: of the budget, of the approval's permit, and the number of open
/// reservations.
async fn used(ledger: &Ledger, approval: &str) -> (u32, u32, u32) {
    let count = ledger.usage("research", "lab", NOW).await.unwrap()[0].count;
    let permit = ledger.permit_of(approval).await.unwrap().unwrap();
    let open = ledger.open_reservations().await.unwrap().len();
    (
        count,
        LIMIT - permit.uses_left,
        u32::try_from(open).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_the_ledger_at_one_instant() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("state.db")).unwrap();
    // Enough data that copying takes a while.
    for part in 0..15_u8 {
        ledger
            .state()
            .set("lab", &part.to_string(), &vec![part; 1 << 20])
            .unwrap();
    }
    let asked = ledger.request_approval(request()).await.unwrap();
    let standing = StandingPermit {
        uses: LIMIT,
        until_ms: NOW + DAY,
        max_cost: None,
    };
    ledger
        .approve(&asked.id, 1, "ann", Some(standing), NOW, NOW)
        .await
        .unwrap();
    let permit = ledger
        .find_permit(&binding(), &request().scope, 0, NOW)
        .await
        .unwrap()
        .unwrap()
        .id;

    let (asked_for, acknowledged) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (ledger, permit, over) = (ledger.clone(), permit.clone(), Arc::clone(&over));
        let (asked_for, acknowledged) = (Arc::clone(&asked_for), Arc::clone(&acknowledged));
        tasks.spawn(async move {
            while !over.load(SeqCst) {
                let mut call = with_permit(&permit, 1, NOW);
                call.call = asked_for.fetch_add(1, SeqCst).to_string();
                call.charges = vec![counted("runs", LIMIT)];
                ledger.begin(call).await.unwrap();
                acknowledged.fetch_add(1, SeqCst);
            }
        });
    }
    let mut backups = Vec::new();
    for number in 0..3 {
        let reached = acknowledged.load(SeqCst) + 50;
        while acknowledged.load(SeqCst) < reached {
            tokio::task::yield_now().await;
        }
        let path = folder.path().join(format!("backup-{number}.db"));
        let before = acknowledged.load(SeqCst);
        ledger.backup_to(&path).await.unwrap();
        backups.push((path, before, asked_for.load(SeqCst)));
    }
    over.store(true, SeqCst);
    tasks.join_all().await;

    for (path, before, after) in backups {
        let restored = Ledger::open(&path).unwrap();
        let (count, permitted, open) = used(&restored, &asked.id).await;
        assert!(
            (before..=after).contains(&count),
            "{count} not in {before}..={after}"
        );
        assert_eq!((permitted, open), (count, count));
        assert_eq!(
            restored.state().get("lab", "14").unwrap().unwrap().value,
            vec![14; 1 << 20]
        );
        // It continues from there, and never exceeds what was allowed.
        let last = vec![counted("runs", count + 1)];
        restored
            .begin(begin("last", NOW, last.clone()))
            .await
            .unwrap();
        restored
            .begin(begin("one more", NOW, last))
            .await
            .unwrap_err();
    }
    let all = acknowledged.load(SeqCst);
    assert_eq!(used(&ledger, &asked.id).await, (all, all, all));
}

/// Records one approval of each kind, and a halt.
async fn fill(ledger: &Ledger) -> [String; 4] {
    let standing = StandingPermit {
        uses: 10,
        until_ms: NOW + DAY,
        max_cost: None,
    };
    let ask = async |operation: &str, kind: ApprovalKind| {
        let mut new = NewApproval { kind, ..request() };
        operation.clone_into(&mut new.binding.operation);
        ledger.request_approval(new).await.unwrap().id
    };
    let approve = async |id: &str, standing: Option<StandingPermit>| {
        let until = NOW + HOUR;
        let done = ledger.approve(id, 1, "ann", standing, until, NOW).await;
        done.unwrap();
    };
    let permitted = ask(&binding().operation, ApprovalKind::Call).await;
    approve(&permitted, Some(standing)).await;
    let spent = ask("spent", ApprovalKind::Call).await;
    approve(&spent, None).await;
    let permit = ledger.permit_of(&spent).await.unwrap().unwrap().id;
    let reserved = ledger.begin(with_permit(&permit, 1, NOW)).await.unwrap();
    let settle = qchost_ledger::Settlement::Commit;
    ledger.settle(reserved, settle).await.unwrap();
    let waits = ask("waits", ApprovalKind::Call).await;
    let change = ask("guardrails", ApprovalKind::Change).await;
    approve(&change, None).await;
    for subject in [Subject::Manifest, Subject::Guardrails] {
        let adopt = NewInForce {
            subject,
            name: "lab".to_owned(),
            digest: "d".to_owned(),
            text: "{}".to_owned(),
            by: "ann".to_owned(),
            now: NOW,
            approval: None,
            account: "research".to_owned(),
            successors: Vec::new(),
        };
        ledger.bring_into_force(adopt).await.unwrap();
    }
    let adoption = Adoption {
        digest: "sha256:aa".to_owned(),
        imports: Vec::new(),
        by: "ann".to_owned(),
        at: NOW,
        confirmed: true,
    };
    ledger.adopt("research", "lab", adoption).await.unwrap();
    let compile = NewCompile {
        account: "research".to_owned(),
        plugin: "lab".to_owned(),
        compile: "c1".to_owned(),
        project: 7,
        source: "h1".to_owned(),
        files: vec![("main.py".to_owned(), "x".to_owned())],
        signature: None,
        contents: "h1".to_owned(),
        now: NOW,
    };
    ledger.put_compile(compile).await.unwrap();
    let approved = ledger.set_approved_source("research", 7, "h1").await;
    approved.unwrap();
    let halt = Halt {
        account: None,
        plugin: None,
        reason: "drill".to_owned(),
        by: "ann".to_owned(),
        at: NOW,
    };
    ledger.halt(halt).await.unwrap();
    [permitted, spent, waits, change]
}

/// The permit that a call would use.
async fn found(ledger: &Ledger) -> Option<Permit> {
    let (binding, scope) = (binding(), request().scope);
    ledger.find_permit(&binding, &scope, 0, NOW).await.unwrap()
}

/// The result is the same whether or not the backup is marked as one.
#[tokio::test]
async fn what_a_person_had_said_yes_to_does_not_hold_in_a_restored_backup_and_halts_do() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("state.db")).unwrap();
    let [permitted, spent, waits, change] = fill(&ledger).await;
    for (name, mark) in [("marked.db", true), ("forged.db", false)] {
        let path = folder.path().join(name);
        ledger.backup_to(&path).await.unwrap();
        if !mark {
            let forged = Connection::open(&path).unwrap();
            forged
                .execute("DELETE FROM meta WHERE name = 'restored'", [])
                .unwrap();
        }
        Ledger::restore(&path).unwrap();
        let restored = Ledger::open(&path).unwrap();
        assert_eq!(found(&restored).await, None, "{name}");
        let permit = restored.permit_of(&permitted).await.unwrap().unwrap();
        let taken = with_permit(&permit.id, 1, NOW);
        restored.begin(taken).await.unwrap_err();
        for (id, status) in [
            (&permitted, Status::Revoked),
            (&spent, Status::Used),
            (&waits, Status::Closed),
            (&change, Status::Closed),
        ] {
            let now = restored.approval(id, NOW).await.unwrap().unwrap();
            assert_eq!(now.status, status, "{name}: {:?}", now.binding);
        }
        let adopted = restored.adopted("research", "lab").await.unwrap().unwrap();
        assert!(!adopted.confirmed, "{name}");
        for (subject, plugin) in [
            (Subject::Manifest, "lab"),
            (Subject::Guardrails, "lab"),
            // The backup has nothing about these, and so grants nothing.
            (Subject::Guardrails, ""),
            (Subject::Configuration, ""),
        ] {
            let row = restored.in_force(subject, plugin).await.unwrap().unwrap();
            assert!(!row.confirmed, "{name}: {subject:?}");
        }
        assert!(restored.has_adopted().await.unwrap());
        let approved = restored.approved_source("research", 7).await.unwrap();
        let compiled = restored.compile_source("research", "c1").await.unwrap();
        assert_eq!((approved, compiled), (None, None), "{name}");
        assert_eq!(restored.halts().await.unwrap().len(), 1, "{name}");
    }
    // The twin: the original ledger is unchanged.
    assert!(found(&ledger).await.is_some());
    let adopted = ledger.adopted("research", "lab").await.unwrap().unwrap();
    assert!(adopted.confirmed);
}

/// A block of reads counts as used in a backup, where it can never be returned.
#[tokio::test]
async fn a_backup_lets_no_read_through_twice() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("state.db")).unwrap();
    let path = folder.path().join("backup.db");
    ledger
        .count_reads("research", "lab", &[("g", 1000)], NOW)
        .await
        .unwrap();
    ledger.backup_to(&path).await.unwrap();
    for _ in 0..20 {
        ledger
            .count_reads("research", "lab", &[("g", 1000)], NOW)
            .await
            .unwrap();
    }
    let restored = Ledger::open(&path).unwrap();
    assert!(restored.usage("research", "lab", NOW).await.unwrap()[0].count >= 21);
}

#[tokio::test]
async fn a_backup_replaces_nothing_and_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("state.db")).unwrap();
    let path = folder.path().join("backup.db");
    std::fs::write(&path, "precious").unwrap();
    let error = ledger.backup_to(&path).await.unwrap_err().to_string();
    assert!(
        error.contains("backup.db") && error.contains("exists already"),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");

    let nowhere = folder.path().join("nowhere/backup.db");
    let error = ledger.backup_to(&nowhere).await.unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");

    let path = folder.path().join("other.db");
    ledger.backup_to(&path).await.unwrap();
    let left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|it| it.starts_with("other"))
        .collect();
    assert_eq!(left, ["other.db"]);
}

/// Damage that only a thorough check finds: an index holds another value than its row.
fn falsify_an_index(path: &Path) {
    let index = "FROM sqlite_schema WHERE name = 'approvals_by_plugin'";
    let open = || {
        let connection = Connection::open(path).unwrap();
        connection
            .pragma_update(None, "writable_schema", true)
            .unwrap();
        connection
    };
    open()
        .execute_batch(&format!(
            "INSERT INTO approvals (id, kind, account, plugin, digest, operation, profile_revision, arguments_hmac, view,
                 needs, requester, scope, cost, requested_ms, expires_ms, status)
             VALUES ('ap-x', 'call', 'a', 'p', '', '', '', '', '{{}}', 1, NULL, '{{}}', 0, 0, 0, 'pending');
             CREATE TABLE kept AS SELECT * {index}; DELETE {index}"
        ))
        .unwrap();
    open()
        .execute_batch(
            "UPDATE approvals SET account = 'b';
             INSERT INTO sqlite_schema SELECT * FROM kept; DROP TABLE kept",
        )
        .unwrap();
}

#[tokio::test]
async fn a_restored_file_is_checked_thoroughly_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("state.db")).unwrap();
    let (good, bad) = (folder.path().join("good.db"), folder.path().join("bad.db"));
    ledger.backup_to(&good).await.unwrap();
    ledger.backup_to(&bad).await.unwrap();
    Ledger::open(&good).unwrap();
    falsify_an_index(&bad);
    let error = Ledger::open(&bad).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("approvals_by_plugin"), "{error}");
    // The damaged one stays refused. The good one was checked when it was first opened and is an ordinary
    // ledger since.
    Ledger::open(&bad).unwrap_err();
    falsify_an_index(&good);
    Ledger::open(&good).unwrap();
}

#[tokio::test]
async fn a_ledger_in_memory_is_not_backed_up_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup.db");
    let error = Ledger::in_memory()
        .unwrap()
        .backup_to(&path)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("in memory"), "{error}");
    assert!(!path.exists());
}
