//! Hostile plugins: what they try does not work, and affects neither the host nor a plugin beside
//! them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qchost_runtime::{ActionError, InvokeError, StopReason};
use qchost_testing::{Guest, Host, Scripted, uncalled};
use serde_json::{Value, json};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

const FOR_EVER: &str = "(loop $l (br $l)) unreachable";

/// Invokes a hostile plugin, and then one beside it that must still work.
async fn attack(host: &Host, guest: &Guest, lines: &str) -> Result<Value, InvokeError> {
    host.load("neighbour", &Guest::echo().build(), "")
        .await
        .unwrap();
    host.load("hostile", &guest.build(), lines).await.unwrap();
    let outcome = host
        .runtime
        .invoke("hostile", "act", json!({}), None, None)
        .await;
    let beside = host
        .runtime
        .invoke("neighbour", "act", json!("well"), None, None)
        .await;
    assert_eq!(beside, Ok(json!("well")));
    outcome
}

fn stopped(outcome: Result<Value, InvokeError>) -> StopReason {
    match outcome {
        Err(InvokeError::Action(_, ActionError::Stopped(stopped))) => stopped,
        other => panic!("{other:?}"),
    }
}

const CLI: &str = "package wasi:cli@0.2.0;
interface environment {
    get-environment: func() -> list<tuple<string, string>>;
    get-arguments: func() -> list<string>;
}
interface exit { exit: func(status: result); }
interface stderr { use wasi:io/streams@0.2.0.{output-stream}; get-stderr: func() -> output-stream; }";

const IO: &str = "package wasi:io@0.2.0;
interface error { resource error; }
interface poll { resource pollable { block: func(); } }
interface streams {
    use error.{error};
    variant stream-error { last-operation-failed(error), closed }
    resource output-stream {
        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
    }
}";

#[tokio::test]
async fn the_environment_is_empty() {
    let count = |function: &str| {
        Guest::new("(call $get (i32.const 2048)) (call $digit (i32.load (i32.const 2052)))")
            .package(IO)
            .package(CLI)
            .import(
                "import wasi:cli/environment@0.2.0;",
                &format!(
                    r#"(import "wasi:cli/environment@0.2.0" "{function}" (func $get (param i32)))"#
                ),
            )
    };
    assert!(std::env::vars().next().is_some(), "the host has one");
    let host = Host::new(&uncalled()).await;
    for function in ["get-environment", "get-arguments"] {
        assert_eq!(attack(&host, &count(function), "").await, Ok(json!(0)));
    }
}

#[tokio::test]
async fn there_is_no_file_to_open() {
    const FILES: &str = "package wasi:filesystem@0.2.0;
        interface types { resource descriptor; }
        interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }";
    let guest = Guest::new(
        "(call $get (i32.const 2048)) (call $digit (i32.load (i32.const 2052)))",
    )
    .package(FILES)
    .import(
        "import wasi:filesystem/preopens@0.2.0;",
        r#"(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $get (param i32)))"#,
    );
    let outcome = attack(&Host::new(&uncalled()).await, &guest, "").await;
    assert_eq!(
        outcome,
        Ok(json!(0)),
        "every file is opened below a folder, and there is none"
    );
}

const SOCKETS: &str = "package wasi:sockets@0.2.0;
interface network {
    resource network;
    enum error-code {
        unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
        concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
        address-not-bindable, address-in-use, remote-unreachable, connection-refused,
        connection-reset, connection-aborted, datagram-too-large, name-unresolvable,
        temporary-resolver-failure, permanent-resolver-failure,
    }
    enum ip-address-family { ipv4, ipv6 }
}
interface instance-network { use network.{network}; instance-network: func() -> network; }
interface tcp { resource tcp-socket; }
interface udp { resource udp-socket; }
interface tcp-create-socket {
    use network.{error-code, ip-address-family};
    use tcp.{tcp-socket};
    create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
}
interface udp-create-socket {
    use network.{error-code, ip-address-family};
    use udp.{udp-socket};
    create-udp-socket: func(address-family: ip-address-family) -> result<udp-socket, error-code>;
}
interface ip-name-lookup {
    use network.{network, error-code};
    resource resolve-address-stream;
    resolve-addresses: func(network: borrow<network>, name: string) -> result<resolve-address-stream, error-code>;
}";

