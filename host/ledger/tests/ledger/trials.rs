//! What was tried on history.

use qchost_ledger::{Ledger, MAX_TRIALS, Trial, TrialCounts, TrialKind};

const ACCOUNT: &str = "research";

fn backtests(numbers: std::ops::Range<usize>) -> Vec<Trial> {
    numbers
        .map(|number| Trial::backtest(format!("b-{number}")))
        .collect()
}

async fn counts(ledger: &Ledger, project: u32, source: Option<&str>) -> TrialCounts {
    let counted = ledger.count_trials(ACCOUNT, project, source.map(str::to_owned));
    counted.await.unwrap()
}

async fn total(ledger: &Ledger, project: u32, source: Option<&str>) -> u32 {
    counts(ledger, project, source).await.total()
}

#[tokio::test]
async fn a_trial_counts_once_also_after_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let ledger = Ledger::open(&path).unwrap();
    for numbers in [0..3, 1..5] {
        let recorded = ledger.record_trials(ACCOUNT, 1, backtests(numbers));
        recorded.await.unwrap();
    }
    let optimization = vec![Trial::optimization("b-0", 10, true)];
    ledger
        .record_trials(ACCOUNT, 1, optimization)
        .await
        .unwrap();
    drop(ledger);
    let ledger = Ledger::open(&path).unwrap();
    let expected = TrialCounts {
        backtests: 5,
        combinations: 10,
        inherited: 0,
    };
    assert_eq!(counts(&ledger, 1, None).await, expected);
    // Neither another project nor another account has any of them.
    assert_eq!(total(&ledger, 2, None).await, 0);
    let elsewhere = ledger.count_trials("trading", 1, None).await.unwrap();
    assert_eq!(elsewhere.total(), 0);
}

#[tokio::test]
async fn the_combinations_of_an_optimisation_grow_until_they_are_certain() {
    let ledger = Ledger::in_memory().unwrap();
    for (tries, settled, counted) in [
        (100, false, 100),
        (40, false, 100),
        (120, false, 120),
        (64, true, 64),
        (500, false, 64),
        (7, true, 64),
    ] {
        let known = ledger.settled_trials(ACCOUNT, 1, TrialKind::Optimization);
        let was_settled = known.await.unwrap().contains("o");
        assert_eq!(was_settled, tries == 500 || tries == 7);
        let trial = Trial::optimization("o", tries, settled);
        ledger.record_trials(ACCOUNT, 1, vec![trial]).await.unwrap();
        assert_eq!(counts(&ledger, 1, None).await.combinations, counted);
    }
}

#[tokio::test]
async fn a_project_inherits_the_trials_of_all_that_have_held_its_source() {
    let ledger = Ledger::in_memory().unwrap();
    for (project, numbers) in [(1, 0..800), (2, 800..820), (3, 820..825)] {
        let recorded = ledger.record_trials(ACCOUNT, project, backtests(numbers));
        recorded.await.unwrap();
    }
    assert_eq!(total(&ledger, 1, Some("one")).await, 800);
    assert_eq!(total(&ledger, 2, Some("two")).await, 20);
    // A copy of project 1 that is changed afterwards, and a copy of that one.
    let copied = TrialCounts {
        backtests: 800,
        combinations: 0,
        inherited: 800,
    };
    assert_eq!(counts(&ledger, 4, Some("one")).await, copied);
    assert_eq!(total(&ledger, 4, Some("four")).await, 800);
    assert_eq!(total(&ledger, 5, Some("four")).await, 800);
    // Two families meet in one source.
    ledger.hold_source(ACCOUNT, 2, "four").await.unwrap();
    for project in [1, 2, 4, 5] {
        assert_eq!(total(&ledger, project, None).await, 820, "{project}");
    }
    assert_eq!(total(&ledger, 3, Some("three")).await, 5);
    let elsewhere = ledger.count_trials("trading", 9, Some("one".to_owned()));
    assert_eq!(elsewhere.await.unwrap().total(), 0);
}

#[tokio::test]
async fn what_new_projects_begin_with_joins_none_of_them_unless_it_was_tried() {
    let ledger = Ledger::in_memory().unwrap();
    assert_eq!(total(&ledger, 1, Some("template")).await, 0);
    let recorded = ledger.record_trials(ACCOUNT, 1, backtests(0..7));
    recorded.await.unwrap();
    assert_eq!(total(&ledger, 1, Some("own")).await, 7);
    assert_eq!(total(&ledger, 2, Some("template")).await, 0);
    ledger.hold_source(ACCOUNT, 1, "template").await.unwrap();
    assert_eq!(total(&ledger, 2, Some("template")).await, 7);
}

#[tokio::test]
async fn the_trials_of_one_project_are_bounded_and_leave_others_alone() {
    let ledger = Ledger::in_memory().unwrap();
    let recorded = ledger.record_trials(ACCOUNT, 1, backtests(0..MAX_TRIALS + 10));
    recorded.await.unwrap();
    let recorded = ledger.record_trials(ACCOUNT, 2, backtests(0..1));
    recorded.await.unwrap();
    let most = u32::try_from(MAX_TRIALS).unwrap();
    assert_eq!(total(&ledger, 1, None).await, most);
    assert_eq!(total(&ledger, 2, None).await, 1);
}
