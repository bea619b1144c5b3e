//! The host's files in a backup: configuration, manifests, guardrails and components, in the layout that `qchost init`
//! makes.
//!
//! Invariant: no value that may be a secret is copied. A file that had one is copied without it, under a name that no host
//! reads. What cannot be copied is named with the reason, and what cannot be written fails the backup.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use qchost_gate::PortableText;
use qchost_policy::{Guardrails, Manifest, read_text};

use super::files::{copy_open, measure, open_regular, write_private};
use super::list::{ByHand, FILES, INCOMPLETE, Incomplete, LeftOut, List, ListedFile, Outside};
use crate::config::Config;
use crate::data_folder::make_private;
use crate::manifests;
use crate::output::words;

/// The configuration's name in a backup.
const CONFIGURATION: &str = "qchost.toml";
const PLUGINS: &str = "plugins";
const POLICIES: &str = "policies";
/// Components that are not in the folder of manifests, by digest.
const COMPONENTS: &str = "components";
/// Maximum parts of the path of a component in the folder of manifests; a deeper one is kept by its digest.
const MAX_DEPTH: usize = 8;
/// A component that is being copied.
const DRAFT: &str = "draft";
/// What every component begins with.
const MAGIC: &[u8] = b"\0asm\x0d\0\x01\0";

/// What the folder of files in a backup may contain, in the order in which it is moved into place: a host starts only with
/// the configuration.
pub const PLACES: [&str; 5] = [
    COMPONENTS,
    PLUGINS,
    POLICIES,
    "qchost.toml.incomplete",
    CONFIGURATION,
];

/// Copies the files of a host into a backup.
pub fn copy_host_files(config: &Config, backup: &Path) -> Result<ByHand> {
    let mut copy = HostFiles {
        backup,
        max_component: config.engine.max_component(),
        by_hand: ByHand::default(),
    };
    if !config.file.as_os_str().is_empty() {
        let portable = |text: &str| {
            Config::parse(text, &config.file).ok()?;
            PortableText::configuration(text)
        };
        copy.text(&config.file, CONFIGURATION, portable)?;
    }
    copy.manifests(&config.plugins())?;
    copy.guardrails(config)?;
    Ok(copy.by_hand)
}

struct HostFiles<'a> {
    backup: &'a Path,
    /// Maximum bytes of a component: a host loads no larger one.
    max_component: u64,
    by_hand: ByHand,
}

impl HostFiles<'_> {
    fn leave_out(&mut self, file: &Path, reason: impl Into<String>) {
        self.by_hand.left_out.push(LeftOut {
            file: file.display().to_string(),
            reason: reason.into(),
        });
    }

    /// Copies a text file to a path in the folder of files. Returns the whole text. `portable` is `None` for one that is
    /// not valid: a secret may be anywhere in it.
    fn text(
        &mut self,
        from: &Path,
        to: &str,
        portable: impl Fn(&str) -> Option<PortableText>,
    ) -> Result<Option<String>> {
        let text = match read_text(from) {
            Ok(text) => text,
            Err(error) => {
                self.leave_out(from, error.to_string());
                return Ok(None);
            }
        };
        let Some(PortableText {
            text: copied,
            removed,
        }) = portable(&text)
        else {
            self.leave_out(from, "it is not valid, so what is secret in it is unknown");
            return Ok(None);
        };
        let mut file = format!("{FILES}/{to}");
        if !removed.is_empty() {
            file.push_str(INCOMPLETE);
        }
        write_private(&copied, &self.backup.join(&file))?;
        if !removed.is_empty() {
            self.by_hand.incomplete.push(Incomplete {
                file,
                values: removed,
            });
        }
        Ok(Some(text))
    }

    fn manifests(&mut self, folder: &Path) -> Result<()> {
        let listing = match manifests::list(folder) {
            Ok(listing) => listing,
            Err(error) => {
                self.leave_out(folder, words(&error));
                return Ok(());
            }
        };
        for path in listing.manifests {
            let Some(name) = plain_name(&path, folder) else {
                self.leave_out(&path, "its name is not plain text");
                continue;
            };
            let to = format!("{PLUGINS}/{name}");
            let portable = |text: &str| {
                Manifest::parse(text, &path).ok()?;
                PortableText::manifest(text)
            };
            let copied = self.text(&path, &to, portable)?;
            let manifest = copied.and_then(|text| Manifest::parse(&text, &path).ok());
            if let Some(manifest) = manifest {
                self.component(&manifest, folder)?;
            }
        }
        Ok(())
    }

    /// Copies the component of a manifest: to its place if that is in the folder of manifests.
    fn component(&mut self, manifest: &Manifest, folder: &Path) -> Result<()> {
        let component = &manifest.component;
        let source = match open_regular(component) {
            Ok(source) => source,
            Err(error) => {
                self.leave_out(component, words(&error));
                return Ok(());
            }
        };
        let files = self.backup.join(FILES);
        let draft = files.join(DRAFT);
        // A manifest may name any file, however large.
        let mut source = source.take(self.max_component.saturating_add(1));
        copy_open(&mut source, &draft)
            .with_context(|| format!("cannot copy {}", component.display()))?;
        let (size, digest) = measure(&draft, u64::MAX)?;
        if size > self.max_component {
            fs::remove_file(&draft)?;
            let reason = format!(
                "it has more than the {} bytes that a component may have (`engine.component`)",
                self.max_component
            );
            self.leave_out(component, reason);
            return Ok(());
        }
        // A manifest may name any file as its component, also one with a secret.
        if !is_component(&draft)? {
            fs::remove_file(&draft)?;
            self.leave_out(component, "it is no component");
            return Ok(());
        }
        if manifest.digest.as_ref().is_some_and(|pin| *pin != digest) {
            fs::remove_file(&draft)?;
            let reason = "it has another digest than its manifest says";
            self.leave_out(component, reason);
            return Ok(());
        }
        let inside = plain_name(component, folder);
        let inside = inside.filter(|name| name.split('/').count() <= MAX_DEPTH);
        let to = match &inside {
            Some(name) => format!("{PLUGINS}/{name}"),
            None => format!("{COMPONENTS}/{}.wasm", digest.replace(':', "-")),
        };
        let target = files.join(&to);
        if let Some(parent) = target.parent() {
            make_private(parent)?;
        }
        // Two manifests may name one component; it may have been replaced meanwhile, and the later one is kept.
        fs::rename(&draft, &target)?;
        if inside.is_none() {
            self.by_hand.outside.push(Outside {
                file: format!("{FILES}/{to}"),
                plugin: manifest.plugin.clone(),
                component: component.display().to_string(),
            });
        }
        Ok(())
    }

    fn guardrails(&mut self, config: &Config) -> Result<()> {
        let Some(folder) = config.policies() else {
            return Ok(());
        };
        let files = match Guardrails::files(&folder) {
            Ok(files) => files,
            // The default folder may be missing.
            Err(error) if error.kind() == ErrorKind::NotFound && config.policies.is_none() => {
                return Ok(());
            }
            Err(error) => {
                self.leave_out(&folder, error.to_string());
                return Ok(());
            }
        };
        for path in files {
            let Some(name) = plain_name(&path, &folder) else {
                self.leave_out(&path, "its name is not plain text");
                continue;
            };
            let whole = |text: &str| {
                let text = text.to_owned();
                Guardrails::read(&[(path.clone(), text.clone())]).ok()?;
                let removed = Vec::new();
                Some(PortableText { text, removed })
            };
            self.text(&path, &format!("{POLICIES}/{name}"), whole)?;
        }
        Ok(())
    }
}

