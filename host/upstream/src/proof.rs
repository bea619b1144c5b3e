//! Whether the two servers of an account are the same user's, in the same organisation.
//!
//! The remote server does not say whose login it has. So its projects, of all pages, are compared with those that the REST
//! API lists for the configured user: another user has other ones, and does not have all of the account's in its
//! organisation.
//!
//! Invariants: beside a server in front of the REST API, the remote one carries nothing but the read for this comparison
//! until it has succeeded, and again after each login, which is another [`Account`]. What cannot be compared is refused. A
//! refusal is shown as the remote server's state until a comparison succeeds.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use qchost_catalog::host_calls::{LIST_PROJECTS, READ_ACCOUNT};
use qchost_catalog::{Call, Failure, Operation, Target, always, is_deleted_project};
use serde_json::{Map, Value};
use tokio::time::timeout_at;

use crate::account::Account;
use crate::health::{AccountHealth, AccountState, NotProven};
use crate::identity::{Listed, MAX_ID, Unlike, listed, organization};
use crate::text::excerpt;

/// How long a failed comparison is not repeated for a call.
pub(crate) const REFUSAL_TTL: Duration = Duration::from_secs(30);

/// What is known about one remote server.
#[derive(Default)]
pub(crate) struct Proof {
    known: Mutex<Option<Compared>>,
    /// Held by the one call that compares.
    comparing: tokio::sync::Mutex<()>,
}

/// The last comparison.
struct Compared {
    /// What the remote server was compared with, which may have been replaced since.
    rest: Weak<Account>,
    at: Instant,
    /// When the first one with this outcome was made.
    since: Instant,
    /// Why they are not the same user's, if they are not.
    refusal: Option<Refusal>,
}

/// Why the remote server may carry nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
enum Refusal {
    #[error("the login to the remote server is not known to be the account's: {0}")]
    Unlike(Unlike),
    /// The server in front of the REST API failed.
    #[error("the login to the remote server cannot be compared with the REST API: {0}")]
    Unread(Failure),
}

impl Proof {
    /// What the last comparison with this server said, if it still counts: a refusal does for `refused_for`, unless the next
    /// project that is created ends it.
    fn known(&self, rest: &Arc<Account>, refused_for: Duration) -> Option<Result<(), Failure>> {
        let known = self.known.lock();
        let known = known.as_ref()?;
        match &known.refusal {
            _ if !known.is_with(rest) => None,
            None => Some(Ok(())),
            Some(Refusal::Unlike(unlike @ Unlike::Other(_)))
                if known.at.elapsed() < refused_for =>
            {
                Some(Err(refused(unlike)))
            }
            Some(_) => None,
        }
    }

    /// Notes a comparison, and logs its outcome if that is new.
    fn note(&self, rest: &Arc<Account>, refusal: Option<Refusal>) {
        let at = Instant::now();
        let mut known = self.known.lock();
        let former = known.as_ref().filter(|former| former.is_with(rest));
        let former = former.and_then(|former| Some((former.since, former.refusal.as_ref()?)));
        let since = match (former, &refusal) {
            // What was found holds until a comparison can be made again.
            (Some((_, Refusal::Unlike(_))), Some(Refusal::Unread(_))) => return,
            (Some((since, former)), Some(refusal)) if former == refusal => since,
            (_, Some(refusal)) => {
                tracing::warn!(account = rest.name(), "{refusal}; nothing is sent there");
                at
            }
            (_, None) => at,
        };
        *known = Some(Compared {
            rest: Arc::downgrade(rest),
            at,
            since,
            refusal,
        });
    }

    /// The health of the remote server, with what is known of its login.
    pub(crate) fn applied_to(&self, mut health: AccountHealth) -> AccountHealth {
        if let Some(known) = &*self.known.lock()
            && let Some(refusal) = &known.refusal
            && !health.state.is_problem()
        {
            let (state, not_proven) = match refusal {
                Refusal::Unlike(Unlike::NoProject) => {
                    (AccountState::Unauthorized, NotProven::NoProject)
                }
                Refusal::Unlike(Unlike::Other(_)) => (AccountState::Unauthorized, NotProven::Other),
                Refusal::Unread(_) => (AccountState::Unreachable, NotProven::NoReference),
            };
            health.state = state;
            health.not_proven = Some(not_proven);
            health.seconds_in_state = known.since.elapsed().as_secs_f64();
            health.seconds_since_news = known.at.elapsed().as_secs_f64();
            health.last_error = Some(refusal.to_string());
        }
        health
    }
}

impl Compared {
    fn is_with(&self, rest: &Arc<Account>) -> bool {
        Weak::ptr_eq(&self.rest, &Arc::downgrade(rest))
    }
}

