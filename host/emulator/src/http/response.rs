//! Replies, refusals and faults as HTTP responses.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::faults::FaultKind;
use crate::services::answer::{Refusal, Reply, fields, loading};

/// A response, with the `success` in its body for the request log.
pub(super) type Logged = (Response, Option<bool>);

/// The response to a reply.
pub(super) fn respond(reply: Reply) -> Logged {
    match reply {
        Reply::Json(fields) => json_response(StatusCode::OK, fields),
        Reply::Redirect(address) => {
            let body = fields(json!({"success": true, "url": address}));
            let (mut response, success) = json_response(StatusCode::FOUND, body);
            if let Ok(location) = HeaderValue::from_str(&address) {
                response.headers_mut().insert(LOCATION, location);
            }
            (response, success)
        }
        Reply::File { mime, bytes } => {
            let response = ([(CONTENT_TYPE, mime)], Body::from(bytes)).into_response();
            (response, None)
        }
        Reply::Page(html) => (Html(html).into_response(), None),
    }
}

/// A JSON object as a response.
pub(super) fn json_response(status: StatusCode, body: Map<String, Value>) -> Logged {
    let success = body.get("success").and_then(Value::as_bool);
    (
        (status, axum::Json(Value::Object(body))).into_response(),
        success,
    )
}

/// The response of a fault that replaces the answer; `None` for other faults.
pub(super) fn instead_of_answer(fault: FaultKind) -> Option<Logged> {
    let refused = |status, error: &str| json_response(status, Refusal::because(error).into_body());
    Some(match fault {
        FaultKind::Refuse(error) => refused(StatusCode::OK, &error),
        FaultKind::Pretend => json_response(StatusCode::OK, fields(json!({"success": true}))),
        FaultKind::Loading { progress } => json_response(StatusCode::OK, loading(progress)),
        FaultKind::TooManyRequests { retry_after } => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let (mut response, success) = refused(status, "Too many requests");
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            (response, success)
        }
        FaultKind::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status.into_response(), None)
        }
        FaultKind::Latency(_) | FaultKind::LoseAnswer => return None,
    })
}
