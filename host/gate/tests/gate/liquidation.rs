//! Halts that liquidate: concurrently, verified by reads, and continued until nothing is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qchost_catalog::Failure;
use qchost_gate::{Gate, HaltScope, Stopped};
use serde_json::json;

use qchost_testing::cloud::{Cloud, Live, Setup, person, records, resume, until};

use crate::approvals::{deployment, profiles};

const DEPLOY: &str = "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\n";
const LAB: &str = "[[grant]]\nname = \"lab\"\nallow = [\"live/*\"]\nprojects = [\"Lab/*\"]\n";

/// A gate whose steps take a tenth of a second at most.
fn hasty() -> Setup {
    let mut setup = Setup::grants(LAB);
    setup.call_timeout = Duration::from_millis(2400);
    setup
}

async fn liquidate(gate: &Gate) -> Vec<Stopped> {
    let report = gate
        .halts
        .halt(&person(7, "ann"), HaltScope::default(), "x", true)
        .await
        .unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    report.stopped
}

fn refuse(cloud: &Cloud, tools: &'static [&'static str]) {
    cloud.hook(move |tool, _| {
        let refused = Failure::Rejected(vec!["market closed".to_owned()]);
        tools.contains(&tool).then_some(Err(refused))
    });
}

fn pretend(cloud: &Cloud, tools: &'static [&'static str]) {
    cloud.hook(move |tool, _| {
        tools
            .contains(&tool)
            .then(|| Ok(json!({ "success": true })))
    });
}

#[tokio::test]
async fn what_runs_is_liquidated_and_read_back() {
    let world = hasty().open().await;
    let stopped = liquidate(&world.gate).await;
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert_eq!(
        (
            stopped[0].project,
            stopped[0].result.as_str(),
            stopped[0].open
        ),
        (Some(1), "liquidated", false)
    );
    assert_eq!(stopped[0].positions, Some(Vec::new()));
    assert_eq!(world.gate.liquidator.list().len(), 0);
    let recorded = world.records().await;
    let reduced = recorded
        .iter()
        .filter(|record| record["operation"] == "live/liquidate-live-algorithm");
    assert_eq!(reduced.count(), 2, "an intent and its outcome");
    // A deployment that has ended is not liquidated again.
    assert_eq!(liquidate(&world.gate).await, Vec::new());
}

/// Each liquidation ends one deployment of a project, and one of another project starts meanwhile.
#[tokio::test]
async fn of_three_deployments_of_two_projects_none_runs_at_the_end() {
    let world = hasty().open().await;
    let key = |project: u32| ("a".to_owned(), project);
    let beside = vec!["Running"];
    world.cloud.live.lock().get_mut(&key(1)).unwrap().beside = beside;
    let (cloud, started) = (Arc::clone(&world.cloud), AtomicBool::new(false));
    world.cloud.hook(move |tool, _| {
        if tool == "liquidate_live_algorithm" && !started.swap(true, Ordering::Relaxed) {
            cloud.live.lock().insert(key(2), Live::holding());
        }
        None
    });
    let stopped = liquidate(&world.gate).await;
    let mut results: Vec<_> = stopped
        .iter()
        .map(|one| {
            let many = one.deployments.len();
            (one.project, one.result.as_str(), one.open, many)
        })
        .collect();
    results.sort_unstable();
    assert_eq!(
        results,
        [
            (Some(1), "liquidated", false, 2),
            (Some(2), "liquidated", false, 1)
        ]
    );
    assert!(world.cloud.live.lock().values().all(|live| !live.runs()));
    assert_eq!(world.cloud.count("liquidate_live_algorithm"), 3);
    assert_eq!(world.gate.liquidator.list().len(), 0);
}

/// QuantConnect shows the positions of one deployment of a project.
#[tokio::test]
async fn what_another_deployment_holds_that_was_only_stopped_is_not_known() {
    let world = hasty().open().await;
    let two = Live {
        holdings: json!([]),
        beside: vec!["Running"],
        ..Live::holding()
    };
    world.cloud.live.lock().insert(("a".to_owned(), 1), two);
    refuse(&world.cloud, &["liquidate_live_algorithm"]);
    let stopped = liquidate(&world.gate).await;
    assert_eq!(
        (stopped[0].result.as_str(), stopped[0].open),
        ("stopped, positions not known", true)
    );
    assert!(world.cloud.live.lock().values().all(|live| !live.runs()));
    // A later halt that liquidates a third one still knows of the others.
    resume(&world.gate, HaltScope::default()).await;
    world.gate.idle().await;
    *world.cloud.hook.lock() = None;
    let key = ("a".to_owned(), 1);
    let beside = vec!["Stopped", "Running"];
    world.cloud.live.lock().get_mut(&key).unwrap().beside = beside;
    let again = liquidate(&world.gate).await;
    assert_eq!(again[0].deployments.len(), 3, "{again:?}");
    assert_eq!(
        (again[0].result.as_str(), again[0].open),
        ("stopped, positions not known", true)
    );
}

