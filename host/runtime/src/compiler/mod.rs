//! Components are compiled in a separate process, since a compiler cannot be interrupted from inside.
//!
//! A component of a few kilobytes can keep a compiler busy for hours or make it use all memory. So the
//! host starts a compiler for each component, under the kernel's limits on time and memory, with lower
//! priority than the host, an empty environment and three pipes. Invalid components are detected there as
//! well.
//!
//! Invariant: whatever a component does to its compiler, the host gets code or an error in bounded time,
//! and nothing of the compiler remains.

mod child;
mod memory;
mod segments;
mod wire;

use std::io;
use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, Command};

pub use child::compile_child;

use crate::engine::CodeSettings;
use crate::load_error::{ComponentError, MAX_REASON};
use crate::options::{Compiler, Options};
use crate::text;
use wire::{Answer, MAX_LINE, Request};

/// Maximum threads of a compiler.
const MAX_THREADS: usize = 8;
/// Sets the number of its threads, by the library that starts them.
const THREADS_SETTING: &str = "RAYON_NUM_THREADS";
/// Maximum compilers at a time.
const MAX_COMPILERS: usize = 3;
/// Time limit of a compiler as a multiple of its processor time: the machine may be busy with processes of
/// higher priority.
const TIMEOUT_FACTOR: u32 = 10;
/// Minimum time limit of a compiler. It only ends a compiler that hangs, which should not happen.
const MIN_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum bytes read of a compiler's error output.
const MAX_STDERR: u64 = 4096;
/// Bytes of memory that the compiler needs per byte of compiled code: at the end, both its parts and the
/// whole are in memory.
const MEMORY_FACTOR: u64 = 4;

/// Code made by a compiler of this host, or verified by this host's key. It cannot be constructed
/// otherwise.
pub(crate) struct Compiled(Bytes);

