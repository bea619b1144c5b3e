//! How the remote MCP server behaves where its public description is silent.

use std::time::Duration;

/// How long an access token is valid, as a client of QuantConnect's server saw it.
const TOKEN_LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);

/// A revision of MCP.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
pub enum Revision {
    /// 2025-03-26.
    #[strum(serialize = "2025-03-26")]
    March2025,
    /// 2025-06-18.
    #[strum(serialize = "2025-06-18")]
    June2025,
    /// 2025-11-25, the last one with a handshake.
    #[strum(serialize = "2025-11-25")]
    November2025,
    /// 2026-07-28, which has no handshake: each request says what it needs.
    #[strum(serialize = "2026-07-28")]
    July2026,
}

impl Revision {
    /// Its name in messages, such as `2026-07-28`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a client begins with `initialize`.
    pub(crate) fn has_handshake(self) -> bool {
        self < Self::July2026
    }
}

/// A client that the authorisation server knows without having been told by the client.
#[derive(Debug, Clone)]
pub(crate) struct KnownClient {
    pub(crate) id: String,
    pub(crate) redirect_uris: Vec<String>,
}

/// The settings of the remote MCP server and of its authorisation server.
#[derive(Debug, Clone)]
#[must_use]
pub struct Remote {
    pub(crate) agent_node: bool,
    pub(crate) resource_metadata: bool,
    pub(crate) dynamic_registration: bool,
    pub(crate) revocation: bool,
    pub(crate) metadata_documents: bool,
    pub(crate) clients: Vec<KnownClient>,
    pub(crate) token_lifetime: Duration,
    pub(crate) tells_lifetime: bool,
    pub(crate) refresh_tokens: bool,
    pub(crate) redirect_issuer: Option<String>,
    pub(crate) revisions: Vec<Revision>,
    pub(crate) outputs: Vec<(String, String)>,
}

/// Settings that are one value each.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $ty:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(mut self, $name: $ty) -> Self {
            self.$name = $name;
            self
        }
    )*};
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            agent_node: true,
            resource_metadata: true,
            dynamic_registration: true,
            revocation: true,
            metadata_documents: false,
            clients: Vec::new(),
            token_lifetime: TOKEN_LIFETIME,
            tells_lifetime: true,
            refresh_tokens: false,
            redirect_issuer: None,
            revisions: <Revision as strum::VariantArray>::VARIANTS.to_vec(),
            outputs: Vec::new(),
        }
    }
}

impl Remote {
    /// The defaults: dynamic registration, resource metadata, tokens of two hours without refresh tokens, all
    /// revisions of MCP.
    pub fn new() -> Self {
        Self::default()
    }

    settings! {
        /// Whether the organisation has a paid agent node; true unless set. Without one, every tool answers that one is
        /// required.
        agent_node: bool;
        /// Whether protected-resource metadata are served; true unless set. QuantConnect does not say.
        resource_metadata: bool;
        /// Whether a client can register itself; true unless set. QuantConnect does not say.
        dynamic_registration: bool;
        /// Whether a client can end its tokens (RFC 7009); true unless set. QuantConnect does not say.
        revocation: bool;
        /// How long an access token is valid; two hours unless set.
        token_lifetime: Duration;
        /// Whether the answer with an access token says how long it is valid; true unless set.
        tells_lifetime: bool;
        /// Whether a refresh token comes with the access token; false unless set, as QuantConnect's server was seen.
        refresh_tokens: bool;
    }

    /// A client that was registered by hand. Its redirect addresses are compared without their port.
    pub fn client(mut self, id: impl Into<String>, redirect_uris: &[&str]) -> Self {
        self.clients.push(KnownClient {
            id: id.into(),
            redirect_uris: redirect_uris.iter().map(|&uri| uri.to_owned()).collect(),
        });
        self
    }

    /// What the client metadata document at an address says, and that such documents are supported. The emulator
    /// fetches nothing.
    pub fn metadata_document(mut self, address: &str, redirect_uris: &[&str]) -> Self {
        self.metadata_documents = true;
        self.client(address, redirect_uris)
    }

    /// The issuer that the redirect names, in place of the server's own: a client has to refuse it.
    pub fn redirect_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.redirect_issuer = Some(issuer.into());
        self
    }

    /// The revisions of MCP that are spoken; all unless set. An empty list changes nothing.
    pub fn revisions(mut self, revisions: &[Revision]) -> Self {
        if !revisions.is_empty() {
            self.revisions = revisions.to_vec();
            self.revisions.sort();
        }
        self
    }

    /// What a notebook cell prints when it is executed, if its source contains a text. There is no kernel: a cell
    /// without such a script prints nothing, and the answer says that it was not run.
    pub fn cell_output(mut self, source: impl Into<String>, output: impl Into<String>) -> Self {
        self.outputs.push((source.into(), output.into()));
        self
    }
}
