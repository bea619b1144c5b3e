//! Receives the redirect that ends a login in a browser of this machine.
//!
//! Invariants: it listens on the loopback address alone. It takes the first request that carries the state of its login, and
//! answers every other one with a refusal, so that neither another page nor another program can end the login. What it
//! takes is given to the host as it came; nothing of it is shown or logged. The page says that the login succeeded only
//! after it did.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use qchost_upstream::redirect_address;

/// Maximum bytes of a request that are read. A browser sends no body.
const MAX_REQUEST: usize = 32 << 10;

/// Time limit of reading one request, and of answering it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are read at a time; with more, the one that was opened first is closed.
const MAX_CONNECTIONS: usize = 256;
/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the browser shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    LoggedIn,
    Failed,
    /// For the redirect of another login, which the terminal says nothing about: any page can make a browser ask for it.
    OfAnother,
    NotFound,
}

impl Page {
    /// Its status and its text, which has nothing of the request in it.
    fn content(self) -> (&'static str, &'static str) {
        match self {
            Self::LoggedIn => (
                "200 OK",
                "Logged in. You can close this page; the terminal shows the rest.",
            ),
            Self::Failed => (
                "400 Bad Request",
                "The login failed: its answer was refused, or cannot be used. The terminal has the reason.",
            ),
            Self::OfAnother => (
                "400 Bad Request",
                "This answer was refused: it is not that of the login that the terminal waits for, which goes on.",
            ),
            Self::NotFound => (
                "404 Not Found",
                "This is the end of a login of qchost, and that is not its answer.",
            ),
        }
    }
}

/// The redirect of a login, in a request that waits for its page.
pub struct Received {
    stream: TcpStream,
    address: String,
}

impl Received {
    /// The whole address that the browser was sent back to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Tells the browser how the login ended.
    pub async fn answer(mut self, logged_in: bool) {
        let page = match logged_in {
            true => Page::LoggedIn,
            false => Page::Failed,
        };
        // The terminal says the same.
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, show(&mut self.stream, page)).await;
    }
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// The redirect of the login, as a whole address.
    Own(String),
    /// That of another login, or of none.
    Another,
    /// Anything else.
    Other,
}

/// Waits for the redirect of one login.
pub struct RedirectListener {
    listener: TcpListener,
    port: u16,
}

impl RedirectListener {
    /// Listens on a port of this machine, or on any.
    pub async fn open(port: Option<u16>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0)))
            .await
            .with_context(|| match port {
                Some(port) => format!(
                    "the port {port} of this machine, which a login has to come back to, is in use; end what uses it, or log in \
                     with --paste"
                ),
                None => "no port of this machine can be listened on; log in with --paste".to_owned(),
            })?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The redirect with this state. Programs that connect and say nothing do not delay it.
    pub async fn receive(&self, state: &str) -> Result<Received> {
        let mut requests = JoinSet::new();
        let mut open = VecDeque::new();
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    // As when other programs hold too much of the machine; that ends no login.
                    Err(error) => {
                        tracing::debug!(target: "host", %error, "a connection to the redirect is not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                Some(done) = requests.join_next() => match done {
                    Ok(Some(received)) => return Ok(received),
                    // Another program, or one that was cut off.
                    Ok(None) | Err(_) => continue,
                },
            };
            let (port, state) = (self.port, state.to_owned());
            if open.len() == MAX_CONNECTIONS {
                let oldest: Option<AbortHandle> = open.pop_front();
                if let Some(oldest) = oldest {
                    oldest.abort();
                }
            }
            open.push_back(requests.spawn(async move {
                let serving = serve(stream, port, &state);
                tokio::time::timeout(REQUEST_TIMEOUT, serving)
                    .await
                    .ok()
                    .flatten()
            }));
        }
    }
}

/// Reads one request. Returns it if it is the redirect of the login, and answers it otherwise.
async fn serve(mut stream: TcpStream, port: u16, state: &str) -> Option<Received> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST || stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    let page = match asked(&request, port, state) {
        Asked::Own(address) => return Some(Received { stream, address }),
        Asked::Another => Page::OfAnother,
        Asked::Other => Page::NotFound,
    };
    show(&mut stream, page).await;
    None
}

async fn show(stream: &mut TcpStream, page: Page) {
    let (status, text) = page.content();
    // The address of this page has the code in it.
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\r\n{text}",
        text.len()
    );
    // A browser that is gone has done its part.
    drop(stream.write_all(answer.as_bytes()).await);
    drop(stream.shutdown().await);
}

