//! A host's configuration that changes while plugins run.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::approvals::{deployment, profiles};
use qchost_gate::{Gate, Refusal, Settings};
use qchost_policy::{Guardrails, Usd};
use qchost_secrets::{Profiles, Secrets, Setting, Source};
use qchost_testing::cloud::{
    Setup, World, approve, call, file, parse, person, principal, required, until,
};
use qchost_traffic::AccountLimits;
use serde_json::{Value, json};

const FILES: &str = "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\n";
const DEPLOY: &str = "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\", \"compile/*\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\n";
const OPTIMIZE: &str = "[[grant]]\nname = \"optimize\"\nallow = [\"optimizations/create-optimization\"]\nprojects = [\"Lab/*\"]\nmax-cost = 1.0\n";

fn forbids(what: &str) -> Guardrails {
    let text = format!("@id(\"frozen\") forbid(principal, action, resource is Project) {what};");
    Guardrails::read(&[(PathBuf::from("rules.cedar"), text)]).unwrap()
}

async fn deploy(world: &World) -> Result<Value, Refusal> {
    let deployment = deployment(1, "paper");
    world.call("live/create-live-algorithm", deployment).await
}

fn denied(answer: &Result<Value, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Denied(_)))
}

pub async fn reconfigure(gate: &Gate, settings: Settings) {
    gate.reconfigurer.reconfigure(settings).await.unwrap();
}

/// Opens a world, and returns the settings it has.
async fn open(setup: Setup) -> (World, Settings) {
    let settings = setup.settings();
    (setup.open().await, settings)
}

#[tokio::test]
async fn a_guardrail_holds_from_the_next_call_on_and_is_recorded_by_its_digest() {
    let (world, settings) = open(Setup::grants(FILES)).await;
    world.create_file("a.py").await.unwrap();
    let strict = Settings {
        guardrails: forbids("when { resource.name like \"Lab/*\" }"),
        ..settings.clone()
    };
    reconfigure(&world.gate, strict.clone()).await;
    let answer = world.create_file("b.py").await;
    assert!(denied(&answer), "{answer:?}");
    // A plugin that comes, and one that is restricted, come under it as well.
    world
        .gate
        .policies
        .install(parse(
            &Setup::grants(FILES).manifest.replace("\"lab\"", "\"new\""),
        ))
        .unwrap();
    let new = principal("new");
    let new = call(&world.gate, &new, "files/create-file", file("c.py")).await;
    assert!(denied(&new), "{new:?}");

    reconfigure(&world.gate, settings).await;
    world.create_file("d.py").await.unwrap();
    let records = world.records().await;
    let changes: Vec<&Value> = records
        .iter()
        .filter(|record| record["kind"] == "change" && record["what"] == "guardrails")
        .collect();
    let [none, added, removed] = changes.as_slice() else {
        panic!("{changes:#?}")
    };
    assert_eq!(added["difference"], json!(["+ guardrail `frozen`"]));
    assert_eq!(removed["difference"], json!(["- guardrail `frozen`"]));
    assert_eq!(added["digest-before"], none["digest-after"]);
    assert_eq!(removed["digest-before"], added["digest-after"]);
    assert_eq!(removed["digest-after"], none["digest-after"]);
    assert!(!added.to_string().contains("Lab/"), "{added}");
}

#[tokio::test]
async fn a_call_that_waits_is_denied_by_a_guardrail_that_came_since() {
    for strict in [true, false] {
        let mut setup = Setup::grants(FILES);
        setup.limits.in_flight = NonZeroU32::new(1);
        let (world, settings) = open(setup).await;
        world.read_file().await.unwrap();
        world.cloud.hold();
        let first = world.start("files/create-file", file("a.py"));
        world.cloud.until_called("create_file").await;
        let second = world.start("files/create-file", file("b.py"));
        tokio::task::yield_now().await;
        let condition = if strict { "Lab/*" } else { "Prod/*" };
        let guardrails = forbids(&format!("when {{ resource.name like \"{condition}\" }}"));
        let settings = Settings {
            guardrails,
            ..settings
        };
        reconfigure(&world.gate, settings).await;
        if strict {
            let answer = tokio::time::timeout(Duration::from_secs(10), second).await;
            let answer = answer.unwrap().unwrap();
            assert!(denied(&answer), "{answer:?}");
            assert!(!first.is_finished());
            world.cloud.release();
            first.await.unwrap().unwrap();
            assert_eq!(world.cloud.count("create_file"), 1);
        } else {
            world.cloud.release();
            first.await.unwrap().unwrap();
            second.await.unwrap().unwrap();
            assert_eq!(world.cloud.count("create_file"), 2);
        }
    }
}

