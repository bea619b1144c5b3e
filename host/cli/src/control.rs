//! The control socket: how `invoke` and `call` reach a host that runs.
//!
//! A client connects, sends one JSON line, and reads JSON lines until the last one, which is the
//! answer. The socket is in the data folder and only the host's own user can open it.
//!
//! Invariant: a client that goes away ends its invocation, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use qchost_runtime::Progress;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, LinesCodec};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::host::{Host, private_folder};
use crate::lock::Lock;
use crate::output::{Display, Output, words};
use crate::signals;
use crate::verbs::{call, invoke, plugin};

/// The longest line: an action's input or output.
const MAX_LINE: usize = 64 << 20;
/// How long to wait for a data folder that another process uses.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// What a client sends.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    /// The client's configuration. Two of them can share a data folder, and what is meant for
    /// the accounts of one must not be done with those of the other.
    config: PathBuf,
    request: Request,
}

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// An action of a plugin.
    Invoke {
        /// `strategy-lab.sweep`
        action: String,
        /// The input.
        input: Value,
    },
    /// A tool of QuantConnect's.
    Call {
        /// The account.
        account: String,
        /// The tool.
        tool: String,
        /// Its arguments.
        arguments: Value,
    },
    /// The plugins, with what is wrong with them.
    Plugins,
}

/// A line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    /// How far it is.
    Progress {
        /// From 0 to 1.
        fraction: f64,
        /// What is being done.
        message: String,
    },
    /// The result.
    Done(Value),
    /// Why there is none.
    Failed(String),
}

/// Where the socket of a data folder is.
pub fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Makes the socket. From then on a client is heard, if not yet answered.
pub fn listen(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    // The lock on the data folder says that no other host uses this socket.
    drop(std::fs::remove_file(path));
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until it is dropped. Each client has a task of its own among `clients`.
pub async fn serve(listener: UnixListener, host: Arc<Host>, clients: TaskTracker) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let host = Arc::clone(&host);
        clients.spawn(async move {
            if let Err(error) = answer(stream, &host).await {
                tracing::debug!(target: "host", "a client of the control socket left: {error:#}");
            }
        });
    }
}

async fn answer(stream: UnixStream, host: &Host) -> Result<()> {
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    let request = lines.next().await.context("nothing was asked")??;
    let (reports, mut reported) = mpsc::unbounded_channel();
    let work = async {
        let Letter { config, request } =
            serde_json::from_str(&request).context("the request cannot be read")?;
        ensure!(
            config == host.config,
            "the host that runs on this `data` folder has another configuration, {}, and not {}; give each \
             configuration a `data` folder of its own",
            host.config.display(),
            config.display()
        );
        // A client that is gone is noticed below.
        let report = |progress: &Progress| drop(reports.send(progress.clone()));
        by_host(host, request, report).await
    };
    tokio::pin!(work);
    let (mut sink, mut source) = lines.split();
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            Some(Progress { fraction, message }) = reported.recv() => {
                sink.send(serde_json::to_string(&Reply::Progress { fraction, message })?).await?;
            }
            // A line more or the end: either way the client is not waiting for us.
            _ = source.next() => bail!("it left before the answer"),
        }
    };
    let reply = result.map_or_else(|error| Reply::Failed(words(&error)), Reply::Done);
    sink.send(serde_json::to_string(&reply)?).await?;
    Ok(())
}

/// Does what is asked for.
async fn by_host(host: &Host, request: Request, report: impl FnMut(&Progress)) -> Result<Value> {
    match request {
        Request::Invoke { action, input } => invoke::by_host(host, &action, input, report).await,
        Request::Call {
            account,
            tool,
            arguments,
        } => call::by_host(host, &account, &tool, arguments).await,
        Request::Plugins => Ok(plugin::by_host(host)),
    }
}

/// Has something done: by the host that runs, or by one in this process, which is then alone
/// with the data folder as every host is.
pub async fn perform(config: &Config, request: Request, output: Output) -> Result<Value> {
    let mut display = output.progress();
    let result = reach(config, request, &mut display).await;
    display.done();
    result
}

async fn reach(config: &Config, request: Request, display: &mut Display) -> Result<Value> {
    let data = config.data()?;
    private_folder(&data)?;
    let letter = Letter {
        config: config.path.clone(),
        request,
    };
    let begun = Instant::now();
    let lock = loop {
        if let Some(value) = ask(&data, &letter, display).await? {
            return Ok(value);
        }
        match Lock::take(&data) {
            Ok(lock) => break lock,
            Err(error) if begun.elapsed() >= PATIENCE => return Err(error),
            // A host that starts will have its socket soon; what another process does may end.
            Err(_) => tokio::time::sleep(BETWEEN_TRIES).await,
        }
    };
    let Letter { request, .. } = letter;
    let mut host = Host::open(config, lock).await?;
    if !matches!(request, Request::Call { .. }) {
        host.load_all(config).await?;
    }
    let told = signals::ended();
    let result = tokio::select! {
        result = by_host(&host, request, |progress| display.report(progress)) => result,
        () = told => Err(anyhow!("told to end before it was done; what was sent is not undone: read the state before you try again")),
    };
    // Told once more, it ends at once.
    let told = signals::ended();
    tokio::select! {
        _ = host.close(Duration::ZERO) => {}
        () = told => {}
    }
    result
}

/// Asks the host of a data folder; `None` if none runs.
async fn ask(data: &Path, letter: &Letter, display: &mut Display) -> Result<Option<Value>> {
    let Ok(stream) = UnixStream::connect(socket(data)).await else {
        return Ok(None);
    };
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    lines.send(serde_json::to_string(letter)?).await?;
    while let Some(line) = lines.next().await {
        match serde_json::from_str(&line?)? {
            Reply::Progress { fraction, message } => {
                display.report(&Progress { fraction, message })
            }
            Reply::Done(value) => return Ok(Some(value)),
            Reply::Failed(message) => bail!(message),
        }
    }
    bail!(
        "the running host ended before it answered; a write may have been sent: read the state before you try again"
    )
}
