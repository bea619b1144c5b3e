//! Settles writes with unknown outcome: from the two stores at start, and by reading QuantConnect when an operator
//! asks.
//!
//! Invariant: a guess is never recorded. What cannot be told from what QuantConnect shows stays open, with a hint on
//! what to look at.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::{Timestamp, tz::TimeZone};
use qchost_audit::{Audit, AuditError, Entry, Kind, Trace};
use qchost_catalog::deployment::has_ended;
use qchost_catalog::host_calls::showing;
use qchost_catalog::{Effect, Failure, Operation, Selector, by_name, is_deleted_project};
use qchost_ledger::{Ledger, Settlement};
use qchost_policy::Person;
use qchost_scope::Reader as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::body::{CallBody, Project};
use crate::error::GateError;
use crate::reads::HostReader;
use crate::unsettled::{Intent, UnsettledWrites};

/// Tolerance in seconds for an effect that seems older than its intent, because clocks differ.
const MAX_CLOCK_SKEW: i64 = 5;

/// What was learned about a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// It took effect.
    Done,
    /// It did not.
    NotDone,
    /// Unknown, and a person accepted that it may be sent again.
    Accepted,
    /// Unknown.
    Open,
}

/// Why reconciliation failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The audit cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// No such call with an unknown outcome.
    #[error("there is no call {0} whose outcome is unknown; `qchost audit reconcile` lists them")]
    NotOpen(String),
}

/// A write whose outcome was unknown, and what is known of it now.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Reconciled {
    /// The call's id in the audit.
    pub call: String,
    /// The account.
    pub account: String,
    /// The plugin.
    pub plugin: String,
    /// The operation.
    pub operation: String,
    /// The project, by id and name, if there is one.
    pub project: Option<Project>,
    /// What was learned.
    pub finding: Finding,
    /// The evidence, or what to look at.
    pub message: String,
}

impl Reconciled {
    /// The body of the record that ends the call.
    fn outcome(&self, by: &Person) -> CallBody {
        let outcome = match self.finding {
            Finding::Done => "reconciled: done",
            Finding::NotDone => "reconciled: not done",
            Finding::Accepted | Finding::Open => "reconciled: accepted",
        };
        CallBody {
            call: self.call.clone(),
            account: self.account.clone(),
            plugin: self.plugin.clone(),
            operation: self.operation.clone(),
            project: Some(self.project.clone()),
            person: Some(by.uid),
            reason: Some(self.message.clone()),
            outcome: Some(Some(outcome.to_owned())),
            ..CallBody::default()
        }
    }
}

/// Settles writes.
pub struct Reconciler {
    pub(crate) ledger: Ledger,
    pub(crate) audit: Audit,
    pub(crate) reads: Arc<HostReader>,
    pub(crate) unsettled: Arc<UnsettledWrites>,
}

impl Reconciler {
    /// Makes ledger and audit agree on the calls of former runs. A reservation without a recorded intent is given back,
    /// since nothing is sent before its intent; every other one counts.
    pub(crate) async fn settle_former_runs(&self) -> Result<(), GateError> {
        let ledger = &self.ledger;
        let open = ledger.open_reservations().await?;
        let Some(first) = open.iter().map(|reservation| reservation.begun_ms).min() else {
            return Ok(());
        };
        let calls = open.iter().map(|reservation| reservation.call.clone());
        let traces = self.traces(calls.collect(), first).await?;
        for reservation in open {
            let intended = traces.contains_key(&reservation.call);
            let how = if intended {
                Settlement::Commit
            } else {
                Settlement::Release
            };
            tracing::warn!(target: "gate", call = reservation.call, plugin = reservation.plugin, intended, "a call of a former run was reserved and not settled");
            ledger.settle(reservation.id, how).await?;
        }
        Ok(())
    }

