//! A REST API that answers what a test tells it to, and keeps what it was asked.

use parking_lot::Mutex;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// One request.
#[derive(Clone)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header's text, empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

type Handler = dyn Fn(&Seen) -> Response<Body> + Send + Sync;

/// The server; it ends with the test's runtime.
#[derive(Clone)]
pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    handler: Arc<Handler>,
}

impl Fake {
    /// Starts one under a port of its own.
    pub async fn start(handler: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            url: format!("http://{}/api/v2", listener.local_addr().unwrap()),
            seen: Arc::default(),
            handler: Arc::new(handler),
        };
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    /// Starts one that says the same to everything.
    pub async fn always(status: u16, body: &str) -> Self {
        let body = body.to_owned();
        Self::start(move |_| reply(status, &[], body.clone())).await
    }

    /// Starts one that answers `{"success": true}`.
    pub async fn content() -> Self {
        Self::always(200, &json!({ "success": true }).to_string()).await
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// The one request it was asked.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "requests that arrived");
        seen[0].clone()
    }
}

async fn answer(
    State(fake): State<Fake>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let seen = Seen {
        path: uri.path().to_owned(),
        headers,
        body,
    };
    fake.seen.lock().push(seen.clone());
    (fake.handler)(&seen)
}

/// A response.
pub fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}
