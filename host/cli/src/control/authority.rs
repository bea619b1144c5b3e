//! Who may request what, by the people in force when it is carried out.
//!
//! Invariant: before the state is open, it is unknown what is in force of the configuration. Until then the people in the
//! file may halt and see the host's status; everything else waits for the host, and is decided again by the people it has
//! in force.

use std::sync::Arc;

use anyhow::{Error, Result};
use qchost_gate::AdminDetail;
use qchost_policy::{People, Person};

use super::shared::Shared;
use crate::exit_status::{ErrorKind, Failed};
use crate::host::{Current, Host, denied, stranger, unknown_person, without_role};
use crate::requests::RequestKind;

/// A person who may make a request.
pub(super) struct AuthorizedRequest {
    pub person: Person,
    pub verb: RequestKind,
    /// The plugin or account it concerns.
    about: Option<String>,
    /// The people it was decided by; `None` if those of the file, because there is no host yet.
    by: Option<Arc<Current>>,
}

impl AuthorizedRequest {
    /// Checks that the user with a uid may make this request, as far as that is known now.
    ///
    /// # Errors
    /// When they may not; the attempt is recorded.
    pub async fn decide(
        uid: u32,
        verb: RequestKind,
        about: Option<&str>,
        shared: &Shared,
    ) -> Result<Self> {
        let by = shared.opened().map(|host| host.current());
        // Read once: the person's name and rights must come from the same people.
        let people = by
            .as_ref()
            .map_or(&shared.people, |current| &current.people);
        let person = match may(people, uid, verb, about) {
            Ok(person) => person,
            Err(denied) => return Err(denied.record(verb, about, shared).await),
        };
        let about = about.map(str::to_owned);
        Ok(Self {
            person,
            verb,
            about,
            by,
        })
    }

    /// Waits for the host, and returns it with the person as the host knows them, if they may make this request now.
    ///
    /// # Errors
    /// When they may not any more, and when there is no host.
    pub async fn confirm(&self, shared: &Shared) -> Result<(Arc<Host>, Person)> {
        let host = shared.host().await?;
        let current = host.current();
        if matches!(&self.by, Some(by) if Arc::ptr_eq(by, &current)) {
            return Ok((host, self.person.clone()));
        }
        let (uid, about) = (self.person.uid, self.about.as_deref());
        match may(&current.people, uid, self.verb, about) {
            Ok(person) => Ok((host, person)),
            Err(denied) => Err(denied.record(self.verb, about, shared).await),
        }
    }
}

/// Why a user may not make a request.
struct Denied {
    person: Person,
    /// `None` if the host does not know the user at all.
    reason: Option<String>,
}

impl Denied {
    /// Records the attempt; returns the error for the client.
    async fn record(self, verb: RequestKind, about: Option<&str>, shared: &Shared) -> Error {
        let Self { person, reason } = self;
        let Some(reason) = reason else {
            return refuse_stranger(person.uid, shared).await;
        };
        if let Some(host) = shared.opened() {
            let right = Some(verb.rules().right);
            let detail = AdminDetail::Denied {
                about: about.map(str::to_owned),
                reason: reason.clone(),
            };
            shared.denials.note(&host, &person, right, detail).await;
        }
        denied(verb.rules().right, &reason, &shared.data)
    }
}

fn may(
    people: &People,
    uid: u32,
    verb: RequestKind,
    about: Option<&str>,
) -> Result<Person, Denied> {
    let Some(person) = people.by_uid(uid).cloned() else {
        let person = without_role(uid);
        return Err(Denied {
            person,
            reason: None,
        });
    };
    let decision = people.decide(&person, verb.rules().right, about);
    if decision.allowed {
        return Ok(person);
    }
    let denial = decision.denial.map(|denial| denial.reason);
    let reason = Some(denial.unwrap_or_default());
    Err(Denied { person, reason })
}

/// Records the attempt of a user without a role; returns why it is refused.
pub(super) async fn refuse_stranger(uid: u32, shared: &Shared) -> Error {
    let Some(host) = shared.opened() else {
        return Failed::error(ErrorKind::DENIED, stranger(uid, &shared.data, None));
    };
    let person = without_role(uid);
    let denials = &shared.denials;
    denials.note(&host, &person, None, unknown_person()).await;
    Failed::error(ErrorKind::DENIED, host.stranger(uid))
}
