//! http-client: a test agent. It sends the requests that its input lists, through the bindings of
//! `wasi:http`, and reports the result of each.
//!
//! An action does not fail because of a request: the report contains the error.

use std::time::Duration;

use qchost_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// Maximum bytes of one `blocking-write-and-flush`.
const PIECE: usize = 4096;
/// Maximum bytes of a body in a report.
const SHOWN: usize = 4096;

/// A request to send.
#[derive(Deserialize, JsonSchema)]
struct Request {
    /// `GET`, or any word.
    method: String,
    /// `http`, or any word.
    scheme: String,
    /// The host, and the port if it is not the scheme's.
    authority: String,
    /// The path with its query.
    path: String,
    /// Names with values.
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// The size of the body, in bytes.
    #[serde(default)]
    body: usize,
    /// How many redirects to follow.
    #[serde(default)]
    redirects: u32,
    /// The longest wait between two pieces of the answer's body.
    #[serde(default)]
    patience_ms: Option<u64>,
}

/// What came of it.
#[derive(Default, Serialize, JsonSchema)]
struct Report {
    /// The status of the answer, if there was one.
    status: Option<u16>,
    /// Its headers.
    headers: Vec<(String, String)>,
    /// The beginning of its body.
    body: String,
    /// The bytes of it that were read.
    size: usize,
    /// What went wrong, in the words of the bindings.
    error: Option<String>,
}

/// The same request, several times.
#[derive(Deserialize, JsonSchema)]
struct Many {
    /// The request.
    request: Request,
    /// How often.
    times: usize,
}

/// Sends requests.
#[agent(name = "http-client")]
mod agent {
    use super::*;

    /// Send a request, read its answer, and follow its redirects.
    #[action]
    fn fetch(mut request: Request) -> Result<Report, Failure> {
        loop {
            let report = start(&request).map_or_else(failed, finish);
            let next = location(&report);
            match next {
                Some((scheme, authority, path)) if request.redirects > 0 => {
                    request.redirects -= 1;
                    request.scheme = scheme;
                    request.authority = authority;
                    request.path = path;
                }
                _ => return Ok(report),
            }
        }
    }

    /// Have several requests open at a time.
    #[action]
    fn fetch_many(many: Many) -> Result<Vec<Report>, Failure> {
        let started: Vec<_> = (0..many.times).map(|_| start(&many.request)).collect();
        Ok(started
            .into_iter()
            .map(|started| started.map_or_else(failed, finish))
            .collect())
    }

    /// Send a request and end without its answer.
    #[action]
    fn leave(request: Request) -> Result<Report, Failure> {
        let started = start(&request);
        std::thread::sleep(Duration::from_millis(request.patience_ms.unwrap_or(0)));
        Ok(started.map_or_else(failed, |_| Report::default()))
    }
}

fn failed(error: String) -> Report {
    Report {
        error: Some(error),
        ..Report::default()
    }
}

/// Sends a request with its body.
fn start(request: &Request) -> Result<FutureIncomingResponse, String> {
    let fields = Fields::new();
    for (name, value) in &request.headers {
        fields
            .append(name, value.as_bytes())
            .map_err(|error| format!("{name}: {error:?}"))?;
    }
    let outgoing = OutgoingRequest::new(fields);
    let taken = |what: &'static str| move |()| format!("the {what} was not taken");
    let method = match request.method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "CONNECT" => Method::Connect,
        "TRACE" => Method::Trace,
        other => Method::Other(other.to_owned()),
    };
    let scheme = match request.scheme.as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    outgoing.set_method(&method).map_err(taken("method"))?;
    outgoing
        .set_scheme(Some(&scheme))
        .map_err(taken("scheme"))?;
    outgoing
        .set_authority(Some(&request.authority))
        .map_err(taken("authority"))?;
    outgoing
        .set_path_with_query(Some(&request.path))
        .map_err(taken("path"))?;
    let options = RequestOptions::new();
    let patience = request.patience_ms.map(|ms| ms.saturating_mul(1_000_000));
    options
        .set_between_bytes_timeout(patience)
        .map_err(taken("patience"))?;
    let body = outgoing.body().map_err(taken("body"))?;
    let stream = body.write().map_err(taken("stream"))?;
    let answer = handle(outgoing, Some(options)).map_err(|error| format!("{error:?}"))?;
    // The host may have refused the rest of the body; then the answer says why.
    write(&stream, request.body).unwrap_or_default();
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|error| format!("{error:?}"))?;
    Ok(answer)
}

fn write(stream: &OutputStream, mut bytes: usize) -> Result<(), StreamError> {
    while bytes > 0 {
        let piece = bytes.min(PIECE);
        stream.blocking_write_and_flush(&vec![b'x'; piece])?;
        bytes -= piece;
    }
    Ok(())
}

/// Waits for the answer and reads it.
fn finish(answer: FutureIncomingResponse) -> Report {
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(Ok(response))) => read(&response),
        Some(Ok(Err(error))) => failed(format!("{error:?}")),
        other => failed(format!("no answer: {other:?}")),
    }
}

fn read(response: &IncomingResponse) -> Report {
    let mut report = Report {
        status: Some(response.status()),
        ..Report::default()
    };
    for (name, value) in response.headers().entries() {
        report
            .headers
            .push((name, String::from_utf8_lossy(&value).into_owned()));
    }
    let Ok(body) = response.consume() else {
        return report;
    };
    let Ok(stream) = body.stream() else {
        return report;
    };
    let mut shown = Vec::new();
    loop {
        match stream.blocking_read(65536) {
            Ok(bytes) => {
                report.size += bytes.len();
                let room = SHOWN.saturating_sub(shown.len());
                shown.extend(bytes.into_iter().take(room));
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                report.error = Some(error.to_debug_string());
                break;
            }
        }
    }
    report.body = String::from_utf8_lossy(&shown).into_owned();
    report
}

/// The target of a redirect.
fn location(report: &Report) -> Option<(String, String, String)> {
    if !matches!(report.status, Some(301 | 302 | 303 | 307 | 308)) {
        return None;
    }
    let (_, address) = report
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("location"))?;
    let (scheme, rest) = address.split_once("://")?;
    let (authority, path) = rest.split_once('/')?;
    Some((scheme.to_owned(), authority.to_owned(), format!("/{path}")))
}
