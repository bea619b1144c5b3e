//! Budgets and rates from a plugin's view: the typed error, nothing sent, and no refill by an edit, a failure or a
//! restart.

use qchost_catalog::Failure;
use qchost_gate::Refusal;
use qchost_testing::cloud::{Cloud, Setup, World, call, file, parse, principal};
use serde_json::{Value, json};

const BACKTESTS: &str =
    "[[grant]]\nname = \"tests\"\nallow = [\"backtests/*\"]\nprojects = [\"Lab/*\"]\n";

const FILES: &str = "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\n";

fn backtest(name: &str) -> Value {
    json!({ "projectId": 1, "compileId": "c1", "backtestName": name })
}

async fn list(world: &World) -> Result<Value, Refusal> {
    let project = json!({ "projectId": 1 });
    world.call("backtests/list-backtests", project).await
}

#[tokio::test]
async fn a_day_has_as_many_calls_as_the_grant_says_also_after_a_restart() {
    let setup = Setup::grants(&format!("{BACKTESTS}limits = {{ per-day = 3 }}\n"));
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let gate = setup.open_in(folder.path(), &cloud).await;
    let create = async |gate: &qchost_gate::Gate| {
        let (lab, name) = (principal("lab"), "backtests/create-backtest");
        call(gate, &lab, name, backtest("x")).await
    };
    create(&gate).await.unwrap();
    create(&gate).await.unwrap();
    gate.idle().await;
    drop(gate);

    let gate = setup.open_in(folder.path(), &cloud).await;
    create(&gate).await.unwrap();
    // Neither an edit nor another order of the grants refills it.
    gate.policies
        .install(parse(&format!(
            "{}limits = {{ per-day = 3, concurrent = 9 }}\n",
            setup.manifest.split("limits").next().unwrap()
        )))
        .unwrap();
    let refused = create(&gate).await.unwrap_err();
    let Refusal::Exhausted {
        grant,
        budget,
        resets_in,
        message,
    } = &refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((grant.as_str(), *budget), ("tests", "per-day"));
    assert!(resets_in.unwrap().as_secs() <= 24 * 3600);
    // The day ends at midnight.
    assert!(
        message.contains("3 are used; it is refilled at "),
        "{message}"
    );
    assert!(message.ends_with("T00:00:00Z"), "{message}");
    assert_eq!(cloud.count("create_backtest"), 3);
}

#[tokio::test]
async fn what_was_not_done_is_given_back() {
    let setup = Setup::grants(&format!("{BACKTESTS}limits = {{ per-day = 1 }}\n"));
    let world = setup.open().await;
    for failure in [
        Failure::Rejected(vec!["no".to_owned()]),
        Failure::RateLimited { retry_after: None },
        Failure::Unavailable("down".to_owned()),
    ] {
        let answer = failure.clone();
        world
            .cloud
            .hook(move |tool, _| (tool == "create_backtest").then(|| Err(answer.clone())));
        let refused = world.call("backtests/create-backtest", backtest("x")).await;
        assert_eq!(refused.unwrap_err(), Refusal::Failed(failure));
    }
    // A call whose answer was lost may have taken effect.
    world.cloud.hook(|tool, _| {
        (tool == "create_backtest").then(|| Err(Failure::UnknownOutcome("lost".to_owned())))
    });
    world
        .call("backtests/create-backtest", backtest("x"))
        .await
        .unwrap_err();
    let sent = world.cloud.sent().len();
    let refused = world.call("backtests/create-backtest", backtest("y")).await;
    assert!(
        matches!(refused, Err(Refusal::Exhausted { .. })),
        "{refused:?}"
    );
    assert_eq!(world.cloud.sent().len(), sent);
}

#[tokio::test]
async fn reads_are_counted_too() {
    let setup = Setup::grants(&format!("{BACKTESTS}limits = {{ per-day = 2 }}\n"));
    let world = setup.open().await;
    let read = || list(&world);
    read().await.unwrap();
    read().await.unwrap();
    let sent = world.cloud.sent();
    assert!(matches!(read().await, Err(Refusal::Exhausted { .. })));
    assert_eq!(world.cloud.sent(), sent);
}

