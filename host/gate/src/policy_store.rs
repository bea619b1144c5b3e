//! The policies in force: replaced as a whole when a manifest, the guardrails or the settings change.
//!
//! A call holds the policy of its decision; right before it is sent, the gate checks whether that is still in force.
//!
//! Invariant: a change of an authority or of the settings replaces the policies that it concerns in one step. No lock is
//! held while policies are compiled: that is done before ([`CompiledPolicy`]), and what was compiled under other settings
//! than those in force is rejected.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use qchost_policy::{Authority, Manifest, PolicyError};

use crate::change_signal::ChangeSignal;
use crate::changes::{Changes, Noted};
use crate::error::GateError;
use crate::policy::{EffectivePolicy, EffectiveSettings, Granted};
use crate::proposal::PendingApproval;
use crate::redacted_text::RedactedText;

/// The policies in force.
pub struct PolicyStore {
    /// Records every change of the policies.
    changes: Arc<Changes>,
    state: RwLock<State>,
    /// Announces every change.
    changed: ChangeSignal,
}

/// The serving authority, the pending authority, and the approval that one waits for.
type Next = (
    Arc<Granted>,
    Option<Arc<Granted>>,
    Option<Arc<PendingApproval>>,
);

struct State {
    settings: Arc<EffectiveSettings>,
    plugins: HashMap<String, Arc<EffectivePolicy>>,
}

/// A manifest compiled together with the guardrails, ready to come into force.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// The settings it was compiled under.
    settings: Arc<EffectiveSettings>,
    authority: Arc<Granted>,
    /// The pending authority, and the approval it waits for.
    pending: Option<(Arc<Granted>, Arc<PendingApproval>)>,
}

/// New settings, with the policies that every plugin gets under them and those it had when they were compiled.
pub(crate) struct Prepared {
    settings: Arc<EffectiveSettings>,
    plugins: HashMap<String, (Arc<EffectivePolicy>, Arc<EffectivePolicy>)>,
}

impl PolicyStore {
    /// Nothing is granted yet. The change of the settings is recorded.
    pub(crate) fn new(rules: EffectiveSettings, changes: Arc<Changes>) -> Self {
        changes.note(changes.of_rules(None, &rules));
        changes.store_soon();
        Self {
            changes,
            state: RwLock::new(State {
                settings: Arc::new(rules),
                plugins: HashMap::new(),
            }),
            changed: ChangeSignal::default(),
        }
    }

    /// The settings.
    pub(crate) fn settings(&self) -> Arc<EffectiveSettings> {
        Arc::clone(&self.state.read().settings)
    }

    /// The policy of a plugin.
    pub(crate) fn of(&self, plugin: &str) -> Option<Arc<EffectivePolicy>> {
        self.state.read().plugins.get(plugin).cloned()
    }

    /// The manifest of a plugin whose component serves.
    #[must_use]
    pub fn manifest(&self, plugin: &str) -> Option<Arc<Manifest>> {
        let policy = self.of(plugin)?;
        Some(Arc::clone(policy.authority.manifest()))
    }

    /// Whether there is an account of this name, in force or dormant.
    #[must_use]
    pub fn has_account(&self, account: &str) -> bool {
        self.settings().has_account(account)
    }

    /// Whether this is still the policy of a plugin.
    pub(crate) fn hold(&self, plugin: &str, policy: &Arc<EffectivePolicy>) -> bool {
        let state = self.state.read();
        is_same(state.plugins.get(plugin), Some(policy))
    }

    /// Whether `predicate` holds for any plugin's manifest.
    pub(crate) fn any(&self, predicate: impl Fn(&Manifest) -> bool) -> bool {
        let state = self.state.read();
        let mut policy = state.plugins.values();
        policy.any(|policy| predicate(policy.authority.manifest()))
    }

    /// Waits until the evaluation finds something: now, or after a change of any policy.
    pub(crate) async fn until<T>(&self, found: impl Fn() -> Option<T>) -> T {
        self.changed.until(found).await
    }

    /// The compiled policy if this manifest is already in force; otherwise the settings to compile it under.
    pub(crate) fn known(
        &self,
        manifest: &Manifest,
    ) -> Result<CompiledPolicy, Arc<EffectiveSettings>> {
        let state = self.state.read();
        let settings = Arc::clone(&state.settings);
        let policy = state.plugins.get(&manifest.plugin);
        match policy.and_then(|policy| policy.of(manifest)) {
            Some(authority) => Ok(CompiledPolicy {
                settings,
                authority: Arc::clone(authority),
                pending: None,
            }),
            None => Err(settings),
        }
    }

    /// Makes a manifest the only authority of its plugin, from the next call on. A manifest that is in force already, or
    /// that the plugin was restricted to, is not compiled again; any other is compiled on this thread, so callers that
    /// also serve calls [prepare](Self::prepare) it first.
    ///
    /// # Errors
    /// When it cannot be compiled together with the guardrails; the former manifest stays in force then.
    pub fn install(&self, manifest: Manifest) -> Result<(), PolicyError> {
        loop {
            let known = self.known(&manifest);
            let changes = &self.changes;
            let new = known
                .or_else(|under| CompiledPolicy::compile(manifest.clone(), None, under, changes))?;
            if self.enforce(&new) {
                return Ok(());
            }
        }
    }

