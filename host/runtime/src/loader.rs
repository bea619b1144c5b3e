//! From a file to code that may run: its kind, its imports, its description.
//!
//! Files are read, mapped and linked on threads that may block, a few at a time, and each is compiled in a process of its own,
//! as many at a time as the machine has processors and memory for, so the serving threads are not blocked and a hundred
//! plugins that change at once take no more memory than a few. A component that waits for a compiler has nothing in memory,
//! and does not delay those that are compiled already. One that this host cannot run whatever its code is, since it imports
//! or exports something else, is refused before that.
//!
//! Invariant: an accepted component has described itself while every capability was denied, now or when this host first saw
//! it. The bytes that were hashed are the bytes that run.

use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use qchost_text::Redactor;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::component::Linker;

use crate::cache::{Cache, Entry};
use crate::calls::InvocationRequest;
use crate::compiler::{Compiled, Compilers};
use crate::component::{Agent, Code, Parsed, Source};
use crate::contract;
use crate::contract::exports::qchost::agent::guest;
use crate::declared::Declared;
use crate::description::{self, Description, Schemas};
use crate::engine::{Machine, max_describing};
use crate::execution::{self, Allowance, StopReason};
use crate::inspect::Inspection;
use crate::instance::{Instance, Parts};
use crate::limits::Budget;
use crate::load_error::{ComponentError, MAX_REASON};
use crate::options::Options;
use crate::outgoing::connect::Connector;
use crate::services::progress::Reporter;
use crate::text;
use crate::version_context::VersionContext;

/// Limits of a component that describes itself.
const DESCRIBE_ALLOWANCE: Allowance = Allowance {
    memory: 256 << 20,
    cpu: Duration::from_millis(100),
    wall: Duration::from_secs(5),
    transfer: 256 << 10,
};
/// The format of the descriptions in the cache. Changes with `description` in the contract.
const CONTRACT: &str = "agent-0.1.0-config";

/// Loads components.
pub(crate) struct Loader {
    machine: Arc<Machine>,
    linker: Linker<Instance>,
    budget: Budget,
    cache: Cache,
    compilers: Compilers,
    options: Options,
    /// One permit for each component whose bytes may be in memory. Also limits those that describe themselves.
    loading: Semaphore,
    /// One permit for each compiler.
    compiling: Semaphore,
    /// Held while the component with this digest is compiled, or waits for that: plugins of one component compile it once.
    digests: Mutex<HashMap<Arc<str>, Weak<DigestLock>>>,
    /// The files being compiled.
    compiles: Mutex<Vec<PathBuf>>,
    /// Described components, by digest.
    codes: RwLock<HashMap<Arc<str>, Weak<Code>>>,
}

impl Loader {
    pub(crate) fn new(
        machine: Arc<Machine>,
        linker: Linker<Instance>,
        budget: Budget,
        cache: Cache,
        options: Options,
    ) -> Self {
        let compilers = Compilers::new(&options, machine.code);
        // A component describes itself while its bytes are in memory.
        let loading = usize::try_from(max_describing(options.invocations)).unwrap_or(1);
        // One place is for a component that needs no compiler, so that it waits for none.
        let compiling = options
            .compilers
            .unwrap_or_else(|| compilers.side_by_side())
            .clamp(1, loading.saturating_sub(1).max(1));
        Self {
            machine,
            linker,
            budget,
            cache,
            compilers,
            options,
            loading: Semaphore::new(loading),
            compiling: Semaphore::new(compiling),
            digests: Mutex::default(),
            compiles: Mutex::default(),
            codes: RwLock::default(),
        }
    }

