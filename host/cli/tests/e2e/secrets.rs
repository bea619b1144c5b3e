//! Secrets stay in the process: with every log at `trace`, over every connection, whether the cloud accepts
//! or refuses.

use std::collections::BTreeSet;
use std::process::Command;

use memchr::memmem;
use serde_json::{Value, json};

use crate::categories::EVERY;
use crate::cloud::Cloud;
use crate::common::{Folder, TOKEN, bundled, embedded, private_file, served};
use crate::interop;
use crate::process::{Process, Ran, command_line, tree};

/// The brokerage's password: a word that nothing else contains.
const PASSWORD: &str = "end-to-end-brokerage-password";
/// A password that is read from a file.
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

    /// Runs the binary and keeps reading the list of processes.
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

    /// Checks that no secret was printed, is in the list of processes or in a file of the host.
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
                    let found = memmem::find(&bytes, secret.as_bytes());
                    assert!(found.is_none(), "`{secret}` in {}", path.display());
                }
            }
        }
        // The logs were in fact written.
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

/// Deploys through the plugin and directly, with success and with failure.
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
    // The settings were filled in: the request has all of them.
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

    // A refusal by the cloud is an error that must not quote the request.
    let mut wrong = arguments.clone();
    wrong["compileId"] = "none".into();
    let ran = watched.run(&["call", "create_live_algorithm", &wrong.to_string()]);
    ran.json_error();
    // Settings in place of a profile's name are refused as well.
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
    // The header's value is another secret.
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
        ran.json_error();
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

/// A server that quotes the request, including secrets, in its error.
fn echoing() -> u16 {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Runs until the test's process ends.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut asked = vec![0; 16 << 10];
                let read = stream.read(&mut asked).unwrap_or_default();
                let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
                let head = format!(
                    "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nx-echo: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    asked.replace(['\r', '\n'], " "),
                    asked.len()
                );
                drop(stream.write_all(head.as_bytes()));
                drop(stream.write_all(asked.as_bytes()));
            });
        }
    });
    port
}

