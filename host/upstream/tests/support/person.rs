//! A person with a browser at the emulator's authorization server.

use qchost_emulator::Emulator;
use reqwest::Url;

/// A client that follows no redirect.
pub fn browser() -> reqwest::Client {
    let browser = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    browser.build().unwrap()
}

/// Posts a form to a page of the authorization server.
pub async fn post(
    browser: &reqwest::Client,
    emulator: &Emulator,
    path: &str,
    form: &[(&str, &str)],
) -> reqwest::Response {
    let page = format!("http://{}{path}", emulator.address());
    let encoded = Url::parse_with_params(&page, form).unwrap();
    browser
        .post(page)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(encoded.query().unwrap().to_owned())
        .send()
        .await
        .unwrap()
}

/// Opens the address of a login and decides; returns where the browser is sent.
pub async fn decide(
    browser: &reqwest::Client,
    emulator: &Emulator,
    address: &str,
    decision: &str,
) -> String {
    let page = browser.get(address).send().await.unwrap();
    assert_eq!(page.status(), 200, "{address}");
    let page = page.text().await.unwrap();
    let (_, rest) = page.split_once("name=\"request\" value=\"").unwrap();
    let (number, _) = rest.split_once('"').unwrap();
    let form = [
        ("request", number),
        ("organization", emulator.organization_id()),
        ("decision", decision),
    ];
    let answer = post(browser, emulator, "/oauth/authorize", &form).await;
    assert_eq!(answer.status(), 302);
    let location = answer.headers()["location"].to_str().unwrap();
    location.to_owned()
}
