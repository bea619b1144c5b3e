//! Fetching what a download address serves: the bytes of an object.
//!
//! The address comes out of an answer of the server's, so it is not trusted: only `https` is
//! followed, and an address on this machine only for an account whose cloud is on this machine.
//! Otherwise an answer could have the host read from services that only it can reach.
//!
//! Invariants: the address is a secret and appears in no error and no log; what is read is
//! bounded by size and time.

use std::time::{Duration, Instant};

use qchost_catalog::Failure;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode, Url};
use tokio::time::timeout_at;

use crate::backoff::Backoff;
use crate::connector::{ConfigError, is_loopback};
use crate::fault::words;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REDIRECTS: usize = 4;

/// Reading is safe to repeat; addresses live for minutes, so not for long.
const ATTEMPTS: u32 = 4;

/// Where a download may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// `https` anywhere but on this machine.
    Outside,
    /// This machine as well.
    ThisMachine,
}

pub(crate) struct Downloader {
    outside: Client,
    /// Without proxy and without redirects.
    local: Client,
}

/// One request's end without a body.
enum Fault {
    Again(Failure),
    Final(Failure),
}

impl Downloader {
    pub(crate) fn new() -> Result<Self, ConfigError> {
        let builder = || Client::builder().connect_timeout(CONNECT_TIMEOUT);
        let client = |builder: reqwest::ClientBuilder| {
            builder
                .build()
                .map_err(|error| ConfigError::Client(words(&error)))
        };
        Ok(Self {
            outside: client(
                builder()
                    .https_only(true)
                    .redirect(Policy::custom(stay_outside)),
            )?,
            local: client(builder().no_proxy().redirect(Policy::none()))?,
        })
    }

    /// At most `limit` bytes; an object that is larger is an error.
    pub(crate) async fn fetch(
        &self,
        url: &str,
        reach: Reach,
        limit: u64,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let started = Instant::now();
        let url = Url::parse(url).map_err(|_| {
            Failure::UnexpectedResponse("the download address is no URL".to_owned())
        })?;
        let client = match (is_loopback(&url), reach, url.scheme()) {
            (false, _, "https") => &self.outside,
            (true, Reach::ThisMachine, "http" | "https") => &self.local,
            _ => {
                return Err(Failure::UnexpectedResponse(
                    "the download address is not one of QuantConnect's: it is not https, or it points to this machine"
                        .to_owned(),
                ));
            }
        };
        let backoff = Backoff::default();
        let mut tried = 0;
        loop {
            let fetched = timeout_at(deadline.into(), get(client, url.clone(), limit)).await;
            tried += 1;
            let failure = match fetched {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(Fault::Final(failure))) => return Err(failure),
                Ok(Err(Fault::Again(failure))) => failure,
                Err(_) => {
                    return Err(Failure::TimedOut {
                        after: started.elapsed(),
                    });
                }
            };
            let wait = backoff.delay(tried);
            if tried >= ATTEMPTS || Instant::now() + wait >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

async fn get(client: &Client, url: Url, limit: u64) -> Result<Vec<u8>, Fault> {
    let lost = |error: reqwest::Error| {
        Fault::Again(Failure::Unavailable(format!(
            "the download failed: {}",
            words(&error.without_url())
        )))
    };
    let too_large = || {
        Fault::Final(Failure::UnexpectedResponse(format!(
            "the object is larger than {limit} bytes"
        )))
    };
    let mut response = client.get(url).send().await.map_err(lost)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            return Err(Fault::Final(Failure::NotFound(
                "the download address leads nowhere any more; ask for a new one".to_owned(),
            )));
        }
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            return Err(Fault::Again(Failure::Unavailable(format!(
                "the download failed: HTTP {status}"
            ))));
        }
        status => {
            return Err(Fault::Final(Failure::Rejected(vec![format!(
                "the download is refused: HTTP {status}; the address may have expired, ask for a new one"
            )])));
        }
    }
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        bytes.extend_from_slice(&chunk);
        if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
            return Err(too_large());
        }
    }
    Ok(bytes)
}

fn stay_outside(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("too many redirects");
    }
    if is_loopback(attempt.url()) {
        return attempt.error("a redirect to this machine");
    }
    attempt.follow()
}
