//! Clouds with false answers: one that answers `success: true` to everything, and a proxy in front of
//! the emulator that does so for some endpoints only.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri, header};
use reqwest::redirect::Policy;
use tokio::net::TcpListener;

/// The base path of the REST API.
const BASE: &str = "/api/v2";

struct Front {
    /// The address of the emulator; `None` answers every request itself.
    behind: Option<String>,
    /// The endpoints with false answers.
    lies: Vec<&'static str>,
    http: reqwest::Client,
}

/// Starts one and returns its base URL. It ends with the test's runtime.
pub async fn start(behind: Option<String>, lies: Vec<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{BASE}", listener.local_addr().unwrap());
    let http = reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap();
    let front = Arc::new(Front { behind, lies, http });
    let router = Router::new().fallback(answer).with_state(front);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn answer(
    State(front): State<Arc<Front>>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let endpoint = uri.path().strip_prefix(BASE).unwrap_or_default();
    let behind = match &front.behind {
        Some(behind) if !front.lies.contains(&endpoint) => behind,
        _ => return Response::new(Body::from(r#"{"success":true}"#)),
    };
    headers.remove(header::HOST);
    // Without compression, the length of the answer stays right.
    headers.remove(header::ACCEPT_ENCODING);
    let answer = front
        .http
        .request(method, format!("{behind}{endpoint}"))
        .headers(headers)
        .body(body)
        .send()
        .await
        .unwrap();
    let mut response = Response::builder().status(answer.status());
    for name in [header::CONTENT_TYPE, header::LOCATION] {
        if let Some(value) = answer.headers().get(&name) {
            response = response.header(name, value);
        }
    }
    response
        .body(Body::from(answer.bytes().await.unwrap()))
        .unwrap()
}
