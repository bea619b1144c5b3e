//! Where halts are kept when the database, the reserve or the audit fails; and the halt file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_audit::faults::Drive;
use qchost_gate::{ActiveHalt, Gate, HaltScope, HaltStorage, Refusal};
use serde_json::json;
use tempfile::TempDir;

use qchost_testing::cloud::{
    Cloud, Setup, call, file, halt, person, principal, records, resume, until,
};

const LAB: &str =
    "[[grant]]\nname = \"lab\"\nallow = [\"files/*\", \"live/*\"]\nprojects = [\"Lab/*\"]\n";

fn of(account: Option<&str>, plugin: Option<&str>) -> HaltScope {
    HaltScope {
        account: account.map(str::to_owned),
        plugin: plugin.map(str::to_owned),
    }
}

fn kept(halts: &[ActiveHalt]) -> Vec<HaltStorage> {
    halts.iter().map(|one| one.kept).collect()
}

async fn write(gate: &Gate) -> Result<serde_json::Value, Refusal> {
    call(gate, &principal("lab"), "files/create-file", file("a.py")).await
}

fn is_halted(answer: &Result<serde_json::Value, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Halted(_)))
}

/// Makes the database refuse every change of its halts, like a full disk.
fn refuse(folder: &Path) {
    let other = rusqlite::Connection::open(folder.join("state.db")).unwrap();
    for (name, when) in [("full_in", "INSERT"), ("full_out", "DELETE")] {
        let trigger = format!(
            "CREATE TRIGGER {name} BEFORE {when} ON halts BEGIN SELECT RAISE(ABORT, 'no room'); END"
        );
        other.execute_batch(&trigger).unwrap();
    }
}

fn accept(folder: &Path) {
    let other = rusqlite::Connection::open(folder.join("state.db")).unwrap();
    other
        .execute_batch("DROP TRIGGER full_in; DROP TRIGGER full_out")
        .unwrap();
}

fn stored(folder: &Path) -> i64 {
    let other = rusqlite::Connection::open(folder.join("state.db")).unwrap();
    other
        .query_row("SELECT count(*) FROM halts", [], |row| row.get(0))
        .unwrap()
}

/// A plugin on a folder of its own.
fn lab() -> (Setup, TempDir, Arc<Cloud>) {
    (
        Setup::grants(LAB),
        tempfile::tempdir().unwrap(),
        Cloud::new(),
    )
}

#[tokio::test]
async fn a_halt_that_the_database_does_not_take_is_kept_in_the_reserve_and_stored_when_there_is_room()
 {
    let (setup, folder, cloud) = lab();
    let folder = folder.path();
    let gate = setup.open_in(folder, &cloud).await;
    refuse(folder);
    let report = halt(&gate, HaltScope::default()).await;
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(kept(&report.halts), [HaltStorage::Reserve]);
    let trouble = report.halts[0].trouble.as_deref().unwrap();
    assert!(trouble.contains("no room"), "{trouble}");
    assert!(is_halted(&write(&gate).await));

    // It is found there by the next host, although neither database nor audit has it.
    assert_eq!(stored(folder), 0);
    gate.close().await;
    drop(gate);
    std::fs::remove_dir_all(folder.join("audit")).unwrap();
    forget_audit_head(folder);
    let gate = setup.open_in(folder, &cloud).await;
    assert_eq!(
        kept(&gate.halts.store.active_halts().await),
        [HaltStorage::Reserve]
    );
    assert!(is_halted(&write(&gate).await));
    assert_eq!(cloud.sent(), Vec::<String>::new());

    accept(folder);
    until("the halt is in the database", async || {
        kept(&gate.halts.store.active_halts().await) == [HaltStorage::Database]
    })
    .await;
    assert_eq!(stored(folder), 1);
}

fn forget_audit_head(folder: &Path) {
    let other = rusqlite::Connection::open(folder.join("state.db")).unwrap();
    other
        .execute(
            "DELETE FROM meta WHERE name IN ('audit-head', 'halts-recorded')",
            [],
        )
        .unwrap();
}

