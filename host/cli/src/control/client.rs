//! The client's end of the control socket; and what it does itself if no host runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use futures::StreamExt as _;
use nix::unistd::geteuid;
use qchost_runtime::Progress;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::message::{Envelope, HEARTBEAT_INTERVAL, Head, MAX_HEAD, MAX_LINE, Reply};
use super::presence::Presence;
use super::route::{Route, RunningHost};
use crate::config::Config;
use crate::data_folder::{DATABASE, check_version, private_folder};
use crate::exit_status::{ErrorKind, Failed};
use crate::host::Host;
use crate::identity_changes;
use crate::lock::{Lock, Refused};
use crate::output::{Display, Output, words};
use crate::reports::{Report, Reports};
use crate::requests::{AskHost, Handler, HostStatus, OnLine, Request, RequestKind};
use crate::signals;

/// How long to wait for a data folder that another process uses.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Polling interval of another process's lock and socket, which nothing announces.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How long a host may take to identify itself.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a host may be silent before the user is told.
const SLOW_HOST_WARNING_TIMEOUT: Duration = Duration::from_secs(2);
/// How much longer a request without effects waits for it.
const READ_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a host may be silent on a request with effects. A host that works on it sends a sign of life every
/// [`HEARTBEAT_INTERVAL`].
const ACT_TIMEOUT: Duration = Duration::from_secs(30);
const _: () = assert!(ACT_TIMEOUT.as_secs() >= 6 * HEARTBEAT_INTERVAL.as_secs());
/// How long a host that was just started may take to appear.
const APPEARANCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Carries out a request without lines: by the running host, or by one in this process, which then has the data folder to
/// itself like any host.
pub async fn perform<R: Handler + Into<Request>>(
    route: &Route,
    request: R,
    output: Output,
) -> Result<R::Answer> {
    let mut display = output.progress();
    let performing = async {
        let approach = approach(route).await?;
        approach.perform(route, request, output, &mut display).await
    };
    let result = performing.await;
    display.done();
    result
}

/// Carries out a request by the running host; `None` if there is none.
pub async fn ask_running<R: Handler + Into<Request>>(
    route: &Route,
    request: R,
    output: Output,
) -> Result<Option<R::Answer>> {
    let display = output.progress();
    ask_on(route, request, output, display, &mut |_| Ok(())).await
}

/// Carries out a request with lines by the running host; `None` if there is none.
pub async fn perform_lines<R: Handler + Into<Request>>(
    route: &Route,
    request: R,
    output: Output,
    on_line: OnLine<'_>,
) -> Result<Option<R::Answer>> {
    let display = output.progress_among_lines();
    ask_on(route, request, output, display, on_line).await
}

async fn ask_on<R: Handler + Into<Request>>(
    route: &Route,
    request: R,
    output: Output,
    mut display: Display,
    on_line: OnLine<'_>,
) -> Result<Option<R::Answer>> {
    let answer = async {
        let Some(found) = route.connect().await? else {
            return Ok(None);
        };
        let request = request.into();
        let done = ask(found.stream, route, &request, output, &mut display, on_line).await?;
        typed::<R>(done).map(Some)
    };
    let result = answer.await;
    display.done();
    result
}

/// The answer in its own form.
fn typed<R: Handler>(answer: Value) -> Result<R::Answer> {
    serde_json::from_value(answer)
        .context("the answer of the host cannot be read: use the command and the host of one version of qchost")
}

