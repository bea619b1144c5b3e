//! A call on its way: admitted, reserved, recorded, sent, and its outcome kept.
//!
//! Invariant: the caller may go away at any time. Until a read is sent, or a write's intent is handed to the audit, that
//! ends the call and releases its reservation; from then on the call runs to completion here, and its outcome is recorded.
//! Nothing is sent or retried under terms that are no longer in force.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use qchost_audit::{AuditError, Entry};
use qchost_catalog::{Access, Call, Clearance, Failure, Outcome, always, aside, length};
use qchost_ledger::Settle;
use qchost_scope::Learned;
use qchost_traffic::{Slot, Ticket};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::admission::Admitted;
use crate::answer::without_secrets;
use crate::ask::Ask;
use crate::effort::Effort;
use crate::gate::Gate;
use crate::judge::{decide_all, unresolved};
use crate::record::{self, Known};
use crate::refusal::Refusal;
use crate::sources::Evidence;

/// The resources of a call under way.
pub(crate) struct Held {
    /// Its concurrency guards. Released before the caller has the answer, so that a client that makes calls one by one
    /// finds its guard free for the next.
    pub slots: Vec<Slot>,
    /// Its admission by the account's rate limit. Released as soon as the answer is there, since the reads that check the
    /// answer need admissions of their own.
    pub ticket: Option<Ticket>,
}

pub(crate) struct Sending {
    gate: Gate,
    ask: Ask,
    admitted: Admitted,
}

type Answer = oneshot::Sender<Result<Value, Refusal>>;

impl Sending {
    /// Admits a call, unless its caller stopped waiting, and runs it to completion. The future is created on the small
    /// stack of a guest, so its large parts are allocated when it runs.
    pub(crate) async fn admit(gate: Gate, mut ask: Ask, mut answer: Answer) {
        let admission = let_in(
            &mut answer,
            ask.caller.effort.clone(),
            gate.admit_call(&mut ask),
        );
        let admitted = Box::pin(admission).await;
        match admitted {
            None => {}
            Some(Ok(admitted)) => {
                let sending = Box::new(Self {
                    gate,
                    ask,
                    admitted,
                });
                Box::pin(sending.run(answer)).await;
            }
            Some(Err(refusal)) => drop(answer.send(Err(refusal))),
        }
    }

    /// Runs the call to completion.
    async fn run(mut self: Box<Self>, mut answer: Answer) {
        loop {
            let unsent = if self.ask.access == Access::Read {
                self.read(answer).await
            } else {
                Box::pin(self.write(answer)).await
            };
            // Not sent because its terms had changed: from here on it is a new call.
            answer = match unsent {
                Some(answer) if !answer.is_closed() => answer,
                _ => return,
            };
            let gate = self.gate.clone();
            self.ask.call = gate.next_call();
            let effort = self.ask.caller.effort.clone();
            let again = gate.admit_again(&mut self.ask, self.admitted);
            let admitted = Box::pin(let_in(&mut answer, effort, again)).await;
            match admitted {
                None => return,
                Some(Ok(admitted)) => self.admitted = admitted,
                Some(Err(refusal)) => {
                    drop(answer.send(Err(refusal)));
                    return;
                }
            }
        }
    }

    /// Sends a read and records it. A read changes nothing, so a single record after its end is enough, and it need not be
    /// on disk yet. Returns the reply channel if the read was not sent.
    async fn read(&mut self, answer: Answer) -> Option<Answer> {
        let Admitted { verdict, again, .. } = &self.admitted;
        if !again && let Err(refusal) = self.gate.take_read(&self.ask, verdict).await {
            self.gate
                .note_refusal(&self.ask, &verdict.known(None), &refusal);
            drop(answer.send(Err(refusal)));
            return None;
        }
        let sends = AtomicU32::new(0);
        let Some(outcome) = self.send(always(), &sends).await else {
            return Some(answer);
        };
        drop(self.admitted.held.ticket.take());
        let inner = &self.gate.0;
        let known = Known {
            sends: Some(sends.into_inner()),
            ..self.admitted.verdict.known(None)
        };
        let entry = record::read(&self.ask, &known, &outcome, &inner.prints);
        inner.shares.count(&self.ask.caller.plugin, &entry);
        inner.audit.note(entry);
        let result = match outcome {
            Ok(body) => self.checked(body).await.map(|(body, _)| body),
            Err(failure @ (Failure::NotFound(_) | Failure::Rejected(_))) => {
                let touched = &self.admitted.verdict.touched;
                Err(match inner.scope.refused(self.ask.account(), touched) {
                    Some(error) => unresolved(error),
                    None => failure.into(),
                })
            }
            Err(failure) => Err(failure.into()),
        };
        self.answer(answer, result);
        None
    }

