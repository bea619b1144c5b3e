//! The life of a call: sent, classified, and retried where that is safe.
//!
//! Invariants: a non-idempotent operation is retried only after a failure that proves that nothing was done.
//! Nothing is sent without clearance, and a withdrawal of the clearance ends each wait. No call outlives its deadline by
//! more than the time that a dying server's last words are waited for. No argument is logged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use qchost_catalog::host_calls::READ_ACCOUNT;
use qchost_catalog::{
    Access, Call, Clearance, Exception, Failure, Operation, Outcome, Target, Way, always, aside,
};
use rmcp::model::CallToolResult;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::connector::Connector;
use crate::decode::Decoder;
use crate::fault::{Delivery, Fault, Problem, UNAUTHORIZED};
use crate::health::{AccountHealth, AccountState};
use crate::health_tracker::HealthTracker;
use crate::options::AccountOptions;
use crate::pool::{NoSession, Pool};
use crate::text::Redactor;

/// One account: the location of its MCP server and how it is used.
pub struct Account {
    name: String,
    pub(crate) pool: Arc<Pool>,
    /// The calls under way.
    pub(crate) calls: TaskTracker,
    cache: Cache,
    /// What its calls have shown about it.
    pub(crate) tracker: HealthTracker,
    begun: Instant,
}

/// What to do after a send.
enum Step {
    Done(Outcome),
    /// Its clearance refused.
    Withheld(Failure),
    /// Nothing was done; a new session may succeed.
    Reconnect(Failure),
    /// Safe to retry after a wait: the server's own, or ours.
    Again(Failure, Option<Duration>),
}

