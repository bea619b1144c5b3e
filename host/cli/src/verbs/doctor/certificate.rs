//! Expiry of the certificates of accounts' servers.

use jiff::Timestamp;
use qchost_quantconnect::CLOUD;
use reqwest::redirect::Policy;
use reqwest::tls::TlsInfo;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::report::Report;
use crate::accounts::CHECK_TIMEOUT;
use crate::config::Account;

/// Reports when the certificate of an account's server expires, if it is reached by HTTPS.
///
/// A server without a trusted certificate fails the account's check of its connection.
pub(super) async fn check(name: &str, account: &Account, report: &mut Report) {
    let url = match account {
        Account::Http { url, .. } => url,
        Account::Embedded { cloud, .. } if cloud == "quantconnect" => CLOUD,
        Account::Embedded { cloud, .. } => cloud,
        Account::Stdio { .. } => return,
    };
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
