//! The credentials of a QuantConnect account, and the headers made from them.
//!
//! Invariant: the token leaves this module only as the hash that the REST API requires, in a header
//! marked sensitive. `Debug` shows neither.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// Why a user id or a token is invalid. The token itself is never part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The user id is not a number.
    #[error(
        "the QuantConnect user id must be digits only; it is shown on the account page beside the API token"
    )]
    UserId,
    /// The token is empty.
    #[error("the QuantConnect API token is empty; create one on the account page")]
    EmptyToken,
    /// The token contains an invalid character, usually a line break from a file.
    #[error("the QuantConnect API token holds a space, a line break or a control character")]
    MalformedToken,
}

/// A user id and its API token.
#[derive(Debug, Clone)]
pub struct Credentials {
    user_id: String,
    token: SecretString,
}

impl Credentials {
    /// Checks the form of both; only the cloud knows whether they are right.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] if the user id is not digits, or the token is empty or holds white
    /// space or control characters.
    pub fn new(user_id: &str, token: SecretString) -> Result<Self, CredentialsError> {
        if user_id.is_empty() || !user_id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CredentialsError::UserId);
        }
        let text = token.expose_secret();
        if text.is_empty() {
            return Err(CredentialsError::EmptyToken);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(CredentialsError::MalformedToken);
        }
        Ok(Self {
            user_id: user_id.to_owned(),
            token,
        })
    }

    /// The user id.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The header that goes with `Timestamp: {unix_time}`: Basic authentication with `user-id :
    /// sha256-hex("token:unix-time")`.
    pub(crate) fn authorization(&self, unix_time: u64) -> Option<Authorization> {
        let mut hasher = Sha256::new();
        hasher.update(self.token.expose_secret().as_bytes());
        hasher.update(format!(":{unix_time}").as_bytes());
        let hash = hex::encode(hasher.finalize());
        let encoded = STANDARD.encode(format!("{}:{hash}", self.user_id));
        let mut header = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
        header.set_sensitive(true);
        Some(Authorization {
            header,
            secrets: [hash, encoded],
        })
    }
}

/// The value of one request's `Authorization` header. It grants access to the account as long as
/// the cloud accepts its timestamp.
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    secrets: [String; 2],
}

impl Authorization {
    /// The text without this header's value, which a server may echo in an error.
    pub(crate) fn redact(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| {
            if text.contains(secret) {
                text.replace(secret, "[redacted]")
            } else {
                text
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_another_implementation_computes() {
        let credentials = Credentials::new("1", "not-a-token".into()).unwrap();
        let value = credentials.authorization(1_700_000_000).unwrap().header;
        assert!(value.is_sensitive());
        let pair = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        // `printf %s not-a-token:1700000000 | sha256sum`
        let hash = "42cd3f66621aaa79ab654b2727d38d3715e122278fd7097d10c4b00c7d987fb3";
        assert_eq!(
            STANDARD.decode(pair).unwrap(),
            format!("1:{hash}").as_bytes()
        );
    }

    #[test]
    fn malformed_credentials_are_refused_without_showing_the_token() {
        for user in ["", "abc", "1 2", "-1", "1\n"] {
            assert_eq!(
                Credentials::new(user, "x".into()).err(),
                Some(CredentialsError::UserId)
            );
        }
        assert_eq!(
            Credentials::new("1", "".into()).err(),
            Some(CredentialsError::EmptyToken)
        );
        for token in ["hush hush", "hush\n", "\thush", "hush\u{0}"] {
            let error = Credentials::new("1", token.into()).err().unwrap();
            assert_eq!(error, CredentialsError::MalformedToken);
            assert!(!error.to_string().contains("hush"));
        }
        let debug = format!("{:?}", Credentials::new("1", "hush".into()).unwrap());
        assert!(
            debug.contains("user_id") && !debug.contains("hush"),
            "{debug}"
        );
    }
}