#[tokio::test]
async fn a_plugin_that_filled_its_share_of_the_audit_makes_no_more_calls() {
    let mut setup = Setup::grants(FILES);
    setup.audit_share = 20_000;
    let world = setup.open().await;
    let mut made = 0;
    let refused = loop {
        match world.create_file(&format!("f{made}")).await {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
        assert!(made < 1_000);
    };
    let Refusal::Exhausted { budget, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*budget, "audit");
    // Nothing of it is sent: no write, no read, and no read of the host's own.
    let sent = world.cloud.sent();
    let read = world.read_file();
    assert!(read.await.is_err());
    assert_eq!(world.cloud.sent(), sent);
    // The records are no more than that, and those of its last call.
    let records = world.records().await;
    let bytes: usize = records.iter().map(|one| one.to_string().len()).sum();
    assert!(bytes < 60_000, "{bytes}");
}

/// A plugin that makes calls one by one finds its guard free after each answer, whatever the host still has to record.
#[tokio::test]
async fn calls_made_one_by_one_never_find_their_place_taken() {
    let setup = Setup::grants(&format!("{FILES}limits = {{ concurrent = 1 }}\n"));
    let world = setup.open().await;
    for at in 0..50 {
        let made = world.create_file(&format!("f{at}")).await;
        made.unwrap();
    }
}

#[tokio::test]
async fn only_a_limited_number_at_a_time() {
    let setup = Setup::grants(&format!("{FILES}limits = {{ concurrent = 1 }}\n"));
    let world = setup.open().await;
    world.read_file().await.unwrap();
    world.cloud.hold();
    let first = world.start("files/create-file", file("x"));
    world.cloud.until_called("create_file").await;
    let second = world.create_file("y").await;
    let Err(Refusal::Exhausted { budget, .. }) = second else {
        panic!("{second:?}")
    };
    assert_eq!(budget, "concurrent");
    world.cloud.release();
    first.await.unwrap().unwrap();
    world.gate.idle().await;
    world.create_file("z").await.unwrap();
}

#[tokio::test]
async fn too_fast_is_told_to_wait() {
    let setup = Setup::grants(&format!("{BACKTESTS}limits = {{ per-minute = 2 }}\n"));
    let world = setup.open().await;
    let read = || list(&world);
    read().await.unwrap();
    read().await.unwrap();
    let sent = world.cloud.sent();
    let Err(Refusal::RateLimited(wait)) = read().await else {
        panic!("not limited")
    };
    assert!(wait.as_secs() <= 60 && !wait.is_zero(), "{wait:?}");
    assert_eq!(world.cloud.sent(), sent);
}

#[tokio::test]
async fn a_plugin_that_claims_a_cost_of_nothing_pays_what_the_host_estimates() {
    let grants = "[[grant]]\nname = \"optimise\"\nallow = [\"optimizations/create-optimization\"]\nprojects = [\"Lab/*\"]\nmax-cost = 5.0\nlimits = { cost-per-day = 6.0 }\n";
    let world = Setup::grants(grants).open().await;
    let optimise = async |hours: f64, claimed: Value| {
        let seconds = hours * 3600.0;
        world.cloud.hook(move |tool, _| {
            (tool == "estimate_optimization_time").then(|| {
                Ok(json!({ "success": true, "estimate": { "estimateId": "", "time": seconds, "balance": 0 } }))
            })
        });
        let arguments = json!({
            "projectId": 1, "name": "o", "target": "Sharpe", "targetTo": "max", "strategy": "grid", "compileId": "c1",
            "parameters": [{ "name": "fast", "min": 1, "max": 2, "step": 1 }], "estimatedCost": claimed,
            "nodeType": "O2-8", "parallelNodes": 4,
        });
        world
            .call("optimizations/create-optimization", arguments)
            .await
    };
    let created = || world.cloud.count("create_optimization");
    // 0.06 dollars an hour, two backtests, and half of it: 20 hours each are 5.40 dollars, whatever the plugin says.
    let refused = optimise(20.0, json!(0)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Denied(_)), "{refused:?}");
    assert_eq!(created(), 0);
    // 12 hours are 3.24.
    optimise(12.0, json!(0)).await.unwrap();
    let refused = optimise(12.0, json!(0)).await.unwrap_err();
    assert!(
        matches!(
            &refused,
            Refusal::Exhausted {
                budget: "cost-per-day",
                ..
            }
        ),
        "{refused:?}"
    );
    // What the plugin says counts if it is more.
    let refused = optimise(1.0, json!(5.1)).await.unwrap_err();
    assert!(matches!(refused, Refusal::Denied(_)), "{refused:?}");
    let refused = optimise(1.0, json!(-1)).await.unwrap_err();
    assert!(
        matches!(refused, Refusal::Failed(Failure::InvalidArgument(_))),
        "{refused:?}"
    );
    assert_eq!(created(), 1);
    optimise(1.0, json!(0)).await.unwrap();
    assert_eq!(created(), 2);
}

