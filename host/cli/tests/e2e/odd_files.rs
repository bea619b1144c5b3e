//! Special files in the place of a manifest, guardrails or the configuration: they are reported, and the host
//! keeps following the other files.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use serde_json::Value;

use crate::common::Folder;
use crate::guests::version;
use crate::process::wait_until;
use crate::running::{Running, plugin};
use crate::socket::Answer;

/// Time limit for checking the files; a host that read a pipe to its end would never answer.
const LOOK: Duration = Duration::from_secs(30);

fn pipe(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Has the host check every file, and returns what it reports for each.
fn told(running: &Running) -> Vec<Value> {
    let asked = running.folder.start(&["--json", "reload"]);
    let ran = asked.wait_for(LOOK);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A folder with everything that may have been put there by mistake, and the report for each.
fn fill(folder: &Path) -> [(&'static str, &'static str); 5] {
    pipe(&folder.join("pipe.toml"));
    symlink("/dev/zero", folder.join("endless.toml")).unwrap();
    symlink("nowhere", folder.join("dangling.toml")).unwrap();
    drop(UnixListener::bind(folder.join("socket.toml")).unwrap());
    let large = File::create(folder.join("large.toml")).unwrap();
    large.set_len(1 << 40).unwrap();
    [
        ("pipe.toml", "no regular file"),
        ("endless.toml", "no regular file"),
        ("dangling.toml", "No such file"),
        ("socket.toml", "No such device"),
        ("large.toml", "more than 1 MiB"),
    ]
}

#[test]
fn a_manifest_that_is_no_text_file_keeps_no_other_from_being_followed() {
    let running = Running::with_lab(&version(1), "");
    let odd = fill(&running.path("plugins"));
    fs::remove_file(running.path("plugins/lab.toml")).unwrap();
    let gone = running.until("lab", |answer| matches!(answer, Answer::Failed(_)));
    assert!(gone < LOOK, "it took {gone:?}");
    let said = told(&running);
    for (file, why) in odd {
        let detail = |row: &Value| Some(row["detail"].as_str()?.to_owned());
        let details: Vec<_> = said.iter().filter_map(detail).collect();
        let named = |detail: &&String| detail.contains(file) && detail.contains(why);
        assert_eq!(details.iter().filter(named).count(), 1, "{file}: {said:?}");
    }
    plugin(&running.folder, "lab", &version(2), "");
    running.until_version("lab", 2);
    running.end();
}

#[test]
fn a_host_starts_beside_what_is_no_manifest() {
    let running = Running::start("", |folder: &Folder| {
        fill(&folder.path().join("plugins"));
        plugin(folder, "lab", &version(1), "");
    });
    running.is_version("lab", 1);
    running.end();
}

#[test]
fn a_policy_or_configuration_that_is_no_text_file_leaves_the_former_in_force() {
    let running = Running::start("", |folder| {
        plugin(folder, "lab", &version(1), "");
        plugin(folder, "other", &version(1), "");
        fs::create_dir(folder.path().join("policies")).unwrap();
    });
    for (name, plugin) in [("policies/desk.cedar", "lab"), ("qchost.toml", "other")] {
        let (file, beside) = (running.path(name), running.path("beside"));
        let former = fs::read(&file).ok();
        pipe(&beside);
        fs::rename(&beside, &file).unwrap();
        // A removed manifest is removed even if other files cannot be read.
        fs::remove_file(running.path(&format!("plugins/{plugin}.toml"))).unwrap();
        let gone = running.until(plugin, |answer| matches!(answer, Answer::Failed(_)));
        assert!(gone < LOOK, "{name}: it took {gone:?}");
        let line = wait_until("it is said", || {
            let log = running.host.stderr();
            let mut lines = log.lines().filter(|line| line.contains(name));
            let said = lines.find(|line| line.contains("no regular file"));
            said.map(str::to_owned)
        });
        assert!(line.contains("\"ERROR\""), "{line}");
        fs::remove_file(&file).unwrap();
        if let Some(former) = former {
            fs::write(&file, former).unwrap();
        }
    }
    running.end();
}
