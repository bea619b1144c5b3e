//! Which invocations run when not all can: limits, queues, and fairness among plugins.

use super::*;
use qchost_testing::uncalled;

#[tokio::test]
async fn a_plugin_runs_as_often_at_a_time_as_its_manifest_allows() {
    let upstream = Parking::new();
    let host = upstream.host(|options| options.queue = 1).await;
    let lines = format!("{GRANT}[limits]\nconcurrency = 2\n");
    host.load("lab", &parks(1).build(), &lines).await.unwrap();
    let two = [run(&host, "lab", json!({})), run(&host, "lab", json!({}))];
    upstream.parked(2).await;
    let third = run(&host, "lab", json!({}));
    until(|| counts(&host, "lab") == (2, 1, 0)).await;
    let fourth = invoke(&host, "lab", json!({})).await;
    let busy = InvokeError::Busy {
        plugin: "lab".to_owned(),
        waiting: 1,
    };
    assert_eq!(fourth, Err(busy));
    assert_eq!(upstream.parked.load(Ordering::Acquire), 2);
    upstream.release(3);
    for run in two.into_iter().chain([third]) {
        assert_eq!(run.await.unwrap(), Ok(json!(1)));
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_invocation_along() {
    let lines = format!("{GRANT}[limits]\nconcurrency = 1\n");
    let (upstream, host, gone) = parked(&lines).await;
    let waiting = run(&host, "lab", json!({}));
    let also_gone = run(&host, "lab", json!({}));
    until(|| counts(&host, "lab") == (1, 2, 0)).await;
    also_gone.abort();
    gone.abort();
    // Its admission is returned at once, though its call is still in flight.
    upstream.parked(2).await;
    assert_eq!(counts(&host, "lab"), (1, 0, 0));
    upstream.release(2);
    assert_eq!(waiting.await.unwrap(), Ok(json!(1)));
}

#[tokio::test]
async fn a_plugin_whose_invocations_are_all_parked_does_not_stop_the_others() {
    let upstream = Parking::new();
    let host = upstream.host(|options| options.invocations = 4).await;
    host.load("greedy", &parks(1).build(), GRANT).await.unwrap();
    for name in ["one", "two"] {
        host.load(name, &Guest::echo().build(), "").await.unwrap();
    }
    let parked: Vec<_> = (0..6).map(|_| run(&host, "greedy", json!({}))).collect();
    until(|| counts(&host, "greedy") == (2, 4, 0)).await;
    for round in 0..10 {
        for name in ["one", "two"] {
            assert_eq!(invoke(&host, name, json!(round)).await, Ok(json!(round)));
        }
    }
    assert_eq!(counts(&host, "greedy"), (2, 4, 0));
    host.runtime.unload("one");
    until(|| counts(&host, "greedy") == (3, 3, 0)).await;
    upstream.release(6);
    for run in parked {
        assert_eq!(run.await.unwrap(), Ok(json!(1)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_plugins_that_loop_on_every_processor_do_not_stop_a_third() {
    let host = Arc::new(Host::new(&uncalled()).await);
    host.load("neighbour", &Guest::echo().build(), "")
        .await
        .unwrap();
    let forever = Guest::new("(loop $l (br $l)) unreachable").build();
    let mut loops = Vec::new();
    for name in ["one", "two"] {
        host.load(name, &forever, "[limits]\ncpu = \"500ms\"")
            .await
            .unwrap();
        loops.extend((0..2).map(|_| run(&host, name, json!({}))));
    }
    let mut served = 0;
    while loops.iter().any(|run| !run.is_finished()) {
        let output = invoke(&host, "neighbour", json!(served)).await;
        assert_eq!(output, Ok(json!(served)));
        served += 1;
    }
    assert!(served > 10, "{served}");
    for run in loops {
        let stopped = run.await.unwrap();
        assert!(
            matches!(
                stopped,
                Err(InvokeError::Action(_, ActionError::Stopped(_)))
            ),
            "{stopped:?}"
        );
    }
}
