//! Records every change of what is in force: what changed, by whom, the texts before and after, and their difference.
//!
//! A change is noted in the audit before any call can be decided under it, and its record is essential, so it is not
//! dropped for lack of space. The digests recorded last are kept in the ledger, so that a start records what changed
//! while no host ran or what a crash kept from the disk.
//!
//! Invariant: no line of a difference holds a value that may be a secret; lines come from redacted texts only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use qchost_audit::{Audit, Entry, Kind};
use qchost_ledger::Ledger;
use qchost_policy::Manifest;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::body::{Change, Subject};
use crate::clock::now;
use crate::fingerprint::{Fingerprints, sealed};
use crate::policy::{EffectivePolicy, EffectiveSettings};
use crate::redacted_text::{
    Form, RedactedText, bounded, difference, differences, grants_as, narrowed, one_line,
};
use crate::settings::{Settings, Waits};
use crate::texts::Texts;

impl Change {
    pub(crate) fn of(subject: Subject) -> Self {
        Self {
            subject,
            plugin: None,
            account: None,
            file: None,
            owners: BTreeSet::new(),
            asked_by: BTreeSet::new(),
            by: None,
            approval: None,
            digest_before: None,
            digest_after: None,
            difference: Vec::new(),
            at_start: false,
            pending: false,
            note: None,
        }
    }

    fn from_text(subject: Subject, text: &RedactedText) -> Self {
        Self {
            file: shown(&text.file),
            owners: text.owners.clone(),
            digest_after: Some(text.digest.to_string()),
            ..Self::of(subject)
        }
    }

    /// The key that its digest is remembered under; `None` where no file defines what is in force.
    fn key(&self) -> Option<String> {
        match self.subject {
            Subject::Manifest => self.plugin.as_deref().map(manifest_of),
            Subject::Guardrails => Some(GUARDRAILS.to_owned()),
            Subject::Configuration | Subject::People | Subject::Profiles => {
                Some(CONFIGURATION.to_owned())
            }
            Subject::Component | Subject::Adoption | Subject::Quarantine | Subject::Other(_) => {
                None
            }
        }
    }

    /// Its audit entry.
    pub(crate) fn entry(&self) -> Entry {
        // A full disk must not keep the removal of rights from being recorded.
        Entry::new(Kind::Change, true, self)
    }
}

fn shown(path: &Path) -> Option<String> {
    (!path.as_os_str().is_empty()).then(|| path.display().to_string())
}

const CONFIGURATION: &str = "configuration";
const GUARDRAILS: &str = "guardrails";

fn manifest_of(plugin: &str) -> String {
    format!("manifest {plugin}")
}

fn component_of(plugin: &str) -> String {
    format!("component {plugin}")
}

/// A change that was approved.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    /// The names of the approvers.
    pub by: String,
    /// The approval.
    pub approval: String,
    /// The changes, one line each.
    pub lines: Vec<String>,
}

/// Records changes, and remembers what was recorded last.
pub struct Changes {
    audit: Audit,
    ledger: Ledger,
    pub(crate) texts: Texts,
    pub(crate) fingerprints: Arc<Fingerprints>,
    tasks: TaskTracker,
    state: Mutex<State>,
    /// Held while digests are stored, so that an older one never overwrites a newer one.
    storing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The digest recorded last, by key.
    last: BTreeMap<String, String>,
    /// The digests of changed manifests and configurations that only restrict, by key.
    pending: BTreeMap<String, String>,
    /// The approval of what comes into force next, by key.
    decided: BTreeMap<String, Decided>,
    /// Keys of a former run that were not seen in this one yet.
    former: BTreeSet<String>,
    /// What is still to be stored in the ledger.
    unstored: BTreeMap<String, Option<String>>,
    /// User ids of the people who wait for a reload.
    requesters: Vec<u32>,
}

/// Changes to be recorded, with the digests that are in force from then on.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    pub changes: Vec<Change>,
    digests: BTreeMap<String, Option<String>>,
    /// The digests of what only restricts; `None` removes one.
    pending: BTreeMap<String, Option<String>>,
    /// Keys of which nothing awaits approval, so that what was approved is in force.
    settled: BTreeSet<String>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes")
            .field("texts", &self.texts)
            .finish_non_exhaustive()
    }
}

impl Noted {
    fn in_force(&mut self, key: &str, text: &RedactedText) {
        let digest = text.digest.to_string();
        self.digests.insert(key.to_owned(), Some(digest));
    }
}

