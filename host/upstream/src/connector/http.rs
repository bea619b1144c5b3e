//! An MCP server behind streamable HTTP.
//!
//! Invariants: header values are secret, and so is the query of the URL; both are sent to the configured
//! address only, since redirects are not followed. The library's own recovery of a lost session is off: it
//! would retry calls whose outcome only we can classify. Every request ends, see [`LimitedClient`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use qchost_catalog::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rmcp::service::ClientLifecycleMode;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::common::client_side_sse::ExponentialBackoff;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use super::bearer::BearerSource;
use super::connection::{ConfigError, ConnectError, Connection, Connector, EndSignal, NotOpened};
use super::era::Era;
use super::limited::LimitedClient;
use super::loopback::{is_loopback, server_address};
use super::received::Received;
use crate::MAX_MESSAGE;
use crate::text::{MAX_EXCERPT, Redactor, excerpt};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Shorter than the idle time-outs of servers (uvicorn's is 5 s), so that a call is not written into a
/// connection that is just being closed, which for a write would be an unknown outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How often a broken response stream is resumed if the server supports it.
const MAX_RESUMPTIONS: usize = 3;

/// Opens sessions over streamable HTTP.
pub struct HttpConnector {
    url: Url,
    client: Client,
    headers: HashMap<HeaderName, HeaderValue>,
    bearer: Option<Arc<dyn BearerSource>>,
    secrets: Vec<SecretString>,
    redactor: Redactor,
    era: Era,
}

impl HttpConnector {
    /// `headers` are sent with every request; their values are kept secret.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the address or a header is malformed, or no HTTP client can be created.
    pub fn new(
        url: &str,
        headers: impl IntoIterator<Item = (String, SecretString)>,
    ) -> Result<Self, ConfigError> {
        let url = server_address(url)
            .map_err(|problem| ConfigError::Url(excerpt(url, MAX_EXCERPT), problem))?;
        let mut sent = HashMap::new();
        let mut secrets: Vec<SecretString> =
            url.query().map(SecretString::from).into_iter().collect();
        for (name, value) in headers {
            let bad = |problem| ConfigError::Header(name.clone(), problem);
            let key = HeaderName::try_from(name.as_str()).map_err(|_| bad("has no valid name"))?;
            let mut header = HeaderValue::try_from(value.expose_secret())
                .map_err(|_| bad("has a value that no header can carry"))?;
            header.set_sensitive(true);
            // `Bearer TOKEN`: the token alone is a secret too.
            if let Some((_, token)) = value.expose_secret().split_once(' ') {
                secrets.push(SecretString::from(token));
            }
            secrets.push(value.clone());
            if sent.insert(key, header).is_some() {
                return Err(bad("is given twice"));
            }
        }
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .redirect(Policy::none());
        if is_loopback(&url) {
            // Many servers write an answer's first event and its result separately, with Nagle's algorithm
            // enabled: on a reused connection, the result then waits 40 ms for our delayed
            // acknowledgement. A new connection to this machine costs some 50 µs.
            builder = builder.no_proxy().pool_max_idle_per_host(0);
        }
        let client = builder
            .build()
            .map_err(|error| ConfigError::Client(crate::fault::words(&error)))?;
        Ok(Self {
            url,
            client,
            headers: sent,
            bearer: None,
            redactor: Redactor::new(secrets.iter().cloned()),
            secrets,
            era: Era::default(),
        })
    }

    /// Sends the token of this source with every request.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Header`] if there is a header `Authorization` already.
    pub fn with_bearer(mut self, bearer: Arc<dyn BearerSource>) -> Result<Self, ConfigError> {
        if self.headers.contains_key(&AUTHORIZATION) {
            let name = AUTHORIZATION.as_str().to_owned();
            return Err(ConfigError::Header(name, "is that of the login"));
        }
        if let Some(shared) = bearer.redactor() {
            for secret in &self.secrets {
                shared.remember(secret.clone());
            }
            self.redactor = Redactor::sharing(shared);
        }
        self.bearer = Some(bearer);
        Ok(self)
    }

    async fn attempt(&self, lifecycle: ClientLifecycleMode) -> Result<Connection, NotOpened> {
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str())
            .custom_headers(self.headers.clone())
            .max_json_response_size(MAX_MESSAGE)
            .max_sse_event_size(MAX_MESSAGE)
            // One session carries as many calls as the pool assigns to it.
            .max_concurrent_requests(usize::MAX)
            .reinit_on_expired_session(false);
        let mut resumption = ExponentialBackoff::default();
        resumption.max_times = Some(MAX_RESUMPTIONS);
        resumption.base_duration = Duration::from_millis(100);
        config.retry_config = Arc::new(resumption);
        let closed = CancellationToken::new();
        let received = Received::default();
        let client = LimitedClient::new(
            self.client.clone(),
            self.bearer.clone(),
            closed.clone(),
            received.clone(),
        );
        let transport = StreamableHttpClientTransport::with_client(client, config);
        let end_signal = EndSignal::without_cause(closed);
        let opened =
            Connection::open(transport, end_signal, received, &self.redactor, lifecycle).await;
        opened.map(|connection| connection.with_bearer(self.bearer.clone()))
    }
}

impl Connector for HttpConnector {
    fn connect(&self) -> BoxFuture<'_, Result<Connection, ConnectError>> {
        Box::pin(self.era.open(move |lifecycle| self.attempt(lifecycle)))
    }

    fn describe(&self) -> String {
        excerpt(self.url.as_str(), MAX_EXCERPT)
    }

    fn secrets(&self) -> Vec<SecretString> {
        self.secrets.clone()
    }

    fn redactor(&self) -> Option<qchost_text::Redactor> {
        self.bearer.as_ref().and_then(|bearer| bearer.redactor())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn connector(url: &str, headers: &[(&str, &str)]) -> Result<HttpConnector, ConfigError> {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), SecretString::from(*value)));
        HttpConnector::new(url, headers)
    }

    #[test]
    fn a_bad_configuration_is_named_without_its_secrets() {
        for (url, headers) in [
            ("mcp.test", &[][..]),
            ("ftp://mcp.test?key=hush", &[]),
            ("https://user:hush@mcp.test/", &[]),
            ("https://mcp.test", &[("a b", "hush")]),
            ("https://mcp.test", &[("X-Key", "hush\nhush")]),
            ("https://mcp.test", &[("X-Key", "hush"), ("x-key", "hush")]),
        ] {
            let shown = connector(url, headers).err().unwrap().to_string();
            assert!(!shown.contains("hush"), "{shown}");
            assert!(
                shown.contains("mcp.test") || shown.contains("header"),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_it_connects_to_is_shown_without_the_query() {
        let connector = connector("https://mcp.test/x?key=hush", &[("X", "Bearer hush")]).unwrap();
        assert_eq!(connector.describe(), "https://mcp.test/x?…");
        assert_eq!(
            connector.redactor.line("key=hush, Bearer hush"),
            "[redacted], [redacted]"
        );
        assert_eq!(format!("{:?}", connector.headers), r#"{"x": Sensitive}"#);
    }
}
