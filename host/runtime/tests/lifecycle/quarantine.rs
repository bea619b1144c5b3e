//! A plugin that keeps failing is not invoked for a while.

use qchost_runtime::StopReason;

use super::*;
use qchost_testing::uncalled;

/// Fails if its input has one character, and repeats it otherwise.
fn moody() -> Guest {
    Guest::new(
        "(if (i32.eq (local.get $input_len) (i32.const 1)) (then unreachable))
         (call $ok (local.get $input) (local.get $input_len))",
    )
}

/// With a wait that nothing ends, `$sleep`.
fn sleeper(guest: Guest) -> Guest {
    guest
        .package(include_str!("../hostile/wasi.wit"))
        .import(
            "import wasi:clocks/monotonic-clock@0.2.0;",
            r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-instant" (func $subscribe (param i64) (result i32)))"#,
        )
        .import(
            "import wasi:io/poll@0.2.0;",
            r#"(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#,
        )
        .more("(func $sleep (call $block (call $subscribe (i64.const -1))))")
}

/// Makes a plugin fail until it is in quarantine.
async fn provoke(host: &Host, plugin: &str) {
    for _ in 0..5 {
        assert_eq!(standing(host, plugin).quarantine, None);
        let failed = invoke(host, plugin, json!(1)).await;
        assert!(
            matches!(failed, Err(InvokeError::Action(_, ActionError::Stopped(_)))),
            "{failed:?}"
        );
    }
}

#[tokio::test]
async fn it_is_refused_for_a_second_then_tried_and_heals_by_a_success() {
    let host = Host::new(&uncalled()).await;
    host.load("moody", &moody().build(), "").await.unwrap();
    host.load("neighbour", &Guest::echo().build(), "")
        .await
        .unwrap();
    provoke(&host, "moody").await;
    let begun = Instant::now();
    let refused = invoke(&host, "moody", json!("fine")).await.unwrap_err();
    let InvokeError::Quarantined {
        retry_after,
        reason,
        ..
    } = &refused
    else {
        panic!("{refused:?}");
    };
    assert!(*retry_after <= Duration::from_secs(1));
    assert!(reason.contains("unreachable"), "{reason}");
    assert!(refused.to_string().contains("keeps failing"), "{refused}");
    let quarantine = standing(&host, "moody").quarantine.unwrap();
    assert_eq!(quarantine.failures, 5);
    let beside = invoke(&host, "neighbour", json!("well")).await;
    assert_eq!(beside, Ok(json!("well")));

    // The probe fails: twice as long.
    let probe = loop {
        match invoke(&host, "moody", json!(1)).await.unwrap_err() {
            InvokeError::Quarantined { retry_after, .. } => tokio::time::sleep(retry_after).await,
            other => break other,
        }
    };
    assert!(
        matches!(probe, InvokeError::Action(_, ActionError::Stopped(_))),
        "{probe:?}"
    );
    assert!(begun.elapsed() >= *retry_after);
    let quarantine = standing(&host, "moody").quarantine.unwrap();
    assert_eq!(quarantine.failures, 6);
    assert!(
        quarantine.remaining > Duration::from_secs(1),
        "{quarantine:?}"
    );
    tokio::time::sleep(quarantine.remaining).await;
    assert_eq!(
        invoke(&host, "moody", json!("fine")).await,
        Ok(json!("fine"))
    );
    assert_eq!(standing(&host, "moody").quarantine, None);
}

#[tokio::test]
async fn a_new_version_or_another_manifest_begins_with_a_clean_slate() {
    let host = Host::new(&uncalled()).await;
    host.load("moody", &moody().build(), "").await.unwrap();
    provoke(&host, "moody").await;
    host.load("moody", &moody().build(), "").await.unwrap();
    let unchanged = invoke(&host, "moody", json!("fine")).await;
    assert!(
        matches!(unchanged, Err(InvokeError::Quarantined { .. })),
        "{unchanged:?}"
    );
    host.load("moody", &moody().build(), "[limits]\nmemory = \"128MiB\"")
        .await
        .unwrap();
    assert_eq!(
        invoke(&host, "moody", json!("fine")).await,
        Ok(json!("fine"))
    );
    provoke(&host, "moody").await;
    host.load("moody", &Guest::echo().build(), "")
        .await
        .unwrap();
    assert_eq!(invoke(&host, "moody", json!(1)).await, Ok(json!(1)));
}

