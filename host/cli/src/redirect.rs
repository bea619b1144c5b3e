//! Receives the redirect that ends a login in a browser of this machine.
//!
//! Invariants: it listens on the loopback address alone. It takes the first request that carries the state of its login, and
//! answers every other one with a refusal, so that neither another page nor another program can end the login. What it
//! takes is given to the host as it came; nothing of it is shown or logged.

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use qchost_upstream::redirect_address;

/// Maximum bytes of a request that are read. A browser sends no body.
const MAX_REQUEST: usize = 32 << 10;

/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What the browser shows at the end.
const DONE: &str = "The answer has arrived. You can close this page; the command shows the rest.";

/// What it shows for anything else.
const NOT_HERE: &str = "This is the end of a login of qchost, and that is not its answer.";

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

    /// The whole address of the redirect with this state. Programs that connect and say nothing do not delay it.
    pub async fn receive(&self, state: &str) -> Result<String> {
        let mut requests = tokio::task::JoinSet::new();
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted?.0,
                Some(done) = requests.join_next() => match done {
                    Ok(Some(redirect)) => return Ok(redirect),
                    // Another program, or one that was cut off.
                    Ok(None) | Err(_) => continue,
                },
            };
            let (port, state) = (self.port, state.to_owned());
            requests.spawn(async move {
                let serving = serve(stream, port, &state);
                tokio::time::timeout(REQUEST_TIMEOUT, serving)
                    .await
                    .ok()
                    .flatten()
            });
        }
    }
}

/// Reads one request and answers it. Returns the redirect if it is that of the login.
async fn serve(mut stream: TcpStream, port: u16, state: &str) -> Option<String> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST || stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    let redirect = redirect(&request, port, state);
    let (status, text) = match redirect {
        Some(_) => ("200 OK", DONE),
        None => ("404 Not Found", NOT_HERE),
    };
    // The address of this page has the code in it.
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\r\n{text}",
        text.len()
    );
    // A browser that is gone has done its part.
    drop(stream.write_all(answer.as_bytes()).await);
    drop(stream.shutdown().await);
    redirect
}

/// The address of a request, if it is the redirect of the login with this state.
fn redirect(request: &[u8], port: u16, state: &str) -> Option<String> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let target = line.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    // A target that is no path would name another server.
    let address = redirect_address(port);
    let (origin, path) = address.rsplit_once('/')?;
    target.strip_prefix(&format!("/{path}?"))?;
    let whole = format!("{origin}{target}");
    let url = Url::parse(&whole).ok()?;
    let mut states = url.query_pairs().filter(|(key, _)| key == "state");
    let own = states.next().is_some_and(|(_, value)| value == state);
    (own && states.next().is_none()).then_some(whole)
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

    fn read(line: &str) -> Option<String> {
        redirect(format!("{line}\r\nHost: x\r\n\r\n").as_bytes(), 4000, "s1")
    }

    #[test]
    fn the_redirect_of_the_login_is_taken_and_nothing_else() {
        assert_eq!(
            read("GET /callback?code=c&state=s1 HTTP/1.1").unwrap(),
            "http://127.0.0.1:4000/callback?code=c&state=s1"
        );
        for line in [
            "",
            "GET /callback?code=c&state=s2 HTTP/1.1",
            "GET /callback?code=c HTTP/1.1",
            "GET /callback?code=c&state=s1&state=s1 HTTP/1.1",
            "GET /callback HTTP/1.1",
            "GET /other?code=c&state=s1 HTTP/1.1",
            "GET http://evil.test/callback?code=c&state=s1 HTTP/1.1",
            "GET //evil.test/callback?code=c&state=s1 HTTP/1.1",
            "POST /callback?code=c&state=s1 HTTP/1.1",
            "GET /callback?code=c&state=s1 HTTP/1.0",
        ] {
            assert_eq!(read(line), None, "{line}");
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
            let guessed = client.get(format!("{address}?code=x&state=guess"));
            assert_eq!(guessed.send().await.unwrap().status(), 404);
            let own = client.get(format!("{address}?code=c&state=s1"));
            assert_eq!(own.send().await.unwrap().status(), 200);
        };
        let (received, ()) = tokio::join!(listener.receive("s1"), browser);
        assert_eq!(received.unwrap(), format!("{address}?code=c&state=s1"));
        drop(silent);
    }

    proptest! {
        #[test]
        fn any_request_is_read_or_refused(request in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(redirect(&request, 4000, "s1"), None);
        }
    }
}