/// The files of a host that were restored without values that may be secrets: beside its configuration, and in its folder of
/// manifests.
pub fn incomplete_files(configuration: &Path, plugins: &Path) -> Vec<PathBuf> {
    let incomplete = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(INCOMPLETE);
        PathBuf::from(name)
    };
    let mut found = vec![incomplete(configuration)];
    for entry in fs::read_dir(plugins).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.push(incomplete(&path.join("manifest.toml")));
        } else if path.to_string_lossy().ends_with(INCOMPLETE) {
            found.push(path);
        }
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

/// Whether a file begins as a component does.
fn is_component(path: &Path) -> Result<bool> {
    let mut start = [0; MAGIC.len()];
    match File::open(path)?.read_exact(&mut start) {
        Ok(()) => Ok(start == MAGIC),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The path of a file below a folder, if it is there and plain text.
fn plain_name(path: &Path, folder: &Path) -> Option<String> {
    let name = path.strip_prefix(folder).ok()?;
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let text = name.to_str()?;
    (name.components().all(plain) && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// Checks that every component in a backup is the one that its manifest pins, and that each one that is kept by its digest
/// has it.
pub fn check_pins(list: &List, backup: &Path) -> Result<()> {
    for file in &list.files {
        let path = backup.join(&file.path);
        let Some(name) = file.path.strip_prefix("files/") else {
            continue;
        };
        if let Some(kept) = name.strip_prefix("components/") {
            ensure!(
                kept == format!("{}.wasm", file.sha256.replace(':', "-")),
                "{}: it has another digest than its name says; nothing was restored",
                path.display()
            );
        }
        let is_manifest = name.starts_with("plugins/") && name.ends_with(".toml");
        // One that no host can read is restored as it was.
        let Some(manifest) = is_manifest.then(|| Manifest::load(&path).ok()).flatten() else {
            continue;
        };
        let component = plain_name(&manifest.component, backup);
        let listed = component.and_then(|component| list.file(&component));
        let is_pinned =
            |it: &ListedFile| manifest.digest.as_ref().is_none_or(|pin| *pin == it.sha256);
        ensure!(
            listed.is_none_or(is_pinned),
            "{}: its component has another digest than it says; nothing was restored",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_component_larger_than_a_host_loads_nothing_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (plugins, backup) = (folder.path().join("plugins"), folder.path().join("backup"));
        fs::create_dir(&plugins).unwrap();
        let text = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n";
        let manifest = Manifest::parse(text, &plugins.join("lab.toml")).unwrap();
        let mut copy = HostFiles {
            backup: &backup,
            max_component: 100,
            by_hand: ByHand::default(),
        };
        for (size, left_out) in [(100, 0), (101, 1), (1 << 20, 2)] {
            let mut component = MAGIC.to_vec();
            component.resize(size, 0);
            fs::write(&manifest.component, component).unwrap();
            copy.component(&manifest, &plugins).unwrap();
            assert_eq!(copy.by_hand.left_out.len(), left_out, "{size}");
            assert!(!backup.join("files/draft").exists());
        }
        let kept = fs::metadata(backup.join("files/plugins/lab.wasm")).unwrap();
        assert_eq!(kept.len(), 100);
        let reason = &copy.by_hand.left_out[0].reason;
        assert!(reason.contains("engine.component"), "{reason}");
    }
}
