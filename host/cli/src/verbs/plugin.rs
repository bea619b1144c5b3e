//! `qchost plugin inspect | list | grants`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use qchost_catalog::{Access, BoxFuture, Call, Failure, Outcome, Upstream};
use qchost_gate::{Gate, Options as GateOptions, Profiles, StateStore};
use qchost_runtime::{Inspection, Options, Runtime};
use serde_json::{Value, json};

use crate::config::Config;
use crate::control::{self, Request};
use crate::host::{self, Host, Loaded};
use crate::output::{Output, table, words};

/// Looks into a component without granting it anything.
pub async fn examine(path: &Path) -> Result<Inspection> {
    let folder = tempfile::tempdir().context("cannot make a folder for the look")?;
    let gate = Gate::new(
        Box::new(Nowhere),
        GateOptions {
            profiles: Profiles::default(),
            state: StateStore::in_memory()?,
            call_timeout: Duration::ZERO,
        },
    );
    let options = Options::new(folder.path().join("cache"), folder.path().join("key"));
    let found = Runtime::new(gate, options)?.inspect(path).await?;
    Ok(found)
}

/// The connection of a component that is only looked at.
struct Nowhere;

impl Upstream for Nowhere {
    fn call<'a>(&'a self, _: Call<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { Err(nowhere()) })
    }

    fn download<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: u64,
        _: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async { Err(nowhere()) })
    }
}

fn nowhere() -> Failure {
    Failure::Unavailable("the component is only looked at".to_owned())
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
            "\n\nIt can make every call that it was built to make with this grant:\n\n\
             [[grant]]\nname  = \"all\"\nallow = [\n{}]",
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
pub fn by_host(host: &Host) -> Value {
    let row = |loaded: &Loaded| match &loaded.plugin {
        Ok(plugin) => json!({
            "plugin": plugin.name(),
            "version": plugin.description().version,
            "status": "ready",
            "account": plugin.manifest().account,
            "actions": plugin.description().actions.iter().map(|action| &action.name).collect::<Vec<_>>(),
            "manifest": loaded.path,
        }),
        Err(error) => json!({
            "plugin": loaded.name,
            "status": "broken",
            "error": words(error),
            "manifest": loaded.path,
        }),
    };
    host.plugins.iter().map(row).collect()
}

/// Lists the plugins of the configuration, as the running host has them.
pub async fn list(config: &Config, output: Output) -> Result<()> {
    let listed = control::perform(config, Request::Plugins, output).await?;
    let rows: Vec<Value> = serde_json::from_value(listed)?;
    output.result(&rows, |rows| {
        let text = |value: &Value| match value {
            Value::Array(names) => names
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            Value::String(text) => text.clone(),
            _ => "-".to_owned(),
        };
        let lines: Vec<_> = rows
            .iter()
            .map(|row| {
                let what = row.get("actions").or(row.get("error"));
                [
                    row.get("plugin"),
                    row.get("version"),
                    row.get("status"),
                    row.get("account"),
                    what,
                ]
                .map(|cell| cell.map_or("-".to_owned(), text))
                .to_vec()
            })
            .collect();
        table(
            &["plugin", "version", "status", "account", "actions"],
            &lines,
        )
    })?;
    let broken = rows.iter().filter(|row| row.get("error").is_some()).count();
    if broken > 0 {
        bail!("{broken} of {} plugins are broken", rows.len());
    }
    Ok(())
}

/// Shows what a plugin may do, by the grant that allows it.
pub fn grants(config: &Config, name: &str, output: Output) -> Result<()> {
    let mut known = Vec::new();
    for path in host::manifests(&config.plugins)? {
        let manifest = match host::check(&path, config) {
            Ok(manifest) => manifest,
            Err(error) if host::claims(&path, host::named(&path).as_deref(), name) => {
                return Err(error);
            }
            Err(_) => continue,
        };
        if manifest.plugin != name {
            known.push(manifest.plugin);
            continue;
        }
        let mut rows = Vec::new();
        for grant in &manifest.grants {
            for (operation, access) in qchost_gate::grantable() {
                let pattern = grant
                    .allow
                    .iter()
                    .find(|pattern| pattern.covers(operation, access));
                if let Some(pattern) = pattern {
                    rows.push((
                        grant.name.clone(),
                        operation.to_owned(),
                        access,
                        pattern.to_string(),
                    ));
                }
            }
            for pattern in grant
                .allow
                .iter()
                .filter(|pattern| pattern.as_str().starts_with("raw/"))
            {
                rows.push((
                    grant.name.clone(),
                    pattern.to_string(),
                    Access::Trade,
                    pattern.to_string(),
                ));
            }
        }
        let value: Vec<_> = rows
            .iter()
            .map(|(grant, operation, access, pattern)| {
                json!({ "grant": grant, "operation": operation, "access": access.word(), "by": pattern })
            })
            .collect();
        return output.result(&value, |_| {
            let rows: Vec<_> = rows
                .iter()
                .map(|(grant, operation, access, pattern)| {
                    vec![
                        grant.clone(),
                        operation.clone(),
                        access.word().to_owned(),
                        pattern.clone(),
                    ]
                })
                .collect();
            table(&["grant", "operation", "access", "by"], &rows)
        });
    }
    bail!(
        "there is no manifest for a plugin `{name}`; there are: {}",
        known.join(", ")
    )
}
