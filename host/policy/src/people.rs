//! What people may do at the control socket, decided by the same engine.
//!
//! Roles are built-in Cedar policies. A guardrail may forbid people too, if it refers to them explicitly: by its
//! principal, its action, its resource, or in a condition. One without such a reference concerns plugins.
//!
//! Invariants: a person without a role may do nothing. No guardrail can deny a person with the necessary role what
//! [`Verb::is_always_allowed`]: seeing the host's status, halting, refusing, and reducing risk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Entities, Entity, EntityUid, Policy, PolicyId,
    PolicySet, PrincipalConstraint, Request, ResourceConstraint, RestrictedExpression,
};
use serde_json::Value;

use crate::authority::Decision;
use crate::denial::Denial;
use crate::engine::{Deep, PolicyError, uid, with_room};
use crate::guardrails::Guardrails;

/// An action of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// See the host's status.
    Status,
    /// See the grants of a plugin and their use.
    Grants,
    /// See approvals, pending and decided.
    ListApprovals,
    /// Read and verify the audit.
    ReadAudit,
    /// Invoke an action of a plugin.
    Invoke,
    /// Call a tool directly.
    Call,
    /// Call a risk-reducing tool directly: it stops, liquidates or aborts.
    Reduce,
    /// Ask how a call would be decided.
    Explain,
    /// Halt a plugin, an account or everything.
    Halt,
    /// End a halt.
    Resume,
    /// Approve a call or a component.
    Approve,
    /// Refuse it.
    Refuse,
    /// Settle calls with unknown outcome.
    Reconcile,
    /// Have the host read its files again.
    Reload,
    /// Copy the database, the audit and the key.
    Backup,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Self; 15] = [
        Self::Status,
        Self::Grants,
        Self::ListApprovals,
        Self::ReadAudit,
        Self::Invoke,
        Self::Call,
        Self::Reduce,
        Self::Explain,
        Self::Halt,
        Self::Resume,
        Self::Approve,
        Self::Refuse,
        Self::Reconcile,
        Self::Reload,
        Self::Backup,
    ];

    /// Whether only the role decides about it, so that no guardrail can deny it.
    #[must_use]
    pub fn is_always_allowed(self) -> bool {
        matches!(
            self,
            Self::Status | Self::Halt | Self::Refuse | Self::Reduce
        )
    }

    /// Its name in messages and audit records.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.action().trim_start_matches("person/")
    }

    /// The action in Cedar.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::Status => "person/status",
            Self::Grants => "person/grants",
            Self::ListApprovals => "person/list-approvals",
            Self::ReadAudit => "person/read-audit",
            Self::Invoke => "person/invoke",
            Self::Call => "person/call",
            Self::Reduce => "person/reduce",
            Self::Explain => "person/explain",
            Self::Halt => "person/halt",
            Self::Resume => "person/resume",
            Self::Approve => "person/approve",
            Self::Refuse => "person/refuse",
            Self::Reconcile => "person/reconcile",
            Self::Reload => "person/reload",
            Self::Backup => "person/backup",
        }
    }
}

/// The role of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// May see everything that is not secret.
    Viewer,
    /// May run and stop things, and see what a viewer sees.
    Operator,
    /// May approve and refuse, and see what a viewer sees.
    Approver,
    /// May do everything.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// Its name in `qchost.toml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// The role with this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// The policies of the roles.
const ROLES: &str = r#"
@id("role-viewer")
permit (
  principal,
  action in [
    Action::"person/status", Action::"person/grants", Action::"person/list-approvals",
    Action::"person/read-audit"
  ],
  resource
) when { principal in [Role::"viewer", Role::"operator", Role::"approver", Role::"admin"] };

@id("role-operator")
permit (
  principal in Role::"operator",
  action in [
    Action::"person/invoke", Action::"person/call", Action::"person/reduce", Action::"person/explain",
    Action::"person/halt", Action::"person/resume"
  ],
  resource
);

@id("role-approver")
permit (
  principal in Role::"approver",
  action in [Action::"person/approve", Action::"person/refuse"],
  resource
);

@id("role-admin")
permit (principal in Role::"admin", action in Action::"person", resource);
"#;

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The uid that identifies the person at the control socket.
    pub uid: u32,
    /// The name.
    pub name: String,
    /// The person's roles.
    pub roles: BTreeSet<Role>,
}

impl Person {
    /// Whether a role allows halting and resuming.
    #[must_use]
    pub fn operates(&self) -> bool {
        let operating = [Role::Operator, Role::Admin];
        operating.iter().any(|role| self.roles.contains(role))
    }

    /// Whether the person may read manifests, guardrails and the configuration as kept in the audit. A viewer sees
    /// only their changes.
    #[must_use]
    pub fn reads_texts(&self) -> bool {
        self.roles.iter().any(|role| *role != Role::Viewer)
    }
}