#[tokio::test]
async fn exports_of_live_logs_keep_to_what_quantconnect_takes_in_half_an_hour() {
    let grants = "[[grant]]\nname = \"exports\"\nallow = [\"exports/*\"]\nprojects = [\"Lab/*\"]\n";
    let world = Setup::grants(grants).open().await;
    world.cloud.hook(|tool, _| {
        let live = json!([{ "deployId": "L-1", "projectId": 1 }]);
        let listed = json!({ "success": true, "live": live });
        (tool == "list_live_algorithms").then_some(Ok(listed))
    });
    let export = async |name: &str| {
        let deployment = json!({ "projectId": 1, "deployId": "L-1" });
        world.call(name, deployment).await
    };
    let mut made = 0;
    let wait = loop {
        match export("exports/export-live-logs").await {
            Err(Refusal::RateLimited(wait)) => break wait,
            _ => made += 1,
        }
        assert!(made <= 45, "nothing limits them");
    };
    // Half of 45 at once, and one more in each 82 seconds.
    assert_eq!(made, 23);
    assert_eq!(world.cloud.count("export_live_logs"), made);
    assert!(!wait.is_zero() && wait.as_secs() < 82, "{wait:?}");
    // What QuantConnect does not limit goes on.
    let other = export("exports/export-live-insights").await;
    assert!(!matches!(other, Err(Refusal::RateLimited(_))), "{other:?}");
    assert_eq!(world.cloud.count("export_live_insights"), 1);
}

#[tokio::test]
async fn a_cost_that_is_not_known_is_in_no_budget() {
    let allow = "[[grant]]\nname = \"optimise\"\nallow = [\"optimizations/create-optimization\"]\nprojects = [\"Lab/*\"]\n";
    for (bound, allowed) in [
        ("max-cost = 1000.0", false),
        ("limits = { cost-per-day = 1000.0 }", false),
        ("limits = { per-day = 1 }", true),
    ] {
        let world = Setup::grants(&format!("{allow}{bound}\n")).open().await;
        // QuantConnect does not say how long a backtest takes.
        world.cloud.hook(|tool, _| {
            let estimate = json!({ "success": true, "estimate": { "estimateId": "e", "time": 0 } });
            (tool == "estimate_optimization_time").then_some(Ok(estimate))
        });
        let arguments = json!({
            "projectId": 1, "name": "o", "target": "Sharpe", "targetTo": "max", "strategy": "grid", "compileId": "c1",
            "parameters": [{ "name": "fast", "min": 1, "max": 2, "step": 1 }], "estimatedCost": 0.01,
            "nodeType": "O2-8", "parallelNodes": 4,
        });
        let answer = world
            .call("optimizations/create-optimization", arguments)
            .await;
        let sent = world.cloud.count("create_optimization");
        if allowed {
            answer.unwrap();
            assert_eq!(sent, 1);
        } else {
            let refused = answer.unwrap_err();
            assert!(matches!(refused, Refusal::Denied(_)), "{refused:?}");
            let told = refused.to_string();
            assert!(told.contains("how long one backtest takes"), "{told}");
            assert_eq!(sent, 0);
        }
    }
}

#[tokio::test]
async fn the_limits_of_an_explained_call_are_numbers_and_money_is_in_dollars() {
    let limits = "limits = { per-day = 5, cost-per-day = 6.5 }\n";
    let world = Setup::grants(&format!("{FILES}{limits}")).open().await;
    let Value::Object(file) = json!({ "projectId": 1, "name": "main.py" }) else {
        unreachable!()
    };
    let project = Some("Lab/one".to_owned());
    let explained = world.gate.explain("lab", "files/read-file", file, project);
    let explained = json!(explained.await.unwrap());
    let limits = json!({ "per-day": 5, "cost-per-day-usd": 6.5 });
    assert_eq!(
        explained["obligations"],
        json!([{ "grant": "files", "limits": limits }]),
        "{explained}"
    );
}

