//! Two ways to one account: what is granted, denied and sent by each, as the request logs of both servers show.

use std::collections::BTreeSet;

use qchost_catalog::OPERATIONS;
use qchost_emulator::{Remote, Revision};
use serde_json::{Value, json};

use crate::categories::PAPER;
use crate::cloud::Cloud;
use crate::common::{Folder, any_tool, bundled, embedded, private_file, strategy_lab};
use crate::logins::Browser;

/// The remote server of an account, with a token that a person got elsewhere.
pub fn remote(cloud: &Cloud) -> String {
    let url = cloud.emulator().remote_url().unwrap();
    format!(
        "[account.research.remote]\nurl = \"{url}\"\nheaders = {{ Authorization = {{ file = \"bearer\" }} }}\n"
    )
}

/// A cloud with its remote server.
pub fn cloud() -> Cloud {
    Cloud::with(|builder| builder.remote(Remote::new().cell_output("print(6 * 7)", "42")))
}

/// A folder with this configuration, and the token of the remote server.
pub fn folder(cloud: &Cloud, configuration: &str) -> Folder {
    let folder = Folder::new(configuration);
    let token = Browser::new().token(cloud.emulator());
    private_file(&folder.path().join("bearer"), format!("Bearer {token}"));
    folder
}

/// An account with both servers, in a cloud that has the project `Lab/one`, and the project's id.
fn mixed(more: &str) -> (Cloud, Folder, u64) {
    let cloud = cloud();
    let text = format!("{more}\n{}{}", embedded(cloud.url()), remote(&cloud));
    let folder = folder(&cloud, &text);
    let project = json!({ "name": "Lab/one", "language": "Py" });
    let made = folder.call("create_project", &project);
    let id = made["projects"][0]["projectId"].as_u64().unwrap();
    (cloud, folder, id)
}

/// Calls tools by a plugin with these grants; the outcome and the error of each.
fn outcomes(folder: &Folder, grants: &str, calls: &[(&str, Value)]) -> Vec<(String, String)> {
    folder.manifest("any-tool", &any_tool(grants));
    folder.called(calls)
}

fn words(found: &[(String, String)]) -> Vec<&str> {
    found.iter().map(|(outcome, _)| outcome.as_str()).collect()
}

/// How often the remote server got a call of this tool.
fn got(cloud: &Cloud, tool: &str) -> usize {
    cloud.requests_to(&format!("/mcp/{tool}")).len()
}

const NOTEBOOK: &str = r#"
[[grant]]
name     = "raw"
allow    = ["raw/no_such_tool"]
[[grant]]
name     = "notebook"
allow    = ["research/*", "research/jupyter-execute-cell"]
projects = ["Lab/*"]
"#;

#[test]
fn a_notebook_is_written_and_run_by_the_remote_server_as_far_as_it_is_granted() {
    let (cloud, folder, project) = mixed("live-trading = true");
    let cell = json!({ "projectId": project, "index": 0 });
    let source = json!({ "projectId": project, "index": 0, "source": "print(6 * 7)" });
    let calls = [
        ("jupyter_create_cell", source),
        ("jupyter_execute_cell", cell.clone()),
        ("jupyter_read_cell", cell.clone()),
        ("jupyter_execute_notebook", json!({ "projectId": project })),
        ("jupyter_delete_cell", cell),
    ];
    let found = outcomes(&folder, NOTEBOOK, &calls);
    let expected = ["answered", "answered", "answered", "denied", "denied"];
    assert_eq!(words(&found), expected, "{found:#?}");
    for tool in [
        "jupyter_create_cell",
        "jupyter_execute_cell",
        "jupyter_read_cell",
    ] {
        assert_eq!(got(&cloud, tool), 1, "{tool}");
    }
    // What no pattern covers was not sent.
    for tool in ["jupyter_execute_notebook", "jupyter_delete_cell"] {
        assert_eq!(got(&cloud, tool), 0, "{tool}");
    }
    // Its output is what the REST API shows of the file.
    let file = json!({ "projectId": project, "name": "research.ipynb" });
    let read = folder.call("read_file", &file).to_string();
    assert!(read.contains("42"), "{read}");
}

#[test]
fn running_a_notebook_counts_as_real_money_and_stays_in_its_projects() {
    let (cloud, folder, project) = mixed("");
    let cell = json!({ "projectId": project, "index": 0 });
    let found = outcomes(&folder, NOTEBOOK, &[("jupyter_execute_cell", cell.clone())]);
    assert_eq!(words(&found), ["denied"], "{found:#?}");
    assert!(found[0].1.contains("live-trading"), "{found:#?}");
    let elsewhere = NOTEBOOK.replace("Lab/*", "Prod/*");
    let found = outcomes(&folder, &elsewhere, &[("jupyter_read_cell", cell)]);
    assert_eq!(words(&found), ["denied"], "{found:#?}");
    assert_eq!(got(&cloud, "jupyter_execute_cell"), 0);
    assert_eq!(got(&cloud, "jupyter_read_cell"), 0);
}

