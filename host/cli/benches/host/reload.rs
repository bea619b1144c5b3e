//! From the renaming of a component's file to the first answer of the new version. Every version has other bytes, so
//! that each is compiled.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::plugins::version;
use crate::running::{BOUND, Folder};
use qchost_testing::measure::median;
use qchost_testing::report::{Report, Target};

/// Between two questions which version it is.
const PAUSE: Duration = Duration::from_millis(2);

pub fn run() {
    let report = Report::new(env!("CARGO_TARGET_TMPDIR"), "reload");
    for (compiler, more, small, large) in [
        ("Cranelift", "", 150.0, 2000.0),
        (
            "the baseline compiler",
            "[engine]\nbaseline = true\n",
            60.0,
            400.0,
        ),
    ] {
        for (bytes, rounds, target) in [(100_000, 15, small), (1_800_000, 7, large)] {
            let (took, size) = reload(more, bytes, rounds);
            let what = format!("reload of a component of {} KB, {compiler}", size / 1000);
            report.row(&what, "ms", took, None, Target::Most(target));
        }
    }
}

/// The middle of some reloads in milliseconds, and the size of the component.
fn reload(more: &str, bytes: usize, rounds: u32) -> (f64, usize) {
    let folder = Folder::new(more);
    let first = version(10, bytes, 0);
    folder.plugin("changing", &first);
    let host = folder.start();
    let mut times = Vec::new();
    for round in 1..=rounds {
        let wanted = 10 + round % 2;
        let next = version(wanted, bytes, round);
        // What the former round left to do is done by now.
        std::thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        folder.component("changing", &next);
        loop {
            let answer = host.invoke("changing.act");
            match answer {
                Ok(version) if version == json!(wanted) => break,
                Ok(_) => {}
                Err(error) => panic!("{error}: {}", folder.log()),
            }
            assert!(
                begun.elapsed() < BOUND,
                "it is not reloaded: {}",
                folder.log()
            );
            std::thread::sleep(PAUSE);
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    (median(times), first.len())
}
