//! One `[[folder]]`: a folder of the host's machine that the plugin may use.
//!
//! Where it may be is checked when the manifest is loaded: by what is there, not by its text.

use std::fmt;
use std::path::{Component, PathBuf};

use serde::{Deserialize, Serialize};

use super::reader::{Fields, Item, Problem};

/// Maximum folders of a manifest: the host keeps each of them open.
pub(crate) const MAX_FOLDERS: usize = 16;
/// Maximum of `max-files`.
pub(crate) const MAX_FILES: u32 = 100_000;

/// The modes, as they are written.
pub(crate) const MODES: [&str; 2] = ["read", "read-write"];

/// A permission to use a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderGrant {
    /// Its name, unique among the folders of the manifest.
    pub name: String,
    /// Its absolute path.
    pub path: PathBuf,
    /// What the plugin may do in it.
    pub mode: FolderMode,
    /// Maximum bytes of all its files together.
    pub max_bytes: u64,
    /// Maximum number of its files.
    pub max_files: u32,
}

/// What may be done in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderMode {
    /// Files are listed and read.
    Read,
    /// They are written and deleted too.
    ReadWrite,
}

impl fmt::Display for FolderMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::ReadWrite => "read-write",
        })
    }
}

impl FolderGrant {
    pub(crate) fn read(fields: Fields<'_>) -> Result<Self, Problem> {
        fields.only(&["name", "path", "mode", "max-bytes", "max-files"], &[])?;
        let name = fields.need("name", "\"a-name\"")?.name()?.to_owned();
        let fields = fields.called(format!("folder `{name}`"));
        let path = path(&fields.need("path", "\"/srv/example\"")?)?;
        let mode = mode(&fields.need("mode", "\"read\"")?)?;
        let mut grant = Self {
            name,
            path,
            mode,
            max_bytes: 64 << 20,
            max_files: 10_000,
        };
        fields.set("max-bytes", &mut grant.max_bytes, Item::size)?;
        fields.set("max-files", &mut grant.max_files, |item| {
            item.count(1..=MAX_FILES)
        })?;
        Ok(grant)
    }

    /// Whether it allows no more than another one.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.path == other.path
            && self.mode <= other.mode
            && self.max_bytes <= other.max_bytes
            && self.max_files <= other.max_files
    }
}

fn path(item: &Item<'_>) -> Result<PathBuf, Problem> {
    let text = item.text()?;
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(item.wrong(&format!(
            "`{text}` is not absolute; write a path that begins with `/`"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(item.wrong("must not hold line breaks or other control characters"));
    }
    // What is above a link depends on where it leads.
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(item.wrong(&format!("`{text}` has a `..`; write the path without it")));
    }
    Ok(path)
}

fn mode(item: &Item<'_>) -> Result<FolderMode, Problem> {
    match item.text()? {
        "read" => Ok(FolderMode::Read),
        "read-write" => Ok(FolderMode::ReadWrite),
        other => Err(item.wrong(&format!("`{other}` is not \"read\" or \"read-write\""))),
    }
}
