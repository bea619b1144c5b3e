//! What of the configuration and the guardrails is in force, and what awaits an admin.
//!
//! In production the files alone cannot widen anything: a new person or role, `mode`, `two-person`, `live-trading`, a
//! changed profile, another account or vault (what the host runs, and where it sends credentials), or a removed or changed
//! guardrail. Until an admin approves, what the ledger keeps as in force and what the files say must both allow; see
//! `qchost_gate::Proposal`.
//!
//! Invariant: of the two, the stricter one applies, also right after a start, whichever file the configuration comes from.
//! What a restored backup has as in force grants nothing by itself: until an admin approves again, only the admins that
//! both backup and file name and the accounts that both have are in force, and nothing else that may need approval.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use qchost_gate::{Proposal, Sealer, StoredText, Waits};
use qchost_ledger::{InForce, Ledger, LedgerError, Subject};
use qchost_policy::{Change, ChangeKind, Guardrails, People, Person, Remembered, Right, Role};
use qchost_secrets::Profiles;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use crate::config::{Config, Mode, PersonTable};
use crate::output::words;

/// The parts of a configuration that need approval to be widened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Guarded {
    mode: Mode,
    live_trading: bool,
    two_person: bool,
    people: BTreeMap<String, PersonTable>,
    /// The profiles, each as a keyed digest.
    profiles: BTreeMap<String, String>,
    /// The accounts and the vault, each as a keyed digest. `None` in a ledger of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connections: Option<BTreeMap<String, String>>,
    /// Accounts that were removed before it was known that nothing runs live on them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    dormant: BTreeSet<String>,
}

/// The key of the vault among the connections; no account can have this name.
const VAULT: &str = "[vault]";

impl Guarded {
    /// The guarded parts of a configuration.
    pub fn of(config: &Config, sealer: &Sealer) -> Result<Self> {
        let profiles = Profiles::new(config.brokerage.clone(), config.secrets()?)
            .with_deployments(config.deployment.clone());
        let sealed = profiles.names().map(|name| {
            let revision = json!(profiles.revision(name));
            (name.to_owned(), sealer.seal("profile", &revision))
        });
        Ok(Self {
            mode: config.mode,
            live_trading: config.live_trading,
            two_person: config.two_person,
            people: config.people.clone(),
            profiles: sealed.collect(),
            connections: Some(connections(config, sealer)?),
            dormant: BTreeSet::new(),
        })
    }

    /// The accounts on which something may run live: those in force, and those that were.
    fn known_accounts(&self) -> impl Iterator<Item = &String> {
        let accounts = self.connections().keys().filter(|name| *name != VAULT);
        accounts.chain(&self.dormant)
    }

    fn connections(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.connections.as_ref().unwrap_or(&NONE)
    }

    /// What both allow.
    fn common(&self, other: &Self) -> Self {
        let people = other.people.iter().filter_map(|(name, person)| {
            let own = self.people.get(name).filter(|own| own.uid == person.uid)?;
            let roles: BTreeSet<_> = own.roles.intersection(&person.roles).copied().collect();
            let (name, uid) = (name.clone(), person.uid);
            (!roles.is_empty()).then_some((name, PersonTable { uid, roles }))
        });
        let same = |former: &BTreeMap<String, String>, now: &BTreeMap<String, String>| {
            let mut same = now.clone();
            same.retain(|name, digest| former.get(name) == Some(digest));
            same
        };
        Self {
            mode: match (self.mode, other.mode) {
                (Mode::Development, Mode::Development) => Mode::Development,
                _ => Mode::Production,
            },
            live_trading: self.live_trading && other.live_trading,
            two_person: self.two_person || other.two_person,
            people: people.collect(),
            profiles: same(&self.profiles, &other.profiles),
            connections: Some(same(self.connections(), other.connections())),
            dormant: other.dormant.clone(),
        }
    }

    /// The most that may be in force of a configuration when all that is known of it comes from a restored backup. An
    /// admin has to remain who can approve. A backup that cannot be read or names no people has no influence on the
    /// people. Accounts that both backup and file have stay, since what runs live is stopped through them.
    fn bound_after_restore(stored: Option<&Self>, now: &Self) -> Self {
        let people = stored
            .map(|stored| &stored.people)
            .filter(|it| !it.is_empty());
        let admins = people.unwrap_or(&now.people).iter();
        let admins = admins.filter(|(_, person)| person.roles.contains(&Role::Admin));
        let admin = |(name, person): (&String, &PersonTable)| {
            let (uid, roles) = (person.uid, BTreeSet::from([Role::Admin]));
            (name.clone(), PersonTable { uid, roles })
        };
        Self {
            mode: Mode::Production,
            live_trading: false,
            two_person: stored.is_some_and(|stored| stored.two_person),
            people: admins.map(admin).collect(),
            profiles: BTreeMap::new(),
            connections: Some(
                stored
                    .and_then(|stored| stored.connections.clone())
                    .unwrap_or_default(),
            ),
            dormant: stored
                .map(|stored| stored.dormant.clone())
                .unwrap_or_default(),
        }
    }

