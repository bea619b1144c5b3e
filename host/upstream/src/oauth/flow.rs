//! The steps of OAuth that ask a server: finding the authorization server, registering, exchanging a code, renewing,
//! revoking.
//!
//! Invariants: every endpoint is https, or on this machine if the MCP server is. S256 is demanded of the authorization
//! server's metadata, and not only sent. What a server writes is bounded, on one line and without what this login knows
//! to be secret.

use std::time::Duration;

use form_urlencoded::{Serializer, byte_serialize};
use qchost_text::error_chain;
use reqwest::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadata, CredentialStore as _,
    InMemoryCredentialStore, OAuthClientConfig, OAuthTokenResponse, StoredCredentials,
};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::callback::{Callback, Expected, redirect_address};
use super::stored::Tokens;
use crate::connector::is_loopback;
use crate::text::{MAX_EXCERPT, Redactor, excerpt};

/// How the host names itself where it registers.
const CLIENT_NAME: &str = "qchost";

/// Time limit of one request, like that of the OAuth library's own client.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit of the request for a challenge: without one, the login goes on.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How the OAuth library begins the error of a server that understood the request and refused it.
const SERVER_REFUSES: &str = "Server returned error response: ";

/// The refusal of a code or a refresh token that is not valid, or not any more (RFC 6749).
const INVALID_GRANT: &str = "invalid_grant";

/// How the host identifies itself to an authorization server. Of several ways, the first that is possible is taken: the
/// configured id, the metadata document, registration at each login.
#[derive(Debug, Clone, Default)]
pub struct OAuthClient {
    /// The id that the authorization server gave the host.
    pub client_id: Option<String>,
    /// The secret that belongs to the id, if there is one.
    pub client_secret: Option<SecretString>,
    /// The https address of a document that describes the host as a client.
    pub metadata_url: Option<String>,
}

/// Why a login fails. No message has a token, a code or a client's secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// A server says no, or does not do what a login needs.
    #[error("{0}")]
    Refused(String),
    /// A server cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The redirect is not that of this login.
    #[error("{0}")]
    Redirect(String),
    /// No login of this account is under way.
    #[error("{0}")]
    NotBegun(String),
    /// The tokens cannot be stored.
    #[error("{0}")]
    NotStored(String),
}

/// Why there are no renewed tokens.
#[derive(Debug)]
pub(super) enum RenewalError {
    /// A person has to log in again.
    Refused(String),
    /// A later attempt may succeed.
    Failed(String),
}

/// What became of the tokens of an ended login at the authorization server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Revocation {
    /// It ended them.
    Revoked,
    /// It does not offer that, so that they end by themselves.
    NotOffered,
    /// It could not be asked, or did not do it.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A login that waits for its redirect.
pub(super) struct Flow {
    manager: AuthorizationManager,
    /// The address that the browser is sent back to.
    redirect: String,
    state: String,
    client: OAuthClientConfig,
    issuer: Option<String>,
    /// Whether the authorization server says that its redirects always name it (RFC 9207).
    names_issuer: bool,
    scopes: Vec<String>,
}

/// What an authorization server grants.
#[derive(Deserialize)]
pub(super) struct Granted {
    pub(super) access_token: String,
    token_type: String,
    /// Seconds.
    pub(super) expires_in: Option<u64>,
    pub(super) refresh_token: Option<String>,
    /// Separated by spaces; absent if they are those that were asked for.
    pub(super) scope: Option<String>,
}

/// A completed login.
pub(super) struct Completed {
    pub(super) granted: Granted,
    pub(super) issuer: Option<String>,
    pub(super) client_id: String,
    pub(super) client_secret: Option<String>,
    /// The scopes that were asked for.
    pub(super) scopes: Vec<String>,
}

