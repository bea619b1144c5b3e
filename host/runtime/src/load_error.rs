//! Why a plugin is not loaded: one line per reason, with the problem, the file and the remedy.

use std::path::PathBuf;
use std::time::Duration;

use qchost_gate::{AdmitError, GateError};
use qchost_policy::ImportsDenied;

use crate::imports::{GUEST, HTTP_GRANT};
use crate::text;

/// Maximum bytes of an engine error that a message repeats.
pub(crate) const MAX_REASON: usize = 300;

/// Why a plugin was not loaded. The version that served keeps serving.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: cannot read the component: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
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
        /// The location.
        why: String,
    },
    /// It is a component, but not a valid one.
    #[error("{}: the component is not valid: {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The cause.
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
    /// It imports an interface that is not provided.
    #[error("{}: the component imports `{import}`, which this host does not have{}", path.display(), .hint)]
    UnknownImport {
        /// The file.
        path: PathBuf,
        /// The import.
        import: String,
        /// A hint about the import, or empty.
        hint: &'static str,
    },
    /// The types of its imports or exports differ from the contract's.
    #[error("{}: the component does not fit this host's contract: {why}", path.display())]
    Incompatible {
        /// The file.
        path: PathBuf,
        /// The mismatch.
        why: String,
    },
    /// It is not the component that the manifest pins.
    #[error("{}: the component is {found}, but its manifest pins {expected}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// The hash in the manifest.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// It imports what its manifest does not grant.
    #[error(transparent)]
    Denied(#[from] ImportsDenied),
    /// It imports outgoing HTTP, and its manifest grants none.
    #[error(
        "`{plugin}` imports `{import}`, and its manifest has no [[http]]; to allow it to send requests, add to the manifest, with the address that it needs:\n{}",
        HTTP_GRANT
    )]
    HttpDenied {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
    },
    /// Its manifest cannot be compiled to policies.
    #[error(transparent)]
    Policy(#[from] GateError),
    /// It cannot be determined whether it may replace what serves.
    #[error(transparent)]
    NotAdmitted(AdmitError),
    /// It would replace a plugin that trades, and has not been adopted yet. The former one keeps serving.
    #[error(
        "`{plugin}`: {digest} is not what serves now, and its manifest lets it trade; what serves goes on serving without its trade until the new one is approved: qchost approvals show {approval}"
    )]
    AwaitsOperator {
        /// The plugin.
        plugin: String,
        /// The hash of the new component.
        digest: String,
        /// The approval it waits for.
        approval: String,
    },
    /// Its description is invalid, or it could not describe itself.
    #[error("{}: the component's description: {why}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Compiling took too long; the component may be malicious.
    #[error("{}: it took more than {} s of processor time to compile (`engine.compile-cpu`)", path.display(), limit.as_secs_f64())]
    CompileTime {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// Compiling took too much memory; the component may be malicious.
    #[error("{}: it took more than {limit} bytes of memory to compile (`engine.compile-memory`)", path.display())]
    CompileMemory {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The compiler failed, possibly on this component only.
    #[error("{}: the compiler failed: {why}", path.display())]
    Compiler {
        /// The file.
        path: PathBuf,
        /// The failure.
        why: String,
    },
    /// Its name for itself differs from that of what serves.
    #[error(
        "`{plugin}`: the component calls itself `{new}`, and what serves calls itself `{former}`; if it is meant to take its place, take the manifest away and put it back"
    )]
    Renamed {
        /// The plugin.
        plugin: String,
        /// The name of what serves.
        former: String,
        /// The name of the new component.
        new: String,
    },
    /// It was unloaded before it was ready.
    #[error("`{plugin}` was unloaded while it was being loaded")]
    Unloaded {
        /// The plugin.
        plugin: String,
    },
    /// The host shuts down.
    #[error("the host shuts down")]
    ShuttingDown,
}

fn exported(exports: &[String]) -> String {
    match exports {
        [] => " (it exports nothing)".to_owned(),
        names => format!(
            " (it exports {})",
            text::line(&names.join(", "), MAX_REASON)
        ),
    }
}
