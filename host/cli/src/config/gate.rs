//! What the gate is set to: `[limits.ACCOUNT]`, `[approvals]`, `[audit]`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::{Account, Period, Size};

/// What all plugins of an account may do together, so that QuantConnect's own limit is not met.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Calls a minute.
    pub per_minute: Option<NonZeroU32>,
    /// Calls at a time.
    pub in_flight: Option<NonZeroU32>,
}

/// How long approvals last.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Approvals {
    /// How long a request waits for a decision.
    pub expire: Period,
    /// How long the permit of an approved call can be used.
    pub permit: Period,
}

impl Default for Approvals {
    fn default() -> Self {
        let hours = |hours: u64| Period(Duration::from_secs(hours * 3600));
        Self {
            expire: hours(24),
            permit: hours(1),
        }
    }
}

/// The record of what was done.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Audit {
    /// How large a segment grows before the next one is begun.
    pub segment: Size,
    /// How long segments are kept; for ever if not given.
    pub keep: Option<Period>,
    /// What is set aside, so that halting is recorded on a full disk too.
    pub reserve: Size,
    /// Where else the signed head goes.
    pub anchor: Option<Anchor>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            segment: Size(64 << 20),
            keep: None,
            reserve: Size(16 << 20),
            anchor: None,
        }
    }
}

/// A place for the head that whoever can write the data folder cannot write.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "AnchorTable")]
pub enum Anchor {
    /// A file that lines are added to.
    File(PathBuf),
    /// The system's log.
    Syslog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorTable {
    file: Option<PathBuf>,
    syslog: Option<bool>,
}

impl TryFrom<AnchorTable> for Anchor {
    type Error = &'static str;

    fn try_from(table: AnchorTable) -> Result<Self, &'static str> {
        match (table.file, table.syslog) {
            (Some(file), None) => Ok(Self::File(file)),
            (None, Some(true)) => Ok(Self::Syslog),
            _ => Err("an anchor is { file = \"path\" } or { syslog = true }"),
        }
    }
}

impl Audit {
    /// Resolves its paths against the folder of the configuration.
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(Anchor::File(file)) = &mut self.anchor {
            *file = folder.join(&file);
        }
    }
}

/// Checks that limits are for accounts that there are.
pub(super) fn check(
    limits: &BTreeMap<String, Limits>,
    accounts: &BTreeMap<String, Account>,
) -> Result<()> {
    for name in limits.keys() {
        ensure!(
            accounts.contains_key(name),
            "limits.{name}: there is no account `{name}`; configured are: {}",
            accounts
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    Ok(())
}
