//! strategy-lab judges backtests by what they gave and by the host's count of trials.

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{Folder, strategy_lab};

const COUNTED_BY: &str = "    \"optimizations/list-optimizations\",\n";

/// A folder with the plugin, and a project with the six backtests of a sweep.
fn swept(cloud: &Cloud) -> (Folder, Value) {
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &strategy_lab());
    let sweep =
        json!({ "project": "Lab/judged", "grid": { "fast": [10, 20, 30], "slow": [100, 150] } });
    let swept = folder.invoke("strategy-lab.sweep", &sweep);
    assert_eq!(swept["failures"], json!([]), "{swept}");
    (folder, swept)
}

fn judge(folder: &Folder) -> Value {
    folder.invoke(
        "strategy-lab.robustness",
        &json!({ "project": "Lab/judged" }),
    )
}

#[test]
fn the_best_of_a_sweep_is_judged_by_all_of_its_backtests_and_the_host_s_count() {
    let cloud = Cloud::start();
    let (folder, swept) = swept(&cloud);
    let found = judge(&folder);
    let ranking = swept["ranking"].as_array().unwrap();
    let of_best = |row: &&Value| row["value"] == ranking[0]["value"];
    let mut best = ranking
        .iter()
        .filter(of_best)
        .map(|row| &row["backtest_id"]);
    assert!(best.any(|id| *id == found["backtest_id"]), "{found}");
    assert_eq!(found["compared"].as_array().unwrap().len(), 6, "{found}");
    assert_eq!(found["trials"], 6, "{found}");
    assert_eq!(found["inherited_trials"], 0, "{found}");
    assert_eq!(
        found["returns"]["first"].as_str().unwrap().len(),
        10,
        "{found}"
    );
    assert!(
        found["returns"]["observations"].as_u64().unwrap() > 1_000,
        "{found}"
    );
    assert_eq!(found["overfitting"]["strategies"], 6, "{found}");
    assert_eq!(found["overfitting"]["combinations"], 12_870, "{found}");
    let probability = |figure: &Value| figure.as_f64().is_some_and(|it| (0.0..=1.0).contains(&it));
    for figure in [
        &found["probabilistic_sharpe_ratio"],
        &found["deflated_sharpe_ratio"],
        &found["overfitting"]["probability"],
    ] {
        assert!(probability(figure), "{found}");
    }
    assert!(
        !found["walk_forward"]["windows"]
            .as_array()
            .unwrap()
            .is_empty(),
        "{found}"
    );
    assert_eq!(judge(&folder), found, "the same seed gave something else");

    // A trial more counts, whatever the caller compares.
    let again = json!({ "project": "Lab/judged", "parameters": { "fast": 12 } });
    folder.invoke("strategy-lab.backtest", &again);
    let named = json!({ "project": "Lab/judged", "backtests": found["compared"] });
    let found = folder.invoke("strategy-lab.robustness", &named);
    assert_eq!(found["trials"], 7, "{found}");
    assert_eq!(found["overfitting"]["strategies"], 6, "{found}");
}

#[test]
fn without_the_grants_by_which_trials_are_counted_nothing_is_judged() {
    let cloud = Cloud::start();
    let (folder, _) = swept(&cloud);
    let whole = strategy_lab();
    let without = whole.replace(COUNTED_BY, "");
    assert_ne!(without, whole);
    folder.manifest("strategy-lab", &without);
    let input = json!({ "project": "Lab/judged" }).to_string();
    let ran = folder.run(&["invoke", "strategy-lab.robustness", &input]);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert!(
        ran.stderr.contains("optimizations/list-optimizations"),
        "{ran:?}"
    );
    assert!(cloud.requests_to("/backtests/chart/read").is_empty());
    assert!(cloud.requests_to("/optimizations/list").is_empty());
}
