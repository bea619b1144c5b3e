//! The target of a request, in the one form in which it is decided and sent.
//!
//! A grant names a scheme, a host, a port and a path prefix. It is meaningful only if the server
//! interprets the URL as the gate did, so everything that two programs may interpret differently is
//! refused here: user names before the host, invalid ports, and every spelling of `..` that a
//! server might resolve to another path. Nothing is rewritten except the host, which is
//! lower-cased.
//!
//! Invariant: no interpretation of [`Target::path`] leaves the folder of its prefix.

use http::uri::{Authority, Scheme, Uri};
use percent_encoding::percent_decode_str;
use url::Host;
use wasmtime_wasi_http::Error;

/// Maximum bytes of a path with its query.
const MAX_PATH: usize = 8 << 10;
/// Maximum levels of nested percent-encoding; more is treated as obfuscation.
const MAX_ENCODINGS: usize = 4;

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Whether it uses TLS.
    pub(super) secure: bool,
    /// A name in lower case without a trailing dot, or an address.
    pub(super) host: Host<String>,
    /// The port; the scheme's default if none was given.
    pub(super) port: u16,
    /// The path with its leading slash, without the query.
    pub(super) path: String,
    /// The request target as sent: the path with its query.
    pub(super) path_and_query: String,
}

impl Target {
    /// Parses the URL of a request.
    ///
    /// # Errors
    /// [`Error::HttpRequestUriInvalid`] and similar; nothing was resolved or sent.
    pub(super) fn of(uri: &Uri) -> Result<Self, Error> {
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(Error::HttpRequestUriInvalid),
        };
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let (host, port) = host_and_port(authority)?;
        let path = match uri.path() {
            "" => "/",
            path => path,
        };
        let path_and_query = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        if path_and_query.len() > MAX_PATH {
            return Err(Error::HttpRequestUriTooLong);
        }
        if !path.starts_with('/') || !path_and_query.is_ascii() || climbs(path) {
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(Self {
            secure,
            host,
            port: port.unwrap_or(if secure { 443 } else { 80 }),
            path: path.to_owned(),
            path_and_query,
        })
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The value of the `Host` header.
    pub(super) fn host_header(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

/// Splits an authority that has only a host and a port.
fn host_and_port(authority: &Authority) -> Result<(Host<String>, Option<u16>), Error> {
    let text = authority.as_str();
    let invalid = || Error::HttpRequestUriInvalid;
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of a bracketed address without a port does not separate one.
        Some((host, port)) if !port.ends_with(']') => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port: u16 = port.parse().map_err(|_| invalid())?;
            if !digits || port == 0 {
                return Err(invalid());
            }
            (host, Some(port))
        }
        _ => (text, None),
    };
    // Percent-encoding in a host, and user info before it, can disguise another host.
    if host.contains(['@', '%', '\\']) {
        return Err(invalid());
    }
    match Host::parse(host).map_err(|_| invalid())? {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(&name);
            if !is_name(name) {
                return Err(invalid());
            }
            Ok((Host::Domain(name.to_owned()), port))
        }
        address => Ok((address, port)),
    }
}

fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.len() <= 253
        && name
            .split('.')
            .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(letter))
}

