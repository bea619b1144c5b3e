//! Secrets stay where they belong: with every log at `trace`, over every connection, whether the cloud accepts or not.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::categories::EVERY;
use crate::cloud::Cloud;
use crate::common::{Folder, TOKEN, bundled, embedded, private_file, served};
use crate::interop;
use crate::process::{Process, Ran, command_line, tree};

/// The brokerage's password: a word that nothing else contains.
const PASSWORD: &str = "end-to-end-brokerage-password";
/// One that is read from a file.
const FILED: &str = "end-to-end-filed-secret";

const BROKERAGE: &str = r#"
[brokerage.main]
id = "InteractiveBrokersBrokerage"
ib-user-name = { file = "user-name" }
ib-account = "U0"
ib-password = { env = "IB_PASSWORD" }
ib-weekly-restart-utc-time = "22:00:00"
"#;

struct Watched {
    folder: Folder,
    /// Every command line that was seen.
    commands: BTreeSet<String>,
    /// Everything that was printed.
    printed: Vec<(String, String)>,
}

impl Watched {
    fn new(account: &str) -> Self {
        let place = Folder::new("live-trading = true\n");
        let filed = place.path().join("user-name");
        private_file(&filed, FILED);
        let brokerage = BROKERAGE.replace("\"user-name\"", &format!("\"{}\"", filed.display()));
        std::fs::write(
            place.path().join("qchost.toml"),
            std::fs::read_to_string(place.path().join("qchost.toml")).unwrap()
                + account
                + &brokerage,
        )
        .unwrap();
        let star = "brokerages     = [\"*\"]";
        let manifest = bundled(EVERY);
        assert!(manifest.contains(star));
        let named = manifest
            .replace(star, "brokerages     = [\"*\", \"main\"]")
            .replace("\"tastytrade\"", "\"tastytrade\", \"main\"");
        place.manifest("every-category", &named);
        Self {
            folder: place,
            commands: BTreeSet::new(),
            printed: Vec::new(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self
            .folder
            .command(&[&["--json", "--log", "trace"], arguments].concat());
        command
            .env("RUST_LOG", "trace")
            .env("IB_PASSWORD", PASSWORD);
        command
    }

    /// Runs the binary and looks at the list of processes all the while.
    fn run(&mut self, arguments: &[&str]) -> Ran {
        let command = self.command(arguments);
        self.watch(arguments, command)
    }

    fn watch(&mut self, arguments: &[&str], command: Command) -> Ran {
        let mut process = Process::start(command, self.folder.path());
        while process.runs() {
            self.commands
                .extend(tree(process.id()).into_iter().map(command_line));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let ran = process.wait();
        let what = arguments.join(" ");
        self.printed
            .push((format!("standard output of {what}"), ran.stdout.clone()));
        self.printed
            .push((format!("standard error of {what}"), ran.stderr.clone()));
        ran
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.run(&["call", tool, &arguments.to_string()]).json()
    }

    /// No secret anywhere: not printed, not in the list of processes, not in a file of the host's.
    fn clean(&self, secrets: &[&str]) {
        assert!(!self.commands.is_empty(), "no process was seen");
        for secret in secrets {
            for (what, text) in &self.printed {
                if let Some(line) = text.lines().find(|line| line.contains(secret)) {
                    panic!("`{secret}` in {what}: {line}");
                }
            }
            for command in &self.commands {
                assert!(
                    !command.contains(secret),
                    "`{secret}` in the list of processes: {command}"
                );
            }
            let mut folders = vec![self.folder.path().join("data")];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                        continue;
                    }
                    if !path.is_file() {
                        continue;
                    }
                    let bytes = std::fs::read(&path).unwrap();
                    let found = bytes
                        .windows(secret.len())
                        .any(|window| window == secret.as_bytes());
                    assert!(!found, "`{secret}` in {}", path.display());
                }
            }
        }
        // The logs were really written.
        let logged = |text: &str| {
            ["TRACE", "DEBUG", " INFO "]
                .iter()
                .any(|level| text.contains(level))
        };
        assert!(
            self.printed.iter().any(|(_, text)| logged(text)),
            "nothing was logged"
        );
    }
}