    /// The strictest one: no people, and nothing that may need approval.
    fn strictest() -> Self {
        Self {
            mode: Mode::Production,
            live_trading: false,
            two_person: true,
            people: BTreeMap::new(),
            profiles: BTreeMap::new(),
            connections: Some(BTreeMap::new()),
            dormant: BTreeSet::new(),
        }
    }

    /// The differences to a later configuration: what it adds, and all changes.
    fn changes(&self, now: &Self) -> (Vec<String>, Vec<Change>) {
        let mut changes = Vec::new();
        let mut say = |kind, line: String| changes.push(Change { kind, line });
        if self.mode != now.mode {
            let word = |mode| match mode {
                Mode::Development => "development",
                Mode::Production => "production",
            };
            say(
                ChangeKind::wider_if(now.mode == Mode::Development),
                format!("mode from {} to {}", word(self.mode), word(now.mode)),
            );
        }
        let (live, two_person) = (now.live_trading, now.two_person);
        for (key, former, now, is_wider) in [
            ("live-trading", self.live_trading, live, live),
            ("two-person", self.two_person, two_person, !two_person),
        ] {
            if former != now {
                let line = format!("{key} from {former} to {now}");
                say(ChangeKind::wider_if(is_wider), line);
            }
        }
        let of = |people: &BTreeMap<String, PersonTable>, name: &str, uid: u32| {
            let person = people.get(name).filter(|person| person.uid == uid);
            person.map(|person| person.roles.clone())
        };
        let beyond = |roles: &BTreeSet<Role>, others: &BTreeSet<Role>| {
            let words: Vec<_> = roles.difference(others).map(|role| role.word()).collect();
            words.join(", ")
        };
        for (name, person) in &now.people {
            let former = of(&self.people, name, person.uid);
            let is_new = former.is_none();
            let had = former.unwrap_or_default();
            let (gained, lost) = (beyond(&person.roles, &had), beyond(&had, &person.roles));
            let uid = person.uid;
            if is_new {
                let line = format!("person `{name}` (uid {uid}): {gained}");
                say(ChangeKind::Added, line);
            } else if !gained.is_empty() {
                let line = format!("person `{name}` (uid {uid}) gains {gained}");
                say(ChangeKind::Widened, line);
            }
            if !lost.is_empty() {
                let line = format!("person `{name}` (uid {uid}) loses {lost}");
                say(ChangeKind::TakenAway, line);
            }
        }
        for (name, person) in &self.people {
            if of(&now.people, name, person.uid).is_none() {
                let line = format!("person `{name}` (uid {})", person.uid);
                say(ChangeKind::TakenAway, line);
            }
        }
        for (word, former, now) in [
            ("profile", &self.profiles, &now.profiles),
            ("account", self.connections(), now.connections()),
        ] {
            sealed_changes(word, former, now, &mut say);
        }
        let gains = changes
            .iter()
            .filter(|change| matches!(change.kind, ChangeKind::Added | ChangeKind::Widened));
        (gains.map(|change| change.line.clone()).collect(), changes)
    }
}

/// The differences among settings that are kept as digests.
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

/// The accounts and the vault of a configuration, as keyed digests of their settings and of the targets of their paths:
/// the same text in another folder may refer to another server and other credentials.
fn connections(config: &Config, sealer: &Sealer) -> Result<BTreeMap<String, String>> {
    let table = |key: &str| config.table.get(key).cloned();
    let (folder, real) = (config.file.parent(), config.path.parent());
    let seal = |value: Option<toml::Value>, paths: Vec<&Path>| -> Result<String> {
        // Links below the configuration's folder are not resolved: redirecting one is how secrets are rotated.
        let leads = |path: &Path| match (folder.map(|folder| path.strip_prefix(folder)), real) {
            (Some(Ok(inside)), Some(real)) => real.join(inside),
            _ => path.to_owned(),
        };
        let leads: Vec<PathBuf> = paths.into_iter().map(leads).collect();
        Ok(sealer.seal("connection", &json!([serde_json::to_value(value)?, leads])))
    };
    let accounts = table("account").unwrap_or_else(|| toml::Value::Table(toml::Table::new()));
    let mut all = BTreeMap::new();
    for (name, account) in &config.account {
        let sealed = seal(accounts.get(name).cloned(), account.paths())?;
        all.insert(name.clone(), sealed);
    }
    if let Some(vault) = &config.vault {
        all.insert(VAULT.to_owned(), seal(table("vault"), vault.paths())?);
    }
    Ok(all)
}

