//! A call that was allowed, on its way: reserved, written down, sent, and its outcome kept.
//!
//! Invariant: whoever asked may go away at any time. Until the intent is written down, that ends the
//! call and gives back what was reserved; from then on the call runs to its end here, and its outcome
//! is recorded.

use std::sync::Arc;

use qchost_audit::AuditError;
use qchost_catalog::{Access, Call, Failure, Outcome, always};
use qchost_ledger::Settle;
use qchost_scope::Learned;
use qchost_traffic::{Slot, Ticket};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::answer::without_secrets;
use crate::ask::Ask;
use crate::gate::Gate;
use crate::judge::{Verdict, decide_all, unresolved};
use crate::record;
use crate::refusal::Refusal;
use crate::sources::Files;

/// What a call holds while it is under way.
pub(crate) struct Held {
    pub _slots: Vec<Slot>,
    /// Its turn on the account: given back as soon as the answer is there, since what the host reads to
    /// check the answer takes turns of its own.
    pub ticket: Option<Ticket>,
}

pub(crate) struct Sending {
    pub gate: Gate,
    pub ask: Ask,
    pub verdict: Verdict,
    pub held: Held,
    /// The files of the project, where the call compiles it and they may be deployed.
    pub sources: Option<Files>,
}

impl Sending {
    /// Runs the call to its end.
    pub(crate) async fn run(self, answer: oneshot::Sender<Result<Value, Refusal>>) {
        if self.ask.access == Access::Read {
            self.read(answer).await;
        } else {
            self.write(answer).await;
        }
    }

    /// A read changes nothing, so one record at its end is enough, and need not be on disk yet.
    async fn read(mut self, answer: oneshot::Sender<Result<Value, Refusal>>) {
        if let Err(refusal) = self.gate.take_read(&self.ask, &self.verdict).await {
            self.gate
                .note_refusal(&self.ask, &self.verdict.known(None), &refusal);
            drop(answer.send(Err(refusal)));
            return;
        }
        let outcome = self.send(always()).await;
        drop(self.held.ticket.take());
        let inner = &self.gate.0;
        inner.options.audit.note(record::read(
            &self.ask,
            &self.verdict.known(None),
            &outcome,
            &inner.prints,
        ));
        let result = match outcome {
            Ok(body) => self.checked(body).await.map(|(body, _)| body),
            Err(failure) => Err(failure.into()),
        };
        self.log(&result, answer.is_closed());
        drop(answer.send(result));
    }

    /// Everything else is reserved and written down first.
    async fn write(mut self, answer: oneshot::Sender<Result<Value, Refusal>>) {
        let inner = Arc::clone(&self.gate.0);
        let writing = inner.writing.read().await;
        let reservation = match self.gate.reserve(&self.ask, &self.verdict).await {
            Ok(reservation) => reservation,
            Err(refusal) => {
                self.gate
                    .note_refusal(&self.ask, &self.verdict.known(None), &refusal);
                drop(answer.send(Err(refusal)));
                return;
            }
        };
        let known = self.verdict.known(reservation);
        // Nobody waits any more, and nothing says that it will be sent.
        if answer.is_closed() {
            self.gate
                .settle(&self.ask.call, reservation, Settle::Release)
                .await;
            return;
        }
        let intent = record::intent(&self.ask, &known, &inner.prints);
        let intended = intent.body.clone();
        if let Err(error) = inner.options.audit.record(intent).await {
            self.gate
                .settle(&self.ask.call, reservation, Settle::Release)
                .await;
            let refusal = unrecorded(&error);
            self.gate.note_refusal(&self.ask, &known, &refusal);
            drop(answer.send(Err(refusal)));
            return;
        }
        drop(writing);
        let departure = inner.halts.departure(&self.ask);
        let outcome = if self.ask.halted() {
            self.send(&|| departure.clear()).await
        } else {
            self.send(always()).await
        };
        drop(self.held.ticket.take());
        departure.ended(outcome.as_ref().map_or_else(Failure::word, |_| "answered"));
        let done = is_done(&outcome);
        let lost = matches!(outcome, Err(Failure::UnknownOutcome(_)));
        if !done {
            // Before the answer: whoever tries again at once finds its budget whole.
            self.gate
                .settle(&self.ask.call, reservation, Settle::Release)
                .await;
        }
        if lost {
            self.gate.keep_unsettled(intended);
        }
        let entry = record::outcome(&self.ask, &known, &outcome);
        let result = match outcome {
            Ok(body) => match self.checked(body).await {
                Ok((body, learned)) => {
                    self.keep(learned).await;
                    Ok(body)
                }
                Err(refusal) => Err(refusal),
            },
            Err(failure) => Err(failure.into()),
        };
        self.log(&result, answer.is_closed());
        drop(answer.send(result));
        if done {
            self.gate
                .settle(&self.ask.call, reservation, Settle::Commit)
                .await;
        }
        if let Err(error) = inner.options.audit.record(entry).await {
            tracing::error!(target: "gate", call = self.ask.call, %error, "the outcome of a write is not recorded; qchost audit reconcile finds it");
        }
    }

