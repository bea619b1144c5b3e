//! `qchost run`: the host as a service, reached over its control socket.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use qchost_emulator::Timing;
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{ALGORITHM, Folder, embedded, strategy_lab};
use crate::guests::reporter;
use crate::process::wait_until;
use crate::running::{GRANT, plugin};
use crate::socket::Control;

#[test]
fn a_running_host_answers_invoke_and_call_and_keeps_its_emulator() {
    let folder = Folder::embedded("emulator");
    folder.manifest("strategy-lab", &strategy_lab());
    let host = folder.serve(&["run"]);
    let ready: Value = serde_json::from_str(host.stdout().trim()).unwrap();
    assert_eq!(
        (&ready["plugins"], &ready["broken"]),
        (&json!(1), &json!(0)),
        "{ready}"
    );

    let socket = folder.path().join("data/control.sock");
    assert_eq!(
        std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );

    // A project made by one call is visible to the next one and to a plugin: all reach the same host.
    let made = folder.call(
        "create_project",
        &json!({ "name": "Lab/kept", "language": "Py" }),
    );
    let project = made["projects"][0]["projectId"].clone();
    let verdict = folder.invoke("strategy-lab.compile", &json!({ "project": "Lab/kept" }));
    assert_eq!(verdict["project_id"], project, "{verdict}");
    let read = folder.call("read_project", &json!({ "projectId": project }));
    assert_eq!(read["projects"][0]["name"], "Lab/kept");

    // A failure in the running host is an error for the client that made the request, and for no other.
    let ran = folder.run(&[
        "invoke",
        "strategy-lab.compile",
        "{\"project\": \"Lab/none\"}",
    ]);
    assert!(
        ran.error()
            .contains("there is no project named \"Lab/none\""),
        "{}",
        ran.error()
    );

    host.terminate();
    let ran = host.wait();
    assert!(ran.status.success(), "{ran:?}");
    assert!(!socket.exists());

    // Without a host, the same calls work in separate processes, with what the emulator of the host knew.
    let read = folder.call("read_project", &json!({ "projectId": project }));
    assert_eq!(read["projects"][0]["name"], "Lab/kept");
}

#[test]
fn a_host_in_plain_words_says_that_it_is_ready() {
    let folder = Folder::embedded("emulator");
    let mut host = folder.start(&["run"]);
    let line = host.until("the host is ready", |host| {
        host.stdout().lines().next().map(str::to_owned)
    });
    assert_eq!(
        line,
        format!("ready: 0 plugins, 0 broken, process {}", host.id())
    );
}

#[test]
fn a_second_host_on_the_same_data_names_the_first() {
    let folder = Folder::embedded("emulator");
    let mut first = folder.serve(&["run"]);
    let second = folder.run(&["run"]);
    assert!(
        second
            .error()
            .contains(&format!("process id {}", first.id())),
        "{}",
        second.error()
    );
    // The first host is unaffected, and the socket is still its own.
    assert!(first.runs());
    folder.call("read_account", &json!({}));
    first.end();

    // A killed host leaves nothing that prevents the next one from starting.
    let killed = folder.serve(&["run"]);
    drop(killed);
    let next = folder.serve(&["run"]);
    folder.call("read_account", &json!({}));
    next.end();
}

/// A cloud with backtests of this duration.
fn slow(backtest: Duration) -> Cloud {
    Cloud::with(|builder| {
        builder.timing(Timing {
            backtest,
            ..Timing::default().faster(10)
        })
    })
}

#[test]
fn sigterm_lets_a_running_invocation_end() {
    let cloud = slow(Duration::from_millis(1500));
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &strategy_lab());
    let host = folder.serve(&["run"]);
    let invocation = folder.start(&["--json", "invoke", "strategy-lab.backtest"]);
    wait_until("the backtest is running", || {
        (!cloud.created_backtests().is_empty()).then_some(())
    });
    host.terminate();
    let summary = invocation.wait().json();
    assert!(summary["sharpe_ratio"].is_f64(), "{summary}");
    host.wait().good();
}

#[test]
fn an_invocation_that_outlasts_the_drain_is_cut_off_and_counted() {
    let cloud = slow(Duration::from_secs(60));
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &strategy_lab());
    let host = folder.serve(&["run", "--drain", "1"]);
    let invocation = folder.start(&["invoke", "strategy-lab.backtest"]);
    wait_until("the backtest is running", || {
        (!cloud.created_backtests().is_empty()).then_some(())
    });
    host.terminate();
    let ran = host.wait_for(Duration::from_secs(30));
    assert!(
        ran.json_error()
            .contains("1 invocations did not end within 1 s and were cut off"),
        "{ran:?}"
    );
    // The waiting client gets an error.
    let ran = invocation.wait_for(Duration::from_secs(10));
    assert_eq!(ran.status.code(), Some(8), "{ran:?}");
    assert!(ran.stderr.contains("error: "), "{ran:?}");
}