    /// The described code of a file; shared with other plugins of the same digest.
    pub(crate) async fn code(
        self: &Arc<Self>,
        path: &Path,
        pin: Option<&str>,
    ) -> Result<Arc<Code>, ComponentError> {
        let NewComponent {
            digest,
            size,
            parsed,
            permit,
        } = match self.open(path, pin, |digest| self.known(digest)).await? {
            Content::Known(code) => return Ok(code),
            Content::Refused(refused) => return Err(refused.error),
            Content::New(opened) => opened,
        };
        let (parsed, agent) = self.link(parsed).await?;
        let agent = agent?;
        let (description, schemas) = self.describe(path, &digest, &agent).await?;
        let code = Arc::new(Code {
            digest: Arc::clone(&digest),
            size,
            imports: parsed.imports,
            exports: parsed.exports,
            memory: parsed.memory,
            agent,
            description,
            schemas,
        });
        let mut codes = self.codes.write();
        codes.retain(|_, code| code.strong_count() > 0);
        codes.insert(digest, Arc::downgrade(&code));
        drop(permit);
        Ok(code)
    }

    /// Inspects a component without a manifest.
    pub(crate) async fn inspect(
        self: &Arc<Self>,
        path: &Path,
    ) -> Result<Inspection, ComponentError> {
        // A loaded component is read again too.
        let NewComponent {
            digest,
            size,
            parsed,
            permit: _permit,
        } = match self.open(path, None, |_| None::<Infallible>).await? {
            Content::Known(never) => match never {},
            Content::Refused(RefusedComponent {
                digest,
                size,
                declared,
                error,
            }) => {
                let problem = Err(error.at(path));
                return Ok(Inspection::declared(
                    digest.to_string(),
                    size,
                    declared,
                    problem,
                ));
            }
            Content::New(opened) => opened,
        };
        let (parsed, agent) = self.link(parsed).await?;
        let described = match agent {
            Err(error) => Err(error),
            Ok(agent) => self.describe(path, &digest, &agent).await,
        };
        let described = described
            .map(|(description, _)| description)
            .map_err(|problem| problem.at(path));
        Ok(Inspection::new(digest.to_string(), size, parsed, described))
    }

