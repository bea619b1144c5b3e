//! `qchost reload`: the running host looks at its files now, and says what became of each.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use qchost_gate::HeldBack;
use qchost_policy::Person;
use serde_json::{Value, json};

use crate::accounts;
use crate::control::{self, Request, Route};
use crate::host::Host;
use crate::output::{Output, table};
use crate::reload::Health;
use crate::verbs::{cell, plugin};

/// How long an account may take to show how it stands.
const ACCOUNT_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks for it, and shows it.
pub async fn run(route: &Route, output: Output) -> Result<()> {
    let Some(report) = control::ask_starting(route, Request::Reload, output).await? else {
        return Err(route.none_runs(&anyhow!(
            "no host runs here to reload, and one that starts reads its files as they are: qchost run"
        )));
    };
    let rows: Vec<Value> = serde_json::from_value(report)?;
    output.result(&rows, |rows| {
        let lines: Vec<_> = rows
            .iter()
            .map(|row| {
                ["status", "file", "plugin", "detail"]
                    .map(|key| cell(row, key))
                    .to_vec()
            })
            .collect();
        table(&["status", "file", "plugin", ""], &lines)
    })?;
    let wrong = rows.iter().filter(|row| !plugin::in_effect(row)).count();
    ensure!(
        wrong == 0,
        "{wrong} of {} files are not in effect as they are",
        rows.len()
    );
    // What else keeps an account from being used is shown, and no file's matter.
    let refused = |row: &&Value| {
        row.get("account").is_some()
            && row
                .get("status")
                .is_some_and(|state| state == "unauthorized")
    };
    let refused: Vec<_> = rows
        .iter()
        .filter(refused)
        .map(|row| cell(row, "account"))
        .collect();
    ensure!(
        refused.is_empty(),
        "the files are in effect, but the credentials of these accounts are not accepted: {}",
        refused.join(", ")
    );
    Ok(())
}

/// Has this host look, and waits until what it found is done.
pub async fn by_host(host: &Host, person: &Person) -> Result<Value> {
    let Some(follower) = host.follower() else {
        bail!("this process does not follow its files");
    };
    host.gate.note_admin(person, "reload", json!({})).await?;
    // What is found now that waits for two people does not wait for this one.
    let asked = host.gate.reload_asked_by(person.uid);
    let done = follower.reload().await;
    ensure!(
        done,
        "the host ends: it loads nothing any more, and what the files take away is denied to what still runs; \
         `qchost plugin list` shows it"
    );
    host.connections.check(ACCOUNT_CHECK_TIMEOUT).await;
    drop(asked);
    let mut rows = files(host);
    let listed = plugin::by_host(host).await?;
    for manifest in listed.as_array().into_iter().flatten() {
        let get = |key: &str| manifest.get(key).cloned().unwrap_or_default();
        let detail = match (get("error"), plugin::standing(manifest)) {
            (Value::Null, None) => get("digest"),
            (Value::Null, Some(standing)) => standing.into(),
            // It says what is denied too.
            (error, Some(standing)) if get("waits for").is_null() && !get("denied").is_null() => {
                format!("{}; {standing}", error.as_str().unwrap_or_default()).into()
            }
            (error, _) => error,
        };
        rows.push(json!({
            "file": get("manifest"),
            "status": get("status"),
            "plugin": get("plugin"),
            "detail": detail,
        }));
    }
    Ok(rows.into())
}

/// The files that are no manifests, and the accounts, with what is wrong with them.
pub fn files(host: &Host) -> Vec<Value> {
    let config = host.current();
    let config = &config.config;
    let files = host.table.files();
    let mut rows = vec![row(&config.file, &files.configuration)];
    if let Some(policies) = config.policies() {
        rows.push(row(&policies, &files.guardrails));
    }
    if files.folder.problem.is_some() {
        rows.push(row(&config.plugins, &files.folder));
    }
    if files.credentials.problem.is_some() {
        rows.push(row(Path::new("credentials"), &files.credentials));
    }
    drop(files);
    rows.extend(host.connections.health().iter().map(|health| {
        json!({
            "file": format!("account {}", health.account),
            "account": health.account,
            "status": health.state,
            "detail": accounts::trouble(health),
        })
    }));
    rows
}

fn row(file: &Path, health: &Health) -> Value {
    let held = health.held.as_ref();
    let detail = health.problem.clone();
    let detail = detail.or_else(|| held.map(HeldBack::words));
    let detail = detail.or_else(|| health.until_restart());
    let status = match (&health.problem, held) {
        (Some(_), _) => "degraded",
        (None, Some(_)) => "waiting",
        (None, None) => "ready",
    };
    let approval = held.map(|held| &held.approval);
    json!({ "approval": approval, "file": file, "status": status, "detail": detail, "failures": health.failures })
}

/// What is to be said of the files of the host that runs, if one does: the file, and what of it is not in
/// effect.
pub async fn notes(route: &Route, output: Output) -> Result<Vec<(String, String)>> {
    let asked = control::ask_running(route, Request::Files, output, &mut |_| Ok(())).await?;
    let rows: Vec<Value> = match asked {
        Some(rows) => serde_json::from_value(rows)?,
        None => Vec::new(),
    };
    let noted = rows
        .iter()
        .filter(|row| row.get("detail").is_some_and(Value::is_string));
    Ok(noted
        .map(|row| (cell(row, "file"), cell(row, "detail")))
        .collect())
}
