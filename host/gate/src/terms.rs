//! The terms that calls are decided by: the settings, and for each plugin the authority of its manifest and that of
//! a changed manifest which does not serve yet.
//!
//! A call holds the terms of its decision, so that the whole decision sees one state; right before it is sent, the
//! gate checks whether they are still in force.
//!
//! Invariant: terms are immutable. A change of an authority or of the settings replaces the terms of all plugins in
//! one step. No lock is held while policies are compiled: that is done before ([`Enforceable`]), and terms that were
//! compiled under other settings than those in force are rejected.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use qchost_policy::{Authority, Manifest, PolicyError};
use tokio::sync::watch;

use crate::changes::{Changes, Noted};
use crate::in_force::HeldBack;
use crate::kept::Kept;
use crate::settings::Settings;

/// The settings, with the texts they come from.
#[derive(Debug)]
pub(crate) struct Rules {
    settings: Settings,
    pub guardrails_text: Arc<Kept>,
    /// The text in force. While the file's text awaits approval, the former one.
    pub configuration_text: Arc<Kept>,
    /// The file's text, while it awaits approval.
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

/// What a manifest grants under the guardrails, with its text.
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

/// The terms of one plugin's calls.
#[derive(Debug)]
pub(crate) struct Terms {
    pub settings: Arc<Rules>,
    /// The authority of the manifest whose component serves.
    pub authority: Arc<Granted>,
    /// The authority of a changed manifest whose component does not serve yet, or which awaits approval: it must
    /// allow a call too.
    pub pending: Option<Arc<Granted>>,
    /// The approval that the changed manifest waits for, if it does.
    pub held: Option<Arc<HeldBack>>,
}

impl Terms {
    /// All authorities that must allow a call.
    pub fn authorities(&self) -> impl Iterator<Item = &Arc<Granted>> {
        std::iter::once(&self.authority).chain(&self.pending)
    }

    /// The authority of this manifest, if it is one of these: compared by content and by text.
    fn of(&self, manifest: &Manifest) -> Option<&Arc<Granted>> {
        self.authorities().find(|authority| {
            let known = authority.manifest();
            **known == *manifest && known.origin.text == manifest.origin.text
        })
    }
}

/// The terms in force.
pub(crate) struct InForce {
    /// Records every change of the terms.
    changes: Arc<Changes>,
    state: RwLock<State>,
    /// Incremented with every change.
    changed: watch::Sender<u64>,
}

/// The authority that is to serve, the one that must agree, and what that waits for.
type Next = (Arc<Granted>, Option<Arc<Granted>>, Option<Arc<HeldBack>>);

struct State {
    settings: Arc<Rules>,
    plugins: HashMap<String, Arc<Terms>>,
}

/// A manifest compiled together with the guardrails, ready to come into force.
#[derive(Debug)]
pub struct Enforceable {
    /// The settings it was compiled under.
    settings: Arc<Rules>,
    authority: Arc<Granted>,
    /// The authority that must agree, and what it waits for.
    held: Option<(Arc<Granted>, Arc<HeldBack>)>,
}

/// New settings, with the terms that every plugin gets under them and those it had when they were compiled.
pub(crate) struct Prepared {
    settings: Arc<Rules>,
    plugins: HashMap<String, (Arc<Terms>, Arc<Terms>)>,
}

impl InForce {
    /// Nothing is granted yet. The change of the settings is recorded.
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
        self.state.read()
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
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

    /// Replaces the authorities of a manifest's plugin, unless `None` is given.
    fn change(
        &self,
        new: &Enforceable,
        to: impl Fn(Option<&Terms>, Arc<Granted>) -> Option<Next>,
    ) -> bool {
        let plugin = new.authority.manifest().plugin.as_str();
        loop {
            let former = self.of(plugin);
            // The same manifest may have been compiled twice; the one in force stays.
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
            // Computing the difference takes long, so it is done before the lock is taken.
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

    /// Removes all authority of a plugin.
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

    /// Compiles what changed in the meantime.
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

    /// The changes that new settings make, for their record.
    pub fn differences(&self, new: &Rules) -> Noted {
        self.changes.of_rules(Some(&self.settings()), new)
    }

    /// Brings new settings into force; their changes were recorded before, and `noted` is remembered as the last
    /// record.
    ///
    /// # Errors
    /// When a manifest that was installed since they were prepared cannot be compiled under them; nothing has
    /// changed then.
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
    /// Compiles a manifest and keeps its text. Slow.
    pub(crate) fn compile(
        manifest: Manifest,
        settings: Arc<Rules>,
        changes: &Changes,
    ) -> Result<Self, PolicyError> {
        let text = Kept::manifest(&manifest, &changes.prints);
        Self::of_text(manifest, text, settings, changes)
    }

    /// Compiles what is in force of a manifest that awaits approval, and keeps its text.
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

    /// Uses this as the base of a manifest that awaits approval; `None` if the two were compiled under different
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

/// Whether the terms of a plugin are unchanged.
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
