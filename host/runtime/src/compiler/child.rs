//! The compiler's own process: it compiles one component and ends.
//!
//! Invariant: its limits are the kernel's, and it has them before it reads the component's first byte.

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::process::ExitCode;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use wasmtime::OutOfMemory;

use super::segments;
use super::wire::{Answer, MAX_LINE, Request};
use crate::engine;

/// Difference of its nice value to the host's.
const NICE: i32 = 10;
/// Open files: the three pipes, and what the standard library opens to count the processors.
const MAX_FILES: u64 = 32;
/// OOM score adjustment: the kernel kills it first when the machine runs out of memory.
const OOM_SCORE: &str = "1000";
/// Seconds of processor time between the signal that identifies the limit and the one that cannot be
/// caught.
const GRACE_SECONDS: u64 = 1;

/// Entry point of the compiler process: reads one request from standard input, writes the answer to
/// standard output, and exits. It first applies the limits of the request to itself.
#[must_use]
pub fn compile_child() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is no other channel to report it.
            drop(writeln!(io::stderr(), "{error}"));
            ExitCode::FAILURE
        }
    }
}

fn work() -> io::Result<()> {
    // Without `/proc` the default score stays, which is no reason not to compile.
    drop(fs::write("/proc/self/oom_score_adj", OOM_SCORE));
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nofile, MAX_FILES, MAX_FILES)?;
    nice(NICE)?;
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    let request: Request = serde_json::from_slice(&line)?;
    // There is no limit on threads: the kernel would count all processes of the user for it, and the
    // memory limit bounds them.
    limit(
        Resource::Cpu,
        request.cpu,
        request.cpu.saturating_add(GRACE_SECONDS),
    )?;
    limit(Resource::As, request.memory, request.memory)?;
    let size = usize::try_from(request.size).map_err(io::Error::other)?;
    let mut component = Vec::new();
    component
        .try_reserve_exact(size)
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    input
        .by_ref()
        .take(request.size)
        .read_to_end(&mut component)?;
    if component.len() != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    drop(input);
    thread::Builder::new().spawn(end_with_the_host)?;

    let compiler = engine::compiling(request.code).map_err(io::Error::other)?;
    let compiled = match segments::excess(&component) {
        Some(why) => Err(wasmtime::Error::msg(why)),
        None => compiler.precompile_component(&component),
    };
    let mut output = io::stdout().lock();
    let (answer, bytes) = match compiled {
        Ok(compiled) => {
            let size = u64::try_from(compiled.len()).map_err(io::Error::other)?;
            (Answer::Compiled { size }, compiled)
        }
        Err(error) if is_out_of_memory(&error) => (Answer::OutOfMemory, Vec::new()),
        Err(error) => {
            let why = error.root_cause().to_string();
            (Answer::Invalid { why }, Vec::new())
        }
    };
    serde_json::to_writer(&mut output, &answer)?;
    output.write_all(b"\n")?;
    output.write_all(&bytes)?;
    output.flush()
}

/// Sets a limit, unless a lower one is set already.
fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let highest = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit {
        current: Some(soft.min(highest)),
        maximum: Some(hard.min(highest)),
    };
    Ok(setrlimit(resource, limit)?)
}

/// Exits when the host is gone, which holds the other end of standard input while it waits. (The kernel's
/// parent-death signal is sent when the *thread* ends that started the process.)
fn end_with_the_host() {
    if !matches!(io::stdin().read(&mut [0]), Ok(1..)) {
        std::process::exit(1);
    }
}

fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.downcast_ref::<OutOfMemory>().is_some()
        || error.chain().any(|cause| {
            let cause = cause.downcast_ref::<io::Error>();
            cause.is_some_and(|cause| cause.kind() == io::ErrorKind::OutOfMemory)
        })
}
