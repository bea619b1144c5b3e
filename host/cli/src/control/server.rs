//! The host's end of the control socket, on the control plane.
//!
//! Invariants: whether a request is allowed is decided before the request itself is read, and again if other people are in
//! force by the time it is carried out. A request continues whether or not the client reads the reports, so limits and
//! shutdown always reach it. What stops the host is done on this thread; everything else is done where it may block.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::unistd::geteuid;
use qchost_secrets::Redactor;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::authority::{AuthorizedRequest, refuse_stranger};
use super::limits::RequestGuard;
use super::message::{Envelope, HEARTBEAT_INTERVAL, Head, MAX_HEAD, Reply};
use super::reserve::Spare;
use super::shared::Shared;
use super::urgent;
use crate::exit_status::{ErrorKind, Failed};
use crate::output::words;
use crate::pulse::{self, Pulse};
use crate::reports::{Report, Reports};
use crate::requests::{Class, HostStatus, Request, RequestKind};

/// Time without a new client after which all that connected before shutdown have been accepted.
const LAST_CLIENT_TIMEOUT: Duration = Duration::from_millis(20);
/// How long clients have to read the reply at shutdown.
const LAST_REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for the first line of a request, and between two chunks of the request.
const REQUEST_LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// The same limit for a connection that uses a reserved file descriptor.
const SPARE_TIMEOUT: Duration = Duration::from_millis(500);
/// Time limit for the whole request after its first line.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause of accepting when no file descriptor is free; the system does not announce when one is.
const CROWDED_INTERVAL: Duration = Duration::from_millis(20);
/// How long a client may not read progress before it gets no more of it.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may not read its reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait for a client to read what can be sent later as well.
const BEAT_WRITE_TIMEOUT: Duration = Duration::from_millis(1);
/// Interval of reports while the host starts or shuts down: the stage is composed for each, and changes too often to
/// report every change.
const STAGE_INTERVAL: Duration = Duration::from_millis(500);
/// How often counted denials are checked.
const DENIALS_INTERVAL: Duration = Duration::from_secs(5);
/// Requests up to this many bytes are parsed on this thread, larger ones on another.
const MAX_INLINE: usize = 64 << 10;
/// Maximum values in a request. Each takes memory of its own, however short its text is.
const MAX_VALUES: usize = 1_000_000;

/// Serves until shutdown, and answers the watchdog. Each client has a task of its own. Clients that had connected by then get a reply too: remove the
/// socket's file before, so that no other client connects.
pub(super) async fn serve(
    listener: UnixListener,
    shared: Arc<Shared>,
    end: CancellationToken,
    mut asked: mpsc::UnboundedReceiver<Pulse>,
) -> Result<()> {
    let clients = TaskTracker::new();
    let denials = AbortOnDropHandle::new(tokio::spawn(flush_denials(Arc::clone(&shared))));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &shared) => accepted?,
            Some(pulse) = asked.recv() => {
                pulse::answer(pulse);
                continue;
            }
            () = end.cancelled() => match tokio::time::timeout(LAST_CLIENT_TIMEOUT, accept(&listener, &shared)).await {
                Ok(accepted) => accepted?,
                Err(_) => break,
            },
        };
        let (stream, spare) = accepted;
        let shares = Arc::clone(&shared);
        clients.spawn(async move {
            if let Err(error) = answer(stream, &shares, spare.as_ref()).await {
                tracing::debug!(target: "host", "a client of the control socket left: {error:#}");
            }
        });
        // Each is read before the next one is accepted, so that a flood of connections does not push out those with
        // requests.
        tokio::task::yield_now().await;
    }
    clients.close();
    // Idle clients are not waited for.
    drop(tokio::time::timeout(LAST_REPLY_TIMEOUT, clients.wait()).await);
    drop(denials);
    Ok(())
}

async fn flush_denials(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(DENIALS_INTERVAL).await;
        if let Some(host) = shared.opened() {
            shared.denials.flush(&host, false).await;
        }
    }
}

/// The next client. Without a free file descriptor, it accepts one by the reserve, for requests that stop the host, and when
/// that is used up, closes idle connections. Cancel safe.
async fn accept(
    listener: &UnixListener,
    shared: &Shared,
) -> std::io::Result<(UnixStream, Option<Spare>)> {
    // Another thread may be quicker to take the descriptor that was released.
    let mut spares = Vec::new();
    loop {
        let error = match listener.accept().await {
            Ok((stream, _)) => {
                let spare = spares.pop();
                drop(spares);
                // Others may have been closed meanwhile, which makes this an ordinary client.
                return Ok((stream, spare.filter(|_| !shared.reserve.fill())));
            }
            Err(error) => error,
        };
        let known = error.raw_os_error().map(Errno::from_raw);
        match known {
            Some(Errno::ECONNABORTED | Errno::EINTR) => {}
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                if spares.is_empty() && shared.may_log_crowded() {
                    tracing::warn!(
                        target: "host",
                        "no further client of the control socket for now, but for halts: {error}"
                    );
                }
                match shared.reserve.release() {
                    Some(released) => spares.push(released),
                    // The evicted connection is closed when its task runs next.
                    None if shared.limits.evict() => tokio::task::yield_now().await,
                    None => tokio::time::sleep(CROWDED_INTERVAL).await,
                }
            }
            _ => return Err(error),
        }
    }
}

