//! What the MCP library does and the host does not do for its users. The scenarios of it are named by the test, with the
//! reason why the host does without.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use oauth2::ClientSecret;
use qchost_upstream::redirect_address;
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::ClientHandler;
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ClientJsonRpcMessage,
    ElicitRequestParams, ElicitResult, ElicitationAction, ErrorData, Implementation,
};
use rmcp::service::{RequestContext, RoleClient, serve_client};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::auth::enterprise::{
    EmaAuthorizationServer, EmaClientAuthentication, EmaExchangeRequest,
};
use rmcp::transport::auth::{
    AuthorizationCallback, AuthorizationManager, AuthorizationMetadata, ClientCredentialsConfig,
    OAuthTokenResponse, default_oauth_http_client,
};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
    StreamableHttpPostResponse,
};
use serde_json::{Map, Value};
use sse_stream::Sse;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::browser::{client, consent, words};

type Events = BoxStream<'static, Result<Sse, SseError>>;
type HttpError = StreamableHttpError<reqwest::Error>;

/// A token for the server, got in a way that the host has not.
pub async fn token(
    scenario: &str,
    url: &str,
    port: u16,
    context: &Value,
) -> Result<String, String> {
    match scenario {
        "auth/2025-03-26-oauth-endpoint-fallback" => without_metadata(url, port).await,
        "auth/client-credentials-basic" => by_secret(url, context).await,
        "auth/cross-app-access-complete-flow" => by_identity_provider(url, context).await,
        other => Err(format!("the client does not know how to do {other}")),
    }
}

/// A login at the places that the revision 2025-03-26 gives to authorization servers without metadata.
async fn without_metadata(url: &str, port: u16) -> Result<String, String> {
    let (mut manager, _) = discover(url).await?;
    let redirect = redirect_address(port);
    manager
        .register_client("qchost", &redirect, &[])
        .await
        .map_err(words)?;
    let address = manager.get_authorization_url(&[]).await.map_err(words)?;
    let redirect = consent(&address).await?;
    let callback = AuthorizationCallback::from_redirect_url(&redirect).map_err(words)?;
    let exchanged = manager.exchange_code_for_token(&callback.code, &callback.csrf_token);
    access_token(&exchanged.await.map_err(words)?)
}

/// A token of a program's own, by its secret.
async fn by_secret(url: &str, context: &Value) -> Result<String, String> {
    let (mut manager, _) = discover(url).await?;
    let config = ClientCredentialsConfig::ClientSecret {
        client_id: text(context, "client_id")?,
        client_secret: text(context, "client_secret")?,
        scopes: Vec::new(),
        resource: Some(url.to_owned()),
    };
    manager
        .configure_client_credentials(&config)
        .map_err(words)?;
    let exchanged = manager.exchange_client_credentials(&config).await;
    access_token(&exchanged.map_err(words)?)
}

/// A token for what a company's identity provider says of a person.
async fn by_identity_provider(url: &str, context: &Value) -> Result<String, String> {
    let (_, metadata) = discover(url).await?;
    let issuer = metadata.issuer.ok_or("the metadata name no issuer")?;
    let provider = EmaAuthorizationServer::new(
        text(context, "idp_issuer")?,
        text(context, "idp_token_endpoint")?,
        text(context, "idp_client_id")?,
    );
    let secret = ClientSecret::new(text(context, "client_secret")?);
    let client_id = text(context, "client_id")?;
    let server = EmaAuthorizationServer::new(issuer, metadata.token_endpoint, client_id)
        .with_client_authentication(EmaClientAuthentication::ClientSecretBasic(secret));
    let identity = text(context, "idp_id_token")?;
    let request = EmaExchangeRequest::new_with_id_token(provider, server, url, &identity);
    let http = default_oauth_http_client().map_err(words)?;
    let token = request.exchange(&http, &http).await.map_err(words)?;
    Ok(token.access_token.secret().clone())
}

async fn discover(url: &str) -> Result<(AuthorizationManager, AuthorizationMetadata), String> {
    let mut manager = AuthorizationManager::new(url).await.map_err(words)?;
    manager.with_client(client()?).map_err(words)?;
    let metadata = manager.resolve_metadata().await.map_err(words)?.metadata;
    manager.set_metadata(metadata.clone());
    Ok((manager, metadata))
}

fn access_token(response: &OAuthTokenResponse) -> Result<String, String> {
    let response = serde_json::to_value(response).map_err(words)?;
    text(&response, "access_token")
}

fn text(object: &Value, name: &str) -> Result<String, String> {
    let found = object.get(name).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| format!("there is no {name}"))
}

/// Calls a tool that asks something in the middle of the call, and answers with what its form has beforehand.
pub async fn call_and_answer(url: &str, tool: &'static str, limit: Duration) -> Result<(), String> {
    let client = Listening {
        client: client()?,
        open: Arc::default(),
    };
    let open = Arc::clone(&client.open);
    let config = StreamableHttpClientTransportConfig::with_uri(url);
    let transport = StreamableHttpClientTransport::with_client(client, config);
    let service = serve_client(Answering, transport).await.map_err(words)?;
    // What the server asks before that is lost.
    timeout(limit, open.notified()).await.map_err(words)?;
    let called = timeout(limit, service.call_tool(CallToolRequestParams::new(tool))).await;
    let answer = called.map_err(words)?.map_err(words)?;
    println!("{tool}: {answer:?}");
    service.cancel().await.map_err(words)?;
    Ok(())
}

/// Accepts each form with the values that it has beforehand.
struct Answering;

impl ClientHandler for Answering {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::builder().enable_elicitation().build(),
            Implementation::new("qchost", env!("CARGO_PKG_VERSION")),
        )
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams {
            requested_schema, ..
        } = request
        else {
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        let schema = serde_json::to_value(requested_schema).unwrap_or_default();
        let fields = schema.get("properties").and_then(Value::as_object);
        let fields = fields.into_iter().flatten();
        let values: Map<String, Value> = fields
            .filter_map(|(name, field)| Some((name.clone(), field.get("default")?.clone())))
            .collect();
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(values.into()))
    }
}

/// An HTTP client that tells when the stream of what the server asks by itself is open.
#[derive(Clone)]
struct Listening {
    client: reqwest::Client,
    open: Arc<Notify>,
}

impl StreamableHttpClient for Listening {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        self.client
            .post_message(uri, message, session_id, auth_header, custom_headers)
            .await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), HttpError> {
        self.client
            .delete_session(uri, session_id, auth_header, custom_headers)
            .await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, HttpError> {
        let events = self
            .client
            .get_stream(uri, session_id, last_event_id, auth_header, custom_headers)
            .await?;
        self.open.notify_one();
        Ok(events)
    }
}
