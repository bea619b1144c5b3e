//! Whether a policy fits the schema, asked of Cedar once for all policies of a form.
//!
//! Cedar's types have no texts in them: of two policies that differ in nothing but names of projects, the one fits if the
//! other does. To ask takes ten milliseconds, and an operator's rules are often of one form.
//!
//! Invariant: what is not asked is a policy of the form of one that fits.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, Mutex, PoisonError};

use cedar_policy::{
    Policy, PolicySet, ValidationError, ValidationMode, ValidationWarning, Validator,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::engine::{PolicyError, schema};

/// The most forms that are remembered, so that those who change guardrails all day take no more memory.
const MAX_FORMS: usize = 4096;

/// The forms that fit, by their digests.
static FORMS: LazyLock<Mutex<HashSet<[u8; 32]>>> = LazyLock::new(Mutex::default);

static VALIDATOR: LazyLock<Result<Validator, String>> = LazyLock::new(|| {
    let schema = schema().map_err(|error| error.to_string())?;
    Ok(Validator::new(schema.clone()))
});

/// What validates policies.
pub(crate) fn validator() -> Result<&'static Validator, PolicyError> {
    VALIDATOR.as_ref().map_err(|message| PolicyError::Compile {
        what: "the schema of guardrails".to_owned(),
        message: message.clone(),
    })
}

/// Why a policy cannot be a guardrail.
pub(super) enum Wrong {
    Policy(String),
    Error(Box<ValidationError>),
    Never(Box<ValidationWarning>),
}

/// Checks one policy, which is this in JSON: to make that takes Cedar as long as to parse it. One by one: what the validator takes for a set grows with the square of its policies.
pub(super) fn check(policy: &Policy, json: &Value) -> Result<Result<(), Wrong>, PolicyError> {
    let validator = validator()?;
    let form = form(json.clone());
    if forms().contains(&form) {
        return Ok(Ok(()));
    }
    let found = one(validator, policy);
    if found.is_ok() {
        let mut forms = forms();
        if forms.len() >= MAX_FORMS {
            forms.clear();
        }
        forms.insert(form);
    }
    Ok(found)
}

fn forms() -> std::sync::MutexGuard<'static, HashSet<[u8; 32]>> {
    FORMS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn one(validator: &Validator, policy: &Policy) -> Result<(), Wrong> {
    let set = PolicySet::from_policies([policy.clone()])
        .map_err(|error| Wrong::Policy(error.to_string()))?;
    let checked = validator.validate(&set, ValidationMode::Strict);
    if let Some(error) = checked.validation_errors().next() {
        return Err(Wrong::Error(Box::new(error.clone())));
    }
    // Names in several alphabets are the operator's business.
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
        Some(warning) => Err(Wrong::Never(Box::new(warning.clone()))),
        None => Ok(()),
    }
}

/// What Cedar's verdict on a policy depends on, of the policy's JSON.
fn form(mut policy: Value) -> [u8; 32] {
    if let Some(fields) = policy.as_object_mut() {
        fields.remove("annotations");
    }
    blank(&mut policy, &mut HashMap::new());
    Sha256::digest(policy.to_string()).into()
}

/// Numbers the texts, so that those that are the same still are: Cedar knows that `"a" == "a"`.
fn blank(json: &mut Value, texts: &mut HashMap<String, usize>) {
    let Value::Object(fields) = json else {
        return;
    };
    // The actions and the roles are in the schema, by their names.
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
                items.iter_mut().for_each(|item| blank(item, texts));
            }
            ("pattern", pattern @ Value::Array(_)) if is_ascii(pattern) => *pattern = Value::Null,
            // What a function is given: whether `decimal("x")` is a number depends on the text.
            (_, Value::Array(_)) => {}
            (_, value) => blank(value, texts),
        }
    }
}

fn number(value: &mut Value, texts: &mut HashMap<String, usize>) {
    let Value::String(text) = value else {
        return;
    };
    // What other alphabets have in them may be warned about.
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
