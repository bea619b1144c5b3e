//! An MCP server as a child process, connected by standard input and output.
//!
//! Invariants: the child gets a minimal environment plus what is configured, and secrets only by the environment,
//! never by an argument. It leads a process group of its own; when the connection is dropped, or the host's runtime
//! ends, the whole group is killed; with a [`Supervisor`], also when the host is killed. Its standard error becomes
//! log lines without secrets.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use qchost_catalog::BoxFuture;
use qchost_text::MIN_SECRET;
use rmcp::service::ClientLifecycleMode;
use rmcp::transport::async_rw::AsyncRwTransport;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connection::{ConfigError, ConnectError, Connection, Connector, EndSignal, NotOpened};
use super::era::Era;
use super::received::Received;
use crate::MAX_MESSAGE;
use crate::credentials::is_user_id;
use crate::text::Redactor;

/// Variables that a child inherits: the locations of programs and files, and the language.
const INHERITED: [&str; 8] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// How long a child may take to exit: once after its input ended, once after SIGTERM.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait for the end of its standard error after a child's exit.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);

/// Maximum bytes of a line of standard error that is kept in one piece.
const MAX_LINE: u64 = 4 * 1024;

/// A program that runs a command and ends it when the host is gone: [`crate::supervise`] in a process of its own.
#[derive(Debug, Clone)]
pub struct Supervisor {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments, followed by the host's process id, the command and the command's arguments.
    pub arguments: Vec<String>,
}

/// Secrets of at least this many bytes are found anywhere in an argument.
const MIN_LONG_SECRET: usize = 8;

/// Length in bytes from which a variable that is not declared secret is treated as a secret.
const MIN_LITERAL: usize = 16;

/// Whether an argument reveals a secret: a long one anywhere in it, a short one as the whole argument or its value.
fn exposes(arg: &str, secret: &str) -> bool {
    match secret.len() {
        ..MIN_SECRET => false,
        MIN_SECRET..MIN_LONG_SECRET => {
            arg == secret
                || arg
                    .rsplit_once('=')
                    .is_some_and(|(_, value)| value == secret)
        }
        _ => arg.contains(secret),
    }
}

/// Runs a command per session.
pub struct StdioConnector {
    command: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    secrets: Vec<(String, SecretString)>,
    cwd: Option<PathBuf>,
    redactor: Arc<Redactor>,
    supervisor: Option<Supervisor>,
    era: Era,
}

impl StdioConnector {
    /// `command` is looked up in `PATH`; `env` and `secrets` are added to the child's environment. The values of
    /// `secrets` are redacted from all output, and so are values of `env` that are long enough for a token.
    ///
    /// # Errors
    ///
    /// [`ConfigError::SecretArgument`] if a secret's value appears in an argument.
    pub fn new(
        command: impl Into<String>,
        args: Vec<String>,
        env: Vec<(String, String)>,
        secrets: Vec<(String, SecretString)>,
        cwd: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let command = command.into();
        let exposed = secrets.iter().find(|(_, secret)| {
            let secret = secret.expose_secret();
            args.iter().any(|arg| exposes(arg, secret))
        });
        if let Some((variable, _)) = exposed {
            return Err(ConfigError::SecretArgument {
                variable: variable.clone(),
                command,
            });
        }
        let mut connector = Self {
            command,
            args,
            env,
            secrets,
            cwd,
            redactor: Arc::default(),
            supervisor: None,
            era: Era::default(),
        };
        connector.redactor = Arc::new(Redactor::new(connector.secrets()));
        Ok(connector)
    }

    /// Runs the command under a supervisor, so that it does not outlive a killed host.
    #[must_use]
    pub fn supervised(mut self, supervisor: Supervisor) -> Self {
        self.supervisor = Some(supervisor);
        self
    }

