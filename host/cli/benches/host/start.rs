//! How soon a host with a hundred plugins is ready, with and without compiled components in its cache, and how much
//! memory it takes when it idles: before it did anything, and after some work.

use std::path::Path;

use qchost_emulator::{Emulator, Timing};
use serde_json::json;

use crate::plugins::{built, version};
use crate::running::{Folder, Running};
use qchost_testing::measure::{median, resident};
use qchost_testing::plugins_in;
use qchost_testing::report::{Report, Target};

const PLUGINS: u32 = 100;
/// Invocations before a host idles again.
const INVOCATIONS: u32 = 300;

pub fn run() {
    let report = Report::new(env!("CARGO_TARGET_TMPDIR"), "start");
    let folder = Folder::new("");
    for number in 0..PLUGINS {
        folder.plugin(
            &format!("plugin-{number}"),
            &version(number % 90, 260_000, number),
        );
    }
    let cold = folder.start().took;
    let what = format!("start with {PLUGINS} plugins of 260 KB each, nothing compiled before");
    report.row(&what, "s", cold.as_secs_f64(), None, Target::None);
    let cached: Vec<f64> = (0..5).map(|_| folder.start().took.as_secs_f64()).collect();
    let what = format!("start with {PLUGINS} plugins of 260 KB each, all in the cache");
    report.row(&what, "s", median(cached), None, Target::Most(1.0));

    let tokio = tokio::runtime::Runtime::new().unwrap();
    let cloud = Emulator::builder()
        .any_port()
        .timing(Timing::default().faster(100))
        .log_capacity(10)
        .start();
    let cloud = tokio.block_on(cloud).unwrap();
    let folder = Folder::with_cloud(&cloud);
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    // In place of the folders that their manifests grant.
    let granted = tempfile::TempDir::new().unwrap();
    for name in plugins_in(&bundled) {
        let plugin = format!("plugins/{name}");
        folder.component(&name.replace('-', "_"), &built(&plugin));
        let manifest = format!(
            "{}/../../{plugin}/manifest.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        let manifest = std::fs::read_to_string(manifest).unwrap();
        let place = granted.path().to_str().unwrap();
        folder.manifest(
            &name,
            &manifest
                .replace("/srv/algorithms", place)
                .replace("/srv/data", place),
        );
    }
    let idle = |host: &Running, state: &str| {
        host.idle();
        let megabytes = resident(host.id()) as f64 / 1e6;
        let what = format!("memory of the idle host with the bundled plugins, {state}");
        report.row(&what, "MB", megabytes, None, Target::Most(40.0));
    };
    idle(&folder.start(), "just compiled");
    let host = folder.start();
    idle(&host, "from the cache");
    work(&host);
    idle(
        &host,
        &format!("after {INVOCATIONS} invocations and some calls"),
    );
}

/// Has a plugin make a project in the cloud and compile it, and then has it refuse many inputs, for which it runs each
/// time.
fn work(host: &Running) {
    let source = include_str!(
        "../../../../plugins/strategy-lab/strategies/moving-average-crossover/main.py"
    );
    let built = host.invoke_with("strategy-lab.compile", json!({ "source": source }));
    assert_eq!(built.unwrap()["success"], json!(true));
    for _ in 0..INVOCATIONS {
        let refused = host.invoke("strategy-lab.compile").unwrap_err();
        assert!(refused.contains("give a `project`"), "{refused}");
    }
}
