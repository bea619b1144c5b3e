//! Audit records of a call: redacted arguments, fingerprints, and the fields common to all records of a call.
//!
//! Invariant: records are made before profiles are filled in, so none holds a setting of a brokerage; and a long argument
//! (source code, an object) is kept as its digest and length.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};

use qchost_audit::{Audit, AuditError, Entry, Kind};
use qchost_catalog::{Access, Failure, Outcome, aside, length, length_of_members};
use qchost_policy::Person;
use qchost_text::excerpt_bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::call::CallRequest;
use crate::decision::{Decision, Matched};
use crate::fingerprint::{Fingerprints, text_hash};
use crate::kept::RedactedText;
use crate::obligations::{names as names_of, obligations};
use crate::refusal::Refusal;

/// Texts of more bytes than this are kept as digest and length.
const MAX_TEXT: usize = 256;
/// Arguments of a read larger than this many bytes, without their long texts, are kept as digest and length.
const MAX_ARGUMENTS: usize = 16 << 10;
/// The same limit for a refused call, which costs a plugin nothing.
const MAX_REFUSED_ARGUMENTS: usize = 1 << 10;
/// Maximum bytes of the reason of a refusal or a failure.
const MAX_REASON: usize = 1 << 10;

/// Buffer size in bytes for hashing an answer.
const HASH_BUFFER: usize = 4096;

/// A writer that hashes its input.
struct Hashed(Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The SHA-256 of an answer as received.
fn answer_hash(body: &Value) -> String {
    let mut hash = Hashed(Sha256::new());
    // The serializer writes in pieces of a few bytes.
    let mut pieces = BufWriter::with_capacity(HASH_BUFFER, &mut hash);
    // A value is always valid JSON, and the hash accepts all of it.
    drop(serde_json::to_writer(&mut pieces, body));
    drop(pieces);
    format!("sha256:{}", hex::encode(hash.0.finalize()))
}

/// Arguments in the form that is kept and shown.
fn redacted(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() > MAX_TEXT => {
            json!({ "digest": text_hash(text), "bytes": text.len() })
        }
        Value::Array(items) => Value::Array(items.iter().map(redacted).collect()),
        Value::Object(fields) => redacted_object(fields),
        plain => plain.clone(),
    }
}

/// The same for the fields of an object.
pub(crate) fn redacted_object(fields: &Map<String, Value>) -> Value {
    let fields = fields.iter();
    Value::Object(
        fields
            .map(|(name, field)| (name.clone(), redacted(field)))
            .collect(),
    )
}

/// What is known of a call besides the request.
#[derive(Default)]
pub(crate) struct AuditContext<'a> {
    /// Its project, by id and name.
    pub project: Option<&'a (u32, String)>,
    /// The grants that allowed it.
    pub matched: Option<&'a Matched>,
    /// The guardrails that forbade it.
    pub guardrails: &'a [String],
    /// The permit that it uses.
    pub permit: Option<&'a str>,
    /// The approval that gave the permit.
    pub approval: Option<&'a str>,
    /// What was reserved for it.
    pub reservation: Option<i64>,
    /// How often it was sent.
    pub sends: Option<u32>,
}

impl<'a> AuditContext<'a> {
    /// What is known of a call that was allowed.
    pub(crate) fn of(decision: &'a Decision, reservation: Option<i64>) -> Self {
        let permit = decision.permit.as_ref();
        Self {
            project: decision.touched.project.as_ref(),
            matched: Some(&decision.matched),
            guardrails: &[],
            permit: permit.map(|permit| permit.id.as_str()),
            approval: permit.map(|permit| permit.approval.as_str()),
            reservation,
            sends: None,
        }
    }
}

/// The record of a refused call.
pub(crate) fn refused(
    request: &CallRequest,
    context: &AuditContext<'_>,
    refusal: &Refusal,
    fingerprints: &Fingerprints,
) -> Entry {
    let mut body = common(request, context, refusal.word(), fingerprints);
    shorten(&mut body, MAX_REFUSED_ARGUMENTS);
    if let Refusal::ApprovalRequired { id } | Refusal::ApprovalRefused { id, .. } = refusal {
        body.insert("approval".to_owned(), id.as_str().into());
    }
    body.insert("reason".to_owned(), reason(refusal).into());
    Entry {
        kind: Kind::Denied,
        // Nothing was made safer, and a plugin can cause refusals at will.
        essential: false,
        body,
    }
}

