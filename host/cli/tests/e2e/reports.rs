//! strategy-lab's strategies on the emulated cloud, its comparisons of backtests, and its reports: also as a browser shows them.

use std::path::Path;
use std::process::Command;

use qchost_testing::has_program;
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{Folder, repository, strategy_lab};
use crate::strategy_lab::lab;

/// The grant by which reports are written to the object store.
const REPORTS: &str = "allow = [\"object-store/upload-object\"]\n";
/// A name that would be markup.
const HOSTILE: &str = "<img src=x onerror=alert(1)> \"a\" & 'b'";

/// The bundled strategies, with how many orders the emulator's model sends for each at least.
const STRATEGIES: [(&str, u64); 6] = [
    ("moving-average-crossover", 5),
    ("momentum-rotation", 5),
    ("mean-reversion", 5),
    ("pairs-trading", 0),
    ("channel-breakout", 5),
    ("risk-parity", 4),
];

/// A backtest of a project: its id.
fn backtest(folder: &Folder, project: &str, name: &str, parameters: &Value) -> String {
    let input = json!({ "project": project, "name": name, "parameters": parameters });
    let ran = folder.invoke("strategy-lab.backtest", &input);
    ran["backtest_id"].as_str().unwrap().to_owned()
}

/// A report that is in the answer.
fn report(folder: &Folder, input: &Value) -> String {
    let written = folder.invoke("strategy-lab.report", input);
    let report = written["report"].as_str().unwrap();
    assert_eq!(written["bytes"], report.len(), "{}", written["notes"]);
    assert_eq!(written["key"], Value::Null);
    report.to_owned()
}

#[test]
fn every_bundled_strategy_is_created_by_its_name_and_runs() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    for (strategy, orders) in STRATEGIES {
        let project = format!("Lab/{strategy}");
        let input = json!({ "name": project, "strategy": strategy });
        let created = folder.invoke("strategy-lab.create-project", &input);
        assert_eq!(created["strategy"], strategy, "{created}");
        assert_eq!(created["files"][0], "main.py", "{created}");
        // Each file is in the project as it is in the plugin.
        for name in created["files"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            let read = json!({ "projectId": created["project_id"], "name": name });
            let text = &folder.call("read_file", &read)["files"][0]["content"];
            let path = format!("plugins/strategy-lab/strategies/{strategy}/{name}");
            let expected = std::fs::read_to_string(repository(&path)).unwrap();
            assert_eq!(*text, expected, "{path}");
        }
        let period = json!({ "project": project, "parameters": { "start": "2019-01-01", "end": "2020-12-31" } });
        let ran = folder.invoke("strategy-lab.backtest", &period);
        assert!(ran["start"].as_str().unwrap().starts_with("2019"), "{ran}");
        assert!(ran["end"].as_str().unwrap().starts_with("2020"), "{ran}");
        assert!(ran["orders"].as_u64().unwrap() >= orders, "{ran}");
    }
    let unknown = json!({ "name": "Lab/x", "strategy": "martingale" }).to_string();
    let ran = folder.run(&["invoke", "strategy-lab.create-project", &unknown]);
    assert!(ran.stderr.contains("pairs-trading: "), "{ran:?}");
}