    /// The code of a component: already `known` by its digest, cached, or compiled now.
    async fn open<K>(
        self: &Arc<Self>,
        path: &Path,
        pin: Option<&str>,
        known: impl Fn(&str) -> Option<K>,
    ) -> Result<Content<'_, K>, ComponentError> {
        let digest = match self.look_up(path, pin, &known).await? {
            Ok(found) => return Ok(found),
            Err((source, _permit)) => source.digest,
        };
        // Neither semaphore is ever closed. Its bytes are released while it waits: when it is admitted, the file may have
        // changed, or may have been compiled for another plugin.
        let lock = self.digest_lock(&digest);
        let _only = lock.lock().await;
        let _compiling = self.compiling.acquire().await;
        let (source, permit) = match self.look_up(path, pin, &known).await? {
            Ok(found) => return Ok(found),
            Err(unknown) => unknown,
        };
        let _guard = CompileGuard::begin(self, path);
        let (digest, size) = (Arc::clone(&source.digest), source.size());
        let parsed = self.compile(source).await?;
        Ok(Content::New(NewComponent {
            digest,
            size,
            parsed,
            permit,
        }))
    }

    /// The code of a component that needs no compiler; otherwise its bytes.
    async fn look_up<K>(
        self: &Arc<Self>,
        path: &Path,
        pin: Option<&str>,
        known: &impl Fn(&str) -> Option<K>,
    ) -> Result<Result<Content<'_, K>, Uncompiled<'_>>, ComponentError> {
        let permit = self.loading.acquire().await.ok();
        let source = self.read(path, pin).await?;
        if let Some(known) = known(&source.digest) {
            return Ok(Ok(Content::Known(known)));
        }
        if let Some(parsed) = self.cached(&source.digest).await? {
            return Ok(Ok(Content::New(NewComponent {
                digest: Arc::clone(&source.digest),
                size: source.size(),
                parsed,
                permit,
            })));
        }
        let bytes = source.bytes.clone();
        let refused = blocking(move || {
            let declared = Declared::read(&bytes)?;
            let error = declared.check().err()?;
            Some((declared, error))
        });
        Ok(match refused.await? {
            Some((declared, error)) => Ok(Content::Refused(RefusedComponent {
                digest: Arc::clone(&source.digest),
                size: source.size(),
                declared,
                error,
            })),
            None => Err((source, permit)),
        })
    }

    /// The lock of the component with this digest.
    fn digest_lock(&self, digest: &Arc<str>) -> Arc<DigestLock> {
        let mut locks = self.digests.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(DigestLock::new(()));
        locks.insert(Arc::clone(digest), Arc::downgrade(&lock));
        lock
    }

    /// The components that are being compiled.
    pub(crate) fn compiles(&self) -> Vec<PathBuf> {
        self.compiles.lock().clone()
    }

    /// Number of components whose code is in memory.
    pub(crate) fn codes(&self) -> usize {
        let codes = self.codes.read();
        codes
            .values()
            .filter(|code| code.strong_count() > 0)
            .count()
    }

    fn known(&self, digest: &str) -> Option<Arc<Code>> {
        let codes = self.codes.read();
        codes.get(digest).and_then(Weak::upgrade)
    }

    async fn read(&self, path: &Path, pin: Option<&str>) -> Result<Source, ComponentError> {
        let (path, limit) = (path.to_owned(), self.options.component);
        let pin = pin.map(str::to_owned);
        blocking(move || Source::read(&path, limit, pin.as_deref())).await?
    }

    /// Compiles a component, and caches the result.
    async fn compile(self: &Arc<Self>, source: Source) -> Result<Parsed, ComponentError> {
        let Source { digest, bytes } = source;
        let compiled = self.compilers.compile(&bytes).await?;
        drop(bytes);
        let loader = Arc::clone(self);
        let mapping = blocking(move || -> wasmtime::Result<Parsed> {
            let engine = &loader.machine.engine;
            let parsed = Parsed::map(engine, &compiled)?;
            let entry = Entry::code(engine, &digest);
            loader.cache.keep(&entry, compiled.bytes());
            loader
                .cache
                .prune(|other| *other == *digest || loader.known(other).is_some());
            Ok(parsed)
        });
        mapping.await?.map_err(|error| {
            ComponentError::Compiler(text::line(&format!("{error:#}"), MAX_REASON))
        })
    }

    /// The code of a component, if it is in the cache.
    async fn cached(self: &Arc<Self>, digest: &Arc<str>) -> Result<Option<Parsed>, ComponentError> {
        let (loader, digest) = (Arc::clone(self), Arc::clone(digest));
        blocking(move || {
            let engine = &loader.machine.engine;
            let entry = Entry::code(engine, &digest);
            let compiled = Compiled::verified(loader.cache.read(&entry)?);
            match Parsed::map(engine, &compiled) {
                Ok(parsed) => Some(parsed),
                Err(error) => {
                    tracing::warn!(entry = entry.name(), %error, "compiled code cannot be used; compiling it again");
                    None
                }
            }
        })
        .await
    }

    /// Links the code with what the host provides; each of its imports is compared with that.
    async fn link(
        self: &Arc<Self>,
        parsed: Parsed,
    ) -> Result<(Parsed, Result<Agent, ComponentError>), ComponentError> {
        let loader = Arc::clone(self);
        blocking(move || {
            let agent = parsed.link(&loader.linker);
            (parsed, agent)
        })
        .await
    }

    /// A component's description: the one from when this host first saw it, or a new one, made with every capability
    /// denied.
    async fn describe(
        self: &Arc<Self>,
        path: &Path,
        digest: &Arc<str>,
        agent: &Agent,
    ) -> Result<(Description, Schemas), ComponentError> {
        let wrong = ComponentError::Description;
        let (loader, entry) = (Arc::clone(self), Entry::description(CONTRACT, digest));
        let cached = blocking(move || {
            let described = serde_json::from_slice(&loader.cache.read(&entry)?).ok()?;
            Some(description::check(described))
        });
        if let Some(checked) = cached.await? {
            return checked.map_err(wrong);
        }
        let described = describe(&self.machine, &self.budget, path, digest, agent)
            .await
            .map_err(wrong)?;
        let (loader, entry) = (Arc::clone(self), Entry::description(CONTRACT, digest));
        let checking = blocking(move || {
            let written = serde_json::to_vec(&described);
            let checked = description::check(described)?;
            if let Ok(written) = written {
                loader.cache.keep(&entry, &written);
            }
            Ok(checked)
        });
        checking.await?.map_err(wrong)
    }
}

