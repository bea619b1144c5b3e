//! Profiles: what a plugin names and what the host fills in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use qchost_catalog::{Failure, Operation, by_name};
use qchost_secrets::{DeploymentSettings, Profile, Profiles, Secrets, Setting};
use serde_json::{Map, Value, json};

fn deploy() -> &'static Operation {
    by_name("live/create-live-algorithm").unwrap()
}

fn profiles(definitions: &Value, secrets: &Secrets) -> Profiles {
    let map: BTreeMap<String, Profile> = serde_json::from_value(definitions.clone()).unwrap();
    Profiles::new(map, secrets.clone())
}

fn arguments(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn secret_file(folder: &tempfile::TempDir, mode: u32) -> String {
    let path = folder.path().join("pin");
    std::fs::write(&path, "hunter2\n").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn names_become_settings_and_the_secrets_in_them_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::default();
    let profiles = profiles(
        &json!({
            "ib": {"id": "InteractiveBrokersBrokerage", "ib-password": {"file": secret_file(&folder, 0o600)}},
            "polygon": {"id": "Polygon", "polygon-api-key": {"env": "CARGO_PKG_NAME"}},
        }),
        &secrets,
    );
    let mut filled = arguments(json!({
        "projectId": 7, "brokerage": "ib", "dataProviders": ["polygon", "ib"],
    }));
    profiles.fill(deploy(), &mut filled).await.unwrap();
    let ib = json!({"id": "InteractiveBrokersBrokerage", "ib-password": "hunter2"});
    let polygon = json!({"id": "Polygon", "polygon-api-key": "qchost-secrets"});
    assert_eq!(
        Value::Object(filled),
        json!({
            "projectId": 7,
            "brokerage": ib,
            "dataProviders": {"Polygon": polygon, "InteractiveBrokersBrokerage": ib},
        })
    );
    assert_eq!(
        secrets.redactor().clean("hunter2 qchost-secrets Polygon"),
        "[redacted] [redacted] Polygon"
    );
}

#[tokio::test]
async fn what_is_no_name_of_a_profile_is_refused() {
    let profiles = profiles(
        &json!({
            "paper": {"id": "QuantConnectBrokerage"},
            "again": {"id": "QuantConnectBrokerage"},
            "nameless": {"key": "a"},
        }),
        &Secrets::default(),
    );
    for (given, expected) in [
        (
            json!({"brokerage": {"id": "X"}}),
            "takes the name of a profile",
        ),
        (json!({"brokerage": 7}), "takes the name of a profile"),
        (
            json!({"brokerage": "none"}),
            "the operator configured: again, nameless, paper",
        ),
        (
            json!({"dataProviders": "paper"}),
            "takes the name of a profile",
        ),
        (
            json!({"dataProviders": {"paper": {}}}),
            "takes the name of a profile",
        ),
        (json!({"dataProviders": [7]}), "takes the name of a profile"),
        (
            json!({"dataProviders": ["paper", "again"]}),
            "two profiles for `QuantConnectBrokerage`",
        ),
    ] {
        let mut filled = arguments(given.clone());
        match profiles.fill(deploy(), &mut filled).await {
            Err(Failure::InvalidArgument(why)) => assert!(why.contains(expected), "{why}"),
            other => panic!("{given}: {other:?}"),
        }
        assert_eq!(Value::Object(filled), given, "nothing was changed");
    }
    let mut filled = arguments(json!({"dataProviders": ["nameless"]}));
    assert!(matches!(
        profiles.fill(deploy(), &mut filled).await,
        Err(Failure::Unavailable(_))
    ));
    // Neither is asked for.
    let mut filled = arguments(json!({"projectId": 7}));
    profiles.fill(deploy(), &mut filled).await.unwrap();
    assert_eq!(Value::Object(filled), json!({"projectId": 7}));
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_named_and_leaves_the_arguments_alone() {
    let folder = tempfile::tempdir().unwrap();
    let profiles = profiles(
        &json!({
            "paper": {"id": "QuantConnectBrokerage"},
            "ib": {"id": "X", "ib-password": {"file": secret_file(&folder, 0o644)}},
            "kraken": {"id": "Kraken", "key": {"env": "QCHOST_NO_SUCH_VARIABLE"}},
        }),
        &Secrets::default(),
    );
    for (name, expected) in [("ib", "chmod 600"), ("kraken", "QCHOST_NO_SUCH_VARIABLE")] {
        let given = json!({"brokerage": "paper", "dataProviders": [name]});
        let mut filled = arguments(given.clone());
        match profiles.fill(deploy(), &mut filled).await {
            Err(Failure::Unavailable(why)) => {
                assert!(why.contains(expected) && why.contains(name), "{why}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(Value::Object(filled), given);
    }
}

#[test]
fn only_a_paper_account_in_its_brokerage_s_own_words_is_not_live() {
    let profiles = profiles(
        &json!({
            "paper": {"id": "QuantConnectBrokerage"},
            "paper-too": {"id": "PaperBrokerage"},
            "ib": {"id": "InteractiveBrokersBrokerage", "ib-trading-mode": "paper"},
            "hidden": {"id": {"env": "BROKERAGE"}},
            "nameless": {},
            "practice": {"id": "OandaBrokerage", "oanda-environment": "Practice"},
            "trade": {"id": "OandaBrokerage", "oanda-environment": "Trade"},
            "elsewhere": {"id": "OandaBrokerage", "oanda-environment": {"env": "OANDA"}},
            "unsaid": {"id": "OandaBrokerage"},
            "foreign": {"id": "KrakenBrokerage", "oanda-environment": "Practice"},
        }),
        &Secrets::default(),
    );
    for (name, live) in [
        ("paper", Some(false)),
        ("paper-too", Some(false)),
        ("ib", Some(true)),
        ("hidden", Some(true)),
        ("nameless", Some(true)),
        ("practice", Some(false)),
        ("trade", Some(true)),
        ("elsewhere", Some(true)),
        ("unsaid", Some(true)),
        ("foreign", Some(true)),
        ("none", None),
    ] {
        assert_eq!(profiles.brokerage(name), live, "{name}");
    }
    for (name, proves_itself) in [("paper", true), ("practice", false), ("none", false)] {
        assert_eq!(profiles.is_paper_brokerage(name), proves_itself, "{name}");
    }
}

/// QuantConnect may read either.
#[test]
fn a_setting_in_two_spellings_proves_no_paper_account() {
    let profiles = profiles(
        &json!({
            "one": {"id": "OandaBrokerage", "oanda-environment": "Practice"},
            "two": {"id": "OandaBrokerage", "oanda-environment": "Practice", "Oanda-Environment": "Trade"},
            "spaced": {"id": "OandaBrokerage", "oanda-environment": "Practice", "oanda-environment ": "Trade"},
            "ids": {"id": "PaperBrokerage", "ID": "KrakenBrokerage"},
        }),
        &Secrets::default(),
    );
    for (name, live) in [
        ("one", false),
        ("two", true),
        ("spaced", true),
        ("ids", true),
    ] {
        assert_eq!(profiles.brokerage(name), Some(live), "{name}");
    }
    assert!(!profiles.is_paper_brokerage("ids"));
}

#[test]
fn a_revision_changes_with_the_definition_and_with_nothing_else() {
    let secrets = Secrets::default();
    let revision = |profile: Value| profiles(&json!({ "p": profile }), &secrets).revision("p");
    let base = json!({"id": "X", "key": {"env": "A"}});
    let first = revision(base.clone()).unwrap();
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    assert_eq!(
        revision(json!({"key": {"env": "A"}, "id": "X"})),
        Some(first.clone())
    );
    let mut revisions = vec![first];
    for other in [
        json!({"id": "Y", "key": {"env": "A"}}),
        json!({"id": "X", "key": {"env": "B"}}),
        json!({"id": "X", "key": {"file": "A"}}),
        json!({"id": "X", "key": {"vault": "a/b#A"}}),
        json!({"id": "X", "key": "A"}),
        json!({"id": "X"}),
        json!({"id": "X", "key": {"env": "A"}, "more": 1}),
        json!({"id": "X", "key": {"env": "A"}, "more": "1"}),
        json!({}),
    ] {
        let revision = revision(other.clone()).unwrap();
        assert!(!revisions.contains(&revision), "{other}");
        revisions.push(revision);
    }
    assert_eq!(
        profiles(&json!({ "p": base }), &secrets).revision("q"),
        None
    );
}

#[test]
fn a_setting_that_is_neither_value_nor_secret_is_refused() {
    for wrong in [
        json!({"value": "x"}),
        json!({"env": "A", "file": "b"}),
        json!({"env": 7}),
    ] {
        assert!(serde_json::from_value::<Setting>(wrong).is_err());
    }
}

#[tokio::test]
async fn a_profile_adds_what_it_says_of_deployments_to_those_alone() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::default();
    let deployments = json!({
        "paper": {
            "automatic-redeploy": true,
            "parameters": {"fast": "7"},
            "notification": {
                "events": ["order-event", "insight"],
                "targets": [
                    {"email": "ann@example.com", "subject": "fills"},
                    {"webhook": "https://hooks.example.com", "headers": {"Key": {"file": secret_file(&folder, 0o600)}}},
                    {"sms": "+1 555"},
                    {"telegram": "-100"},
                ],
            },
        },
    });
    let deployments: BTreeMap<String, DeploymentSettings> =
        serde_json::from_value(deployments).unwrap();
    let both = json!({"paper": {"id": "QuantConnectBrokerage"}, "plain": {"id": "PaperBrokerage"}});
    let bare = profiles(&both, &secrets);
    let profiles = profiles(&both, &secrets).with_deployments(deployments);
    let filled = async |profile: &str| {
        let mut given = arguments(json!({"projectId": 7, "brokerage": profile}));
        profiles.fill(deploy(), &mut given).await.unwrap();
        Value::Object(given)
    };
    let paper = filled("paper").await;
    assert_eq!(paper["brokerage"], json!({"id": "QuantConnectBrokerage"}));
    assert_eq!(paper["automaticRedeploy"], true);
    assert_eq!(paper["parameters"], json!({"fast": "7"}));
    assert_eq!(
        paper["notification"],
        json!({
            "events": ["orderEvent", "insight"],
            "targets": [
                {"address": "ann@example.com", "subject": "fills"},
                {"address": "https://hooks.example.com", "headers": {"Key": "hunter2"}},
                {"phoneNumber": "+1 555"},
                {"id": "-100"},
            ],
        })
    );
    assert!(!secrets.redactor().clean("hunter2").contains("hunter2"));
    // The twin: a profile that says nothing of deployments.
    let plain = json!({"projectId": 7, "brokerage": {"id": "PaperBrokerage"}});
    assert_eq!(filled("plain").await, plain);
    // A permit is for what the profile was.
    assert_ne!(profiles.revision("paper"), bare.revision("paper"));
    assert_eq!(profiles.revision("plain"), bare.revision("plain"));
}

#[test]
fn what_a_profile_says_of_deployments_is_read_strictly() {
    for bad in [
        json!({"automatic": true}),
        json!({"parameters": {"fast": {"env": "X"}}}),
        json!({"notification": {"events": ["fills"], "targets": []}}),
        json!({"notification": {"events": [], "targets": [{"email": "ann@example.com"}]}}),
        json!({"notification": {"events": [], "targets": [{"sms": "+1", "telegram": "2"}]}}),
    ] {
        let read = serde_json::from_value::<DeploymentSettings>(bad.clone());
        assert!(read.is_err(), "{bad}");
    }
}
