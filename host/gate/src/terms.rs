//! The terms that calls are decided by: the settings, and for each plugin its manifest's authority and
//! that of a changed manifest which does not serve yet.
//!
//! A call holds the terms of its decision, so that all of the decision sees one state; right before it
//! is sent, it is looked whether they are still in force.
//!
//! Invariant: terms never change. Whatever changes an authority or the settings puts new terms in the
//! place of the old ones, for all plugins in one step. No lock is held while policies are compiled: that is
//! done before ([`Enforceable`]), and no terms come into force that were compiled under other settings than
//! those that are in force by then.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use qchost_policy::{Authority, Manifest, PolicyError};
use tokio::sync::watch;

use crate::changes::{Changes, Noted};
use crate::in_force::HeldBack;
use crate::kept::Kept;
use crate::settings::Settings;

/// The settings, with the texts that they come from.
#[derive(Debug)]
pub(crate) struct Rules {
    settings: Settings,
    pub guardrails_text: Arc<Kept>,
    /// The text in force. Where the file's waits for a person, the one before.
    pub configuration_text: Arc<Kept>,
    /// The file's text, where it waits for a person.
    pub configuration_pending: Option<Arc<Kept>>,
}

impl Rules {
    /// Keeps the texts of settings. Blocks.
    pub fn new(settings: Settings, changes: &Changes) -> Self {
        let guardrails_text = Arc::new(Kept::guardrails(&settings));
        let file = Arc::new(Kept::configuration(&settings, &changes.prints));
        for text in [&guardrails_text, &file] {
            changes.keep(text);
        }
        let (configuration_text, configuration_pending) = match settings.sources.waits {
            Some(_) => (Arc::new(changes.configuration_in_force(&file)), Some(file)),
            None => (file, None),
        };
        Self {
            settings,
            guardrails_text,
            configuration_text,
            configuration_pending,
        }
    }
}

impl Deref for Rules {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

/// What a manifest grants under the guardrails, with the text that it comes from.
#[derive(Debug)]
pub(crate) struct Granted {
    authority: Authority,
    pub text: Arc<Kept>,
}

impl Deref for Granted {
    type Target = Authority;

    fn deref(&self) -> &Authority {
        &self.authority
    }
}

/// What the calls of one plugin are decided by.
#[derive(Debug)]
pub(crate) struct Terms {
    pub settings: Arc<Rules>,
    /// What the manifest grants whose component serves.
    pub authority: Arc<Granted>,
    /// What a changed manifest grants whose component does not serve yet, or which waits for a person: it must allow
    /// a call too.
    pub pending: Option<Arc<Granted>>,
    /// What the changed manifest waits for, if it waits for a person.
    pub held: Option<Arc<HeldBack>>,
}

impl Terms {
    /// All that must allow a call.
    pub fn authorities(&self) -> impl Iterator<Item = &Arc<Granted>> {
        std::iter::once(&self.authority).chain(&self.pending)
    }

