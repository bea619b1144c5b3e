//! The client's end of the control socket; and what it does itself where no host runs.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use nix::unistd::geteuid;
use qchost_runtime::Progress;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec};

use super::{Letter, MAX_LINE, Reply, Report, Reports, Request};
use crate::config::Config;
use crate::host::{Host, private_folder};
use crate::lock::Lock;
use crate::output::{Display, Output, words};
use crate::signals;

/// How long to wait for a data folder that another process uses.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// How long to wait for a host that starts: compiling may be part of it.
const STARTING: Duration = Duration::from_secs(120);
/// How long a host that was started just before may take to show that it is there.
const APPEARING: Duration = Duration::from_secs(1);

/// What becomes of a line of a long result.
pub type OnLine<'a> = &'a mut (dyn FnMut(&str) -> Result<()> + Send);

/// Has something done that has no lines: by the host that runs, or by one in this process, which is
/// then alone with the data folder as every host is.
pub async fn perform(config: &Config, request: Request, output: Output) -> Result<Value> {
    let mut display = output.progress();
    let result = reach(config, request, &mut display).await;
    display.done();
    result
}

/// Has something done by the host that runs; `None` if none does.
pub async fn ask_running(
    config: &Config,
    request: Request,
    output: Output,
    on_line: OnLine<'_>,
) -> Result<Option<Value>> {
    let letter = Letter {
        config: config.path.clone(),
        request,
    };
    let mut display = output.progress();
    let result = ask(&config.socket()?, &letter, &mut display, on_line).await;
    display.done();
    result
}

/// Has something done by the host that runs, or by one that is just starting, as soon as it listens; `None` if there is
/// none.
pub async fn ask_starting(
    config: &Config,
    request: Request,
    output: Output,
) -> Result<Option<Value>> {
    let (data, socket) = (config.data()?, config.socket()?);
    let letter = Letter {
        config: config.path.clone(),
        request,
    };
    let mut display = output.progress();
    let begun = Instant::now();
    let result = loop {
        let asked = ask(&socket, &letter, &mut display, &mut |_| Ok(())).await;
        if !matches!(asked, Ok(None)) {
            break asked;
        }
        let waited = begun.elapsed();
        match Lock::is_taken(&data) {
            true if waited >= STARTING => {
                break Err(anyhow!(
                    "another process has the data folder {} and does not listen at {} after {} s; see what it logs",
                    data.display(),
                    socket.display(),
                    STARTING.as_secs()
                ));
            }
            false if waited >= APPEARING => break asked,
            _ => tokio::time::sleep(BETWEEN_TRIES).await,
        }
    };
    display.done();
    result
}

/// Takes the data folder for a host, as soon as the command that is at work in it has ended. A host that runs there
/// is not waited for.
pub async fn take_lock(config: &Config) -> Result<Lock> {
    let (data, socket) = (config.data()?, config.socket()?);
    let begun = Instant::now();
    loop {
        match Lock::take(&data) {
            Ok(lock) => return Ok(lock),
            Err(error)
                if begun.elapsed() >= PATIENCE || UnixStream::connect(&socket).await.is_ok() =>
            {
                return Err(error);
            }
            Err(_) => tokio::time::sleep(BETWEEN_TRIES).await,
        }
    }
}

async fn reach(config: &Config, request: Request, display: &mut Display) -> Result<Value> {
    let (data, socket) = (config.data()?, config.socket()?);
    let letter = Letter {
        config: config.path.clone(),
        request,
    };
    let begun = Instant::now();
    let lock = loop {
        if let Some(value) = ask(&socket, &letter, display, &mut |_| Ok(())).await? {
            return Ok(value);
        }
        own(&data, &socket)?;
        match Lock::take(&data) {
            Ok(lock) => break lock,
            Err(error) if begun.elapsed() >= PATIENCE => return Err(error),
            // A host that starts will have its socket soon; what another process does may end.
            Err(_) => tokio::time::sleep(BETWEEN_TRIES).await,
        }
    };
    let host = Arc::new(Host::open(config, lock).await?);
    let told = signals::ended();
    let result = tokio::select! {
        result = here(&host, config, letter.request, display) => result,
        () = told => Err(anyhow!("told to end before it was done; what was sent is not undone: read the state before you try again")),
    };
    // Told once more, it ends at once.
    let told = signals::ended();
    tokio::select! {
        _ = host.close(Duration::ZERO) => {}
        () = told => {}
    }
    match result {
        Ok(mut value) => {
            host.redactor().clean_value(&mut value);
            Ok(value)
        }
        Err(error) => bail!(host.redactor().clean(&words(&error)).into_owned()),
    }
}

/// Does what is asked for in this process, for whoever runs it.
async fn here(
    host: &Arc<Host>,
    config: &Config,
    request: Request,
    display: &mut Display,
) -> Result<Value> {
    let person = host.person(geteuid().as_raw()).await?;
    request.prepare(host, config).await?;
    let (reports, mut reported) = Reports::new();
    let work = request.carry_out(host, &person, &reports);
    tokio::pin!(work);
    // What comes in lines is read from the files where no host runs, and not by one in this process.
    let mut show = |report| {
        if let Report::Progress(progress) = report {
            display.report(&progress);
        }
    };
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            Some(report) = reported.recv() => show(report),
        }
    };
    while let Ok(report) = reported.try_recv() {
        show(report);
    }
    result
}

/// Sees to it that the data folder is there and this user's.
fn own(data: &Path, socket: &Path) -> Result<()> {
    if let Ok(found) = std::fs::metadata(data) {
        let (owner, user) = (found.uid(), geteuid());
        ensure!(
            owner == user.as_raw(),
            "no host runs at {}, and this user (uid {user}) cannot be one, since the data folder {} belongs to uid {owner}; \
             have that user start it: qchost run",
            socket.display(),
            data.display()
        );
    }
    private_folder(data)
}

/// Asks the host that listens at a socket; `None` if none does.
async fn ask(
    socket: &Path,
    letter: &Letter,
    display: &mut Display,
    on_line: OnLine<'_>,
) -> Result<Option<Value>> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => bail!(
            "the control socket {} is closed to this user (uid {}): an administrator configures `control.socket` outside of \
             the data folder, adds the user to its group (usermod --append --groups), and to [people]",
            socket.display(),
            geteuid()
        ),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot connect to {}", socket.display()));
        }
    };
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    // A host that does not know this user answers before it reads, and closes.
    let sent = lines.send(serde_json::to_string(letter)?).await;
    while let Some(line) = lines.next().await {
        match serde_json::from_str(&line?)? {
            Reply::Progress { fraction, message } => {
                display.report(&Progress { fraction, message });
            }
            Reply::Line(line) => on_line(&line)?,
            Reply::Done(value) => return Ok(Some(value)),
            Reply::Failed(message) => bail!(message),
        }
    }
    sent.context("the running host did not read the request")?;
    bail!(
        "the running host ended before it answered; a write may have been sent: read the state before you try again"
    )
}
