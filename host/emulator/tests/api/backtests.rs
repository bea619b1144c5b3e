//! Backtests: the queue, the nodes, the results.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Cloud, cloud, quick, slow_cloud, start, visible};
use crate::engine::{DAY, DAYS, START};

async fn read(cloud: &Cloud, project: u64, backtest: &str) -> Value {
    let body = json!({"projectId": project, "backtestId": backtest});
    cloud.ok("/backtests/read", body).await["backtest"].clone()
}

#[tokio::test]
async fn a_backtest_is_queued_runs_with_progress_and_completes() {
    let cloud = slow_cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let body = json!({
        "projectId": id,
        "compileId": compile,
        "backtestName": "First",
        "parameters": {"fast": 3, "label": "x"},
    });
    let created = cloud.ok("/backtests/create", body).await;
    assert_eq!(created["backtest"]["status"], "In Queue...");
    assert_eq!(created["backtest"]["progress"], 0.0);
    let backtest = created["backtest"]["backtestId"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = json!({"projectId": id, "backtestId": backtest});
    let running = cloud
        .until("/backtests/read", body, |it| {
            it["backtest"]["status"] != "In Queue..."
        })
        .await;
    assert_eq!(running["backtest"]["status"], "'Running: _%'");
    assert_eq!(running["backtest"]["completed"], false);
    assert_eq!(running["backtest"]["statistics"], Value::Null);

    let result = cloud.result(id, &backtest).await;
    assert_eq!(result["status"], "Completed.");
    assert_eq!(result["progress"], 1.0);
    assert_eq!(result["error"], Value::Null);
    assert_eq!(result["parameterSet"], json!({"fast": 3, "label": "x"}));
    assert_eq!(result["statistics"]["Sharpe Ratio"], "3");
    assert_eq!(result["nodeName"], "test engine, not LEAN");
    assert_eq!(
        result["charts"]["Strategy Equity"]["name"],
        "Strategy Equity"
    );
    assert_eq!(result["backtestStart"], "2020-01-01T00:00:00Z");
}

#[tokio::test]
async fn a_backtest_whose_equity_never_changed_has_a_finding() {
    for (source, found) in [("code", 0), ("FLAT", 1)] {
        let cloud = cloud().await;
        let id = cloud.project(source).await;
        let compile = cloud.built(id).await;
        let backtest = cloud.backtest(id, &compile).await;
        let result = cloud.result(id, &backtest).await;
        let findings = result["analysis"].as_array().unwrap();
        assert_eq!(findings.len(), found, "{source}: {findings:?}");
        for finding in findings {
            assert_eq!(finding["name"], "FlatEquityCurveAnalysis");
            assert_eq!(finding["count"], DAYS);
            assert!(!finding["solutions"].as_array().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn progress_comes_from_the_clock() {
    let slow = |builder: qchost_emulator::Builder| {
        let mut timing = quick();
        timing.backtest = Duration::from_secs(20);
        builder.timing(timing)
    };
    let cloud = start(slow).await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    let body = json!({"projectId": id, "backtestId": backtest});
    let progress = |it: &Value| it["backtest"]["progress"].as_f64().unwrap();
    let first = cloud
        .until("/backtests/read", body.clone(), |it| progress(it) > 0.0)
        .await;
    // Many questions do not make it faster.
    let mut last = first.clone();
    for _ in 0..50 {
        last = cloud.ok("/backtests/read", body.clone()).await;
    }
    assert!(progress(&last) >= progress(&first));
    assert!(progress(&last) < 1.0);
    assert_eq!(last["backtest"]["completed"], false);
}

#[tokio::test]
async fn a_project_s_parameters_are_overridden_by_the_backtest_s() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let body = json!({"projectId": id, "parameters": [{"key": "fast", "value": "7"}]});
    cloud.ok("/projects/update", body).await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    let result = cloud.result(id, &backtest).await;
    assert_eq!(result["statistics"]["Sharpe Ratio"], "7");
    assert_eq!(result["parameterSet"], json!([]));
}

#[tokio::test]
async fn a_backtest_uses_the_sources_that_were_compiled() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let body = json!({"projectId": id, "name": "main.py", "content": "FAIL LATER"});
    cloud.ok("/files/update", body).await;
    let backtest = cloud.backtest(id, &compile).await;
    assert_eq!(cloud.result(id, &backtest).await["status"], "Completed.");
}

#[tokio::test]
async fn a_failing_algorithm_is_a_runtime_error() {
    let cloud = cloud().await;
    for (source, in_initialize) in [("FAIL IN INITIALIZE", true), ("FAIL LATER", false)] {
        let id = cloud.project(source).await;
        let compile = cloud.built(id).await;
        let backtest = cloud.backtest(id, &compile).await;
        let result = cloud.result(id, &backtest).await;
        assert_eq!(result["status"], "Runtime Error");
        assert_eq!(result["error"], "division by zero");
        assert_eq!(result["stacktrace"], "at main.py: line 3");
        assert_eq!(result["hasInitializeError"], in_initialize);
        assert_eq!(result["statistics"], Value::Null);
        let body = json!({"projectId": id, "backtestId": backtest, "start": 0, "end": 10});
        let orders = cloud.ok("/backtests/orders/read", body).await;
        assert_eq!(orders["length"], 0);
    }
    let id = cloud.project("PANIC ON RUN").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    let result = cloud.result(id, &backtest).await;
    assert!(result["error"].as_str().unwrap().contains("engine"));
}

#[tokio::test]
async fn nodes_limit_how_many_run_at_once() {
    let two = |builder: qchost_emulator::Builder| builder.backtest_nodes(2).timing(visible());
    let cloud = start(two).await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let mut backtests = Vec::new();
    for _ in 0..5 {
        backtests.push(cloud.backtest(id, &compile).await);
    }
    let list = json!({"projectId": id});
    cloud
        .until("/backtests/list", list, |answer| {
            let all = answer["backtests"].as_array().unwrap();
            let with = |status: &str| all.iter().filter(|it| it["status"] == status).count();
            assert!(with("'Running: _%'") <= 2, "{answer}");
            with("Completed.") > 0
        })
        .await;
    let nodes = cloud
        .ok("/projects/nodes/read", json!({"projectId": id}))
        .await;
    let busy = &nodes["nodes"]["backtest"][0];
    assert_eq!(busy["busy"], true);
    assert_eq!(busy["projectId"], id);
    assert_ne!(busy["usedBy"], "");
    for backtest in &backtests {
        assert_eq!(cloud.result(id, backtest).await["status"], "Completed.");
    }
    // In the order in which they were created; the list begins with the latest.
    let list = cloud.ok("/backtests/list", json!({"projectId": id})).await;
    let listed: Vec<&str> = list["backtests"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|it| it["backtestId"].as_str().unwrap())
        .collect();
    assert_eq!(listed, backtests);
    assert_eq!(list["count"], 5);
    let nodes = cloud
        .ok("/projects/nodes/read", json!({"projectId": id}))
        .await;
    assert_eq!(nodes["nodes"]["backtest"][0]["busy"], false);
}

#[tokio::test]
async fn a_project_waits_for_the_node_that_it_chose() {
    let two = |builder: qchost_emulator::Builder| builder.backtest_nodes(2).timing(visible());
    let cloud = start(two).await;
    let id = cloud.project("code").await;
    let nodes = cloud
        .ok("/projects/nodes/read", json!({"projectId": id}))
        .await;
    let node = nodes["nodes"]["backtest"][1]["id"].clone();
    let body = json!({"projectId": id, "nodes": [node]});
    cloud.ok("/projects/nodes/update", body).await;
    let compile = cloud.built(id).await;
    let first = cloud.backtest(id, &compile).await;
    let second = cloud.backtest(id, &compile).await;
    let body = json!({"projectId": id, "backtestId": first});
    cloud
        .until("/backtests/read", body, |it| {
            it["backtest"]["status"] == "'Running: _%'"
        })
        .await;
    assert_eq!(read(&cloud, id, &second).await["status"], "In Queue...");
    let nodes = cloud
        .ok("/projects/nodes/read", json!({"projectId": id}))
        .await;
    assert_eq!(nodes["nodes"]["backtest"][0]["busy"], false);
    assert_eq!(nodes["nodes"]["backtest"][1]["busy"], true);
    // Any node will do again.
    cloud
        .ok("/projects/nodes/update", json!({"projectId": id}))
        .await;
    assert_eq!(cloud.result(id, &second).await["status"], "Completed.");
}

#[tokio::test]
async fn a_backtest_is_renamed_tagged_and_deleted() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    let body = json!({
        "projectId": id,
        "backtestId": backtest,
        "name": "Renamed",
        "note": "words",
        "tags": ["a"],
    });
    cloud.ok("/backtests/update", body).await;
    let shown = read(&cloud, id, &backtest).await;
    assert_eq!(shown["name"], "Renamed");
    assert_eq!(shown["note"], "words");
    let list = cloud.ok("/backtests/list", json!({"projectId": id})).await;
    assert_eq!(list["backtests"][0]["tags"], json!(["a"]));
    let body = json!({"projectId": id, "backtestId": backtest, "tags": ["b", "c"]});
    cloud.ok("/backtests/tags/update", body).await;
    let list = cloud.ok("/backtests/list", json!({"projectId": id})).await;
    assert_eq!(list["backtests"][0]["tags"], json!(["b", "c"]));
    let body = json!({"projectId": id, "backtestId": backtest});
    cloud.refused("/backtests/tags/update", body).await;
    let body = json!({"projectId": id, "backtestId": backtest});
    cloud.ok("/backtests/delete", body.clone()).await;
    for path in ["/backtests/read", "/backtests/update", "/backtests/delete"] {
        let error = cloud.refused(path, body.clone()).await;
        assert!(error.starts_with("Backtest not found"), "{error}");
    }
}

#[tokio::test]
async fn the_list_has_statistics_unless_told_otherwise() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    cloud.result(id, &backtest).await;
    let list = cloud.ok("/backtests/list", json!({"projectId": id})).await;
    assert_eq!(list["backtests"][0]["sharpeRatio"], 10.0);
    // In per cent, as the cloud has it; the statistics of the backtest say `12.500%`.
    assert_eq!(list["backtests"][0]["netProfit"], 12.5);
    let body = json!({"projectId": id, "includeStatistics": false});
    let list = cloud.ok("/backtests/list", body).await;
    assert_eq!(list["backtests"][0]["sharpeRatio"], Value::Null);
    let body = json!({"projectId": id, "includeStatistics": "perhaps"});
    cloud.refused("/backtests/list", body).await;
}

#[tokio::test]
async fn orders_insights_and_log_come_in_pages() {
    let cloud = slow_cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    let page = |start: Value, end: Value| json!({"projectId": id, "backtestId": backtest, "start": start, "end": end});
    // Until there is a result, it is loading: none of what was asked for, but a progress.
    let loading = cloud
        .ok("/backtests/orders/read", page(json!(0), json!(100)))
        .await;
    assert_eq!(loading["status"], "loading");
    assert!(loading["progress"].is_number() && loading.get("orders").is_none());
    cloud.result(id, &backtest).await;
    for (path, field, widest) in [
        ("/backtests/orders/read", "orders", 100),
        ("/backtests/read/insights", "insights", 100),
        ("/backtests/read/log", "logs", 200),
        ("/backtests/trades/read", "trades", 100),
    ] {
        let first = cloud.ok(path, page(json!(0), json!(100))).await;
        assert_eq!(first[field].as_array().unwrap().len(), 100, "{path}");
        assert_eq!(first["length"], DAYS);
        let rest = cloud.ok(path, page(json!(100), json!(200))).await;
        assert_eq!(rest[field].as_array().unwrap().len(), DAYS - 100);
        for (start, end) in [
            (json!(0), json!(widest + 1)),
            (json!(-1), json!(5)),
            (json!(5), json!(4)),
            (json!("x"), json!(4)),
            (json!(0), json!(null)),
        ] {
            cloud.refused(path, page(start, end)).await;
        }
    }
}

#[tokio::test]
async fn a_log_is_searched_and_its_positions_count_what_was_found() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    cloud.result(id, &backtest).await;
    let search = |query: Value| json!({"projectId": id, "backtestId": backtest, "start": 0, "end": 3, "query": query});
    let path = "/backtests/read/log";
    let found = cloud.ok(path, search(json!("DAY 14"))).await;
    // 14 and 140 to 149.
    assert_eq!(found["length"], 11);
    assert_eq!(found["logs"], json!(["day 14", "day 140", "day 141"]));
    for all in [json!(null), json!("")] {
        assert_eq!(cloud.ok(path, search(all)).await["length"], DAYS);
    }
    assert_eq!(cloud.ok(path, search(json!("no"))).await["length"], 0);
    cloud.refused(path, search(json!(7))).await;
}