    /// Compiles a manifest on a thread that may block, unless it is compiled already. It changes nothing;
    /// [`enforce`](Self::enforce) does.
    ///
    /// # Errors
    /// When it cannot be compiled together with the guardrails.
    pub async fn prepare(&self, manifest: Manifest) -> Result<CompiledPolicy, GateError> {
        self.compiled(manifest, None).await
    }

    /// A manifest compiled as [`CompiledPolicy::compile`] does, unless it is in force already.
    async fn compiled(
        &self,
        manifest: Manifest,
        base_of: Option<&Manifest>,
    ) -> Result<CompiledPolicy, GateError> {
        match self.known(&manifest) {
            Ok(known) => Ok(known),
            Err(under) => {
                let (base_of, changes) = (base_of.cloned(), Arc::clone(&self.changes));
                let compile =
                    move || CompiledPolicy::compile(manifest, base_of.as_ref(), under, &changes);
                blocking(compile).await
            }
        }
    }

    /// Compiles a manifest of which a part awaits approval, with the base that applies until then.
    ///
    /// # Errors
    /// When one of them cannot be compiled together with the guardrails.
    pub async fn prepare_pending(
        &self,
        base: &Manifest,
        manifest: &Manifest,
        approval: &PendingApproval,
    ) -> Result<CompiledPolicy, GateError> {
        loop {
            let base = self.compiled(base.clone(), Some(manifest)).await?;
            let whole = self.prepare(manifest.clone()).await?;
            if let Some(new) = base.with_pending(&whole, approval) {
                return Ok(new);
            }
        }
    }

    /// Restricts a plugin to what this manifest allows as well, until the next [`install`](Self::install). It is used for
    /// a changed manifest whose component does not serve yet: removals apply at once, additions do not. The obligations
    /// of both manifests apply. Installing a manifest lifts the restriction. Without an installed manifest this does
    /// nothing. Compiles on a thread that may block; once the future is dropped, nothing changes.
    ///
    /// # Errors
    /// When it cannot be compiled together with the guardrails; nothing has changed then.
    pub async fn restrict(&self, manifest: Manifest) -> Result<(), GateError> {
        while self.of(&manifest.plugin).is_some() {
            let new = self.prepare(manifest.clone()).await?;
            if self.put_restriction(&new) {
                break;
            }
        }
        Ok(())
    }

    /// Does without blocking what [`install`](Self::install) does. Returns `false` if the settings changed since `new`
    /// was prepared: nothing has changed then, and it has to be prepared again.
    #[must_use]
    pub fn enforce(&self, new: &CompiledPolicy) -> bool {
        self.change(new, |_, authority| {
            let (pending, approval) = new.pending.clone().unzip();
            Some((authority, pending, approval))
        })
    }

    /// Requires this manifest to allow every call as well, until the next install. No effect if it is already in force.
    /// Returns `false` as [`enforce`](Self::enforce) does.
    fn put_restriction(&self, new: &CompiledPolicy) -> bool {
        self.change(new, |former, authority| {
            let serving = Arc::clone(&former?.authority);
            let pending = (!Arc::ptr_eq(&serving, &authority)).then_some(authority);
            let waits = pending.is_some() && is_same(former?.pending.as_ref(), pending.as_ref());
            let approval = former?.pending_approval.clone().filter(|_| waits);
            Some((serving, pending, approval))
        })
    }

    /// Replaces the authorities of a manifest's plugin, unless `None` is given.
    fn change(
        &self,
        new: &CompiledPolicy,
        to: impl Fn(Option<&EffectivePolicy>, Arc<Granted>) -> Option<Next>,
    ) -> bool {
        let plugin = new.authority.manifest().plugin.as_str();
        loop {
            let former = self.of(plugin);
            // The same manifest may have been compiled twice; the one in force stays.
            let compiled = former
                .as_ref()
                .and_then(|former| former.of(new.authority.manifest()));
            let compiled = Arc::clone(compiled.unwrap_or(&new.authority));
            let policy =
                to(former.as_deref(), compiled).map(|(authority, pending, pending_approval)| {
                    EffectivePolicy {
                        settings: Arc::clone(&new.settings),
                        authority,
                        pending,
                        pending_approval,
                    }
                });
            let same = |policy: &EffectivePolicy| {
                former.as_ref().is_some_and(|former| {
                    Arc::ptr_eq(&former.authority, &policy.authority)
                        && former.pending_approval == policy.pending_approval
                        && is_same(former.pending.as_ref(), policy.pending.as_ref())
                })
            };
            let changed = policy.filter(|policy| !same(policy));
            // Computing the difference takes long, so it is done before the lock is taken.
            let noted = changed
                .as_ref()
                .map(|policy| self.changes.of_policy(former.as_deref(), policy));
            let mut state = self.state.write();
            if !Arc::ptr_eq(&state.settings, &new.settings) {
                return false;
            }
            if !is_same(state.plugins.get(plugin), former.as_ref()) {
                continue;
            }
            let Some(policy) = changed else {
                return true;
            };
            state.plugins.insert(plugin.to_owned(), Arc::new(policy));
            // Before any call can be decided by it.
            self.changes.note(noted.unwrap_or_default());
            drop(state);
            self.changed.notify();
            self.changes.store_soon();
            return true;
        }
    }

