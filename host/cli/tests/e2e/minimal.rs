//! The manifests of bundled plugins grant no more than is needed: without any one line, something does not work.

use crate::common::Folder;
use crate::process::Ran;

/// Checks that a tour of a plugin ends well with its manifest, and does not without any one of its lines. Empty lines
/// and comments do not count.
///
/// A tour is given a manifest, begins from nothing, and uses all that the plugin can do. It returns what did not work.
pub fn assert_minimal(manifest: &str, tour: impl Fn(&str) -> Result<(), String>) {
    if let Err(error) = tour(manifest) {
        panic!("the whole manifest is not enough: {error}");
    }
    let lines: Vec<&str> = manifest.lines().collect();
    let mut needed = 0;
    for (at, line) in lines.iter().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let others = lines.iter().enumerate().filter(|(other, _)| *other != at);
        let without: String = others.map(|(_, line)| format!("{line}\n")).collect();
        let ended = tour(&without);
        assert!(ended.is_err(), "nothing needs line {}: {line}", at + 1);
        needed += 1;
    }
    assert!(needed > 3, "{manifest}");
}

/// A step of a tour: what it printed, or its error.
pub fn step(folder: &Folder, arguments: &[&str]) -> Result<serde_json::Value, String> {
    let ran = folder.run(&[&["--json"], arguments].concat());
    if !ran.status.success() {
        return Err(shown(&ran));
    }
    serde_json::from_str(&ran.stdout).map_err(|error| format!("{error}: {}", shown(&ran)))
}

/// A step of a tour that has to fail: its error. What it failed by is for the tour to check.
pub fn failing_step(folder: &Folder, arguments: &[&str]) -> Result<String, String> {
    let ran = folder.run(&[&["--json"], arguments].concat());
    if ran.status.success() {
        return Err(format!("it did not fail: {}", shown(&ran)));
    }
    Ok(ran.stderr)
}

/// Makes a tour end if something is not as it should be.
pub fn check(holds: bool, what: impl std::fmt::Debug) -> Result<(), String> {
    if holds {
        return Ok(());
    }
    Err(format!("{what:?}"))
}

fn shown(ran: &Ran) -> String {
    format!("{:?} {} {}", ran.status, ran.stdout, ran.stderr)
}