    /// The records of some calls that began no earlier than an instant.
    async fn traces(
        &self,
        calls: HashSet<String>,
        unix_ms: i64,
    ) -> Result<HashMap<String, Trace>, GateError> {
        let audit = self.audit.clone();
        let since = unix_ms.saturating_sub(MAX_CLOCK_SKEW * 1000);
        let since = Timestamp::from_millisecond(since).unwrap_or(Timestamp::MIN);
        let find = move || qchost_audit::trace(audit.files(), audit.folder(), &calls, since);
        let found = tokio::task::spawn_blocking(find).await;
        Ok(found.unwrap_or(Err(AuditError::Closed))?)
    }

    /// Reads QuantConnect to learn how the writes with unknown outcome ended, and records what is learned. Those in
    /// `accepted` may be sent again whatever became of them; a person takes responsibility for that.
    ///
    /// # Errors
    /// When it cannot be recorded, or a call in `accepted` has no unknown outcome.
    pub async fn reconcile(
        &self,
        by: &Person,
        accepted: &[String],
    ) -> Result<Vec<Reconciled>, ReconcileError> {
        let intents = self.unsettled.list();
        let known = |call: &&String| intents.iter().any(|intent| intent.body.call == **call);
        if let Some(unknown) = accepted.iter().find(|call| !known(call)) {
            return Err(ReconcileError::NotOpen(unknown.clone()));
        }
        let mut all = Vec::with_capacity(intents.len());
        for intent in intents {
            let is_accepted = accepted.contains(&intent.body.call);
            let unsaid = |failure: Failure| open(format!("QuantConnect does not say: {failure}"));
            let (finding, message) = self.probe(&intent).await.unwrap_or_else(unsaid);
            let finding = match finding {
                Finding::Open if is_accepted => Finding::Accepted,
                found => found,
            };
            let project = intent.body.project().cloned();
            let CallBody {
                call,
                account,
                plugin,
                operation,
                ..
            } = intent.body;
            let settled = Reconciled {
                call,
                account,
                plugin,
                operation,
                project,
                finding,
                message,
            };
            if finding != Finding::Open {
                let entry = Entry::new(Kind::Outcome, false, &settled.outcome(by));
                self.audit.record(entry).await?;
                self.unsettled.remove(&settled.call);
            }
            all.push(settled);
        }
        Ok(all)
    }

    /// Looks for the effect of a write at QuantConnect.
    async fn probe(&self, intent: &Intent) -> Result<(Finding, String), Failure> {
        let name = &intent.body.operation;
        let effect = by_name(name).and_then(|operation| operation.effect);
        let Some((effect, read)) = effect.and_then(|effect| Some((effect, showing(effect)?)))
        else {
            let message = if effect == Some(Effect::Compiles) {
                "a compile changes nothing; compile again where one is needed".to_owned()
            } else {
                format!(
                    "what `{name}` did cannot be told from what is there now; compare it with the arguments in the audit"
                )
            };
            return Ok(open(message));
        };
        let arguments = match effect {
            // All of the account: those of the project are picked from the list.
            Effect::Deploys => Map::new(),
            _ => intent.arguments_for(read),
        };
        let answer = self.read_for(intent, read, arguments).await;
        Ok(match effect {
            Effect::Creates { items, name, .. } => intent.made_since(&answer?, items, "name", name),
            Effect::Removes { .. } => gone(answer)?,
            Effect::Deploys => intent.launched_since(&answer?),
            _ => intent.ended_since(&answer?),
        })
    }

    async fn read_for(
        &self,
        intent: &Intent,
        operation: &'static Operation,
        arguments: Map<String, Value>,
    ) -> Result<Value, Failure> {
        let account = &intent.body.account;
        let reads = self.reads.for_host(account, self.reads.call_timeout);
        reads.read(operation, arguments).await
    }
}

impl Intent {
    /// An argument of the call, as QuantConnect names it.
    fn argument(&self, name: &str) -> Value {
        let arguments = self.body.arguments.as_ref();
        let value = arguments.and_then(|arguments| arguments.get(name));
        value.cloned().unwrap_or_default()
    }

