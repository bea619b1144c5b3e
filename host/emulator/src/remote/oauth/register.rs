//! `/oauth/register`: dynamic client registration (RFC 7591) of public clients.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Authority;
use super::clients::{Loopback, MAX_REDIRECTS};
use super::failure::{Failure, NO_STORE};
use super::grants::secret;

/// Registers a client under a new id. It gets no secret.
pub(super) fn answer(authority: &Authority, body: &[u8]) -> Result<Response, Failure> {
    let wrong = |why: &str| Failure::new("invalid_client_metadata", why);
    let metadata: Value =
        serde_json::from_slice(body).map_err(|_| wrong("the body is not JSON"))?;
    let method = metadata.get("token_endpoint_auth_method");
    let method = method.and_then(Value::as_str).unwrap_or("none");
    if method != "none" {
        return Err(wrong("only public clients are registered: no secret"));
    }
    let redirects = metadata.get("redirect_uris").and_then(Value::as_array);
    let redirects = redirects.filter(|uris| (1..=MAX_REDIRECTS).contains(&uris.len()));
    let redirects = redirects.ok_or_else(|| wrong("redirect_uris must name 1 to 20 addresses"))?;
    let addresses = redirects.iter();
    let addresses = addresses.map(|uri| uri.as_str().and_then(Loopback::parse));
    let addresses: Option<Vec<Loopback>> = addresses.collect();
    let addresses = addresses.ok_or_else(|| {
        let why = "a redirect address is a loopback address of plain HTTP";
        Failure::new("invalid_redirect_uri", why)
    })?;
    let id = secret()?;
    authority.clients.lock().register(id.clone(), addresses);
    let answer = json!({
        "client_id": id,
        "redirect_uris": redirects,
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    Ok((StatusCode::CREATED, NO_STORE, axum::Json(answer)).into_response())
}
