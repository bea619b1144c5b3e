//! What the host adds to a deployment by a profile besides the settings of its brokerage: parameters of the algorithm,
//! whether QuantConnect deploys it again by itself, and whom QuantConnect notifies.
//!
//! Invariant: a plugin can set none of it, and a secret in it is only a reference until the call is about to be sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::source::Setting;

/// The settings of deployments by one profile.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeploymentSettings {
    /// Whether QuantConnect deploys the algorithm again after it ended by an error; its own default if absent.
    pub automatic_redeploy: Option<bool>,
    /// Parameters of the algorithm, as text. They replace those of the project.
    pub parameters: BTreeMap<String, String>,
    /// Whom QuantConnect notifies; it sends no notifications if absent.
    pub notification: Option<Notification>,
}

/// Whom QuantConnect notifies of what.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Notification {
    /// Of what.
    pub events: Vec<NotificationEvent>,
    /// Whom.
    pub targets: Vec<NotificationTarget>,
}

/// What QuantConnect notifies of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase", deserialize = "kebab-case"))]
pub enum NotificationEvent {
    /// Each event of an order.
    OrderEvent,
    /// Each insight.
    Insight,
}

/// Whom QuantConnect notifies.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum NotificationTarget {
    /// By email.
    Email(Email),
    /// By a request to an address.
    Webhook(Webhook),
    /// By text message.
    Sms(Sms),
    /// By Telegram.
    Telegram(Telegram),
}

/// An email.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The address.
    pub email: String,
    /// The subject.
    pub subject: String,
}

/// A request to an address.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// The address.
    pub webhook: String,
    /// Headers of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, Setting>,
}

/// A text message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sms {
    /// The telephone number.
    pub sms: String,
}

/// A message by Telegram.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telegram {
    /// The chat.
    pub telegram: String,
    /// The token of a bot of the operator's own.
    pub token: Option<Setting>,
}

impl DeploymentSettings {
    /// Every setting that may be a secret.
    pub fn settings_mut(&mut self) -> impl Iterator<Item = &mut Setting> {
        let targets = self.notification.iter_mut().flat_map(|it| &mut it.targets);
        targets.flat_map(|target| -> Vec<&mut Setting> {
            match target {
                NotificationTarget::Webhook(webhook) => webhook.headers.values_mut().collect(),
                NotificationTarget::Telegram(telegram) => telegram.token.iter_mut().collect(),
                NotificationTarget::Email(_) | NotificationTarget::Sms(_) => Vec::new(),
            }
        })
    }
}
