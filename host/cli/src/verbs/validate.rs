//! `qchost validate`: configurations, manifests and components, without running any of them.

use std::path::Path;

use anyhow::{Result, bail};
use qchost_gate::Manifest;
use serde::Serialize;

use crate::config::Config;
use crate::output::{Output, words};
use crate::verbs::plugin;

#[derive(Debug, Serialize)]
struct Verdict {
    file: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Checks every file, prints a line each, and fails if one of them is bad.
pub async fn run(files: &[std::path::PathBuf], output: Output) -> Result<()> {
    let mut verdicts = Vec::new();
    for path in files {
        let (kind, checked) = check(path).await;
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

async fn check(path: &Path) -> (&'static str, Result<()>) {
    if path.extension().is_none_or(|extension| extension != "toml") {
        let found = plugin::examine(path).await;
        return (
            "component",
            found.and_then(|found| found.problem.map_or(Ok(()), |problem| bail!(problem))),
        );
    }
    // A manifest names its plugin; a configuration never does.
    let names_a_plugin = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok())
        .is_some_and(|table| table.contains_key("plugin") || table.contains_key("component"));
    if names_a_plugin || path.file_name().is_some_and(|name| name == "manifest.toml") {
        (
            "manifest",
            Manifest::load(path).map(drop).map_err(Into::into),
        )
    } else {
        ("configuration", Config::load(path).map(drop))
    }
}
