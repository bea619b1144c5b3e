//! Budgets compared with a model of them, and their edge cases.

use std::collections::BTreeMap;

use proptest::prelude::*;
use qchost_ledger::{BeginError, Charge, Ledger, Settlement};

use crate::{DAY, HOUR, NOW, begin, counted};

const PER_DAY: u32 = 4;
const COST_PER_DAY: u64 = 100;

#[derive(Debug, Clone)]
enum Step {
    /// A call under these grants, at this cost.
    Begin(Vec<usize>, u64),
    /// Ends the n-th reservation that was made, even if it has ended before.
    Settle(usize, bool),
    /// Moves the clock forward or back.
    Clock(i64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let cost = prop_oneof![Just(0), 1..60_u64, Just(u64::MAX)];
    prop_oneof![
        6 => (prop::sample::subsequence(vec![0, 1], 1..=2), cost).prop_map(|(grants, cost)| Step::Begin(grants, cost)),
        4 => (0..12_usize, any::<bool>()).prop_map(|(which, commit)| Step::Settle(which, commit)),
        2 => (-3 * DAY..3 * DAY).prop_map(Step::Clock),
        1 => Just(Step::Reopen),
    ]
}

/// Grant, day and cost.
type Taken = Vec<(usize, i64, u64)>;

/// A model of the ledger that is too simple to be wrong.
#[derive(Default)]
struct Model {
    /// Count and cost by grant and day.
    counters: BTreeMap<(usize, i64), (u32, u64)>,
    /// What each open reservation has charged.
    made: Vec<(i64, Option<Taken>)>,
}

impl Model {
    fn day(&self, grant: usize, now: i64) -> i64 {
        let last = self
            .counters
            .keys()
            .filter(|it| it.0 == grant)
            .map(|it| it.1);
        last.chain([now.div_euclid(DAY)]).max().unwrap()
    }

