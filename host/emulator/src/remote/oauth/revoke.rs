//! `/oauth/revoke`: ends a token (RFC 7009).

use axum::response::{IntoResponse as _, Response};

use super::Authority;
use super::failure::{Failure, NO_STORE};
use super::token::Form;

/// Ends a token of the client. One that is unknown has ended already, so the answer is the same.
pub(super) fn answer(authority: &Authority, body: &[u8]) -> Result<Response, Failure> {
    let form = Form::parse(body)?;
    let client = form.required("client_id")?;
    if !authority.clients.lock().knows(client) {
        return Err(Failure::new("invalid_client", "the client is unknown"));
    }
    let token = form.required("token")?;
    authority.grants.lock().end(token, client)?;
    Ok((NO_STORE, ()).into_response())
}