impl Compiled {
    /// The caller has verified that this host compiled these bytes.
    pub(crate) fn verified(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Starts compilers.
#[derive(Debug)]
pub(crate) struct Compilers {
    start: Compiler,
    code: CodeSettings,
    cpu: Duration,
    memory: u64,
    /// Time limit of one compiler.
    timeout: Duration,
}

impl Compilers {
    /// Compilers of code for the engine with these settings.
    pub(crate) fn new(options: &Options, code: CodeSettings) -> Self {
        Self {
            start: options.compiler.clone(),
            code,
            cpu: options.compile_cpu,
            memory: options.compile_memory,
            timeout: options
                .compile_cpu
                .saturating_mul(TIMEOUT_FACTOR)
                .max(MIN_TIMEOUT),
        }
    }

    /// How many compilers the machine has processors for, and memory if each takes all that it may. A control group that
    /// allows less memory counts instead of the machine.
    pub(crate) fn side_by_side(&self) -> usize {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let fit = usize::try_from(memory::available() / self.memory.max(1)).unwrap_or(usize::MAX);
        processors.min(fit).clamp(1, MAX_COMPILERS)
    }

    /// Compiles a component. Dropping the future kills the compiler.
    pub(crate) async fn compile(&self, component: &[u8]) -> Result<Compiled, ComponentError> {
        let mut child = self.spawn().map_err(|error| {
            let program = self.start.program.display();
            ComponentError::Compiler(format!("{program} cannot be started: {error}"))
        })?;
        match tokio::time::timeout(self.timeout, self.exchange(&mut child, component)).await {
            Ok(Ok(exit)) => self.outcome(exit),
            Ok(Err(error)) => Err(ComponentError::Compiler(error.to_string())),
            Err(_) => Err(ComponentError::Compiler(format!(
                "it was not done after {} s",
                self.timeout.as_secs_f64()
            ))),
        }
    }

    fn outcome(&self, exit: CompilerExit) -> Result<Compiled, ComponentError> {
        let too_much_memory = Err(ComponentError::CompileMemory(self.memory));
        match exit.answer {
            CompilerReply::Answer(Answer::Compiled { .. }, bytes) if exit.status.success() => {
                return Ok(Compiled(bytes.into()));
            }
            CompilerReply::Answer(Answer::Invalid { why }, _) => {
                return Err(ComponentError::invalid(&why));
            }
            CompilerReply::Answer(Answer::OutOfMemory, _) | CompilerReply::TooMuch => {
                return too_much_memory;
            }
            CompilerReply::Answer(Answer::Compiled { .. }, _) | CompilerReply::Nothing => {}
        }
        let killed_by = |signal: Signal| exit.status.signal() == Some(signal.as_raw());
        if killed_by(Signal::XCPU) {
            return Err(ComponentError::CompileTime(self.cpu));
        }
        if out_of_memory(&exit.complaint) {
            return too_much_memory;
        }
        let mut why = if killed_by(Signal::KILL) {
            "it was killed; the machine may have too little memory".to_owned()
        } else {
            format!("it ended with {}", exit.status)
        };
        if !exit.complaint.is_empty() {
            why.push_str(": ");
            why.push_str(&text::line(&exit.complaint, MAX_REASON));
        }
        Err(ComponentError::Compiler(why))
    }

    fn spawn(&self) -> io::Result<Child> {
        let threads = thread::available_parallelism()?.get().min(MAX_THREADS);
        Command::new(&self.start.program)
            .args(&self.start.arguments)
            .env_clear()
            .env(THREADS_SETTING, threads.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is handled by the host: the compile may still be awaited.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Sends the component, and reads until the compiler has ended.
    async fn exchange(&self, child: &mut Child, component: &[u8]) -> io::Result<CompilerExit> {
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut input), Some(output), Some(errors)) = pipes else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let request = Request {
            code: self.code,
            cpu: wire::seconds(self.cpu),
            memory: self.memory,
            size: u64::try_from(component.len()).map_err(io::Error::other)?,
        };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        let send = async {
            input.write_all(&line).await?;
            input.write_all(component).await?;
            input.flush().await
        };
        let largest = self.memory / MEMORY_FACTOR;
        // How it ended says more than a write error does.
        let (_sent, answer, complaint) =
            tokio::join!(send, read_answer(output, largest), read_complaint(errors));
        // It exits when this end is closed.
        drop(input);
        Ok(CompilerExit {
            status: child.wait().await?,
            answer: answer?,
            complaint: complaint?,
        })
    }
}

/// The answer of a compiler.
enum CompilerReply {
    Answer(Answer, Vec<u8>),
    TooMuch,
    Nothing,
}

async fn read_answer(output: impl AsyncRead + Unpin, largest: u64) -> io::Result<CompilerReply> {
    let mut output = BufReader::with_capacity(1 << 16, output);
    let mut line = Vec::new();
    (&mut output)
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .await?;
    let Ok(answer) = serde_json::from_slice(&line) else {
        return Ok(CompilerReply::Nothing);
    };
    let Answer::Compiled { size } = answer else {
        return Ok(CompilerReply::Answer(answer, Vec::new()));
    };
    if size > largest {
        return Ok(CompilerReply::TooMuch);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(io::Error::other)?);
    output.take(size).read_to_end(&mut bytes).await?;
    if u64::try_from(bytes.len()) != Ok(size) {
        return Ok(CompilerReply::Nothing);
    }
    Ok(CompilerReply::Answer(answer, bytes))
}

/// Reads the beginning, and discards the rest.
async fn read_complaint(mut errors: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut bytes = Vec::new();
    (&mut errors)
        .take(MAX_STDERR)
        .read_to_end(&mut bytes)
        .await?;
    tokio::io::copy(&mut errors, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// How a compiler ended.
struct CompilerExit {
    status: ExitStatus,
    answer: CompilerReply,
    complaint: String,
}

/// Messages of Rust's allocator, its threads and the kernel when memory is exhausted.
fn out_of_memory(complaint: &str) -> bool {
    [
        "memory allocation of",
        "out of memory",
        "Cannot allocate memory",
        "Resource temporarily unavailable",
    ]
    .iter()
    .any(|words| complaint.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compilers(memory: u64) -> Compilers {
        Compilers {
            start: Compiler {
                program: "/bin/sh".into(),
                arguments: vec!["-c".into(), "exec sleep 600".into()],
            },
            code: CodeSettings {
                baseline: false,
                checked: false,
            },
            cpu: Duration::from_secs(1),
            memory,
            timeout: Duration::from_millis(200),
        }
    }

    #[test]
    fn as_many_compile_at_a_time_as_the_machine_has_processors_and_memory_for() {
        let processors = thread::available_parallelism().unwrap().get();
        assert_eq!(compilers(1).side_by_side(), processors.min(MAX_COMPILERS));
        assert_eq!(compilers(u64::MAX).side_by_side(), 1);
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended() {
        let compilers = compilers(1 << 20);
        // More than fits into a pipe without a reader.
        let component = vec![0; 1 << 20];
        let error = compilers.compile(&component).await.map(drop).unwrap_err();
        let ComponentError::Compiler(why) = error else {
            panic!("{error}");
        };
        assert_eq!(why, "it was not done after 0.2 s");
    }
}
