//! Whose an account is, in a form that can be kept from one start to the next.
//!
//! No server says which user it serves. What it does say is the organisation, and the projects of the user: another user has
//! other ones. So an endpoint that has the organisation and each project that were read of the account before is the same
//! user's.
//!
//! Invariant: what is kept proves nothing unless it has a project; then each of its projects has to be there.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use qchost_catalog::{BoxFuture, is_deleted_project};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text::excerpt;

/// Maximum characters of an organisation's id that is kept, or that a message repeats.
pub(crate) const MAX_ID: usize = 64;

/// Maximum characters of a project's name that is kept.
const MAX_NAME: usize = 128;

/// Maximum projects that are kept: the oldest ones.
const MAX_PROJECTS: usize = 1_000;

/// The organisation and the projects of an account's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Absent for a server that does not say it.
    organization: Option<String>,
    /// Names by ids, without what is deleted.
    projects: BTreeMap<u64, String>,
}

/// Why two servers are not known to be the same user's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unlike {
    /// There is nothing to compare.
    #[error("its organisation has no project to compare; create one at QuantConnect")]
    NoProject,
    /// They are not, or an answer cannot be compared.
    #[error("{0}")]
    Other(String),
}

impl From<String> for Unlike {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

/// That a connection of an account is not as it was kept, such as after its credentials were replaced by another user's. A project
/// that was deleted looks the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityChange {
    /// The organisation that was kept, if its server said one.
    pub former: Option<String>,
    /// The organisation that the server says now, if it says one.
    pub now: Option<String>,
    /// What does not match.
    pub reason: String,
}

impl fmt::Display for IdentityChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            |id: Option<&str>| id.map_or_else(|| "unknown".to_owned(), |id| excerpt(id, MAX_ID));
        write!(
            f,
            "the first endpoint is not as the account was remembered, so it may be another user's: {} (its organisation was \
             {}, and is {} now)",
            self.reason,
            named(self.former.as_deref()),
            named(self.now.as_deref())
        )
    }
}

/// Where the identities of accounts are kept from one start to the next.
pub trait IdentityMemory: Send + Sync {
    /// What is kept of a connection of an account.
    fn recall(&self, connection: &str) -> Option<Identity>;

    /// Takes note that what is kept of a connection is about to be replaced by what does not match it.
    fn replaced(&self, connection: &str, change: IdentityChange);

    /// Keeps what a connection of an account said of itself, in place of what was kept.
    fn remember<'a>(&'a self, connection: &'a str, identity: Identity) -> BoxFuture<'a, ()>;
}

impl Identity {
    /// What a server says of itself: its projects, and its user's organisation.
    pub(crate) fn read(list: &Value, user: &Value) -> Result<Self, String> {
        Ok(Self {
            organization: kept_organization(user),
            projects: kept(listed(list)?),
        })
    }

    /// The same with the projects of a later list, if that has any.
    pub(crate) fn refreshed(&self, list: &Value) -> Option<Self> {
        let projects = kept(listed(list).ok()?);
        let organization = self.organization.clone();
        (!projects.is_empty()).then_some(Self {
            organization,
            projects,
        })
    }

    /// What it is to be replaced by, for this reason.
    pub(crate) fn replaced_by(&self, now: &Self, reason: String) -> IdentityChange {
        IdentityChange {
            former: self.organization.clone(),
            now: now.organization.clone(),
            reason,
        }
    }

    /// Whether something can be compared with it.
    pub(crate) fn is_comparable(&self) -> bool {
        !self.projects.is_empty()
    }

    /// Whether a server with this list of projects and this user is the same user's; or else why that is not known.
    pub(crate) fn matches(&self, list: &Value, user: &Value) -> Result<(), String> {
        if !self.is_comparable() {
            return Err("no project of the account is remembered to compare".to_owned());
        }
        let theirs = kept_organization(user);
        same_organization(theirs.as_deref(), self.organization.as_deref())?;
        // Also what was deleted meanwhile, where the server still lists it.
        let listed: HashMap<u64, String> = listed(list)?
            .into_iter()
            .map(|(id, name, _)| (id, shortened(&name)))
            .collect();
        if let Some(id) = self.projects.keys().find(|id| !listed.contains_key(id)) {
            return Err(format!(
                "it does not have the project {id} that is remembered of the account"
            ));
        }
        match self
            .projects
            .iter()
            .any(|(id, name)| listed.get(id) == Some(name))
        {
            true => Ok(()),
            false => Err("none of its projects has the name that is remembered of it".to_owned()),
        }
    }
}

/// The organisation that a server says of its user, if it says one.
pub(crate) fn organization(user: &Value) -> Option<&str> {
    let id = user.get("organizationId").and_then(Value::as_str);
    id.filter(|id| !id.is_empty())
}

/// Whether the organisation of a server's user is that of the account; or else that it is not.
pub(crate) fn same_organization(theirs: Option<&str>, ours: Option<&str>) -> Result<(), String> {
    if theirs == ours {
        return Ok(());
    }
    let named = |id: Option<&str>| excerpt(id.unwrap_or("unknown"), MAX_ID);
    Err(format!(
        "its organisation is {}, and that of the account is {}",
        named(theirs),
        named(ours)
    ))
}

fn kept_organization(user: &Value) -> Option<String> {
    let id = excerpt(organization(user)?, MAX_ID);
    Some(id).filter(|id| !id.is_empty())
}

