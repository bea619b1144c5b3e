//! Authorising an external connection (a brokerage or data provider) without a browser on this
//! machine.
//!
//! The cloud expects a browser at `/live/auth0/authorize`, which it redirects to the provider's
//! log-in page; afterwards `/live/auth0/read` returns the authorisation. A headless host cannot
//! open a browser and must not wait for minutes, so one call does one step: it returns the
//! authorisation if there is one, otherwise the URL that a person has to open, under
//! `{"authorization": {"url": …}}`. The client polls by calling again.
//!
//! Invariant: while a person may be logging in, polling does not start another log-in, which could
//! invalidate theirs: the same URL is returned until it expires.

use std::time::Duration;

use qchost_catalog::Failure;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::answer::Answer;
use crate::rest::{Effect, NoAnswer, Reply, RestClient};

const READ: &str = "/live/auth0/read";

/// Time limit for asking the cloud whether there is an authorisation. It reportedly waits until
/// there is one.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

impl RestClient {
    /// One step of authorising the connection in `body`; `endpoint` is the catalog's.
    ///
    /// # Errors
    ///
    /// As [`RestClient::post`].
    pub(crate) async fn authorize_connection(
        &self,
        endpoint: &str,
        body: &Map<String, Value>,
    ) -> Result<Answer, NoAnswer> {
        let key = Value::Object(body.clone()).to_string();
        match timeout(READ_TIMEOUT, self.post(READ, body, Effect::Repeatable)).await {
            Ok(Ok(present)) if is_authorized(&present) => {
                self.logins().end(&key);
                return Ok(present);
            }
            Ok(Err(reason)) if !matches!(reason, NoAnswer::Failed(Failure::TimedOut { .. })) => {
                return Err(reason);
            }
            // A refusal, an empty answer or a time-out: there is none yet.
            Ok(_) | Err(_) => {}
        }
        if let Some(url) = self.logins().url(&key) {
            return Ok(to_open(&url));
        }
        match self
            .exchange(endpoint, body, Effect::Repeatable)
            .await
            .reply?
        {
            Reply::Redirect(url) => {
                let url = String::from(url);
                let answer = to_open(&url);
                self.logins().begin(key, url);
                Ok(answer)
            }
            Reply::Answer(answer) => Ok(answer),
        }
    }
}

fn to_open(url: &str) -> Answer {
    Answer::of(&json!({ "authorization": { "url": url }, "success": true }))
}

/// Whether the answer contains an authorisation. An empty one is sent as `null`, `{}` or `[]`.
fn is_authorized(answer: &Answer) -> bool {
    if answer.is_rejected() {
        return false;
    }
    let Ok(body) = serde_json::from_str::<Value>(answer.text()) else {
        return false;
    };
    match body.get("authorization") {
        Some(Value::Object(settings)) => !settings.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        _ => false,
    }
}
