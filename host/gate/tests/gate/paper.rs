//! Whether real money is at stake, as live deployments say of themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use qchost_catalog::Failure;
use qchost_gate::{Gate, Refusal};
use qchost_secrets::{Profile, Setting};
use qchost_testing::cloud::{Cloud, Setup, call, principal};
use serde_json::{Value, json};

use crate::approvals::deployment;

const GRANTS: &str = "[[grant]]\nname = \"practice\"\nallow = [\"live/*\", \"live/create-live-algorithm\", \"live-commands/create-live-command\"]\n\
                      projects = [\"Lab/*\"]\nbrokerages = [\"practice\"]\ncommands = [\"*\"]\n";

/// A plugin that may deploy by a profile whose settings choose a paper account, at a host that does not trade live.
fn setup() -> Setup {
    let settings = [("id", "OandaBrokerage"), ("oanda-environment", "Practice")];
    let settings = settings.map(|(name, text)| (name.to_owned(), Setting::Plain(json!(text))));
    let mut setup = Setup::grants(GRANTS);
    setup.profiles = [("practice".to_owned(), Profile::from(settings))].into();
    setup
}

/// The brokerage of the deployment `L-100`, the first that the cloud makes.
struct Broker {
    /// What its deployments say of themselves.
    mode: Mutex<Value>,
    ended: AtomicBool,
}

impl Broker {
    fn of(cloud: &Cloud, mode: &str) -> Arc<Self> {
        let broker = Arc::new(Self {
            mode: Mutex::new(json!({ "oanda-environment": mode })),
            ended: AtomicBool::new(false),
        });
        let own = Arc::clone(&broker);
        cloud.hook(move |tool, _| {
            let ended = own.ended.load(Ordering::Relaxed);
            let status = if ended { "Stopped" } else { "Running" };
            Some(Ok(match tool {
                "read_live_algorithm" | "read_live_details" => json!({
                    "success": true, "projectId": 1, "deployId": "L-100", "status": status,
                    "brokerage": "OandaBrokerage", "deploymentDetails": *own.mode.lock(),
                }),
                "list_live_algorithms" => {
                    let row = json!({ "projectId": 1, "deployId": "L-100", "status": status });
                    json!({ "success": true, "live": [row] })
                }
                "stop_live_algorithm" => {
                    own.ended.store(true, Ordering::Relaxed);
                    json!({ "success": true })
                }
                _ => return None,
            }))
        });
        broker
    }
}

async fn deploy(gate: &Gate) -> Result<Value, Refusal> {
    let arguments = deployment(1, "practice");
    call(
        gate,
        &principal("lab"),
        "live/create-live-algorithm",
        arguments,
    )
    .await
}

async fn order(gate: &Gate) -> Result<Value, Refusal> {
    let order = json!({ "projectId": 1, "command": { "$type": "OrderCommand" } });
    call(
        gate,
        &principal("lab"),
        "live-commands/create-live-command",
        order,
    )
    .await
}

fn denied(answer: Result<Value, Refusal>) -> String {
    match answer {
        Err(Refusal::Denied(denial)) => denial.reason,
        other => panic!("{other:?}"),
    }
}

/// What neither says paper nor real money.
fn unknown() -> [Value; 3] {
    [
        json!([]),
        json!({ "oanda-environment": "Demo" }),
        json!({ "alpaca-environment": "paper" }),
    ]
}

#[tokio::test]
async fn a_paper_account_is_one_as_long_as_its_deployments_say_so() {
    let world = setup().open().await;
    let broker = Broker::of(&world.cloud, "Practice");
    deploy(&world.gate).await.unwrap();
    order(&world.gate).await.unwrap();
    assert_eq!(world.cloud.count("create_live_command"), 1);
    // Nothing said is no evidence: the command is for real money.
    for unknown in unknown() {
        *broker.mode.lock() = unknown;
        let reason = denied(order(&world.gate).await);
        assert!(reason.contains("real money may be at stake"), "{reason}");
    }
    assert_eq!(world.cloud.count("create_live_command"), 1);
    assert_eq!(world.cloud.count("stop_live_algorithm"), 0);
}

