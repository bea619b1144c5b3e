//! The state of accounts, and the findings of `doctor`, with one thing broken at a time.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use qchost_testing::Mounted;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{Folder, TOKEN, USER, private_file, served, strategy_lab};
use crate::interop;
use crate::process::{Process, command_line, signal, tree, wait_until};

const TOOL: &str = "read_account";

fn credentials(token: &str) -> String {
    json!({ "user-id": USER, "api-token": token }).to_string()
}

/// A host whose account has its credentials in a file.
fn filed(cloud: &str, token: &str) -> Folder {
    let folder = Folder::new(&format!(
        "[account.research]\nconnection = \"embedded\"\ncloud = \"{cloud}\"\ncredentials-file = \"token.json\"\n"
    ));
    private_file(&folder.path().join("token.json"), credentials(token));
    folder.manifest("strategy-lab", &strategy_lab());
    folder
}

/// The same with its cloud, which accepts the credentials.
fn connected() -> (Cloud, Folder) {
    let cloud = Cloud::start();
    let folder = filed(cloud.url(), TOKEN);
    (cloud, folder)
}

/// The binary without credentials in its environment.
fn start(folder: &Folder, arguments: &[&str]) -> Process {
    let mut command = folder.command(arguments);
    command
        .env_remove("QUANTCONNECT_USER_ID")
        .env_remove("QUANTCONNECT_API_TOKEN");
    Process::start(command, folder.path())
}

fn serve(folder: &Folder) -> Process {
    let mut host = start(folder, &["--json", "--log", "info", "run"]);
    host.until("the host is ready", |host| {
        host.stdout().contains("\"ready\":true").then_some(())
    });
    host
}

fn ready(host: &Process) -> Value {
    let out = host.stdout();
    let line = out.lines().find(|line| line.contains("\"ready\":true"));
    serde_json::from_str(line.unwrap()).unwrap()
}

/// The plugin's row in the list of the running host.
fn plugin(folder: &Folder) -> Value {
    let ran = start(folder, &["--json", "plugin", "list"]).wait();
    let rows: Value = serde_json::from_str(&ran.stdout).unwrap();
    rows[0].clone()
}

fn reload(folder: &Folder) -> (bool, Value) {
    let ran = start(folder, &["--json", "reload"]).wait();
    let rows: Value = serde_json::from_str(&ran.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    let row = rows.iter().find(|row| row["account"] == "research");
    (ran.status.success(), row.unwrap().clone())
}

/// Replaces the credentials in the file in one step.
fn put(folder: &Folder, token: &str) {
    let (fresh, file) = (
        folder.path().join("fresh"),
        folder.path().join("token.json"),
    );
    private_file(&fresh, credentials(token));
    std::fs::rename(fresh, file).unwrap();
}

#[test]
fn a_wrong_token_is_said_everywhere_is_no_denial_and_heals_with_its_file() {
    let cloud = Cloud::start();
    let folder = filed(cloud.url(), "another-token");
    let host = serve(&folder);
    assert_eq!(ready(&host)["accounts"]["research"], "unauthorized");
    assert!(host.stderr().contains("unauthorized"), "{}", host.stderr());
    let row = plugin(&folder);
    assert_eq!(row["account-state"], "unauthorized", "{row}");
    assert_eq!(row["status"], "unavailable", "{row}");
    assert!(
        row["error"]
            .as_str()
            .unwrap()
            .contains("Hash doesn't match")
    );
    let (good, row) = reload(&folder);
    assert!(!good && row["status"] == "unauthorized", "{row}");
    let ran = start(&folder, &["plugin", "list"]).wait();
    assert!(
        ran.error()
            .contains("these accounts cannot be used: research (unauthorized)"),
        "{ran:?}"
    );

    // A call that needs a read first is unavailable for the same cause, and recorded as that.
    let sweep = json!({ "grid": { "fast": [10], "slow": [100] } }).to_string();
    let ran = start(&folder, &["--json", "invoke", "strategy-lab.sweep", &sweep]).wait();
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("refuses the credentials"), "{said}");
    assert!(!said.contains("denied"), "{said}");
    let denied = start(&folder, &["--json", "audit", "query", "--kind", "denied"]).wait();
    assert_eq!(denied.good().stdout.trim(), "", "{denied:?}");

    // The file is watched, so the account recovers without a restart and without a call.
    put(&folder, TOKEN);
    wait_until("the account is connected", || {
        (plugin(&folder)["account-state"] == "connected").then_some(())
    });
    assert_eq!(plugin(&folder)["status"], "ready");
    let (good, row) = reload(&folder);
    assert!(good && row["status"] == "connected", "{row}");
    start(&folder, &["--json", "invoke", "strategy-lab.sweep", &sweep])
        .wait()
        .good();
    let all = format!("{}{}", host.stdout(), host.stderr());
    assert!(
        !all.contains(TOKEN) && !all.contains("another-token"),
        "{all}"
    );
}

