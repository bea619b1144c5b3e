//! Classifies a call that the transport did not answer.
//!
//! Invariant: "not sent" is only reported if the server cannot have acted. Anything unclear counts
//! as lost, and the rules for lost answers apply.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use qchost_catalog::{Failure, retry_after as parse_retry_after};
use qchost_text::error_chain;
use rmcp::model::{CallToolResult, ErrorData};
use rmcp::service::ServiceError;
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::{HttpStatusError, StreamableHttpError};

use crate::connector::NoToken;

/// Prefix of a failure caused by the credentials.
pub(crate) const UNAUTHORIZED: &str = "the server refuses the credentials";

/// Prefix of a failure caused by the clock.
pub(crate) const CLOCK: &str = "the server refuses the credentials' time stamp";

/// The problem of an account, as one call shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The credentials are refused.
    Unauthorized,
    /// The credentials are known, and not enough.
    Forbidden,
    /// The credentials are refused because of this machine's clock.
    Clock,
    /// There is no connection, or nothing usable at its other end.
    Unreachable,
    /// There were too many requests.
    RateLimited,
}

/// A failed call, with what it shows about the account.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) failure: Failure,
    /// Set if the account rather than the call caused the failure.
    pub(crate) problem: Option<Problem>,
    /// Whether the server says that it had no connection to send the call on, so that nothing was done, whatever the
    /// operation is.
    pub(crate) is_unsent: bool,
}

impl Fault {
    /// That of a call for which the server had no connection to QuantConnect.
    pub(crate) fn unsent(reason: String) -> Self {
        Self {
            is_unsent: true,
            ..Self::from(Failure::Unavailable(reason))
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let problem = match failure {
            Failure::Unavailable(_) => Some(Problem::Unreachable),
            Failure::RateLimited { .. } => Some(Problem::RateLimited),
            _ => None,
        };
        Self {
            failure,
            problem,
            is_unsent: false,
        }
    }
}

/// The result of one send of a call.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// The server answered.
    Answer(CallToolResult),
    /// The server refused with a JSON-RPC error.
    Refused(ErrorData),
    /// Its clearance refused: nothing was passed to the transport.
    Withheld(Failure),
    /// The server did not get it: the session is unusable.
    NotSent(String),
    /// The server is rate limiting and did nothing.
    RateLimited(Option<Duration>),
    /// The server refuses it permanently.
    Barred(String),
    /// The server refuses the credentials, or there are none to send: nothing was done.
    Unauthorized(String),
    /// The credentials do not suffice: nothing was done.
    Forbidden(String),
    /// It was sent, and there will be no answer.
    Lost(String),
    /// It was sent, and the response is not a valid answer.
    Garbled(String),
    /// The deadline passed.
    Late {
        /// Whether the server may have received it.
        sent: bool,
    },
}

/// The delivery for an error of the session.
pub(crate) fn delivery(error: ServiceError) -> Delivery {
    match error {
        ServiceError::McpError(error) => Delivery::Refused(error),
        ServiceError::TransportSend(error) => send_error(error),
        ServiceError::UnexpectedResponse => {
            Delivery::Garbled("the server's answer is no result of a tool".to_owned())
        }
        ServiceError::TransportClosed => Delivery::Lost("the connection was closed".to_owned()),
        other => Delivery::Lost(words(&other)),
    }
}

fn send_error(error: DynamicTransportError) -> Delivery {
    match error
        .error
        .downcast::<StreamableHttpError<reqwest::Error>>()
    {
        Ok(error) => http_error(*error),
        // A pipe that did not accept the whole line: a server acts on complete lines only.
        Err(error) if error.is::<io::Error>() => Delivery::NotSent(words(error.as_ref())),
        Err(error) => Delivery::Lost(words(error.as_ref())),
    }
}

fn http_error(error: StreamableHttpError<reqwest::Error>) -> Delivery {
    let reason = words(&error);
    match error {
        StreamableHttpError::Io(error) if is_missing_token(&error) => {
            Delivery::NotSent(error.to_string())
        }
        StreamableHttpError::HttpStatus(HttpStatusError {
            status: 429,
            retry_after,
            ..
        }) => Delivery::RateLimited(
            retry_after.and_then(|value| parse_retry_after(&value, SystemTime::now())),
        ),
        StreamableHttpError::SessionExpired => {
            Delivery::NotSent("the server forgot the session".to_owned())
        }
        StreamableHttpError::Client(error) if error.is_connect() || error.is_builder() => {
            Delivery::NotSent(reason)
        }
        StreamableHttpError::ReservedHeaderConflict(_) => Delivery::Barred(reason),
        error if wants_authorization(&error) => Delivery::Unauthorized(reason),
        error if forbids(&error) => Delivery::Forbidden(reason),
        // 429 and 5xx have their own variants: this is another 4xx, a refusal to act.
        StreamableHttpError::UnexpectedServerResponse(text) if text.starts_with("HTTP 4") => {
            Delivery::Barred(format!("the server refuses the request: {reason}"))
        }
        StreamableHttpError::UnexpectedServerResponse(_)
        | StreamableHttpError::ResponseBodyTooLarge { .. }
        | StreamableHttpError::UnexpectedContentType(_)
        | StreamableHttpError::Deserialize(_) => Delivery::Garbled(reason),
        _ => Delivery::Lost(reason),
    }
}