/// The failure of a call that the remote server may not carry.
fn refused(unlike: &Unlike) -> Failure {
    let refusal = Refusal::Unlike(unlike.clone());
    Failure::Unavailable(format!("{refusal}; nothing was sent"))
}

/// Proves before the deadline that both servers are the same user's, unless that is known. A comparison that failed is
/// repeated after `refused_for`.
pub(crate) async fn prove(
    rest: &Arc<Account>,
    remote: &Account,
    deadline: Instant,
    refused_for: Duration,
) -> Result<(), Failure> {
    let known = || remote.proof.known(rest, refused_for);
    if let Some(known) = known() {
        return known;
    }
    let started = Instant::now();
    let Ok(_comparing) = timeout_at(deadline.into(), remote.proof.comparing.lock()).await else {
        return Err(Failure::TimedOut {
            after: started.elapsed(),
        });
    };
    if let Some(known) = known() {
        return known;
    }
    // What exists there now is listed here afterwards, also if it was made just now.
    let list = read(rest.name(), LIST_PROJECTS, deadline);
    let theirs = remote.carry(&list, started, Some(0)).await?;
    let (ours, user) = match read_rest(rest, deadline).await {
        Ok(said) => said,
        Err(failure) => {
            let refusal = Refusal::Unread(failure.clone());
            remote.proof.note(rest, Some(refusal));
            return Err(failure);
        }
    };
    let mut compared = compare_login(&theirs, &ours, &user);
    if compared.is_ok() {
        compared = sees_all(&[&theirs], &ours, &user);
        if compared.is_err() {
            // It may have been made meanwhile, or have moved to another page between two reads.
            let again = remote.carry(&list, started, Some(0)).await?;
            compared = sees_all(&[&theirs, &again], &ours, &user);
        }
    }
    let refusal = compared.as_ref().err().cloned().map(Refusal::Unlike);
    remote.proof.note(rest, refusal);
    compared.map_err(|unlike| refused(&unlike))
}

/// What the server in front of the REST API says of the account: its projects and its user.
async fn read_rest(rest: &Account, deadline: Instant) -> Result<(Value, Value), Failure> {
    let started = Instant::now();
    let list = read(rest.name(), LIST_PROJECTS, deadline);
    rest.find_endpoints(&list).await;
    if let Some(refusal) = rest.endpoints.refusal() {
        return Err(refusal);
    }
    // At a single endpoint, as a check of it: no figure counts that.
    let only = (!rest.endpoints.has_others()).then_some(0);
    let ours = rest.send(&list, started, only).await?;
    let user = read(rest.name(), READ_ACCOUNT, deadline);
    let user = rest.send(&user, started, only).await?;
    Ok((ours, user))
}

/// A read of the host's own.
fn read<'a>(account: &'a str, operation: &'static Operation, deadline: Instant) -> Call<'a> {
    Call {
        account,
        target: Target::Known(operation),
        arguments: Map::new(),
        deadline,
        // That of a call that waits for it is for what the call sends.
        clearance: always(),
        sends: None,
    }
}

/// Compares the projects of two servers in front of the REST API, and the organisation of the first one's user. Another
/// user of the organisation may have some of the first one's projects, and only the same user has all of them.
///
/// `theirs` was listed before `ours`, and `again` after it: what was made meanwhile is no difference.
pub(crate) fn compare_all(
    theirs: &Value,
    ours: &Value,
    again: &Value,
    user: &Value,
) -> Result<(), Unlike> {
    let compared = compare(theirs, ours, user);
    // Where the first one has projects, an empty list says whose it is not.
    if !matches!(compared, Ok(()) | Err(Unlike::NoProject)) {
        return compared;
    }
    let theirs: HashSet<u64> = listed(again)?.into_iter().map(|(id, ..)| id).collect();
    let mut ours = listed(ours)?.into_iter();
    match ours.find(|(id, name, _)| !is_deleted_project(name) && !theirs.contains(id)) {
        Some((id, ..)) => Err(Unlike::Other(format!(
            "it does not have the project {id} of the first one: it is another user's"
        ))),
        None => compared,
    }
}

/// Compares a login to the remote server with the user of the REST API. Where that has projects in the organisation, a login
/// without any is another user's or organisation's.
fn compare_login(theirs: &Value, ours: &Value, user: &Value) -> Result<(), Unlike> {
    let compared = compare(theirs, ours, user);
    if compared != Err(Unlike::NoProject) {
        return compared;
    }
    let own = organization(user);
    let is_own = |(_, name, organization): &Listed| {
        let is_other = own.is_some() && organization.is_some() && organization.as_deref() != own;
        !is_deleted_project(name) && !is_other
    };
    match listed(ours)?.iter().find(|project| is_own(project)) {
        Some((id, ..)) => Err(Unlike::Other(format!(
            "it has no project, and the account has the project {id}: it is another user's or organisation's"
        ))),
        None => compared,
    }
}