/// The server gets its credentials when it is started, so it is started again.
#[test]
fn a_wrong_token_of_a_server_that_is_a_child_heals_with_its_file() {
    let cloud = Cloud::start();
    let folder = Folder::new(&format!(
        "{}credentials-file = \"token.json\"\n",
        served(cloud.url())
    ));
    put(&folder, "another-token");
    folder.manifest("strategy-lab", &strategy_lab());
    let host = serve(&folder);
    wait_until("the account is unauthorized", || {
        (plugin(&folder)["account-state"] == "unauthorized").then_some(())
    });
    let ran = start(&folder, &["--json", "call", TOOL]).wait();
    assert_eq!(ran.status.code(), Some(7), "{ran:?}");
    put(&folder, TOKEN);
    wait_until("the account is connected", || {
        (plugin(&folder)["account-state"] == "connected").then_some(())
    });
    start(&folder, &["call", TOOL]).wait().good();
    let denied = start(&folder, &["--json", "audit", "query", "--kind", "denied"]).wait();
    assert_eq!(denied.good().stdout.trim(), "", "{denied:?}");
    let all = format!("{}{}", host.stdout(), host.stderr());
    assert!(
        !all.contains(TOKEN) && !all.contains("another-token"),
        "{all}"
    );
}

#[test]
fn a_credential_that_becomes_wrong_or_unreadable_under_a_running_host_is_noticed() {
    let (_cloud, folder) = connected();
    let host = serve(&folder);
    assert_eq!(ready(&host)["accounts"]["research"], "connected");
    assert_eq!(plugin(&folder)["status"], "ready");

    put(&folder, "another-token");
    wait_until("the account is unauthorized", || {
        (plugin(&folder)["account-state"] == "unauthorized").then_some(())
    });
    put(&folder, TOKEN);
    wait_until("the account is connected", || {
        (plugin(&folder)["account-state"] == "connected").then_some(())
    });

    // An unusable file changes nothing, and is reported.
    std::fs::write(folder.path().join("token.json"), "no json").unwrap();
    wait_until("the file is named", || {
        let ran = start(&folder, &["plugin", "list"]).wait();
        ran.stdout
            .contains("credentials: account `research`")
            .then_some(())
    });
    start(&folder, &["call", TOOL]).wait().good();
    let (good, _) = reload(&folder);
    assert!(!good);
    let ran = start(&folder, &["plugin", "list"]).wait();
    assert!(ran.error().contains("files are not in effect"), "{ran:?}");
    put(&folder, TOKEN);
    wait_until("all is in effect", || reload(&folder).0.then_some(()));
    start(&folder, &["plugin", "list"]).wait().good();
}

#[test]
fn credentials_that_others_can_read_are_no_wrong_token() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_cloud, folder) = connected();
    let file = folder.path().join("token.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let found = doctor(&folder);
    let fix = check(&found, "account research")["fix"].as_str().unwrap();
    assert!(fix.starts_with("chmod 600 token.json"), "{fix}");
    let host = serve(&folder);
    let (good, row) = reload(&folder);
    let detail = row["detail"].as_str().unwrap();
    assert!(!good && detail.contains("run: chmod 600"), "{row}");
    assert!(!detail.contains("put the right"), "{row}");
    drop(host);
}

