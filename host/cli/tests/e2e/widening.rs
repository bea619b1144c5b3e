//! In production, a single editor of the files cannot bring a widening into force by any route. The cloud's
//! request log shows what was sent.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use qchost_emulator::{Fault, FaultKind};
use serde_json::{Value, json};

use crate::backups::{key_of, sign_again};
use crate::cloud::Cloud;
use crate::common::{Folder, embedded};
use crate::desk::{ADMIN, APPROVER, Desk, OPERATOR};
use crate::guests::caller;
use crate::process::{BOUND, Process, Ran, wait_until};
use crate::running::{GRANT, PROJECTS, Running, edit, manifest, plugin, replace, serve};
use crate::socket::Answer;
use crate::starting::lock_database;

/// The call that the plugin tries: of class `destroy`, on an object that need not exist.
const DELETE: (&str, Option<&str>) = (
    "delete_object",
    Some("{\"organizationId\":\"org\",\"key\":\"a\"}"),
);
/// The grant that allows it.
const OBJECTS: &str = "[[grant]]\nname = \"objects\"\nallow = [\"object-store/delete-object\"]\nkeys = [\"*\"]\norganizations = [\"*\"]\n";
const FORBID: &str = "@id(\"no-deletes\")\nforbid (principal, action == Action::\"object-store/delete-object\", resource);\n";

/// A production configuration, in which two people other than the owner of the files (the user of the tests)
/// have to approve.
fn production() -> String {
    let me = rustix::process::geteuid().as_raw();
    format!(
        "mode = \"production\"\ntwo-person = true\n[people.me]\nuid = {me}\nroles = [\"admin\"]\n\
         [people.other]\nuid = 64005\nroles = [\"admin\"]\n"
    )
}

fn wide() -> String {
    format!("{GRANT}{OBJECTS}")
}

fn lab(folder: &Folder, lines: &str) {
    plugin(folder, "lab", &caller(1, &[DELETE]), lines);
}

fn deletes(cloud: &Cloud) -> usize {
    cloud.requests_to("/object/delete").len()
}

/// A host in production whose plugin may not delete.
fn narrow() -> Running {
    Running::start(&production(), |folder| lab(folder, GRANT))
}

fn denied(answer: &Answer) -> bool {
    matches!(answer, Answer::Failed(why) if why.contains("denied"))
}

/// The widened manifest is pending, nothing of it is in force, and the editor's own approval does not count.
fn waits(running: &Running, plugin: &str) {
    let why = running.until_status(plugin, "waiting");
    assert!(why.contains("object-store/delete-object"), "{why}");
    let answer = running.act(plugin);
    assert!(denied(&answer), "{answer:?}");
    assert_eq!(deletes(&running.cloud), 0, "it was sent");
    let rows = running.control.plugins();
    let row = rows.iter().find(|row| row["plugin"] == plugin).unwrap();
    let id = row["approval"].as_str().unwrap().to_owned();
    let ran = running.folder.run(&["approvals", "approve", &id]);
    assert!(
        ran.error().contains("owners of the changed files"),
        "{ran:?}"
    );
    let answer = running.act(plugin);
    assert!(denied(&answer), "{answer:?}");
    assert_eq!(deletes(&running.cloud), 0, "it was sent");
}

#[test]
fn only_a_new_data_folder_adopts_what_it_finds() {
    // The twin of all that follows: here it is sent.
    let running = Running::start(&production(), |folder| lab(folder, &wide()));
    running.act("lab");
    assert_eq!(deletes(&running.cloud), 1);
    running.end();
}

#[test]
fn a_changed_manifest_waits_also_over_a_restart_and_what_reads_goes_on() {
    let mut running = narrow();
    edit(&running.path("plugins/lab.toml"), GRANT, &wide());
    waits(&running, "lab");
    // A pending change shows in the exit status; the output says what serves, and what it waits for.
    let ran = running.reload();
    assert!(ran.error().contains("not in effect"), "{ran:?}");
    assert!(ran.stdout.contains("waiting"), "{ran:?}");
    let listed = running.folder.run(&["plugin", "list"]);
    listed.error();
    for words in [
        "serves ",
        "object-store/delete-object waits for an admin",
        "approvals show ap-",
    ] {
        assert!(listed.stdout.contains(words), "{words}: {listed:?}");
    }
    running.host.end();
    running.host = serve(&running.folder);
    waits(&running, "lab");
    // Reverted, everything is as before.
    edit(&running.path("plugins/lab.toml"), OBJECTS, "");
    running.until_status("lab", "ready");
    running.reload().good();
    running.end();
}