const DESK: &str = r#"
[[grant]]
name       = "raw"
allow      = ["raw/no_such_tool"]
[[grant]]
name       = "desk"
allow      = [
    "notifications/send-email-notification",
    "notifications/send-sms-notification",
    "notifications/send-telegram-notification",
]
recipients = ["ops@example.com", "+1555*"]
"#;

#[test]
fn messages_go_to_granted_recipients_and_to_no_others() {
    let (cloud, folder, _) = mixed("");
    let mail = |to: &str| json!({ "address": to, "subject": "s", "message": "m" });
    let short = json!({ "phoneNumber": "+15551234567", "message": "m" });
    let chat = json!({ "chatId": "-100", "message": "m" });
    let calls = [
        ("send_email_notification", mail("ops@example.com")),
        ("send_email_notification", mail("eve@example.com")),
        (
            "send_email_notification",
            mail("ops@example.com,eve@example.com"),
        ),
        ("send_sms_notification", short),
        ("send_telegram_notification", chat),
    ];
    let found = outcomes(&folder, DESK, &calls);
    let expected = [
        "answered",
        "denied",
        "invalid-argument",
        "answered",
        "denied",
    ];
    assert_eq!(words(&found), expected, "{found:#?}");
    assert_eq!(got(&cloud, "send_email_notification"), 1);
    assert_eq!(got(&cloud, "send_sms_notification"), 1);
    assert_eq!(got(&cloud, "send_telegram_notification"), 0);
    // A pattern covers no message.
    let everything = "[[grant]]\nname = \"raw\"\nallow = [\"raw/no_such_tool\"]\n\
                      [[grant]]\nname = \"all\"\nallow = [\"*\"]\nrecipients = [\"*\"]\n";
    let found = outcomes(
        &folder,
        everything,
        &[("send_email_notification", mail("ops@example.com"))],
    );
    assert_eq!(words(&found), ["denied"], "{found:#?}");
    assert_eq!(got(&cloud, "send_email_notification"), 1);
}

#[test]
fn an_image_is_shown_to_those_who_may_see_every_project_and_name_it() {
    let (cloud, folder, _) = mixed("");
    let image = json!({ "url": format!("{}/plot.png", cloud.url()) });
    let calls = [("jupyter_get_image", image)];
    let grant = |allow: &str, projects: &str| {
        format!(
            "[[grant]]\nname = \"raw\"\nallow = [\"raw/no_such_tool\"]\n\
             [[grant]]\nname = \"image\"\nallow = [\"{allow}\"]\nprojects = [\"{projects}\"]\n"
        )
    };
    for (allow, projects) in [("research/*", "*"), ("research/jupyter-get-image", "Lab/*")] {
        let found = outcomes(&folder, &grant(allow, projects), &calls);
        assert_eq!(words(&found), ["denied"], "{allow} {projects}: {found:#?}");
        assert_eq!(got(&cloud, "jupyter_get_image"), 0);
    }
    let found = outcomes(&folder, &grant("research/jupyter-get-image", "*"), &calls);
    assert_eq!(words(&found), ["answered"], "{found:#?}");
    assert_eq!(got(&cloud, "jupyter_get_image"), 1);
}

