//! Brokerage and data-provider profiles: what a plugin names and what the host fills in.
//!
//! Invariant: a secret exists in clear only inside the arguments of a call that is about to be
//! sent. It is read at that moment, and taken out again of whatever comes back as an error.

use std::collections::BTreeMap;
use std::path::PathBuf;

use qchost_catalog::{Exception, Failure, Operation};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

/// One setting of a profile.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// A secret in an environment variable of the host.
    Env {
        /// The variable.
        env: String,
    },
    /// A secret in a file that only the host can read.
    File {
        /// The file; a trailing line break is not part of the secret.
        file: PathBuf,
    },
    /// A value that is no secret.
    Plain(Value),
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
                        let settings = self.settings(name_in(field, name)?, &mut secrets)?;
                        let module = settings
                            .get("id")
                            .and_then(Value::as_str)
                            .unwrap_or_default()
                            .to_owned();
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
            let value =
                match setting {
                    Setting::Plain(value) => value.clone(),
                    Setting::Env { env } => secrets.keep(std::env::var(env).map_err(|_| {
                        unreadable(
                            name,
                            key,
                            &format!("the environment variable {env} is not set"),
                        )
                    })?),
                    Setting::File { file } => secrets.keep(read_secret(file).map_err(|why| {
                        unreadable(name, key, &format!("{}: {why}", file.display()))
                    })?),
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

    /// Takes the secrets out of an error that is about to leave the gate.
    pub(crate) fn redact(&self, failure: Failure) -> Failure {
        let clean = |mut text: String| {
            for secret in self
                .0
                .iter()
                .filter(|secret| !secret.expose_secret().is_empty())
            {
                text = text.replace(secret.expose_secret(), "[redacted]");
            }
            text
        };
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
            same @ (Failure::RateLimited { .. } | Failure::TimedOut { .. }) => same,
        }
    }
}

fn read_secret(file: &std::path::Path) -> Result<String, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(file)
        .map_err(|error| error.to_string())?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "others can read it (mode {:o}); chmod 600 it",
            mode & 0o777
        ));
    }
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
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
