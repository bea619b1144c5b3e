//! The form of the names in a guardrail.
//!
//! Cedar checks types only, and accepts any text as an entity's name: `Project::"Lab/a"` is well formed but can never
//! exist. So the names are checked here.

use serde_json::{Value, json};

use crate::manifest::is_name;

/// Checks the form of every entity in a policy, given in Cedar's JSON. The error explains the correct form.
pub(super) fn check_ids(policy: &Value) -> Result<(), String> {
    match policy {
        Value::Array(items) => items.iter().try_for_each(check_ids),
        Value::Object(fields) => {
            if let (Some(of), Some(id)) = (fields.get("type"), fields.get("id"))
                && let (Some(of), Some(id)) = (of.as_str(), id.as_str())
            {
                check_id(of, id)?;
            }
            fields.values().try_for_each(check_ids)
        }
        _ => Ok(()),
    }
}

fn check_id(of: &str, id: &str) -> Result<(), String> {
    let (fits, form) = match of {
        "Plugin" => (
            is_name(id)
                || id
                    .strip_prefix("operator@")
                    .is_some_and(|rest| !rest.is_empty()),
            "the id of a plugin is its name in its manifest: letters, digits and dashes".to_owned(),
        ),
        "Project" => (
            id == "new"
                || id
                    .parse::<u32>()
                    .is_ok_and(|number| number.to_string() == id),
            format!(
                "the id of a project is its number; for its name, write: resource is Project) when {{ resource.name == {} }}",
                json!(id)
            ),
        ),
        "Organization" => (
            !id.is_empty()
                && id
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c)),
            "the id of an organisation has letters, digits, `-`, `_`, `.` and `:`".to_owned(),
        ),
        "Object" => (
            id.split_once('/').is_some_and(|(organization, key)| {
                !organization.is_empty() && !key.is_empty() && !key.starts_with('/')
            }),
            "the id of an object is its organisation's, `/` and its key".to_owned(),
        ),
        "Url" => (
            is_address(id),
            "the id of an address is SCHEME://HOST:PORT/PATH, with its port and without a query"
                .to_owned(),
        ),
        "Account" | "Person" => (!id.is_empty(), "it is empty".to_owned()),
        // Cedar itself checks all others.
        _ => return Ok(()),
    };
    if fits {
        return Ok(());
    }
    Err(format!(
        "can never apply: there is no {of}::{}; {form}",
        json!(id)
    ))
}

fn is_address(id: &str) -> bool {
    let Some((scheme, rest)) = id.split_once("://") else {
        return false;
    };
    let Some((host, rest)) = rest
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains('/'))
    else {
        return false;
    };
    let port = rest.split('/').next().unwrap_or_default();
    matches!(scheme, "http" | "https")
        && !host.is_empty()
        && port.parse::<u16>().is_ok()
        && rest.contains('/')
        && !rest.contains(['?', '#'])
}