#[test]
fn a_new_file_name_and_a_new_plugin_name_adopt_nothing() {
    let running = narrow();
    plugin(&running.folder, "new", &caller(2, &[DELETE]), &wide());
    waits(&running, "new");
    // Another file name for the same plugin.
    fs::remove_file(running.path("plugins/new.toml")).unwrap();
    let text = manifest("lab", "../builds/lab.wasm", &wide());
    replace(&running.path("plugins/zzz.toml"), text);
    fs::remove_file(running.path("plugins/lab.toml")).unwrap();
    waits(&running, "lab");
    running.end();
}

/// Rights that were removed count as new ones, regardless of the file's name.
#[test]
fn a_manifest_that_was_taken_away_waits_when_it_comes_again() {
    let running = Running::start(&production(), |folder| lab(folder, &wide()));
    let file = running.path("plugins/lab.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    running.until(
        "lab",
        |answer| matches!(answer, Answer::Failed(why) if why.contains("no plugin")),
    );
    replace(&running.path("plugins/other.toml"), text.clone());
    waits(&running, "lab");
    // Nor by an edit while no host runs.
    let mut running = {
        drop(running);
        Running::start(&production(), |folder| lab(folder, &wide()))
    };
    let (file, away) = (running.path("plugins/lab.toml"), running.path("lab.away"));
    running.host.end();
    fs::rename(&file, &away).unwrap();
    running.host = serve(&running.folder);
    fs::rename(&away, &file).unwrap();
    waits(&running, "lab");
    running.end();
}

#[test]
fn a_rename_and_a_link_adopt_nothing() {
    let running = narrow();
    let text = manifest("lab", "../builds/lab.wasm", &wide());
    // Written to another file and renamed over it.
    replace(&running.path("wide.toml"), text.as_str());
    fs::rename(running.path("wide.toml"), running.path("plugins/lab.toml")).unwrap();
    waits(&running, "lab");
    edit(&running.path("plugins/lab.toml"), OBJECTS, "");
    running.until_status("lab", "ready");
    replace(&running.path("wide.toml"), text);
    symlink(running.path("wide.toml"), running.path("link")).unwrap();
    fs::rename(running.path("link"), running.path("plugins/lab.toml")).unwrap();
    waits(&running, "lab");
    running.end();
}

#[test]
fn a_second_configuration_on_the_same_data_folder_adopts_nothing() {
    let Running {
        host,
        folder,
        cloud,
        ..
    } = narrow();
    host.end();
    let path = |name: &str| folder.path().join(name);
    // A manifest with fewer rights, while the wide one is in another folder.
    let me = rustix::process::geteuid().as_raw();
    let other = format!(
        "data = \"data\"\ncache = \"data/cache\"\nplugins = \"others\"\nlive-trading = true\n\
         [people.me]\nuid = {me}\nroles = [\"admin\"]\n{}keep-answers = false\n",
        embedded(cloud.url())
    );
    fs::write(path("other.toml"), other).unwrap();
    fs::create_dir(path("others")).unwrap();
    let text = manifest("lab", "../builds/lab.wasm", &wide());
    replace(&path("others/lab.toml"), text);
    let with = |arguments: &[&str]| -> Ran {
        folder.run(&[&["--config", "other.toml"], arguments].concat())
    };
    // Without a running host.
    let ran = with(&["invoke", "lab.act", "{}"]);
    assert!(
        !ran.status.success() && ran.stderr.contains("denied"),
        "{ran:?}"
    );
    assert_eq!(deletes(&cloud), 0);
    let listed: Value =
        serde_json::from_str(&with(&["--json", "approvals", "list"]).stdout).unwrap();
    let listed = listed.as_array().unwrap();
    let mut subjects: Vec<_> = listed
        .iter()
        .map(|one| one["operation"].as_str().unwrap())
        .collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["configuration", "manifest"]);
    for one in listed {
        assert_eq!(one["needs"], 2, "{one}");
        let ran = with(&["approvals", "approve", one["id"].as_str().unwrap()]);
        assert!(
            ran.error().contains("owners of the changed files"),
            "{ran:?}"
        );
    }
    let ran = with(&["invoke", "lab.act", "{}"]);
    assert!(
        !ran.status.success() && ran.stderr.contains("denied"),
        "{ran:?}"
    );
    assert_eq!(deletes(&cloud), 0);
}

/// Restores a backup into an empty data folder, lets `prepare` change files, and starts the host.
fn restored(running: Running, prepare: impl FnOnce(&Folder, &Path)) -> Running {
    let backup = running.path("backup");
    let name = backup.to_str().unwrap().to_owned();
    running.folder.run(&["backup", &name]).good();
    running.restarted(|folder| {
        prepare(folder, &backup);
        fs::remove_dir_all(folder.path().join("data")).unwrap();
        let key = key_of(&backup);
        folder.run(&["restore", &name, "--key", &key]).good();
    })
}

/// The pending changes by subject: the id of each approval.
fn waiting(running: &Running) -> BTreeMap<String, String> {
    let listed = running.folder.run(&["--json", "approvals", "list"]).json();
    let word = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let listed = listed.as_array().unwrap().iter();
    listed
        .map(|one| (word(one, "operation"), word(one, "id")))
        .collect()
}