async fn answer(stream: UnixStream, shared: &Arc<Shared>, spare: Option<&Spare>) -> Result<()> {
    let uid = stream
        .peer_cred()
        .context("the kernel does not say who the client is")?
        .uid();
    let (read, write) = stream.into_split();
    let (mut source, mut sink) = (BufReader::new(read), Sink::new(write));
    match admit(uid, &mut source, shared, spare).await {
        Ok(Admitted::Request(authorized, head, request, guard)) => {
            let greeting = Reply::Host {
                pid: std::process::id(),
                configuration: shared.configuration(),
                stage: shared.stage(),
            };
            sink.send(&greeting, WRITE_TIMEOUT).await?;
            work(&authorized, &head, *request, shared, source, sink).await?;
            drop(guard);
            Ok(())
        }
        Ok(Admitted::Host(status)) => {
            let status = serde_json::to_value(status)?;
            sink.send(&Reply::Done(status), WRITE_TIMEOUT).await?;
            Ok(())
        }
        Ok(Admitted::Left) => Ok(()),
        Err(error) => {
            let reply = failed(&error, &shared.redactor());
            sink.send(&reply, WRITE_TIMEOUT).await?;
            Ok(())
        }
    }
}

/// The result of reading a request.
enum Admitted {
    /// A person with an allowed request.
    Request(AuthorizedRequest, Head, Box<Request>, RequestGuard),
    /// A request for the status only: by a person, the user who runs the host, or root.
    Host(HostStatus),
    /// It disconnected, or had to make room.
    Left,
}

/// Reads a client's request, as far as it is allowed.
async fn admit(
    uid: u32,
    source: &mut BufReader<OwnedReadHalf>,
    shared: &Arc<Shared>,
    spare: Option<&Spare>,
) -> Result<Admitted> {
    let idle = shared.limits.connected(uid);
    let owns = uid == 0 || uid == geteuid().as_raw();
    if !shared.knows(uid) && !owns {
        // Nothing is read.
        return Err(refuse_stranger(uid, shared).await);
    }
    let timeout = spare.map_or(REQUEST_LINE_TIMEOUT, |_| SPARE_TIMEOUT);
    let head = tokio::select! {
        head = tokio::time::timeout(timeout, read_head(source)) => match head {
            Ok(head) => head?,
            Err(_) => bail!("nothing was asked for {} s", timeout.as_secs_f64()),
        },
        () = idle.evicted.cancelled() => return Ok(Admitted::Left),
    };
    let Some(head) = head else {
        return Ok(Admitted::Left);
    };
    if head.verb == RequestKind::Host && owns {
        return Ok(Admitted::Host(status(shared)));
    }
    let request_lock = match shared.operates(uid) || owns {
        true => None,
        false => match idle.wait().await {
            Some(request_lock) => Some(request_lock),
            None => return Ok(Admitted::Left),
        },
    };
    let rules = head.verb.rules();
    let class = rules.class;
    ensure!(
        spare.is_none() || class == Class::Control,
        "the host may open no more files, and keeps what is left for those who halt it; try again in a moment, or raise its limit (ulimit -n)"
    );
    ensure!(
        head.bytes <= rules.max_bytes,
        "the request has {} bytes, and `{}` takes at most {}",
        head.bytes,
        rules.right.word(),
        rules.max_bytes
    );
    let guard = idle
        .admit(class, head.bytes)
        .map_err(|why| Failed::error(ErrorKind::LIMITED, why))?;
    drop(idle);
    // After the limits, since a flood of requests costs less to count than to decide.
    let about = head.about.as_deref();
    let authorized = AuthorizedRequest::decide(uid, head.verb, about, shared).await?;
    drop(request_lock);
    if head.verb == RequestKind::Host {
        return Ok(Admitted::Host(status(shared)));
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, read_body(source, head.bytes)).await;
    let body = body.map_err(|_| {
        anyhow!(
            "the request is not all there after {} s",
            BODY_TIMEOUT.as_secs()
        )
    })??;
    let request = if body.len() <= MAX_INLINE {
        parse(&body)?
    } else {
        tokio::task::spawn_blocking(move || parse(&body)).await??
    };
    ensure!(
        request.kind() == head.verb && request.about() == about,
        "the request is not the one that its first line says"
    );
    Ok(Admitted::Request(
        authorized,
        head,
        Box::new(request),
        guard,
    ))
}

