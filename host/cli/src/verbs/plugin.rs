//! `qchost plugin inspect | list | logs`.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::unistd::geteuid;
use qchost_policy::{Manifest, is_name};
use qchost_runtime::{Import, Inspection, Kind, Options, Runtime, StartError};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use serde_json::Value;

use super::cells::{list as list_of, maybe, text, word};
use super::reload;
use crate::children::compiler;
use crate::config::Config;
use crate::control::{self, Route};
use crate::gate;
use crate::keys;
use crate::manifests;
use crate::output::{Output, counted, fields, folded, part_is, print, print_json, remark, table};
use crate::reports::LogRow;
use crate::requests::{ListFiles, ListPlugins, PluginLogs, PluginRow, Status, aliases};
use crate::terminal;

/// Inspects a component without granting it anything. Uses and fills the cache of the host with this configuration, if this
/// user can.
pub async fn examine(path: &Path, config: Option<&Config>) -> Result<Inspection> {
    let folder = tempfile::tempdir().context("cannot make a folder for the look")?;
    let gate = gate::scratch(&Config::default(), folder.path()).await?;
    let options = |(cache, key): (PathBuf, PathBuf)| {
        let mut options = Options::new(cache, key, compiler());
        if let Some(config) = config {
            // Code depends on them, and so does what can be compiled at all.
            config.engine.apply(&mut options);
        }
        options
    };
    let apart = || options((folder.path().join("cache"), folder.path().join("key")));
    let runtime = match config.and_then(host_cache) {
        None => Runtime::new(gate, apart())?,
        Some(shared) => match Runtime::new(gate.clone(), options(shared)) {
            // Without it, a look takes longer.
            Err(StartError::Cache(_)) => Runtime::new(gate, apart())?,
            started => started?,
        },
    };
    Ok(runtime.inspect(path).await?)
}

/// The folder of a host's compiled components and the host's key, unless only another user can use them. A host creates its
/// key: there is none to share before, and what another user creates is none that a host trusts.
fn host_cache(config: &Config) -> Option<(PathBuf, PathBuf)> {
    let key = keys::path(&config.data().ok()?);
    let found = key.metadata().ok()?;
    let cache = config.cache().ok()?.join("components");
    let is_closed = matches!(
        access(&cache, Access::WRITE_OK),
        Err(Errno::ACCESS | Errno::ROFS)
    );
    (found.uid() == geteuid().as_raw() && !is_closed).then_some((cache, key))
}

/// Shows a component: that of a file, or that of a plugin of the configuration.
pub async fn inspect(component: &Path, config: Option<&Config>, output: Output) -> Result<()> {
    let manifest = manifest_of(component, config)?;
    let file = manifest.as_ref().map(|manifest| &manifest.component);
    let mut found = examine(file.map_or(component, PathBuf::as_path), config).await?;
    found.aliases = manifest.as_ref().map(aliases).unwrap_or_default();
    output.result(&found, inspection)?;
    match found.problem {
        Some(problem) => bail!(problem),
        None => Ok(()),
    }
}

/// The manifest of a component that is named by its plugin.
fn manifest_of(component: &Path, config: Option<&Config>) -> Result<Option<Manifest>> {
    let name = component.to_str().filter(|name| is_name(name));
    match (name, config) {
        (Some(name), Some(config)) if !component.exists() => {
            let manifest = manifests::find(config, name);
            let manifest = manifest.with_context(|| format!("there is no file {name} here"))?;
            Ok(Some(manifest))
        }
        _ => Ok(None),
    }
}