/// The people of a host.
#[derive(Debug, Clone)]
pub struct People {
    persons: BTreeMap<u32, Person>,
    /// The roles and the guardrails about people.
    policies: Deep<PolicySet>,
    /// The roles alone, which decide where no guardrail can deny.
    roles: PolicySet,
    /// The ids of the guardrails about people, since an evaluation failure of one denies.
    guardrails: BTreeSet<String>,
}

impl People {
    /// People under guardrails.
    ///
    /// # Errors
    /// When two have the same user id or the same name.
    pub fn new(
        persons: impl IntoIterator<Item = Person>,
        guardrails: &Guardrails,
    ) -> Result<Self, PolicyError> {
        let failed = |what: &str, message: String| PolicyError::Compile {
            what: what.to_owned(),
            message,
        };
        let mut by_uid = BTreeMap::new();
        let mut names = BTreeSet::new();
        for person in persons {
            let what = format!("the person `{}`", person.name);
            if !names.insert(person.name.clone()) {
                return Err(failed(&what, "there are two of this name".to_owned()));
            }
            if let Some(other) = by_uid.insert(person.uid, person) {
                let message = format!("`{}` has the same user id, {}", other.name, other.uid);
                return Err(failed(&what, message));
            }
        }
        let roles = PolicySet::from_str(ROLES)
            .map_err(|error| failed("the policies of the roles", error.to_string()))?;
        let own = roles.policies().map(|policy| {
            let id = policy.annotation("id").unwrap_or_default();
            policy.new_id(PolicyId::new(format!("host/{id}")))
        });
        let about = || guardrails.iter().filter(|one| one.is_about_persons);
        let forbids = about().filter_map(|guardrail| {
            let id = format!("guardrail/{}", guardrail.id);
            Some(guardrail.policy()?.new_id(PolicyId::new(id)))
        });
        let is_deep = about().any(|guardrail| guardrail.is_deep());
        let set = |policies: &mut dyn Iterator<Item = Policy>| {
            let mut set = PolicySet::new();
            for policy in policies {
                set.add(policy)
                    .map_err(|error| failed("the policies of persons", error.to_string()))?;
            }
            Ok::<_, PolicyError>(set)
        };
        let own: Vec<Policy> = own.collect();
        Ok(Self {
            persons: by_uid,
            policies: Deep::with(set(&mut own.iter().cloned().chain(forbids))?, is_deep),
            roles: set(&mut own.iter().cloned())?,
            guardrails: about().map(|one| one.id.clone()).collect(),
        })
    }

    /// The person with a uid.
    #[must_use]
    pub fn by_uid(&self, uid: u32) -> Option<&Person> {
        self.persons.get(&uid)
    }

    /// All people, by uid.
    pub fn iter(&self) -> impl Iterator<Item = &Person> {
        self.persons.values()
    }

    /// Decides whether a person may do this; `target` is the plugin or account concerned, if any. The decision's
    /// `grants` are empty: people have roles.
    #[must_use]
    pub fn decide(&self, person: &Person, verb: Verb, target: Option<&str>) -> Decision {
        let denied = |guardrails: Vec<String>, why: &str| Decision {
            denial: Some(Denial {
                reason: format!("{} may not do `{}`: {why}", person.name, verb.word()),
                nearest_grant: None,
                remedy: None,
            }),
            guardrails,
            ..Decision::default()
        };
        let (request, entities) = match question(person, verb, target) {
            Ok(question) => question,
            Err(why) => return denied(Vec::new(), &why),
        };
        let policies: &PolicySet = match verb.is_always_allowed() {
            true => &self.roles,
            false => &self.policies,
        };
        let answer = with_room(|| Authorizer::new().is_authorized(&request, policies, &entities));
        let own = |id: &PolicyId| {
            let id: &str = id.as_ref();
            let id = id.strip_prefix("guardrail/")?;
            self.guardrails.contains(id).then(|| id.to_owned())
        };
        let broken = answer.diagnostics().errors().find_map(|error| {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(inner) = error;
            Some((own(inner.policy_id())?, error.to_string()))
        });
        if let Some((id, why)) = broken {
            let why = format!("the guardrail `{id}` could not be evaluated, so it denies: {why}");
            return denied(vec![id], &why);
        }
        let forbidding: Vec<_> = answer.diagnostics().reason().filter_map(own).collect();
        if let Some(first) = forbidding.first() {
            let why = format!("the guardrail `{first}` forbids it");
            return denied(forbidding, &why);
        }
        if answer.decision() == cedar_policy::Decision::Allow {
            return Decision {
                allowed: true,
                ..Decision::default()
            };
        }
        let roles: Vec<_> = person.roles.iter().map(|role| role.word()).collect();
        let has = if roles.is_empty() {
            "no role".to_owned()
        } else {
            format!("the role {}", roles.join(" and "))
        };
        denied(
            Vec::new(),
            &format!("that needs {}, and they have {has}", self.needed(verb)),
        )
    }

