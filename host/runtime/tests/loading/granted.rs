//! What a component may import and call: what its manifest grants, and if it trades, only once an
//! operator has adopted it.

use std::time::Duration;

use qchost_folders::{Place, SharedPlaces};
use qchost_policy::{Person, Role};
use qchost_runtime::{Kind, LoadError};
use serde_json::json;

use qchost_testing::{Gated, Guest, Host, Scripted, uncalled};

#[tokio::test]
async fn outgoing_http_is_imported_where_the_manifest_grants_some() {
    const HTTP: &str =
        "package wasi:http@0.2.0; interface types { resource fields { constructor(); } }";
    let host = Host::new(&uncalled()).await;
    let caller = Guest::echo().package(HTTP).import(
        "import wasi:http/types@0.2.0;",
        r#"(import "wasi:http/types@0.2.0" "[constructor]fields" (func (result i32)))"#,
    );
    let error = host.load("caller", &caller.build(), "").await.unwrap_err();
    let LoadError::HttpDenied { import, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(import, "wasi:http/types@0.2.0");
    let text = error.to_string();
    let (_, lines) = text.split_once(":\n").unwrap();
    let plugin = host.load("caller", &caller.build(), lines).await.unwrap();
    let imports = plugin.imports();
    let http = imports
        .iter()
        .find(|import| import.name == "wasi:http/types@0.2.0");
    assert_eq!(http.unwrap().kind, Kind::Http);
}

/// A plugin that may ask which folders it has.
fn keeper(guest: Guest) -> Vec<u8> {
    let granted = r#"(import "qchost:agent/folders@0.1.0" "granted" (func (param i32)))"#;
    guest
        .import("import qchost:agent/folders@0.1.0;", granted)
        .build()
}

#[tokio::test]
async fn folders_are_imported_where_the_manifest_grants_one_apart_from_the_hosts_own() {
    let places = SharedPlaces::default();
    let host = Host::with(&uncalled(), |options| options.places = places.clone()).await;
    let component = keeper(Guest::echo());
    let error = host.load("keeper", &component, "").await.unwrap_err();
    assert!(matches!(error, LoadError::FoldersDenied { .. }), "{error}");
    let text = error.to_string();
    let (_, lines) = text.split_once(":\n").unwrap();
    let [own, free] = ["own", "free"].map(|name| host.home.path().join(name));
    let lines_for = |path: &std::path::Path| lines.replace("/srv/example", path.to_str().unwrap());
    let missing = host.load("keeper", &component, &lines_for(&free)).await;
    assert!(missing.unwrap_err().to_string().contains("create it"));
    for folder in [&own, &free] {
        std::fs::create_dir(folder).unwrap();
    }
    places.set(vec![Place::apart(&own, "the host's own folder")]);
    let error = host.load("keeper", &component, &lines_for(&own)).await;
    let error = error.unwrap_err();
    assert!(matches!(error, LoadError::Folder { .. }), "{error}");
    let plugin = host.load("keeper", &component, &lines_for(&free)).await;
    let plugin = plugin.unwrap();
    assert!(plugin.has_folders_in_place());
    let mut kinds = plugin.imports().iter().map(|import| import.kind);
    assert!(kinds.any(|kind| kind == Kind::Folders));
    // One that was made again is opened again.
    std::fs::rename(&free, host.home.path().join("moved")).unwrap();
    std::fs::create_dir(&free).unwrap();
    assert!(!plugin.has_folders_in_place());
    let again = host.load("keeper", &component, &lines_for(&free)).await;
    assert!(again.unwrap().has_folders_in_place());
}

#[tokio::test]
async fn the_lines_for_interfaces_and_folders_are_printed_together() {
    let host = Host::new(&uncalled()).await;
    let component = keeper(compiler(""));
    let error = host.load("keeper", &component, "").await.unwrap_err();
    assert!(matches!(error, LoadError::DeniedWithFolders(_)), "{error}");
    let text = error.to_string();
    let (_, lines) = text.split_once("add to the manifest:\n").unwrap();
    let folder = host.home.path().join("reports");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.to_str().unwrap();
    let lines = lines.replace("/srv/example", path);
    host.load("keeper", &component, &lines).await.unwrap();

    // An inspection prints both too.
    let file = host.file("keeper.wasm", &component);
    let lines = host.runtime.inspect(&file).await.unwrap().grants();
    let lines = lines.replace("/srv/example", path);
    host.load("inspected", &component, &lines).await.unwrap();
}

#[tokio::test]
async fn the_lines_for_interfaces_and_requests_that_no_grant_mentions_are_printed_together() {
    const HTTP: &str =
        "package wasi:http@0.2.0; interface types { resource fields { constructor(); } }";
    let host = Host::new(&uncalled()).await;
    let component = compiler("")
        .package(HTTP)
        .import(
            "import wasi:http/types@0.2.0;",
            r#"(import "wasi:http/types@0.2.0" "[constructor]fields" (func (result i32)))"#,
        )
        .build();
    let error = host.load("caller", &component, "").await.unwrap_err();
    assert!(matches!(error, LoadError::DeniedWithHttp(_)), "{error}");
    let text = error.to_string();
    let (_, lines) = text.split_once("add to the manifest:\n").unwrap();
    host.load("caller", &component, lines).await.unwrap();

    // An inspection prints both too.
    let path = host.file("caller.wasm", &component);
    let lines = host.runtime.inspect(&path).await.unwrap().grants();
    host.load("inspected", &component, &lines).await.unwrap();
}

#[tokio::test]
async fn in_production_what_trades_is_replaced_by_an_operator() {
    let trades = "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\"]\n\
                  projects = [\"*\"]\nbrokerages = [\"paper\"]";
    let first = Guest::new("(call $digit (i32.const 1))").build();
    let second = Guest::new("(call $digit (i32.const 2))").build();
    let gated = Gated::with(uncalled(), |options| options.settings.production = true).await;
    let host = Host::behind(gated, |_| {});
    let serves = async |expected: u32| {
        let output = host.runtime.invoke("lab", "act", json!({}), None, None);
        assert_eq!(output.await, Ok(json!(expected)));
    };

    // What replaces nothing is loaded: its calls are refused one by one.
    host.load("lab", &first, trades).await.unwrap();
    serves(1).await;
    host.load("lab", &first, trades).await.unwrap();
    let error = host.load("lab", &second, trades).await.unwrap_err();
    let LoadError::AwaitsOperator { approval, .. } = &error else {
        panic!("{error}");
    };
    assert!(error.to_string().contains(approval.as_str()), "{error}");
    serves(1).await;

    let person = Person {
        uid: 1000,
        name: "ada".to_owned(),
        roles: [Role::Approver].into(),
    };
    host.gate
        .approvals
        .approve(approval, &person, None)
        .await
        .unwrap();
    host.load("lab", &second, trades).await.unwrap();
    serves(2).await;

    // One that does not trade is replaced without adoption.
    host.load("reader", &first, "").await.unwrap();
    host.load("reader", &second, "").await.unwrap();
}

/// Calls `create-compile` for project 7 and returns which case of the result it got: 0 for an
/// answer, 1 and the case of the error otherwise.
pub fn compiler(more: &str) -> Guest {
    Guest::new(
        r#"(call $create_compile (i32.const 7) (i32.const 2048))
           (if (result i32) (i32.load8_u (i32.const 2048))
             (then (call $digit (i32.add (i32.const 10) (i32.load8_u (i32.const 2056)))))
             (else (call $digit (i32.const 0))))"#,
    )
    .import(
        "import quantconnect:api/compile@0.1.0;",
        r#"(import "quantconnect:api/compile@0.1.0" "create-compile" (func $create_compile (param i32 i32)))"#,
    )
    .more(more)
}

#[tokio::test]
async fn what_no_grant_mentions_does_not_load_and_what_none_allows_is_not_sent() {
    let upstream = Scripted::new(|_| {
        let body = json!({ "compileId": "c", "state": "InQueue", "projectId": 7 });
        (Duration::ZERO, Ok(body))
    });
    let host = Host::new(&upstream).await;
    let component = compiler("").build();

    let error = host.load("lab", &component, "").await.unwrap_err();
    assert!(matches!(error, LoadError::Denied(_)), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("compile") && message.contains("    \"compile/create-compile\",\n]"),
        "{message}"
    );
    // They are those that an inspection prints.
    let path = host.file("inspected.wasm", &component);
    let lines = host.runtime.inspect(&path).await.unwrap().grants();
    assert!(message.ends_with(&lines), "{message}");

    let reads = "[[grant]]\nname = \"reads\"\nallow = [\"compile/read-*\"]\nprojects = [\"*\"]";
    host.load("lab", &component, reads).await.unwrap();
    let output = host
        .runtime
        .invoke("lab", "act", json!({}), None, None)
        .await;
    assert_eq!(output, Ok(json!(10)), "the error `denied`");
    assert!(upstream.sent().is_empty());

    let all = "[[grant]]\nname = \"all\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]";
    host.load("lab", &component, all).await.unwrap();
    let output = host
        .runtime
        .invoke("lab", "act", json!({}), None, None)
        .await;
    assert_eq!(output, Ok(json!(0)));
    assert_eq!(upstream.sent()[0].tool, "create_compile");
    assert_eq!(upstream.sent()[0].arguments["projectId"], json!(7));

    // Authority is read at every call: the manifest goes, and with it every right.
    host.gate.proposals.remove("lab");
    let output = host
        .runtime
        .invoke("lab", "act", json!({}), None, None)
        .await;
    assert_eq!(output, Ok(json!(10)));
    assert_eq!(upstream.sent().len(), 1);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_an_error_of_the_plugins() {
    let upstream = Scripted::new(|_| {
        (
            Duration::ZERO,
            Ok(json!({ "projectId": 7, "compileId": [] })),
        )
    });
    let host = Host::new(&upstream).await;
    let all = "[[grant]]\nname = \"all\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]";
    host.load("lab", &compiler("").build(), all).await.unwrap();
    let output = host
        .runtime
        .invoke("lab", "act", json!({}), None, None)
        .await;
    assert_eq!(output, Ok(json!(23)), "the error `unexpected-response`");
}

#[tokio::test]
async fn a_component_that_describes_itself_can_call_nothing() {
    let upstream = uncalled();
    let host = Host::new(&upstream).await;
    let describe = "(call $create_compile (i32.const 7) (i32.const 2048)) \
                    (if (i32.eqz (i32.load8_u (i32.const 2048))) (then unreachable)) unreachable";
    let all = "[[grant]]\nname = \"all\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]";
    host.load("lab", &compiler("").describe(describe).build(), all)
        .await
        .unwrap_err();
    assert!(upstream.sent().is_empty());
}

#[tokio::test]
async fn the_record_of_a_call_says_who_asked_for_the_invocation() {
    let upstream = Scripted::new(|_| {
        let body = json!({ "compileId": "c", "state": "InQueue", "projectId": 7 });
        (Duration::ZERO, Ok(body))
    });
    let host = Host::new(&upstream).await;
    let all = "[[grant]]\nname = \"all\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]";
    host.load("lab", &compiler("").build(), all).await.unwrap();
    for person in [Some(1000), None] {
        let called = host.runtime.invoke("lab", "act", json!({}), person, None);
        assert_eq!(called.await, Ok(json!(0)));
    }
    let records = host.records().await;
    let intents: Vec<_> = records.iter().filter(|it| it["kind"] == "intent").collect();
    assert_eq!(intents.len(), 2, "{records:?}");
    assert_eq!(intents[0]["person"], json!(1000));
    assert_eq!(intents[1].get("person"), None);
}
