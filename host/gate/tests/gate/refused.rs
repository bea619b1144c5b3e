//! Refused calls: what is read of them, and what is recorded.

use std::fmt::Write as _;

use qchost_catalog::Failure;
use qchost_gate::{PluginCalls as _, Refusal};
use qchost_policy::Guardrails;
use serde_json::{Map, Value, json};

use qchost_testing::cloud::{Setup, World, call};

const PATCHES: &str =
    "[[grant]]\nname = \"p\"\nallow = [\"files/patch-file\"]\nprojects = [\"Lab/*\"]\n";

async fn patch(world: &World, project: u32, patch: &str) -> Result<Value, Refusal> {
    let arguments = json!({ "projectId": project, "patch": patch });
    world.call("files/patch-file", arguments).await
}

/// A patch that names no file can only be told from others by reading it.
#[tokio::test]
async fn a_patch_is_read_only_where_a_grant_is_for_its_project() {
    let world = Setup::grants(PATCHES).open().await;
    let unreadable = "\n".repeat(300_000);
    let read = patch(&world, 1, &unreadable).await;
    let invalid = matches!(&read, Err(Refusal::Failed(Failure::InvalidArgument(why))) if why.contains("names no file"));
    assert!(invalid, "{read:?}");
    let unread = patch(&world, 9, &unreadable).await;
    assert!(matches!(unread, Err(Refusal::Denied(_))), "{unread:?}");
    assert!(world.cloud.sent().is_empty());

    patch(
        &world,
        1,
        "--- a/main.py\n+++ b/main.py\n@@ -1 +1 @@\n-a\n+b\n",
    )
    .await
    .unwrap();
    assert_eq!(world.cloud.sent(), ["patch_file"]);
}

/// The plugin that sent the text is charged, also where it is read aside.
#[tokio::test]
async fn reading_a_patch_is_charged() {
    let world = Setup::grants(PATCHES).open().await;
    let before = world.principal.cpu.spent();
    let mut long = String::new();
    for at in 0..400 {
        write!(
            long,
            "--- a/{at}.py\n+++ b/{at}.py\n@@ -1 +1 @@\n-{0}\n+{0}\n",
            "x".repeat(1000)
        )
        .unwrap();
    }
    patch(&world, 1, &long).await.unwrap();
    let reading = world.principal.cpu.spent() - before;
    assert!(reading.as_micros() > 500, "{reading:?}");
}

/// What is decided before the patch is read must not be decided by the guardrails: this one is about the file.
#[tokio::test]
async fn a_guardrail_about_files_decides_once_they_are_known() {
    let rule =
        "@id(\"only-python\") forbid (principal, action == Action::\"files/patch-file\", resource)
        unless { context has file && context.file like \"*.py\" };";
    let mut setup = Setup::grants(PATCHES);
    setup.guardrails = Guardrails::read(&[("a.cedar".into(), rule.to_owned())]).unwrap();
    let world = setup.open().await;
    let change = |file: &str| format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-a\n+b\n");
    patch(&world, 1, &change("main.py")).await.unwrap();
    let both = change("main.py") + &change("notes.md");
    for forbidden in [change("notes.md"), both] {
        let refused = patch(&world, 1, &forbidden).await;
        let Err(Refusal::Denied(denial)) = &refused else {
            panic!("{refused:?}")
        };
        assert!(denial.reason.contains("only-python"), "{denial}");
    }
    assert_eq!(world.cloud.sent(), ["patch_file"]);
}

#[tokio::test]
async fn a_name_that_no_tool_can_have_is_refused_and_recorded_in_short() {
    let mut setup = Setup::grants("[[grant]]\nname = \"raw\"\nallow = [\"raw/x\"]\n");
    setup.live_trading = true;
    let world = setup.open().await;
    let forged = "x\n2026-01-01T00:00:00Z  INFO gate: all is well \u{1b}[2J\u{202e}";
    let long = "x".repeat(2 << 20);
    for name in [forged, long.as_str(), "", "a/b", "é"] {
        let refused = world
            .gate
            .call_raw(&world.principal, name, Map::new())
            .await;
        let Err(Refusal::Failed(Failure::InvalidArgument(why))) = &refused else {
            panic!("{refused:?}")
        };
        assert!(why.len() < 500 && !why.contains(char::is_control), "{why}");
    }
    world
        .gate
        .call_raw(&world.principal, "x", Map::new())
        .await
        .unwrap();
    assert_eq!(world.cloud.sent(), ["x"]);

    let records = world.records().await;
    let refused: Vec<_> = records
        .iter()
        .filter(|one| one["kind"] == "denied")
        .collect();
    assert_eq!(refused.len(), 5, "{records:?}");
    for record in &refused {
        let operation = record["operation"].as_str().unwrap();
        assert!(operation.starts_with("raw/") && operation.is_ascii() || operation.contains('…'));
        assert!(record.to_string().len() < 2000, "{record}");
        assert_eq!(record["decision"], "invalid-argument");
    }
    let operation = refused[0]["operation"].as_str().unwrap();
    assert!(
        operation.contains("x\\n2026") && !operation.contains('\n'),
        "{operation}"
    );
    let operation = refused[1]["operation"].as_str().unwrap();
    assert!(operation.ends_with("(2097152 bytes)"), "{operation}");
}

/// A plugin can cause any number of refusals; it can neither fill the audit nor hide a call among them.
#[tokio::test]
async fn refused_calls_are_counted_together_and_none_is_lost() {
    let world = Setup::grants(PATCHES).open().await;
    let padded = json!({ "projectId": 1, "x".repeat(100_000): "y", "name": "z".repeat(100_000) });
    for number in 0..1000 {
        let arguments = if number % 2 == 0 {
            json!({ "projectId": 1 })
        } else {
            padded.clone()
        };
        let refused = world.call("files/create-file", arguments).await;
        assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    }
    // Other plugins' refusals are recorded individually, and so are the plugin's own allowed calls.
    let other = qchost_testing::cloud::principal("other");
    world
        .gate
        .policies
        .install(qchost_testing::cloud::parse(
            "plugin = \"other\"\ncomponent = \"o.wasm\"\naccount = \"a\"\n",
        ))
        .unwrap();
    assert!(
        call(&world.gate, &other, "files/create-file", json!({}))
            .await
            .is_err()
    );
    for _ in 0..150 {
        patch(&world, 1, "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
            .await
            .unwrap();
    }

    let records = world.records().await;
    let of = |kind: &str, plugin: &str| {
        let records = records.iter();
        let records = records.filter(|one| one["kind"] == kind && one["plugin"] == plugin);
        records.cloned().collect::<Vec<_>>()
    };
    let refused = of("denied", "lab");
    let calls: u64 = refused
        .iter()
        .map(|record| record["repeated"]["calls"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(calls, 1000);
    assert!((100..150).contains(&refused.len()), "{}", refused.len());
    let bytes: usize = refused.iter().map(|record| record.to_string().len()).sum();
    assert!(bytes < 500_000, "{bytes}");
    let counted = refused.last().unwrap();
    assert_eq!(counted["operation"], "files/create-file");
    assert!(counted["repeated"]["first"].as_str() <= counted["repeated"]["last"].as_str());
    assert_eq!(of("denied", "other").len(), 1);
    assert_eq!(of("intent", "lab").len(), 150);
    assert_eq!(of("outcome", "lab").len(), 150);
}
