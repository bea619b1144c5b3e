//! Closes a connection before an answer is sent.
//!
//! Invariant: once [`CutHandle::cut`] was called, not one more byte reaches the client: the kernel
//! refuses what hyper writes, and hyper closes the connection. Any later point could leave a
//! half-sent answer.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::TcpListener;

/// Cuts one connection.
#[derive(Debug, Clone)]
pub(crate) struct CutHandle(Arc<std::io::Result<TcpStream>>);

impl CutHandle {
    pub(crate) fn cut(&self) {
        let cut = match &*self.0 {
            Ok(stream) => stream
                .shutdown(Shutdown::Both)
                .map_err(|error| error.kind()),
            Err(error) => Err(error.kind()),
        };
        if let Err(error) = cut {
            tracing::error!(%error, "a connection could not be cut");
        }
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for CutHandle {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let descriptor = stream.io().as_fd().try_clone_to_owned();
        Self(Arc::new(descriptor.map(TcpStream::from)))
    }
}