#[tokio::test]
async fn a_report_has_the_statistics_of_the_backtest() {
    let cloud = slow_cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    let body = json!({"projectId": id, "backtestId": backtest});
    let path = "/backtests/read/report";
    let loading = cloud.ok(path, body.clone()).await;
    assert_eq!(loading["status"], "loading");
    assert!(loading.get("report").is_none());
    cloud.result(id, &backtest).await;
    let answer = cloud.ok(path, body).await;
    let report = answer["report"].as_str().unwrap();
    assert!(
        report.contains("<th>Net Profit</th><td>12.500%</td>"),
        "{report}"
    );
    let failing = cloud.project("FAIL LATER").await;
    let compile = cloud.built(failing).await;
    let backtest = cloud.backtest(failing, &compile).await;
    cloud.result(failing, &backtest).await;
    let body = json!({"projectId": failing, "backtestId": backtest});
    assert!(cloud.refused(path, body).await.contains("no report"));
}

#[tokio::test]
async fn a_chart_is_cut_to_its_range_and_thinned() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let backtest = cloud.backtest(id, &compile).await;
    cloud.result(id, &backtest).await;
    let request = |name: &str, count: i64, start: i64, end: i64| {
        json!({
            "projectId": id,
            "backtestId": backtest,
            "name": name,
            "count": count,
            "start": start,
            "end": end,
        })
    };
    let path = "/backtests/chart/read";
    let (first, last) = (START + 10 * DAY, START + 19 * DAY);
    let answer = cloud
        .ok(path, request("Strategy Equity", 100, first, last))
        .await;
    let chart = &answer["chart"];
    assert_eq!(chart["name"], "Strategy Equity");
    let values = chart["series"]["Return"]["values"].as_array().unwrap();
    assert_eq!(values.len(), 10);
    assert_eq!(values[0], json!([first, 100_010.0]));
    let candles = chart["series"]["Equity"]["values"].as_array().unwrap();
    assert_eq!(candles[0].as_array().unwrap().len(), 5);
    let thin = cloud
        .ok(path, request("Strategy Equity", 4, first, last))
        .await;
    let values = thin["chart"]["series"]["Return"]["values"]
        .as_array()
        .unwrap();
    assert_eq!(values.len(), 4);
    assert_eq!(values[3][0], last);
    for body in [
        request(" ", 100, first, last),
        request("Strategy Equity", 100, last, first),
        request("Strategy Equity", 0, first, last),
        request("Strategy Equity", -5, first, last),
    ] {
        cloud.refused(path, body).await;
    }
}

#[tokio::test]
async fn bad_backtests_are_refused() {
    let cloud = slow_cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    let valid = json!({"projectId": id, "compileId": compile, "backtestName": "Run"});
    for (field, value) in [
        ("projectId", json!(-1)),
        ("projectId", json!(null)),
        ("compileId", json!(" ")),
        ("backtestName", json!("")),
        ("backtestName", json!(7)),
        ("backtestName", json!("a".repeat(201))),
        ("parameters", json!({"p": {"k": "v"}})),
        ("parameters", json!("p=1")),
        ("parameters", json!([1])),
    ] {
        let mut body = valid.clone();
        body[field] = value;
        cloud.refused("/backtests/create", body).await;
    }
    let list = cloud.ok("/backtests/list", json!({"projectId": id})).await;
    assert_eq!(list["backtests"], json!([]));
    // A compile that is still in the queue.
    let body = json!({"projectId": id});
    let fresh = cloud.ok("/compile/create", body).await["compileId"].clone();
    let mut body = valid;
    body["compileId"] = fresh;
    let error = cloud.refused("/backtests/create", body).await;
    assert!(error.contains("not finished"), "{error}");
}
