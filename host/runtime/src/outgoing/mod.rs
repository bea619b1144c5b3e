//! `wasi:http`: outgoing requests of plugins; incoming ones are not supported.
//!
//! The gate decides each request by its method, scheme, host, port and path; a guest that follows a
//! redirect makes another request. Allowed requests go out by the host's own connector, to a
//! checked address, with the headers that the manifest grants, and within its limits of size and
//! time. Everything runs in tasks that end with the instance.
//!
//! Invariant: no name is resolved and no byte is sent before the gate has decided.

mod body;
pub(crate) mod connect;
mod count;
mod headers;
mod record;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use qchost_gate::{Refusal, RequestPermission};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks,
};

use self::body::{Answer, Upload};
use self::count::Count;
use self::headers::Granted;
use self::record::Record;
use self::target::Target;
use crate::calls::CallContext;

/// Maximum open requests of one invocation.
const MAX_OPEN: usize = 16;
/// Maximum bytes of a body that a guest may write at a time, which the host buffers.
const MAX_CHUNK: usize = 64 << 10;
/// Maximum bytes of a response head.
const MAX_HEAD: usize = 128 << 10;
/// Maximum bytes in memory of a set of headers that a guest holds.
const MAX_FIELDS: usize = 32 << 10;

/// The response and the task that drives the connection while it is read.
type Exchanged = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

/// An instance's HTTP state.
pub(crate) struct Http {
    context: WasiHttpCtx,
    requests: Requests,
}

impl Http {
    /// `deadline` is the invocation's.
    pub(crate) fn new(calls: CallContext, deadline: std::time::Instant) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_FIELDS);
        Self {
            context,
            requests: Requests {
                calls,
                deadline: Instant::from_std(deadline),
                open: Arc::new(Semaphore::new(MAX_OPEN)),
            },
        }
    }

    pub(crate) fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView {
            hooks: &mut self.requests,
            table,
            ctx: &mut self.context,
        }
    }
}

/// The requests of one invocation.
#[derive(Clone)]
struct Requests {
    calls: CallContext,
    deadline: Instant,
    open: Arc<Semaphore>,
}

impl WasiHttpHooks for Requests {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(headers::forbidden)
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Exchanged, Error>> + Send> {
        let requests = self.clone();
        Box::new(async move { requests.send(request, options.unwrap_or_default()).await })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_CHUNK
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        tracing::debug!(target: "http", %error, "the exchange failed");
        ErrorCode::HttpProtocolError
    }
}

impl Requests {
    /// Has the gate decide a request, and sends it.
    async fn send(
        self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Exchanged, Error> {
        let permit = Arc::clone(&self.open)
            .try_acquire_owned()
            .map_err(|_| Error::ConnectionLimitReached)?;
        let wait = self.calls.wait();
        let target = Target::of(request.uri()).inspect_err(|error| {
            let caller = self.calls.principal();
            if caller.may_be_logged() {
                tracing::warn!(target: "http", plugin = %caller.plugin, invocation = %caller.invocation, %error, "refused: the address of the request");
            }
        })?;
        // CONNECT opens a tunnel; TRACE makes the server echo the granted headers.
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let mut permission = self.decide(request.method(), &target).await?;
        let exchange = Exchange {
            calls: &self.calls,
            listed: std::mem::take(&mut permission.addresses),
            granted: Granted::new(std::mem::take(&mut permission.headers)),
            deadline: Instant::now()
                .checked_add(permission.timeout)
                .map_or(self.deadline, |until| until.min(self.deadline)),
            sent: Count::new(permission.request),
            received: Count::new(permission.response),
            target,
            options,
        };
        let record = Record::new(
            permission,
            exchange.sent.clone(),
            exchange.received.clone(),
            (permit, wait),
        );
        exchange.run(request, record).await
    }

    async fn decide(&self, method: &Method, target: &Target) -> Result<RequestPermission, Error> {
        let outgoing = qchost_gate::Outgoing {
            method: method.to_string(),
            scheme: target.scheme().to_owned(),
            host: target.host.to_string(),
            port: target.port,
            path: target.path.clone(),
        };
        let gate = self.calls.gate().map_err(|_| Error::HttpRequestDenied)?;
        let (gate, caller) = (gate.clone(), self.calls.principal().clone());
        // In a task of its own: a decision in progress is recorded even if the plugin ends
        // meanwhile.
        let deciding = tokio::spawn(async move { gate.outgoing(&caller, outgoing).await });
        let Ok(decided) = deciding.await else {
            let words = "the host failed while it decided; nothing was sent";
            return Err(Error::InternalError(Some(words.to_owned())));
        };
        decided.map_err(|refusal| refused(&refusal))
    }
}

/// The `wasi:http` error code of a refusal. The codes carry no text; the reason is in the log.
fn refused(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::Exhausted { .. } | Refusal::RateLimited(_) => Error::ConnectionLimitReached,
        // For example a secret that cannot be read, or a full disk.
        Refusal::Failed(_) => Error::ConfigurationError,
        Refusal::Denied(_)
        | Refusal::ApprovalRequired { .. }
        | Refusal::ApprovalRefused { .. }
        | Refusal::Halted(_) => Error::HttpRequestDenied,
    }
}

