//! The base URL of the REST API, validated once.
//!
//! Invariant: a [`BaseUrl`] is `https`, or `http` on a loopback address. Anything else would expose
//! the hash of the token, and with it the account, to the network.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use qchost_catalog::is_loopback_host;
use qchost_text::excerpt;
use reqwest::Url;

/// QuantConnect's cloud.
pub const CLOUD: &str = "https://www.quantconnect.com/api/v2";

/// Why a base URL is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// The text is no URL, for this reason of the parser.
    #[error("{0:?} is not a URL: {1}")]
    Malformed(String, String),
    /// Plain `http` to another machine, or another scheme: the scheme and the host.
    #[error(
        "{0}://{1} is refused: the API token's hash may only travel over https, or over http to a loopback address (127.0.0.1, [::1], localhost)"
    )]
    Exposed(String, String),
    /// A user name, a password, a query or a fragment in the URL.
    #[error("the base URL must be a scheme, a host and a path only, without {0}")]
    Extra(&'static str),
}

/// The base URL of the REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    url: Url,
    loopback: bool,
}

impl BaseUrl {
    /// Checks the rule of this module.
    pub(crate) fn parse(text: &str) -> Result<Self, BaseUrlError> {
        // A password in the text must not appear in the error, so check before quoting.
        let shown = match text.contains('@') {
            true => "the base URL".to_owned(),
            false => excerpt(text, 200),
        };
        let url = Url::parse(text)
            .map_err(|reason| BaseUrlError::Malformed(shown, reason.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlError::Extra("a user name or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::Extra("a query or fragment"));
        }
        let host = url.host_str().unwrap_or_default();
        let loopback = is_loopback_host(host);
        match url.scheme() {
            "https" if !host.is_empty() => {}
            "http" if loopback => {}
            scheme => {
                return Err(BaseUrlError::Exposed(scheme.to_owned(), host.to_owned()));
            }
        }
        Ok(Self { url, loopback })
    }

    /// The URL of an endpoint such as `/projects/read`.
    pub(crate) fn endpoint(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.url.as_str().trim_end_matches('/'))
    }

    /// Resolves a `Location` header that answered `endpoint`.
    pub(crate) fn location(&self, endpoint: &str, location: &str) -> Option<Url> {
        Url::parse(&self.endpoint(endpoint))
            .ok()?
            .join(location)
            .ok()
            .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether it is plain `http`, so that certificates are not needed.
    pub(crate) fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// Scheme, host and port, for messages.
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// The addresses of `localhost`, independent of the machine's resolver.
pub(crate) fn localhost() -> [SocketAddr; 2] {
    // Port 0 stands for the port of the URL.
    [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn https_and_loopback_are_accepted() {
        for (text, loopback) in [
            (CLOUD, false),
            ("https://example.com/api/v2/", false),
            ("http://127.0.0.1:5612/api/v2", true),
            ("http://127.9.9.9:1", true),
            ("http://[::1]:5612/api/v2", true),
            ("http://localhost:5612/api/v2", true),
        ] {
            assert_eq!(
                BaseUrl::parse(text).unwrap().is_loopback(),
                loopback,
                "{text}"
            );
        }
        let base = BaseUrl::parse("https://example.com/api/v2/").unwrap();
        assert_eq!(
            base.endpoint("/projects/read"),
            "https://example.com/api/v2/projects/read"
        );
    }

    #[test]
    fn everything_that_would_show_the_hash_is_refused() {
        for text in [
            "http://example.com/api/v2",
            "http://10.0.0.1",
            "http://0.0.0.0:5612",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://[::ffff:10.0.0.1]",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
        ] {
            let error = BaseUrl::parse(text).unwrap_err();
            assert!(
                matches!(error, BaseUrlError::Exposed { .. }),
                "{text}: {error}"
            );
        }
        for text in ["", "quantconnect.com", "https://", "http://[::1"] {
            let error = BaseUrl::parse(text).unwrap_err();
            assert!(
                matches!(error, BaseUrlError::Malformed { .. }),
                "{text}: {error}"
            );
        }
        for text in [
            "https://user:hush@example.com",
            "https://example.com/?token=hush",
            "https://example.com/#hush",
            "https://user:hush@example.com:port",
        ] {
            let error = BaseUrl::parse(text).unwrap_err();
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_location_is_a_web_address_or_nothing() {
        let base = BaseUrl::parse("https://example.com/api/v2").unwrap();
        let at = |location| {
            base.location("/live/auth0/authorize", location)
                .map(String::from)
        };
        assert_eq!(
            at("https://other.example/a?b").as_deref(),
            Some("https://other.example/a?b")
        );
        assert_eq!(at("/login").as_deref(), Some("https://example.com/login"));
        assert_eq!(at("javascript:alert(1)"), None);
        assert_eq!(at("file:///etc/passwd"), None);
    }
}
