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
    if let Some(url) = account.rest.as_ref().and_then(address) {
        check_one(name, url, report).await;
    }
    for (number, endpoint) in (2_u32..).zip(&account.endpoints) {
        if let Some(url) = address(endpoint) {
            check_one(&format!("{name}, endpoint {number}"), url, report).await;
        }
    }
    if let Some(remote) = &account.remote {
        check_one(&remote_of(name), &remote.url, report).await;
    }
}

/// The address that a connection leads to, if there is one.
fn address(connection: &Connection) -> Option<&str> {
    match connection {
        Connection::Http { url, .. } => Some(url),
        Connection::Embedded { cloud, .. } if cloud == "quantconnect" => Some(CLOUD),
        Connection::Embedded { cloud, .. } => Some(cloud),
        Connection::Stdio { .. } => None,
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