#[test]
fn backtests_of_several_projects_stand_side_by_side() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let (one, other) = ("Lab/one", "Lab/other");
    let first = backtest(&folder, one, "a", &json!({ "fast": 10 }));
    let second = backtest(
        &folder,
        one,
        "b",
        &json!({ "fast": 40, "start": "2019-01-01" }),
    );
    let created = json!({ "name": other, "strategy": "risk-parity" });
    folder.invoke("strategy-lab.create-project", &created);
    let third = backtest(&folder, other, "c", &json!({}));
    let input = json!({
        "project": one,
        "backtests": [first, second, { "project": other, "backtest": third }],
    });
    let found = folder.invoke("strategy-lab.compare", &input);
    for list in [
        "backtests",
        "equity",
        "drawdowns",
        "turnover",
        "orders",
        "trades",
    ] {
        assert_eq!(found[list].as_array().unwrap().len(), 3, "{list}: {found}");
    }
    assert_eq!(
        found["parameters"]["fast"],
        json!(["10", "40", null]),
        "{found}"
    );
    // The statistics are those that each backtest gives on its own.
    for (position, (project, id)) in [(one, &first), (one, &second), (other, &third)]
        .into_iter()
        .enumerate()
    {
        let of = &found["backtests"][position];
        assert_eq!(of["backtest_id"], *id, "{of}");
        assert_eq!(of["project"], project, "{of}");
        let read = json!({ "projectId": of["project_id"], "backtestId": id });
        let read = folder.call("read_backtest", &read)["backtest"].clone();
        for row in found["statistics"].as_array().unwrap() {
            let name = row["name"].as_str().unwrap();
            assert_eq!(row["texts"][position], read["statistics"][name], "{name}");
        }
        let counted = &found["orders"][position];
        assert_eq!(counted["total"], counted["counted"], "{counted}");
    }
    let percent = |row: &&Value| row["name"] == "Drawdown";
    let statistics = found["statistics"].as_array().unwrap();
    let drawdown = statistics.iter().find(percent).unwrap();
    assert!(drawdown["values"][0].as_f64().unwrap() < 1.0, "{drawdown}");
    let deepest = found["drawdowns"][0][0]["depth"].as_f64().unwrap();
    let listed = drawdown["values"][0].as_f64().unwrap();
    assert!((deepest - listed).abs() < 0.001, "{deepest} and {listed}");
    // The days of the shortest are those that all have.
    let common = &found["common"];
    assert!(
        common["first"].as_str().unwrap() >= "2019-01-01",
        "{common}"
    );
    assert_eq!(common["correlation"][0][0], 1.0, "{common}");
    // The first two are of one project, and the third one has other files.
    let source = &found["source"];
    assert!(
        source["compared"]
            .as_str()
            .unwrap()
            .contains("as they are now"),
        "{source}"
    );
    assert_eq!(source["differences"][1], Value::Null, "{source}");
    let files = source["differences"][2]["files"].as_array().unwrap();
    let changed = |name: &str| files.iter().find(|file| file["name"] == name).unwrap();
    assert_eq!(changed("main.py")["change"], "changed", "{source}");
    assert_eq!(changed("parity.py")["change"], "added", "{source}");
}

#[test]
fn without_the_grant_to_read_backtests_nothing_is_compared_or_reported() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let ids = ["a", "b"].map(|name| backtest(&folder, "Lab/one", name, &json!({})));
    let whole = strategy_lab();
    let without = whole.replace("    \"backtests/read-*\",\n", "");
    assert_ne!(without, whole);
    folder.manifest("strategy-lab", &without);
    let before = cloud.requests_to("/backtests/read").len();
    for (action, input) in [
        ("compare", json!({ "project": "Lab/one", "backtests": ids })),
        (
            "report",
            json!({ "project": "Lab/one", "backtest": ids[0] }),
        ),
    ] {
        let ran = folder.run(&[
            "invoke",
            &format!("strategy-lab.{action}"),
            &input.to_string(),
        ]);
        assert_eq!(ran.status.code(), Some(3), "{ran:?}");
        assert!(ran.stderr.contains("backtests/read-backtest"), "{ran:?}");
    }
    assert_eq!(cloud.requests_to("/backtests/read").len(), before);
    assert!(cloud.requests_to("/backtests/chart/read").is_empty());
}

#[test]
fn a_report_shows_the_equity_that_the_cloud_gives_and_hostile_names_as_text() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let id = backtest(
        &folder,
        "Lab/one",
        HOSTILE,
        &json!({ "start": "2020-01-01", "end": "2020-12-31" }),
    );
    let page = report(&folder, &json!({ "project": "Lab/one", "backtest": id }));
    assert!(page.contains("Report on &lt;img src=x"), "{page}");
    assert!(!page.contains("<img"), "{page}");
    let project = &folder.call("list_projects", &json!({}))["projects"][0]["projectId"];
    let request = json!({
        "projectId": project, "backtestId": id, "name": "Strategy Equity", "count": 10_000, "start": 0, "end": 2_000_000_000,
    });
    let chart = folder.call("read_backtest_chart", &request);
    let points = chart["chart"]["series"]["Equity"]["values"]
        .as_array()
        .unwrap();
    assert!(points.len() > 200, "{chart}");
    let (_, table) = page.split_once("<table id=\"equity-data\">").unwrap();
    let (table, _) = table.split_once("</table>").unwrap();
    let rows: Vec<&str> = table.split("<tr>").skip(2).collect();
    assert_eq!(rows.len(), points.len());
    for (row, point) in rows.iter().zip(points) {
        let equity = point[1].as_f64().unwrap();
        assert!(
            row.contains(&format!("<td>{equity:.2}</td>")),
            "{row}: {point}"
        );
    }
    let text = report(
        &folder,
        &json!({ "project": "Lab/one", "format": "markdown" }),
    );
    assert!(text.starts_with("# Report on \\<img src\\=x"), "{text}");
}