/// An account's limits change while calls wait for it.
#[tokio::test]
async fn who_waits_for_an_account_goes_by_its_new_limits() {
    let mut setup = Setup::grants(FILES);
    setup.limits.in_flight = NonZeroU32::new(1);
    let (world, settings) = open(setup).await;
    world.read_file().await.unwrap();
    world.cloud.hold();
    let start = || world.start("files/read-file", json!({ "projectId": 1 }));
    let reads = [start(), start()];
    let sent = async |count: usize| {
        until("the calls are sent", async || {
            world.cloud.sent().len() >= count
        })
        .await;
    };
    sent(2).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.cloud.sent().len(), 2);
    let two = AccountLimits {
        in_flight: NonZeroU32::new(2),
        per_minute: None,
    };
    let wider = Settings {
        accounts: BTreeMap::from([("a".to_owned(), two)]),
        ..settings
    };
    reconfigure(&world.gate, wider).await;
    sent(3).await;
    world.cloud.release();
    for read in reads {
        read.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_profile_that_becomes_live_is_live_at_once() {
    let mut setup = Setup::grants(DEPLOY);
    setup.profiles = profiles();
    let (world, settings) = open(setup).await;
    deploy(&world).await.unwrap();
    let mut changed = profiles();
    let real = changed["ib"].clone();
    changed.insert("paper".to_owned(), real);
    let live = Settings {
        profiles: Profiles::new(changed, settings.secrets.clone()),
        ..settings.clone()
    };
    reconfigure(&world.gate, live.clone()).await;
    let refused = deploy(&world).await.unwrap_err().to_string();
    assert!(refused.contains("does not trade live"), "{refused}");
    // The flag is another setting; the compile of unknown source another rule.
    let trading = Settings {
        live_trading: true,
        ..live.clone()
    };
    reconfigure(&world.gate, trading.clone()).await;
    let refused = deploy(&world).await.unwrap_err().to_string();
    assert!(refused.contains("not made through this host"), "{refused}");
    let compile = world
        .call("compile/create-compile", json!({ "projectId": 1 }))
        .await
        .unwrap();
    world.gate.idle().await;
    let mut known = deployment(1, "paper");
    known["compileId"] = compile["compileId"].clone();
    let deploy_known = async || {
        let known = known.clone();
        world.call("live/create-live-algorithm", known).await
    };
    deploy_known().await.unwrap();
    let two = Settings {
        two_person: true,
        ..trading
    };
    reconfigure(&world.gate, two).await;
    required(deploy_known().await);
    reconfigure(&world.gate, settings).await;
    deploy(&world).await.unwrap();
}

#[tokio::test]
async fn a_price_that_rises_is_paid_by_the_next_optimisation() {
    let (world, settings) = open(Setup::grants(OPTIMIZE)).await;
    world.cloud.hook(|tool, _| {
        (tool == "estimate_optimization_time")
            .then(|| Ok(json!({ "success": true, "estimate": { "time": 3600, "balance": 1 } })))
    });
    let optimize = async || {
        let arguments = json!({
            "projectId": 1, "name": "o", "target": "Sharpe", "targetTo": "max", "strategy": "grid", "compileId": "c1",
            "parameters": [{ "name": "fast", "min": 1, "max": 2, "step": 1 }], "estimatedCost": 0.0, "nodeType": "O2-8", "parallelNodes": 1,
        });
        world
            .call("optimizations/create-optimization", arguments)
            .await
    };
    optimize().await.unwrap();
    let dear = Settings {
        node_prices: BTreeMap::from([("O2-8".to_owned(), Usd(20_000))]),
        ..settings
    };
    reconfigure(&world.gate, dear).await;
    let answer = optimize().await;
    assert!(denied(&answer), "{answer:?}");
}

#[tokio::test]
async fn permits_last_as_long_as_the_settings_say_when_they_are_given() {
    let mut setup = Setup::grants(&format!("{DEPLOY}approval = \"operator\"\n"));
    setup.profiles = profiles();
    let (world, settings) = open(setup).await;
    let ann = person(7, "ann");
    let approved = async || {
        let id = required(deploy(&world).await);
        approve(&world.gate, &id, &ann).await;
    };
    let short = Settings {
        permit_ttl: Duration::ZERO,
        ..settings.clone()
    };
    reconfigure(&world.gate, short).await;
    approved().await;
    reconfigure(&world.gate, settings).await;
    approved().await;
    deploy(&world).await.unwrap();
}

/// Manifests are installed while the guardrails change: none keeps the former guardrails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_manifest_slips_past_guardrails_that_change_meanwhile() {
    let (world, settings) = open(Setup::grants(FILES)).await;
    let strict = Settings {
        guardrails: forbids(""),
        ..settings.clone()
    };
    let installing = {
        let gate = world.gate.clone();
        tokio::spawn(async move {
            for round in 0..40 {
                let limits = format!("limits = {{ per-day = {} }}\n", 1000 + round);
                let manifest = Setup::grants(&format!("{FILES}{limits}")).manifest;
                gate.policies.install(parse(&manifest)).unwrap();
                let other = manifest.replace("\"lab\"", &format!("\"p{}\"", round % 7));
                while !gate
                    .policies
                    .enforce(&gate.policies.prepare(parse(&other)).await.unwrap())
                {}
                gate.policies
                    .restrict(parse(&other.replace("files/*", "compile/*")))
                    .await
                    .unwrap();
            }
        })
    };
    let (open, closed) = (settings, strict);
    while !installing.is_finished() {
        reconfigure(&world.gate, open.clone()).await;
        reconfigure(&world.gate, closed.clone()).await;
    }
    installing.await.unwrap();
    for plugin in ["lab", "p0", "p1", "p2", "p3", "p4", "p5", "p6"] {
        let read = json!({ "projectId": 1 });
        let answer = call(&world.gate, &principal(plugin), "files/read-file", read).await;
        assert!(denied(&answer), "{plugin}: {answer:?}");
    }
    assert!(world.cloud.sent().is_empty());
    reconfigure(&world.gate, open).await;
    world.read_file().await.unwrap();
}

