//! What people may do, by their roles and under guardrails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::PathBuf;

use qchost_policy::{Guardrails, People, Person, Right, Role};

fn person(uid: u32, name: &str, roles: &[Role]) -> Person {
    Person {
        uid,
        name: name.to_owned(),
        roles: roles.iter().copied().collect(),
    }
}

fn people(guardrails: &str) -> People {
    let files = [(PathBuf::from("people.cedar"), guardrails.to_owned())];
    let persons = [
        person(1, "vera", &[Role::Viewer]),
        person(2, "otto", &[Role::Operator]),
        person(3, "ada", &[Role::Approver]),
        person(4, "root", &[Role::Admin]),
        person(5, "both", &[Role::Operator, Role::Approver]),
        person(6, "guest", &[]),
    ];
    People::new(persons, &Guardrails::read(&files).unwrap()).unwrap()
}

/// Which role may do what, from the specification.
const MAY: &[(Right, &[&str])] = &[
    (Right::Status, &["vera", "otto", "ada", "root", "both"]),
    (Right::Grants, &["vera", "otto", "ada", "root", "both"]),
    (
        Right::ListApprovals,
        &["vera", "otto", "ada", "root", "both"],
    ),
    (Right::ReadAudit, &["vera", "otto", "ada", "root", "both"]),
    (Right::Invoke, &["otto", "root", "both"]),
    (Right::Call, &["otto", "root", "both"]),
    (Right::Reduce, &["otto", "root", "both"]),
    (Right::Explain, &["otto", "root", "both"]),
    (Right::Halt, &["otto", "root", "both"]),
    (Right::Resume, &["otto", "root", "both"]),
    (Right::Approve, &["ada", "root", "both"]),
    (Right::Refuse, &["ada", "root", "both"]),
    (Right::Reconcile, &["root"]),
    (Right::Reload, &["root"]),
    (Right::Backup, &["root"]),
    (Right::Authorize, &["root"]),
];

#[test]
fn roles_say_who_may_do_what() {
    let people = people("");
    let rights: Vec<_> = MAY.iter().map(|(right, _)| *right).collect();
    assert_eq!(rights, Right::ALL, "the table is complete");
    for (right, may) in MAY {
        for person in people.iter() {
            let decision = people.decide(person, *right, None);
            let expected = may.contains(&person.name.as_str());
            assert_eq!(
                decision.allowed, expected,
                "{} {right:?}: {decision:?}",
                person.name
            );
            assert_eq!(decision.denial.is_none(), expected);
        }
    }
}

#[test]
fn a_denial_says_which_role_it_takes() {
    let people = people("");
    let reason = |uid, right| {
        let person = people.by_uid(uid).unwrap();
        people.decide(person, right, None).denial.unwrap().reason
    };
    assert_eq!(
        reason(1, Right::Approve),
        "vera may not do `approve`: that needs approver or admin, and they have the role viewer"
    );
    assert_eq!(
        reason(6, Right::Status),
        "guest may not do `status`: that needs viewer or operator or approver or admin, and they have no role"
    );
    assert!(people.by_uid(7).is_none());
}

#[test]
fn a_guardrail_forbids_persons_too() {
    let people = people(
        "@id(\"otto-not-live\")\nforbid (principal == Person::\"otto\", action == Action::\"person/invoke\", resource)\n\
         when { context has target && context.target == \"live-trader\" };\n\
         @id(\"no-lone-admin\")\nforbid (principal in Role::\"admin\", action == Action::\"person/approve\", resource);\n\
         @id(\"plugins-only\")\nforbid (principal is Plugin, action, resource);\n",
    );
    let (otto, root, both) = (
        people.by_uid(2).unwrap(),
        people.by_uid(4).unwrap(),
        people.by_uid(5).unwrap(),
    );
    assert!(
        people
            .decide(otto, Right::Invoke, Some("strategy-lab"))
            .allowed
    );
    let denied = people.decide(otto, Right::Invoke, Some("live-trader"));
    assert!(!denied.allowed);
    assert_eq!(denied.guardrails, ["otto-not-live"]);
    assert!(
        denied
            .denial
            .unwrap()
            .reason
            .contains("the guardrail `otto-not-live` forbids it")
    );
    assert!(
        people
            .decide(both, Right::Invoke, Some("live-trader"))
            .allowed
    );
    assert!(people.decide(both, Right::Approve, None).allowed);
    assert_eq!(
        people.decide(root, Right::Approve, None).guardrails,
        ["no-lone-admin"]
    );
    assert!(people.decide(root, Right::Refuse, None).allowed);
}

#[test]
fn an_error_in_a_guardrail_denies_persons() {
    let people = people(
        "@id(\"overflows\")\nforbid (principal is Person, action, resource) when { principal.uid * 9223372036854775807 < 0 };",
    );
    assert!(
        people
            .decide(people.by_uid(1).unwrap(), Right::Grants, None)
            .allowed
    );
    let denied = people.decide(people.by_uid(4).unwrap(), Right::Grants, None);
    assert_eq!(denied.guardrails, ["overflows"]);
    assert!(
        denied
            .denial
            .unwrap()
            .reason
            .contains("could not be evaluated")
    );
}