/// Carries out a request by the running host, or by one that is just starting, as soon as it listens; `None` if there is
/// none.
pub async fn ask_starting<R: Handler + Into<Request> + Clone>(
    route: &Route,
    request: R,
    output: Output,
) -> Result<Option<R::Answer>> {
    let begun = Instant::now();
    loop {
        let answer = ask_running(route, request.clone(), output).await;
        if !matches!(answer, Ok(None)) {
            return answer;
        }
        let waited = begun.elapsed();
        let Some(data) = route.data() else {
            return answer;
        };
        match Lock::is_taken(&data) {
            true if waited >= LOCK_TIMEOUT => match Lock::take(&data) {
                // It ended just now.
                Ok(_) => return answer,
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Held(holder)) => return Err(in_use_error(&data, holder, None)),
            },
            false if waited >= APPEARANCE_TIMEOUT => return answer,
            _ => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
}

/// Takes the data folder for a host, once the command or the ending host that uses it is done. Does not wait for a running
/// host.
pub async fn take_lock(config: &Config) -> Result<Lock> {
    let (data, socket) = (config.data()?, config.socket()?);
    check_version(&data)?;
    let begun = Instant::now();
    loop {
        let holder = match Lock::take(&data) {
            Ok(lock) => return Ok(lock),
            Err(Refused::Failed(error)) => return Err(error),
            Err(Refused::Held(holder)) => holder,
        };
        let host = status(&data, &socket).await;
        let stays = host.as_ref().is_some_and(|host| !ends(host));
        if stays || begun.elapsed() >= LOCK_TIMEOUT {
            return Err(in_use_error(&data, holder, host));
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Whether a host is shutting down.
fn ends(host: &HostStatus) -> bool {
    let stage = host.stage.as_deref();
    stage.is_some_and(|stage| stage.starts_with("ending"))
}

/// The host running in a data folder, if it answers.
async fn status(data: &Path, socket: &Path) -> Option<HostStatus> {
    let announced = Presence::read(&Presence::in_data(data)).map(|(it, _)| it.socket);
    for socket in announced.iter().map(PathBuf::as_path).chain([socket]) {
        let asking = async {
            let mut stream = UnixStream::connect(socket).await?;
            let sent = message(&Request::from(AskHost {}), Path::new(""))?;
            stream.write_all(sent.as_bytes()).await?;
            let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
            while let Some(line) = lines.next().await {
                if let Reply::Done(status) = Envelope::open(line?.as_bytes())? {
                    return typed::<AskHost>(status);
                }
            }
            bail!("no answer")
        };
        if let Ok(Ok(status)) = tokio::time::timeout(STATUS_TIMEOUT, asking).await {
            return Some(status);
        }
    }
    None
}

/// Why a data folder cannot be taken by a command that does not wait.
pub fn refused(data: &Path, refused: Refused) -> Error {
    match refused {
        Refused::Held(holder) => in_use_error(data, holder, None),
        Refused::Failed(error) => error,
    }
}

/// Whether a host has a data folder, or may have it: the process registered as its host runs, and no other process holds the
/// lock.
pub fn has_host(data: &Path) -> bool {
    let announced = Presence::read(&Presence::in_data(data)).map(|(host, _)| host.pid);
    match Lock::take(data) {
        Err(Refused::Held(holder)) => {
            announced.is_some_and(|host| holder.is_none_or(|it| it == host))
        }
        // Unknown, so assume it.
        Err(Refused::Failed(_)) => true,
        // The lock of a host can be taken if its file was removed.
        Ok(_) => announced.is_some_and(|host| Path::new(&format!("/proc/{host}")).exists()),
    }
}

/// Which process has a data folder, if it is not a host.
pub fn holder_error(data: &Path) -> Error {
    match Lock::take(data) {
        Err(refused) => self::refused(data, refused),
        Ok(_) => Failed::error(
            ErrorKind::UNAVAILABLE,
            "it was at work until now; try again",
        ),
    }
}

/// The error that another process has a data folder.
fn in_use_error(data: &Path, holder: Option<u32>, host: Option<HostStatus>) -> Error {
    Failed::error(ErrorKind::UNAVAILABLE, in_use_words(data, holder, host))
}

/// Which process has a data folder, and the remedy.
fn in_use_words(data: &Path, holder: Option<u32>, host: Option<HostStatus>) -> String {
    let data_is = data.display();
    if let Some(HostStatus {
        pid,
        configuration,
        stage,
        ..
    }) = host
    {
        let configuration = configuration.display();
        return match stage {
            Some(stage) if stage.starts_with("ending") => format!(
                "the host with process id {pid} still uses {data_is}, and is {stage}; try again when it has ended, or end it at once: kill {pid}"
            ),
            Some(stage) => format!(
                "the host with process id {pid} uses {data_is} already, with the configuration {configuration}, and is {stage}; use that one, \
                 end it (kill {pid}), or give this one another `data` folder"
            ),
            None => format!(
                "a host with process id {pid} uses {data_is} already, with the configuration {configuration}; use that one, end it \
                 (kill {pid}), or give this one another `data` folder"
            ),
        };
    }
    let announced = Presence::read(&Presence::in_data(data));
    let is_host = announced.is_some_and(|(host, _)| Some(host.pid) == holder);
    match holder {
        Some(pid) if is_host => format!(
            "the host with process id {pid} uses {data_is}, and does not answer; see what it logs, or end it: kill {pid}"
        ),
        Some(pid) => format!(
            "a command of qchost with process id {pid} is at work in {data_is}, where no host runs; try again when it has ended, or end it: \
             kill {pid}"
        ),
        None => format!(
            "a process that is no host has locked {0}; find out which, and end it: fuser --verbose {0}",
            Lock::path(data).display()
        ),
    }
}

/// A command needs the data folder, found no host, and cannot open the folder or its content. Nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unopened(#[source] Failed);

impl Unopened {
    fn from_error(error: Error) -> Error {
        Error::new(Self(Failed::of(&error, &words(&error), str::to_owned)))
    }
}

/// How a command works.
pub enum Approach<'a> {
    /// Through the running host.
    Host(RunningHost),
    /// By itself: no host runs in the data folder, and none can start.
    Alone {
        config: &'a Config,
        lock: Lock,
        /// Whether no host has ever run in the data folder.
        is_new: bool,
    },
}

/// Finds the running host, or takes the data folder if there is none.
pub async fn approach(route: &Route) -> Result<Approach<'_>> {
    let begun = Instant::now();
    loop {
        if let Some(host) = route.connect().await? {
            return Ok(Approach::Host(host));
        }
        let config = match route.config() {
            Ok(config) if route.names_socket().is_none() => config,
            Ok(_) => return Err(route.none_runs(&anyhow!("nothing was done"))),
            Err(error) => return Err(route.none_runs(&error)),
        };
        let data = config.data()?;
        check_owner(route, &data)
            .and_then(|()| check_version(&data))
            .map_err(Unopened::from_error)?;
        let is_new = !data.join(DATABASE).exists();
        match Lock::take(&data) {
            Ok(lock) => {
                return Ok(Approach::Alone {
                    config,
                    lock,
                    is_new,
                });
            }
            Err(Refused::Failed(error)) => return Err(Unopened::from_error(error)),
            Err(Refused::Held(holder)) if begun.elapsed() >= LOCK_TIMEOUT => {
                return Err(in_use_error(&data, holder, None));
            }
            // A starting host will have its socket soon; another process may end.
            Err(Refused::Held(_)) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
}

impl Approach<'_> {
    /// Like [`perform`], on a display of the caller's.
    pub async fn perform<R: Handler + Into<Request>>(
        self,
        route: &Route,
        request: R,
        output: Output,
        display: &mut Display,
    ) -> Result<R::Answer> {
        let request = request.into();
        let answer = match self {
            Self::Host(found) => {
                let stream = found.stream;
                ask(stream, route, &request, output, display, &mut |_| Ok(())).await?
            }
            Self::Alone { config, lock, .. } => {
                alone(config, lock, request, output, display).await?
            }
        };
        typed::<R>(answer)
    }
}

/// Carries out a request by a host in this process.
async fn alone(
    config: &Config,
    lock: Lock,
    request: Request,
    output: Output,
    display: &mut Display,
) -> Result<Value> {
    let rules = request.kind().rules();
    if rules.outlasts {
        output.note(&format!(
            "no host runs in {}: this is for the next one that starts there",
            config.data()?.display()
        ));
    }
    let host = match rules.opens_to_halt {
        true => Host::open_to_halt(config, lock).await,
        false => Host::open(config, lock).await,
    };
    let host = Arc::new(host.map_err(Unopened::from_error)?);
    let signal = signals::ended();
    let result = tokio::select! {
        result = here(&host, config, request, display) => result,
        () = signal => Err(Failed::error(
            ErrorKind::UNKNOWN_OUTCOME,
            "interrupted before it was done; what was sent is not undone: read the state before you try again",
        )),
    };
    identity_changes::record(&host).await;
    // A second signal ends it at once.
    let signal = signals::ended();
    tokio::select! {
        _ = host.close(Duration::ZERO) => {}
        () = signal => {}
    }
    result.map_err(|error| {
        let redactor = host.redactor();
        let clean = |text: &str| redactor.clean(text).into_owned();
        Error::new(Failed::of(&error, &words(&error), clean))
    })
}

/// Carries out a request in this process, for the user that runs it.
async fn here(
    host: &Arc<Host>,
    config: &Config,
    request: Request,
    display: &mut Display,
) -> Result<Value> {
    let person = host.person(geteuid().as_raw()).await?;
    request.prepare(host, config).await?;
    let (reports, mut reported) = Reports::new(host.redactor().clone());
    let work = request.handle_here(host, &person, &reports);
    tokio::pin!(work);
    // Results with lines are read from the files if no host runs, rather than by a host in this process. A halt has no calls
    // of another process to wait for.
    let mut show = |report| match report {
        Report::Progress(progress) => display.report(&progress),
        Report::Log(row) => display.log(&row),
        Report::LogLeftOut(lines) => display.log_left_out(lines),
        Report::Halted(_) | Report::Line(_) => {}
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

/// Checks that the data folder exists and belongs to this user. Another user's folder may have a host that this user cannot
/// see.
fn check_owner(route: &Route, data: &Path) -> Result<()> {
    if let Ok(found) = std::fs::metadata(data) {
        let (owner, user) = (found.uid(), geteuid());
        if owner != user.as_raw() {
            let message = format!(
                "{}; this user (uid {user}) cannot do it without one, since the data folder {} belongs to uid {owner}",
                route.none_found(),
                data.display()
            );
            return Err(Failed::error(ErrorKind::UNAVAILABLE, message));
        }
    }
    private_folder(data)
}

/// A host that received a request.
struct PendingReply {
    /// Its description for messages.
    host: String,
    /// The command that shows whether the request took effect; `None` if it has no effects.
    read_back: Option<&'static str>,
    output: Output,
}

impl PendingReply {
    /// Waits for the host's first reply, which it sends as soon as it has read the request, and warns if it stays silent. A
    /// request without effects is given up soon; one with effects may have been read already, so it waits longer.
    async fn first_reply<T>(&self, first: impl Future<Output = T>) -> Result<T> {
        let Self {
            host,
            read_back,
            output,
        } = self;
        let mut first = pin!(first);
        if let Ok(reply) = tokio::time::timeout(SLOW_HOST_WARNING_TIMEOUT, &mut first).await {
            return Ok(reply);
        }
        let seconds = SLOW_HOST_WARNING_TIMEOUT.as_secs();
        output.note(&format!(
            "{host} has not answered for {seconds} s; still waiting"
        ));
        let limit = match read_back {
            None => READ_TIMEOUT,
            Some(_) => ACT_TIMEOUT - SLOW_HOST_WARNING_TIMEOUT,
        };
        let reply = tokio::time::timeout(limit, first).await;
        reply.map_err(|_| self.silence_error())
    }

    /// Waits for further replies. The host sends signs of life at an interval.
    async fn next_reply<T>(&self, next: impl Future<Output = T>) -> Result<T> {
        let reply = tokio::time::timeout(ACT_TIMEOUT, next).await;
        reply.map_err(|_| self.silence_error())
    }

    fn silence_error(&self) -> Error {
        let Self {
            host, read_back, ..
        } = self;
        match read_back {
            None => Failed::error(
                ErrorKind::UNAVAILABLE,
                format!(
                    "{host} does not answer; see what it logs, and whether it is stopped or hangs"
                ),
            ),
            Some(read_back) => Failed::error(
                ErrorKind::UNKNOWN_OUTCOME,
                format!(
                    "no answer from {host}: it may still be carried out when the host goes on; read it back with: {read_back}; \
                     see what the host logs, and whether it is stopped or hangs"
                ),
            ),
        }
    }
}

/// A request as it is sent, for the accounts of a configuration.
fn message(request: &Request, config: &Path) -> Result<String> {
    let body = serde_json::to_string(request)?;
    let head = serde_json::to_string(&Envelope::new(Head {
        config: config.to_owned(),
        verb: request.kind(),
        about: request.about().map(str::to_owned),
        bytes: u64::try_from(body.len())?,
    }))?;
    ensure!(
        u64::try_from(head.len())? < MAX_HEAD,
        "the name of a plugin or an account, or the path of the configuration, is too long"
    );
    Ok(format!("{head}\n{body}"))
}

/// Sends a request to a connected host.
async fn ask(
    stream: UnixStream,
    route: &Route,
    request: &Request,
    output: Output,
    display: &mut Display,
    on_line: OnLine<'_>,
) -> Result<Value> {
    let message = message(request, route.path())?;
    let pending = PendingReply {
        host: match stream.peer_cred().ok().and_then(|peer| peer.pid()) {
            Some(pid) => format!("the host (process {pid})"),
            None => "the host".to_owned(),
        },
        read_back: request.kind().rules().read_back,
        output,
    };
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    let first = async {
        // A host that denies a request replies before reading it, and closes the connection.
        let sent = lines.get_mut().write_all(message.as_bytes()).await;
        (sent, lines.next().await)
    };
    let (sent, mut line) = pending.first_reply(first).await?;
    while let Some(read) = line {
        let read = match read {
            // It ended with the request, or some of it, unread.
            Err(LinesCodecError::Io(_)) => break,
            read => read?,
        };
        let reply = Envelope::open(read.as_bytes()).context("the answer of the host")?;
        match reply {
            Reply::Host {
                pid,
                configuration,
                stage,
            } => {
                if let Some(note) = route.note(pid, &configuration) {
                    output.note(&note);
                }
                if let Some(stage) = stage {
                    output.note(&format!("the running host (process {pid}) is {stage}"));
                }
            }
            Reply::Progress { fraction, message } => {
                display.report(&Progress { fraction, message });
            }
            Reply::Beat => {}
            Reply::Halted(message) => display.halted(message),
            Reply::Line(line) => on_line(&line)?,
            Reply::Log(row) => display.log(&row),
            Reply::LogLeftOut(lines) => display.log_left_out(lines),
            Reply::Done(value) => return Ok(value),
            Reply::Failed(failed) => return Err(Error::new(failed)),
        }
        line = pending.next_reply(lines.next()).await?;
    }
    if let Err(error) = sent {
        let message = format!("the running host did not read the request: {error}");
        return Err(Failed::error(ErrorKind::UNAVAILABLE, message));
    }
    match request.kind() {
        RequestKind::Invoke | RequestKind::Call => Err(Failed::error(
            ErrorKind::UNKNOWN_OUTCOME,
            "the running host ended before it answered; a write may have been sent: read the state before you try again",
        )),
        _ => Err(Failed::error(
            ErrorKind::UNAVAILABLE,
            "the running host ended before it answered; ask again, and see what it logs if it is not there any more",
        )),
    }
}
