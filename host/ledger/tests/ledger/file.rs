//! The database file: migrated if it is older, refused with a reason if it is damaged or not a ledger.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use qchost_ledger::{Ledger, LedgerError, StateError};
use rusqlite::Connection;

use crate::{NOW, begin, counted};

/// The schema of the first version.
const FIRST: &str = "BEGIN;
    CREATE TABLE state (
        plugin TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
        value BLOB, PRIMARY KEY (plugin, key)
    ) WITHOUT ROWID;
    PRAGMA user_version = 1;
    COMMIT;";

fn refusal(path: &Path) -> LedgerError {
    Ledger::open(path).expect_err("a refusal")
}

#[tokio::test]
async fn a_file_of_the_first_layout_is_migrated_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(FIRST).unwrap();
    let large = vec![7_u8; 1 << 20];
    for key in 0..15 {
        old.execute(
            "INSERT INTO state VALUES ('lab', ?1, 3, ?2)",
            (key.to_string(), &large),
        )
        .unwrap();
    }
    old.execute("INSERT INTO state VALUES ('lab', 'gone', 5, NULL)", [])
        .unwrap();
    drop(old);

    let ledger = Ledger::open(&path).unwrap();
    let kept = ledger.state().get("lab", "14").unwrap().unwrap();
    assert_eq!((kept.version, kept.value), (3, large.clone()));
    // Versions of deleted keys and the sum for the quota were migrated.
    assert_eq!(ledger.state().set("lab", "gone", b"x").unwrap(), 6);
    let refused = ledger.state().set("lab", "one more", &large);
    assert!(
        matches!(refused, Err(StateError::QuotaExceeded(_))),
        "{refused:?}"
    );
    ledger.state().delete("lab", "0").unwrap();
    ledger.state().set("lab", "one more", &large).unwrap();
    ledger
        .begin(begin("1", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap();
    drop(ledger);
    Ledger::open(&path)
        .unwrap()
        .begin(begin("2", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap_err();
}

#[test]
fn a_file_of_a_newer_layout_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    drop(Ledger::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 9999)
        .unwrap();
    let before = fs::read(&path).unwrap();
    let made = || fs::metadata(&path).unwrap().modified().unwrap();
    let modified = made();
    let error = refusal(&path);
    assert!(
        matches!(error, LedgerError::Newer { found: 9999, .. }),
        "{error}"
    );
    Ledger::check_version(&path).unwrap_err();
    // No file of SQLite is made beside it.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(made(), modified);
    assert!(
        error
            .to_string()
            .contains("use the version of qchost that wrote it"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// The migrations by their layouts, in order.
fn migrations() -> Vec<(i64, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/migrations");
    let mut steps: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let (layout, _) = path.file_name().unwrap().to_str().unwrap().split_at(4);
            (
                layout.parse::<i64>().unwrap(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    steps.sort_unstable();
    steps
}

#[test]
fn a_file_of_every_layout_before_is_migrated_with_what_is_in_it() {
    let steps = migrations();
    assert!(steps.len() >= 13);
    for newest in 1..=steps.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(&steps[0].1).unwrap();
        old.execute("INSERT INTO state VALUES ('lab', 'k', 3, x'07')", [])
            .unwrap();
        for (_, step) in &steps[1..newest] {
            old.execute_batch(step).unwrap();
        }
        let layout = steps[newest - 1].0;
        old.pragma_update(None, "user_version", layout).unwrap();
        drop(old);

        Ledger::check_version(&path).unwrap();
        let ledger = Ledger::open(&path).unwrap();
        let kept = ledger.state().get("lab", "k").unwrap().unwrap();
        assert_eq!((kept.version, kept.value), (3, vec![7]), "layout {layout}");
        drop(ledger);
        let now: i64 = Connection::open(&path)
            .unwrap()
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(now, steps[steps.len() - 1].0, "layout {layout}");
    }
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    fs::write(
        &garbage,
        "plain text, and long enough to be no header of a database".repeat(50),
    )
    .unwrap();
    let other = folder.path().join("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE notes (text)")
        .unwrap();
    let pretender = folder.path().join("pretender.db");
    let connection = Connection::open(&pretender).unwrap();
    connection
        .execute_batch("CREATE TABLE notes (text); PRAGMA user_version = 2")
        .unwrap();
    drop(connection);
    for path in [garbage, other, pretender] {
        let before = fs::read(&path).unwrap();
        let error = refusal(&path);
        assert!(matches!(error, LedgerError::Foreign { .. }), "{error}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    for key in 0..500 {
        ledger
            .state()
            .set("lab", &key.to_string(), &[1; 500])
            .unwrap();
    }
    drop(ledger);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("qchost restore"), "{error}");
}

#[test]
fn only_its_owner_reads_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    ledger.state().set("lab", "k", b"v").unwrap();
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let mode = fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let error = refusal(&folder.path().join("nowhere/state.db"));
    assert!(matches!(error, LedgerError::Open { .. }), "{error}");
    assert!(error.to_string().contains("No such file"), "{error}");
    assert!(
        error.to_string().contains("must exist and be writable"),
        "{error}"
    );
    // The path is a folder.
    refusal(folder.path());
}

/// Root may write everywhere, so both the files and the process belong to another user.
#[test]
fn what_may_not_be_written_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let readable = folder.path().join("readable.db");
    let sealed = folder.path().join("sealed");
    fs::create_dir(&sealed).unwrap();
    for path in [&readable, &sealed.join("inside.db")] {
        drop(Ledger::open(path).unwrap());
    }
    let superuser = chown(folder.path(), Some(0), None).is_ok();
    for (path, mode) in [
        (&readable, 0o444),
        (&sealed.join("inside.db"), 0o666),
        (&sealed, 0o555),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // A folder that another user can reach.
    let program = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    // It may have been built under a umask that closes it to others.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for path in [&readable, &sealed.join("inside.db"), &sealed.join("new.db")] {
        let mut command = Command::new(&program);
        command.args(["--exact", "file::tries_to_open", "--ignored", "--nocapture"]);
        command.env("QCHOST_OPEN", path);
        if superuser {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let expected = format!(
            "refused: cannot open the database {} for writing",
            path.display()
        );
        assert!(said.contains(&expected), "{said}");
    }
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "the child process of the test above, which starts it"]
fn tries_to_open() {
    let Ok(path) = std::env::var("QCHOST_OPEN") else {
        return;
    };
    match Ledger::open(Path::new(&path)) {
        Ok(_) => println!("opened"),
        Err(error) => println!("refused: {error}"),
    }
}
