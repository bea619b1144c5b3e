//! The client of QuantConnect's REST API v2: one POST, one answer.
//!
//! Invariants: a request has a fresh time-stamped hash and goes to the base URL's origin only
//! (redirects are never followed, loopback never uses a proxy); an answer is limited in size and
//! time; and a lost answer is classified here, where it is known whether the request was sent.
//! Nothing is ever retried: the caller decides about that.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qchost_catalog::{CONTENT, Failure, MEDIA_TYPE};
use qchost_text::error_chain;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::multipart::{Form, Part};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, excerpt, is_file};
use crate::base::{BaseUrl, BaseUrlError, CLOUD, localhost};
use crate::credentials::{Authorization, Credentials};
use crate::form;
use crate::headers::{RateLimit, retry_after, skew};
use crate::logins::Logins;

/// Clock difference in seconds that is worth mentioning when the cloud refuses the credentials.
const NOTABLE_SKEW_SECONDS: f64 = 30.0;

/// Shorter than the idle time-outs of the servers in front of the cloud, so that a request is not
/// written into a connection that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Address and time limits of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestOptions {
    /// The base URL: `https`, or `http` on a loopback address.
    pub base_url: String,
    /// Time limit for opening a connection.
    pub connect_timeout: Duration,
    /// Maximum silence while an answer is awaited or read.
    pub read_timeout: Duration,
    /// Maximum time from sending to the last byte of the answer.
    pub total_timeout: Duration,
    /// Maximum bytes of a body after decompression.
    pub max_response_bytes: usize,
}

impl Default for RestOptions {
    /// The cloud; 10 s to connect, 60 s of silence, 5 min in all, 30 MiB: as text in an MCP message
    /// a body may double, and clients limit messages (the host's limit is 64 MiB).
    fn default() -> Self {
        Self {
            base_url: CLOUD.to_owned(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(300),
            max_response_bytes: 30 * 1024 * 1024,
        }
    }
}

/// Why a client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The base URL is refused.
    #[error(transparent)]
    BaseUrl(#[from] BaseUrlError),
    /// The HTTP client cannot start, for instance because the system's certificates cannot be read.
    #[error("cannot start the HTTP client: {0}")]
    Client(String),
}

/// The effect of sending the same request again, and so the meaning of a lost answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// No further effect: a lost answer may be requested again.
    Repeatable,
    /// It acts each time: a lost answer leaves the outcome unknown.
    Once,
}

/// Why a request has no answer to pass on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoAnswer {
    /// There was no connection, so no byte of the request was sent.
    #[error("{0}")]
    NotSent(String),
    /// Any other reason.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<NoAnswer> for Failure {
    fn from(reason: NoAnswer) -> Self {
        match reason {
            NoAnswer::NotSent(reason) => Self::Unavailable(reason),
            NoAnswer::Failed(failure) => failure,
        }
    }
}

/// A pooled client for one account. Cloning shares the pool.
#[derive(Debug, Clone)]
pub struct RestClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Client,
    base: BaseUrl,
    credentials: Credentials,
    max_response_bytes: usize,
    logins: Logins,
}

/// Everything that one exchange reveals.
pub(crate) struct Exchange {
    pub(crate) reply: Result<Reply, NoAnswer>,
    /// The server's clock minus ours, in seconds, if the server sends its time.
    pub(crate) skew: Option<f64>,
    pub(crate) rate_limit: RateLimit,
    pub(crate) latency: Duration,
}

/// An answer, or the target of a redirect.
pub(crate) enum Reply {
    Answer(Answer),
    Redirect(Url),
}

/// What is known of a request when its answer fails.
struct Sent<'a> {
    endpoint: &'a str,
    effect: Effect,
    /// Whether the answer may be a file.
    file: bool,
    start: Instant,
}

