//! People with roles, and the control socket: `[people.NAME]` and `[control]`.
//!
//! Invariant: one uid is one person. In production only people in the file have roles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use qchost_policy::{Person, Role};
use serde::{Deserialize, Serialize};

use super::mode::Mode;

/// The name of the user that runs a host without configured people.
const DEVELOPER: &str = "developer";

/// A person; the key is the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PersonTable {
    /// The uid of the user on this machine.
    pub uid: u32,
    /// The person's roles.
    pub roles: BTreeSet<Role>,
}

/// Path and group of the control socket.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Control {
    /// The socket; if not given, in the data folder and accessible to the host's own user only.
    pub socket: Option<PathBuf>,
    /// The group that may open it; `qchost` if not given.
    pub group: Option<String>,
}

impl Control {
    /// A socket in the host's own folder is not reachable for a group.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.group.is_none() || self.socket.is_some(),
            "control.group: the data folder is closed to every group; name a socket elsewhere as well: \
             socket = \"/run/qchost/control.sock\""
        );
        Ok(())
    }
}

/// Checks that involve several people: that uids are distinct, and that enough people can decide.
pub(super) fn check(
    people: &BTreeMap<String, PersonTable>,
    mode: Mode,
    two_person: bool,
) -> Result<()> {
    let mut names = BTreeMap::new();
    for (name, person) in people {
        ensure!(
            !person.roles.is_empty(),
            "people.{name}: roles: name at least one of viewer, operator, approver, admin"
        );
        if let Some(other) = names.insert(person.uid, name) {
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
                person.roles.contains(&Role::Approver) || person.roles.contains(&Role::Admin)
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

/// The people with roles. Without any configured, it is the user that runs the host.
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
            roles: person.roles.clone(),
        })
        .collect()
}
