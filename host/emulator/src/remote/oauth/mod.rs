//! The authorisation server: OAuth 2.1 with the authorisation-code grant alone, PKCE S256, and no scopes.
//!
//! Invariant: a redirect goes to a loopback address that its client registered, and nowhere else. What a person
//! consents to on the page is what was asked for, since the page carries only the number of the question. Codes and
//! tokens are in memory only, and in no log.

mod authorize;
mod clients;
mod failure;
mod grants;
mod metadata;
mod register;
mod revoke;
mod token;

use axum::http::{HeaderMap, Method};
use axum::response::Response;
use parking_lot::Mutex;

use self::clients::Clients;
use self::failure::Failure;
use self::grants::{Grants, Terms};
use super::settings::Remote;

/// The addresses of the authorisation server, and what protects the MCP endpoint with its tokens.
pub(super) struct Authority {
    /// Scheme, host and port; also the issuer.
    origin: String,
    /// The address of the MCP endpoint.
    resource: String,
    /// The one organisation that a person can choose: its id and its name.
    organization: (String, String),
    settings: Remote,
    clients: Mutex<Clients>,
    grants: Mutex<Grants>,
}

/// An address of the authorisation server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Metadata,
    ResourceMetadata,
    Authorize,
    Token,
    Register,
    Revoke,
}

impl Page {
    /// Whether it may be asked for in this way.
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Metadata | Self::ResourceMetadata => method == Method::GET,
            Self::Authorize => method == Method::GET || method == Method::POST,
            Self::Token | Self::Register | Self::Revoke => method == Method::POST,
        }
    }
}

impl Authority {
    /// `resource` is the address of the MCP endpoint below `origin`.
    pub(super) fn new(
        origin: String,
        resource: String,
        organization: (String, String),
        settings: Remote,
    ) -> Self {
        Self {
            origin,
            resource,
            organization,
            clients: Mutex::new(Clients::new(&settings.clients)),
            grants: Mutex::default(),
            settings,
        }
    }

    /// The page at a path, if there is one. `resource` is the path of the MCP endpoint.
    pub(super) fn page(&self, path: &str, resource: &str) -> Option<Page> {
        match path {
            "/.well-known/oauth-authorization-server" => Some(Page::Metadata),
            "/oauth/authorize" => Some(Page::Authorize),
            "/oauth/token" => Some(Page::Token),
            "/oauth/register" if self.settings.dynamic_registration => Some(Page::Register),
            "/oauth/revoke" if self.settings.revocation => Some(Page::Revoke),
            _ => {
                let below = path.strip_prefix("/.well-known/oauth-protected-resource")?;
                let known = below.is_empty() || below == resource;
                (known && self.settings.resource_metadata).then_some(Page::ResourceMetadata)
            }
        }
    }

    /// Answers a request to a page.
    pub(super) fn answer(&self, page: Page, method: &Method, query: &str, body: &[u8]) -> Response {
        let answered = match page {
            Page::Metadata => Ok(metadata::of_server(self)),
            Page::ResourceMetadata => Ok(metadata::of_resource(self)),
            Page::Authorize if method == Method::GET => authorize::ask(self, query),
            Page::Authorize => authorize::decide(self, body),
            Page::Token => token::answer(self, body),
            Page::Register => register::answer(self, body),
            Page::Revoke => revoke::answer(self, body),
        };
        answered.unwrap_or_else(Failure::into_response)
    }

    /// The answer to a request to the MCP endpoint that carries no valid access token; `None` for one that does.
    pub(super) fn token_refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let Some(token) = token::bearer(headers) else {
            return Some(metadata::challenge(self, None));
        };
        if self.grants.lock().is_valid(token) {
            return None;
        }
        let problem = "the access token is unknown or expired";
        Some(metadata::challenge(self, Some(problem)))
    }

    /// Ends every access token now, as if its lifetime were over. Refresh tokens stay.
    pub(super) fn expire_tokens(&self) {
        self.grants.lock().expire();
    }

    /// How long new tokens last.
    fn terms(&self) -> Terms {
        Terms {
            lifetime: self.settings.token_lifetime,
            refreshes: self.settings.refresh_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: [Page; 6] = [
        Page::Metadata,
        Page::ResourceMetadata,
        Page::Authorize,
        Page::Token,
        Page::Register,
        Page::Revoke,
    ];

    fn authority() -> Authority {
        let organization = ("id".to_owned(), "<name>".to_owned());
        let origin = "http://127.0.0.1:1".to_owned();
        Authority::new(
            origin.clone(),
            format!("{origin}/mcp"),
            organization,
            Remote::new(),
        )
    }

    #[test]
    fn a_page_is_where_the_settings_put_it() {
        let found = |remote: Remote, path: &str| {
            let organization = (String::new(), String::new());
            let authority = Authority::new(String::new(), String::new(), organization, remote);
            authority.page(path, "/api/v2/mcp")
        };
        let of_resource = "/.well-known/oauth-protected-resource/api/v2/mcp";
        assert_eq!(
            found(Remote::new(), of_resource),
            Some(Page::ResourceMetadata)
        );
        let of_another = "/.well-known/oauth-protected-resource/other";
        assert_eq!(found(Remote::new(), of_another), None);
        let without = || {
            Remote::new()
                .resource_metadata(false)
                .dynamic_registration(false)
                .revocation(false)
        };
        assert_eq!(found(without(), of_resource), None);
        assert_eq!(found(without(), "/oauth/register"), None);
        assert_eq!(found(without(), "/oauth/revoke"), None);
        assert_eq!(found(Remote::new(), "/oauth/revoke"), Some(Page::Revoke));
        assert_eq!(found(without(), "/oauth/token"), Some(Page::Token));
    }

    proptest! {
        #[test]
        fn any_request_is_answered_and_none_redirects(
            query in ".{0,200}",
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let authority = authority();
            for page in PAGES {
                for method in [Method::GET, Method::POST] {
                    let answer = authority.answer(page, &method, &query, &body);
                    prop_assert!(!answer.status().is_server_error());
                    prop_assert!(!answer.headers().contains_key("location"));
                }
            }
        }
    }
}
