//! The threads for connections.
//!
//! The MCP library reads and parses a message inside its own task, and a message may have 64 MiB. On the threads that
//! serve plugins, such messages would delay other work; so every connection, with all its tasks, lives on a separate
//! runtime. It belongs to the process rather than to an account: it has as many threads as the machine has processors,
//! independent of the number of accounts.
//!
//! That the threads last as long as the process matters to child processes too: their parent-death signal is tied to the
//! thread that started them.
//!
//! Invariant: no message of a server is parsed on a thread that serves plugins or control.

use std::io;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .enable_all()
        .thread_name("qchost-upstream")
        .build()
});

/// The runtime of the connections; started on first use.
///
/// # Errors
///
/// Why it did not start, in words. It is not retried in this process.
pub(crate) fn connections() -> Result<&'static Handle, String> {
    match &*RUNTIME {
        Ok(runtime) => Ok(runtime.handle()),
        Err(error) => Err(format!(
            "the threads for connections do not start: {error}; raise the limit of threads or of open files, and start the host again"
        )),
    }
}