#[tokio::test]
async fn a_deployment_that_does_not_say_that_it_is_on_paper_is_stopped_at_once() {
    for unknown in unknown() {
        let world = setup().open().await;
        let broker = Broker::of(&world.cloud, "");
        broker.mode.lock().clone_from(&unknown);
        let stopped = deploy(&world.gate).await.unwrap_err().to_string();
        assert!(
            stopped.contains("was stopped") && stopped.contains("does not say"),
            "{unknown}: {stopped}"
        );
        assert_eq!(world.cloud.count("stop_live_algorithm"), 1, "{unknown}");
        // Its profile is for real money from then on, whatever a deployment says.
        *broker.mode.lock() = json!({ "oanda-environment": "Practice" });
        let reason = denied(deploy(&world.gate).await);
        assert!(
            reason.contains("L-100") && reason.contains("live-trading"),
            "{reason}"
        );
        assert_eq!(world.cloud.count("create_live_algorithm"), 1, "{unknown}");
    }
}

#[tokio::test]
async fn a_deployment_that_cannot_be_read_is_stopped_too() {
    let world = setup().open().await;
    let ended = AtomicBool::new(false);
    world.cloud.hook(move |tool, _| {
        Some(Ok(match tool {
            "read_live_algorithm" => return Some(Err(Failure::Unavailable("down".to_owned()))),
            "list_live_algorithms" => {
                let status = if ended.load(Ordering::Relaxed) {
                    "Stopped"
                } else {
                    "Running"
                };
                let row = json!({ "projectId": 1, "deployId": "L-100", "status": status });
                json!({ "success": true, "live": [row] })
            }
            "stop_live_algorithm" => {
                ended.store(true, Ordering::Relaxed);
                json!({ "success": true })
            }
            _ => return None,
        }))
    });
    let stopped = deploy(&world.gate).await.unwrap_err().to_string();
    assert!(
        stopped.contains("was stopped") && stopped.contains("does not say"),
        "{stopped}"
    );
    assert_eq!(world.cloud.count("stop_live_algorithm"), 1);
    denied(deploy(&world.gate).await);
    assert_eq!(world.cloud.count("create_live_algorithm"), 1);
}

/// It has no accounts, so its deployments have nothing to say.
#[tokio::test]
async fn a_deployment_on_quantconnect_s_own_paper_brokerage_is_stopped_only_if_it_says_real_money()
{
    let own = || {
        let mut setup = setup();
        let settings = [("id", "QuantConnectBrokerage")];
        let settings = settings.map(|(name, text)| (name.to_owned(), Setting::Plain(json!(text))));
        setup.profiles = [("practice".to_owned(), Profile::from(settings))].into();
        setup
    };
    let world = own().open().await;
    deploy(&world.gate).await.unwrap();
    deploy(&world.gate).await.unwrap();
    assert_eq!(world.cloud.count("create_live_algorithm"), 2);
    assert_eq!(world.cloud.count("stop_live_algorithm"), 0);

    let world = own().open().await;
    let ended = AtomicBool::new(false);
    world.cloud.hook(move |tool, _| {
        let details = json!({ "oanda-environment": "Trade" });
        Some(Ok(match tool {
            "create_live_algorithm" => {
                let live = json!({
                    "projectId": 1, "deployId": "L-100", "brokerage": "OandaBrokerage", "deploymentDetails": details,
                });
                json!({ "success": true, "live": live })
            }
            "list_live_algorithms" => {
                let status = if ended.load(Ordering::Relaxed) { "Stopped" } else { "Running" };
                let row = json!({ "projectId": 1, "deployId": "L-100", "status": status });
                json!({ "success": true, "live": [row] })
            }
            "stop_live_algorithm" => {
                ended.store(true, Ordering::Relaxed);
                json!({ "success": true })
            }
            _ => return None,
        }))
    });
    let stopped = deploy(&world.gate).await.unwrap_err().to_string();
    assert!(
        stopped.contains("was stopped") && stopped.contains("real money"),
        "{stopped}"
    );
    denied(deploy(&world.gate).await);
    assert_eq!(world.cloud.count("create_live_algorithm"), 1);
}

