//! A connection that a test scripts: it answers as told and remembers what was sent.
//!
//! What the gate asks for itself, to find out what a call touches, is answered here, at once, and is
//! not among what was sent: every project is there, and one compile.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::{BoxFuture, Call, Failure, Outcome, Upstream};
use serde_json::{Map, Value, json};

/// A compile that is there without having been made, in project 1.
pub const COMPILED: &str = "compiled";

/// A call that was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub tool: String,
    pub arguments: Map<String, Value>,
}

/// What a test answers, and after how long.
pub type Answer = dyn Fn(&Sent) -> (Duration, Outcome) + Send + Sync;

/// The connection. Clones are the same one.
#[derive(Clone)]
pub struct Scripted {
    answer: Arc<Answer>,
    sent: Arc<Mutex<Vec<Sent>>>,
    answered: Arc<Mutex<usize>>,
}

impl Scripted {
    pub fn new(answer: impl Fn(&Sent) -> (Duration, Outcome) + Send + Sync + 'static) -> Self {
        Self {
            answer: Arc::new(answer),
            sent: Arc::default(),
            answered: Arc::default(),
        }
    }

    /// What was sent so far, in order.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().clone()
    }

    /// How often a tool was called.
    pub fn count(&self, tool: &str) -> usize {
        self.sent().iter().filter(|sent| sent.tool == tool).count()
    }

    /// How many calls were answered.
    pub fn answered(&self) -> usize {
        *self.answered.lock()
    }
}

impl Upstream for Scripted {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        let sent = Sent {
            tool: call.target.tool().to_owned(),
            arguments: call.arguments,
        };
        if let Some(known) = known(&sent) {
            return Box::pin(async { Ok(known) });
        }
        self.sent.lock().push(sent.clone());
        let (wait, outcome) = (self.answer)(&sent);
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            *self.answered.lock() += 1;
            outcome
        })
    }

    fn download<'a>(
        &'a self,
        _account: &'a str,
        _url: &'a str,
        _limit: u64,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        Box::pin(async { Err(Failure::NotFound("nothing is stored here".to_owned())) })
    }
}

/// A connection that must not be called.
pub fn uncalled() -> Scripted {
    Scripted::new(|sent| panic!("{sent:?} was sent"))
}

/// The answer to what the gate asks for itself.
fn known(sent: &Sent) -> Option<Value> {
    let project = sent.arguments.get("projectId")?;
    let compile = sent.arguments.get("compileId").and_then(Value::as_str);
    match (sent.tool.as_str(), compile) {
        ("read_project", _) => Some(
            json!({ "projects": [{ "projectId": project, "name": format!("Lab/{project}") }] }),
        ),
        ("read_compile", Some(COMPILED)) => {
            Some(json!({ "projectId": 1, "compileId": COMPILED, "state": "BuildSuccess" }))
        }
        _ => None,
    }
}