impl Flow {
    /// Finds the authorization server of an MCP server and identifies the host there. Returns the login, and the address
    /// that a person has to open. It asks for the scopes that the server names, and for `more`.
    pub(super) async fn begin(
        server: &Url,
        client: &OAuthClient,
        port: u16,
        more: &[String],
    ) -> Result<(Self, String), LoginError> {
        let mut secrets: Vec<SecretString> =
            server.query().map(SecretString::from).into_iter().collect();
        secrets.extend(client.client_secret.clone());
        let redactor = Redactor::new(secrets);
        let failed = |error: AuthError| login_error(&error, &redactor);
        let mut manager = manager(server, &failed).await?;
        let metadata = metadata(&manager, server, &failed).await?;
        let issuer = metadata.issuer.clone();
        let says = |what: &str| {
            let said = metadata.additional_fields.get(what);
            said.and_then(Value::as_bool).unwrap_or(false)
        };
        let takes_documents = says("client_id_metadata_document_supported");
        let names_issuer = says("authorization_response_iss_parameter_supported");
        if let Some(endpoint) = &metadata.registration_endpoint {
            check_endpoint(server, "registration", endpoint)?;
        }
        manager.set_metadata(metadata);
        let mut scopes = manager.select_initial_scopes(&[]).await;
        for scope in more {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        let asked: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let redirect = redirect_address(port);
        let client = match (&client.client_id, &client.metadata_url) {
            (Some(id), _) => {
                let config = OAuthClientConfig::new(id, redirect.as_str());
                match &client.client_secret {
                    Some(secret) => config.with_client_secret(secret.expose_secret()),
                    None => config,
                }
            }
            (None, Some(document)) if takes_documents => {
                OAuthClientConfig::new(document, redirect.as_str())
            }
            _ => manager
                .register_client(CLIENT_NAME, &redirect, &asked)
                .await
                .map_err(|error| unregistered(failed(error)))?,
        };
        manager.configure_client(client.clone()).map_err(failed)?;
        let address = manager
            .get_authorization_url(&asked)
            .await
            .map_err(failed)?;
        let state = Url::parse(&address).ok().and_then(|url| {
            let mut pairs = url.query_pairs();
            pairs.find_map(|(key, value)| (key == "state").then(|| value.into_owned()))
        });
        let Some(state) = state else {
            return Err(LoginError::Refused(
                "the address of the authorization server has no place for a login".to_owned(),
            ));
        };
        let flow = Self {
            manager,
            redirect,
            state,
            client,
            issuer,
            names_issuer,
            scopes,
        };
        Ok((flow, address))
    }

    /// Reads the redirect. The login can go on after a redirect that is not its own.
    pub(super) fn callback(&self, redirect: &str) -> Result<Callback, LoginError> {
        let expected = Expected {
            address: &self.redirect,
            state: &self.state,
            issuer: self.issuer.as_deref(),
            names_issuer: self.names_issuer,
        };
        Callback::parse(redirect, &expected)
    }

    /// Exchanges the code for tokens. A code is good for one exchange, so this ends the login.
    pub(super) async fn complete(self, callback: Callback) -> Result<Completed, LoginError> {
        let mut secrets = vec![callback.code.clone()];
        secrets.extend(self.client.client_secret.clone().map(SecretString::from));
        let redactor = Redactor::new(secrets);
        let exchanged = self
            .manager
            .exchange_code_for_token_with_issuer(
                callback.code.expose_secret(),
                &callback.state,
                callback.issuer.as_deref(),
            )
            .await;
        let response = exchanged.map_err(|error| login_error(&error, &redactor))?;
        Ok(Completed {
            granted: Granted::read(&response).map_err(LoginError::Refused)?,
            issuer: self.issuer,
            client_id: self.client.client_id,
            client_secret: self.client.client_secret,
            scopes: self.scopes,
        })
    }
}

impl Granted {
    fn read(response: &OAuthTokenResponse) -> Result<Self, String> {
        let granted = serde_json::to_value(response).and_then(serde_json::from_value::<Self>);
        // The parser's own message could quote a token.
        let granted = granted.map_err(|_| {
            "the answer of the authorization server is no answer with tokens".to_owned()
        })?;
        if !granted.token_type.eq_ignore_ascii_case("bearer") {
            return Err(format!(
                "the authorization server gives tokens of type `{}`, and only bearer tokens can be sent",
                excerpt(&granted.token_type, 40)
            ));
        }
        if granted.access_token.is_empty()
            || !granted
                .access_token
                .bytes()
                .all(|byte| byte.is_ascii_graphic())
        {
            return Err(
                "the authorization server gives a token that no header can carry".to_owned(),
            );
        }
        Ok(granted)
    }
}

/// Renews the tokens of a login by its refresh token.
pub(super) async fn renew(server: &Url, tokens: &Tokens) -> Result<Granted, RenewalError> {
    let (Some(access), Some(refresh)) = (&tokens.access_token, &tokens.refresh_token) else {
        return Err(RenewalError::Refused(
            "there is no refresh token".to_owned(),
        ));
    };
    let mut secrets = vec![access.clone(), refresh.clone()];
    secrets.extend(tokens.client_secret.clone());
    let redactor = Redactor::new(secrets);
    let failed = |error: AuthError| match &error {
        AuthError::TokenRefreshRejected(_) | AuthError::AuthorizationRequired => {
            RenewalError::Refused(redactor.line(&error_chain(&error)))
        }
        _ => match login_error(&error, &redactor) {
            LoginError::Unreachable(why) => RenewalError::Failed(why),
            other => RenewalError::Failed(other.to_string()),
        },
    };
    let known = |error: LoginError| RenewalError::Failed(error.to_string());
    let login_failed = |error: AuthError| login_error(&error, &redactor);
    let mut manager = manager(server, &login_failed).await.map_err(known)?;
    let metadata = metadata(&manager, server, &login_failed)
        .await
        .map_err(known)?;
    manager.set_metadata(metadata);
    let kept = json!({
        "access_token": access.expose_secret(),
        "refresh_token": refresh.expose_secret(),
        "token_type": "bearer",
    });
    let kept: OAuthTokenResponse = serde_json::from_value(kept)
        .map_err(|_| RenewalError::Refused("the stored tokens are not usable".to_owned()))?;
    let obtained = u64::try_from(tokens.obtained.as_second()).ok();
    let stored = StoredCredentials::new(
        tokens.client_id.clone(),
        Some(kept),
        tokens.scopes.clone(),
        obtained,
    );
    let store = InMemoryCredentialStore::new();
    let stored = stored.with_issuer(tokens.issuer.clone());
    store.save(stored).await.map_err(failed)?;
    manager.set_credential_store(store);
    if !manager.initialize_from_store().await.map_err(failed)? {
        return Err(RenewalError::Refused(
            "the server names another authorization server than the one that issued the tokens"
                .to_owned(),
        ));
    }
    if let Some(secret) = &tokens.client_secret {
        let config = OAuthClientConfig::new(tokens.client_id.as_str(), server.as_str());
        let config = config.with_client_secret(secret.expose_secret());
        manager.configure_client(config).map_err(failed)?;
    }
    let response = manager.refresh_token().await.map_err(failed)?;
    Granted::read(&response).map_err(RenewalError::Failed)
}

/// Has the authorization server end the tokens of a login (RFC 7009): first the one that new ones could be had with.
pub(super) async fn revoke(server: &Url, tokens: &Tokens) -> Revocation {
    let secrets = [
        &tokens.access_token,
        &tokens.refresh_token,
        &tokens.client_secret,
    ];
    let redactor = Redactor::new(secrets.into_iter().flatten().cloned());
    match try_revoke(server, tokens, &redactor).await {
        Ok(outcome) => outcome,
        Err(error) => Revocation::Failed {
            reason: error.to_string(),
        },
    }
}

async fn try_revoke(
    server: &Url,
    tokens: &Tokens,
    redactor: &Redactor,
) -> Result<Revocation, LoginError> {
    let failed = |error: AuthError| login_error(&error, redactor);
    let manager = manager(server, &failed).await?;
    let metadata = metadata(&manager, server, &failed).await?;
    if metadata.issuer != tokens.issuer {
        return Err(LoginError::Refused(
            "the server names another authorization server than the one that issued the tokens, and it gets none of them"
                .to_owned(),
        ));
    }
    let endpoint = metadata.additional_fields.get("revocation_endpoint");
    let Some(endpoint) = endpoint.and_then(Value::as_str) else {
        return Ok(Revocation::NotOffered);
    };
    check_endpoint(server, "revocation", endpoint)?;
    let client = client(server).map_err(|error| failed(error.into()))?;
    let all = [
        ("refresh_token", &tokens.refresh_token),
        ("access_token", &tokens.access_token),
    ];
    let mut outcome = Ok(Revocation::Revoked);
    for (kind, token) in all {
        let Some(token) = token else { continue };
        let mut form = vec![
            ("token", token.expose_secret()),
            ("token_type_hint", kind),
            ("client_id", tokens.client_id.as_str()),
        ];
        let mut request = client.post(endpoint);
        if let Some(secret) = &tokens.client_secret {
            match takes_secret_in_form(&metadata) {
                true => form.push(("client_secret", secret.expose_secret())),
                false => {
                    // Both are encoded first (RFC 6749, section 2.3.1).
                    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                    let secret = Some(encoded(secret.expose_secret()));
                    request = request.basic_auth(encoded(&tokens.client_id), secret);
                }
            }
        }
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        let request = request
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        let answered = match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(LoginError::Refused(format!(
                "the authorization server answers {} to the request to end the {}",
                answer.status().as_u16(),
                kind.replace('_', " ")
            ))),
            Err(error) => Err(LoginError::Unreachable(redactor.line(&error_chain(&error)))),
        };
        // The other token is worth trying nevertheless; the first reason is the one that counts.
        if let Err(error) = answered
            && outcome.is_ok()
        {
            outcome = Err(error);
        }
    }
    outcome
}