impl Account {
    /// An account with its name in manifests. Connects on the first call.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        connector: Arc<dyn Connector>,
        options: AccountOptions,
    ) -> Self {
        let name = name.into();
        Self {
            tracker: HealthTracker::new(&name),
            begun: Instant::now(),
            name,
            cache: Cache::new(options.cache_for),
            pool: Pool::new(connector, options),
            calls: TaskTracker::new(),
        }
    }

    /// Its health: what its calls have shown, and the state of its connection.
    pub(crate) fn health(&self) -> AccountHealth {
        let mut health = self.pool.health(&self.name);
        health.seconds_since_news = self.begun.elapsed().as_secs_f64();
        // A closed connection fails every call; an open one tells nothing about the server behind it.
        if health.state.is_problem() {
            return health;
        }
        let known = self.tracker.now();
        // An answer on a closed connection tells nothing about the next one.
        let closed = health.sessions == 0;
        if let Some(known) = known.filter(|known| known.problem.is_some() || !closed) {
            health.state = AccountState::of(known.problem);
            health.seconds_since_news = known.noted.elapsed().as_secs_f64();
            health.seconds_in_state = known.since.elapsed().as_secs_f64();
            health.last_error = known.cause.or(health.last_error);
        }
        health
    }

    /// Makes a read to determine its health.
    pub(crate) async fn check(&self, deadline: Instant) {
        let call = Call {
            account: &self.name,
            target: Target::Known(READ_ACCOUNT),
            arguments: Map::new(),
            deadline,
            clearance: always(),
            sends: None,
        };
        let started = Instant::now();
        if let Err(failure @ Failure::TimedOut { .. }) = self.send(&call, started).await {
            let cause = failure.to_string();
            self.tracker.failed(Problem::Unreachable, cause, None);
        }
    }

    /// Waits for its calls, and closes its connection. There must be no further calls.
    pub(crate) async fn retire(&self) {
        self.calls.close();
        self.calls.wait().await;
        self.pool.retire().await;
        tracing::info!(account = self.name, "a former connection is closed");
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Carries one call.
    #[tracing::instrument(
        name = "upstream_call", level = "debug", skip_all,
        fields(account = %self.name, tool = %call.target.tool()),
    )]
    pub(crate) async fn call(&self, call: &Call<'_>) -> Outcome {
        let started = Instant::now();
        let key = match call.target {
            Target::Known(operation) if operation.cacheable => {
                Some(Cache::key(operation.tool, &call.arguments))
            }
            _ => None,
        };
        if let Some(hit) = key.as_ref().and_then(|key| self.cache.get(key, started)) {
            return Ok(hit);
        }
        let outcome = self.send(call, started).await;
        match &outcome {
            Ok(value) => {
                if let Some(key) = key {
                    self.cache.put(key, value.clone(), Instant::now());
                }
                tracing::debug!(ms = started.elapsed().as_millis(), "answered");
            }
            Err(failure) => tracing::debug!(ms = started.elapsed().as_millis(), %failure, "failed"),
        }
        outcome
    }

    /// Sends the call until it is answered. A write that may have taken effect is never reported as merely
    /// failed: a caller that gets a failure may rely on it that nothing was done.
    async fn send(&self, call: &Call<'_>, started: Instant) -> Outcome {
        let mut lost = None;
        let outcome = self.try_to_send(call, started, &mut lost).await;
        match (outcome, lost) {
            (
                Err(
                    failure @ (Failure::Unavailable(_)
                    | Failure::TimedOut { .. }
                    | Failure::Reauthorize(_)
                    | Failure::RateLimited { .. }
                    | Failure::Halted(_)),
                ),
                Some(lost),
            ) => Err(Failure::UnknownOutcome(format!(
                "sent once ({lost}), and not again: {failure}"
            ))),
            (outcome, _) => outcome,
        }
    }

    /// `lost` describes a send that may have taken effect.
    async fn try_to_send(
        &self,
        call: &Call<'_>,
        started: Instant,
        lost: &mut Option<String>,
    ) -> Outcome {
        let operation = match call.target {
            Target::Known(operation) => Some(operation),
            Target::Unknown(_) => None,
        };
        let redactor = self.redactor_for(operation, &call.arguments);
        let decoder = Decoder {
            operation,
            redactor: &redactor,
            arguments: &call.arguments,
        };
        let options = self.pool.options();
        let mut sent = 0;
        loop {
            let guard = self.pool.acquire(call.deadline);
            let guard = match while_cleared(call.clearance, guard).await {
                Ok(Ok(guard)) => guard,
                Err(refusal) => return Err(refusal),
                Ok(Err(NoSession::Down(problem, reason))) => {
                    self.tracker.failed(problem, reason.clone(), None);
                    let reason = format!("account `{}`: {reason}", self.name);
                    return Err(match problem {
                        Problem::Unauthorized => self.unauthorized(reason),
                        _ => Failure::Unavailable(reason),
                    });
                }
                Ok(Err(NoSession::Late)) => return Err(timed_out(started)),
            };
            // The permit may have come at the last moment, or for a call that was too late already.
            if Instant::now() >= call.deadline {
                return Err(timed_out(started));
            }
            let Some(shape) = guard.session.shape(&call.target) else {
                return Err(self.lacks(&call.target, guard.session.info().name.as_str()));
            };
            let arguments = shape.apply(call.arguments.clone());
            let delivery = guard
                .session
                .call(call.target.tool(), arguments, call.deadline, call.clearance)
                .await;
            drop(guard);
            sent += 1;
            if let Some(sends) = call.sends
                && !matches!(delivery, Delivery::Withheld(_))
            {
                sends.fetch_add(1, Ordering::Relaxed);
            }
            let changes = call.target.access() != Access::Read;
            if changes && matches!(delivery, Delivery::Late { sent: true }) {
                *lost = Some("not answered in time".to_owned());
            }
            let (failure, wait) = match self.judge(decoder, delivery, started) {
                Step::Done(outcome) => return outcome,
                Step::Withheld(refusal) => return Err(refusal),
                // The pool waits before it reconnects, longer each time.
                Step::Reconnect(failure) => (failure, Duration::ZERO),
                Step::Again(failure, wait) => {
                    if changes && matches!(failure, Failure::Unavailable(_)) {
                        *lost = Some(failure.to_string());
                    }
                    // A server may ask for a longer wait than ours, never for a shorter one.
                    let ours = options.backoff.delay(sent);
                    (failure, wait.map_or(ours, |wait| wait.max(ours)))
                }
            };
            if sent >= options.attempts {
                return Err(failure);
            }
            // The wait may be the server's, and so of any length.
            let next = Instant::now().checked_add(wait);
            if next.is_none_or(|next| next >= call.deadline) {
                return Err(failure);
            }
            tracing::debug!(%failure, ?wait, "to be sent again");
            while_cleared(call.clearance, sleep(wait)).await?;
        }
    }

    /// Redacts the connection's secrets and the settings of profiles among the arguments, also the short numbers among
    /// them, since a server may quote its input.
    fn redactor_for(
        &self,
        operation: Option<&Operation>,
        arguments: &Map<String, Value>,
    ) -> Redactor {
        let mut sent = Vec::new();
        for exception in operation.map_or(&[][..], |operation| operation.exceptions) {
            if let Exception::Profile(field) | Exception::Profiles(field) = exception
                && let Some(value) = arguments.get(*field)
            {
                collect_strings(value, &mut sent);
            }
        }
        self.pool.redactor().with_sent(sent)
    }

    /// The failure of a call whose credentials are refused: at the remote server they are a login that ended.
    fn unauthorized(&self, reason: String) -> Failure {
        match self.pool.options().way {
            Way::Rest => Failure::Unavailable(reason),
            Way::Remote => Failure::Reauthorize(reason),
        }
    }

    fn lacks(&self, target: &Target<'_>, server: &str) -> Failure {
        let message = format!(
            "the server `{server}` of account `{}` has no tool `{}`",
            self.name,
            target.tool()
        );
        match target {
            Target::Known(_) => Failure::Unavailable(format!("{message}; update the server")),
            Target::Unknown(_) => Failure::NotFound(message),
        }
    }

    /// What to do after a delivery, and what it shows about the account.
    fn judge(&self, decoder: Decoder<'_>, delivery: Delivery, started: Instant) -> Step {
        let line = |reason: &str| decoder.redactor.line(reason);
        let unreachable = |reason: &str| {
            self.tracker
                .failed(Problem::Unreachable, line(reason), None);
        };
        match delivery {
            Delivery::Answer(result) => match aside(length(&result), || decoder.answer(result)) {
                Ok(answer) => {
                    self.tracker.answered();
                    Step::Done(Ok(answer))
                }
                Err(fault) => self.fault(fault),
            },
            Delivery::Refused(error) => self.fault(decoder.protocol_error(&error).into()),
            Delivery::RateLimited(retry_after) => {
                self.fault(Failure::RateLimited { retry_after }.into())
            }
            Delivery::Withheld(refusal) => Step::Withheld(refusal),
            Delivery::NotSent(reason) => {
                unreachable(&reason);
                Step::Reconnect(Failure::Unavailable(line(&reason)))
            }
            Delivery::Lost(reason) => {
                unreachable(&reason);
                retry(decoder.lost(&line(&reason)))
            }
            Delivery::Barred(reason) => Step::Done(Err(Failure::Unavailable(line(&reason)))),
            Delivery::Unauthorized(reason) => self.fault(Fault {
                failure: self.unauthorized(format!("{UNAUTHORIZED}: {}", line(&reason))),
                problem: Some(Problem::Unauthorized),
            }),
            Delivery::Forbidden(reason) => self.fault(Fault {
                failure: Failure::Unavailable(format!("{UNAUTHORIZED}: {}", line(&reason))),
                problem: Some(Problem::Forbidden),
            }),
            Delivery::Garbled(reason) => {
                unreachable(&reason);
                Step::Done(Err(if decoder.idempotent() {
                    Failure::UnexpectedResponse(line(&reason))
                } else {
                    Failure::UnknownOutcome(line(&reason))
                }))
            }
            Delivery::Late { sent: true } if !decoder.idempotent() => {
                Step::Done(Err(Failure::UnknownOutcome(format!(
                    "sent, but not answered within {:.1} s",
                    started.elapsed().as_secs_f64()
                ))))
            }
            Delivery::Late { .. } => Step::Done(Err(timed_out(started))),
        }
    }

    /// What to do after a failure that the server reported.
    fn fault(&self, Fault { failure, problem }: Fault) -> Step {
        let wait = match failure {
            Failure::RateLimited { retry_after } => {
                Some(retry_after.unwrap_or(self.pool.options().backoff.max))
            }
            _ => None,
        };
        match problem {
            Some(problem) => self.tracker.failed(problem, cause(&failure), wait),
            None => self.tracker.answered(),
        }
        match problem {
            // Retrying with the same credentials would fail again.
            Some(Problem::Unauthorized | Problem::Forbidden | Problem::Clock) => {
                Step::Done(Err(failure))
            }
            _ => retry(failure),
        }
    }
}

