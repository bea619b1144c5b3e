//! The authorisation server of the remote MCP server, by a plain HTTP client.

use std::time::Duration;

use qchost_emulator::Remote;
use serde_json::{Value, json};

use crate::client::Cloud;
use crate::remote_client::{REDIRECT, VERIFIER, call, challenge_of, cloud, field, redirect_of};

/// Whether the tools can be used with a token.
async fn is_valid(cloud: &Cloud, token: &str) -> bool {
    let message = call("list_skills", json!({}));
    let answer = cloud.message(token, &message).send().await.unwrap();
    answer.status() == 200
}

async fn json_of(cloud: &Cloud, path: &str) -> Value {
    let answer = cloud.open(&cloud.page(path)).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_client_finds_its_way_from_the_endpoint_to_a_token() {
    let cloud = cloud(Remote::new()).await;
    let endpoint = cloud.emulator.remote_url().unwrap();
    let answer = cloud
        .http
        .post(endpoint)
        .json(&call("list_skills", json!({})));
    let challenge = challenge_of(&answer.send().await.unwrap());
    let path = "/.well-known/oauth-protected-resource/api/v2/mcp";
    let address = cloud.page(path);
    assert_eq!(challenge, format!("Bearer resource_metadata=\"{address}\""));

    let resource = json_of(&cloud, path).await;
    assert_eq!(resource["resource"], endpoint);
    let issuer = cloud.page("");
    assert_eq!(resource["authorization_servers"], json!([issuer]));

    let metadata = json_of(&cloud, "/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["issuer"], issuer);
    assert_eq!(
        metadata["grant_types_supported"],
        json!(["authorization_code"])
    );
    assert_eq!(
        metadata["code_challenge_methods_supported"],
        json!(["S256"])
    );
    assert_eq!(metadata.get("scopes_supported"), None);
    assert_eq!(
        metadata["registration_endpoint"],
        cloud.page("/oauth/register")
    );
    assert_eq!(metadata["revocation_endpoint"], cloud.page("/oauth/revoke"));

    let client = cloud.register().await;
    let number = cloud.asked(&cloud.question(&client)).await;
    let redirect = redirect_of(&cloud.decide(&number, "allow").await);
    assert!(redirect.as_str().starts_with(REDIRECT));
    assert_eq!(field(&redirect, "state").as_deref(), Some("the state"));
    assert_eq!(field(&redirect, "iss"), Some(issuer));
    let code = field(&redirect, "code").unwrap();
    let (status, answer) = cloud.redeem(&client, &code, VERIFIER).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 7_200);
    assert_eq!(answer.get("refresh_token"), None);
    let token = answer["access_token"].as_str().unwrap();
    assert!(is_valid(&cloud, token).await);
}

#[tokio::test]
async fn a_stolen_code_ends_the_tokens_that_came_from_it() {
    let cloud = cloud(Remote::new()).await;
    let client = cloud.register().await;
    let code = cloud.code(&client).await;
    let (_, answer) = cloud.redeem(&client, &code, VERIFIER).await;
    let token = answer["access_token"].as_str().unwrap();
    let other = cloud.log_in().await;
    assert!(is_valid(&cloud, token).await);
    let (status, answer) = cloud.redeem(&client, &code, VERIFIER).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    assert!(!is_valid(&cloud, token).await);
    assert!(is_valid(&cloud, &other).await);
}

#[tokio::test]
async fn a_code_without_its_verifier_is_worth_nothing() {
    let cloud = cloud(Remote::new()).await;
    let client = cloud.register().await;
    for verifier in ["", "short", &"b".repeat(43)] {
        let code = cloud.code(&client).await;
        let (status, answer) = cloud.redeem(&client, &code, verifier).await;
        assert_eq!(status, 400, "{verifier}: {answer}");
        assert_eq!(answer.get("access_token"), None);
    }
}

#[tokio::test]
async fn a_request_without_pkce_is_sent_back_with_the_reason() {
    let cloud = cloud(Remote::new()).await;
    let client = cloud.register().await;
    for (name, value, error) in [
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("response_type", "token", "unsupported_response_type"),
        ("resource", "http://127.0.0.1:1/mcp", "invalid_target"),
    ] {
        let mut fields = cloud.question(&client);
        for field in &mut fields {
            if field.0 == name {
                field.1 = value.to_owned();
            }
        }
        let redirect = redirect_of(&cloud.ask(&fields).await);
        assert_eq!(field(&redirect, "error").as_deref(), Some(error), "{name}");
        assert_eq!(field(&redirect, "state").as_deref(), Some("the state"));
        assert_eq!(field(&redirect, "iss"), Some(cloud.page("")));
        assert_eq!(field(&redirect, "code"), None);
    }
}

#[tokio::test]
async fn nothing_leads_away_from_this_machine() {
    let cloud = cloud(Remote::new()).await;
    let client = cloud.register().await;
    for address in [
        "https://example.com/callback",
        "http://example.com/callback",
        "http://localhost@example.com/callback",
        "http://127.0.0.1:49152/other",
    ] {
        let mut fields = cloud.question(&client);
        fields[2].1 = address.to_owned();
        let answer = cloud.ask(&fields).await;
        assert_eq!(answer.status(), 400, "{address}");
        assert!(answer.headers().get("location").is_none());
    }
    let body = json!({"redirect_uris": [REDIRECT, "https://example.com/callback"]});
    let answer = cloud.http.post(cloud.page("/oauth/register")).json(&body);
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"], "invalid_redirect_uri");
    // The port is the client's choice.
    let mut fields = cloud.question(&client);
    fields[2].1 = "http://127.0.0.1:1/callback".to_owned();
    cloud.asked(&fields).await;
}

#[tokio::test]
async fn a_person_decides_once_and_may_say_no() {
    let cloud = cloud(Remote::new()).await;
    let client = cloud.register().await;
    let number = cloud.asked(&cloud.question(&client)).await;
    let redirect = redirect_of(&cloud.decide(&number, "deny").await);
    assert_eq!(field(&redirect, "error").as_deref(), Some("access_denied"));
    assert_eq!(field(&redirect, "code"), None);
    let again = cloud.decide(&number, "allow").await;
    assert_eq!(again.status(), 400);
    // Another organisation is not theirs to give.
    let number = cloud.asked(&cloud.question(&client)).await;
    let form = [
        ("request", number.as_str()),
        ("organization", "another"),
        ("decision", "allow"),
    ];
    let answer = cloud.post_form("/oauth/authorize", &form).await;
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn an_expired_token_is_told_from_a_missing_one_and_rest_goes_on() {
    let cloud = cloud(Remote::new()).await;
    let token = cloud.log_in().await;
    assert!(is_valid(&cloud, &token).await);
    cloud.emulator.expire_remote_tokens();
    let message = call("list_skills", json!({}));
    let answer = cloud.message(&token, &message).send().await.unwrap();
    let challenge = challenge_of(&answer);
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    cloud.ok("/projects/read", json!({})).await;
    let again = cloud.log_in().await;
    assert!(is_valid(&cloud, &again).await);
    assert!(!is_valid(&cloud, &token).await);
}

#[tokio::test]
async fn a_token_ends_with_its_lifetime_also_if_the_answer_does_not_say_it() {
    let remote = Remote::new()
        .token_lifetime(Duration::ZERO)
        .tells_lifetime(false);
    let cloud = cloud(remote).await;
    let client = cloud.register().await;
    let code = cloud.code(&client).await;
    let (status, answer) = cloud.redeem(&client, &code, VERIFIER).await;
    assert_eq!(status, 200);
    assert_eq!(answer.get("expires_in"), None);
    assert!(!is_valid(&cloud, answer["access_token"].as_str().unwrap()).await);
}

#[tokio::test]
async fn a_refresh_token_comes_only_where_it_is_turned_on() {
    let cloud = cloud(Remote::new().refresh_tokens(true)).await;
    let client = cloud.register().await;
    let code = cloud.code(&client).await;
    let (_, answer) = cloud.redeem(&client, &code, VERIFIER).await;
    let refresh = answer["refresh_token"].as_str().unwrap().to_owned();
    cloud.emulator.expire_remote_tokens();
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", client.as_str()),
        ("refresh_token", refresh.as_str()),
    ];
    let answer = cloud.post_form("/oauth/token", &form).await;
    let answer: Value = answer.json().await.unwrap();
    assert!(is_valid(&cloud, answer["access_token"].as_str().unwrap()).await);

    let without = crate::remote_client::cloud(Remote::new()).await;
    let client = without.register().await;
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", client.as_str()),
        ("refresh_token", refresh.as_str()),
    ];
    let answer = without.post_form("/oauth/token", &form).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"], "unsupported_grant_type");
}

