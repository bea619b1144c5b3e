//! Limits on what a server sends besides answers, and on replies that it does not read.
//!
//! Invariants: a connection ends once its server has sent [`MAX_UNANSWERED`] bytes without answering a request,
//! whatever their content; or once it sends more than [`MAX_BURST`] messages in a burst and more than
//! [`MESSAGES_PER_SECOND`] continuously. While [`MAX_PENDING_REPLIES`] replies to the server's own requests are not
//! written, nothing more is read, and a server that reads none of them for [`REPLY_TIMEOUT`] is disconnected. This
//! bounds the memory and the time that a server can make the host spend.

use parking_lot::Mutex;
use std::future::Future;
use std::io::{self, BufRead as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rmcp::service::{RoleClient, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::MAX_MESSAGE;

/// The largest answer, and as much again for other messages.
const MAX_UNANSWERED: usize = 2 * MAX_MESSAGE;

/// Messages that a server may send in a burst, in addition to the rate.
const MAX_BURST: f64 = 10_000.0;

/// Messages per second that a server may send continuously. A session carries 16 calls, and a server that reports on each
/// of them ten times a second is far below.
const MESSAGES_PER_SECOND: f64 = 500.0;

/// Messages that an answer pays for: its own, and the earlier ones about the call.
const MESSAGES_PER_ANSWER: f64 = 100.0;

/// Maximum replies to a server's own requests that may wait to be written.
const MAX_PENDING_REPLIES: usize = 64;

/// How long a server may read none of the replies it requested.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the transport may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What one connection received. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received(Arc<ReceivedCounts>);

#[derive(Debug, Default)]
struct ReceivedCounts {
    /// Bytes since the last answer.
    bytes: AtomicUsize,
    messages: Mutex<Messages>,
    /// Why the connection has to end. Set at most once.
    excess: OnceLock<String>,
    /// Cancelled when `excess` is set.
    over: CancellationToken,
}

/// Messages beyond the rate, as of an instant.
#[derive(Debug)]
struct Messages {
    beyond: f64,
    at: Instant,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            beyond: 0.0,
            at: Instant::now(),
        }
    }
}

impl Messages {
    /// Counts messages; `false` if there are too many.
    fn add(&mut self, messages: u32, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.beyond = (self.beyond - passed * MESSAGES_PER_SECOND).max(0.0) + f64::from(messages);
        self.beyond <= MAX_BURST
    }

    fn answered(&mut self) {
        self.beyond = (self.beyond - MESSAGES_PER_ANSWER).max(0.0);
    }
}

impl Received {
    /// Counts what is read from a stream of lines, and ends it at the limits.
    pub(crate) fn count<R>(&self, stream: R) -> CountingReader<R> {
        CountingReader {
            stream,
            received: self.clone(),
        }
    }

    /// Counts messages of any content.
    pub(crate) fn note_messages(&self, messages: u32) {
        let is_fine = self.0.messages.lock().add(messages, Instant::now());
        if !is_fine {
            self.end(format!(
                "the server sends messages without end: more than {MAX_BURST} at once, or more than \
                 {MESSAGES_PER_SECOND} a second, that answer nothing"
            ));
        }
    }

    /// The server answered.
    pub(crate) fn note_answer(&self) {
        self.0.bytes.store(0, Ordering::Relaxed);
        self.0.messages.lock().answered();
    }

    /// Why the connection ended at a limit, if it did.
    pub(crate) fn excess(&self) -> Option<String> {
        self.0.excess.get().cloned()
    }

    fn note_bytes(&self, bytes: usize) {
        let before = self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > MAX_UNANSWERED {
            self.end(format!(
                "the server sent more than {MAX_UNANSWERED} bytes without answering a request"
            ));
        }
    }

    fn end(&self, why: String) {
        // Only the first reason is kept.
        let _ = self.0.excess.set(why);
        self.0.over.cancel();
    }
}

/// A stream of lines whose bytes and lines are counted.
pub(crate) struct CountingReader<R> {
    stream: R,
    received: Received,
}

impl<R: AsyncRead + Unpin> AsyncRead for CountingReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        self.received.note_bytes(read.len());
        self.received.note_messages(lines(read));
        Poll::Ready(self.received.excess().map_or(Ok(()), |excess| {
            Err(io::Error::new(io::ErrorKind::QuotaExceeded, excess))
        }))
    }
}

