//! Calls whose terms change while they are about to be retried: nothing is retried under terms that are
//! no longer in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::approvals::{deployment, profiles};
use qchost_catalog::{Access, BoxFuture, Call, Failure, Outcome, Upstream};
use qchost_gate::{Gate, PluginCalls as _, Refusal};
use qchost_testing::cloud::{
    Cloud, Handle, Setup, approve, call, file, parse, person, principal, records, required, until,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;

const FILES: &str = "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\nlimits = { per-day = 1, per-minute = 1, concurrent = 1 }\n";
const TESTS: &str =
    "[[grant]]\nname = \"tests\"\nallow = [\"backtests/*\"]\nprojects = [\"Lab/*\"]\n";
const KEYS: &str = "[[grant]]\nname = \"keys\"\nallow = [\"object-store/*\"]\norganizations = [\"o\"]\nkeys = [\"k\"]\n";
const DEPLOY: &str = "[[grant]]\nname = \"paper\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"paper\"]\napproval = \"operator\"\n";

/// A connection whose first send of each call fails, and which waits before it retries.
struct Twice {
    cloud: Handle,
    /// Whether the outcome of the first send is unknown.
    lost: bool,
    sent: AtomicU32,
    first: AtomicU32,
    may_go_on: Semaphore,
}

/// What the gate is given of it.
struct Link(Arc<Twice>);

impl Upstream for Link {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Outcome> {
        let connection = &self.0;
        Box::pin(async move {
            // The rest is read by the host to decide.
            let plugins = [
                "read_file",
                "create_file",
                "create_live_algorithm",
                "read_object_store_file_job_id",
            ];
            if !plugins.contains(&call.target.tool()) {
                return connection.cloud.call(call).await;
            }
            call.clearance.clear()?;
            connection.sent.fetch_add(1, Ordering::SeqCst);
            if connection.first.fetch_add(1, Ordering::SeqCst) == 0 {
                connection.may_go_on.acquire().await.unwrap().forget();
                if let Err(refusal) = call.clearance.clear() {
                    let changes = call.target.access() != Access::Read;
                    return Err(if connection.lost && changes {
                        Failure::UnknownOutcome(format!("sent once, and not again: {refusal}"))
                    } else {
                        refusal
                    });
                }
                connection.sent.fetch_add(1, Ordering::SeqCst);
            }
            connection.cloud.call(call).await
        })
    }

    fn download<'a>(
        &'a self,
        account: &'a str,
        url: &'a str,
        limit: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<u8>, Failure>> {
        self.0.cloud.download(account, url, limit, deadline)
    }
}

struct Retrying {
    gate: Gate,
    connection: Arc<Twice>,
    setup: Setup,
    folder: TempDir,
}

impl Retrying {
    async fn open(grants: &str, lost: bool) -> Self {
        let mut setup = Setup::grants(grants);
        setup.profiles = profiles();
        let folder = tempfile::tempdir().unwrap();
        let connection = Arc::new(Twice {
            cloud: Handle(Cloud::new()),
            lost,
            sent: AtomicU32::new(0),
            first: AtomicU32::new(0),
            may_go_on: Semaphore::new(0),
        });
        let upstream = Box::new(Link(Arc::clone(&connection)));
        let gate = Gate::open(upstream, setup.options(folder.path()).await)
            .await
            .unwrap();
        gate.policies.install(parse(&setup.manifest)).unwrap();
        Self {
            gate,
            connection,
            setup,
            folder,
        }
    }

    /// Makes a call, and once it was sent for the first time, makes a change and lets it go on.
    async fn change_under(
        &self,
        name: &'static str,
        arguments: Value,
        change: impl AsyncFnOnce(),
    ) -> Result<Value, Refusal> {
        let gate = self.gate.clone();
        let calling = async move { call(&gate, &principal("lab"), name, arguments).await };
        self.change_during(calling, change).await
    }

    /// The same with anything that makes calls.
    async fn change_during<T: Send + 'static>(
        &self,
        calling: impl Future<Output = T> + Send + 'static,
        change: impl AsyncFnOnce(),
    ) -> T {
        let before = self.sent();
        let calling = tokio::spawn(calling);
        until("it is sent", async || self.sent() > before).await;
        change().await;
        self.connection.may_go_on.add_permits(1);
        let answer = tokio::time::timeout(Duration::from_secs(10), calling).await;
        answer.unwrap().unwrap()
    }

    fn install(&self, grants: &str) {
        let manifest = Setup::grants(grants).manifest;
        self.gate.policies.install(parse(&manifest)).unwrap();
    }

    fn sent(&self) -> u32 {
        self.connection.sent.load(Ordering::SeqCst)
    }

    async fn records(&self, kind: &str) -> Vec<Value> {
        self.gate.idle().await;
        let records = records(self.folder.path()).into_iter();
        records.filter(|record| record["kind"] == kind).collect()
    }
}

