//! The threads that connections live on.
//!
//! The MCP library reads and parses a message inside its own task, and a message may have 64 MiB. On the threads that
//! serve plugins, a server that sends such messages would hold those up; so every connection, with all tasks that belong
//! to it, lives on a runtime of its own. It belongs to the process and not to an account: its threads are as many as the
//! machine has processors, however many accounts there are.
//!
//! That the threads last as long as the process matters to child processes too: their parent-death signal is that of the
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

/// The runtime of the connections; started at the first use.
///
/// # Errors
///
/// Why it did not start, in words. It is not tried again in this process.
pub(crate) fn connections() -> Result<&'static Handle, String> {
    match &*RUNTIME {
        Ok(runtime) => Ok(runtime.handle()),
        Err(error) => Err(format!(
            "the threads for connections do not start: {error}; raise the limit of threads or of open files, and start the host again"
        )),
    }
}
