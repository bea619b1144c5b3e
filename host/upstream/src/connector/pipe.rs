//! An MCP server in this process, over any pair of byte streams.

use std::io;

use qchost_catalog::BoxFuture;
use rmcp::service::ClientLifecycleMode;
use rmcp::transport::async_rw::AsyncRwTransport;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::connection::{ConnectError, Connection, Connector, EndSignal, NotOpened};
use super::era::Era;
use super::received::Received;
use crate::MAX_MESSAGE;
use crate::text::Redactor;

/// Opens sessions over the result of a closure: our end of a pipe whose other end a server reads.
pub struct PipeConnector<F> {
    name: String,
    open: F,
    era: Era,
}

impl<F> PipeConnector<F> {
    /// `open` is called once per session and starts (or reaches) a server; `name` identifies it.
    pub fn new(name: impl Into<String>, open: F) -> Self {
        Self {
            name: name.into(),
            open,
            era: Era::default(),
        }
    }
}

impl<F, R, W> PipeConnector<F>
where
    F: Fn() -> io::Result<(R, W)> + Send + Sync,
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    async fn attempt(&self, lifecycle: ClientLifecycleMode) -> Result<Connection, NotOpened> {
        let (read, write) = (self.open)().map_err(|error| {
            ConnectError::Transient(format!("cannot start {}: {error}", self.name))
        })?;
        let received = Received::default();
        let read = received.count(read);
        let transport = AsyncRwTransport::new(read, write).with_max_line_length(MAX_MESSAGE);
        let end_signal = EndSignal::without_cause(CancellationToken::new());
        let redactor = Redactor::default();
        Connection::open(transport, end_signal, received, &redactor, lifecycle).await
    }
}

impl<F, R, W> Connector for PipeConnector<F>
where
    F: Fn() -> io::Result<(R, W)> + Send + Sync,
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    fn connect(&self) -> BoxFuture<'_, Result<Connection, ConnectError>> {
        Box::pin(self.era.open(move |lifecycle| self.attempt(lifecycle)))
    }

    fn describe(&self) -> String {
        self.name.clone()
    }

    /// Empty: the server has the secrets, and it is ours.
    fn secrets(&self) -> Vec<SecretString> {
        Vec::new()
    }
}
