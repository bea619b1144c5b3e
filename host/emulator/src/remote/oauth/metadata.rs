//! What clients read before anything else: the metadata of the authorisation server (RFC 8414), those of the MCP
//! endpoint (RFC 9728), and the challenge of a request without a valid token.

use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Authority;
use super::failure::NO_STORE;

/// Metadata of the authorisation server. There are no scopes.
pub(super) fn of_server(authority: &Authority) -> Response {
    let origin = &authority.origin;
    let settings = &authority.settings;
    let mut grants = vec!["authorization_code"];
    if settings.refresh_tokens {
        grants.push("refresh_token");
    }
    let mut metadata = json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/oauth/authorize"),
        "token_endpoint": format!("{origin}/oauth/token"),
        "response_types_supported": ["code"],
        "grant_types_supported": grants,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": true,
        "client_id_metadata_document_supported": settings.metadata_documents,
    });
    let optional = [
        (
            settings.dynamic_registration,
            "registration_endpoint",
            "register",
        ),
        (settings.revocation, "revocation_endpoint", "revoke"),
    ];
    for (offered, name, page) in optional {
        if offered && let Some(fields) = metadata.as_object_mut() {
            let address = Value::String(format!("{origin}/oauth/{page}"));
            fields.insert(name.to_owned(), address);
        }
    }
    axum::Json(metadata).into_response()
}

/// Metadata of the MCP endpoint.
pub(super) fn of_resource(authority: &Authority) -> Response {
    axum::Json(json!({
        "resource": authority.resource,
        "authorization_servers": [authority.origin],
        "bearer_methods_supported": ["header"],
    }))
    .into_response()
}

/// The answer to a request without a token, or with one that has a problem.
pub(super) fn challenge(authority: &Authority, problem: Option<&str>) -> Response {
    let mut parts = Vec::new();
    if let Some(problem) = problem {
        parts.push("error=\"invalid_token\"".to_owned());
        parts.push(format!("error_description=\"{problem}\""));
    }
    if authority.settings.resource_metadata {
        let path = resource_path(authority);
        let origin = &authority.origin;
        let address = format!("{origin}/.well-known/oauth-protected-resource{path}");
        parts.push(format!("resource_metadata=\"{address}\""));
    }
    let challenge = match parts.is_empty() {
        true => "Bearer".to_owned(),
        false => format!("Bearer {}", parts.join(", ")),
    };
    let body = json!({
        "error": "invalid_token",
        "error_description": problem.unwrap_or("an access token is required"),
    });
    let mut response = (StatusCode::UNAUTHORIZED, NO_STORE, axum::Json(body)).into_response();
    if let Ok(value) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}

/// The path of the MCP endpoint.
fn resource_path(authority: &Authority) -> &str {
    let path = authority.resource.strip_prefix(&authority.origin);
    path.unwrap_or_default()
}