#[test]
fn secrets_in_a_configuration_that_every_user_can_read_are_a_warning_whose_fix_works_as_printed() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_cloud, folder) = connected();
    let file = folder.path().join("qchost.toml");
    let open = || {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    };
    let warned = |checks: &Value| {
        let mut all = checks.as_array().unwrap().iter();
        let found = all.find(|check| check["what"] == "configuration: secrets");
        found.cloned()
    };
    // Without a secret in it, everyone may read it.
    open();
    assert_eq!(warned(&doctor(&folder)), None);
    let text = std::fs::read_to_string(&file).unwrap();
    let profile =
        "[brokerage.ib]\nid = \"InteractiveBrokersBrokerage\"\nib-password = \"hunter2\"\n";
    std::fs::write(&file, format!("{text}{profile}")).unwrap();
    let found = warned(&doctor(&folder)).unwrap();
    assert_eq!(found["mark"], "warning", "{found}");
    let finding = found["finding"].as_str().unwrap();
    assert!(finding.contains("brokerage.ib.ib-password"), "{found}");
    assert!(!found.to_string().contains("hunter2"), "{found}");
    let mut fix = std::process::Command::new("sh");
    fix.args(["-c", found["fix"].as_str().unwrap()])
        .current_dir(folder.path());
    let fixed = Process::start(fix, folder.path()).wait();
    fixed.good();
    let mode = file.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o640);
    assert_eq!(warned(&doctor(&folder)), None);
}

#[test]
fn reload_asks_an_account_whose_server_died_since_its_last_call() {
    let (cloud, folder) = connected();
    let _host = serve(&folder);
    assert!(reload(&folder).0);
    drop(cloud);
    // A result of less than a second ago is reused.
    wait_until("it is seen", || {
        let (good, row) = reload(&folder);
        (!good && row["status"] == "unreachable").then_some(())
    });
}

#[test]
fn what_is_not_in_effect_is_an_exit_status_and_has_a_fix_of_its_own() {
    let (_cloud, folder) = connected();
    let _host = serve(&folder);
    let file = folder.path().join("qchost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let policies = folder.path().join("policies");
    let fails = |what: &str| {
        for verb in [&["reload"][..], &["plugin", "list"]] {
            let ran = start(&folder, verb).wait();
            assert!(ran.error().contains("files are not in effect"), "{ran:?}");
        }
        let checks = doctor(&folder);
        let all = checks.as_array().unwrap().iter();
        let mut of_host = all.filter(|check| {
            let name = check["what"].as_str().unwrap();
            name.starts_with("running host: ") && name.ends_with(what)
        });
        let found = of_host.next().unwrap_or_else(|| panic!("{checks:#}"));
        assert_eq!(found["mark"], "failed", "{found}");
        let fix = found["fix"].as_str().unwrap();
        assert!(fix.contains("Do not start the host again"), "{fix}");
    };
    std::fs::write(&file, format!("{text}[account.research]\n")).unwrap();
    wait_until("the file is refused", || (!reload(&folder).0).then_some(()));
    fails("qchost.toml");
    std::fs::write(&file, &text).unwrap();
    wait_until("the file is taken back", || reload(&folder).0.then_some(()));

    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("bad.cedar"), "forbid (principal").unwrap();
    wait_until("the guardrails are refused", || {
        (!reload(&folder).0).then_some(())
    });
    fails("policies");
    std::fs::remove_file(policies.join("bad.cedar")).unwrap();
    wait_until("they are mended", || reload(&folder).0.then_some(()));
    start(&folder, &["plugin", "list"]).wait().good();

    // A broken component, while the previous one keeps serving.
    let manifest = folder.path().join("plugins/strategy-lab.toml");
    std::fs::write(folder.path().join("plugins/bad.wasm"), "no component").unwrap();
    let good = std::fs::read_to_string(&manifest).unwrap();
    let lines = good
        .lines()
        .map(|line| match line.starts_with("component") {
            true => "component = \"bad.wasm\"",
            false => line,
        });
    std::fs::write(&manifest, lines.collect::<Vec<_>>().join("\n")).unwrap();
    wait_until("it is degraded", || {
        (plugin(&folder)["status"] == "degraded").then_some(())
    });
    assert_eq!(failed(&doctor(&folder)), ["plugin strategy-lab"]);
}

