//! Validates policies against the schema, asking Cedar once for all policies of the same form.
//!
//! Cedar's types contain no texts: of two policies that differ only in names of projects, either both are valid or neither
//! is. Validating takes ten milliseconds, and an operator's rules are often of one form.
//!
//! Invariant: a policy is accepted without validation only if one of the same form is valid.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use cedar_policy::{
    Policy, PolicySet, ValidationError, ValidationMode, ValidationWarning, Validator,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::engine::{PolicyError, schema};

/// Maximum number of remembered forms, which bounds memory when guardrails change often.
const MAX_FORMS: usize = 4096;

/// Digests of the valid forms.
static VALID_FORMS: LazyLock<Mutex<HashSet<[u8; 32]>>> = LazyLock::new(Mutex::default);

static VALIDATOR: LazyLock<Result<Validator, String>> = LazyLock::new(|| {
    let schema = schema().map_err(|error| error.to_string())?;
    Ok(Validator::new(schema.clone()))
});

/// The validator.
pub(crate) fn validator() -> Result<&'static Validator, PolicyError> {
    VALIDATOR.as_ref().map_err(|message| PolicyError::Compile {
        what: "the schema of guardrails".to_owned(),
        message: message.clone(),
    })
}

/// Why a policy cannot be a guardrail.
pub(super) enum Invalid {
    Policy(String),
    Error(Box<ValidationError>),
    Never(Box<ValidationWarning>),
}

/// Checks one policy, given with its JSON: converting it takes Cedar as long as parsing. Policies are checked individually,
/// since the validator's time grows with the square of their number.
pub(super) fn check(policy: &Policy, json: &Value) -> Result<Result<(), Invalid>, PolicyError> {
    let validator = validator()?;
    let form = form(json.clone());
    if VALID_FORMS.lock().contains(&form) {
        return Ok(Ok(()));
    }
    let found = validate(validator, policy);
    if found.is_ok() {
        let mut forms = VALID_FORMS.lock();
        if forms.len() >= MAX_FORMS {
            forms.clear();
        }
        forms.insert(form);
    }
    Ok(found)
}

fn validate(validator: &Validator, policy: &Policy) -> Result<(), Invalid> {
    let set = PolicySet::from_policies([policy.clone()])
        .map_err(|error| Invalid::Policy(error.to_string()))?;
    let checked = validator.validate(&set, ValidationMode::Strict);
    if let Some(error) = checked.validation_errors().next() {
        return Err(Invalid::Error(Box::new(error.clone())));
    }
    // Names in several alphabets are the operator's choice.
    let never = |warning: &&ValidationWarning| {
        matches!(
            warning,
            ValidationWarning::ImpossiblePolicy(_)
                | ValidationWarning::InvalidActionApplication(_)
                | ValidationWarning::BidiCharsInString(_)
                | ValidationWarning::BidiCharsInIdentifier(_)
        )
    };
    match checked.validation_warnings().find(never) {
        Some(warning) => Err(Invalid::Never(Box::new(warning.clone()))),
        None => Ok(()),
    }
}

/// A digest of everything in the policy's JSON that Cedar's verdict depends on.
fn form(mut policy: Value) -> [u8; 32] {
    if let Some(fields) = policy.as_object_mut() {
        fields.remove("annotations");
    }
    normalize(&mut policy, &mut HashMap::new());
    Sha256::digest(policy.to_string()).into()
}

/// Numbers the texts, so that equal texts stay equal: Cedar knows that `"a" == "a"`.
fn normalize(json: &mut Value, texts: &mut HashMap<String, usize>) {
    let Value::Object(fields) = json else {
        return;
    };
    // Actions and roles are in the schema, by name.
    let is_free = |of: &Value| !matches!(of.as_str(), Some("Action" | "Role") | None);
    if fields.get("type").is_some_and(is_free)
        && let Some(id) = fields.get_mut("id")
    {
        number(id, texts);
        return;
    }
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("Value", value @ Value::String(_)) => number(value, texts),
            ("Set" | "conditions", Value::Array(items)) => {
                items.iter_mut().for_each(|item| normalize(item, texts));
            }
            ("pattern", pattern @ Value::Array(_)) if is_ascii(pattern) => *pattern = Value::Null,
            // Arguments of functions: whether `decimal("x")` is a number depends on the text.
            (_, Value::Array(_)) => {}
            (_, value) => normalize(value, texts),
        }
    }
}

fn number(value: &mut Value, texts: &mut HashMap<String, usize>) {
    let Value::String(text) = value else {
        return;
    };
    // Texts with other alphabets may cause warnings.
    if text.is_ascii() {
        let next = texts.len();
        *value = json!({ "text": *texts.entry(std::mem::take(text)).or_insert(next) });
    }
}

fn is_ascii(pattern: &Value) -> bool {
    let mut parts = pattern.as_array().into_iter().flatten();
    parts.all(|part| {
        let literal = part.get("Literal").and_then(Value::as_str);
        literal.is_none_or(str::is_ascii)
    })
}
