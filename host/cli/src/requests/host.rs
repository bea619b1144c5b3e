//! Which host this is. Its control socket answers without the host, which may still be starting.

use std::path::PathBuf;

use anyhow::{Result, bail};
use qchost_policy::{Person, Right};
use serde::{Deserialize, Serialize};

use super::rules::{Class, Handler, Rules};
use crate::host::Host;
use crate::reports::Reports;

/// Asks for the host's status.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskHost {}

/// A host's identity and state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostStatus {
    pub pid: u32,
    /// The configuration in effect.
    pub configuration: PathBuf,
    pub data: PathBuf,
    /// The version of the program.
    pub version: String,
    /// What it is doing, unless it just serves.
    pub stage: Option<String>,
}

impl Handler for AskHost {
    type Answer = HostStatus;
    const RULES: Rules = Rules {
        class: Class::Control,
        ..Rules::reads(Right::Status)
    };

    async fn handle(self, _: &Host, _: &Person, _: &Reports) -> Result<HostStatus> {
        bail!("which host this is, its socket says")
    }
}
