//! The operator's file: which component, for which account, and what it may do.
//!
//! Invariant: a manifest that was parsed is enforced to the letter. A key that nobody knows is an
//! error, and so is one that this version knows of and does not enforce: an operator never believes in
//! a limit that is not there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qchost_catalog::{Access, OPERATIONS, by_name};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::grantable::{Pattern, PatternError, nearest};
use crate::refusal::ImportsDenied;

/// A manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The plugin's name: `[a-z0-9-]{1,64}`.
    pub plugin: String,
    /// The component's file; a relative path is resolved against the manifest's folder.
    pub component: PathBuf,
    /// The hash that the component must have: `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
    /// The account whose connection the plugin uses.
    pub account: String,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// What an invocation may use.
    pub limits: Limits,
    /// The `[config]` table, as the plugin sees it.
    pub config: Map<String, Value>,
    /// The file that it was read from.
    pub path: PathBuf,
}

/// A named permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its name, unique in the manifest.
    pub name: String,
    /// What it allows.
    pub allow: Vec<Pattern>,
}

/// What one invocation may use, unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all its memories and tables together.
    pub memory: u64,
    /// Time on the processor.
    pub cpu: Duration,
    /// Time in all, waiting included.
    pub wall: Duration,
    /// Invocations of the plugin at one time.
    pub concurrency: usize,
    /// Bytes of its answer.
    pub output: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            cpu: Duration::from_secs(5),
            wall: Duration::from_secs(15 * 60),
            concurrency: 16,
            output: 4 << 20,
        }
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("{}: cannot read the manifest: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, a key is unknown, or a value has the wrong type.
    #[error("{}:{line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what is allowed.
        message: String,
    },
    /// A key that this version knows of but does not enforce.
    #[error("{}: `{key}` is not enforced by this version; take it out, or use a version that enforces it", path.display())]
    NotEnforced {
        /// The file.
        path: PathBuf,
        /// The key, with its table.
        key: String,
    },
    /// A value that does not do.
    #[error("{}: {key}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key, with its table.
        key: String,
        /// What is wrong and what is allowed.
        message: String,
    },
}

/// Keys of the design that a later version enforces (DESIGN §4), by table.
const LATER: &[(&str, &[&str])] = &[
    ("", &["http", "schedule", "on"]),
    (
        "grant",
        &[
            "projects",
            "files",
            "keys",
            "brokerages",
            "limits",
            "max-cost",
            "approval",
            "nodes",
            "commands",
            "organizations",
        ],
    ),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    plugin: String,
    component: String,
    digest: Option<String>,
    account: String,
    #[serde(default)]
    grant: Vec<GrantTable>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    config: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantTable {
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    memory: Option<String>,
    cpu: Option<String>,
    wall: Option<String>,
    concurrency: Option<usize>,
    output: Option<String>,
}

impl Manifest {
    /// Reads a manifest from its file.
    ///
    /// # Errors
    /// When the file cannot be read, is not a manifest, or asks for what is not enforced.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path).map_err(|source| ManifestError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// What the operator may do who calls a tool by hand: everything. No plugin can have its
    /// name.
    #[must_use]
    pub fn operator(account: &str) -> Self {
        let all = OPERATIONS
            .iter()
            .filter_map(|operation| Pattern::parse(operation.name).ok());
        Self {
            plugin: format!("operator@{account}"),
            component: PathBuf::new(),
            digest: None,
            account: account.to_owned(),
            grants: vec![Grant {
                name: "everything".to_owned(),
                allow: all.collect(),
            }],
            limits: Limits::default(),
            config: Map::new(),
            path: PathBuf::new(),
        }
    }

    /// Whether a component may import these interfaces of `quantconnect:api` (`backtests`,
    /// `raw`) and host services (`workflow`).
    ///
    /// # Errors
    /// When no grant mentions one of them.
    pub fn check_imports(&self, interfaces: &[String]) -> Result<(), ImportsDenied> {
        let mentioned = |interface: &&String| {
            let mut patterns = self.grants.iter().flat_map(|grant| &grant.allow);
            patterns.any(|pattern| pattern.mentions(interface))
        };
        let missing: Vec<_> = interfaces
            .iter()
            .filter(|name| !mentioned(name))
            .cloned()
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(ImportsDenied {
                plugin: self.plugin.clone(),
                interfaces: missing,
            })
        }
    }

    /// An operation of class trade that it allows, if there is one.
    #[must_use]
    pub fn trades(&self) -> Option<&str> {
        let patterns = self.grants.iter().flat_map(|grant| &grant.allow);
        patterns
            .map(Pattern::as_str)
            .find(|name| match by_name(name) {
                Some(operation) => operation.access == Access::Trade,
                // Of a tool that the catalog does not know, the worst is believed.
                None => name.starts_with("raw/") && !name.contains('*'),
            })
    }

    /// Reads a manifest from text; `path` is where it would be.
    ///
    /// # Errors
    /// When it is not a manifest, or asks for what is not enforced.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let parse_error = |error: &toml::de::Error| ManifestError::Parse {
            path: path.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().trim().replace('\n', " "),
        };
        let table: toml::Table = toml::from_str(text).map_err(|error| parse_error(&error))?;
        refuse_later(&table, path)?;
        let document: Document = toml::from_str(text).map_err(|error| parse_error(&error))?;
        let invalid = |key: &str, message: String| ManifestError::Invalid {
            path: path.to_owned(),
            key: key.to_owned(),
            message,
        };

        for (key, name) in [("plugin", &document.plugin), ("account", &document.account)] {
            if !is_name(name) {
                return Err(invalid(
                    key,
                    format!("`{name}` is not a name: a-z, 0-9 and `-`, at most 64"),
                ));
            }
        }
        if document.component.contains("://") {
            return Err(invalid(
                "component",
                "only files next to the manifest can be loaded by this version".to_owned(),
            ));
        }
        if let Some(digest) = &document.digest {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() != 64
                || !hex
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            {
                return Err(invalid(
                    "digest",
                    format!("`{digest}` is not `sha256:` with 64 lower-case hexadecimal digits"),
                ));
            }
        }
        let mut names = BTreeSet::new();
        let mut grants = Vec::with_capacity(document.grant.len());
        for table in document.grant {
            let key = format!("grant `{}`", table.name);
            if !is_name(&table.name) {
                return Err(invalid(
                    &key,
                    "its name is not a name: a-z, 0-9 and `-`, at most 64".to_owned(),
                ));
            }
            if !names.insert(table.name.clone()) {
                return Err(invalid(
                    &key,
                    "there are two grants of this name".to_owned(),
                ));
            }
            let allow = table
                .allow
                .iter()
                .map(|entry| Pattern::parse(entry))
                .collect::<Result<_, PatternError>>()
                .map_err(|error| invalid(&format!("{key}.allow"), error.to_string()))?;
            grants.push(Grant {
                name: table.name,
                allow,
            });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            component: folder.join(document.component),
            plugin: document.plugin,
            digest: document.digest,
            account: document.account,
            grants,
            limits: limits(&document.limits).map_err(|(key, message)| invalid(key, message))?,
            config: document.config,
            path: path.to_owned(),
        })
    }
}

