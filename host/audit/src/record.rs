//! A record: one line of canonical JSON, linked to the one before it by a hash.
//!
//! Invariant: the hash of a record is the SHA-256 of its line without the `hash` member, and that line contains
//! the hash of the record before as `prev`. So changing a byte of a record changes its hash, and then every record
//! after it must change too, up to the signed head. Canonical means: members sorted by name, no white space, no
//! duplicate names.
//!
//! The names `group`, `hash`, `kind`, `prev`, `seq` and `time` are the audit's own; a body that has one of them is
//! rejected. `group` is the sequence number of the first record that was written and synced together with this
//! one: recovery needs it to distinguish one group from two.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::error::AuditError;

/// The `prev` of the very first record.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Maximum bytes of an entry's body as JSON.
pub const MAX_BODY: usize = 1024 * 1024;

/// Maximum nesting of a body: JSON parsers stop at 128.
const MAX_DEPTH: usize = 100;

/// The audit's own members, sorted.
const OWN: [&str; 6] = ["group", "hash", "kind", "prev", "seq", "time"];

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A read and its outcome.
    Read,
    /// A refused call.
    Denied,
    /// A write that is about to be sent.
    Intent,
    /// The outcome of an intent; both have the same `call`.
    Outcome,
    /// The answer to a write was lost: it is unknown whether it was done, and its intent stays open.
    Lost,
    /// An approval that was requested, approved or refused.
    Approval,
    /// A halt, its end, and what it stopped.
    Halt,
    /// An administrative action of a person, or a denied one.
    Admin,
    /// A change of what is in force: a manifest, guardrails, the configuration, a component.
    Change,
    /// A plugin's own HTTP request.
    Http,
    /// Written by the audit: records that the last run left past its head were signed.
    Recovered,
    /// Written by the audit: some entries were not recorded.
    Gap,
    /// Written by the audit at the start of a segment: the open intents.
    Rotated,
    /// Written by the audit: old segments were removed.
    Retention,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::Read,
        Self::Denied,
        Self::Intent,
        Self::Outcome,
        Self::Lost,
        Self::Approval,
        Self::Halt,
        Self::Admin,
        Self::Change,
        Self::Http,
        Self::Recovered,
        Self::Gap,
        Self::Rotated,
        Self::Retention,
    ];

    /// The kind of this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Its name in the record.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Denied => "denied",
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Lost => "lost",
            Self::Approval => "approval",
            Self::Halt => "halt",
            Self::Admin => "admin",
            Self::Change => "change",
            Self::Http => "http",
            Self::Recovered => "recovered",
            Self::Gap => "gap",
            Self::Rotated => "rotated",
            Self::Retention => "retention",
        }
    }
}

/// A record, as its line says it: the members that the audit adds to each, and those of its entry, which has a `B` for a
/// body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordLine<B> {
    /// The number of the group of records that were written together.
    pub group: u64,
    /// The hash of the line without this member.
    pub hash: String,
    /// The kind of the entry.
    pub kind: Kind,
    /// The hash of the record before.
    pub prev: String,
    /// The sequence number.
    pub seq: u64,
    /// When it was recorded.
    pub time: String,
    /// The members of its entry.
    #[serde(flatten)]
    pub body: B,
}

/// An entry to be recorded.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its kind.
    pub kind: Kind,
    /// Whether it may use the reserve when the disk is full: halts, and risk-reducing calls.
    pub essential: bool,
    /// Its fields, without secrets; the audit adds sequence, time and hashes.
    pub body: Map<String, Value>,
}

/// Maximum bytes of a member as JSON if the whole entry is too large.
const MAX_SHORT_MEMBER: usize = 4096;

impl Entry {
    /// An entry with a typed body, which serializes to an object. Any other body would leave it without members.
    pub fn new(kind: Kind, essential: bool, body: &impl Serialize) -> Self {
        let body = match serde_json::to_value(body) {
            Ok(Value::Object(body)) => body,
            _ => Map::new(),
        };
        Self {
            kind,
            essential,
            body,
        }
    }

