//! Approvals as a plugin and its operators meet them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use qchost_gate::{DecideError, Gate, PluginCalls as _, Refusal};
use qchost_ledger::{ApprovalError, StandingPermit, Status};
use qchost_secrets::Setting;
use qchost_testing::cloud::{
    Setup, World, approve, call, halt, parse, person, principal, required, resume,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const DEPLOY: &str = "[[grant]]\nname = \"paper\"\nallow = [\"live/create-live-algorithm\", \"compile/*\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\napproval = \"operator\"\n";
/// The tool that deploys.
const DEPLOYED: &str = "create_live_algorithm";
const COMPILE: &str =
    "[[grant]]\nname = \"compile\"\nallow = [\"compile/*\", \"files/*\"]\nprojects = [\"Lab/*\"]\n";

pub fn profiles() -> BTreeMap<String, BTreeMap<String, Setting>> {
    let module = |id: &str| BTreeMap::from([("id".to_owned(), Setting::Plain(json!(id)))]);
    BTreeMap::from([
        ("paper".to_owned(), module("QuantConnectBrokerage")),
        ("ib".to_owned(), module("InteractiveBrokersBrokerage")),
    ])
}

pub fn deployment(project: u32, brokerage: &str) -> Value {
    json!({ "versionId": "-1", "projectId": project, "compileId": format!("c{project}"), "nodeId": "n1", "brokerage": brokerage, "dataProviders": [] })
}

fn setup(grants: &str) -> Setup {
    let mut setup = Setup::grants(grants);
    setup.profiles = profiles();
    setup
}

async fn deploy(world: &World, arguments: Value) -> Result<Value, Refusal> {
    world.call("live/create-live-algorithm", arguments).await
}

#[tokio::test]
async fn a_yes_is_for_one_call_and_for_no_other() {
    let world = setup(DEPLOY).open().await;
    let id = required(deploy(&world, deployment(1, "paper")).await);
    // Asking again makes no second request.
    assert_eq!(required(deploy(&world, deployment(1, "paper")).await), id);
    assert_eq!(world.cloud.count(DEPLOYED), 0);
    let shown = world.gate.approvals.get(&id).await.unwrap().unwrap();
    assert_eq!(shown.view["project"]["name"], "Lab/one");
    assert_eq!(
        shown.view["brokerage"],
        json!({ "profile": "paper", "live": false })
    );
    assert_eq!(shown.view["source"]["known"], false);

    approve(&world.gate, &id, &person(7, "ann")).await;
    // Another project, other arguments, other code: none of them is approved.
    required(deploy(&world, deployment(2, "paper")).await);
    let mut changed = deployment(1, "paper");
    changed["nodeId"] = json!("n2");
    required(deploy(&world, changed).await);
    let mut other = world.principal.clone();
    other.digest = "sha256:1".into();
    let same = deployment(1, "paper");
    required(call(&world.gate, &other, "live/create-live-algorithm", same).await);
    assert_eq!(world.cloud.count(DEPLOYED), 0);

    deploy(&world, deployment(1, "paper")).await.unwrap();
    assert_eq!(world.cloud.count(DEPLOYED), 1);
    let second = required(deploy(&world, deployment(1, "paper")).await);
    assert_ne!(second, id);
    assert_eq!(world.cloud.count(DEPLOYED), 1);
}

#[tokio::test]
async fn a_project_that_was_renamed_in_between_is_another_one() {
    let world = setup(DEPLOY).open().await;
    let id = required(deploy(&world, deployment(1, "paper")).await);
    approve(&world.gate, &id, &person(7, "ann")).await;
    world
        .cloud
        .projects
        .lock()
        .insert(1, "Lab/other".to_owned());
    required(deploy(&world, deployment(1, "paper")).await);
    assert_eq!(world.cloud.count(DEPLOYED), 0);
}

#[tokio::test]
async fn a_no_is_told_and_a_permit_expires() {
    let mut short = setup(DEPLOY);
    short.permit_ttl = Duration::from_millis(1);
    let world = short.open().await;
    let id = required(deploy(&world, deployment(1, "paper")).await);
    let ann = person(7, "ann");
    let refusing = world.gate.approvals.refuse(&id, &ann, "not today");
    refusing.await.unwrap();
    let refused = deploy(&world, deployment(1, "paper")).await.unwrap_err();
    let Refusal::ApprovalRefused { id: named, reason } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*named, id);
    // How long it stands, and what asks again.
    let expected = "not today (stands for the same call until 20";
    assert!(reason.starts_with(expected), "{reason}");
    assert!(reason.ends_with("asks again)"), "{reason}");

    let id = required(deploy(&world, deployment(2, "paper")).await);
    approve(&world.gate, &id, &person(7, "ann")).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    required(deploy(&world, deployment(2, "paper")).await);
    assert_eq!(world.cloud.count(DEPLOYED), 0);
}

