//! What people may do at the control socket, decided by the same engine.
//!
//! Roles are built-in Cedar policies. A guardrail may forbid people too, if it refers to them explicitly: by its
//! principal, its action, its resource, or in a condition. One without such a reference concerns plugins.
//!
//! Invariants: a person without a role may do nothing. No guardrail can deny a person with the necessary role what
//! [`Right::is_always_allowed`]: seeing the host's status, halting, refusing, and reducing risk.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, Policy, PolicyId, PolicySet, Request,
    RestrictedExpression,
};

use crate::authority::Decision;
use crate::denial::Denial;
use crate::engine::{PolicyError, StackSafe, uid, with_stack};
use crate::guardrails::Guardrails;
use crate::roles::{GROUP, Right, Role};

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
    policies: StackSafe<PolicySet>,
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
            policies: StackSafe::with(set(&mut own.iter().cloned().chain(forbids))?, is_deep),
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
    pub fn decide(&self, person: &Person, right: Right, target: Option<&str>) -> Decision {
        let denied = |guardrails: Vec<String>, why: &str| Decision {
            denial: Some(Denial {
                reason: format!("{} may not do `{}`: {why}", person.name, right.word()),
                nearest_grant: None,
                remedy: None,
            }),
            guardrails,
            ..Decision::default()
        };
        let (request, entities) = match question(person, right, target) {
            Ok(question) => question,
            Err(why) => return denied(Vec::new(), &why),
        };
        let policies: &PolicySet = match right.is_always_allowed() {
            true => &self.roles,
            false => &self.policies,
        };
        let answer = with_stack(|| Authorizer::new().is_authorized(&request, policies, &entities));
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
            &format!("that needs {}, and they have {has}", self.needed(right)),
        )
    }

    /// The roles that allow this, in words.
    fn needed(&self, right: Right) -> String {
        let may = Role::ALL.iter().copied().filter(|role| {
            let person = Person {
                uid: u32::MAX,
                name: String::new(),
                roles: BTreeSet::from([*role]),
            };
            let Ok((request, entities)) = question(&person, right, None) else {
                return false;
            };
            let answer = Authorizer::new().is_authorized(&request, &self.roles, &entities);
            answer.decision() == cedar_policy::Decision::Allow
        });
        let words: Vec<_> = may.map(Role::word).collect();
        words.join(" or ")
    }
}

fn question(
    person: &Person,
    right: Right,
    target: Option<&str>,
) -> Result<(Request, Entities), String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let action = uid("Action", right.action())?;
    let group = uid("Action", GROUP)?;
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
