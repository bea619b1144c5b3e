//! `qchost init`: writes a configuration and an example manifest.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use schemars::JsonSchema;
use serde::Serialize;

use crate::output::Output;

const CONFIG: &str = include_str!("../../templates/qchost.toml");
const MANIFEST: &str = include_str!("../../../../plugins/strategy-lab/manifest.toml");

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Written {
    /// The files.
    written: Vec<String>,
}

/// Writes the files; never overwrites an existing one.
pub fn run(folder: &Path, output: Output) -> Result<()> {
    let files = [
        (folder.join("qchost.toml"), CONFIG),
        (folder.join("plugins").join("strategy-lab.toml"), MANIFEST),
    ];
    for (path, _) in &files {
        ensure!(
            !path.exists(),
            "{} exists already; nothing was written",
            path.display()
        );
    }
    for (path, text) in &files {
        let folder = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let written = files.iter().map(|(path, _)| path.display().to_string());
    let written = Written {
        written: written.collect(),
    };
    output.result(&written, |written| {
        format!(
            "wrote {}\nnext: put strategy_lab.wasm into {}, then: cd {} && qchost doctor",
            written.written.join(" and "),
            folder.join("plugins").display(),
            folder.display()
        )
    })
}
