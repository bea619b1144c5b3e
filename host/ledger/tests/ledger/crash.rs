//! After `kill -9` in the middle of work, everything acknowledged is there exactly once, and no budget is
//! refilled.
//!
//! The test starts itself as a child process, which works on a ledger and prints what was acknowledged.
//! `QCHOST_CRASHES` is the number of kills, 20 if it is not set.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use qchost_ledger::{Ledger, Settlement, StandingPermit};

use crate::{DAY, NOW, binding, counted, request, with_permit};

const FILE: &str = "QCHOST_CRASH_FILE";
const RUN: &str = "QCHOST_CRASH_RUN";
const USES: u32 = 1_000_000;

/// What the child printed, over all runs.
#[derive(Default)]
struct Acknowledged {
    began: BTreeSet<i64>,
    /// An end was requested; true for a commit.
    ending: BTreeSet<(i64, bool)>,
    ended: BTreeSet<(i64, bool)>,
    reads: u32,
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_double_after_kills() {
    let kills = std::env::var("QCHOST_CRASHES").map_or(20, |it| it.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let permit = runtime.block_on(async {
        let ledger = Ledger::open(&path).unwrap();
        let asked = ledger.request_approval(request()).await.unwrap();
        let standing = StandingPermit {
            uses: USES,
            until_ms: NOW + DAY,
            max_cost: None,
        };
        ledger
            .approve(&asked.id, 1, "ann", Some(standing), NOW, NOW)
            .await
            .unwrap();
        ledger
            .find_permit(&binding(), &request().scope, 0, NOW)
            .await
            .unwrap()
            .unwrap()
            .id
    });
    let mut said = Acknowledged::default();
    for run in 0..kills {
        work_and_kill(&path, run, &permit, &mut said);
        runtime.block_on(check(&path, &said));
    }
    assert!(
        said.began.len() > kills,
        "the children did too little to test anything"
    );
}

fn work_and_kill(path: &Path, run: usize, permit: &str, said: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .env(FILE, path)
        .env(RUN, format!("{run} {permit}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    let lines_until_kill = 1 + usize::try_from(random % 400).unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = 0;
    // Reads to the end: what it printed before it was killed counts too.
    for line in lines {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["began", id] => assert!(said.began.insert(id.parse().unwrap()), "{id} twice"),
            ["ending", id, commit] => {
                said.ending.insert((id.parse().unwrap(), commit == "true"));
            }
            ["ended", id, commit] => {
                said.ended.insert((id.parse().unwrap(), commit == "true"));
            }
            ["read"] => said.reads += 1,
            _ => continue,
        }
        seen += 1;
        if seen == lines_until_kill {
            child.kill().unwrap();
        }
    }
    assert!(
        seen >= lines_until_kill,
        "the child ended by itself: {:?}",
        child.wait()
    );
    child.wait().unwrap();
}

async fn check(path: &Path, said: &Acknowledged) {
    let ledger = Ledger::open(path).unwrap();
    let reservations = ledger.open_reservations().await.unwrap();
    let open: BTreeSet<i64> = reservations.iter().map(|it| it.id).collect();
    let calls: BTreeSet<&str> = reservations.iter().map(|it| it.call.as_str()).collect();
    assert_eq!(calls.len(), open.len(), "a call was reserved twice");
    for id in &said.began {
        let ending = said.ending.iter().any(|it| it.0 == *id);
        let ended = said.ended.iter().any(|it| it.0 == *id);
        assert!(
            open.contains(id) || ending,
            "{id} was acknowledged and is gone"
        );
        assert!(!(open.contains(id) && ended), "{id} was ended and is open");
    }
    let used = ledger.usage("research", "lab", NOW).await.unwrap();
    let count = |grant| {
        used.iter()
            .find(|it| it.grant == grant)
            .map_or(0, |it| it.count)
    };
    let permit = ledger
        .find_permit(&binding(), &request().scope, 0, NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        count("runs"),
        USES - permit.uses_left,
        "budget and permit differ"
    );
    // What is used and not open was committed. A request without an acknowledgement may have been carried out
    // or not.
    let committed = count("runs") as usize - open.len();
    let least = said.ended.iter().filter(|it| it.1).count();
    let most = said.ending.iter().filter(|it| it.1).count();
    assert!(
        (least..=most).contains(&committed),
        "{committed} not in {least}..={most}"
    );
    assert!(
        count("reads") >= said.reads,
        "{} reads counted of {}",
        count("reads"),
        said.reads
    );
}

#[test]
#[ignore = "the child process of the test above, which starts it"]
fn child() {
    let (Ok(path), Ok(run)) = (std::env::var(FILE), std::env::var(RUN)) else {
        return;
    };
    let (run, permit) = run.split_once(' ').unwrap();
    let ledger = Ledger::open(Path::new(&path)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tasks = (0..16).map(|task| {
            tokio::spawn(work(
                ledger.clone(),
                format!("{run}-{task}"),
                permit.to_owned(),
            ))
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

/// Runs until it is killed: makes reservations, and commits, releases and leaves open a third of them each.
async fn work(ledger: Ledger, name: String, permit: String) {
    for number in 0_u32.. {
        let mut call = with_permit(&permit, 1, NOW);
        call.call = format!("{name}-{number}");
        call.charges = vec![counted("runs", u32::MAX)];
        let id = ledger.begin(call).await.unwrap();
        say(&format!("began {id}"));
        if number % 3 != 0 {
            let commit = number % 3 == 1;
            say(&format!("ending {id} {commit}"));
            let how = if commit {
                Settlement::Commit
            } else {
                Settlement::Release
            };
            ledger.settle(id, how).await.unwrap();
            say(&format!("ended {id} {commit}"));
        }
        ledger
            .count_reads("research", "lab", &[("reads", u32::MAX)], NOW)
            .await
            .unwrap();
        say("read");
    }
}

/// Prints at once, past the capture of the test harness.
fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}").unwrap();
    out.flush().unwrap();
}
