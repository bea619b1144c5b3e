//! Vault's answers, as documented in its HTTP API.
//!
//! Invariant: only the necessary parts of an answer are required and read; the documented examples
//! omit much of what a server sends.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// The fields of a secret.
pub(super) type Fields = BTreeMap<String, Field>;

/// The value of a field.
pub(super) enum Field {
    /// A text.
    Text(SecretString),
    /// Anything else.
    Other,
}

/// `GET /v1/:mount/data/:path`.
#[derive(Deserialize)]
pub(super) struct Stored {
    data: Option<Version>,
}

#[derive(Deserialize)]
struct Version {
    data: Option<Fields>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
    #[serde(default)]
    version: u64,
}

impl Stored {
    /// The fields; or, if there are none, the last version and what happened to it.
    pub(super) fn fields(self) -> Result<Fields, Option<(u64, String)>> {
        let version = self.data.ok_or(None)?;
        match (version.data, version.metadata) {
            // A deletion time in the future does not matter.
            (Some(fields), Some(_)) => Ok(fields),
            (None, Some(metadata)) if metadata.destroyed => {
                Err(Some((metadata.version, "destroyed".to_owned())))
            }
            (None, Some(metadata)) if !metadata.deletion_time.is_empty() => {
                let when: String = metadata
                    .deletion_time
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(40)
                    .collect();
                Err(Some((metadata.version, format!("deleted at {when}"))))
            }
            _ => Err(None),
        }
    }
}

/// `POST /v1/auth/:mount/login` and `POST /v1/auth/token/renew-self`.
#[derive(Deserialize)]
pub(super) struct Authenticated {
    pub(super) auth: Auth,
}

#[derive(Deserialize)]
pub(super) struct Auth {
    /// Empty in some answers to a renewal.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub(super) client_token: SecretString,
    /// In seconds; 0 if it does not expire.
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

/// `GET /v1/auth/token/lookup-self`.
#[derive(Deserialize)]
pub(super) struct LookedUp {
    pub(super) data: Token,
}

#[derive(Deserialize)]
pub(super) struct Token {
    /// In seconds from now; 0 if it does not expire.
    pub(super) ttl: u64,
    /// Missing for a token that cannot be renewed, such as a root token.
    #[serde(default)]
    pub(super) renewable: bool,
}

/// `GET /v1/sys/health`.
#[derive(Deserialize)]
pub(super) struct Health {
    pub(super) sealed: bool,
}

/// Any answer with a status of 400 or more.
#[derive(Deserialize)]
pub(super) struct Errors {
    pub(super) errors: Vec<String>,
}

fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    Ok(match Field::deserialize(deserializer)? {
        Field::Text(text) => text,
        Field::Other => SecretString::default(),
    })
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

/// Copies a text directly into memory that is cleared.
struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(text.into()))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Field, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}