fn limits(table: &LimitsTable) -> Result<Limits, (&'static str, String)> {
    let mut limits = Limits::default();
    if let Some(text) = &table.memory {
        limits.memory = size(text).map_err(|message| ("limits.memory", message))?;
    }
    if let Some(text) = &table.output {
        limits.output = size(text).map_err(|message| ("limits.output", message))?;
    }
    if let Some(text) = &table.cpu {
        limits.cpu = duration(text).map_err(|message| ("limits.cpu", message))?;
    }
    if let Some(text) = &table.wall {
        limits.wall = duration(text).map_err(|message| ("limits.wall", message))?;
    }
    if let Some(count) = table.concurrency {
        if !(1..=1000).contains(&count) {
            return Err((
                "limits.concurrency",
                format!("{count} is not between 1 and 1000"),
            ));
        }
        limits.concurrency = count;
    }
    Ok(limits)
}

fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            return Err(format!(
                "`{text}` is not a size such as \"64MiB\" (B, KiB, MiB, GiB)"
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| (1..=4 << 30).contains(bytes))
        .ok_or_else(|| format!("`{text}` is not between 1B and 4GiB"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let unit: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!(
                "`{text}` is not a time such as \"5s\" (ms, s, m, h)"
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|ms| (1..=24 * 3_600_000).contains(ms))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not between 1ms and 24h"))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim())
}

fn refuse_later(table: &toml::Table, path: &Path) -> Result<(), ManifestError> {
    let grants = table
        .get("grant")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten();
    let tables = std::iter::once(("", table)).chain(
        grants
            .filter_map(toml::Value::as_table)
            .map(|grant| ("grant", grant)),
    );
    for (kind, table) in tables {
        let later = LATER
            .iter()
            .find(|(of, _)| *of == kind)
            .map_or(&[][..], |(_, keys)| keys);
        if let Some(key) = table.keys().find(|key| later.contains(&key.as_str())) {
            let key = if kind.is_empty() {
                key.clone()
            } else {
                format!("{kind}.{key}")
            };
            return Err(ManifestError::NotEnforced {
                path: path.to_owned(),
                key,
            });
        }
        let known: &[&str] = match kind {
            "grant" => &["name", "allow"],
            _ => &[
                "plugin",
                "component",
                "digest",
                "account",
                "grant",
                "limits",
                "config",
            ],
        };
        if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
            let hint = nearest(key, known.iter().copied())
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(ManifestError::Invalid {
                path: path.to_owned(),
                key: if kind.is_empty() {
                    key.clone()
                } else {
                    format!("{kind}.{key}")
                },
                message: format!("unknown key{hint}; known are: {}", known.join(", ")),
            });
        }
    }
    Ok(())
}

/// Whether a text may name a plugin, an account or a grant.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
