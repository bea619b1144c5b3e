//! How much a server sent since it last answered.
//!
//! Invariant: a stream ends with an error once a server has sent [`MAX_UNANSWERED`] bytes without answering
//! anything that it was asked, whatever else those bytes say.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::MAX_MESSAGE;

/// The largest answer, and as much again of what is no answer.
const MAX_UNANSWERED: usize = 2 * MAX_MESSAGE;

/// The bytes that one connection received since the last answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received(Arc<AtomicUsize>);

/// A stream whose bytes are counted.
pub(crate) struct Counted<R> {
    stream: R,
    received: Received,
}

impl Received {
    /// Counts what is read from a stream, and ends it at the limit.
    pub(crate) fn count<R>(&self, stream: R) -> Counted<R> {
        Counted {
            stream,
            received: self.clone(),
        }
    }

    /// The server answered.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// What to say of a connection that ended at the limit.
    pub(crate) fn excess(&self) -> Option<String> {
        (self.0.load(Ordering::Relaxed) > MAX_UNANSWERED).then(|| {
            format!("the server sent more than {MAX_UNANSWERED} bytes without answering a request")
        })
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len().saturating_sub(before);
        self.received.0.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(self.received.excess().map_or(Ok(()), |excess| {
            Err(io::Error::new(io::ErrorKind::QuotaExceeded, excess))
        }))
    }
}
