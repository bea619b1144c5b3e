//! In place of a person with a browser: a client that follows the redirect of an authorization server, which consents by
//! itself.

/// A client that follows no redirect, and uses no proxy.
pub fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(words)
}

/// Opens the address of a login, and returns the one that the browser is sent back to.
pub async fn consent(address: &str) -> Result<String, String> {
    let page = client()?.get(address).send().await.map_err(words)?;
    let location = page.headers().get("location");
    let redirect = location.and_then(|value| value.to_str().ok());
    let redirect = redirect.ok_or("the authorization server does not redirect")?;
    Ok(redirect.to_owned())
}

pub fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