fn write() -> (&'static str, Value) {
    ("files/create-file", file("a.py"))
}

fn read() -> (&'static str, Value) {
    ("files/read-file", json!({ "projectId": 1 }))
}

#[tokio::test]
async fn a_call_is_not_sent_again_once_its_grant_is_gone() {
    for (name, arguments) in [read(), write()] {
        let world = Retrying::open(FILES, false).await;
        let revoke = async || world.install(TESTS);
        let answer = world.change_under(name, arguments.clone(), revoke).await;
        assert!(
            matches!(answer, Err(Refusal::Denied(_))),
            "{name}: {answer:?}"
        );
        assert_eq!(world.sent(), 1, "{name}");
        assert_eq!(world.records("denied").await.len(), 1, "{name}");
        if name == "files/create-file" {
            let outcomes = world.records("outcome").await;
            assert_eq!(outcomes.len(), 1);
            let reason = outcomes[0]["reason"].as_str().unwrap();
            assert!(reason.contains("decided again"), "{reason}");
            // Nothing was done, so nothing of its day is used; its minute is.
            world.install(&FILES.replace("per-minute = 1, ", ""));
            let twin = call(&world.gate, &principal("lab"), name, arguments).await;
            twin.unwrap();
        }
    }
}

#[tokio::test]
async fn a_call_is_sent_again_when_something_else_changed() {
    for (name, arguments) in [read(), write()] {
        let world = Retrying::open(FILES, false).await;
        // Its obligations are the same, and what it took for them is not taken twice.
        let other = format!("{TESTS}{FILES}");
        let answer = world
            .change_under(name, arguments, async || world.install(&other))
            .await;
        answer.unwrap();
        assert_eq!(world.sent(), 2, "{name}");
        assert!(world.records("denied").await.is_empty(), "{name}");
        // The attempt that was held back has its own outcome.
        let intents = world.records("intent").await;
        let outcomes = world.records("outcome").await;
        assert_eq!(intents.len(), outcomes.len(), "{name}");
        if name == "files/create-file" {
            assert_eq!(intents.len(), 2);
            assert_ne!(intents[0]["call"], intents[1]["call"]);
            assert_eq!(outcomes[1]["outcome"], "answered");
        }
    }
}

/// A download consists of several calls of the host, each of which needs the plugin's grant.
#[tokio::test]
async fn a_step_of_a_download_is_not_sent_again_once_its_grant_is_gone() {
    for other in [TESTS.to_owned(), format!("{TESTS}{KEYS}")] {
        let world = Retrying::open(KEYS, false).await;
        world.connection.cloud.0.hook(|tool, _| {
            let url = json!({ "success": true, "url": "https://store.example/archive" });
            (tool == "read_object_store_file_job_id").then_some(Ok(url))
        });
        let gate = world.gate.clone();
        let download = async move { gate.download(&principal("lab"), "o", "k", 10).await };
        let change = async || world.install(&other);
        let answer = world.change_during(download, change).await;
        if other == TESTS {
            assert!(matches!(answer, Err(Refusal::Denied(_))), "{answer:?}");
            assert_eq!(world.sent(), 1);
            assert_eq!(world.records("denied").await.len(), 1);
        } else {
            // There is nothing behind the address.
            assert!(
                matches!(answer, Err(Refusal::Failed(Failure::NotFound(_)))),
                "{answer:?}"
            );
            assert_eq!(world.sent(), 2);
        }
    }
}

