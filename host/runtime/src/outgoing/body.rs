//! Request and response bodies, counted as they pass, with a size limit and a deadline.
//!
//! Nothing is buffered: a body takes as much of the host's memory as the chunk in transit, and one
//! that exceeds its limit fails at that chunk.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};
use wasmtime_wasi_io::bytes::Bytes;

use super::count::Count;
use super::headers::Granted;
use super::record::Record;

/// The body of a request.
pub(super) struct Upload {
    pub(super) body: WasiBody,
    pub(super) count: Count,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(piece))) = &polled
            && !self.count.add(piece)
        {
            let limit = self.count.limit();
            return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(limit)))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response. Dropping it, whether read or not, ends the exchange and records it.
pub(super) struct Answer {
    body: Incoming,
    count: Count,
    granted: Granted,
    /// When the whole exchange ends.
    deadline: Pin<Box<Sleep>>,
    /// The guest's time-out between two chunks.
    chunk_timeout: Option<(Duration, Pin<Box<Sleep>>)>,
    record: Record,
}

impl Answer {
    pub(super) fn new(
        body: Incoming,
        count: Count,
        granted: Granted,
        deadline: Instant,
        chunk_timeout: Option<Duration>,
        record: Record,
    ) -> Self {
        Self {
            body,
            count,
            granted,
            deadline: Box::pin(tokio::time::sleep_until(deadline)),
            chunk_timeout: chunk_timeout
                .map(|chunk_timeout| (chunk_timeout, Box::pin(tokio::time::sleep(chunk_timeout)))),
            record,
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.record.failed(&error);
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return self.fail(Error::HttpResponseTimeout);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(mut piece))) => {
                if let Some(trailers) = piece.trailers_mut() {
                    self.granted.clean(trailers);
                }
                if !self.count.add(&piece) {
                    let limit = self.count.limit();
                    return self.fail(Error::HttpResponseBodySize(Some(limit)));
                }
                if let Some((chunk_timeout, sleep)) = &mut self.chunk_timeout {
                    sleep.as_mut().reset(Instant::now() + *chunk_timeout);
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(if ended_early(&error) {
                Error::HttpResponseIncomplete
            } else {
                Error::Hyper(error)
            }),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let waited = self
                    .chunk_timeout
                    .as_mut()
                    .is_some_and(|(_, sleep)| sleep.as_mut().poll(context).is_ready());
                if waited {
                    return self.fail(Error::ConnectionReadTimeout);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether the peer closed the connection before the end.
fn ended_early(error: &hyper::Error) -> bool {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>());
    error.is_incomplete_message()
        || cause.is_some_and(|cause| {
            matches!(
                cause.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            )
        })
}
