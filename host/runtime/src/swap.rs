//! Replacing one version of a plugin by another, and unloading a plugin.
//!
//! Everything that can fail or takes long is done before anything changes. Then the manifest becomes the
//! authority and the code serves, in one step: requests from then on get the new version, and invocations
//! on the former one continue under the new authority, until they end or the drain time is over. A new
//! version's manifest restricts the former one from the beginning of the load: rights that an operator
//! removes are gone at once, even if the rest of the change turns out to be impossible.
//!
//! Invariant: a load that fails leaves the serving version and its manifest in place; and a load that began
//! before an unload does not bring the plugin back.

use parking_lot::MutexGuard;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use qchost_gate::{AdmitError, Admitted, CompiledPolicy};
use qchost_policy::Manifest;

use crate::component::Code;
use crate::host::{Runtime, Shared};
use crate::imports::{self, Kind};
use crate::load_error::LoadError;
use crate::plugin::{Life, Plugin};
use crate::surroundings::Surroundings;
use crate::tenants::Tenant;

impl Runtime {
    /// Loads or replaces a plugin. Its manifest becomes its authority. Loads of one name are sequential,
    /// those of different names concurrent. If neither component nor manifest changed, the serving version
    /// stays.
    ///
    /// # Errors
    /// When the component cannot be read, is invalid, does not match the contract, changes its own name, or
    /// imports what the manifest does not grant; when an operator has to adopt it first; or when it is
    /// unloaded meanwhile. The version loaded before under the name stays in these cases, and may do what
    /// both manifests allow.
    pub async fn load(&self, manifest: Manifest) -> Result<Arc<Plugin>, LoadError> {
        let tenant = self.0.tenants.of(&manifest.plugin);
        let unloads = tenant.unloads();
        let _alone = tenant.loading.lock().await;
        if self.0.ended() {
            return Err(LoadError::ShuttingDown);
        }
        let former = self.plugin(&manifest.plugin);
        if former.is_some() {
            self.0.gate.restrict(manifest.clone()).await?;
        }
        let code = self
            .0
            .loader
            .code(&manifest.component, manifest.digest.as_deref())
            .await?;
        imports::check(&manifest, &code.imports)?;
        if let Some(former) = &former {
            same_name(former, &code)?;
        }
        let admitted = self.admit(&manifest, &code, former.as_deref()).await?;
        drop(former);
        loop {
            // Before anything changes, so that an unload does not wait for policies to be compiled.
            let authority = match &admitted {
                Admitted::Whole => self.0.gate.prepare(manifest.clone()).await?,
                Admitted::Held { base, held } => {
                    self.0.gate.prepare_held(base, &manifest, held).await?
                }
            };
            let swapped = self.swap(&manifest, &code, &tenant, unloads, &authority)?;
            if let Some(plugin) = swapped {
                return Ok(plugin);
            }
        }
    }

    /// Checks whether a component may replace the serving one.
    async fn admit(
        &self,
        manifest: &Manifest,
        code: &Code,
        former: Option<&Plugin>,
    ) -> Result<Admitted, LoadError> {
        let replaced = former.map(Plugin::digest);
        let imports: Vec<String> = code
            .imports
            .iter()
            .filter(|import| import.kind != Kind::Types)
            .map(|import| import.name.clone())
            .collect();
        let admitted = self
            .0
            .gate
            .admit(manifest, &code.digest, &imports, replaced)
            .await;
        admitted.map_err(|error| match error {
            AdmitError::Waiting(waiting) => LoadError::AwaitsOperator {
                plugin: waiting.plugin,
                digest: code.digest.to_string(),
                approval: waiting.approval,
            },
            error => LoadError::NotAdmitted(error),
        })
    }

