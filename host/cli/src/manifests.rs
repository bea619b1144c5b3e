//! Manifest files: their location, their owners, and whether the configuration accepts them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use qchost_catalog::{Way, by_name, by_tool, not_by_remote};
use qchost_policy::{DOWNLOAD, EVIDENCE, Manifest, Pattern, WORKFLOW, read_text};

use crate::config::{Config, Mode, listed};
use crate::places;

/// The content of a folder of manifests.
#[derive(Debug, Default)]
pub struct Listing {
    /// The manifests: `*.toml` and `*/manifest.toml`, in order.
    pub manifests: Vec<PathBuf>,
    /// The folder, and the places in its subfolders where a manifest is or would be.
    pub watched: Vec<PathBuf>,
}

/// Lists a folder of manifests. Names that begin with a dot are skipped: editors use them for
/// drafts, and Kubernetes for versions. A missing folder is empty.
pub fn list(folder: &Path) -> Result<Listing> {
    let failed = || format!("cannot read the folder of manifests {}", folder.display());
    let mut listing = Listing {
        watched: vec![folder.to_owned()],
        ..Listing::default()
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(listing),
        Err(error) => return Err(error).with_context(failed),
    };
    for entry in entries {
        let entry = entry.with_context(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            let inner = path.join("manifest.toml");
            if is_listed(&inner) {
                listing.manifests.push(inner.clone());
            }
            listing.watched.push(inner);
        } else if path.extension().is_some_and(|is| is == "toml") {
            listing.manifests.push(path);
        }
    }
    listing.manifests.sort();
    Ok(listing)
}

/// Whether a folder lists the path: a dangling link counts, as does a file that cannot be read.
fn is_listed(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Reads a manifest and checks it against the configuration.
pub fn check(path: &Path, config: &Config) -> Result<Manifest> {
    let manifest = Manifest::load(path)?;
    fits(&manifest, config)?;
    Ok(manifest)
}

/// Checks a manifest against the configuration.
pub fn fits(manifest: &Manifest, config: &Config) -> Result<()> {
    let path = &manifest.path;
    let written = config.table.get("account");
    if !config.account.contains_key(&manifest.account)
        && written.is_some_and(|accounts| accounts.get(&manifest.account).is_some())
    {
        bail!(
            "{}: account: `{}` is new or has other settings, and an admin has to approve them; see: qchost approvals list",
            path.display(),
            manifest.account
        );
    }
    ensure!(
        config.account.contains_key(&manifest.account),
        "{}: account: there is no account `{}`; configured are: {}",
        path.display(),
        manifest.account,
        listed(&config.account)
    );
    check_ways(manifest, config)?;
    may_serve(manifest, config)?;
    places::check(manifest, Some(config))
}

/// Checks that what a grant names in full can be called on the manifest's account. A pattern may cover more than that.
fn check_ways(manifest: &Manifest, config: &Config) -> Result<()> {
    let Some(account) = config.account.get(&manifest.account) else {
        return Ok(());
    };
    for grant in &manifest.grants {
        for entry in grant.allow.iter().map(Pattern::as_str) {
            let at = || format!("{}: grant `{}`.allow", manifest.path.display(), grant.name);
            if let Some(operation) = by_name(entry) {
                let lacks = || operation.lacks_way(&manifest.account);
                ensure!(account.carries(operation), "{}: {}", at(), lacks());
                continue;
            }
            // The host's own services go by the REST API.
            if matches!(entry, DOWNLOAD | WORKFLOW | EVIDENCE) && account.rest.is_none() {
                bail!(
                    "{}: `{entry}` goes by a server in front of the REST API, which the account `{}` is not connected to; \
                     add to qchost.toml:\n{}",
                    at(),
                    manifest.account,
                    Way::Rest.lines(&manifest.account)
                );
            }
            // Tools are looked for in front of the REST API first, which has those of the catalog.
            if let Some(tool) = entry.strip_prefix("raw/")
                && let Some(reason) = not_by_remote(tool)
                && (account.rest.is_none() || by_tool(tool).is_none())
            {
                bail!("{}: `{entry}` is not called: {reason}", at());
            }
        }
    }
    Ok(())
}

/// Checks what the mode requires of a manifest, also of one that serves already.
pub fn may_serve(manifest: &Manifest, config: &Config) -> Result<()> {
    if config.mode == Mode::Production
        && manifest.digest.is_none()
        && let Some(name) = manifest.trades()
    {
        bail!(
            "{}: digest: in production a plugin that may trade (`{name}`) is pinned; add the digest that \
             `qchost plugin inspect {}` shows",
            manifest.path.display(),
            manifest.component.display()
        );
    }
    Ok(())
}

/// The manifest of a plugin, by its name.
pub fn find(config: &Config, plugin: &str) -> Result<Manifest> {
    let mut known = Vec::new();
    for path in list(&config.plugins())?.manifests {
        match check(&path, config) {
            Ok(manifest) if manifest.plugin == plugin => return Ok(manifest),
            Ok(manifest) => known.push(manifest.plugin),
            Err(error) if claims(&path, name_in(&path).as_deref(), plugin) => return Err(error),
            Err(_) => {}
        }
    }
    bail!(
        "there is no manifest for a plugin `{plugin}`; there are: {}, in {}",
        names(&known),
        config.plugins().display()
    )
}

/// The names of plugins in a message.
pub fn names(known: &[String]) -> String {
    match known {
        [] => "none".to_owned(),
        known => known.join(", "),
    }
}

/// The plugin named in a manifest, even if nothing else in it is valid.
pub fn named(text: &str) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    Some(table.get("plugin")?.as_str()?.to_owned())
}