/// One allowed request.
struct Exchange<'a> {
    calls: &'a CallContext,
    target: Target,
    listed: Vec<std::net::IpAddr>,
    granted: Granted,
    options: RequestOptions,
    deadline: Instant,
    sent: Count,
    received: Count,
}

impl Exchange<'_> {
    async fn run(self, request: Request<WasiBody>, mut record: Record) -> Result<Exchanged, Error> {
        match self.answer(request, &record).await {
            Ok((response, driver)) => {
                record.answered(response.status().as_u16());
                Ok(self.receive(response, driver, record))
            }
            Err(error) => {
                record.failed(&error);
                Err(error)
            }
        }
    }

    /// Sends the request and waits for the head of its response.
    async fn answer(
        &self,
        request: Request<WasiBody>,
        record: &Record,
    ) -> Result<(Response<hyper::body::Incoming>, Driver), Error> {
        let (mut parts, body) = request.into_parts();
        let limit = self.sent.limit();
        if body.size_hint().lower() > limit || announced(&parts.headers) > limit {
            return Err(Error::HttpRequestBodySize(Some(limit)));
        }
        self.granted.complete(&mut parts.headers, &self.target)?;
        let uri = self.target.path_and_query.parse::<Uri>();
        parts.uri = uri.map_err(|_| Error::HttpRequestUriInvalid)?;
        parts.version = Version::HTTP_11;
        let body = Upload {
            body,
            count: self.sent.clone(),
        };

        let until = self.until(self.options.connect_timeout);
        let connector = &self.calls.version_context().connector;
        let stream = connector
            .connect(self.calls.principal(), &self.target, &self.listed, until)
            .await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await?;
        let driver = wasmtime_wasi::runtime::spawn(connection);

        record.clear().map_err(|refusal| refused(&refusal))?;
        let until = self.until(self.options.first_byte_timeout);
        let sending = sender.send_request(Request::from_parts(parts, body));
        let mut response = match timeout_at(until, sending).await {
            Ok(sent) => sent.map_err(|error| self.explain(error))?,
            Err(_) if until < self.deadline => return Err(Error::ConnectionReadTimeout),
            Err(_) => return Err(Error::HttpResponseTimeout),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::HttpUpgradeFailed);
        }
        let size = response.body().size_hint().lower();
        if size > self.received.limit() {
            return Err(Error::HttpResponseBodySize(Some(size)));
        }
        self.granted.clean(response.headers_mut());
        Ok((response, driver))
    }

    fn receive(
        self,
        response: Response<hyper::body::Incoming>,
        driver: Driver,
        record: Record,
    ) -> Exchanged {
        let deadline = self.deadline;
        let chunk_timeout = self.options.between_bytes_timeout;
        let response = response.map(|body| {
            let body = Answer::new(
                body,
                self.received,
                self.granted,
                deadline,
                chunk_timeout,
                record,
            );
            body.boxed_unsync()
        });
        // The connection is closed at the deadline even if the response is not read.
        let work = async move {
            match timeout_at(deadline, driver).await {
                Ok(ended) => ended.map_err(Error::from),
                Err(_) => Ok(()),
            }
        };
        (response, Box::new(work))
    }

    /// When the guest's time-out ends, or the exchange.
    fn until(&self, timeout: Option<Duration>) -> Instant {
        timeout
            .and_then(|timeout| Instant::now().checked_add(timeout))
            .map_or(self.deadline, |until| until.min(self.deadline))
    }

    fn explain(&self, error: hyper::Error) -> Error {
        if self.sent.exceeded() {
            Error::HttpRequestBodySize(Some(self.sent.limit()))
        } else if error.is_parse_too_large() {
            Error::HttpResponseHeaderSectionSize(None)
        } else if error.is_incomplete_message() || error.is_canceled() {
            Error::ConnectionTerminated
        } else {
            Error::Hyper(error)
        }
    }
}

/// The task that drives a connection; it ends with its handle.
type Driver = wasmtime_wasi::runtime::AbortOnDropJoinHandle<Result<(), hyper::Error>>;

/// The content length that a guest announces.
fn announced(headers: &http::HeaderMap) -> u64 {
    headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}
