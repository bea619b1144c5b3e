//! Audit records of a call: redacted arguments, fingerprints, and the members common to all records of a call.
//!
//! Invariant: records are made before profiles are filled in, so none holds a setting of a brokerage; and a long argument
//! (source code, an object) is kept as its digest and length.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use qchost_audit::{Entry, Kind};
use qchost_catalog::{Access, Failure, Outcome, aside, length, length_of_members};
use qchost_text::excerpt_bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::body::{CallBody, Project};
use crate::call::CallRequest;
use crate::decision::{CallDecision, Matched};
use crate::fingerprint::{Fingerprints, text_hash};
use crate::obligations::{names as names_of, obligations};
use crate::redacted_text::RedactedText;
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
struct HashWriter(Sha256);

impl Write for HashWriter {
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
    let mut hash = HashWriter(Sha256::new());
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
    /// The age of its answer, if the cache gave it.
    pub cached: Option<Duration>,
}

impl<'a> AuditContext<'a> {
    /// What is known of a call that was allowed.
    pub(crate) fn of(decision: &'a CallDecision, reservation: Option<i64>) -> Self {
        let permit = decision.permit.as_ref();
        Self {
            project: decision.touched.project.as_ref(),
            matched: Some(&decision.matched),
            guardrails: &[],
            permit: permit.map(|permit| permit.id.as_str()),
            approval: permit.map(|permit| permit.approval.as_str()),
            reservation,
            sends: None,
            cached: None,
        }
    }
}

/// A record of a call, before it is handed to the audit.
#[derive(Debug, Clone)]
pub(crate) struct CallRecord {
    pub kind: Kind,
    /// Whether it may use the audit's reserve.
    pub essential: bool,
    pub body: CallBody,
}

impl CallRecord {
    fn new(kind: Kind, request: &CallRequest, body: CallBody) -> Self {
        Self {
            kind,
            essential: request.access == Access::Reduce,
            body,
        }
    }

    /// Its entry in the audit.
    pub(crate) fn entry(&self) -> Entry {
        Entry::new(self.kind, self.essential, &self.body)
    }
}