#[tokio::test]
async fn a_resume_that_cannot_be_stored_fails_and_the_halt_stays() {
    let (setup, folder, cloud) = lab();
    let folder = folder.path();
    let gate = setup.open_in(folder, &cloud).await;
    assert_eq!(
        kept(&halt(&gate, HaltScope::default()).await.halts),
        [HaltStorage::Database]
    );
    refuse(folder);
    let error = gate
        .halts
        .resume(&person(7, "ann"), HaltScope::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the halt stays") && error.contains("no room"),
        "{error}"
    );
    assert!(is_halted(&write(&gate).await));
    assert_eq!(gate.halts.store.active_halts().await.len(), 1);
    // There is no record that it ended.
    let gate = setup.restart(gate, folder, &cloud).await;
    assert!(is_halted(&write(&gate).await));
    gate.idle().await;
    assert!(
        !records(folder)
            .iter()
            .any(|record| record["what"] == "resume")
    );

    accept(folder);
    let report = resume(&gate, HaltScope::default()).await;
    assert_eq!((report.ended, report.halts.len()), (1, 0));
    write(&gate).await.unwrap();
    let gate = setup.restart(gate, folder, &cloud).await;
    write(&gate).await.unwrap();
}

/// A halt and a resume while the database accepts neither: what is reported is what holds.
#[tokio::test]
async fn a_halt_that_was_never_stored_ends_only_where_its_end_can_be_stored() {
    let (setup, folder, cloud) = lab();
    let folder = folder.path();
    let gate = setup.open_in(folder, &cloud).await;
    let other = rusqlite::Connection::open(folder.join("state.db")).unwrap();
    other
        .execute_batch("CREATE TRIGGER full_in BEFORE INSERT ON halts BEGIN SELECT RAISE(ABORT, 'no room'); END")
        .unwrap();
    assert_eq!(
        kept(&halt(&gate, HaltScope::default()).await.halts),
        [HaltStorage::Reserve]
    );
    // Nothing has to be deleted from the database.
    let report = resume(&gate, HaltScope::default()).await;
    assert_eq!((report.ended, report.halts.len()), (1, 0));
    write(&gate).await.unwrap();
    let gate = setup.restart(gate, folder, &cloud).await;
    assert_eq!(gate.halts.store.active_halts().await.len(), 0);
    write(&gate).await.unwrap();
}

#[tokio::test]
async fn a_database_that_another_process_holds_does_not_delay_a_halt() {
    let (setup, folder, cloud) = lab();
    let gate = setup.open_in(folder.path(), &cloud).await;
    let other = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    let report = halt(&gate, HaltScope::default()).await;
    let took = begun.elapsed();
    assert_eq!(kept(&report.halts), [HaltStorage::Reserve]);
    // The database itself is waited for five seconds.
    assert!(took < Duration::from_secs(4), "{took:?}");
    other.execute_batch("ROLLBACK").unwrap();
    until("the halt is in the database", async || {
        kept(&gate.halts.store.active_halts().await) == [HaltStorage::Database]
    })
    .await;
}