/// What awaits approval after a restore, whatever the files say.
const AFTER_RESTORE: &str = "every role but that of the admins whom the backup names too";
/// The same for guardrails.
const GUARDRAILS_AFTER_RESTORE: &str =
    "what trades or destroys, since guardrails that came after the backup are not known,";

/// A configuration with what is in force of it.
pub struct EffectiveConfig {
    /// The configuration, with the stricter of what is in force and what the file says.
    pub config: Config,
    /// What is proposed to come into force.
    pub proposal: Proposal,
}

/// Compares a configuration with what is in force. `adopted`: whether the data folder has adopted anything yet. `cleared`:
/// accounts that are known to have nothing running live.
pub fn compare(
    mut config: Config,
    in_force: Option<&InForce>,
    adopted: bool,
    cleared: &[String],
    sealer: &Sealer,
) -> Result<EffectiveConfig> {
    let mut now = Guarded::of(&config, sealer)?;
    let stored = in_force.map(|row| serde_json::from_str::<StoredText<Guarded>>(&row.text));
    // In development, and in a new data folder, the files are in force as they are.
    let (bound, gains, changes) = match (in_force, stored) {
        _ if !adopted => (None, Vec::new(), Vec::new()),
        (Some(row), Some(stored)) if !row.confirmed => {
            let stored = stored.ok().map(|stored| stored.text);
            let development = |it: &Guarded| it.mode == Mode::Development;
            if development(&now) && stored.as_ref().is_none_or(development) {
                (None, Vec::new(), Vec::new())
            } else {
                let bound = Guarded::bound_after_restore(stored.as_ref(), &now);
                let mut gains = bound.changes(&now).0;
                gains.push(AFTER_RESTORE.to_owned());
                (Some(bound), gains, Guarded::strictest().changes(&now).1)
            }
        }
        (_, Some(stored)) => {
            let stored = stored.context(
                "what is in force of the configuration cannot be read; restore a backup of the data folder",
            )?;
            let former = Guarded {
                connections: stored.text.connections.or_else(|| now.connections.clone()),
                ..stored.text
            };
            let former = Some(former).filter(|former| former.mode == Mode::Production);
            let changed = former.as_ref().map(|former| former.changes(&now));
            let (gains, changes) = changed.unwrap_or_default();
            (former, gains, changes)
        }
        (_, None) => (None, Vec::new(), Vec::new()),
    };
    if let Some(bound) = bound {
        let both = bound.common(&now);
        config.mode = both.mode;
        config.live_trading = both.live_trading;
        config.two_person = both.two_person;
        config
            .people
            .retain(|name, _| both.people.contains_key(name));
        for (name, person) in &mut config.people {
            if let Some(stored) = both.people.get(name) {
                person.roles.clone_from(&stored.roles);
            }
        }
        config
            .brokerage
            .retain(|name, _| both.profiles.contains_key(name));
        let connects = |name: &str| both.connections().contains_key(name);
        // Those that await approval, and those of the last run of a host.
        let known = config.account.keys().chain(bound.known_accounts());
        let known = known.filter(|name| !cleared.contains(name));
        let dormant: BTreeSet<String> = known.filter(|name| !connects(name)).cloned().collect();
        let gone = dormant
            .iter()
            .filter(|name| !config.account.contains_key(*name));
        now.dormant = gone.cloned().collect();
        config.dormant = dormant;
        config.account.retain(|name, _| connects(name));
        config.vault = config.vault.filter(|_| connects(VAULT));
        config.closed = true;
        config.waits = (!gains.is_empty()).then(Waits::default);
        config.engine.check(config.mode)?;
    }
    let proposal = proposal(
        Subject::Configuration,
        serde_json::to_value(&now)?,
        gains,
        changes,
        vec![config.file.clone()],
        config.origin.owner.into_iter().collect(),
    );
    Ok(EffectiveConfig { config, proposal })
}

/// A proposal that concerns no plugin.
fn proposal(
    subject: Subject,
    text: Value,
    gains: Vec<String>,
    changes: Vec<Change>,
    files: Vec<PathBuf>,
    owners: BTreeSet<u32>,
) -> Proposal {
    Proposal {
        subject,
        name: String::new(),
        account: String::new(),
        text,
        remembered: Remembered::default(),
        gains,
        changes,
        files,
        owners,
        successors: Vec::new(),
    }
}

/// What the people of a configuration can decide under guardrails: those with the right to approve, unless a guardrail
/// forbids it to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanDecide {
    /// Whether enough may approve calls.
    calls: bool,
    /// Whether enough may approve changes of the files; in development none waits.
    changes: bool,
    /// Whether there is an admin.
    has_admin: bool,
}

