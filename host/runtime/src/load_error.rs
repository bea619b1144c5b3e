//! Why a plugin is not loaded: one line per reason, with the problem, the file and the remedy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qchost_folders::OpenError;
use qchost_gate::{AdmitError, GateError};
use qchost_policy::{ImportsDenied, nearest};

use crate::imports::{FOLDER_GRANT, GUEST, HTTP_GRANT};
use crate::text;

/// Maximum bytes of an engine error that a message repeats.
pub(crate) const MAX_REASON: usize = 300;

/// The remedy for a component that was built to run asynchronously.
const BUILD_SYNCHRONOUS: &str = "this host runs components without component-model async: build JavaScript for QuickJS with `--sync`, and export plain functions in other languages";

/// Why a plugin was not loaded. The version that served keeps serving.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its component cannot be used.
    #[error("{}: {}", .0.display(), .1)]
    Component(PathBuf, ComponentError),
    /// It imports what its manifest does not grant.
    #[error(transparent)]
    Denied(#[from] ImportsDenied),
    /// It imports outgoing HTTP, and its manifest grants none.
    #[error(
        "`{plugin}` imports `{import}`, and its manifest has no [[http]]; to allow it to send requests, add to the manifest, with the address that it needs:\n{egress}{}",
        HTTP_GRANT
    )]
    HttpDenied {
        /// The plugin.
        plugin: String,
        /// The import.
        import: String,
        /// The lines that the manifest needs besides, since licensed data could leave then; or empty.
        egress: String,
    },
    /// It imports interfaces and outgoing HTTP, and its manifest grants neither.
    #[error(
        "{}\n# It sends requests too: write the address that it needs.\n{}",
        .0,
        HTTP_GRANT
    )]
    DeniedWithHttp(ImportsDenied),
    /// It imports folders, and its manifest grants none.
    #[error(
        "`{plugin}` imports `qchost:agent/folders`, and its manifest has no [[folder]]; to allow it to use one, add to the manifest, with the path and the mode that it needs:\n{}",
        FOLDER_GRANT
    )]
    FoldersDenied {
        /// The plugin.
        plugin: String,
    },
    /// It imports folders and more, and its manifest grants none of it.
    #[error(
        "{}\n# It uses folders too: write the path and the mode that it needs.\n{}",
        .0,
        FOLDER_GRANT
    )]
    DeniedWithFolders(Box<LoadError>),
    /// A folder that its manifest grants cannot be used.
    #[error("`{plugin}`: {problem}")]
    Folder {
        /// The plugin.
        plugin: String,
        /// Why.
        problem: Box<OpenError>,
    },
    /// It starts with more memory than its manifest allows, so every invocation would fail.
    #[error(
        "`{plugin}`: its component starts with {needed} bytes of memory, and `limits.memory` allows {limit}; raise `memory` in [limits] to \"{}MiB\" or more",
        (needed >> 20) + 1
    )]
    MemoryLimit {
        /// The plugin.
        plugin: String,
        /// What it starts with, in bytes.
        needed: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The `[config]` of its manifest does not fit the component's schema of it.
    #[error("{}:{line}: {key}: {message}; the component has a schema of its `[config]`", path.display())]
    Config {
        /// The manifest.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, with its table.
        key: String,
        /// What the schema says of the value, without the value.
        message: String,
    },
    /// An alias in its manifest is of an action that the component does not have.
    #[error("`{plugin}`: the alias `{alias}` is for the action `{action}`, which the component does not have{}; it has: {}", near(.action, .actions), known(.actions))]
    AliasWithoutAction {
        /// The plugin.
        plugin: String,
        /// The alias.
        alias: String,
        /// The action that it names.
        action: String,
        /// The actions of the component.
        actions: Vec<String>,
    },
    /// A name by which one of its actions would be invoked is taken. What has the name keeps it.
    #[error("`{plugin}`: the name `{name}` is taken: it is {by}; give the alias another name")]
    NameTaken {
        /// The plugin.
        plugin: String,
        /// The name.
        name: String,
        /// What has it: an action or an alias, with its plugin.
        by: String,
    },
    /// Its manifest cannot be compiled to policies.
    #[error(transparent)]
    Policy(#[from] GateError),
    /// It may not replace what serves, or that cannot be determined.
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

/// Why the component in a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The file cannot be read.
    #[error("cannot read the component: {0}{next}", next = next_step(.0))]
    Read(#[from] io::Error),
    /// The file is larger than the host allows.
    #[error("the component has {size} bytes; the host loads at most {limit}")]
    TooLarge {
        /// Its size, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The file is something else.
    #[error("not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// The file ends too early.
    #[error("the component is truncated: {0}")]
    Truncated(String),
    /// It is a component, but not a valid one.
    #[error("the component is not valid: {0}")]
    Invalid(String),
    /// It is a component of another world, which exports these instead.
    #[error(
        "the component is no agent: it does not export `{GUEST}`{}; build it with `#[agent]` of the SDK, or against a world that includes `qchost:agent/core`",
        exported(.0)
    )]
    NotAnAgent(Vec<String>),
    /// It imports an interface that is not provided.
    #[error("the component imports `{import}`, which this host does not have{hint}")]
    UnknownImport {
        /// The import.
        import: String,
        /// A hint about the import, or empty.
        hint: &'static str,
    },
    /// The types of its imports or exports differ from the contract's.
    #[error("the component does not fit this host's contract: {0}")]
    Incompatible(String),
    /// It is not the component that the manifest pins.
    #[error("the component is {found}, but its manifest pins {expected}")]
    Digest {
        /// The hash in the manifest.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// Its description is invalid, or it could not describe itself.
    #[error("the component's description: {0}")]
    Description(String),
    /// Compiling took longer than this limit; the component may be malicious.
    #[error("it took more than {} s of processor time to compile (`engine.compile-cpu`)", .0.as_secs_f64())]
    CompileTime(Duration),
    /// Compiling took more than these bytes of memory; the component may be malicious.
    #[error("it took more than {0} bytes of memory to compile (`engine.compile-memory`)")]
    CompileMemory(u64),
    /// The compiler failed, possibly on this component only.
    #[error("the compiler failed: {0}")]
    Compiler(String),
}

impl ComponentError {
    /// The error for a component that the engine rejects.
    pub(crate) fn invalid(why: &str) -> Self {
        let why = text::line(why, MAX_REASON);
        if why.contains("unexpected end") {
            Self::Truncated(why)
        } else if why.contains("requires the component model async feature") {
            Self::Invalid(format!("{why}; {BUILD_SYNCHRONOUS}"))
        } else {
            Self::Invalid(why)
        }
    }

    /// The error of a load from this file.
    pub(crate) fn at(self, path: &Path) -> LoadError {
        LoadError::Component(path.to_owned(), self)
    }
}

/// What to do about a file that cannot be read.
fn next_step(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "; build it with `qchost plugin build FOLDER`, or correct `component` in the manifest"
        }
        _ => "",
    }
}

/// The most similar action, as the end of a clause; empty if none is similar.
fn near(action: &str, actions: &[String]) -> String {
    nearest(action, actions.iter().map(String::as_str))
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

fn known(actions: &[String]) -> String {
    match actions {
        [] => "none".to_owned(),
        names => text::line(&names.join(", "), MAX_REASON),
    }
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
