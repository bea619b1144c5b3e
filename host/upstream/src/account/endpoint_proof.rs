//! Whose the endpoints of an account are: each is compared with the reference, or with what is remembered of the account.
//!
//! Invariant: what is read here is the host's own, and changes nothing. An endpoint carries no call before its comparison has
//! succeeded (see [`Endpoints`](crate::endpoints::Endpoints)).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use qchost_catalog::host_calls::{LIST_PROJECTS, READ_ACCOUNT};
use qchost_catalog::{Call, Failure, Operation, Outcome, Target, Way, always};
use serde_json::{Map, Value};
use tokio::time::timeout_at;

use super::{Account, timed_out};
use crate::endpoints::Unproven;
use crate::identity::{Identity, organization, same_organization};
use crate::pool::NoSession;
use crate::proof::compare_all;

impl Account {
    /// Finds out which endpoints are the account's, for no longer than the call waits for one of them.
    pub(crate) async fn find_endpoints(&self, call: &Call<'_>) {
        let patience = self.endpoints.first().pool.options().failover_after;
        let soon = Instant::now().checked_add(patience);
        let soon = soon.map_or(call.deadline, |soon| soon.min(call.deadline));
        let unread_for = self.endpoints.proof_interval();
        self.prove_endpoints(soon, unread_for).await;
    }

    /// Compares the endpoints that are not known to be the account's with the reference. If another call does so, this one
    /// goes on with what is known; if nothing is, it waits for that. A comparison that could not be made is repeated after
    /// `unread_for`.
    pub(super) async fn prove_endpoints(&self, deadline: Instant, unread_for: Duration) {
        if self.endpoints.unproven(unread_for).is_empty() {
            return;
        }
        let _proving = match self.proving.try_lock() {
            Ok(proving) => proving,
            Err(_) if self.endpoints.is_settled() => return,
            Err(_) => match timeout_at(deadline.into(), self.proving.lock()).await {
                Ok(proving) => proving,
                Err(_) => return,
            },
        };
        for index in self.endpoints.unproven(unread_for) {
            let endpoint = self.endpoints.exactly(index).endpoint;
            let number = index.saturating_add(1);
            let outcome = match self.endpoints.reference() {
                None if index == 0 => self.prove_login(deadline).await,
                _ => self.compare_endpoint(index, deadline).await,
            };
            let outcome = match outcome {
                Err(Unproven::NoReference(failure)) if !self.endpoints.is_settled() => {
                    self.elect(index, failure, deadline).await
                }
                outcome => outcome,
            };
            // It is the one with which the others are compared.
            if endpoint.is_reference() {
                continue;
            }
            if let Err(why) = &outcome {
                tracing::warn!(
                    account = self.name,
                    "endpoint {number} is not known to be the account's, and is not used: {why}"
                );
            }
            endpoint.identified(outcome);
        }
    }

    /// Makes the first endpoint the reference if its login is of the user that is remembered, or if none is.
    async fn prove_login(&self, deadline: Instant) -> Result<(), Unproven> {
        let said = self.read_identity(0, deadline).await;
        let (list, user) = said.map_err(Unproven::Unread)?;
        if let Some(known) = self.recall()
            && let Err(reason) = known.matches(&list, &user)
        {
            return Err(Unproven::Other(format!(
                "the login is not of the user that is remembered of the account: {reason}; log in as that user, or log out first, \
                 by which the user is forgotten: qchost account logout NAME"
            )));
        }
        self.endpoints.trust(0);
        self.note(&list, &user).await;
        Ok(())
    }

    /// Makes an endpoint the reference, in place of one that never answered for this reason, if it has what is remembered of the
    /// account.
    async fn elect(
        &self,
        index: usize,
        failure: Failure,
        deadline: Instant,
    ) -> Result<(), Unproven> {
        let known = self.recall().ok_or(Unproven::NoMemory)?;
        let said = self.read_identity(index, deadline).await;
        let (list, user) = said.map_err(Unproven::Unread)?;
        known.matches(&list, &user).map_err(Unproven::Other)?;
        // Meanwhile it may have answered.
        if self.endpoints.is_settled() {
            return Err(Unproven::NoReference(failure));
        }
        tracing::warn!(
            account = self.name,
            "the others are compared with endpoint {}, which has what is remembered of the account, since none before it \
             answers: {failure}",
            index.saturating_add(1)
        );
        self.endpoints.refer_to(index, failure);
        self.note(&list, &user).await;
        Ok(())
    }

    /// What is remembered of the account, if something can be compared with it.
    fn recall(&self) -> Option<Identity> {
        let known = self.memory.as_ref()?.recall(&self.name)?;
        Some(known).filter(Identity::is_comparable)
    }

    /// What an endpoint says of itself: its projects and its user.
    async fn read_identity(
        &self,
        index: usize,
        deadline: Instant,
    ) -> Result<(Value, Value), Failure> {
        let started = Instant::now();
        self.reach(index, started, deadline).await?;
        let call = self.own_call(LIST_PROJECTS, deadline);
        let list = self.carry(&call, started, Some(index)).await?;
        let user = match self.way() {
            Way::Rest => self.read_at(index, READ_ACCOUNT, deadline).await?,
            // The remote server does not say whose login it has.
            Way::Remote => Value::Null,
        };
        Ok((list, user))
    }