/// A secret in plain text and in all encodings that it may get on its way.
fn forms(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    let usual = secret
        .replace(':', "%3A")
        .replace('/', "%2F")
        .replace('=', "%3D");
    let mut forms = vec![
        ("as it is", bytes.to_vec()),
        ("backwards", bytes.iter().rev().copied().collect()),
        ("hexadecimal", hex.to_uppercase().into_bytes()),
        ("hexadecimal", hex.into_bytes()),
        ("percent", percent.into_bytes()),
        ("percent", usual.into_bytes()),
        (
            "UTF-16",
            secret.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
    ];
    // Base64 depends on the position in groups of three bytes; the first and last digits also hold bits of
    // neighbours.
    for before in 0..3 {
        let padded = [&vec![0; before], bytes].concat();
        let whole = padded.len() * 8 / 6;
        let digit = |at: usize| {
            let bits = (0..6)
                .map(|bit| at * 6 + bit)
                .map(|bit| padded[bit / 8] >> (7 - bit % 8) & 1);
            DIGITS[usize::from(bits.fold(0, |digit, bit| digit << 1 | bit))]
        };
        let first = (before * 8).div_ceil(6);
        forms.push(("base64", (first..whole).map(digit).collect()));
    }
    forms
}

/// Every file of a folder, with its content.
fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn forms_of_a_secret_are_what_encoders_make_of_it() {
    let has = |form: &[u8]| forms("abc:d").iter().any(|(_, of)| of == form);
    for form in [
        "abc:d",
        "d:cba",
        "6162633a64",
        "%61%62%63%3A%64",
        "abc%3Ad",
        "YWJjOm",
        "mMT",
    ] {
        // Of `abc:d` in base64 at the beginning: YWJjOmQ=, of which the last digit holds two bits.
        assert_eq!(has(form.as_bytes()), form != "mMT", "{form}");
    }
}

/// Every place that takes a secret has a different one. Then everything is done with them, with success and
/// failure, including what records changes of their files.
#[test]
fn no_literal_secret_is_in_a_file_of_the_host_or_of_a_backup() {
    const LITERAL: [&str; 13] = [
        "lit-account-header-3f9a71c2",
        "lit-url-password-8b1d40e6",
        "lit-url-query-d27c95a0",
        "lit-child-variable-51e8fa3b",
        "lit-brokerage-password-96c0d2e7",
        "lit-http-header-7ad4b81f",
        "lit-config-value-e0935c6d",
        "lit-vault-token-42fb8e19",
        "lit-credentials-file-bc6a07d5",
        "lit-http-from-env-18d3e9f4",
        "lit-changed-header-a95f26b8",
        "lit-changed-config-60c7de41",
        "lit-changed-profile-f38b0a92",
    ];
    let [
        account,
        user,
        query,
        child,
        password,
        http,
        config,
        vault,
        filed,
        from_env,
        header2,
        config2,
        profile2,
    ] = LITERAL;
    let (cloud, port) = (Cloud::start(), echoing());
    let folder = Folder::new("live-trading = true\n");
    private_file(&folder.path().join("vault-token"), vault);
    let credentials = json!({ "user-id": "4711", "api-token": filed }).to_string();
    private_file(&folder.path().join("credentials"), &credentials);
    let configuration = std::fs::read_to_string(folder.path().join("qchost.toml")).unwrap()
        + &embedded(cloud.url())
        + &format!(
            "[account.web]\nconnection = \"http\"\nurl = \"http://user:{user}@127.0.0.1:{port}/mcp?key={query}\"\n\
             headers = {{ Authorization = \"Bearer {account}\" }}\n\
             [account.child]\nconnection = \"stdio\"\ncommand = \"sh\"\nargs = [\"-c\", \"echo $SECRET >&2; exit 1\"]\n\
             env = {{ SECRET = \"{child}\" }}\n\
             [account.filed]\nconnection = \"embedded\"\ncloud = \"{}\"\ncredentials-file = \"credentials\"\n\
             [brokerage.main]\nid = \"InteractiveBrokersBrokerage\"\nib-user-name = \"u\"\nib-account = \"U0\"\n\
             ib-password = \"{password}\"\nib-weekly-restart-utc-time = \"22:00:00\"\n\
             [vault]\naddress = \"http://127.0.0.1:{port}\"\nauth = {{ token = {{ file = \"vault-token\" }} }}\n\
             [brokerage.vaulted]\nid = \"InteractiveBrokersBrokerage\"\nib-user-name = {{ vault = \"kv/a#b\" }}\n",
            cloud.url()
        );
    std::fs::write(folder.path().join("qchost.toml"), &configuration).unwrap();
    let star = "brokerages     = [\"*\"]";
    let named = bundled(EVERY).replace(star, "brokerages     = [\"*\", \"main\", \"vaulted\"]");
    folder.manifest("every-category", &named);
    let client = crate::common::component("host/cli/tests/plugins/http-client");
    let outgoing = format!(
        "plugin = \"http-client\"\ncomponent = \"{}\"\naccount = \"research\"\n[config]\nnote = \"{config}\"\n\
         [[http]]\nname = \"out\"\nallow = \"http://127.0.0.1:{port}/\"\naddresses = [\"127.0.0.1\"]\n\
         headers = {{ Authorization = \"Bearer {http}\", X-Token = {{ env = \"OUT_TOKEN\" }} }}\n",
        client.display()
    );
    folder.manifest("http-client", &outgoing);
    let run = |arguments: &[&str]| {
        let mut command = folder.command(&[&["--json", "--log", "trace"], arguments].concat());
        command.env("OUT_TOKEN", from_env);
        Process::start(command, folder.path())
    };
    let mut host = run(&["run"]);
    host.until("the host is ready", |host| {
        host.stdout().contains("\"ready\":true").then_some(())
    });
    let mut printed = String::new();
    let mut did = |arguments: &[&str]| {
        let ran = run(arguments).wait();
        printed += &format!("{}{}", ran.stdout, ran.stderr);
        ran
    };
    let request = json!({ "method": "GET", "scheme": "http", "authority": format!("127.0.0.1:{port}"), "path": "/x", "headers": [] });
    let sent = did(&["invoke", "http-client.fetch", &request.to_string()]);
    assert_eq!(sent.json()["status"], 400, "{sent:?}");
    let deploy = |profile: &str| json!({ "profile": profile }).to_string();
    did(&["invoke", "every-category.deploy-live", &deploy("main")]).good();
    did(&["invoke", "every-category.deploy-live", &deploy("vaulted")]);
    for account in ["web", "child", "filed", "research"] {
        did(&["call", "read_account", "--account", account]);
    }
    for verb in [
        &["plugin", "list"][..],
        &["doctor"],
        &["approvals", "list"],
        &["policy", "explain", "http-client", "http/request"],
    ] {
        did(verb);
    }
    // Each file changes once to a usable and once to an unusable version.
    let changed = configuration
        .replace(account, header2)
        .replace(password, profile2);
    let more = outgoing.replace(http, header2).replace(config, config2);
    for (configuration, manifest) in [
        (changed.clone(), more.clone()),
        (changed + "nonsense = 1\n", more + "nonsense = 1\n"),
    ] {
        std::fs::write(folder.path().join("qchost.toml"), &configuration).unwrap();
        folder.manifest("http-client", &manifest);
        did(&["reload"]);
    }
    std::fs::write(folder.path().join("qchost.toml"), &configuration).unwrap();
    did(&["halt", "--reason", "a drill"]).good();
    did(&["audit", "query"]).good();
    let backup = folder.path().join("backup");
    did(&["backup", backup.to_str().unwrap()]).good();
    host.terminate();
    let ended = host.wait();
    printed += &format!("{}{}", ended.stdout, ended.stderr);

    let mut all = files(&folder.path().join("data"));
    all.extend(files(&backup));
    assert!(all.len() > 8, "{}", all.len());
    for secret in LITERAL.into_iter().chain([TOKEN]) {
        for (form, bytes) in forms(secret) {
            for (path, content) in &all {
                let found = memmem::find(content, &bytes);
                assert!(found.is_none(), "`{secret}` ({form}) in {}", path.display());
            }
        }
        let line = printed.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "`{secret}` was printed");
    }
}
