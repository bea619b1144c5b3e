//! The operator's guardrails: `qchost_policy::Guardrails::read`.
//!
//! What is accepted can be kept and read again, compiles, and is asked without a failure of the host's. What is refused is
//! refused in one bounded line with the file and the line in it. Nothing overflows the stack of the thread that reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qchost_catalog::{Access, OPERATIONS};
use qchost_policy::{
    Authority, Facts, Guardrails, Manifest, People, Person, PolicyError, Project, Resource, Right,
    Role,
};

const FILE: &str = "/policies/fuzzed.cedar";
/// The longest refusal, without the file and the line.
const ERROR: usize = 4100;

const MANIFEST: &str = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\n[[grant]]\nname = \"g\"\n\
    allow = [\"files/*\"]\nprojects = [\"*\"]\n";

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Guardrails::read(&[(PathBuf::from(FILE), text.to_owned())]) {
        Ok(guardrails) => accepted(&guardrails),
        Err(error) => refused(text, &error),
    }
}

fn accepted(guardrails: &Guardrails) {
    let kept = guardrails.stored();
    let again = Guardrails::from_stored(&kept).unwrap_or_else(|error| panic!("{error}: {kept:?}"));
    assert_eq!(again.stored(), kept);
    assert_eq!(again.revision(), guardrails.revision());
    assert_eq!(again.without(guardrails).ids().count(), 0);
    let manifest = Manifest::parse(MANIFEST, Path::new("/lab.toml")).expect("it is a manifest");
    let authority = Authority::new(Arc::new(manifest), guardrails)
        .unwrap_or_else(|error| panic!("no policies: {error}"));
    let facts = Facts::of(Resource::Project(Project {
        id: Some(1),
        name: "Lab/x".to_owned(),
        created: false,
    }));
    let decision = authority.decide("sha256:0", "files/read-file", Access::Read, &facts);
    assert_eq!(decision.allowed, decision.denial.is_none());
    assert_eq!(decision.allowed, decision.guardrails.is_empty());
    let person = Person {
        uid: 1,
        name: "otto".to_owned(),
        roles: [Role::Operator].into(),
    };
    let people = People::new([person.clone()], guardrails).expect("there is one person");
    assert!(people.decide(&person, Right::Halt, None).allowed);
    assert_eq!(
        guardrails.ids().count() == 0,
        guardrails.revision() == Guardrails::none().revision()
    );
}

fn refused(text: &str, error: &PolicyError) {
    let PolicyError::Guardrail {
        path,
        line,
        message,
    } = error
    else {
        panic!("neither read nor compiled: {error}");
    };
    assert_eq!(path, Path::new(FILE));
    assert!(
        (1..=text.lines().count() + 1).contains(line),
        "line {line} of {text:?}"
    );
    crate::assert_line(message, ERROR);
}

/// The words of Cedar, and those of the schema.
pub(crate) fn words() -> Vec<String> {
    let words = [
        "forbid (principal, action, resource)",
        "permit",
        "@id(\"a\")",
        "when { true }",
        "unless { false }",
        "principal",
        "action",
        "resource",
        "context",
        " && ",
        " || ",
        " == ",
        " != ",
        " in ",
        " is ",
        " has ",
        " like ",
        "!(",
        "((((",
        "))))",
        "[[[[",
        "{a: ",
        "if context.live then ",
        " else ",
        "1 + ",
        ".contains(",
        "decimal(\"1.0\")",
        "context.live",
        "context has cost && ",
        "resource.name",
        "resource is Project",
        "Project::\"1\"",
        "Plugin::\"lab\"",
        "Person::\"otto\"",
        "Role::\"operator\"",
        "Host::\"\"",
        "Action::\"person/halt\"",
        "Action::\"trade\"",
        "?principal",
        "//",
        "\\u{202e}",
        ";\n",
    ];
    let actions = OPERATIONS.iter().step_by(7);
    let actions = actions.map(|operation| format!("Action::\"{}\"", operation.name));
    words
        .map(str::to_owned)
        .into_iter()
        .chain(actions)
        .collect()
}
