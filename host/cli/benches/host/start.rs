//! How soon a host with a hundred plugins is ready, with and without compiled components in its cache, and how much
//! memory it takes when it idles.

use std::time::Duration;

use crate::plugins::{built, version};
use crate::running::Folder;
use crate::support::{Report, Target, median, resident};

const PLUGINS: u32 = 100;

pub fn run() {
    let report = Report::new("start");
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

    let folder = Folder::new("");
    for name in bundled() {
        let plugin = format!("plugins/{name}");
        folder.component(&name.replace('-', "_"), &built(&plugin));
        let manifest = format!(
            "{}/../../{plugin}/manifest.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        folder.manifest(&name, &std::fs::read_to_string(manifest).unwrap());
    }
    for state in ["just compiled", "from the cache"] {
        let host = folder.start();
        std::thread::sleep(Duration::from_secs(3));
        let megabytes = resident(host.id()) as f64 / 1e6;
        let what = format!("memory of the idle host with the bundled plugins, {state}");
        report.row(&what, "MB", megabytes, None, Target::Most(40.0));
    }
}

/// The plugins that come with the host.
fn bundled() -> Vec<String> {
    let folder = format!("{}/../../plugins", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