/// The record of a refused call.
pub(crate) fn refused(
    request: &CallRequest,
    context: &AuditContext<'_>,
    refusal: &Refusal,
    fingerprints: &Fingerprints,
) -> CallRecord {
    let mut body = common(request, context, refusal.word(), fingerprints);
    shorten(&mut body, MAX_REFUSED_ARGUMENTS);
    if let Refusal::ApprovalRequired { id } | Refusal::ApprovalRefused { id, .. } = refusal {
        body.approval = Some(id.clone());
    }
    body.reason = Some(reason(refusal));
    CallRecord {
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
) -> CallRecord {
    let body = common(request, context, "allowed", fingerprints);
    CallRecord::new(Kind::Intent, request, body)
}

/// The record of how a write ended.
///
/// If its answer was lost, its intent stays open, for `qchost audit reconcile` to settle.
pub(crate) fn outcome(
    request: &CallRequest,
    context: &AuditContext<'_>,
    outcome: &Outcome,
) -> CallRecord {
    let kind = match outcome {
        Err(Failure::UnknownOutcome(_)) => Kind::Lost,
        _ => Kind::Outcome,
    };
    let mut body = identity(request, context);
    ending(&mut body, request, outcome);
    CallRecord::new(kind, request, body)
}

/// The complete record of a read, made once its answer is there.
pub(crate) fn read(
    request: &CallRequest,
    context: &AuditContext<'_>,
    outcome: &Outcome,
    fingerprints: &Fingerprints,
) -> CallRecord {
    let mut body = common(request, context, "allowed", fingerprints);
    shorten(&mut body, MAX_ARGUMENTS);
    ending(&mut body, request, outcome);
    CallRecord::new(Kind::Read, request, body)
}

/// Keeps arguments of many short texts as digest and length, so that a refused call cannot be kept out of the audit by
/// padding it. (The arguments of a write are kept whole, for `reconcile`; a write whose record does not fit is not sent.)
fn shorten(body: &mut CallBody, max_bytes: usize) {
    if let Some(arguments) = &mut body.arguments {
        let text = arguments.to_string();
        if text.len() > max_bytes {
            *arguments = json!({ "digest": text_hash(&text), "bytes": text.len() });
        }
    }
}

/// The text of a refusal or a failure; it may contain untrusted words.
fn reason(error: &impl ToString) -> String {
    excerpt_bytes(&error.to_string(), MAX_REASON)
}

fn ending(body: &mut CallBody, request: &CallRequest, outcome: &Outcome) {
    let word = match outcome {
        Ok(answer) => {
            body.response_hash = Some(aside(length(answer), || answer_hash(answer)));
            "answered"
        }
        Err(failure) => {
            body.reason = Some(reason(failure));
            failure.word()
        }
    };
    body.outcome = Some(Some(word.to_owned()));
    body.latency_us = Some(latency(request));
}

/// The time since a call was requested, in microseconds.
pub(crate) fn latency(request: &CallRequest) -> u64 {
    u64::try_from(request.started_at.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn common(
    request: &CallRequest,
    context: &AuditContext<'_>,
    decision: &str,
    fingerprints: &Fingerprints,
) -> CallBody {
    let policy = &request.policy;
    let digest = |kept: &RedactedText| Some(kept.digest.to_string());
    let (arguments, print) = aside(length_of_members(&request.arguments), || {
        let arguments = redacted_object(&request.arguments);
        (arguments, fingerprints.of_arguments(&request.arguments))
    });
    let pending = policy.pending.as_deref();
    let mut body = CallBody {
        manifest: digest(&policy.authority.text),
        guardrails: digest(&policy.settings.guardrails_text),
        configuration: digest(&policy.settings.configuration_text),
        manifest_pending: pending.and_then(|pending| digest(&pending.text)),
        configuration_pending: policy
            .settings
            .configuration_pending
            .as_deref()
            .and_then(digest),
        arguments: Some(arguments),
        arguments_hmac: Some(print),
        decision: Some(decision.to_owned()),
        host_reads: Some(request.read_charges.reads()).filter(|reads| *reads > 0),
        policies: context.guardrails.to_vec(),
        ..identity(request, context)
    };
    if let Some(matched) = context.matched {
        let names = obligations(request, matched).map(|(name, _)| name.into_owned());
        body.grants = Some(names.collect());
        // The same name may denote different grants in the two manifests.
        if let Some(pending) = pending {
            let named = |authority, indexes| Some(names_of(authority, request.is_http(), indexes));
            body.grants_serving = named(&policy.authority, &matched.grants);
            body.grants_pending = named(pending, &matched.pending);
        }
    }
    body
}

/// Who called what, and the members that link the records of a call to each other and to other records.
fn identity(request: &CallRequest, context: &AuditContext<'_>) -> CallBody {
    let project = context.project.map(|(id, name)| Project {
        id: *id,
        name: Some(name.clone()),
    });
    CallBody {
        call: request.call.clone(),
        account: request.account().to_owned(),
        plugin: request.plugin().to_owned(),
        digest: Some(request.principal.digest.to_string()),
        invocation: Some(request.principal.invocation.to_string()),
        action: request.principal.action.as_deref().map(str::to_owned),
        alias: request.principal.alias.as_deref().map(str::to_owned),
        person: request.principal.person,
        operation: request.name.to_string(),
        access: Some(request.access.word().to_owned()),
        project: project.map(Some),
        permit: context.permit.map(str::to_owned),
        approval: context.approval.map(str::to_owned),
        reservation: context.reservation,
        sends: context.sends,
        cached_ms: context
            .cached
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        ..CallBody::default()
    }
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
            let mut body = CallBody {
                arguments: Some(arguments.clone()),
                ..CallBody::default()
            };
            shorten(&mut body, MAX_ARGUMENTS);
            let kept = body.arguments.clone().unwrap();
            assert_eq!(kept == arguments, whole);
            if !whole {
                assert_eq!(kept["bytes"], arguments.to_string().len());
            }
            assert!(json!(body).to_string().len() < qchost_audit::MAX_BODY);
        }
    }
}