    /// The arguments of a read of what the intended call is about.
    fn arguments_for(&self, read: &Operation) -> Map<String, Value> {
        let names = read.selectors.iter().map(Selector::argument);
        names
            .map(|name| (name.to_owned(), self.argument(name)))
            .collect()
    }

    /// When the intent was recorded, in seconds since 1970.
    fn time(&self) -> Option<i64> {
        let time: Timestamp = self.time.parse().ok()?;
        Some(time.as_second() - MAX_CLOCK_SKEW)
    }

    /// Whether a list contains an item with the given name, created since.
    fn made_since(
        &self,
        body: &Value,
        list: &str,
        named: &str,
        argument: &str,
    ) -> (Finding, String) {
        // A long name is kept as its digest only.
        let Value::String(name) = self.argument(argument) else {
            return open("its name is not in the audit");
        };
        let items = body.get(list).and_then(Value::as_array);
        let Some(items) = items else {
            return open(format!("QuantConnect lists no {list}"));
        };
        let mut same = items
            .iter()
            .filter(|item| item.get(named).and_then(Value::as_str) == Some(&*name));
        let Some(since) = self.time() else {
            return open("the intent has no time");
        };
        let mut undated = false;
        let made = same.find(|item| match item.get("created").and_then(instant) {
            Some(created) => created >= since,
            None => {
                undated = true;
                false
            }
        });
        match (made, undated) {
            (Some(item), _) => {
                let id = ["projectId", "backtestId", "optimizationId"]
                    .iter()
                    .find_map(|id| item.get(*id));
                (
                    Finding::Done,
                    format!("{name} was created then: {}", id.unwrap_or(&Value::Null)),
                )
            }
            (None, true) => open(format!("there is a {name}, and it is not known since when")),
            (None, false) => (Finding::NotDone, format!("no {name} was created since")),
        }
    }

    /// The project's deployments in a list.
    fn deployments<'a>(&self, body: &'a Value) -> Option<Vec<&'a Value>> {
        let project = self.argument("projectId");
        let listed = body.get("live")?.as_array()?.iter();
        let own = listed.filter(|one| one.get("projectId") == Some(&project));
        Some(own.collect())
    }

    /// Whether a deployment of the project ended since. Which one a call ended, QuantConnect does not say.
    fn ended_since(&self, body: &Value) -> (Finding, String) {
        let (Some(own), Some(since)) = (self.deployments(body), self.time()) else {
            return open("the deployments cannot be compared");
        };
        let running = own
            .iter()
            .filter(|one| !has_ended(one.get("status").and_then(Value::as_str)));
        let mut ended = own
            .iter()
            .filter_map(|one| one.get("stopped").and_then(instant));
        let has_ended_since = ended.any(|at| at >= since);
        match (own.len(), running.count()) {
            (0, _) => open("the list has no deployment of the project"),
            (_, 0) => (
                Finding::Done,
                "no deployment of the project runs".to_owned(),
            ),
            (_, running) if has_ended_since => (
                Finding::Done,
                format!("a deployment of the project ended then; {running} run"),
            ),
            (_, running) => (
                Finding::NotDone,
                format!("no deployment of the project ended since; {running} run"),
            ),
        }
    }

    /// Whether the project's algorithm was launched since.
    fn launched_since(&self, body: &Value) -> (Finding, String) {
        let (Some(own), Some(since)) = (self.deployments(body), self.time()) else {
            return open("the deployments cannot be compared");
        };
        let mut launched = own
            .iter()
            .filter_map(|one| one.get("launched").and_then(instant));
        if launched.any(|launched| launched >= since) {
            (Finding::Done, "the project was deployed then".to_owned())
        } else {
            (
                Finding::NotDone,
                "the project was not deployed since".to_owned(),
            )
        }
    }
}

/// That it is unknown, and what to look at.
fn open(message: impl Into<String>) -> (Finding, String) {
    (Finding::Open, message.into())
}

/// Whether an answer is about projects that are all deleted: QuantConnect still has them under another name.
fn is_deleted(body: &Value) -> bool {
    let projects = body.get("projects").and_then(Value::as_array);
    projects.is_some_and(|projects| {
        let name = |project: &Value| {
            let name = project.get("name").and_then(Value::as_str);
            name.is_some_and(is_deleted_project)
        };
        !projects.is_empty() && projects.iter().all(name)
    })
}