    /// The same, with long or nested members replaced by digest and length.
    pub(crate) fn shortened(&self) -> Self {
        let shorten = |value: &Value| {
            let text = canonical(value);
            if text.len() <= MAX_SHORT_MEMBER && !too_deep(value, 2) {
                return value.clone();
            }
            let digest = format!("sha256:{}", hash(&[text.as_bytes()]));
            serde_json::json!({ "digest": digest, "bytes": text.len() })
        };
        let members = self.body.iter();
        Self {
            kind: self.kind,
            essential: self.essential,
            body: members
                .map(|(name, value)| (name.clone(), shorten(value)))
                .collect(),
        }
    }
}

/// JSON without characters that a terminal would act on: they are replaced by escapes, so the values are
/// unchanged.
fn without_controls(json: String) -> String {
    let acts = |c: char| c == '\u{7f}' || (!c.is_ascii() && c.escape_debug().len() > 1);
    if !json.chars().any(acts) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if acts(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// A JSON value as canonical text: members sorted by name, no white space.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// A JSON object as canonical text.
#[must_use]
pub fn canonical_object(members: &Map<String, Value>) -> String {
    let mut text = String::new();
    write_object(members, &mut text);
    text
}

fn write_object(members: &Map<String, Value>, text: &mut String) {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    text.push('{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_member(name, value, text);
    }
    text.push('}');
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => write_object(members, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::String(string) => write_text(string, text),
        scalar => {
            // Writing to a string cannot fail.
            let _ = write!(text, "{scalar}");
        }
    }
}

fn write_member(name: &str, value: &Value, text: &mut String) {
    write_text(name, text);
    text.push(':');
    write_canonical(value, text);
}

/// Most texts need no escaping, and are copied.
fn write_text(string: &str, text: &mut String) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if string.bytes().all(plain) {
        text.push('"');
        text.push_str(string);
        text.push('"');
    } else {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", Value::from(string));
    }
}

fn too_deep(value: &Value, left: usize) -> bool {
    match value {
        Value::Object(members) => {
            left == 0 || members.values().any(|value| too_deep(value, left - 1))
        }
        Value::Array(items) => left == 0 || items.iter().any(|value| too_deep(value, left - 1)),
        _ => false,
    }
}

/// A serialized entry, without its position in the chain.
#[derive(Debug)]
pub(crate) struct Draft {
    pub kind: Kind,
    pub essential: bool,
    /// The `call` of the body, which links an outcome to its intent.
    pub call: Option<String>,
    time: String,
    /// The body's members between the audit's own: before `group`, before `hash`, and so on.
    parts: [String; OWN.len() + 1],
}

impl Draft {
    /// Serializes an entry, on the caller's thread to relieve the writer.
    pub fn new(entry: &Entry, now: Timestamp) -> Result<Self, AuditError> {
        let mut sorted: Vec<_> = entry.body.iter().collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        let mut parts: [String; OWN.len() + 1] = Default::default();
        for (name, value) in sorted {
            if OWN.contains(&name.as_str()) {
                return Err(AuditError::Unfit(format!(
                    "the field `{name}` is the audit's own; use another name"
                )));
            }
            if too_deep(value, MAX_DEPTH) {
                return Err(AuditError::Unfit(format!(
                    "the field `{name}` is nested deeper than {MAX_DEPTH} levels"
                )));
            }
            let index = OWN.partition_point(|own| *own < name.as_str());
            if let Some(part) = parts.get_mut(index) {
                if !part.is_empty() {
                    part.push(',');
                }
                write_member(name, value, part);
            }
        }
        Ok(Self {
            kind: entry.kind,
            essential: entry.essential,
            call: entry
                .body
                .get("call")
                .and_then(Value::as_str)
                .map(str::to_owned),
            time: instant(now),
            parts: parts.map(without_controls),
        })
    }

    /// Approximate length of the line in bytes.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(String::len).sum::<usize>() + 300
    }

    /// Appends the line, with its newline. Returns the record's hash.
    pub fn render(&self, sequence: u64, group: u64, prev: &str, lines: &mut String) -> String {
        let [a, b, c, d, e, f, g] = &self.parts;
        let kind = self.kind.word();
        let time = &self.time;
        let mut front = String::with_capacity(a.len() + b.len() + 32);
        let mut back = String::with_capacity(self.bytes());
        join(
            &mut front,
            &[a.as_str(), &format!("\"group\":{group}"), b.as_str()],
        );
        join(
            &mut back,
            &[
                c.as_str(),
                &format!("\"kind\":\"{kind}\""),
                d.as_str(),
                &format!("\"prev\":\"{prev}\""),
                e.as_str(),
                &format!("\"seq\":{sequence}"),
                f.as_str(),
                &format!("\"time\":\"{time}\""),
                g.as_str(),
            ],
        );
        let hash = hash(&[b"{", front.as_bytes(), b",", back.as_bytes(), b"}"]);
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{{{front},\"hash\":\"{hash}\",{back}}}");
        hash
    }
}

fn join(text: &mut String, parts: &[&str]) {
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(part);
    }
}

