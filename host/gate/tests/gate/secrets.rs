//! Secrets on their way to QuantConnect, and that they do not come back.

use std::collections::BTreeMap;

use qchost_catalog::Failure;
use qchost_gate::Refusal;
use qchost_secrets::{Setting, Source};
use serde_json::{Value, json};

use crate::calls::grant;

#[tokio::test]
async fn the_host_fills_in_profiles_and_takes_secrets_out_of_what_comes_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "pass-of-the-test\n").unwrap();
    let mode =
        |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    let mut setup = grant("\"live/create-live-algorithm\", \"compile/*\"");
    setup.manifest = setup.manifest.replace(
        "data-providers = [\"*\"]",
        "data-providers = [\"*\", \"ib\"]",
    );
    setup.profiles = BTreeMap::from([(
        "ib".to_owned(),
        BTreeMap::from([
            (
                "id".to_owned(),
                Setting::Plain(json!("InteractiveBrokersBrokerage")),
            ),
            (
                "ib-password".to_owned(),
                Setting::Secret(Source::File(file.clone())),
            ),
        ]),
    )]);
    let world = setup.open().await;
    let compile = world
        .call("compile/create-compile", json!({ "projectId": 1 }))
        .await
        .unwrap()["compileId"]
        .clone();
    world.gate.idle().await;
    let deploy = async |brokerage: Value, providers: Value| {
        let arguments = json!({
            "versionId": "-1", "projectId": 1, "compileId": compile, "nodeId": "n", "brokerage": brokerage, "dataProviders": providers,
        });
        world.call("live/create-live-algorithm", arguments).await
    };
    let sent = || {
        world
            .cloud
            .calls()
            .into_iter()
            .filter(|(tool, _)| tool == "create_live_algorithm")
            .collect::<Vec<_>>()
    };

    // A secret that others can read is not used.
    mode(0o644);
    let error = deploy(json!("ib"), json!(["ib"]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("chmod 600"), "{error}");
    mode(0o600);
    // A plugin cannot bring settings of its own, nor a profile that is not there.
    for brokerage in [json!({ "id": "X" }), json!("none")] {
        let refused = deploy(brokerage, json!(["ib"])).await;
        assert!(
            matches!(refused, Err(Refusal::Failed(Failure::InvalidArgument(_)))),
            "{refused:?}"
        );
    }
    assert!(sent().is_empty());

    world.cloud.hook(|tool, _| {
        (tool == "create_live_algorithm").then(|| {
            Err(Failure::Rejected(vec![
                "bad password: pass-of-the-test".to_owned(),
            ]))
        })
    });
    let error = deploy(json!("ib"), json!(["ib"]))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("bad password") && !error.contains("pass-of-the-test"),
        "{error}"
    );
    // Nor does it come back in an answer that repeats what was sent.
    world.cloud.hook(|tool, _| {
        (tool == "create_live_algorithm").then(|| {
            Ok(json!({ "live": { "settings": ["ib-password: pass-of-the-test"], "projectId": 1 } }))
        })
    });
    let answer = deploy(json!("ib"), json!(["ib"]))
        .await
        .unwrap()
        .to_string();
    assert!(
        answer.contains("ib-password") && !answer.contains("pass-of-the-test"),
        "{answer}"
    );
    let twice = deploy(json!("ib"), json!(["ib", "ib"]))
        .await
        .unwrap_err()
        .to_string();
    assert!(twice.contains("two profiles"), "{twice}");
    assert_eq!(sent()[0].1["brokerage"]["ib-password"], "pass-of-the-test");
    assert_eq!(
        sent()[0].1["dataProviders"]["InteractiveBrokersBrokerage"]["ib-password"],
        "pass-of-the-test"
    );
    world.gate.idle().await;
    for entry in std::fs::read_dir(world.folder.path().join("audit")).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("pass-of-the-test"));
    }
}
