//! What of the configuration and the guardrails is in force, and what waits for an admin.
//!
//! In production the files alone widen nothing: a new person or role, `mode`, `two-person`, `live-trading`, a
//! changed profile, another account or vault (what the host runs, and where it sends credentials), a guardrail that is
//! gone or another one. What the ledger keeps as in force and what the files say
//! must both allow until an admin has said yes; see `qchost_gate::Proposal`.
//!
//! Invariant: of the two, the stricter one holds, also right after a start, whatever file the configuration comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use qchost_gate::{KeptText, Proposal, Sealer, Waits};
use qchost_ledger::{InForce, Ledger, LedgerError, Subject};
use qchost_policy::{Change, ChangeKind, Guardrails, Remembered};
use qchost_secrets::Profiles;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::{Config, Mode, RoleName};

/// What of a configuration an editor alone may not widen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Guarded {
    mode: Mode,
    live_trading: bool,
    two_person: bool,
    people: BTreeMap<String, KeptPerson>,
    /// The profiles, each as a keyed digest.
    profiles: BTreeMap<String, String>,
    /// The accounts, and the vault, each as a keyed digest. A ledger of an earlier version does not have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connections: Option<BTreeMap<String, String>>,
}

/// How the vault is called among the connections; no account is called so.
const VAULT: &str = "[vault]";

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeptPerson {
    uid: u32,
    roles: BTreeSet<RoleName>,
}

impl Guarded {
    /// What a configuration says.
    pub fn of(config: &Config, sealer: &Sealer) -> Result<Self> {
        let profiles = Profiles::new(config.brokerage.clone(), config.secrets()?);
        let sealed = profiles.names().map(|name| {
            let revision = json!(profiles.revision(name));
            (name.to_owned(), sealer.seal("profile", &revision))
        });
        let kept = |(name, person): (&String, &crate::config::PersonTable)| {
            let (uid, roles) = (person.uid, person.roles.clone());
            (name.clone(), KeptPerson { uid, roles })
        };
        Ok(Self {
            mode: config.mode,
            live_trading: config.live_trading,
            two_person: config.two_person,
            people: config.people.iter().map(kept).collect(),
            profiles: sealed.collect(),
            connections: Some(connections(config, sealer)?),
        })
    }

    fn connections(&self) -> impl Iterator<Item = (&String, &String)> {
        self.connections.iter().flatten()
    }

    /// Whether this is how a connection is in force.
    fn connects(&self, name: &str, digest: &str) -> bool {
        let known = self.connections.as_ref();
        known.and_then(|known| known.get(name)).map(String::as_str) == Some(digest)
    }

    /// What both allow.
    fn common(&self, other: &Self) -> Self {
        let people = other.people.iter().filter_map(|(name, person)| {
            let own = self.people.get(name).filter(|own| own.uid == person.uid)?;
            let roles: BTreeSet<_> = own.roles.intersection(&person.roles).copied().collect();
            let (name, uid) = (name.clone(), person.uid);
            (!roles.is_empty()).then_some((name, KeptPerson { uid, roles }))
        });
        let profiles = other.profiles.iter();
        let profiles = profiles.filter(|(name, digest)| self.profiles.get(*name) == Some(digest));
        Self {
            mode: match (self.mode, other.mode) {
                (Mode::Development, Mode::Development) => Mode::Development,
                _ => Mode::Production,
            },
            live_trading: self.live_trading && other.live_trading,
            two_person: self.two_person || other.two_person,
            people: people.collect(),
            profiles: profiles
                .map(|(name, digest)| (name.clone(), digest.clone()))
                .collect(),
            connections: Some(
                other
                    .connections()
                    .filter(|(name, digest)| self.connects(name, digest))
                    .map(|(name, digest)| (name.clone(), digest.clone()))
                    .collect(),
            ),
        }
    }