#[test]
fn a_report_goes_to_the_object_store_only_by_its_grant_and_below_its_folder() {
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let id = backtest(&folder, "Lab/one", "kept", &json!({}));
    let input = |key: &str| json!({ "project": "Lab/one", "backtest": id, "key": key });
    let written = folder.invoke("strategy-lab.report", &input("reports/one.html"));
    assert_eq!(written["report"], Value::Null, "{written}");
    let project = &written["project_id"];
    let read = json!({ "projectId": project, "backtestId": id });
    let organization = folder.call("read_backtest", &read)["backtest"]["organizationId"].clone();
    let object = json!({ "organizationId": organization, "key": "reports/one.html" });
    let properties = folder.call("read_object_properties", &object);
    assert_eq!(
        properties["metadata"]["size"], written["bytes"],
        "{properties}"
    );

    let refused = |key: &str| {
        let ran = folder.run(&["invoke", "strategy-lab.report", &input(key).to_string()]);
        assert_eq!(ran.status.code(), Some(3), "{ran:?}");
        assert!(ran.stderr.contains("object-store/upload-object"), "{ran:?}");
        assert_eq!(cloud.requests_to("/object/set").len(), 1);
    };
    refused("elsewhere/one.html");
    let whole = strategy_lab();
    let without = whole.replace(REPORTS, "allow = []\n");
    assert_ne!(without, whole);
    // A grant that allows nothing is none.
    let without = without.replace(
        "allow = []\n",
        "allow = [\"object-store/list-object-store-files\"]\n",
    );
    folder.manifest("strategy-lab", &without);
    refused("reports/two.html");
    // In the answer it needs no grant.
    assert!(report(&folder, &json!({ "project": "Lab/one" })).starts_with("<!DOCTYPE html>"));
}

#[test]
fn a_browser_shows_a_report_without_script_request_or_overflow_on_any_screen() {
    if !has_program("chromium") {
        return;
    }
    let cloud = Cloud::start();
    let folder = lab(&cloud);
    let grid = json!({ "fast": [10, 20, 30], "slow": [100, 150] });
    let swept = folder.invoke(
        "strategy-lab.sweep",
        &json!({ "project": "Lab/swept", "grid": grid }),
    );
    assert_eq!(swept["failures"], json!([]), "{swept}");
    let input = json!({
        "project": "Lab/swept",
        "heat_map": {},
        "walk_forward": { "kind": "rolling", "in_sample_days": 700, "out_of_sample_days": 180 },
    });
    let page = folder.path().join("report.html");
    std::fs::write(&page, report(&folder, &input)).unwrap();
    let visits = visits(&page);
    assert_eq!(visits.len(), 4);
    for visit in visits {
        assert_eq!(visit["scripts"], 0, "{visit}");
        assert_eq!(visit["requests"], json!([]), "{visit}");
        // It complains of what the page's policy forbids, such as a style that is not the one of the hash.
        assert_eq!(visit["complaints"], json!([]), "{visit}");
        assert_eq!(visit["width"], visit["viewport"], "{visit}");
        assert_eq!(visit["drawings"], 5, "{visit}");
        assert_eq!(visit["outside"], 0, "{visit}");
        assert!(visit["contrast"].as_f64().unwrap() >= 4.5, "{visit}");
        assert!(visit["letters"].as_f64().unwrap() >= 11.0, "{visit}");
    }
    // The check can fail: a page with a script, a request and an overflow.
    let bad = "<!DOCTYPE html><body style=\"color: #ccc; background: #fff\"><p style=\"width: 3000px\">x</p>\
               <img src=\"missing.png\"><script>1</script>";
    std::fs::write(&page, bad).unwrap();
    let visits = self::visits(&page);
    let visit = &visits[0];
    assert_eq!(visit["scripts"], 1, "{visit}");
    assert_eq!(visit["requests"].as_array().unwrap().len(), 1, "{visit}");
    assert!(
        visit["width"].as_f64() > visit["viewport"].as_f64(),
        "{visit}"
    );
    assert!(visit["contrast"].as_f64().unwrap() < 4.5, "{visit}");
}

/// What a browser finds in a page, for each size and scheme of colors.
fn visits(page: &Path) -> Vec<Value> {
    let ran = Command::new("python3")
        .arg(repository("host/cli/tests/setup/page.py"))
        .arg(page)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    serde_json::from_slice(&ran.stdout).unwrap()
}
