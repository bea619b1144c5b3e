//! `qchost plugin inspect | list`.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use qchost_runtime::{Inspection, Options, Quarantine, Runtime};
use qchost_upstream::AccountState;
use serde_json::{Value, json};

use crate::config::Config;
use crate::control::{self, Request, Route};
use crate::gate;
use crate::host::{Host, compiler};
use crate::output::{Output, remark, table};
use crate::reload::{Problem, Row};
use crate::terminal;
use crate::verbs::{cell, instant, reload};

/// Inspects a component without granting it anything.
pub async fn examine(path: &Path) -> Result<Inspection> {
    let folder = tempfile::tempdir().context("cannot make a folder for the look")?;
    let gate = gate::scratch(&Config::default(), folder.path()).await?;
    let (cache, key) = (folder.path().join("cache"), folder.path().join("key"));
    let options = Options::new(cache, key, compiler());
    let found = Runtime::new(gate, options)?.inspect(path).await?;
    Ok(found)
}

/// Shows a component.
pub async fn inspect(path: &Path, output: Output) -> Result<()> {
    let found = examine(path).await?;
    output.result(&found, text)?;
    match found.problem {
        Some(problem) => bail!(problem),
        None => Ok(()),
    }
}

fn text(found: &Inspection) -> String {
    let mut text = match &found.description {
        Some(description) => {
            let actions: Vec<_> = description
                .actions
                .iter()
                .map(|action| {
                    let first = action.description.lines().next().unwrap_or_default();
                    vec![
                        action.name.clone(),
                        fields(&action.input_schema),
                        first.to_owned(),
                    ]
                })
                .collect();
            format!(
                "{} {}: {}\n\n{}\n\n",
                description.name,
                description.version,
                description.summary,
                table(&["action", "input", ""], &actions)
            )
        }
        None => String::new(),
    };
    text += &format!(
        "digest    {}\nsize      {} KiB, {} KiB compiled\n\n",
        found.digest,
        found.size.div_ceil(1024),
        found.compiled.div_ceil(1024),
    );
    let imports: Vec<_> = found
        .imports
        .iter()
        .map(|import| vec![import.name.clone(), import.functions.join(", ")])
        .collect();
    text += &table(&["import", "functions"], &imports);
    if !found.needs.is_empty() {
        let list: Vec<_> = found
            .needs
            .iter()
            .map(|need| format!("    \"{need}\",\n"))
            .collect();
        text += &format!(
            "\n\nIt can make every call that it was built to make with this grant, on the projects that you name in it:\n\n\
             [[grant]]\nname     = \"all\"\nallow    = [\n{}]\nprojects = [\"Lab/*\"]",
            list.concat()
        );
    }
    text
}

/// The names of an input's fields; optional ones have a question mark.
fn fields(schema: &Value) -> String {
    let required = schema.get("required").and_then(Value::as_array);
    let needed = |name: &str| required.is_some_and(|names| names.iter().any(|it| it == name));
    let names = schema.get("properties").and_then(Value::as_object);
    let names = names.into_iter().flat_map(|properties| properties.keys());
    let marked: Vec<_> = names
        .map(|name| {
            if needed(name) {
                name.clone()
            } else {
                format!("{name}?")
            }
        })
        .collect();
    marked.join(" ")
}