/// The plugin named in a manifest file, as far as the file can be read.
pub fn name_in(path: &Path) -> Option<String> {
    named(&read_text(path).ok()?)
}

/// Whether a manifest is for a plugin; if it does not name one, by the name of its file (of its
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

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "[account.a]\nconnection = \"embedded\"\n";
    const REMOTE: &str = "[account.a.remote]\n";

    /// Why a grant that allows these operations is refused on an account that is configured so.
    fn refusal(account: &str, allow: &str) -> Option<String> {
        let mut config: Config = toml::from_str(account).unwrap();
        config.table = account.parse().unwrap();
        let manifest = format!(
            "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\negress = \"licensed\"\n[[grant]]\nname = \"g\"\nallow = [{allow}]\n"
        );
        let manifest = Manifest::parse(&manifest, Path::new("lab.toml")).unwrap();
        fits(&manifest, &config)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn what_is_named_in_full_needs_its_way_and_what_a_pattern_covers_does_not() {
        let both = format!("{REST}{REMOTE}");
        for (account, allow, lines) in [
            (
                REST,
                "\"research/jupyter-execute-cell\"",
                "[account.a.remote]\nurl = ",
            ),
            (
                REST,
                "\"notifications/send-email-notification\"",
                "[account.a.remote]",
            ),
            (
                REMOTE,
                "\"backtests/create-backtest\"",
                "[account.a]\nconnection = ",
            ),
            (
                REMOTE,
                "\"live-commands/create-live-command\"",
                "[account.a]\nconnection = ",
            ),
            (REMOTE, "\"workflow\"", "[account.a]\nconnection = "),
            (
                REMOTE,
                "\"object-store/download\"",
                "[account.a]\nconnection = ",
            ),
        ] {
            let refused = refusal(account, allow).unwrap();
            assert!(
                refused.starts_with("lab.toml: grant `g`.allow: "),
                "{refused}"
            );
            assert!(refused.contains(lines), "{refused}");
            assert_eq!(refusal(&both, allow), None, "{allow}");
        }
        for account in [REST, REMOTE, &both] {
            assert_eq!(refusal(account, "\"*\", \"research/*\", \"raw/*\""), None);
            assert_eq!(refusal(account, "\"projects/read-project\""), None);
            assert_eq!(refusal(account, "\"live/stop-live-algorithm\""), None);
            assert_eq!(refusal(account, "\"raw/tool_of_tomorrow\""), None);
        }
        let refused = refusal(REMOTE, "\"raw/read_open_project\"").unwrap();
        assert!(refused.contains("another session may change"), "{refused}");
        // What neither the REST API nor the host by the remote server ever does cannot be granted by name at all.
        for tool in [
            "object_store_set",
            "read_live_holdings",
            "read_open_project",
        ] {
            for account in [REST, REMOTE, &both] {
                let refused = refusal(account, &format!("\"raw/{tool}\"")).unwrap();
                assert!(refused.contains("is not called"), "{refused}");
            }
        }
        // These the REST API has too.
        for tool in ["read_file", "create_backtest"] {
            assert_eq!(refusal(&both, &format!("\"raw/{tool}\"")), None, "{tool}");
            assert!(
                refusal(REMOTE, &format!("\"raw/{tool}\"")).is_some(),
                "{tool}"
            );
        }
    }
}