#[test]
fn doctor_makes_nothing_where_no_host_ran_yet() {
    let (_cloud, folder) = connected();
    std::fs::remove_file(folder.path().join("plugins/strategy-lab.toml")).unwrap();
    let file = folder.path().join("qchost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let others = text.lines().filter(|line| !line.starts_with("cache"));
    let text = others.collect::<Vec<_>>().join("\n");
    std::fs::write(&file, text.replace("data = \"data\"", "data = \"a/fresh\"")).unwrap();
    let checks = doctor(&folder);
    assert_eq!(failed(&checks), [""; 0], "{checks:#}");
    let found = check(&checks, "data folder")["finding"].as_str().unwrap();
    assert!(found.contains("a host makes it"), "{found}");
    assert_eq!(check(&checks, "running host")["mark"], "ok");
    assert_eq!(check(&checks, "plugins")["mark"], "warning");
    assert!(!folder.path().join("a").exists());
}

#[test]
fn doctor_counts_the_guardrails_and_names_their_folder() {
    let (_cloud, folder) = connected();
    let finding = || check(&doctor(&folder), "guardrails")["finding"].clone();
    assert_eq!(finding(), "none in policies");
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    for (name, expected) in [
        ("one", "1 guardrail in policies"),
        ("two", "2 guardrails in policies"),
    ] {
        let rule = format!(
            "@id(\"{name}\")\nforbid (principal, action == Action::\"live/create-live-algorithm\", resource);\n"
        );
        std::fs::write(policies.join(format!("{name}.cedar")), rule).unwrap();
        assert_eq!(finding(), expected);
    }
}

#[test]
fn doctor_sees_a_database_that_a_third_process_has_locked() {
    let (_cloud, folder) = connected();
    let _host = serve(&folder);
    start(&folder, &["halt"]).wait().good();
    assert_eq!(check(&doctor(&folder), "state")["mark"], "ok");
    let database = rusqlite::Connection::open(folder.path().join("data/state.db")).unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let checks = doctor(&folder);
    assert_eq!(failed(&checks), ["state"], "{checks:#}");
    let state = check(&checks, "state");
    assert!(state["fix"].as_str().unwrap().contains("fuser"), "{state}");
    let ran = start(&folder, &["resume"]).wait();
    let error = ran.error();
    assert!(
        error.contains("another process has locked the database") && error.contains("fuser"),
        "{ran:?}"
    );
    database.execute_batch("ROLLBACK").unwrap();
    start(&folder, &["resume"]).wait().good();
    assert_eq!(check(&doctor(&folder), "state")["mark"], "ok");
}

#[test]
fn a_file_that_comes_later_is_found() {
    let (_cloud, folder) = connected();
    std::fs::remove_file(folder.path().join("token.json")).unwrap();
    let host = serve(&folder);
    assert_eq!(ready(&host)["accounts"]["research"], "unauthorized");
    put(&folder, TOKEN);
    wait_until("the account is connected", || {
        (plugin(&folder)["account-state"] == "connected").then_some(())
    });
}

#[test]
fn a_server_that_is_down_is_unreachable_and_no_denial() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let folder = filed(&format!("http://{free}/api/v2"), TOKEN);
    let host = serve(&folder);
    assert_eq!(ready(&host)["accounts"]["research"], "unreachable");
    let row = plugin(&folder);
    assert_eq!(row["status"], "unavailable", "{row}");
    let (good, row) = reload(&folder);
    assert!(!good && row["status"] == "unreachable", "{row}");
    let ran = start(&folder, &["plugin", "list"]).wait();
    assert!(ran.error().contains("research (unreachable)"), "{ran:?}");
    drop(host);
    let denied = start(&folder, &["--json", "audit", "query", "--kind", "denied"]).wait();
    assert_eq!(denied.good().stdout.trim(), "", "{denied:?}");
}

/// A server that gives every request the same answer, with a date `offset` seconds after this machine's.
fn answering(status: &'static str, offset: i64, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                // Every request fits.
                let mut request = [0; 65_536];
                drop(stream.read(&mut request));
                let time = Timestamp::from_second(Timestamp::now().as_second() + offset).unwrap();
                let date = DateTimePrinter::new()
                    .timestamp_to_rfc9110_string(&time)
                    .unwrap();
                drop(write!(
                    stream,
                    "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                ));
            });
        }
    });
    format!("http://{address}/api/v2")
}

#[test]
fn a_clock_that_is_wrong_is_told_from_a_wrong_token() {
    let refusal = r#"{"success": false, "errors": ["Invalid timestamp, value received: 1"]}"#;
    let folder = filed(&answering("200 OK", 10_000, refusal), TOKEN);
    let host = serve(&folder);
    assert_eq!(ready(&host)["accounts"]["research"], "clock");
    let row = plugin(&folder);
    assert_eq!(row["account-state"], "clock", "{row}");
    assert!(
        row["error"].as_str().unwrap().contains("timedatectl"),
        "{row}"
    );
    drop(host);

    let checks = doctor(&folder);
    let clock = check(&checks, "account research: clock");
    assert_eq!(clock["mark"], "failed", "{clock}");
    assert!(
        clock["finding"].as_str().unwrap().contains("0 s off"),
        "{clock}"
    );
    assert!(
        clock["fix"].as_str().unwrap().contains("timedatectl"),
        "{clock}"
    );
    // Whether the token is right is unknown.
    assert_eq!(
        check(&checks, "account research: authentication")["mark"],
        "unknown"
    );
    assert_eq!(failed(&checks), ["account research: clock"]);
}

