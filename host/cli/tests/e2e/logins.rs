//! Accounts whose credentials change while the host runs: a person logs in to the remote server, tokens end, and secrets in
//! files and in a vault are replaced.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use qchost_emulator::{Emulator, Remote};
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use crate::cloud::Cloud;
use crate::common::{Folder, TOKEN, USER, any_tool, embedded, private_file, strategy_lab};
use crate::process::{Process, Ran, command_line, tree, wait_until};
use crate::socket::{Answer, Control};

/// A tool that only the remote server has.
const REMOTE_TOOL: &str = "list_skills";

/// A person's browser.
pub struct Browser {
    runtime: Runtime,
    client: reqwest::Client,
}

impl Browser {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        Self {
            runtime,
            client: client.build().unwrap(),
        }
    }

    fn open(&self, address: &str) -> (u16, String) {
        self.runtime.block_on(async {
            let answer = self.client.get(address).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    /// Posts a form; returns where it leads, or the answer.
    fn post(&self, address: &str, form: &[(&str, &str)]) -> Result<String, Value> {
        let encoded = Url::parse_with_params(address, form).unwrap();
        let body = encoded.query().unwrap().to_owned();
        self.runtime.block_on(async {
            let request = self.client.post(address).body(body);
            let kind = "application/x-www-form-urlencoded";
            let answer = request.header("content-type", kind).send().await.unwrap();
            match answer.headers().get("location") {
                Some(location) => Ok(location.to_str().unwrap().to_owned()),
                None => Err(answer.json().await.unwrap()),
            }
        })
    }

    /// Consents on the page; returns where the browser is sent.
    fn consent(&self, emulator: &Emulator, address: &str) -> String {
        let (status, page) = self.open(address);
        assert_eq!(status, 200, "{address}");
        let (_, rest) = page.split_once("name=\"request\" value=\"").unwrap();
        let (number, _) = rest.split_once('"').unwrap();
        let form = [
            ("request", number),
            ("organization", emulator.organization_id()),
            ("decision", "allow"),
        ];
        let page = format!("http://{}/oauth/authorize", emulator.address());
        self.post(&page, &form).unwrap()
    }

    /// A token, got without the host.
    pub fn token(&self, emulator: &Emulator) -> String {
        const REDIRECT: &str = "http://127.0.0.1:49152/callback";
        const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let page = |path: &str| format!("http://{}{path}", emulator.address());
        let registration = json!({ "redirect_uris": [REDIRECT] });
        let client = self.runtime.block_on(async {
            let request = self
                .client
                .post(page("/oauth/register"))
                .json(&registration);
            let answer = request.send().await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            answer["client_id"].as_str().unwrap().to_owned()
        });
        let asked = [
            ("response_type", "code"),
            ("client_id", client.as_str()),
            ("redirect_uri", REDIRECT),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        let address = Url::parse_with_params(&page("/oauth/authorize"), asked).unwrap();
        let redirect = self.consent(emulator, address.as_str());
        let code = code_of(&redirect);
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", client.as_str()),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let answer = self.post(&page("/oauth/token"), &form).unwrap_err();
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

/// An account with both servers, and its running host.
struct Place {
    cloud: Cloud,
    folder: Folder,
    host: Process,
    browser: Browser,
    /// Every command line that was seen.
    commands: BTreeSet<String>,
}

impl Place {
    fn with(remote: Remote) -> Self {
        let place = Self::without_project(remote);
        place.create_project();
        place
    }

    fn without_project(remote: Remote) -> Self {
        let cloud = Cloud::with(|builder| builder.remote(remote));
        let folder = Folder::embedded(cloud.url());
        let file = folder.path().join("qchost.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let url = cloud.emulator().remote_url().unwrap();
        let text = format!("{text}[account.research.remote]\nurl = \"{url}\"\n");
        std::fs::write(&file, text).unwrap();
        folder.manifest("strategy-lab", &strategy_lab());
        Self::in_folder(cloud, folder)
    }

    /// The host of a folder, with the remote server of this cloud.
    fn in_folder(cloud: Cloud, folder: Folder) -> Self {
        let host = folder.serve(&["--log", "info", "run"]);
        Self {
            cloud,
            folder,
            host,
            browser: Browser::new(),
            commands: BTreeSet::new(),
        }
    }

    /// Creates a project, by which both servers can be compared.
    fn create_project(&self) {
        let project = json!({ "name": "Lab/one", "language": "Py" });
        self.folder.call("create_project", &project);
    }

    /// Gives the account this configuration, with the remote server of another cloud. Returns the former cloud.
    fn follow(&mut self, cloud: Cloud, configuration: &str) -> Cloud {
        let file = self.folder.path().join("qchost.toml");
        std::fs::write(file, format!("data = \"data\"\n{configuration}")).unwrap();
        let former = std::mem::replace(&mut self.cloud, cloud);
        self.folder.run(&["reload"]);
        let server = self.cloud.emulator().remote_url().unwrap().to_owned();
        wait_until("the other server is the account's", || {
            (self.status()["authorization"]["server"] == server.as_str()).then_some(())
        });
        former
    }

    /// What `doctor` says of the login to the remote server.
    fn diagnosis(&self) -> Value {
        let ran = self.folder.run(&["--json", "doctor"]);
        let checks: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
        let of_login = |check: &Value| check["what"] == "account research.remote: authentication";
        checks.into_iter().find(of_login).unwrap()
    }

    /// How often the remote server got a call of its tool.
    fn calls(&self) -> usize {
        let path = format!("/mcp/{REMOTE_TOOL}");
        self.cloud.requests_to(&path).len()
    }

    /// Begins a login; returns the command and the address that it prints.
    fn begin(&mut self, mut login: Process) -> (Process, String) {
        let address = login.until("the address is printed", |login| {
            let shown = login.stderr();
            let line = shown
                .lines()
                .find(|line| line.contains("open this address"))?;
            let note: Value = serde_json::from_str(line).ok()?;
            let words = note["note"].as_str()?.split_whitespace();
            let mut addresses = words.filter(|word| word.contains("/oauth/authorize?"));
            addresses.next().map(str::to_owned)
        });
        let seen = [&login, &self.host].map(|process| tree(process.id()));
        let seen = seen.into_iter().flatten().map(command_line);
        self.commands.extend(seen);
        (login, address)
    }

    /// Logs in by a browser of this machine; returns the redirect and what the command printed.
    fn log_in(&mut self) -> (String, Value) {
        let (redirect, ran) = self.try_to_log_in();
        (redirect, ran.json())
    }

    /// The same where the account may not be usable afterwards.
    fn try_to_log_in(&mut self) -> (String, Ran) {
        let arguments = ["--json", "account", "login", "research"];
        let (login, address) = self.begin(self.folder.start(&arguments));
        let redirect = self.browser.consent(self.cloud.emulator(), &address);
        assert!(redirect.starts_with("http://127.0.0.1:"), "{redirect}");
        let (status, page) = self.browser.open(&redirect);
        assert_eq!(status, 200, "{page}");
        (redirect, login.wait())
    }

    /// Waits until a login has said something.
    fn said(login: &mut Process, what: &str) {
        login.until(what, |login| login.stderr().contains(what).then_some(()));
    }

    /// A login that reads a pipe in place of a terminal.
    fn paste(&self, name: &str) -> (Process, File) {
        let pipe = self.folder.path().join(name);
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let arguments = ["--json", "account", "login", "research", "--paste"];
        let command = self.folder.limited(&format!("exec < {name}"), &arguments);
        let login = Process::start(command, self.folder.path());
        // It opens once the command reads.
        let pipe = File::options().write(true).open(pipe).unwrap();
        (login, pipe)
    }

    fn status(&self) -> Value {
        let ran = self
            .folder
            .run(&["--json", "account", "status", "research"]);
        let rows: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
        let mut rows = rows.into_iter();
        rows.find(|row| row["authorization"].is_object()).unwrap()
    }

    /// Calls the remote tool; the kind of its error, or nothing.
    fn call(&self) -> Option<String> {
        let ran = self.folder.run(&["--json", "call", REMOTE_TOOL]);
        if ran.status.success() {
            return None;
        }
        let error: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
        Some(error["kind"].as_str().unwrap().to_owned())
    }

    fn records(&self, what: &str) -> usize {
        let ran = self
            .folder
            .run(&["--json", "audit", "query", "--limit", "1000"]);
        let what = format!("\"{what}\"");
        let lines = ran
            .good()
            .stdout
            .lines()
            .filter(|line| line.contains(&what));
        lines.count()
    }

    /// What a verb printed is as its schema says.
    fn is_as_said(&self, verb: &str, row: &Value) {
        let schema = ["--json", "schema", "output", "account", verb];
        let schema = self.folder.run(&schema).json();
        let schema = jsonschema::validator_for(&schema).unwrap();
        assert!(schema.is_valid(row), "{row}");
    }

    fn tokens(&self) -> Vec<String> {
        let file = self.folder.path().join("data/authorizations/research.json");
        let kept: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let tokens = ["access-token", "refresh-token"];
        let tokens = tokens.iter().filter_map(|token| kept[*token].as_str());
        tokens.map(str::to_owned).collect()
    }
}

/// The cloud of a user who has this project, and whom no other cloud has.
fn cloud_with(project: &str) -> Cloud {
    let cloud = Cloud::with(|builder| builder.remote(Remote::new()));
    let project = json!({ "name": project, "language": "Py" });
    Folder::embedded(cloud.url()).call("create_project", &project);
    cloud
}

/// The table of an account's remote server.
fn by_remote(cloud: &Cloud) -> String {
    let url = cloud.emulator().remote_url().unwrap();
    format!("[account.research.remote]\nurl = \"{url}\"\n")
}

fn code_of(redirect: &str) -> String {
    let redirect = Url::parse(redirect).unwrap();
    let code = redirect.query_pairs().find(|(key, _)| key == "code");
    code.unwrap().1.into_owned()
}

/// The files below a folder that contain a text.
fn containing(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(containing(&path, text));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            if memchr::memmem::find(&bytes, text.as_bytes()).is_some() {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_person_logs_in_by_a_browser_and_no_token_leaves_its_file() {
    let mut place = Place::with(Remote::new().refresh_tokens(true));
    assert_eq!(place.status()["authorization"]["status"], "logged-out");
    assert_eq!(place.call().as_deref(), Some("reauthorize"));
    // One cause is one failure, with the name of the account, also beside the host that lacks the login.
    let ran = place.folder.run(&["--json", "doctor"]);
    let checks: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
    let failed: Vec<&Value> = checks
        .iter()
        .filter(|check| check["mark"] == "failed")
        .collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0]["what"], "account research: authorization");
    assert_eq!(failed[0]["fix"], "qchost account login research");
    assert!(!ran.stdout.contains("login NAME"), "{ran:?}");
    let (redirect, row) = place.log_in();
    assert_eq!(row["authorization"]["status"], "authorized", "{row}");
    place.is_as_said("login", &row);
    assert_eq!(place.call(), None);
    assert_eq!(place.status()["authorization"]["renewed"], true);

    let backup = place.folder.path().join("backup");
    place
        .folder
        .run(&["backup", backup.to_str().unwrap()])
        .good();
    let mut secrets = place.tokens();
    assert_eq!(secrets.len(), 2);
    secrets.push(code_of(&redirect));
    let kept = place
        .folder
        .path()
        .join("data/authorizations/research.json");
    for secret in &secrets {
        let mut found = containing(place.folder.path(), secret);
        found.retain(|file| *file != kept);
        assert!(found.is_empty(), "{secret} in {found:?}");
        let mut commands = place.commands.iter();
        assert!(!commands.any(|command| command.contains(secret)));
    }
    for what in ["account-login", "account-logged-in"] {
        assert_eq!(place.records(what), 1, "{what}");
    }

    // The tokens are found again, and removed.
    place.host.end();
    place.host = place.folder.serve(&["run"]);
    assert_eq!(place.call(), None);
    let logout = ["--json", "account", "logout", "research"];
    let row = place.folder.run(&logout).json();
    place.is_as_said("logout", &row);
    assert_eq!(row["authorization"]["status"], "logged-out", "{row}");
    assert_eq!(row["revocation"]["outcome"], "revoked", "{row}");
    assert!(!kept.exists());
    assert_eq!(place.call().as_deref(), Some("reauthorize"));
    assert_eq!(place.records("account-logout"), 1);
    // What goes by the REST API goes on.
    place.folder.run(&["call", "read_account"]).good();
}

#[test]
fn a_person_without_a_browser_here_pastes_the_address_and_only_that_of_this_login() {
    let mut place = Place::with(Remote::new());
    let (first, former_pipe) = place.paste("one");
    let (first, address) = place.begin(first);
    let former = place.browser.consent(place.cloud.emulator(), &address);
    // Another login replaces the one that was begun.
    let (second, pipe) = place.paste("two");
    let (second, address) = place.begin(second);
    let redirect = place.browser.consent(place.cloud.emulator(), &address);
    let answer = |login: Process, mut pipe: File, pasted: &str| {
        writeln!(pipe, "  {pasted}").unwrap();
        drop(pipe);
        login.wait()
    };
    let ran = answer(first, former_pipe, &former);
    assert!(ran.json_error().contains("another login"), "{ran:?}");
    assert!(!ran.stderr.contains(&code_of(&former)), "{ran:?}");
    assert_eq!(place.status()["authorization"]["status"], "logged-out");
    let row = answer(second, pipe, &redirect).json();
    assert_eq!(row["authorization"]["status"], "authorized", "{row}");
    assert_eq!(place.call(), None);
    assert_eq!(place.records("account-login-failed"), 1);
}

#[test]
fn a_pasted_address_that_does_not_fit_is_refused_with_its_reason_and_asked_for_again() {
    let mut place = Place::with(Remote::new());
    let (login, mut pipe) = place.paste("one");
    let (mut login, address) = place.begin(login);
    Place::said(&mut login, "within 10 minutes");
    let redirect = place.browser.consent(place.cloud.emulator(), &address);
    let code = code_of(&redirect);
    let (without_issuer, _) = redirect.split_once("&iss=").unwrap();
    let (before_state, _) = redirect.split_once("&state=").unwrap();
    for (pasted, reason) in [
        (
            format!("{before_state}&state=of-another&iss=x"),
            "another login",
        ),
        (
            format!("{without_issuer}&iss=https%3A%2F%2Fevil.test"),
            "https://evil.test",
        ),
        ("no address at all".to_owned(), "does not begin with"),
        (without_issuer.to_owned(), "has no `iss`"),
    ] {
        writeln!(pipe, "{pasted}").unwrap();
        Place::said(&mut login, reason);
        assert!(login.runs(), "{pasted}");
    }
    assert!(place.cloud.requests_to("/oauth/token").is_empty());
    assert_eq!(place.status()["authorization"]["status"], "logged-out");
    // The last of five attempts; the pipe stays open.
    writeln!(pipe, "{redirect}").unwrap();
    let ran = login.wait();
    let row = ran.json();
    assert_eq!(row["authorization"]["status"], "authorized", "{row}");
    assert!(!ran.stderr.contains(&code), "{ran:?}");
    assert_eq!(place.cloud.requests_to("/oauth/token").len(), 1);
    assert_eq!(place.cloud.requests_to("/oauth/register").len(), 1);
    assert_eq!(place.records("account-login-failed"), 4);
    assert_eq!(place.records("account-logged-in"), 1);
    drop(pipe);
}

#[test]
fn a_login_by_paste_ends_after_five_attempts_and_at_once_when_the_server_says_no() {
    let mut place = Place::with(Remote::new());
    let (login, mut pipe) = place.paste("one");
    let (login, _) = place.begin(login);
    for attempt in 0..5 {
        // An empty line is one too.
        let pasted = if attempt == 2 {
            ""
        } else {
            "no address at all"
        };
        writeln!(pipe, "{pasted}").unwrap();
    }
    let ran = login.wait();
    assert!(ran.json_error().contains("does not begin with"), "{ran:?}");
    assert!(ran.stderr.contains("no address was pasted"), "{ran:?}");
    assert!(ran.stderr.contains("1 more attempt)"), "{ran:?}");

    let (login, mut other) = place.paste("two");
    let (login, address) = place.begin(login);
    let redirect = place.browser.consent(place.cloud.emulator(), &address);
    let (before_code, _) = redirect.split_once("code=").unwrap();
    let (_, after_code) = redirect.split_once("&state=").unwrap();
    writeln!(other, "{before_code}error=access_denied&state={after_code}").unwrap();
    let ran = login.wait();
    assert!(ran.json_error().contains("access_denied"), "{ran:?}");
    assert!(place.cloud.requests_to("/oauth/token").is_empty());
    assert_eq!(place.status()["authorization"]["status"], "logged-out");
    drop((pipe, other));
}

#[test]
fn the_page_in_the_browser_says_what_became_of_the_login() {
    let mut place = Place::with(Remote::new());
    let arguments = ["--json", "account", "login", "research"];
    let (login, address) = place.begin(place.folder.start(&arguments));
    let redirect = place.browser.consent(place.cloud.emulator(), &address);
    // Any page of this machine can ask for this, and the login goes on.
    let (callback, _) = redirect.split_once('?').unwrap();
    let foreign = format!("{callback}?code=foreign&state=of-another");
    let (status, page) = place.browser.open(&foreign);
    assert_eq!(status, 400, "{page}");
    assert!(
        page.contains("refused") && !page.contains("foreign"),
        "{page}"
    );
    let (status, page) = place.browser.open(&redirect);
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("Logged in"), "{page}");
    login.wait().good();
    assert_eq!(place.call(), None);
    assert_eq!(place.cloud.requests_to("/oauth/token").len(), 1);
}

#[test]
fn the_page_of_an_answer_by_another_authorization_server_says_that_it_was_refused() {
    let mut place = Place::with(Remote::new().redirect_issuer("https://evil.test"));
    let arguments = ["--json", "account", "login", "research"];
    let (login, address) = place.begin(place.folder.start(&arguments));
    let redirect = place.browser.consent(place.cloud.emulator(), &address);
    let (status, page) = place.browser.open(&redirect);
    assert_eq!(status, 400, "{page}");
    assert!(
        page.contains("refused") && page.contains("terminal"),
        "{page}"
    );
    assert!(!page.contains("evil"), "{page}");
    let ran = login.wait();
    assert!(ran.json_error().contains("https://evil.test"), "{ran:?}");
    assert!(!ran.stderr.contains(&code_of(&redirect)), "{ran:?}");
    assert!(place.cloud.requests_to("/oauth/token").is_empty());
    assert_eq!(place.status()["authorization"]["status"], "logged-out");
}

#[test]
fn an_authorization_that_ends_in_the_middle_of_a_sweep_leaves_the_sweep_alone() {
    let mut place = Place::with(Remote::new());
    place.log_in();
    assert_eq!(place.call(), None);
    let projects = place.folder.call("list_projects", &json!({}));
    let cell = json!({ "projectId": projects["projects"][0]["projectId"], "index": 0 });
    let grants = "[[grant]]\nname = \"raw\"\nallow = [\"raw/no_such_tool\"]\n\
                  [[grant]]\nname = \"notebook\"\nallow = [\"research/*\"]\nprojects = [\"Lab/*\"]\n";
    place.folder.manifest("any-tool", &any_tool(grants));
    wait_until("the plugin serves", || {
        let listed = place.folder.run(&["--json", "plugin", "list"]);
        let rows: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
        let mut rows = rows.iter();
        rows.any(|row| row["plugin"] == "any-tool" && row["status"] == "ready")
            .then_some(())
    });
    let grid = json!({ "grid": { "fast": [10, 20], "slow": [50, 90] } }).to_string();
    let sweep = place
        .folder
        .start(&["--json", "invoke", "strategy-lab.sweep", &grid]);
    wait_until("it is in the middle", || {
        (!place.cloud.created_backtests().is_empty()).then_some(())
    });
    place.cloud.emulator().expire_remote_tokens();
    assert_eq!(place.call().as_deref(), Some("reauthorize"));
    let status = place.status();
    assert_eq!(status["authorization"]["status"], "refused", "{status}");
    // A plugin that reads a notebook meanwhile is told the same.
    let read = place.folder.called(&[("jupyter_read_cell", cell)]);
    assert_eq!(read[0].0, "reauthorize", "{read:?}");
    let result = sweep.wait().json();
    assert_eq!(result["failures"], json!([]), "{result}");
    assert_eq!(result["ranking"].as_array().unwrap().len(), 4, "{result}");
    assert_eq!(place.cloud.created_backtests().len(), 4);
    // Another login heals it, without a restart.
    place.log_in();
    assert_eq!(place.call(), None);
}

/// Ends callers, also when the test fails meanwhile.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_second_login_fails_none_of_the_calls_that_run() {
    let mut place = Place::with(Remote::new());
    place.log_in();
    let first = place.tokens();
    let (control, ended) = (Control::of(&place.folder), AtomicBool::new(false));
    let request =
        json!({ "verb": "call", "account": "research", "tool": REMOTE_TOOL, "arguments": {} });
    let caller = || {
        let mut answers = Vec::new();
        while !ended.load(Ordering::SeqCst) {
            answers.push(control.ask(&request));
            std::thread::sleep(Duration::from_millis(10));
        }
        answers
    };
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(caller)).collect();
        {
            let _ends = Ends(&ended);
            place.log_in();
            // By the connection of the next login as well.
            assert_eq!(place.call(), None);
        }
        let answers = callers.into_iter().map(|caller| caller.join().unwrap());
        answers.flatten().collect()
    });
    assert_ne!(place.tokens(), first);
    assert!(answers.len() > 8, "only {} calls", answers.len());
    for answer in &answers {
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    }
}

#[test]
fn the_end_of_an_authorization_is_announced_before_and_after_and_shown() {
    const ENDS: [&str; 2] = [
        "account-authorization-expiring",
        "account-authorization-ended",
    ];
    let remote = Remote::new().token_lifetime(Duration::from_secs(8));
    let mut place = Place::with(remote);
    place.log_in();
    assert_eq!(place.call(), None);
    wait_until("it ended", || {
        (place.status()["authorization"]["status"] == "ended").then_some(())
    });
    assert_eq!(place.call().as_deref(), Some("reauthorize"));
    for what in ENDS {
        wait_until(what, || (place.records(what) == 1).then_some(()));
        let log = place.host.stderr();
        assert_eq!(log.matches(what).count(), 1, "{log}");
    }
    let ran = place.folder.run(&["--json", "doctor"]);
    let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
    let mut of_login = checks.as_array().unwrap().iter().filter(|check| {
        let what = check["what"].as_str().unwrap();
        what.ends_with(": authorization")
    });
    let ended = of_login.next().unwrap_or_else(|| panic!("{checks:#}"));
    assert_eq!(ended["mark"], "failed", "{ended}");
    assert_eq!(ended["fix"], "qchost account login research", "{ended}");
    place.host.end();
    place.host = place.folder.serve(&["--log", "info", "run"]);
    place.folder.run(&["call", "read_account"]).good();
    for what in ENDS {
        assert_eq!(place.records(what), 1, "it is announced once");
    }
}

#[test]
fn a_login_as_another_user_carries_nothing_until_a_logout_forgets_the_user() {
    let (first, other) = (cloud_with("Lab/first"), cloud_with("Lab/other"));
    let folder = Folder::new(&by_remote(&first));
    let mut place = Place::in_folder(first, folder);
    place.log_in();
    assert_eq!(place.call(), None);
    // The same user again, also after a restart.
    place.host.end();
    place.host = place.folder.serve(&["--log", "info", "run"]);
    place.log_in();
    assert_eq!(place.call(), None);

    let configuration = by_remote(&other);
    let _first = place.follow(other, &configuration);
    let (_, refused) = place.try_to_log_in();
    assert!(
        refused.json_error().contains("account logout"),
        "{refused:?}"
    );
    assert_eq!(place.call().as_deref(), Some("unavailable"));
    let row = place.status();
    assert_eq!(row["status"], "unauthorized", "{row}");
    let fix = row["fix"].as_str().unwrap();
    assert!(fix.contains("qchost account login research"), "{row}");
    assert_eq!(place.calls(), 0);

    let logout = ["--json", "account", "logout", "research"];
    place.folder.run(&logout).good();
    place.log_in();
    assert_eq!(place.call(), None);
    assert_eq!(place.calls(), 1);
}

#[test]
fn a_login_as_another_user_than_the_credentials_is_said_at_once_and_until_the_next_one() {
    const SAID: &str = "is not known to be the account's";
    let (own, other) = (cloud_with("Lab/first"), cloud_with("Lab/other"));
    let rest = embedded(own.url());
    let (of_own, of_other) = (by_remote(&own), by_remote(&other));
    let server = other.emulator().remote_url().unwrap().to_owned();
    let folder = Folder::new(&format!("{rest}{of_other}"));
    let mut place = Place::in_folder(other, folder);
    let (_, refused) = place.try_to_log_in();
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    let error = refused.json_error();
    for said in [
        server.as_str(),
        SAID,
        "qchost account logout research",
        "qchost account login research",
    ] {
        assert!(error.contains(said), "{error}");
    }
    let row: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(row["status"], "unauthorized", "{row}");
    // To every person, and also after a restart.
    for _ in 0..2 {
        assert_eq!(place.status()["status"], "unauthorized");
        let shown = place.folder.run(&["account", "status", "research"]);
        assert!(!shown.status.success(), "{shown:?}");
        assert!(shown.stdout.contains(SAID), "{shown:?}");
        let check = place.diagnosis();
        assert_eq!(check["mark"], "failed", "{check}");
        let fix = check["fix"].as_str().unwrap();
        assert!(fix.contains("qchost account logout research"), "{check}");
        place.host.end();
        place.host = place.folder.serve(&["--log", "info", "run"]);
    }
    assert_eq!(place.call().as_deref(), Some("unavailable"));
    assert_eq!(place.calls(), 0);

    // The twin: the user whose credentials the account has.
    let _other = place.follow(own, &format!("{rest}{of_own}"));
    let (_, row) = place.log_in();
    assert_eq!(row["status"], "connected", "{row}");
    assert_eq!(place.diagnosis()["mark"], "ok");
    assert_eq!(place.call(), None);
    assert_eq!(place.calls(), 1);
}

#[test]
fn a_login_of_an_account_without_a_project_asks_for_one_and_is_good_once_there_is_one() {
    let mut place = Place::without_project(Remote::new());
    let (_, refused) = place.try_to_log_in();
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    let error = refused.json_error();
    assert!(error.contains("qchost call create_project"), "{error}");
    let row = place.status();
    assert_eq!(row["status"], "unauthorized", "{row}");
    assert_eq!(place.diagnosis()["mark"], "failed");
    assert_eq!(place.call().as_deref(), Some("unavailable"));
    assert_eq!(place.calls(), 0);

    place.create_project();
    let row = place.status();
    assert_eq!(row["status"], "connected", "{row}");
    assert_eq!(place.diagnosis()["mark"], "ok");
    assert_eq!(place.call(), None);
    assert_eq!(place.calls(), 1);
}

/// A vault with one secret.
struct Vault {
    address: String,
    secret: Arc<Mutex<String>>,
}

impl Vault {
    fn with(secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let secret = Arc::new(Mutex::new(secret.to_owned()));
        let kept = Arc::clone(&secret);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let Some(request) = lines.next() else {
                    continue;
                };
                // The head of a request ends with an empty line, and it has no body.
                lines.find(String::is_empty);
                drop(lines);
                let body = match request.contains("/auth/token/lookup-self") {
                    true => json!({ "data": { "ttl": 0 } }),
                    false => json!({ "data": {
                        "data": { "authorization": *kept.lock() },
                        "metadata": { "version": 1 },
                    } }),
                };
                let body = body.to_string();
                let head =
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
                // The client may have disconnected.
                drop(write!(
                    stream,
                    "{head}content-length: {}\r\n\r\n{body}",
                    body.len()
                ));
            }
        });
        Self { address, secret }
    }
}