fn shortened(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

fn kept(listed: Vec<Listed>) -> BTreeMap<u64, String> {
    let all = listed
        .into_iter()
        .filter(|(_, name, _)| !is_deleted_project(name))
        .map(|(id, name, _)| (id, shortened(&name)));
    let all: BTreeMap<u64, String> = all.collect();
    all.into_iter().take(MAX_PROJECTS).collect()
}

/// A project's id, name and organisation.
pub(crate) type Listed = (u64, String, Option<String>);

/// The projects in the answer of a server.
pub(crate) fn listed(body: &Value) -> Result<Vec<Listed>, String> {
    let projects = body.get("projects").and_then(Value::as_array);
    let projects = projects.ok_or("a server answers no list of projects")?;
    let text = |project: &Value, field: &str| {
        let text = project.get(field).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let entry = |project: &Value| {
        let id = project.get("projectId").and_then(Value::as_u64)?;
        Some((id, text(project, "name")?, text(project, "organizationId")))
    };
    let entries: Option<Vec<_>> = projects.iter().map(entry).collect();
    entries.ok_or_else(|| "a project has no id or no name".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn projects<'a>(of: impl IntoIterator<Item = (u64, &'a str)>) -> Value {
        let list: Vec<_> = of
            .into_iter()
            .map(|(id, name)| json!({ "projectId": id, "name": name }))
            .collect();
        json!({ "projects": list })
    }

    #[test]
    fn only_the_remembered_user_and_organisation_match() {
        let user = json!({ "organizationId": "org" });
        let known = [(1, "a"), (2, "b"), (3, "Recycle Bin/c")];
        let known = Identity::read(&projects(known), &user).unwrap();
        let matches = |list: &Value| known.matches(list, &user);
        // With a project more, one renamed, and one moved to the bin.
        assert_eq!(matches(&projects([(1, "a"), (2, "b"), (9, "new")])), Ok(()));
        assert_eq!(matches(&projects([(1, "x"), (2, "b")])), Ok(()));
        let binned = projects([(1, "a"), (2, "Recycle Bin/b")]);
        assert_eq!(matches(&binned), Ok(()));
        for (list, reason) in [
            (projects([]), "project 1"),
            // As of another user who shares a project.
            (projects([(1, "a"), (9, "d")]), "project 2"),
            (projects([(1, "x"), (2, "y")]), "name"),
            (json!({}), "no list"),
        ] {
            let refused = matches(&list).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        let all = projects([(1, "a"), (2, "b")]);
        for other in [json!({ "organizationId": "other" }), json!({}), json!(null)] {
            let refused = known.matches(&all, &other).unwrap_err();
            assert!(refused.contains("organisation"), "{refused}");
        }
    }

    #[test]
    fn an_organisation_is_compared_whole_and_one_that_is_not_said_is_another_one() {
        let (one, other) = (format!("{}a", "0".repeat(MAX_ID)), "0".repeat(MAX_ID));
        assert_eq!(same_organization(Some(&one), Some(&one)), Ok(()));
        assert_eq!(same_organization(None, None), Ok(()));
        for (theirs, ours) in [
            (Some(one.as_str()), Some(other.as_str())),
            (None, Some(one.as_str())),
            (Some(one.as_str()), None),
        ] {
            let refused = same_organization(theirs, ours).unwrap_err();
            assert!(refused.contains("that of the account is"), "{refused}");
        }
        assert_eq!(organization(&json!({ "organizationId": "" })), None);
    }

    #[test]
    fn what_has_no_project_proves_nothing() {
        let (none, user) = (projects([]), json!({ "organizationId": "org" }));
        let known = Identity::read(&none, &user).unwrap();
        assert!(!known.is_comparable());
        known.matches(&none, &user).unwrap_err();
        // An empty list replaces nothing.
        let known = Identity::read(&projects([(1, "a")]), &user).unwrap();
        assert_eq!(known.refreshed(&none), None);
        assert_eq!(known.refreshed(&json!({})), None);
        let more = projects([(1, "a"), (2, "b")]);
        let later = known.refreshed(&more).unwrap();
        assert_eq!(later, Identity::read(&more, &user).unwrap());
    }

    proptest! {
        #[test]
        fn what_is_kept_matches_its_own_server_and_is_read_as_it_was_written(
            of in proptest::collection::btree_map(any::<u64>(), "[aé]{1,200}", 1..8),
            organization in proptest::option::of("[a-z]{1,80}"),
        ) {
            let list = projects(of.iter().map(|(id, name)| (*id, name.as_str())));
            let user = json!({ "organizationId": organization });
            let known = Identity::read(&list, &user).unwrap();
            prop_assert_eq!(known.matches(&list, &user), Ok(()));
            let text = serde_json::to_string(&known).unwrap();
            prop_assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), known.clone());
            for missing in of.keys() {
                let left = of.iter().filter(|(id, _)| *id != missing);
                let left = projects(left.map(|(id, name)| (*id, name.as_str())));
                prop_assert!(known.matches(&left, &user).is_err());
            }
        }

        #[test]
        fn no_answer_of_a_server_stops_the_comparison(text in "[\\[\\]{}:,a-z0-9\" ]{0,60}") {
            let body = serde_json::from_str(&text).unwrap_or(Value::Null);
            let known = Identity::read(&projects([(1, "a")]), &Value::Null).unwrap();
            prop_assert!(known.matches(&body, &Value::Null).is_err());
            drop(Identity::read(&body, &body));
        }
    }
}
