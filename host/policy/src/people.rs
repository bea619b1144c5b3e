//! What persons may do at the control socket, decided by the same engine.
//!
//! Roles are Cedar policies that come with the host; a guardrail may forbid persons too. Invariant:
//! whoever has no role may do nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, PolicyId, PolicySet, Request, RestrictedExpression,
};

use crate::authority::Decision;
use crate::denial::Denial;
use crate::engine::{PolicyError, uid};
use crate::guardrails::Guardrails;

/// What a person may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// See what runs and how it does.
    Status,
    /// See what a plugin is granted and what it used of it.
    Grants,
    /// See approvals, those that wait and those that were decided.
    ListApprovals,
    /// Read and verify the audit.
    ReadAudit,
    /// Invoke an action of a plugin.
    Invoke,
    /// Call a tool by hand.
    Call,
    /// Ask what a call would be decided as.
    Explain,
    /// Halt a plugin, an account or everything.
    Halt,
    /// End a halt.
    Resume,
    /// Say yes to a call or a component.
    Approve,
    /// Say no to it.
    Refuse,
    /// Find out what became of calls whose outcome is not known.
    Reconcile,
    /// Have the host read its files again.
    Reload,
    /// Copy the database, the audit and the key.
    Backup,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Status,
        Self::Grants,
        Self::ListApprovals,
        Self::ReadAudit,
        Self::Invoke,
        Self::Call,
        Self::Explain,
        Self::Halt,
        Self::Resume,
        Self::Approve,
        Self::Refuse,
        Self::Reconcile,
        Self::Reload,
        Self::Backup,
    ];

    /// The word for it in messages and audit records.
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

/// What a person is trusted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Sees what there is to see.
    Viewer,
    /// Runs things and stops them, and sees what a viewer sees.
    Operator,
    /// Says yes or no, and sees what a viewer sees.
    Approver,
    /// May do everything.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// The word for it in `qchost.toml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// The role of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// What each role may do.
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
    Action::"person/invoke", Action::"person/call", Action::"person/explain",
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
    /// The user id by which the person is known at the control socket.
    pub uid: u32,
    /// The name.
    pub name: String,
    /// What they are trusted with.
    pub roles: BTreeSet<Role>,
}

/// The persons of a host.
#[derive(Debug, Clone)]
pub struct People {
    persons: BTreeMap<u32, Person>,
    policies: PolicySet,
    /// The ids of the guardrails, since a failure of one denies.
    guardrails: BTreeSet<String>,
}

impl People {
    /// Persons under guardrails.
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
        let mut policies = PolicySet::new();
        let roles = roles.policies().map(|policy| {
            let id = policy.annotation("id").unwrap_or_default();
            policy.new_id(PolicyId::new(format!("host/{id}")))
        });
        let forbids = guardrails.iter().map(|guardrail| {
            let id = format!("guardrail/{}", guardrail.id);
            guardrail.policy.new_id(PolicyId::new(id))
        });
        for policy in roles.chain(forbids) {
            policies
                .add(policy)
                .map_err(|error| failed("the policies of persons", error.to_string()))?;
        }
        Ok(Self {
            persons: by_uid,
            policies,
            guardrails: guardrails.ids().map(str::to_owned).collect(),
        })
    }

    /// The person behind a user id.
    #[must_use]
    pub fn by_uid(&self, uid: u32) -> Option<&Person> {
        self.persons.get(&uid)
    }

    /// Everybody, by user id.
    pub fn iter(&self) -> impl Iterator<Item = &Person> {
        self.persons.values()
    }

    /// Whether a person may do this; `target` is the plugin or the account that it is done to, if it is
    /// one. The decision's `grants` are empty: persons have roles.
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
        let answer = Authorizer::new().is_authorized(&request, &self.policies, &entities);
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

    /// The roles that may do this, in words.
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
            let answer = Authorizer::new().is_authorized(&request, &self.policies, &entities);
            answer.decision() == cedar_policy::Decision::Allow
        });
        let words: Vec<_> = may.map(Role::word).collect();
        words.join(" or ")
    }
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