    /// What is other in a configuration that comes after this one: what it gives that was not given, and all of it.
    fn changes(&self, now: &Self) -> (Vec<String>, Vec<Change>) {
        let mut changes = Vec::new();
        let mut say = |kind, line: String| changes.push(Change { kind, line });
        let word = |mode| match mode {
            Mode::Development => "development",
            Mode::Production => "production",
        };
        let turn = |wider| {
            if wider {
                ChangeKind::Widened
            } else {
                ChangeKind::TakenAway
            }
        };
        if self.mode != now.mode {
            let kind = turn(now.mode == Mode::Development);
            say(
                kind,
                format!("mode from {} to {}", word(self.mode), word(now.mode)),
            );
        }
        if self.live_trading != now.live_trading {
            let line = format!(
                "live-trading from {} to {}",
                self.live_trading, now.live_trading
            );
            say(turn(now.live_trading), line);
        }
        if self.two_person != now.two_person {
            let line = format!("two-person from {} to {}", self.two_person, now.two_person);
            say(turn(self.two_person), line);
        }
        for (name, person) in &now.people {
            let former = self
                .people
                .get(name)
                .filter(|former| former.uid == person.uid);
            let had = former
                .map(|former| former.roles.clone())
                .unwrap_or_default();
            let gained: Vec<_> = person
                .roles
                .difference(&had)
                .copied()
                .map(RoleName::word)
                .collect();
            let lost: Vec<_> = had
                .difference(&person.roles)
                .copied()
                .map(RoleName::word)
                .collect();
            let uid = person.uid;
            match (former, gained.is_empty()) {
                (None, _) => say(
                    ChangeKind::Added,
                    format!("person `{name}` (uid {uid}): {}", gained.join(", ")),
                ),
                (Some(_), false) => say(
                    ChangeKind::Widened,
                    format!("person `{name}` (uid {uid}) gains {}", gained.join(", ")),
                ),
                (Some(_), true) => {}
            }
            if !lost.is_empty() {
                let line = format!("person `{name}` (uid {uid}) loses {}", lost.join(", "));
                say(ChangeKind::TakenAway, line);
            }
        }
        for (name, person) in &self.people {
            let stays = now
                .people
                .get(name)
                .is_some_and(|other| other.uid == person.uid);
            if !stays {
                say(
                    ChangeKind::TakenAway,
                    format!("person `{name}` (uid {})", person.uid),
                );
            }
        }
        let profiles = |of: &Self| of.profiles.clone().into_iter().collect();
        let connections = |of: &Self| {
            let all = of.connections();
            all.map(|(name, digest)| (name.clone(), digest.clone()))
                .collect()
        };
        for (word, former, now) in [
            ("profile", profiles(self), profiles(now)),
            ("account", connections(self), connections(now)),
        ] {
            sealed_changes(word, &former, &now, &mut say);
        }
        let gains = changes
            .iter()
            .filter(|change| matches!(change.kind, ChangeKind::Added | ChangeKind::Widened));
        (gains.map(|change| change.line.clone()).collect(), changes)
    }
}

/// What is other among settings that are kept as digests.
fn sealed_changes(
    word: &str,
    former: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    say: &mut impl FnMut(ChangeKind, String),
) {
    let called = |name: &str| match name {
        VAULT => "the vault".to_owned(),
        name => format!("{word} `{name}`"),
    };
    for (name, digest) in now {
        match former.get(name) {
            None => say(ChangeKind::Added, called(name)),
            Some(former) if former != digest => {
                say(
                    ChangeKind::Widened,
                    format!("{} has other settings", called(name)),
                );
            }
            Some(_) => {}
        }
    }
    for name in former.keys().filter(|name| !now.contains_key(*name)) {
        say(ChangeKind::TakenAway, called(name));
    }
}

/// The accounts and the vault of a configuration, as keyed digests of what stands in the file.
fn connections(config: &Config, sealer: &Sealer) -> Result<BTreeMap<String, String>> {
    let table = |key: &str| config.table.get(key).cloned();
    let seal = |value: Option<toml::Value>| -> Result<String> {
        Ok(sealer.seal("connection", &serde_json::to_value(value)?))
    };
    let accounts = table("account").unwrap_or_else(|| toml::Value::Table(toml::Table::new()));
    let mut all = BTreeMap::new();
    for name in config.account.keys() {
        all.insert(name.clone(), seal(accounts.get(name).cloned())?);
    }
    if config.vault.is_some() {
        all.insert(VAULT.to_owned(), seal(table("vault"))?);
    }
    Ok(all)
}

