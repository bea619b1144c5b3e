//! Brokerage and data-provider profiles: plugins refer to them by name, and the host fills in their
//! settings.
//!
//! Invariant: a secret exists in clear only inside the arguments of a call that is about to be
//! sent. It is read at that moment, when the redactor already knows it.

use std::collections::BTreeMap;

use qchost_catalog::deployment::{Environment, environment_of_profile, is_paper_brokerage};
use qchost_catalog::{Exception, Failure, Operation};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::deployment::{
    DeploymentSettings, Email, Notification, NotificationTarget, Sms, Telegram, Webhook,
};
use crate::secrets::Secrets;
use crate::source::{Setting, Source};

/// The settings of one brokerage or data provider, under their names in QuantConnect's API; `id` is
/// the module: `QuantConnectBrokerage`, `InteractiveBrokersBrokerage` …
pub type Profile = BTreeMap<String, Setting>;

/// A setting that is in the configuration as text; one that is read from elsewhere may be anything, and so may one whose
/// name is there in two spellings, of which QuantConnect may take either.
fn plain<'a>(settings: &'a Profile, name: &str) -> Option<&'a str> {
    let is_it = |key: &str| key.trim().eq_ignore_ascii_case(name);
    if settings.keys().filter(|key| is_it(key)).count() > 1 {
        return None;
    }
    match settings.get(name)? {
        Setting::Plain(Value::String(text)) => Some(text.as_str()),
        _ => None,
    }
}

/// All profiles by name.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    profiles: BTreeMap<String, Profile>,
    /// What is added to deployments, by profile.
    deployments: BTreeMap<String, DeploymentSettings>,
    secrets: Secrets,
}

impl Profiles {
    /// Profiles by name, and the reader of their secrets.
    #[must_use]
    pub fn new(profiles: BTreeMap<String, Profile>, secrets: Secrets) -> Self {
        Self {
            profiles,
            deployments: BTreeMap::new(),
            secrets,
        }
    }

