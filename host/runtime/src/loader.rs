//! From a file to code that may run: what it is, what it imports, what it says of itself.
//!
//! Invariant: a component that gets through has the right shape, imports nothing that the host does
//! not have, and has described itself while it could do nothing else. Each refusal is one line that
//! says what is wrong with the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_gate::{AdmitError, Caller};
use qchost_policy::{ImportsDenied, PolicyError};
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, Linker};

use crate::cache::Cache;
use crate::contract::AgentPre;
use crate::description::{self, Description, Inputs};
use crate::engine::Machine;
use crate::execution::{self, Allowance};
use crate::imports::{self, Import, Kind};
use crate::instance::{Instance, Parts};
use crate::limits::{Allocation, Budget};
use crate::outgoing::Connector;
use crate::services::progress::Reporter;
use crate::text;

/// What a component must export.
const GUEST: &str = "qchost:agent/guest@0.1.0";
/// What a component may use while it describes itself.
const DESCRIBE: Allowance = Allowance {
    memory: 256 << 20,
    cpu: Duration::from_millis(100),
    wall: Duration::from_secs(5),
    transfer: 256 << 10,
};
/// The longest reason that is repeated from the engine, in bytes.
const REASON: usize = 300;

/// Why a plugin was not loaded. What ran before goes on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: cannot read the component: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than the host allows.
    #[error("{}: the component has {size} bytes; the host loads at most {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The file is something else.
    #[error("{}: not a WebAssembly component: {why}", path.display())]
    NotAComponent {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// The file ends too early.
    #[error("{}: the component is truncated: {why}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where.
        why: String,
    },
    /// It is a component, but not a valid one.
    #[error("{}: the component is not valid: {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It is a component of another world.
    #[error("{}: the component is no agent: it does not export `{GUEST}`{}", path.display(), exported(.exports))]
    NotAnAgent {
        /// The file.
        path: PathBuf,
        /// What it exports instead.
        exports: Vec<String>,
    },
    /// It imports what no plugin gets.
    #[error("{}: the component imports `{import}`, which this host does not have{}", path.display(), .hint)]
    UnknownImport {
        /// The file.
        path: PathBuf,
        /// The import.
        import: String,
        /// What else is to be said of it, or nothing.
        hint: &'static str,
    },
    /// Its imports or exports have other types than the contract's.
    #[error("{}: the component does not fit this host's contract: {why}", path.display())]
    Incompatible {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// It is not the component that the manifest pins.
    #[error("{}: the component is {found}, but its manifest pins {expected}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// It imports what its manifest does not grant.
    #[error(transparent)]
    Denied(#[from] ImportsDenied),
    /// It imports outgoing HTTP, and its manifest grants none.
    #[error(
        "`{plugin}` imports `{import}`, and its manifest has no [[http]]; to allow it to send requests, add to the manifest, with the address that it needs:\n{}",
        imports::HTTP_GRANT
    )]
    HttpDenied {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
    },
    /// Its manifest cannot be turned into policies.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Whether it may take the place of what serves cannot be found out.
    #[error(transparent)]
    NotAdmitted(AdmitError),
    /// It would replace a plugin that trades, and nobody has adopted it yet. What serves goes on
    /// serving.
    #[error(
        "`{plugin}`: {digest} is not what serves now, and its manifest lets it trade; what serves goes on serving until the new one is approved: qchost approvals approve {approval}"
    )]
    AwaitsOperator {
        /// The plugin.
        plugin: String,
        /// The hash of the new component.
        digest: String,
        /// The approval that it waits for.
        approval: String,
    },
    /// What it says of itself is wrong, or it could not say it.
    #[error("{}: the component's description: {why}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The host shuts down.
    #[error("the host shuts down")]
    ShuttingDown,
}

fn exported(exports: &[String]) -> String {
    match exports {
        [] => " (it exports nothing)".to_owned(),
        names => format!(" (it exports {})", text::line(&names.join(", "), REASON)),
    }
}

/// What is known of a component before it is run.
pub(crate) struct Parsed {
    pub(crate) component: Component,
    pub(crate) imports: Vec<Import>,
    pub(crate) exports: Vec<String>,
}

/// A component that may run.
pub(crate) struct Code {
    pub(crate) digest: Arc<str>,
    /// Its size, in bytes.
    pub(crate) size: u64,
    pub(crate) imports: Vec<Import>,
    pub(crate) exports: Vec<String>,
    pub(crate) agent: AgentPre<Instance>,
    pub(crate) description: Description,
    pub(crate) inputs: Inputs,
}

