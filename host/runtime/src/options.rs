//! What the operator sets for all plugins together; what one plugin may use stands in its manifest.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a runtime.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of compiled components. Made if it is not there, and closed to everybody else.
    pub cache: PathBuf,
    /// The file with the host's key, which vouches for what is in the cache. Made if it is not
    /// there. It belongs outside of the cache's folder.
    pub key: PathBuf,
    /// What compiles components, in a process of its own.
    pub compiler: Compiler,
    /// Time on the processor that compiling one component may take; whole seconds, rounded up.
    pub compile_cpu: Duration,
    /// Bytes of memory (address space) that compiling one component may take. What comes of it may
    /// have a quarter of that.
    pub compile_memory: u64,
    /// Compiles four times faster code that runs slower (Winch instead of Cranelift), for development
    /// alone: it is younger, and had more holes in its sandbox.
    pub baseline: bool,
    /// Invocations at a time, of all plugins together.
    pub invocations: u32,
    /// Bytes of memory of all running plugins together.
    pub memory: u64,
    /// Invocations of one plugin that may wait for their turn.
    pub queue: usize,
    /// How long invocations of a plugin that was replaced or removed may go on.
    pub drain: Duration,
    /// The most backtests of one batch at a time.
    pub parallel: u32,
    /// Bytes of the largest component that is loaded.
    pub component: u64,
    /// Bytes of the largest input of an action.
    pub input: u64,
}

impl Options {
    /// The defaults, with what has none.
    #[must_use]
    pub fn new(cache: PathBuf, key: PathBuf, compiler: Compiler) -> Self {
        Self {
            cache,
            key,
            compiler,
            compile_cpu: Duration::from_secs(60),
            compile_memory: 2 << 30,
            baseline: false,
            invocations: 128,
            memory: 4 << 30,
            queue: 64,
            drain: Duration::from_secs(30),
            parallel: 8,
            component: 64 << 20,
            input: 4 << 20,
        }
    }
}

/// A program that runs [`compile_child`](crate::compile_child). It must be of the same build as the
/// host: what another one compiles does not run here.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}
