//! An empty WASI.
//!
//! Toolchains import WASI whether a program needs it or not, so its interfaces are provided; but
//! there is no file, no argument, no environment variable and no standard input; every address and
//! every name is refused. A guest's output becomes lines of the log.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::services::log::{Lines, Source};

/// Maximum bytes of a line assembled from a guest's output.
const MAX_LINE: usize = 4096;
/// Maximum bytes that a guest may write at a time.
const MAX_WRITE: usize = 64 << 10;
/// Maximum random bytes that a guest gets at a time.
const MAX_RANDOM: u64 = 1 << 20;

/// The environment of a guest: empty.
pub(crate) fn empty(lines: &Arc<Lines>) -> WasiCtx {
    WasiCtxBuilder::new()
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(MAX_RANDOM)
        .stdout(GuestOutput::new(lines, Source::Stdout))
        .stderr(GuestOutput::new(lines, Source::Stderr))
        .build()
}

/// Standard output or standard error.
struct GuestOutput {
    lines: Arc<Lines>,
    source: Source,
}

impl GuestOutput {
    fn new(lines: &Arc<Lines>, source: Source) -> Self {
        Self {
            lines: Arc::clone(lines),
            source,
        }
    }

    fn stream(&self) -> Stream {
        Stream {
            lines: Arc::clone(&self.lines),
            source: self.source,
            line: Vec::new(),
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.stream())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.stream())
    }
}

/// Assembles lines. A line that is too long is passed on in parts.
struct Stream {
    lines: Arc<Lines>,
    source: Source,
    line: Vec<u8>,
}

impl Stream {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
            }
            if *byte == b'\n' || self.line.len() >= MAX_LINE {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.lines
                .log_output(self.source, &String::from_utf8_lossy(&line));
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end_line();
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: wasmtime_wasi_io::bytes::Bytes) -> StreamResult<()> {
        if bytes.len() > MAX_WRITE {
            let why = format!("it wrote more than the {MAX_WRITE} bytes that it may at a time");
            return Err(StreamError::trap(&why));
        }
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