/// A configuration with what holds of it now.
pub struct Held {
    /// The configuration, with the stricter of what is in force and what the file says.
    pub config: Config,
    /// What is to come into force.
    pub proposal: Proposal,
}

/// Compares a configuration with what is in force. `adopted`: whether the data folder has adopted anything yet.
pub fn hold(
    mut config: Config,
    in_force: Option<&InForce>,
    adopted: bool,
    sealer: &Sealer,
) -> Result<Held> {
    let now = Guarded::of(&config, sealer)?;
    let former = match in_force {
        Some(row) => Some(
            serde_json::from_str::<KeptText<Guarded>>(&row.text)
                .context("what is in force of the configuration cannot be read; restore a backup of the data folder")?,
        ),
        None => None,
    };
    // In development, and in a new data folder, what the files say is in force.
    let former = former.map(|kept| Guarded {
        connections: kept.text.connections.or_else(|| now.connections.clone()),
        ..kept.text
    });
    let former = former.filter(|former| adopted && former.mode == Mode::Production);
    let (gains, changes) = former
        .as_ref()
        .map(|former| former.changes(&now))
        .unwrap_or_default();
    if let Some(former) = former {
        let both = former.common(&now);
        config.mode = both.mode;
        config.live_trading = both.live_trading;
        config.two_person = both.two_person;
        config
            .people
            .retain(|name, _| both.people.contains_key(name));
        for (name, person) in &mut config.people {
            if let Some(kept) = both.people.get(name) {
                person.roles.clone_from(&kept.roles);
            }
        }
        config
            .brokerage
            .retain(|name, _| both.profiles.contains_key(name));
        let connects = |name: &str| {
            let mut names = both.connections().map(|(name, _)| name);
            names.any(|one| one == name)
        };
        config.account.retain(|name, _| connects(name));
        config.vault = config.vault.filter(|_| connects(VAULT));
        config.closed = true;
        config.waits = (!gains.is_empty()).then(Waits::default);
        config.engine.check(config.mode)?;
    }
    let proposal = Proposal {
        subject: Subject::Configuration,
        name: String::new(),
        account: String::new(),
        text: serde_json::to_value(&now)?,
        gains,
        changes,
        files: vec![config.file.clone()],
        owners: config.origin.owner.into_iter().collect(),
        remembered: Remembered::default(),
        heirs: Vec::new(),
    };
    Ok(Held { config, proposal })
}

/// Whether the same of two configurations holds, of what may have to wait.
pub fn holds_as(one: &Config, other: &Config) -> bool {
    let names = |config: &Config| config.brokerage.keys().cloned().collect::<Vec<_>>();
    one.mode == other.mode
        && one.live_trading == other.live_trading
        && one.two_person == other.two_person
        && one.people == other.people
        && one.waits == other.waits
        && names(one) == names(other)
        && one.account.keys().eq(other.account.keys())
        && one.vault.is_some() == other.vault.is_some()
}

/// Guardrails with what holds of them now.
pub struct HeldGuardrails {
    /// Those of the files, and those in force that the files do not have any more.
    pub guardrails: Guardrails,
    /// What is to come into force.
    pub proposal: Proposal,
}

/// Compares guardrails with what is in force.
pub fn hold_guardrails(
    found: Guardrails,
    in_force: Option<&InForce>,
    production: bool,
    files: Vec<PathBuf>,
    owners: BTreeSet<u32>,
) -> Result<HeldGuardrails> {
    let former = kept_guardrails(in_force)?;
    let (gone, new) = (former.without(&found), found.without(&former));
    let line = |kind: ChangeKind, id: &str| Change {
        kind,
        line: format!("guardrail `{}`", id.escape_debug()),
    };
    let changes = gone.ids().map(|id| line(ChangeKind::Widened, id));
    let changes: Vec<_> = changes
        .map(|change| Change {
            line: format!("{} is gone, or another one", change.line),
            ..change
        })
        .chain(
            new.ids()
                .map(|id| line(ChangeKind::TakenAway, id))
                .map(|change| Change {
                    line: format!("{} is new", change.line),
                    ..change
                }),
        )
        .collect();
    let gains = gone
        .ids()
        .map(|id| format!("what the guardrail `{}` forbids", id.escape_debug()));
    let gains: Vec<_> = gains.collect();
    let text = json!(found.kept());
    let guardrails = if production { found.and(&gone) } else { found };
    Ok(HeldGuardrails {
        guardrails,
        proposal: Proposal {
            subject: Subject::Guardrails,
            name: String::new(),
            account: String::new(),
            text,
            gains,
            changes,
            files,
            owners,
            remembered: Remembered::default(),
            heirs: Vec::new(),
        },
    })
}