/// The record of a write that is about to be sent.
pub(crate) fn intent(
    request: &CallRequest,
    context: &AuditContext<'_>,
    fingerprints: &Fingerprints,
) -> Entry {
    entry(
        Kind::Intent,
        request.access,
        common(request, context, "allowed", fingerprints),
    )
}

/// The record of how a write ended.
///
/// If its answer was lost, its intent stays open, for `qchost audit reconcile` to settle.
pub(crate) fn outcome(
    request: &CallRequest,
    context: &AuditContext<'_>,
    outcome: &Outcome,
) -> Entry {
    let kind = match outcome {
        Err(Failure::UnknownOutcome(_)) => Kind::Lost,
        _ => Kind::Outcome,
    };
    let mut body = identity(request);
    links(&mut body, context);
    ending(&mut body, request, outcome);
    entry(kind, request.access, body)
}

/// The complete record of a read, made once its answer is there.
pub(crate) fn read(
    request: &CallRequest,
    context: &AuditContext<'_>,
    outcome: &Outcome,
    fingerprints: &Fingerprints,
) -> Entry {
    let mut body = common(request, context, "allowed", fingerprints);
    shorten(&mut body, MAX_ARGUMENTS);
    ending(&mut body, request, outcome);
    entry(Kind::Read, request.access, body)
}

/// Keeps arguments of many short texts as digest and length, so that a refused call cannot be kept out of the audit by
/// padding it. (The arguments of a write are kept whole, for `reconcile`; a write whose record does not fit is not sent.)
fn shorten(body: &mut Map<String, Value>, most: usize) {
    if let Some(arguments) = body.get_mut("arguments") {
        let text = arguments.to_string();
        if text.len() > most {
            *arguments = json!({ "digest": text_hash(&text), "bytes": text.len() });
        }
    }
}

/// The text of a refusal or a failure; it may contain untrusted words.
fn reason(error: &impl ToString) -> String {
    excerpt_bytes(&error.to_string(), MAX_REASON)
}

fn ending(body: &mut Map<String, Value>, request: &CallRequest, outcome: &Outcome) {
    match outcome {
        Ok(answer) => {
            body.insert("outcome".to_owned(), "answered".into());
            let hash = aside(length(answer), || answer_hash(answer));
            body.insert("response-hash".to_owned(), hash.into());
        }
        Err(failure) => {
            body.insert("outcome".to_owned(), failure.word().into());
            body.insert("reason".to_owned(), reason(failure).into());
        }
    }
    let latency = u64::try_from(request.started_at.elapsed().as_micros()).unwrap_or(u64::MAX);
    body.insert("latency-us".to_owned(), latency.into());
}

fn entry(kind: Kind, access: Access, body: Map<String, Value>) -> Entry {
    Entry {
        kind,
        essential: access == Access::Reduce,
        body,
    }
}

fn common(
    request: &CallRequest,
    context: &AuditContext<'_>,
    decision: &str,
    fingerprints: &Fingerprints,
) -> Map<String, Value> {
    let mut body = identity(request);
    links(&mut body, context);
    let policy = &request.policy;
    let mut text =
        |name: &str, kept: &RedactedText| body.insert(name.to_owned(), (*kept.digest).into());
    text("manifest", &policy.authority.text);
    text("guardrails", &policy.settings.guardrails_text);
    text("configuration", &policy.settings.configuration_text);
    if let Some(pending) = &policy.pending {
        text("manifest-pending", &pending.text);
    }
    if let Some(pending) = &policy.settings.configuration_pending {
        text("configuration-pending", pending);
    }
    let (arguments, print) = aside(length_of_members(&request.arguments), || {
        let arguments = redacted_object(&request.arguments);
        (arguments, fingerprints.of_arguments(&request.arguments))
    });
    body.insert("arguments".to_owned(), arguments);
    body.insert("arguments-hmac".to_owned(), print.into());
    body.insert("decision".to_owned(), decision.into());
    let reads = request.read_charges.reads();
    if reads > 0 {
        body.insert("host-reads".to_owned(), reads.into());
    }
    if let Some(matched) = context.matched {
        let names: Vec<Cow<'_, str>> = obligations(request, matched)
            .map(|(name, _)| name)
            .collect();
        body.insert("grants".to_owned(), json!(names));
        // The same name may denote different grants in the two manifests.
        if let Some(pending) = &request.policy.pending {
            let named = |authority, places| json!(names_of(authority, request.is_http(), places));
            let serving = named(&request.policy.authority, &matched.grants);
            body.insert("grants-serving".to_owned(), serving);
            let pending = named(pending, &matched.pending);
            body.insert("grants-pending".to_owned(), pending);
        }
    }
    if !context.guardrails.is_empty() {
        body.insert("policies".to_owned(), json!(context.guardrails));
    }
    body
}