#[tokio::test]
async fn a_call_keeps_to_the_limits_of_then() {
    let world = Retrying::open(FILES, false).await;
    let (name, arguments) = write();
    // Another limit: the rate is charged again, and the minute has no unit left.
    let other = FILES.replace("concurrent = 1", "concurrent = 2");
    let answer = world
        .change_under(name, arguments, async || world.install(&other))
        .await;
    assert!(matches!(answer, Err(Refusal::RateLimited(_))), "{answer:?}");
    assert_eq!(world.sent(), 1);
    // Its guard and its unit of the daily count are released, and acquired again.
    let unhurried = FILES.replace("per-minute = 1, ", "");
    let world = Retrying::open(&unhurried, false).await;
    let (name, arguments) = write();
    let more = unhurried.replace("concurrent = 1", "concurrent = 2");
    let answer = world
        .change_under(name, arguments, async || world.install(&more))
        .await;
    answer.unwrap();
    assert_eq!(world.sent(), 2);
}

/// It may have taken effect, so the outcome is unknown, whatever it was denied later.
#[tokio::test]
async fn a_write_that_may_have_been_done_is_not_called_denied() {
    let world = Retrying::open(FILES, true).await;
    let (name, arguments) = write();
    let answer = world
        .change_under(name, arguments, async || world.gate.proposals.remove("lab"))
        .await;
    assert!(
        matches!(answer, Err(Refusal::Failed(Failure::UnknownOutcome(_)))),
        "{answer:?}"
    );
    assert_eq!(world.sent(), 1);
    assert_eq!(world.records("lost").await.len(), 1);
    assert!(world.records("denied").await.is_empty());
}

#[tokio::test]
async fn a_permit_is_given_back_with_a_try_that_was_held_back() {
    let world = Retrying::open(DEPLOY, false).await;
    let deploy = ("live/create-live-algorithm", deployment(1, "paper"));
    let lab = principal("lab");
    let id = required(call(&world.gate, &lab, deploy.0, deploy.1.clone()).await);
    approve(&world.gate, &id, &person(7, "ann")).await;
    let other = format!("{TESTS}{DEPLOY}");
    let answer = world
        .change_under(deploy.0, deploy.1.clone(), async || world.install(&other))
        .await;
    answer.unwrap();
    assert_eq!(world.sent(), 2);
    // It was for one call.
    required(call(&world.gate, &lab, deploy.0, deploy.1).await);
}

/// A brokerage's settings are filled in for each send, from the profiles of that instant.
#[tokio::test]
async fn a_deployment_is_not_sent_with_settings_that_were_not_approved() {
    let world = Retrying::open(DEPLOY, false).await;
    let deploy = ("live/create-live-algorithm", deployment(1, "paper"));
    let lab = principal("lab");
    let id = required(call(&world.gate, &lab, deploy.0, deploy.1.clone()).await);
    approve(&world.gate, &id, &person(7, "ann")).await;
    let mut settings = world.setup.settings();
    let mut changed = profiles();
    let cash = qchost_secrets::Setting::Plain(json!(1_000_000));
    changed
        .get_mut("paper")
        .unwrap()
        .insert("cash".to_owned(), cash);
    settings.profiles = qchost_secrets::Profiles::new(changed, settings.secrets.clone());
    let answer = world
        .change_under(deploy.0, deploy.1, async || {
            world.gate.reconfigurer.reconfigure(settings).await.unwrap();
        })
        .await;
    required(answer);
    assert_eq!(world.sent(), 1);
}