/// Whether the revocation endpoint takes a client's secret in the form alone. By default it takes a header (RFC 8414).
fn takes_secret_in_form(metadata: &AuthorizationMetadata) -> bool {
    let methods = metadata
        .additional_fields
        .get("revocation_endpoint_auth_methods_supported");
    let Some(Value::Array(methods)) = methods else {
        return false;
    };
    let takes = |name: &str| methods.iter().any(|method| method == name);
    takes("client_secret_post") && !takes("client_secret_basic")
}

/// A client for requests of the host's own to an authorization server.
fn client(server: &Url) -> reqwest::Result<Client> {
    let client = Client::builder()
        .redirect(Policy::none())
        .timeout(REQUEST_TIMEOUT);
    match is_loopback(server) {
        // No proxy leads to this machine.
        true => client.no_proxy().build(),
        false => client.build(),
    }
}

async fn manager(
    server: &Url,
    failed: &impl Fn(AuthError) -> LoginError,
) -> Result<AuthorizationManager, LoginError> {
    let created = AuthorizationManager::new(server.as_str()).await;
    let mut manager = created.map_err(failed)?;
    if is_loopback(server) {
        // The library's own client would use a proxy.
        let client = client(server).map_err(|error| failed(error.into()))?;
        manager.with_client(client).map_err(failed)?;
    }
    Ok(manager)
}