    /// Remembers what the reference says of itself, unless that was done.
    pub(super) async fn note_reference(&self, deadline: Instant) {
        if self.memory.is_none() || self.is_noted.load(Ordering::Relaxed) {
            return;
        }
        if let Some(index) = self.endpoints.reference()
            && self.endpoints.is_settled()
            && let Ok((list, user)) = self.read_identity(index, deadline).await
        {
            self.note(&list, &user).await;
        }
    }

    /// Remembers what the reference said of itself, in place of what was remembered: the first endpoint is the account's by the
    /// configuration.
    async fn note(&self, list: &Value, user: &Value) {
        let Some(memory) = &self.memory else { return };
        if self.is_noted.load(Ordering::Relaxed) {
            return;
        }
        let now = match Identity::read(list, user) {
            Ok(now) => now,
            Err(reason) => {
                return tracing::warn!(
                    account = self.name,
                    "whose the account is cannot be remembered: {reason}"
                );
            }
        };
        if let Some(known) = self.recall()
            && let Err(reason) = known.matches(list, user)
        {
            tracing::warn!(
                account = self.name,
                "endpoint 1 is not as the account is remembered: {reason}; what it is now is remembered in place of that, and if the \
                 account was not changed on purpose, correct its credentials"
            );
            memory.replaced(&self.name, known.replaced_by(&now, reason));
        }
        // Without a project, a later list has to be waited for.
        self.is_noted.store(now.is_comparable(), Ordering::Relaxed);
        if memory.recall(&self.name).as_ref() != Some(&now) {
            memory.remember(&self.name, now).await;
        }
    }

    /// Remembers the projects of a list that was answered to a call.
    pub(super) async fn note_list(&self, call: &Call<'_>, list: &Value) {
        let Some(memory) = &self.memory else { return };
        if call.target.tool() != LIST_PROJECTS.tool || !call.arguments.is_empty() {
            return;
        }
        let Some(known) = memory.recall(&self.name) else {
            return;
        };
        if let Some(now) = known.refreshed(list)
            && now != known
        {
            memory.remember(&self.name, now).await;
        }
    }

    /// Whether its first endpoint is known to be another user's or organisation's than is remembered of the account.
    pub(crate) fn is_other(&self) -> bool {
        self.endpoints.reference().is_none() && self.endpoints.first().is_other()
    }

    /// Whether an endpoint has the user and the organisation of the reference.
    async fn compare_endpoint(&self, index: usize, deadline: Instant) -> Result<(), Unproven> {
        // What exists there now is listed here afterwards, also if it was made just now.
        let theirs = self.read_at(index, LIST_PROJECTS, deadline).await;
        let theirs = theirs.map_err(Unproven::Unread)?;
        let Some(reference) = self.endpoints.reference() else {
            let reason = "it is not known whose endpoint 1 is";
            return Err(Unproven::NoReference(Failure::Unavailable(
                reason.to_owned(),
            )));
        };
        let ours = self.read_at(reference, LIST_PROJECTS, deadline).await;
        let ours = ours.map_err(Unproven::NoReference)?;
        let again = self.read_at(index, LIST_PROJECTS, deadline).await;
        let again = again.map_err(Unproven::Unread)?;
        if self.way() == Way::Remote {
            // The remote server does not say whose login it has.
            return compare_all(&theirs, &ours, &again, &Value::Null).map_err(Unproven::from);
        }
        let their_user = self.read_at(index, READ_ACCOUNT, deadline).await;
        let their_user = their_user.map_err(Unproven::Unread)?;
        let user = self.read_at(reference, READ_ACCOUNT, deadline).await;
        let user = user.map_err(Unproven::NoReference)?;
        self.note(&ours, &user).await;
        same_organization(organization(&their_user), organization(&user))
            .map_err(Unproven::Other)?;
        compare_all(&theirs, &ours, &again, &user).map_err(Unproven::from)
    }

    /// A request at one endpoint that only shows whether that answers: of what comes in pages, it reads one.
    pub(super) async fn probe(
        &self,
        index: usize,
        operation: &'static Operation,
        deadline: Instant,
    ) -> Outcome {
        let started = Instant::now();
        self.reach(index, started, deadline).await?;
        let call = self.own_call(operation, deadline);
        self.send(&call, started, Some(index)).await
    }

    /// A read of the host's own at one endpoint, which is not waited for if it is down and there is another one.
    async fn read_at(
        &self,
        index: usize,
        operation: &'static Operation,
        deadline: Instant,
    ) -> Outcome {
        let started = Instant::now();
        self.reach(index, started, deadline).await?;
        let call = self.own_call(operation, deadline);
        self.carry(&call, started, Some(index)).await
    }

    /// Opens a session of an endpoint unless one is open.
    async fn reach(
        &self,
        index: usize,
        started: Instant,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let endpoint = self.endpoints.exactly(index).endpoint;
        let has_other = self.endpoints.has_others();
        match endpoint.pool.acquire(deadline, has_other).await {
            Ok(guard) => drop(guard),
            Err(NoSession::Down(problem, reason)) => {
                endpoint.failed(problem, reason.clone(), None);
                return Err(endpoint.down(problem, reason));
            }
            Err(NoSession::Late) => return Err(timed_out(started)),
        }
        Ok(())
    }

    /// A read of the host's own.
    fn own_call(&self, operation: &'static Operation, deadline: Instant) -> Call<'_> {
        Call {
            account: &self.name,
            target: Target::Known(operation),
            arguments: Map::new(),
            deadline,
            clearance: always(),
            sends: None,
        }
    }
}
