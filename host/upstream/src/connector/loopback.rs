//! Addresses of servers, and which of them are on this machine.

use std::net::IpAddr;

use qchost_catalog::is_loopback_host;
use reqwest::Url;

/// Whether a URL is on this machine: proxies are not used then.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_end_matches('.');
        is_loopback_host(host)
            || host.ends_with(".localhost")
            // Linux connects to itself.
            || host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_unspecified())
    })
}

/// The address of a server that speaks MCP over HTTP, or why it cannot be one. The reason does not repeat it.
pub(crate) fn server_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("its scheme is `{}`", url.scheme()));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(
            "calls carry brokerage settings, so use https; plain http is for this machine alone"
                .to_owned(),
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("put credentials into a header, not into the address".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_this_machine_is_known() {
        for (url, loopback) in [
            ("http://127.0.0.1:1/", true),
            ("http://127.8.8.8/", true),
            ("http://2130706433/", true),
            ("http://0x7f.1/", true),
            ("http://0.0.0.0/", true),
            ("http://[::1]:1/", true),
            ("http://[::]/", true),
            ("http://[::ffff:0.0.0.0]/", true),
            ("http://[::ffff:127.0.0.1]/", true),
            ("http://localhost/", true),
            ("http://LocalHost./", true),
            ("http://a.localhost/", true),
            ("http://10.0.0.1/", false),
            ("http://localhost.test/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
        }
    }
}