fn inspection(found: &Inspection) -> String {
    let mut text = match &found.description {
        Some(description) => {
            let actions: Vec<_> = description
                .actions
                .iter()
                .map(|action| {
                    let first = action.description.lines().next().unwrap_or_default();
                    vec![
                        action.name.clone(),
                        inputs(&action.input_schema),
                        first.to_owned(),
                    ]
                })
                .collect();
            let title = format!(
                "{} {}: {}",
                description.name, description.version, description.summary
            );
            let actions = table(&["action", "input", "description"], &actions);
            let mut text = format!("{}\n\n{actions}\n\n", folded(&title));
            if let Some(schema) = &description.config_schema {
                let settings = [("config".to_owned(), inputs(schema))];
                text += &format!("{}\n\n", fields(0, &settings));
            }
            if !found.aliases.is_empty() {
                let rows = found.aliases.iter();
                let rows: Vec<_> = rows
                    .map(|(alias, action)| vec![alias.clone(), action.clone()])
                    .collect();
                text += &format!("{}\n\n", table(&["alias", "action"], &rows));
            }
            text
        }
        None => String::new(),
    };
    let (size, compiled) = (found.size.div_ceil(1024), found.compiled.div_ceil(1024));
    let measures = [
        ("digest".to_owned(), found.digest.clone()),
        (
            "size".to_owned(),
            match compiled {
                0 => format!("{size} KiB, not compiled"),
                _ => format!("{size} KiB, {compiled} KiB compiled"),
            },
        ),
    ];
    text += &fields(0, &measures);
    text += "\n\n";
    text += &table(&["import", "functions"], &imports(&found.imports));
    if let Some(advice) = found.advice() {
        text += &format!("\n\n{}", folded(advice));
    }
    let grants = found.grants();
    if !grants.is_empty() {
        let words =
            "It can make every call that it was built to make with these lines in its manifest:";
        text += &format!("\n\n{}\n\n{}", folded(words), grants.trim_end());
    }
    text
}

/// The imports with their functions. Those of WASI, which grant nothing and come with the toolchain, are one row.
fn imports(imports: &[Import]) -> Vec<Vec<String>> {
    let (wasi, others): (Vec<&Import>, Vec<&Import>) = imports.iter().partition(|import| {
        matches!(import.kind, Kind::Wasi | Kind::Types) && import.name.starts_with("wasi:")
    });
    let mut rows: Vec<_> = others
        .iter()
        .map(|import| vec![import.name.clone(), import.functions.join(", ")])
        .collect();
    if !wasi.is_empty() {
        let package = |import: &&Import| import.name.split('/').next().map(str::to_owned);
        let packages: BTreeSet<String> = wasi.iter().filter_map(package).collect();
        let packages: Vec<String> = packages.into_iter().collect();
        let functions: usize = wasi.iter().map(|import| import.functions.len()).sum();
        rows.push(vec![packages.join(", "), counted(functions, "function")]);
    }
    rows
}