#[test]
fn a_token_that_is_replaced_in_the_vault_is_used_without_a_restart() {
    let cloud = Cloud::with(|builder| builder.remote(Remote::new()));
    let (browser, emulator) = (Browser::new(), cloud.emulator());
    let vault = Vault::with(&format!("Bearer {}", browser.token(emulator)));
    let folder = Folder::new(&format!(
        "vault = {{ address = \"{}\", cache-seconds = 0, auth = {{ token = {{ file = \"token\" }} }} }}\n\
         {}[account.research.remote]\nurl = \"{}\"\n\
         headers = {{ Authorization = {{ vault = \"secret/qc#authorization\" }} }}\n",
        vault.address,
        embedded(cloud.url()),
        emulator.remote_url().unwrap()
    ));
    private_file(&folder.path().join("token"), "hvs.of-the-test");
    let host = folder.serve(&["run"]);
    folder.call(
        "create_project",
        &json!({ "name": "Lab/one", "language": "Py" }),
    );
    folder.run(&["call", REMOTE_TOOL]).good();

    emulator.expire_remote_tokens();
    let ran = folder.run(&["--json", "call", REMOTE_TOOL]);
    assert!(!ran.status.success(), "{ran:?}");
    assert!(!ran.stderr.contains("denied"), "{ran:?}");
    *vault.secret.lock() = format!("Bearer {}", browser.token(emulator));
    folder.run(&["reload"]);
    wait_until("the new token is used", || {
        folder
            .run(&["call", REMOTE_TOOL])
            .status
            .success()
            .then_some(())
    });
    let denied = folder.run(&["--json", "audit", "query", "--kind", "denied"]);
    assert_eq!(denied.good().stdout.trim(), "", "{denied:?}");
    host.end();
}

