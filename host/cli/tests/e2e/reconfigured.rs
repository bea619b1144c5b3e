//! A configuration that changes while the host runs: fetching secrets for it delays nothing else, and a
//! plugin that it forbids to serve stops serving.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Folder, private_file};
use crate::guests::{marked, version};
use crate::process::wait_until;
use crate::running::{Running, edit, manifest, plugin, replace};
use crate::socket::Answer;

/// Time in which a host does what needs no vault; the time limit for the vault is twice as long.
const SOON: Duration = Duration::from_secs(30);

/// A vault that accepts every request, and answers when the test says so.
struct Vault {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    asked: AtomicUsize,
    answers: AtomicBool,
}

impl Vault {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), Arc::clone(&serving));
                std::thread::spawn(move || shared.answer(&stream));
            }
        });
        Self { address, shared }
    }

    fn answers(&self, answers: bool) {
        self.shared.answers.store(answers, Ordering::SeqCst);
    }

    /// The number of requests so far.
    fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Waits until there are more requests than before.
    fn until_asked(&self, before: usize) {
        wait_until("the vault is asked", || {
            (self.asked() > before).then_some(())
        });
    }
}

impl Shared {
    fn answer(&self, stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let Some(request) = lines.next() else { return };
        // The request's head ends with an empty line, and it has no body.
        lines.find(String::is_empty);
        self.asked.fetch_add(1, Ordering::SeqCst);
        while !self.answers.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let body = if request.contains("/auth/token/lookup-self") {
            r#"{"data":{"ttl":0}}"#
        } else {
            r#"{"data":{"data":{"authorization":"Bearer of-the-vault"},"metadata":{"version":1}}}"#
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        // The client may have disconnected.
        let mut stream = stream;
        drop(write!(
            stream,
            "{head}content-length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
}

fn account(name: &str) -> String {
    format!(
        "[account.{name}]\nconnection = \"http\"\nurl = \"https://mcp.example.com\"\n\
         headers = {{ Authorization = {{ vault = \"secret/{name}#authorization\" }} }}\n"
    )
}

/// Number of errors in the log.
fn errors(running: &Running) -> Vec<String> {
    let log = running.host.stderr();
    let lines = log.lines().filter(|line| line.contains("\"ERROR\""));
    lines.map(str::to_owned).collect()
}

#[test]
fn what_is_removed_is_gone_while_a_vault_does_not_answer() {
    let vault = Vault::start();
    let configuration = format!(
        "vault = {{ address = \"{}\", timeout-seconds = 60, auth = {{ token = {{ file = \"token\" }} }} }}",
        vault.address
    );
    let running = Running::start(&configuration, |folder| {
        private_file(&folder.path().join("token"), "hvs.of-the-test");
        plugin(folder, "lab", &version(1), "");
        plugin(folder, "other", &version(2), "");
    });
    let file = running.path("qchost.toml");
    let former = fs::read_to_string(&file).unwrap();
    replace(&file, format!("{former}{}", account("second")));
    vault.until_asked(0);
    fs::remove_file(running.path("plugins/lab.toml")).unwrap();
    let gone = running.until("lab", |answer| matches!(answer, Answer::Failed(_)));
    assert!(gone < SOON, "it took {gone:?}");
    running.is_version("other", 2);

    // A manifest for an account that the pending configuration adds is not wrong.
    let text = manifest("late", "../builds/other.wasm", "").replace("research", "second");
    replace(&running.path("plugins/late.toml"), text);
    running.until_status("late", "loading");
    vault.answers(true);
    running.until_version("late", 2);
    // All is in effect; the only problem reported is that the account's server is unreachable.
    let unreachable = "these accounts cannot be used: second (unreachable)";
    assert!(running.reload().error().contains(unreachable));
    assert_eq!(errors(&running), Vec::<String>::new());

    // A corrected configuration does not wait for one that hangs.
    vault.answers(false);
    let (asked, taken) = (vault.asked(), fs::read_to_string(&file).unwrap());
    replace(&file, format!("{taken}{}", account("third")));
    vault.until_asked(asked);
    replace(&file, taken);
    let reload = running.folder.start(&["reload"]).wait_for(SOON);
    assert!(reload.error().contains(unreachable), "{reload:?}");
    running.is_version("late", 2);
    running.end();
}

#[test]
fn what_is_removed_while_guardrails_are_taken_over_is_gone_before_that_is_done() {
    const PLUGINS: usize = 100;
    // Each has many policies, all of which are compiled again.
    let grants: Vec<_> = (0..20)
        .map(|number| format!("[[grant]]\nname = \"g{number}\"\nallow = [\"account/*\"]\n"))
        .collect();
    let running = Running::start("", |folder| {
        std::fs::create_dir(folder.path().join("policies")).unwrap();
        for number in 0..PLUGINS {
            plugin(folder, &format!("p{number}"), &version(1), &grants.concat());
        }
    });
    running.reload().good();
    let guardrail = "@id(\"none\")\nforbid (principal, action == Action::\"account/read-account\", resource);\n";
    let (begun, told) = (Instant::now(), "the guardrails changed");
    replace(&running.path("policies/none.cedar"), guardrail);
    // By now, the host is applying it.
    std::thread::sleep(Duration::from_millis(50));
    fs::remove_file(running.path("plugins/p7.toml")).unwrap();
    let gone = running.until("p7", |answer| matches!(answer, Answer::Failed(_)));
    let done = running.host.stderr().contains(told);
    wait_until("they are taken over", || {
        running.host.stderr().contains(told).then_some(())
    });
    let took = begun.elapsed();
    eprintln!("gone in {gone:?}, while {PLUGINS} plugins got new guardrails in {took:?}");
    assert!(!done, "it took {gone:?} of {took:?}");
    running.is_version("p8", 1);
    running.end();
}

#[test]
fn a_shutdown_requested_before_a_vault_has_answered_ends_the_host() {
    let vault = Vault::start();
    let folder = Folder::apart(&format!(
        "vault = {{ address = \"{}\", timeout-seconds = 60, auth = {{ token = {{ file = \"token\" }} }} }}\n{}",
        vault.address,
        account("second")
    ));
    private_file(&folder.path().join("token"), "hvs.of-the-test");
    let host = folder.start(&["run"]);
    vault.until_asked(0);
    host.terminate();
    let ran = host.wait_for(SOON);
    assert!(ran.good().stdout.is_empty(), "{ran:?}");
    // The next one finds everything as it should be.
    vault.answers(true);
    let next = folder.serve(&["run"]);
    next.end();
}

/// The same rule as at a start: see `in_production_a_plugin_that_may_trade_is_pinned`.
#[test]
fn a_switch_to_production_ends_what_may_trade_and_is_not_pinned() {
    const TRADE: &str = "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\"]\n\
                         projects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\n";
    let me = rustix::process::geteuid().as_raw();
    let lines =
        format!("mode = \"development\"\npeople.me = {{ uid = {me}, roles = [\"admin\"] }}");
    let running = Running::start(&lines, |folder| {
        plugin(folder, "trader", &marked(1, "trader"), TRADE);
        plugin(folder, "pinned", &marked(2, "pinned"), TRADE);
        plugin(folder, "other", &version(3), "");
    });
    let rows = running.control.plugins();
    let row = rows.iter().find(|row| row["plugin"] == "pinned").unwrap();
    let pin = format!("digest = {}\naccount", row["digest"]);
    edit(&running.path("plugins/pinned.toml"), "account", &pin);
    running.reload().good();
    running.is_version("trader", 1);
    running.configure("\"development\"", "\"production\"");
    let why = running.until_status("trader", "broken");
    assert!(
        why.contains("trader.toml: digest: ") && why.contains("`live/create-live-algorithm`"),
        "{why}"
    );
    let gone = running.act("trader");
    assert!(
        matches!(&gone, Answer::Failed(why) if why.contains("digest")),
        "{gone:?}"
    );
    // The twins: pinned, or without the right to trade.
    running.is_version("pinned", 2);
    running.is_version("other", 3);
    running.end();
}

/// The same rule as at a start, with the compiler that the host was started with.
#[test]
fn a_host_with_the_baseline_compiler_does_not_become_a_production_host() {
    const BASELINE: &str = "[engine]\nbaseline = true\n";
    let me = rustix::process::geteuid().as_raw();
    let started = format!(
        "mode = \"development\"\npeople.me = {{ uid = {me}, roles = [\"admin\"] }}\n{BASELINE}"
    );
    let running = Running::start(&started, |folder| {
        plugin(folder, "lab", &version(1), "");
    });
    running.is_version("lab", 1);
    let production = started.replace("development", "production");
    running.configure(&started, &production);
    let refuses = |words: &str| {
        let refused = running.reload();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(refused.stdout.contains(words), "{refused:?}");
    };
    refuses("engine.baseline: the baseline compiler is for development");
    running.configure(BASELINE, "");
    refuses("this host was started with engine.baseline");
    running.is_version("lab", 1);
    // The twin: nothing else in the configuration was wrong.
    running.configure("production", "development");
    running.reload().good();
    running.is_version("lab", 1);
    running.end();
}
