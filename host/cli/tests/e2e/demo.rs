//! `qchost demo`: everything in one command.

use serde_json::Value;

use crate::common::{Folder, component, repository};

const COLUMNS: [&str; 7] = [
    "RANK",
    "FAST",
    "SLOW",
    "SHARPE",
    "NET PROFIT",
    "DRAWDOWN",
    "ORDERS",
];

fn folder() -> (Folder, String) {
    component("plugins/strategy-lab");
    let manifest = repository("plugins/strategy-lab/manifest.toml");
    // The demo needs no configuration and no credentials.
    (Folder::new(""), manifest.display().to_string())
}

/// What must be the same each time: the ranking without the ids from the cloud.
fn numbers(result: &Value) -> Vec<Value> {
    let mut rows = result["ranking"]["ranking"].as_array().unwrap().clone();
    for row in &mut rows {
        row.as_object_mut().unwrap().remove("backtest_id");
    }
    rows
}

#[test]
fn ends_with_a_ranking_by_sharpe_ratio_and_twice_with_the_same() {
    let (folder, manifest) = folder();
    let run = || {
        folder
            .run(&["--json", "demo", "--manifest", &manifest])
            .json()
    };
    let result = run();
    let rows = numbers(&result);
    assert!(rows.len() >= 9, "{result}");
    let mut former = f64::INFINITY;
    for (row, rank) in rows.iter().zip(1_u64..) {
        assert_eq!(row["rank"], rank);
        let sharpe = row["sharpe_ratio"].as_f64().unwrap();
        assert!(sharpe <= former, "not ranked: {rows:#?}");
        former = sharpe;
        assert!(
            row["net_profit"].is_f64() && row["drawdown"].is_f64(),
            "{row}"
        );
        let parameters = row["parameters"].as_object().unwrap();
        assert_eq!(parameters.keys().collect::<Vec<_>>(), ["fast", "slow"]);
    }
    let distinct: std::collections::BTreeSet<_> = rows
        .iter()
        .map(|row| row["sharpe_ratio"].to_string())
        .collect();
    assert!(
        distinct.len() > 1,
        "the parameters change nothing: {rows:#?}"
    );
    assert_eq!(result["ranking"]["failures"], serde_json::json!([]));
    assert!(result["seconds"].as_f64().unwrap() > 0.0);

    assert_eq!(rows, numbers(&run()));
}

#[test]
fn prints_a_table_with_aligned_columns_and_the_time_it_took() {
    let (folder, manifest) = folder();
    let ran = folder.run(&["demo", "--manifest", &manifest]);
    let text = &ran.good().stdout;
    let mut lines = text.lines();
    let header = lines.next().unwrap();
    for column in COLUMNS {
        assert!(header.contains(column), "{text}");
    }
    let rows: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(rows.len() >= 9, "{text}");
    // Every column has numbers, right-aligned with its title.
    for column in COLUMNS {
        let end = header.find(column).unwrap() + column.len();
        for row in &rows {
            let cell = row.get(..end).unwrap_or_else(|| panic!("{column}: {text}"));
            let last = cell.chars().last().unwrap();
            assert!(
                last.is_ascii_digit() || last == '%',
                "{column} is not aligned:\n{text}"
            );
            assert!(
                row[end..].is_empty() || row[end..].starts_with(' '),
                "{column} is not aligned:\n{text}"
            );
        }
    }
    let last = lines.next().unwrap();
    assert!(
        last.starts_with(&format!("{} backtests in ", rows.len())) && last.contains(" s, "),
        "{text}"
    );
    assert!(last.contains("not LEAN"), "{text}");
}

#[test]
fn a_component_that_is_not_built_is_an_error_with_the_line_that_builds_it() {
    let folder = Folder::new("");
    let text = std::fs::read_to_string(repository("plugins/strategy-lab/manifest.toml")).unwrap();
    let manifest = folder.manifest("strategy-lab", &text);
    let ran = folder.run(&["demo", "--manifest", manifest.to_str().unwrap()]);
    let error = ran.error();
    assert!(
        error.contains("strategy_lab.wasm is not built; run: qchost plugin build "),
        "{error}"
    );
}
