//! MCP's own conformance suite against the host's client: `examples/conformance_client`, which the suite starts once for
//! each of its client scenarios. The suite has none yet for the revision without a handshake: see `revisions.rs`.
//!
//! Of the suite's scenarios for servers, the emulator's remote MCP server passes those that ask for no more than it has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Response};
use parking_lot::Mutex;
use qchost_emulator::{Emulator, Remote};
use qchost_upstream::{Authorization, BearerSource as _, OAuthClient};
use secrecy::ExposeSecret as _;
use support::person;
use support::web::Web;
use tokio::task::block_in_place;

/// The scenarios that are not passed, each with the reason.
const NOT_PASSED: [(&str, &str); 2] = [
    (
        "auth/2025-03-26-oauth-metadata-backcompat",
        "the metadata name another issuer than the one that they were asked of, which RFC 8414 (3.3) forbids to use, since \
         an attacker's would do so too",
    ),
    (
        "auth/client-credentials-jwt",
        "a login is that of a person: the host has no key to sign with for itself, and the library signs with a crate that \
         nothing else needs",
    ),
];

/// The scenarios of what the host does not do for its users, each with the reason. The library under it passes them: see
/// `examples/conformance_client/library.rs`.
const BY_LIBRARY: [(&str, &str); 4] = [
    (
        "elicitation-sep1034-client-defaults",
        "no person can be asked in the middle of a call, and the host says so: it declares no elicitation, and what a \
         server would have confirmed is not for a program to confirm",
    ),
    (
        "auth/2025-03-26-oauth-endpoint-fallback",
        "without metadata it is not known whether PKCE is checked, and the host logs in nowhere without it",
    ),
    (
        "auth/client-credentials-basic",
        "a login is that of a person, and not of a program",
    ),
    (
        "auth/cross-app-access-complete-flow",
        "a login is that of a person in a browser, and not of a company's identity provider",
    ),
];

/// The scenarios for servers that apply to the emulator's remote MCP server. The others ask for what it does not have:
/// prompts, resources, completion, levels of the log, and tools of the suite's own.
const OF_SERVERS: [&str; 4] = [
    "server-initialize",
    "ping",
    "tools-list",
    "dns-rebinding-protection",
];

/// Says to the client which scenarios are the library's.
const BY_LIBRARY_VARIABLE: &str = "QCHOST_CONFORMANCE_BY_LIBRARY";

/// Time limit of a client, in milliseconds: longer than its own, of which it has one for each of its steps.
const CLIENT_TIMEOUT: &str = "240000";

/// Scenarios that run at a time: most of them wait.
const AT_A_TIME: usize = 4;

/// How often a scenario that failed beside others is run alone. One of them measures a wait to a tenth of a second, which
/// a busy machine does not allow.
const ALONE: usize = 3;

struct Suite {
    node: PathBuf,
    script: PathBuf,
    client: PathBuf,
}

impl Suite {
    fn find() -> Self {
        let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/setup/conformance");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/conformance");
        let modules = root.join("node_modules");
        let node = modules.join(".bin/node");
        assert!(
            root.join("stamp").exists() && node.exists(),
            "MCP's conformance suite or its Node.js is missing in {}; run: make setup-test",
            root.display()
        );
        for file in ["package.json", "package-lock.json"] {
            assert_eq!(
                std::fs::read_to_string(root.join(file)).unwrap(),
                std::fs::read_to_string(setup.join(file)).unwrap(),
                "{} has other versions than are pinned; run: make setup-test",
                root.display()
            );
        }
        let client = support::server().with_file_name("conformance_client");
        assert!(
            client.exists(),
            "{} is missing; run: cargo build -p qchost-upstream --examples",
            client.display()
        );
        Self {
            node,
            script: modules.join("@modelcontextprotocol/conformance/dist/index.js"),
            client,
        }
    }

    fn run(&self, words: &[&str]) -> Output {
        let by_library = BY_LIBRARY.map(|(name, _)| name).join(" ");
        Command::new(&self.node)
            .arg(&self.script)
            .args(words)
            // The suite takes the first space in the name of a command for its end.
            .current_dir(self.client.parent().unwrap())
            .env(BY_LIBRARY_VARIABLE, by_library)
            .env("NO_PROXY", "localhost,127.0.0.1,::1")
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.node.display()))
    }

    /// The names of all client scenarios.
    fn scenarios(&self) -> Vec<String> {
        let listed = self.run(&["list", "--client"]);
        assert!(listed.status.success(), "{listed:?}");
        let listed = String::from_utf8(listed.stdout).unwrap();
        let names = listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- "));
        let names = names.filter_map(|line| line.split_whitespace().next());
        names.map(str::to_owned).collect()
    }

    /// What the suite says of a scenario that the client does not pass.
    fn failure(&self, scenario: &str) -> Option<String> {
        let name = self.client.file_name().unwrap().to_str().unwrap();
        let ran = self.run(&[
            "client",
            "--command",
            &format!("./{name}"),
            "--scenario",
            scenario,
            "--timeout",
            CLIENT_TIMEOUT,
        ]);
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        // A client that does nothing passes what is checked only where it does something.
        let checked = !said.contains("Passed: 0/0");
        (!ran.status.success() || !checked).then_some(said)
    }
}

