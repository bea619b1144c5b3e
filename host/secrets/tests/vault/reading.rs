//! Reading secrets: with either login, in a namespace, after a change, many at once.

use super::*;

#[tokio::test]
async fn the_host_logs_in_with_app_role_and_reads() {
    for full in [false, true] {
        let setup = Setup::new().await;
        if full {
            setup.vault.answer_in_full();
        }
        let secrets = setup.secrets();
        assert_eq!(
            setup.vault.seen().len(),
            0,
            "nothing is sent before its use"
        );
        assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
        assert_eq!(read(&secrets, "secret/ib#user").await.unwrap(), "host-user");
        let seen = setup.vault.seen();
        let sent: Vec<_> = seen.iter().map(|seen| seen.what.as_str()).collect();
        assert_eq!(sent, [LOGIN, READ, READ], "one login for both");
        assert_eq!(seen[0].token, None);
        assert_eq!(seen[1].token.as_deref(), Some("hvs.issued-by-login-1"));
        assert!(
            seen.iter()
                .all(|seen| seen.marked && seen.namespace.is_none())
        );
    }
}

#[tokio::test]
async fn the_host_reads_with_a_token() {
    for full in [false, true] {
        let setup = Setup::new().await;
        if full {
            setup.vault.answer_in_full();
        }
        setup.vault.create_token("hvs.given", &Token::default());
        let secrets = setup.secrets_with(setup.token("hvs.given"), json!({}));
        secrets.connect().await.unwrap();
        assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
        assert_eq!(setup.vault.count(LOGIN), 0);
        assert_eq!(setup.vault.count(LOOK_UP), 1);
    }
}

#[tokio::test]
async fn a_token_without_the_default_policy_reads_too() {
    let setup = Setup::new().await;
    let token = Token {
        default_policy: false,
        ..Token::default()
    };
    setup.vault.create_token("hvs.given", &token);
    let secrets = setup.secrets_with(setup.token("hvs.given"), json!({}));
    assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
}

#[tokio::test]
async fn every_request_is_made_in_the_namespace() {
    let setup = Setup::new().await;
    setup.vault.set_namespace("desk/traders");
    setup.vault.set_role_mount("host");
    let mut auth = setup.app_role();
    auth["mount"] = json!("host");
    let inside = setup.secrets_with(auth.clone(), json!({"namespace": "desk/traders"}));
    assert_eq!(password(&inside).await.unwrap(), "hunter2-and-more");
    let outside = setup.secrets_with(auth, json!({}));
    assert!(matches!(
        password(&outside).await,
        Err(VaultError::LoginRefused { status: 404, .. })
    ));
}

#[tokio::test]
async fn a_mount_may_have_slashes_and_a_path_any_characters() {
    let setup = Setup::new().await;
    setup.vault.set_role(Token {
        paths: vec![
            "team/kv/a%20b/c%23d".to_owned(),
            "secret/x%3Fy%25z".to_owned(),
        ],
        ..Token::default()
    });
    setup
        .vault
        .put("team/kv/a%20b/c%23d", json!({"key": "one"}));
    setup.vault.put("secret/x%3Fy%25z", json!({"key": "two"}));
    let secrets = setup.secrets();
    assert_eq!(read(&secrets, "secret/x?y%z#key").await.unwrap(), "two");
    // A `#` ends the path, so one with a `#` cannot be named.
    assert!(matches!(
        read(&secrets, "team/kv//a b/c#d#key").await,
        Err(VaultError::Denied { .. })
    ));
}

#[tokio::test]
async fn a_changed_secret_is_read_without_a_restart() {
    let setup = Setup::new().await;
    let secrets = setup.secrets();
    assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
    setup.vault.put("secret/ib", json!({"password": "rotated"}));
    assert_eq!(password(&secrets).await.unwrap(), "rotated");
    // Both may still be on their way out.
    assert_eq!(
        secrets.redactor().clean("rotated from hunter2-and-more"),
        "[redacted] from [redacted]"
    );
}

#[tokio::test]
async fn a_kept_secret_is_asked_for_again_after_its_time() {
    let setup = Setup::new().await;
    let secrets = setup.secrets_with(setup.app_role(), json!({"cache-seconds": 1}));
    assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
    setup.vault.put("secret/ib", json!({"password": "rotated"}));
    assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
    read_until(&secrets, Duration::from_secs(10), |outcome| {
        outcome.as_deref() == Ok("rotated")
    })
    .await;
    assert_eq!(setup.vault.count(READ), 2);
}

#[tokio::test]
async fn a_burst_is_one_login_and_one_read() {
    let setup = Setup::new().await;
    let secrets = setup.secrets_with(setup.app_role(), json!({"cache-seconds": 60}));
    let readers: Vec<_> = (0..64)
        .map(|number| {
            let secrets = secrets.clone();
            let field = if number % 2 == 0 { "user" } else { "password" };
            tokio::spawn(async move { read(&secrets, &format!("secret/ib#{field}")).await })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap().unwrap();
    }
    assert_eq!((setup.vault.count(LOGIN), setup.vault.count(READ)), (1, 1));
}

#[tokio::test]
async fn a_burst_at_a_silent_vault_waits_for_one_timeout() {
    let setup = Setup::new().await;
    setup.vault.set_fault(Some(Fault::Silent));
    let secrets = setup.secrets_with(setup.app_role(), json!({"timeout-seconds": 1}));
    let began = Instant::now();
    let readers: Vec<_> = (0..32)
        .map(|number| {
            let secrets = secrets.clone();
            tokio::spawn(async move { read(&secrets, &format!("secret/s{}#a", number % 8)).await })
        })
        .collect();
    for reader in readers {
        let error = reader.await.unwrap().unwrap_err();
        assert!(matches!(error, VaultError::Unreachable { .. }), "{error}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn what_opens_vault_is_known_to_the_redactor() {
    let setup = Setup::new().await;
    let secrets = setup.secrets();
    password(&secrets).await.unwrap();
    assert_eq!(
        secrets
            .redactor()
            .clean("first-secret-id hvs.issued-by-login-1 hunter2-and-more host-user"),
        "[redacted] [redacted] [redacted] host-user",
        "what was not asked for is not known"
    );
}

#[tokio::test]
async fn without_a_vault_a_secret_in_vault_is_an_error() {
    let error = Secrets::default()
        .read(&at("secret/ib#password"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("add a [vault] table"), "{error}");
}
