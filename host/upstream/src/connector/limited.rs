//! The HTTP client under an MCP session, which bounds everything that a server can prolong.
//!
//! The library's transport follows a server without limit: a request without an answer keeps its connection, an
//! event stream that ends is requested again and again, even if no call waits for it. This client is between the
//! transport and the network and bounds each of these.
//!
//! Invariants: no request, stream or resumption outlives the deadline of its call or its connection. A response
//! stream is resumed at most [`MAX_RESUMPTIONS`] times in a row without a message, with growing waits. The
//! stand-alone stream of server messages is never opened: the host uses nothing from it.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use qchost_catalog::Backoff;
use reqwest::Client;
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::model::{ClientJsonRpcMessage, GetExtensions as _};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, SseError, StreamableHttpClient, StreamableHttpError,
    StreamableHttpPostResponse, StreamableHttpResponseLimits,
};
use secrecy::{ExposeSecret as _, SecretString};
use sse_stream::Sse;
use tokio_util::sync::CancellationToken;

use super::bearer::{BearerSource, NoToken, token_of};
use super::received::Received;
use crate::MAX_MESSAGE;
use crate::fault::{lacking_scopes, wants_authorization};

/// Until when the transport keeps a call open: nothing that belongs to the call outlives it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallDeadline(pub(crate) Instant);

/// Whether a call may no longer be sent, so that it is not sent again with a renewed token.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldBack(Arc<AtomicBool>);

impl HeldBack {
    pub(crate) fn hold(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Time limit of a request that belongs to no call: of the handshake, or a notification.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum consecutive resumptions of a response stream without a message.
const MAX_RESUMPTIONS: u32 = 6;

/// Maximum resumptions of one response stream.
const MAX_RESUMPTIONS_IN_ALL: u32 = 64;

/// Maximum events of one response, over all its resumptions.
const MAX_EVENTS: usize = 100_000;

/// Maximum bytes of one response: the largest answer, and as much again for other messages.
const MAX_RESPONSE: usize = 2 * MAX_MESSAGE;

/// Maximum length of an event id used to resume a stream.
const MAX_EVENT_ID: usize = 1024;

/// Maximum wait before a resumption that a server may request.
const MAX_SERVER_WAIT: Duration = Duration::from_secs(30);

type Events = BoxStream<'static, Result<Sse, SseError>>;
type HttpError = StreamableHttpError<reqwest::Error>;

/// An HTTP client for one connection.
#[derive(Clone)]
pub(super) struct LimitedClient {
    client: Client,
    /// The token of each request, if the server wants one.
    bearer: Option<Arc<dyn BearerSource>>,
    /// Cancelled when the connection is gone.
    closed: CancellationToken,
    backoff: Backoff,
    /// Counts the events of all streams.
    received: Received,
    /// Response streams that ended early, by the id of their last event.
    interrupted: Arc<Mutex<HashMap<String, Vec<Response>>>>,
}

/// The progress of one response.
#[derive(Debug, Clone, Copy)]
struct Response {
    deadline: Instant,
    /// Resumptions since the last message.
    idle: u32,
    /// Resumptions in all.
    resumed: u32,
    events: usize,
    bytes: usize,
}

impl Response {
    fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            idle: 0,
            resumed: 0,
            events: 0,
            bytes: 0,
        }
    }

    /// Counts an event, and limits the retry time and id in it.
    fn take(&mut self, event: &mut Sse) -> Result<(), io::Error> {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let size = length(&event.data) + length(&event.event) + length(&event.id);
        self.events = self.events.saturating_add(1);
        self.bytes = self.bytes.saturating_add(size);
        if self.events > MAX_EVENTS || self.bytes > MAX_RESPONSE {
            return Err(io::Error::other(format!(
                "the response is longer than {MAX_EVENTS} events or {MAX_RESPONSE} bytes"
            )));
        }
        if event
            .data
            .as_deref()
            .is_some_and(|data| !data.trim().is_empty())
        {
            self.idle = 0;
        }
        let max_wait = u64::try_from(MAX_SERVER_WAIT.as_millis()).unwrap_or(u64::MAX);
        event.retry = event.retry.map(|wait| wait.min(max_wait));
        Ok(())
    }

    fn may_resume(&self) -> bool {
        self.idle < MAX_RESUMPTIONS
            && self.resumed < MAX_RESUMPTIONS_IN_ALL
            && Instant::now() < self.deadline
    }
}

/// One attempt at a response's stream.
struct Attempt {
    client: LimitedClient,
    events: Events,
    response: Response,
    last_id: Option<String>,
    ended: bool,
}