fn doctor(folder: &Folder) -> Value {
    let ran = start(folder, &["--json", "doctor"]).wait();
    let checks: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let code = i32::from(!failed(&checks).is_empty());
    assert_eq!(ran.status.code(), Some(code), "{ran:?}");
    checks
}

fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let mut all = checks.as_array().unwrap().iter();
    all.find(|check| check["what"] == name)
        .unwrap_or_else(|| panic!("no check of {name}: {checks:#}"))
}

/// The checks that failed. Each has a fix.
fn failed(checks: &Value) -> Vec<&str> {
    let all = checks.as_array().unwrap().iter();
    let failed = all.filter(|check| check["mark"] == "failed");
    failed
        .map(|check| {
            assert!(check["fix"].is_string(), "{check}");
            check["what"].as_str().unwrap()
        })
        .collect()
}

#[test]
fn doctor_names_what_is_wrong_with_the_data_folder_and_gives_no_advice_about_plugins() {
    let (_cloud, folder) = connected();
    assert_eq!(failed(&doctor(&folder)), [""; 0], "all is well");
    let data = folder.path().join("data");
    let only = |what: &str, fix: &str| {
        let checks = doctor(&folder);
        assert_eq!(failed(&checks), [what], "{checks:#}");
        let found = check(&checks, what);
        assert!(found["fix"].as_str().unwrap().contains(fix), "{found}");
        assert_eq!(check(&checks, "plugins")["mark"], "unknown", "{checks:#}");
    };
    let open = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(0o755);
    only("data folder", "chmod 700");
    open(0o700);

    // Locked by a process that does not answer.
    let lock = data.join("host.lock");
    let file = std::fs::File::options().write(true).open(&lock).unwrap();
    file.lock().unwrap();
    only("running host", "process id");
    drop(file);

    let key = data.join("host.key");
    let bytes = std::fs::read(&key).unwrap();
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        only("host key", "chmod 600");
    }
    private_file(&key, &bytes[1..]);
    only("host key", "backup");
    private_file(&key, bytes);

    let state = data.join("state.db");
    let whole = std::fs::read(&state).unwrap();
    std::fs::write(&state, [b'x'; 8192]).unwrap();
    for side in ["state.db-wal", "state.db-shm"] {
        drop(std::fs::remove_file(data.join(side)));
    }
    only("state", "backup");
    std::fs::write(&state, whole).unwrap();

    // Changes one byte of the record.
    start(&folder, &["call", TOOL]).wait().good();
    let segment = first_file(&data.join("audit"));
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    only("record", "audit verify");
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(failed(&doctor(&folder)), [""; 0], "all is well again");

    // A folder that no user can create.
    let file = folder.path().join("qchost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("data = \"data\"", "data = \"/proc/qchost\""),
    )
    .unwrap();
    only("data folder", "`data`");
    std::fs::write(folder.path().join("a-file"), "").unwrap();
    std::fs::write(&file, text.replace("data = \"data\"", "data = \"a-file\"")).unwrap();
    only("data folder", "move");
}

/// The state of the machine and the disk does not depend on the configuration.
#[test]
fn doctor_looks_at_the_machine_and_the_disk_also_with_a_broken_configuration() {
    let (_cloud, folder) = connected();
    let path = folder.path().join("qchost.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    assert_eq!(failed(&doctor(&folder)), [""; 0], "all is well");
    let looked_at = [
        "open files",
        "time source",
        "data: disk space",
        "data: inodes",
    ];
    std::fs::write(&path, format!("{good}\nmode = broken")).unwrap();
    let checks = doctor(&folder);
    assert_eq!(failed(&checks), ["configuration"], "{checks:#}");
    for what in looked_at {
        let (found, mark) = (check(&checks, what), check(&checks, what)["mark"].clone());
        // The state of this machine's time service is unknown in the test.
        assert!(mark == "ok" || what == "time source", "{found}");
    }
    // Whose data folder cannot be read.
    std::fs::remove_file(&path).unwrap();
    let checks = doctor(&folder);
    assert_eq!(failed(&checks), ["configuration"], "{checks:#}");
    assert_eq!(check(&checks, "data: disk space")["mark"], "unknown");
    check(&checks, "open files");
}

fn first_file(folder: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "jsonl"))
        .collect();
    files.sort();
    files.remove(0)
}

