//! Budgets and rates of a changed manifest whose component does not serve yet: they apply already, and keep their
//! counts.

use crate::changes::{FILES, HOOKS, TESTS, ask_hooks, manifest, queued, read_backtest};
use qchost_gate::Refusal;
use qchost_testing::cloud::Setup;
use serde_json::{Value, json};

fn exhausted(answer: Result<Value, Refusal>) -> String {
    match answer {
        Err(Refusal::Exhausted { grant, .. }) => grant,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_two_budgets_for_one_grant_the_smaller_counts_until_the_changed_manifest_serves() {
    let a_day = |most: u32| manifest(&format!("{TESTS}limits = {{ per-day = {most} }}\n"));
    let world = Setup::grants(TESTS).open().await;
    world.gate.policies.install(a_day(3)).unwrap();
    world.gate.policies.restrict(a_day(1)).await.unwrap();
    read_backtest(&world).await.unwrap();
    assert_eq!(exhausted(read_backtest(&world).await), "tests");
    let shown = world.gate.reporter.grants("lab").await.unwrap().unwrap();
    assert_eq!(
        json!(shown.grants[0].obligations["per-day"]),
        json!({ "limit": 1, "used": 1 })
    );
    let written = json!({ "projectId": 1, "compileId": "c1", "backtestName": "b" });
    let written = world.call("backtests/create-backtest", written).await;
    assert_eq!(exhausted(written), "tests");
    // A larger one is not given yet, and nothing is counted twice.
    world.gate.policies.restrict(a_day(4)).await.unwrap();
    read_backtest(&world).await.unwrap();
    read_backtest(&world).await.unwrap();
    assert_eq!(exhausted(read_backtest(&world).await), "tests");
    world.gate.policies.install(a_day(4)).unwrap();
    read_backtest(&world).await.unwrap();
    assert_eq!(exhausted(read_backtest(&world).await), "tests");
}

#[tokio::test]
async fn a_grant_that_only_the_changed_manifest_has_bounds_what_it_agrees_to() {
    let other = TESTS.replace("\"tests\"", "\"fewer\"");
    let changed = format!("{other}limits = {{ per-day = 1 }}\n{FILES}");
    let world = Setup::grants(&format!("{TESTS}{FILES}")).open().await;
    let narrowed = manifest(&changed);
    world.gate.policies.restrict(narrowed).await.unwrap();
    read_backtest(&world).await.unwrap();
    assert_eq!(exhausted(read_backtest(&world).await), "fewer");
    // It is about nothing else, and what was used of it is used when it serves.
    world.read_file().await.unwrap();
    world.gate.policies.install(manifest(&changed)).unwrap();
    assert_eq!(exhausted(read_backtest(&world).await), "fewer");
    world.gate.policies.install(manifest(TESTS)).unwrap();
    read_backtest(&world).await.unwrap();
}

#[tokio::test]
async fn a_changed_manifest_has_its_rates_and_those_of_requests_elsewhere_already() {
    let world = Setup::grants(&format!("{TESTS}{HOOKS}")).open().await;
    let slow = "limits = { per-minute = 1 }\n";
    let changed = manifest(&format!("{TESTS}{slow}{HOOKS}limits = {{ per-day = 1 }}\n"));
    world.gate.policies.restrict(changed).await.unwrap();
    read_backtest(&world).await.unwrap();
    let limited = read_backtest(&world).await;
    assert!(
        matches!(limited, Err(Refusal::RateLimited(_))),
        "{limited:?}"
    );
    ask_hooks(&world).await.unwrap();
    let refused = ask_hooks(&world).await.unwrap_err();
    assert!(
        matches!(&refused, Refusal::Exhausted { grant, .. } if grant == "http:hooks"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_smaller_number_of_calls_at_a_time_counts_those_that_began_without_one() {
    let (world, first, second) = queued(&format!("{FILES}{TESTS}")).await;
    let one = format!("{FILES}limits = {{ concurrent = 1 }}\n{TESTS}");
    world.gate.policies.restrict(manifest(&one)).await.unwrap();
    assert_eq!(exhausted(world.read_file().await), "files");
    world.cloud.release();
    first.await.unwrap().unwrap();
    // It has to be admitted again, possibly before the guard of the first one is free.
    if let Err(refusal) = second.await.unwrap() {
        assert_eq!(exhausted(Err(refusal)), "files");
    }
    world.gate.idle().await;
    world.read_file().await.unwrap();
}

#[tokio::test]
async fn a_call_that_waits_keeps_what_it_paid_when_only_the_order_of_its_grants_changes() {
    // One has read, one is on its way, and one waits: together the limit of the minute.
    let paid = format!("{FILES}limits = {{ per-minute = 3 }}\n");
    let other = FILES.replace("\"files\"", "\"more\"");
    let (world, first, second) = queued(&format!("{paid}{TESTS}")).await;
    let changed = format!("{other}{TESTS}{paid}");
    let narrowed = manifest(&changed);
    world.gate.policies.restrict(narrowed).await.unwrap();
    world.gate.policies.install(manifest(&changed)).unwrap();
    world.cloud.release();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let limited = world.read_file().await;
    assert!(
        matches!(limited, Err(Refusal::RateLimited(_))),
        "{limited:?}"
    );
}
