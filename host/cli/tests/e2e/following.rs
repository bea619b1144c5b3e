//! A host that follows changes of its files, as seen by the operator: in the service manager, the
//! configuration, and the reports of what is not in effect.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Folder, embedded, strategy_lab};
use crate::process::{BOUND, Process, signal, wait_until};

/// Replaces a file in one step.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

fn reload(folder: &Folder) -> Vec<Value> {
    let ran = folder.run(&["--json", "reload"]);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn of<'a>(rows: &'a [Value], file: &str) -> &'a Value {
    let ends = |row: &&Value| {
        row["file"]
            .as_str()
            .is_some_and(|path| path.ends_with(file))
    };
    rows.iter()
        .find(ends)
        .unwrap_or_else(|| panic!("no {file} in {rows:?}"))
}

#[test]
fn a_service_manager_is_told_of_the_start_each_reload_and_the_end() {
    let folder = Folder::embedded("emulator");
    let path = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(BOUND)).unwrap();
    let told = || {
        let mut bytes = [0; 1024];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let mut command = folder.command(&["run"]);
    command.env("NOTIFY_SOCKET", &path);
    let host = Process::start(command, folder.path());
    let more_time = |said: &str| {
        let timeout = said.trim().strip_prefix("EXTEND_TIMEOUT_USEC=");
        assert!(
            timeout.is_some_and(|it| it.parse::<u64>().unwrap() > 0),
            "{said}"
        );
    };
    // Compiling may take longer than a service manager waits.
    more_time(&told());
    assert_eq!(told().trim(), "READY=1");
    for _ in 0..2 {
        signal(host.id(), Signal::HUP);
        let reloading = told();
        let mut lines = reloading.lines();
        assert_eq!(lines.next(), Some("RELOADING=1"));
        let since = lines.next().unwrap().strip_prefix("MONOTONIC_USEC=");
        assert!(since.unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(told().trim(), "READY=1");
    }
    host.terminate();
    assert_eq!(told().trim(), "STOPPING=1");
    // Ending invocations may, too.
    more_time(&told());
    host.wait().good();
}

#[test]
fn what_takes_a_start_to_be_in_effect_is_said_and_the_rest_is_in_effect_at_once() {
    let folder = Folder::embedded("emulator");
    let file = folder.path().join("qchost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let host = folder.serve(&["run"]);
    assert!(of(&reload(&folder), "qchost.toml")["detail"].is_null());

    let uid = nix::unistd::geteuid();
    let viewer =
        format!("{text}[engine]\nqueue = 3\n[people.me]\nuid = {uid}\nroles = [\"viewer\"]\n");
    replace(&file, &viewer);
    wait_until("a viewer may not call", || {
        let ran = folder.run(&["call", "read_account"]);
        (!ran.status.success() && ran.stderr.contains("may not do `call`")).then_some(())
    });
    replace(&file, &viewer.replace("viewer", "admin"));
    wait_until("an admin may", || {
        let ran = folder.run(&["call", "read_account"]);
        ran.status.success().then_some(())
    });
    let rows = reload(&folder);
    let row = of(&rows, "qchost.toml");
    assert_eq!(row["status"], "ready", "{row}");
    for said in [
        row["detail"].to_string(),
        folder.run(&["plugin", "list"]).good().stdout.clone(),
        folder.run(&["doctor"]).good().stdout.clone(),
    ] {
        assert!(
            said.contains("changes of `engine` take effect when the host starts again"),
            "{said}"
        );
    }
    replace(
        &file,
        &viewer
            .replace("viewer", "admin")
            .replace("[engine]\nqueue = 3\n", ""),
    );
    wait_until("nothing waits any more", || {
        of(&reload(&folder), "qchost.toml")["detail"]
            .is_null()
            .then_some(())
    });
    host.end();
}

#[test]
fn accounts_come_change_and_go_while_the_host_runs() {
    let folder = Folder::embedded("emulator");
    let file = folder.path().join("qchost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let host = folder.serve(&["run"]);
    let call = |account: &str| folder.run(&["call", "--account", account, "read_account"]);
    call("research").good();

    let second = embedded("emulator").replace("research", "second");
    replace(&file, &format!("{text}{second}"));
    assert_eq!(of(&reload(&folder), "qchost.toml")["status"], "ready");
    call("second").good();
    call("research").good();

    // An unusable configuration is not adopted, and the accounts keep working.
    let unusable = "[account.third]\nconnection = \"http\"\nurl = \"https://mcp.example.com\"\n\
                    headers = { Authorization = { env = \"NOT_SET_BY_ANYBODY\" } }\n";
    replace(&file, &format!("{text}{unusable}"));
    let rows = reload(&folder);
    let row = of(&rows, "qchost.toml");
    assert_eq!(row["status"], "degraded", "{row}");
    assert!(
        row["detail"].to_string().contains("NOT_SET_BY_ANYBODY"),
        "{row}"
    );
    call("research").good();

    replace(&file, &text);
    assert_eq!(of(&reload(&folder), "qchost.toml")["status"], "ready");
    call("research").good();
    assert!(call("second").error().contains("no account `second`"));
    host.end();
}

#[test]
fn of_two_manifests_for_one_plugin_each_is_told_of_the_other_and_what_serves_goes_on() {
    let folder = Folder::embedded("emulator");
    folder.manifest("lab", &strategy_lab());
    let host = folder.serve(&["run"]);
    folder.manifest("twin", &strategy_lab());
    let rows = reload(&folder);
    let (first, twin) = (of(&rows, "lab.toml"), of(&rows, "twin.toml"));
    assert_eq!(
        (&first["status"], &twin["status"]),
        (&"degraded".into(), &"broken".into())
    );
    assert!(first["detail"].to_string().contains("twin.toml"), "{first}");
    assert!(twin["detail"].to_string().contains("lab.toml"), "{twin}");
    folder.invoke(
        "strategy-lab.compile",
        &serde_json::json!({ "source": crate::common::ALGORITHM }),
    );
    // The serving manifest is removed, so the other one counts.
    std::fs::remove_file(folder.path().join("plugins/lab.toml")).unwrap();
    let rows = reload(&folder);
    assert_eq!(of(&rows, "twin.toml")["status"], "ready", "{rows:?}");
    folder.invoke(
        "strategy-lab.compile",
        &serde_json::json!({ "source": crate::common::ALGORITHM }),
    );
    host.end();
}

#[test]
fn a_reload_without_a_host_that_runs_is_an_error() {
    let folder = Folder::embedded("emulator");
    let ran = folder.run(&["reload"]);
    assert!(ran.error().contains("no running host was found"), "{ran:?}");
    assert!(ran.stderr.contains("no host to reload"), "{ran:?}");
}

#[test]
fn a_reload_right_after_the_start_waits_until_the_host_is_there() {
    // Nothing is cached, so loading takes a while.
    let folder = Folder::apart(&embedded("emulator"));
    folder.manifest("lab", &strategy_lab());
    let mut host = folder.start(&["run"]);
    let rows = reload(&folder);
    assert_eq!(of(&rows, "lab.toml")["status"], "ready", "{rows:?}");
    host.until("the host says that it is ready", |host| {
        host.stdout().contains("ready: 1 plugin,").then_some(())
    });
    host.end();
}

#[test]
fn a_shutdown_requested_while_the_host_loads_ends_it_cleanly() {
    // Nothing is cached, so loading takes a while.
    let folder = Folder::apart(&embedded("emulator"));
    folder.manifest("lab", &strategy_lab());
    let mut host = folder.start(&["run"]);
    wait_until("it compiles", || {
        assert!(host.runs());
        (crate::process::tree(host.id()).len() > 1).then_some(())
    });
    host.terminate();
    let ran = host.wait_for(Duration::from_secs(60));
    assert!(ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
}