#[tokio::test]
async fn a_standing_permit_is_for_its_uses_and_its_project() {
    let world = setup(DEPLOY).open().await;
    let id = required(deploy(&world, deployment(1, "paper")).await);
    let standing = StandingPermit {
        uses: 2,
        until_ms: i64::MAX,
        max_cost: None,
    };
    world
        .gate
        .approvals
        .approve(&id, &person(7, "ann"), Some(standing))
        .await
        .unwrap();
    deploy(&world, deployment(1, "paper")).await.unwrap();
    let mut other = deployment(1, "paper");
    other["nodeId"] = json!("n2");
    deploy(&world, other).await.unwrap();
    required(deploy(&world, deployment(1, "paper")).await);
    required(deploy(&world, deployment(2, "paper")).await);
    assert_eq!(world.cloud.count(DEPLOYED), 2);
}

#[tokio::test]
async fn a_permit_does_not_outlive_grant_or_halt() {
    let world = setup(DEPLOY).open().await;
    let approve = async || {
        let id = required(deploy(&world, deployment(1, "paper")).await);
        approve(&world.gate, &id, &person(7, "ann")).await;
    };
    approve().await;
    halt(&world.gate, Default::default()).await;
    assert!(matches!(
        deploy(&world, deployment(1, "paper")).await,
        Err(Refusal::Halted(_))
    ));
    resume(&world.gate, Default::default()).await;
    let install = |grants: &str| {
        let manifest = parse(&setup(grants).manifest);
        world.gate.policies.install(manifest).unwrap();
    };
    install(COMPILE);
    assert!(matches!(
        deploy(&world, deployment(1, "paper")).await,
        Err(Refusal::Denied(_))
    ));
    assert_eq!(world.cloud.count(DEPLOYED), 0);
    install(DEPLOY);
    deploy(&world, deployment(1, "paper")).await.unwrap();
}

#[tokio::test]
async fn a_request_ends_with_the_grant_that_asked_for_it() {
    let world = setup(DEPLOY).open().await;
    let admit = async |grants: &str| {
        let manifest = parse(&setup(grants).manifest);
        let digest = Arc::clone(&world.principal.digest);
        let adoptions = &world.gate.adoptions;
        adoptions
            .admit(&manifest, &digest, &[], None)
            .await
            .unwrap();
        world.gate.policies.install(manifest).unwrap();
    };
    admit(DEPLOY).await;
    let id = required(deploy(&world, deployment(1, "paper")).await);
    let state = async |id: &str| world.gate.approvals.get(id).await.unwrap().unwrap();
    // The twin: the grant still asks, whatever else changes.
    admit(&format!("{DEPLOY}{COMPILE}")).await;
    assert_eq!(state(&id).await.status, Status::Pending);
    // A call that waits for it learns that it has ended.
    let waiting = wait(&world, id.clone());
    let free = DEPLOY.replace("approval = \"operator\"\n", "");
    admit(&free).await;
    let ended = state(&id).await;
    assert_eq!(ended.status, Status::Closed);
    assert!(ended.closed.unwrap().contains("no grant"));
    let waited = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert!(matches!(
        waited.unwrap().unwrap(),
        Err(Refusal::ApprovalRefused { .. })
    ));
    let late = world
        .gate
        .approvals
        .approve(&id, &person(7, "ann"), None)
        .await;
    assert!(late.is_err());
    // Nor does it outlive the manifest.
    admit(DEPLOY).await;
    let id = required(deploy(&world, deployment(1, "paper")).await);
    world.gate.proposals.remove(&world.principal.plugin);
    world.gate.idle().await;
    assert_eq!(state(&id).await.status, Status::Closed);
}

fn wait(world: &World, id: String) -> JoinHandle<Result<(), Refusal>> {
    let (gate, principal) = (world.gate.clone(), world.principal.clone());
    tokio::spawn(async move { gate.wait_approval(&principal, &id).await })
}

#[tokio::test]
async fn a_plugin_can_wait_for_the_person() {
    let world = setup(DEPLOY).open().await;
    let id = required(deploy(&world, deployment(1, "paper")).await);
    let waiting = wait(&world, id.clone());
    let other = principal("another");
    assert!(world.gate.wait_approval(&other, &id).await.is_err());
    approve(&world.gate, &id, &person(7, "ann")).await;
    tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let id = required(deploy(&world, deployment(2, "paper")).await);
    let ann = person(7, "ann");
    let refusing = world.gate.approvals.refuse(&id, &ann, "no");
    refusing.await.unwrap();
    let waited = world.gate.wait_approval(&world.principal, &id).await;
    assert!(waited.is_err());
}

