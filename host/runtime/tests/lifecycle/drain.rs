//! A former version ends within its drain time or is cut off, and its code is freed.

use std::sync::Weak;

use qchost_runtime::Plugin;
use tokio::task::JoinSet;

use super::*;
use qchost_testing::uncalled;

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn who_runs_on_a_former_version_for_too_long_is_cut_off() {
    let upstream = Parking::new();
    let host = upstream.host(|options| options.drain = SHORT).await;
    host.load("lab", &parks(1).build(), GRANT).await.unwrap();
    let former = run(&host, "lab", json!({}));
    upstream.parked(1).await;
    let begun = Instant::now();
    host.load("lab", &parks(2).build(), GRANT).await.unwrap();
    let new = run(&host, "lab", json!({}));
    let cut = former.await.unwrap();
    assert!(begun.elapsed() >= SHORT);
    assert!(
        matches!(cut, Err(InvokeError::Action(_, ActionError::Replaced))),
        "{cut:?}"
    );
    upstream.parked(2).await;
    assert_eq!(counts(&host, "lab"), (1, 0, 0), "the new one is let be");
    // The call that was sent continues in the gate.
    upstream.release(2);
    host.gate.idle().await;
    assert_eq!(upstream.answers.answered(), 2);
    assert_eq!(new.await.unwrap(), Ok(json!(2)));
}

#[tokio::test]
async fn a_plugin_that_is_removed_refuses_who_waits_and_denies_who_runs() {
    let upstream = Parking::new();
    let host = upstream.host(|_| {}).await;
    // 10 if its second call worked, 11 if it did not.
    let twice = calls(
        "(call $create (i32.const 7) (i32.const 2048))
         (call $digit (i32.add (i32.const 10) (i32.load8_u (i32.const 2048))))",
    );
    let lines = format!("{GRANT}[limits]\nconcurrency = 1\n");
    host.load("lab", &twice.build(), &lines).await.unwrap();
    let running = run(&host, "lab", json!({}));
    upstream.parked(1).await;
    let waiting = run(&host, "lab", json!({}));
    until(|| counts(&host, "lab") == (1, 1, 0)).await;
    assert!(host.runtime.unload("lab"));
    let refused = waiting.await.unwrap();
    assert!(
        matches!(refused, Err(InvokeError::Unloaded { .. })),
        "{refused:?}"
    );
    let unknown = invoke(&host, "lab", json!({})).await;
    assert!(
        matches!(unknown, Err(InvokeError::UnknownPlugin { .. })),
        "{unknown:?}"
    );
    assert_eq!(host.runtime.standing("lab"), None);
    upstream.release(2);
    assert_eq!(running.await.unwrap(), Ok(json!(11)));
    assert_eq!(upstream.answers.count("create_compile"), 1);
    assert!(!host.runtime.unload("lab"));
}

#[tokio::test]
async fn a_plugin_that_is_removed_is_cut_off_in_time() {
    let upstream = Parking::new();
    let host = upstream.host(|options| options.drain = SHORT).await;
    host.load("lab", &parks(1).build(), GRANT).await.unwrap();
    let running = run(&host, "lab", json!({}));
    upstream.parked(1).await;
    host.runtime.unload("lab");
    let cut = running.await.unwrap();
    assert!(
        matches!(cut, Err(InvokeError::Action(_, ActionError::Replaced))),
        "{cut:?}"
    );
}

#[tokio::test]
async fn who_still_runs_on_former_versions_counts_as_running() {
    let lines = format!("{GRANT}[limits]\nconcurrency = 2\n");
    let (upstream, host, first) = parked(&lines).await;
    // The same after a removal.
    host.runtime.unload("lab");
    host.load("lab", &parks(2).build(), &lines).await.unwrap();
    let second = run(&host, "lab", json!({}));
    upstream.parked(2).await;
    let third = run(&host, "lab", json!({}));
    until(|| counts(&host, "lab") == (1, 1, 1)).await;
    upstream.release(1);
    upstream.parked(3).await;
    upstream.release(2);
    let mut numbers = Vec::new();
    for ended in [first, second, third] {
        numbers.push(ended.await.unwrap().unwrap());
    }
    assert_eq!(numbers, [1, 2, 2]);
}

#[tokio::test]
async fn code_is_freed_with_its_last_invocation() {
    let upstream = Parking::new();
    let host = upstream.host(|_| {}).await;
    let mut former: Vec<Weak<Plugin>> = Vec::new();
    let mut runs = Vec::new();
    for number in 1..=3 {
        let plugin = host
            .load("lab", &parks(number).build(), GRANT)
            .await
            .unwrap();
        former.push(Arc::downgrade(&plugin));
        runs.push(run(&host, "lab", json!({})));
        upstream.parked(runs.len()).await;
    }
    // A queued invocation holds no version.
    host.load("lab", &answers(4).build(), "[limits]\nconcurrency = 1")
        .await
        .unwrap();
    let waiting = run(&host, "lab", json!({}));
    until(|| counts(&host, "lab") == (0, 1, 3)).await;
    assert!(former.iter().all(|plugin| plugin.strong_count() == 1));
    let serving = host
        .load("lab", &answers(5).build(), &version(5))
        .await
        .map(|plugin| Arc::downgrade(&plugin))
        .unwrap();
    upstream.release(3);
    for run in runs {
        run.await.unwrap().unwrap();
    }
    assert_eq!(waiting.await.unwrap(), Ok(json!(55)));
    assert!(former.iter().all(|plugin| plugin.upgrade().is_none()));
    assert!(serving.upgrade().is_some());
    host.runtime.unload("lab");
    assert!(serving.upgrade().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invocation_that_races_with_a_removal_has_an_answer_or_an_error_that_says_so() {
    let host = Arc::new(Host::new(&uncalled()).await);
    let code = answers(1).build();
    host.load("lab", &code, &version(1)).await.unwrap();
    let mut invokers = JoinSet::new();
    let (begin, _) = tokio::sync::watch::channel(false);
    for _ in 0..4 {
        let (host, mut over) = (Arc::clone(&host), begin.subscribe());
        invokers.spawn(async move {
            while !*over.borrow_and_update() {
                match invoke(&host, "lab", json!({})).await {
                    Ok(answer) => assert_eq!(answer, json!(11)),
                    Err(InvokeError::UnknownPlugin { .. } | InvokeError::Unloaded { .. }) => {
                        tokio::task::yield_now().await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    for _ in 0..20 {
        assert!(host.runtime.unload("lab"));
        host.load("lab", &code, &version(1)).await.unwrap();
        assert_eq!(invoke(&host, "lab", json!({})).await, Ok(json!(11)));
    }
    begin.send_replace(true);
    while let Some(ended) = invokers.join_next().await {
        ended.unwrap();
    }
    assert_eq!(counts(&host, "lab"), (0, 0, 0));
}
