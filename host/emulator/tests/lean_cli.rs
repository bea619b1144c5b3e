//! QuantConnect's own command line, `lean`, against the emulator: it logs in, pushes and pulls
//! a project, runs backtests and an optimization, and keeps objects.
//!
//! The command is `.venv/lean/bin/lean` of the repository, or what `QCHOST_TEST_LEAN` names.
//! Under `QC_API=local` it talks to port 5612 and to no other, so the tests of this file run one
//! at a time and need that port.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qchost_emulator::{Emulator, Timing};
use tempfile::TempDir;
use tokio::process::Command;

/// Of one command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

const ALGORITHM: &str = "from AlgorithmImports import *


class Crossover(QCAlgorithm):

    def initialize(self):
        self.set_start_date(2022, 1, 1)
        self.set_end_date(2022, 12, 31)
        self.set_cash(100_000)
        self.spy = self.add_equity('SPY', Resolution.DAILY).symbol
        self.fast = self.sma(self.spy, self.get_parameter('fast', 10))
        self.slow = self.sma(self.spy, self.get_parameter('slow', 30))

    def on_data(self, data):
        if self.fast.current.value > self.slow.current.value:
            self.set_holdings(self.spy, 1)
        else:
            self.liquidate(self.spy)
";

fn lean() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = std::env::var_os("QCHOST_TEST_LEAN")
        .map_or_else(|| root.join(".venv/lean/bin/lean"), PathBuf::from);
    assert!(
        path.is_file(),
        "QuantConnect's command line is not at {}: install it with `make setup-test`",
        path.display()
    );
    path.canonicalize().unwrap()
}

/// An emulator at the fixed port, a home for the command line's settings and a directory to
/// work in.
struct Desk {
    emulator: Emulator,
    home: TempDir,
    _port: File,
}