impl LimitedClient {
    /// Requests end when `closed` is cancelled.
    pub(super) fn new(
        client: Client,
        bearer: Option<Arc<dyn BearerSource>>,
        closed: CancellationToken,
        received: Received,
    ) -> Self {
        Self {
            client,
            bearer,
            closed,
            received,
            backoff: Backoff::default(),
            interrupted: Arc::default(),
        }
    }

    /// The token of a request. Without one, nothing is sent.
    async fn token(&self) -> Result<Option<SecretString>, HttpError> {
        let Some(bearer) = &self.bearer else {
            return Ok(None);
        };
        token_of(bearer)
            .await
            .map(Some)
            .map_err(|missing| match missing {
                NoToken::Reauthorize(reason) => {
                    StreamableHttpError::AuthRequired(AuthRequiredError::new(reason))
                }
                unreachable @ NoToken::Unreachable(_) => io::Error::other(unreachable).into(),
            })
    }

    /// Notes it if the server refused the token, or wants one with more scopes.
    fn note_refusal<T>(&self, token: Option<&SecretString>, answer: &Result<T, HttpError>) {
        let (Some(bearer), Some(token), Err(error)) = (&self.bearer, token, answer) else {
            return;
        };
        if wants_authorization(error) {
            bearer.refused(token);
        }
        if let Some(scopes) = lacking_scopes(error) {
            bearer.lacks(scopes);
        }
    }

    /// Waits for a part of an exchange, at most until the deadline or the connection's end.
    async fn within<T>(&self, deadline: Instant, part: impl Future<Output = T>) -> io::Result<T> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the session was closed",
            )),
            done = tokio::time::timeout_at(deadline.into(), part) => {
                done.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))
            }
        }
    }

    /// The events of one attempt, up to the limits.
    fn follow(&self, events: Events, response: Response, last_id: Option<String>) -> Events {
        let attempt = Attempt {
            client: self.clone(),
            events,
            response,
            last_id,
            ended: false,
        };
        stream::unfold(attempt, |mut attempt| async move {
            let event = attempt.next().await?;
            Some((event, attempt))
        })
        .boxed()
    }

    fn remember(&self, id: String, response: Response) {
        if id.len() > MAX_EVENT_ID || !response.may_resume() {
            return;
        }
        let mut interrupted = self.interrupted.lock();
        // A stream whose call was given up is not requested again.
        let now = Instant::now();
        interrupted.retain(|_, responses| {
            responses.retain(|response| response.deadline > now);
            !responses.is_empty()
        });
        interrupted.entry(id).or_default().push(response);
    }

    fn recall(&self, id: &str) -> Option<Response> {
        let mut interrupted = self.interrupted.lock();
        let responses = interrupted.get_mut(id)?;
        let response = responses.pop();
        if responses.is_empty() {
            interrupted.remove(id);
        }
        response
    }
}

impl Attempt {
    async fn next(&mut self) -> Option<Result<Sse, SseError>> {
        if self.ended {
            return None;
        }
        let next = self
            .client
            .within(self.response.deadline, self.events.next())
            .await;
        let failed = |error: io::Error| Some(Err(SseError::Body(Box::new(error))));
        match next {
            // Out of time: not resumed.
            Err(error) => {
                self.ended = true;
                failed(error)
            }
            Ok(Some(Ok(mut event))) => {
                if let Some(id) = &event.id {
                    self.last_id = Some(id.clone());
                }
                self.client.received.note_messages(1);
                let endless = self.client.received.excess().map(io::Error::other);
                let taken = self.response.take(&mut event);
                match endless.map_or(taken, Err) {
                    Ok(()) => Some(Ok(event)),
                    Err(error) => {
                        self.ended = true;
                        failed(error)
                    }
                }
            }
            Ok(over) => {
                self.ended = true;
                if let Some(id) = self.last_id.take() {
                    self.client.remember(id, self.response);
                }
                over
            }
        }
    }
}

/// What the library puts behind `Bearer`.
fn header(token: Option<&SecretString>) -> Option<String> {
    token.map(|token| token.expose_secret().to_owned())
}

/// The deadline of the call that a message belongs to.
fn deadline(message: &ClientJsonRpcMessage) -> Instant {
    let of_call = match message {
        ClientJsonRpcMessage::Request(request) => request
            .request
            .extensions()
            .get::<CallDeadline>()
            .map(|CallDeadline(deadline)| *deadline),
        _ => None,
    };
    of_call.unwrap_or_else(|| Instant::now() + HANDSHAKE_TIMEOUT)
}