/// Whatever becomes of its client, a decision is made to its end and announced.
#[tokio::test]
async fn a_decision_whose_client_leaves_ends_the_wait_for_it() {
    let world = setup(DEPLOY).open().await;
    let ann = person(7, "ann");
    for (project, refuse) in [(1, true), (2, false)] {
        let id = required(deploy(&world, deployment(project, "paper")).await);
        let waiting = wait(&world, id.clone());
        tokio::task::yield_now().await;
        // Polled once, and dropped.
        let approvals = &world.gate.approvals;
        let decided = if refuse {
            approvals.refuse(&id, &ann, "no").now_or_never()
        } else {
            approvals.approve(&id, &ann, None).now_or_never()
        };
        assert!(decided.is_none());
        let waited = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert_eq!(waited.unwrap().unwrap().is_err(), refuse);
    }
}

fn live(two_person: bool) -> Setup {
    let grants = DEPLOY.replace("[\"paper\"]\napproval = \"operator\"", "[\"ib\"]");
    let mut setup = setup(&format!("{grants}{COMPILE}"));
    setup.live_trading = true;
    setup.two_person = two_person;
    setup
}

async fn compiled(world: &World) -> Value {
    let answer = world
        .call("compile/create-compile", json!({ "projectId": 1 }))
        .await
        .unwrap();
    let mut arguments = deployment(1, "ib");
    arguments["compileId"] = answer["compileId"].clone();
    world.gate.idle().await;
    arguments
}

#[tokio::test]
async fn real_money_takes_the_hosts_flag_and_a_compile_that_it_made() {
    let mut without = live(false);
    without.live_trading = false;
    let world = without.open().await;
    let arguments = compiled(&world).await;
    let refused = deploy(&world, arguments).await.unwrap_err().to_string();
    assert!(refused.contains("live-trading = true"), "{refused}");

    let world = live(false).open().await;
    let refused = deploy(&world, deployment(1, "ib"))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("not made through this host"), "{refused}");
    assert_eq!(world.cloud.count(DEPLOYED), 0);
    let arguments = compiled(&world).await;
    deploy(&world, arguments).await.unwrap();
    assert_eq!(world.cloud.count(DEPLOYED), 1);
}

#[tokio::test]
async fn a_source_that_changed_while_it_was_compiled_is_unknown() {
    let world = live(false).open().await;
    let count = std::sync::atomic::AtomicU32::new(0);
    world.cloud.hook(move |tool, _| {
        (tool == "read_file").then(|| {
            let version = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(json!({ "success": true, "files": [{ "name": "main.py", "content": format!("{version}"), "projectId": 1 }] }))
        })
    });
    let arguments = compiled(&world).await;
    assert!(matches!(
        deploy(&world, arguments).await,
        Err(Refusal::Denied(_))
    ));
    assert_eq!(world.cloud.count(DEPLOYED), 0);
}

#[tokio::test]
async fn real_money_can_take_two_people_and_neither_of_them_who_asked() {
    let mut world = live(true).open().await;
    world.principal.person = Some(7);
    let arguments = compiled(&world).await;
    let id = required(deploy(&world, arguments.clone()).await);
    let approve = async |gate: &Gate, uid: u32| {
        gate.approvals
            .approve(&id, &person(uid, &format!("p{uid}")), None)
            .await
    };
    let own = approve(&world.gate, 7).await;
    assert!(
        matches!(own, Err(DecideError::Approval(ApprovalError::Requester))),
        "{own:?}"
    );
    approve(&world.gate, 8).await.unwrap();
    let twice = approve(&world.gate, 8).await;
    assert!(
        matches!(twice, Err(DecideError::Approval(ApprovalError::SamePerson))),
        "{twice:?}"
    );
    assert_eq!(required(deploy(&world, arguments.clone()).await), id);
    approve(&world.gate, 9).await.unwrap();
    deploy(&world, arguments).await.unwrap();
    assert_eq!(world.cloud.count(DEPLOYED), 1);
}