/// The challenge of a request of MCP that has no token: where the metadata are, and which scopes to ask for.
///
/// The OAuth library looks for it by GET, which servers without an event stream answer with 404 or 405. Without a
/// challenge, and if the server does not answer, there is what the library finds.
async fn challenge(server: &Url) -> Option<String> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let sent = client(server)
        .ok()?
        .post(server.clone())
        .header(ACCEPT, "application/json, text/event-stream")
        .header(CONTENT_TYPE, "application/json")
        .timeout(CHALLENGE_TIMEOUT)
        .body(request.to_string())
        .send();
    let answer = sent.await.ok()?;
    if answer.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    let headers = answer.headers().get_all(WWW_AUTHENTICATE);
    let mut challenges = headers.iter().filter_map(|value| value.to_str().ok());
    let bearer = challenges.find(|text| text.to_ascii_lowercase().contains("bearer"));
    bearer.map(str::to_owned)
}

/// The authorization server's metadata, if it allows a login.
async fn metadata(
    manager: &AuthorizationManager,
    server: &Url,
    failed: &impl Fn(AuthError) -> LoginError,
) -> Result<AuthorizationMetadata, LoginError> {
    let challenge = challenge(server).await;
    let found = manager
        .resolve_metadata_from_challenge(challenge.as_deref())
        .await
        .map_err(failed)?;
    if !found.source.is_discovered() {
        return Err(LoginError::Refused(format!(
            "{} does not say where to log in: it publishes no metadata of OAuth",
            shown(server)
        )));
    }
    let metadata = found.metadata;
    check_pkce(metadata.code_challenge_methods_supported.as_deref())?;
    check_endpoint(server, "authorization", &metadata.authorization_endpoint)?;
    check_endpoint(server, "token", &metadata.token_endpoint)?;
    Ok(metadata)
}