/// What a person with the right role must always be able to do in an emergency.
const ALWAYS: [Right; 4] = [Right::Status, Right::Halt, Right::Refuse, Right::Reduce];

fn may(people: &People, right: Right) -> Vec<&str> {
    people
        .iter()
        .filter(|person| people.decide(person, right, Some("research")).allowed)
        .map(|person| person.name.as_str())
        .collect()
}

#[test]
fn a_guardrail_without_a_scope_is_about_plugins() {
    for rule in [
        "forbid (principal, action, resource);",
        "forbid (principal, action, resource) when { true };",
        "forbid (principal, action, resource) unless { principal has name && principal.name == \"lab\" };",
        "forbid (principal is Plugin, action, resource);",
        "forbid (principal, action in Action::\"trade\", resource);",
        "forbid (principal, action, resource) when { 9223372036854775807 + 1 > 0 };",
    ] {
        let people = people(rule);
        for (right, by_role) in MAY {
            assert_eq!(may(&people, *right), *by_role, "{rule} {right:?}");
        }
    }
}

/// Every way in which a rule can refer to people.
#[test]
fn no_rule_denies_halting_status_and_what_makes_safer_and_roles_still_apply() {
    for rule in [
        "forbid (principal is Person, action, resource);",
        "forbid (principal, action in Action::\"person\", resource);",
        "forbid (principal, action, resource is Host);",
        "forbid (principal, action, resource) when { principal is Person };",
        "forbid (principal, action, resource) when { principal in [Role::\"viewer\", Role::\"operator\", Role::\"approver\", Role::\"admin\"] };",
        "forbid (principal is Person, action, resource) when { principal.uid * 9223372036854775807 < 0 || true };",
    ] {
        let people = people(rule);
        for (right, by_role) in MAY {
            let expected: &[&str] = match ALWAYS.contains(right) {
                true => by_role,
                false if rule.contains("9223372036854775807") => continue,
                false => &[],
            };
            assert_eq!(may(&people, *right), expected, "{rule} {right:?}");
        }
    }
}

#[test]
fn a_rule_about_persons_limits_what_it_names_and_not_halting() {
    let people = people(
        "@id(\"otto\")\nforbid (principal == Person::\"otto\", action in [Action::\"person/halt\", Action::\"person/call\", Action::\"person/resume\"], resource);",
    );
    let otto = people.by_uid(2).unwrap();
    for (right, allowed) in [
        (Right::Halt, true),
        (Right::Reduce, true),
        (Right::Call, false),
        (Right::Resume, false),
        (Right::Invoke, true),
        (Right::Approve, false),
    ] {
        assert_eq!(
            people.decide(otto, right, None).allowed,
            allowed,
            "{right:?}"
        );
    }
}

#[test]
fn a_rule_that_covers_what_cannot_be_denied_is_warned_about() {
    let warnings = |rule: &str| {
        let files = [(PathBuf::from("a.cedar"), rule.to_owned())];
        Guardrails::read(&files).unwrap().warnings()
    };
    for rule in [
        "forbid (principal, action, resource);",
        "forbid (principal is Plugin, action, resource);",
        "forbid (principal is Person, action == Action::\"person/approve\", resource);",
    ] {
        assert_eq!(warnings(rule), Vec::<String>::new(), "{rule}");
    }
    let all = warnings("forbid (principal is Person, action, resource);");
    assert_eq!(
        all,
        [
            "the guardrail `a.cedar:1`: it covers `status`, `reduce`, `halt`, `refuse`, which no guardrail can deny to a \
             person whose role allows it: it limits persons in the other verbs only"
        ]
    );
    // A rule that covers nothing else is refused and not only warned about.
    for rule in [
        "forbid (principal in Role::\"operator\", action == Action::\"person/halt\", resource);",
        "forbid (principal, action in [Action::\"person/halt\", Action::\"person/status\"], resource);",
    ] {
        let files = [(PathBuf::from("a.cedar"), rule.to_owned())];
        let error = Guardrails::read(&files).unwrap_err().to_string();
        assert!(error.contains("can never forbid anything"), "{error}");
        // A rule that an earlier host accepted stays in force.
        let kept = [("a".to_owned(), rule.to_owned())];
        Guardrails::from_stored(&kept).unwrap();
    }
}

#[test]
fn two_persons_are_told_apart() {
    let none = Guardrails::none();
    let error = People::new([person(1, "a", &[]), person(1, "b", &[])], &none).unwrap_err();
    assert!(error.to_string().contains("the same user id, 1"), "{error}");
    let error = People::new([person(1, "a", &[]), person(2, "a", &[])], &none).unwrap_err();
    assert!(error.to_string().contains("two of this name"), "{error}");
    for role in Role::ALL {
        let word = serde_json::Value::from(role.word());
        assert_eq!(serde_json::from_value::<Role>(word).ok(), Some(*role));
    }
    assert!(serde_json::from_str::<Role>("\"king\"").is_err());
}
