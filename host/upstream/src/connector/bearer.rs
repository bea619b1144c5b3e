//! The bearer token of a server that wants one.
//!
//! Invariant: the source is asked at each request, so that a token that was renewed meanwhile is used at once, and no
//! request is sent without one.

use qchost_catalog::BoxFuture;
use secrecy::SecretString;

/// Supplies the bearer token of one server.
pub trait BearerSource: Send + Sync {
    /// The token for one request, renewed before if need be.
    ///
    /// # Errors
    ///
    /// Why there is none, and what a person has to do: `log in: qchost account login research`. It contains no secret.
    fn token(&self) -> BoxFuture<'_, Result<SecretString, String>>;

    /// Notes that the server refused this token with 401.
    fn refused(&self, token: &SecretString);
}