impl CanDecide {
    /// Those of a configuration.
    pub fn of(config: &Config, guardrails: &Guardrails) -> Result<Self> {
        Self::by(&config.people, config.two_person, config.mode, guardrails)
    }

    fn by(
        people: &BTreeMap<String, PersonTable>,
        two_person: bool,
        mode: Mode,
        guardrails: &Guardrails,
    ) -> Result<Self> {
        let persons = people.iter().map(|(name, person)| Person {
            uid: person.uid,
            name: name.clone(),
            roles: person.roles.clone(),
        });
        let people = People::new(persons, guardrails)?;
        let deciders: Vec<&Person> = people
            .iter()
            .filter(|person| people.decide(person, Right::Approve, None).allowed)
            .collect();
        let admins = deciders.iter();
        let admins = admins.filter(|person| person.roles.contains(&Role::Admin));
        let admins = admins.count();
        let needs = if two_person { 2 } else { 1 };
        Ok(Self {
            calls: deciders.len() >= needs,
            changes: mode == Mode::Development || admins >= needs,
            has_admin: admins > 0,
        })
    }

    /// Those of what the ledger keeps as in force, if it came into force in this data folder.
    fn stored(row: Option<&InForce>, guardrails: &Guardrails) -> Result<Option<Self>> {
        let Some(row) = row.filter(|row| row.confirmed) else {
            return Ok(None);
        };
        let StoredText { text, .. } = serde_json::from_str::<StoredText<Guarded>>(&row.text)?;
        Self::by(&text.people, text.two_person, text.mode, guardrails).map(Some)
    }

    /// Those of a file in production.
    pub fn of_file(file: &Config, guardrails: &Guardrails) -> Result<Self> {
        Self::by(&file.people, file.two_person, Mode::Production, guardrails)
    }

    /// Whether people can bring a change of the files into force.
    pub fn decides_changes(self) -> bool {
        self.changes
    }

    /// Whether it lacks what the former people could decide.
    fn lacks(self, former: Self) -> bool {
        (former.calls && !self.calls)
            || (former.changes && !self.changes)
            || (former.has_admin && !self.has_admin)
    }
}

/// Checks that the people of a new configuration can still decide, if the former ones could: otherwise no person could take
/// it back. `whole` is what would be in force once it is approved, `until_then` what is in force at once: people added in
/// the file count only once they are approved. `row` is what is in force by now.
pub fn check_deciders(
    current: (&Config, &Guardrails),
    row: Option<&InForce>,
    whole: &Config,
    until_then: &Config,
) -> Result<()> {
    let (current, guardrails) = current;
    let former = CanDecide::of(current, guardrails)?;
    let stored = CanDecide::stored(row, guardrails)?;
    check_whole(
        CanDecide::of(whole, guardrails)?,
        [Some(former), stored].into_iter().flatten(),
    )?;
    ensure!(
        !CanDecide::of(until_then, guardrails)?.lacks(former),
        "people: of those in force too few would be left to approve anything, since whom the file adds counts only when that \
         is approved: add them first, have that approved, and take the others away afterwards"
    );
    Ok(())
}

fn check_whole(whole: CanDecide, former: impl IntoIterator<Item = CanDecide>) -> Result<()> {
    let mut former = former.into_iter();
    ensure!(
        !former.any(|former| whole.lacks(former)),
        "people: too few would be left to approve anything, and no person could take that back: leave the role admin to one \
         person, or to two with `two-person`"
    );
    Ok(())
}

/// Checks a changed configuration again when it is to be approved: what was in force when it was asked for may have changed.
/// `text` is its text as the approval keeps it.
pub fn check_proposed(text: &str, current: &Config, guardrails: &Guardrails) -> Result<()> {
    let proposed: Guarded = serde_json::from_str(text)
        .context("what this approval would bring into force cannot be read")?;
    let whole = CanDecide::by(
        &proposed.people,
        proposed.two_person,
        proposed.mode,
        guardrails,
    )?;
    check_whole(whole, [CanDecide::of(current, guardrails)?])
}

/// Checks that people can still decide under new guardrails, if they could under the former ones or those in force (`row`):
/// that guardrails are gone takes an approval.
pub fn check_deciders_under(
    config: &Config,
    row: Option<&InForce>,
    former: &Guardrails,
    now: &Guardrails,
) -> Result<()> {
    let can = CanDecide::of(config, now)?;
    let mut lacks = can.lacks(CanDecide::of(config, former)?);
    if let Some(row) = row.filter(|row| row.confirmed) {
        lacks |= can.lacks(CanDecide::of(config, &stored_guardrails(Some(row))?)?);
    }
    ensure!(
        !lacks,
        "guardrails: under these too few people could approve anything, and no person could take that back: leave `approve` to \
         one admin, or to two with `two-person`"
    );
    Ok(())
}