/// The plugins of a host, with their problems.
pub async fn by_host(host: &Host) -> Result<Value> {
    // A changed component may run; its trades await approval.
    let approvals = host.gate.waiting_components().await?;
    let waits = |plugin: &str| {
        let mut waiting = approvals.iter();
        waiting
            .find(|(waits, _)| waits == plugin)
            .map(|(_, approval)| approval.as_str())
    };
    let described = |row: &Row| {
        let plugin = row
            .holds
            .as_deref()
            .and_then(|name| host.runtime.plugin(name));
        let own = row
            .problem
            .as_ref()
            .and_then(|problem| problem.approval.as_deref());
        let approval = own.or_else(|| waits(plugin.as_ref()?.name()));
        let standing = plugin
            .as_ref()
            .and_then(|plugin| host.runtime.standing(plugin.name()));
        let quarantine = standing.as_ref().and_then(|it| it.quarantine.as_ref());
        let health = plugin
            .as_ref()
            .and_then(|plugin| host.connections.accounts.health(&plugin.manifest().account));
        let unusable = health
            .as_ref()
            .and_then(|health| Some((health, host.connections.trouble(health)?)));
        let status = match status(row, quarantine, plugin.is_some(), approval.is_some()) {
            "ready" if unusable.is_some() => "unavailable",
            status => status,
        };
        let denied = plugin
            .as_ref()
            .map(|plugin| host.gate.denied(plugin.name(), plugin.digest()));
        let held = plugin
            .as_ref()
            .and_then(|plugin| host.gate.held_back(plugin.name()));
        let mut value = json!({
            "denied": denied,
            "waits for": held.map(|held| held.gains),
            "plugin": row.name,
            "status": status,
            "approval": approval,
            "manifest": row.path,
            "failures": row.failures,
            "loading": row.loading,
        });
        let serving = plugin.map(|plugin| {
            json!({
                "plugin": plugin.name(),
                "version": plugin.description().version,
                "account": plugin.manifest().account,
                "actions": plugin.description().actions.iter().map(|action| &action.name).collect::<Vec<_>>(),
                "digest": plugin.digest(),
                "calls-itself": plugin.other_name(),
                "loaded": row.loaded.and_then(instant),
            })
        });
        let counts = standing.as_ref().map(
            |it| json!({ "running": it.running, "waiting": it.waiting, "draining": it.draining }),
        );
        let wrong = wrong(row.problem.as_ref(), quarantine).map(|error| json!({ "error": error }));
        let account = health
            .as_ref()
            .map(|it| json!({ "account-state": it.state }));
        let unavailable = unusable.map(|(health, trouble)| {
            json!({ "error": format!("its account `{}` is {trouble}", health.account) })
        });
        for more in [account, serving, counts, unavailable, wrong]
            .into_iter()
            .flatten()
        {
            if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
                value.extend(more);
            }
        }
        value
    };
    Ok(host.table.rows().iter().map(described).collect())
}

/// Why a plugin is in quarantine.
fn refused(quarantine: &Quarantine) -> String {
    let Quarantine {
        failures,
        remaining,
        reason,
    } = quarantine;
    let again = match remaining.is_zero() {
        true => "the next invocation is a trial".to_owned(),
        false => format!("is tried again in {} s", remaining.as_secs_f64().ceil()),
    };
    format!("it failed {failures} times in a row, and {again}: {reason}")
}

/// The problem of a plugin. A problem with its file comes first, since the operator can fix it.
fn wrong(problem: Option<&Problem>, quarantine: Option<&Quarantine>) -> Option<String> {
    match (problem, quarantine) {
        (Some(problem), Some(quarantine)) => Some(format!(
            "{}; what serves meanwhile is quarantined: {}",
            problem.reason,
            refused(quarantine)
        )),
        (Some(problem), None) => Some(problem.reason.clone()),
        (None, quarantine) => quarantine.map(refused),
    }
}

/// The state of a plugin in a word; a quarantine does not hide a problem with its file.
fn status(row: &Row, quarantine: Option<&Quarantine>, serves: bool, awaits: bool) -> &'static str {
    match (&row.problem, serves) {
        (None, _) if quarantine.is_some() => "quarantined",
        _ if awaits => "waiting",
        (Some(_), true) => "degraded",
        (None, true) => "ready",
        // It was found just now.
        (None, false) => "loading",
        (Some(_), false) => "broken",
    }
}

/// What serves of a plugin and what of it is denied, if that differs from its files.
pub fn standing(row: &Value) -> Option<String> {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    let names = |key: &str| {
        let names = row.get(key).and_then(Value::as_array);
        names
            .is_some_and(|names| !names.is_empty())
            .then(|| cell(row, key))
    };
    let serves = text("version").map(|version| format!("serves {}", terminal::line(version)));
    let serves = serves.unwrap_or_else(|| "does not serve".to_owned());
    let mut words = vec![serves];
    words.extend(
        names("denied")
            .map(|names| format!("denied, or limited more, by the changed manifest: {names}")),
    );
    match (text("approval"), names("waits for")) {
        (Some(id), Some(gains)) => words.push(format!(
            "{gains} waits for an admin: qchost approvals show {id}"
        )),
        (Some(id), None) => words.push(format!(
            "its code changed, and trade is denied to it until it is approved: qchost approvals show {id}"
        )),
        (None, _) if words.len() == 1 => return None,
        (None, _) => {}
    }
    Some(words.join("; "))
}

