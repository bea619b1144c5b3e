//! Expiry of the certificates of accounts' servers.

use jiff::Timestamp;
use qchost_quantconnect::CLOUD;
use qchost_upstream::remote_of;
use reqwest::redirect::Policy;
use reqwest::tls::TlsInfo;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::report::Report;
use crate::accounts::CHECK_TIMEOUT;
use crate::config::{Account, Connection};

/// Reports when the certificates of an account's servers expire, if they are reached by HTTPS.
///
/// A server without a trusted certificate fails the account's check of its connection.
pub(super) async fn check(name: &str, account: &Account, report: &mut Report) {
    let rest = match &account.rest {
        Some(Connection::Http { url, .. }) => Some(url.as_str()),
        Some(Connection::Embedded { cloud, .. }) if cloud == "quantconnect" => Some(CLOUD),
        Some(Connection::Embedded { cloud, .. }) => Some(cloud.as_str()),
        Some(Connection::Stdio { .. }) | None => None,
    };
    if let Some(url) = rest {
        check_one(name, url, report).await;
    }
    if let Some(remote) = &account.remote {
        check_one(&remote_of(name), &remote.url, report).await;
    }
}

async fn check_one(name: &str, url: &str, report: &mut Report) {
    if !url.starts_with("https://") {
        return;
    }
    let what = format!("account {name}: certificate");
    let Some(ends) = end(url).await else {
        return report.unknown(what, "the server could not be asked for it");
    };
    report.expiry(what, ends, "the server's operator has to renew it");
}

async fn end(url: &str) -> Option<Timestamp> {
    let client = reqwest::Client::builder()
        .tls_info(true)
        .timeout(CHECK_TIMEOUT)
        .redirect(Policy::none())
        .build()
        .ok()?;
    // Without the account's headers: any answer will do.
    let answer = client.head(url).send().await.ok()?;
    let shown = answer.extensions().get::<TlsInfo>()?.peer_certificate()?;
    let (_, certificate) = X509Certificate::from_der(shown).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}
