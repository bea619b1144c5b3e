//! Headers of a request as sent, and of a response as a plugin sees it.
//!
//! Invariant: a granted header is present once, with the granted value; and that value is redacted
//! from response headers. A response body is not redacted: an operator who grants a secret to a
//! server trusts it not to echo it.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error};

use super::target::Target;

/// Headers that the host controls: they concern the connection or what the host itself does.
const HOST_CONTROLLED: [HeaderName; 3] = [header::TE, header::TRAILER, header::EXPECT];
/// Replaces a header value that contains a secret.
const REDACTED: HeaderValue = HeaderValue::from_static("[redacted]");
/// Parts of a secret up to this length are common words, not redacted.
const MIN_SECRET_PART: usize = 8;

/// Whether a header is not allowed for a plugin, in a request or in a response.
pub(super) fn forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || HOST_CONTROLLED.contains(name)
}

/// Headers that a manifest adds to the requests of a grant. Clones share them.
#[derive(Clone)]
pub(super) struct Granted(Arc<[(String, SecretString)]>);

impl Granted {
    pub(super) fn new(headers: Vec<(String, SecretString)>) -> Self {
        Self(headers.into())
    }

    /// Turns a plugin's headers into those of the request that is sent.
    pub(super) fn complete(&self, headers: &mut HeaderMap, target: &Target) -> Result<(), Error> {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named
            .iter()
            .chain(&DEFAULT_FORBIDDEN_HEADERS)
            .chain(&HOST_CONTROLLED)
        {
            headers.remove(name);
        }
        let host = HeaderValue::try_from(target.host_header());
        headers.insert(
            header::HOST,
            host.map_err(|_| Error::HttpRequestUriInvalid)?,
        );
        for (name, value) in self.0.iter() {
            let unusable = |what: &str| {
                tracing::error!(target: "http", header = name, "a granted header cannot be sent: {what}");
                Error::ConfigurationError
            };
            let parsed: HeaderName = name.parse().map_err(|_| unusable("its name is none"))?;
            if forbidden(&parsed) || parsed == header::CONTENT_LENGTH {
                return Err(unusable(
                    "it belongs to the connection, which is the host's",
                ));
            }
            let mut value = HeaderValue::from_str(value.expose_secret())
                .map_err(|_| unusable("its value has characters that no header can have"))?;
            value.set_sensitive(true);
            headers.insert(parsed, value);
        }
        Ok(())
    }

    /// Redacts granted values from response headers.
    pub(super) fn clean(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if self.0.iter().any(|(_, secret)| echoes(value, secret)) {
                *value = REDACTED;
            }
        }
    }
}

/// Whether a value contains a secret or, for `Bearer abc…`, its secret part.
fn echoes(value: &HeaderValue, secret: &SecretString) -> bool {
    let value = value.as_bytes();
    let secret = secret.expose_secret();
    let parts = secret
        .split_whitespace()
        .filter(|part| part.len() >= MIN_SECRET_PART);
    parts
        .chain([secret])
        .map(str::as_bytes)
        .any(|part| !part.is_empty() && value.windows(part.len()).any(|window| window == part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::of(&"https://hooks.example.com:8443/qc/".parse().unwrap()).unwrap()
    }

    fn granted(headers: &[(&str, &str)]) -> Granted {
        let headers = headers.iter();
        Granted::new(
            headers
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned().into()))
                .collect(),
        )
    }

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn the_connection_is_the_hosts_and_a_granted_header_is_there_once() {
        let mut headers = map(&[
            ("host", "internal.example"),
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic x"),
            ("x-own", "kept"),
        ]);
        headers.append("authorization", HeaderValue::from_static("mine"));
        headers.append("authorization", HeaderValue::from_static("mine too"));
        granted(&[("Authorization", "Bearer granted-token")])
            .complete(&mut headers, &target())
            .unwrap();
        let mut left: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("authorization", "Bearer granted-token"),
                ("host", "hooks.example.com:8443"),
                ("x-own", "kept"),
            ]
        );
        assert!(!format!("{headers:?}").contains("granted-token"));
    }

    #[test]
    fn a_granted_header_that_cannot_be_sent_stops_the_request() {
        for (name, value) in [
            ("Host", "x"),
            ("Content-Length", "3"),
            ("Transfer-Encoding", "chunked"),
            ("not a name", "x"),
            ("Authorization", "two\r\nlines"),
        ] {
            let sent = granted(&[(name, value)]).complete(&mut HeaderMap::new(), &target());
            assert!(matches!(sent, Err(Error::ConfigurationError)), "{name}");
        }
    }

    #[test]
    fn what_comes_back_of_a_secret_is_taken_out() {
        let mut headers = map(&[
            ("x-echo", "got=Bearer granted-token;"),
            ("x-part", "granted-token"),
            ("x-other", "granted"),
        ]);
        granted(&[("Authorization", "Bearer granted-token"), ("X-Empty", "")]).clean(&mut headers);
        assert_eq!(headers["x-echo"], "[redacted]");
        assert_eq!(headers["x-part"], "[redacted]");
        assert_eq!(headers["x-other"], "granted");
    }
}
