//! `/oauth/authorize`: the page on which a person consents.
//!
//! The emulator's user counts as signed in. The page is a form with one organisation to choose and two buttons; a plain
//! HTTP client posts its fields `request`, `organization` and `decision` (`allow` or `deny`) to the same address. Until
//! client and redirect address are known to belong together, a refusal is a page; after that it is a redirect.

use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse as _, Response};

use super::Authority;
use super::failure::{Failure, NO_STORE};
use super::grants::Question;
use super::token::{Form, check_resource};

/// Longest `state`, in bytes.
const MAX_STATE_BYTES: usize = 2_000;
/// Length of an S256 challenge.
const CHALLENGE_LENGTH: usize = 43;

/// Shows the page.
pub(super) fn ask(authority: &Authority, query: &str) -> Result<Response, Failure> {
    let form = Form::parse(query.as_bytes())?;
    let client = form.required("client_id")?.to_owned();
    let redirect = form.required("redirect_uri")?.to_owned();
    {
        let clients = authority.clients.lock();
        if !clients.knows(&client) {
            return Err(Failure::new("invalid_client", "the client is unknown"));
        }
        if !clients.may_redirect(&client, &redirect) {
            let why = "the client may not be redirected to this address; only loopback addresses are allowed";
            return Err(Failure::new("invalid_request", why));
        }
    }
    let state = form.get("state").map(str::to_owned);
    let checked = check(authority, &form);
    let number = checked.and_then(|challenge| {
        let question = Question {
            client,
            redirect: redirect.clone(),
            challenge,
            state: state.clone(),
        };
        authority.grants.lock().ask(question)
    });
    match number {
        Ok(number) => Ok(page(authority, &number)),
        Err(failure) => {
            let answer = [
                ("error", failure.code()),
                ("error_description", failure.description()),
            ];
            redirect_to(authority, &redirect, state.as_deref(), &answer)
        }
    }
}

/// The challenge of a request that can be answered.
fn check(authority: &Authority, form: &Form) -> Result<String, Failure> {
    if form.required("response_type")? != "code" {
        let why = "only the response type code is supported";
        return Err(Failure::new("unsupported_response_type", why));
    }
    let wrong = |why: &str| Failure::new("invalid_request", why);
    if form.get("code_challenge_method") != Some("S256") {
        return Err(wrong("code_challenge_method must be S256"));
    }
    let challenge = form.required("code_challenge")?;
    if challenge.len() != CHALLENGE_LENGTH {
        return Err(wrong("code_challenge is no S256 challenge"));
    }
    let state = form.get("state").unwrap_or_default();
    if state.len() > MAX_STATE_BYTES {
        return Err(wrong("state is too long"));
    }
    check_resource(authority, form)?;
    Ok(challenge.to_owned())
}

/// Carries out a person's decision.
pub(super) fn decide(authority: &Authority, body: &[u8]) -> Result<Response, Failure> {
    let form = Form::parse(body)?;
    let number = form.required("request")?;
    let decision = form.required("decision")?;
    let (organization, _) = &authority.organization;
    if decision == "allow" && form.required("organization")? != organization {
        let why = "the user is in no such organization";
        return Err(Failure::new("invalid_request", why));
    }
    let mut grants = authority.grants.lock();
    let question = grants.answer(number).ok_or_else(|| {
        let why = "the request is unknown, or was answered before";
        Failure::new("invalid_request", why)
    })?;
    let (redirect, state) = (question.redirect.clone(), question.state.clone());
    if decision == "allow" {
        let code = grants.code(question)?;
        let answer = [("code", code.as_str())];
        redirect_to(authority, &redirect, state.as_deref(), &answer)
    } else {
        let answer = [("error", "access_denied")];
        redirect_to(authority, &redirect, state.as_deref(), &answer)
    }
}

/// A redirect to the client, with the issuer (RFC 9207).
fn redirect_to(
    authority: &Authority,
    redirect: &str,
    state: Option<&str>,
    answer: &[(&str, &str)],
) -> Result<Response, Failure> {
    let issuer = authority.settings.redirect_issuer.as_ref();
    let issuer = issuer.unwrap_or(&authority.origin);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(answer);
    query.extend_pairs(state.map(|state| ("state", state)));
    query.append_pair("iss", issuer);
    let separator = if redirect.contains('?') { '&' } else { '?' };
    let address = format!("{redirect}{separator}{}", query.finish());
    let address = HeaderValue::from_str(&address)
        .map_err(|_| Failure::new("invalid_request", "the redirect address is malformed"))?;
    let mut response = (StatusCode::FOUND, NO_STORE).into_response();
    response.headers_mut().insert(LOCATION, address);
    Ok(response)
}

fn page(authority: &Authority, number: &str) -> Response {
    let (id, name) = &authority.organization;
    let (id, name) = (escaped(id), escaped(name));
    let html = format!(
        "<!doctype html><title>Authorize</title>\
         <p>You are signed in as the emulator's user. A program on this machine asks for access to all tools of the \
         emulated MCP server.</p>\
         <form method=\"post\" action=\"/oauth/authorize\">\
         <input type=\"hidden\" name=\"request\" value=\"{number}\">\
         <label>Organization <select name=\"organization\"><option value=\"{id}\">{name}</option></select></label>\
         <button name=\"decision\" value=\"allow\">Authorize</button>\
         <button name=\"decision\" value=\"deny\">Cancel</button>\
         </form>"
    );
    (NO_STORE, Html(html)).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