/// 10 and the error's number, or 0 if it worked.
const CODE: &str = "(if (result i32) (i32.load8_u (i32.const 2048))
    (then (call $digit (i32.add (i32.const 10) (i32.load8_u (i32.const 2052)))))
    (else (call $digit (i32.const 0))))";

#[tokio::test]
async fn sockets_and_names_are_refused() {
    let host = Host::new(&uncalled()).await;
    for kind in ["tcp", "udp"] {
        let guest = Guest::new(&format!("(call $create (i32.const 0) (i32.const 2048)) {CODE}"))
            .package(SOCKETS)
            .import(
                &format!("import wasi:sockets/{kind}-create-socket@0.2.0;"),
                &format!(r#"(import "wasi:sockets/{kind}-create-socket@0.2.0" "create-{kind}-socket" (func $create (param i32 i32)))"#),
            );
        let outcome = attack(&host, &guest, "").await;
        assert!(
            matches!(outcome, Ok(Value::Number(ref code)) if code.as_u64() >= Some(10)),
            "{kind}: {outcome:?}"
        );
    }
    let guest = Guest::new(&format!(
        "(call $resolve (call $network) (i32.const 4096) (i32.const 9) (i32.const 2048)) {CODE}"
    ))
    .package(SOCKETS)
    .import(
        "import wasi:sockets/instance-network@0.2.0;",
        r#"(import "wasi:sockets/instance-network@0.2.0" "instance-network" (func $network (result i32)))"#,
    )
    .import(
        "import wasi:sockets/ip-name-lookup@0.2.0;",
        r#"(import "wasi:sockets/ip-name-lookup@0.2.0" "resolve-addresses" (func $resolve (param i32 i32 i32 i32)))"#,
    )
    .more(r#"(data (i32.const 4096) "localhost")"#);
    let outcome = attack(&host, &guest, "").await;
    assert!(
        matches!(outcome, Ok(Value::Number(ref code)) if code.as_u64() >= Some(10)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_loop_without_end_is_stopped() {
    let host = Host::new(&uncalled()).await;
    let begun = Instant::now();
    let outcome = attack(&host, &Guest::new(FOR_EVER), "[limits]\ncpu = \"200ms\"").await;
    let limit = Duration::from_millis(200);
    assert_eq!(stopped(outcome), StopReason::Cpu { limit });
    assert!(begun.elapsed() >= limit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_on_every_processor_hold_up_no_other_plugin() {
    let host = Arc::new(Host::new(&uncalled()).await);
    host.load("neighbour", &Guest::echo().build(), "")
        .await
        .unwrap();
    host.load(
        "hostile",
        &Guest::new(FOR_EVER).build(),
        "[limits]\ncpu = \"1s\"",
    )
    .await
    .unwrap();
    let loops: Vec<_> = (0..4)
        .map(|_| {
            let host = Arc::clone(&host);
            tokio::spawn(async move {
                host.runtime
                    .invoke("hostile", "act", json!({}), None, None)
                    .await
            })
        })
        .collect();
    let mut served = 0;
    while loops.iter().any(|run| !run.is_finished()) {
        let begun = Instant::now();
        let output = host
            .runtime
            .invoke("neighbour", "act", json!(served), None, None)
            .await;
        assert_eq!(output, Ok(json!(served)));
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        served += 1;
    }
    assert!(served > 10, "{served}");
    for run in loops {
        assert!(matches!(
            stopped(run.await.unwrap()),
            StopReason::Cpu { .. }
        ));
    }
}

#[tokio::test]
async fn allocation_without_end_is_stopped() {
    let grow =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let host = Host::new(&uncalled()).await;
    let outcome = attack(&host, &Guest::new(grow), "[limits]\nmemory = \"8MiB\"").await;
    assert_eq!(stopped(outcome), StopReason::OutOfMemory { limit: 8 << 20 });

    let table = Guest::new(
        "(loop $l (br_if $l (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable",
    )
    .more("(table 1 funcref)");
    let outcome = attack(&host, &table, "[limits]\nmemory = \"1MiB\"").await;
    assert_eq!(stopped(outcome), StopReason::OutOfMemory { limit: 1 << 20 });
}

#[tokio::test]
async fn the_memory_of_all_plugins_together_is_bounded() {
    let grow =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let host = Host::with(&uncalled(), |options| options.memory = 4 << 20).await;
    let outcome = attack(&host, &Guest::new(grow), "[limits]\nmemory = \"1GiB\"").await;
    assert_eq!(stopped(outcome), StopReason::HostOutOfMemory);
}

#[tokio::test]
async fn recursion_without_end_is_stopped() {
    let guest = Guest::new("(call $deeper (i32.const 0))").more(
        "(func $deeper (param i32) (result i32) \
         (i32.add (call $deeper (local.get 0)) (i32.const 1)))",
    );
    let StopReason::Trap(message) =
        stopped(attack(&Host::new(&uncalled()).await, &guest, "").await)
    else {
        panic!("not a trap");
    };
    assert!(message.contains("recurses too deeply"), "{message}");
}

#[tokio::test]
async fn an_answer_of_a_hundred_megabytes_does_not_reach_the_host() {
    let guest = Guest::new(
        "(drop (memory.grow (i32.const 1700))) (call $ok (i32.const 0) (i32.const 104857600))",
    );
    let host = Host::new(&uncalled()).await;
    let outcome = attack(&host, &guest, "[limits]\nmemory = \"256MiB\"").await;
    assert!(matches!(stopped(outcome), StopReason::TooLarge { .. }));
    // With the default memory limit it cannot be instantiated.
    let outcome = attack(&host, &guest, "").await;
    assert!(matches!(stopped(outcome), StopReason::OutOfMemory { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_nested_a_thousand_deep_is_refused() {
    let mut deep = json!(0);
    for _ in 0..1000 {
        deep = json!([deep]);
    }
    let host = Arc::new(Host::new(&uncalled()).await);
    host.load("echo", &Guest::echo().build(), "").await.unwrap();
    // On a worker's stack, as in the host.
    let invoked = Arc::clone(&host);
    let invoked = tokio::spawn(async move {
        invoked
            .runtime
            .invoke("echo", "act", deep, None, None)
            .await
    });
    let refused = invoked.await.unwrap();
    assert!(
        matches!(
            refused,
            Err(InvokeError::Action(_, ActionError::InvalidInput { .. }))
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_wait_without_end_is_cut_off() {
    const CLOCKS: &str = "package wasi:clocks@0.2.0;
        interface monotonic-clock { use wasi:io/poll@0.2.0.{pollable}; subscribe-duration: func(when: u64) -> pollable; }";
    let guest = Guest::new(
        "(call $block (call $subscribe (i64.const 9000000000000000000))) unreachable",
    )
    .package(IO)
    .package(CLOCKS)
    .import(
        "import wasi:clocks/monotonic-clock@0.2.0;",
        r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))"#,
    )
    .import(
        "import wasi:io/poll@0.2.0;",
        r#"(import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#,
    );
    let host = Host::new(&uncalled()).await;
    let outcome = attack(&host, &guest, "[limits]\nwall = \"150ms\"").await;
    let limit = Duration::from_millis(150);
    assert_eq!(stopped(outcome), StopReason::Wall { limit, hung: true });
}

#[tokio::test]
async fn an_exit_is_an_error_with_its_last_words() {
    let guest = Guest::new(
        "(call $write (call $stderr) (i32.const 4096) (i32.const 17) (i32.const 2048))
         (call $exit (i32.const 1)) unreachable",
    )
    .package(IO)
    .package(CLI)
    .import(
        "import wasi:cli/exit@0.2.0;",
        r#"(import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))"#,
    )
    .import(
        "import wasi:cli/stderr@0.2.0;",
        r#"(import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))"#,
    )
    .import(
        "import wasi:io/streams@0.2.0;",
        r#"(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))"#,
    )
    .more(r#"(data (i32.const 4096) "out of\1b[31m luck\n")"#);
    let StopReason::Trap(message) =
        stopped(attack(&Host::new(&uncalled()).await, &guest, "").await)
    else {
        panic!("not a trap");
    };
    assert!(message.contains("it exited with status 1"), "{message}");
    assert!(message.contains("does not call `exit`"), "{message}");
    assert!(message.contains("it said: out of"), "{message}");
    assert!(!message.contains('\u{1b}'), "{message}");
}

#[tokio::test]
async fn a_guest_that_calls_out_while_it_receives_a_value_is_told_of_its_collector() {
    const REALLOC: &str = r#"(global $heap (mut i32) (i32.const 65536))
        (func $alloc (export "cabi_realloc")
          (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
          (local $at i32)
          (drop (call $remaining))
          (local.set $at (global.get $heap))
          (global.set $heap (i32.add (local.get $at) (i32.const 1024)))
          (local.get $at))"#;
    let guest = Guest::echo()
        .import(
            "import qchost:agent/clock@0.1.0;",
            r#"(import "qchost:agent/clock@0.1.0" "remaining" (func $remaining (result f64)))"#,
        )
        .more(REALLOC);
    let outcome = stopped(attack(&Host::new(&uncalled()).await, &guest, "").await);
    let StopReason::Trap(message) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        message.contains("cannot leave component instance"),
        "{message}"
    );
    assert!(message.contains("debug.SetGCPercent(-1)"), "{message}");
}

/// Counts the lines of plugins.
struct Count(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Count {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "plugin" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn a_flood_of_lines_is_dammed() {
    let count = Arc::new(AtomicUsize::new(0));
    let layer = Count(Arc::clone(&count));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let flood = Guest::new(
        "(local.set $n (i32.const 20000))
         (loop $l
           (call $write (i32.const 2) (i32.const 4096) (i32.const 5) (i32.const 0) (i32.const 0))
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
         (call $digit (i32.const 1))",
    )
    .import(
        "import qchost:agent/log@0.1.0;",
        r#"(import "qchost:agent/log@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))"#,
    )
    .more(r#"(data (i32.const 4096) "again")"#);
    let begun = Instant::now();
    let outcome = attack(
        &Host::new(&uncalled()).await,
        &flood,
        "[limits]\ncpu = \"60s\"",
    )
    .await;
    assert_eq!(outcome, Ok(json!(1)));
    // A hundred at once and one every ten milliseconds, and a line at the end that says what was left out.
    let elapsed = usize::try_from(begun.elapsed().as_millis()).unwrap();
    let most = 100 + elapsed / 10 + 1 + elapsed / 1000 + 2;
    let lines = count.load(Ordering::Relaxed);
    assert!((100..=most).contains(&lines), "{lines}");
}

#[tokio::test]
async fn a_write_that_was_sent_has_its_outcome_although_its_plugin_is_gone() {
    let upstream = Scripted::new(|_| {
        let body = json!({ "projectId": 7, "compileId": "c", "state": "InQueue" });
        (Duration::from_millis(600), Ok(body))
    });
    let guest = Guest::new("(call $create (i32.const 7) (i32.const 2048)) (call $digit (i32.const 1))")
        .import(
            "import quantconnect:api/compile@0.1.0;",
            r#"(import "quantconnect:api/compile@0.1.0" "create-compile" (func $create (param i32 i32)))"#,
        );
    let host = Host::new(&upstream).await;
    let lines = "[limits]\nwall = \"200ms\"\n[[grant]]\nname = \"all\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]";
    let outcome = attack(&host, &guest, lines).await;
    assert!(matches!(
        stopped(outcome),
        StopReason::Wall { hung: false, .. }
    ));
    assert_eq!((upstream.sent().len(), upstream.answered()), (1, 0));
    host.gate.idle().await;
    assert_eq!(
        upstream.answered(),
        1,
        "the gate waited for what the plugin could not"
    );
}
