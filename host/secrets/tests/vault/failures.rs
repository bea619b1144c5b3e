//! What Vault refuses or cannot give, and answers that are none of Vault's.

use super::*;

#[tokio::test]
async fn a_denied_path_says_what_the_policy_needs_and_costs_no_login() {
    for app_role in [true, false] {
        let setup = Setup::new().await;
        setup.vault.put("secret/other", json!({"password": "x"}));
        setup.vault.create_token("hvs.given", &Token::default());
        let auth = if app_role {
            setup.app_role()
        } else {
            setup.token("hvs.given")
        };
        let secrets = setup.secrets_with(auth, json!({}));
        let error = read(&secrets, "secret/other#password").await.unwrap_err();
        assert!(matches!(error, VaultError::Denied { .. }), "{error}");
        let shown = error.to_string();
        assert!(shown.contains("secret/other#password"), "{shown}");
        assert!(shown.contains("path \"secret/data/other\""), "{shown}");
        // The next one is allowed.
        assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
        assert_eq!(setup.vault.count(LOGIN), usize::from(app_role));
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let setup = Setup::new().await;
    setup.vault.set_role(Token {
        paths: ["secret/ib", "secret/none", "nowhere/ib"]
            .map(str::to_owned)
            .to_vec(),
        ..Token::default()
    });
    let secrets = setup.secrets();
    type Kind = fn(&VaultError) -> bool;
    let cases: [(&str, Kind); 5] = [
        ("secret/none#a", |e| {
            matches!(e, VaultError::NoSecret { .. })
        }),
        ("nowhere/ib#a", |e| matches!(e, VaultError::NoSecret { .. })),
        ("secret/ib#passwort", |e| {
            matches!(e, VaultError::NoField { .. })
        }),
        ("secret/ib#pin", |e| matches!(e, VaultError::NoText { .. })),
        ("secret/ib#empty", |e| {
            matches!(e, VaultError::NoText { .. })
        }),
    ];
    for (place, kind) in cases {
        let error = read(&secrets, place).await.unwrap_err();
        assert!(kind(&error), "{place}: {error:?}");
        assert!(error.to_string().contains(place), "{error}");
    }
}

#[tokio::test]
async fn a_deleted_version_is_no_secret_and_one_to_be_deleted_is() {
    let setup = Setup::new().await;
    let secrets = setup.secrets();
    setup
        .vault
        .delete("secret/ib", "9999-03-22T02:36:43.986212308Z");
    assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
    setup
        .vault
        .delete("secret/ib", "2018-03-22T02:36:43.986212308Z");
    let error = password(&secrets).await.unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains("version 1 of secret/ib#password"), "{shown}");
    assert!(shown.contains("deleted at 2018-03-22T02:36:43"), "{shown}");
    // Undeleted.
    setup.vault.delete("secret/ib", "");
    read_until(&secrets, Duration::from_secs(10), Result::is_ok).await;
    setup.vault.destroy("secret/ib");
    let error = password(&secrets).await.unwrap_err();
    assert!(error.to_string().contains("destroyed"), "{error}");
    setup.vault.put("secret/ib", json!({"password": "again"}));
    read_until(&secrets, Duration::from_secs(10), Result::is_ok).await;
}

#[tokio::test]
async fn a_sealed_vault_is_said_to_be_and_read_once_it_is_not() {
    let setup = Setup::new().await;
    let secrets = setup.secrets();
    setup.vault.seal(true);
    let error = password(&secrets).await.unwrap_err();
    assert!(matches!(error, VaultError::Sealed { .. }), "{error}");
    assert!(
        error.to_string().contains("vault operator unseal"),
        "{error}"
    );
    setup.vault.seal(false);
    read_until(&secrets, Duration::from_secs(10), Result::is_ok).await;
    // And in the middle of a session. What was read before is not given any more.
    setup.vault.seal(true);
    let error = password(&secrets).await.unwrap_err();
    assert!(matches!(error, VaultError::Sealed { .. }), "{error}");
}