/// A code that someone else caught must be of no use to them.
fn check_pkce(methods: Option<&[String]>) -> Result<(), LoginError> {
    let methods = methods.unwrap_or_default();
    if methods.iter().any(|method| method == "S256") {
        return Ok(());
    }
    Err(LoginError::Refused(
        "the authorization server does not say that it supports PKCE by S256, and there is no login without it"
            .to_owned(),
    ))
}

/// Whether an endpoint may get what a login sends.
fn check_endpoint(server: &Url, what: &str, endpoint: &str) -> Result<(), LoginError> {
    let refused = |why: &str| {
        let endpoint = excerpt(endpoint, MAX_EXCERPT);
        LoginError::Refused(format!(
            "the authorization server's {what} endpoint `{endpoint}` is not used: {why}"
        ))
    };
    let url = Url::parse(endpoint).map_err(|_| refused("it is no address"))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(refused("it has a user or a fragment"));
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(&url) && is_loopback(server) => Ok(()),
        _ => Err(refused("it is not https")),
    }
}

/// The address without what may be secret in it.
fn shown(url: &Url) -> String {
    excerpt(url.as_str(), MAX_EXCERPT)
}

fn unregistered(error: LoginError) -> LoginError {
    match error {
        LoginError::Refused(why) => LoginError::Refused(format!(
            "the host cannot register as a client: {why}; if the authorization server's operator gives you a client id, put it into \
             the account's `oauth` table as client-id"
        )),
        other => other,
    }
}

/// The OAuth library's error in the host's words.
fn login_error(error: &AuthError, redactor: &Redactor) -> LoginError {
    match error {
        AuthError::DiscoveryRequestFailed { .. } | AuthError::HttpError(_) => {
            LoginError::Unreachable(redactor.line(&error_chain(error)))
        }
        // The issuer of a redirect is checked before its code is exchanged, so these two are about metadata (RFC 8414).
        AuthError::AuthorizationServerMismatch {
            expected_issuer,
            received_issuer,
        } => {
            let expected = redactor.line(expected_issuer);
            LoginError::Refused(format!(
                "the `issuer` in the metadata of the authorization server is {}, and they were read from the address of \
                 {expected}: a server could pass for another one that way, so they are not used; check the address of the \
                 account's server; if it is right, the operator of {expected} has to correct the metadata",
                redactor.line(received_issuer)
            ))
        }
        AuthError::AuthorizationServerMissingIssuer { expected_issuer } => {
            let expected = redactor.line(expected_issuer);
            LoginError::Refused(format!(
                "the metadata of the authorization server have no `issuer`, which has to be {expected}, so they are not used; \
                 check the address of the account's server; if it is right, the operator of {expected} has to correct the \
                 metadata"
            ))
        }
        AuthError::TokenExchangeFailed(words) | AuthError::TokenRefreshFailed(words) => {
            exchange_error(words, redactor)
        }
        other => LoginError::Refused(redactor.line(&error_chain(other))),
    }
}

