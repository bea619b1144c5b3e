//! Text from a plugin, through the real host: it delays no other request, forges no log line, controls no
//! terminal, and fills neither log nor audit.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{BINARY, Folder, component, embedded};
use crate::process::{Process, Ran};

const PATCHES: &str = "[[grant]]\nname = \"lab\"\nallow = [\"raw/*\", \"files/patch-file\"]\nprojects = [\"Lab/*\"]\n[limits]\ncpu = \"60s\"\n";

/// A host whose agent makes given calls, and a project in its scope.
struct Scene {
    _cloud: Cloud,
    folder: Folder,
    lab: u64,
}

impl Scene {
    fn new() -> Self {
        let cloud = Cloud::start();
        let folder = Folder::new(&embedded(cloud.url()));
        let probe = component("host/cli/tests/plugins/any-tool");
        folder.manifest(
            "any-tool",
            &format!(
                "plugin = \"any-tool\"\ncomponent = \"{}\"\naccount = \"research\"\n{PATCHES}",
                probe.display()
            ),
        );
        let named = json!({ "name": "Lab/a", "language": "Py" });
        let made = folder.call("create_project", &named);
        Self {
            _cloud: cloud,
            lab: made["projects"][0]["projectId"].as_u64().unwrap(),
            folder,
        }
    }

    fn input(&self, name: &str, calls: &[(&str, Value)]) -> PathBuf {
        let calls = calls
            .iter()
            .map(|(tool, arguments)| json!({ "tool": tool, "arguments": arguments }));
        let input = json!({ "calls": calls.collect::<Vec<_>>() });
        let path = self.folder.path().join(name);
        std::fs::write(&path, input.to_string()).unwrap();
        path
    }

    /// Has the agent make calls, which are too long for a command line.
    fn start(&self, arguments: &[&str], input: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" \"$@\" < {input}"), BINARY]);
        let plain = self.folder.command(arguments);
        command.args(arguments).current_dir(self.folder.path());
        command.env_clear();
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap());
        }
        Process::start(command, self.folder.path())
    }

    fn calls(&self, calls: &[(&str, Value)]) -> Ran {
        self.input("calls", calls);
        let arguments = ["--json", "invoke", "any-tool.call", "-"];
        self.start(&arguments, "calls").wait()
    }

    fn denied(&self) -> Vec<Value> {
        let query = [
            "--json", "audit", "query", "--plugin", "any-tool", "--kind", "denied",
        ];
        let ran = self.folder.run(&query);
        assert!(ran.status.success(), "{ran:?}");
        ran.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Two of these once occupied both threads of a host for ten minutes, in which it answered no request.
#[test]
fn patches_of_line_feeds_keep_no_other_request_waiting() {
    let scene = Scene::new();
    let host = scene.folder.serve(&["run"]);
    let patch = json!({ "projectId": scene.lab, "patch": "\n".repeat(300_000) });
    let spaces = format!("diff --git {}", " ".repeat(600_000));
    let spaces = json!({ "projectId": scene.lab, "patch": spaces });
    let calls: Vec<_> = (0..3)
        .flat_map(|_| {
            [
                ("patch_file", patch.clone()),
                ("patch_file", spaces.clone()),
            ]
        })
        .collect();
    scene.input("patches", &calls);
    let arguments = ["--json", "invoke", "any-tool.call", "-"];
    let mut patching: Vec<_> = (0..4).map(|_| scene.start(&arguments, "patches")).collect();
    let listed = scene.folder.run(&["--json", "plugin", "list"]);
    assert_eq!(listed.json()[0]["status"], "ready", "{listed:?}");
    scene.folder.run(&["halt", "--reason", "a drill"]).good();
    for process in patching.drain(..) {
        let reports = process.wait().json();
        let reports = reports.as_array().unwrap();
        assert_eq!(reports.len(), 6);
        for report in reports {
            // Invocations that were requested after the halt.
            let outcome = report["outcome"].as_str().unwrap();
            assert!(
                ["invalid-argument", "halted"].contains(&outcome),
                "{report}"
            );
        }
    }
    host.end();
}

#[test]
fn no_name_forges_a_line_of_the_log_or_acts_on_a_terminal() {
    let scene = Scene::new();
    let host = scene.folder.serve(&["run"]);
    let forged = "x\n2026-01-01T00:00:00.000000Z  INFO gate: all is well\u{1b}[2J\u{9b}31m\u{9d}\u{7f}\u{202e}\u{200b}\u{2028}";
    let long = "x".repeat(2 << 20);
    let ran = scene.calls(&[(forged, json!({})), (&long, json!({ forged: forged }))]);
    let reports = ran.json();
    for report in reports.as_array().unwrap() {
        assert_eq!(report["outcome"], "invalid-argument", "{report}");
    }
    // The agent quotes it only in its own answer.
    scene.input("forged", &[(forged, json!({}))]);
    let people = scene
        .start(&["invoke", "any-tool.call", "-"], "forged")
        .wait();
    let tail = scene.folder.run(&["audit", "tail"]);
    let wrong = scene.folder.run(&["invoke", &forged.replace('\n', "")]);
    let usage = scene.folder.run(&[&format!("--{forged}")]);
    for ran in [&people, &tail, &wrong, &usage] {
        let shown = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!shown.is_empty());
        let acts = |c: &char| {
            c.is_control() && !"\n\t".contains(*c) || "\u{202e}\u{200b}\u{2028}".contains(*c)
        };
        assert_eq!(shown.chars().find(acts), None, "{ran:?}");
    }
    assert!(
        !usage.status.success() && usage.stderr.contains("\\u{1b}"),
        "{usage:?}"
    );
    let denied = scene.denied();
    assert_eq!(denied.len(), 3, "{denied:?}");
    for record in denied {
        assert!(record.to_string().len() < 2000, "{record}");
    }
    host.terminate();
    let ran = host.wait();
    for line in ran.stderr.lines() {
        assert!(!line.starts_with("2026-01-01"), "{line}");
        assert!(line.len() < 20_000, "{}", line.len());
        assert!(
            !line.contains(char::is_control) && !line.contains('\u{202e}'),
            "{line:?}"
        );
    }
    assert!(
        ran.stderr.contains("all is well"),
        "it was logged, in its own line"
    );
}

#[test]
fn refused_calls_fill_neither_log_nor_audit() {
    let scene = Scene::new();
    let host = scene.folder.serve(&["run"]);
    let padding = json!({ "projectId": scene.lab, "x".repeat(2000): "y".repeat(2000) });
    let calls = vec![("create_file", padding); 500];
    let ran = scene.calls(&calls);
    let reports = ran.json();
    let reports = reports.as_array().unwrap();
    assert!(
        reports.iter().all(|report| report["outcome"] == "denied"),
        "{ran:?}"
    );
    host.terminate();
    let ended = host.wait();
    assert!(ended.stderr.len() < 200_000, "{}", ended.stderr.len());

    let denied = scene.denied();
    let counted: u64 = denied
        .iter()
        .map(|record| record["repeated"]["calls"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(counted, 500);
    assert!(denied.len() < 200, "{}", denied.len());
    let bytes: usize = denied.iter().map(|record| record.to_string().len()).sum();
    assert!(bytes < 400_000, "{bytes}");
}
