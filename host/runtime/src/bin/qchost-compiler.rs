//! The compiler process as a separate program, for the tests and benchmarks of this crate. A host
//! runs its own executable instead.

fn main() -> std::process::ExitCode {
    qchost_runtime::compile_child()
}