/// RFC 3339 with six fractional digits, so that texts sort like times.
fn instant(now: Timestamp) -> String {
    DateTimePrinter::new()
        .precision(Some(6))
        .timestamp_to_string(&now)
}

/// SHA-256 of the concatenated parts, in hexadecimal.
fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hex::encode(hasher.finalize())
}

/// The parts of a line that the audit itself reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub sequence: u64,
    pub group: u64,
    pub kind: String,
    pub prev: String,
    pub hash: String,
    pub time: String,
    pub call: Option<String>,
    /// The hash computed from the line.
    pub computed: String,
}

impl Parsed {
    /// Reads a line without its newline.
    ///
    /// # Errors
    /// Why it is not a record, in words.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
        let Members(members) =
            serde_json::from_str(line).map_err(|error| format!("it is not JSON: {error}"))?;
        let mut whole = String::with_capacity(line.len());
        let mut hashed = String::with_capacity(line.len());
        let mut last: Option<&str> = None;
        for (name, value) in &members {
            if last.is_some_and(|last| last >= name.as_str()) {
                return Err(format!("its members are not sorted at `{name}`"));
            }
            last = Some(name);
            for (text, wanted) in [(&mut whole, true), (&mut hashed, name != "hash")] {
                if wanted {
                    text.push(if text.is_empty() { '{' } else { ',' });
                    write_text(name, text);
                    text.push(':');
                    text.push_str(value.get());
                }
            }
        }
        whole.push('}');
        hashed.push('}');
        if whole != line {
            return Err("it is not written as a record is".to_owned());
        }
        let text = |wanted: &str| {
            let (_, value) = members.iter().find(|(name, _)| name == wanted)?;
            serde_json::from_str::<String>(value.get()).ok()
        };
        let number = |wanted: &str| {
            let (_, value) = members.iter().find(|(name, _)| name == wanted)?;
            value.get().parse::<u64>().ok()
        };
        let lacks = |name: &str| format!("it has no `{name}`");
        Ok(Self {
            sequence: number("seq").ok_or_else(|| lacks("seq"))?,
            group: number("group").ok_or_else(|| lacks("group"))?,
            kind: text("kind").ok_or_else(|| lacks("kind"))?,
            prev: text("prev").ok_or_else(|| lacks("prev"))?,
            hash: text("hash").ok_or_else(|| lacks("hash"))?,
            time: text("time").ok_or_else(|| lacks("time"))?,
            call: text("call"),
            computed: hash(&[hashed.as_bytes()]),
        })
    }

    /// Whether the record matches its hash.
    pub fn intact(&self) -> bool {
        self.hash == self.computed
    }
}

