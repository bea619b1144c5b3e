//! `/oauth/token`: tokens for a code or a refresh token.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::Authority;
use super::failure::{Failure, NO_STORE};

/// The fields of a form.
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads a form; a field that comes twice makes it ambiguous.
    pub(super) fn parse(encoded: &[u8]) -> Result<Self, Failure> {
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(encoded) {
            if fields
                .insert(name.into_owned(), value.into_owned())
                .is_some()
            {
                return Err(Failure::new("invalid_request", "a field comes twice"));
            }
        }
        Ok(Self(fields))
    }

    /// A field that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.get(name)
            .ok_or_else(|| Failure::new("invalid_request", format!("{name} is missing")))
    }
}

/// The token of `Authorization: Bearer TOKEN`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Gives tokens. Only public clients are known: PKCE stands for a secret.
pub(super) fn answer(authority: &Authority, body: &[u8]) -> Result<Response, Failure> {
    let form = Form::parse(body)?;
    let client = form.required("client_id")?;
    if !authority.clients.lock().knows(client) {
        return Err(Failure::new("invalid_client", "the client is unknown"));
    }
    check_resource(authority, &form)?;
    let terms = authority.terms();
    let issued = match form.required("grant_type")? {
        "authorization_code" => {
            let code = form.required("code")?;
            let redirect = form.required("redirect_uri")?;
            let verifier = form.required("code_verifier")?;
            let mut grants = authority.grants.lock();
            grants.redeem(code, client, redirect, verifier, terms)?
        }
        "refresh_token" if terms.refreshes => {
            let token = form.required("refresh_token")?;
            authority.grants.lock().refresh(token, client, terms)?
        }
        _ => {
            let why = "there is no such grant type";
            return Err(Failure::new("unsupported_grant_type", why));
        }
    };
    let mut answer = Map::new();
    answer.insert("access_token".to_owned(), issued.access.into());
    answer.insert("token_type".to_owned(), "Bearer".into());
    if authority.settings.tells_lifetime {
        answer.insert("expires_in".to_owned(), json!(terms.lifetime.as_secs()));
    }
    if let Some(refresh) = issued.refresh {
        answer.insert("refresh_token".to_owned(), refresh.into());
    }
    Ok((NO_STORE, axum::Json(Value::Object(answer))).into_response())
}

/// Refuses a request for a token of another resource (RFC 8707).
pub(super) fn check_resource(authority: &Authority, form: &Form) -> Result<(), Failure> {
    let Some(resource) = form.get("resource") else {
        return Ok(());
    };
    if resource.trim_end_matches('/') == authority.resource {
        return Ok(());
    }
    let why = format!("tokens are for {} only", authority.resource);
    Err(Failure::new("invalid_target", why))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_that_comes_twice_is_refused_and_an_empty_one_is_missing() {
        assert!(Form::parse(b"code=1&code=2").is_err());
        let form = Form::parse(b"code=&client_id=a%20b").unwrap();
        assert_eq!(form.get("code"), None);
        assert_eq!(form.get("client_id"), Some("a b"));
        assert_eq!(form.required("code").unwrap_err().code(), "invalid_request");
    }

    #[test]
    fn only_a_bearer_token_is_one() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("Basic abc"), None);
        assert_eq!(of("abc"), None);
    }

    proptest! {
        #[test]
        fn any_form_is_read_or_refused(encoded in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&encoded);
        }
    }
}
