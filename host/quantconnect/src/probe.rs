//! What one call to `/authenticate` reveals about the connection to the cloud: whether the
//! credentials are accepted, the latency, the rate limit, and how far this machine's clock is off,
//! since the authentication depends on it.

use std::time::Duration;

use qchost_catalog::Failure;
use serde_json::Map;

use crate::headers::RateLimit;
use crate::rest::{Effect, Reply, RestClient};

/// The result of [`RestClient::probe`].
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// `Ok` if the credentials were accepted; [`Failure::Rejected`] if they were not; any other
    /// failure if the cloud could not be asked.
    pub outcome: Result<(), Failure>,
    /// The server's clock minus this machine's, in seconds, from an answer's `Date` header (which
    /// has whole seconds).
    pub skew: Option<f64>,
    /// The time from sending to the whole answer.
    pub latency: Duration,
    /// The rate limit, as far as the answer's headers contain it.
    pub rate_limit: RateLimit,
}

impl RestClient {
    /// Asks the cloud whether the credentials are valid.
    pub async fn probe(&self) -> Probe {
        let exchange = self
            .exchange("/authenticate", &Map::new(), Effect::Repeatable)
            .await;
        let outcome = match exchange.reply {
            Ok(Reply::Answer(answer)) if answer.is_rejected() => {
                Err(Failure::Rejected(answer.errors().to_vec()))
            }
            Ok(Reply::Answer(_)) => Ok(()),
            Ok(Reply::Redirect(url)) => Err(Failure::UnexpectedResponse(format!(
                "{} redirects to {}; check the base URL",
                self.origin(),
                url.origin().ascii_serialization()
            ))),
            Err(reason) => Err(reason.into()),
        };
        Probe {
            outcome,
            skew: exchange.skew,
            latency: exchange.latency,
            rate_limit: exchange.rate_limit,
        }
    }
}
