//! One request to Vault, and its answer.
//!
//! `vaultrs` knows Vault's endpoints and builds the requests. They are sent from here, because its
//! own client follows redirects with the token, reads answers of any length, and keeps the token
//! and the answers in ordinary memory.
//!
//! Invariants: a token is sent to the configured address and nowhere else; an answer is bounded in
//! length and time; its body is in memory that is cleared. (The HTTP library's own buffers are
//! not.)

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use qchost_catalog::is_loopback_host;
use qchost_text::{Redactor, error_chain};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, Url};
use rustify::Endpoint;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use vaultrs::api::EndpointMiddleware;
use vaultrs::api::sys::requests::ReadHealthRequest;
use zeroize::Zeroizing;

use super::answer::{Errors, Health};
use super::options::VaultOptions;
use crate::error::{SecretError, VaultError};

/// The header that carries the token.
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

/// Maximum bytes of an answer. A secret in Vault has at most 1 MiB, and its JSON a little more.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

/// Maximum characters of Vault's message that an error quotes.
const MAX_WORDS: usize = 300;

/// The connection to the configured address.
pub(super) struct Http {
    client: Client,
    base: String,
    namespace: Option<String>,
    redactor: Redactor,
}

/// An answer of any status, except redirects and those that say that Vault does not serve.
pub(super) struct Answer {
    status: u16,
    request: String,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// The parsed body; or why it is not as expected.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // The parser's own message may quote the body.
            let (line, column) = (error.line(), error.column());
            match error.classify() {
                serde_json::error::Category::Data => {
                    format!("its JSON has not the expected form (line {line}, column {column})")
                }
                _ => format!("it is no JSON (line {line}, column {column})"),
            }
        })
    }
}

