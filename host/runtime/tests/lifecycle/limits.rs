//! Limits that one invocation, or all of a plugin's together, cannot get past.

use qchost_runtime::StopReason;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::*;
use qchost_testing::uncalled;

/// Counts the lines of plugins.
struct Count(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Count {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "plugin" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const LOG: &str =
    r#"(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))"#;

#[tokio::test]
async fn invocations_of_one_plugin_share_its_lines() {
    let count = Arc::new(AtomicUsize::new(0));
    let layer = Count(Arc::clone(&count));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let flood = calls(
        "(local.set $n (i32.const 500))
         (loop $l
           (call $write (i32.const 2) (i32.const 4096) (i32.const 5) (i32.const 0) (i32.const 0))
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (call $digit (i32.const 1))",
    )
    .import("import qchost:agent/log@0.1.0;", LOG)
    .more(r#"(data (i32.const 4096) "again")"#);
    let upstream = Parking::new();
    let host = upstream.host(|_| {}).await;
    host.load("lab", &flood.build(), GRANT).await.unwrap();
    let runs: Vec<_> = (0..8).map(|_| run(&host, "lab", json!({}))).collect();
    upstream.parked(8).await;
    let begun = Instant::now();
    upstream.release(8);
    for run in runs {
        assert_eq!(run.await.unwrap(), Ok(json!(1)));
    }
    // A line each ten milliseconds besides the first hundred, and a notice for each invocation.
    let most = 100 + begun.elapsed().as_millis() / 10 + 2 + 8;
    let lines = count.load(Ordering::Relaxed);
    assert!(
        (100..=usize::try_from(most).unwrap()).contains(&lines),
        "{lines}, at most {most}"
    );
}

/// Grows by two mebibytes and makes a call; then fails if its input has one character.
fn grows() -> Guest {
    let mut guest = calls(
        "(if (i32.eq (local.get $input_len) (i32.const 1)) (then unreachable))
         (call $digit (i32.const 1))",
    );
    guest.invoke = format!(
        "(if (i32.eq (memory.grow (i32.const 32)) (i32.const -1)) (then unreachable)) {}",
        guest.invoke
    );
    guest
}

#[tokio::test]
async fn an_invocation_gives_everything_back_however_it_ends() {
    let upstream = Parking::new();
    // Room for one of them.
    let host = upstream.host(|options| options.memory = 5 << 20).await;
    let lines = format!("{GRANT}[limits]\nconcurrency = 1\n");
    host.load("lab", &grows().build(), &lines).await.unwrap();
    for round in 1..=10 {
        let dropped = run(&host, "lab", json!("x"));
        upstream.parked(3 * round - 2).await;
        assert_eq!(counts(&host, "lab"), (1, 0, 0));
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
        assert_eq!(counts(&host, "lab"), (0, 0, 0));
        upstream.release(3);
        let trapped = invoke(&host, "lab", json!(1)).await;
        assert!(
            matches!(
                trapped,
                Err(InvokeError::Action(
                    _,
                    ActionError::Stopped(StopReason::Trap(_))
                ))
            ),
            "{trapped:?}"
        );
        assert_eq!(invoke(&host, "lab", json!("x")).await, Ok(json!(1)));
    }
}

#[tokio::test]
async fn a_plugin_leaves_memory_to_its_neighbours() {
    let upstream = Parking::new();
    let host = upstream.host(|options| options.memory = 32 << 20).await;
    let lines = format!("{GRANT}[limits]\nconcurrency = 12\n");
    host.load("greedy", &grows().build(), &lines).await.unwrap();
    host.load("neighbour", &grows().build(), GRANT)
        .await
        .unwrap();
    let runs: Vec<_> = (0..12).map(|_| run(&host, "greedy", json!("x"))).collect();
    // Each takes more than two mebibytes, and together they get sixteen.
    upstream.parked(7).await;
    until(|| runs.iter().filter(|run| run.is_finished()).count() == 5).await;
    let beside = run(&host, "neighbour", json!("x"));
    upstream.parked(8).await;
    upstream.release(8);
    assert_eq!(beside.await.unwrap(), Ok(json!(1)));
    let (mut ran, mut refused) = (0, 0);
    for run in runs {
        match run.await.unwrap() {
            Ok(_) => ran += 1,
            Err(InvokeError::Action(_, ActionError::Stopped(StopReason::HostOutOfMemory))) => {
                refused += 1
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((ran, refused), (7, 5));
}

#[tokio::test]
async fn a_plugin_hands_over_no_more_at_a_time_than_it_may_have() {
    // Two hundred fields that are all the same sixteen kibibytes.
    let guest = Guest::new(
        "(local.set $n (i32.const 200)) (local.set $m (i32.const 8192))
         (loop $l
           (i32.store (local.get $m) (i32.const 12288))
           (i32.store offset=4 (local.get $m) (i32.const 16384))
           (i32.store offset=8 (local.get $m) (i32.const 12288))
           (i32.store offset=12 (local.get $m) (i32.const 16384))
           (local.set $m (i32.add (local.get $m) (i32.const 16)))
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (call $write (i32.const 2) (i32.const 12288) (i32.const 5) (i32.const 8192) (i32.const 200))
         (call $digit (i32.const 1))",
    )
    .import("import qchost:agent/log@0.1.0;", LOG)
    .build();
    let host = Host::new(&uncalled()).await;
    host.load("large", &guest, "").await.unwrap();
    assert_eq!(invoke(&host, "large", json!({})).await, Ok(json!(1)));
    host.load("small", &guest, "[limits]\nmemory = \"4MiB\"")
        .await
        .unwrap();
    let refused = invoke(&host, "small", json!({})).await;
    assert!(
        matches!(
            refused,
            Err(InvokeError::Action(
                _,
                ActionError::Stopped(StopReason::TooLarge { limit: 0x40_0000 })
            ))
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn waiting_for_a_turn_is_part_of_the_time_in_all() {
    let lines = format!("{GRANT}[limits]\nconcurrency = 1\nwall = \"400ms\"\n");
    let (upstream, host, first) = parked(&lines).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    let second = run(&host, "lab", json!({}));
    for late in [first, second] {
        let stopped = late.await.unwrap();
        assert!(
            matches!(
                stopped,
                Err(
                    InvokeError::Action(_, ActionError::Stopped(StopReason::Wall { .. }))
                        | InvokeError::Busy { .. }
                )
            ),
            "{stopped:?}"
        );
    }
    // Two hundred of waiting and two hundred of running; four hundred more would be its own time.
    assert!(begun.elapsed() >= Duration::from_millis(390));
    upstream.release(2);
    host.gate.idle().await;
}