/// The host's identity and state.
fn status(shared: &Shared) -> HostStatus {
    HostStatus {
        pid: std::process::id(),
        configuration: shared.configuration(),
        data: shared.data.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        stage: shared.stage(),
    }
}

/// The first line; `None` if the client disconnected without one.
async fn read_head(source: &mut BufReader<OwnedReadHalf>) -> Result<Option<Head>> {
    let mut line = Vec::new();
    let mut bounded = source.take(MAX_HEAD);
    bounded.read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    ensure!(
        line.ends_with(b"\n"),
        "the first line of the request is cut off, or has more than {MAX_HEAD} bytes"
    );
    let head = Envelope::open(&line).context("the first line of the request")?;
    Ok(Some(head))
}

async fn read_body(source: &mut BufReader<OwnedReadHalf>, bytes: u64) -> Result<Vec<u8>> {
    let bytes = usize::try_from(bytes)?;
    // The buffer grows with the data received: the announced size takes no memory.
    let mut body = Vec::new();
    let mut piece = vec![0; MAX_INLINE.min(bytes)];
    while body.len() < bytes {
        let max = piece.len().min(bytes - body.len());
        let room = piece.get_mut(..max).unwrap_or_default();
        let read = tokio::time::timeout(REQUEST_LINE_TIMEOUT, source.read(room))
            .await
            .context("the request was not sent completely")??;
        ensure!(read > 0, "the request is cut off");
        body.extend_from_slice(piece.get(..read).unwrap_or_default());
    }
    Ok(body)
}

fn parse(body: &[u8]) -> Result<Request> {
    // Every value but the first follows one of these.
    let values = body
        .iter()
        .filter(|byte| matches!(byte, b',' | b'[' | b'{'));
    ensure!(
        values.count() < MAX_VALUES,
        "the request has more than {MAX_VALUES} values"
    );
    serde_json::from_slice(body).context("the request cannot be read")
}

/// Carries out a request, and sends the client progress and result.
async fn work(
    authorized: &AuthorizedRequest,
    head: &Head,
    request: Request,
    shared: &Arc<Shared>,
    mut source: BufReader<OwnedReadHalf>,
    mut sink: Sink,
) -> Result<()> {
    let (reports, mut reported) = Reports::new(shared.redactor());
    let rules = head.verb.rules();
    let (waits, class) = (rules.waits_for_plugins, rules.class);
    let config = head.config.clone();
    let doing = async {
        let shares = Arc::clone(shared);
        match class {
            Class::Control => urgent::carry_out(&shares, authorized, request, &reports).await,
            // Done by a blocking thread next to this one, which stays occupied until the audit is read completely.
            Class::Read => {
                let (host, person) = authorized.confirm(&shares).await?;
                request.handle(&host, &person, &reports).await
            }
            Class::Invocation | Class::Other => {
                let (host, person) = authorized.confirm(&shares).await?;
                let reports = reports.clone();
                let done = shares.main.spawn(async move {
                    if rules.is_for_accounts {
                        host.check_configuration(&config).await?;
                    }
                    request.handle(&host, &person, &reports).await
                });
                AbortOnDropHandle::new(done)
                    .await
                    .context("the host failed while it did this")?
            }
        }
    };
    let mut doing = std::pin::pin!(doing);
    let mut gone = std::pin::pin!(async {
        // A further byte or the end: either way the client does not wait for us.
        let _ = source.read_u8().await;
    });
    let mut staging = tokio::time::interval(STAGE_INTERVAL);
    let mut stage = None;
    let mut muted = false;
    // The last step that was not sent, since the client did not read.
    let mut unsent = None;
    let mut log_left_out = 0;
    let mut beat =
        tokio::time::interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let result = loop {
        let report = tokio::select! {
            biased;
            // Before branches that may always be ready.
            _ = beat.tick() => {
                // A client that reads again gets progress again.
                muted = muted && !sink.is_read().await;
                if !muted {
                    muted = !sink.send(&Reply::Beat, BEAT_WRITE_TIMEOUT).await.unwrap_or(false);
                }
                continue;
            }
            Some(report) = reported.recv() => report,
            result = &mut doing => break result,
            // A halt continues without its client.
            () = &mut gone, if class != Class::Control => bail!("it left before the answer"),
            _ = staging.tick(), if waits || shared.opened().is_none() => {
                let now = shared.stage();
                if now.is_none() || now == stage {
                    continue;
                }
                stage.clone_from(&now);
                Report::stage(now.unwrap_or_default())
            }
        };
        let line = matches!(report, Report::Line(_));
        match &report {
            Report::LogLeftOut(lines) => {
                // Told once, at the end.
                log_left_out += lines;
                continue;
            }
            Report::Log(_) if muted => {
                log_left_out += 1;
                continue;
            }
            Report::Progress(_) => unsent = None,
            _ => {}
        }
        if muted && !line {
            unsent = Some(report);
            continue;
        }
        // The work continues meanwhile: only lines of a record wait.
        let timeout = if line {
            WRITE_TIMEOUT
        } else {
            PROGRESS_TIMEOUT
        };
        match sink.send(&Reply::from(report), timeout).await {
            Ok(true) => {}
            Ok(false) if line => bail!("it read nothing for {} s", timeout.as_secs()),
            Ok(false) => muted = true,
            Err(_) if class == Class::Control => muted = true,
            Err(error) => return Err(error),
        }
    };
    while let Ok(report) = reported.try_recv() {
        match report {
            Report::LogLeftOut(lines) => log_left_out += lines,
            Report::Log(_) if muted => log_left_out += 1,
            report if !muted || matches!(report, Report::Line(_)) => {
                sink.send(&Reply::from(report), WRITE_TIMEOUT).await?;
            }
            report => unsent = Some(report),
        }
    }
    // However slow it is, the client gets the last step and the number of what it did not get.
    let counted = (log_left_out > 0).then_some(Report::LogLeftOut(log_left_out));
    for report in unsent.into_iter().chain(counted) {
        sink.send(&Reply::from(report), WRITE_TIMEOUT).await?;
    }
    let redactor = shared.redactor();
    let reply = result.map_or_else(|error| failed(&error, &redactor), Reply::Done);
    sink.send(&reply, WRITE_TIMEOUT).await?;
    Ok(())
}

