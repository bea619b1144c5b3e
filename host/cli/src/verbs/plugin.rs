//! `qchost plugin inspect | list | grants`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use qchost_catalog::Access;
use qchost_runtime::{Inspection, Runtime};
use serde_json::{Value, json};

use crate::config::Config;
use crate::host::{self, Host};
use crate::output::{Output, table};

/// Looks into a component without granting it anything.
pub async fn examine(path: &Path) -> Result<Inspection> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Runtime::inspect(bytes).await.with_context(|| path.display().to_string())
}

/// Shows what a component is.
pub async fn inspect(path: &Path, output: Output) -> Result<()> {
    let found = examine(path).await?;
    let value = json!({
        "name": found.description.name,
        "version": found.description.version,
        "summary": found.description.summary,
        "digest": found.digest,
        "bytes": found.bytes,
        "actions": found.description.actions.iter().map(|action| json!({
            "name": action.name,
            "description": action.description,
            "input-schema": action.input_schema,
            "output-schema": action.output_schema,
            "read-only": action.hints.read_only,
            "destructive": action.hints.destructive,
            "idempotent": action.hints.idempotent,
        })).collect::<Vec<_>>(),
        "imports": found.imports,
        "exports": found.exports,
        "grants": found.grants,
    });
    output.result(&value, |_| {
        let actions: Vec<_> = found
            .description
            .actions
            .iter()
            .map(|action| {
                let first = action.description.lines().next().unwrap_or_default();
                vec![format!("  {}", action.name), first.to_owned()]
            })
            .collect();
        let mut text = format!(
            "{} {}\n{}\n\ndigest  {}\nsize    {} KiB\n\n{}\n\nimports\n  {}",
            found.description.name,
            found.description.version,
            found.description.summary,
            found.digest,
            found.bytes.div_ceil(1024),
            table(&["actions", ""], &actions),
            found.imports.join("\n  "),
        );
        if !found.grants.is_empty() {
            text += &format!("\n\nIt loads with these grants, or narrower ones:\n\n{}", found.grants);
        }
        text
    })
}

/// Lists the plugins of the configuration.
pub async fn list(config: &Config, output: Output) -> Result<()> {
    let mut host = Host::open(config).await?;
    host.load_all(config).await?;
    let rows: Vec<Value> = host
        .plugins
        .iter()
        .map(|loaded| match &loaded.plugin {
            Ok(plugin) => json!({
                "plugin": plugin.name(),
                "version": plugin.description().version,
                "status": "ready",
                "account": plugin.manifest().account,
                "actions": plugin.description().actions.iter().map(|action| &action.name).collect::<Vec<_>>(),
                "manifest": loaded.path,
            }),
            Err(error) => json!({
                "plugin": null,
                "status": "broken",
                "error": format!("{error:#}"),
                "manifest": loaded.path,
            }),
        })
        .collect();
    host.close(std::time::Duration::ZERO).await;
    output.result(&rows, |rows| {
        let text = |value: &Value| match value {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            Value::String(text) => text.clone(),
            _ => "-".to_owned(),
        };
        let lines: Vec<_> = rows
            .iter()
            .map(|row| {
                let what = row.get("actions").or(row.get("error"));
                [row.get("plugin"), row.get("version"), row.get("status"), row.get("account"), what]
                    .map(|cell| cell.map_or("-".to_owned(), text))
                    .to_vec()
            })
            .collect();
        table(&["plugin", "version", "status", "account", "actions"], &lines)
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
            Err(error) if path.to_string_lossy().contains(name) => return Err(error),
            Err(_) => continue,
        };
        if manifest.plugin != name {
            known.push(manifest.plugin);
            continue;
        }
        let mut rows = Vec::new();
        for grant in &manifest.grants {
            for (operation, access) in qchost_gate::grantable() {
                let pattern = grant.allow.iter().find(|pattern| pattern.covers(operation, access));
                if let Some(pattern) = pattern {
                    rows.push((grant.name.clone(), operation.to_owned(), access, pattern.to_string()));
                }
            }
            for pattern in grant.allow.iter().filter(|pattern| pattern.as_str().starts_with("raw/")) {
                rows.push((grant.name.clone(), pattern.to_string(), Access::Trade, pattern.to_string()));
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
                    vec![grant.clone(), operation.clone(), access.word().to_owned(), pattern.clone()]
                })
                .collect();
            table(&["grant", "operation", "access", "by"], &rows)
        });
    }
    bail!("there is no manifest for a plugin `{name}`; there are: {}", known.join(", "))
}
