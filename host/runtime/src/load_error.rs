//! Why a plugin is not loaded: each reason in one line that says what is wrong, with which file, and
//! what to do.

use std::path::PathBuf;
use std::time::Duration;

use qchost_gate::{AdmitError, GateError};
use qchost_policy::ImportsDenied;

use crate::component::{GUEST, REASON};
use crate::imports;
use crate::text;

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
    Policy(#[from] GateError),
    /// Whether it may take the place of what serves cannot be found out.
    #[error(transparent)]
    NotAdmitted(AdmitError),
    /// It would replace a plugin that trades, and nobody has adopted it yet. What serves goes on
    /// serving.
    #[error(
        "`{plugin}`: {digest} is not what serves now, and its manifest lets it trade; what serves goes on serving without its trade until the new one is approved: qchost approvals show {approval}"
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
    /// Compiling it took too long. It may have been made to.
    #[error("{}: it took more than {} s of processor time to compile (`engine.compile-cpu`)", path.display(), limit.as_secs_f64())]
    CompileTime {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// Compiling it took too much memory. It may have been made to.
    #[error("{}: it took more than {limit} bytes of memory to compile (`engine.compile-memory`)", path.display())]
    CompileMemory {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The compiler does not work, or not on this component.
    #[error("{}: the compiler failed: {why}", path.display())]
    Compiler {
        /// The file.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// It calls itself something else than what serves.
    #[error(
        "`{plugin}`: the component calls itself `{new}`, and what serves calls itself `{former}`; if it is meant to take its place, take the manifest away and put it back"
    )]
    Renamed {
        /// The plugin.
        plugin: String,
        /// What the one that serves calls itself.
        former: String,
        /// What the new one calls itself.
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
        names => format!(" (it exports {})", text::line(&names.join(", "), REASON)),
    }
}
