//! What is printed to be pasted works as it is printed: grants, the examples of every verb's help, and the first steps of the
//! README.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::categories::{EVERY, PAPER};
use crate::cloud::Cloud;
use crate::common::{ALGORITHM, BINARY, Folder, TOKEN, USER, component, embedded, repository};
use crate::process::Process;
use crate::verbs;

/// Plugins, each with an action and its input where every call of the action has to be granted.
fn plugins() -> [(&'static str, Option<(&'static str, Value)>); 5] {
    let compile = json!({ "source": ALGORITHM });
    [
        ("plugins/strategy-lab", Some(("compile", compile))),
        (EVERY, Some(("prepare", json!({})))),
        ("host/cli/tests/plugins/any-tool", None),
        ("host/cli/tests/plugins/best-of", None),
        ("host/cli/tests/plugins/http-client", None),
    ]
}

fn folder(cloud: &Cloud) -> Folder {
    let account = embedded(cloud.url());
    Folder::new(&format!("live-trading = true\n{account}{PAPER}"))
}

/// The first table of a manifest in a text, with the line for licensed data before it if there is one, and what follows it, as
/// far as `more` says that it belongs to it.
fn tables(text: &str, more: impl Fn(&str) -> bool) -> String {
    let lines = text
        .lines()
        .skip_while(|line| {
            !["[[", "egress = "]
                .iter()
                .any(|begin| line.trim_start().starts_with(begin))
        })
        .take_while(|line| more(line));
    let lines: Vec<&str> = lines.collect();
    assert!(!lines.is_empty(), "no table in: {text}");
    lines.join("\n")
}

fn head(plugin: &str, path: &str) -> String {
    format!(
        "plugin = \"{plugin}\"\ncomponent = \"{}\"\naccount = \"research\"\n",
        component(path).display()
    )
}

/// Adds the lines to a manifest, and checks that the plugin is ready and may call what its action calls.
fn grants(folder: &Folder, path: &str, action: Option<(&str, Value)>, lines: &str) {
    let plugin = path.rsplit('/').next().unwrap();
    folder.manifest("pasted", &format!("{}{lines}\n", head(plugin, path)));
    let listed = folder.run(&["--json", "plugin", "list"]);
    assert_eq!(listed.json()[0]["status"], "ready", "{listed:?}\n{lines}");
    if let Some((action, input)) = action {
        folder.invoke(&format!("{plugin}.{action}"), &input);
    }
}

#[test]
fn the_lines_that_inspect_prints_grant_what_the_component_calls() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    for (path, action) in plugins() {
        let file = component(path);
        let ran = folder.run(&["plugin", "inspect", file.to_str().unwrap()]);
        let lines = tables(&ran.good().stdout, |_| true);
        grants(&folder, path, action, &lines);
    }
}

#[test]
fn the_lines_that_doctor_prints_for_a_component_without_grants_grant_what_it_calls() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    for (path, action) in plugins() {
        let plugin = path.rsplit('/').next().unwrap();
        folder.manifest("pasted", &head(plugin, path));
        let ran = folder.run(&["doctor"]);
        assert!(ran.error().contains("1 of "), "{ran:?}");
        // The next check begins a line of its own.
        let lines = tables(&ran.stdout, |line| line.is_empty() || line.starts_with(' '));
        grants(&folder, path, action, &lines);
    }
}

/// A script in a folder, with the binary in its path.
pub fn shell(folder: &Folder, within: &Path, script: &str) -> Process {
    let mut path = std::ffi::OsString::from(Path::new(BINARY).parent().unwrap());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .current_dir(within)
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder.path())
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .env("QUANTCONNECT_USER_ID", USER.to_string())
        .env("QUANTCONNECT_API_TOKEN", TOKEN);
    Process::start(command, folder.path())
}

#[test]
fn the_five_minutes_of_the_readme_work_as_they_are_printed() {
    let folder = Folder::new("");
    component("plugins/strategy-lab");
    let checkout = folder.path().join("checkout");
    std::fs::create_dir(&checkout).unwrap();
    std::os::unix::fs::symlink(repository("plugins"), checkout.join("plugins")).unwrap();
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let (_, after) = readme
        .split_once("## A host in five minutes\n\n```sh\n")
        .unwrap();
    let (steps, _) = after.split_once("```").unwrap();
    // The last step serves until SIGTERM.
    let (steps, last) = steps.split_once("\nqchost run").unwrap();
    shell(&folder, &checkout, &format!("set -e\n{steps}"))
        .wait()
        .good();
    let my_host = folder.path().join("my-host");
    let mut host = shell(&folder, &my_host, &format!("exec qchost run{last}"));
    host.until("the host is ready", |host| {
        host.stdout().contains("ready: 1 plugin,").then_some(())
    });
    host.end();
}

