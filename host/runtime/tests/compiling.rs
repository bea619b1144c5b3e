//! Compilation runs in a child process under limits on memory, time and output: no component harms the host,
//! and each kind of failure has its own error.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qchost_runtime::{Compiler, ComponentError, LoadError};
use qchost_testing::runtime::manifest;
use qchost_testing::{Guest, Host, uncalled};
use serde_json::json;

const COMPILER: &str = env!("CARGO_BIN_EXE_qchost-compiler");

/// A number, as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A length, and what has it.
fn sized(content: &[u8]) -> Vec<u8> {
    [leb(content.len()), content.to_vec()].concat()
}

/// A component with one core module, `count` functions, each with this body, and an empty instance as what an agent exports.
fn functions(count: usize, body: &[u8]) -> Vec<u8> {
    let section = |id: u8, content: &[u8]| [vec![id], sized(content)].concat();
    let body = sized(&[&[0], body, &[0x0b]].concat());
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        // One type, i32 to i32; every function has it.
        section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]),
        section(3, &[leb(count), vec![0; count]].concat()),
        section(10, &[leb(count), body.repeat(count)].concat()),
    ]
    .concat();
    let instance = [1, 1, 0];
    let name = sized(b"qchost:agent/guest@0.1.0");
    let export = [&[1, 0][..], &name, &[5, 0, 0]].concat();
    [
        b"\0asm\x0d\0\x01\0".to_vec(),
        section(1, &module),
        section(5, &instance),
        section(11, &export),
    ]
    .concat()
}

/// Two megabytes that take many seconds to compile: a hundred thousand functions.
fn many_functions() -> Vec<u8> {
    // x * x + x, over and over
    let step = [0x20, 0, 0x6c, 0x20, 0, 0x6a];
    functions(100_000, &[&[0x20, 0][..], &step.repeat(3)].concat())
}

/// One function of seven megabytes, which a compiler keeps in memory as a whole.
fn long_function() -> Vec<u8> {
    let step = [0x20, 0, 0x6c, 0x20, 0, 0x6a];
    functions(1, &[&[0x20, 0][..], &step.repeat(1_200_000)].concat())
}