#[test]
fn shared_names_mean_what_the_rest_api_means_by_them() {
    let (cloud, folder, project) = mixed("");
    let file = json!({ "projectId": project, "name": "signals.py", "content": "x = 1\n" });
    folder.call("create_file", &file);
    assert_eq!(cloud.requests_to("/files/create").len(), 1);
    assert_eq!(got(&cloud, "create_file"), 0);
    // A second time it is refused, where the remote server might replace the file.
    let again = folder.run(&["--json", "call", "create_file", &file.to_string()]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");

    // Without that way, nothing is sent, and the lines that add it are printed.
    let alone = self::folder(&cloud, &format!("{}{PAPER}", remote(&cloud)));
    let before = cloud.emulator().requests().len();
    let backtest = json!({ "projectId": project, "compileId": "c", "backtestName": "b" });
    let deployment = json!({
        "versionId": "-1", "projectId": project, "compileId": "c", "nodeId": "n", "brokerage": "paper",
        "dataProviders": [],
    });
    let renamed = json!({ "projectId": project, "backtestId": "b", "name": "n" });
    for (tool, arguments) in [
        ("create_file", file),
        ("create_backtest", backtest),
        ("read_optimization", json!({ "optimizationId": "o" })),
        ("create_live_algorithm", deployment),
        ("update_backtest", renamed),
    ] {
        let ran = alone.run(&["--json", "call", tool, &arguments.to_string()]);
        let message = ran.json_error();
        for line in ["[account.research]", "connection = \"embedded\""] {
            assert!(message.contains(line), "{tool}: {message}");
        }
        let error: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(error["kind"], "unavailable", "{tool}: {error}");
        assert_eq!(got(&cloud, tool), 0, "{tool}");
    }
    // Names of projects are all that was read.
    let requests = cloud.emulator().requests();
    let sent = requests[before..].iter().map(|request| &request.path);
    let sent: BTreeSet<&str> = sent.filter_map(|path| path.strip_prefix("/mcp/")).collect();
    let reads = ["list_projects", "read_project"];
    assert!(sent.iter().all(|tool| reads.contains(tool)), "{sent:?}");
    // To write a file, whether there is one or not, is what the remote server means by `create_file`.
    let text = json!({ "projectId": project, "name": "signals.py", "content": "x = 2\n" });
    alone.call("write_file", &text);
    assert_eq!(got(&cloud, "create_file"), 1);
    let name = json!({ "projectId": project, "name": "signals.py" });
    let written = folder.call("read_file", &name);
    assert_eq!(written["files"][0]["content"], "x = 2\n", "{written:#}");
    // What means the same is read by it.
    let read = alone.call("read_project", &json!({ "projectId": project }));
    assert_eq!(read["projects"][0]["name"], "Lab/one", "{read:#}");
    assert!(got(&cloud, "read_project") >= 1);
}

#[test]
fn the_state_of_an_account_with_both_servers_shows_its_endpoints_and_its_figures() {
    // The server of another user, who has no project.
    let (cloud, other) = (cloud(), Cloud::start());
    for (url, state) in [(other.url(), "unauthorized"), (cloud.url(), "connected")] {
        let further = format!(
            "[[account.research.endpoint]]\nconnection = \"embedded\"\ncloud = \"{url}\"\n"
        );
        let (first, remote) = (embedded(cloud.url()), remote(&cloud));
        let folder = folder(&cloud, &format!("{first}{further}{remote}"));
        let project = json!({ "name": format!("Lab/{state}"), "language": "Py" });
        folder.call("create_project", &project);
        let host = folder.serve(&["run"]);
        folder.call("list_skills", &json!({}));
        let shown = folder.run(&["account", "status", "research"]);
        let shown = &shown.good().stdout;
        let line = shown.lines().find(|line| line.contains("endpoint 2"));
        let line = line.unwrap_or_else(|| panic!("{shown}"));
        assert!(line.contains(state), "{shown}");
        // Those of both connections together are shown once.
        for said in ["since the start", "last hour"] {
            assert_eq!(shown.matches(said).count(), 1, "{said}: {shown}");
        }
        for server in ["research\n", "research.remote\n"] {
            assert!(shown.contains(server), "{shown}");
        }
        host.end();
    }
}

#[test]
fn doctor_shows_the_revision_of_mcp_that_a_server_speaks() {
    for revision in [
        Revision::March2025,
        Revision::June2025,
        Revision::November2025,
        Revision::July2026,
    ] {
        let settings = Remote::new().revisions(&[revision]);
        let cloud = Cloud::with(|builder| builder.remote(settings));
        let both = format!("{}{}", embedded(cloud.url()), remote(&cloud));
        let ran = folder(&cloud, &both).run(&["--json", "doctor"]);
        let checks: Value = serde_json::from_str(&ran.stdout).unwrap();
        let mut checks = checks.as_array().unwrap().iter();
        let what = "account research.remote: connection";
        let check = checks.find(|check| check["what"] == what).unwrap();
        assert_eq!(check["mark"], "ok", "{check}");
        let finding = check["finding"].as_str().unwrap();
        let shown = format!("MCP {},", revision.name());
        assert!(finding.contains(&shown), "{finding}");
    }
}

#[test]
fn an_account_that_is_remote_alone_refuses_strategy_lab_with_the_lines_to_add() {
    let cloud = cloud();
    let folder = folder(&cloud, &remote(&cloud));
    folder.manifest("strategy-lab", &strategy_lab());
    let listed = folder.run(&["--json", "plugin", "list"]);
    let rows: Value = serde_json::from_str(&listed.stdout).unwrap();
    let error = rows[0]["error"].as_str().unwrap();
    let lines = "[account.research]\nconnection = \"embedded\"\ncloud = \"quantconnect\"";
    assert!(error.contains(lines), "{error}");
    // With these lines, for the emulator's address, it serves.
    let text = format!("{}{}", embedded(cloud.url()), remote(&cloud));
    let both = self::folder(&cloud, &text);
    both.manifest("strategy-lab", &strategy_lab());
    both.run(&["plugin", "list"]).good();
}

#[test]
fn a_grant_that_names_what_only_the_remote_server_has_is_refused_without_it() {
    let cloud = Cloud::start();
    let folder = Folder::embedded(cloud.url());
    let write = |allow: &str| {
        let grant = format!("[[grant]]\nname = \"skills\"\nallow = [\"{allow}\"]\n");
        folder.manifest("strategy-lab", &format!("{}\n{grant}", strategy_lab()));
    };
    write("skills/load-skill");
    let listed = folder.run(&["--json", "plugin", "list"]);
    let rows: Value = serde_json::from_str(&listed.stdout).unwrap();
    let error = rows[0]["error"].as_str().unwrap();
    assert!(
        error.contains("[account.research.remote]\nurl = "),
        "{error}"
    );
    // A pattern does not promise that there is a way.
    write("skills/*");
    folder.run(&["plugin", "list"]).good();
    // So a call that has none says with which line there is one.
    let grants = "[[grant]]\nname = \"raw\"\nallow = [\"raw/no_such_tool\"]\n\
                  [[grant]]\nname = \"skills\"\nallow = [\"skills/*\"]\n";
    let found = outcomes(&folder, grants, &[("list_skills", json!({}))]);
    assert_eq!(words(&found), ["unavailable"], "{found:#?}");
    assert!(
        found[0].1.contains("[account.research.remote]"),
        "{found:#?}"
    );
}

#[test]
fn every_function_that_goes_by_the_remote_server_alone_answers_from_inside_wasm() {
    let (cloud, folder, project) = mixed("live-trading = true");
    folder.manifest("remote-way", &bundled("host/cli/tests/plugins/remote-way"));
    let image = format!("{}/plot.png", cloud.url());
    let target = json!({ "project": project, "image": image });
    let checks = folder.invoke("remote-way.all", &target);
    let checks = checks.as_array().unwrap();
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] != true).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let called: BTreeSet<&str> = checks
        .iter()
        .map(|check| check["operation"].as_str().unwrap())
        .collect();
    let by_remote = OPERATIONS.iter().filter(|operation| !operation.rest);
    assert_eq!(called, by_remote.map(|operation| operation.name).collect());
    let shown = |operation: &str| {
        let mut checks = checks.iter();
        let check = checks.find(|check| check["operation"] == operation);
        check.unwrap()["shown"].as_str().unwrap().to_owned()
    };
    for (operation, part) in [
        ("research/jupyter-execute-cell", "42"),
        ("research/jupyter-read-cell", "print(6 * 7)"),
        ("research/jupyter-read-notebook", "nbformat"),
        ("datasets/list-datasets", "Emulated US Equities"),
        ("skills/load-skill", "# Backtest review"),
        ("templates/read-project-templates", "main.py"),
    ] {
        let shown = shown(operation);
        assert!(shown.contains(part), "{operation}: {shown}");
    }
    // Once each: none is sent twice.
    for operation in OPERATIONS.iter().filter(|operation| !operation.rest) {
        assert_eq!(got(&cloud, operation.tool), 1, "{}", operation.name);
    }
}