    /// With what is added to deployments, by profile.
    #[must_use]
    pub fn with_deployments(mut self, deployments: BTreeMap<String, DeploymentSettings>) -> Self {
        self.deployments = deployments;
        self
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// Whether a profile trades with real money as far as its settings say: unless they choose a paper account in the
    /// words of its brokerage. `None` if there is no such profile.
    #[must_use]
    pub fn brokerage(&self, name: &str) -> Option<bool> {
        let settings = self.profiles.get(name)?;
        let environment = match plain(settings, "id") {
            Some(module) => environment_of_profile(module, |name| plain(settings, name)),
            // A module that is read from elsewhere may be any.
            None => Environment::Unknown,
        };
        Some(environment != Environment::Paper)
    }

    /// Whether a profile is of a brokerage that has no real money at all, so that nothing has to be proved.
    #[must_use]
    pub fn is_paper_brokerage(&self, name: &str) -> bool {
        let module = self.profiles.get(name).and_then(|it| plain(it, "id"));
        module.is_some_and(is_paper_brokerage)
    }

    /// Changes whenever the operator's settings of a profile change: `sha256:…` of its settings and
    /// of the sources of its secrets, without the secrets' values. `None` if there is no such
    /// profile.
    #[must_use]
    pub fn revision(&self, name: &str) -> Option<String> {
        let mut hash = Sha256::new();
        for (key, setting) in self.profiles.get(name)? {
            let (kind, location) = match setting {
                Setting::Plain(value) => ("plain", value.to_string().into_bytes()),
                Setting::Secret(Source::Env(env)) => ("env", env.clone().into_bytes()),
                Setting::Secret(Source::File(file)) => {
                    ("file", file.as_os_str().as_encoded_bytes().to_vec())
                }
                Setting::Secret(Source::Vault(vault)) => ("vault", vault.to_string().into_bytes()),
            };
            // Each part with its length, so that different profiles never have the same bytes.
            for part in [key.as_bytes(), kind.as_bytes(), &location] {
                hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(part);
            }
        }
        if let Some(deployment) = self.deployments.get(name) {
            hash.update(format!("{deployment:?}"));
        }
        Some(format!("sha256:{}", hex::encode(hash.finalize())))
    }

    /// Replaces the profiles' names with their settings, and adds what the profile of a brokerage says of deployments. On
    /// failure, the arguments are unchanged.
    ///
    /// # Errors
    /// [`Failure::InvalidArgument`] for an unknown profile, [`Failure::Unavailable`] for a secret
    /// that is not available.
    pub async fn fill(
        &self,
        operation: &Operation,
        arguments: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        let (mut filled, mut added) = (Vec::new(), Vec::new());
        for exception in operation.exceptions {
            match exception {
                Exception::Profile(field) => {
                    if let Some(name) = arguments.get(*field) {
                        let name = name_in(field, name)?;
                        let settings = Value::Object(self.settings(name).await?);
                        filled.push((*field, settings));
                        added = self.added(name).await?;
                    }
                }
                Exception::Profiles(field) => {
                    if let Some(names) = arguments.get(*field) {
                        let settings = self.providers(field, names).await?;
                        filled.push((*field, Value::Object(settings)));
                    }
                }
                Exception::OfProfile(_)
                | Exception::Constant(..)
                | Exception::Flag(_)
                | Exception::Null(_)
                | Exception::Bytes(..) => {}
            }
        }
        added.retain(|(field, _)| operation.is_of_profile(field));
        for (field, settings) in filled.into_iter().chain(added) {
            arguments.insert(field.to_owned(), settings);
        }
        Ok(())
    }

    /// What is added to a deployment by a profile, under its name in QuantConnect's API.
    async fn added(&self, name: &str) -> Result<Vec<(&'static str, Value)>, Failure> {
        let Some(deployment) = self.deployments.get(name) else {
            return Ok(Vec::new());
        };
        let mut added = Vec::new();
        added.extend(
            deployment
                .automatic_redeploy
                .map(|redeploy| ("automaticRedeploy", Value::Bool(redeploy))),
        );
        if !deployment.parameters.is_empty() {
            added.push(("parameters", json!(deployment.parameters)));
        }
        if let Some(notification) = &deployment.notification {
            let notification = self.notification(name, notification).await?;
            added.push(("notification", notification));
        }
        Ok(added)
    }

    /// Whom QuantConnect notifies, in its own form.
    async fn notification(&self, name: &str, of: &Notification) -> Result<Value, Failure> {
        let mut targets = Vec::with_capacity(of.targets.len());
        for target in &of.targets {
            targets.push(match target {
                NotificationTarget::Email(Email { email, subject }) => {
                    json!({ "address": email, "subject": subject })
                }
                NotificationTarget::Sms(Sms { sms }) => json!({ "phoneNumber": sms }),
                NotificationTarget::Webhook(Webhook { webhook, headers }) => {
                    let mut filled = Map::new();
                    for (key, setting) in headers {
                        filled.insert(key.clone(), self.value(name, key, setting).await?);
                    }
                    json!({ "address": webhook, "headers": filled })
                }
                NotificationTarget::Telegram(Telegram { telegram, token }) => {
                    let mut filled = Map::from_iter([("id".to_owned(), json!(telegram))]);
                    if let Some(token) = token {
                        let token = self.value(name, "token", token).await?;
                        filled.insert("token".to_owned(), token);
                    }
                    Value::Object(filled)
                }
            });
        }
        Ok(json!({ "events": of.events, "targets": targets }))
    }

    /// The settings of several profiles, by module.
    async fn providers(&self, field: &str, names: &Value) -> Result<Map<String, Value>, Failure> {
        let Value::Array(names) = names else {
            return Err(not_names(field));
        };
        let mut providers = Map::new();
        for name in names {
            let name = name_in(field, name)?;
            let settings = self.settings(name).await?;
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
        Ok(providers)
    }

    async fn settings(&self, name: &str) -> Result<Map<String, Value>, Failure> {
        let profile = self.profiles.get(name).ok_or_else(|| {
            let known: Vec<_> = self.profiles.keys().map(String::as_str).collect();
            Failure::InvalidArgument(format!(
                "there is no profile `{name}`; the operator configured: {}",
                known.join(", ")
            ))
        })?;
        let mut settings = Map::new();
        for (key, setting) in profile {
            let value = self.value(name, key, setting).await?;
            settings.insert(key.clone(), value);
        }
        Ok(settings)
    }

    /// A setting in clear.
    async fn value(&self, profile: &str, key: &str, setting: &Setting) -> Result<Value, Failure> {
        match setting {
            Setting::Plain(value) => Ok(value.clone()),
            Setting::Secret(source) => {
                let secret = self.secrets.read(source).await;
                let secret = secret.map_err(|why| unreadable(profile, key, &why.to_string()))?;
                Ok(Value::String(secret.expose_secret().to_owned()))
            }
        }
    }
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
