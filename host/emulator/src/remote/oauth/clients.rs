//! The clients of the authorisation server, and where each may be redirected to.
//!
//! Invariant: every redirect address of a client is a loopback address of plain HTTP. Addresses are compared without
//! their port, since a client learns its port only when it listens (RFC 8252, section 7.3).

use std::collections::VecDeque;

use axum::http::Uri;
use qchost_catalog::is_loopback_host;

use crate::remote::settings::KnownClient;

/// Clients that registered themselves and are remembered; beyond, the oldest is forgotten.
const MAX_REGISTERED: usize = 1_000;
/// Redirect addresses of one client.
pub(super) const MAX_REDIRECTS: usize = 20;
/// Longest redirect address, in bytes.
const MAX_REDIRECT_BYTES: usize = 2_000;

/// A redirect address without its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loopback {
    host: String,
    path_and_query: String,
}

impl Loopback {
    /// `None` for any address that is not a loopback address of plain HTTP.
    pub(super) fn parse(address: &str) -> Option<Self> {
        if address.len() > MAX_REDIRECT_BYTES || address.contains('#') {
            return None;
        }
        let address: Uri = address.parse().ok()?;
        let authority = address.authority()?;
        // `http://localhost@example.com`
        if address.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().to_ascii_lowercase();
        if !is_loopback_host(&host) {
            return None;
        }
        let path_and_query = address.path_and_query().map_or("/", |it| it.as_str());
        Some(Self {
            host,
            path_and_query: path_and_query.to_owned(),
        })
    }
}

#[derive(Debug)]
struct Client {
    id: String,
    redirects: Vec<Loopback>,
}

/// The known clients.
#[derive(Debug)]
pub(super) struct Clients {
    /// Those of the settings.
    fixed: Vec<Client>,
    /// Oldest first.
    registered: VecDeque<Client>,
}

impl Clients {
    pub(super) fn new(known: &[KnownClient]) -> Self {
        let fixed = known.iter().map(|known| {
            let redirects = known.redirect_uris.iter();
            Client {
                id: known.id.clone(),
                redirects: redirects.filter_map(|uri| Loopback::parse(uri)).collect(),
            }
        });
        Self {
            fixed: fixed.collect(),
            registered: VecDeque::new(),
        }
    }

    pub(super) fn register(&mut self, id: String, redirects: Vec<Loopback>) {
        if self.registered.len() >= MAX_REGISTERED {
            self.registered.pop_front();
        }
        self.registered.push_back(Client { id, redirects });
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.all().any(|client| client.id == id)
    }

    /// Whether a client may be redirected to an address.
    pub(super) fn may_redirect(&self, id: &str, address: &str) -> bool {
        let Some(address) = Loopback::parse(address) else {
            return false;
        };
        self.all()
            .any(|client| client.id == id && client.redirects.contains(&address))
    }

    fn all(&self) -> impl Iterator<Item = &Client> {
        self.fixed.iter().chain(&self.registered)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clients() -> Clients {
        Clients::new(&[KnownClient {
            id: "one".to_owned(),
            redirect_uris: vec!["http://127.0.0.1/callback".to_owned()],
        }])
    }

    #[test]
    fn a_client_chooses_its_port_and_nothing_else() {
        let clients = clients();
        assert!(clients.may_redirect("one", "http://127.0.0.1:49152/callback"));
        for other in [
            "http://127.0.0.1:1/other",
            "http://127.0.0.1:1/callback?more=1",
            "http://localhost:1/callback",
            "https://127.0.0.1:1/callback",
        ] {
            assert!(!clients.may_redirect("one", other), "{other}");
        }
        assert!(!clients.may_redirect("two", "http://127.0.0.1:1/callback"));
    }

    #[test]
    fn no_address_beyond_this_machine_is_a_redirect() {
        for address in [
            "http://example.com/callback",
            "http://localhost@example.com/callback",
            "http://localhost.example.com/callback",
            "http://127.0.0.1:1/callback#fragment",
            "https://localhost/callback",
            "app:/callback",
            "/callback",
            "",
        ] {
            assert_eq!(Loopback::parse(address), None, "{address}");
        }
        assert!(Loopback::parse("http://[::1]:8080/callback").is_some());
    }

    #[test]
    fn the_oldest_registration_goes() {
        let mut clients = clients();
        for number in 0..=MAX_REGISTERED {
            clients.register(number.to_string(), Vec::new());
        }
        assert!(!clients.knows("0") && clients.knows("1") && clients.knows("one"));
    }

    proptest! {
        #[test]
        fn any_address_is_parsed_or_refused(address in ".{0,200}") {
            if let Some(parsed) = Loopback::parse(&address) {
                prop_assert!(is_loopback_host(&parsed.host));
            }
        }
    }
}