/// What gives a host the people of a file, and nothing else that waits for approval. `row` is what is in force.
pub fn people_of_file(file: &Config, row: Option<&InForce>) -> Result<Proposal> {
    let row = row.context("nothing of the configuration is in force yet")?;
    let stored = serde_json::from_str::<StoredText<Guarded>>(&row.text).map(|stored| stored.text);
    let base = match stored {
        Ok(stored) if row.confirmed => stored,
        // What a restored backup has in force grants nothing by itself.
        stored => Guarded {
            dormant: stored.map(|stored| stored.dormant).unwrap_or_default(),
            ..Guarded::strictest()
        },
    };
    let text = Guarded {
        people: file.people.clone(),
        two_person: file.two_person,
        ..base
    };
    let (none, owners) = (Vec::new(), file.origin.owner.into_iter().collect());
    let files = vec![file.file.clone()];
    let text = serde_json::to_value(&text)?;
    Ok(proposal(
        Subject::Configuration,
        text,
        none,
        Vec::new(),
        files,
        owners,
    ))
}

/// The guardrails of the files, and what brings them into force as they are.
pub fn guardrails_of_files(file: &Config) -> Result<(Guardrails, Proposal)> {
    let found = off_thread(|| file.guardrails())?;
    let text = json!(found.stored());
    let (none, owners) = (Vec::new(), BTreeSet::new());
    let proposal = proposal(
        Subject::Guardrails,
        text,
        none,
        Vec::new(),
        Vec::new(),
        owners,
    );
    Ok((found, proposal))
}

/// Whether two configurations agree in everything that may need approval.
pub fn agrees(one: &Config, other: &Config) -> bool {
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

/// Guardrails with what is in force of them.
pub struct EffectiveGuardrails {
    /// Those of the files, and those in force that are missing in the files.
    pub guardrails: Guardrails,
    /// What is proposed to come into force.
    pub proposal: Proposal,
}

/// Compares guardrails with what is in force.
pub fn compare_guardrails(
    found: Guardrails,
    in_force: Option<&InForce>,
    production: bool,
    files: Vec<PathBuf>,
    mut owners: BTreeSet<u32>,
) -> Result<EffectiveGuardrails> {
    let former = stored_guardrails(in_force)?;
    let (gone, new) = (former.without(&found), found.without(&former));
    if gone.ids().next().is_some()
        && let Some(row) = in_force
        && let Ok(stored) = serde_json::from_str::<StoredText<serde::de::IgnoredAny>>(&row.text)
    {
        // The owners of a file that was removed while no host ran are known from when it came into force.
        owners.extend(stored.owners);
    }
    let is_gone = gone
        .ids()
        .map(|id| (ChangeKind::Widened, id, "is gone, or another one"));
    let is_new = new.ids().map(|id| (ChangeKind::TakenAway, id, "is new"));
    let mut changes: Vec<_> = is_gone
        .chain(is_new)
        .map(|(kind, id, what)| Change {
            kind,
            line: format!("guardrail `{}` {what}", id.escape_debug()),
        })
        .collect();
    let gains = gone
        .ids()
        .map(|id| format!("what the guardrail `{}` forbids", id.escape_debug()));
    let mut gains: Vec<_> = gains.collect();
    let text = json!(found.stored());
    let guardrails = match (production, in_force.is_some_and(|row| !row.confirmed)) {
        (false, _) => found,
        (true, false) => found.and(&gone),
        (true, true) => {
            gains.push(GUARDRAILS_AFTER_RESTORE.to_owned());
            let line = "no other guardrails: those that came after the backup are gone".to_owned();
            let kind = ChangeKind::Widened;
            changes.push(Change { kind, line });
            found.and(&gone).and(&after_restore()?)
        }
    };
    Ok(EffectiveGuardrails {
        guardrails,
        proposal: proposal(Subject::Guardrails, text, gains, changes, files, owners),
    })
}

/// The guardrails in force when a host starts. A missing folder is not treated as an empty one.
pub fn guardrails_at_start(config: &Config, known: &StoredState) -> Result<Guardrails> {
    let stored = stored_guardrails(known.guardrails.as_ref())?;
    let is_there = config.policies().is_some_and(|folder| folder.is_dir());
    let row = known.guardrails.as_ref();
    let production = config.mode == Mode::Production && known.adopted;
    if !is_there && config.policies.is_none() && stored.ids().next().is_some() {
        let unconfirmed = production && row.is_some_and(|row| !row.confirmed);
        return Ok(if unconfirmed {
            stored.and(&after_restore()?)
        } else {
            stored
        });
    }
    let (files, owners) = (Vec::new(), BTreeSet::new());
    let effective = compare_guardrails(
        off_thread(|| config.guardrails())?,
        row,
        production,
        files,
        owners,
    )?;
    Ok(effective.guardrails)
}

/// The guardrails in force.
fn stored_guardrails(in_force: Option<&InForce>) -> Result<Guardrails> {
    let Some(row) = in_force else {
        return Ok(Guardrails::none());
    };
    let read = || -> Result<Guardrails> {
        let stored: StoredText<Vec<(String, String)>> = serde_json::from_str(&row.text)?;
        Ok(off_thread(|| Guardrails::from_stored(&stored.text))?)
    };
    match read() {
        // An unreadable text of a backup has no influence.
        Err(_) if !row.confirmed => Ok(Guardrails::none()),
        Err(error) => {
            tracing::error!(
                target: "host",
                "the guardrails in force cannot be read, so plugins are denied everything until those of the files are in force: {}",
                words(&error)
            );
            closed(UNREADABLE)
        }
        read => read,
    }
}

/// The guardrail used if those in force cannot be read, so that it is unknown what they forbid.
const UNREADABLE: &str = "guardrails-in-force-cannot-be-read";

/// Guardrails that deny plugins everything.
fn closed(id: &str) -> Result<Guardrails> {
    let text = "forbid (principal is Plugin, action, resource);".to_owned();
    Ok(Guardrails::from_stored(&[(id.to_owned(), text)])?)
}

/// The guardrails of a process that only halts: they cannot deny that.
pub fn guardrails_to_halt() -> Result<Guardrails> {
    closed("only-halts")
}

/// Parses guardrails off the serving threads: many of them take seconds.
fn off_thread<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
            block_in_place(work)
        }
        _ => work(),
    }
}