/// Deploys by the plugin and by hand, well and badly.
fn deploy(watched: &mut Watched, cloud: &Cloud) {
    let deployed = watched
        .run(&[
            "invoke",
            "every-category.deploy-live",
            "{\"profile\": \"main\"}",
        ])
        .json();
    assert!(deployed["value"].is_string(), "{deployed}");
    let sent = cloud.requests_to("/live/create");
    assert_eq!(sent.len(), 1);
    // The settings were filled in: what was sent has them all.
    let settings: Vec<_> = sent[0].body["brokerage"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert!(
        settings.contains(&"ib-password") && settings.contains(&"ib-user-name"),
        "{settings:?}"
    );

    let prepared = watched.run(&["invoke", "every-category.prepare"]).json();
    let (project, compile) = (&prepared["project_id"], &prepared["compile_id"]);
    let nodes = watched.call("read_project_nodes", &json!({ "projectId": project }));
    let node = &nodes["nodes"]["live"][1]["id"];
    assert!(node.is_string(), "{nodes}");
    let arguments = json!({ "projectId": project, "compileId": compile, "nodeId": node, "brokerage": "main", "versionId": "-1" });
    let launched = watched.call("create_live_algorithm", &arguments);
    assert!(launched["deployId"].is_string(), "{launched}");

    // What the cloud rejects comes back as an error, which is not to repeat what was sent.
    let mut wrong = arguments.clone();
    wrong["compileId"] = "none".into();
    let ran = watched.run(&["call", "create_live_algorithm", &wrong.to_string()]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    // Nor do settings instead of a profile's name get through.
    let mut direct = arguments;
    direct["brokerage"] = json!({ "id": "InteractiveBrokersBrokerage" });
    let ran = watched.run(&["call", "create_live_algorithm", &direct.to_string()]);
    assert!(
        ran.json_error().contains("`brokerage` must be a string"),
        "{ran:?}"
    );
}

const ALL: [&str; 3] = [TOKEN, PASSWORD, FILED];

#[test]
fn over_the_embedded_server() {
    let cloud = Cloud::start();
    let mut watched = Watched::new(&embedded(cloud.url()));
    deploy(&mut watched, &cloud);
    watched.clean(&ALL);
}

#[test]
fn over_the_official_server_as_a_child() {
    let cloud = Cloud::start();
    let mut watched = Watched::new(&interop::stdio(cloud.url()));
    deploy(&mut watched, &cloud);
    assert!(
        watched
            .commands
            .iter()
            .any(|command| command.contains("official_server.py")),
        "{:?}",
        watched.commands
    );
    watched.clean(&ALL);
}

#[test]
fn over_a_server_of_its_own_that_logs_everything() {
    let cloud = Cloud::start();
    let account = served(cloud.url());
    assert!(account.contains("[\"mcp\""));
    let mut watched = Watched::new(&account.replace("[\"mcp\"", "[\"--log\", \"trace\", \"mcp\""));
    deploy(&mut watched, &cloud);
    watched.clean(&ALL);
}

#[test]
fn over_http() {
    let cloud = Cloud::start();
    let outside = Folder::new("");
    let (_server, port) = interop::http_server(cloud.url(), 0, outside.path());
    let header = "[account.research.headers]\nAuthorization = { env = \"MCP_AUTHORIZATION\" }\n";
    let mut watched = Watched::new(&(interop::http(&interop::address(port)) + header));
    // The header's value is a secret of its own.
    let bearer = "end-to-end-bearer";
    let arguments = ["doctor"];
    let mut command = watched.command(&arguments);
    command.env("MCP_AUTHORIZATION", format!("Bearer {bearer}"));
    watched.watch(&arguments, command).good();
    watched.clean(&[TOKEN, PASSWORD, FILED, bearer]);

    let mut watched = Watched::new(&interop::http(&interop::address(port)));
    deploy(&mut watched, &cloud);
    watched.clean(&ALL);
}

#[test]
fn when_the_cloud_rejects_the_token() {
    let cloud = Cloud::with(|builder| builder.credentials(crate::common::USER, "another-word"));
    for account in [embedded(cloud.url()), interop::stdio(cloud.url())] {
        let mut watched = Watched::new(&account);
        let ran = watched.run(&["call", "read_account"]);
        assert!(ran.json_error().contains("Hash doesn't match"), "{ran:?}");
        let ran = watched.run(&[
            "invoke",
            "every-category.deploy-live",
            "{\"profile\": \"main\"}",
        ]);
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        watched.clean(&ALL);
    }
}

#[test]
fn through_a_running_host() {
    let cloud = Cloud::start();
    let mut watched = Watched::new(&embedded(cloud.url()));
    let mut host = Process::start(watched.command(&["run"]), watched.folder.path());
    host.until("the host is ready", |host| {
        host.stdout().contains("\"ready\":true").then_some(())
    });
    deploy(&mut watched, &cloud);
    watched
        .commands
        .extend(tree(host.id()).into_iter().map(command_line));
    host.terminate();
    let ran = host.wait();
    ran.good();
    watched
        .printed
        .push(("the running host".to_owned(), ran.stdout + &ran.stderr));
    watched.clean(&ALL);
}
