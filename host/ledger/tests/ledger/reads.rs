//! Reads that are counted in blocks: never more than allowed, and none lost except in a crash.

use proptest::prelude::*;
use qchost_ledger::{BeginError, Ledger};

use crate::{DAY, NOW, begin, counted};

const PER_DAY: u32 = 100;

#[derive(Debug, Clone)]
enum Step {
    Reads(u32),
    Writes(u32),
    Clock(i64),
    /// Reopens the ledger after a clean close or a crash.
    Reopen(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..60_u32).prop_map(Step::Reads),
        3 => (1..8_u32).prop_map(Step::Writes),
        1 => (-DAY..DAY).prop_map(Step::Clock),
        2 => any::<bool>().prop_map(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn reads_and_writes_share_a_day_and_never_pass_it(steps in prop::collection::vec(step(), 1..24)) {
        tokio::runtime::Runtime::new().unwrap().block_on(follow(steps))?;
    }
}

async fn follow(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut ledger = Ledger::open(&path).unwrap();
    let mut now = NOW;
    let mut days = std::collections::BTreeSet::from([NOW.div_euclid(DAY)]);
    // Reads allowed in total, and on the last day for as long as the count is known exactly.
    let (mut passed, mut today, mut exact) = (0_usize, 0, true);
    for step in steps {
        let calls = match step {
            Step::Reads(calls) | Step::Writes(calls) => calls,
            Step::Clock(by) => {
                now += by;
                exact &= by >= 0;
                if days.insert(now.div_euclid(DAY)) {
                    today = 0;
                }
                continue;
            }
            Step::Reopen(clean) => {
                if clean {
                    ledger.close().await.unwrap();
                }
                exact &= clean;
                drop(ledger);
                ledger = Ledger::open(&path).unwrap();
                continue;
            }
        };
        for _ in 0..calls {
            let outcome = match step {
                Step::Reads(_) => {
                    ledger
                        .count_reads("research", "lab", &[("g", PER_DAY)], now)
                        .await
                }
                _ => ledger
                    .begin(begin("w", now, vec![counted("g", PER_DAY)]))
                    .await
                    .map(drop),
            };
            match outcome {
                Ok(()) => (passed, today) = (passed + 1, today + 1),
                Err(BeginError::Exhausted { .. }) => {
                    prop_assert!(!exact || today == PER_DAY, "refused after {today}");
                    break;
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        prop_assert!(
            passed <= PER_DAY as usize * days.len(),
            "{passed} in {days:?}"
        );
        if exact {
            prop_assert!(today <= PER_DAY);
            let used = ledger.usage("research", "lab", now).await.unwrap();
            prop_assert_eq!(used.first().map_or(0, |it| it.count), today);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_writes_at_once_get_exactly_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("state.db")).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..32 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let mut passed = 0;
            for call in 0..40 {
                passed += u32::from(if (task + call) % 4 == 0 {
                    ledger
                        .begin(begin("w", NOW, vec![counted("g", 500)]))
                        .await
                        .is_ok()
                } else {
                    ledger
                        .count_reads("research", "lab", &[("g", 500)], NOW)
                        .await
                        .is_ok()
                });
            }
            passed
        });
    }
    let passed: u32 = tasks.join_all().await.into_iter().sum();
    assert_eq!(passed, 500);
    let used = ledger.usage("research", "lab", NOW).await.unwrap();
    assert_eq!(used[0].count, 500);
}

/// If one of several grants is used up, none is charged, and what the others have left is not lost.
#[tokio::test]
async fn a_read_that_is_refused_counts_nowhere() {
    let ledger = Ledger::in_memory().unwrap();
    let both = [("many", 1000), ("few", 2)];
    for _ in 0..2 {
        ledger
            .count_reads("research", "lab", &both, NOW)
            .await
            .unwrap();
    }
    for _ in 0..3 {
        let refused = ledger
            .count_reads("research", "lab", &both, NOW)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, BeginError::Exhausted { ref grant, .. } if grant == "few"),
            "{refused}"
        );
    }
    let used = ledger.usage("research", "lab", NOW).await.unwrap();
    let used: Vec<_> = used
        .iter()
        .map(|it| (it.grant.as_str(), it.count))
        .collect();
    assert_eq!(used, [("few", 2), ("many", 2)]);
}

/// A grant that is named twice is charged once.
#[tokio::test]
async fn a_read_counts_once_in_a_grant() {
    let ledger = Ledger::in_memory().unwrap();
    ledger
        .count_reads("research", "lab", &[("g", 1), ("g", 1)], NOW)
        .await
        .unwrap();
    ledger
        .count_reads("research", "lab", &[("g", 1)], NOW)
        .await
        .unwrap_err();
}

/// A block that was taken under a higher limit allows no more than the lowered limit does.
#[tokio::test]
async fn a_lower_limit_holds_at_once() {
    let ledger = Ledger::in_memory().unwrap();
    for _ in 0..10 {
        ledger
            .count_reads("research", "lab", &[("g", 1000)], NOW)
            .await
            .unwrap();
    }
    ledger
        .count_reads("research", "lab", &[("g", 10)], NOW)
        .await
        .unwrap_err();
    ledger
        .count_reads("research", "lab", &[("g", 11)], NOW)
        .await
        .unwrap();
    ledger
        .count_reads("research", "lab", &[("g", 11)], NOW)
        .await
        .unwrap_err();
}

/// A crash loses at most one block.
#[tokio::test]
async fn a_crash_loses_no_more_than_a_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    ledger
        .count_reads("research", "lab", &[("g", 10_000)], NOW)
        .await
        .unwrap();
    drop(ledger);
    let used = Ledger::open(&path)
        .unwrap()
        .usage("research", "lab", NOW)
        .await
        .unwrap();
    assert!((1..=64).contains(&used[0].count), "{used:?}");
}
