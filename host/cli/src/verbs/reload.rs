//! `qchost reload`: makes the running host reload its files now, and shows the state of each.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use qchost_gate::HeldBack;
use qchost_policy::Person;
use serde_json::{Value, json};

use crate::control::{self, Request, Route};
use crate::host::Host;
use crate::output::{Output, table};
use crate::reload::Health;
use crate::verbs::{cell, plugin};

/// How long an account may take to report its state.
const ACCOUNT_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests a reload, and shows the result.
pub async fn run(route: &Route, output: Output) -> Result<()> {
    let Some(report) = control::ask_starting(route, Request::Reload, output).await? else {
        return Err(route.none_runs(&anyhow!(
            "nothing was reloaded, and a host that starts reads its files as they are"
        )));
    };
    let rows: Vec<Value> = serde_json::from_value(report)?;
    output.result(&rows, |rows| {
        let lines: Vec<_> = rows
            .iter()
            .map(|row| {
                let detail = row.get("detail").and_then(Value::as_str);
                // Of several lines, to be pasted.
                let detail =
                    detail.map_or_else(|| "-".to_owned(), |text| text.trim_end().to_owned());
                let mut cells = ["status", "file", "plugin"]
                    .map(|key| cell(row, key))
                    .to_vec();
                cells.push(detail);
                cells
            })
            .collect();
        table(&["status", "file", "plugin", ""], &lines)
    })?;
    let wrong = trouble(&rows);
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// The number of files not in effect, and the accounts that cannot be used, in words.
pub fn trouble(rows: &[Value]) -> Vec<String> {
    let bad = |row: &&&Value| !plugin::in_effect(row);
    let (accounts, files): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row.get("account").is_some());
    let wrong = files.iter().filter(bad).count();
    let unusable: Vec<_> = accounts
        .iter()
        .filter(bad)
        .map(|row| format!("{} ({})", cell(row, "account"), cell(row, "status")))
        .collect();
    let mut words = Vec::new();
    if wrong > 0 {
        words.push(format!(
            "{wrong} of {} files are not in effect as they are",
            files.len()
        ));
    }
    if !unusable.is_empty() {
        words.push(format!(
            "these accounts cannot be used: {}",
            unusable.join(", ")
        ));
    }
    words
}

/// Makes this host look, and waits until the changes are done.
pub async fn by_host(host: &Host, person: &Person) -> Result<Value> {
    let Some(follower) = host.follower() else {
        bail!("this process does not follow its files");
    };
    host.gate.note_admin(person, "reload", json!({})).await?;
    // This person triggered the reload, so cannot be one of two approvers of what it finds.
    let asked = host.gate.reload_asked_by(person.uid);
    let done = follower.reload().await;
    ensure!(
        done,
        "the host ends: it loads nothing any more, and what the files take away is denied to what still runs; \
         `qchost plugin list` shows it"
    );
    host.connections.check_now(ACCOUNT_CHECK_TIMEOUT).await;
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

/// The files that are not manifests, and the accounts, with their problems.
pub fn files(host: &Host) -> Vec<Value> {
    let config = host.current();
    let config = &config.config;
    let files = host.table.files();
    let mut rows = vec![row(&config.file, &files.configuration)];
    if let Some(policies) = config.policies() {
        let mut row = row(&policies, &files.guardrails);
        if let Value::Object(fields) = &mut row {
            fields.insert("guardrails".to_owned(), true.into());
            let detail = fields.get("detail").and_then(Value::as_str);
            let says = detail.is_some_and(|detail| detail.contains("hold on"));
            if let (Some(problem), false) = (&files.guardrails.problem, says) {
                let detail = format!(
                    "{}; the guardrails that were in effect hold on",
                    problem.trim_end()
                );
                fields.insert("detail".to_owned(), detail.into());
            }
        }
        rows.push(row);
    }
    if files.folder.problem.is_some() {
        rows.push(row(&config.plugins, &files.folder));
    }
    if files.credentials.problem.is_some() {
        rows.push(row(Path::new("credentials"), &files.credentials));
    }
    drop(files);
    rows.extend(host.connections.health().iter().map(|health| {
        if config.dormant.contains(&health.account) {
            return json!({
                "file": format!("account {}", health.account),
                "status": "dormant",
                "detail": "not in force; connected for qchost halt --liquidate and what else makes it safer",
            });
        }
        json!({
            "file": format!("account {}", health.account),
            "account": health.account,
            "status": health.state,
            "detail": host.connections.trouble(health),
            "fix": health.state.is_trouble().then(|| host.connections.remedy(health)),
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

/// The files and accounts of the running host, like [`files`]; `None` if there is no host.
pub async fn of_running_host(route: &Route, output: Output) -> Result<Option<Vec<Value>>> {
    let asked = control::ask_running(route, Request::Files, output, &mut |_| Ok(())).await?;
    Ok(asked.map(serde_json::from_value).transpose()?)
}