#[tokio::test]
async fn a_rate_that_is_used_up_lets_no_read_of_the_host_out_either() {
    let setup = Setup::grants(&format!("{FILES}limits = {{ per-minute = 1 }}\n"));
    let world = setup.open().await;
    let mut words = std::collections::BTreeMap::<_, u32>::new();
    for project in 1_000..1_400 {
        let call = world.call("files/read-file", json!({ "projectId": project }));
        *words.entry(call.await.unwrap_err().word()).or_default() += 1;
    }
    assert_eq!(
        world.cloud.calls().len(),
        1,
        "one call may be decided about"
    );
    assert_eq!(words["denied"], 1);
    assert_eq!(words["rate-limited"], 399);
}

#[tokio::test]
async fn calls_that_are_denied_have_a_day_too() {
    let setup = Setup::grants(&format!("{FILES}limits = {{ per-day = 2 }}\n"));
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let mut last = None;
    // A restart refills nothing; finding that out costs one read.
    for _ in 0..2 {
        let gate = setup.open_in(folder.path(), &cloud).await;
        for project in 1_000..1_100 {
            let arguments = json!({ "projectId": project });
            last = Some(call(&gate, &principal("lab"), "files/read-file", arguments).await);
        }
        gate.close().await;
    }
    assert_eq!(cloud.calls().len(), 20 + 1);
    let Some(Err(Refusal::Exhausted { budget, grant, .. })) = last else {
        panic!("{last:?}")
    };
    assert_eq!((budget, grant.as_str()), ("attempts-per-day", "files"));
}

#[tokio::test]
async fn a_write_that_is_refused_gives_its_call_back_and_not_its_attempt() {
    let setup = Setup::grants(&format!("{FILES}limits = {{ per-day = 1 }}\n"));
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    cloud.hook(|tool, _| {
        (tool == "create_file").then(|| Err(Failure::Rejected(vec!["no".to_owned()])))
    });
    let mut words = std::collections::BTreeMap::<_, u32>::new();
    for _ in 0..2 {
        let gate = setup.open_in(folder.path(), &cloud).await;
        for _ in 0..20 {
            let refused = call(&gate, &principal("lab"), "files/create-file", file("x")).await;
            let refusal = refused.unwrap_err();
            if let Refusal::Exhausted { budget, .. } = &refusal {
                assert_eq!(*budget, "attempts-per-day");
            }
            *words.entry(refusal.word()).or_default() += 1;
        }
        gate.close().await;
    }
    assert_eq!(words["rejected"], 10);
    assert_eq!(cloud.count("create_file"), 10);
}

#[tokio::test]
async fn what_made_nothing_happen_costs_no_attempt() {
    let setup = Setup::grants(&format!("{FILES}limits = {{ per-day = 1 }}\n"));
    let world = setup.open().await;
    world.cloud.hook(|tool, _| {
        (tool == "create_file").then(|| Err(Failure::Unavailable("down".to_owned())))
    });
    for _ in 0..30 {
        let refused = world.create_file("x").await.unwrap_err();
        assert_eq!(refused.word(), "unavailable");
    }
    world.cloud.hook(|_, _| None);
    world.create_file("x").await.unwrap();
}

#[tokio::test]
async fn a_call_takes_nothing_of_a_grant_that_it_does_not_match() {
    let grants = "[[grant]]\nname = \"one\"\nallow = [\"files/*\"]\nprojects = [\"Lab/one\"]\nlimits = { per-minute = 1 }\n\
                  [[grant]]\nname = \"two\"\nallow = [\"files/*\"]\nprojects = [\"Lab/two\"]\nlimits = { per-minute = 1 }\n";
    let world = Setup::grants(grants).open().await;
    let read = async |project: u32| {
        let arguments = json!({ "projectId": project });
        world.call("files/read-file", arguments).await
    };
    read(2).await.unwrap();
    read(1).await.unwrap();
    for project in [1, 2] {
        let refused = read(project).await;
        assert!(
            matches!(refused, Err(Refusal::RateLimited(_))),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn the_reads_that_a_call_causes_are_on_its_record() {
    let world = Setup::grants(FILES).open().await;
    world.create_file("x").await.unwrap();
    world.create_file("y").await.unwrap();
    let intents = world.records_of("intent").await;
    let reads = intents.iter().map(|record| record["host-reads"].as_u64());
    let reads: Vec<_> = reads.collect();
    assert_eq!(reads, [Some(1), None], "the name is known the second time");
}