    fn spawn(&self) -> Result<Child, ConnectError> {
        let mut command = match &self.supervisor {
            None => Command::new(&self.command),
            Some(supervisor) => {
                // The supervisor itself always starts, so a missing command must be detected here.
                if !self.is_there() {
                    return Err(ConnectError::Permanent(self.cannot_run("no such program")));
                }
                let mut command = Command::new(&supervisor.program);
                command
                    .args(&supervisor.arguments)
                    .arg(std::process::id().to_string())
                    .arg(&self.command);
                command
            }
        };
        command
            .args(&self.args)
            .env_clear()
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(
                self.secrets
                    .iter()
                    .map(|(name, value)| (name, value.expose_secret())),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            // Killing the supervisor would not end a server that has left the group.
            .kill_on_drop(self.supervisor.is_none());
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command.spawn().map_err(|error| {
            use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
            let message = self.cannot_run(&error);
            match error.kind() {
                NotFound | PermissionDenied | NotADirectory => ConnectError::Permanent(message),
                _ => ConnectError::Transient(message),
            }
        })
    }

    fn cannot_run(&self, why: impl std::fmt::Display) -> String {
        match &self.cwd {
            Some(cwd) => format!("cannot run `{}` in {}: {why}", self.command, cwd.display()),
            None => format!("cannot run `{}`: {why}", self.command),
        }
    }

    /// Whether the command is a file that the child can find.
    fn is_there(&self) -> bool {
        let folder = self.cwd.clone().unwrap_or_default();
        if self.command.contains('/') {
            return folder.join(&self.command).is_file();
        }
        let set = self.env.iter().find(|(name, _)| name == "PATH");
        let path = match set {
            Some((_, path)) => path.into(),
            None => std::env::var_os("PATH").unwrap_or_default(),
        };
        std::env::split_paths(&path).any(|entry| folder.join(entry).join(&self.command).is_file())
    }

    async fn attempt(&self, lifecycle: ClientLifecycleMode) -> Result<Connection, NotOpened> {
        let mut child = self.spawn()?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            let reason = format!("`{}` has no pipes", self.command);
            return Err(ConnectError::Transient(reason).into());
        };
        let last = Arc::<Mutex<String>>::default();
        let stderr = tokio::spawn(log_lines(stderr, self.redactor.clone(), last.clone()));
        let stop = CancellationToken::new();
        let (tell, cause) = watch::channel(None);
        let group = ProcessGroup::of(&child, self.supervisor.is_some());
        let name = self.command.clone();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let status = attend(child, group, stopped).await;
            // Its last output is often the reason.
            let _ = tokio::time::timeout(LAST_OUTPUT_TIMEOUT, stderr).await;
            tell.send_replace(Some(obituary(&name, &status, &last.lock())));
        });
        let end_signal = EndSignal::new(cause, stop);
        let received = Received::default();
        let stdout = received.count(stdout);
        let transport = AsyncRwTransport::new(stdout, stdin).with_max_line_length(MAX_MESSAGE);
        Connection::open(transport, end_signal, received, &self.redactor, lifecycle).await
    }
}

impl Connector for StdioConnector {
    fn connect(&self) -> BoxFuture<'_, Result<Connection, ConnectError>> {
        Box::pin(self.era.open(move |lifecycle| self.attempt(lifecycle)))
    }

    fn describe(&self) -> String {
        let mut line = self.command.clone();
        for arg in &self.args {
            line.push(' ');
            line.push_str(arg);
        }
        self.redactor.line(&line)
    }

    fn secrets(&self) -> Vec<SecretString> {
        // A user id is sent along with the token but is not secret, and may occur in other numbers by chance.
        let secrets = self.secrets.iter().filter(|(name, _)| !is_user_id(name));
        let secrets = secrets.map(|(_, secret)| secret.clone());
        // A token written literally into the configuration would be revealed by a child that prints it.
        let literals = self.env.iter().map(|(_, value)| value);
        let literals = literals.filter(|value| value.len() >= MIN_LITERAL);
        secrets
            .chain(literals.map(|value| value.as_str().into()))
            .collect()
    }
}

/// A child's process group; ended when this is dropped.
struct ProcessGroup {
    id: Option<Pid>,
    /// The signal that ends it: a supervisor that leads the group is asked to, and ends the server and the group.
    by: Signal,
}

impl ProcessGroup {
    fn of(child: &Child, is_supervised: bool) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            id: id.and_then(Pid::from_raw),
            by: if is_supervised {
                Signal::TERM
            } else {
                Signal::KILL
            },
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.id {
            // An empty group is the only possible error, and the desired state.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(self.by);
    }
}

/// Waits for the child's exit, and from `stop` on causes it: first its input has ended (the transport is gone), then
/// it gets SIGTERM, then it is killed.
async fn attend(
    mut child: Child,
    mut group: ProcessGroup,
    stop: CancellationToken,
) -> std::io::Result<ExitStatus> {
    let ended = end(&mut child, &group, stop).await;
    // Processes that it left behind.
    group.by = Signal::KILL;
    ended
}