/// The same for all plugins, one line each.
fn standings(rows: &[Value]) -> String {
    let lines = rows
        .iter()
        .filter_map(|row| Some(format!("\n{}: {}", cell(row, "plugin"), standing(row)?)));
    lines.collect()
}

/// The remarks on plugins or files.
fn remarks(rows: &[Value], key: &str) -> String {
    let lines = rows.iter().filter_map(|row| {
        let said = row.get(key)?.as_str()?;
        let names =
            ["plugin", "manifest", "file"].map(|name| row.get(name).and_then(Value::as_str));
        let name = names.into_iter().flatten().next().unwrap_or_default();
        Some(format!("\n{}", remark(name, said)))
    });
    lines.collect()
}

/// Whether the file or the plugin of a row is in effect as its file says, or is about to be, and whether an account is
/// usable as far as is known.
pub fn in_effect(row: &Value) -> bool {
    let status = row.get("status").cloned().unwrap_or_default();
    let state: Option<AccountState> = serde_json::from_value(status.clone()).ok();
    let wrong = matches!(
        status.as_str(),
        Some("degraded" | "broken" | "waiting" | "quarantined")
    );
    !wrong && !state.is_some_and(AccountState::is_trouble)
}

/// Which components have another name than their manifests.
fn otherwise(rows: &[Value]) -> String {
    let lines = rows.iter().filter_map(|row| {
        row.get("calls-itself").filter(|it| it.is_string())?;
        Some(format!(
            "\n{}: its component calls itself {}; the name in the manifest counts, so see that it is the right component",
            cell(row, "plugin"),
            cell(row, "calls-itself")
        ))
    });
    lines.collect()
}

/// Lists the plugins of the configuration, as the running host has them.
pub async fn list(route: &Route, output: Output) -> Result<()> {
    let listed = control::perform(route, Request::Plugins, output).await?;
    let rows: Vec<Value> = serde_json::from_value(listed)?;
    let files = reload::of_running_host(route, output).await?;
    if files.is_none() {
        output.note("no host runs: this is what one that starts here would load");
    }
    let files = files.unwrap_or_default();
    output.result(&rows, |rows| {
        let columns = ["plugin", "version", "status", "account", "actions"];
        let lines: Vec<_> = rows
            .iter()
            .map(|row| columns.map(|key| cell(row, key)).to_vec())
            .collect();
        table(&columns, &lines)
            + &remarks(rows, "error")
            + &standings(rows)
            + &otherwise(rows)
            + &remarks(&files, "detail")
    })?;
    let count = |of: &dyn Fn(&Value) -> bool| rows.iter().filter(|row| of(row)).count();
    let wrong = count(&|row| !in_effect(row));
    let broken = count(&|row| row.get("status").is_some_and(|is| is == "broken"));
    let what = if broken == wrong {
        "are broken"
    } else {
        "are not in effect as their files are"
    };
    let mut words = Vec::new();
    if wrong > 0 {
        words.push(format!("{wrong} of {} plugins {what}", rows.len()));
    }
    words.extend(reload::trouble(&files));
    ensure!(words.is_empty(), "{}", words.join("; "));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_quarantine_does_not_hide_a_manifest_that_cannot_be_read() {
        let quarantine = |seconds| Quarantine {
            failures: 5,
            remaining: Duration::from_secs(seconds),
            reason: "a trap".to_owned(),
        };
        let broken = Row {
            problem: Some(Problem {
                reason: "line 1: expected a key".to_owned(),
                approval: None,
            }),
            ..Row::default()
        };
        let said = wrong(broken.problem.as_ref(), Some(&quarantine(7))).unwrap();
        assert!(said.starts_with("line 1: expected a key; "), "{said}");
        assert!(
            said.contains("quarantined") && said.contains("in 7 s: a trap"),
            "{said}"
        );
        let status = |row: &Row| status(row, Some(&quarantine(7)), true, false);
        assert_eq!(status(&broken), "degraded");
        assert!(!in_effect(&json!({ "status": status(&broken) })));
        assert_eq!(status(&Row::default()), "quarantined");
        // The quarantine has expired, and no call has come.
        let said = wrong(None, Some(&quarantine(0))).unwrap();
        assert!(
            !said.contains("0 s") && said.contains("next invocation"),
            "{said}"
        );
    }
}
