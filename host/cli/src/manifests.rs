//! Manifests as files: where they are, whose they are, and whether the configuration lets them in.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use qchost_policy::Manifest;

use crate::config::{Config, Mode};

/// The manifests of a folder: `*.toml` and `*/manifest.toml`, in order.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read the folder of manifests {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let inner = path.join("manifest.toml");
        if inner.is_file() {
            paths.push(inner);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && path.is_file()
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads a manifest and checks it against the configuration.
pub fn check(path: &Path, config: &Config) -> Result<Manifest> {
    let manifest = Manifest::load(path)?;
    ensure!(
        config.account.contains_key(&manifest.account),
        "{}: account: there is no account `{}`; configured are: {}",
        path.display(),
        manifest.account,
        config
            .account
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    );
    if config.mode == Mode::Production
        && manifest.digest.is_none()
        && let Some(name) = manifest.trades()
    {
        bail!(
            "{}: digest: in production a plugin that may trade (`{name}`) is pinned; add the digest that \
             `qchost plugin inspect {}` shows",
            path.display(),
            manifest.component.display()
        );
    }
    Ok(manifest)
}

/// The manifest of a plugin, by the plugin's name.
pub fn find(config: &Config, plugin: &str) -> Result<Manifest> {
    let mut known = Vec::new();
    for path in list(&config.plugins)? {
        match check(&path, config) {
            Ok(manifest) if manifest.plugin == plugin => return Ok(manifest),
            Ok(manifest) => known.push(manifest.plugin),
            Err(error) if claims(&path, named(&path).as_deref(), plugin) => return Err(error),
            Err(_) => {}
        }
    }
    bail!(
        "there is no manifest for a plugin `{plugin}`; there are: {}",
        known.join(", ")
    )
}

/// The plugin that a manifest is for, even if nothing else in it is right.
pub fn named(path: &Path) -> Option<String> {
    let table: toml::Table = std::fs::read_to_string(path).ok()?.parse().ok()?;
    Some(table.get("plugin")?.as_str()?.to_owned())
}

/// Whether a manifest is for a plugin; if it does not say, by the name of its file (of its
/// folder for `*/manifest.toml`).
pub fn claims(path: &Path, named: Option<&str>, plugin: &str) -> bool {
    if let Some(name) = named {
        return name == plugin;
    }
    let stem = match path.file_stem() {
        Some(stem) if stem == "manifest" => path.parent().and_then(Path::file_name),
        stem => stem,
    };
    stem.is_some_and(|stem| stem == plugin)
}
