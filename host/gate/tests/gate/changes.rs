//! Manifests that change while plugins run: removals apply at once, additions once the component
//! serves.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::approvals::{deployment, profiles};
use qchost_gate::{Outgoing, PluginCalls as _, Refusal, RequestPermission};
use qchost_testing::cloud::{Setup, World, call, file, parse, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub const FILES: &str =
    "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\n";
pub const TESTS: &str =
    "[[grant]]\nname = \"tests\"\nallow = [\"backtests/*\"]\nprojects = [\"Lab/*\"]\n";
const COMPILES: &str =
    "[[grant]]\nname = \"compiles\"\nallow = [\"compile/*\"]\nprojects = [\"Lab/*\"]\n";
const PAPER: &str = "[[grant]]\nname = \"paper\"\nallow = [\"live/create-live-algorithm\", \"live/read-live-algorithm\", \"raw/tool_of_tomorrow\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\n";
const KEYS: &str = "[[grant]]\nname = \"keys\"\nallow = [\"object-store/*\"]\norganizations = [\"o\"]\nkeys = [\"k\"]\nlimits = { per-day = 9 }\n";
pub const HOOKS: &str = "[[http]]\nname = \"hooks\"\nallow = \"https://hooks.example/\"\n";

pub fn manifest(grants: &str) -> qchost_policy::Manifest {
    parse(&Setup::grants(grants).manifest)
}

fn denial(answer: Result<Value, Refusal>) -> String {
    match answer {
        Err(Refusal::Denied(denial)) => denial.reason,
        other => panic!("{other:?}"),
    }
}

pub async fn read_backtest(world: &World) -> Result<Value, Refusal> {
    let backtest = json!({ "projectId": 1, "backtestId": "b1" });
    world.call("backtests/read-backtest", backtest).await
}

async fn compile(world: &World) -> Result<Value, Refusal> {
    world
        .call("compile/create-compile", json!({ "projectId": 1 }))
        .await
}

#[tokio::test]
async fn a_changed_manifest_takes_away_at_once_and_gives_only_when_it_serves() {
    let world = Setup::grants(&format!("{FILES}{TESTS}")).open().await;
    world.read_file().await.unwrap();
    let changed = manifest(&format!("{TESTS}{COMPILES}"));
    world.gate.policies.restrict(changed.clone()).await.unwrap();
    let reason = denial(world.read_file().await);
    assert!(
        reason.starts_with("what the changed manifest of `lab` does not grant is denied already: "),
        "{reason}"
    );
    read_backtest(&world).await.unwrap();
    let reason = denial(compile(&world).await);
    assert!(!reason.contains("changed manifest"), "{reason}");
    // The serving manifest is still the one that is shown and counted, with the narrowing.
    assert_eq!(world.gate.policies.manifest("lab").unwrap().grants.len(), 2);
    let shown = async || world.gate.reporter.grants("lab").await.unwrap().unwrap();
    assert!(shown().await.restricted);

    world.gate.policies.install(changed).unwrap();
    assert!(!shown().await.restricted);
    compile(&world).await.unwrap();
    read_backtest(&world).await.unwrap();
    let reason = denial(world.read_file().await);
    assert!(!reason.contains("changed manifest"), "{reason}");
    assert_eq!(world.records_of("denied").await.len(), 3);
}

#[tokio::test]
async fn a_manifest_that_is_as_it_was_again_restricts_nothing() {
    let world = Setup::grants(&format!("{FILES}{TESTS}")).open().await;
    world.gate.policies.restrict(manifest(TESTS)).await.unwrap();
    denial(world.read_file().await);
    // Of two changes the later one counts.
    world.gate.policies.restrict(manifest(FILES)).await.unwrap();
    world.read_file().await.unwrap();
    denial(read_backtest(&world).await);
    let changed = manifest(&format!("{FILES}{TESTS}"));
    world.gate.policies.restrict(changed).await.unwrap();
    world.read_file().await.unwrap();
    read_backtest(&world).await.unwrap();
}

#[tokio::test]
async fn nothing_is_given_by_a_restriction_and_a_removal_takes_it_away() {
    let world = Setup::grants(FILES).open().await;
    world.gate.proposals.remove("lab");
    world.gate.policies.restrict(manifest(FILES)).await.unwrap();
    let reason = denial(world.read_file().await);
    assert!(reason.contains("no manifest"), "{reason}");
    world.gate.policies.install(manifest(FILES)).unwrap();
    world.gate.policies.restrict(manifest(TESTS)).await.unwrap();
    world.gate.proposals.remove("lab");
    world.gate.policies.install(manifest(FILES)).unwrap();
    world.read_file().await.unwrap();
}

#[tokio::test]
async fn a_manifest_for_another_account_allows_nothing_on_this_one() {
    let world = Setup::grants(FILES).open().await;
    let moved = Setup::grants(FILES)
        .manifest
        .replace("account = \"a\"", "account = \"b\"");
    world.gate.policies.restrict(parse(&moved)).await.unwrap();
    let reason = denial(world.read_file().await);
    assert!(reason.contains("another account than `a`"), "{reason}");
    assert!(world.cloud.sent().is_empty());
}

#[tokio::test]
async fn a_changed_manifest_can_ask_for_a_person_already() {
    let world = Setup::grants(COMPILES).open().await;
    compile(&world).await.unwrap();
    let strict = manifest(&format!("{COMPILES}approval = \"operator\"\n"));
    world.gate.policies.restrict(strict).await.unwrap();
    let answer = compile(&world).await;
    assert!(
        matches!(answer, Err(Refusal::ApprovalRequired { .. })),
        "{answer:?}"
    );
}

/// The code before a change keeps running; the component that the changed manifest pins is another
/// one.
#[tokio::test]
async fn a_pinned_manifest_lends_trade_to_no_other_code() {
    let (old, new) = ("0".repeat(64), "1".repeat(64));
    let pinned = |digest: &str| {
        let setup = Setup::grants(PAPER);
        let pin = format!("component = \"lab.wasm\"\ndigest = \"sha256:{digest}\"");
        parse(&setup.manifest.replace("component = \"lab.wasm\"", &pin))
    };
    let mut setup = Setup::grants(PAPER);
    setup.profiles = profiles();
    // An unknown tool is treated as the most dangerous class.
    setup.live_trading = true;
    let world = setup.open().await;
    let running = |digest: &str| {
        let mut principal = world.principal.clone();
        principal.digest = format!("sha256:{digest}").into();
        principal
    };
    let (old_code, new_code) = (running(&old), running(&new));
    let deploy = async |by| {
        let deployment = deployment(1, "paper");
        call(&world.gate, by, "live/create-live-algorithm", deployment).await
    };
    let unknown = async |by| {
        let arguments = serde_json::Map::new();
        world.gate.call_raw(by, "tool_of_tomorrow", arguments).await
    };
    let look = async |by| {
        let project = json!({ "projectId": 1 });
        call(&world.gate, by, "live/read-live-algorithm", project).await
    };

    world.gate.policies.install(pinned(&old)).unwrap();
    deploy(&old_code).await.unwrap();
    unknown(&old_code).await.unwrap();
    denial(deploy(&new_code).await);
    // Changed, and not serving yet: trade is denied to the old code already, and to the new code
    // still.
    world.gate.policies.restrict(pinned(&new)).await.unwrap();
    let reason = denial(deploy(&old_code).await);
    assert!(
        reason.contains("changed manifest") && reason.contains(&new),
        "{reason}"
    );
    denial(deploy(&new_code).await);
    look(&old_code).await.unwrap();
    // It serves; an invocation of the old code goes on.
    world.gate.policies.install(pinned(&new)).unwrap();
    deploy(&new_code).await.unwrap();
    unknown(&new_code).await.unwrap();
    let reason = denial(deploy(&old_code).await);
    assert!(reason.contains("pins the component"), "{reason}");
    denial(unknown(&old_code).await);
    look(&old_code).await.unwrap();
    // A manifest without a pin leaves it to adoption.
    world.gate.policies.install(manifest(PAPER)).unwrap();
    deploy(&old_code).await.unwrap();
}

/// A request to the other host.
pub fn to_hooks() -> Outgoing {
    Outgoing {
        method: "GET".to_owned(),
        scheme: "https".to_owned(),
        host: "hooks.example".to_owned(),
        port: 443,
        path: "/a".to_owned(),
    }
}

/// Asks for a request to the other host.
pub async fn ask_hooks(world: &World) -> Result<RequestPermission, Refusal> {
    world.gate.outgoing(&world.principal, to_hooks()).await
}

/// A world with one call on its way and another one waiting for the account.
pub async fn queued(
    grants: &str,
) -> (
    World,
    JoinHandle<Result<Value, Refusal>>,
    JoinHandle<Result<Value, Refusal>>,
) {
    let mut setup = Setup::grants(grants);
    setup.limits.in_flight = NonZeroU32::new(1);
    let world = setup.open().await;
    // What the host reads of the project is known from here on.
    read_backtest(&world).await.unwrap();
    world.read_file().await.unwrap();
    world.cloud.hold();
    let first = world.start("files/create-file", file("a.py"));
    world.cloud.until_called("create_file").await;
    let second = world.start("files/create-file", file("b.py"));
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    (world, first, second)
}

/// The files whose creation was sent.
fn created(world: &World) -> Vec<String> {
    let calls = world.cloud.calls();
    calls
        .iter()
        .filter(|(tool, _)| tool == "create_file")
        .map(|(_, arguments)| arguments["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_is_denied_when_its_grant_goes() {
    for restricted in [false, true] {
        let (world, first, second) = queued(&format!("{FILES}{TESTS}")).await;
        if restricted {
            world.gate.policies.restrict(manifest(TESTS)).await.unwrap();
        } else {
            world.gate.policies.install(manifest(TESTS)).unwrap();
        }
        // At once: the first call still has no answer.
        let answer = tokio::time::timeout(Duration::from_secs(10), second).await;
        denial(answer.unwrap().unwrap());
        assert!(!first.is_finished());
        // The call that had been sent ends normally.
        world.cloud.release();
        first.await.unwrap().unwrap();
        assert_eq!(created(&world), ["a.py"]);
        assert_eq!(world.records_of("intent").await.len(), 1);
        assert_eq!(world.records_of("denied").await.len(), 1);
    }
}

#[tokio::test]
async fn a_call_that_waits_goes_on_when_something_else_changes() {
    let (world, first, second) = queued(&format!("{FILES}{TESTS}")).await;
    let changed = manifest(&format!("{COMPILES}{FILES}"));
    world.gate.policies.install(changed).unwrap();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!second.is_finished());
    world.cloud.release();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(created(&world), ["a.py", "b.py"]);
}

#[tokio::test]
async fn a_request_elsewhere_leaves_by_the_grants_of_then() {
    let with_header = format!("{HOOKS}headers = {{ x-team = \"lab\" }}\n");
    let world = Setup::grants(&with_header).open().await;
    let ask = || ask_hooks(&world);
    let permission = ask().await.unwrap();
    assert_eq!(permission.headers.len(), 1);
    // Another grant changes: it goes.
    let changed = manifest(&format!("{with_header}{FILES}"));
    world.gate.policies.install(changed).unwrap();
    permission.clear().unwrap();
    // Its own grant changes: it was prepared by one that no longer exists.
    world.gate.policies.install(manifest(HOOKS)).unwrap();
    let changed = permission.clear().unwrap_err().to_string();
    assert!(changed.contains("make it again"), "{changed}");
    assert!(ask().await.unwrap().headers.is_empty());
    // The header of the serving grant is not sent once the changed manifest has it no more.
    world.gate.policies.install(manifest(&with_header)).unwrap();
    world.gate.policies.restrict(manifest(HOOKS)).await.unwrap();
    let narrow = ask().await.unwrap();
    assert!(narrow.headers.is_empty());
    narrow.clear().unwrap();
    // Its grant is removed.
    world.gate.policies.restrict(manifest(FILES)).await.unwrap();
    assert!(matches!(narrow.clear(), Err(Refusal::Denied(_))));
    assert!(matches!(ask().await, Err(Refusal::Denied(_))));
    world.gate.proposals.remove("lab");
    assert!(matches!(narrow.clear(), Err(Refusal::Denied(_))));
}

/// A download consists of several calls of the host, each of which is checked.
#[tokio::test]
async fn a_download_ends_at_the_step_before_which_its_grant_went() {
    for revoked in [false, true] {
        let world = Setup::grants(KEYS).open().await;
        let gate = world.gate.clone();
        world.cloud.hook(move |tool, _| match tool {
            "read_object_store_file_job_id" => {
                if revoked {
                    gate.proposals.remove("lab");
                }
                Some(Ok(json!({ "success": true, "jobId": "j" })))
            }
            "read_object_store_file_download_url" => Some(Ok(
                json!({ "success": true, "url": "https://store.example/archive" }),
            )),
            _ => None,
        });
        let answer = world.gate.download(&world.principal, "o", "k", 10).await;
        let steps = world.cloud.sent().len();
        if revoked {
            assert!(matches!(answer, Err(Refusal::Denied(_))), "{answer:?}");
            assert_eq!(steps, 1);
        } else {
            // The cloud of these tests has no bytes behind any address.
            assert!(matches!(answer, Err(Refusal::Failed(_))), "{answer:?}");
            assert_eq!(steps, 2);
        }
    }
}

type Download = JoinHandle<Result<Vec<u8>, Refusal>>;

fn download(world: &World) -> Download {
    let (gate, principal) = (world.gate.clone(), world.principal.clone());
    tokio::spawn(async move { gate.download(&principal, "o", "k", 10).await })
}

/// Asserts that it is denied without delay.
async fn ends(download: Download) {
    let answer = tokio::time::timeout(Duration::from_secs(10), download).await;
    let answer = answer.expect("it goes on").unwrap();
    assert!(matches!(answer, Err(Refusal::Denied(_))), "{answer:?}");
}

#[tokio::test]
async fn a_step_of_a_download_that_waits_for_its_turn_is_denied_when_the_grant_goes() {
    for removed in [false, true] {
        let mut setup = Setup::grants(KEYS);
        // One turn a minute: the decision has it, and the first step waits for the next.
        setup.limits.per_minute = NonZeroU32::new(1);
        let world = setup.open().await;
        let download = download(&world);
        let counted = async || {
            let report = world.gate.reporter.grants("lab").await.unwrap().unwrap();
            json!(report.grants[0].obligations)["per-day"]["used"] != 0
        };
        until("the download is counted", counted).await;
        if removed {
            world.gate.proposals.remove("lab");
        } else {
            world.gate.policies.restrict(manifest(TESTS)).await.unwrap();
        }
        ends(download).await;
        assert!(world.cloud.sent().is_empty());
        assert_eq!(world.records_of("denied").await.len(), 1);
    }
}

#[tokio::test]
async fn a_transfer_of_bytes_ends_when_the_grant_goes() {
    let world = Setup::grants(KEYS).open().await;
    let cloud = Arc::downgrade(&world.cloud);
    world.cloud.hook(move |tool, _| {
        (tool == "read_object_store_file_job_id").then(|| {
            // The bytes behind the address do not come.
            cloud.upgrade().unwrap().hold();
            Ok(json!({ "success": true, "url": "https://store.example/archive" }))
        })
    });
    let download = download(&world);
    until("the transfer has begun", async || {
        world.cloud.fetched.load(Ordering::Relaxed) == 1
    })
    .await;
    // Another grant changes: it goes on.
    let changed = manifest(&format!("{KEYS}{FILES}"));
    world.gate.policies.install(changed).unwrap();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!download.is_finished());
    world.gate.policies.install(manifest(FILES)).unwrap();
    ends(download).await;
}

/// A runtime with a single worker thread.
#[tokio::test]
async fn a_call_is_answered_while_policies_are_compiled() {
    let world = Setup::grants(FILES).open().await;
    world.read_file().await.unwrap();
    let grants: String = (0..256)
        .map(|number| {
            TESTS
                .replace("\"tests\"", &format!("\"g{number}\""))
                .replace("Lab", &format!("P{number}"))
        })
        .collect();
    let large = manifest(&grants);
    tokio::select! {
        biased;
        _ = world.gate.policies.prepare(large.clone()) => panic!("it was compiled before anything else"),
        file = world.read_file() => drop(file.unwrap()),
    }
    tokio::select! {
        biased;
        _ = world.gate.policies.restrict(large.clone()) => panic!("it was compiled before anything else"),
        file = world.read_file() => drop(file.unwrap()),
    }
    // The future was dropped: it changes nothing, even once it is compiled.
    let compiled = world.gate.policies.prepare(large.clone()).await.unwrap();
    world.read_file().await.unwrap();
    assert!(world.gate.policies.enforce(&compiled));
    denial(world.read_file().await);
}