#[test]
fn doctor_sees_a_full_disk() {
    let (_cloud, folder) = connected();
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let Some(_mounted) = Mounted::at(&small, "40m") else {
        return;
    };
    let file = folder.path().join("qchost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("data = \"data\"", "data = \"small\"")).unwrap();
    let little = doctor(&folder);
    assert_eq!(
        check(&little, "data: disk space")["mark"],
        "warning",
        "{little:#}"
    );
    let mut ballast = std::fs::File::create(small.join("ballast")).unwrap();
    let mut fill = || while ballast.write_all(&[1; 4096]).is_ok() {};
    fill();
    let full = doctor(&folder);
    for what in ["data: disk space", "data: writing"] {
        let found = check(&full, what);
        assert_eq!(found["mark"], "failed", "{full:#}");
        assert!(
            found["fix"].as_str().unwrap().contains("make room"),
            "{found}"
        );
    }
    // The database is unchanged, and the operator is not advised to replace it by an older one.
    let state = check(&full, "state");
    assert_eq!(state["mark"], "unknown", "{state}");
    assert!(!full.to_string().contains("qchost restore"), "{full:#}");
    // The first `doctor` may have ended before its database was closed. The second one, which cannot open it either, then
    // moves what is in the log into the database and removes the log: that makes room.
    fill();
    let ran = start(&folder, &["run"]).wait();
    let error = ran.error();
    assert!(
        error.contains("is full") && error.contains("make room") && !error.contains("restore"),
        "{error}"
    );
}

/// The host was there before its disk was full.
#[test]
fn doctor_does_not_say_that_a_host_on_a_full_disk_takes_writes() {
    let (_cloud, folder) = connected();
    let data = folder.path().join("data");
    let key = std::fs::read(data.join("host.key")).unwrap();
    let Some(_mounted) = Mounted::at(&data, "24m") else {
        return;
    };
    private_file(&data.join("host.key"), key);
    let _host = serve(&folder);
    assert_eq!(check(&doctor(&folder), "state")["mark"], "ok");
    let mut ballast = std::fs::File::create(data.join("ballast")).unwrap();
    while ballast.write_all(&[1; 4096]).is_ok() {}
    let full = doctor(&folder);
    let state = check(&full, "state");
    assert_eq!(state["mark"], "failed", "{full:#}");
    assert!(
        state["fix"].as_str().unwrap().contains("make room"),
        "{state}"
    );
}

#[test]
fn each_cause_of_unusable_credentials_and_guardrails_has_a_fix_of_its_own() {
    let (_cloud, folder) = connected();
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("a.cedar"), crate::policies::GUARDRAIL).unwrap();
    let file = folder.path().join("qchost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("policies = \"policies\"\n{text}")).unwrap();
    let fix = |name: &str| {
        let checks = doctor(&folder);
        let found = check(&checks, name);
        assert_eq!(found["mark"], "failed", "{found}");
        found["fix"].as_str().unwrap().to_owned()
    };
    let host = serve(&folder);
    let token = folder.path().join("token.json");
    private_file(&token, "{\"user-id\": 1, ");
    wait_until("it is noticed", || (!reload(&folder).0).then_some(()));
    assert!(
        fix("account research").contains("lean login"),
        "{}",
        doctor(&folder)
    );
    // The host's own findings have a fix as well.
    let checks = doctor(&folder);
    for check in checks.as_array().unwrap() {
        let fixed = check["fix"].as_str().is_some_and(|fix| fix.len() > 1);
        assert!(check["mark"] != "failed" || fixed, "{check}");
    }
    std::fs::remove_file(&token).unwrap();
    assert!(
        fix("account research").contains("put the file"),
        "{}",
        doctor(&folder)
    );
    put(&folder, TOKEN);
    wait_until("it is mended", || reload(&folder).0.then_some(()));

    let away = folder.path().join("away");
    std::fs::rename(&policies, &away).unwrap();
    wait_until("it is noticed", || {
        let ran = start(&folder, &["plugin", "list"]).wait();
        ran.stdout.contains("hold on").then_some(())
    });
    for name in ["guardrails", "running host: policies"] {
        let fix = fix(name);
        assert!(
            fix.contains("back") && fix.contains("holds on"),
            "{name}: {fix}"
        );
    }
    std::fs::rename(&away, &policies).unwrap();
    host.end();
}

