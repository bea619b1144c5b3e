//! With every log target at `trace`, no secret appears in a log line or an error.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;

use qchost_upstream::{HttpConnector, may_log};
use secrecy::SecretString;
use serde_json::json;
use support::web::{Web, by_hand, page};
use support::{Log, accounts, call, options, stdio};
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// The token of a connection, a brokerage's password, and an ordinary argument.
const TOKEN: &str = "tok-4711-0815";
const PASSWORD: &str = "pass-1234-word";
const ARGUMENT: &str = "arg-of-no-concern";

/// A pin of the brokerage. Only the call that sends it knows it.
const PIN: &str = "704913";

const LONG: u64 = 20_000;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Logs everything at every level, with or without the cap.
fn print<S>(lines: &Lines, capped: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(lines.clone())
        .with_filter(LevelFilter::TRACE)
        .with_filter(filter_fn(move |metadata| !capped || may_log(metadata)))
}

/// Everything that is logged while `work` runs, with or without the cap, and the result of `work`.
/// Connections have their own threads, so the log is that of the whole process.
fn logged(work: impl Future<Output = String>) -> (String, String, String) {
    let (capped, open) = (Lines::default(), Lines::default());
    let subscriber = tracing_subscriber::registry()
        .with(print(&capped, true))
        .with(print(&open, false));
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let told = runtime.block_on(work);
    let read = |lines: Lines| String::from_utf8(lines.0.lock().clone()).unwrap();
    (read(capped), read(open), told)
}

fn deployment(id: u64, step: &str) -> serde_json::Value {
    json!({
        "id": id,
        "note": ARGUMENT,
        "brokerage": { "id": "SomeBrokerage", "password": PASSWORD, "pin": PIN },
        "dataProviders": { "SomeProvider": { "key": PASSWORD } },
        "script": [{ "error": step }],
    })
}

/// Makes calls over standard streams and HTTP that succeed and fail; returns all errors.
async fn use_everything() -> String {
    let log = Log::new();
    let mut told = Vec::new();

    let child = accounts(stdio(&log, &["child"], &[("TEST_TOKEN", TOKEN)]), options());
    // A server that quotes its input and its command line.
    let quote = format!(
        "Error executing tool create_live_algorithm: cannot log in with {PASSWORD}, pin={PIN} and {TOKEN}"
    );
    told.push(call(&child, "create_live_algorithm", deployment(1, &quote), LONG).await);
    let validation = format!(
        "1 validation error for create_live_algorithmArguments\nmodel.brokerage\n  Wrong {PASSWORD} [type=x, input_value={{'password': '{PASSWORD}', 'pin': '{PIN}'}}, input_type=dict]"
    );
    told.push(
        call(
            &child,
            "create_live_algorithm",
            deployment(2, &validation),
            LONG,
        )
        .await,
    );
    let dying = json!({ "id": 3, "note": ARGUMENT, "script": ["exit"] });
    told.push(call(&child, "create_backtest", dying, LONG).await);
    child.close().await;
    let crashing = accounts(stdio(&log, &["crash"], &[("TEST_TOKEN", TOKEN)]), options());
    told.push(
        call(
            &crashing,
            "create_backtest",
            json!({ "note": ARGUMENT }),
            600,
        )
        .await,
    );

    let secret = || {
        [(
            "Authorization".to_owned(),
            SecretString::from(format!("Bearer {TOKEN}")),
        )]
    };
    let web = Web::scripted(log.path.clone(), 0);
    let url = format!("{}?key={TOKEN}", web.url());
    let over_http = accounts(HttpConnector::new(&url, secret()).unwrap(), options());
    told.push(
        call(
            &over_http,
            "create_live_algorithm",
            deployment(4, &quote),
            LONG,
        )
        .await,
    );
    let (_, refusing) = by_hand(|_, _| page(502));
    let refused = accounts(
        HttpConnector::new(&format!("{}?key={TOKEN}", refusing.url()), secret()).unwrap(),
        options(),
    );
    told.push(
        call(
            &refused,
            "create_backtest",
            json!({ "note": ARGUMENT }),
            LONG,
        )
        .await,
    );
    drop(refusing);
    let nobody = accounts(
        HttpConnector::new(&format!("http://127.0.0.1:1/?key={TOKEN}"), secret()).unwrap(),
        options(),
    );
    told.push(call(&nobody, "create_backtest", json!({ "note": ARGUMENT }), 600).await);

    assert!(told.iter().all(Result::is_err), "{told:?}");
    let health = [&child, &crashing, &over_http, &refused, &nobody]
        .map(|accounts| accounts.health(support::ACCOUNT));
    format!("{told:?} {health:?}")
}

#[test]
fn no_secret_and_no_argument_is_logged_or_told() {
    let (log, uncapped, told) = logged(use_everything());
    for secret in [TOKEN, PASSWORD, ARGUMENT] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "in the log");
        assert!(!told.contains(secret), "{told}");
        // Without the cap the libraries log them.
        assert!(
            uncapped.contains(secret),
            "this test could not fail for {secret}"
        );
    }
    // Not looked for in the log, whose times may have the same digits.
    assert!(!told.contains(PIN), "{told}");
    assert!(told.contains("pin=[redacted]"), "{told}");
    // Everything else was logged.
    for part in [
        "DEBUG",
        "WARN",
        "upstream_call",
        "create_live_algorithm",
        "[redacted]",
    ] {
        assert!(log.contains(part), "{part} is missing in {log}");
    }
    assert!(told.contains("[redacted]"), "{told}");
}
