//! One open MCP session, and what opens it.
//!
//! Invariant: dropping a connection stops its transport.

use std::sync::Arc;
use std::time::Duration;

use qchost_catalog::BoxFuture;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, Peer, RoleClient, RunningService,
    serve_client_with_lifecycle,
};
use rmcp::transport::IntoTransport;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::bearer::{BearerSource, token_of};
use super::received::{LimitedTransport, Received};
use crate::fault::{UNAUTHORIZED, forbids, is_other_answer, wants_authorization};
use crate::text::Redactor;

/// How long to wait for the last words of a dying server before its loss is reported without them.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(1_000);

/// Opens MCP sessions to one server.
pub trait Connector: Send + Sync {
    /// Opens one session and completes the handshake.
    fn connect(&self) -> BoxFuture<'_, Result<Connection, ConnectError>>;

    /// The target, for people: a command, an address. Contains no secret.
    fn describe(&self) -> String;

    /// Secrets that must be redacted, since the server may repeat them.
    fn secrets(&self) -> Vec<SecretString>;

    /// What redacts them and secrets that come later, such as renewed tokens; `None` if there are no later ones.
    fn redactor(&self) -> Option<qchost_text::Redactor> {
        None
    }
}

/// Why a connector cannot be made from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A secret would be visible in the list of processes.
    #[error(
        "the value of the environment variable {variable} also appears in the arguments of `{command}`, where every user of this machine can read it; pass it by the environment only"
    )]
    SecretArgument {
        /// The command.
        command: String,
        /// The variable that holds the secret.
        variable: String,
    },
    /// The address, shown without parts that may be secret, is not an HTTP URL.
    #[error("`{0}` is not an http or https address: {1}")]
    Url(String, String),
    /// The header of this name cannot be sent. Its value is not shown.
    #[error("the HTTP header `{0}` {1}")]
    Header(String, &'static str),
    /// The HTTP client cannot start, for instance because the system's certificates cannot be read.
    #[error("cannot start the HTTP client: {0}")]
    Client(String),
}

/// Why a session did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Retrying without a change is useless, for example if the command does not exist.
    #[error("{0}")]
    Permanent(String),
    /// The server refuses the credentials, or there are none. Retrying with the same ones is useless.
    #[error("{0}")]
    Unauthorized(String),
    /// The server knows the credentials, and they do not suffice. Retrying with the same ones is useless.
    #[error("{0}")]
    Forbidden(String),
    /// A retry may succeed.
    #[error("{0}")]
    Transient(String),
}

/// One open MCP session.
pub struct Connection {
    service: RunningService<RoleClient, ClientConfig>,
    end_signal: EndSignal,
    received: Received,
    /// Supplies the token of its requests, if its server wants one.
    bearer: Option<Arc<dyn BearerSource>>,
}

/// Why an attempt at a session failed, and what the server had to do with it.
pub(super) struct NotOpened {
    pub(super) error: ConnectError,
    pub(super) reaction: Reaction,
}

impl From<ConnectError> for NotOpened {
    fn from(error: ConnectError) -> Self {
        Self {
            error,
            reaction: Reaction::None,
        }
    }
}

/// What a server did when a session was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It was not reached, did not answer, or refused for another reason than the form of the question.
    None,
    /// It closed the connection.
    Left,
    /// It answered, and not as MCP asks: it may speak the other era.
    Refused,
}

/// Signals a transport to end, and receives the reason why it ended.
pub(crate) struct EndSignal {
    /// Set once, with the cause, when the peer is gone. Closed without a value by transports that cannot tell.
    cause: watch::Receiver<Option<String>>,
    /// Tells the transport to clean up.
    stop: CancellationToken,
    /// Cancels `stop` when the connection is dropped.
    _guard: DropGuard,
}

impl EndSignal {
    /// `stop` is cancelled at the latest when the connection is dropped.
    pub(crate) fn new(cause: watch::Receiver<Option<String>>, stop: CancellationToken) -> Self {
        Self {
            cause,
            _guard: stop.clone().drop_guard(),
            stop,
        }
    }

    /// For a transport that cannot tell why it ended.
    pub(crate) fn without_cause(stop: CancellationToken) -> Self {
        let (_, cause) = watch::channel(None);
        Self::new(cause, stop)
    }

    /// Ends the transport and waits for the peer to end.
    async fn end(&self) {
        self.stop.cancel();
        let _ = self.cause.clone().wait_for(Option::is_some).await;
    }

    /// The cause, waited for briefly.
    async fn cause(&self) -> Option<String> {
        let mut cause = self.cause.clone();
        let reason =
            tokio::time::timeout(LAST_WORDS_TIMEOUT, cause.wait_for(Option::is_some)).await;
        reason.ok()?.ok()?.clone()
    }
}