/// The text of a failure.
fn cause(failure: &Failure) -> String {
    match failure {
        Failure::Unavailable(words) | Failure::Reauthorize(words) => words.clone(),
        failure => failure.to_string(),
    }
}

/// Bytes of an answer's texts.
fn length(result: &CallToolResult) -> usize {
    let texts = result.content.iter().filter_map(|block| block.as_text());
    texts.map(|block| block.text.len()).sum()
}

/// Of the decoder's failures, these two prove that a retry is safe.
fn retry(failure: Failure) -> Step {
    match failure {
        Failure::RateLimited { retry_after } => Step::Again(failure, retry_after),
        Failure::Unavailable(_) => Step::Again(failure, None),
        failure => Step::Done(Err(failure)),
    }
}

/// Waits for a future, unless the clearance is withdrawn meanwhile.
async fn while_cleared<T>(
    clearance: &dyn Clearance,
    what: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = what => Ok(done),
        // Lazy: most calls find an open session at once, and then nothing is watched.
        refusal = async { clearance.withdrawn().await } => Err(refusal),
    }
}

fn timed_out(started: Instant) -> Failure {
    Failure::TimedOut {
        after: started.elapsed(),
    }
}

fn collect_strings(value: &Value, into: &mut Vec<SecretString>) {
    match value {
        Value::String(text) => into.push(SecretString::from(text.as_str())),
        Value::Array(list) => list.iter().for_each(|value| collect_strings(value, into)),
        Value::Object(map) => map.values().for_each(|value| collect_strings(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use qchost_catalog::BoxFuture;
    use tokio::sync::watch;
    use tokio::time::Instant;

    use super::*;

    struct Halting(watch::Sender<bool>);

    impl Clearance for Halting {
        fn clear(&self) -> Result<(), Failure> {
            unreachable!("a wait clears nothing")
        }

        fn withdrawn(&self) -> BoxFuture<'_, Failure> {
            Box::pin(async {
                let mut halted = self.0.subscribe();
                halted.wait_for(|halted| *halted).await.unwrap();
                Failure::Halted("closed".to_owned())
            })
        }
    }

    /// With paused time, the clock advances only if something waits for it.
    #[tokio::test(start_paused = true)]
    async fn a_withdrawal_ends_a_wait_without_a_tick_of_the_clock() {
        let clearance = Halting(watch::Sender::new(false));
        let begun = Instant::now();
        let waiting = while_cleared(&clearance, pending::<()>());
        let halting = async {
            while clearance.0.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
            clearance.0.send_replace(true);
        };
        let (outcome, ()) = tokio::join!(waiting, halting);
        assert_eq!(outcome, Err(Failure::Halted("closed".to_owned())));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_withdrawal_before_a_wait_ends_it_and_what_needs_no_wait_watches_nothing() {
        let clearance = Halting(watch::Sender::new(true));
        let outcome = while_cleared(&clearance, pending::<()>()).await;
        assert!(matches!(outcome, Err(Failure::Halted(_))), "{outcome:?}");
        assert_eq!(while_cleared(&clearance, ready(1)).await, Ok(1));
    }
}