#[test]
fn an_account_with_several_connections_is_one_account_also_beside_a_broken_configuration() {
    let cloud = cloud();
    let configuration = format!(
        "{}[[account.research.endpoint]]\nconnection = \"embedded\"\ncloud = \"{}\"\n{}",
        embedded(cloud.url()),
        cloud.url(),
        remote(&cloud)
    );
    let folder = folder(&cloud, &configuration);
    // By it the connections prove to be the same user's.
    let project = json!({ "name": "Lab/first", "language": "Py" });
    folder.call("create_project", &project);
    let _host = folder.serve(&["run"]);
    let file = folder.path().join("qchost.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    // No TOML, a table twice, an unknown key, and a setting that is refused.
    for broken in [
        format!("{good}[[["),
        format!("{good}[account.research.remote]\n"),
        format!("modus = 1\n{good}"),
        format!("{good}[limits.elsewhere]\n"),
    ] {
        std::fs::write(&file, broken).unwrap();
        folder.run(&["call", "read_account"]).good();
        let by_name = ["call", "read_account", "--account", "research"];
        folder.run(&by_name).good();
        let by_connection = ["call", "read_account", "--account", "research.remote"];
        let refused = folder.run(&by_connection);
        let error = refused.error();
        assert!(
            error.contains("no account `research.remote`; configured are: research")
                && !error.contains("research.remote.remote"),
            "{refused:?}"
        );
        folder.run(&["account", "status", "research"]).good();
        let refused = folder.run(&["account", "status", "research.remote"]);
        assert!(
            refused.error().contains("name the account: research"),
            "{refused:?}"
        );
    }
    // The remote server has tools of the same names, which mean something else.
    assert_eq!(got(&cloud, "read_account"), 0);
}
