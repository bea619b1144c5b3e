//! The schema that guardrails are validated against, made from the catalog.

use std::fmt::Write as _;
use std::sync::LazyLock;

use cedar_policy::Schema;

use super::actions::{Action, actions};
use super::error::PolicyError;
use crate::roles::Right;

const TYPES: &str = r#"// What a guardrail can speak of. An attribute with a question mark is not always there: test it with
// `context has cost` before it is used.

// Who: a plugin, by its name, with the account that it works for and the code that runs; or a person.
entity Plugin = { name: String, account: String, digest: String };
entity Role enum ["viewer", "operator", "approver", "admin"];
entity Person in [Role] = { name: String, uid: Long };

// On what. The id of a project is its number; one that is yet to be made, or a name that is yet to be
// given, has none.
entity Account = { name: String };
entity Organization = { id: String };
entity Project = { id?: Long, name: String, created: Bool };
entity Object = { organization: String, key: String };
entity Url = { scheme: String, host: String, port: Long, path: String, method: String };
entity Host;

// What else is known of a plugin's call is its context, of which each operation has its own. `live` says whether real
// money, or rights over it, may be at stake; `cost` is in US dollars, as the host reckons it.
type Brokerage = { profile: String, live: Bool };

// What the host established about the project by its own reads: how often its strategy was tried on history. It is there
// only if all of these reads succeeded, so forbid `unless` it is there and low enough.
type Evidence = { trials: Long };

// What a person acts on at the control socket: the name of a plugin or an account, if it is one.
type Control = { target?: String };

"#;

struct Texts {
    text: String,
    schema: Result<Schema, String>,
}

static SCHEMA: LazyLock<Texts> = LazyLock::new(|| {
    let text = write();
    let schema = Schema::from_cedarschema_str(&text)
        .map(|(schema, _)| schema)
        .map_err(|error| error.to_string());
    Texts { text, schema }
});

fn write() -> String {
    let mut text = TYPES.to_owned();
    let mut groups: Vec<&str> = Vec::new();
    for action in actions() {
        for group in &action.groups {
            if !groups.contains(group) {
                groups.push(group);
            }
        }
    }
    text.push_str("// Groups of operations: by interface, and by what they can do.\n");
    for group in groups {
        push(&mut text, format_args!("action \"{group}\";\n"));
    }
    text.push_str("action \"person\";\n\n// The operations.\n");
    for action in actions() {
        let groups: Vec<_> = action.groups.iter().map(|g| format!("\"{g}\"")).collect();
        let kinds: Vec<_> = action.kinds.iter().map(|kind| kind.entity()).collect();
        push(
            &mut text,
            format_args!(
                "action \"{}\" in [{}] appliesTo {{ principal: Plugin, resource: [{}], context: {{ {} }} }};\n",
                action.name,
                groups.join(", "),
                kinds.join(", "),
                context(action)
            ),
        );
    }
    text.push_str(
        "\n// What persons do. A guardrail is about persons if its principal is a Person or a Role, if it names one of these\n\
         // actions or Host, or if a condition speaks of them; status, halt, refuse and reduce no guardrail can deny.\n",
    );
    for right in Right::ALL {
        push(
            &mut text,
            format_args!(
                "action \"{}\" in [\"person\"] appliesTo {{ principal: Person, resource: Host, context: Control }};\n",
                right.action()
            ),
        );
    }
    text
}

/// What the context of an action's calls has or may have.
fn context(action: &Action) -> String {
    let optional = action.attributes.iter();
    let optional = optional.map(|attribute| format!("{}?: {}", attribute.name, attribute.ty));
    let all: Vec<_> = std::iter::once("live: Bool".to_owned())
        .chain(optional)
        .collect();
    all.join(", ")
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = text.write_fmt(line);
}

/// The schema of guardrails, in Cedar's own form.
#[must_use]
pub fn cedar_schema() -> &'static str {
    &SCHEMA.text
}

/// The schema, read.
pub(crate) fn schema() -> Result<&'static Schema, PolicyError> {
    SCHEMA
        .schema
        .as_ref()
        .map_err(|message| PolicyError::Compile {
            what: "the schema of guardrails".to_owned(),
            message: message.clone(),
        })
}