/// Whether guardrails were in effect; those that only apply until the approval after a restore do not count.
pub fn has_guardrails(guardrails: &Guardrails) -> Result<bool> {
    let own = guardrails.without(&after_restore()?);
    Ok(own.ids().next().is_some())
}

/// Forbids everything until an admin has approved the guardrails after a restore.
fn after_restore() -> Result<Guardrails> {
    let text = "forbid (principal is Plugin, action in [Action::\"trade\", Action::\"destroy\"], resource);";
    let stored = ("until-guardrails-are-approved".to_owned(), text.to_owned());
    Ok(Guardrails::from_stored(&[stored])?)
}

/// What a ledger keeps of the configuration and the guardrails.
pub struct StoredState {
    /// Whether the data folder has adopted what it found when it was new.
    pub adopted: bool,
    /// The configuration.
    pub configuration: Option<InForce>,
    /// The guardrails.
    pub guardrails: Option<InForce>,
}

impl StoredState {
    /// Reads it from a ledger.
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

    fn in_force(stored: &[(&str, &str)]) -> InForce {
        InForce {
            digest: "sha256:0".to_owned(),
            text: json!({ "text": stored }).to_string(),
            by: "otto".to_owned(),
            approval: None,
            at: 0,
            confirmed: true,
            taken_away: false,
        }
    }

    fn compared(found: &Guardrails, row: &InForce, production: bool) -> EffectiveGuardrails {
        let (files, owners) = (Vec::new(), BTreeSet::new());
        compare_guardrails(found.clone(), Some(row), production, files, owners).unwrap()
    }

    #[test]
    fn guardrails_in_force_that_this_version_does_not_read_deny_everything_until_there_are_others()
    {
        let deep = format!(
            "forbid (principal, action, resource is Project) when {{ {}context.live }};",
            "context.live || ".repeat(3000)
        );
        let rule = "forbid (principal, action in Action::\"trade\", resource);";
        let found = Guardrails::from_stored(&[("calm".to_owned(), rule.to_owned())]).unwrap();
        let ids = |guardrails: &Guardrails| guardrails.ids().map(str::to_owned).collect::<Vec<_>>();
        for stored in [deep.as_str(), "forbid (", ""] {
            let row = match stored {
                "" => InForce {
                    text: String::new(),
                    ..in_force(&[])
                },
                stored => in_force(&[("a.cedar:1", stored)]),
            };
            assert_eq!(ids(&stored_guardrails(Some(&row)).unwrap()), [UNREADABLE]);
            // An admin has to approve those that replace them.
            let production = compared(&found, &row, true);
            assert_eq!(ids(&production.guardrails), ["calm", UNREADABLE]);
            assert!(production.proposal.gains[0].contains(UNREADABLE));
            assert_eq!(ids(&compared(&found, &row, false).guardrails), ["calm"]);
        }
        let readable = in_force(&[("calm", rule)]);
        assert!(compared(&found, &readable, true).proposal.gains.is_empty());
    }

