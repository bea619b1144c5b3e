//! What crosses the boundary between the gate and a connection: a [`Call`], its
//! [`Outcome`], and the trait [`Upstream`] that turns one into the other.
//!
//! Invariant: an `Ok` outcome is an answer that QuantConnect itself called a success.
//! `success: false`, "still loading" and every transport fault are [`Failure`]s, so no
//! layer above has to look into a body to learn whether a call worked.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use strum::{EnumDiscriminants, EnumString, IntoStaticStr, VariantNames};

use crate::{Access, Operation};

/// What a call is addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// An operation of the catalog.
    Known(&'static Operation),
    /// A tool that the catalog does not know, by its exact name (`raw` only).
    Unknown(&'a str),
}

impl Target<'_> {
    /// The tool's name on the MCP wire, such as `read_compile`.
    #[must_use]
    pub fn tool(&self) -> &str {
        match self {
            Self::Known(operation) => operation.tool,
            Self::Unknown(name) => name,
        }
    }

    /// The access class. An unknown tool is treated as the most dangerous class.
    #[must_use]
    pub fn access(&self) -> Access {
        match self {
            Self::Known(operation) => operation.access,
            Self::Unknown(_) => Access::Trade,
        }
    }

    /// Whether the call may be repeated after its answer was lost. Nothing is known about an unknown tool, so it
    /// may not.
    #[must_use]
    pub fn idempotent(&self) -> bool {
        match self {
            Self::Known(operation) => operation.idempotent,
            Self::Unknown(_) => false,
        }
    }
}

/// Whether a call may still be sent, as judged by the component that decided it.
pub trait Clearance: Send + Sync {
    /// Clears one sending, or refuses it. Must answer at once, without blocking.
    ///
    /// A connection asks right before the call's bytes are handed to the transport, each time (also before a retry),
    /// and sends them only on an `Ok`.
    fn clear(&self) -> Result<(), Failure>;

    /// Waits until the call may no longer be sent, and returns why; at once, if that is so already. It clears nothing.
    ///
    /// A connection awaits it next to each wait for a session or for the next attempt, so that a withdrawal ends the
    /// wait.
    fn withdrawn(&self) -> BoxFuture<'_, Failure>;

    /// Takes a place for a further attempt, where QuantConnect limits how often an operation is sent; refuses if there is
    /// none. The first attempt has its place already.
    ///
    /// A connection asks before it sends a call again, and does not send it without an `Ok`.
    fn again(&self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The clearance of calls that cannot be halted, such as the host's own reads.
#[must_use]
pub fn always() -> &'static dyn Clearance {
    struct Always;

    impl Clearance for Always {
        fn clear(&self) -> Result<(), Failure> {
            Ok(())
        }

        fn withdrawn(&self) -> BoxFuture<'_, Failure> {
            Box::pin(std::future::pending())
        }
    }

    &Always
}

/// One call on its way to QuantConnect, after all decisions.
#[derive(Clone)]
pub struct Call<'a> {
    /// The account whose connection carries it.
    pub account: &'a str,
    /// The operation.
    pub target: Target<'a>,
    /// Flat arguments under their JSON names (`projectId`); the connection wraps them if the server requires it.
    pub arguments: Map<String, Value>,
    /// The instant after which the caller stops waiting for the answer.
    pub deadline: Instant,
    /// Whether it may still be sent.
    pub clearance: &'a dyn Clearance,
    /// Told how it was answered. Without it the cache is not used, since its caller could not record that.
    pub sends: Option<&'a Sends>,
}

/// How often a call was sent, or the age of the kept answer that it was given instead.
#[derive(Debug, Default)]
pub struct Sends {
    count: AtomicU32,
    kept: OnceLock<Duration>,
}

impl Sends {
    /// Counts one send.
    pub fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was sent.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// It is answered with what another call was answered so long ago.
    pub fn answered_by_cache(&self, age: Duration) {
        self.kept.get_or_init(|| age);
    }

    /// The age of the answer, if the cache gave it.
    #[must_use]
    pub fn cached(&self) -> Option<Duration> {
        self.kept.get().copied()
    }
}

impl fmt::Debug for Call<'_> {
    /// Only the names of arguments: their values include secrets of brokerages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("account", &self.account)
            .field("target", &self.target)
            .field("arguments", &self.arguments.keys())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Why a call gave no usable answer. The variants mirror those of the WIT `error` that a
