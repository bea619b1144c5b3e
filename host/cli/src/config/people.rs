//! Who may tell the host something, and where it listens: `[people.NAME]` and `[control]`.
//!
//! Invariant: one uid is one person. In production nobody is a person who is not in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use qchost_policy::{Person, Role};
use serde::{Deserialize, Serialize};

use super::Mode;

/// The name of whoever runs a host for which nobody is configured.
const DEVELOPER: &str = "developer";

/// A person, under their name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PersonTable {
    /// The user on this machine.
    pub uid: u32,
    /// What they may do.
    pub roles: BTreeSet<RoleName>,
}

/// A role, as it is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// Reads.
    Viewer,
    /// Invokes, calls, halts.
    Operator,
    /// Decides about approvals.
    Approver,
    /// Everything.
    Admin,
}

impl RoleName {
    /// The word for it.
    pub fn word(self) -> &'static str {
        Role::from(self).word()
    }
}

/// Where the control socket is and whose.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Control {
    /// The socket; in the data folder, and for the host's own user alone, if not given.
    pub socket: Option<PathBuf>,
    /// The group that may open it; `qchost` if not given.
    pub group: Option<String>,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Approver => Self::Approver,
            RoleName::Admin => Self::Admin,
        }
    }
}

impl Control {
    /// Where the host listens in its own folder, no group can reach it.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.group.is_none() || self.socket.is_some(),
            "control.group: the data folder is closed to every group; name a socket elsewhere as well: \
             socket = \"/run/qchost/control.sock\""
        );
        Ok(())
    }
}

/// Checks what no single person shows: that uids are distinct, and that enough people can decide.
pub(super) fn check(
    people: &BTreeMap<String, PersonTable>,
    mode: Mode,
    two_person: bool,
) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (name, person) in people {
        ensure!(
            !person.roles.is_empty(),
            "people.{name}: roles: name at least one of viewer, operator, approver, admin"
        );
        if let Some(other) = seen.insert(person.uid, name) {
            bail!(
                "people.{name}: uid {} is `{other}` already; one user is one person",
                person.uid
            );
        }
    }
    if mode == Mode::Production {
        ensure!(
            !people.is_empty(),
            "mode: in production the host obeys configured people only; add for example \
             [people.me] with uid = {} and roles = [\"admin\"]",
            nix::unistd::geteuid()
        );
    }
    if two_person && !people.is_empty() {
        let deciders = people
            .values()
            .filter(|person| {
                person.roles.contains(&RoleName::Approver)
                    || person.roles.contains(&RoleName::Admin)
            })
            .count();
        ensure!(
            deciders >= 2,
            "two-person: {deciders} of the configured people may approve, so nothing could ever be approved by two; \
             give a second one the role approver"
        );
    }
    Ok(())
}

/// The persons whom the host knows. Where nobody is configured, it is the user that runs the host.
pub fn persons(people: &BTreeMap<String, PersonTable>) -> Vec<Person> {
    if people.is_empty() {
        return vec![Person {
            uid: nix::unistd::geteuid().as_raw(),
            name: DEVELOPER.to_owned(),
            roles: BTreeSet::from([Role::Admin]),
        }];
    }
    people
        .iter()
        .map(|(name, person)| Person {
            uid: person.uid,
            name: name.clone(),
            roles: person.roles.iter().copied().map(Role::from).collect(),
        })
        .collect()
}