#[test]
fn a_wrong_token_of_the_remote_server_heals_with_its_file_and_is_no_denial() {
    let cloud = Cloud::with(|builder| builder.remote(Remote::new()));
    let (browser, emulator) = (Browser::new(), cloud.emulator());
    let folder = Folder::new(&format!(
        "{}[account.research.remote]\nurl = \"{}\"\nheaders = {{ Authorization = {{ file = \"bearer\" }} }}\n",
        embedded(cloud.url()),
        emulator.remote_url().unwrap()
    ));
    let put = |token: &str| {
        let fresh = folder.path().join("fresh");
        private_file(&fresh, format!("Bearer {token}"));
        std::fs::rename(fresh, folder.path().join("bearer")).unwrap();
    };
    put("of-nobody-at-all");
    let host = folder.serve(&["run"]);
    folder.call(
        "create_project",
        &json!({ "name": "Lab/one", "language": "Py" }),
    );
    let ran = folder.run(&["--json", "call", REMOTE_TOOL]);
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
    assert!(!ran.stderr.contains("denied"), "{ran:?}");
    let ran = folder.run(&["account", "status"]);
    assert!(
        ran.error().contains("research.remote (unauthorized)"),
        "{ran:?}"
    );
    let token = browser.token(emulator);
    put(&token);
    wait_until("the right token is used", || {
        folder
            .run(&["call", REMOTE_TOOL])
            .status
            .success()
            .then_some(())
    });
    folder.run(&["account", "status"]).good();
    let denied = folder.run(&["--json", "audit", "query", "--kind", "denied"]);
    assert_eq!(denied.good().stdout.trim(), "", "{denied:?}");
    let log = format!("{}{}", host.stdout(), host.stderr());
    assert!(
        !log.contains(&token) && !log.contains("of-nobody-at-all"),
        "{log}"
    );
    host.end();
}

