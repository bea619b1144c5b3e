//! The log: written to standard error, filtered by the operator. Libraries that would log what they transport are
//! silenced whatever the filter says, and all secrets that were read are redacted.
//!
//! Invariant: an event is one line of at most about [`MAX_FIELD`] bytes for each of its fields, whatever they contain:
//! secrets are redacted in each field before it is truncated, and control characters are escaped. Of spans only the
//! names are written, which are the host's own.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::stderr;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use qchost_secrets::{RedactingWriter, Redactor};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::log_queue::LogQueue;
use crate::terminal;

/// Maximum bytes of a field's value: a plugin's line has up to 4 KiB, and as many of fields.
const MAX_FIELD: usize = 8 << 10;
/// Bytes at the end of a truncated value that may contain the beginning of a secret, and are omitted.
const SECRET_MARGIN_BYTES: usize = 8 << 10;

/// Knows the secrets of this process. Logging starts before the configuration is read, and no secret is read before
/// that.
static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// The queue of lines.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

/// How long the exit of the process waits for the log to be read.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts logging.
pub fn start(filter: &str, json: bool) -> Result<()> {
    let notice = move |lost| dropped_notice(json, lost);
    let queue = LogQueue::start(stderr(), notice);
    let queue = queue.context("the thread of the log does not start")?;
    drop(QUEUE.set(queue));
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))?;
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(LineFormat { json })
        .with_writer(writer);
    tracing_subscriber::registry()
        .with(layer.with_filter(filter_fn(qchost_upstream::may_log)))
        .with(filter)
        .try_init()
        .context("the log was already started")
}

/// The line about dropped lines, in the form of the other lines.
fn dropped_notice(json: bool, lost: u64) -> String {
    const MESSAGE: &str = "lines of the log were dropped, since it was not read";
    let mut time = String::new();
    // It fails only for a time that cannot be shown.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    if json {
        let fields = json!({ "message": MESSAGE, "dropped": lost });
        return json!({ "timestamp": time, "level": "WARN", "fields": fields, "target": "host" })
            .to_string();
    }
    format!("{time}  WARN host: {MESSAGE} dropped={lost}")
}

/// Redacts what this redactor knows in every line from now on. A process has one configuration, and so one redactor.
pub fn clean_with(redactor: &Redactor) {
    drop(REDACTOR.set(redactor.clone()));
}

/// Closes the log: waits until it is written, unless it is not read, and accepts no more lines.
pub fn close() {
    if let Some(queue) = QUEUE.get() {
        queue.close(CLOSE_TIMEOUT);
    }
}

/// A second safeguard, for text outside of fields.
fn writer() -> RedactingWriter<LogQueue> {
    let redactor = REDACTOR.get().cloned().unwrap_or_default();
    redactor.writer(QUEUE.get().cloned().unwrap_or_default())
}

/// Formats events as lines of text, or of JSON.
struct LineFormat {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let spans = context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root().map(|span| span.metadata().name()));
        let spans: Vec<&str> = spans.collect();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        if self.json {
            let mut line = Map::new();
            line.insert("timestamp".to_owned(), time.into());
            line.insert("level".to_owned(), level.as_str().into());
            line.insert("fields".to_owned(), fields.into_json());
            line.insert("target".to_owned(), target.into());
            if !spans.is_empty() {
                line.insert("spans".to_owned(), json!(spans));
            }
            return writeln!(
                writer,
                "{}",
                terminal::json(&Value::Object(line).to_string())
            );
        }
        write!(writer, "{time} {level:>5} ")?;
        for span in spans {
            write!(writer, "{span}: ")?;
        }
        write!(writer, "{target}:")?;
        fields.write_text(&mut writer)?;
        writeln!(writer)
    }
}