impl From<Change> for Noted {
    fn from(change: Change) -> Self {
        Self {
            changes: vec![change],
            ..Self::default()
        }
    }
}

impl Changes {
    pub(crate) fn new(
        audit: Audit,
        ledger: Ledger,
        fingerprints: Arc<Fingerprints>,
        tasks: TaskTracker,
        last: BTreeMap<String, String>,
        unrecorded: BTreeMap<String, (String, String)>,
    ) -> Self {
        let decided = |(key, (by, approval))| {
            let lines = Vec::new();
            (
                key,
                Decided {
                    by,
                    approval,
                    lines,
                },
            )
        };
        Self {
            texts: Texts::beside(audit.folder()),
            audit,
            ledger,
            fingerprints,
            tasks,
            state: Mutex::new(State {
                former: last.keys().cloned().collect(),
                last,
                decided: unrecorded.into_iter().map(decided).collect(),
                ..State::default()
            }),
            storing: tokio::sync::Mutex::default(),
        }
    }

    /// Computes the difference to the text of the plugin's manifest that was recorded last, ahead of time: it takes long
    /// for long manifests, and bringing one into force must not. Blocks.
    pub(crate) fn prepare(&self, plugin: &str, text: &RedactedText) {
        let last = self.state.lock().last.get(&manifest_of(plugin)).cloned();
        if text.file.as_os_str().is_empty() || last.as_deref() == Some(&*text.digest) {
            return;
        }
        let former = last.as_ref().map(|digest| self.texts.read(digest));
        let former = match former {
            None => None,
            Some(Ok(Some(former))) => Some(former),
            // A missing text is reported when the change is recorded.
            Some(Ok(None) | Err(_)) => return,
        };
        let lines = differences(text.form, former.as_deref(), Some(&text.text));
        // Set once per text; a later value is dropped.
        drop(text.prepared.set((last, lines)));
    }

    /// The text in force of a manifest that awaits approval: the one recorded last, or the file's without the parts that
    /// wait. If neither is available, everything that is known of it.
    pub(crate) fn text_in_force(&self, base: &Manifest, of: &Manifest) -> RedactedText {
        let file = RedactedText::manifest(of, &self.fingerprints);
        let last = self.last(&manifest_of(&base.plugin));
        let last = last.and_then(|digest| self.texts.read(&digest).ok()?);
        let texts = last.into_iter().chain(narrowed(&file.text, base));
        let text = texts.into_iter().find(|text| grants_as(text, base));
        let text = text.unwrap_or_else(|| {
            let sealed = base.sealed(|location, value| sealed(&self.fingerprints, location, value));
            serde_json::to_string_pretty(&sealed).unwrap_or_default()
        });
        file.with_text(text)
    }

    /// Keeps the texts of settings. Blocks.
    pub(crate) fn keep_settings(&self, settings: Settings) -> EffectiveSettings {
        let guardrails_text = Arc::new(RedactedText::guardrails(&settings));
        let file = Arc::new(RedactedText::configuration(&settings, &self.fingerprints));
        for text in [&guardrails_text, &file] {
            self.keep(text);
        }
        let (configuration_text, configuration_pending) = match settings.sources.waits {
            Some(_) => (Arc::new(self.configuration_in_force(&file)), Some(file)),
            None => (file, None),
        };
        EffectiveSettings {
            settings,
            guardrails_text,
            configuration_text,
            configuration_pending,
        }
    }

    /// The text of the configuration in force while that of the file awaits approval: the one recorded last.
    fn configuration_in_force(&self, file: &RedactedText) -> RedactedText {
        let Some(digest) = self.last(CONFIGURATION) else {
            return file.with_text(String::new());
        };
        match self.texts.read(&digest) {
            Ok(Some(text)) => file.with_text(text),
            // The digest is known, even if the text is missing.
            Ok(None) | Err(_) => file.with_digest(&digest),
        }
    }