#[test]
fn a_restored_backup_adopts_nothing() {
    let running = Running::start(&production(), |folder| lab(folder, &wide()));
    edit(&running.path("plugins/lab.toml"), OBJECTS, "");
    running.until_status("lab", "ready");
    running.reload().good();
    edit(&running.path("plugins/lab.toml"), GRANT, &wide());
    running.until_status("lab", "waiting");
    // The file still contains it, and a writer who can sign has marked it as adopted in the backup.
    let running = restored(running, |folder, backup| {
        let forged = rusqlite::Connection::open(backup.join("state.db")).unwrap();
        forged
            .execute_batch(
                "DELETE FROM meta WHERE name = 'restored'; UPDATE in_force SET confirmed = 1",
            )
            .unwrap();
        drop(forged);
        sign_again(backup, &folder.path().join("data"));
    });
    waits(&running, "lab");
    running.end();
}

/// The configuration and guardrails of a backup were in force once, which does not bring them into force.
#[test]
fn what_a_restored_backup_has_in_force_waits_for_a_new_yes() {
    let me = rustix::process::geteuid().as_raw();
    let people = format!(
        "mode = \"production\"\n[people.me]\nuid = {me}\nroles = [\"admin\"]\n\
         [people.former]\nuid = 64006\nroles = [\"operator\", \"approver\"]\n"
    );
    let running = Running::start(&people, |folder| lab(folder, &wide()));
    let answer = running.act("lab");
    assert_eq!(deletes(&running.cloud), 1, "{answer:?}");
    let running = restored(running, |_, _| {});
    let subjects = ["configuration", "guardrails", "manifest"];
    let ids = wait_until("all of it waits", || {
        let ids = waiting(&running);
        (ids.len() == subjects.len()).then_some(ids)
    });
    assert!(ids.keys().eq(subjects), "{ids:?}");
    let shown = running
        .folder
        .run(&["approvals", "show", &ids["configuration"]]);
    for words in [
        "every role but that of the admins whom the backup names too",
        "person `former` (uid 64006): operator, approver",
    ] {
        assert!(shown.good().stdout.contains(words), "{words}: {shown:?}");
    }
    let denied_still = || {
        let answer = running.act("lab");
        assert!(denied(&answer), "{answer:?}");
        assert_eq!(deletes(&running.cloud), 1, "it was sent");
    };
    denied_still();
    let approve = |subject: &str| {
        let ran = running.folder.run(&["approvals", "approve", &ids[subject]]);
        ran.good();
        running.folder.run(&["reload"]);
    };
    // The manifest alone is not enough: guardrails may be missing.
    approve("configuration");
    approve("manifest");
    let answer = running.act("lab");
    let guardrail = |answer: &Answer| matches!(answer, Answer::Failed(why) if why.contains("until-guardrails-are-approved"));
    assert!(guardrail(&answer), "{answer:?}");
    assert_eq!(deletes(&running.cloud), 1, "it was sent");
    approve("guardrails");
    running.reload().good();
    running.act("lab");
    assert_eq!(deletes(&running.cloud), 2);
    assert!(waiting(&running).is_empty());
    running.end();
}

#[test]
fn a_guardrail_that_is_gone_in_production_holds_until_it_is_approved_also_over_a_restart() {
    let mut running = Running::start(&production(), |folder| {
        fs::create_dir(folder.path().join("policies")).unwrap();
        fs::write(folder.path().join("policies/desk.cedar"), FORBID).unwrap();
        lab(folder, &wide());
    });
    let forbidden = |running: &Running| {
        let answer = running.act("lab");
        assert!(
            matches!(&answer, Answer::Failed(why) if why.contains("no-deletes")),
            "{answer:?}"
        );
        assert_eq!(deletes(&running.cloud), 0);
        let ran = running.folder.run(&["reload"]);
        assert!(ran.error().contains("not in effect"), "{ran:?}");
        ran.stdout.clone()
    };
    // Changed, removed, and the whole folder removed.
    let other = FORBID.replace(
        "resource)",
        "resource) when { principal.name == \"other\" }",
    );
    replace(&running.path("policies/desk.cedar"), other.as_str());
    let shown = forbidden(&running);
    assert!(
        shown.contains("waiting") && shown.contains("no-deletes"),
        "{shown}"
    );
    fs::remove_file(running.path("policies/desk.cedar")).unwrap();
    forbidden(&running);
    fs::rename(running.path("policies"), running.path("away")).unwrap();
    assert!(forbidden(&running).contains("degraded"));
    running.host.end();
    running.host = serve(&running.folder);
    assert!(forbidden(&running).contains("degraded"));
    fs::create_dir(running.path("policies")).unwrap();
    forbidden(&running);
    // Formatted differently and renamed, it is the same guardrail.
    let moved = format!("// moved\n\n{}", FORBID.replace("no-deletes", "none"));
    replace(&running.path("policies/other.cedar"), moved);
    running.folder.run(&["reload"]).good();
    running.end();
}