/// Its answer comes after the account was listed.
#[tokio::test]
async fn a_deployment_that_was_being_started_is_liquidated_as_well() {
    let mut setup = Setup::grants(DEPLOY);
    setup.profiles = profiles();
    let world = setup.open().await;
    world.cloud.live.lock().clear();
    *world.cloud.held.lock() = Some("create_live_algorithm");
    let deploying = world.start("live/create-live-algorithm", deployment(1, "paper"));
    world.cloud.until_called("create_live_algorithm").await;
    let ann = person(7, "ann");
    let halting = world.gate.halts.halt(&ann, HaltScope::default(), "x", true);
    let halting = tokio::spawn(halting);
    until("nothing is listed", async || {
        world.cloud.count("list_live_algorithms") == 2
    })
    .await;
    let started = ("a".to_owned(), 1);
    world.cloud.live.lock().insert(started, Live::holding());
    world.cloud.let_go();
    let report = halting.await.unwrap().unwrap();
    assert_eq!(report.departed.len(), 1, "{report:?}");
    assert_eq!(report.stopped.len(), 1, "{report:?}");
    assert_eq!(report.stopped[0].result, "liquidated");
    assert!(world.cloud.live.lock().values().all(|live| !live.runs()));
    deploying.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_liquidation_that_was_stopped_instead_leaves_positions_open() {
    let world = hasty().open().await;
    refuse(&world.cloud, &["liquidate_live_algorithm"]);
    let stopped = liquidate(&world.gate).await;
    let one = &stopped[0];
    assert_eq!(
        (one.result.as_str(), one.open),
        ("stopped, positions open", true)
    );
    let held = one.positions.as_ref().unwrap();
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(
        (
            held[0].symbol.as_str(),
            held[0].quantity.as_str(),
            held[0].value.as_deref()
        ),
        ("SPY", "10", Some("5000.5"))
    );
    assert!(one.message.as_deref().unwrap().contains("market closed"));
    // Nothing is listed as running any more, which is no evidence that nothing is held: also not after the halt has
    // ended.
    let again = liquidate(&world.gate).await;
    assert_eq!(again[0].result, "stopped, positions open");
    let resumed = resume(&world.gate, HaltScope::default()).await;
    assert_eq!(resumed.open.len(), 1);
    assert_eq!(world.gate.liquidator.list().len(), 0);
    let again = liquidate(&world.gate).await;
    assert_eq!(again[0].result, "stopped, positions open");
    assert!(again[0].open);
    assert_eq!(world.gate.liquidator.list().len(), 1);
    // The positions are closed elsewhere, and the host notices.
    let key = ("a".to_owned(), 1);
    world.cloud.live.lock().get_mut(&key).unwrap().holdings = json!({});
    until("it is seen", async || {
        world.gate.liquidator.list().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_success_without_effect_is_seen_and_tried_again_in_the_background() {
    let world = hasty().open().await;
    pretend(
        &world.cloud,
        &["liquidate_live_algorithm", "stop_live_algorithm"],
    );
    let stopped = liquidate(&world.gate).await;
    assert_eq!(stopped[0].result, "running, positions open");
    assert!(stopped[0].open);
    let open = world.gate.liquidator.list();
    assert_eq!((open[0].by.as_str(), open[0].uid), ("ann", 7));
    *world.cloud.hook.lock() = None;
    until("it is closed", async || {
        world.gate.liquidator.list().is_empty()
    })
    .await;
    let live = world.cloud.live.lock();
    assert_eq!(live[&("a".to_owned(), 1)].status, "Liquidated");
}

#[tokio::test]
async fn what_cannot_be_read_back_is_open() {
    let world = hasty().open().await;
    refuse(&world.cloud, &["read_live_portfolio"]);
    let stopped = liquidate(&world.gate).await;
    assert_eq!(stopped[0].result, "stopped, positions not known");
    assert!(stopped[0].open && stopped[0].positions.is_none());
    refuse(&world.cloud, &["list_live_algorithms"]);
    let stopped = liquidate(&world.gate).await;
    assert!(
        stopped.iter().any(|one| one.project.is_none() && one.open),
        "{stopped:?}"
    );
}

/// It cannot be addressed, so the account is listed again.
#[tokio::test]
async fn a_deployment_without_a_project_is_gone_on_with_until_the_list_names_it() {
    let world = hasty().open().await;
    let live = |tool: &str| tool == "list_live_algorithms";
    world.cloud.hook(move |tool, _| {
        live(tool).then(|| {
            let listed = json!([{ "deployId": "L-1", "status": "Running", "name": "one" }]);
            Ok(json!({ "success": true, "live": listed }))
        })
    });
    let stopped = liquidate(&world.gate).await;
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    let one = &stopped[0];
    assert_eq!(
        (one.project, one.name.as_str(), one.open),
        (None, "one", true)
    );
    let open = world.gate.liquidator.list();
    assert_eq!(open.len(), 1, "{open:?}");
    let shown = &open[0].state;
    assert_eq!(shown.project, None);
    for words in ["cannot be stopped from here", "listed again"] {
        let message = shown.message.as_deref().unwrap();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(world.cloud.count("liquidate_live_algorithm"), 0);
    let listed = world.cloud.count("list_live_algorithms");
    until("it is listed again", async || {
        world.cloud.count("list_live_algorithms") > listed + 3
    })
    .await;
    let since = open[0].since;
    assert_eq!(world.gate.liquidator.list()[0].since, since);
    // The list names it: it is liquidated, and nothing is open.
    *world.cloud.hook.lock() = None;
    until("it is closed", async || {
        world.gate.liquidator.list().is_empty()
    })
    .await;
    assert!(world.cloud.count("liquidate_live_algorithm") > 0);
}

#[tokio::test]
async fn a_deployment_without_a_project_that_starts_during_the_halt_is_open() {
    let world = hasty().open().await;
    let started = AtomicBool::new(false);
    world.cloud.hook(move |tool, _| {
        if tool == "liquidate_live_algorithm" {
            started.store(true, Ordering::Relaxed);
        }
        if tool != "list_live_algorithms" || !started.load(Ordering::Relaxed) {
            return None;
        }
        let listed = json!([
            { "projectId": 1, "deployId": "L-1", "status": "Liquidated" },
            { "deployId": "L-9", "status": "Running", "name": "nine" },
        ]);
        Some(Ok(json!({ "success": true, "live": listed })))
    });
    let stopped = liquidate(&world.gate).await;
    let shown: Vec<_> = stopped
        .iter()
        .map(|one| (one.project, one.name.as_str(), one.open))
        .collect();
    assert_eq!(
        shown,
        [(Some(1), "Lab/1", false), (None, "nine", true)],
        "{stopped:?}"
    );
    let open = world.gate.liquidator.list();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0].state.project, None);
}

/// One of four hangs in every call; one account cannot even be listed.
#[tokio::test]
async fn accounts_and_deployments_are_liquidated_side_by_side() {
    let mut setup = hasty();
    setup.accounts = vec!["a", "b", "c"];
    let world = setup.open().await;
    {
        let mut live = world.cloud.live.lock();
        for key in [("a", 2), ("b", 1), ("b", 2), ("c", 1)] {
            live.insert((key.0.to_owned(), key.1), Live::holding());
        }
    }
    *world.cloud.hang.lock() = Some(Box::new(|account, tool, project| {
        (account, project) == ("a", 1) || (account == "c" && tool == "list_live_algorithms")
    }));
    let stopped = liquidate(&world.gate).await;
    let of = |account: &str, project: Option<u32>| {
        let mut all = stopped.iter();
        all.find(|one| one.account == account && one.project == project)
            .unwrap_or_else(|| panic!("{account} {project:?}: {stopped:?}"))
    };
    assert!(of("a", Some(1)).open && of("c", None).open, "{stopped:?}");
    for (account, project) in [("a", 2), ("b", 1), ("b", 2)] {
        let one = of(account, Some(project));
        assert_eq!((one.result.as_str(), one.open), ("liquidated", false));
    }
    // Those of the accounts that answer were all sent before the one that hangs was given up.
    let moments = world.cloud.moments.lock();
    let sent = |account: &str, project: u32| {
        let of_it = moments.iter().filter(|(_, of, tool, id)| {
            (of.as_str(), *id) == (account, project) && tool == "liquidate_live_algorithm"
        });
        of_it.map(|(at, ..)| *at).collect::<Vec<_>>()
    };
    let given_up = sent("a", 1)[1];
    for (account, project) in [("a", 2), ("b", 1), ("b", 2)] {
        assert!(sent(account, project)[0] < given_up, "{account} {project}");
    }
}

#[tokio::test]
async fn what_is_open_is_gone_on_with_after_a_restart_and_not_after_a_resume() {
    let (setup, folder, cloud) = (hasty(), tempfile::tempdir().unwrap(), Cloud::new());
    let gate = setup.open_in(folder.path(), &cloud).await;
    pretend(&cloud, &["liquidate_live_algorithm", "stop_live_algorithm"]);
    assert!(liquidate(&gate).await[0].open);
    let gate = setup.restart(gate, folder.path(), &cloud).await;
    assert_eq!(gate.liquidator.list().len(), 1);
    let before = cloud.count("liquidate_live_algorithm");
    until("it is tried again", async || {
        cloud.count("liquidate_live_algorithm") > before
    })
    .await;
    let report = resume(&gate, HaltScope::default()).await;
    assert_eq!(report.open.len(), 1, "{report:?}");
    assert_eq!(gate.liquidator.list().len(), 0);
    gate.idle().await;
    let gate = setup.restart(gate, folder.path(), &cloud).await;
    assert_eq!(gate.liquidator.list().len(), 0);
    let recorded = records(folder.path());
    let resumed = recorded
        .iter()
        .position(|record| record["what"] == "resume")
        .unwrap();
    let later = recorded[resumed..].iter();
    let later = later.filter(|record| record["kind"] == "intent");
    // One round may have been under way when the halt ended.
    assert!(later.count() <= 3, "{recorded:?}");
}