/// Whether these lists of a login have each project of the account in the login's organisation. Of a project whose
/// organisation is not said, that cannot be decided.
fn sees_all(theirs: &[&Value], ours: &Value, user: &Value) -> Result<(), Unlike> {
    let (mut seen, mut organizations) = (HashSet::new(), HashSet::new());
    for list in theirs {
        for (id, _, organization) in listed(list)? {
            seen.insert(id);
            organizations.extend(organization);
        }
    }
    let own = organization(user);
    let is_own = |of: &String| own.map_or_else(|| organizations.contains(of), |own| own == of);
    let mut ours = listed(ours)?.into_iter();
    let unseen = ours.find(|(id, name, organization)| {
        !is_deleted_project(name) && organization.as_ref().is_some_and(is_own) && !seen.contains(id)
    });
    match unseen {
        Some((id, ..)) => Err(Unlike::Other(format!(
            "it does not have the project {id} of the account's organisation: it is another user's"
        ))),
        None => Ok(()),
    }
}

/// Compares the projects that the remote server lists with those of the REST API and its user's organisation.
fn compare(theirs: &Value, ours: &Value, user: &Value) -> Result<(), Unlike> {
    let mut theirs = listed(theirs)?;
    // Either server may leave out what is deleted.
    theirs.retain(|(_, name, _)| !is_deleted_project(name));
    let ours: HashMap<u64, (String, Option<String>)> = listed(ours)?
        .into_iter()
        .map(|(id, name, organization)| (id, (name, organization)))
        .collect();
    if theirs.is_empty() {
        return Err(Unlike::NoProject);
    }
    let own = organization(user);
    let mut same_name = false;
    for (id, name, organization) in &theirs {
        let Some((our_name, our_organization)) = ours.get(id) else {
            return Err(Unlike::Other(format!(
                "it has a project {id}, which the user of the REST API does not have; log in as that user"
            )));
        };
        same_name |= name == our_name;
        for organization in [organization, our_organization].into_iter().flatten() {
            if own.is_some_and(|own| own != organization) {
                return Err(Unlike::Other(format!(
                    "it is for the organisation {}, and the account's is {}; choose that one when you log in",
                    excerpt(organization, MAX_ID),
                    excerpt(own.unwrap_or_default(), MAX_ID)
                )));
            }
        }
    }
    match same_name {
        true => Ok(()),
        false => Err(Unlike::Other(
            "none of its projects has the same name in the REST API".to_owned(),
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn projects(of: &[(u32, &str, &str)]) -> Value {
        let list: Vec<_> = of
            .iter()
            .map(|(id, name, organization)| {
                json!({ "projectId": id, "name": name, "organizationId": organization })
            })
            .collect();
        json!({ "projects": list })
    }

    #[test]
    fn a_login_of_another_user_or_organisation_is_refused() {
        let ours = projects(&[(1, "a", "org"), (2, "b", "org"), (3, "c", "other")]);
        let user = json!({ "organizationId": "org" });
        let same = |theirs: &[(u32, &str, &str)]| compare(&projects(theirs), &ours, &user);
        assert_eq!(same(&[(1, "a", "org")]), Ok(()));
        // Renamed meanwhile, but not all of them.
        assert_eq!(same(&[(1, "x", "org"), (2, "b", "org")]), Ok(()));
        for (theirs, reason) in [
            (&[][..], "no project to compare"),
            (&[(9, "a", "org")][..], "does not have"),
            (&[(1, "a", "org"), (9, "b", "org")][..], "does not have"),
            (&[(3, "c", "other")][..], "choose that one"),
            (&[(1, "x", "org")][..], "the same name"),
        ] {
            let refused = same(theirs).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        // What is deleted is no evidence, for or against.
        assert_eq!(
            same(&[(1, "a", "org"), (9, "Recycle Bin/b", "org")]),
            Ok(())
        );
        assert!(same(&[(1, "Recycle Bin/a", "org")]).is_err());
        // A login without a project is another one's, unless the account has none either: what is deleted, or another
        // organisation's, does not count.
        let none = projects(&[]);
        let refused = compare_login(&none, &ours, &user).unwrap_err().to_string();
        assert!(
            refused.contains("the account has the project 1"),
            "{refused}"
        );
        for nothing in [
            &[][..],
            &[(1, "Recycle Bin/a", "org")][..],
            &[(3, "c", "other")][..],
        ] {
            let refused = compare_login(&none, &projects(nothing), &user);
            assert_eq!(refused, Err(Unlike::NoProject), "{nothing:?}");
        }
        let own = projects(&[(1, "a", "org")]);
        assert_eq!(compare_login(&own, &ours, &user), Ok(()));
        // A remote server that does not say the organisation: what the REST API says decides.
        let unsaid = json!({ "projects": [{ "projectId": 3, "name": "c" }] });
        let refused = compare(&unsaid, &ours, &user).unwrap_err().to_string();
        assert!(refused.contains("organisation other"), "{refused}");
        for broken in [
            json!({}),
            json!({ "projects": [{ "name": "a" }] }),
            json!([]),
        ] {
            assert!(compare(&broken, &ours, &user).is_err());
            assert!(compare(&projects(&[(1, "a", "org")]), &broken, &user).is_err());
        }
    }

    #[test]
    fn a_login_that_lacks_a_project_of_the_organisation_is_another_user_s() {
        let ours = projects(&[
            (1, "a", "org"),
            (2, "b", "org"),
            (3, "Recycle Bin/c", "org"),
            (4, "d", "other"),
        ]);
        let user = json!({ "organizationId": "org" });
        let (all, part) = (
            projects(&[(1, "a", "org"), (2, "b", "org")]),
            projects(&[(1, "a", "org")]),
        );
        assert_eq!(sees_all(&[&all], &ours, &user), Ok(()));
        assert_eq!(sees_all(&[&part, &all], &ours, &user), Ok(()));
        // Also if the organisation of the user is not said: it is that of the login's projects.
        for user in [&user, &Value::Null] {
            let refused = sees_all(&[&part, &part], &ours, user).unwrap_err();
            assert!(refused.to_string().contains("project 2"), "{refused}");
        }
        // Whose organisation is not said may be another one's.
        let unsaid = json!({ "projects": [{ "projectId": 1, "name": "a" }, { "projectId": 2, "name": "b" }] });
        assert_eq!(sees_all(&[&part], &unsaid, &user), Ok(()));
        assert!(sees_all(&[&part], &json!({}), &user).is_err());
        assert!(sees_all(&[&json!({})], &ours, &user).is_err());
    }

    #[test]
    fn an_endpoint_of_another_user_of_the_organisation_is_refused() {
        let ours = projects(&[
            (1, "a", "org"),
            (2, "b", "org"),
            (3, "Recycle Bin/c", "org"),
        ]);
        let user = json!({ "organizationId": "org" });
        let shared = projects(&[(1, "a", "org")]);
        let all = projects(&[(1, "a", "org"), (2, "b", "org")]);
        let same = |theirs: &Value, again: &Value| compare_all(theirs, &ours, again, &user);
        assert_eq!(same(&all, &all), Ok(()));
        // The second project was made after the first list.
        assert_eq!(same(&shared, &all), Ok(()));
        let refused = same(&shared, &shared).unwrap_err().to_string();
        assert!(refused.contains("project 2"), "{refused}");
        assert!(same(&all, &json!({})).is_err());
        let more = projects(&[(1, "a", "org"), (9, "d", "org")]);
        assert!(same(&more, &all).is_err());
        // Without any project it is another user's too, unless the first one has none either, or has one since just now.
        let none = projects(&[]);
        let refused = same(&none, &none).unwrap_err().to_string();
        assert!(refused.contains("project 1"), "{refused}");
        assert_eq!(same(&none, &all), Err(Unlike::NoProject));
        assert_eq!(
            compare_all(&none, &none, &none, &user),
            Err(Unlike::NoProject)
        );
    }

    proptest! {
        #[test]
        fn what_only_the_login_has_is_always_refused(
            ours in proptest::collection::btree_map(0_u32..20, "[ab]{1,2}", 0..8),
            theirs in proptest::collection::btree_map(0_u32..20, "[ab]{1,2}", 0..8),
        ) {
            let body = |of: &std::collections::BTreeMap<u32, String>| {
                let list: Vec<_> = of.iter().map(|(id, name)| (*id, name.as_str(), "org")).collect();
                projects(&list)
            };
            let user = json!({ "organizationId": "org" });
            let outcome = compare(&body(&theirs), &body(&ours), &user);
            let known = theirs.keys().all(|id| ours.contains_key(id));
            let named = theirs.iter().any(|(id, name)| ours.get(id) == Some(name));
            prop_assert_eq!(outcome.is_ok(), known && named);
        }
    }
}
