//! The compiler's process by itself, for the tests and benchmarks of this crate. A host starts its own
//! program as one.

fn main() -> std::process::ExitCode {
    qchost_runtime::compile_child()
}