/// What the cloud sees of a request: by which token it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Former,
    Next,
    Neither,
}

const FORMER: &str = "the-former-api-token";
const NEXT: &str = "the-next-api-token";

/// A cloud that takes two tokens, as while one is being replaced, and takes its time.
struct TwoTokens {
    _runtime: Runtime,
    url: String,
    seen: Arc<Mutex<Vec<By>>>,
    waiting: Arc<AtomicUsize>,
}

fn signed(token: &str, timestamp: &str) -> String {
    let hash = hex::encode(Sha256::digest(format!("{token}:{timestamp}")));
    format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{hash}")))
}

impl TwoTokens {
    fn before(cloud: &Cloud) -> Self {
        let seen = Arc::<Mutex<Vec<By>>>::default();
        let waiting = Arc::<AtomicUsize>::default();
        let to = cloud.emulator().address();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (noted, counted) = (Arc::clone(&seen), Arc::clone(&waiting));
        let handler = move |uri: Uri, mut headers: HeaderMap, body: Bytes| {
            let (client, noted, counted) = (client.clone(), noted.clone(), counted.clone());
            async move {
                let timestamp = headers["timestamp"].to_str().unwrap().to_owned();
                let is =
                    |token: &str| headers["authorization"] == signed(token, &timestamp).as_str();
                let by = match (is(FORMER), is(NEXT)) {
                    (true, _) => By::Former,
                    (_, true) => By::Next,
                    _ => By::Neither,
                };
                let token = match by {
                    By::Neither => "neither",
                    _ => TOKEN,
                };
                let signature = HeaderValue::from_str(&signed(token, &timestamp)).unwrap();
                headers.insert("authorization", signature);
                headers.remove("host");
                headers.remove("accept-encoding");
                if uri.path().ends_with("/projects/create") {
                    noted.lock().push(by);
                    counted.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                let request = client.post(format!("http://{to}{uri}"));
                let answer = request.headers(headers).body(body).send().await.unwrap();
                let answer = answer.bytes().await.unwrap();
                Response::builder()
                    .header("content-type", "application/json")
                    .body(axum::body::Body::from(answer))
                    .unwrap()
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let url = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = Router::new().fallback(handler);
            tokio::spawn(async move { axum::serve(listener, router).await });
            format!("http://{address}/api/v2")
        });
        Self {
            _runtime: runtime,
            url,
            seen,
            waiting,
        }
    }
}

/// Replaces the credentials in the file in one step.
fn put(folder: &Folder, token: &str) {
    let fresh = folder.path().join("fresh");
    let text = json!({ "user-id": USER, "api-token": token }).to_string();
    private_file(&fresh, text);
    std::fs::rename(fresh, folder.path().join("token.json")).unwrap();
}

#[test]
fn credentials_that_are_replaced_under_50_calls_fail_none_and_the_next_one_uses_them() {
    const CALLS: usize = 50;
    let cloud = Cloud::start();
    let gateway = TwoTokens::before(&cloud);
    let folder = Folder::new(&format!(
        "[account.research]\nconnection = \"embedded\"\ncloud = \"{}\"\ncredentials-file = \"token.json\"\n",
        gateway.url
    ));
    put(&folder, FORMER);
    let mut command = folder.command(&["--json", "run"]);
    command
        .env_remove("QUANTCONNECT_USER_ID")
        .env_remove("QUANTCONNECT_API_TOKEN");
    let mut host = Process::start(command, folder.path());
    host.until("the host is ready", |host| {
        host.stdout().contains("\"ready\":true").then_some(())
    });
    let control = Control::of(&folder);
    let create = |number: usize| {
        let arguments = json!({ "name": format!("Lab/{number}"), "language": "Py" });
        json!({ "verb": "call", "account": "research", "tool": "create_project", "arguments": arguments })
    };
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let (control, create) = (&control, &create);
        let calls: Vec<_> = (0..CALLS)
            .map(|number| scope.spawn(move || control.ask(&create(number))))
            .collect();
        wait_until("calls are under way", || {
            (gateway.waiting.load(Ordering::SeqCst) >= CALLS / 2).then_some(())
        });
        put(&folder, NEXT);
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    for answer in &answers {
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    }
    // Each was sent once.
    assert_eq!(gateway.seen.lock().len(), CALLS);
    assert_eq!(cloud.requests_to("/projects/create").len(), CALLS);
    wait_until("the next token is used", || {
        let number = gateway.seen.lock().len();
        let answer = control.ask(&create(number));
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
        (gateway.seen.lock().last() == Some(&By::Next)).then_some(())
    });
    assert!(!gateway.seen.lock().contains(&By::Neither));
    let log = format!("{}{}", host.stdout(), host.stderr());
    assert!(!log.contains(FORMER) && !log.contains(NEXT), "{log}");
    host.end();
}
