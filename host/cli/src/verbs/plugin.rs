//! `qchost plugin inspect | list`.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use qchost_ledger::{Approval, ApprovalKind};
use qchost_runtime::{Inspection, Options, Runtime};
use serde_json::{Value, json};

use crate::config::Config;
use crate::control::{self, Request};
use crate::gate;
use crate::host::{Host, Loaded, compiler};
use crate::output::{Output, table, words};
use crate::verbs::cell;

/// Looks into a component without granting it anything.
pub async fn examine(path: &Path) -> Result<Inspection> {
    let folder = tempfile::tempdir().context("cannot make a folder for the look")?;
    let gate = gate::scratch(&Config::default(), folder.path()).await?;
    let (cache, key) = (folder.path().join("cache"), folder.path().join("key"));
    let options = Options::new(cache, key, compiler());
    let found = Runtime::new(gate, options)?.inspect(path).await?;
    Ok(found)
}

/// Shows what a component is.
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

/// The names of an input's fields; those that can be left out carry a question mark.
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

/// The plugins of a host, with what is wrong with them.
pub async fn by_host(host: &Host) -> Result<Value> {
    // A changed component may run; what trades waits for the one who says yes to it.
    let approvals = host.gate.approvals(false).await?;
    let waits = |plugin: &str| {
        let of_it = |approval: &&Approval| {
            approval.kind == ApprovalKind::Component && approval.binding.plugin == plugin
        };
        approvals
            .iter()
            .find(of_it)
            .map(|approval| approval.id.as_str())
    };
    let row = |loaded: &Loaded| match &loaded.plugin {
        Ok(plugin) => json!({
            "plugin": plugin.name(),
            "version": plugin.description().version,
            "status": if waits(plugin.name()).is_some() { "waiting" } else { "ready" },
            "approval": waits(plugin.name()),
            "account": plugin.manifest().account,
            "actions": plugin.description().actions.iter().map(|action| &action.name).collect::<Vec<_>>(),
            "manifest": loaded.path,
        }),
        Err(error) => json!({
            "plugin": loaded.name,
            "status": if loaded.awaits().is_some() { "waiting" } else { "broken" },
            "approval": loaded.awaits(),
            "error": words(error),
            "manifest": loaded.path,
        }),
    };
    Ok(host.plugins.iter().map(row).collect())
}

/// What to do about plugins that wait for an operator.
fn waiting(rows: &[Value]) -> String {
    let lines = rows.iter().filter_map(|row| {
        let approval = row.get("approval").filter(|it| it.is_string())?;
        Some(format!(
            "\n{}: its code changed, and may not trade before somebody said yes: qchost approvals show {}",
            cell(row, "plugin"),
            approval.as_str().unwrap_or_default()
        ))
    });
    lines.collect()
}

/// Lists the plugins of the configuration, as the running host has them.
pub async fn list(config: &Config, output: Output) -> Result<()> {
    let listed = control::perform(config, Request::Plugins, output).await?;
    let rows: Vec<Value> = serde_json::from_value(listed)?;
    output.result(&rows, |rows| {
        let lines: Vec<_> = rows
            .iter()
            .map(|row| {
                let what = if row.get("error").is_some() {
                    "error"
                } else {
                    "actions"
                };
                ["plugin", "version", "status", "account", what]
                    .map(|key| cell(row, key))
                    .to_vec()
            })
            .collect();
        table(
            &["plugin", "version", "status", "account", "actions"],
            &lines,
        ) + &waiting(rows)
    })?;
    let broken = rows
        .iter()
        .filter(|row| row.get("status").is_some_and(|is| is == "broken"))
        .count();
    ensure!(broken == 0, "{broken} of {} plugins are broken", rows.len());
    Ok(())
}
