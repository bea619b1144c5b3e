//! How strict the host is.

use serde::{Deserialize, Serialize};

/// How strict the host is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// For a developer's machine.
    #[default]
    Development,
    /// For use with money at stake: a plugin that may trade must be pinned by its digest, other code of it needs an
    /// operator's approval, and only configured people have roles.
    Production,
}
