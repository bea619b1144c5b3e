//! Brokerage and data-provider profiles: what a plugin names and what the host fills in.
//!
//! Invariant: a secret exists in clear only inside the arguments of a call that is about to be
//! sent. It is read at that moment, and taken out again of whatever comes back, be it an error or
//! an answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qchost_catalog::{Exception, Failure, Operation};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

/// One setting of a profile.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
pub enum Setting {
    /// A secret in an environment variable of the host: `{ env = "NAME" }`.
    Env {
        /// The variable.
        env: String,
    },
    /// A secret in a file that only the host can read: `{ file = "path" }`.
    File {
        /// The file; a trailing line break is not part of the secret.
        file: PathBuf,
    },
    /// A value that is no secret: anything but a table.
    Plain(Value),
}

impl TryFrom<Value> for Setting {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let Value::Object(table) = value else {
            return Ok(Self::Plain(value));
        };
        let mut entries = table.into_iter();
        match (entries.next(), entries.next()) {
            (Some((key, Value::String(env))), None) if key == "env" => Ok(Self::Env { env }),
            (Some((key, Value::String(file))), None) if key == "file" => {
                Ok(Self::File { file: file.into() })
            }
            _ => Err("a setting is a value, { env = \"NAME\" } or { file = \"path\" }".to_owned()),
        }
    }
}

/// The settings of one brokerage or data provider, under the names that QuantConnect's API has
/// for them; `id` is the module: `QuantConnectBrokerage`, `InteractiveBrokersBrokerage` …
pub type Profile = BTreeMap<String, Setting>;

/// All profiles by name.
#[derive(Debug, Clone, Default)]
pub struct Profiles(BTreeMap<String, Profile>);

/// The secrets that went into the arguments of one call.
#[derive(Default)]
pub(crate) struct Secrets(Vec<SecretString>);

impl Profiles {
    /// Profiles by name.
    #[must_use]
    pub fn new(profiles: BTreeMap<String, Profile>) -> Self {
        Self(profiles)
    }

    /// Puts the settings in place of the profiles' names.
    pub(crate) fn fill(
        &self,
        operation: &Operation,
        arguments: &mut Map<String, Value>,
    ) -> Result<Secrets, Failure> {
        let mut secrets = Secrets::default();
        for exception in operation.exceptions {
            match exception {
                Exception::Profile(field) => {
                    let Some(value) = arguments.get_mut(*field) else {
                        continue;
                    };
                    *value = Value::Object(self.settings(name_in(field, value)?, &mut secrets)?);
                }
                Exception::Profiles(field) => {
                    let Some(value) = arguments.get_mut(*field) else {
                        continue;
                    };
                    let Value::Array(names) = &*value else {
                        return Err(not_names(field));
                    };
                    let mut providers = Map::new();
                    for name in names {
                        let name = name_in(field, name)?;
                        let settings = self.settings(name, &mut secrets)?;
                        let Some(module) = settings.get("id").and_then(Value::as_str) else {
                            return Err(unreadable(name, "id", "it is not there or no text"));
                        };
                        let module = module.to_owned();
                        if providers.contains_key(&module) {
                            return Err(Failure::InvalidArgument(format!(
                                "`{field}` names two profiles for `{module}`; name one"
                            )));
                        }
                        providers.insert(module, Value::Object(settings));
                    }
                    *value = Value::Object(providers);
                }
                Exception::Constant(..) | Exception::Bytes(..) => {}
            }
        }
        Ok(secrets)
    }

    fn settings(&self, name: &str, secrets: &mut Secrets) -> Result<Map<String, Value>, Failure> {
        let profile = self.0.get(name).ok_or_else(|| {
            let known = self
                .0
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            Failure::InvalidArgument(format!(
                "there is no profile `{name}`; the operator configured: {known}"
            ))
        })?;
        let mut settings = Map::new();
        for (key, setting) in profile {
            let value = match setting {
                Setting::Plain(value) => value.clone(),
                Setting::Env { env } => secrets.keep(std::env::var(env).map_err(|_| {
                    unreadable(
                        name,
                        key,
                        &format!("the environment variable {env} is not set"),
                    )
                })?),
                Setting::File { file } => secrets.keep(
                    read_secret(file).map_err(|why| unreadable(name, key, &why.to_string()))?,
                ),
            };
            settings.insert(key.clone(), value);
        }
        Ok(settings)
    }
}

impl Secrets {
    fn keep(&mut self, secret: String) -> Value {
        self.0.push(SecretString::from(secret.clone()));
        Value::String(secret)
    }

    /// Takes the secrets out of an outcome that is about to leave the gate.
    pub(crate) fn redact(&self, outcome: Result<Value, Failure>) -> Result<Value, Failure> {
        match outcome {
            Ok(mut body) => {
                if !self.0.is_empty() {
                    self.redact_body(&mut body);
                }
                Ok(body)
            }
            Err(failure) => Err(self.redact_failure(failure)),
        }
    }

    fn redact_body(&self, body: &mut Value) {
        match body {
            Value::String(text) => *text = self.clean(std::mem::take(text)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_body(item)),
            Value::Object(fields) => fields
                .values_mut()
                .for_each(|field| self.redact_body(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn clean(&self, mut text: String) -> String {
        for secret in self.0.iter().map(ExposeSecret::expose_secret) {
            if !secret.is_empty() && text.contains(secret) {
                text = text.replace(secret, "[redacted]");
            }
        }
        text
    }

    fn redact_failure(&self, failure: Failure) -> Failure {
        let clean = |text| self.clean(text);
        match failure {
            Failure::InvalidArgument(text) => Failure::InvalidArgument(clean(text)),
            Failure::NotFound(text) => Failure::NotFound(clean(text)),
            Failure::NotReady { progress, message } => Failure::NotReady {
                progress,
                message: clean(message),
            },
            Failure::Rejected(errors) => Failure::Rejected(errors.into_iter().map(clean).collect()),
            Failure::Unavailable(text) => Failure::Unavailable(clean(text)),
            Failure::UnknownOutcome(text) => Failure::UnknownOutcome(clean(text)),
            Failure::UnexpectedResponse(text) => Failure::UnexpectedResponse(clean(text)),
            Failure::Halted(text) => Failure::Halted(clean(text)),
            same @ (Failure::RateLimited { .. } | Failure::TimedOut { .. }) => same,
        }
    }
}

/// Why a secret in a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read the secret in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read it too.
    #[error("{0} can be read by others (mode {mode:o}); run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Reads a secret from a file that only this user can read. A line break at its end is not part of it.
///
/// # Errors
/// When it cannot be read, or others can read it.
pub fn read_secret(path: &Path) -> Result<String, SecretError> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    let mode = std::fs::metadata(path)
        .map_err(failed)?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn name_in<'a>(field: &str, value: &'a Value) -> Result<&'a str, Failure> {
    value.as_str().ok_or_else(|| not_names(field))
}

fn not_names(field: &str) -> Failure {
    Failure::InvalidArgument(format!(
        "`{field}` takes the name of a profile, never its settings"
    ))
}

fn unreadable(profile: &str, key: &str, why: &str) -> Failure {
    Failure::Unavailable(format!(
        "the setting `{key}` of the profile `{profile}` cannot be read: {why}"
    ))
}