/// Has a component describe itself, with every capability denied.
pub(crate) async fn describe(
    machine: &Machine,
    budget: &Budget,
    path: &Path,
    digest: &Arc<str>,
    agent: &Agent,
) -> Result<guest::Description, String> {
    let plugin = path.file_stem().unwrap_or_default().to_string_lossy();
    let version_context = VersionContext {
        gate: None,
        plugin: plugin.into(),
        digest: Arc::clone(digest),
        manifest: None,
        memory: budget.share(),
        log_limiter: Arc::default(),
        log: Arc::default(),
        state: Arc::default(),
        folders: Arc::default(),
        connector: Connector::new(),
        // It is given no secret.
        redactor: Redactor::default(),
        parallel: 1,
    };
    let instance = Instance::new(Parts {
        version_context: Arc::new(version_context),
        invocation: "describe".into(),
        request: InvocationRequest::default(),
        deadline: Instant::now() + DESCRIBE_ALLOWANCE.wall,
        progress: Reporter::default(),
        log: None,
        memory: DESCRIBE_ALLOWANCE.memory,
    });
    execution::run(
        machine,
        &agent.pre,
        instance,
        DESCRIBE_ALLOWANCE,
        async |instance, store| {
            // The only time that all of its exports are compared with the contract.
            let agent = contract::Agent::new(&mut *store, instance)?;
            agent.qchost_agent_guest().call_describe(store).await
        },
    )
    .await
    .map_err(|stopped| undescribed(&stopped))
}

/// Why a component did not describe itself; the limits are the host's rather than a manifest's.
fn undescribed(stopped: &StopReason) -> String {
    let much = match stopped {
        StopReason::Cpu { limit } => format!("{} s on the processor", limit.as_secs_f64()),
        StopReason::Wall { limit, .. } => format!("{} s in all", limit.as_secs_f64()),
        StopReason::OutOfMemory { limit } => format!("{limit} bytes of memory"),
        other => return other.to_string(),
    };
    format!("it takes more than the {much} that a description may")
}

/// What a file contains.
enum Content<'a, K> {
    /// Code that is known already.
    Known(K),
    /// Code that has not described itself yet.
    New(NewComponent<'a>),
    /// No code: whatever it would be, the host cannot run it.
    Refused(RefusedComponent),
}

struct RefusedComponent {
    digest: Arc<str>,
    size: u64,
    declared: Declared,
    error: ComponentError,
}

struct NewComponent<'a> {
    digest: Arc<str>,
    size: u64,
    parsed: Parsed,
    /// Held until it is loaded.
    permit: Option<SemaphorePermit<'a>>,
}

/// The bytes of a component that needs compiling, with the permit to keep them in memory.
type Uncompiled<'a> = (Source, Option<SemaphorePermit<'a>>);

/// A lock that is held across compiling.
type DigestLock = tokio::sync::Mutex<()>;

/// A compile in progress.
struct CompileGuard<'a> {
    loader: &'a Loader,
    path: &'a Path,
}

impl<'a> CompileGuard<'a> {
    fn begin(loader: &'a Loader, path: &'a Path) -> Self {
        loader.compiles.lock().push(path.to_owned());
        Self { loader, path }
    }
}

impl Drop for CompileGuard<'_> {
    fn drop(&mut self) {
        let mut compiles = self.loader.compiles.lock();
        // Two plugins may have the same file, each with an entry of its own.
        if let Some(at) = compiles.iter().position(|path| path == self.path) {
            compiles.swap_remove(at);
        }
    }
}

/// Runs work for a file on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ComponentError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| ComponentError::Compiler(error.to_string()))
}