impl RestClient {
    /// Creates a client; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`RestError`] if the base URL is refused or the HTTP client cannot start.
    pub fn new(credentials: Credentials, options: &RestOptions) -> Result<Self, RestError> {
        let base = BaseUrl::parse(&options.base_url)?;
        let mut builder = Client::builder()
            .user_agent(concat!("qchost/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout)
            .timeout(options.total_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT);
        if base.is_loopback() {
            builder = builder
                .no_proxy()
                .resolve_to_addrs("localhost", &localhost());
        }
        if base.is_plain() {
            // Reading the system's certificates takes time, and a minimal machine has none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder
            .build()
            .map_err(|error| RestError::Client(causes(error)))?;
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                base,
                credentials,
                max_response_bytes: options.max_response_bytes,
                logins: Logins::default(),
            }),
        })
    }

    /// Scheme, host and port of the base URL, for messages.
    #[must_use]
    pub fn origin(&self) -> String {
        self.inner.base.origin()
    }

    /// The pending log-ins.
    pub(crate) fn logins(&self) -> &Logins {
        &self.inner.logins
    }

    /// Posts a JSON body to an endpoint such as `/projects/read`.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`] if there is no answer to pass on. `success: false` is an answer.
    pub async fn post(
        &self,
        endpoint: &str,
        body: &Map<String, Value>,
        effect: Effect,
    ) -> Result<Answer, NoAnswer> {
        self.answer(self.exchange(endpoint, body, effect).await)
    }

    /// Posts a form.
    ///
    /// # Errors
    ///
    /// As [`Self::post`].
    pub(crate) async fn post_form(
        &self,
        endpoint: &str,
        body: &Map<String, Value>,
        effect: Effect,
    ) -> Result<Answer, NoAnswer> {
        let body = form::encoded(body);
        let exchange = self.send(endpoint, effect, false, |request| {
            request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(body)
        });
        self.answer(exchange.await)
    }

    /// Posts a JSON body to an endpoint that answers with a file, and puts its type and its text into an answer: as
    /// [`MEDIA_TYPE`] and [`CONTENT`].
    ///
    /// # Errors
    ///
    /// As [`Self::post`].
    pub async fn export(
        &self,
        endpoint: &str,
        body: &Map<String, Value>,
        effect: Effect,
    ) -> Result<Answer, NoAnswer> {
        let exchange = self.send(endpoint, effect, true, |request| request.json(body));
        self.answer(exchange.await)
    }

    /// Posts an object's bytes in a form.
    ///
    /// # Errors
    ///
    /// As [`Self::post`].
    pub async fn upload(
        &self,
        endpoint: &str,
        organization_id: &str,
        key: &str,
        data: Vec<u8>,
        effect: Effect,
    ) -> Result<Answer, NoAnswer> {
        let file = Part::bytes(data)
            .file_name("upload")
            .mime_str("application/octet-stream")
            .map_err(|error| Failure::InvalidArgument(error.to_string()))?;
        let form = Form::new()
            .text("organizationId", organization_id.to_owned())
            .text("key", key.to_owned())
            .part("objectData", file);
        self.answer(
            self.send(endpoint, effect, false, |request| request.multipart(form))
                .await,
        )
    }

    /// One exchange, with everything it reveals besides the answer.
    pub(crate) async fn exchange(
        &self,
        endpoint: &str,
        body: &Map<String, Value>,
        effect: Effect,
    ) -> Exchange {
        self.send(endpoint, effect, false, |request| request.json(body))
            .await
    }

    /// The answer of an exchange.
    fn answer(&self, exchange: Exchange) -> Result<Answer, NoAnswer> {
        match exchange.reply? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Redirect(url) => Err(NoAnswer::Failed(Failure::UnexpectedResponse(format!(
                "{} redirects to {}, which is not followed; check the base URL",
                self.origin(),
                url.origin().ascii_serialization()
            )))),
        }
    }

    async fn send(
        &self,
        endpoint: &str,
        effect: Effect,
        file: bool,
        payload: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Exchange {
        let sent = Sent {
            endpoint,
            effect,
            file,
            start: Instant::now(),
        };
        let mut exchange = Exchange {
            reply: Err(NoAnswer::NotSent(String::new())),
            skew: None,
            rate_limit: RateLimit::default(),
            latency: Duration::ZERO,
        };
        exchange.reply = self.transmit(&sent, payload, &mut exchange).await;
        exchange.latency = sent.start.elapsed();
        let outcome = match &exchange.reply {
            Ok(Reply::Answer(answer)) if answer.is_rejected() => "rejected",
            Ok(Reply::Answer(_)) => "answered",
            Ok(Reply::Redirect(_)) => "redirected",
            Err(_) => "failed",
        };
        tracing::debug!(endpoint, outcome, latency = ?exchange.latency, "REST exchange");
        exchange
    }

    async fn transmit(
        &self,
        sent: &Sent<'_>,
        payload: impl FnOnce(RequestBuilder) -> RequestBuilder,
        told: &mut Exchange,
    ) -> Result<Reply, NoAnswer> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|_| NoAnswer::NotSent("this machine's clock is before 1970".to_owned()))?
            .as_secs();
        let authorization = self
            .inner
            .credentials
            .authorization(now)
            .ok_or_else(|| NoAnswer::NotSent("the credentials make no header".to_owned()))?;
        let request = self
            .inner
            .http
            .post(self.inner.base.endpoint(sent.endpoint))
            .header(AUTHORIZATION, &authorization.header)
            .header("Timestamp", now);
        let response = payload(request)
            .send()
            .await
            .map_err(|error| self.lost(sent, error))?;
        told.skew = skew(response.headers(), SystemTime::now());
        told.rate_limit = RateLimit::read(response.headers());
        self.read(sent, response, &authorization, told.skew)
            .await
            .map_err(NoAnswer::Failed)
    }

    /// Reads and classifies an answer.
    async fn read(
        &self,
        sent: &Sent<'_>,
        response: Response,
        authorization: &Authorization,
        skew: Option<f64>,
    ) -> Result<Reply, Failure> {
        let status = response.status();
        let headers = response.headers().clone();
        if status.is_redirection()
            && let Some(url) = self.redirect(sent, &headers)
        {
            return Ok(Reply::Redirect(url));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failure::RateLimited {
                retry_after: retry_after(&headers, SystemTime::now()),
            });
        }
        let text = authorization.redact(self.body(sent, response).await?);
        if sent.file && status.is_success() && is_file(&text) {
            let of = headers.get(CONTENT_TYPE);
            let of = of.and_then(|of| of.to_str().ok()).unwrap_or_default();
            let media_type = of.split(';').next().unwrap_or_default().trim();
            let answer = json!({ "success": true, MEDIA_TYPE: media_type, CONTENT: text });
            return Ok(Reply::Answer(Answer::of(&answer)));
        }
        match Answer::parse(text) {
            // The cloud has been seen to refuse credentials with status 500.
            Ok(answer) if answer.refuses_credentials() => {
                Ok(Reply::Answer(mention_skew(answer, skew)))
            }
            // 401 is about the credentials, whatever the text is.
            Ok(answer)
                if status.is_success()
                    || (status.is_client_error()
                        && status != StatusCode::UNAUTHORIZED
                        && answer.is_rejected()) =>
            {
                Ok(Reply::Answer(answer))
            }
            Ok(answer) => self.refused(sent, status, &answer.errors().join("; ")),
            Err(reason) if status.is_success() => Err(sent.unreadable(reason)),
            Err(reason) => self.refused(sent, status, &format!("its body is {reason}")),
        }
    }

    fn redirect(&self, sent: &Sent<'_>, headers: &HeaderMap) -> Option<Url> {
        let location = headers.get(LOCATION)?.to_str().ok()?;
        self.inner.base.location(sent.endpoint, location)
    }

    /// The whole body as text, up to the limit.
    async fn body(&self, sent: &Sent<'_>, mut response: Response) -> Result<String, Failure> {
        let limit = self.inner.max_response_bytes;
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.lost(sent, error))?
        {
            if bytes.len().saturating_add(chunk.len()) > limit {
                return Err(sent.unreadable(format!("larger than the limit of {limit} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).map_err(|_| sent.unreadable("not UTF-8".to_owned()))
    }

    /// An HTTP status without an answer.
    fn refused(&self, sent: &Sent<'_>, status: StatusCode, detail: &str) -> Result<Reply, Failure> {
        let mut message = format!(
            "{} answered HTTP {status} to {}",
            self.origin(),
            sent.endpoint
        );
        if !detail.is_empty() {
            message.push_str(": ");
            message.push_str(&excerpt(detail));
        }
        if status == StatusCode::UNAUTHORIZED {
            return Ok(Reply::Answer(Answer::unauthorized(message)));
        }
        Err(if !status.is_server_error() {
            Failure::UnexpectedResponse(message)
        } else {
            match sent.effect {
                Effect::Repeatable => Failure::Unavailable(message),
                Effect::Once => Failure::UnknownOutcome(message),
            }
        })
    }

    /// A request or an answer that was not transmitted completely. A kept connection that the server closed may have
    /// carried the request; only one that could not be opened has not.
    fn lost(&self, sent: &Sent<'_>, error: reqwest::Error) -> NoAnswer {
        let origin = self.origin();
        let after = sent.start.elapsed();
        let never_sent = error.is_connect() || error.is_builder();
        let timed_out = error.is_timeout();
        let cause = causes(error);
        if never_sent {
            return NoAnswer::NotSent(format!("cannot connect to {origin}: {cause}"));
        }
        NoAnswer::Failed(match sent.effect {
            Effect::Once => Failure::UnknownOutcome(format!(
                "{} was sent to {origin}, but its answer was lost after {:.1} s: {cause}",
                sent.endpoint,
                after.as_secs_f64()
            )),
            Effect::Repeatable if timed_out => Failure::TimedOut { after },
            Effect::Repeatable => Failure::Unavailable(format!(
                "the connection to {origin} broke during {}: {cause}",
                sent.endpoint
            )),
        })
    }
}

impl Sent<'_> {
    /// The server received the request, but its answer cannot be read.
    fn unreadable(&self, reason: String) -> Failure {
        match self.effect {
            Effect::Repeatable => {
                Failure::UnexpectedResponse(format!("the answer to {} is {reason}", self.endpoint))
            }
            Effect::Once => Failure::UnknownOutcome(format!(
                "{} was sent, but its answer is {reason}",
                self.endpoint
            )),
        }
    }
}

/// Adds a note if a wrong clock is the likely cause of a refusal.
fn mention_skew(answer: Answer, skew: Option<f64>) -> Answer {
    match skew {
        Some(skew) if skew.abs() >= NOTABLE_SKEW_SECONDS => {
            let direction = if skew > 0.0 { "behind" } else { "ahead of" };
            answer.with_error(format!(
                "this machine's clock is {:.0} s {direction} the server's, and the authentication depends on it: set the clock",
                skew.abs()
            ))
        }
        _ => answer,
    }
}

/// An error and its causes in one line, without the URL.
fn causes(error: reqwest::Error) -> String {
    excerpt(&error_chain(&error.without_url()))
}
