//! Time-stamped authentication, as the cloud does it.
//!
//! A request carries `Authorization: Basic base64(user-id ":" sha256-hex(token ":" timestamp))`
//! and `Timestamp: timestamp` (Unix seconds). The cloud answers a failure with HTTP 200,
//! `success: false` and one of three errors; the `lean` command line recognises the last two
//! by how they begin:
//!
//! - `Invalid timestamp, value received: …`: missing, not a number, or more than two hours off
//!   (QuantConnect's own client renews its hash after 7,000 s);
//! - `UserID not valid`: no Basic credentials, or another user;
//! - `Hash doesn't match.`: wrong token, or a hash made for another time.
//!
//! The public documentation names status 401 for the same case. Clients are written for what
//! the service sends, so this one sends 200.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use qchost_text::excerpt;
use sha2::{Digest as _, Sha256};

use crate::services::answer::{Refusal, refuse};
use crate::store::settings::Credentials;

/// Allowed distance of a timestamp from the emulator's clock, in seconds.
const TIMESTAMP_TOLERANCE: u64 = 7_200;

/// Whether the headers authenticate the emulator's user at Unix time `now`.
pub(super) fn authenticate(
    credentials: &Credentials,
    headers: &HeaderMap,
    now: i64,
) -> Result<(), Refusal> {
    let timestamp = headers
        .get("timestamp")
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.is_empty())
        .unwrap_or("0");
    let time: i64 = timestamp.parse().unwrap_or_default();
    if now.abs_diff(time) > TIMESTAMP_TOLERANCE {
        let timestamp = excerpt(timestamp, 32);
        refuse!("Invalid timestamp, value received: {timestamp}");
    }
    let unknown = || Refusal::because("UserID not valid");
    let (user, hash) = basic(headers).ok_or_else(unknown)?;
    if user.parse() != Ok(credentials.user_id) {
        return Err(unknown());
    }
    if !hash.eq_ignore_ascii_case(&hash_of(&credentials.token, timestamp)) {
        refuse!("Hash doesn't match.");
    }
    Ok(())
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, hash) = text.split_once(':')?;
    Some((user.to_owned(), hash.to_owned()))
}

fn hash_of(token: &str, timestamp: &str) -> String {
    hex::encode(Sha256::digest(format!("{token}:{timestamp}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn check(user: &str, hashed_at: &str, sent: Option<&str>) -> Result<(), String> {
        let credentials = Credentials {
            user_id: 7,
            token: "word".to_owned(),
        };
        let mut headers = HeaderMap::new();
        let pair = format!("{user}:{}", hash_of("word", hashed_at));
        let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        if let Some(sent) = sent {
            headers.insert("timestamp", sent.parse().unwrap());
        }
        authenticate(&credentials, &headers, NOW).map_err(|refusal| refusal.0.join(";"))
    }

    #[test]
    fn a_fresh_hash_is_accepted() {
        assert_eq!(check("7", "1700000000", Some("1700000000")), Ok(()));
        assert_eq!(check("7", "1699993000", Some("1699993000")), Ok(()));
    }

    #[test]
    fn a_missing_malformed_or_stale_timestamp_is_named() {
        let prefix = "Invalid timestamp, value received: ";
        assert_eq!(check("7", "1700000000", None), Err(format!("{prefix}0")));
        assert_eq!(
            check("7", "soon", Some("soon")),
            Err(format!("{prefix}soon"))
        );
        for stale in ["1699992000", "1700008000"] {
            assert_eq!(
                check("7", stale, Some(stale)),
                Err(format!("{prefix}{stale}"))
            );
        }
    }

    #[test]
    fn a_hash_for_another_time_or_user_is_refused() {
        assert_eq!(
            check("7", "1700000001", Some("1700000000")),
            Err("Hash doesn't match.".to_owned())
        );
        assert_eq!(
            check("8", "1700000000", Some("1700000000")),
            Err("UserID not valid".to_owned())
        );
    }
}
