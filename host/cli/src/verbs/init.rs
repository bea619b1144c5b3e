//! `qchost init`: writes a configuration and an example manifest, and a unit for systemd.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use schemars::JsonSchema;
use serde::Serialize;

use crate::output::Output;
use crate::systemd;

const CONFIG: &str = include_str!("../../templates/qchost.toml");
const MANIFEST: &str = include_str!("../../../../plugins/strategy-lab/manifest.toml");
/// The unit's name.
const UNIT: &str = "qchost.service";

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Written {
    /// The files.
    written: Vec<String>,
}

/// Writes the files; never overwrites an existing one. For `service`, there is a unit among them, made for this version of
/// systemd if one is named.
pub fn run(folder: &Path, service: bool, version: Option<u32>, output: Output) -> Result<()> {
    let config = folder.join("qchost.toml");
    let mut files = vec![
        (config.clone(), CONFIG.to_owned()),
        (
            folder.join("plugins").join("strategy-lab.toml"),
            MANIFEST.to_owned(),
        ),
    ];
    if service {
        let version = version.map_or_else(systemd::version, Ok)?;
        let unit = systemd::unit(version, &std::env::current_exe()?)?;
        if config.exists() {
            // The unit is for the configuration that is there.
            files.clear();
        } else if let Some((_, text)) = files.first_mut() {
            *text = with_folders_of_the_unit(CONFIG);
        }
        files.push((folder.join(UNIT), unit));
    }
    for (path, _) in &files {
        // A link that leads nowhere is there too: writing would make what it names.
        ensure!(
            path.symlink_metadata().is_err(),
            "{} exists already; nothing was written",
            path.display()
        );
    }
    for (path, text) in &files {
        let folder = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let written = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let written = files.iter().map(|(path, _)| path.display().to_string());
    let written = Written {
        written: written.collect(),
    };
    output.result(&written, |written| {
        let wrote = format!("wrote {}", written.written.join(" and "));
        let folder = folder.display();
        if service {
            format!(
                "{wrote}\nnext, as root: have a user `qchost`, {folder} at /etc/qchost and the unit in /etc/systemd/system, \
                 then: systemctl enable --now qchost"
            )
        } else {
            format!(
                "{wrote}\nnext: put strategy_lab.wasm into {folder}/plugins, then: cd {folder} && qchost doctor"
            )
        }
    })
}

/// The configuration with the folders that the unit gives the host.
fn with_folders_of_the_unit(config: &str) -> String {
    config
        .replace("# data  = ", "data    = ")
        .replace("# cache = ", "cache   = ")
}

#[cfg(test)]
mod tests {
    use super::{CONFIG, with_folders_of_the_unit};

    #[test]
    fn a_service_has_its_data_where_its_unit_says() {
        let config: toml::Table = with_folders_of_the_unit(CONFIG).parse().unwrap();
        assert_eq!(config["data"].as_str(), Some("/var/lib/qchost"));
        assert_eq!(config["cache"].as_str(), Some("/var/cache/qchost"));
    }
}
