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

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use qchost_catalog::aside;
use qchost_gate::{AdmitError, Admitted, CompiledPolicy, open_folders};
use qchost_policy::Manifest;

use crate::component::Code;
use crate::imports::Kind;
use crate::load_error::LoadError;
use crate::names;
use crate::plugin::{CodeLifetime, Plugin};
use crate::quarantine::Record;
use crate::services::folders::GrantedFolders;
use crate::shared::Shared;
use crate::tenants::Tenant;
use crate::version_context::VersionContext;

/// See [`Runtime::load`](crate::Runtime::load).
pub(crate) async fn load(shared: &Shared, manifest: Manifest) -> Result<Arc<Plugin>, LoadError> {
    let tenant = shared.tenants.of(&manifest.plugin);
    let unloads = tenant.unloads();
    let _alone = tenant.loading.lock().await;
    if shared.ended() {
        return Err(LoadError::ShuttingDown);
    }
    let former = shared.plugin(&manifest.plugin);
    if former.is_some() {
        shared.gate.policies.restrict(manifest.clone()).await?;
    }
    let code = shared
        .loader
        .code(&manifest.component, manifest.digest.as_deref())
        .await
        .map_err(|problem| problem.at(&manifest.component))?;
    code.check_granted(&manifest)?;
    code.check_memory(&manifest)?;
    code.check_config(&manifest, &shared.options.redactor)
        .await?;
    names::check_actions(&manifest, &code)?;
    // Again when it is put in place; before an operator is asked, so that none decides about what cannot load.
    names::check_free(&manifest, &code, &shared.plugins.read())?;
    if let Some(former) = &former {
        same_name(former, &code)?;
    }
    let folders = granted_folders(shared, &manifest)?;
    let admitted = admit(shared, &manifest, &code, former.as_deref()).await?;
    drop(former);
    loop {
        // Before anything changes, so that an unload does not wait for policies to be compiled.
        let authority = match &admitted {
            Admitted::Whole => shared.gate.policies.prepare(manifest.clone()).await?,
            Admitted::Partly { base, pending } => {
                shared
                    .gate
                    .policies
                    .prepare_pending(base, &manifest, pending)
                    .await?
            }
        };
        let version = Version {
            manifest: &manifest,
            code: &code,
            folders: &folders,
        };
        let swapped = swap(shared, &version, &tenant, unloads, &authority)?;
        if let Some(plugin) = swapped {
            return Ok(plugin);
        }
    }
}

/// Opens the folders that a manifest grants.
fn granted_folders(shared: &Shared, manifest: &Manifest) -> Result<Arc<GrantedFolders>, LoadError> {
    if manifest.folders.is_empty() {
        return Ok(Arc::default());
    }
    // A file system may answer late.
    let opened = aside(usize::MAX, || {
        open_folders(manifest, &shared.options.places.find())
    });
    match opened {
        Ok(folders) => Ok(Arc::new(GrantedFolders::new(folders))),
        Err(problem) => Err(LoadError::Folder {
            plugin: manifest.plugin.clone(),
            problem: Box::new(problem),
        }),
    }
}

/// What a load puts in place.
struct Version<'a> {
    manifest: &'a Manifest,
    code: &'a Arc<Code>,
    folders: &'a Arc<GrantedFolders>,
}

/// Checks whether a component may replace the serving one.
async fn admit(
    shared: &Shared,
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
    let admitted = shared
        .gate
        .adoptions
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
    shared: &Shared,
    version: &Version<'_>,
    tenant: &Arc<Tenant>,
    unloads: u64,
    authority: &CompiledPolicy,
) -> Result<Option<Arc<Plugin>>, LoadError> {
    let Version {
        manifest,
        code,
        folders,
    } = *version;
    let changing = shared.changing.lock();
    if shared.ended() {
        return Err(LoadError::ShuttingDown);
    }
    if tenant.unloads() != unloads {
        return Err(LoadError::Unloaded {
            plugin: manifest.plugin.clone(),
        });
    }
    names::check_free(manifest, code, &shared.plugins.read())?;
    if !shared.gate.policies.enforce(authority) {
        return Ok(None);
    }
    let former = shared.plugin(&tenant.name);
    let same_code = former
        .as_ref()
        .filter(|former| former.digest() == &*code.digest);
    if let Some(serving) = same_code
        && **serving.manifest() == *manifest
        // A folder that was made again is another.
        && serving.version_context.folders.folders.are_same(&folders.folders)
    {
        return Ok(Some(Arc::clone(serving)));
    }
    let lifetime = match same_code {
        Some(former) => Arc::clone(&former.lifetime),
        None => Arc::new(CodeLifetime::new(&shared.cancellation)),
    };
    let retires = same_code.is_none();
    let limit = manifest.limits.concurrency;
    let manifest = Arc::new(manifest.clone());
    let version_context = VersionContext {
        gate: Some(Arc::new(shared.gate.clone())),
        plugin: Arc::clone(&tenant.name),
        digest: Arc::clone(&code.digest),
        manifest: Some(Arc::clone(&manifest)),
        memory: tenant.memory.clone(),
        log_limiter: Arc::clone(&tenant.log_limiter),
        log: Arc::clone(&tenant.log),
        state: Arc::clone(&tenant.state),
        folders: Arc::clone(folders),
        connector: shared.connector.clone(),
        redactor: shared.options.redactor.clone(),
        parallel: shared.options.parallel,
    };
    let plugin = Arc::new(Plugin {
        manifest,
        version_context: Arc::new(version_context),
        code: Arc::clone(code),
        tenant: Arc::clone(tenant),
        lifetime,
        record: Record::default(),
    });
    // Before the plugin can be found while it is still closed.
    tenant.invocations.open(limit);
    shared
        .plugins
        .write()
        .insert(tenant.name.to_string(), Arc::clone(&plugin));
    let owner = std::fs::metadata(&plugin.manifest().component).ok();
    let owner = owner.map(|found| found.uid());
    let gate = &shared.gate;
    gate.changes
        .note_component(plugin.manifest(), plugin.digest(), owner);
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
        retire(shared, &former);
    }
    Ok(Some(plugin))
}

/// See [`Runtime::unload`](crate::Runtime::unload).
pub(crate) fn unload(shared: &Shared, plugin: &str) -> bool {
    let changing = shared.changing.lock();
    shared.gate.proposals.remove(plugin);
    if let Some(tenant) = shared.tenants.find(plugin) {
        tenant.unload();
    }
    let removed = shared.plugins.write().remove(plugin);
    drop(changing);
    let Some(removed) = removed else { return false };
    tracing::info!(plugin, "unloaded");
    retire(shared, &removed);
    true
}

/// Lets invocations on a former version continue for the drain time.
fn retire(shared: &Shared, former: &Plugin) {
    let name = Arc::clone(&former.tenant.name);
    former.lifetime.retire(name, shared.options.drain);
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