/// The members of an object in their order, with their raw values.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> serde::de::Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((".{0,6}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_line_reads_back_with_its_hash(
            body in prop::collection::vec(("[a-z\\-\"é]{0,7}", values()), 0..6)
        ) {
            let body: Map<String, Value> = body.into_iter().collect();
            let own = body.keys().any(|name| OWN.contains(&name.as_str()));
            let entry = Entry { kind: Kind::Http, essential: false, body: body.clone() };
            let draft = Draft::new(&entry, Timestamp::UNIX_EPOCH);
            prop_assert_eq!(draft.is_err(), own);
            if let Ok(draft) = draft {
                let mut line = String::new();
                let hash = draft.render(7, 5, GENESIS, &mut line);
                let read = Parsed::read(line.trim_end_matches('\n').as_bytes()).unwrap();
                prop_assert!(read.intact());
                prop_assert_eq!(read.hash, hash);
                prop_assert_eq!((read.sequence, read.group), (7, 5));
                let value: Map<String, Value> = serde_json::from_str(&line).unwrap();
                prop_assert_eq!(value.len(), body.len() + OWN.len());
                prop_assert!(value.keys().is_sorted());
                let typed: RecordLine<Map<String, Value>> = serde_json::from_str(&line).unwrap();
                prop_assert!(typed.body.keys().all(|name| body.contains_key(name)));
                prop_assert_eq!(typed.body.len(), body.len());
                prop_assert_eq!((typed.seq, typed.group, typed.kind), (7, 5, Kind::Http));
            }
        }

        #[test]
        fn no_bytes_are_too_strange_to_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Parsed::read(&bytes).is_err());
        }
    }

    #[test]
    fn nothing_in_a_line_acts_on_a_terminal_and_it_reads_as_what_was_noted() {
        let text = "x\n\u{1b}[2J\u{7f}\u{9b}31m\u{9d}\u{202e}\u{200b}\u{2028}\u{e0001}é日";
        let entry = Entry {
            kind: Kind::Denied,
            essential: false,
            body: Map::from_iter([("arguments".to_owned(), json!({ text: text }))]),
        };
        let mut line = String::new();
        Draft::new(&entry, Timestamp::UNIX_EPOCH)
            .unwrap()
            .render(1, 1, GENESIS, &mut line);
        let line = line.trim_end_matches('\n');
        assert!(
            line.chars()
                .all(|c| c.is_ascii_graphic() || " é日".contains(c)),
            "{line}"
        );
        assert!(Parsed::read(line.as_bytes()).unwrap().intact());
        let read: Value = serde_json::from_str(line).unwrap();
        assert_eq!(read["arguments"][text], text);
    }

    #[test]
    fn an_entry_that_does_not_fit_is_made_to() {
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        let body = [
            ("call", json!("a-1")),
            ("arguments", deep),
            ("operation", json!("x".repeat(2 << 20))),
        ];
        let entry = Entry {
            kind: Kind::Denied,
            essential: false,
            body: body
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect(),
        };
        let draft = Draft::new(&entry.shortened(), Timestamp::UNIX_EPOCH).unwrap();
        assert!(draft.bytes() < 4096, "{}", draft.bytes());
        assert_eq!(draft.call.as_deref(), Some("a-1"));
    }

    #[test]
    fn canonical_sorts_at_every_depth() {
        let value = json!({"b": {"z": 1, "a": [ {"y": null, "x": "\u{1}"} ]}, "a": 1.5});
        assert_eq!(
            canonical(&value),
            "{\"a\":1.5,\"b\":{\"a\":[{\"x\":\"\\u0001\",\"y\":null}],\"z\":1}}"
        );
    }

    #[test]
    fn members_twice_or_in_another_order_are_no_record() {
        let entry = Entry {
            kind: Kind::Read,
            essential: false,
            body: Map::from_iter([("call".to_owned(), json!("a"))]),
        };
        let mut line = String::new();
        Draft::new(&entry, Timestamp::UNIX_EPOCH)
            .unwrap()
            .render(1, 1, GENESIS, &mut line);
        let line = line.trim_end();
        assert!(Parsed::read(line.as_bytes()).is_ok());
        let twice = line.replace("\"call\":\"a\"", "\"call\":\"a\",\"call\":\"b\"");
        assert!(Parsed::read(twice.as_bytes()).is_err());
        let spaced = line.replace("\"call\":", "\"call\": ");
        assert!(Parsed::read(spaced.as_bytes()).is_err());
    }
}