    fn last(&self, key: &str) -> Option<String> {
        self.state.lock().last.get(key).cloned()
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The digests of what is in force.
    pub(crate) fn digests(&self) -> Vec<String> {
        let state = self.state.lock();
        let digests = state.last.values().chain(state.pending.values());
        digests.cloned().collect()
    }

    /// Keeps a text. It comes into force even if it cannot be kept: a full disk must not block a change that narrows
    /// rights.
    pub(crate) fn keep(&self, text: &RedactedText) {
        if let Err(error) = self.texts.keep(text) {
            tracing::error!(
                target: "gate", file = %text.file.display(), digest = %text.digest, %error,
                "a text that is in force cannot be kept for the record in {}; see whether the disk is full",
                self.texts.folder().display()
            );
        }
    }

    /// Notes the approval of what comes into force next for a subject; `None` if it needed none.
    pub(crate) fn decided(
        &self,
        subject: qchost_ledger::Subject,
        name: &str,
        decided: Option<Decided>,
    ) {
        let key = match subject {
            qchost_ledger::Subject::Manifest => manifest_of(name),
            qchost_ledger::Subject::Guardrails => GUARDRAILS.to_owned(),
            qchost_ledger::Subject::Configuration => CONFIGURATION.to_owned(),
        };
        let mut state = self.state.lock();
        match decided {
            Some(decided) => drop(state.decided.insert(key, decided)),
            None => drop(state.decided.remove(&key)),
        }
    }

    /// User ids of the people who are asking for a reload now.
    pub(crate) fn requesters(&self) -> Vec<u32> {
        self.state.lock().requesters.clone()
    }

    /// Names a person as requester of the changes that are recorded while the guard lives.
    #[must_use]
    pub fn reload_asked_by(self: &Arc<Self>, uid: u32) -> RequesterGuard {
        self.state.lock().requesters.push(uid);
        RequesterGuard {
            changes: Arc::clone(self),
            uid,
        }
    }

    /// The change from the text recorded last, with its whole difference; `None` if they are equal. `settled`: nothing
    /// of it awaits approval, so what was approved is in force with it.
    fn since(
        &self,
        key: &str,
        settled: bool,
        former: Option<&RedactedText>,
        text: &RedactedText,
    ) -> Option<Change> {
        let (before, at_start, decided) = {
            let state = self.state.lock();
            let before = state.last.get(key).cloned();
            let decided = state.decided.get(key).cloned();
            (before, state.former.contains(key), decided)
        };
        let subject = match text.form {
            Form::Manifest => Subject::Manifest,
            Form::Configuration => Subject::Configuration,
            Form::Guardrails => Subject::Guardrails,
        };
        if before.as_deref() == Some(&*text.digest) {
            // An approval may concern what the text only refers to, such as a secret in a file.
            return decided.filter(|_| settled).map(|decided| Change {
                digest_before: before,
                difference: decided.lines,
                at_start,
                ..Change::from_text(subject, text)
            });
        }
        let former = former.filter(|former| before.as_deref() == Some(&*former.digest));
        let digest = before.clone();
        let (former, unknown) = match (former, &before) {
            (Some(former), _) => (Some(former.text.clone()), false),
            (None, Some(digest)) => match self.texts.read(digest) {
                Ok(Some(text)) => (Some(text), false),
                Ok(None) | Err(_) => (None, true),
            },
            (None, None) => (None, false),
        };
        Some(Change {
            digest_before: before,
            difference: text.differences_to(digest.as_deref(), || former),
            at_start,
            note: unknown.then(|| {
                "the former text is not kept, so all of the new one is shown as added".to_owned()
            }),
            ..Change::from_text(subject, text)
        })
    }

    /// What a new policy of a plugin changes.
    pub(crate) fn of_policy(
        &self,
        former: Option<&EffectivePolicy>,
        new: &EffectivePolicy,
    ) -> Noted {
        let mut noted = Noted::default();
        let (manifest, text) = (new.authority.manifest(), &new.authority.text);
        // Built-in texts change with the host only.
        if text.file.as_os_str().is_empty() {
            return noted;
        }
        let about = |change: Change| Change {
            plugin: Some(manifest.plugin.clone()),
            account: Some(manifest.account.clone()),
            ..change
        };
        let key = manifest_of(&manifest.plugin);
        let before = former.map(|former| &*former.authority.text);
        let settled = new.pending.is_none();
        if let Some(change) = self.since(&key, settled, before, text) {
            noted.changes.push(about(short(change)));
        }
        if settled {
            noted.settled.insert(key.clone());
        }
        noted.in_force(&key, text);
        let pending = |policy: &EffectivePolicy| {
            let waits = policy.pending_approval.as_deref().map(Waits::from);
            let pending = policy.pending.as_ref();
            pending.map(|pending| (Arc::clone(&pending.text), waits))
        };
        let (was, is) = (former.and_then(pending), pending(new));
        let until = "both manifests must allow a call";
        let changes = of_pending(Subject::Manifest, text, was, is.as_ref(), until);
        noted.changes.extend(changes.map(about));
        let digest = is.map(|(text, _)| text.digest.to_string());
        noted.pending.insert(manifest_of(&manifest.plugin), digest);
        noted
    }

    /// The change when a plugin loses its policy.
    pub(crate) fn of_removal(&self, former: &EffectivePolicy) -> Noted {
        let (manifest, text) = (former.authority.manifest(), &former.authority.text);
        if text.file.as_os_str().is_empty() {
            return Noted::default();
        }
        let change = Change {
            plugin: Some(manifest.plugin.clone()),
            account: Some(manifest.account.clone()),
            digest_before: Some(text.digest.to_string()),
            digest_after: None,
            difference: difference(Form::Manifest, Some(&text.text), None),
            ..Change::from_text(Subject::Manifest, text)
        };
        let gone = [
            manifest_of(&manifest.plugin),
            component_of(&manifest.plugin),
        ];
        Noted {
            changes: vec![change],
            digests: gone.map(|key| (key, None)).into(),
            pending: [(manifest_of(&manifest.plugin), None)].into(),
            ..Noted::default()
        }
    }

    /// What new rules change.
    pub(crate) fn of_rules(
        &self,
        former: Option<&EffectiveSettings>,
        new: &EffectiveSettings,
    ) -> Noted {
        let mut noted = Noted::default();
        let guardrails = &new.guardrails_text;
        let before = former.map(|former| &*former.guardrails_text);
        if !new.sources.stand_in {
            let change = self.since(GUARDRAILS, false, before, guardrails);
            noted.changes.extend(change.map(short));
            noted.in_force(GUARDRAILS, guardrails);
        }
        let configuration = &new.configuration_text;
        let before = former.map(|former| &*former.configuration_text);
        let settled = new.configuration_pending.is_none();
        if settled {
            noted.settled.insert(CONFIGURATION.to_owned());
        }
        if let Some(change) = self.since(CONFIGURATION, settled, before, configuration) {
            noted.changes.extend(split(change).into_iter().map(short));
        }
        let pending = |rules: &EffectiveSettings| {
            let pending = rules.configuration_pending.as_ref();
            pending.map(|pending| (Arc::clone(pending), rules.sources.waits.clone()))
        };
        let (was, is) = (former.and_then(pending), pending(new));
        let digest = is.as_ref().map(|(text, _)| text.digest.to_string());
        noted.pending.insert(CONFIGURATION.to_owned(), digest);
        // Right after a start the approval that it waits for is not known yet; it is recorded once it is.
        let is_known = |(_, waits): &&(Arc<RedactedText>, Option<Waits>)| {
            let approval = waits.as_ref().map(|waits| waits.approval.is_some());
            approval.unwrap_or(true)
        };
        if is.as_ref().is_none_or(|is| is_known(&is)) {
            let until = "only what both configurations give is given";
            let of = Subject::Configuration;
            let change = of_pending(of, configuration, was, is.as_ref(), until);
            noted.changes.extend(change.into_iter().flat_map(split));
        }
        noted.in_force(CONFIGURATION, configuration);
        noted
    }

    /// The change when a component starts to serve a plugin.
    fn of_component(&self, change: Change, plugin: &str, digest: &str) -> Noted {
        let key = component_of(plugin);
        let (before, at_start) = {
            let state = self.state.lock();
            (state.last.get(&key).cloned(), state.former.contains(&key))
        };
        let mut noted = Noted::default();
        if before.as_deref() != Some(digest) {
            noted.changes.push(Change {
                plugin: Some(plugin.to_owned()),
                digest_before: before,
                digest_after: Some(digest.to_owned()),
                at_start,
                ..change
            });
        }
        noted.digests.insert(key, Some(digest.to_owned()));
        noted
    }

    /// Records that a component serves a plugin from now on. `owner`: the user id of the owner of its file.
    pub fn note_component(self: &Arc<Self>, manifest: &Manifest, digest: &str, owner: Option<u32>) {
        let change = Change {
            account: Some(manifest.account.clone()),
            file: Some(manifest.component.display().to_string()),
            owners: owner.into_iter().collect(),
            ..Change::of(Subject::Component)
        };
        self.note(self.of_component(change, &manifest.plugin, digest));
        self.store_soon();
    }

    /// Records that a plugin is quarantined because it keeps failing, with the reason; or, without a reason, that the
    /// quarantine ended.
    pub fn note_quarantine(&self, plugin: &str, digest: &str, reason: Option<String>) {
        let reason = reason.map(|reason| one_line(&reason));
        let digest = Some(digest.to_owned());
        let (before, after) = match reason {
            Some(_) => (None, digest),
            None => (digest, None),
        };
        let change = Change {
            plugin: Some(plugin.to_owned()),
            digest_before: before,
            digest_after: after,
            note: Some(reason.unwrap_or_else(|| "released: an invocation went well".to_owned())),
            ..Change::of(Subject::Quarantine)
        };
        self.audit.note(Entry {
            // The plugin can cause it at will.
            essential: false,
            ..change.entry()
        });
    }

    /// Called once everything that the files ask for is loaded: what was in force when the last run ended, and is not
    /// now, is recorded as removed.
    pub fn loaded(self: &Arc<Self>) {
        self.note(self.of_former_runs());
        self.store_soon();
    }

    /// What was in force in a former run and is not in this one, once everything has been loaded.
    fn of_former_runs(&self) -> Noted {
        let mut noted = Noted::default();
        let gone: Vec<(String, String)> = {
            let mut state = self.state.lock();
            let former = std::mem::take(&mut state.former);
            let last = &state.last;
            let gone = former.into_iter();
            gone.filter_map(|key| Some((key.clone(), last.get(&key)?.clone())))
                .collect()
        };
        for (key, digest) in gone {
            if let Some(plugin) = key.strip_prefix("manifest ") {
                let text = self.texts.read(&digest).ok().flatten();
                noted.changes.push(Change {
                    plugin: Some(plugin.to_owned()),
                    digest_before: Some(digest),
                    difference: difference(Form::Manifest, text.as_deref(), None),
                    at_start: true,
                    ..Change::of(Subject::Manifest)
                });
            }
            noted.digests.insert(key, None);
        }
        noted
    }

    /// Takes out the changes that must be recorded before they are made, with their requesters.
    pub(crate) fn attributed(&self, noted: &mut Noted) -> Vec<Change> {
        let mut changes = std::mem::take(&mut noted.changes);
        let state = self.state.lock();
        for change in &mut changes {
            change.asked_by.extend(&state.requesters);
            let decided = change.key().and_then(|key| state.decided.get(&key));
            // Pending changes are not approved yet, and removals need no approval.
            if let Some(decided) = decided
                && !change.pending
                && change.digest_after.is_some()
            {
                change.by = Some(decided.by.clone());
                change.approval = Some(decided.approval.clone());
            }
        }
        changes
    }

    /// Notes changes in the audit. Never waits, so it can be called where the change is made.
    pub(crate) fn note(&self, noted: Noted) {
        let mut noted = noted;
        let changes = self.attributed(&mut noted);
        {
            let mut state = self.state.lock();
            for (key, digest) in noted.pending {
                match digest {
                    Some(digest) => drop(state.pending.insert(key, digest)),
                    None => drop(state.pending.remove(&key)),
                }
            }
            for (key, digest) in noted.digests {
                state.former.remove(&key);
                let same = state.last.get(&key) == digest.as_ref();
                let is_new = !same || noted.settled.contains(&key);
                let decided = is_new && state.decided.remove(&key).is_some();
                if same && !decided {
                    continue;
                }
                match &digest {
                    Some(digest) => drop(state.last.insert(key.clone(), digest.clone())),
                    None => drop(state.last.remove(&key)),
                }
                state.unstored.insert(key, digest);
            }
        }
        for change in &changes {
            self.audit.note(change.entry());
        }
    }

    /// Stores noted digests in the ledger once the note is on disk.
    pub(crate) fn store_soon(self: &Arc<Self>) {
        if self.state.lock().unstored.is_empty() {
            return;
        }
        // Without a runtime nothing is stored; the next start records the change again.
        if let Ok(runtime) = Handle::try_current() {
            let changes = Arc::clone(self);
            self.tasks
                .spawn_on(async move { changes.store().await }, &runtime);
        }
    }

    async fn store(&self) {
        let _storing = self.storing.lock().await;
        let unstored = std::mem::take(&mut self.state.lock().unstored);
        if unstored.is_empty() {
            return;
        }
        let stored = match self.audit.flush().await {
            Ok(()) => {
                let stored = self.ledger.set_recorded(unstored.clone(), now()).await;
                stored.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = stored {
            tracing::warn!(target: "gate", error, "what is in force now is not remembered; a later change or the next start records it again");
            let mut state = self.state.lock();
            for (key, digest) in unstored {
                state.unstored.entry(key).or_insert(digest);
            }
        }
    }
}

/// While it lives, changes name the person who asked for the reload.
#[derive(Debug)]
pub struct RequesterGuard {
    changes: Arc<Changes>,
    uid: u32,
}

impl Drop for RequesterGuard {
    fn drop(&mut self) {
        let mut state = self.changes.state.lock();
        if let Some(at) = state.requesters.iter().position(|uid| *uid == self.uid) {
            state.requesters.remove(at);
        }
    }
}

fn short(change: Change) -> Change {
    Change {
        difference: bounded(change.difference),
        ..change
    }
}

/// The change of a text that only restricts, beside the one in force; `None` if it is unchanged and waits for the same
/// approval.
fn of_pending(
    subject: Subject,
    in_force: &RedactedText,
    was: Option<(Arc<RedactedText>, Option<Waits>)>,
    is: Option<&(Arc<RedactedText>, Option<Waits>)>,
    until: &str,
) -> Option<Change> {
    let Some((is, waits)) = is else {
        let (was, _) = was.filter(|(was, _)| was.digest != in_force.digest)?;
        return Some(Change {
            digest_before: Some(was.digest.to_string()),
            pending: true,
            note: Some(format!(
                "what was changed of the {subject} restricts no longer"
            )),
            ..Change::from_text(subject, in_force)
        });
    };
    let same = |(was, waited): &(Arc<RedactedText>, Option<Waits>)| {
        was.digest == is.digest && waited == waits
    };
    if was.as_ref().is_some_and(same) {
        return None;
    }
    let note = match waits {
        None => format!("it does not serve yet: until then {until}"),
        Some(Waits { refused: true, .. }) => format!("a person said no to it: {until}"),
        Some(_) => format!("it waits for a person: until then {until}"),
    };
    let former = || Some(in_force.text.clone());
    Some(Change {
        digest_before: Some(in_force.digest.to_string()),
        approval: waits.as_ref().and_then(|waits| waits.approval.clone()),
        pending: true,
        difference: bounded(is.differences_to(Some(&in_force.digest), former)),
        note: Some(note),
        ..Change::from_text(subject, is)
    })
}

/// Splits a change of the configuration into one record each for people, profiles and the rest.
fn split(change: Change) -> Vec<Change> {
    let of = |subject: Subject, table: &str| {
        let prefixes = ["+ ", "~ ", "- "].map(|sign| format!("{sign}{table}."));
        (subject, prefixes)
    };
    let parts = [
        of(Subject::People, "people"),
        of(Subject::Profiles, "brokerage"),
    ];
    let mut rest = change.difference.clone();
    let mut split = Vec::new();
    for (subject, prefixes) in parts {
        let is = |line: &String| prefixes.iter().any(|prefix| line.starts_with(prefix));
        let (lines, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is);
        rest = others;
        if !lines.is_empty() {
            split.push(Change {
                subject,
                difference: lines,
                ..change.clone()
            });
        }
    }
    if !rest.is_empty() || split.is_empty() {
        split.insert(
            0,
            Change {
                difference: rest,
                ..change
            },
        );
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_profiles_are_changes_of_their_own() {
        let lines = [
            "+ people.eve.roles = [\"admin\"]",
            "~ brokerage.ib.pin: \"keyed:a\" → \"keyed:b\"",
            "+ two-person = true",
        ];
        let change = Change {
            difference: lines.map(str::to_owned).to_vec(),
            ..Change::of(Subject::Configuration)
        };
        let subjects = |changes: Vec<Change>| {
            let each = changes.into_iter();
            each.map(|change| (change.subject, change.difference))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            subjects(split(change.clone())),
            [
                (Subject::Configuration, vec![lines[2].to_owned()]),
                (Subject::People, vec![lines[0].to_owned()]),
                (Subject::Profiles, vec![lines[1].to_owned()]),
            ]
        );
        let only_people = Change {
            difference: vec![lines[0].to_owned()],
            ..change.clone()
        };
        assert_eq!(
            subjects(split(only_people)),
            [(Subject::People, vec![lines[0].to_owned()])]
        );
        let nothing = Change {
            difference: Vec::new(),
            ..change
        };
        assert_eq!(
            subjects(split(nothing)),
            [(Subject::Configuration, Vec::new())]
        );
    }
}