#[tokio::test]
async fn a_profile_that_a_deployment_reports_as_live_is_real_money_from_then_on() {
    let (setup, folder, cloud) = (setup(), tempfile::tempdir().unwrap(), Cloud::new());
    let gate = setup.open_in(folder.path(), &cloud).await;
    let broker = Broker::of(&cloud, "Practice");
    deploy(&gate).await.unwrap();
    *broker.mode.lock() = json!({ "oanda-environment": "Trade" });
    let details = json!({ "projectId": 1, "deployId": "L-100" });
    call(&gate, &principal("lab"), "live/read-live-details", details)
        .await
        .unwrap();
    // Also after it says the opposite, and after a restart.
    *broker.mode.lock() = json!({ "oanda-environment": "Practice" });
    let reason = denied(deploy(&gate).await);
    assert!(
        reason.contains("L-100") && reason.contains("`practice`"),
        "{reason}"
    );
    let gate = setup.restart(gate, folder.path(), &cloud).await;
    denied(deploy(&gate).await);
    let remembered = gate.reporter.live_profiles();
    let remembered: Vec<_> = remembered
        .iter()
        .map(|live| [&live.profile, &live.account, &live.deployment])
        .collect();
    assert_eq!(remembered, [["practice", "a", "L-100"]]);
    assert_eq!(cloud.count("create_live_algorithm"), 1);
}

#[tokio::test]
async fn a_deployment_that_turns_out_to_be_live_is_stopped_at_once() {
    let world = setup().open().await;
    Broker::of(&world.cloud, "Trade");
    let stopped = deploy(&world.gate).await;
    let Err(Refusal::Failed(Failure::UnexpectedResponse(why))) = &stopped else {
        panic!("{stopped:?}")
    };
    assert!(
        why.contains("was stopped") && why.contains("real money"),
        "{why}"
    );
    assert_eq!(world.cloud.count("stop_live_algorithm"), 1);
    denied(deploy(&world.gate).await);
    assert_eq!(world.cloud.count("create_live_algorithm"), 1);
}

#[tokio::test]
async fn a_deployment_without_an_id_that_turns_out_to_be_live_is_stopped_too() {
    let world = setup().open().await;
    let ended = AtomicBool::new(false);
    world.cloud.hook(move |tool, _| {
        Some(Ok(match tool {
            "create_live_algorithm" => {
                let details = json!({ "oanda-environment": "Trade" });
                let live = json!({ "projectId": 1, "brokerage": "OandaBrokerage", "deploymentDetails": details });
                json!({ "success": true, "live": live })
            }
            "list_live_algorithms" => {
                let status = if ended.load(Ordering::Relaxed) { "Stopped" } else { "Running" };
                let row = json!({ "projectId": 1, "deployId": "L-3", "status": status });
                json!({ "success": true, "live": [row] })
            }
            "stop_live_algorithm" => {
                ended.store(true, Ordering::Relaxed);
                json!({ "success": true })
            }
            _ => return None,
        }))
    });
    let stopped = deploy(&world.gate).await.unwrap_err().to_string();
    assert!(
        stopped.contains("was stopped") && stopped.contains("real money"),
        "{stopped}"
    );
    assert_eq!(world.cloud.count("stop_live_algorithm"), 1);
    denied(deploy(&world.gate).await);
    assert_eq!(world.cloud.count("create_live_algorithm"), 1);
}