#[tokio::test]
async fn a_vault_that_cannot_serve_is_not_called_sealed() {
    let setup = Setup::new().await;
    for (status, body) in [
        (503, r#"{"errors": ["service\n   unavailable"]}"#),
        (429, "slow down"),
        (473, ""),
        (500, r#"{"errors": []}"#),
        (502, "<html>"),
        (412, "{}"),
    ] {
        setup
            .vault
            .set_fault(Some(Fault::Status(status, body.to_owned())));
        let error = password(&setup.secrets()).await.unwrap_err();
        assert!(
            matches!(&error, VaultError::Unavailable { status: said, .. } if *said == status),
            "{error}"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn a_vault_that_is_down_is_said_to_be() {
    let mut setup = Setup::new().await;
    let secrets = setup.secrets();
    setup.vault.stop().await;
    let error = password(&secrets).await.unwrap_err();
    assert!(matches!(error, VaultError::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().contains(&setup.vault.address()),
        "{error}"
    );
}

/// The error of a host that is logged in when the fault begins.
async fn faulty(setup: &Setup, fault: Fault) -> VaultError {
    setup.vault.set_fault(None);
    let secrets = setup.secrets();
    secrets.connect().await.unwrap();
    setup.vault.set_fault(Some(fault));
    let error = password(&secrets).await.unwrap_err();
    assert_eq!(setup.vault.seen().last().unwrap().what, READ);
    error
}

#[tokio::test]
async fn an_answer_that_is_none_of_vaults_is_not_repeated() {
    let setup = Setup::new().await;
    for body in [
        "",
        "<html>hunter2-and-more</html>",
        "\"hunter2-and-more\"",
        "{\"data\": {\"password\": \"hunter2-and-more\"}}",
        "{\"data\": {\"data\": \"hunter2-and-more\", \"metadata\": {}}}",
        "{\"data\": {\"data\": {\"password\": \"hunter2-and-more\"}}}",
        "{\"data\": {\"data\": null, \"metadata\": {}}}",
        "{\"data\": {\"data\": {\"password\": \"hunter2-and-more\"",
        "[[[[",
    ] {
        let error = faulty(&setup, Fault::Body(body.to_owned())).await;
        assert!(
            matches!(error, VaultError::Answer { .. }),
            "{body}: {error}"
        );
        assert!(error.to_string().contains("secret/data/ib"), "{error}");
    }
    for status in [201, 400, 405, 418] {
        let words = r#"{"errors": ["no first-secret-id"]}"#.to_owned();
        let error = faulty(&setup, Fault::Status(status, words)).await;
        assert!(
            matches!(error, VaultError::Answer { .. }),
            "{status}: {error}"
        );
    }
}

#[tokio::test]
async fn a_login_that_answers_nonsense_is_no_login() {
    let setup = Setup::new().await;
    for body in [
        "{\"auth\": null}",
        "{\"auth\": {}}",
        "{\"auth\": {\"client_token\": \"\", \"lease_duration\": 1}}",
        "{\"auth\": {\"client_token\": 7, \"lease_duration\": 1}}",
        "{\"auth\": {\"client_token\": \"hvs.x\", \"lease_duration\": -1}}",
    ] {
        setup.vault.set_fault(Some(Fault::Body(body.to_owned())));
        let error = password(&setup.secrets()).await.unwrap_err();
        assert!(
            matches!(error, VaultError::Answer { .. }),
            "{body}: {error}"
        );
    }
    // A token that no header can carry.
    let body =
        "{\"auth\": {\"client_token\": \"a\\nb\", \"lease_duration\": 18446744073709551615}}";
    setup.vault.set_fault(Some(Fault::Body(body.to_owned())));
    let error = password(&setup.secrets()).await.unwrap_err();
    assert!(matches!(error, VaultError::Credentials { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let setup = Setup::new().await;
    setup.vault.set_fault(Some(Fault::Endless));
    let error = password(&setup.secrets()).await.unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

#[tokio::test]
async fn no_token_follows_a_redirect() {
    let setup = Setup::new().await;
    let elsewhere = Vault::start().await;
    for status in [301, 302, 303, 307, 308] {
        let error = faulty(&setup, Fault::Redirect(status, elsewhere.address())).await;
        assert!(
            matches!(error, VaultError::Redirected { status: said, .. } if said == status),
            "{error}"
        );
    }
    assert_eq!(elsewhere.seen().len(), 0);
}