/// The names of an input's fields; optional ones have a question mark.
fn inputs(schema: &Value) -> String {
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

/// A remark on each row that has one.
fn remarks<T>(rows: &[T], said: impl Fn(&T) -> Option<String>) -> String {
    let lines = rows
        .iter()
        .filter_map(|row| Some(format!("\n{}", said(row)?)));
    lines.collect()
}

fn name(row: &PluginRow) -> String {
    match &row.plugin {
        Some(plugin) => plugin.clone(),
        None => row.manifest.to_string_lossy().into_owned(),
    }
}

/// Shows what a plugin logged lately, and what it logs from now on if that is asked for.
pub async fn logs(route: &Route, request: PluginLogs, output: Output) -> Result<()> {
    let mut on_line = |line: &str| {
        if output.json {
            return print_json(line);
        }
        let row: LogRow =
            serde_json::from_str(line).context("a line of the host cannot be read")?;
        let invocation = row.invocation.as_deref().unwrap_or("-");
        let line = format!("{:.3} {invocation} {}", row.time, row.text());
        print(&terminal::line(&line))
    };
    let answer = control::perform_lines(route, request, output, &mut on_line).await?;
    answer.ok_or_else(|| {
        route.none_runs(&anyhow!(
            "the running host keeps what plugins log: start one with `qchost run`, or add --logs to `invoke`"
        ))
    })
}

/// Lists the plugins of the configuration, as the running host has them.
pub async fn list(route: &Route, output: Output) -> Result<()> {
    let rows = control::perform(route, ListPlugins {}, output).await?;
    let files = control::ask_running(route, ListFiles {}, output).await?;
    if files.is_none() {
        output.note("no host runs: this is what one that starts here would load");
    }
    let files = files.unwrap_or_default();
    output.result(&rows, |rows| {
        let lines: Vec<_> = rows
            .iter()
            .map(|row| {
                let serves = row.serves.as_ref();
                vec![
                    maybe(row.plugin.as_ref()),
                    maybe(serves.map(|serves| &serves.version)),
                    word(row.status),
                    maybe(serves.map(|serves| &serves.account)),
                    list_of(serves.map(|serves| &serves.actions).into_iter().flatten()),
                ]
            })
            .collect();
        table(&["plugin", "version", "status", "account", "actions"], &lines)
            + &remarks(rows, |row| Some(remark(&name(row), row.error.as_ref()?)))
            + &remarks(rows, |row| {
                let standing = terminal::line(&row.standing()?);
                let name = maybe(row.plugin.as_ref());
                Some(folded(&format!("{name}: {standing}")))
            })
            + &remarks(rows, |row| {
                let other = row.serves.as_ref()?.calls_itself.as_ref()?;
                Some(folded(&format!(
                    "{}: its component calls itself {}; the name in the manifest counts, so see that it is the right component",
                    maybe(row.plugin.as_ref()),
                    text(other)
                )))
            })
            + &remarks(rows, |row| {
                let aliases = &row.serves.as_ref()?.aliases;
                let words: Vec<_> = aliases
                    .iter()
                    .map(|(alias, action)| format!("{} of {}", text(alias), text(action)))
                    .collect();
                let words = words.join(", ");
                let name = maybe(row.plugin.as_ref());
                (!words.is_empty()).then(|| folded(&format!("{name}: aliases: {words}")))
            })
            + &remarks(&files, |row| {
                Some(remark(&row.file().to_string_lossy(), row.detail()?))
            })
    })?;
    let count = |of: fn(&PluginRow) -> bool| rows.iter().filter(|row| of(row)).count();
    let wrong = count(|row| !row.status.is_in_effect());
    let broken = count(|row| row.status == Status::Broken);
    let what = match (broken == wrong, rows.len()) {
        (true, _) => "broken",
        (false, 1) => "not in effect as its file is",
        (false, _) => "not in effect as their files are",
    };
    let mut words = Vec::new();
    if wrong > 0 {
        words.push(format!("{} {what}", part_is(wrong, rows.len(), "plugin")));
    }
    words.extend(reload::trouble(&files));
    ensure!(words.is_empty(), "{}", words.join("; "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_of_wasi_are_counted_and_all_others_named() {
        let import = |name: &str, kind, functions: &[&str]| Import {
            name: name.to_owned(),
            kind,
            functions: functions.iter().map(|&it| it.to_owned()).collect(),
        };
        let rows = imports(&[
            import("wasi:io/error@0.2.6", Kind::Types, &[]),
            import("wasi:io/streams@0.2.6", Kind::Wasi, &["read", "write"]),
            import(
                "quantconnect:api/files@0.1.0",
                Kind::Quantconnect,
                &["read-file"],
            ),
            import("wasi:clocks/wall-clock@0.2.6", Kind::Wasi, &["now"]),
            import("wasi:http/types@0.2.6", Kind::Http, &["drop"]),
        ]);
        assert_eq!(
            rows,
            [
                ["quantconnect:api/files@0.1.0", "read-file"],
                ["wasi:http/types@0.2.6", "drop"],
                ["wasi:clocks, wasi:io", "3 functions"],
            ]
        );
        assert!(imports(&[]).is_empty());
    }
}
