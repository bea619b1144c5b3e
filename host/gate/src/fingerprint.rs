//! Digests that stand for texts and values: keyed where a short value could be found by brute force.
//!
//! Invariant: equal values have equal digests, whatever the order of their fields, in every run with the same key.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The key for fingerprints of arguments: without a key, a short argument could be found by brute force.
pub(crate) struct Fingerprints(Zeroizing<Vec<u8>>);

impl Fingerprints {
    pub(crate) fn new(key: Zeroizing<Vec<u8>>) -> Self {
        Self(key)
    }

    /// The HMAC-SHA-256 of a value's canonical form, in hexadecimal. `label` separates domains, so that fingerprints of
    /// different kinds never coincide.
    pub(crate) fn of(&self, label: &str, value: &Value) -> String {
        self.of_text(label, &qchost_audit::canonical(value))
    }

    /// The fingerprint of a call's arguments.
    pub(crate) fn of_arguments(&self, arguments: &Map<String, Value>) -> String {
        self.of_text("arguments", &qchost_audit::canonical_object(arguments))
    }

    /// The fingerprint of a text.
    pub(crate) fn of_text(&self, label: &str, canonical: &str) -> String {
        // HMAC accepts keys of any length.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            return String::new();
        };
        let mac = mac.chain_update(label).chain_update([0]);
        let mac = mac.chain_update(canonical);
        hex::encode(mac.finalize().into_bytes())
    }
}

/// The SHA-256 of a text, as `sha256:…`.
pub(crate) fn text_hash(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

/// Makes keyed digests of values that may be secrets; a data folder keeps these instead of the values.
pub struct Sealer(Fingerprints);

impl Sealer {
    /// Creates a sealer with the gate's key.
    #[must_use]
    pub fn new(key: Zeroizing<Vec<u8>>) -> Self {
        Self(Fingerprints::new(key))
    }

    /// The keyed digest of a value; `location` is the value's location.
    #[must_use]
    pub fn seal(&self, location: &str, value: &Value) -> String {
        sealed(&self.0, location, value)
    }
}

/// The keyed digest of a value that may be a secret; `location` is its location.
pub(crate) fn sealed(fingerprints: &Fingerprints, location: &str, value: &Value) -> String {
    let print = fingerprints.of("in force", &json!([location, value]));
    format!("hmac-sha256:{print}")
}