#[tokio::test]
async fn halts_that_only_the_audit_knows_are_in_force_after_a_start_and_ended_ones_are_not() {
    let (setup, folder, cloud) = lab();
    let folder = folder.path();
    let gate = setup.open_in(folder, &cloud).await;
    for scope in [of(None, None), of(Some("a"), None), of(None, Some("lab"))] {
        halt(&gate, scope).await;
    }
    resume(&gate, of(Some("a"), None)).await;
    let before = gate.halts.store.active_halts().await;
    gate.close().await;
    drop(gate);
    let lose = || {
        let other = rusqlite::Connection::open(folder.join("state.db")).unwrap();
        other
            .execute_batch("DELETE FROM halts; DELETE FROM meta WHERE name = 'halts-recorded'")
            .unwrap();
        std::fs::remove_file(folder.join("halts.reserve")).unwrap();
    };
    lose();
    let gate = setup.open_in(folder, &cloud).await;
    assert!(is_halted(&write(&gate).await));
    let after = gate.halts.store.active_halts().await;
    let said = |halts: &[ActiveHalt]| {
        let mut said: Vec<_> = halts
            .iter()
            .map(|one| {
                let halt = one.halt.clone();
                (halt.account, halt.plugin, halt.by, halt.reason)
            })
            .collect();
        said.sort();
        said
    };
    assert_eq!(said(&after), said(&before));
    until("they are in the database again", async || {
        stored(folder) == 2
    })
    .await;
    assert_eq!(cloud.sent(), Vec::<String>::new());
    // What ended since is not restored from the former audit.
    for scope in [of(None, None), of(None, Some("lab"))] {
        resume(&gate, scope).await;
    }
    gate.close().await;
    drop(gate);
    lose();
    let gate = setup.open_in(folder, &cloud).await;
    assert_eq!(gate.halts.store.active_halts().await.len(), 0);
    write(&gate).await.unwrap();
}

#[tokio::test]
async fn a_halt_that_nothing_takes_holds_and_says_so() {
    let (mut setup, folder, cloud) = lab();
    let drive = Drive::new();
    setup.files = Arc::new(drive.clone());
    let folder = folder.path();
    // A folder blocks the reserve file, and the audit's drive is full.
    std::fs::create_dir(folder.join("halts.reserve")).unwrap();
    let gate = setup.open_in(folder, &cloud).await;
    resume(&gate, HaltScope::default()).await;
    refuse(folder);
    drive.lose_power_at(drive.operations() + 1);
    let report = halt(&gate, of(Some("a"), None)).await;
    assert_eq!(kept(&report.halts), [HaltStorage::Memory]);
    let problem = report.problems.join("; ");
    assert!(
        problem.contains("only until the host ends") && problem.contains("no room"),
        "{problem}"
    );
    assert!(is_halted(&write(&gate).await));
}

#[tokio::test]
async fn a_damaged_reserve_halts_everything() {
    let (setup, folder, cloud) = lab();
    std::fs::write(folder.path().join("halts.reserve"), "no reserve").unwrap();
    let gate = setup.open_in(folder.path(), &cloud).await;
    assert!(is_halted(&write(&gate).await));
    let halts = gate.halts.store.active_halts().await;
    assert!(halts[0].halt.reason.contains("is damaged"), "{halts:?}");
    assert_eq!(cloud.sent(), Vec::<String>::new());
}

#[tokio::test]
async fn a_resume_ends_one_halt_and_names_those_that_stand() {
    let world = Setup::grants(LAB).open().await;
    for scope in [of(None, None), of(Some("a"), None), of(None, Some("lab"))] {
        halt(&world.gate, scope).await;
    }
    let report = resume(&world.gate, HaltScope::default()).await;
    assert_eq!(report.ended, 1);
    let standing: Vec<_> = report
        .halts
        .iter()
        .map(|one| (one.halt.account.as_deref(), one.halt.plugin.as_deref()))
        .collect();
    assert_eq!(standing, [(Some("a"), None), (None, Some("lab"))]);
    assert!(is_halted(&write(&world.gate).await));
    let report = resume(&world.gate, HaltScope::default()).await;
    assert_eq!((report.ended, report.halts.len()), (0, 2));
}