/// The fields of one event, each bounded and redacted.
#[derive(Default)]
struct Fields(Vec<(&'static str, FieldValue)>);

enum FieldValue {
    /// A number or a flag.
    Plain(Value),
    /// A text, as it is.
    Text(String),
    /// Output of `%` and `?`: words rather than a single string.
    Words(String),
}

impl Fields {
    fn into_json(self) -> Value {
        let fields = self.0.into_iter().map(|(name, shown)| {
            let value = match shown {
                FieldValue::Plain(value) => value,
                FieldValue::Text(text) | FieldValue::Words(text) => Value::String(text),
            };
            // Names in the sources are identifiers, which have no hyphens.
            (name.replace('_', "-"), value)
        });
        Value::Object(fields.collect())
    }

    /// ` message name=value name="text"`. The message comes first, since it gives the context; a value is quoted only if
    /// it could be taken for another field.
    fn write_text(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let message = |field: &&(&str, FieldValue)| field.0 == "message";
        for (_, shown) in self.0.iter().filter(message) {
            match shown {
                FieldValue::Plain(value) => write!(writer, " {value}")?,
                FieldValue::Text(text) | FieldValue::Words(text) => {
                    write!(writer, " {}", terminal::line(text))?;
                }
            }
        }
        for (name, shown) in self.0.iter().filter(|field| !message(field)) {
            match shown {
                FieldValue::Plain(value) => write!(writer, " {name}={value}")?,
                FieldValue::Words(text) if !text.contains(['=', '"', '\n']) => {
                    write!(writer, " {name}={}", terminal::line(text))?;
                }
                FieldValue::Text(text) | FieldValue::Words(text) => {
                    write!(writer, " {name}={}", terminal::line(&format!("{text:?}")))?;
                }
            }
        }
        Ok(())
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.push((field.name(), FieldValue::Plain(value.into())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), FieldValue::Plain(value.into())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), FieldValue::Plain(value.into())));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match i64::try_from(value) {
            Ok(value) => self.record_i64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    /// Durations in small units have this type, and fit a number of JSON.
    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), FieldValue::Plain(value.into())));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = bounded(value, REDACTOR.get());
        self.0.push((field.name(), FieldValue::Text(text)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut words = Collected::default();
        // It fails once the buffer is full.
        let _ = write!(words, "{value:?}");
        self.0.push((
            field.name(),
            FieldValue::Words(bounded(&words.0, REDACTOR.get())),
        ));
    }
}

/// A value as it is written: first redacted, then truncated, so that no part of a secret remains.
fn bounded(text: &str, redactor: Option<&Redactor>) -> String {
    let start = text.floor_char_boundary(MAX_FIELD + SECRET_MARGIN_BYTES);
    let start = text.get(..start).unwrap_or_default();
    let clean = redactor.map_or(Cow::Borrowed(start), |redactor| redactor.clean(start));
    if clean.len() <= MAX_FIELD && start.len() == text.len() {
        return clean.into_owned();
    }
    let end = match start.len() == text.len() {
        true => MAX_FIELD,
        false => MAX_FIELD.min(clean.len().saturating_sub(SECRET_MARGIN_BYTES)),
    };
    let kept = clean
        .get(..clean.floor_char_boundary(end))
        .unwrap_or_default();
    format!("{kept}…")
}

/// Collects what is written to it until it is full.
#[derive(Default)]
struct Collected(String);

impl fmt::Write for Collected {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > MAX_FIELD + SECRET_MARGIN_BYTES {
            return Err(fmt::Error);
        }
        // One byte more than fits, to show that there is more.
        let left = (MAX_FIELD + SECRET_MARGIN_BYTES + 1).saturating_sub(self.0.len());
        let taken = text.get(..text.ceil_char_boundary(left)).unwrap_or(text);
        self.0.push_str(taken);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::io;
    use std::sync::Arc;

    use super::*;