    /// What a call charges, if enough is left.
    fn take(&mut self, grants: &[usize], cost: u64, now: i64) -> Option<Taken> {
        let taken: Taken = grants
            .iter()
            .map(|it| (*it, self.day(*it, now), cost))
            .collect();
        for (grant, day, cost) in &taken {
            let (count, spent) = self
                .counters
                .get(&(*grant, *day))
                .copied()
                .unwrap_or_default();
            let affordable = *cost == 0 || spent.saturating_add(*cost) <= COST_PER_DAY;
            if count >= PER_DAY || !affordable {
                return None;
            }
        }
        for (grant, day, cost) in &taken {
            let counter = self.counters.entry((*grant, *day)).or_default();
            *counter = (counter.0 + 1, counter.1 + cost);
        }
        Some(taken)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn budgets_do_what_a_model_of_them_does(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Runtime::new().unwrap().block_on(follow(steps))?;
    }
}

async fn follow(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut ledger = Ledger::open(&path).unwrap();
    let (mut model, mut now) = (Model::default(), NOW);
    for step in steps {
        match step {
            Step::Begin(grants, cost) => {
                let charges = grants.iter().map(|it| Charge {
                    grant: format!("g{it}"),
                    per_day: Some(PER_DAY),
                    cost,
                    cost_per_day: Some(COST_PER_DAY),
                });
                let began = ledger.begin(begin("c", now, charges.collect())).await;
                match (began, model.take(&grants, cost, now)) {
                    (Ok(id), Some(taken)) => {
                        prop_assert!(model.made.iter().all(|it| it.0 < id), "number {id} twice");
                        model.made.push((id, Some(taken)));
                    }
                    (Err(BeginError::Exhausted { resets_in_ms, .. }), None) => {
                        prop_assert!(resets_in_ms > 0)
                    }
                    (began, expected) => prop_assert!(false, "{began:?}, expected {expected:?}"),
                }
            }
            Step::Settle(which, commit) => {
                let Some((id, open)) = model.made.get_mut(which) else {
                    continue;
                };
                let how = if commit {
                    Settlement::Commit
                } else {
                    Settlement::Release
                };
                ledger.settle(*id, how).await.unwrap();
                for (grant, day, cost) in open.take().into_iter().flatten().filter(|_| !commit) {
                    let counter = model.counters.get_mut(&(grant, day)).unwrap();
                    *counter = (counter.0 - 1, counter.1 - cost);
                }
            }
            Step::Clock(by) => now += by,
            Step::Reopen => {
                drop(ledger);
                ledger = Ledger::open(&path).unwrap();
            }
        }
        let used = ledger.usage("research", "lab", now).await.unwrap();
        for grant in 0..2 {
            let expected = model.counters.get(&(grant, model.day(grant, now)));
            let found = used.iter().find(|it| it.grant == format!("g{grant}"));
            prop_assert_eq!(found.map(|it| (it.count, it.cost)), expected.copied());
        }
        let open = ledger.open_reservations().await.unwrap();
        let open: Vec<i64> = open.iter().map(|it| it.id).collect();
        let expected: Vec<i64> = model
            .made
            .iter()
            .filter(|it| it.1.is_some())
            .map(|it| it.0)
            .collect();
        prop_assert_eq!(open, expected);
    }
    Ok(())
}

#[tokio::test]
async fn a_budget_that_is_used_up_says_which_and_until_when() {
    let ledger = Ledger::in_memory().unwrap();
    ledger
        .begin(begin("1", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap();
    let refused = ledger
        .begin(begin("2", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap_err();
    let BeginError::Exhausted {
        grant,
        budget,
        limit,
        used,
        resets_in_ms,
    } = &refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(
        (grant.as_str(), *budget, limit.as_str(), used.as_str()),
        ("runs", "per-day", "1", "1")
    );
    // From 22:13:20 to midnight.
    assert_eq!(*resets_in_ms, HOUR + 46 * 60_000 + 40_000);
    assert_eq!(
        refused.to_string(),
        "grant `runs`: `per-day` allows 1 in a day and 1 of it is used; it is full again in 107 min"
    );
    ledger
        .begin(begin("3", NOW + 2 * HOUR, vec![counted("runs", 1)]))
        .await
        .unwrap();

    let costly = |cost| {
        vec![Charge {
            grant: "money".to_owned(),
            per_day: None,
            cost,
            cost_per_day: Some(50_000),
        }]
    };
    ledger.begin(begin("4", NOW, costly(30_001))).await.unwrap();
    let refused = ledger
        .begin(begin("5", NOW, costly(20_000)))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("`cost-per-day` allows $5.0000 in a day and $3.0001"),
        "{refused}"
    );
    ledger.begin(begin("6", NOW, costly(19_999))).await.unwrap();
    // A free call is still allowed.
    ledger.begin(begin("7", NOW, costly(0))).await.unwrap();
}

#[tokio::test]
async fn a_refused_call_takes_nothing_of_any_grant() {
    let ledger = Ledger::in_memory().unwrap();
    ledger
        .begin(begin("1", NOW, vec![counted("b", 1)]))
        .await
        .unwrap();
    let both = vec![counted("a", 5), counted("b", 1)];
    ledger.begin(begin("2", NOW, both)).await.unwrap_err();
    let used = ledger.usage("research", "lab", NOW).await.unwrap();
    assert_eq!(used.len(), 1, "{used:?}");
    assert_eq!((used[0].grant.as_str(), used[0].count), ("b", 1));
    assert_eq!(used[0].day, "2023-11-14");
}

/// All of them share one transaction, and only those above the limit are refused.
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_get_exactly_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("state.db")).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for call in 0..200 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            ledger
                .begin(begin(&call.to_string(), NOW, vec![counted("runs", 70)]))
                .await
                .is_ok()
        });
    }
    let began = tasks.join_all().await.into_iter().filter(|it| *it).count();
    assert_eq!(began, 70);
    assert_eq!(ledger.open_reservations().await.unwrap().len(), 70);
}

#[tokio::test]
async fn accounts_and_plugins_have_budgets_of_their_own() {
    let ledger = Ledger::in_memory().unwrap();
    ledger
        .begin(begin("1", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap();
    let mut other = begin("2", NOW, vec![counted("runs", 1)]);
    other.plugin = "risk".to_owned();
    ledger.begin(other.clone()).await.unwrap();
    ledger.begin(other.clone()).await.unwrap_err();
    other.account = "trading".to_owned();
    ledger.begin(other).await.unwrap();
}

/// A release on the next day returns the charge to the day on which it was made.
#[tokio::test]
async fn a_release_does_not_reach_into_another_day() {
    let ledger = Ledger::in_memory().unwrap();
    let yesterday = ledger
        .begin(begin("1", NOW, vec![counted("runs", 1)]))
        .await
        .unwrap();
    let tomorrow = NOW + DAY;
    ledger
        .begin(begin("2", tomorrow, vec![counted("runs", 1)]))
        .await
        .unwrap();
    ledger.settle(yesterday, Settlement::Release).await.unwrap();
    ledger
        .begin(begin("3", tomorrow, vec![counted("runs", 1)]))
        .await
        .unwrap_err();
}