async fn refused(host: &Host, bytes: &[u8]) -> LoadError {
    host.load("bomb", bytes, "").await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_too_long_to_compile_is_refused_and_the_host_goes_on() {
    let host = Host::with(&uncalled(), |options| {
        options.compile_cpu = Duration::from_secs(1);
    })
    .await;
    let echo = Guest::echo().build();
    host.load("neighbour", &echo, "").await.unwrap();
    let bomb = many_functions();
    let compiling = refused(&host, &bomb);
    tokio::pin!(compiling);
    let mut answers = 0;
    let error = loop {
        let beside = host
            .runtime
            .invoke("neighbour", "act", json!("well"), None, None);
        tokio::select! {
            biased;
            error = &mut compiling => break error,
            answer = beside => {
                assert_eq!(answer, Ok(json!("well")));
                answers += 1;
            }
        }
    };
    assert!(answers > 10, "meanwhile it served {answers} times");
    let LoadError::Component(_, ComponentError::CompileTime(limit)) = &error else {
        panic!("{error}");
    };
    assert_eq!(*limit, Duration::from_secs(1));
    let words = error.to_string();
    assert!(
        words.contains("bomb.wasm: it took more than 1 s"),
        "{words}"
    );
    assert!(words.contains("engine.compile-cpu"), "{words}");
    // The next component is compiled.
    host.load(
        "late",
        &Guest::new("(call $digit (i32.const 7))").build(),
        "",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn one_that_takes_too_much_memory_to_compile_is_refused() {
    let host = Host::with(&uncalled(), |options| options.compile_memory = 400 << 20).await;
    let error = refused(&host, &long_function()).await;
    assert!(
        matches!(error, LoadError::Component(_, ComponentError::CompileMemory(limit)) if limit == 400 << 20),
        "{error}"
    );
    assert!(
        error.to_string().contains("engine.compile-memory"),
        "{error}"
    );
    host.load("late", &Guest::echo().build(), "").await.unwrap();
}

#[tokio::test]
async fn a_compiler_without_memory_to_begin_with_is_told_apart_from_one_that_fails() {
    let host = Host::with(&uncalled(), |options| options.compile_memory = 16 << 20).await;
    let error = refused(&host, &Guest::echo().build()).await;
    assert!(
        matches!(
            error,
            LoadError::Component(_, ComponentError::CompileMemory(_))
        ),
        "{error}"
    );
}

/// A host whose compiler is a shell running this script.
async fn with_shell(script: &str) -> Host {
    Host::with(&uncalled(), |options| {
        options.compiler = Compiler {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
        };
        options.compile_cpu = Duration::from_secs(1);
    })
    .await
}

#[tokio::test]
async fn however_a_compiler_ends_the_host_says_how() {
    let cases = [
        ("kill -KILL $$", "it was killed"),
        ("echo 'broken badly' >&2; exit 3", "broken badly"),
        ("exit 3", "exit status: 3"),
        ("exit 0", "exit status: 0"),
        (
            "cat >/dev/null & echo 'no answer'; exit 0",
            "exit status: 0",
        ),
        // It announces more bytes than it sends.
        (
            r#"echo '{"compiled":{"size":9}}'; exit 0"#,
            "exit status: 0",
        ),
    ];
    for (script, words) in cases {
        let host = with_shell(script).await;
        let error = refused(&host, &Guest::echo().build()).await;
        assert!(
            matches!(error, LoadError::Component(_, ComponentError::Compiler(_))),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{script}: {error}");
        assert_eq!(error.to_string().lines().count(), 1, "{script}: {error}");
    }
    let host = Host::with(&uncalled(), |options| {
        options.compiler.program = "/no/such/compiler".into();
    })
    .await;
    let error = refused(&host, &Guest::echo().build()).await.to_string();
    assert!(
        error.contains("/no/such/compiler cannot be started"),
        "{error}"
    );
}

#[tokio::test]
async fn what_no_compiler_made_is_never_code() {
    let host = with_shell(r#"echo '{"compiled":{"size":4}}'; printf 'code'"#).await;
    let error = refused(&host, &Guest::echo().build()).await;
    assert!(
        matches!(error, LoadError::Component(_, ComponentError::Compiler(_))),
        "{error}"
    );
    // More than its memory could have held is not read.
    let host = with_shell(r#"echo '{"compiled":{"size":9999999999999}}'; cat /dev/zero"#).await;
    let error = refused(&host, &Guest::echo().build()).await;
    assert!(
        matches!(
            error,
            LoadError::Component(_, ComponentError::CompileMemory(_))
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_compiler_has_three_pipes_and_nothing_else_of_the_hosts() {
    assert!(std::env::var("PATH").is_ok(), "the host has an environment");
    let host = with_shell("env >&2; pwd >&2; exit 3").await;
    let error = refused(&host, &Guest::echo().build()).await.to_string();
    assert!(!error.contains("CARGO"), "{error}");
    assert!(!error.contains("HOME"), "{error}");
    assert!(error.contains("PWD=/"), "{error}");

    let open = tempfile::NamedTempFile::new().unwrap();
    let script = format!(
        "ls -l /proc/$$/fd | grep -cE '{}|/audit/|socket' >&2; ls /proc/$$/fd | grep -cxE '[012]' >&2; exit 3",
        open.path().display()
    );
    let error = refused(&with_shell(&script).await, &Guest::echo().build()).await;
    assert!(error.to_string().ends_with(r"0\n3"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_given_up_leaves_no_compiler() {
    let folder = tempfile::tempdir().unwrap();
    let marked = folder.path().join("started");
    let host = with_shell(&format!("echo $$ > {}; exec sleep 600", marked.display())).await;
    let component = Guest::echo().build();
    let given_up = tokio::time::timeout(Duration::from_secs(5), refused(&host, &component));
    assert!(given_up.await.is_err());
    let process = std::fs::read_to_string(marked).unwrap();
    until("the compiler is gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.trim()));
        // A child that has exited but was not waited for does not count.
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A compiler without a host.
fn compiler(request: &str) -> Child {
    let mut child = Command::new(COMPILER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.as_mut().unwrap();
    input.write_all(request.as_bytes()).unwrap();
    child
}

fn request(cpu: u64, memory: u64, size: usize) -> String {
    let code = json!({ "baseline": false, "checked": false });
    json!({ "code": code, "cpu": cpu, "memory": memory, "size": size }).to_string() + "\n"
}

/// The nice value of a process, by its folder in `/proc`.
fn nice(process: &str) -> i32 {
    let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap();
    fields.split_whitespace().nth(16).unwrap().parse().unwrap()
}

#[test]
fn a_compiler_limits_itself_and_ends_with_its_host() {
    let bomb = many_functions();
    let mut child = compiler(&request(50, 3 << 30, bomb.len()));
    let mut input = child.stdin.take().unwrap();
    // It has begun with the component, and so has its limits.
    input.write_all(&bomb[..bomb.len() / 2]).unwrap();
    let process = format!("/proc/{}", child.id());
    let limits = std::fs::read_to_string(format!("{process}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let mut numbers = line.unwrap().split_whitespace();
        [numbers.next().unwrap(), numbers.next().unwrap()].map(str::to_owned)
    };
    assert_eq!(limit("Max cpu time"), ["50", "51"]);
    assert_eq!(limit("Max address space"), ["3221225472", "3221225472"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    assert_eq!(limit("Max file size"), ["0", "0"]);
    assert_eq!(limit("Max open files"), ["32", "32"]);
    // Ten more than this process, which may be niced itself, up to the kernel's highest.
    assert_eq!(nice(&process), (nice("/proc/self") + 10).min(19));
    let expendable = std::fs::read_to_string(format!("{process}/oom_score_adj")).unwrap();
    assert_eq!(expendable.trim(), "1000");

    let begun = Instant::now();
    input.write_all(&bomb[bomb.len() / 2..]).unwrap();
    // A killed host leaves a pipe without a reader.
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(40));
    let mut answer = Vec::new();
    child.stdout.unwrap().read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty());
}

#[test]
fn half_a_request_is_not_compiled() {
    let good = Guest::echo().build();
    let cases = [
        String::new(),
        "{\n".to_owned(),
        request(10, 1 << 30, good.len() + 1),
        request(10, 1 << 30, usize::MAX >> 1),
        "x".repeat(1 << 20),
    ];
    for head in cases {
        let mut child = Command::new(COMPILER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        // It may end before it has read all.
        drop(input.write_all(head.as_bytes()));
        drop(input.write_all(&good));
        drop(input);
        let ended = child.wait_with_output().unwrap();
        assert!(!ended.status.success());
        assert!(ended.stdout.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_that_are_loaded_at_once_are_compiled_as_many_at_a_time_as_allowed_and_each_once() {
    let log = tempfile::NamedTempFile::new().unwrap();
    // Begins and ends are written down around the real compiler.
    let script = format!(
        "echo + >> {0}; {COMPILER}; status=$?; echo - >> {0}; exit $status",
        log.path().display()
    );
    let host = Host::with(&uncalled(), |options| {
        options.compiler = Compiler {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
        };
        options.compilers = Some(1);
    })
    .await;
    // Six plugins, three components.
    let loads = (0..6).map(|number| {
        let guest = Guest::new(&format!("(call $digit (i32.const {}))", number % 3)).build();
        host.file(&format!("plugin-{number}.wasm"), &guest);
        let manifest = manifest(host.home.path(), &format!("plugin-{number}"), "");
        host.runtime.load(manifest)
    });
    for loaded in futures::future::join_all(loads).await {
        loaded.unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(log.path()).unwrap(),
        "+\n-\n".repeat(3)
    );
    for number in 0..6 {
        let name = format!("plugin-{number}");
        let answer = host
            .runtime
            .invoke(&name, "act", json!({}), None, None)
            .await;
        assert_eq!(answer, Ok(json!(number % 3)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn components_are_compiled_side_by_side_and_one_that_fails_stops_no_other() {
    let log = tempfile::NamedTempFile::new().unwrap();
    // Each compiler waits until as many have begun as there are components. Were they started one after the other, the
    // first would give up.
    let script = format!(
        "echo + >> {0}; tries=0
         while [ $(grep -c + {0}) -lt 3 ]; do
           tries=$((tries + 1)); [ $tries -gt 3000 ] && exit 3; sleep 0.02
         done
         exec {COMPILER}",
        log.path().display()
    );
    let host = Host::with(&uncalled(), |options| {
        options.compiler = Compiler {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
        };
        options.compilers = Some(3);
    })
    .await;
    let good = |number: u32| Guest::new(&format!("(call $digit (i32.const {number}))")).build();
    let (first, second) = (good(1), good(2));
    // Its function finds nothing on the stack.
    let bad = functions(1, &[0x45]);
    let (one, two, broken) = tokio::join!(
        host.load("one", &first, ""),
        host.load("two", &second, ""),
        host.load("broken", &bad, ""),
    );
    one.unwrap();
    two.unwrap();
    let error = broken.unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Component(_, ComponentError::Invalid(_) | ComponentError::Truncated(_))
        ),
        "{error}"
    );
    for (name, number) in [("one", 1), ("two", 2)] {
        let answer = host
            .runtime
            .invoke(name, "act", json!({}), None, None)
            .await;
        assert_eq!(answer, Ok(json!(number)));
    }
    assert_eq!(
        std::fs::read_to_string(log.path()).unwrap(),
        "+\n".repeat(3)
    );
}

#[tokio::test]
async fn what_imports_or_exports_something_else_is_refused_before_a_compiler_is_started() {
    const ELSEWHERE: &str = "package acme:tools@1.0.0; interface teleport { go: func(); }";
    let log = tempfile::NamedTempFile::new().unwrap();
    let host = with_shell(&format!("echo + >> {}; exit 3", log.path().display())).await;
    let started = || std::fs::read_to_string(log.path()).unwrap().lines().count();
    let stranger = Guest::echo().package(ELSEWHERE).import(
        "import acme:tools/teleport@1.0.0;",
        r#"(import "acme:tools/teleport@1.0.0" "go" (func))"#,
    );
    let error = refused(&host, &stranger.build()).await;
    assert!(
        matches!(&error, LoadError::Component(_, ComponentError::UnknownImport { import, .. }) if import == "acme:tools/teleport@1.0.0"),
        "{error}"
    );
    let error = refused(&host, &wat::parse_str("(component)").unwrap()).await;
    assert!(
        matches!(
            error,
            LoadError::Component(_, ComponentError::NotAnAgent(_))
        ),
        "{error}"
    );
    let file = host.file("stranger.wasm", &stranger.build());
    let seen = host.runtime.inspect(&file).await.unwrap();
    assert!(seen.problem.unwrap().contains("acme:tools/teleport"));
    let import = seen.imports.iter().find(|it| it.name.contains("teleport"));
    assert_eq!(import.unwrap().functions, ["go"]);
    assert_eq!(seen.compiled, 0);
    assert_eq!(started(), 0);

    // What could be an agent is compiled.
    let error = refused(&host, &Guest::echo().build()).await;
    assert!(
        matches!(error, LoadError::Component(_, ComponentError::Compiler(_))),
        "{error}"
    );
    assert_eq!(started(), 1);
}