    /// What is logged while `log` runs, with the host's formatter.
    fn logged(json: bool, log: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(LineFormat { json })
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = kept.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    const FORGED: &str = "x\n2026-01-01T00:00:00.000000Z  INFO gate: all is well\r\u{1b}[2K\u{9b}31m\u{202e}\u{2028}\u{7f}";

    fn log_it(text: &str) {
        tracing::warn!(target: "gate", plugin = text, tool = %text, other = ?text, number = 7, "{text}");
    }

    #[test]
    fn no_text_makes_a_second_line_or_acts_on_a_terminal() {
        let line = logged(false, || log_it(FORGED));
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        let line = line.trim_end_matches('\n');
        assert_eq!(terminal::line(line), line);
        assert!(line.contains(" WARN gate: x\\n2026"), "{line}");
        assert!(line.ends_with("number=7"), "{line}");

        let line = logged(true, || log_it(FORGED));
        let line = line.trim_end_matches('\n');
        assert_eq!(terminal::line(line), line);
        let read: Value = serde_json::from_str(line).unwrap();
        for field in ["message", "plugin", "tool"] {
            assert_eq!(read["fields"][field], FORGED);
        }
        assert_eq!(read["fields"]["number"], 7);
        assert_eq!(
            (&read["level"], &read["target"]),
            (&json!("WARN"), &json!("gate"))
        );
    }

    #[test]
    fn keys_in_json_are_in_kebab_case_and_numbers_are_numbers() {
        let log = || {
            let wall_us = Duration::from_secs(2).as_micros();
            tracing::info!(target: "gate", wall_us, left_out = 1_u64, below = -5_i128, "done");
        };
        let read: Value = serde_json::from_str(&logged(true, log)).unwrap();
        assert_eq!(
            read["fields"],
            json!({ "message": "done", "wall-us": 2_000_000, "left-out": 1, "below": -5 })
        );
        let line = logged(false, log);
        assert!(
            line.ends_with("gate: done wall_us=2000000 left_out=1 below=-5\n"),
            "{line}"
        );
    }

    #[test]
    fn what_was_dropped_is_a_line_like_the_others() {
        let line = dropped_notice(true, 7);
        let line: Value = serde_json::from_str(&line).unwrap();
        let other = logged(
            true,
            || tracing::warn!(target: "host", dropped = 7u64, "lines"),
        );
        let other: Value = serde_json::from_str(&other).unwrap();
        let keys =
            |line: &Value| -> Vec<String> { line.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(keys(&line), keys(&other));
        assert_eq!(line["fields"]["dropped"], 7);
        let line = dropped_notice(false, 7);
        assert!(
            line.contains("  WARN host: ") && line.ends_with(" dropped=7"),
            "{line}"
        );
    }

    #[test]
    fn a_value_cannot_pass_for_another_field() {
        let line = logged(false, || {
            let value = "create_file outcome=answered";
            tracing::info!(target: "gate", tool = %value, outcome = "denied", "called");
        });
        assert!(
            line.ends_with(
                "gate: called tool=\"create_file outcome=answered\" outcome=\"denied\"\n"
            ),
            "{line}"
        );
        let line = logged(
            false,
            || tracing::info!(target: "gate", tool = %"create_file", ms = 3u64),
        );
        assert!(line.ends_with("gate: tool=create_file ms=3\n"), "{line}");
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_a_value_is_cut() {
        let secret = "s3cret-0123456789-abcdefghij";
        let redactor = Redactor::default();
        redactor.remember(secret.into());
        for before in (MAX_FIELD - 40..MAX_FIELD + 40)
            .chain(MAX_FIELD + SECRET_MARGIN_BYTES - 40..MAX_FIELD + SECRET_MARGIN_BYTES)
        {
            let text = format!(
                "{}{secret}{}",
                "x".repeat(before),
                "y".repeat(3 * MAX_FIELD)
            );
            let shown = bounded(&text, Some(&redactor));
            assert!(!shown.contains("s3c"), "{before}");
            assert!(shown.len() <= MAX_FIELD + '…'.len_utf8(), "{}", shown.len());
        }
    }

    #[test]
    fn a_field_is_cut_and_costs_no_more_than_it_shows() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("0123456789")?;
                }
            }
        }
        let long = "é".repeat(1 << 20);
        for json in [false, true] {
            let line = logged(json, || {
                tracing::info!(text = long.as_str(), words = %long, endless = %Endless, "{long}");
            });
            assert!(line.len() < 5 * MAX_FIELD, "{}", line.len());
            assert_eq!(line.matches('…').count(), 4, "{line}");
        }
    }
}