/// An admin who is not the user of the host.
#[test]
fn doctor_asks_the_host_of_another_user_and_says_of_the_rest_that_it_is_not_known() {
    use crate::desk::{ADMIN, Desk, STRANGER};
    let Some(desk) = Desk::new("", str::to_owned) else {
        return;
    };
    let host = desk.serve();
    desk.run_as(ADMIN, &["call", "read_lean_versions"]).good();
    let seen = |uid| -> Value {
        let ran = desk.run_as(uid, &["--json", "doctor"]);
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        assert!(!ran.stdout.contains("chown"), "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let checks = seen(ADMIN);
    for what in [
        "running host",
        "record",
        "plugin every-category",
        "account research",
    ] {
        assert_eq!(check(&checks, what)["mark"], "ok", "{checks:#}");
    }
    for what in [
        "data folder",
        "data: disk space",
        "host key",
        "state",
        "cache",
    ] {
        let found = check(&checks, what);
        assert_eq!(found["mark"], "unknown", "{checks:#}");
        assert_eq!(found["fix"], "run this as uid 0", "{found}");
        assert!(
            found["finding"]
                .as_str()
                .unwrap()
                .contains("not known to this user")
        );
    }
    // A user without access learns what is unknown, and that no problem was found.
    let checks = seen(STRANGER);
    assert_eq!(
        check(&checks, "running host")["mark"],
        "unknown",
        "{checks:#}"
    );
    // A file that only others may read is not broken.
    use std::os::unix::fs::PermissionsExt as _;
    let path = desk.folder.path().join("qchost.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ran = desk.run_as(ADMIN, &["--json", "--socket", "run/control.sock", "doctor"]);
    let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
    let found = check(&checks, "configuration");
    assert_eq!(found["mark"], "unknown", "{checks:#}");
    assert!(!ran.stdout.contains("qchost init"), "{ran:?}");
    assert_eq!(
        check(&checks, "plugin every-category")["mark"],
        "ok",
        "{checks:#}"
    );
    host.end();
}

#[test]
fn doctor_sees_too_few_open_files() {
    let (_cloud, folder) = connected();
    for (limit, mark) in [(200, "failed"), (1_000, "warning")] {
        let command = folder.limited(&format!("ulimit -n {limit}"), &["--json", "doctor"]);
        let ran = Process::start(command, folder.path()).wait();
        let checks: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        let found = check(&checks, "open files");
        assert_eq!(found["mark"], mark, "{found}");
        assert!(
            found["fix"].as_str().unwrap().contains("LimitNOFILE"),
            "{found}"
        );
    }
}

#[test]
fn doctor_says_nothing_good_of_what_it_could_not_ask() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let folder = filed(&format!("http://{free}/api/v2"), TOKEN);
    let checks = doctor(&folder);
    assert_eq!(failed(&checks), ["account research: cloud"]);
    for what in ["authentication", "clock", "rate limit"] {
        let found = check(&checks, &format!("account research: {what}"));
        assert_eq!(found["mark"], "unknown", "{found}");
    }
}

#[test]
fn doctor_says_what_ends_soon() {
    let (_cloud, folder) = connected();
    let token = |seconds: i64| {
        let claims = json!({ "exp": Timestamp::now().as_second() + seconds }).to_string();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        format!("Bearer e30.{claims}.c2ln")
    };
    let file = folder.path().join("qchost.toml");
    let url = answering("401 Unauthorized", 0, "{}");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text += &format!(
        "[account.remote]\nconnection = \"http\"\nurl = \"{url}\"\nheaders = {{ Authorization = {{ file = \"bearer\" }} }}\n"
    );
    std::fs::write(&file, text).unwrap();
    for (seconds, mark) in [(-60, "failed"), (3_600, "warning"), (1_000_000, "ok")] {
        private_file(&folder.path().join("bearer"), token(seconds));
        let checks = doctor(&folder);
        let found = check(&checks, "account remote: token in Authorization");
        assert_eq!(found["mark"], mark, "{found}");
    }
}

#[test]
fn doctor_says_when_the_certificate_of_a_server_ends() {
    let cloud = Cloud::start();
    for (left, mark) in [(3_600, "warning"), (1_000_000, "ok")] {
        let folder = filed(cloud.url(), TOKEN);
        let mut made = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        made.not_after = (SystemTime::now() + Duration::from_secs(left)).into();
        let key = KeyPair::generate().unwrap();
        let certificate = made.self_signed(&key).unwrap();
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate.der());
        let trusted = folder.path().join("trusted.pem");
        let pem = format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n");
        std::fs::write(&trusted, pem).unwrap();
        let port = answering_by_tls(certificate.der().clone(), &key);
        let file = folder.path().join("qchost.toml");
        let text = std::fs::read_to_string(&file).unwrap()
            + &format!(
                "[account.remote]\nconnection = \"http\"\nurl = \"https://localhost:{port}/mcp\"\n"
            );
        std::fs::write(&file, text).unwrap();
        let mut command = folder.command(&["--json", "doctor"]);
        command.env("SSL_CERT_FILE", &trusted);
        let ran = Process::start(command, folder.path()).wait();
        let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
        let found = check(&checks, "account remote: certificate");
        assert_eq!(found["mark"], mark, "{found}");
    }
}

/// A server that answers every request over TLS that there is nothing, and closes the connection.
fn answering_by_tls(certificate: CertificateDer<'static>, key: &KeyPair) -> u16 {
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], private)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, stream.unwrap());
            std::thread::spawn(move || {
                drop(stream.read(&mut [0; 65_536]));
                drop(stream.write_all(
                    b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                ));
                stream.conn.send_close_notify();
                drop(stream.flush());
            });
        }
    });
    port
}