/// Adds the fields that link the records of a call to each other and to other records.
fn links(body: &mut Map<String, Value>, context: &AuditContext<'_>) {
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let project = context.project;
    put(
        "project",
        project.map(|(id, name)| json!({ "id": id, "name": name })),
    );
    put("permit", context.permit.map(Value::from));
    put("approval", context.approval.map(Value::from));
    put("reservation", context.reservation.map(Value::from));
    put("sends", context.sends.map(Value::from));
}

fn identity(request: &CallRequest) -> Map<String, Value> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("call", request.call.as_str().into());
    put("account", request.account().into());
    put("plugin", request.plugin().into());
    put("digest", (*request.principal.digest).into());
    put("invocation", (*request.principal.invocation).into());
    if let Some(person) = request.principal.person {
        put("person", person.into());
    }
    put("operation", request.name.as_ref().into());
    put("access", request.access.word().into());
    body
}

/// Records an action of a person, durably.
pub(crate) async fn admin(
    audit: &Audit,
    kind: Kind,
    by: &Person,
    body: Value,
) -> Result<(), AuditError> {
    let entry = Entry {
        kind,
        essential: false,
        body: admin_body(by, body),
    };
    audit.record(entry).await.map(drop)
}

/// The audit body of an administrative action.
pub(crate) fn admin_body(by: &Person, body: Value) -> Map<String, Value> {
    let mut fields = match body {
        Value::Object(fields) => fields,
        other => Map::from_iter([("what".to_owned(), other)]),
    };
    fields.insert("person".to_owned(), by.uid.into());
    fields.insert("person-name".to_owned(), by.name.as_str().into());
    fields
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn equal_values_have_equal_fingerprints_whatever_their_order() {
        let fingerprints = Fingerprints::new(Zeroizing::new(b"key".to_vec()));
        let one = json!({ "a": 1, "b": [{ "x": "\"", "y": null }] });
        let two = json!({ "b": [{ "y": null, "x": "\"" }], "a": 1 });
        assert_eq!(fingerprints.of("l", &one), fingerprints.of("l", &two));
        assert_ne!(fingerprints.of("l", &one), fingerprints.of("m", &one));
        for other in [
            json!({ "a": 2, "b": [{ "x": "\"", "y": null }] }),
            json!({ "a": 1 }),
        ] {
            assert_ne!(fingerprints.of("l", &one), fingerprints.of("l", &other));
        }
        let other = Fingerprints::new(Zeroizing::new(b"another".to_vec()));
        assert_ne!(fingerprints.of("l", &one), other.of("l", &one));
    }

    #[test]
    fn long_texts_are_kept_as_digest_and_length() {
        let kept = redacted(&json!({ "content": "x".repeat(257), "name": "main.py" }));
        assert_eq!(kept["name"], "main.py");
        assert_eq!(kept["content"]["bytes"], 257);
        assert_eq!(kept["content"]["digest"], text_hash(&"x".repeat(257)));
    }

    #[test]
    fn arguments_of_many_short_texts_are_kept_as_digest_and_length() {
        for (texts, whole) in [(70, true), (100, false), (10_000, false)] {
            let arguments = json!({ "a": vec!["x".repeat(200); texts] });
            let mut body = Map::from_iter([("arguments".to_owned(), arguments.clone())]);
            shorten(&mut body, MAX_ARGUMENTS);
            assert_eq!(body["arguments"] == arguments, whole);
            if !whole {
                assert_eq!(body["arguments"]["bytes"], arguments.to_string().len());
            }
            assert!(Value::Object(body).to_string().len() < qchost_audit::MAX_BODY);
        }
    }
}