#[tokio::test]
async fn every_failure_that_the_host_judges_counts() {
    let host = Host::new(&uncalled()).await;
    let grows =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let cases = [
        ("trap", "unreachable", ""),
        ("memory", grows, "[limits]\nmemory = \"2MiB\""),
        (
            "cpu",
            "(loop $l (br $l)) unreachable",
            "[limits]\ncpu = \"10ms\"",
        ),
        (
            "output",
            "(call $ok (i32.const 4096) (i32.const 5000))",
            "[limits]\noutput = \"4KiB\"",
        ),
        ("json", "(call $ok (i32.const 4096) (i32.const 3))", ""),
    ];
    for (name, body, lines) in cases {
        host.load(name, &Guest::new(body).build(), lines)
            .await
            .unwrap();
        for _ in 0..5 {
            let failed = invoke(&host, name, json!({})).await;
            assert!(
                !matches!(failed, Ok(_) | Err(InvokeError::Quarantined { .. })),
                "{name}: {failed:?}"
            );
        }
        let refused = invoke(&host, name, json!({})).await;
        assert!(
            matches!(refused, Err(InvokeError::Quarantined { .. })),
            "{name}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn what_is_not_the_plugins_fault_does_not_count() {
    let upstream = Parking::new();
    let host = upstream.host(|options| options.memory = 8 << 20).await;
    let fails = Guest::new("(call $fail (i32.const 4096) (i32.const 3))")
        .more(r#"(data (i32.const 4096) "no!")"#);
    host.load("fails", &fails.build(), "").await.unwrap();
    let slow = format!("{GRANT}[limits]\nwall = \"200ms\"");
    host.load("slow", &parks(1).build(), &slow).await.unwrap();
    let grows =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    host.load("host", &Guest::new(grows).build(), "")
        .await
        .unwrap();
    let strict = Guest::echo().actions(&[("act", r#"{"type": "string"}"#)]);
    host.load("input", &strict.build(), "").await.unwrap();
    for name in ["fails", "slow", "host", "input"] {
        for _ in 0..7 {
            let failed = invoke(&host, name, json!({})).await.unwrap_err();
            assert!(
                !matches!(failed, InvokeError::Quarantined { .. }),
                "{name}: {failed}"
            );
        }
        assert_eq!(standing(&host, name).quarantine, None, "{name}");
    }
    upstream.release(7);
    host.gate.idle().await;
}

#[tokio::test]
async fn a_plugin_that_hangs_by_itself_is_quarantined() {
    let upstream = Parking::new();
    let host = upstream.host(|_| {}).await;
    let wall = Duration::from_millis(1500);
    let lines = format!("{GRANT}[limits]\nwall = \"1500ms\"");
    let at_once = sleeper(Guest::new("(call $sleep) unreachable"));
    // Its call is answered, and then it waits for no external event.
    let after = sleeper(calls("(call $sleep) unreachable"));
    upstream.release(5);
    for (name, guest) in [("at-once", at_once), ("after", after)] {
        host.load(name, &guest.build(), &lines).await.unwrap();
        let runs: Vec<_> = (0..5).map(|_| run(&host, name, json!({}))).collect();
        for run in runs {
            let wall = StopReason::Wall {
                limit: wall,
                hung: true,
            };
            let stopped = InvokeError::Action(format!("{name}.act"), ActionError::Stopped(wall));
            assert_eq!(run.await.unwrap(), Err(stopped));
        }
        let refused = invoke(&host, name, json!({})).await;
        assert!(
            matches!(refused, Err(InvokeError::Quarantined { .. })),
            "{name}: {refused:?}"
        );
    }
    host.gate.idle().await;
}
