//! Settings of the operator for all plugins together; the limits of one plugin are in its manifest.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use qchost_folders::SharedPlaces;
use qchost_text::Redactor;

/// Settings of a runtime.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of compiled components. Created if missing, and closed to other users.
    pub cache: PathBuf,
    /// The file with the host's key, which authenticates the cache. Created if missing. It should
    /// be outside of the cache's folder.
    pub key: PathBuf,
    /// The program that compiles components, in a process of its own.
    pub compiler: Compiler,
    /// Limit on processor time for compiling one component; whole seconds, rounded up.
    pub compile_cpu: Duration,
    /// Limit on memory (address space) in bytes for compiling one component. The compiled code may
    /// have a quarter of it.
    pub compile_memory: u64,
    /// Maximum components compiled at a time, each under both limits. `None`: as many as the machine has processors and
    /// memory for.
    pub compilers: Option<usize>,
    /// Compiles four times faster to slower code (Winch instead of Cranelift). For development
    /// only: it is less mature, and has had more sandbox escapes.
    pub baseline: bool,
    /// Maximum concurrent invocations of all plugins together.
    pub invocations: u32,
    /// Maximum bytes of memory of all running plugins together.
    pub memory: u64,
    /// Maximum queued invocations of one plugin.
    pub queue: usize,
    /// How long invocations of a replaced or removed plugin may continue.
    pub drain: Duration,
    /// Maximum concurrent backtests of one batch.
    pub parallel: u32,
    /// Maximum size of a component in bytes.
    pub component: u64,
    /// Maximum size of an action's input in bytes.
    pub input: u64,
    /// Redacts the secrets of the host from what plugins log.
    pub redactor: Redactor,
    /// From what granted folders have to be apart.
    pub places: SharedPlaces,
}

impl Options {
    /// The default of [`component`](Self::component).
    pub const MAX_COMPONENT: u64 = 64 << 20;

    /// The defaults, with the settings that have none.
    ///
    /// ```
    /// use qchost_runtime::{Compiler, Options};
    ///
    /// let compiler = Compiler { program: "qchost-compiler".into(), arguments: Vec::new() };
    /// let mut options = Options::new("cache".into(), "key".into(), compiler);
    /// options.invocations = 16;
    /// assert_eq!(options.memory, 4 << 30);
    /// ```
    #[must_use]
    pub fn new(cache: PathBuf, key: PathBuf, compiler: Compiler) -> Self {
        Self {
            cache,
            key,
            compiler,
            compile_cpu: Duration::from_secs(60),
            compile_memory: 2 << 30,
            compilers: None,
            baseline: false,
            invocations: 128,
            memory: 4 << 30,
            queue: 64,
            drain: Duration::from_secs(30),
            parallel: 8,
            component: Self::MAX_COMPONENT,
            input: 4 << 20,
            redactor: Redactor::default(),
            places: SharedPlaces::default(),
        }
    }
}

/// A program that runs [`compile_child`](crate::compile_child). It must be of the same build as the
/// host: code from another build does not run here.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}