impl Http {
    pub(super) fn new(options: &VaultOptions, redactor: Redactor) -> Result<Self, SecretError> {
        let wrong = |key, why: String| SecretError::VaultOptions { key, why };
        let url = address(&options.address).map_err(|why| wrong("address", why))?;
        for (key, seconds, least) in [
            ("timeout-seconds", options.timeout_seconds, 1),
            ("cache-seconds", options.cache_seconds, 0),
        ] {
            if !(least..=60).contains(&seconds) {
                return Err(wrong(
                    key,
                    format!("{seconds} is not between {least} and 60"),
                ));
            }
        }
        if let Some(namespace) = &options.namespace
            && (namespace.is_empty() || !namespace.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(wrong(
                "namespace",
                format!("`{namespace}` is none; write it as `desk` or `desk/traders`"),
            ));
        }
        let timeout = Duration::from_secs(options.timeout_seconds);
        let mut builder = Client::builder()
            .user_agent(concat!("qchost/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .no_gzip()
            .connect_timeout(timeout)
            .timeout(timeout);
        if url.scheme() == "http" {
            // To this machine only: bypasses proxies and the resolver, and needs no certificate.
            let here = [
                SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
            ];
            builder = builder
                .no_proxy()
                .resolve_to_addrs("localhost", &here)
                .tls_certs_only([]);
        } else if let Some(file) = &options.ca_file {
            let wrong = |why: String| wrong("ca-file", format!("{}: {why}", file.display()));
            let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error_chain(&error)))?;
            if certificates.is_empty() {
                return Err(wrong("it holds no PEM certificate".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        Ok(Self {
            client: builder
                .build()
                .map_err(|error| wrong("address", error_chain(&error)))?,
            base: url.as_str().trim_end_matches('/').to_owned(),
            namespace: options.namespace.clone(),
            redactor,
        })
    }

    /// The address, for messages.
    pub(super) fn address(&self) -> &str {
        &self.base
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn send(
        &self,
        endpoint: impl Endpoint,
        token: Option<&SecretString>,
    ) -> Result<Answer, VaultError> {
        let answer = self
            .exchange(endpoint, token, self.namespace.clone())
            .await?;
        match answer.status {
            300..=399 => Err(VaultError::Redirected {
                address: self.base.clone(),
                status: answer.status,
            }),
            503 if self.sealed().await => Err(VaultError::Sealed(self.base.clone())),
            // Also: eventually consistent (412), too many requests, standby (429, 472, 473).
            412 | 429 | 472 | 473 | 500..=599 => Err(VaultError::Unavailable {
                address: self.base.clone(),
                status: answer.status,
                words: self.words(&answer),
            }),
            _ => Ok(answer),
        }
    }

    /// The parsed body of an answer.
    pub(super) fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, VaultError> {
        answer.parse().map_err(|why| self.answer(answer, why))
    }

    /// The error for an answer with an unexpected status.
    pub(super) fn unexpected(&self, answer: &Answer) -> VaultError {
        let words = self.words(answer);
        self.answer(answer, format!("status {}: {words}", answer.status))
    }

    /// The error for an answer that cannot be parsed.
    pub(super) fn answer(&self, answer: &Answer, why: String) -> VaultError {
        VaultError::Answer {
            address: self.base.clone(),
            request: answer.request.clone(),
            why,
        }
    }

    /// Vault's errors, on one bounded line.
    pub(super) fn words(&self, answer: &Answer) -> String {
        let Ok(Errors { errors }) = answer.parse() else {
            return "without a reason".to_owned();
        };
        let words = errors
            .iter()
            .flat_map(|error| error.split_whitespace())
            .collect::<Vec<_>>()
            .join(" ");
        let words = self.redactor.clean(&words);
        let words: String = words
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_WORDS)
            .collect();
        if words.is_empty() {
            return "without a reason".to_owned();
        }
        words
    }

    /// Whether Vault reports that it is sealed. A status of 503 may mean other things too.
    async fn sealed(&self) -> bool {
        // Without a namespace, since Vault is sealed as a whole.
        let health = self
            .exchange(ReadHealthRequest::default(), None, None)
            .await;
        health.is_ok_and(|answer| answer.parse::<Health>().is_ok_and(|health| health.sealed))
    }

    async fn exchange(
        &self,
        endpoint: impl Endpoint,
        token: Option<&SecretString>,
        namespace: Option<String>,
    ) -> Result<Answer, VaultError> {
        let request = format!("{:?} {}", endpoint.method(), endpoint.path().trim());
        let confused = |why: String| VaultError::Answer {
            address: self.base.clone(),
            request: request.clone(),
            why,
        };
        // The token is added below, marked as sensitive, so that nothing prints it.
        let middleware = EndpointMiddleware {
            token: String::new(),
            version: "v1".to_owned(),
            wrap: None,
            namespace,
        };
        let sent = endpoint
            .with_middleware(&middleware)
            .request(&self.base)
            .map_err(|error| confused(error_chain(&error)))?;
        let mut sent =
            reqwest::Request::try_from(sent).map_err(|error| confused(error_chain(&error)))?;
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose_secret()).map_err(|_| {
                VaultError::Credentials("the token has characters that no token has".to_owned())
            })?;
            value.set_sensitive(true);
            sent.headers_mut().insert(TOKEN, value);
        }
        let lost = |error: reqwest::Error| VaultError::Unreachable {
            address: self.base.clone(),
            why: error_chain(&error.without_url()),
        };
        let response = self.client.execute(sent).await.map_err(lost)?;
        let status = response.status().as_u16();
        match read(response).await.map_err(lost)? {
            Some(body) => Ok(Answer {
                status,
                request,
                body,
            }),
            None => Err(confused(format!("it has more than {MAX_ANSWER} bytes"))),
        }
    }
}

/// The body, unless it is too long.
async fn read(mut response: Response) -> Result<Option<Zeroizing<Vec<u8>>>, reqwest::Error> {
    let expected = response
        .content_length()
        .and_then(|length| usize::try_from(length).ok())
        .unwrap_or(16 * 1024);
    let mut body = Zeroizing::new(Vec::with_capacity(expected.min(MAX_ANSWER)));
    while let Some(chunk) = response.chunk().await? {
        let length = body.len() + chunk.len();
        if length > MAX_ANSWER {
            return Ok(None);
        }
        if length > body.capacity() {
            // Growing in place would leave a copy in memory.
            let mut larger = Zeroizing::new(Vec::with_capacity((2 * length).min(MAX_ANSWER)));
            larger.extend_from_slice(&body);
            body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// The address of a Vault: scheme, host and port.
fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("`{text}` is no address ({error}); write https://host:8200"))?;
    let (Some(host), "http" | "https") = (url.host_str(), url.scheme()) else {
        return Err(format!("`{text}` is no address; write https://host:8200"));
    };
    // Not quoted: it may contain a password.
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
        || url.path() != "/"
    {
        return Err("it has more than scheme, host and port; write https://host:8200".to_owned());
    }
    if url.scheme() == "http" && !is_loopback_host(host) {
        return Err(format!(
            "{text} would carry secrets in clear over a network; write https://"
        ));
    }
    Ok(url)
}
