//! Logging in: leases that are renewed, that end, that are revoked, and what opens Vault.

use super::*;

#[tokio::test]
async fn a_lease_is_renewed_before_it_ends_whether_secrets_are_read_or_not() {
    let short = Token {
        ttl: Duration::from_secs(3),
        ..Token::default()
    };
    for app_role in [true, false] {
        let setup = Setup::new().await;
        setup.vault.set_role(short.clone());
        setup.vault.create_token("hvs.given", &short);
        let auth = if app_role {
            setup.app_role()
        } else {
            setup.token("hvs.given")
        };
        let secrets = setup.secrets_with(auth, json!({}));
        secrets.connect().await.unwrap();
        let began = Instant::now();
        while setup.vault.count(RENEW) < 3 {
            assert!(began.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(began.elapsed() > short.ttl, "it would have ended");
        assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
        assert_eq!(setup.vault.count(LOGIN), usize::from(app_role));
    }
}

#[tokio::test]
async fn nothing_is_renewed_once_no_secrets_are_read_any_more() {
    let setup = Setup::new().await;
    setup.vault.set_role(Token {
        ttl: Duration::from_secs(1),
        ..Token::default()
    });
    let secrets = setup.secrets();
    secrets.connect().await.unwrap();
    drop(secrets);
    let began = Instant::now();
    while setup.vault.knows("hvs.issued-by-login-1") {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(setup.vault.count(RENEW), 0);
}

#[tokio::test]
async fn no_read_fails_while_one_login_follows_the_other() {
    for renewable in [true, false] {
        let setup = Setup::new().await;
        setup.vault.set_role(Token {
            ttl: Duration::from_secs(1),
            max: Some(Duration::from_secs(2)),
            renewable,
            ..Token::default()
        });
        let secrets = setup.secrets();
        let outcomes = read_until(&secrets, Duration::from_secs(20), |_| {
            setup.vault.count(LOGIN) >= 3
        })
        .await;
        for outcome in outcomes {
            assert_eq!(outcome.as_deref(), Ok("hunter2-and-more"));
        }
        assert_eq!(setup.vault.count(RENEW) > 0, renewable);
    }
}

#[tokio::test]
async fn a_revoked_login_is_followed_by_another() {
    let setup = Setup::new().await;
    let secrets = setup.secrets();
    assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
    setup.vault.revoke_all();
    read_until(&secrets, Duration::from_secs(20), Result::is_ok).await;
    assert_eq!(setup.vault.count(LOGIN), 2);
}

#[tokio::test]
async fn an_expired_token_is_said_to_be_and_a_new_one_is_taken_without_a_restart() {
    let setup = Setup::new().await;
    let short = Token {
        ttl: Duration::from_secs(1),
        renewable: false,
        ..Token::default()
    };
    setup.vault.create_token("hvs.given", &short);
    let secrets = setup.secrets_with(setup.token("hvs.given"), json!({}));
    assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
    let outcomes = read_until(&secrets, Duration::from_secs(10), Result::is_err).await;
    let error = outcomes.last().unwrap().as_ref().unwrap_err();
    assert!(
        matches!(error, VaultError::TokenExpired(place) if place.contains("/token")),
        "{error}"
    );
    setup.vault.create_token("hvs.next", &Token::default());
    setup.write("token", "hvs.next");
    read_until(&secrets, Duration::from_secs(10), Result::is_ok).await;
}

#[tokio::test]
async fn a_wrong_secret_id_is_refused_and_the_right_one_is_taken_without_a_restart() {
    let setup = Setup::new().await;
    setup.write("secret-id", "wrong-secret-id");
    let secrets = setup.secrets();
    let error = password(&secrets).await.unwrap_err();
    let shown = error.to_string();
    assert!(matches!(error, VaultError::LoginRefused { .. }), "{shown}");
    assert!(shown.contains("invalid role or secret ID"), "{shown}");
    assert!(matches!(
        secrets.connect().await,
        Err(SecretError::Vault(VaultError::LoginRefused { .. }))
    ));
    setup.write("secret-id", "first-secret-id");
    read_until(&secrets, Duration::from_secs(10), Result::is_ok).await;
}

#[tokio::test]
async fn a_secret_id_that_was_rotated_is_used_at_the_next_login() {
    let setup = Setup::new().await;
    setup.vault.set_role(Token {
        ttl: Duration::from_secs(1),
        renewable: false,
        ..Token::default()
    });
    let secrets = setup.secrets();
    assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
    setup.vault.set_secret_id("second-secret-id");
    setup.write("secret-id", "second-secret-id");
    let outcomes = read_until(&secrets, Duration::from_secs(10), |_| {
        setup.vault.count(LOGIN) >= 2
    })
    .await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

#[tokio::test]
async fn what_the_host_logs_in_with_is_read_like_any_secret() {
    let setup = Setup::new().await;
    let path = setup.folder.path().join("secret-id");
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let error = password(&setup.secrets()).await.unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains("secret-id") && shown.contains("chmod 600"),
        "{shown}"
    );
    assert_eq!(setup.vault.seen().len(), 0);
}