    /// Sends the call: fills in what the host keeps from plugins at the last moment, and takes it out
    /// of what comes back.
    async fn send(&self, clearance: qchost_catalog::Clearance<'_>) -> Outcome {
        let options = &self.gate.0.options;
        let mut arguments = self.ask.arguments.clone();
        if let Some(operation) = self.ask.operation {
            operation.complete(&mut arguments);
            options.profiles.fill(operation, &mut arguments).await?;
        }
        let call = Call {
            account: self.ask.account(),
            target: self.ask.target(),
            arguments,
            deadline: self.ask.begun + options.call_timeout,
            clearance,
        };
        let redactor = options.secrets.redactor();
        match self.gate.0.upstream.call(call).await {
            Ok(mut body) => {
                redactor.clean_value(&mut body);
                Ok(body)
            }
            Err(failure) => Err(failure.map_text(|text| redactor.clean(&text).into_owned())),
        }
    }

    /// Withholds what of an answer is out of scope.
    async fn checked(&self, body: Value) -> Result<(Value, Learned), Refusal> {
        let Some(operation) = self.ask.operation else {
            return Ok((body, Learned::default()));
        };
        let allowed = |facts: &qchost_policy::Facts| {
            decide_all(&self.ask, std::slice::from_ref(facts)).is_ok()
        };
        let reads = self.gate.reads(&self.ask);
        let (account, plugin) = (self.ask.account(), &*self.ask.caller.plugin);
        let touched = &self.verdict.touched;
        let (body, learned) = self
            .gate
            .0
            .scope
            .answer(&reads, account, plugin, operation, touched, body, &allowed)
            .await
            .map_err(unresolved)?;
        Ok((without_secrets(operation, body), learned))
    }

    /// Keeps what an answer taught.
    async fn keep(&self, learned: Learned) {
        let (account, plugin) = (self.ask.account(), &*self.ask.caller.plugin);
        if let Some(project) = learned.created {
            let inner = &self.gate.0;
            inner.scope.remember_created(account, plugin, project);
            let ledger = &inner.options.ledger;
            if let Err(error) = ledger.record_created(account, plugin, project).await {
                tracing::warn!(target: "gate", plugin, project, %error, "who created a project is not remembered");
            }
        }
        if let Some((project, compile)) = learned.compile {
            self.gate
                .remember_compile(&self.ask, project, &compile, self.sources.as_ref())
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

/// What is not written down is not sent.
pub(crate) fn unrecorded(error: &AuditError) -> Refusal {
    Refusal::Failed(Failure::Unavailable(format!(
        "the host cannot write its audit, so nothing was sent: {error}"
    )))
}
