//! Approvals on the command line: what is requested, who may decide, and what an approval permits.

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{Folder, component, embedded};
use crate::desk::{ADMIN, APPROVER, Desk, OPERATOR, SECOND, approval};
use crate::guests;
use crate::process::{Ran, wait_until};

/// Backtests need an approval.
const ASKS: &str = "[[grant]]\nname = \"asks\"\nallow = [\"backtests/create-backtest\"]\nprojects = [\"*\"]\napproval = \"operator\"\n";

fn asking(manifest: &str) -> String {
    manifest.replacen("[limits]", &format!("{ASKS}\n[limits]"), 1)
}

fn write(desk: &Desk, by: u32, prepared: &Value) -> Ran {
    desk.run_as(
        by,
        &["invoke", "every-category.slow-write", &prepared.to_string()],
    )
}

#[test]
fn a_call_waits_for_a_yes_and_one_yes_is_one_call() {
    let Some(desk) = Desk::new("", asking) else {
        return;
    };
    let host = desk.serve();
    let prepared = desk.prepare(OPERATOR);

    let ran = write(&desk, OPERATOR, &prepared);
    let error = ran.error();
    assert!(error.contains("approval"), "{error}");
    let id = approval(error);
    // A repeated call gets the same request, and nothing was sent.
    assert_eq!(approval(write(&desk, OPERATOR, &prepared).error()), id);
    assert_eq!(desk.cloud.created_backtests(), Vec::<String>::new());

    let listed = desk
        .run_as(APPROVER, &["--json", "approvals", "list"])
        .json();
    assert_eq!(listed[0]["id"], id.as_str(), "{listed}");
    assert_eq!(listed[0]["status"], "pending");
    assert_eq!(listed[0]["project"], "Every/prepared");
    assert_eq!(listed[0]["requester"], "operator");
    let text = desk.run_as(APPROVER, &["approvals", "list"]);
    let lines: Vec<&str> = text.good().stdout.lines().collect();
    assert!(
        lines[0].starts_with("ID ") && lines[1].starts_with(&id),
        "{lines:?}"
    );
    let shown = desk.run_as(APPROVER, &["approvals", "show", &id]);
    for expected in [
        "backtests/create-backtest",
        "Every/prepared",
        "every-category",
        "slow write",
        "sha256:",
        &format!("qchost approvals approve {id}"),
    ] {
        assert!(
            shown.good().stdout.contains(expected),
            "{expected}: {}",
            shown.stdout
        );
    }

    // An operator cannot decide; an approver can.
    let ran = desk.run_as(OPERATOR, &["approvals", "approve", &id]);
    assert!(ran.error().contains("approver"), "{ran:?}");
    let decided = desk
        .run_as(APPROVER, &["--json", "approvals", "approve", &id])
        .json();
    assert_eq!(decided["status"], "approved", "{decided}");
    assert_eq!(decided["decisions"][0]["by"], "approver");
    write(&desk, OPERATOR, &prepared).good();
    assert_eq!(desk.cloud.created_backtests(), ["slow write"]);
    // The permit is used up.
    let next = approval(write(&desk, OPERATOR, &prepared).error());
    assert_ne!(next, id);
    assert_eq!(desk.cloud.created_backtests(), ["slow write"]);
    let shown = desk
        .run_as(APPROVER, &["--json", "approvals", "show", &id])
        .json();
    assert_eq!(shown["status"], "used");

    // The plugin gets the refusal with its reason, and it cannot be reversed.
    desk.run_as(
        APPROVER,
        &[
            "approvals",
            "refuse",
            &next,
            "--reason",
            "not before the review",
        ],
    )
    .good();
    let ran = write(&desk, OPERATOR, &prepared);
    assert!(ran.error().contains("not before the review"), "{ran:?}");
    let ran = desk.run_as(APPROVER, &["approvals", "approve", &next]);
    assert!(ran.error().contains("refused"), "{ran:?}");
    let ran = desk.run_as(APPROVER, &["approvals", "show", "ap-nothing123"]);
    assert!(ran.error().contains("there is no approval"), "{ran:?}");
    assert_eq!(desk.cloud.created_backtests(), ["slow write"]);

    // All of it is recorded.
    let query = ["--json", "audit", "query", "--kind", "approval"];
    let lines = desk.run_as(ADMIN, &query);
    for expected in [id.as_str(), next.as_str(), "not before the review"] {
        assert!(
            lines.good().stdout.contains(expected),
            "{expected}: {}",
            lines.stdout
        );
    }
    host.end();
}