    fn guarded() -> impl Strategy<Value = Guarded> {
        let roles = vec![Role::Viewer, Role::Operator, Role::Approver, Role::Admin];
        let person = (0u32..2, subsequence(roles, 1..=4)).prop_map(|(uid, roles)| PersonTable {
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
                dormant: BTreeSet::new(),
            },
        )
    }

    fn config(lines: &str) -> Config {
        let text = format!("data = \"data\"\n{lines}");
        Config::parse(&text, std::path::Path::new("/dev/null")).unwrap()
    }

    /// A configuration after comparison with one that is in force, or that a backup has.
    fn effective(file: &str, stored: Option<&str>, confirmed: bool) -> EffectiveConfig {
        let sealer = Sealer::new(vec![7; 32].into());
        let text = stored.map_or(String::new(), |stored| {
            let text = Guarded::of(&config(stored), &sealer).unwrap();
            json!({ "text": text }).to_string()
        });
        let row = InForce {
            digest: "d".to_owned(),
            text,
            by: "ann".to_owned(),
            at: 0,
            approval: None,
            confirmed,
            taken_away: false,
        };
        compare(config(file), Some(&row), true, &[], &sealer).unwrap()
    }

    const PEOPLE: &str = "[people.me]\nuid = 1\nroles = [\"admin\", \"viewer\"]\n\
        [people.op]\nuid = 2\nroles = [\"operator\"]\n";
    const IB: &str = "[brokerage.ib]\nid = \"InteractiveBrokersBrokerage\"\n";

    #[test]
    fn people_are_not_replaced_by_some_of_whom_none_was_approved() {
        let head = "mode = \"production\"\ntwo-person = true\n";
        let person =
            |name: &str, uid: u32| format!("[people.{name}]\nuid = {uid}\nroles = [\"admin\"]\n");
        let (ann, bob, cat) = (person("ann", 1), person("bob", 2), person("cat", 3));
        let (eve, three) = (person("eve", 4), format!("{head}{ann}{bob}{cat}"));
        let left = |now: &str| {
            let (none, until_then) = (Guardrails::none(), effective(now, Some(&three), true));
            let current = config(&three);
            check_deciders((&current, &none), None, &config(now), &until_then.config).is_ok()
        };
        assert!(!left(&format!("{head}{ann}{eve}")));
        // The controls: the remaining people can decide; and a person is added.
        assert!(left(&format!("{head}{ann}{bob}")));
        assert!(left(&format!("{three}{eve}")));
    }

    #[test]
    fn nothing_comes_into_force_that_leaves_no_person_who_could_take_it_back() {
        let (none, sealer) = (Guardrails::none(), Sealer::new(vec![7; 32].into()));
        let person = |name: &str, uid: u32, role: &str| {
            format!("[people.{name}]\nuid = {uid}\nroles = [\"{role}\"]\n")
        };
        let production = |lines: &str| format!("mode = \"production\"\n{lines}");
        let me = production(&person("me", 1, "admin"));
        let viewer = production(&person("me", 1, "viewer"));
        let (ann, bob) = (person("ann", 2, "admin"), person("bob", 3, "approver"));
        let checked = |former: &str, now: &str| {
            let until_then = effective(now, Some(former), true);
            let current = config(former);
            check_deciders((&current, &none), None, &config(now), &until_then.config)
        };
        let refused = checked(&me, &viewer).unwrap_err().to_string();
        assert!(refused.contains("too few would be left"), "{refused}");
        // The twins: the same role is lost while another admin stays, and nothing is lost.
        checked(&format!("{me}{ann}"), &format!("{viewer}{ann}")).unwrap();
        checked(&me, &format!("{me}{ann}")).unwrap();
        // Two have to approve, and one of those who are left is no admin.
        let two = format!("two-person = true\n{me}{bob}");
        checked(&format!("{me}{bob}"), &two).unwrap_err();
        checked(&format!("{me}{bob}{ann}"), &format!("{two}{ann}")).unwrap();

        // While no host ran: the host that starts has in force only what both allow.
        let text = Guarded::of(&config(&format!("{me}{ann}")), &sealer).unwrap();
        let row = InForce {
            text: json!({ "text": text }).to_string(),
            ..in_force(&[])
        };
        let started = |now: &str| {
            let until_then = compare(config(now), Some(&row), true, &[], &sealer).unwrap();
            let until_then = until_then.config;
            check_deciders((&until_then, &none), Some(&row), &config(now), &until_then)
        };
        started(&production(&person("ann", 2, "viewer"))).unwrap_err();
        started(&me).unwrap();

        // At the moment of the decision.
        let proposed = |now: &str| {
            let text = serde_json::to_string_pretty(&Guarded::of(&config(now), &sealer).unwrap());
            check_proposed(&text.unwrap(), &config(&me), &none)
        };
        proposed(&viewer).unwrap_err();
        proposed(&format!("{me}{ann}")).unwrap();
    }