#[tokio::test]
async fn registration_and_resource_metadata_can_be_missing() {
    let document = "https://client.example/metadata.json";
    let remote = Remote::new()
        .dynamic_registration(false)
        .resource_metadata(false)
        .client("by-hand", &[REDIRECT])
        .metadata_document(document, &[REDIRECT]);
    let cloud = cloud(remote).await;
    let metadata = json_of(&cloud, "/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.get("registration_endpoint"), None);
    assert_eq!(metadata["client_id_metadata_document_supported"], true);
    for path in ["/oauth/register", "/.well-known/oauth-protected-resource"] {
        let answer = cloud.http.post(cloud.page(path)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    let message = call("list_skills", json!({}));
    let answer = cloud.message("none", &message).send().await.unwrap();
    assert!(!challenge_of(&answer).contains("resource_metadata"));
    for client in ["by-hand", document] {
        let code = cloud.code(client).await;
        let (status, answer) = cloud.redeem(client, &code, VERIFIER).await;
        assert_eq!(status, 200, "{answer}");
    }
    let unknown = cloud.ask(&cloud.question("unknown")).await;
    assert_eq!(unknown.status(), 400);
}

#[tokio::test]
async fn a_redirect_can_name_another_issuer_for_a_client_to_refuse() {
    let cloud = cloud(Remote::new().redirect_issuer("https://other.example")).await;
    let client = cloud.register().await;
    let number = cloud.asked(&cloud.question(&client)).await;
    let redirect = redirect_of(&cloud.decide(&number, "allow").await);
    assert_eq!(
        field(&redirect, "iss").as_deref(),
        Some("https://other.example")
    );
}

#[tokio::test]
async fn no_code_verifier_or_token_is_in_the_request_log() {
    let cloud = cloud(Remote::new().refresh_tokens(true)).await;
    let client = cloud.register().await;
    let code = cloud.code(&client).await;
    let (_, answer) = cloud.redeem(&client, &code, VERIFIER).await;
    let access = answer["access_token"].as_str().unwrap();
    let refresh = answer["refresh_token"].as_str().unwrap();
    assert!(is_valid(&cloud, access).await);
    let requests = cloud.emulator.requests();
    let token_requests = cloud.emulator.requests_to("/oauth/token");
    assert_eq!(token_requests[0].body["client_id"], client.as_str());
    let log = format!("{requests:?}");
    for secret in [code.as_str(), VERIFIER, access, refresh] {
        assert!(!log.contains(secret));
    }
}

#[tokio::test]
async fn a_client_ends_its_tokens_and_those_of_no_other() {
    let cloud = cloud(Remote::new().refresh_tokens(true)).await;
    let (client, other) = (cloud.register().await, cloud.register().await);
    let code = cloud.code(&client).await;
    let (_, answer) = cloud.redeem(&client, &code, VERIFIER).await;
    let access = answer["access_token"].as_str().unwrap();
    let refresh = answer["refresh_token"].as_str().unwrap();
    let end = async |client: &str, token: &str| {
        let form = [("client_id", client), ("token", token)];
        cloud.post_form("/oauth/revoke", &form).await.status()
    };
    for client in [other.as_str(), "unknown"] {
        assert_eq!(end(client, refresh).await, 400, "{client}");
    }
    assert!(is_valid(&cloud, access).await);
    assert_eq!(end(&client, refresh).await, 200);
    assert!(!is_valid(&cloud, access).await);
    // It has ended already.
    assert_eq!(end(&client, refresh).await, 200);
    let log = format!("{:?}", cloud.emulator.requests());
    assert!(!log.contains(refresh));
}

#[tokio::test]
async fn without_the_setting_there_is_no_remote_server() {
    let cloud = crate::client::cloud().await;
    assert_eq!(cloud.emulator.remote_url(), None);
    for path in [
        "/api/v2/mcp",
        "/oauth/token",
        "/.well-known/oauth-authorization-server",
    ] {
        let answer = cloud.http.post(cloud.page(path)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
}
