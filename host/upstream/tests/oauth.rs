//! Logging in to a remote MCP server by real HTTP: the emulator's, with its authorization server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, Uri};
use futures::future::join_all;
use parking_lot::Mutex;
use qchost_catalog::{Backoff, Failure, Outcome, Way};
use qchost_emulator::{Emulator, Fault, FaultKind, LoggedRequest, Remote, Revision};
use qchost_upstream::{
    Account, AccountOptions, AccountState, Accounts, Authorization, AuthorizationState,
    HttpConnector, LoginError, OAuthClient, Revocation, may_log, redirect_address, remote_of,
};
use reqwest::Url;
use serde_json::{Value, json};
use support::web::Web;
use support::{ACCOUNT, call, failure, options, person, wait_until};
use tempfile::TempDir;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

const LONG: u64 = 20_000;
const PORT: u16 = 49_152;
/// A tool that only the remote server has.
const TOOL: &str = "list_skills";

/// A cloud, and the host's folder of tokens.
struct Place {
    emulator: Emulator,
    folder: TempDir,
    browser: reqwest::Client,
}

impl Place {
    async fn with(remote: Remote) -> Self {
        let builder = Emulator::builder().any_port().remote(remote);
        Self {
            emulator: builder.start().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            browser: person::browser(),
        }
    }

    fn server(&self) -> &str {
        self.emulator.remote_url().unwrap()
    }

    fn authorization(&self) -> Authorization {
        let folder = self.folder.path().join("authorizations");
        Authorization::open(
            ACCOUNT,
            self.server(),
            &folder,
            qchost_text::Redactor::default(),
            true,
        )
        .unwrap()
    }

    /// Posts a form to a page of the authorization server.
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> reqwest::Response {
        person::post(&self.browser, &self.emulator, path, form).await
    }

    /// What a person does in the browser; returns where the browser is sent.
    async fn decide(&self, address: &str, decision: &str) -> String {
        person::decide(&self.browser, &self.emulator, address, decision).await
    }

    async fn log_in(&self, authorization: &Authorization) {
        let address = authorization
            .begin(&OAuthClient::default(), PORT)
            .await
            .unwrap();
        let redirect = self.decide(&address, "allow").await;
        let status = authorization.finish(&redirect).await.unwrap();
        assert_eq!(status.state, AuthorizationState::Authorized);
    }

    /// The requests to the token endpoint with this kind of grant.
    fn exchanges(&self, grant: &str) -> Vec<LoggedRequest> {
        let mut requests = self.emulator.requests_to("/oauth/token");
        requests.retain(|request| request.body["grant_type"] == grant);
        requests
    }

    fn calls(&self) -> usize {
        self.emulator.requests_to(&format!("/mcp/{TOOL}")).len()
    }
}

/// A connection with the login in force.
fn reach(server: &str, authorization: &Authorization) -> Accounts {
    reach_with(server, authorization, options())
}

fn reach_with(server: &str, authorization: &Authorization, options: AccountOptions) -> Accounts {
    let connector = HttpConnector::new(server, []).unwrap();
    let connector = connector.with_bearer(authorization.login().unwrap());
    let options = AccountOptions {
        way: Way::Remote,
        ..options
    };
    let name = remote_of(ACCOUNT);
    Accounts::new([Account::new(name, Arc::new(connector.unwrap()), options)]).unwrap()
}

async fn use_tool(accounts: &Accounts) -> Outcome {
    call(accounts, TOOL, json!({}), LONG).await
}