/// The library's words about an exchange. Those about an answer that it did not understand could quote a token.
fn exchange_error(words: &str, redactor: &Redactor) -> LoginError {
    match words.strip_prefix(SERVER_REFUSES) {
        Some(refusal) if refusal.starts_with(INVALID_GRANT) => LoginError::Refused(format!(
            "the authorization server refuses the code ({}): it is too old, or was used before; if another person can have seen \
             the address that the browser ended at, end the sessions of this account at the server; then log in again",
            redactor.line(refusal)
        )),
        Some(refusal) => LoginError::Refused(format!(
            "the authorization server refuses: {}",
            redactor.line(refusal)
        )),
        None if words == "Request failed" => {
            LoginError::Unreachable("the token endpoint cannot be reached".to_owned())
        }
        None => LoginError::Refused("the token endpoint does not answer as OAuth asks".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn endpoints_are_https_or_on_this_machine_beside_their_server() {
        let (remote, local) = (url("https://mcp.test/mcp"), url("http://127.0.0.1:1/mcp"));
        check_endpoint(&remote, "token", "https://auth.test/token").unwrap();
        check_endpoint(&local, "token", "http://127.0.0.1:2/token").unwrap();
        check_endpoint(&local, "token", "https://auth.test/token").unwrap();
        for endpoint in [
            "",
            "/token",
            "http://auth.test/token",
            "http://127.0.0.1/token",
            "https://user:hush@auth.test/token",
            "https://auth.test/token#x",
            "javascript:alert(1)",
            "file:///etc/passwd",
        ] {
            let error = check_endpoint(&remote, "token", endpoint).unwrap_err();
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        check_endpoint(&local, "token", "http://10.0.0.1/token").unwrap_err();
    }

    #[test]
    fn a_secret_is_in_the_form_only_where_the_server_takes_it_nowhere_else() {
        let takes = |methods: Value| {
            let mut metadata = AuthorizationMetadata::default();
            metadata.additional_fields.insert(
                "revocation_endpoint_auth_methods_supported".to_owned(),
                methods,
            );
            takes_secret_in_form(&metadata)
        };
        assert!(takes(json!(["none", "client_secret_post"])));
        for other in [
            json!(["client_secret_basic", "client_secret_post"]),
            json!([]),
            json!("client_secret_post"),
            json!(null),
        ] {
            assert!(!takes(other.clone()), "{other}");
        }
        assert!(!takes_secret_in_form(&AuthorizationMetadata::default()));
    }

    #[test]
    fn there_is_no_login_without_pkce_by_s256() {
        let methods = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let methods: [Vec<String>; 3] = [
            methods(&[]),
            methods(&["plain"]),
            methods(&["plain", "S256"]),
        ];
        let allowed = methods.map(|methods| check_pkce(Some(&methods)).is_ok());
        assert_eq!(allowed, [false, false, true]);
        check_pkce(None).unwrap_err();
    }

    #[test]
    fn what_the_library_quotes_of_an_answer_is_not_repeated() {
        let redactor = Redactor::new([SecretString::from("hush-code")]);
        for words in [
            "invalid type: string \"hush\", expected u64",
            "Other error: hush",
            "Server returned error response: invalid_grant: hush-code was used",
            "Server returned error response: invalid_client: hush-code",
            "Request failed",
        ] {
            let error = exchange_error(words, &redactor).to_string();
            assert!(!error.contains("hush"), "{error}");
        }
        let used = exchange_error(
            "Server returned error response: invalid_grant: used",
            &redactor,
        );
        assert!(used.to_string().contains("was used before"), "{used}");
    }

    #[test]
    fn only_bearer_tokens_that_a_header_can_carry_are_taken() {
        let read = |value: Value| {
            let response: OAuthTokenResponse = serde_json::from_value(value).unwrap();
            Granted::read(&response)
        };
        let token = |token: &str, kind: &str| json!({ "access_token": token, "token_type": kind });
        let granted = read(json!({
            "access_token": "hush", "token_type": "Bearer", "expires_in": 7_200,
            "scope": "a b", "other": { "x": 1 },
        }));
        let granted = granted.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(granted.expires_in, Some(7_200));
        assert_eq!(granted.scope.as_deref(), Some("a b"));
        for refused in [
            token("hush", "mac"),
            token("hush\r\nx: y", "bearer"),
            token("", "bearer"),
        ] {
            let why = read(refused).err().unwrap();
            assert!(!why.contains("hush"), "{why}");
        }
    }

    proptest! {
        #[test]
        fn no_endpoint_in_the_clear_is_used(endpoint in r"(https?|ftp)://([a-z@:/.?#0-9]{0,20})") {
            let server = url("https://mcp.test/mcp");
            if check_endpoint(&server, "token", &endpoint).is_ok() {
                prop_assert!(endpoint.starts_with("https://"), "{}", endpoint);
            }
        }
    }
}