    /// Removes all authority of a plugin.
    pub(crate) fn remove(&self, plugin: &str) {
        while let Some(former) = self.of(plugin) {
            let noted = self.changes.of_removal(&former);
            let mut state = self.state.write();
            if is_same(state.plugins.get(plugin), Some(&former)) {
                state.plugins.remove(plugin);
                self.changes.note(noted);
                break;
            }
        }
        self.changed.notify();
        self.changes.store_soon();
    }

    /// Compiles what is in force under new settings.
    pub(crate) fn prepare_settings(
        &self,
        settings: Arc<EffectiveSettings>,
    ) -> Result<Prepared, PolicyError> {
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
            let state = self.state.read();
            let stale: Vec<(String, Arc<EffectivePolicy>)> = state
                .plugins
                .iter()
                .filter(|(plugin, policy)| !prepared.is_for(plugin, policy))
                .map(|(plugin, policy)| (plugin.clone(), Arc::clone(policy)))
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
            let policy = EffectivePolicy {
                settings: Arc::clone(&prepared.settings),
                authority: compiled(&former.authority)?,
                pending: former.pending.as_ref().map(compiled).transpose()?,
                pending_approval: former.pending_approval.clone(),
            };
            prepared.plugins.insert(plugin, (former, Arc::new(policy)));
        }
        Ok(())
    }

    /// The changes that new settings make, for their record.
    pub(crate) fn differences(&self, new: &EffectiveSettings) -> Noted {
        self.changes.of_rules(Some(&self.settings()), new)
    }

    /// Brings new settings into force; their changes were recorded before, and `noted` is remembered as the last
    /// record.
    ///
    /// # Errors
    /// When a manifest that was installed since they were prepared cannot be compiled under them; nothing has
    /// changed then.
    pub(crate) fn commit(&self, mut prepared: Prepared, noted: Noted) -> Result<(), PolicyError> {
        loop {
            let mut state = self.state.write();
            let mut all = state.plugins.iter();
            if all.all(|(plugin, policy)| prepared.is_for(plugin, policy)) {
                for (plugin, policy) in &mut state.plugins {
                    if let Some((_, fresh)) = prepared.plugins.get(plugin) {
                        *policy = Arc::clone(fresh);
                    }
                }
                state.settings = prepared.settings;
                break;
            }
            drop(state);
            self.catch_up(&mut prepared)?;
        }
        self.changes.note(noted);
        self.changed.notify();
        self.changes.store_soon();
        Ok(())
    }
}

impl CompiledPolicy {
    /// Compiles a manifest and keeps its text. Slow. With `base_of`, it is what is in force of that manifest, which awaits
    /// approval.
    fn compile(
        manifest: Manifest,
        base_of: Option<&Manifest>,
        settings: Arc<EffectiveSettings>,
        changes: &Changes,
    ) -> Result<Self, PolicyError> {
        let text = Arc::new(match base_of {
            Some(whole) => changes.text_in_force(&manifest, whole),
            None => RedactedText::manifest(&manifest, &changes.fingerprints),
        });
        let authority = Authority::new(Arc::new(manifest), &settings.guardrails)?;
        changes.keep(&text);
        changes.prepare(&authority.manifest().plugin, &text);
        Ok(Self {
            settings,
            authority: Arc::new(Granted { authority, text }),
            pending: None,
        })
    }

    /// Uses this as the base of a manifest that awaits approval; `None` if the two were compiled under different
    /// settings.
    fn with_pending(self, manifest: &Self, approval: &PendingApproval) -> Option<Self> {
        if !Arc::ptr_eq(&self.settings, &manifest.settings) {
            return None;
        }
        let pending = (Arc::clone(&manifest.authority), Arc::new(approval.clone()));
        Some(Self {
            pending: Some(pending),
            ..self
        })
    }
}

/// Whether both are the same object, or neither is one.
fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

impl Prepared {
    fn is_for(&self, plugin: &str, policy: &Arc<EffectivePolicy>) -> bool {
        let prepared = self.plugins.get(plugin);
        prepared.is_some_and(|(former, _)| Arc::ptr_eq(former, policy))
    }
}

/// Policies take long to compile, so not on the serving threads.
pub(crate) async fn blocking<T: Send + 'static>(
    compile: impl FnOnce() -> Result<T, PolicyError> + Send + 'static,
) -> Result<T, GateError> {
    match tokio::task::spawn_blocking(compile).await {
        Ok(compiled) => Ok(compiled?),
        Err(_) => Err(GateError::Failed),
    }
}
