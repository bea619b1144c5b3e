//! How a host ends: running invocations finish or are cut off, and every client gets an answer.

use qchost_runtime::LoadError;
use tokio::task::JoinSet;

use super::*;
use qchost_testing::uncalled;

#[tokio::test]
async fn a_host_that_ends_lets_finish_what_runs_and_refuses_who_waits() {
    let lines = format!("{GRANT}[limits]\nconcurrency = 1\n");
    let (upstream, host, running) = parked(&lines).await;
    let waiting = run(&host, "lab", json!({}));
    until(|| counts(&host, "lab") == (1, 1, 0)).await;
    let (left, ()) = tokio::join!(host.runtime.shutdown(Duration::from_secs(60)), async {
        assert_eq!(waiting.await.unwrap(), Err(InvokeError::ShuttingDown));
        upstream.release(1);
    });
    assert_eq!(left, 0);
    assert_eq!(running.await.unwrap(), Ok(json!(1)));
    let late = invoke(&host, "lab", json!({})).await;
    assert_eq!(late, Err(InvokeError::ShuttingDown));
    let late = host.load("lab", &parks(1).build(), GRANT).await;
    assert!(matches!(late, Err(LoadError::ShuttingDown)));
}

#[tokio::test]
async fn a_host_that_ends_cuts_off_what_takes_too_long() {
    let (upstream, host, running) = parked(GRANT).await;
    assert_eq!(host.runtime.shutdown(Duration::from_millis(50)).await, 1);
    let cut = running.await.unwrap();
    assert!(
        matches!(cut, Err(InvokeError::Action(_, ActionError::CutOff))),
        "{cut:?}"
    );
    // The call itself continues in the gate.
    upstream.release(1);
    host.gate.idle().await;
    assert_eq!(upstream.answers.answered(), 1);
}

#[tokio::test]
async fn a_host_that_ends_does_not_wait_forever_for_an_invocation_that_is_not_polled() {
    let upstream = Parking::new();
    let host = upstream.host(|_| {}).await;
    host.load("lab", &parks(1).build(), GRANT).await.unwrap();
    let mut left_alone = Box::pin(invoke(&host, "lab", json!({})));
    tokio::select! {
        answer = &mut left_alone => panic!("{answer:?}"),
        () = upstream.parked(1) => {}
    }
    let ended = host.runtime.shutdown(Duration::from_millis(50));
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
    assert_eq!(ended, Ok(1));
    // It ends as soon as it is polled.
    let cut = left_alone.await;
    assert!(
        matches!(cut, Err(InvokeError::Action(_, ActionError::CutOff))),
        "{cut:?}"
    );
    upstream.release(1);
    host.gate.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invocation_that_races_with_the_end_has_an_answer_or_is_told() {
    let host = Arc::new(Host::new(&uncalled()).await);
    host.load("lab", &Guest::echo().build(), "").await.unwrap();
    let mut invokers = JoinSet::new();
    for number in 0..4 {
        let host = Arc::clone(&host);
        invokers.spawn(async move {
            let mut answered = 0;
            loop {
                match invoke(&host, "lab", json!(number)).await {
                    Ok(answer) => assert_eq!(answer, json!(number)),
                    Err(error) => {
                        assert_eq!(error, InvokeError::ShuttingDown);
                        return answered;
                    }
                }
                answered += 1;
            }
        });
    }
    until(|| standing(&host, "lab").running > 0).await;
    assert_eq!(host.runtime.shutdown(Duration::from_secs(60)).await, 0);
    assert_eq!(counts(&host, "lab"), (0, 0, 0), "nothing begins afterwards");
    while let Some(ended) = invokers.join_next().await {
        ended.unwrap();
    }
}