#[test]
fn a_standing_yes_has_its_uses_and_its_bounds() {
    let Some(desk) = Desk::new("", asking) else {
        return;
    };
    let host = desk.serve();
    let prepared = desk.prepare(OPERATOR);
    let id = approval(write(&desk, OPERATOR, &prepared).error());
    let ran = desk.run_as(APPROVER, &["approvals", "approve", &id, "--uses", "2"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    let ran = desk.run_as(
        APPROVER,
        &[
            "approvals",
            "approve",
            &id,
            "--uses",
            "2",
            "--for",
            "8h",
            "--max-cost",
            "NaN",
        ],
    );
    assert!(ran.error().contains("--max-cost"), "{ran:?}");
    desk.run_as(
        APPROVER,
        &[
            "approvals",
            "approve",
            &id,
            "--uses",
            "2",
            "--for",
            "8h",
            "--max-cost",
            "50",
        ],
    )
    .good();
    write(&desk, OPERATOR, &prepared).good();
    // Shows the remaining uses and the permit's expiry, not that of the request.
    let shown = |arguments: &[&str]| desk.run_as(APPROVER, arguments).json();
    let left = shown(&["--json", "approvals", "show", &id]);
    assert_eq!(left["permit"]["standing"], true, "{left}");
    assert_eq!(left["permit"]["uses-left"], 1, "{left}");
    assert_eq!(left["permit"]["money-left-usd"], 50.0, "{left}");
    assert_eq!(left["expires"], left["permit"]["expires"], "{left}");
    let hours = |field: &str| {
        left[field].as_str().unwrap()[11..13]
            .parse::<u32>()
            .unwrap()
    };
    assert_eq!((hours("requested") + 8) % 24, hours("expires"), "{left}");
    let text = desk.run_as(APPROVER, &["approvals", "list", "--all"]);
    assert!(text.good().stdout.contains("1 use, $50.00"), "{text:?}");
    write(&desk, OPERATOR, &prepared).good();
    let ran = write(&desk, OPERATOR, &prepared);
    let next = approval(ran.error());
    assert_ne!(next, id);
    assert_eq!(desk.cloud.created_backtests().len(), 2);
    // The log names the approval that a call waits for.
    assert!(host.stderr().contains(&next), "{}", host.stderr());

    // A revoked approval permits nothing, and only those who may decide may revoke it.
    let standing = ["--uses", "9", "--for", "8h"];
    let arguments = [&["approvals", "approve", &next][..], &standing].concat();
    desk.run_as(APPROVER, &arguments).good();
    let revoke = ["approvals", "revoke", next.as_str()];
    assert!(desk.run_as(OPERATOR, &revoke).error().contains("approver"));
    desk.run_as(APPROVER, &revoke).good();
    let revoked = shown(&["--json", "approvals", "show", &next]);
    assert_eq!(revoked["status"], "revoked", "{revoked}");
    assert_eq!(revoked["permit"]["revoked-by"], "approver", "{revoked}");
    let ran = write(&desk, OPERATOR, &prepared);
    assert_ne!(approval(ran.error()), next);
    assert_eq!(desk.cloud.created_backtests().len(), 2);
    let ran = desk.run_as(APPROVER, &revoke);
    assert!(ran.error().contains("nothing to revoke"), "{ran:?}");

    // Lists are split into pages.
    let first = desk.run_as(APPROVER, &["approvals", "list", "--all", "--limit", "1"]);
    let more = format!("2 more: qchost approvals list --all --after {id}");
    assert!(first.good().stdout.contains(&more), "{first:?}");
    let rest = shown(&["--json", "approvals", "list", "--all", "--after", &id]);
    assert_eq!(rest.as_array().map(Vec::len), Some(2), "{rest}");
    assert_eq!(rest[0]["id"], next.as_str(), "{rest}");
    host.end();
}

#[test]
fn a_permit_that_was_not_used_in_time_is_void() {
    let Some(desk) = Desk::new("approvals = { permit = \"1s\" }", asking) else {
        return;
    };
    let host = desk.serve();
    let prepared = desk.prepare(OPERATOR);
    let id = approval(write(&desk, OPERATOR, &prepared).error());
    desk.run_as(APPROVER, &["approvals", "approve", &id]).good();
    wait_until("the permit expires", || {
        let shown = desk.run_as(APPROVER, &["--json", "approvals", "show", &id]);
        (shown.json()["status"] == "expired").then_some(())
    });
    let ran = write(&desk, OPERATOR, &prepared);
    assert_ne!(approval(ran.error()), id);
    assert_eq!(desk.cloud.created_backtests(), Vec::<String>::new());
    host.end();
}

/// The client learns what the invocation waits for. If the invocation is cut off, the approval is of no use
/// to it.
#[test]
fn an_approval_that_a_killed_client_or_host_waited_for_is_closed() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    let project = json!({ "name": "Lab/a", "language": "Py" });
    let project = folder.call("create_project", &project)["projects"][0]["projectId"].clone();
    let place = folder.path().join("plugins/guest.wasm");
    std::fs::write(place, guests::asking(project.as_u64().unwrap())).unwrap();
    let grant = "[[grant]]\nname = \"asks\"\nallow = [\"compile/create-compile\"]\nprojects = [\"*\"]\napproval = \"operator\"\n";
    let manifest = "plugin = \"guest\"\ncomponent = \"guest.wasm\"\naccount = \"research\"\n";
    folder.manifest("guest", &format!("{manifest}{grant}"));
    let host = folder.serve(&["run"]);
    let waiting = || {
        let mut client = folder.start(&["invoke", "guest.act"]);
        let id = client.until("the client is told what it waits for", |client| {
            let told = client.stderr();
            let at = told.find("waiting for approval ap-")?;
            Some(approval(&told[at..]))
        });
        let told = client.stderr();
        assert!(
            told.contains(&format!("(qchost approvals show {id})")),
            "{told}"
        );
        (client, id)
    };
    let status = |id: &str| {
        let shown = folder.run(&["--json", "approvals", "show", id]).json();
        shown["status"].as_str().unwrap().to_owned()
    };
    let compiles = || cloud.requests_to("/compile/create").len();

    let (client, orphan) = waiting();
    wait_until("the log names it", || {
        host.stderr().contains(&orphan).then_some(())
    });
    assert_eq!(status(&orphan), "pending");
    drop(client);
    wait_until("the orphan is closed", || {
        (status(&orphan) == "closed").then_some(())
    });
    let late = folder.run(&["approvals", "approve", &orphan]);
    assert!(late.error().contains("closed"), "{late:?}");
    assert_eq!(compiles(), 0);

    let (client, id) = waiting();
    assert_ne!(id, orphan);
    folder.run(&["approvals", "approve", &id]).good();
    client.wait().good();
    assert_eq!(compiles(), 1);

    let (client, orphan) = waiting();
    drop(host);
    drop(client);
    assert_eq!(status(&orphan), "closed");
    let late = folder.run(&["approvals", "approve", &orphan]);
    assert!(late.error().contains("closed"), "{late:?}");
    assert_eq!(compiles(), 1);
}

/// A deployment with real money, which needs two approvals.
#[test]
fn two_people_other_than_the_requester_say_yes_to_a_live_deployment() {
    let live = |manifest: &str| {
        let grant = "[[grant]]\nname = \"real\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"*\"]\n\
                     brokerages = [\"real\"]\napproval = \"operator\"\n";
        manifest.replacen("[limits]", &format!("{grant}\n[limits]"), 1)
    };
    let Some(desk) = Desk::new(
        "live-trading = true\ntwo-person = true\n\
         brokerage.real = { id = \"TradierBrokerage\", tradier-account-id = \"U0\", tradier-access-token = \"t\", tradier-environment = \"live\" }",
        live,
    ) else {
        return;
    };
    let host = desk.serve();
    let deploy = |by| {
        desk.run_as(
            by,
            &[
                "invoke",
                "every-category.deploy-live",
                &json!({ "profile": "real" }).to_string(),
            ],
        )
    };
    // The second person is also an operator, and is the requester.
    let ran = deploy(SECOND);
    let id = approval(ran.error());
    let shown = desk
        .run_as(APPROVER, &["--json", "approvals", "show", &id])
        .json();
    assert_eq!(shown["needs"], 2, "{shown}");
    let ran = desk.run_as(SECOND, &["approvals", "approve", &id]);
    assert!(ran.error().contains("ask"), "{ran:?}");
    let first = desk
        .run_as(APPROVER, &["--json", "approvals", "approve", &id])
        .json();
    assert_eq!(first["status"], "pending", "{first}");
    let ran = desk.run_as(APPROVER, &["approvals", "approve", &id]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let second = desk
        .run_as(ADMIN, &["--json", "approvals", "approve", &id])
        .json();
    assert_eq!(second["status"], "approved", "{second}");
    assert_eq!(desk.cloud.requests_to("/live/create").len(), 0);
    host.end();
}

/// In production, a component other than the adopted one does not inherit the right to trade.
#[test]
fn a_component_that_changed_waits_for_a_yes_before_it_may_trade() {
    let me = rustix::process::geteuid().as_raw();
    let folder = Folder::new(&format!(
        "mode = \"production\"\npeople.me = {{ uid = {me}, roles = [\"admin\"] }}\n{}",
        embedded("emulator")
    ));
    let place = folder.path().join("lab.wasm");
    let install = |bytes: &[u8]| {
        std::fs::write(&place, bytes).unwrap();
        let found = folder
            .run(&["--json", "plugin", "inspect", place.to_str().unwrap()])
            .json();
        let text = crate::common::strategy_lab().replace(
            component("plugins/strategy-lab").to_str().unwrap(),
            place.to_str().unwrap(),
        );
        let trade = "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\n";
        folder.manifest(
            "strategy-lab",
            &format!("digest = {}\n{text}\n{trade}", found["digest"]),
        );
    };
    let listed = || -> serde_json::Value {
        let ran = folder.run(&["--json", "plugin", "list"]);
        let rows: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        // A pending change is not in effect, which shows in the exit status.
        assert_eq!(
            ran.status.success(),
            rows[0]["status"] == "ready",
            "{ran:?}"
        );
        rows
    };
    let mut bytes = std::fs::read(component("plugins/strategy-lab")).unwrap();
    install(&bytes);
    assert_eq!(listed()[0]["status"], "ready", "{}", listed());

    // One more custom section makes it another component by its digest.
    bytes.extend([0, 5, 4, b'm', b'o', b'r', b'e']);
    install(&bytes);
    let waits = listed();
    assert_eq!(waits[0]["status"], "waiting", "{waits}");
    let id = waits[0]["approval"].as_str().unwrap();
    let text = folder.run(&["plugin", "list"]);
    text.error();
    for words in [
        "serves 0.1.0; its code changed, and trade is denied to it until it is approved",
        &format!("qchost approvals show {id}"),
    ] {
        assert!(text.stdout.contains(words), "{text:?}");
    }
    let checks = folder.run(&["--json", "doctor"]).json();
    let found = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["what"] == "plugin strategy-lab");
    assert_eq!(found.unwrap()["mark"], "warning", "{checks}");
    let shown = folder.run(&["approvals", "show", id]);
    assert!(
        shown.good().stdout.contains("adopt a changed component"),
        "{shown:?}"
    );
    folder.run(&["approvals", "approve", id]).good();
    assert_eq!(listed()[0]["status"], "ready", "{}", listed());
}

/// From the command line through the embedded server to the emulator: a change that was made elsewhere after
/// the compile is not deployed, and if the cloud runs something else, it is stopped.
#[test]
fn real_money_runs_what_was_compiled_or_nothing() {
    let cloud = Cloud::start();
    let liar = cloud.altered(|path, mut body| {
        if path == "/live/create" {
            body["live"]["files"][0]["content"] = json!("x = 2\n");
        }
        body.to_string()
    });
    let real = "live-trading = true\n\
                brokerage.real = { id = \"TradierBrokerage\", tradier-account-id = \"U0\", tradier-access-token = \"t\", tradier-environment = \"live\" }\n";
    let outside = Folder::embedded(cloud.url());
    let project = json!({ "name": "Lab/a", "language": "Py" });
    let project = outside.call("create_project", &project)["projects"][0]["projectId"].clone();
    let of_project = json!({ "projectId": project });
    let nodes = outside.call("read_project_nodes", &of_project);
    let deploy = |folder: &Folder, compile: &Value| {
        let arguments = json!({
            "versionId": "-1", "projectId": project, "compileId": compile, "brokerage": "real",
            "nodeId": nodes["nodes"]["live"][0]["id"], "dataProviders": [],
        });
        folder.run(&["call", "create_live_algorithm", &arguments.to_string()])
    };
    let compiled = |folder: &Folder| {
        let compile = folder.call("create_compile", &of_project)["compileId"].clone();
        wait_until("it is compiled", || {
            let job = json!({ "projectId": project, "compileId": compile });
            let job = folder.call("read_compile", &job);
            (job["state"] == "BuildSuccess").then_some(())
        });
        compile
    };
    let requests = |path: &str| cloud.requests_to(path).len();

    let folder = Folder::new(&format!("{real}{}", embedded(cloud.url())));
    let compile = compiled(&folder);
    let changed = json!({ "projectId": project, "name": "main.py", "content": format!("{}\n# changed\n", crate::common::ALGORITHM) });
    outside.call("update_file_contents", &changed);
    let refused = deploy(&folder, &compile);
    assert!(
        refused.error().contains("not those that were compiled"),
        "{refused:?}"
    );
    assert_eq!(requests("/live/create"), 0);
    let compile = compiled(&folder);
    deploy(&folder, &compile).good();
    assert_eq!(
        (requests("/live/create"), requests("/live/update/stop")),
        (1, 0)
    );
    folder.call("stop_live_algorithm", &of_project);

    let folder = Folder::new(&format!("{real}{}", embedded(&liar)));
    let compile = compiled(&folder);
    let stopped = deploy(&folder, &compile);
    assert!(stopped.error().contains("was stopped"), "{stopped:?}");
    assert_eq!(
        (requests("/live/create"), requests("/live/update/stop")),
        (2, 2)
    );
}