/// Whether a request was not sent, since its token could not be renewed.
fn is_missing_token(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<NoToken>())
}

/// Whether a server wants other credentials: 401. The body is no evidence.
pub(crate) fn wants_authorization(error: &StreamableHttpError<reqwest::Error>) -> bool {
    match error {
        StreamableHttpError::AuthRequired(_) => true,
        StreamableHttpError::UnexpectedServerResponse(text) => text.starts_with("HTTP 401 "),
        _ => false,
    }
}

/// Whether a server knows the credentials, and they do not suffice: 403.
pub(crate) fn forbids(error: &StreamableHttpError<reqwest::Error>) -> bool {
    match error {
        StreamableHttpError::InsufficientScope(_) => true,
        StreamableHttpError::UnexpectedServerResponse(text) => text.starts_with("HTTP 403 "),
        _ => false,
    }
}

/// The scopes, separated by spaces, that a server wants of credentials that do not suffice.
pub(crate) fn lacking_scopes(error: &StreamableHttpError<reqwest::Error>) -> Option<&str> {
    match error {
        StreamableHttpError::InsufficientScope(error) => error.get_required_scope(),
        _ => None,
    }
}

/// Whether a server answered the beginning of a session with something else than MCP, or refused it by a status that is
/// not about credentials. Servers of the era with a handshake answer so what has no session.
pub(crate) fn is_other_answer(error: &StreamableHttpError<reqwest::Error>) -> bool {
    match error {
        StreamableHttpError::UnexpectedServerResponse(text) => text.starts_with("HTTP 4"),
        StreamableHttpError::UnexpectedContentType(_)
        | StreamableHttpError::Deserialize(_)
        | StreamableHttpError::SessionExpired => true,
        _ => false,
    }
}

/// An error with its causes, without repetitions.
pub(crate) fn words(error: &(dyn Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<DynamicTransportError>() {
        // Its own text is the name of a type.
        return words(error.error.as_ref());
    }
    if let Some(StreamableHttpError::Client(error)) =
        error.downcast_ref::<StreamableHttpError<reqwest::Error>>()
    {
        // It does not report its cause as a source.
        return words(error);
    }
    error_chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_arrived_is_not_sent() {
        let sent = |error: StreamableHttpError<reqwest::Error>| http_error(error);
        assert!(matches!(
            sent(StreamableHttpError::SessionExpired),
            Delivery::NotSent(_)
        ));
        assert!(matches!(
            sent(StreamableHttpError::UnexpectedEndOfStream),
            Delivery::Lost(_)
        ));
        assert!(matches!(
            sent(HttpStatusError::new(503, Some("1".to_owned())).into()),
            Delivery::Lost(_)
        ));
        assert!(matches!(
            sent(HttpStatusError::new(429, Some("2".to_owned())).into()),
            Delivery::RateLimited(Some(wait)) if wait == Duration::from_secs(2)
        ));
        let missing = NoToken::Unreachable("no answer".to_owned());
        let missing = StreamableHttpError::Io(io::Error::other(missing));
        assert!(matches!(sent(missing), Delivery::NotSent(_)));
        let refused =
            StreamableHttpError::UnexpectedServerResponse("HTTP 403 Forbidden: no".into());
        assert!(matches!(sent(refused), Delivery::Forbidden(_)));
        let refused =
            StreamableHttpError::UnexpectedServerResponse("HTTP 401 Unauthorized: no".into());
        assert!(matches!(sent(refused), Delivery::Unauthorized(_)));
        let refused = StreamableHttpError::UnexpectedServerResponse("HTTP 400 Bad Request".into());
        assert!(matches!(sent(refused), Delivery::Barred(_)));
        let html = StreamableHttpError::UnexpectedContentType(Some("text/html".to_owned()));
        assert!(matches!(sent(html), Delivery::Garbled(_)));
    }
}