#[test]
fn every_scenario_is_passed_but_those_with_a_reason() {
    let suite = Suite::find();
    let scenarios = suite.scenarios();
    assert!(scenarios.len() >= 26, "{scenarios:?}");
    for (name, reason) in NOT_PASSED.iter().chain(&BY_LIBRARY) {
        assert!(
            scenarios.iter().any(|known| known == name),
            "{name}: {reason}"
        );
    }
    let left = Mutex::new(scenarios.iter());
    let failures = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(scenario) = left.lock().next() else {
                        return;
                    };
                    if let Some(said) = suite.failure(scenario) {
                        failures.lock().insert(scenario.as_str(), said);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    for scenario in failures.keys() {
        if NOT_PASSED.iter().any(|(name, _)| name == scenario) {
            continue;
        }
        let mut runs = (0..ALONE).map(|_| suite.failure(scenario));
        let passed = runs.any(|failure| failure.is_none());
        let said = &failures[scenario];
        assert!(
            passed,
            "{scenario} is not passed, without a reason:\n{said}"
        );
    }
    for (name, reason) in NOT_PASSED {
        assert!(
            failures.contains_key(name),
            "{name} is passed; remove it from the list: {reason}"
        );
    }
}

/// A token of the emulator's remote MCP server, to which a person consented.
async fn token(emulator: &Emulator) -> String {
    let folder = tempfile::tempdir().unwrap();
    let server = emulator.remote_url().unwrap();
    let redactor = qchost_text::Redactor::default();
    let authorization =
        Authorization::open("suite", server, folder.path(), redactor, true).unwrap();
    let begun = authorization.begin(&OAuthClient::default(), 49_152).await;
    let redirect = person::decide(&person::browser(), emulator, &begun.unwrap(), "allow").await;
    authorization.finish(&redirect).await.unwrap();
    let token = authorization.login().unwrap().token().await.unwrap();
    token.expose_secret().to_owned()
}

/// In front of a server: adds the token, which the suite does not have.
fn with_token(server: &str, token: &str) -> Web {
    let (server, bearer) = (server.to_owned(), format!("Bearer {token}"));
    let client = person::browser();
    let handler = move |method: Method, mut headers: HeaderMap, body: Bytes| {
        headers.remove("connection");
        headers.remove("content-length");
        headers.insert("authorization", bearer.parse().unwrap());
        let request = client.request(method, &server).headers(headers).body(body);
        async move {
            let answer = request.send().await.unwrap();
            let mut passed = Response::builder().status(answer.status());
            if let Some(kind) = answer.headers().get("content-type") {
                passed = passed.header("content-type", kind);
            }
            let body = answer.bytes().await.unwrap();
            passed.body(Body::from(body)).unwrap()
        }
    };
    Web::serve(Router::new().fallback(handler), 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_emulators_remote_server_passes_the_scenarios_for_servers_that_apply_to_it() {
    let suite = Suite::find();
    let builder = Emulator::builder().any_port().remote(Remote::new());
    let emulator = builder.start().await.unwrap();
    let token = token(&emulator).await;
    let web = with_token(emulator.remote_url().unwrap(), &token);
    let url = web.url();
    for scenario in OF_SERVERS {
        let words = ["server", "--url", url.as_str(), "--scenario", scenario];
        let ran = block_in_place(|| suite.run(&words));
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let checked = said.contains("Passed: ") && !said.contains("Passed: 0/0");
        assert!(ran.status.success() && checked, "{scenario}:\n{said}");
    }
}