fn reauthorize(outcome: Outcome) -> String {
    match outcome {
        Err(Failure::Reauthorize(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn parameter(address: &str, name: &str) -> Option<String> {
    let url = Url::parse(address).unwrap();
    let found = url.query_pairs().find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned())
}

/// The tokens that the host keeps.
fn kept(place: &Place) -> Value {
    let file = place.folder.path().join("authorizations/research.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[tokio::test]
async fn a_person_logs_in_and_the_tools_can_be_called_also_after_a_restart() {
    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    assert!(authorization.login().is_none());
    assert_eq!(authorization.status().state, AuthorizationState::LoggedOut);
    let address = authorization
        .begin(&OAuthClient::default(), PORT)
        .await
        .unwrap();
    assert_eq!(
        parameter(&address, "code_challenge_method").as_deref(),
        Some("S256")
    );
    assert_eq!(
        parameter(&address, "redirect_uri"),
        Some(redirect_address(PORT))
    );
    assert_eq!(
        parameter(&address, "resource").as_deref(),
        Some(place.server())
    );
    let redirect = place.decide(&address, "allow").await;
    assert!(
        redirect.starts_with("http://127.0.0.1:49152/callback?"),
        "{redirect}"
    );
    let status = authorization.finish(&redirect).await.unwrap();
    let left = status.ends.unwrap().duration_since(status.login.unwrap());
    assert_eq!((left.as_secs(), status.end_assumed), (7_200, false));
    assert!(!status.renews);

    let accounts = reach(place.server(), &authorization);
    use_tool(&accounts).await.unwrap();
    assert_eq!(place.calls(), 1);

    let file = authorization.file();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    let again = place.authorization();
    use_tool(&reach(place.server(), &again)).await.unwrap();

    // The tokens are those of this server.
    let folder = place.folder.path().join("authorizations");
    let redactor = qchost_text::Redactor::default();
    let other = Authorization::open(ACCOUNT, "https://other.test/mcp", &folder, redactor, true);
    assert!(other.unwrap().login().is_none());
}

#[tokio::test]
async fn a_login_is_good_for_every_revision_of_mcp() {
    for revision in [
        Revision::March2025,
        Revision::June2025,
        Revision::November2025,
        Revision::July2026,
    ] {
        let place = Place::with(Remote::new().revisions(&[revision])).await;
        let authorization = place.authorization();
        place.log_in(&authorization).await;
        let accounts = reach(place.server(), &authorization);
        use_tool(&accounts).await.unwrap();
        let health = accounts.health(&remote_of(ACCOUNT)).unwrap();
        assert_eq!(health.server.unwrap().protocol, revision.name());
        assert_eq!(place.calls(), 1);
    }
}

#[tokio::test]
async fn the_host_identifies_itself_by_id_then_by_document_then_by_registration() {
    const DOCUMENT: &str = "https://client.test/qchost.json";
    let redirects = ["http://127.0.0.1/callback"];
    let both = OAuthClient {
        client_id: Some("known".to_owned()),
        metadata_url: Some(DOCUMENT.to_owned()),
        ..OAuthClient::default()
    };
    let document = OAuthClient {
        client_id: None,
        ..both.clone()
    };
    let all = || {
        Remote::new()
            .client("known", &redirects)
            .metadata_document(DOCUMENT, &redirects)
    };
    for (remote, client, id, registrations) in [
        (all(), &both, Some("known"), 0),
        (all(), &document, Some(DOCUMENT), 0),
        // The server does not know of documents.
        (Remote::new(), &document, None, 1),
        (Remote::new(), &OAuthClient::default(), None, 1),
    ] {
        let place = Place::with(remote).await;
        let authorization = place.authorization();
        let address = authorization.begin(client, PORT).await.unwrap();
        if id.is_some() {
            assert_eq!(parameter(&address, "client_id").as_deref(), id);
        }
        let registered = place.emulator.requests_to("/oauth/register");
        assert_eq!(registered.len(), registrations);
        let redirect = place.decide(&address, "allow").await;
        authorization.finish(&redirect).await.unwrap();
    }
    let place = Place::with(Remote::new().dynamic_registration(false)).await;
    let refused = place.authorization().begin(&document, PORT).await;
    let LoginError::Refused(why) = refused.unwrap_err() else {
        panic!()
    };
    assert!(why.contains("client-id"), "{why}");
}

#[tokio::test]
async fn a_server_without_resource_metadata_is_found_by_those_of_its_origin() {
    let place = Place::with(Remote::new().resource_metadata(false)).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    use_tool(&reach(place.server(), &authorization))
        .await
        .unwrap();
}

/// A server that is its own authorization server. It answers only POST on its address, says in its challenge alone where
/// its metadata are, and wants the scope `write` for everything, which it does not ask for at first. `issuer` gets its
/// origin, and returns the issuer in its metadata.
fn server_with_scopes(issuer: fn(&str) -> Value) -> Web {
    let answer = |status: u16, challenge: Option<String>, body: Value| {
        let mut response = Response::builder().status(status);
        if let Some(challenge) = challenge {
            response = response.header("www-authenticate", challenge);
        }
        let response = response.header("content-type", "application/json");
        response.body(Body::from(body.to_string())).unwrap()
    };
    let handler = move |method: Method, uri: Uri, headers: HeaderMap| async move {
        let origin = format!("http://{}", headers["host"].to_str().unwrap());
        let metadata = format!("resource_metadata=\"{origin}/elsewhere.json\"");
        match (method.as_str(), uri.path()) {
            ("POST", "/mcp") if headers.contains_key("authorization") => {
                let challenge = format!(
                    "Bearer error=\"insufficient_scope\", scope=\"read write\", {metadata}"
                );
                answer(403, Some(challenge), json!({}))
            }
            ("POST", "/mcp") => {
                let challenge = format!("Bearer scope=\"read\", {metadata}");
                answer(401, Some(challenge), json!({}))
            }
            ("GET", "/elsewhere.json") => {
                let resource = format!("{origin}/mcp");
                let body = json!({ "resource": resource, "authorization_servers": [origin] });
                answer(200, None, body)
            }
            ("GET", "/.well-known/oauth-authorization-server") => {
                let body = json!({
                    "issuer": issuer(&origin),
                    "authorization_endpoint": format!("{origin}/authorize"),
                    "token_endpoint": format!("{origin}/token"),
                    "registration_endpoint": format!("{origin}/register"),
                    "response_types_supported": ["code"],
                    "code_challenge_methods_supported": ["S256"],
                });
                answer(200, None, body)
            }
            ("POST", "/register") => {
                let body = json!({ "client_id": "c1", "redirect_uris": [] });
                answer(201, None, body)
            }
            // All that was asked for is granted, which need not be said.
            ("POST", "/token") => {
                let body = json!({ "access_token": "hush-token", "token_type": "Bearer" });
                answer(200, None, body)
            }
            _ => answer(404, None, json!({})),
        }
    };
    Web::serve(Router::new().fallback(handler), 0)
}

#[tokio::test]
async fn scopes_that_the_server_misses_are_asked_for_at_the_next_login_and_not_before() {
    let web = server_with_scopes(|origin| json!(origin));
    let folder = tempfile::tempdir().unwrap();
    let redactor = qchost_text::Redactor::default();
    let authorization =
        Authorization::open(ACCOUNT, &web.url(), folder.path(), redactor, true).unwrap();
    let client = OAuthClient::default();
    let begin = || async { authorization.begin(&client, PORT).await.unwrap() };
    for _ in 0..2 {
        let address = begin().await;
        assert_eq!(parameter(&address, "scope").as_deref(), Some("read"));
        let state = parameter(&address, "state").unwrap();
        let redirect = format!("{}?code=c1&state={state}", redirect_address(PORT));
        authorization.finish(&redirect).await.unwrap();
    }
    assert_eq!(authorization.status().problem, None);

    let accounts = reach(&web.url(), &authorization);
    use_tool(&accounts).await.unwrap_err();
    let status = authorization.status();
    assert_eq!(status.state, AuthorizationState::Authorized);
    let problem = status.problem.unwrap();
    assert!(problem.contains("`write`"), "{problem}");
    assert!(problem.contains("qchost account login"), "{problem}");
    let address = begin().await;
    let scopes = parameter(&address, "scope");
    assert_eq!(scopes.as_deref(), Some("read write"));
    // Of a server that granted them and refuses nevertheless, nothing more is asked.
    let state = parameter(&address, "state").unwrap();
    let redirect = format!("{}?code=c1&state={state}", redirect_address(PORT));
    authorization.finish(&redirect).await.unwrap();
    use_tool(&reach(&web.url(), &authorization))
        .await
        .unwrap_err();
    assert_eq!(authorization.status().problem, None);
}

#[tokio::test]
async fn metadata_with_the_issuer_of_another_server_or_none_are_refused_as_what_they_are() {
    async fn begin(issuer: fn(&str) -> Value) -> (String, Result<String, LoginError>) {
        let web = server_with_scopes(issuer);
        let folder = tempfile::tempdir().unwrap();
        let redactor = qchost_text::Redactor::default();
        let authorization =
            Authorization::open(ACCOUNT, &web.url(), folder.path(), redactor, true).unwrap();
        let begun = authorization.begin(&OAuthClient::default(), PORT).await;
        (format!("http://{}", web.address), begun)
    }
    let (_, begun) = begin(|origin| json!(origin)).await;
    begun.unwrap();

    let (origin, refused) =
        begin(|_| json!("https://user:hush@evil.test/tenant?key=hush\u{1b}[31m")).await;
    let LoginError::Refused(why) = refused.unwrap_err() else {
        panic!()
    };
    assert!(why.contains("`issuer` in the metadata"), "{why}");
    assert!(why.contains("https://evil.test/tenant"), "{why}");
    assert!(why.contains(&format!("the address of {origin}")), "{why}");
    assert!(why.contains("has to correct the metadata"), "{why}");
    assert!(!why.contains("the answer comes from"), "{why}");
    assert!(!why.contains("hush") && !why.contains('\u{1b}'), "{why}");

    let (origin, refused) = begin(|_| Value::Null).await;
    let LoginError::Refused(why) = refused.unwrap_err() else {
        panic!()
    };
    assert!(why.contains("have no `issuer`"), "{why}");
    assert!(why.contains(&origin), "{why}");
}

#[tokio::test]
async fn an_answer_of_another_authorization_server_is_refused_and_nothing_is_sent_to_either() {
    let place = Place::with(Remote::new().redirect_issuer("https://evil.test")).await;
    let authorization = place.authorization();
    let address = authorization
        .begin(&OAuthClient::default(), PORT)
        .await
        .unwrap();
    let redirect = place.decide(&address, "allow").await;
    // However often it comes.
    for _ in 0..2 {
        let error = authorization.finish(&redirect).await.unwrap_err();
        assert!(matches!(error, LoginError::Redirect(_)), "{error}");
        let shown = error.to_string();
        assert!(shown.contains("https://evil.test"), "{shown}");
        let code = parameter(&redirect, "code").unwrap();
        assert!(!shown.contains(&code), "{shown}");
        assert!(place.emulator.requests_to("/oauth/token").is_empty());
        assert!(authorization.login().is_none());
    }
    // The login waits for the answer of the server that was asked.
    let origin = format!("http%3A%2F%2F{}", place.emulator.address()).replace(':', "%3A");
    let own = redirect.replace("https%3A%2F%2Fevil.test", &origin);
    authorization.finish(&own).await.unwrap();
    assert_eq!(place.exchanges("authorization_code").len(), 1);
}

#[tokio::test]
async fn a_redirect_without_its_issuer_where_one_was_promised_is_refused() {
    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    let address = authorization
        .begin(&OAuthClient::default(), PORT)
        .await
        .unwrap();
    let redirect = place.decide(&address, "allow").await;
    let (without, _) = redirect.split_once("&iss=").unwrap();
    let error = authorization.finish(without).await.unwrap_err();
    assert!(matches!(error, LoginError::Redirect(_)), "{error}");
    assert!(place.emulator.requests_to("/oauth/token").is_empty());
    // It was cut off, and the whole of it is good.
    authorization.finish(&redirect).await.unwrap();
}

#[tokio::test]
async fn a_redirect_of_another_login_does_not_end_this_one() {
    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    let begin = || async {
        authorization
            .begin(&OAuthClient::default(), PORT)
            .await
            .unwrap()
    };
    let first = place.decide(&begin().await, "allow").await;
    let second = place.decide(&begin().await, "allow").await;
    // A page could make the browser bring it.
    let error = authorization.finish(&first).await.unwrap_err();
    assert!(matches!(error, LoginError::Redirect(_)), "{error}");
    assert!(place.emulator.requests_to("/oauth/token").is_empty());
    authorization.finish(&second).await.unwrap();
}

#[tokio::test]
async fn a_person_who_says_no_ends_the_login() {
    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    let address = authorization
        .begin(&OAuthClient::default(), PORT)
        .await
        .unwrap();
    let redirect = place.decide(&address, "deny").await;
    let error = authorization.finish(&redirect).await.unwrap_err();
    assert!(error.to_string().contains("access_denied"), "{error}");
    assert!(place.emulator.requests_to("/oauth/token").is_empty());
    let error = authorization.finish(&redirect).await.unwrap_err();
    assert!(matches!(error, LoginError::NotBegun(_)), "{error}");
}

#[tokio::test]
async fn a_stolen_code_is_of_no_use_and_its_second_use_is_reported() {
    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    let address = authorization
        .begin(&OAuthClient::default(), PORT)
        .await
        .unwrap();
    let redirect = place.decide(&address, "allow").await;
    let code = parameter(&redirect, "code").unwrap();
    // The thief has the code and not the verifier.
    let client = parameter(&address, "client_id").unwrap();
    let (verifier, address) = ("a".repeat(43), redirect_address(PORT));
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", code.as_str()),
        ("redirect_uri", address.as_str()),
        ("code_verifier", verifier.as_str()),
    ];
    assert_eq!(place.post("/oauth/token", &form).await.status(), 400);
    let error = authorization.finish(&redirect).await.unwrap_err();
    assert!(matches!(error, LoginError::Refused(_)), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("was used before"), "{shown}");
    assert!(!shown.contains(&code), "{shown}");
    assert!(authorization.login().is_none());
    assert!(!authorization.file().exists());
}

#[tokio::test]
async fn two_hours_are_assumed_where_the_server_does_not_say() {
    let place = Place::with(Remote::new().tells_lifetime(false)).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let status = authorization.status();
    let left = status.ends.unwrap().duration_since(status.login.unwrap());
    assert_eq!((left.as_secs(), status.end_assumed), (7_200, true));
    assert_eq!(authorization.ending(), None);
}

#[tokio::test]
async fn the_end_is_announced_once_before_and_once_after_and_calls_want_a_person() {
    let remote = Remote::new().token_lifetime(Duration::from_secs(8));
    let place = Place::with(remote).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let accounts = reach(place.server(), &authorization);
    use_tool(&accounts).await.unwrap();
    wait_until("its end is near", || authorization.ending().is_some()).await;
    let ending = authorization.ending().unwrap();
    authorization.announced(ending).await;
    // Also for a host that is started again.
    let again = place.authorization();
    for known in [&authorization, &again] {
        assert!(known.ending().is_none_or(|ending| ending.is_over));
    }
    wait_until("it ended", || {
        authorization.ending().is_some_and(|ending| ending.is_over)
    })
    .await;
    authorization
        .announced(authorization.ending().unwrap())
        .await;
    assert_eq!(authorization.ending(), None);
    assert_eq!(place.authorization().ending(), None);

    let before = place.calls();
    let reason = reauthorize(use_tool(&accounts).await);
    assert!(reason.contains("qchost account login research"), "{reason}");
    assert_eq!(place.calls(), before, "nothing was sent");
    assert_eq!(authorization.status().state, AuthorizationState::Ended);
    let health = accounts.health(&remote_of(ACCOUNT)).unwrap();
    assert_eq!(health.state, AccountState::Unauthorized);
}

#[tokio::test]
async fn a_token_that_the_server_ends_early_wants_a_person_where_nothing_renews_it() {
    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let accounts = reach(place.server(), &authorization);
    use_tool(&accounts).await.unwrap();
    place.emulator.expire_remote_tokens();
    reauthorize(use_tool(&accounts).await);
    let status = authorization.status();
    assert_eq!(status.state, AuthorizationState::Refused);
    assert!(status.problem.unwrap().contains("qchost account login"));
}

#[tokio::test]
async fn a_missing_agent_node_is_said_in_the_server_s_words_and_ends_no_login() {
    let place = Place::with(Remote::new().agent_node(false)).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let accounts = reach(place.server(), &authorization);
    match failure(use_tool(&accounts).await) {
        Failure::Rejected(errors) => {
            assert!(errors[0].contains("Assistant node"), "{errors:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(place.calls(), 1, "it is not sent again");
    assert_eq!(authorization.status().state, AuthorizationState::Authorized);
    let health = accounts.health(&remote_of(ACCOUNT)).unwrap();
    assert_eq!(health.state, AccountState::Connected);
}

/// Its answer is lost, and the authorization ends before it can be sent again.
#[tokio::test]
async fn a_write_that_was_under_way_when_its_authorization_ended_has_an_unknown_outcome() {
    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let pause = Duration::from_secs(2);
    let patient = AccountOptions {
        backoff: Backoff {
            initial: pause,
            max: pause,
            jitter: 0.0,
        },
        ..options()
    };
    let accounts = reach_with(place.server(), &authorization, patient);
    use_tool(&accounts).await.unwrap();
    let fault = Fault::at("/mcp/create_file", FaultKind::LoseAnswer).times(1);
    place.emulator.set_faults(vec![fault]);
    let carried_out = || {
        let requests = place.emulator.requests_to("/mcp/create_file");
        let mut requests = requests.iter();
        requests.any(|request| request.status == Some(200))
    };
    let file = json!({ "projectId": 1, "name": "main.py", "content": "x = 1" });
    let writing = call(&accounts, "write_file", file, LONG);
    let ending = async {
        wait_until("it is carried out", carried_out).await;
        place.emulator.expire_remote_tokens();
    };
    let (outcome, ()) = tokio::join!(writing, ending);
    match failure(outcome) {
        Failure::UnknownOutcome(reason) => assert!(reason.contains("not again"), "{reason}"),
        other => panic!("{other:?}"),
    }
    reauthorize(use_tool(&accounts).await);
}

#[tokio::test]
async fn a_token_is_renewed_once_for_all_calls_and_none_of_them_fails() {
    let place = Place::with(Remote::new().refresh_tokens(true)).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let accounts = reach(place.server(), &authorization);
    use_tool(&accounts).await.unwrap();
    let before = kept(&place);
    // Before its end, as a server may.
    place.emulator.expire_remote_tokens();
    for outcome in join_all((0..16).map(|_| use_tool(&accounts))).await {
        outcome.unwrap();
    }
    assert_eq!(place.exchanges("refresh_token").len(), 1);
    let after = kept(&place);
    assert_eq!(before["login"], after["login"], "it is the same login");
    for token in ["access-token", "refresh-token"] {
        assert_ne!(before[token], after[token], "{token}");
    }
    // A host that is started again has what is good now.
    use_tool(&reach(place.server(), &place.authorization()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_that_is_near_its_end_is_renewed_before_it_is_sent() {
    let remote = Remote::new()
        .refresh_tokens(true)
        .token_lifetime(Duration::from_secs(2));
    let place = Place::with(remote).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let accounts = reach(place.server(), &authorization);
    while place.exchanges("refresh_token").is_empty() {
        use_tool(&accounts).await.unwrap();
    }
    assert_eq!(authorization.ending(), None, "nothing is announced");
    // The login, and each renewal, asks once without a token where the metadata are.
    let mut refused = place.emulator.requests_to("/mcp");
    refused.retain(|request| request.status == Some(401));
    let renewals = place.exchanges("refresh_token").len();
    assert_eq!(refused.len(), 1 + renewals, "no call was refused");
}

#[tokio::test]
async fn a_second_login_leaves_the_calls_of_the_first_alone() {
    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let first = authorization.login().unwrap();
    let accounts = reach(place.server(), &authorization);
    let calls = async {
        for _ in 0..20 {
            for outcome in join_all((0..4).map(|_| use_tool(&accounts))).await {
                outcome.unwrap();
            }
        }
    };
    tokio::join!(calls, place.log_in(&authorization));
    let second = authorization.login().unwrap();
    assert!(!Arc::ptr_eq(&first, &second) && first.since() < second.since());
    use_tool(&accounts).await.unwrap();
    use_tool(&reach(place.server(), &authorization))
        .await
        .unwrap();
    let login = serde_json::to_value(second.since()).unwrap();
    assert_eq!(kept(&place)["login"], login);
}

#[tokio::test]
async fn after_a_logout_nothing_is_sent_and_nothing_is_kept() {
    let place = Place::with(Remote::new().refresh_tokens(true)).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let accounts = reach(place.server(), &authorization);
    use_tool(&accounts).await.unwrap();
    let former = kept(&place);
    let logged_out = authorization.log_out().await.unwrap();
    assert_eq!(logged_out, Some(Revocation::Revoked));
    assert!(!authorization.file().exists());
    // Who copied the file before has nothing of it.
    let revoked = place.emulator.requests_to("/oauth/revoke");
    assert_eq!(revoked.len(), 2, "one for each token: {revoked:?}");
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", former["client-id"].as_str().unwrap()),
        ("refresh_token", former["refresh-token"].as_str().unwrap()),
    ];
    assert_eq!(place.post("/oauth/token", &form).await.status(), 400);
    let stolen = place
        .browser
        .post(place.server())
        .bearer_auth(former["access-token"].as_str().unwrap())
        .send();
    assert_eq!(stolen.await.unwrap().status(), 401);
    let before = place.calls();
    reauthorize(use_tool(&accounts).await);
    assert_eq!(place.calls(), before);
    assert_eq!(
        place.exchanges("refresh_token").len(),
        1,
        "that of this test"
    );
    assert_eq!(authorization.log_out().await.unwrap(), None);
}

#[tokio::test]
async fn a_logout_says_when_the_server_does_not_end_the_tokens_and_ends_the_login_all_the_same() {
    let place = Place::with(Remote::new().revocation(false)).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let logged_out = authorization.log_out().await.unwrap();
    assert_eq!(logged_out, Some(Revocation::NotOffered));
    assert!(place.emulator.requests_to("/oauth/revoke").is_empty());

    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    place.log_in(&authorization).await;
    let token = kept(&place)["access-token"].as_str().unwrap().to_owned();
    place.emulator.shutdown().await;
    let logged_out = authorization.log_out().await.unwrap();
    let Some(Revocation::Failed { reason }) = logged_out else {
        panic!("{logged_out:?}");
    };
    assert!(!reason.contains(&token), "{reason}");
    assert!(!authorization.file().exists());
    assert_eq!(authorization.status().state, AuthorizationState::LoggedOut);
}

#[tokio::test]
async fn a_server_that_is_down_is_unreachable_and_no_refusal() {
    let place = Place::with(Remote::new()).await;
    let authorization = place.authorization();
    place.emulator.shutdown().await;
    let error = authorization.begin(&OAuthClient::default(), PORT).await;
    assert!(
        matches!(error, Err(LoginError::Unreachable(_))),
        "{error:?}"
    );
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Logs everything at every level, with or without the cap.
fn print<S>(lines: &Lines, capped: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(lines.clone())
        .with_filter(LevelFilter::TRACE)
        .with_filter(filter_fn(move |metadata| !capped || may_log(metadata)))
}

#[tokio::test]
async fn no_code_and_no_token_is_logged_at_any_level() {
    let (capped, open) = (Lines::default(), Lines::default());
    let subscriber = tracing_subscriber::registry()
        .with(print(&capped, true))
        .with(print(&open, false));
    // Connections have threads of their own.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let place = Place::with(Remote::new().refresh_tokens(true)).await;
    let authorization = place.authorization();
    let address = authorization
        .begin(&OAuthClient::default(), PORT)
        .await
        .unwrap();
    let redirect = place.decide(&address, "allow").await;
    let code = parameter(&redirect, "code").unwrap();
    authorization.finish(&redirect).await.unwrap();
    let mut secrets = vec![code.clone()];
    let accounts = reach(place.server(), &authorization);
    let keep = |secrets: &mut Vec<String>| {
        for token in ["access-token", "refresh-token"] {
            secrets.push(kept(&place)[token].as_str().unwrap().to_owned());
        }
    };
    keep(&mut secrets);
    place.emulator.expire_remote_tokens();
    use_tool(&accounts).await.unwrap();
    keep(&mut secrets);
    // Without the cap, the library logs the code.
    assert!(open.text().contains(&code));
    let logged = capped.text();
    assert!(logged.contains("logged in"), "{logged}");
    for secret in &secrets {
        assert!(!logged.contains(secret.as_str()), "{logged}");
    }
}
