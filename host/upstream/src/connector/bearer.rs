//! The bearer token of a server that wants one.
//!
//! Invariants: the source is asked at each request, so that a token that was renewed meanwhile is used at once, and no
//! request is sent without one. A renewal that has begun goes on when its caller gives up.

use std::sync::Arc;

use qchost_catalog::BoxFuture;
use secrecy::SecretString;

/// Why there is no token to send. It contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// A person has to log in: `run: qchost account login research`.
    #[error("{0}")]
    Reauthorize(String),
    /// It cannot be renewed now.
    #[error("{0}")]
    Unreachable(String),
}

/// Supplies the bearer token of one server, of one login there: another login takes another connection.
pub trait BearerSource: Send + Sync {
    /// The token for one request, renewed before if need be.
    ///
    /// # Errors
    ///
    /// [`NoToken`] if there is none.
    fn token(&self) -> BoxFuture<'_, Result<SecretString, NoToken>>;

    /// Notes that the server refused this token with 401. The next one is another one, or there is none.
    fn refused(&self, token: &SecretString);

    /// Notes that the server refused a request for the want of these scopes (403), which are separated by spaces.
    fn lacks(&self, scopes: &str);

    /// What redacts the tokens, also those that come later.
    fn redactor(&self) -> Option<qchost_text::Redactor> {
        None
    }
}

/// The token of a source for one request. A refresh token may be good for one use, and the answer to it has the next one: so
/// a renewal is not stopped half-way, whatever becomes of the caller.
pub(super) async fn token_of(source: &Arc<dyn BearerSource>) -> Result<SecretString, NoToken> {
    let source = Arc::clone(source);
    let asked = tokio::spawn(async move { source.token().await });
    asked.await.unwrap_or_else(|_| {
        Err(NoToken::Unreachable(
            "the renewal of the access token was stopped".to_owned(),
        ))
    })
}
