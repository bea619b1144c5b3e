//! The log: to standard error, filtered by the operator, with the libraries that would write down what
//! they carry kept quiet whatever the filter says, and with every secret that was read taken out.

use std::io::{Stderr, stderr};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use qchost_secrets::{RedactingWriter, Redactor};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// What knows the secrets of this process. The log begins before the configuration is read, and no secret
/// is read before that.
static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// Begins to log.
pub fn start(filter: &str, json: bool) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer = if json {
        layer.json().boxed()
    } else {
        layer.with_ansi(false).boxed()
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter_fn(qchost_upstream::permits)))
        .with(filter)
        .try_init()
        .context("the log was already started")
}

/// Takes what this redactor knows out of every line from now on. A process has one configuration, and so
/// one redactor.
pub fn clean_with(redactor: &Redactor) {
    drop(REDACTOR.set(redactor.clone()));
}

fn writer() -> RedactingWriter<Stderr> {
    let redactor = REDACTOR.get().cloned().unwrap_or_default();
    redactor.writer(stderr())
}