/// Whether the call that a message belongs to may no longer be sent.
fn held_back(message: &ClientJsonRpcMessage) -> HeldBack {
    let of_call = match message {
        ClientJsonRpcMessage::Request(request) => request.request.extensions().get::<HeldBack>(),
        _ => None,
    };
    of_call.cloned().unwrap_or_default()
}

impl StreamableHttpClient for LimitedClient {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        self.post_message_with_response_limits(
            uri,
            message,
            session_id,
            auth_header,
            custom_headers,
            StreamableHttpResponseLimits::default(),
        )
        .await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let (deadline, held_back) = (deadline(&message), held_back(&message));
        let send = |message: ClientJsonRpcMessage, token: Option<&SecretString>| {
            self.client.post_message_with_response_limits(
                uri.clone(),
                message,
                session_id.clone(),
                header(token).or_else(|| auth_header.clone()),
                custom_headers.clone(),
                limits,
            )
        };
        let token = self.within(deadline, self.token()).await??;
        // Sent again only if the server refuses the token.
        let again = token.is_some().then(|| message.clone());
        let sent = self.within(deadline, send(message, token.as_ref())).await?;
        self.note_refusal(token.as_ref(), &sent);
        let answer = match (sent, again) {
            // Nothing was done. Without another token, that is the answer.
            (Err(error), Some(message)) if wants_authorization(&error) => {
                let renewed = self.within(deadline, self.token()).await??;
                if held_back.is_held() {
                    return Err(error);
                }
                let answer = self
                    .within(deadline, send(message, renewed.as_ref()))
                    .await?;
                self.note_refusal(renewed.as_ref(), &answer);
                answer
            }
            (sent, _) => sent,
        };
        Ok(match answer? {
            StreamableHttpPostResponse::Sse(events, session_id) => {
                let response = Response::until(deadline);
                let events = self.follow(events, response, None);
                StreamableHttpPostResponse::Sse(events, session_id)
            }
            answer => answer,
        })
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), HttpError> {
        // The transport sends this when the connection is closed, and bounds it.
        let token = self.token().await?;
        let auth_header = header(token.as_ref()).or(auth_header);
        self.client
            .delete_session(uri, session_id, auth_header, custom_headers)
            .await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, HttpError> {
        self.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            custom_headers,
            MAX_MESSAGE,
        )
        .await
    }

    /// Resumes a response. "No event streams" is the one error after which the transport does not retry.
    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<Events, HttpError> {
        let Some(id) = last_event_id else {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        };
        let Some(mut response) = self.recall(&id).filter(Response::may_resume) else {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        };
        // The transport has waited already, for as long as the server said.
        let wait = self.backoff.delay(response.idle);
        response.idle += 1;
        response.resumed += 1;
        let resumed = async {
            tokio::time::sleep(wait).await;
            let token = self.token().await?;
            let events = self
                .client
                .get_stream_with_max_sse_event_size(
                    uri,
                    session_id,
                    Some(id.clone()),
                    header(token.as_ref()).or(auth_header),
                    custom_headers,
                    max_sse_event_size,
                )
                .await;
            self.note_refusal(token.as_ref(), &events);
            events
        };
        match self.within(response.deadline, resumed).await? {
            Ok(events) => Ok(self.follow(events, response, Some(id))),
            Err(error) => {
                self.remember(id, response);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(data: Option<&str>, retry: Option<u64>) -> Sse {
        Sse {
            event: None,
            data: data.map(str::to_owned),
            id: None,
            retry,
        }
    }

    fn response() -> Response {
        Response::until(Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn only_a_message_is_progress() {
        let mut response = response();
        for _ in 0..MAX_RESUMPTIONS {
            assert!(response.may_resume());
            response.idle += 1;
            response.take(&mut event(Some(" "), None)).unwrap();
        }
        assert!(!response.may_resume());
        response.take(&mut event(Some("{}"), None)).unwrap();
        assert!(response.may_resume());
        response.resumed = MAX_RESUMPTIONS_IN_ALL;
        assert!(!response.may_resume());
    }

    #[test]
    fn a_response_ends_by_events_and_by_bytes() {
        let mut by_events = response();
        for _ in 0..MAX_EVENTS {
            by_events.take(&mut event(None, None)).unwrap();
        }
        by_events.take(&mut event(None, None)).unwrap_err();
        let mut by_bytes = Response {
            bytes: MAX_RESPONSE,
            ..response()
        };
        by_bytes.take(&mut event(Some("x"), None)).unwrap_err();
    }

    #[test]
    fn a_server_cannot_ask_for_a_wait_without_end() {
        let mut long = event(None, Some(u64::MAX));
        response().take(&mut long).unwrap();
        assert_eq!(long.retry, Some(30_000));
    }
}
