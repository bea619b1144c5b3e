//! A new version takes the place of another.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use qchost_policy::{Authority, Guardrails};
use qchost_runtime::LoadError;
use tokio::task::JoinSet;

use super::*;
use qchost_testing::uncalled;

#[tokio::test]
async fn a_new_version_serves_at_once_and_who_runs_ends_on_the_former_one() {
    let (upstream, host, former) = parked(GRANT).await;
    host.load("lab", &parks(2).build(), GRANT).await.unwrap();
    let new = run(&host, "lab", json!({}));
    upstream.parked(2).await;
    assert_eq!(counts(&host, "lab"), (1, 0, 1));
    upstream.release(2);
    assert_eq!(former.await.unwrap(), Ok(json!(1)));
    assert_eq!(new.await.unwrap(), Ok(json!(2)));
    assert_eq!(counts(&host, "lab"), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_dropped_and_none_mixes_versions_while_versions_alternate_with_bad_files() {
    let host = Arc::new(Host::new(&uncalled()).await);
    let versions = [answers(1).build(), answers(2).build()];
    host.load("lab", &versions[0], &version(1)).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut invokers = JoinSet::new();
    for _ in 0..6 {
        let (host, over) = (Arc::clone(&host), Arc::clone(&over));
        invokers.spawn(async move {
            let (mut answers, mut count) = (BTreeSet::new(), 0);
            while !over.load(Ordering::Acquire) {
                // An error here is a call that was dropped.
                let answer = invoke(&host, "lab", json!({})).await.unwrap();
                answers.insert(answer.as_u64().unwrap());
                count += 1;
            }
            (answers, count)
        });
    }
    let mut renamed = answers(3);
    renamed.name = "somebody-else".to_owned();
    let renamed = renamed.build();
    for round in 1..=20 {
        let at = round % 2;
        let lines = version(u32::try_from(at).unwrap() + 1);
        host.load("lab", &versions[at], &lines).await.unwrap();
        let expected = json!(11 * (at + 1));
        assert_eq!(invoke(&host, "lab", json!({})).await, Ok(expected.clone()));
        let bad: &[u8] = match round % 3 {
            0 => &versions[at][..versions[at].len() / 2],
            1 => b"not a component",
            _ => &renamed,
        };
        host.load("lab", bad, &lines).await.unwrap_err();
        assert_eq!(invoke(&host, "lab", json!({})).await, Ok(expected));
    }
    over.store(true, Ordering::Release);
    let mut answers = BTreeSet::new();
    while let Some(ended) = invokers.join_next().await {
        let (seen, count) = ended.unwrap();
        assert!(count > 0);
        answers.extend(seen);
    }
    assert_eq!(answers, BTreeSet::from([11, 22]));
}

#[tokio::test]
async fn who_waits_gets_what_serves_when_its_turn_comes() {
    let lines = format!("{GRANT}[limits]\nconcurrency = 1\n");
    let (upstream, host, first) = parked(&lines).await;
    let fits = run(&host, "lab", json!({ "project": 7 }));
    let does_not = run(&host, "lab", json!({}));
    until(|| counts(&host, "lab") == (1, 2, 0)).await;
    let strict = parks(2).actions(&[("act", r#"{"required": ["project"]}"#)]);
    host.load("lab", &strict.build(), &lines).await.unwrap();
    assert_eq!(counts(&host, "lab"), (0, 2, 1));
    upstream.release(2);
    assert_eq!(first.await.unwrap(), Ok(json!(1)));
    assert_eq!(fits.await.unwrap(), Ok(json!(2)));
    let refused = does_not.await.unwrap();
    assert!(
        matches!(
            refused,
            Err(InvokeError::Action(_, ActionError::InvalidInput { .. }))
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_did_not_change_is_no_new_version() {
    let host = Host::new(&uncalled()).await;
    let code = answers(1).build();
    let first = host.load("lab", &code, &version(1)).await.unwrap();
    let again = host.load("lab", &code, &version(1)).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let changed = host.load("lab", &code, &version(2)).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &changed));
    assert_eq!(invoke(&host, "lab", json!({})).await, Ok(json!(12)));
}

#[tokio::test]
async fn no_invocation_is_cut_off_because_only_the_manifest_changed() {
    let upstream = Parking::new();
    let host = upstream
        .host(|options| options.drain = Duration::ZERO)
        .await;
    let code = parks(1).build();
    host.load("lab", &code, GRANT).await.unwrap();
    let before = run(&host, "lab", json!({}));
    upstream.parked(1).await;
    let lines = format!("{GRANT}[limits]\nconcurrency = 2\n");
    host.load("lab", &code, &lines).await.unwrap();
    let after = run(&host, "lab", json!({}));
    upstream.parked(2).await;
    assert_eq!(counts(&host, "lab"), (2, 0, 0));
    upstream.release(2);
    assert_eq!(before.await.unwrap(), Ok(json!(1)));
    assert_eq!(after.await.unwrap(), Ok(json!(1)));
}

#[tokio::test]
async fn a_version_that_cannot_be_loaded_changes_nothing() {
    let host = Host::new(&uncalled()).await;
    let good = answers(1).build();
    let serving = host.load("lab", &good, &version(1)).await.unwrap();
    let mut renamed = answers(2);
    renamed.name = "somebody-else".to_owned();
    let pinned = format!("digest = \"sha256:{}\"\n{}", "0".repeat(64), version(2));
    let ungranted = parks(2).build();
    let cases: [(&[u8], &str); 5] = [
        (b"", &version(2)),
        (&good[..good.len() / 2], &version(2)),
        (&good, &pinned),
        (&ungranted, &version(2)),
        (&renamed.build(), &version(2)),
    ];
    for (bytes, lines) in cases {
        let error = host.load("lab", bytes, lines).await.unwrap_err();
        let now = host.runtime.plugin("lab").unwrap();
        assert!(Arc::ptr_eq(&serving, &now), "{error}");
        assert_eq!(invoke(&host, "lab", json!({})).await, Ok(json!(11)));
    }
    host.load("lab", &answers(2).build(), &version(2))
        .await
        .unwrap();
    assert_eq!(invoke(&host, "lab", json!({})).await, Ok(json!(22)));
}

#[tokio::test]
async fn what_a_manifest_takes_away_is_gone_although_its_component_cannot_be_loaded() {
    let upstream = Parking::new();
    let host = upstream.host(|_| {}).await;
    // 10 if its second call worked, 11 if it did not.
    let twice = calls(
        "(call $create (i32.const 7) (i32.const 2048))
         (call $digit (i32.add (i32.const 10) (i32.load8_u (i32.const 2048))))",
    )
    .build();
    host.load("lab", &twice, GRANT).await.unwrap();
    let running = run(&host, "lab", json!({}));
    upstream.parked(1).await;
    let narrow = GRANT.replace("projects = [\"*\"]", "projects = [8]");
    host.load("lab", b"not a component", &narrow)
        .await
        .unwrap_err();
    upstream.release(9);
    assert_eq!(running.await.unwrap(), Ok(json!(11)));
    // The next valid file is loaded.
    host.load("lab", &twice, GRANT).await.unwrap();
    assert_eq!(invoke(&host, "lab", json!({})).await, Ok(json!(10)));
}

#[tokio::test]
async fn a_plugin_keeps_the_name_by_which_it_calls_itself() {
    let host = Host::new(&uncalled()).await;
    host.load("lab", &answers(1).build(), "").await.unwrap();
    let mut renamed = answers(2);
    renamed.name = "somebody-else".to_owned();
    let renamed = renamed.build();
    let Err(LoadError::Renamed {
        plugin,
        former,
        new,
    }) = host.load("lab", &renamed, "").await
    else {
        panic!("it was loaded");
    };
    assert_eq!(
        (&*plugin, &*former, &*new),
        ("lab", "guest", "somebody-else")
    );
    assert!(host.runtime.unload("lab"));
    host.load("lab", &renamed, "").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_of_one_name_do_not_mix() {
    let host = Arc::new(Host::new(&uncalled()).await);
    for number in 1..=3 {
        host.file(&format!("{number}.wasm"), &answers(number).build());
    }
    let mut loads = JoinSet::new();
    for number in [1, 2, 3, 2, 1, 3, 1, 2] {
        let host = Arc::clone(&host);
        loads.spawn(async move {
            let file = format!("{number}.wasm");
            let manifest = manifest_of(&host, "lab", &file, &version(number));
            host.runtime.load(manifest).await.unwrap();
        });
    }
    while let Some(loaded) = loads.join_next().await {
        loaded.unwrap();
        let answer = invoke(&host, "lab", json!({})).await.unwrap();
        assert!(answer.as_u64().unwrap().is_multiple_of(11), "{answer}");
    }
    let serving = host.runtime.plugin("lab").unwrap();
    assert_eq!(
        host.gate.policies.manifest("lab").unwrap(),
        *serving.manifest()
    );
}

/// A runtime with a single worker thread.
#[tokio::test]
async fn who_is_served_does_not_wait_for_the_policies_of_another_plugin() {
    let host = Host::new(&uncalled()).await;
    let code = answers(1).build();
    host.load("lab", &code, &version(1)).await.unwrap();
    host.file("new.wasm", &code);
    let grants = |name: &str| -> String {
        (0..256)
            .map(|number| {
                let projects: Vec<u32> = (0..14).map(|at| number * 14 + at).collect();
                GRANT
                    .replace("\"all\"", &format!("\"{name}{number}\""))
                    .replace("[\"*\"]", &format!("{projects:?}"))
            })
            .collect()
    };
    // Of a plugin that is new, and of one that changes.
    for name in ["first", "second"] {
        let manifest = manifest_of(&host, "new", "new.wasm", &grants(name));
        let begun = Instant::now();
        Authority::new(Arc::new(manifest.clone()), &Guardrails::none()).unwrap();
        let compiling = begun.elapsed();
        let mut loading = std::pin::pin!(host.runtime.load(manifest));
        let mut longest = Duration::ZERO;
        let mut served = 0;
        loop {
            let begun = Instant::now();
            let loaded = tokio::select! {
                biased;
                loaded = &mut loading => Some(loaded),
                answer = invoke(&host, "lab", json!({})) => {
                    assert_eq!(answer, Ok(json!(11)));
                    None
                }
            };
            longest = longest.max(begun.elapsed());
            if let Some(loaded) = loaded {
                loaded.unwrap();
                break;
            }
            served += 1;
        }
        assert!(
            served > 0 && longest < compiling / 2,
            "{name}: {served} were served, one of them after {longest:?}; the policies take {compiling:?}"
        );
    }
}

#[tokio::test]
async fn what_was_unloaded_does_not_come_back_by_a_load_that_began_before() {
    let host = Host::new(&uncalled()).await;
    let (code, new) = (answers(1).build(), answers(2).build());
    for serves in [false, true] {
        if serves {
            host.load("lab", &code, "").await.unwrap();
        }
        let (loaded, unloaded) = tokio::join!(host.load("lab", &new, ""), async {
            host.runtime.unload("lab")
        });
        assert!(
            matches!(loaded, Err(LoadError::Unloaded { .. })),
            "{loaded:?}"
        );
        assert_eq!(unloaded, serves);
        assert!(host.runtime.plugin("lab").is_none());
        assert!(host.gate.policies.manifest("lab").is_none());
    }
    host.load("lab", &code, "").await.unwrap();
}