    /// Replies to the caller.
    fn answer(&mut self, answer: Answer, result: Result<Value, Refusal>) {
        self.log(&result, answer.is_closed());
        self.admitted.held.slots.clear();
        drop(answer.send(result));
    }

    /// Sends any other call, after its budget is reserved and its intent recorded. Returns the reply channel if it was not
    /// sent.
    async fn write(&mut self, answer: Answer) -> Option<Answer> {
        let inner = Arc::clone(&self.gate.0);
        let verdict = &self.admitted.verdict;
        let writing = inner.writing.read().await;
        let reservation = match self.gate.reserve(&self.ask, verdict).await {
            Ok(reservation) => reservation,
            Err(refusal) => {
                self.gate
                    .note_refusal(&self.ask, &verdict.known(None), &refusal);
                drop(answer.send(Err(refusal)));
                return None;
            }
        };
        let known = verdict.known(reservation);
        self.ask.intended.set(true);
        // The caller stopped waiting, and no intent is recorded yet.
        if answer.is_closed() {
            self.ask.intended.set(false);
            self.gate
                .settle(&self.ask.call, reservation, Settle::Release)
                .await;
            return None;
        }
        let intent = record::intent(&self.ask, &known, &inner.prints);
        let intended = intent.body.clone();
        inner.shares.count(&self.ask.caller.plugin, &intent);
        if let Err(error) = inner.audit.record(intent).await {
            self.ask.intended.set(false);
            self.gate
                .settle(&self.ask.call, reservation, Settle::Release)
                .await;
            let refusal = unrecorded(&error);
            self.gate.note_refusal(&self.ask, &known, &refusal);
            drop(answer.send(Err(refusal)));
            return None;
        }
        drop(writing);
        // Lets the ledger detect if an older copy of the audit is put in place. Risk-reducing calls wait for no disk but
        // the audit's reserve.
        let ledger = inner.ledger.clone();
        let call = self.ask.call.clone();
        self.gate.spawn(async move {
            if let Err(error) = ledger.store_head().await {
                tracing::warn!(target: "gate", call, %error, "the head of the audit is not in the ledger");
            }
        });
        let departure = inner.halts.departure(&self.ask);
        let sends = AtomicU32::new(0);
        let sent = if self.ask.halted() {
            self.send(&|| departure.clear(), &sends).await
        } else {
            self.send(always(), &sends).await
        };
        let known = Known {
            sends: Some(sends.into_inner()),
            ..known
        };
        let Some(outcome) = sent else {
            departure.ended(SUPERSEDED);
            self.ask.intended.set(false);
            self.gate
                .settle(&self.ask.call, reservation, Settle::Release)
                .await;
            let entry = record::outcome(&self.ask, &known, &Err(superseded()));
            self.record_outcome(entry).await;
            return Some(answer);
        };
        drop(self.admitted.held.ticket.take());
        departure.ended(outcome.as_ref().map_or_else(Failure::word, |_| "answered"));
        drop(departure);
        let done = is_done(&outcome);
        let lost = matches!(outcome, Err(Failure::UnknownOutcome(_)));
        if !done {
            // Before the reply, so that a caller that retries at once finds its budget restored, except for the attempt.
            let how = if is_answered(&outcome) {
                Settle::Refused
            } else {
                Settle::Release
            };
            self.gate.settle(&self.ask.call, reservation, how).await;
        }
        if lost {
            self.gate.keep_unsettled(intended);
        }
        let mut entry = record::outcome(&self.ask, &known, &outcome);
        let stopped = self.check_deployment(&outcome).await;
        let result = match (outcome, stopped) {
            (_, Some(stopped)) => {
                let refusal = Refusal::Failed(Failure::UnexpectedResponse(stopped));
                entry
                    .body
                    .insert("reason".to_owned(), refusal.to_string().into());
                Err(refusal)
            }
            (Ok(body), None) => {
                let evidence = Evidence::of(&body);
                match self.checked(body).await {
                    Ok((body, learned)) => {
                        self.keep(learned, evidence).await;
                        Ok(body)
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            (Err(failure), None) => Err(failure.into()),
        };
        inner.shares.count(&self.ask.caller.plugin, &entry);
        self.answer(answer, result);
        if done {
            self.gate
                .settle(&self.ask.call, reservation, Settle::Commit)
                .await;
        }
        self.record_outcome(entry).await;
        None
    }

    async fn record_outcome(&self, entry: Entry) {
        if let Err(error) = self.gate.0.audit.record(entry).await {
            tracing::error!(target: "gate", call = self.ask.call, %error, "the outcome of a write is not recorded; qchost audit reconcile finds it");
        }
    }

    /// Sends the call, if `leave` clears it and its terms still hold at that instant. Fills in what the host keeps from
    /// plugins at the last moment, and removes it from the answer. Returns `None` if it was not sent because its terms had
    /// changed. A call that was sent before with unknown effect is not retried then; its outcome is unknown.
    ///
    /// `sends` counts how often it was sent.
    async fn send(&self, leave: Clearance<'_>, sends: &AtomicU32) -> Option<Outcome> {
        let (gate, ask, settings) = (&self.gate, &self.ask, self.ask.settings());
        let mut arguments = ask.arguments.clone();
        if let Some(operation) = ask.operation {
            operation.complete(&mut arguments);
            let filled = settings.profiles.fill(operation, &mut arguments).await;
            if let Err(failure) = filled {
                return Some(Err(failure));
            }
        }
        let changed = AtomicBool::new(false);
        let clearance = || {
            if !gate.still(ask) {
                changed.store(true, Ordering::Relaxed);
                return Err(superseded());
            }
            leave()
        };
        let call = Call {
            account: ask.account(),
            target: ask.target(),
            arguments,
            deadline: ask.begun + gate.0.call_timeout,
            clearance: &clearance,
            sends: Some(sends),
        };
        let redactor = settings.secrets.redactor();
        match gate.0.upstream.call(call).await {
            Ok(mut body) => {
                aside(length(&body), || redactor.clean_value(&mut body));
                Some(Ok(body))
            }
            Err(Failure::Unavailable(_)) if changed.load(Ordering::Relaxed) => None,
            Err(failure) => Some(Err(
                failure.map_text(|text| redactor.clean(&text).into_owned())
            )),
        }
    }

    /// Withholds the parts of an answer that are out of scope.
    async fn checked(&self, body: Value) -> Result<(Value, Learned), Refusal> {
        let Some(operation) = self.ask.operation else {
            return Ok((body, Learned::default()));
        };
        let allowed = |facts: &qchost_policy::Facts| {
            decide_all(&self.ask.terms, &self.ask, std::slice::from_ref(facts)).is_ok()
        };
        let reads = self.gate.reads(&self.ask);
        let (account, plugin) = (self.ask.account(), &*self.ask.caller.plugin);
        let touched = &self.admitted.verdict.touched;
        let (body, learned) = self
            .gate
            .0
            .scope
            .answer(&reads, account, plugin, operation, touched, body, &allowed)
            .await
            .map_err(unresolved)?;
        Ok((without_secrets(operation, body), learned))
    }

    /// Reads a deployment back, if what it runs was checked before, and stops it if it runs something else. Returns a
    /// message about that.
    async fn check_deployment(&self, outcome: &Outcome) -> Option<String> {
        let before = self.admitted.source.before.as_ref()?;
        let (project, _) = self.admitted.verdict.touched.project.as_ref()?;
        // If the answer was lost, it is unknown whether the deployment exists: stopping might hit another one.
        let answer = outcome.as_ref().ok()?;
        if self.ask.access != Access::Trade {
            return None;
        }
        let (gate, ask) = (&self.gate, &self.ask);
        let why = gate.check_deployed(ask, *project, before, answer).await?;
        Some(gate.stop_deployment(ask, *project, &why).await)
    }

    /// Stores what was learned from an answer.
    async fn keep(&self, learned: Learned, evidence: Evidence) {
        let (account, plugin) = (self.ask.account(), &*self.ask.caller.plugin);
        if let Some(project) = learned.created {
            let inner = &self.gate.0;
            inner.scope.remember_created(account, plugin, project);
            let ledger = &inner.ledger;
            if let Err(error) = ledger.record_created(account, plugin, project).await {
                tracing::warn!(target: "gate", plugin, project, %error, "who created a project is not remembered");
            }
        }
        if let Some((project, compile)) = learned.compile {
            self.gate
                .remember_compile(
                    &self.ask,
                    project,
                    &compile,
                    self.admitted.source.before.as_ref(),
                    evidence,
                )
                .await;
        }
    }

    fn log(&self, result: &Result<Value, Refusal>, alone: bool) {
        let Ask {
            caller,
            tool,
            access,
            begun,
            ..
        } = &self.ask;
        let outcome = result.as_ref().map_or_else(Refusal::word, |_| "answered");
        let (plugin, invocation) = (&*caller.plugin, &*caller.invocation);
        let (ms, awaited) = (begun.elapsed().as_millis(), !alone);
        if *access == Access::Read {
            tracing::debug!(target: "gate", plugin, invocation, %tool, access = access.word(), awaited, %ms, outcome);
        } else {
            tracing::info!(target: "gate", plugin, invocation, %tool, access = access.word(), awaited, %ms, outcome);
        }
    }
}

/// Admits a call, charged to its caller, or returns `None` if the caller has stopped waiting. That is checked first, since
/// an admitted read is sent.
async fn let_in(
    answer: &mut Answer,
    effort: Effort,
    admission: impl Future<Output = Result<Admitted, Refusal>>,
) -> Option<Result<Admitted, Refusal>> {
    let admission = pin!(admission);
    tokio::select! {
        biased;
        () = answer.closed() => None,
        admitted = effort.charge(admission) => Some(admitted),
    }
}

/// Whether something was done, or may have been.
fn is_done(outcome: &Outcome) -> bool {
    match outcome {
        Ok(_) | Err(Failure::UnknownOutcome(_) | Failure::UnexpectedResponse(_)) => true,
        Err(
            Failure::InvalidArgument(_)
            | Failure::NotFound(_)
            | Failure::NotReady { .. }
            | Failure::Rejected(_)
            | Failure::RateLimited { .. }
            | Failure::Unavailable(_)
            | Failure::TimedOut { .. }
            | Failure::Halted(_),
        ) => false,
    }
}

/// Whether QuantConnect rejected the call, so that nothing was done.
fn is_answered(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Err(Failure::InvalidArgument(_)
            | Failure::NotFound(_)
            | Failure::NotReady { .. }
            | Failure::Rejected(_))
    )
}

/// The outcome of a call that is decided again.
const SUPERSEDED: &str = "superseded";

/// The failure of a call whose terms changed before it was sent.
fn superseded() -> Failure {
    Failure::Unavailable(
        "what the plugin may do changed before it was sent, so it is decided about again; nothing was sent"
            .to_owned(),
    )
}

/// A call that cannot be recorded is not sent.
pub(crate) fn unrecorded(error: &AuditError) -> Refusal {
    Refusal::Failed(Failure::Unavailable(format!(
        "the host cannot write its audit, so nothing was sent: {error}"
    )))
}