/// The number of line ends.
fn lines(mut bytes: &[u8]) -> u32 {
    let mut lines = 0_u32;
    loop {
        let before = bytes;
        match bytes.skip_until(b'\n') {
            Ok(length)
                if before
                    .get(..length)
                    .is_some_and(|line| line.ends_with(b"\n")) =>
            {
                lines = lines.saturating_add(1);
            }
            _ => return lines,
        }
    }
}

/// A transport that ends at the limits.
pub(crate) struct LimitedTransport<T> {
    transport: T,
    received: Received,
    pending: Arc<PendingReplies>,
    /// Since when too many replies are waiting to be written.
    stuck_since: Option<Instant>,
}

/// Replies to the server's own requests that are being written.
#[derive(Debug, Default)]
struct PendingReplies {
    replies: AtomicUsize,
    taken: Notify,
}

/// One such reply.
struct PendingReply(Arc<PendingReplies>);

impl PendingReply {
    fn begin(pending: &Arc<PendingReplies>) -> Self {
        pending.replies.fetch_add(1, Ordering::Relaxed);
        Self(pending.clone())
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.0.replies.fetch_sub(1, Ordering::Relaxed);
        self.0.taken.notify_one();
    }
}

impl<T> LimitedTransport<T> {
    pub(crate) fn new(transport: T, received: Received) -> Self {
        Self {
            transport,
            received,
            pending: Arc::default(),
            stuck_since: None,
        }
    }

    /// Waits until replies can be added; `false` if the server reads none. Called again after each interruption.
    async fn has_room(&mut self) -> bool {
        while self.pending.replies.load(Ordering::Relaxed) >= MAX_PENDING_REPLIES {
            let since = *self.stuck_since.get_or_insert_with(Instant::now);
            let taken = self.pending.taken.notified();
            if timeout_at((since + REPLY_TIMEOUT).into(), taken)
                .await
                .is_err()
            {
                return false;
            }
        }
        self.stuck_since = None;
        true
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for LimitedTransport<T> {
    type Error = T::Error;

    fn name() -> std::borrow::Cow<'static, str> {
        T::name()
    }

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let is_reply = matches!(
            item,
            TxJsonRpcMessage::<RoleClient>::Response(_) | TxJsonRpcMessage::<RoleClient>::Error(_)
        );
        let reply = is_reply.then(|| PendingReply::begin(&self.pending));
        let over = self.received.0.over.clone();
        let sent = self.transport.send(item);
        async move {
            let Some(_reply) = reply else {
                return sent.await;
            };
            // A connection being closed does not wait for its server to read replies.
            tokio::select! {
                biased;
                () = over.cancelled() => Ok(()),
                outcome = sent => outcome,
            }
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let over = self.received.0.over.clone();
        if over.is_cancelled() {
            return None;
        }
        if !self.has_room().await {
            self.received.end(format!(
                "the server sends requests and takes none of the replies for {} s",
                REPLY_TIMEOUT.as_secs()
            ));
            return None;
        }
        tokio::select! {
            biased;
            () = over.cancelled() => None,
            message = self.transport.receive() => message,
        }
    }

    /// The library waits for its worker, and the worker may be waiting to pass on a message that is not taken any more.
    /// It ends when the transport is dropped after this.
    async fn close(&mut self) -> Result<(), Self::Error> {
        let closed = timeout(CLOSE_TIMEOUT, self.transport.close()).await;
        closed.unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, from: Instant) -> Instant {
        from + Duration::from_secs(seconds)
    }

    #[test]
    fn lines_are_counted_where_they_end() {
        for (bytes, count) in [("", 0), ("a", 0), ("a\n", 1), ("\n\nb\r\nc", 3)] {
            assert_eq!(lines(bytes.as_bytes()), count, "{bytes:?}");
        }
    }

    #[test]
    fn an_hour_of_reports_is_a_long_call_and_a_flood_ends_within_a_burst() {
        let start = Instant::now();
        // 16 calls at a time, each reported on ten times a second.
        let mut calm = Messages::default();
        for second in 0..3_600 {
            assert!(calm.add(160, after(second, start)), "{second}");
        }
        let mut flood = Messages::default();
        let taken = (0..).take_while(|_| flood.add(1, start)).count();
        assert_eq!(taken, 10_000);
        // Slower, but without end.
        let mut stream = Messages::default();
        let ended = (0..3_600).find(|second| !stream.add(1_000, after(*second, start)));
        assert!(ended.is_some_and(|second| second < 30), "{ended:?}");
        // As many as a busy session has answers, each with its messages.
        let mut busy = Messages::default();
        for _ in 0..100_000 {
            assert!(busy.add(50, start));
            busy.answered();
        }
    }
}
