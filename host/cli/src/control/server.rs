//! The host's end of the control socket.
//!
//! Invariant: what a client asked for goes on whether or not the client reads what it is told. So limits, and the
//! end of the host, reach it in any case.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use nix::errno::Errno;
use qchost_policy::Person;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{Framed, LinesCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Letter, MAX_LINE, Reply, Report, Reports};
use crate::host::Host;
use crate::output::words;

/// How long nobody may have come, for those who came before the end to be all answered.
const NOBODY: Duration = Duration::from_millis(20);

/// How long a client may take to ask.
const SILENCE: Duration = Duration::from_secs(10);
/// How long nobody is let in when there are too many.
const CROWDED: Duration = Duration::from_millis(100);

/// Serves until it is told to end. Each client has a task of its own among `clients`. Who had connected
/// by then is answered too: take the socket's file away before, so that nobody else comes.
pub async fn serve(
    listener: UnixListener,
    host: Arc<Host>,
    clients: TaskTracker,
    end: CancellationToken,
) -> Result<()> {
    loop {
        let stream = tokio::select! {
            accepted = accept(&listener) => accepted?,
            () = end.cancelled() => match tokio::time::timeout(NOBODY, accept(&listener)).await {
                Ok(accepted) => accepted?,
                Err(_) => return Ok(()),
            },
        };
        let host = Arc::clone(&host);
        clients.spawn(async move {
            if let Err(error) = answer(stream, &host).await {
                tracing::debug!(target: "host", "a client of the control socket left: {error:#}");
            }
        });
    }
}

/// The next client. A host that has no room for one more file goes on: it has what it needs, and the clients
/// that it has will go. Cancel safe.
async fn accept(listener: &UnixListener) -> std::io::Result<UnixStream> {
    loop {
        let error = match listener.accept().await {
            Ok((stream, _)) => return Ok(stream),
            Err(error) => error,
        };
        let known = error.raw_os_error().map(Errno::from_raw);
        match known {
            Some(Errno::ECONNABORTED | Errno::EINTR) => {}
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                tracing::warn!(target: "host", "no further client of the control socket for now: {error}");
                tokio::time::sleep(CROWDED).await;
            }
            _ => return Err(error),
        }
    }
}

async fn answer(stream: UnixStream, host: &Host) -> Result<()> {
    let uid = stream
        .peer_cred()
        .context("the kernel does not say who the client is")?
        .uid();
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    let person = match host.person(uid).await {
        Ok(person) => person,
        Err(stranger) => {
            let reply = Reply::Failed(words(&stranger));
            return Ok(lines.send(serde_json::to_string(&reply)?).await?);
        }
    };
    let request = tokio::time::timeout(SILENCE, lines.next())
        .await
        .context("it asked nothing for too long")?
        .context("nothing was asked")??;
    let (mut sink, mut source) = lines.split();
    let (reports, mut reported) = Reports::new();
    let work = async { anyhow::Ok(carry_out(host, &person, &request, reports).await) };
    // Beside the work, which goes on while a client does not read. It ends when all that the work told is told.
    let forward = async {
        while let Some(report) = reported.recv().await {
            sink.send(line(host, report)?).await?;
        }
        anyhow::Ok(())
    };
    let (result, ()) = tokio::select! {
        done = async { tokio::try_join!(work, forward) } => done?,
        // A line more or the end: either way the client is not waiting for us.
        _ = source.next() => bail!("it left before the answer"),
    };
    let reply = result.map_or_else(
        |error| Reply::Failed(host.redactor().clean(&words(&error)).into_owned()),
        |mut value| {
            host.redactor().clean_value(&mut value);
            Reply::Done(value)
        },
    );
    sink.send(serde_json::to_string(&reply)?).await?;
    Ok(())
}

async fn carry_out(
    host: &Host,
    person: &Person,
    request: &str,
    reports: Reports,
) -> Result<serde_json::Value> {
    let Letter { config, request } =
        serde_json::from_str(request).context("the request cannot be read")?;
    // A mount of Kubernetes leads to another file after each update, for the client as for us.
    let current = host.current();
    let ours = tokio::fs::canonicalize(&current.config.file).await;
    let ours = ours.unwrap_or_else(|_| current.config.path.clone());
    ensure!(
        config == ours,
        "the host that runs on this `data` folder has another configuration, {}, and not {}; give each \
         configuration a `data` folder of its own",
        ours.display(),
        config.display()
    );
    request.carry_out(host, person, &reports).await
}

fn line(host: &Host, report: Report) -> Result<String> {
    let clean = |text: &str| host.redactor().clean(text).into_owned();
    let reply = match report {
        Report::Progress(progress) => Reply::Progress {
            fraction: progress.fraction,
            message: clean(&progress.message),
        },
        Report::Line(line) => Reply::Line(clean(&line)),
    };
    Ok(serde_json::to_string(&reply)?)
}