/// The hash of a component, as manifests write it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Reads a file, at most so much of it. Blocks.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    use std::io::Read as _;
    let failed = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if read > limit {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
            size: size.max(read),
            limit,
        });
    }
    Ok(bytes)
}

/// Compiles a component, or finds it compiled, and looks at what it imports and exports. Blocks.
pub(crate) fn parse(
    machine: &Machine,
    cache: &Cache,
    path: &Path,
    digest: &str,
    bytes: &[u8],
) -> Result<Parsed, LoadError> {
    recognise(path, bytes)?;
    let component = cache
        .component(&machine.engine, digest, bytes)
        .map_err(|error| {
            let why = text::line(&error.root_cause().to_string(), REASON);
            let path = path.to_owned();
            if why.contains("unexpected end") {
                LoadError::Truncated { path, why }
            } else {
                LoadError::Invalid { path, why }
            }
        })?;
    let ty = component.component_type();
    let imports = ty
        .imports(&machine.engine)
        .map(|(name, item)| Import::new(name, &item.ty, &machine.engine))
        .collect();
    let exports = ty
        .exports(&machine.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    Ok(Parsed {
        component,
        imports,
        exports,
    })
}

/// Tells a component from what people mistake for one.
fn recognise(path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let refused = |why: &str| {
        Err(LoadError::NotAComponent {
            path: path.to_owned(),
            why: why.to_owned(),
        })
    };
    match bytes {
        [] => refused("the file is empty"),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => refused(
            "it is a core module; build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`",
        ),
        [0, b'a', b's', b'm', _, _, _, _, ..] => {
            refused("it is WebAssembly of a version that this host does not know")
        }
        _ if b"\0asm\x0d\0\x01\0".starts_with(bytes) => Err(LoadError::Truncated {
            path: path.to_owned(),
            why: format!("it has {} bytes", bytes.len()),
        }),
        _ if bytes.trim_ascii_start().starts_with(b"(") => {
            refused("it is WebAssembly in text form; turn it into a binary with `wasm-tools parse`")
        }
        _ => {
            let start: Vec<u8> = bytes.iter().copied().take(16).collect();
            let start = text::line(&String::from_utf8_lossy(&start), 64);
            refused(&format!("it begins with `{start}`"))
        }
    }
}

/// Checks that the host has everything that a component imports and that it exports what an agent
/// exports.
pub(crate) fn link(
    linker: &Linker<Instance>,
    path: &Path,
    parsed: &Parsed,
) -> Result<AgentPre<Instance>, LoadError> {
    let unknown = parsed
        .imports
        .iter()
        .find(|import| import.kind == Kind::Unknown);
    if let Some(import) = unknown {
        return Err(LoadError::UnknownImport {
            path: path.to_owned(),
            import: text::line(&import.name, REASON),
            hint: imports::hint(&import.name),
        });
    }
    if !parsed.exports.iter().any(|name| name == GUEST) {
        return Err(LoadError::NotAnAgent {
            path: path.to_owned(),
            exports: parsed.exports.clone(),
        });
    }
    linker
        .instantiate_pre(&parsed.component)
        .and_then(AgentPre::new)
        .map_err(|error| incompatible(path, &error))
}

fn incompatible(path: &Path, error: &wasmtime::Error) -> LoadError {
    let words: Vec<_> = error.chain().map(ToString::to_string).collect();
    LoadError::Incompatible {
        path: path.to_owned(),
        why: text::line(&words.join(": "), REASON),
    }
}

/// Has a component describe itself, with every capability denied.
pub(crate) async fn describe(
    machine: &Machine,
    budget: &Budget,
    path: &Path,
    digest: Arc<str>,
    agent: &AgentPre<Instance>,
) -> Result<(Description, Inputs), LoadError> {
    let wrong = |why: String| LoadError::Description {
        path: path.to_owned(),
        why,
    };
    let instance = Instance::new(Parts {
        gate: None,
        caller: Caller {
            plugin: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into(),
            digest,
            invocation: "describe".into(),
            person: None,
        },
        manifest: None,
        deadline: Instant::now() + DESCRIBE.wall,
        progress: Reporter::default(),
        memory: Allocation::new(budget.clone(), DESCRIBE.memory),
        connector: Connector::new(),
        parallel: 1,
    });
    let description = execution::run(machine, agent, instance, DESCRIBE, async |agent, store| {
        agent.qchost_agent_guest().call_describe(store).await
    })
    .await
    .map_err(|stopped| wrong(stopped.to_string()))?;
    description::check(description).map_err(wrong)
}
