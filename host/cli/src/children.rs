//! How this executable runs itself: as the compiler of components, and as the supervisor of an account's server.

use qchost_runtime::Compiler;
use qchost_upstream::Supervisor;

/// The hidden verb that runs this executable as compiler.
const COMPILE: &str = "compile-component";
/// The hidden verb that runs the command of an account.
const SUPERVISE: &str = "supervise-server";

/// This executable, as the compiler of components.
///
/// The link in `/proc` leads to the running executable, even if an upgrade has replaced its file: the path would lead to
/// the new one, whose code the old one cannot run.
pub fn compiler() -> Compiler {
    Compiler {
        program: "/proc/self/exe".into(),
        arguments: vec![COMPILE.into()],
    }
}

/// This executable, as the supervisor of the servers that run as its children.
pub fn supervisor() -> Supervisor {
    Supervisor {
        program: "/proc/self/exe".into(),
        arguments: vec![SUPERVISE.into()],
    }
}
