//! Authorising an external connection (a brokerage or data provider) without a browser on this
//! machine.
//!
//! The cloud expects a browser at `/live/auth0/authorize`, which it redirects to the provider's
//! log-in page; afterwards `/live/auth0/read` has the authorisation. A headless host cannot open a
//! browser and must not wait minutes, so one call does one step: it answers the authorisation
//! if there is one, or else the URL that a person has to open, under
//! `{"authorization": {"url": …}}`. Calling again is polling.

use qchost_catalog::Failure;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::rest::{Effect, Reply, RestClient};

const READ: &str = "/live/auth0/read";

impl RestClient {
    /// One step of authorising the connection that `body` names; `endpoint` is the catalog's.
    ///
    /// # Errors
    ///
    /// As [`RestClient::post`].
    pub(crate) async fn authorize_connection(
        &self,
        endpoint: &str,
        body: &Map<String, Value>,
    ) -> Result<Answer, Failure> {
        let present = self.post(READ, body, Effect::Repeatable).await?;
        if is_authorized(&present) {
            return Ok(present);
        }
        match self
            .exchange(endpoint, body, Effect::Repeatable)
            .await
            .reply?
        {
            Reply::Redirect(url) => Ok(Answer::of(&json!({
                "authorization": { "url": url.as_str() },
                "success": true,
            }))),
            Reply::Answer(answer) => Ok(answer),
        }
    }
}

/// Whether the answer holds an authorisation. An empty one comes as `null`, `{}` or `[]`.
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
