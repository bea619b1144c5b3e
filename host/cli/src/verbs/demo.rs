//! `qchost demo`: everything once, on an emulated QuantConnect in this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::geteuid;
use qchost_policy::Manifest;
use qchost_runtime::Target;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{self, Config, Connection, EMULATOR};
use crate::control;
use crate::host::Host;
use crate::lock::Lock;
use crate::output::{Output, table};

const FAST: [u32; 3] = [10, 20, 30];
const SLOW: [u32; 4] = [60, 100, 150, 200];

/// Sweeps the bundled strategy and prints the ranking.
pub async fn run(manifest: &Path, output: Output) -> Result<()> {
    let begun = Instant::now();
    ensure!(
        manifest.try_exists().unwrap_or(true),
        "there is no {}; run this in the folder of the host's sources, or name the manifest of strategy-lab: --manifest FILE",
        config::full(manifest).display()
    );
    let manifest = Manifest::load(manifest)?;
    ensure!(
        manifest.component.is_file(),
        "{} is not built; run: qchost plugin build {}",
        manifest.component.display(),
        manifest
            .component
            .parent()
            .unwrap_or(Path::new("."))
            .display()
    );
    let state = tempfile::tempdir().context("cannot make a folder for the demo's state")?;
    let emulated = Connection::Embedded {
        cloud: EMULATOR.to_owned(),
        credentials_file: None,
        seed: None,
        derived_data: false,
    };
    let config = Config {
        plugins: Some(state.path().to_owned()),
        data: Some(state.path().to_owned()),
        account: BTreeMap::from([(manifest.account.clone(), emulated.into())]),
        ..Config::default()
    };
    let lock = Lock::take(state.path()).map_err(|it| control::refused(state.path(), it))?;
    let host = Host::open(&config, lock).await?;
    let plugin = host.runtime.load(manifest).await?;
    let input = json!({
        "project": "Lab/demo",
        "grid": { "fast": FAST, "slow": SLOW },
        "target": "Sharpe Ratio",
    });
    let mut display = output.progress();
    let swept = host
        .invoke(
            geteuid().as_raw(),
            &Target::new(plugin.name(), "sweep"),
            input,
            None,
            |progress| display.report(progress),
        )
        .await;
    display.done();
    host.close(Duration::from_secs(5)).await;
    let result = DemoResult {
        ranking: swept?,
        seconds: begun.elapsed().as_secs_f64(),
    };
    output.result(&result, text)?;
    let failures = result
        .ranking
        .get("failures")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    if failures > 0 {
        bail!("{failures} backtests failed");
    }
    Ok(())
}

/// The result of the demo.
#[derive(Serialize, JsonSchema)]
pub struct DemoResult {
    /// What the plugin returned.
    ranking: Value,
    seconds: f64,
}

fn text(result: &DemoResult) -> String {
    let cell = |row: &Value, path: &str, digits: usize, factor: f64| {
        row.pointer(path)
            .and_then(Value::as_f64)
            .map_or("-".to_owned(), |value| {
                format!("{:.digits$}", value * factor)
            })
    };
    let parameter = |row: &Value, path: &str| {
        let text = row.pointer(path).and_then(Value::as_str);
        text.unwrap_or("-").to_owned()
    };
    let rows: Vec<Vec<String>> = result
        .ranking
        .pointer("/ranking")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|row| {
            vec![
                cell(row, "/rank", 0, 1.0),
                parameter(row, "/parameters/fast"),
                parameter(row, "/parameters/slow"),
                cell(row, "/sharpe_ratio", 3, 1.0),
                cell(row, "/net_profit", 2, 100.0) + "%",
                cell(row, "/drawdown", 2, 100.0) + "%",
                cell(row, "/orders", 0, 1.0),
            ]
        })
        .collect();
    let seconds = result.seconds;
    format!(
        "{}\n\n{} backtests in {seconds:.1} s, on the emulator's model of prices and fills: not LEAN, not real data.",
        table(
            &[
                "rank",
                "fast",
                "slow",
                "sharpe",
                "net profit",
                "drawdown",
                "orders"
            ],
            &rows
        ),
        rows.len()
    )
}
