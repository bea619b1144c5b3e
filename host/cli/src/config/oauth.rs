//! `[account.NAME.oauth]`: how the host is authorized at a server that a person logs in to.

use std::path::Path;

use anyhow::{Result, ensure};
use qchost_secrets::Source;
use reqwest::Url;
use serde::Deserialize;

/// How the host identifies itself to the authorization server of an account. An empty table is enough where it can
/// register by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OAuth {
    /// The id that the authorization server's operator gave the host.
    pub client_id: Option<String>,
    /// Where the secret is that belongs to the id.
    pub client_secret: Option<Source>,
    /// The https address of a document that describes the host as a client.
    pub client_metadata: Option<String>,
    /// The port of this machine that the browser is sent back to, if the authorization server knows only one.
    pub redirect_port: Option<u16>,
}

impl OAuth {
    /// Checks that involve several keys, and the forms of texts.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.client_secret.is_none() || self.client_id.is_some(),
            "oauth: client-secret belongs to a client-id, and there is none"
        );
        ensure!(
            self.client_id.as_deref() != Some(""),
            "oauth.client-id is empty; leave it out where the host registers by itself"
        );
        if let Some(document) = &self.client_metadata {
            let url = Url::parse(document).ok();
            let fits = url.is_some_and(|url| {
                url.scheme() == "https" && url.path() != "/" && url.username().is_empty()
            });
            ensure!(
                fits,
                "oauth.client-metadata: `{document}` is no https address of a document"
            );
        }
        ensure!(
            self.redirect_port != Some(0),
            "oauth.redirect-port: 0 is no port; leave it out for any"
        );
        Ok(())
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(secret) = &mut self.client_secret {
            secret.resolve(folder);
        }
    }
}
