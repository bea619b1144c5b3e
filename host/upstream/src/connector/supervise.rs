//! The process between the host and a server that runs as its child.
//!
//! A killed host (`kill -9`, out of memory) cannot end anything any more, and a server that ignores the end of its
//! input and SIGTERM would live on with the account's credentials. The supervisor waits for both: for the server, to
//! exit with it, and for the host, to end the server.
//!
//! Invariants: the server is started only while the host lives. The supervisor leads the process group that the server
//! is started in, and the server's input and output are the host's own pipes. The supervisor does not exit before the
//! server, unless it is killed itself. The server is ended by its own process id, as it may have left the group; the
//! rest of the group is killed after it. Processes that a server moves out of the group are not found.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpgid, getpgrp, getpid, getppid, kill_process, kill_process_group,
    pidfd_open,
};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a server may take to exit: once its host is gone after its input ended, and after SIGTERM. The host gives a
/// whole group longer.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The exit status of shells for a command that cannot be run.
const CANNOT_RUN: u8 = 126;

/// Runs `command` for the host with the process id `host`, and ends with either of them. Must be called in a process of
/// its own that leads its process group.
#[must_use]
pub fn supervise(host: i32, command: &[OsString]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(run(host, command)),
        Err(error) => Err(error.to_string()),
    };
    let code = ran.unwrap_or_else(|error| {
        eprintln!("{error}");
        CANNOT_RUN
    });
    ExitCode::from(code)
}

async fn run(host: i32, command: &[OsString]) -> Result<u8, String> {
    let words = |error: std::io::Error| error.to_string();
    let (Some(host), Some((program, arguments))) = (Pid::from_raw(host), command.split_first())
    else {
        return Err("a process id and a command are needed".to_owned());
    };
    if getpgrp() != getpid() {
        return Err("the supervisor of a server has to lead its process group".to_owned());
    }
    let watched = pidfd_open(host, PidfdFlags::empty())
        .map_err(|error| format!("cannot watch the host (process {host:?}): {error}"))?;
    // The id may have been reused by the time it was opened.
    if getppid() != Some(host) {
        return Err("the host is gone".to_owned());
    }
    // The host ends the group by SIGTERM first. That reaches the server too, if it is still in the group.
    let mut terminate = signal(SignalKind::terminate()).map_err(words)?;
    let mut gone = watch(watched).map_err(words)?;
    let mut child = Command::new(program)
        .args(arguments)
        .spawn()
        .map_err(|error| format!("cannot run `{}`: {error}", program.display()))?;
    let why = tokio::select! {
        biased;
        _ = &mut gone => {
            // Its input ended with the host.
            if timeout(EXIT_TIMEOUT, child.wait()).await.is_err() {
                end(&mut child, true).await;
            }
            "the host is gone"
        }
        // The host notices this process's exit, and kills the rest of the group.
        ended = child.wait() => return Ok(ended.map_or(CANNOT_RUN, code)),
        _ = terminate.recv() => {
            let is_apart = number(&child).is_some_and(|pid| getpgid(Some(pid)) != Ok(getpgrp()));
            end(&mut child, is_apart).await;
            "the host ended the server"
        }
    };
    // Including processes that the server left behind, and this one: the host may be gone by now.
    let _ = kill_process_group(getpgrp(), Signal::KILL);
    Err(why.to_owned())
}

/// Notifies when a process is gone. The thread that waits for it is never joined.
fn watch(process: OwnedFd) -> std::io::Result<oneshot::Receiver<()>> {
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        let mut polled = [PollFd::new(&process, PollFlags::IN)];
        while matches!(poll(&mut polled, None), Ok(0) | Err(Errno::INTR)) {}
        // The supervisor may have ended meanwhile.
        tell.send(()).unwrap_or_default();
    })?;
    Ok(told)
}

/// Waits for a server to exit, sends SIGTERM first if `ask`, and kills it in the end.
async fn end(child: &mut Child, ask: bool) {
    if let (true, Some(pid)) = (ask, number(child)) {
        // It may be gone already.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(EXIT_TIMEOUT, child.wait()).await.is_err() {
        drop(child.kill().await);
    }
}

/// The process id of a server that was not waited for.
fn number(child: &Child) -> Option<Pid> {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    id.and_then(Pid::from_raw)
}

/// An exit status as shells report it.
fn code(status: ExitStatus) -> u8 {
    let signal = || status.signal().map(|signal| signal.saturating_add(128));
    status
        .code()
        .or_else(signal)
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(CANNOT_RUN)
}