    /// The authority of a manifest, if it is one of these: by what it says and by its text.
    fn of(&self, manifest: &Manifest) -> Option<&Arc<Granted>> {
        self.authorities().find(|authority| {
            let known = authority.manifest();
            **known == *manifest && known.origin.text == manifest.origin.text
        })
    }
}

/// The terms that are in force.
pub(crate) struct InForce {
    /// Where every change of it is recorded.
    changes: Arc<Changes>,
    state: RwLock<State>,
    /// Counts changes.
    changed: watch::Sender<u64>,
}

/// What is to serve, what must allow a call too, and what that waits for.
type Next = (Arc<Granted>, Option<Arc<Granted>>, Option<Arc<HeldBack>>);

struct State {
    settings: Arc<Rules>,
    plugins: HashMap<String, Arc<Terms>>,
}

/// A manifest, compiled together with the guardrails: what takes long is done, and it can come into force.
#[derive(Debug)]
pub struct Enforceable {
    /// The settings of then, whose guardrails they are.
    settings: Arc<Rules>,
    authority: Arc<Granted>,
    /// What must allow a call too, and what it waits for.
    held: Option<(Arc<Granted>, Arc<HeldBack>)>,
}

/// New settings, with the terms that every plugin will have under them and those that it had when they
/// were compiled.
pub(crate) struct Prepared {
    settings: Arc<Rules>,
    plugins: HashMap<String, (Arc<Terms>, Arc<Terms>)>,
}

impl InForce {
    /// Nothing is granted yet. What the settings change is recorded.
    pub fn new(rules: Rules, changes: Arc<Changes>) -> Self {
        changes.note(changes.of_rules(None, &rules));
        changes.store_soon();
        Self {
            changes,
            state: RwLock::new(State {
                settings: Arc::new(rules),
                plugins: HashMap::new(),
            }),
            changed: watch::Sender::new(0),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings.
    pub fn settings(&self) -> Arc<Rules> {
        Arc::clone(&self.state().settings)
    }

    /// The terms of a plugin.
    pub fn of(&self, plugin: &str) -> Option<Arc<Terms>> {
        self.state().plugins.get(plugin).cloned()
    }

    /// Whether these are still the terms of a plugin.
    pub fn hold(&self, plugin: &str, terms: &Arc<Terms>) -> bool {
        let state = self.state();
        let current = state.plugins.get(plugin);
        current.is_some_and(|current| Arc::ptr_eq(current, terms))
    }

    /// Whether some plugin's manifest is so.
    pub fn any(&self, is: impl Fn(&Manifest) -> bool) -> bool {
        let state = self.state();
        let mut terms = state.plugins.values();
        terms.any(|terms| is(terms.authority.manifest()))
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn notify(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A manifest that is in force already, compiled as it is; or else the settings to compile it under.
    pub fn known(&self, manifest: &Manifest) -> Result<Enforceable, Arc<Rules>> {
        let state = self.state();
        let settings = Arc::clone(&state.settings);
        let terms = state.plugins.get(&manifest.plugin);
        match terms.and_then(|terms| terms.of(manifest)) {
            Some(authority) => Ok(Enforceable {
                settings,
                authority: Arc::clone(authority),
                held: None,
            }),
            None => Err(settings),
        }
    }

    /// Makes a manifest the authority of its plugin, and the only one. Nothing changes, and `false` is
    /// said, where the settings are others by now than those that it was compiled under.
    pub fn install(&self, new: &Enforceable) -> bool {
        self.change(new, |_, authority| {
            let (pending, held) = new.held.clone().unzip();
            Some((authority, pending, held))
        })
    }

    /// Has a manifest agree to whatever its plugin does, until the next one is installed. One that is in
    /// force already has nothing to add. `false` as for [`install`](Self::install).
    pub fn restrict(&self, new: &Enforceable) -> bool {
        self.change(new, |former, authority| {
            let serving = Arc::clone(&former?.authority);
            let pending = (!Arc::ptr_eq(&serving, &authority)).then_some(authority);
            let waits = match (&former?.pending, &pending) {
                (Some(former), Some(pending)) => Arc::ptr_eq(former, pending),
                _ => false,
            };
            let held = former?.held.clone().filter(|_| waits);
            Some((serving, pending, held))
        })
    }

    /// Changes the authorities of a manifest's plugin; not where nothing is given.
    fn change(
        &self,
        new: &Enforceable,
        to: impl Fn(Option<&Terms>, Arc<Granted>) -> Option<Next>,
    ) -> bool {
        let plugin = new.authority.manifest().plugin.as_str();
        loop {
            let former = self.of(plugin);
            // The same manifest may have been compiled twice; what is in force stays.
            let compiled = former
                .as_ref()
                .and_then(|former| former.of(new.authority.manifest()));
            let compiled = Arc::clone(compiled.unwrap_or(&new.authority));
            let terms = to(former.as_deref(), compiled).map(|(authority, pending, held)| Terms {
                settings: Arc::clone(&new.settings),
                authority,
                pending,
                held,
            });
            let same = |terms: &Terms| {
                former.as_ref().is_some_and(|former| {
                    Arc::ptr_eq(&former.authority, &terms.authority)
                        && former.held == terms.held
                        && match (&former.pending, &terms.pending) {
                            (Some(former), Some(pending)) => Arc::ptr_eq(former, pending),
                            (None, None) => true,
                            _ => false,
                        }
                })
            };
            let changed = terms.filter(|terms| !same(terms));
            // The difference takes long to find, so it is found before anybody has to wait for the lock.
            let noted = changed
                .as_ref()
                .map(|terms| self.changes.of_terms(former.as_deref(), terms));
            let mut state = self.state_mut();
            if !Arc::ptr_eq(&state.settings, &new.settings) {
                return false;
            }
            if !is_still(state.plugins.get(plugin), former.as_ref()) {
                continue;
            }
            let Some(terms) = changed else {
                return true;
            };
            state.plugins.insert(plugin.to_owned(), Arc::new(terms));
            // Before any call can be decided by it.
            self.changes.note(noted.unwrap_or_default());
            drop(state);
            self.notify();
            self.changes.store_soon();
            return true;
        }
    }

    /// Takes all authority away from a plugin.
    pub fn remove(&self, plugin: &str) {
        while let Some(former) = self.of(plugin) {
            let noted = self.changes.of_removal(&former);
            let mut state = self.state_mut();
            if is_still(state.plugins.get(plugin), Some(&former)) {
                state.plugins.remove(plugin);
                self.changes.note(noted);
                break;
            }
        }
        self.notify();
        self.changes.store_soon();
    }

    /// Compiles what is in force under new settings.
    pub fn prepare(&self, settings: Arc<Rules>) -> Result<Prepared, PolicyError> {
        let mut prepared = Prepared {
            settings,
            plugins: HashMap::new(),
        };
        self.catch_up(&mut prepared)?;
        Ok(prepared)
    }

    /// Compiles what changed since.
    fn catch_up(&self, prepared: &mut Prepared) -> Result<(), PolicyError> {
        let (former, stale) = {
            let state = self.state();
            let stale: Vec<(String, Arc<Terms>)> = state
                .plugins
                .iter()
                .filter(|(plugin, terms)| !prepared.is_for(plugin, terms))
                .map(|(plugin, terms)| (plugin.clone(), Arc::clone(terms)))
                .collect();
            (Arc::clone(&state.settings), stale)
        };
        let guardrails = &prepared.settings.guardrails;
        let same = former.guardrails.revision() == guardrails.revision();
        for (plugin, former) in stale {
            let compiled = |granted: &Arc<Granted>| {
                if same {
                    return Ok(Arc::clone(granted));
                }
                let authority = Authority::new(Arc::clone(granted.manifest()), guardrails)?;
                let text = Arc::clone(&granted.text);
                Ok(Arc::new(Granted { authority, text }))
            };
            let terms = Terms {
                settings: Arc::clone(&prepared.settings),
                authority: compiled(&former.authority)?,
                pending: former.pending.as_ref().map(compiled).transpose()?,
                held: former.held.clone(),
            };
            prepared.plugins.insert(plugin, (former, Arc::new(terms)));
        }
        Ok(())
    }

    /// What new settings change, for the record of it.
    pub fn differences(&self, new: &Rules) -> Noted {
        self.changes.of_rules(Some(&self.settings()), new)
    }

    /// Brings new settings into force; what they change was recorded before, and is `noted` from then on.
    ///
    /// # Errors
    /// When a manifest that was installed since they were prepared cannot be compiled under them;
    /// nothing has changed then.
    pub fn commit(&self, mut prepared: Prepared, noted: Noted) -> Result<(), PolicyError> {
        loop {
            let mut state = self.state_mut();
            let mut all = state.plugins.iter();
            if all.all(|(plugin, terms)| prepared.is_for(plugin, terms)) {
                for (plugin, terms) in &mut state.plugins {
                    if let Some((_, fresh)) = prepared.plugins.get(plugin) {
                        *terms = Arc::clone(fresh);
                    }
                }
                state.settings = prepared.settings;
                break;
            }
            drop(state);
            self.catch_up(&mut prepared)?;
        }
        self.changes.note(noted);
        self.notify();
        self.changes.store_soon();
        Ok(())
    }
}

impl Enforceable {
    /// Compiles a manifest and keeps its text. This takes long.
    pub(crate) fn compile(
        manifest: Manifest,
        settings: Arc<Rules>,
        changes: &Changes,
    ) -> Result<Self, PolicyError> {
        let text = Kept::manifest(&manifest, &changes.prints);
        Self::of_text(manifest, text, settings, changes)
    }

    /// Compiles what is in force of a manifest that waits for a person, and keeps its text.
    pub(crate) fn compile_base(
        base: Manifest,
        of: &Manifest,
        settings: Arc<Rules>,
        changes: &Changes,
    ) -> Result<Self, PolicyError> {
        let text = changes.text_in_force(&base, of);
        Self::of_text(base, text, settings, changes)
    }

    fn of_text(
        manifest: Manifest,
        text: Kept,
        settings: Arc<Rules>,
        changes: &Changes,
    ) -> Result<Self, PolicyError> {
        let text = Arc::new(text);
        let authority = Authority::new(Arc::new(manifest), &settings.guardrails)?;
        changes.keep(&text);
        changes.prepare(&authority.manifest().plugin, &text);
        Ok(Self {
            settings,
            authority: Arc::new(Granted { authority, text }),
            held: None,
        })
    }

    /// This as the base of a manifest that waits for a person; nothing where the two were compiled under different
    /// settings.
    pub(crate) fn held_to(self, manifest: &Self, held: &HeldBack) -> Option<Self> {
        if !Arc::ptr_eq(&self.settings, &manifest.settings) {
            return None;
        }
        let held = (Arc::clone(&manifest.authority), Arc::new(held.clone()));
        Some(Self {
            held: Some(held),
            ..self
        })
    }
}

/// Whether the terms of a plugin are the ones that they were.
fn is_still(current: Option<&Arc<Terms>>, former: Option<&Arc<Terms>>) -> bool {
    match (current, former) {
        (Some(current), Some(former)) => Arc::ptr_eq(current, former),
        (None, None) => true,
        _ => false,
    }
}

impl Prepared {
    fn is_for(&self, plugin: &str, terms: &Arc<Terms>) -> bool {
        let prepared = self.plugins.get(plugin);
        prepared.is_some_and(|(former, _)| Arc::ptr_eq(former, terms))
    }
}