/// The reply to a request that failed, without secrets.
fn failed(error: &Error, redactor: &Redactor) -> Reply {
    let clean = |text: &str| redactor.clean(text).into_owned();
    Reply::Failed(Failed::of(error, &words(error), clean))
}

/// The connection to a client.
struct Sink {
    write: OwnedWriteHalf,
    /// Bytes that it has not read yet.
    pending: Vec<u8>,
}

impl Sink {
    fn new(write: OwnedWriteHalf) -> Self {
        Self {
            write,
            pending: Vec::new(),
        }
    }

    /// Sends a line, after the rest of the former one; `false` if the client did not read for too long.
    async fn send(&mut self, reply: &Reply, timeout: Duration) -> Result<bool> {
        serde_json::to_writer(&mut self.pending, &Envelope::new(reply))?;
        self.pending.push(b'\n');
        self.flush(timeout).await
    }

    /// Whether the client has read everything.
    async fn is_read(&mut self) -> bool {
        self.flush(BEAT_WRITE_TIMEOUT).await.unwrap_or(false)
    }

    async fn flush(&mut self, timeout: Duration) -> Result<bool> {
        let mut sent = 0;
        let result = loop {
            let rest = self.pending.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(true);
            }
            match tokio::time::timeout(timeout, self.write.write(rest)).await {
                Ok(Ok(0)) => break Err(anyhow!("it reads no more")),
                Ok(Ok(written)) => sent += written,
                Ok(Err(error)) => break Err(error.into()),
                Err(_) => break Ok(false),
            }
        };
        self.pending.drain(..sent);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up_and_one_that_reads_later_gets_whole_lines() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_read, write) = ours.into_split();
        let mut sink = Sink::new(write);
        let long = || Reply::Line("x".repeat(1 << 20));
        let brief = Duration::from_millis(20);
        assert!(!sink.send(&long(), brief).await.unwrap());
        let reading = tokio::spawn(async move {
            let mut text = String::new();
            let mut theirs = theirs;
            theirs.read_to_string(&mut text).await.unwrap();
            text
        });
        let timeout = Duration::from_secs(60);
        assert!(
            sink.send(&Reply::Done(serde_json::Value::Null), timeout)
                .await
                .unwrap()
        );
        drop(sink);
        let text = reading.await.unwrap();
        let lines: Vec<Reply> = text
            .lines()
            .map(|line| Envelope::open(line.as_bytes()).unwrap())
            .collect();
        assert!(
            matches!(&lines[..], [Reply::Line(_), Reply::Done(_)]),
            "{lines:?}"
        );
    }

    #[test]
    fn a_request_has_a_limited_number_of_values() {
        let body = |values: usize| {
            let input = "0,".repeat(values);
            format!("{{\"verb\":\"invoke\",\"action\":\"a.b\",\"input\":[{input}0]}}")
        };
        assert!(parse(body(1000).as_bytes()).is_ok());
        assert!(parse(body(MAX_VALUES).as_bytes()).is_err());
    }
}