/// Whether the deleted item is gone.
fn gone(outcome: Result<Value, Failure>) -> Result<(Finding, String), Failure> {
    match outcome {
        Ok(body) if is_deleted(&body) => Ok((Finding::Done, "it is deleted".to_owned())),
        Ok(_) => Ok((Finding::NotDone, "it is still there".to_owned())),
        Err(Failure::NotFound(_)) => Ok((Finding::Done, "it is gone".to_owned())),
        Err(Failure::Rejected(errors)) => Ok(open(errors.join("; "))),
        Err(failure) => Err(failure),
    }
}

/// An instant in QuantConnect's formats, in UTC: `2024-01-31 09:30:00` or `2024-01-31T14:30:00Z`.
fn instant(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_second());
    }
    let civil: DateTime = text.parse().ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn instants_are_read_in_both_forms() {
        assert_eq!(instant(&json!("1970-01-02 00:00:00")), Some(86_400));
        assert_eq!(instant(&json!("1970-01-02T00:00:01Z")), Some(86_401));
        assert_eq!(instant(&json!("yesterday")), None);
    }

    #[test]
    fn a_project_in_the_recycle_bin_is_deleted() {
        let read = |name: &str| Ok(json!({ "projects": [{ "projectId": 7, "name": name }] }));
        let found = |name: &str| gone(read(name)).map(|(finding, _)| finding);
        assert_eq!(found("Recycle Bin/Lab/a"), Ok(Finding::Done));
        assert_eq!(found("Lab/a"), Ok(Finding::NotDone));
        let none = Ok(json!({ "projects": [] }));
        assert_eq!(gone(none).map(|(finding, _)| finding), Ok(Finding::NotDone));
    }

    #[test]
    fn what_was_there_before_is_not_taken_for_what_was_made() {
        let intent = Intent {
            time: "2024-01-31T00:00:00Z".to_owned(),
            body: CallBody {
                arguments: Some(json!({ "name": "Lab/a" })),
                ..CallBody::default()
            },
        };
        let made = |created: Value| {
            let body =
                json!({ "projects": [{ "name": "Lab/a", "projectId": 7, "created": created }] });
            intent.made_since(&body, "projects", "name", "name").0
        };
        assert_eq!(made(json!("2024-01-31 00:00:01")), Finding::Done);
        assert_eq!(made(json!("2024-01-30 00:00:00")), Finding::NotDone);
        assert_eq!(made(Value::Null), Finding::Open);
        let other = json!({ "projects": [] });
        assert_eq!(
            intent.made_since(&other, "projects", "name", "name").0,
            Finding::NotDone
        );
    }
    #[test]
    fn of_several_deployments_one_that_ended_since_was_ended() {
        let intent = Intent {
            time: "2024-01-31T00:00:00Z".to_owned(),
            body: CallBody {
                arguments: Some(json!({ "projectId": 7 })),
                ..CallBody::default()
            },
        };
        let row = |project: u32, status: &str, stopped: Value| json!({ "projectId": project, "status": status, "stopped": stopped });
        let runs = || row(7, "Running", Value::Null);
        let found = |rows: Value| intent.ended_since(&json!({ "live": rows })).0;
        let then = || json!("2024-01-31 00:00:01");
        assert_eq!(
            found(json!([runs(), row(7, "Stopped", then())])),
            Finding::Done
        );
        assert_eq!(
            found(json!([row(7, "RuntimeError", Value::Null)])),
            Finding::Done
        );
        let before = row(7, "Stopped", json!("2024-01-30 00:00:00"));
        let another = row(8, "Stopped", then());
        assert_eq!(found(json!([runs(), before, another])), Finding::NotDone);
        assert_eq!(found(json!([])), Finding::Open);
        assert_eq!(intent.ended_since(&json!({})).0, Finding::Open);
    }
}
