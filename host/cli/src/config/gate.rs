//! Settings of the gate: `[limits.ACCOUNT]`, `[approvals]`, `[audit]`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::account::Account;
use super::quantities::{Period, Size};

/// Limits on all plugins of an account together, so that QuantConnect's own limit is not reached.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Maximum calls per minute.
    pub per_minute: Option<NonZeroU32>,
    /// Maximum concurrent calls.
    pub in_flight: Option<NonZeroU32>,
}

/// Time limits of approvals.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Approvals {
    /// How long a request stays open.
    pub expire: Period,
    /// How long the permit of an approved call is valid.
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

/// Settings of the audit.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Audit {
    /// Size of a segment at which the next one is begun.
    pub segment: Size,
    /// How long segments are kept; without limit if not given.
    pub keep: Option<Period>,
    /// Disk space reserved so that a halt is recorded on a full disk too.
    pub reserve: Size,
    /// Where else the signed head is written.
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

/// A destination for the head that should be out of reach for users who can write the data folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "AnchorTable")]
pub enum Anchor {
    /// A file that lines are appended to.
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

/// Checks that limits are for existing accounts.
pub(super) fn check(
    limits: &BTreeMap<String, Limits>,
    accounts: &BTreeMap<String, Account>,
) -> Result<()> {
    for name in limits.keys() {
        ensure!(
            accounts.contains_key(name),
            "limits.{name}: there is no account `{name}`; configured are: {}",
            super::listed(accounts)
        );
    }
    Ok(())
}