#[test]
fn a_folder_of_guardrails_that_is_renamed_away_ends_none_of_them() {
    // In development, an editor may remove a file.
    let running = Running::start("", |folder| {
        fs::create_dir(folder.path().join("policies")).unwrap();
        fs::write(folder.path().join("policies/desk.cedar"), FORBID).unwrap();
        lab(folder, &wide());
    });
    fs::rename(running.path("policies"), running.path("away")).unwrap();
    let ran = running.reload();
    assert!(ran.error().contains("not in effect"), "{ran:?}");
    assert!(
        ran.stdout.contains("is gone; the guardrails of it hold on"),
        "{ran:?}"
    );
    running.act("lab");
    assert_eq!(deletes(&running.cloud), 0);
    fs::create_dir(running.path("policies")).unwrap();
    running.reload().good();
    running.act("lab");
    assert_eq!(deletes(&running.cloud), 1);
    running.end();
}

#[test]
fn a_configuration_that_gives_more_waits_and_what_it_takes_away_is_gone() {
    let mut running = narrow();
    let text = fs::read_to_string(running.path("qchost.toml")).unwrap();
    let wider = text
        .replace("mode = \"production\"", "mode = \"development\"")
        .replace("two-person = true", "live-trading = true")
        .replace(
            "[people.other]",
            "[people.eve]\nuid = 64006\nroles = [\"admin\"]\n[people.other]",
        )
        + "[brokerage.ib]\nid = \"InteractiveBrokersBrokerage\"\nib-password = \"a literal secret\"\n";
    replace(&running.path("qchost.toml"), wider);
    let ran = running.reload();
    assert!(ran.error().contains("not in effect"), "{ran:?}");
    let listed = running.folder.run(&["--json", "approvals", "list"]).json();
    let one = &listed[0];
    assert_eq!(one["operation"], "configuration", "{listed}");
    assert_eq!(one["needs"], 2);
    let shown = running
        .folder
        .run(&["approvals", "show", one["id"].as_str().unwrap()]);
    for words in [
        "mode from production to development",
        "two-person from true to false",
        "live-trading from false to true",
        "person `eve` (uid 64006): admin",
        "profile `ib`",
        "+    \"eve\": {",
        "page        1 of 1",
    ] {
        assert!(shown.good().stdout.contains(words), "{words}: {shown:?}");
    }
    let ran = running
        .folder
        .run(&["approvals", "approve", one["id"].as_str().unwrap()]);
    assert!(
        ran.error().contains("owners of the changed files"),
        "{ran:?}"
    );
    // No record says that it is in force, not even after a restart.
    running.host.end();
    running.host = serve(&running.folder);
    assert!(
        running
            .folder
            .run(&["reload"])
            .error()
            .contains("not in effect")
    );
    let query = ["--json", "audit", "query", "--kind", "change"];
    let changes = running.folder.run(&query).good().stdout.clone();
    let of_eve: Vec<Value> = changes
        .lines()
        .filter(|line| line.contains("eve"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!of_eve.is_empty(), "{changes}");
    for change in of_eve {
        assert_eq!(change["pending"], true, "{change}");
        assert_eq!(change["approval"], one["id"], "{change}");
    }
    // It is still production: a wide manifest waits for approval.
    edit(&running.path("plugins/lab.toml"), GRANT, &wide());
    waits(&running, "lab");
    // No secret is kept, neither in plain text nor as a plain hash.
    for entry in ["state.db", "state.db-wal"] {
        let kept = fs::read(running.path("data").join(entry)).unwrap_or_default();
        let found = |word: &str| kept.windows(word.len()).any(|part| part == word.as_bytes());
        assert!(!found("a literal secret"), "{entry}");
    }
    running.end();
}

/// No person could take it back, not even by the files.
#[test]
fn what_leaves_no_person_to_approve_is_neither_in_force_nor_asked_for() {
    let me = rustix::process::geteuid().as_raw();
    let person = |roles: &str| format!("[people.me]\nuid = {me}\nroles = [{roles}]\n");
    let (admin, viewer) = (person("\"admin\""), person("\"viewer\""));
    let other = "[people.other]\nuid = 64005\nroles = [\"admin\"]\n";
    let running = Running::start(&format!("mode = \"production\"\n{admin}"), |folder| {
        lab(folder, GRANT);
    });
    let refused = |words: &str| {
        let ran = running.reload();
        assert!(ran.error().contains("not in effect"), "{ran:?}");
        assert!(ran.stdout.contains("degraded"), "{ran:?}");
        assert!(ran.stdout.contains(words), "{ran:?}");
        assert!(waiting(&running).is_empty());
        running.folder.run(&["halt", "--plugin", "lab"]).good();
        running.folder.run(&["resume", "--plugin", "lab"]).good();
    };
    running.configure(&admin, &viewer);
    refused("too few would be left to approve anything");
    running.configure(&viewer, &admin);
    running.reload().good();
    // Nor a guardrail.
    let rule =
        "@id(\"nobody\")\nforbid (principal, action == Action::\"person/approve\", resource);\n";
    fs::create_dir(running.path("policies")).unwrap();
    replace(&running.path("policies/desk.cedar"), rule);
    refused("under these too few people could approve anything");
    fs::remove_file(running.path("policies/desk.cedar")).unwrap();
    running.reload().good();
    // The twin: another admin stays.
    running.configure(&admin, &format!("{admin}{other}"));
    running.reload();
    let id = waiting(&running)["configuration"].clone();
    running.folder.run(&["approvals", "approve", &id]).good();
    running.reload().good();
    running.configure(&admin, "");
    wait_until("the first admin is none any more", || {
        let ran = running.folder.run(&["halt", "--plugin", "lab"]);
        ran.stderr
            .contains("is not a person of this host")
            .then_some(())
    });
    running.end();
}

#[test]
fn people_of_the_file_are_recovered_at_a_start_only_where_those_in_force_cannot_approve() {
    let me = rustix::process::geteuid().as_raw();
    let before = format!(
        "[people.me]\nuid = {me}\nroles = [\"viewer\"]\n\
         [people.gone]\nuid = 64005\nroles = [\"admin\"]\n"
    );
    let after = format!("[people.me]\nuid = {me}\nroles = [\"admin\"]\n");
    let running = Running::start(&format!("mode = \"production\"\n{before}"), |folder| {
        lab(folder, GRANT);
    });
    let ran = running.folder.run(&["halt", "--plugin", "lab"]);
    assert!(ran.error().contains("touch "), "{ran:?}");
    let running = running.restarted(|folder| {
        edit(&folder.path().join("qchost.toml"), &before, &after);
    });
    let ran = running.folder.run(&["approvals", "list"]);
    assert!(
        ran.stderr.contains("is not a person of this host"),
        "{ran:?}"
    );
    let running = running.restarted(|folder| {
        let mut host = folder.start(&["run", "--recover-people"]);
        host.until("it is ready", |host| {
            host.stdout().contains("ready").then_some(())
        });
        folder.run(&["reload"]).good();
        let recorded = folder.run(&["--json", "audit", "query", "--kind", "admin"]);
        let recorded = recorded.good().stdout.clone();
        assert!(recorded.contains("recover people"), "{recorded}");
        host.end();
    });
    // It is in force from then on, and nothing waits.
    running.reload().good();
    assert!(waiting(&running).is_empty());
    let Running { host, folder, .. } = running;
    host.end();
    // The twin: those in force can approve.
    let ran = folder.run(&["run", "--recover-people"]);
    assert!(ran.error().contains("can approve changes"), "{ran:?}");
}

/// An editor cannot decide what the host executes or where it sends credentials.
#[test]
fn another_account_is_not_connected_before_it_is_approved() {
    let running = narrow();
    let mark = running.path("ran");
    let text = fs::read_to_string(running.path("qchost.toml")).unwrap();
    let account = embedded(running.cloud.url());
    let stdio = format!(
        "[account.research]\nconnection = \"stdio\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"touch {}\"]\n",
        mark.display()
    );
    replace(&running.path("qchost.toml"), text.replace(&account, &stdio));
    let ran = running.reload();
    assert!(ran.error().contains("not in effect"), "{ran:?}");
    let listed = running.folder.run(&["--json", "approvals", "list"]).json();
    let shown = running
        .folder
        .run(&["approvals", "show", listed[0]["id"].as_str().unwrap()]);
    let words = "account `research` has other settings";
    assert!(shown.good().stdout.contains(words), "{shown:?}");
    running.host.end();
    // Nor after a restart, when the host connects to accounts as the file has them.
    let mut host = running.folder.start(&["--log", "info", "run"]);
    host.until("the account is missed", |host| {
        host.stderr()
            .contains("an admin has to approve")
            .then_some(())
    });
    host.terminate();
    drop(host.wait());
    assert!(!mark.exists(), "the command was run");
}

/// An edit of the files does not take away the means by which an operator makes an account safe.
#[test]
fn what_runs_on_an_account_that_waits_or_is_gone_is_liquidated() {
    let elsewhere = embedded("http://127.0.0.1:9/api/v2");
    for (changed, restart) in [
        (elsewhere.as_str(), false),
        ("", false),
        (&elsewhere, true),
        ("", true),
    ] {
        let mut running = narrow();
        let desk = crate::categories::folder(&embedded(running.cloud.url()));
        let other = desk.serve(&["run"]);
        desk.invoke("every-category.deploy-live", &json!({ "profile": "paper" }));
        let sent = |running: &Running, path: &str| running.cloud.requests_to(path).len();
        let file = running.path("qchost.toml");
        let text = fs::read_to_string(&file).unwrap();
        let account = embedded(running.cloud.url()) + "keep-answers = false\n";
        replace(&file, text.replace(&account, changed));
        drop(running.reload());
        // No other writer exists.
        let created = sent(&running, "/projects/create");
        let arguments = "{\"name\":\"x\",\"language\":\"Py\"}";
        let create = ["call", "--account", "research", "create_project", arguments];
        let ran = running.folder.run(&create);
        assert!(ran.error().contains("is not in force"), "{ran:?}");
        assert_eq!(sent(&running, "/projects/create"), created);
        if restart {
            running.host.end();
            running.host = running.folder.start(&["--log", "info", "run"]);
            running.host.until("it listens", |_| {
                let listed = running.folder.run(&["halt", "--list"]);
                listed.status.success().then_some(())
            });
        }
        let ran = running.folder.run(&["--json", "halt", "--liquidate"]);
        let liquidated = sent(&running, "/live/update/liquidate");
        if restart {
            // Without an earlier connection the running deployments are unknown, which is not the same as
            // none.
            assert_eq!(ran.status.code(), Some(9), "{changed}: {ran:?}");
            assert!(ran.stdout.contains("not known"), "{changed}: {ran:?}");
            assert_eq!(liquidated, 0);
        } else {
            let report: Value = serde_json::from_str(&ran.good().stdout).unwrap();
            assert_eq!(report["stopped"][0]["result"], "liquidated", "{report}");
            assert_eq!(liquidated, 1);
        }
        running.host.terminate();
        drop(running.host.wait());
        other.end();
    }
}

/// The digest of an account covers the targets of its paths.
#[test]
fn the_same_words_in_another_folder_are_another_account() {
    for by_link in [false, true] {
        let cloud = Cloud::start();
        let base = Folder::apart("");
        let home = |name: &str| {
            let home = base.path().join(name);
            fs::create_dir_all(home.join("srv")).unwrap();
            fs::create_dir_all(home.join("plugins")).unwrap();
            let mark = base.path().join(format!("ran-{name}"));
            fs::write(
                home.join("srv/server"),
                format!("touch {}\n", mark.display()),
            )
            .unwrap();
            let text = format!(
                "data = \"{}/data\"\n{}[account.research]\nconnection = \"stdio\"\ncommand = \"/bin/sh\"\nargs = [\"server\"]\ncwd = \"srv\"\ncredentials = false\n",
                base.path().display(),
                production()
            );
            fs::write(home.join("qchost.toml"), text).unwrap();
            mark
        };
        let (first, second) = (home("one"), home("two"));
        let link = base.path().join("current");
        symlink(base.path().join("one"), &link).unwrap();
        let config = |name: &str| {
            let folder = if by_link { "current" } else { name };
            base.path()
                .join(folder)
                .join("qchost.toml")
                .display()
                .to_string()
        };
        let run = |config: &str, mark: &Path| {
            let mut host = base.start(&["--config", config, "--log", "info", "run"]);
            host.until("it has started", |host| {
                let ran = mark.exists() && host.stdout().contains("ready");
                (ran || host.stderr().contains("has other settings is denied")).then_some(())
            });
            host.terminate();
            drop(host.wait());
        };
        run(&config("one"), &first);
        assert!(first.exists());
        if by_link {
            fs::remove_file(&link).unwrap();
            symlink(base.path().join("two"), &link).unwrap();
        }
        run(&config("two"), &second);
        assert!(
            !second.exists(),
            "another server was run: by a link: {by_link}"
        );
        drop(cloud);
    }
}

/// Two admins who do not own the file bring a widening into force together; one of them, twice, does not.
#[test]
fn two_other_admins_put_a_widening_into_force() {
    const BOSS: u32 = 64_007;
    let Some(desk) = Desk::new(
        &format!(
            "mode = \"production\"\ntwo-person = true\npeople.boss = {{ uid = {BOSS}, roles = [\"admin\"] }}\n"
        ),
        str::to_owned,
    ) else {
        return;
    };
    lab(&desk.folder, GRANT);
    let host = desk.serve();
    let act = || desk.run_as(OPERATOR, &["invoke", "lab.act"]);
    let deletes = || deletes(&desk.cloud);
    act();
    assert_eq!(deletes(), 0);
    edit(&desk.folder.path().join("plugins/lab.toml"), GRANT, &wide());
    // The host notices the change itself: those who request a reload have no influence on what it finds.
    let id = wait_until("the widened manifest waits", || {
        let listed = desk.run_as(ADMIN, &["--json", "approvals", "list"]).json();
        listed[0]["id"].as_str().map(str::to_owned)
    });
    let approve = |by| desk.run_as(by, &["--json", "approvals", "approve", &id]);
    let denied = approve(APPROVER);
    assert!(denied.json_error().contains("role admin"), "{denied:?}");
    assert_eq!(denied.status.code(), Some(3), "{denied:?}");
    assert_eq!(approve(ADMIN).json()["status"], "pending");
    approve(ADMIN).json_error();
    act();
    assert_eq!(deletes(), 0, "one admin alone");
    assert_eq!(approve(BOSS).json()["status"], "approved");
    wait_until("the widened manifest is in force", || {
        act();
        (deletes() > 0).then_some(())
    });
    let last_change = |what: &str| {
        let query = [
            "--json", "audit", "query", "--limit", "1", "--kind", "change", "--what", what,
        ];
        desk.run_as(ADMIN, &query).json()
    };
    let change = last_change("manifest");
    assert_eq!(change["by"], "admin, boss", "{change}");
    assert_eq!(change["approval"], id.as_str());
    // The same with the configuration: until then the record says that it is pending.
    let file = desk.folder.path().join("qchost.toml");
    let text = fs::read_to_string(&file).unwrap();
    replace(
        &file,
        format!("{text}\n[people.eve]\nuid = 64008\nroles = [\"admin\"]\n"),
    );
    let id = wait_until("the widened configuration waits", || {
        let listed = desk.run_as(ADMIN, &["--json", "approvals", "list"]).json();
        listed[0]["id"].as_str().map(str::to_owned)
    });
    let waits = wait_until("that it waits is recorded", || {
        Some(last_change("people")).filter(|change| change["pending"] == true)
    });
    assert_eq!(waits["approval"], id.as_str(), "{waits}");
    for by in [ADMIN, BOSS] {
        desk.run_as(by, &["approvals", "approve", &id]).good();
    }
    let change = wait_until("the widened configuration is in force", || {
        Some(last_change("people")).filter(|change| change["pending"].is_null())
    });
    assert_eq!(change["by"], "admin, boss", "{change}");
    assert_eq!(change["approval"], id.as_str());
    assert_eq!(change["digest-after"], waits["digest-after"]);
    host.end();
}

#[test]
fn what_a_restricted_manifest_does_not_grant_is_marked() {
    let running = Running::start("", |folder| lab(folder, &format!("{}{PROJECTS}", wide())));
    // The component is broken, so the previous one keeps serving, without the rights that the manifest
    // removed.
    edit(&running.path("plugins/lab.toml"), PROJECTS, "");
    replace(&running.path("builds/lab.wasm"), "broken");
    edit(&running.path("plugins/lab.toml"), OBJECTS, "");
    running.until_status("lab", "degraded");
    wait_until("the delete is marked as denied", || {
        let grants = running
            .folder
            .run(&["--json", "plugin", "grants", "lab"])
            .json();
        let objects = grants["grants"]
            .as_array()?
            .iter()
            .find(|it| it["name"] == "objects")?;
        (objects["denied"] == json!(["object-store/delete-object"])).then_some(())
    });
    let rows = running.control.plugins();
    let denied = rows[0]["denied"].as_array().unwrap();
    assert!(
        denied.contains(&json!("object-store/delete-object")),
        "{rows:?}"
    );
    let ran = running.reload();
    assert!(ran.error().contains("not in effect"), "{ran:?}");
    assert!(ran.stdout.contains("object-store/delete-object"), "{ran:?}");
    running.act("lab");
    assert_eq!(deletes(&running.cloud), 0);
    running.end();
}

#[test]
fn a_host_that_ends_says_that_what_the_files_take_away_is_denied() {
    let component = caller(1, &[("list_projects", Some("{}")), DELETE]);
    let running = Running::with_lab(&component, &format!("{}{PROJECTS}", wide()));
    let slow = Fault::at("/projects/read", FaultKind::Latency(Duration::from_secs(8)));
    running.cloud.emulator().set_faults(vec![slow]);
    let control = running.control.clone();
    let invocation = std::thread::spawn(move || control.invoke("lab.act", &json!({})));
    wait_until("the first call is under way", || {
        (!running.cloud.requests_to("/projects/read").is_empty()).then_some(())
    });
    running.host.terminate();
    edit(&running.path("plugins/lab.toml"), OBJECTS, "");
    wait_until("the delete is shown as denied", || {
        let rows = running.control.plugins();
        let denied = rows.first()?["denied"].as_array()?;
        denied
            .contains(&json!("object-store/delete-object"))
            .then_some(())
    });
    let ran = running.reload();
    for words in ["the host ends", "is denied to what still runs"] {
        assert!(ran.error().contains(words), "{ran:?}");
    }
    let answer = invocation.join().unwrap();
    assert!(denied(&answer), "{answer:?}");
    assert_eq!(deletes(&running.cloud), 0, "it was sent");
    running.host.wait().good();
}

/// Restarts a host and sends requests before its state is open. Returns the answers, and that to a client
/// which connected then and asked to lift the halt only later.
fn asked_while_it_opens(
    running: Running,
    asks: &[&[&str]],
    before: impl FnOnce(&Folder),
) -> (Running, Vec<Ran>, String) {
    let Running {
        host,
        folder,
        cloud,
        control,
    } = running;
    host.end();
    before(&folder);
    let locker = lock_database(&folder.path().join("data/state.db"), folder.path());
    let mut host = folder.start(&["run"]);
    let socket = folder.path().join("data/control.sock");
    crate::common::wait_for_file(&socket);
    let mut clients: Vec<Process> = asks.iter().map(|ask| folder.start(ask)).collect();
    for client in &mut clients {
        client.until("it waits for the state", |client| {
            client
                .stderr()
                .contains("is starting: opening the state")
                .then_some(())
        });
    }
    let mut late = UnixStream::connect(&socket).unwrap();
    drop(locker);
    let told = clients.into_iter().map(Process::wait).collect();
    let body = json!({ "verb": "resume", "account": null, "plugin": null }).to_string();
    let head = json!({ "config": "/x", "verb": "resume", "about": null, "bytes": body.len() });
    let head = json!({ "version": 4, "message": head });
    write!(late, "{head}\n{body}").unwrap();
    late.set_read_timeout(Some(BOUND)).unwrap();
    let mut late_told = String::new();
    late.read_to_string(&mut late_told).unwrap();
    host.until("it is ready", |host| {
        host.stdout().contains("ready").then_some(())
    });
    let running = Running {
        host,
        control,
        folder,
        cloud,
    };
    (running, told, late_told)
}

#[test]
fn a_role_that_only_the_file_gives_counts_for_nothing_while_a_host_starts() {
    let me = rustix::process::geteuid().as_raw();
    let people = format!(
        "mode = \"production\"\n[people.me]\nuid = {me}\nroles = [\"viewer\"]\n\
         [people.other]\nuid = 64005\nroles = [\"admin\"]\n"
    );
    let running = Running::start(&people, |folder| {
        lab(folder, &wide());
        plugin(folder, "more", &caller(2, &[DELETE]), GRANT);
    });
    edit(&running.path("plugins/more.toml"), GRANT, &wide());
    running.until_status("more", "waiting");
    let rows = running.control.plugins();
    let row = rows.iter().find(|row| row["plugin"] == "more").unwrap();
    let id = row["approval"].as_str().unwrap().to_owned();
    fs::write(running.path("data/halt"), "").unwrap();
    wait_until("the halt is stored", || {
        let halts = running.folder.run(&["--json", "halt", "--list"]).json();
        (halts[0]["kept"] == "database").then_some(())
    });
    fs::remove_file(running.path("data/halt")).unwrap();
    let asks: [&[&str]; 5] = [
        &["resume"],
        &["approvals", "approve", &id],
        &["backup", "copied"],
        &["invoke", "lab.act"],
        &["halt", "--list"],
    ];
    let widen = |folder: &Folder| {
        edit(
            &folder.path().join("qchost.toml"),
            "[\"viewer\"]",
            "[\"viewer\", \"admin\"]",
        );
    };
    let (running, told, late) = asked_while_it_opens(running, &asks, widen);
    let (listed, denied) = told.split_last().unwrap();
    for ran in denied {
        assert!(ran.error().contains("the role viewer"), "{ran:?}");
    }
    assert!(late.contains("the role viewer"), "{late}");
    // A viewer's permitted requests are answered, and show that nothing was done.
    assert!(listed.good().stdout.contains("DATA/halt"), "{listed:?}");
    let halts = running.folder.run(&["halt", "--list"]);
    assert!(halts.good().stdout.contains("DATA/halt"), "{halts:?}");
    let approvals = running.folder.run(&["--json", "approvals", "list"]).json();
    let mut waiting = approvals.as_array().unwrap().iter();
    let one = waiting.find(|one| one["id"] == json!(id)).unwrap();
    assert_eq!(one["status"], "pending", "{one}");
    assert!(!running.path("copied").exists());
    assert_eq!(deletes(&running.cloud), 0);
    running.end();
}

#[test]
fn a_role_in_force_counts_while_a_host_starts() {
    // The twin.
    let running = Running::start(&production(), |folder| lab(folder, &wide()));
    let asks: [&[&str]; 1] = [&["invoke", "lab.act"]];
    let (running, _, late) = asked_while_it_opens(running, &asks, |_| {});
    assert_eq!(deletes(&running.cloud), 1);
    assert!(late.contains("\"ended\":0"), "{late}");
    running.end();
}
