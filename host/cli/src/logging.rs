//! The log: to standard error, filtered by the operator, with the libraries that would write down what
//! they carry kept quiet whatever the filter says.

use std::io::stderr;

use anyhow::{Context as _, Result};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Begins to log.
pub fn start(filter: &str, json: bool) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr);
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
