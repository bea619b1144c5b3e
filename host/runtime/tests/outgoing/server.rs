//! A server that a test scripts, byte by byte, and that remembers what reached it.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The lines of its head.
    pub head: Vec<String>,
    /// Bytes of its body, framing included.
    pub body: usize,
}

impl Seen {
    /// `GET /path HTTP/1.1`
    pub fn line(&self) -> &str {
        &self.head[0]
    }

    pub fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.head
            .iter()
            .filter_map(|line| line.split_once(": "))
            .filter(|(it, _)| it.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

/// What a test answers: pieces, each after a pause; then the connection is closed, unless it is held.
#[derive(Default)]
pub struct Reply {
    pub pieces: Vec<(Duration, Vec<u8>)>,
    pub hold: bool,
}

impl Reply {
    /// An answer with a status, headers and a body of known size.
    pub fn of(status: &str, headers: &str, body: &str) -> Self {
        let size = body.len();
        Self::raw(&format!(
            "HTTP/1.1 {status}\r\ncontent-length: {size}\r\n{headers}\r\n{body}"
        ))
    }

    pub fn ok(body: &str) -> Self {
        Self::of("200 OK", "", body)
    }

    pub fn raw(text: &str) -> Self {
        Self {
            pieces: vec![(Duration::ZERO, text.as_bytes().to_vec())],
            hold: false,
        }
    }

    pub fn then(mut self, pause: Duration, text: &str) -> Self {
        self.pieces.push((pause, text.as_bytes().to_vec()));
        self
    }

    /// Leaves the connection open behind it.
    pub fn hold(mut self) -> Self {
        self.hold = true;
        self
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// The server.
pub struct Server {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepted: watch::Receiver<usize>,
    closed: watch::Receiver<usize>,
}

impl Server {
    pub async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (accepting, accepted) = watch::channel(0);
        let (closing, closed) = watch::channel(0);
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.send_modify(|count| *count += 1);
                let (script, log, closing) =
                    (Arc::clone(&script), Arc::clone(&log), closing.clone());
                tokio::spawn(async move {
                    serve(stream, &*script, &log).await;
                    closing.send_modify(|count| *count += 1);
                });
            }
        });
        Self {
            port,
            seen,
            accepted,
            closed,
        }
    }

    /// What reached it.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Number of connections accepted.
    pub fn accepted(&self) -> usize {
        *self.accepted.borrow()
    }

    /// Waits until this many connections are over.
    pub async fn closed(&self, count: usize) {
        let mut closed = self.closed.clone();
        let waiting = closed.wait_for(|closed| *closed >= count);
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .expect("the connection was left open")
            .unwrap();
    }

    /// Waits until this many requests came.
    pub async fn asked(&self, count: usize) {
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.seen().len() < count {
            assert!(tokio::time::Instant::now() < end, "no request came");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Serves one request; returns when the connection is over.
async fn serve(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<Seen>>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut seen = Seen {
        head: text.split("\r\n").map(str::to_owned).collect(),
        body: bytes.len() - end - 4,
    };
    let length = seen
        .header("content-length")
        .first()
        .map(|it| it.parse().unwrap());
    let chunked = !seen.header("transfer-encoding").is_empty();
    // The end of a chunked body is its last chunk, which no body of these tests has inside.
    while length.is_some_and(|length: usize| seen.body < length)
        || (chunked && !bytes.ends_with(b"0\r\n\r\n"))
    {
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(read) => seen.body += read,
        }
    }
    log.lock().push(seen.clone());
    let reply = script(&seen);
    for (pause, piece) in reply.pieces {
        tokio::time::sleep(pause).await;
        if stream.write_all(&piece).await.is_err() {
            return;
        }
    }
    if reply.hold {
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
    }
}
