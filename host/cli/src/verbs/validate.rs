//! `qchost validate`: configurations, manifests, guardrails and components, without running any of them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use qchost_policy::{Guardrails, Manifest, read_text};
use serde::Serialize;

use crate::config::Config;
use crate::manifests;
use crate::output::{Output, words};
use crate::verbs::plugin;

#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Checks every file, prints a line each, and fails if one of them is bad. Manifests are checked against
/// the configuration too, if there is one that can be read.
pub async fn run(files: &[PathBuf], config: &Path, output: Output) -> Result<()> {
    let config = Config::load(config).ok();
    let mut verdicts = Vec::new();
    for path in files {
        let (kind, checked) = check(path, config.as_ref()).await;
        let error = checked.err().map(|error| words(&error));
        verdicts.push(Verdict {
            file: path.display().to_string(),
            kind,
            error,
        });
    }
    let bad = verdicts
        .iter()
        .filter(|verdict| verdict.error.is_some())
        .count();
    output.result(&verdicts, |verdicts| {
        let line = |verdict: &Verdict| match &verdict.error {
            Some(error) => format!("FAILED  {} ({}): {error}", verdict.file, verdict.kind),
            None => format!("ok      {} ({})", verdict.file, verdict.kind),
        };
        verdicts.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    if bad > 0 {
        bail!("{bad} of {} files are not valid", verdicts.len());
    }
    Ok(())
}

async fn check(path: &Path, config: Option<&Config>) -> (&'static str, Result<()>) {
    if path
        .extension()
        .is_some_and(|extension| extension == "cedar")
    {
        return ("guardrails", guardrails(path));
    }
    if path.extension().is_none_or(|extension| extension != "toml") {
        let found = plugin::examine(path).await;
        return (
            "component",
            found.and_then(|found| found.problem.map_or(Ok(()), |problem| bail!(problem))),
        );
    }
    // A manifest names its plugin; a configuration never does.
    let names_a_plugin = read_text(path)
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok())
        .is_some_and(|table| table.contains_key("plugin") || table.contains_key("component"));
    if names_a_plugin || path.file_name().is_some_and(|name| name == "manifest.toml") {
        let checked = match config {
            Some(config) => manifests::check(path, config).map(drop),
            None => Manifest::load(path).map(drop).map_err(Into::into),
        };
        ("manifest", checked)
    } else {
        let checked = Config::load(path).and_then(|config| config.guardrails());
        ("configuration", checked.map(drop))
    }
}

/// Checks one file of guardrails by itself.
fn guardrails(path: &Path) -> Result<()> {
    let text = read_text(path).context("cannot read it")?;
    Guardrails::read(&[(path.to_owned(), text)])?;
    Ok(())
}