#[test]
fn doctor_asks_the_host_that_runs_and_shows_its_accounts() {
    let (_cloud, folder) = connected();
    let host = serve(&folder);
    let checks = doctor(&folder);
    let found = check(&checks, "running host");
    let finding = found["finding"].as_str().unwrap();
    assert!(finding.contains(&host.id().to_string()), "{found}");
    assert_eq!(check(&checks, "record")["mark"], "ok");
    put(&folder, "another-token");
    wait_until("the host has noticed", || {
        (plugin(&folder)["account-state"] == "unauthorized").then_some(())
    });
    let checks = doctor(&folder);
    let by_host = check(&checks, "running host: account research");
    assert!(
        by_host["finding"]
            .as_str()
            .unwrap()
            .starts_with("unauthorized"),
        "{by_host}"
    );
    let own = check(&checks, "account research: authentication");
    assert!(
        own["finding"].as_str().unwrap().starts_with("unauthorized"),
        "{own}"
    );
}

#[test]
fn the_server_of_a_host_that_is_killed_ends_with_it() {
    let cloud = Cloud::start();
    let folder = Folder::new(&interop::stdio(cloud.url()));
    let host = folder.serve(&["run"]);
    let servers = || -> Vec<u32> {
        let all = tree(host.id()).into_iter();
        all.filter(|process| {
            let line = command_line(*process);
            line.contains("official_server.py") && !line.contains("supervise-server")
        })
        .collect()
    };
    let found = wait_until("its server runs", || {
        Some(servers()).filter(|it| !it.is_empty())
    });
    signal(host.id(), Signal::KILL);
    wait_until("its server is gone", || {
        let gone = found
            .iter()
            .all(|process| !command_line(*process).contains("official_server"));
        gone.then_some(())
    });
}

#[test]
fn a_host_that_hangs_is_named_by_all_that_wait_for_it() {
    let (_cloud, folder) = connected();
    let host = serve(&folder);
    start(&folder, &["halt"]).wait().good();
    signal(host.id(), Signal::STOP);
    let silent = format!(
        "the host (process {}) has not answered for 2 s; still waiting",
        host.id()
    );
    for verb in [&["plugin", "list"][..], &["halt", "--list"]] {
        let ran = start(&folder, verb).wait();
        assert!(ran.error().contains("does not answer"), "{ran:?}");
        assert!(ran.stderr.contains(&silent), "{ran:?}");
    }
    let checks = doctor(&folder);
    assert_eq!(failed(&checks), ["running host"], "{checks:#}");
    let found = check(&checks, "running host")["finding"].as_str().unwrap();
    assert!(
        found.contains(&format!("process {}", host.id())) && found.contains("does not answer"),
        "{found}"
    );
    // A request with an effect is waited for longer, since the host may have read it.
    let mut resume = start(&folder, &["resume"]);
    resume.until("it says that it waits", |resume| {
        resume.stderr().contains(&silent).then_some(())
    });
    signal(host.id(), Signal::CONT);
    let ran = resume.wait();
    assert!(ran.good().stdout.contains("resumed"), "{ran:?}");
}