    /// Puts a version in place, with its authority. Changes nothing and returns `None` if the authority was
    /// compiled under guardrails that are no longer in force.
    fn swap(
        &self,
        manifest: &Manifest,
        code: &Arc<Code>,
        tenant: &Arc<Tenant>,
        unloads: u64,
        authority: &CompiledPolicy,
    ) -> Result<Option<Arc<Plugin>>, LoadError> {
        let changing = self.0.changing();
        if self.0.ended() {
            return Err(LoadError::ShuttingDown);
        }
        if tenant.unloads() != unloads {
            return Err(LoadError::Unloaded {
                plugin: manifest.plugin.clone(),
            });
        }
        if !self.0.gate.enforce(authority) {
            return Ok(None);
        }
        let former = self.plugin(&tenant.name);
        let same_code = former
            .as_ref()
            .filter(|former| former.digest() == &*code.digest);
        if let Some(serving) = same_code
            && **serving.manifest() == *manifest
        {
            return Ok(Some(Arc::clone(serving)));
        }
        let life = match same_code {
            Some(former) => Arc::clone(former.life()),
            None => Arc::new(Life::new(&self.0.cut)),
        };
        let retires = same_code.is_none();
        let limit = manifest.limits.concurrency;
        let manifest = Arc::new(manifest.clone());
        let surroundings = Surroundings {
            gate: Some(Arc::new(self.0.gate.clone())),
            plugin: Arc::clone(&tenant.name),
            digest: Arc::clone(&code.digest),
            manifest: Some(Arc::clone(&manifest)),
            memory: tenant.memory.clone(),
            log_limiter: Arc::clone(&tenant.log_limiter),
            state: Arc::clone(&tenant.state),
            connector: self.0.connector.clone(),
            parallel: self.0.options.parallel,
        };
        let plugin = Arc::new(Plugin::new(
            manifest,
            surroundings,
            Arc::clone(code),
            Arc::clone(tenant),
            life,
        ));
        // Before the plugin can be found while its lane is still closed.
        tenant.lane.open(limit);
        self.0
            .plugins_mut()
            .insert(tenant.name.to_string(), Arc::clone(&plugin));
        let owner = std::fs::metadata(&plugin.manifest().component).ok();
        let owner = owner.map(|found| found.uid());
        let gate = &self.0.gate;
        gate.note_component(plugin.manifest(), plugin.digest(), owner);
        drop(changing);
        tracing::info!(
            plugin = plugin.name(),
            digest = plugin.digest(),
            actions = plugin.description().actions.len(),
            replaced = former.is_some(),
            "loaded"
        );
        if let Some(own) = plugin.other_name() {
            tracing::warn!(
                plugin = plugin.name(),
                component = own,
                "the component calls itself otherwise than its manifest, whose name counts; see that it is the right one"
            );
        }
        if let Some(former) = former
            && retires
        {
            self.0.retire(&former);
        }
        Ok(Some(plugin))
    }

    /// Removes a plugin and its authority. Queued invocations are refused; running ones have every further
    /// call denied, and are cancelled when the drain time is over. Returns whether the plugin was loaded.
    pub fn unload(&self, plugin: &str) -> bool {
        let changing = self.0.changing();
        self.0.gate.remove(plugin);
        if let Some(tenant) = self.0.tenants.find(plugin) {
            tenant.unload();
        }
        let removed = self.0.plugins_mut().remove(plugin);
        drop(changing);
        let Some(removed) = removed else { return false };
        tracing::info!(plugin, "unloaded");
        self.0.retire(&removed);
        true
    }
}

impl Shared {
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }

    /// Lets invocations on a former version continue for the drain time.
    fn retire(&self, former: &Plugin) {
        let name = Arc::clone(&former.tenant().name);
        former.life().retire(name, self.options.drain);
    }
}

/// Checks that a component keeps its own name.
fn same_name(former: &Plugin, code: &Code) -> Result<(), LoadError> {
    let plugin = former.name();
    let (former, new) = (&former.description().name, &code.description.name);
    if former == new {
        return Ok(());
    }
    Err(LoadError::Renamed {
        plugin: plugin.to_owned(),
        former: former.clone(),
        new: new.clone(),
    })
}