impl Connection {
    /// Begins a session over a transport.
    pub(super) async fn open<T, E, A>(
        transport: T,
        end_signal: EndSignal,
        received: Received,
        redactor: &Redactor,
        lifecycle: ClientLifecycleMode,
    ) -> Result<Self, NotOpened>
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let transport = LimitedTransport::new(transport.into_transport(), received.clone());
        match serve_client_with_lifecycle(client(), transport, lifecycle).await {
            Ok(service) => Ok(Self {
                service,
                end_signal,
                received,
                bearer: None,
            }),
            Err(error) => {
                // That discovery was refused as well says nothing.
                let error = match error {
                    ClientInitializeError::LegacyFallbackFailed { fallback, .. } => *fallback,
                    other => other,
                };
                let reason = redactor.line(&handshake_error(&error));
                let refused = format!("{UNAUTHORIZED}: {reason}");
                if error.is_authorization_required() || caused(&error, wants_authorization) {
                    return Err(ConnectError::Unauthorized(refused).into());
                }
                if caused(&error, forbids) {
                    return Err(ConnectError::Forbidden(refused).into());
                }
                if let Some(excess) = received.excess() {
                    return Err(ConnectError::Permanent(excess).into());
                }
                let reaction = reaction(&error);
                let error = match end_signal.cause().await {
                    Some(cause) => cause,
                    None => format!("no MCP session: {reason}"),
                };
                Err(NotOpened {
                    error: ConnectError::Transient(error),
                    reaction,
                })
            }
        }
    }

    /// With what supplies the token of its requests.
    pub(super) fn with_bearer(self, bearer: Option<Arc<dyn BearerSource>>) -> Self {
        Self { bearer, ..self }
    }

    /// Renews the token of its requests if that is due, so that no call waits for it after it was cleared. A failure is left
    /// to the request, which fails for the same reason.
    pub(crate) async fn renew_token(&self) {
        if let Some(bearer) = &self.bearer {
            drop(token_of(bearer).await);
        }
    }

    /// Whether a request may be sent again with a renewed token.
    pub(crate) fn renews_token(&self) -> bool {
        self.bearer.is_some()
    }

    /// Whether it began with a handshake, as sessions of the revisions before 2026-07-28 do.
    pub(crate) fn has_handshake(&self) -> bool {
        let peer = self.peer().peer_info();
        peer.is_none_or(|peer| peer.protocol_version.has_initialize())
    }

    /// The peer of the session.
    pub(crate) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    /// Ends the session and waits until the peer is gone, if its transport can tell.
    pub(crate) async fn close(&self) {
        self.service.cancellation_token().cancel();
        self.end_signal.end().await;
    }

    /// Notes that the server answered a request.
    pub(crate) fn note_answer(&self) {
        self.received.note_answer();
    }

    /// Whether it was ended because its server sent without limit.
    pub(crate) fn is_endless(&self) -> bool {
        self.received.excess().is_some()
    }

    /// Why the session ended, as far as known.
    pub(crate) fn end(&self) -> Option<String> {
        self.received
            .excess()
            .or_else(|| self.end_signal.cause.borrow().clone())
    }

    /// Why the session ended, if its transport can tell; call it only after the end.
    pub(crate) async fn cause(&self) -> Option<String> {
        match self.received.excess() {
            Some(excess) => Some(excess),
            None => self.end_signal.cause().await,
        }
    }
}

fn client() -> ClientConfig {
    ClientConfig::new(
        ClientCapabilities::default(),
        Implementation::new("qchost", env!("CARGO_PKG_VERSION")),
    )
    // Asked for in a handshake.
    .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
}

/// The library's message, without the debug output of whole messages that some errors contain.
fn handshake_error(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::ExpectedInitResponse(_)
        | ClientInitializeError::ExpectedInitResult(_) => {
            "the server did not answer `initialize` as MCP asks".to_owned()
        }
        ClientInitializeError::TransportError { error, .. } => crate::fault::words(error),
        other => other.to_string(),
    }
}

/// What a failed beginning says of the server.
fn reaction(error: &ClientInitializeError) -> Reaction {
    match error {
        ClientInitializeError::ConnectionClosed(_) => Reaction::Left,
        ClientInitializeError::ExpectedInitResponse(_)
        | ClientInitializeError::ExpectedInitResult(_)
        | ClientInitializeError::ConflictInitResponseId(..)
        | ClientInitializeError::UncorrelatedErrorResponse { .. }
        | ClientInitializeError::JsonRpcError(_)
        | ClientInitializeError::NoCompatibleProtocolVersion { .. } => Reaction::Refused,
        error if caused(error, is_other_answer) => Reaction::Refused,
        _ => Reaction::None,
    }
}

/// Whether the beginning failed with such an HTTP error.
fn caused(
    error: &ClientInitializeError,
    is: fn(&StreamableHttpError<reqwest::Error>) -> bool,
) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = match error {
        ClientInitializeError::TransportError { error, .. } => Some(error.error.as_ref()),
        other => Some(other),
    };
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            return is(error);
        }
        cause = error.source();
    }
    false
}