    /// The roles that allow this, in words.
    fn needed(&self, verb: Verb) -> String {
        let may = Role::ALL.into_iter().filter(|role| {
            let somebody = Person {
                uid: u32::MAX,
                name: String::new(),
                roles: BTreeSet::from([*role]),
            };
            let Ok((request, entities)) = question(&somebody, verb, None) else {
                return false;
            };
            let answer = Authorizer::new().is_authorized(&request, &self.roles, &entities);
            answer.decision() == cedar_policy::Decision::Allow
        });
        let words: Vec<_> = may.map(Role::word).collect();
        words.join(" or ")
    }
}

/// The group of all people's actions.
const GROUP: &str = "person";

/// Whether a guardrail explicitly concerns people.
pub(crate) fn about_persons(policy: &Policy, conditions: &Value) -> bool {
    let of_person = |name: &str| matches!(name, "Person" | "Role");
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => false,
        PrincipalConstraint::Is(of) | PrincipalConstraint::IsIn(of, _) => of_person(of.basename()),
        PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) => {
            of_person(uid.type_name().basename())
        }
    };
    let action = match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(uid) => is_of_persons(&uid),
        ActionConstraint::In(uids) => uids.iter().any(is_of_persons),
    };
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any => false,
        ResourceConstraint::Is(of) | ResourceConstraint::IsIn(of, _) => of.basename() == "Host",
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) => {
            uid.type_name().basename() == "Host"
        }
    };
    principal || action || resource || mentions_persons(conditions)
}

fn is_of_persons(action: &EntityUid) -> bool {
    let id: &str = action.id().as_ref();
    id == GROUP || id.starts_with("person/")
}

/// Whether a condition refers to attributes or entities of people.
fn mentions_persons(json: &Value) -> bool {
    match json {
        Value::Array(items) => items.iter().any(mentions_persons),
        Value::Object(members) => members.iter().any(|(key, value)| match value {
            Value::String(text) => match key.as_str() {
                "type" | "entity_type" => matches!(text.as_str(), "Person" | "Role" | "Host"),
                "attr" => matches!(text.as_str(), "uid" | "target"),
                _ => false,
            },
            other => mentions_persons(other),
        }),
        _ => false,
    }
}

/// What a guardrail about people covers without effect, by its actions and in words; `None` if nothing.
pub(crate) fn in_vain(actions: &ActionConstraint) -> Option<String> {
    let covers = |verb: &Verb| match actions {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => {
            let id: &str = uid.id().as_ref();
            id == verb.action()
        }
        ActionConstraint::In(uids) => uids.iter().any(|uid| {
            let id: &str = uid.id().as_ref();
            id == GROUP || id == verb.action()
        }),
    };
    let (vain, limited): (Vec<Verb>, Vec<Verb>) = Verb::ALL
        .into_iter()
        .filter(covers)
        .partition(|verb| verb.is_always_allowed());
    if vain.is_empty() {
        return None;
    }
    let words: Vec<_> = vain
        .into_iter()
        .map(|verb| format!("`{}`", verb.word()))
        .collect();
    let effect = match limited.is_empty() {
        true => "it limits persons in nothing",
        false => "it limits persons in the other verbs only",
    };
    Some(format!(
        "it covers {}, which no guardrail can deny to a person whose role allows it: {effect}",
        words.join(", ")
    ))
}

fn question(
    person: &Person,
    verb: Verb,
    target: Option<&str>,
) -> Result<(Request, Entities), String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let action = uid("Action", verb.action())?;
    let group = uid("Action", "person")?;
    let roles = person.roles.iter().map(|role| uid("Role", role.word()));
    let roles: HashSet<_> = roles.collect::<Result<_, _>>()?;
    let attributes = HashMap::from([
        (
            "name".to_owned(),
            RestrictedExpression::new_string(person.name.clone()),
        ),
        (
            "uid".to_owned(),
            RestrictedExpression::new_long(person.uid.into()),
        ),
    ]);
    let principal = Entity::new(uid("Person", &person.name)?, attributes, roles)
        .map_err(|error| words(&error))?;
    let host = Entity::with_uid(uid("Host", "")?);
    let context = target
        .map(|target| {
            let target = RestrictedExpression::new_string(target.to_owned());
            ("target".to_owned(), target)
        })
        .into_iter();
    let context = Context::from_pairs(context).map_err(|error| words(&error))?;
    let request = Request::new(principal.uid(), action.clone(), host.uid(), context, None)
        .map_err(|error| words(&error))?;
    let action = Entity::new_no_attrs(action, HashSet::from([group]));
    let entities =
        Entities::from_entities([principal, action, host], None).map_err(|error| words(&error))?;
    Ok((request, entities))
}