/// connection can cause; the gate's own refusals are added by the gate.
#[derive(Debug, Clone, PartialEq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(FailureKind),
    derive(EnumString, IntoStaticStr, VariantNames),
    strum(serialize_all = "kebab-case"),
    doc = "The kind of a [`Failure`]. Its name in kebab-case is the one definition of the word that the contract's error, \
           the audit and our own MCP server use; it is parsed with `str::parse`."
)]
pub enum Failure {
    /// The arguments do not match the operation; nothing was sent or nothing was done.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// QuantConnect does not know the requested item.
    #[error("not found: {0}")]
    NotFound(String),
    /// The server is still computing the answer; retry later.
    #[error("not ready yet: {message}")]
    NotReady {
        /// From 0 to 1, if the server reports it.
        progress: Option<f64>,
        /// The server's words.
        message: String,
    },
    /// The server answered `success: false`: its `errors`, word for word.
    #[error("rejected by QuantConnect: {}", .0.join("; "))]
    Rejected(Vec<String>),
    /// Too many requests; nothing was done.
    #[error("rate limited by QuantConnect{}", match .retry_after {
        Some(wait) if *wait >= crate::MAX_RETRY_AFTER => "; retry after a day or more".to_owned(),
        Some(wait) => format!("; retry after {} s", wait.as_secs_f64()),
        None => String::new(),
    })]
    RateLimited {
        /// How long to wait, if the server says so.
        retry_after: Option<Duration>,
    },
    /// No connection, or the server could not serve; nothing is known to have been done.
    #[error("QuantConnect is unavailable: {0}")]
    Unavailable(String),
    /// The server of this way wants a person to authorise the host again; nothing was done. Operations that go by another
    /// way are not affected.
    #[error("a person has to authorise the host again: {0}")]
    Reauthorize(String),
    /// No answer before the deadline to a call that changes nothing or was never sent.
    #[error("timed out after {} s", .after.as_secs_f64())]
    TimedOut {
        /// How long it waited.
        after: Duration,
    },
    /// A write was sent and its answer was lost: it may or may not have taken effect. It is
    /// never sent again.
    #[error("unknown outcome: {0}")]
    UnknownOutcome(String),
    /// An answer arrived that does not match the operation.
    #[error("unexpected response: {0}")]
    UnexpectedResponse(String),
    /// An operator halted the account or the plugin, for this reason. Nothing was sent that could have been done:
    /// if an earlier attempt may have been, the failure is an [`UnknownOutcome`](Self::UnknownOutcome).
    #[error("halted: {0}")]
    Halted(String),
}

impl Failure {
    /// Its name in the contract's error and in the audit.
    #[must_use]
    pub fn word(&self) -> &'static str {
        FailureKind::from(self).into()
    }

    /// The same failure with its texts changed, for example redacted.
    #[must_use]
    pub fn map_text(self, change: impl Fn(String) -> String) -> Self {
        match self {
            Self::InvalidArgument(text) => Self::InvalidArgument(change(text)),
            Self::NotFound(text) => Self::NotFound(change(text)),
            Self::NotReady { progress, message } => Self::NotReady {
                progress,
                message: change(message),
            },
            Self::Rejected(errors) => Self::Rejected(errors.into_iter().map(change).collect()),
            Self::Unavailable(text) => Self::Unavailable(change(text)),
            Self::Reauthorize(text) => Self::Reauthorize(change(text)),
            Self::UnknownOutcome(text) => Self::UnknownOutcome(change(text)),
            Self::UnexpectedResponse(text) => Self::UnexpectedResponse(change(text)),
            Self::Halted(text) => Self::Halted(change(text)),
            same @ (Self::RateLimited { .. } | Self::TimedOut { .. }) => same,
        }
    }
}

/// The body of a successful answer, or why there is none.
pub type Outcome = Result<Value, Failure>;

/// A future that borrows its inputs.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection that carries calls to QuantConnect.
///
/// An implementation never cancels a call that it has begun to send because its future was dropped, and the gate
/// never drops the future of such a call.
pub trait Upstream: Send + Sync {
    /// Sends the call, if its clearance permits, and waits for its outcome, at most until its deadline.
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome>;

    /// Whether a server of the account has a tool of this name; `None` if that is unknown without asking one.
    fn has_tool(&self, _account: &str, _tool: &str) -> Option<bool> {
        None
    }

    /// Fetches at most `limit` bytes from a download address of QuantConnect's. The address is a secret: it appears
    /// in no error and no log.
    fn download<'a>(
        &'a self,
        account: &'a str,
        url: &'a str,
        limit: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>>;
}