/// What a request asks for, while the login with this state waits.
fn asked(request: &[u8], port: u16, state: &str) -> Asked {
    let Some(whole) = redirect(request, port) else {
        return Asked::Other;
    };
    let Ok(url) = Url::parse(&whole) else {
        return Asked::Other;
    };
    let mut states = url.query_pairs().filter(|(key, _)| key == "state");
    let own = states.next().is_some_and(|(_, value)| value == state);
    match own && states.next().is_none() {
        true => Asked::Own(whole),
        false => Asked::Another,
    }
}

/// The whole address of a request, if it is a redirect.
fn redirect(request: &[u8], port: u16) -> Option<String> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let target = line.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    // A target that is no path would name another server.
    let address = redirect_address(port);
    let (origin, path) = address.rsplit_once('/')?;
    target.strip_prefix(&format!("/{path}?"))?;
    Some(format!("{origin}{target}"))
}

/// The state of a login in the address that a person opens.
pub fn state_of(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    let state = url.query_pairs().find(|(key, _)| key == "state");
    state.map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Asked {
        asked(format!("{line}\r\nHost: x\r\n\r\n").as_bytes(), 4000, "s1")
    }

    /// Looks the page of an answer up.
    async fn open(client: &reqwest::Client, address: String) -> (u16, String) {
        let answer = client.get(address).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[test]
    fn the_redirect_of_the_login_is_taken_and_nothing_else() {
        assert_eq!(
            read("GET /callback?code=c&state=s1 HTTP/1.1"),
            Asked::Own("http://127.0.0.1:4000/callback?code=c&state=s1".to_owned())
        );
        for line in [
            "GET /callback?code=c&state=s2 HTTP/1.1",
            "GET /callback?code=c HTTP/1.1",
            "GET /callback?code=c&state=s1&state=s1 HTTP/1.1",
        ] {
            assert_eq!(read(line), Asked::Another, "{line}");
        }
        for line in [
            "",
            "GET /callback HTTP/1.1",
            "GET /other?code=c&state=s1 HTTP/1.1",
            "GET http://evil.test/callback?code=c&state=s1 HTTP/1.1",
            "GET //evil.test/callback?code=c&state=s1 HTTP/1.1",
            "POST /callback?code=c&state=s1 HTTP/1.1",
            "GET /callback?code=c&state=s1 HTTP/1.0",
        ] {
            assert_eq!(read(line), Asked::Other, "{line}");
        }
    }

    #[tokio::test]
    async fn a_program_that_says_nothing_and_one_that_guesses_do_not_end_it() {
        let listener = RedirectListener::open(None).await.unwrap();
        let address = redirect_address(listener.port());
        let silent = TcpStream::connect(("127.0.0.1", listener.port()))
            .await
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let browser = async {
            let guess = format!("{address}?code=x&state=guess-of-a-page");
            let (status, page) = open(&client, guess).await;
            assert_eq!(status, 400);
            assert!(page.contains("refused"), "{page}");
            assert!(!page.contains("guess"), "{page}");
            let other = address.replace("/callback", "/favicon.ico");
            assert_eq!(open(&client, other).await.0, 404);
            let (status, page) = open(&client, format!("{address}?code=c&state=s1")).await;
            assert_eq!(status, 200);
            assert!(page.starts_with("Logged in."), "{page}");
        };
        let login = async {
            let received = listener.receive("s1").await.unwrap();
            assert_eq!(received.address(), format!("{address}?code=c&state=s1"));
            received.answer(true).await;
        };
        tokio::join!(login, browser);
        drop(silent);
    }

    #[tokio::test]
    async fn the_page_of_a_login_that_failed_says_so_and_nothing_of_its_request() {
        let listener = RedirectListener::open(None).await.unwrap();
        let address = redirect_address(listener.port());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let login = async {
            let received = listener.receive("s1").await.unwrap();
            received.answer(false).await;
        };
        let forged = format!("{address}?code=c&state=s1&iss=https://evil.test/<b>");
        let ((), (status, page)) = tokio::join!(login, open(&client, forged));
        assert_eq!(status, 400);
        assert!(page.contains("refused"), "{page}");
        assert!(page.contains("The terminal has the reason"), "{page}");
        assert!(!page.contains("evil") && !page.contains('<'), "{page}");
    }

    proptest! {
        #[test]
        fn any_request_is_read_or_refused(request in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(asked(&request, 4000, "s1"), Asked::Other);
        }
    }
}
