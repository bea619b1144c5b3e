//! Which components are loaded or refused, and what callers may ask of a loaded one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod aliases;
mod granted;

use granted::compiler;
use qchost_runtime::{ActionError, ComponentError, Failure, InvokeError, Kind, LoadError, Runtime};
use qchost_testing::runtime::{manifest, options};
use qchost_testing::{Guest, Host, uncalled};
use serde_json::{Value, json};

/// A component that exports something else.
fn other_world() -> Vec<u8> {
    wat::parse_str(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (export "run" (func $f)))"#,
    )
    .unwrap()
}

#[tokio::test]
async fn each_kind_of_wrong_file_is_told_apart() {
    let host = Host::new(&uncalled()).await;
    let good = Guest::echo().build();
    let core = wat::parse_str("(module)").unwrap();
    let mut bent = good.clone();
    bent[40] ^= 0xff;
    let cases: [(&str, &[u8], &str); 9] = [
        ("empty", b"", "the file is empty"),
        ("text", b"print('hello')", "it begins with `print('hello')`"),
        (
            "garbage",
            &[0xde, 0xad, 0x1b, b'[', 0, 7],
            "not a WebAssembly component",
        ),
        ("wat", b"(component)", "text form"),
        ("core", &core, "core module"),
        ("head", &good[..6], "truncated"),
        ("half", &good[..good.len() / 2], "truncated"),
        ("bent", &bent, "not valid"),
        (
            "other",
            &other_world(),
            "does not export `qchost:agent/guest@0.1.0` (it exports run); build it with `#[agent]` of the SDK",
        ),
    ];
    for (name, bytes, words) in cases {
        let error = host.load(name, bytes, "").await.unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
        assert!(error.contains(&format!("{name}.wasm")), "{name}: {error}");
        assert_eq!(error.lines().count(), 1, "{name}: {error}");
        assert!(!error.contains('\u{1b}'), "{name}: {error}");
    }
    assert!(host.runtime.plugins().is_empty());

    let missing = host
        .runtime
        .load(manifest(host.home.path(), "missing", ""))
        .await;
    let error = missing.unwrap_err().to_string();
    assert!(
        error.contains("missing.wasm: cannot read the component"),
        "{error}"
    );
    assert!(
        error.contains("build it with `qchost plugin build FOLDER`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_component_that_was_built_to_run_asynchronously_is_told_how_to_be_built() {
    let host = Host::new(&uncalled()).await;
    // With a section of one canonical function at its end: `task.cancel`.
    let mut component = Guest::echo().build();
    component.extend([8, 2, 1, 5]);
    let error = host.load("async", &component, "").await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("component model async") && error.contains("`--sync`"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test]
async fn a_memory_limit_below_what_a_component_starts_with_is_refused_at_load() {
    let host = Host::new(&uncalled()).await;
    let guest = Guest::echo().build();
    let error = host
        .load("small", &guest, "[limits]\nmemory = \"64KiB\"")
        .await
        .unwrap_err();
    let LoadError::MemoryLimit { needed, limit, .. } = &error else {
        panic!("{error}");
    };
    assert!(*needed >= 128 << 10, "{needed}");
    assert_eq!(*limit, 64 << 10);
    assert!(error.to_string().contains("\"1MiB\" or more"), "{error}");
    // The remedy is enough.
    host.load("small", &guest, "[limits]\nmemory = \"1MiB\"")
        .await
        .unwrap();
    let echoed = host.runtime.invoke("small", "act", json!(1), None, None);
    assert_eq!(echoed.await, Ok(json!(1)));
}

#[tokio::test]
async fn what_is_no_regular_file_is_not_waited_for() {
    let host = Host::new(&uncalled()).await;
    let folder = host.home.path();
    std::fs::create_dir(folder.join("folder.wasm")).unwrap();
    // There is never a writer.
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe.wasm"), mode).unwrap();
    for name in ["folder", "pipe"] {
        let loading = host.runtime.load(manifest(folder, name, ""));
        let loading = tokio::time::timeout(std::time::Duration::from_secs(20), loading);
        let error = loading.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("it is no regular file"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_component_that_is_too_large_is_not_read() {
    let host = Host::with(&uncalled(), |options| options.component = 1000).await;
    let error = host
        .load("big", &Guest::echo().build(), "")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Component(_, ComponentError::TooLarge { limit: 1000, .. })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_import_that_the_host_does_not_have_is_named() {
    const ELSEWHERE: &str = "package acme:tools@1.0.0; interface teleport { go: func(); }";
    let host = Host::new(&uncalled()).await;
    let stranger = Guest::echo().package(ELSEWHERE).import(
        "import acme:tools/teleport@1.0.0;",
        r#"(import "acme:tools/teleport@1.0.0" "go" (func))"#,
    );
    let error = host
        .load("stranger", &stranger.build(), "")
        .await
        .unwrap_err();
    let LoadError::Component(_, ComponentError::UnknownImport { import, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(import, "acme:tools/teleport@1.0.0");

    const HTTP: &str = "package wasi:http@0.2.0; interface incoming-handler { handle: func(); }";
    let server = Guest::echo().package(HTTP).import(
        "import wasi:http/incoming-handler@0.2.0;",
        r#"(import "wasi:http/incoming-handler@0.2.0" "handle" (func))"#,
    );
    let error = host.load("server", &server.build(), "").await.unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Component(_, ComponentError::UnknownImport { .. })
        ),
        "{error}"
    );
    assert!(error.to_string().contains("outgoing-handler"), "{error}");
}

#[tokio::test]
async fn an_import_of_another_type_does_not_fit() {
    const CLOCKS: &str =
        "package wasi:clocks@0.2.0; interface wall-clock { now: func() -> string; }";
    let host = Host::new(&uncalled()).await;
    let guest = Guest::echo().package(CLOCKS).import(
        "import wasi:clocks/wall-clock@0.2.0;",
        r#"(import "wasi:clocks/wall-clock@0.2.0" "now" (func (param i32)))"#,
    );
    let error = host.load("wrong", &guest.build(), "").await.unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Component(_, ComponentError::Incompatible(_))
        ),
        "{error}"
    );
    assert!(error.to_string().contains("wall-clock"), "{error}");
}

#[tokio::test]
async fn stray_exports_and_interfaces_of_types_alone_do_no_harm() {
    let host = Host::new(&uncalled()).await;
    let guest = Guest::echo()
        .import("export init: func();", "")
        .more(r#"(func (export "init"))"#);
    let plugin = host.load("stray", &guest.build(), "").await.unwrap();
    assert!(plugin.exports().contains(&"init".to_owned()));
    let types = plugin
        .imports()
        .iter()
        .find(|import| import.name == "quantconnect:api/types@0.1.0");
    assert_eq!(types.unwrap().kind, Kind::Types);
}

#[tokio::test]
async fn a_description_is_checked() {
    let host = Host::new(&uncalled()).await;
    let act = ("act", "{}");
    let named = |name: &str| {
        let mut guest = Guest::echo();
        guest.name = name.to_owned();
        guest
    };
    let cases = [
        ("upper", named("Upper"), "the plugin is called `Upper`"),
        ("blank", named(""), "the plugin is called ``"),
        ("long", named(&"x".repeat(65)), "at most 64"),
        (
            "action",
            Guest::echo().actions(&[("a b", "{}")]),
            "an action is called `a b`",
        ),
        (
            "twice",
            Guest::echo().actions(&[act, act]),
            "two actions called `act`",
        ),
        (
            "json",
            Guest::echo().actions(&[("act", "{")]),
            "the input schema of `act`: it is not JSON",
        ),
        (
            "remote",
            Guest::echo().actions(&[("act", r#"{"$ref":"https://example.com/"}"#)]),
            "only within the schema",
        ),
        (
            "circle",
            Guest::echo().actions(&[("act", r##"{"$ref":"#"}"##)]),
            "circle",
        ),
        (
            "settings",
            Guest::echo().config(r#"{"$ref":"https://example.com/"}"#),
            "the schema of `[config]`: ",
        ),
        (
            "no-settings",
            Guest::echo().config("[]"),
            "the schema of `[config]`: it is not a JSON object",
        ),
        (
            "trap",
            Guest::echo().describe("unreachable"),
            "wasm `unreachable` instruction executed",
        ),
        (
            "loop",
            Guest::echo().describe("(loop $l (br $l)) unreachable"),
            "0.1 s on the processor",
        ),
    ];
    for (name, guest, words) in cases {
        let error = host
            .load(name, &guest.build(), "")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{name}: {error}");
        assert_eq!(error.lines().count(), 1, "{name}: {error}");
    }
    let large = format!(r#"{{"description":"{}"}}"#, "x".repeat(60_000));
    let actions: Vec<_> = (0..8).map(|at| (format!("a{at}"), large.clone())).collect();
    let actions: Vec<_> = actions
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let component = Guest::echo().actions(&actions).build();
    let error = host
        .load("large", &component, "")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("handed the host more than 262144 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn settings_that_do_not_fit_the_components_schema_are_refused_with_their_place() {
    const SCHEMA: &str = r#"{
        "type": "object",
        "properties": { "project": { "type": "string" }, "deep": { "properties": { "days": { "maximum": 7 } } } },
        "required": ["project"],
        "additionalProperties": false
    }"#;
    let host = Host::new(&uncalled()).await;
    let component = Guest::echo().config(SCHEMA).build();
    let good = "[config]\nproject = \"Lab\"\n[config.deep]\ndays = 7";
    let plugin = host.load("lab", &component, good).await.unwrap();
    let described = plugin.description().config_schema.clone().unwrap();
    assert_eq!(described["required"], json!(["project"]));
    // The first three lines of a manifest are those that each has.
    for (lines, line, key, words) in [
        ("[config]\nproject = 4711", 5, "config.project", "string"),
        (
            "[config]\nproject = \"Lab\"\n\n[config.deep]\ndays = 4711",
            8,
            "config.deep.days",
            "7",
        ),
        (
            "[config]\nprojct = \"Lab\"\nproject = \"Lab\"",
            4,
            "config",
            "projct",
        ),
        ("[config]\n", 4, "config", "project"),
        ("", 1, "config", "project"),
    ] {
        let error = host.load("lab", &component, lines).await.unwrap_err();
        let LoadError::Config {
            line: at,
            key: named,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*at, named.as_str()), (line, key), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("lab.toml:{line}: {key}: ")),
            "{text}"
        );
        assert!(text.contains(words) && !text.contains("4711"), "{text}");
    }
    // What serves keeps its settings.
    let serving = host.runtime.plugin("lab").unwrap();
    assert_eq!(serving.manifest().config["project"], json!("Lab"));
    // Without a schema, all settings are accepted.
    let free = Guest::echo().build();
    host.load("free", &free, "[config]\nproject = 4711")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_pinned_component_is_the_only_one_that_loads() {
    let host = Host::new(&uncalled()).await;
    let component = Guest::echo().build();
    let digest = host
        .load("free", &component, "")
        .await
        .unwrap()
        .digest()
        .to_owned();
    let pin = format!("digest = \"{digest}\"");
    host.load("pinned", &component, &pin).await.unwrap();
    let other = Guest::new("(call $digit (i32.const 1))").build();
    let error = host.load("pinned", &other, &pin).await.unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Component(_, ComponentError::Digest { .. })
        ),
        "{error}"
    );
    // The loaded version keeps serving.
    let output = host
        .runtime
        .invoke("pinned", "act", json!([1]), None, None)
        .await;
    assert_eq!(output, Ok(json!([1])));
}

#[tokio::test]
async fn a_load_that_fails_leaves_what_was_there() {
    let host = Host::new(&uncalled()).await;
    let config = "[config]\nversion = 1";
    host.load("lab", &Guest::echo().build(), config)
        .await
        .unwrap();
    for (bytes, lines) in [
        (b"garbage".to_vec(), "[config]\nversion = 2"),
        (compiler("").build(), "[config]\nversion = 3"),
    ] {
        host.load("lab", &bytes, lines).await.unwrap_err();
        let manifest = host.gate.policies.manifest("lab").unwrap();
        assert_eq!(manifest.config["version"], json!(1), "its authority too");
        let output = host
            .runtime
            .invoke("lab", "act", json!({}), None, None)
            .await;
        assert_eq!(output, Ok(json!({})));
    }
    assert!(host.runtime.unload("lab"));
    assert!(!host.runtime.unload("lab"));
    assert!(host.gate.policies.manifest("lab").is_none());
    let gone = host
        .runtime
        .invoke("lab", "act", json!({}), None, None)
        .await;
    assert!(matches!(gone, Err(InvokeError::UnknownPlugin { .. })));
}

#[tokio::test]
async fn a_caller_is_told_what_is_wrong_with_the_call() {
    let host = Host::new(&uncalled()).await;
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;
    let guest = Guest::echo().actions(&[("count", schema)]);
    host.load("lab", &guest.build(), "").await.unwrap();
    let invoke = async |plugin: &str, action: &str, input| {
        host.runtime.invoke(plugin, action, input, None, None).await
    };
    assert_eq!(
        invoke("lab", "count", json!({ "n": 1 })).await,
        Ok(json!({ "n": 1 }))
    );
    let error = invoke("lab", "count", json!({ "n": "x" }))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("`lab.count`: the input does not fit at `/n`:"),
        "{error}"
    );
    let error = invoke("lab", "count", json!(null)).await.unwrap_err();
    assert!(
        matches!(
            error,
            InvokeError::Action(_, ActionError::InvalidInput { .. })
        ),
        "{error}"
    );
    let error = invoke("lab", "cuont", json!({}))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(error, "`lab` has no action `cuont`; it has: count");
    let error = invoke("lap", "count", json!({}))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "there is no plugin `lap`; loaded are: lab; see: qchost plugin list"
    );
    let long = json!({ "n": 1, "x": "x".repeat(5 << 20) });
    let error = invoke("lab", "count", long).await.unwrap_err().to_string();
    assert!(error.contains("at most 4194304"), "{error}");
}

#[tokio::test]
async fn what_a_plugin_returns_is_checked() {
    let host = Host::new(&uncalled()).await;
    let text = r#"(data (i32.const 4096) "no json")"#;
    let garbled = Guest::new("(call $ok (i32.const 4096) (i32.const 7))").more(text);
    host.load("garbled", &garbled.build(), "").await.unwrap();
    let error = host
        .runtime
        .invoke("garbled", "act", json!({}), None, None)
        .await;
    assert!(
        matches!(
            error,
            Err(InvokeError::Action(_, ActionError::InvalidOutput(_)))
        ),
        "{error:?}"
    );

    let failing = Guest::new("(call $fail (i32.const 4096) (i32.const 7))").more(text);
    host.load("failing", &failing.build(), "").await.unwrap();
    let error = host
        .runtime
        .invoke("failing", "act", json!({}), None, None)
        .await;
    let Err(InvokeError::Action(_, ActionError::Failure(failure))) = error else {
        panic!("{error:?}");
    };
    assert_eq!(failure, Failure::Failed("no json".to_owned()));

    host.load(
        "echo",
        &Guest::echo().build(),
        "[limits]\noutput = \"1KiB\"",
    )
    .await
    .unwrap();
    let long = json!("x".repeat(2000));
    let error = host.runtime.invoke("echo", "act", long, None, None).await;
    assert!(
        matches!(
            error,
            Err(InvokeError::Action(
                _,
                ActionError::OutputTooLarge { limit: 1024, .. }
            ))
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_output_that_does_not_fit_its_own_schema_is_a_failure_of_the_plugin() {
    let host = Host::new(&uncalled()).await;
    let schema = r#"{"type":"object","properties":{"n":{"items":{"type":"integer"}}}}"#;
    let fits = Guest::echo().output(schema).build();
    let consts: Vec<_> = (0..2000).map(|at| json!({ "const": at })).collect();
    let large = json!({ "items": { "anyOf": consts } }).to_string();
    let large = Guest::echo().output(&large).build();
    host.load("fits", &fits, "").await.unwrap();
    host.load("large", &large, "").await.unwrap();
    let invoke = async |plugin: &str, output: &Value| {
        let runtime = &host.runtime;
        runtime
            .invoke(plugin, "act", output.clone(), None, None)
            .await
    };
    // The second ones are checked aside.
    let mut many = vec![json!(1); 40_000];
    let good = [json!({ "n": [1] }), json!({ "n": many })];
    many.push(json!("x"));
    let bad = [
        (json!([1]), ""),
        (json!({ "n": [1, "x"] }), "/n/1"),
        (json!({ "n": many }), "/n/40000"),
    ];
    for good in &good {
        assert_eq!(invoke("fits", good).await.as_ref(), Ok(good));
    }
    for (output, place) in &bad {
        let error = invoke("fits", output).await.unwrap_err();
        let InvokeError::Action(name, ActionError::UnfitOutput { path, .. }) = &error else {
            panic!("{error}");
        };
        assert_eq!((name.as_str(), path.as_str()), ("fits.act", *place));
        let shown = error.to_string();
        assert!(
            shown.contains("the output does not fit its own schema")
                && shown.ends_with("what it did is done"),
            "{shown}"
        );
        assert!(shown.len() < 500, "{shown}");
        // It keeps serving.
        invoke("fits", &good[0]).await.unwrap();
    }
    assert_eq!(invoke("large", &json!([1])).await, Ok(json!([1])));
    let error = invoke("large", &json!(vec![1; 50_000])).await.unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains("it has 50001 values"), "{shown}");
}

#[tokio::test]
async fn a_component_can_be_looked_at_without_a_manifest() {
    let host = Host::new(&uncalled()).await;
    let path = host.file("lab.wasm", &compiler("").build());
    let seen = host.runtime.inspect(&path).await.unwrap();
    assert_eq!(seen.needs, ["compile/create-compile"]);
    assert_eq!(seen.problem, None);
    assert_eq!(seen.description.unwrap().actions[0].name, "act");
    assert!(seen.digest.starts_with("sha256:") && seen.size > 0 && seen.compiled > 0);
    assert!(
        seen.exports
            .contains(&"qchost:agent/guest@0.1.0".to_owned())
    );

    let path = host.file("other.wasm", &other_world());
    let seen = host.runtime.inspect(&path).await.unwrap();
    assert!(seen.problem.unwrap().contains("no agent"));
    assert!(seen.description.is_none());
    assert!(
        host.runtime
            .inspect(&host.file("x.wasm", b"x"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn compiled_code_outlives_the_host() {
    let first = Host::new(&uncalled()).await;
    first.load("lab", &Guest::echo().build(), "").await.unwrap();
    let entries = || {
        std::fs::read_dir(first.home.path().join("cache"))
            .unwrap()
            .count()
    };
    assert_eq!(entries(), 2, "its code and its description");
    let second = Runtime::new(first.gate.clone(), options(first.home.path())).unwrap();
    second
        .load(manifest(first.home.path(), "lab", ""))
        .await
        .unwrap();
    assert_eq!(entries(), 2);
    assert_eq!(
        second.invoke("lab", "act", json!(2), None, None).await,
        Ok(json!(2))
    );
}