    #[test]
    fn guardrails_that_leave_no_person_to_approve_are_not_put_in_force() {
        let none = Guardrails::none();
        let both = config(&format!(
            "mode = \"production\"\n{PEOPLE}[people.ann]\nuid = 7\nroles = [\"admin\"]\n"
        ));
        let forbidding = |when: &str| {
            let rule = format!(
                "forbid (principal, action == Action::\"person/approve\", resource){when};"
            );
            Guardrails::from_stored(&[("nobody".to_owned(), rule)]).unwrap()
        };
        let refused = check_deciders_under(&both, None, &none, &forbidding("")).unwrap_err();
        assert!(refused.to_string().contains("too few people"), "{refused}");
        // The twin leaves one of the two admins.
        let one = forbidding(" when { principal.name == \"ann\" }");
        check_deciders_under(&both, None, &none, &one).unwrap();
        // Nothing is lost where no person could approve before.
        let all = forbidding("");
        check_deciders_under(&both, None, &all, &all).unwrap();
        // While no host ran: it started under them, and others are in force.
        check_deciders_under(&both, Some(&in_force(&[])), &all, &all).unwrap_err();
    }

    #[test]
    fn the_same_words_in_another_folder_are_another_account() {
        let text = "data = \"data\"\nmode = \"production\"\n[people.me]\nuid = 1\nroles = [\"admin\"]\n\
            [account.a]\nconnection = \"stdio\"\ncommand = \"server\"\ncwd = \"srv\"\n\
            [account.b]\nconnection = \"stdio\"\ncommand = \"server\"\ncwd = \"/srv\"\n";
        let folder = tempfile::tempdir().unwrap();
        let config = |name: &str| {
            let file = folder.path().join(name).join("qchost.toml");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
            Config::parse(text, &file).unwrap()
        };
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("one"), &link).unwrap();
        let sealer = Sealer::new(vec![7; 32].into());
        let of = |name: &str| connections(&config(name), &sealer).unwrap();
        assert_eq!(of("one"), of("link"));
        let (one, two) = (of("one"), of("two"));
        assert_ne!(one["a"], two["a"]);
        assert_eq!(one["b"], two["b"]);
    }

    #[test]
    fn of_a_restored_configuration_nothing_holds_but_the_admins_of_backup_and_file() {
        let production = format!("mode = \"production\"\nlive-trading = true\n{PEOPLE}{IB}");
        // The control: what is in force by an approval needs none.
        let same = effective(&production, Some(&production), true);
        assert!(same.proposal.gains.is_empty() && same.config.live_trading);

        let eve = format!("{production}[people.eve]\nuid = 3\nroles = [\"admin\"]\n");
        let strict = |it: &EffectiveConfig| {
            assert_eq!(it.config.mode, Mode::Production);
            assert!(!it.config.live_trading && it.config.brokerage.is_empty());
            assert!(it.proposal.gains.iter().any(|gain| gain == AFTER_RESTORE));
            let people = it.config.people.iter();
            let people = people.map(|(name, it)| (name.as_str(), it.roles.iter().collect()));
            people.collect::<Vec<(&str, Vec<&Role>)>>() == [("me", vec![&Role::Admin])]
        };
        assert!(strict(&effective(&production, Some(&production), false)));
        // Each names one more person: the backup a former admin, or the file a new one.
        assert!(strict(&effective(&production, Some(&eve), false)));
        assert!(strict(&effective(&eve, Some(&production), false)));
        // The backup has another mode than the file.
        let development = production.replace("production", "development");
        assert!(strict(&effective(&development, Some(&production), false)));
        assert!(strict(&effective(&production, Some(&development), false)));
        // An account is in force only if both have the same one.
        let with = |url: &str| {
            format!("{production}[account.a]\nconnection = \"http\"\nurl = \"{url}\"\n")
        };
        let (one, other) = (with("http://127.0.0.1:1"), with("http://127.0.0.1:2"));
        let accounts = |stored| effective(&one, stored, false).config.account.len();
        let all = [Some(one.as_str()), Some(other.as_str()), None];
        assert_eq!(all.map(accounts), [1, 0, 0]);
        // The backup is unreadable.
        assert!(strict(&effective(&production, None, false)));
        assert!(!strict(&effective(&eve, None, false)));
        let two = format!("two-person = true\n{eve}");
        assert!(effective(&eve, Some(&two), false).config.two_person);
        assert!(effective(&two, Some(&eve), false).config.two_person);
        // In development nothing needs approval.
        let free = effective(&development, Some(&development), false);
        assert!(free.proposal.gains.is_empty() && free.config.live_trading);
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