#[test]
fn no_new_invocation_is_taken_while_the_host_drains() {
    let cloud = slow(Duration::from_millis(2500));
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &strategy_lab());
    let mut host = folder.serve(&["--log", "host=info", "run"]);
    let running = folder.start(&["--json", "invoke", "strategy-lab.backtest"]);
    wait_until("the backtest is running", || {
        (!cloud.created_backtests().is_empty()).then_some(())
    });
    host.terminate();
    host.until("the host drains", |host| {
        host.stderr().contains("shutdown requested").then_some(())
    });
    let ran = folder.run(&["invoke", "strategy-lab.compile", "{\"source\": \"x = 1\"}"]);
    assert!(
        ran.error().contains("the host shuts down"),
        "{}",
        ran.error()
    );
    running.wait().good();
    host.wait().good();
}

#[test]
fn a_client_that_leaves_takes_nothing_with_it() {
    let cloud = slow(Duration::from_secs(60));
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &strategy_lab());
    let mut host = folder.serve(&["run", "--drain", "5"]);
    let invocation = folder.start(&["invoke", "strategy-lab.backtest"]);
    wait_until("the backtest is running", || {
        (!cloud.created_backtests().is_empty()).then_some(())
    });
    drop(invocation);
    // The invocation ended with its client, so nothing is left to drain.
    assert!(host.runs());
    folder.call("read_account", &json!({}));
    host.end();
}

/// A client that is stopped, for example by Ctrl-Z, and whose socket is full.
#[test]
fn a_client_that_reads_nothing_stops_neither_its_invocation_nor_the_end_of_the_host() {
    /// More than the buffers on the way to a client can hold.
    const REPORTS: usize = 1000;
    let cloud = Cloud::start();
    let limits = "limits = { research = { per-minute = 100000 } }";
    let folder = Folder::new(&format!("{limits}\n{}", embedded(cloud.url())));
    let lines = format!("{GRANT}[limits]\ncpu = \"60s\"\nwall = \"10m\"\n");
    let component = reporter(("read_account", Some("{}")));
    plugin(&folder, "lab", &component, &lines);
    let host = folder.serve(&["--log", "warn,gate=error", "run", "--drain", "1"]);
    let invoke = json!({ "verb": "invoke", "action": "lab.act", "input": {} });
    let stuck = Control::of(&folder).begin(&invoke);
    wait_until("it goes on although its reports are not read", || {
        (cloud.requests_to("/account/read").len() > REPORTS).then_some(())
    });
    let told = Instant::now();
    host.terminate();
    let ran = host.wait_for(Duration::from_secs(30));
    let took = told.elapsed();
    assert!(
        ran.json_error()
            .contains("1 invocations did not end within 1 s and were cut off"),
        "{ran:?}"
    );
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    drop(stuck);
}

#[test]
fn a_broken_plugin_is_reported_and_takes_nothing_down() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    folder.manifest("strategy-lab", &strategy_lab());
    folder.manifest(
        "broken",
        "plugin = \"broken\"\ncomponent = \"not-there.wasm\"\naccount = \"research\"\n",
    );
    let host = folder.serve(&["run"]);
    assert!(
        host.stdout().contains("\"plugins\":1,\"broken\":1"),
        "{}",
        host.stdout()
    );
    let error =
        "plugins/broken.toml: plugins/not-there.wasm: cannot read the component: No such file";
    assert!(host.stderr().contains(error), "{}", host.stderr());
    let verdict = folder.invoke("strategy-lab.compile", &json!({ "source": ALGORITHM }));
    assert!(verdict["compile_id"].is_string(), "{verdict}");
    let ran = folder.run(&["invoke", "broken.anything"]);
    assert!(ran.error().contains("not-there.wasm"), "{}", ran.error());
    host.end();

    let listed = folder.run(&["plugin", "list"]);
    assert_eq!(listed.status.code(), Some(1));
    assert!(
        listed.stdout.contains("broken") && listed.stdout.contains("ready"),
        "{listed:?}"
    );
    assert!(
        listed.stderr.contains("error: 1 of 2 plugins are broken"),
        "{listed:?}"
    );
}