/// The guardrails that hold when a host starts. A folder that is gone is not an empty one.
pub fn guardrails_at_start(config: &Config, known: &Known) -> Result<Guardrails> {
    let kept = kept_guardrails(known.guardrails.as_ref())?;
    let is_there = config.policies().is_some_and(|folder| folder.is_dir());
    if !is_there && config.policies.is_none() && kept.ids().next().is_some() {
        return Ok(kept);
    }
    let row = known.guardrails.as_ref();
    let production = config.mode == Mode::Production && known.adopted;
    let (files, owners) = (Vec::new(), BTreeSet::new());
    let held = hold_guardrails(config.guardrails()?, row, production, files, owners)?;
    Ok(held.guardrails)
}

/// The guardrails that are in force.
fn kept_guardrails(in_force: Option<&InForce>) -> Result<Guardrails> {
    let Some(row) = in_force else {
        return Ok(Guardrails::none());
    };
    let unreadable = "the guardrails in force cannot be read; restore a backup of the data folder";
    let kept: KeptText<Vec<(String, String)>> =
        serde_json::from_str(&row.text).context(unreadable)?;
    Guardrails::from_kept(&kept.text).context(unreadable)
}

/// What a ledger keeps of the configuration and the guardrails.
pub struct Known {
    /// Whether the data folder has adopted what was there when it was new.
    pub adopted: bool,
    /// The configuration.
    pub configuration: Option<InForce>,
    /// The guardrails.
    pub guardrails: Option<InForce>,
}

impl Known {
    /// Reads it.
    pub async fn read(ledger: &Ledger) -> Result<Self, LedgerError> {
        Ok(Self {
            adopted: ledger.has_adopted().await?,
            configuration: ledger.in_force(Subject::Configuration, "").await?,
            guardrails: ledger.in_force(Subject::Guardrails, "").await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;

    fn guarded() -> impl Strategy<Value = Guarded> {
        let roles = vec![
            RoleName::Viewer,
            RoleName::Operator,
            RoleName::Approver,
            RoleName::Admin,
        ];
        let person = (0u32..2, subsequence(roles, 1..=4)).prop_map(|(uid, roles)| KeptPerson {
            uid,
            roles: roles.into_iter().collect(),
        });
        let names = || select(vec!["ann", "bob", "eve"]).prop_map(str::to_owned);
        let profiles = proptest::collection::btree_map(names(), "[ab]", 0..3);
        let connections = proptest::collection::btree_map(names(), "[ab]", 0..3);
        let people = proptest::collection::btree_map(names(), person, 0..3);
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        (flags, people, profiles, connections).prop_map(
            |((development, live_trading, two_person), people, profiles, connections)| Guarded {
                mode: if development {
                    Mode::Development
                } else {
                    Mode::Production
                },
                live_trading,
                two_person,
                people,
                profiles,
                connections: Some(connections),
            },
        )
    }

    proptest! {
        #[test]
        fn what_both_allow_gives_no_more_than_either_and_all_of_what_gives_nothing(
            one in guarded(), other in guarded(),
        ) {
            let both = one.common(&other);
            prop_assert_eq!(one.changes(&both).0, Vec::<String>::new());
            prop_assert_eq!(other.changes(&both).0, Vec::<String>::new());
            if one.changes(&other).0.is_empty() {
                prop_assert_eq!(&both, &other);
            }
            prop_assert!(one.changes(&one).1.is_empty());
        }
    }
}