impl Desk {
    async fn new() -> Self {
        // There is one such port, and tests run in many threads and processes.
        let port = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("port-5612")).unwrap();
        port.lock().unwrap();
        let start = || {
            Emulator::builder()
                .credentials(77, "lean-test")
                .derived_data(true)
                .timing(Timing::default().faster(5))
                .start()
        };
        // The test before this one may release the port shortly after it releases the lock.
        let begun = Instant::now();
        let emulator = loop {
            match start().await {
                Ok(emulator) => break emulator,
                Err(error) => assert!(
                    begun.elapsed() < Duration::from_secs(30),
                    "port 5612 must be free: the lean command talks to no other: {error:?}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let home = TempDir::new().unwrap();
        let write = |name: &str, content: String| {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        // What `lean init` would write, had it the network to fetch its sample data.
        let organization = emulator.organization_id();
        write(
            "work/lean.json",
            format!(r#"{{"organization-id": "{organization}", "data-folder": "data"}}"#),
        );
        // So that it does not ask the network for news of itself.
        let now = jiff::Timestamp::now().as_second();
        write(
            ".lean/cache",
            format!(
                r#"{{"last-update-check-cli": {now}, "last-update-check-announcements": {now}}}"#
            ),
        );
        Self {
            emulator,
            home,
            _port: port,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("work").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Runs the command: whether it succeeded, and all that it printed.
    async fn try_lean(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(lean())
            .args(arguments)
            .current_dir(self.path(""))
            .env("HOME", self.home.path())
            .env("QC_API", "local")
            .env("COLUMNS", "160")
            .env("NO_PROXY", "localhost")
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_TIMEOUT, output)
            .await
            .unwrap_or_else(|_| panic!("lean {arguments:?} does not come to its end"))
            .unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }

    async fn lean(&self, arguments: &[&str]) -> String {
        let (success, text) = self.try_lean(arguments).await;
        assert!(success, "lean {arguments:?}: {text}");
        text
    }

    async fn login(&self) {
        let token = self.emulator.token().to_owned();
        let user = self.emulator.user_id().to_string();
        let text = self
            .lean(&["login", "--user-id", &user, "--api-token", &token])
            .await;
        assert!(text.contains("Successfully logged in"), "{text}");
    }

    /// A project in the directory, pushed to the emulator.
    async fn pushed(&self) {
        self.login().await;
        self.write(
            "Crossover/config.json",
            r#"{"algorithm-language": "Python", "parameters": {"fast": "5"}, "description": "d"}"#,
        );
        self.write("Crossover/main.py", ALGORITHM);
        self.write("Crossover/lib/__init__.py", "");
        let text = self
            .lean(&["cloud", "push", "--project", "Crossover"])
            .await;
        assert!(
            text.contains("Successfully created cloud project 'Crossover'"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_logs_in_with_the_right_token_only() {
    let desk = Desk::new().await;
    let wrong = ["login", "--user-id", "77", "--api-token", "wrong"];
    let (success, text) = desk.try_lean(&wrong).await;
    assert!(
        !success && text.contains("Credentials are invalid"),
        "{text}"
    );
    desk.login().await;
    let text = desk.lean(&["whoami"]).await;
    assert!(text.contains("logged in as Emulator"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_pushes_a_project_and_pulls_it_again() {
    let desk = Desk::new().await;
    desk.pushed().await;
    std::fs::remove_dir_all(desk.path("Crossover")).unwrap();
    let text = desk
        .lean(&["cloud", "pull", "--project", "Crossover"])
        .await;
    assert!(!text.contains("Cannot pull"), "{text}");
    let pulled = std::fs::read_to_string(desk.path("Crossover/main.py")).unwrap();
    assert_eq!(pulled, ALGORITHM);
    assert!(desk.path("Crossover/lib/__init__.py").is_file());
    // The push replaced what a new project comes with.
    assert!(!desk.path("Crossover/research.ipynb").exists());
    let config = std::fs::read_to_string(desk.path("Crossover/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["parameters"]["fast"], "5");
    assert_eq!(config["description"], "d");
    assert_eq!(config["cloud-id"], 20_000_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_a_backtest_to_its_statistics() {
    let desk = Desk::new().await;
    desk.pushed().await;
    let text = desk
        .lean(&["cloud", "backtest", "Crossover", "--name", "Trial"])
        .await;
    assert!(text.contains("Build Request Successful"), "{text}");
    for statistic in [
        "Sharpe Ratio",
        "Net Profit",
        "Drawdown",
        "Total Orders",
        "Equity",
    ] {
        assert!(text.contains(statistic), "{text}");
    }
    assert!(text.contains("Backtest name: Trial"), "{text}");
    let asked = desk.emulator.requests_to("/backtests/read");
    assert!(asked.len() > 1, "the backtest was complete at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_where_an_algorithm_fails() {
    let desk = Desk::new().await;
    desk.pushed().await;
    desk.write("Crossover/main.py", "class Broken(\n");
    let push = ["cloud", "backtest", "Crossover", "--push"];
    let (success, text) = desk.try_lean(&push).await;
    assert!(!success, "{text}");
    assert!(text.contains("Build Error: File: main.py Line:"), "{text}");
    let failing = ALGORITHM.replace("self.set_cash(100_000)", "self.set_cash(1 / 0)");
    desk.write("Crossover/main.py", &failing);
    let (_, text) = desk.try_lean(&push).await;
    assert!(
        text.contains("An error occurred during this backtest"),
        "{text}"
    );
    assert!(text.contains("division by zero"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_an_optimization() {
    let desk = Desk::new().await;
    desk.pushed().await;
    let text = desk
        .lean(&[
            "cloud",
            "optimize",
            "Crossover",
            "--target",
            "Sharpe Ratio",
            "--target-direction",
            "max",
            "--parameter",
            "fast",
            "5",
            "10",
            "5",
            "--parameter",
            "slow",
            "20",
            "40",
            "20",
            "--constraint",
            "Drawdown < 99",
            "--node",
            "O2-8",
            "--parallel-nodes",
            "2",
        ])
        .await;
    assert!(text.contains("Optimal parameters"), "{text}");
    let created = desk.emulator.requests_to("/optimizations/create");
    assert_eq!(created.len(), 1);
    assert_eq!(created[0].body["parameters"][1]["key"], "slow");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_objects() {
    let desk = Desk::new().await;
    desk.login().await;
    let store = ["cloud", "object-store"];
    let with = |rest: &[&'static str]| [&store[..], rest].concat();
    desk.write("model.bin", "the model\n");
    desk.lean(&with(&["set", "models/one", "model.bin"])).await;
    let text = desk.lean(&with(&["list", "/"])).await;
    assert!(text.contains("/models"), "{text}");
    let text = desk.lean(&with(&["list", "/models"])).await;
    assert!(text.contains("/models/one"), "{text}");
    let text = desk.lean(&with(&["properties", "models/one"])).await;
    assert!(text.contains("the model"), "{text}");
    let read = ["get", "models/one", "--destination-folder", "read"];
    desk.lean(&with(&read)).await;
    let content = std::fs::read_to_string(desk.path("read/models/one")).unwrap();
    assert_eq!(content, "the model\n");
    desk.lean(&with(&["delete", "models/one"])).await;
    let (success, text) = desk.try_lean(&with(&["properties", "models/one"])).await;
    assert!(!success && text.contains("Object not found"), "{text}");
    let text = desk.lean(&with(&["list", "/"])).await;
    assert!(text.contains("No objects found"), "{text}");
}
