//! Secrets in Vault: logging in, reading, renewing, and every way in which that fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod vault_server;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use qchost_secrets::{SecretError, Secrets, Source, VaultError, VaultOptions};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use vault_server::{Fault, Token, Vault};

const READ: &str = "GET /v1/secret/data/ib";
const LOGIN: &str = "POST /v1/auth/approle/login";
const LOOK_UP: &str = "GET /v1/auth/token/lookup-self";
const RENEW: &str = "POST /v1/auth/token/renew-self";

/// What no message may hold.
const VALUES: [&str; 4] = [
    "hunter2-and-more",
    "first-secret-id",
    "wrong-secret-id",
    "hvs.",
];

/// A Vault, and a folder with what the host logs in with.
struct Setup {
    vault: Vault,
    folder: TempDir,
}

impl Setup {
    async fn new() -> Self {
        let vault = Vault::start().await;
        vault.put(
            "secret/ib",
            json!({"password": "hunter2-and-more", "user": "host-user", "pin": 1234, "empty": ""}),
        );
        let setup = Self {
            vault,
            folder: tempfile::tempdir().unwrap(),
        };
        setup.write("secret-id", "first-secret-id");
        setup
    }

    /// Writes a file that only this user can read.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn app_role(&self) -> Value {
        let file = self.folder.path().join("secret-id");
        json!({"role-id": "role-of-the-host", "secret-id": {"file": file}})
    }

    fn token(&self, id: &str) -> Value {
        json!({"token": {"file": self.write("token", id)}})
    }

    /// Secrets that keep nothing, with more options.
    fn secrets_with(&self, auth: Value, more: Value) -> Secrets {
        let mut table = json!({
            "address": self.vault.address(),
            "auth": auth,
            "cache-seconds": 0,
            "timeout-seconds": 5,
        });
        for (key, value) in more.as_object().unwrap() {
            table[key] = value.clone();
        }
        let options: VaultOptions = serde_json::from_value(table).unwrap();
        Secrets::new(Some(options)).unwrap()
    }

    fn secrets(&self) -> Secrets {
        self.secrets_with(self.app_role(), json!({}))
    }
}

fn at(place: &str) -> Source {
    serde_json::from_value(json!({ "vault": place })).unwrap()
}

async fn read(secrets: &Secrets, place: &str) -> Result<String, VaultError> {
    match secrets.read(&at(place)).await {
        Ok(secret) => Ok(secret.expose_secret().to_owned()),
        Err(SecretError::Vault(error)) => {
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!VALUES.iter().any(|value| shown.contains(value)), "{shown}");
            }
            Err(error)
        }
        Err(other) => panic!("{other}"),
    }
}

async fn password(secrets: &Secrets) -> Result<String, VaultError> {
    read(secrets, "secret/ib#password").await
}

/// Reads until a condition holds, and gives every outcome.
async fn read_until(
    secrets: &Secrets,
    bound: Duration,
    met: impl Fn(&Result<String, VaultError>) -> bool,
) -> Vec<Result<String, VaultError>> {
    let began = Instant::now();
    let mut outcomes = Vec::new();
    loop {
        let outcome = password(secrets).await;
        let done = met(&outcome);
        outcomes.push(outcome);
        if done {
            return outcomes;
        }
        assert!(began.elapsed() < bound, "{:?}", outcomes.last());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

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
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_lease_is_renewed_before_it_ends_whether_secrets_are_read_or_not() {
    let short = Token {
        ttl: Duration::from_secs(2),
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
            assert!(began.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(began.elapsed() > short.ttl, "it would have ended");
        assert_eq!(password(&secrets).await.unwrap(), "hunter2-and-more");
        assert_eq!(setup.vault.count(LOGIN), usize::from(app_role));
    }
}

#[tokio::test]
async fn nothing_is_renewed_once_nobody_reads_secrets_any_more() {
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
        matches!(error, VaultError::TokenExpired { place } if place.contains("/token")),
        "{error}"
    );
    setup.vault.create_token("hvs.next", &Token::default());
    setup.write("token", "hvs.next");
    read_until(&secrets, Duration::from_secs(10), Result::is_ok).await;
}

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

#[tokio::test]
async fn an_answer_that_is_none_of_vaults_is_not_repeated() {
    let setup = Setup::new().await;
    let secrets = setup.secrets();
    secrets.connect().await.unwrap();
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
        setup.vault.set_fault(Some(Fault::Body(body.to_owned())));
        let outcomes = read_until(&secrets, Duration::from_secs(1), |_| true).await;
        let error = outcomes[0].as_ref().unwrap_err();
        assert!(
            matches!(error, VaultError::Answer { .. }),
            "{body}: {error}"
        );
        assert!(
            error
                .to_string()
                .contains(READ.trim_start_matches("GET /v1/")),
            "{error}"
        );
        setup.vault.set_fault(None);
        read_until(&secrets, Duration::from_secs(10), Result::is_ok).await;
    }
    for status in [201, 400, 405, 418] {
        let words = r#"{"errors": ["no hvs.issued-by-login-1"]}"#.to_owned();
        setup.vault.set_fault(Some(Fault::Status(status, words)));
        let error = password(&secrets).await.unwrap_err();
        assert!(
            matches!(error, VaultError::Answer { .. }),
            "{status}: {error}"
        );
        setup.vault.set_fault(None);
        read_until(&secrets, Duration::from_secs(10), Result::is_ok).await;
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
    let secrets = setup.secrets();
    secrets.connect().await.unwrap();
    for status in [301, 302, 307, 308] {
        let fault = if status == 307 {
            Fault::Redirect(elsewhere.address())
        } else {
            Fault::Status(status, String::new())
        };
        setup.vault.set_fault(Some(fault));
        read_until(&secrets, Duration::from_secs(5), |outcome| {
            matches!(outcome, Err(VaultError::Redirected { status: said, .. }) if *said == status)
        })
        .await;
    }
    assert_eq!(elsewhere.seen().len(), 0);
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
