//! Fetches the bytes of an object from a download address.
//!
//! The address comes from an answer of the server, so it is not trusted: only `https` is used,
//! never to this machine's own network, and to this machine only for an account whose cloud is on
//! this machine. Otherwise an answer could make the host read from services that only it can reach.
//! A name is judged by the addresses it resolves to; if the operator configured a proxy, the proxy
//! resolves it and decides what it may reach.
//!
//! Invariants: the address is a secret and appears in no error and no log; what is read is bounded
//! by size and time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::{Backoff, Failure, special_purpose};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode, Url};
use tokio::time::timeout_at;

use crate::connector::{ConfigError, is_loopback};
use crate::fault::words;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 4;

/// The variables that set a proxy for `https`.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Reading is safe to repeat; addresses are valid for minutes, so there are few attempts.
const MAX_ATTEMPTS: u32 = 4;

/// Allowed targets of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedTargets {
    /// `https` to anywhere but this machine and its network.
    Outside,
    /// This machine as well.
    ThisMachine,
}

pub(crate) struct Downloader {
    outside: Client,
    /// Without proxy and without redirects.
    local: Client,
}

/// Why a request ended without a body.
enum FetchError {
    Retryable(Failure),
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
        let mut outside = builder()
            .https_only(true)
            .redirect(Policy::custom(stay_outside));
        // The proxy's own name is resolved too, and may well be on this network.
        let proxied = |name: &&str| std::env::var_os(name).is_some_and(|proxy| !proxy.is_empty());
        if !PROXIES.iter().any(proxied) {
            outside = outside.dns_resolver(Arc::new(PublicResolver));
        }
        Ok(Self {
            outside: client(outside)?,
            local: client(builder().no_proxy().redirect(Policy::none()))?,
        })
    }

    /// At most `limit` bytes; a larger object is an error.
    pub(crate) async fn fetch(
        &self,
        url: &str,
        allowed: AllowedTargets,
        limit: u64,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let started = Instant::now();
        let url = Url::parse(url).map_err(|_| {
            Failure::UnexpectedResponse("the download address is no URL".to_owned())
        })?;
        let client = match (is_loopback(&url), allowed, url.scheme()) {
            (false, _, "https") if !is_inside(&url) => &self.outside,
            (true, AllowedTargets::ThisMachine, "http" | "https") => &self.local,
            _ => {
                return Err(Failure::UnexpectedResponse(
                    "the download address is not one of QuantConnect's: it is not https, or it points to this machine or its network"
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
                Ok(Err(FetchError::Final(failure))) => return Err(failure),
                Ok(Err(FetchError::Retryable(failure))) => failure,
                Err(_) => {
                    return Err(Failure::TimedOut {
                        after: started.elapsed(),
                    });
                }
            };
            let wait = backoff.delay(tried);
            if tried >= MAX_ATTEMPTS || Instant::now() + wait >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

async fn get(client: &Client, url: Url, limit: u64) -> Result<Vec<u8>, FetchError> {
    let lost = |error: reqwest::Error| {
        FetchError::Retryable(Failure::Unavailable(format!(
            "the download failed: {}",
            words(&error.without_url())
        )))
    };
    let too_large = || {
        FetchError::Final(Failure::UnexpectedResponse(format!(
            "the object is larger than {limit} bytes"
        )))
    };
    let mut response = client.get(url).send().await.map_err(lost)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            return Err(FetchError::Final(Failure::NotFound(
                "the download address leads nowhere any more; ask for a new one".to_owned(),
            )));
        }
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            return Err(FetchError::Retryable(Failure::Unavailable(format!(
                "the download failed: HTTP {status}"
            ))));
        }
        status => {
            return Err(FetchError::Final(Failure::Rejected(vec![format!(
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
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    if is_loopback(attempt.url()) || is_inside(attempt.url()) {
        return attempt.error("a redirect to this machine or its network");
    }
    attempt.follow()
}

/// Whether a URL contains an address, rather than a host name, that is not on the internet.
fn is_inside(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host.trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|address| !is_outside(address))
    })
}

/// Whether an address is on the internet: not this machine's, nor of a private or a provider's network.
fn is_outside(address: IpAddr) -> bool {
    special_purpose(address.to_canonical()).is_none()
}

/// Resolves names and keeps the addresses that are on the internet.
struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let outside: Vec<SocketAddr> =
                found.filter(|address| is_outside(address.ip())).collect();
            if outside.is_empty() {
                return Err("the name leads to this machine or its network only".into());
            }
            Ok(Box::new(outside.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_can_reach_is_not_outside() {
        for (url, inside) in [
            ("https://10.0.0.1/", true),
            ("https://172.16.0.1/", true),
            ("https://192.168.1.1/", true),
            ("https://169.254.169.254/latest", true),
            ("https://100.64.0.1/", true),
            ("https://0.1.2.3/", true),
            ("https://255.255.255.255/", true),
            ("https://[fd00::1]/", true),
            ("https://[fe80::1]/", true),
            ("https://[::ffff:10.0.0.1]/", true),
            ("https://0xa.1/", true),
            ("https://8.8.8.8/", false),
            ("https://[2606:4700::1]/", false),
            ("https://s3.example.com/", false),
        ] {
            assert_eq!(is_inside(&Url::parse(url).unwrap()), inside, "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_counts_by_what_it_resolves_to() {
        let refused = PublicResolver.resolve("localhost".parse().unwrap()).await;
        let error = refused.err().unwrap().to_string();
        assert!(
            error.contains("this machine or its network only"),
            "{error}"
        );
    }
}
