//! One account's limit, shared by plugins that want more than there is.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use qchost_testing::cloud::{Setup, call, parse, principal};

const PER_MINUTE: u32 = 2400;
const SECONDS: u32 = 10;

/// Both have a grant for everything; the one asks with forty tasks at a time, the other with one, which
/// pauses between its calls and wants a quarter of what there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_plugin_does_not_starve_another() {
    let grants = "[[grant]]\nname = \"g\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\n";
    let mut setup = Setup::grants(grants);
    setup.limits.per_minute = NonZeroU32::new(PER_MINUTE);
    let slow = parse(&setup.manifest.replace("\"lab\"\n", "\"slow\"\n"));
    let world = setup.open().await;
    world.gate.policies.install(slow).unwrap();
    let end = Instant::now() + Duration::from_secs(SECONDS.into());
    let ask = |plugin: &'static str, every: Duration, answered: Arc<AtomicU32>| {
        let gate = world.gate.clone();
        tokio::spawn(async move {
            let mut next = Instant::now();
            while Instant::now() < end {
                let read = json!({ "projectId": 1, "name": "main.py" });
                call(&gate, &principal(plugin), "files/read-file", read)
                    .await
                    .unwrap();
                answered.fetch_add(1, Ordering::Relaxed);
                next += every;
                tokio::time::sleep_until(next.into()).await;
            }
        })
    };
    let (busy, slow) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let rate = PER_MINUTE / 60;
    let quarter = Duration::from_secs(1) * 4 / rate;
    let mut tasks: Vec<_> = (0..40)
        .map(|_| ask("lab", Duration::ZERO, Arc::clone(&busy)))
        .collect();
    tasks.push(ask("slow", quarter, Arc::clone(&slow)));
    for task in tasks {
        task.await.unwrap();
    }
    let (busy, slow) = (busy.load(Ordering::Relaxed), slow.load(Ordering::Relaxed));
    let wanted = rate / 4 * SECONDS;
    assert!(
        slow * 10 >= wanted * 9,
        "it got {slow} of the {wanted} that it asked for; the busy one got {busy}"
    );
    // There was not enough for both, or this would say nothing.
    assert!(busy + slow <= rate * SECONDS * 12 / 10, "{busy} and {slow}");
}