/// The examples in a help text. One that goes on in the next line ends its line with a backslash.
fn examples(help: &str) -> Vec<String> {
    let (_, after) = help.split_once("Example").unwrap();
    let mut examples: Vec<String> = Vec::new();
    for line in after.lines().skip(1) {
        assert!(
            line.chars().count() <= 80,
            "a terminal of 80 columns breaks: {line}"
        );
        match examples.last_mut().filter(|last| last.ends_with('\\')) {
            Some(last) => last.push_str(&format!("\n{line}")),
            None => examples.push(line.trim_start().to_owned()),
        }
    }
    examples
}

/// Examples that are not run: this one takes minutes and is how the tests' plugins are made, these need a person in a
/// browser (`logins.rs` runs them), this one listens on the port that another emulator of the machine may have, and this
/// one is another program's.
const LEFT_OUT: [&str; 5] = [
    "qchost plugin build ",
    "qchost account login ",
    "qchost account logout ",
    "qchost emulator",
    "QC_API=local lean ",
];
/// Ids that stand for one of the reader's own: what is said of them is that there is none.
pub const IDS: [&str; 3] = ["ap-abcdefghij", "19ad3b7c2f1-17", "19c3f2-17"];

#[test]
fn every_example_of_help_works_as_it_is_printed() {
    let folder = Folder::new("");
    let desk = folder.path().join("desk");
    // The first host, by what the README and `init` say.
    let ran = folder.run(&["init", "desk"]);
    let (_, next) = ran.good().stdout.trim_end().split_once("then: ").unwrap();
    let file = component("plugins/strategy-lab");
    std::fs::copy(&file, desk.join("plugins/strategy_lab.wasm")).unwrap();
    shell(&folder, folder.path(), next).wait().good();
    // The file of the example of `policy test`.
    let help = folder.run(&["policy", "test", "--help"]).stdout;
    let (_, cases) = help.split_once("The file is TOML:\n").unwrap();
    let (cases, _) = cases.split_once("Example:").unwrap();
    std::fs::create_dir(desk.join("policies")).unwrap();
    std::fs::write(desk.join("policies/cases.toml"), cases).unwrap();

    let mut host = None;
    let mut digest = String::new();
    let mut seen = 0;
    for verb in verbs::all(&folder) {
        let arguments: Vec<&str> = verb.iter().map(String::as_str).collect();
        let help = folder.run(&[&arguments[..], &["--help"]].concat());
        for example in examples(&help.good().stdout) {
            seen += 1;
            let is_left_out = LEFT_OUT.iter().any(|left| example.starts_with(left));
            if is_left_out && arguments != ["emulator", "reset"] {
                continue;
            }
            // Places of the reader's machine.
            let here = folder.path().to_str().unwrap();
            let script = example
                .replace("/mnt/elsewhere", here)
                .replace("/var/backups/qchost", here)
                .replace("/var/lib/qchost", &format!("{here}/restored"))
                .replace("/etc/qchost", &format!("{here}/restored-files"))
                .replace("sha256:…", &digest);
            // Paths of the repository.
            let within = match arguments[..] {
                ["demo"] | ["plugin", "inspect"] => repository("."),
                _ => desk.clone(),
            };
            if arguments == ["run"] {
                let mut started = shell(&folder, &within, &format!("exec {script}"));
                started.until("the host is ready", |host| {
                    host.stdout().contains("ready: 1 plugin,").then_some(())
                });
                host = Some(started);
                continue;
            }
            if script.ends_with(" -f") {
                let mut following = shell(&folder, &within, &format!("exec {script}"));
                following.until("a record is shown", |it| {
                    (!it.stdout().is_empty()).then_some(())
                });
                continue;
            }
            if script.contains("head-of-last-week") {
                let head = shell(&folder, &within, "qchost audit head > head-of-last-week");
                head.wait().good();
            }
            let ran = shell(&folder, &within, &script).wait();
            if let Some(id) = IDS.iter().find(|id| script.contains(**id)) {
                assert!(!ran.status.success(), "{script}: {ran:?}");
                assert!(ran.stderr.contains(id), "{script}: {ran:?}");
            } else if arguments == ["emulator", "reset"] {
                // The host of the example before has it.
                assert!(ran.error().contains("a host runs"), "{script}: {ran:?}");
                assert!(ran.error().contains("end it (kill "), "{script}: {ran:?}");
            } else if arguments == ["mcp"] {
                // The client is gone before it said anything.
                assert!(ran.stderr.contains("handshake"), "{script}: {ran:?}");
            } else {
                assert!(ran.status.success(), "{script}: {ran:?}");
            }
            if arguments == ["backup"] {
                let mut lines = ran.stdout.lines();
                let line = lines.find_map(|line| line.strip_prefix("digest: "));
                digest = line.unwrap().to_owned();
            }
        }
    }
    assert!(seen >= 50, "{seen}");
    host.unwrap().end();
}