async fn end(
    child: &mut Child,
    group: &ProcessGroup,
    stop: CancellationToken,
) -> std::io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        () = stop.cancelled() => {}
    }
    if let Ok(status) = tokio::time::timeout(EXIT_TIMEOUT, child.wait()).await {
        return status;
    }
    group.signal(Signal::TERM);
    if let Ok(status) = tokio::time::timeout(EXIT_TIMEOUT, child.wait()).await {
        return status;
    }
    group.signal(Signal::KILL);
    child.wait().await
}

fn obituary(name: &str, status: &std::io::Result<ExitStatus>, last: &str) -> String {
    let end = match status {
        Ok(status) => format!("`{name}` ended ({status})"),
        Err(error) => format!("`{name}` ended ({error})"),
    };
    match last {
        "" => end,
        last => format!("{end}; its last words: {last}"),
    }
}

/// Logs a child's standard error line by line; of an endless line only the beginning.
async fn log_lines(
    stream: impl AsyncRead + Unpin,
    redactor: Arc<Redactor>,
    last: Arc<Mutex<String>>,
) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    let mut inside = false;
    loop {
        line.clear();
        match (&mut reader)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let beginning = !std::mem::replace(&mut inside, line.last() != Some(&b'\n'));
        let text = redactor.line(&String::from_utf8_lossy(&line));
        if beginning && !text.is_empty() {
            tracing::debug!(line = %text, "server's standard error");
            *last.lock() = text;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_arguments_and_a_short_number_is_no_secret() {
        for (arg, secret, found) in [
            ("--url=http://127.0.0.1:5612", "1", false),
            ("--port=5612", "5612", true),
            ("http://127.0.0.1:5612/", "5612", false),
            ("5612", "5612", true),
            ("--token=abcdefgh", "abcdefgh", true),
            ("https://u:abcdefgh@host/", "abcdefgh", true),
            ("--token=", "", false),
        ] {
            assert_eq!(exposes(arg, secret), found, "{arg} {secret}");
        }
    }

    #[test]
    fn a_secret_among_the_arguments_is_refused() {
        let new = |args: &[&str]| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            let secrets = vec![("TOKEN".to_owned(), SecretString::from("hush"))];
            StdioConnector::new("server", args, Vec::new(), secrets, None)
        };
        let shown = new(&["--token=hush"]).err().unwrap().to_string();
        assert!(
            shown.contains("TOKEN") && !shown.contains("hush"),
            "{shown}"
        );
        assert_eq!(new(&["-e", "TOKEN"]).unwrap().describe(), "server -e TOKEN");
    }

    #[test]
    fn a_users_number_is_no_secret_and_neither_is_what_is_too_short() {
        let secrets = [("QUANTCONNECT_USER_ID", "12345"), ("A", "1"), ("B", "hush")];
        let secrets = secrets.map(|(name, value)| (name.to_owned(), SecretString::from(value)));
        let connector =
            StdioConnector::new("server", Vec::new(), Vec::new(), secrets.into(), None).unwrap();
        let shown = connector.redactor.line("\"sharpeRatio\": 1.5, 12345, hush");
        assert_eq!(shown, "\"sharpeRatio\": 1.5, 12345, [redacted]");
    }

    #[tokio::test]
    async fn what_cannot_run_is_a_permanent_error() {
        let missing = StdioConnector::new(
            "/nonexistent/server",
            Vec::new(),
            Vec::new(),
            Vec::new(),
            None,
        );
        let Err(ConnectError::Permanent(message)) = missing.unwrap().connect().await else {
            unreachable!("a command that does not exist was run");
        };
        assert!(message.contains("/nonexistent/server"), "{message}");
    }

    #[tokio::test]
    async fn of_an_endless_line_the_beginning_is_kept_and_secrets_are_taken_out() {
        let kept = async |text: &str| {
            let last = Arc::<Mutex<String>>::default();
            let redactor = Redactor::new([SecretString::from("hush")]);
            log_lines(text.as_bytes(), Arc::new(redactor), last.clone()).await;
            last.lock().clone()
        };
        assert_eq!(kept("first\nthe hush key\n\n").await, "the [redacted] key");
        let endless = kept(&format!("begin {}end", "x".repeat(10_000))).await;
        assert!(
            endless.starts_with("begin xxx") && endless.len() < 400,
            "{endless}"
        );
        assert_eq!(
            kept(&format!("{}\nnext\n", "x".repeat(10_000))).await,
            "next"
        );
    }
}