/// Whether a server might find a parent step in a path, however it decodes it: `..` between slashes
/// of either kind, with or without a parameter, percent-encoded once or several times.
fn climbs(path: &str) -> bool {
    let mut text = path.to_owned();
    for _ in 0..MAX_ENCODINGS {
        let step = text.split(['/', '\\']).any(|segment| {
            let name = segment.split(';').next().unwrap_or(segment).trim();
            name == "." || name == ".."
        });
        if step || text.contains(char::is_control) {
            return true;
        }
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(address: &str) -> Option<Target> {
        Target::of(&address.parse().ok()?).ok()
    }

    #[test]
    fn an_address_has_one_form() {
        for (address, scheme, host, port, path) in [
            (
                "https://Hooks.Example.COM/qc/a?b=/../c",
                "https",
                "hooks.example.com",
                443,
                "/qc/a",
            ),
            (
                "https://hooks.example.com./qc/",
                "https",
                "hooks.example.com",
                443,
                "/qc/",
            ),
            (
                "https://hooks.example.com:443/qc/",
                "https",
                "hooks.example.com",
                443,
                "/qc/",
            ),
            (
                "http://hooks.example.com",
                "http",
                "hooks.example.com",
                80,
                "/",
            ),
            (
                "http://hooks.example.com:8080/",
                "http",
                "hooks.example.com",
                8080,
                "/",
            ),
            ("http://127.0.0.1:81/", "http", "127.0.0.1", 81, "/"),
            ("http://2130706433/", "http", "127.0.0.1", 80, "/"),
            ("http://0x7f.1/", "http", "127.0.0.1", 80, "/"),
            ("http://[::1]:81/x", "http", "[::1]", 81, "/x"),
            ("http://[::1]/x", "http", "[::1]", 80, "/x"),
            (
                "https://a.b/qc/x%2Fy/...",
                "https",
                "a.b",
                443,
                "/qc/x%2Fy/...",
            ),
        ] {
            let target = target(address).unwrap_or_else(|| panic!("{address}"));
            let found = (target.scheme(), target.host.to_string(), target.port);
            assert_eq!(found, (scheme, host.to_owned(), port), "{address}");
            assert_eq!(target.path, path, "{address}");
        }
        let target = target("http://a.b:443/x?y").unwrap();
        assert_eq!(target.host_header(), "a.b:443");
        assert_eq!(target.path_and_query, "/x?y");
    }

    #[test]
    fn what_two_programs_may_read_differently_is_refused() {
        for address in [
            "https://hooks.example.com@evil.example/qc/",
            "https://user:word@hooks.example.com/qc/",
            "https://hooks.example.com:0/",
            "https://hooks.example.com:/",
            "https://hooks.example.com:65536/",
            "https://hooks.example.com:+443/",
            "https://hooks..example.com/",
            "https://hooks.example.com../",
            "https://hooks.example%2ecom/",
            "https://.example.com/",
            "ftp://hooks.example.com/",
            "/qc/",
            "https://a.b/qc/../admin",
            "https://a.b/qc/./x",
            "https://a.b/qc/..",
            "https://a.b/qc/%2e%2e/admin",
            "https://a.b/qc/.%2E/admin",
            "https://a.b/qc/..%2fadmin",
            "https://a.b/qc/x%2f..%2f..%2fadmin",
            "https://a.b/qc/%252e%252e/admin",
            "https://a.b/qc/%25252e%25252e/admin",
            "https://a.b/qc/%2525252525252e./admin",
            "https://a.b/qc/..;/admin",
            "https://a.b/qc/..;x=1/admin",
            "https://a.b/qc/..%5cadmin",
            "https://a.b/qc/%00",
            "https://a.b/qc/..%20/admin",
            "https://a.b/qc/x%0d%0aHost:%20evil",
        ] {
            assert_eq!(target(address), None, "{address}");
        }
        let long = format!("https://a.b/{}", "x".repeat(MAX_PATH));
        assert!(matches!(
            Target::of(&long.parse().unwrap()),
            Err(Error::HttpRequestUriTooLong)
        ));
    }

    /// The path as a server sees it that decodes it `times` and then resolves its dots.
    fn resolved(path: &str, times: usize) -> String {
        let mut text = path.to_owned();
        for _ in 0..times {
            text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        }
        let mut steps: Vec<&str> = Vec::new();
        for segment in text.split(['/', '\\']) {
            match segment.split(';').next().unwrap_or_default() {
                "" | "." => {}
                ".." => drop(steps.pop()),
                name => steps.push(name),
            }
        }
        format!("/{}", steps.join("/"))
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_folder_that_it_begins_with(
            rest in r"(\.|\.\.|;|/|\\|%2e|%2E|%2f|%5c|%25|%252e|2e|2f|x){0,12}",
            times in 0usize..4,
        ) {
            if let Some(target) = target(&format!("https://a.b/qc/in/{rest}")) {
                prop_assert!(target.path.starts_with("/qc/in/"));
                let resolved = resolved(&target.path, times);
                prop_assert!(resolved.starts_with("/qc/in"), "{} is {}", target.path, resolved);
            }
        }

        #[test]
        fn no_text_makes_it_fail_otherwise(text in ".{0,60}") {
            if let Some(target) = target(&text) {
                prop_assert!(target.port > 0);
            }
        }
    }
}