#[tokio::test]
async fn changed_code_does_not_inherit_the_right_to_trade() {
    let mut production = live(false);
    production.production = true;
    let world = production.open().await;
    let manifest = world.gate.policies.manifest("lab").unwrap();
    let [first, second] = ["sha256:0", "sha256:1"].map(Arc::<str>::from);
    let admit = async |digest: &Arc<str>, imports: &[&str], serving: Option<&str>| {
        let imports: Vec<_> = imports.iter().map(|name| (*name).to_owned()).collect();
        let adoptions = &world.gate.adoptions;
        adoptions.admit(&manifest, digest, &imports, serving).await
    };
    admit(&first, &["live"], None).await.unwrap();
    let arguments = compiled(&world).await;
    // The old version keeps serving; the new one waits.
    let waiting = admit(&second, &["live"], Some("sha256:0")).await;
    let Err(qchost_gate::AdmitError::Waiting(waiting)) = waiting else {
        panic!("{waiting:?}")
    };
    let mut changed = world.principal.clone();
    changed.digest = Arc::clone(&second);
    let deploy_changed = async || {
        let deployment = arguments.clone();
        call(
            &world.gate,
            &changed,
            "live/create-live-algorithm",
            deployment,
        )
        .await
    };
    required(deploy_changed().await);
    assert_eq!(world.cloud.count(DEPLOYED), 0);
    deploy(&world, arguments.clone()).await.unwrap();

    approve(&world.gate, &waiting.approval, &person(7, "ann")).await;
    let serving = Some("sha256:0");
    admit(&second, &["live"], serving).await.unwrap();
    deploy_changed().await.unwrap();
    assert_eq!(world.cloud.count(DEPLOYED), 2);
    // Nor does one whose imports grew.
    let grown = admit(&second, &["live", "raw"], Some("sha256:2")).await;
    assert!(grown.is_err());
}

/// Permits distinguish paper trading and real money, also standing ones.
#[tokio::test]
async fn a_standing_permit_for_paper_is_none_for_real_money() {
    let grants = DEPLOY
        .replace("[\"paper\"]", "[\"paper\", \"ib\"]")
        .replace(", \"compile/*\"", "");
    let mut setup = setup(&format!("{grants}{COMPILE}"));
    setup.live_trading = true;
    let world = setup.open().await;
    let mut live = compiled(&world).await;
    let mut paper = live.clone();
    paper["brokerage"] = json!("paper");
    let id = required(deploy(&world, paper.clone()).await);
    let standing = StandingPermit {
        uses: 10,
        until_ms: i64::MAX,
        max_cost: None,
    };
    world
        .gate
        .approvals
        .approve(&id, &person(7, "ann"), Some(standing))
        .await
        .unwrap();
    deploy(&world, paper).await.unwrap();
    required(deploy(&world, live.clone()).await);
    live["dataProviders"] = json!([]);
    required(deploy(&world, live).await);
    assert_eq!(world.cloud.count(DEPLOYED), 1);
}

/// The first request came from another person; the one who uses the permit counts as a requester
/// too.
#[tokio::test]
async fn who_gave_one_of_two_yeses_cannot_use_them() {
    let mut world = live(true).open().await;
    let arguments = compiled(&world).await;
    world.principal.person = Some(6);
    let id = required(deploy(&world, arguments.clone()).await);
    for uid in [7, 8] {
        let name = format!("p{uid}");
        approve(&world.gate, &id, &person(uid, &name)).await;
    }
    world.principal.person = Some(7);
    let refused = deploy(&world, arguments.clone()).await;
    assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    assert_eq!(world.cloud.count(DEPLOYED), 0);
    world.principal.person = Some(6);
    deploy(&world, arguments).await.unwrap();
    assert_eq!(world.cloud.count(DEPLOYED), 1);
}

/// An approval is valid for one use, whatever it is for.
#[tokio::test]
async fn a_read_and_a_service_use_their_permit_up_as_well() {
    let grants = "[[grant]]\nname = \"asks\"\nallow = [\"workflow\", \"files/read-file\"]\nprojects = [\"Lab/*\"]\napproval = \"operator\"\nlimits = { per-day = 2 }\n";
    let world = Setup::grants(grants).open().await;
    let read = json!({ "projectId": 1, "name": "main.py" });
    let read = async || world.call("files/read-file", read.clone()).await;
    let id = required(read().await);
    approve(&world.gate, &id, &person(7, "ann")).await;
    read().await.unwrap();
    required(read().await);

    let workflow = async || world.gate.check_workflow(&world.principal).await;
    let id = required(workflow().await);
    approve(&world.gate, &id, &person(7, "ann")).await;
    workflow().await.unwrap();
    let id = required(workflow().await);
    // Both counted, so a third is more than the day allows, approved or not.
    approve(&world.gate, &id, &person(7, "ann")).await;
    assert!(matches!(workflow().await, Err(Refusal::Exhausted { .. })));
    let records = world.records().await;
    let of = |decision: &str| {
        let one =
            |record: &&Value| record["operation"] == "workflow" && record["decision"] == decision;
        records.iter().filter(one).count()
    };
    assert_eq!(
        (
            of("allowed"),
            of("approval-required"),
            of("budget-exhausted")
        ),
        (1, 2, 1)
    );
}