#[tokio::test]
async fn what_was_compiled_under_other_guardrails_does_not_come_into_force() {
    let (world, settings) = open(Setup::grants(OPTIMIZE)).await;
    let new = parse(&Setup::grants(FILES).manifest);
    let compiled = world.gate.policies.prepare(new.clone()).await.unwrap();
    let strict = Settings {
        guardrails: forbids(""),
        ..settings
    };
    reconfigure(&world.gate, strict).await;
    assert!(!world.gate.policies.enforce(&compiled));
    assert_eq!(
        world.gate.policies.manifest("lab").unwrap().grants[0].name,
        "optimize"
    );
    let compiled = world.gate.policies.prepare(new).await.unwrap();
    assert!(world.gate.policies.enforce(&compiled));
    let read = world.read_file().await;
    assert!(denied(&read), "{read:?}");
    assert!(world.cloud.sent().is_empty());
}

/// Secrets of the former configuration may still come back in an answer.
#[tokio::test]
async fn a_secret_of_the_former_settings_does_not_come_back_under_the_new() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "pass-of-the-test\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut setup = Setup::grants(&format!("{DEPLOY}{FILES}"));
    setup.profiles = profiles();
    let paper = setup.profiles.get_mut("paper").unwrap();
    let password = Setting::Secret(Source::File(file));
    paper.insert("password".to_owned(), password);
    let (world, settings) = open(setup).await;
    deploy(&world).await.unwrap();
    let sent = json!(world.cloud.calls()).to_string();
    assert!(sent.contains("pass-of-the-test"));
    // Other secrets altogether: a new connection to Vault, and a redactor that knows nothing.
    let secrets = Secrets::new(None).unwrap();
    let new = Settings {
        profiles: Profiles::new(profiles(), secrets.clone()),
        secrets,
        ..settings
    };
    reconfigure(&world.gate, new).await;
    world.cloud.hook(|tool, _| {
        (tool == "read_file").then(|| {
            let file = json!({ "name": "main.py", "content": "pass-of-the-test", "projectId": 1 });
            Ok(json!({ "success": true, "files": [file] }))
        })
    });
    let answer = world.read_file().await.unwrap();
    assert!(!answer.to_string().contains("pass-of-the-test"), "{answer}");
}