#[tokio::test]
async fn the_file_halts_before_the_next_write_and_durably_and_removing_it_lifts_nothing() {
    let (setup, folder, cloud) = lab();
    let folder = folder.path();
    let gate = setup.open_in(folder, &cloud).await;
    write(&gate).await.unwrap();
    let sent = cloud.sent().len();
    let file = folder.join("halt");
    std::fs::write(&file, "").unwrap();
    // At the latest before the next write, whatever checks the file in between.
    let refused = write(&gate).await.unwrap_err();
    let Refusal::Halted(reason) = refused else {
        panic!("{refused:?}")
    };
    assert!(reason.contains("file DATA/halt"), "{reason}");
    std::fs::remove_file(&file).unwrap();
    assert!(is_halted(&write(&gate).await));
    until("it is in the database", async || stored(folder) == 1).await;
    let halts = gate.halts.store.active_halts().await;
    let owner = rustix::process::geteuid().as_raw();
    assert_eq!(halts[0].halt.by, format!("file DATA/halt (uid {owner})"));
    assert!(!halts[0].file);
    let gate = setup.restart(gate, folder, &cloud).await;
    assert!(is_halted(&write(&gate).await));
    assert_eq!(cloud.sent().len(), sent);
    // Reads and risk-reducing calls go on.
    let project = json!({ "projectId": 1 });
    call(
        &gate,
        &principal("lab"),
        "live/stop-live-algorithm",
        project,
    )
    .await
    .unwrap();
    gate.idle().await;
    let recorded = records(folder);
    let halts: Vec<_> = recorded
        .iter()
        .filter(|one| one["kind"] == "halt")
        .collect();
    assert_eq!(halts.len(), 1, "{halts:?}");
    assert_eq!(halts[0]["person"], owner);
}

#[tokio::test]
async fn the_file_is_seen_when_nothing_is_sent() {
    let (setup, folder, cloud) = lab();
    let gate = setup.open_in(folder.path(), &cloud).await;
    std::fs::create_dir(folder.path().join("halt")).unwrap();
    until("it is in the database", async || stored(folder.path()) == 1).await;
    assert!(gate.halts.store.list()[0].file);
}

#[tokio::test]
async fn the_file_halts_what_waits_to_be_sent() {
    let mut setup = Setup::grants(LAB);
    setup.limits.in_flight = std::num::NonZeroU32::new(1);
    let world = setup.open().await;
    world.read_file().await.unwrap();
    world.cloud.hold();
    let first = world.start("files/create-file", file("a.py"));
    world.cloud.until_called("create_file").await;
    let second = world.start("files/create-file", file("a.py"));
    tokio::task::yield_now().await;
    std::fs::write(world.folder.path().join("halt"), "").unwrap();
    assert!(is_halted(&second.await.unwrap()));
    world.cloud.release();
    first.await.unwrap().unwrap();
    assert_eq!(world.cloud.count("create_file"), 1);
}

#[tokio::test]
async fn a_start_looks_at_the_file_before_anything_is_sent() {
    let (setup, folder, cloud) = lab();
    std::os::unix::fs::symlink("/nowhere", folder.path().join("halt")).unwrap();
    let gate = setup.open_in(folder.path(), &cloud).await;
    assert_eq!(gate.halts.store.list().len(), 1);
    std::fs::remove_file(folder.path().join("halt")).unwrap();
    assert!(is_halted(&write(&gate).await));
    assert_eq!(cloud.sent(), Vec::<String>::new());
}

#[tokio::test]
async fn a_resume_removes_the_file_first_and_fails_if_it_cannot() {
    let (setup, folder, cloud) = lab();
    let folder = folder.path();
    let gate = setup.open_in(folder, &cloud).await;
    std::fs::create_dir_all(folder.join("halt/evidence")).unwrap();
    let ann = person(7, "ann");
    let error = gate
        .halts
        .resume(&ann, HaltScope::default())
        .await
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("the halt stays") && error.contains("cannot be removed"),
        "{error}"
    );
    assert!(is_halted(&write(&gate).await));
    std::fs::remove_dir(folder.join("halt/evidence")).unwrap();
    let report = resume(&gate, HaltScope::default()).await;
    assert_eq!((report.ended, report.halts.len()), (1, 0));
    assert!(!folder.join("halt").exists());
    write(&gate).await.unwrap();
    // A file that reappears halts again; ending a narrower halt does not affect it.
    std::fs::write(folder.join("halt"), "").unwrap();
    halt(&gate, of(Some("a"), None)).await;
    let report = resume(&gate, of(Some("a"), None)).await;
    assert_eq!((report.ended, report.halts.len()), (1, 1));
    assert!(folder.join("halt").exists());
    assert!(is_halted(&write(&gate).await));
}
