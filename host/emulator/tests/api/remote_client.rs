//! A client of the remote MCP server: it registers, lets a person consent, gets a token and calls tools.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use qchost_emulator::{Builder, Remote};
use reqwest::header::{LOCATION, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, Url};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::{self, Cloud};

pub const REDIRECT: &str = "http://127.0.0.1:49152/callback";
pub const VERIFIER: &str = "a-verifier-of-at-least-43-characters-0123456789";

/// The S256 challenge of a verifier.
pub fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// A cloud with a remote MCP server.
pub async fn cloud(remote: Remote) -> Cloud {
    with(remote, |builder| builder).await
}

pub async fn with(remote: Remote, settings: impl FnOnce(Builder) -> Builder) -> Cloud {
    client::start(|builder| settings(builder.remote(remote))).await
}

impl Cloud {
    /// The address of a page of the authorisation server.
    pub fn page(&self, path: &str) -> String {
        format!("http://{}{path}", self.emulator.address())
    }

    /// A client that has just registered itself; its id.
    pub async fn register(&self) -> String {
        let body = json!({"redirect_uris": [REDIRECT], "client_name": "test"});
        let answer = self.http.post(self.page("/oauth/register")).json(&body);
        let answer: Value = answer.send().await.unwrap().json().await.unwrap();
        answer["client_id"].as_str().unwrap().to_owned()
    }

    /// The fields of a complete request for consent.
    pub fn question(&self, client: &str) -> Vec<(&'static str, String)> {
        vec![
            ("response_type", "code".to_owned()),
            ("client_id", client.to_owned()),
            ("redirect_uri", REDIRECT.to_owned()),
            ("code_challenge", challenge(VERIFIER)),
            ("code_challenge_method", "S256".to_owned()),
            ("state", "the state".to_owned()),
            ("resource", self.emulator.remote_url().unwrap().to_owned()),
        ]
    }

    /// Opens the page that asks for consent.
    pub async fn ask(&self, fields: &[(&str, String)]) -> Response {
        let url = Url::parse_with_params(&self.page("/oauth/authorize"), fields).unwrap();
        self.open(url.as_str()).await
    }

    /// The request's number on the page.
    pub async fn asked(&self, fields: &[(&str, String)]) -> String {
        let page = self.ask(fields).await;
        assert_eq!(page.status(), 200);
        let html = page.text().await.unwrap();
        let (_, rest) = html.split_once("name=\"request\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    /// What a person's decision leads to.
    pub async fn decide(&self, number: &str, decision: &str) -> Response {
        let form = [
            ("request", number),
            ("organization", self.emulator.organization_id()),
            ("decision", decision),
        ];
        self.post_form("/oauth/authorize", &form).await
    }

    pub async fn post_form(&self, path: &str, form: &[(&str, &str)]) -> Response {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let request = self.http.post(self.page(path));
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        request.body(body.finish()).send().await.unwrap()
    }

    /// A code that a person consented to.
    pub async fn code(&self, client: &str) -> String {
        let number = self.asked(&self.question(client)).await;
        let redirect = redirect_of(&self.decide(&number, "allow").await);
        field(&redirect, "code").unwrap()
    }

    /// The answer of the token endpoint to a code.
    pub async fn redeem(&self, client: &str, code: &str, verifier: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", verifier),
        ];
        let answer = self.post_form("/oauth/token", &form).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A token for the tools.
    pub async fn log_in(&self) -> String {
        let client = self.register().await;
        let code = self.code(&client).await;
        let (status, answer) = self.redeem(&client, &code, VERIFIER).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// A message to the MCP endpoint.
    pub fn message(&self, token: &str, message: &Value) -> RequestBuilder {
        let url = self.emulator.remote_url().unwrap();
        self.http.post(url).bearer_auth(token).json(message)
    }

    /// The answer to a message.
    pub async fn rpc(&self, token: &str, message: &Value) -> (u16, Value) {
        let answer = self.message(token, message).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The structured content of a tool's answer.
    pub async fn tool(&self, token: &str, name: &str, arguments: Value) -> Value {
        let message = call(name, arguments);
        let (status, answer) = self.rpc(token, &message).await;
        assert_eq!(status, 200, "{name}: {answer}");
        let content = answer["result"]["structuredContent"].clone();
        for list in ["errors", "warnings"] {
            assert!(content[list].is_array(), "{name}: {answer}");
        }
        content
    }

    /// The same, where the tool has to succeed.
    pub async fn done(&self, token: &str, name: &str, arguments: Value) -> Value {
        let content = self.tool(token, name, arguments).await;
        assert_eq!(content["success"], true, "{name}: {content}");
        content
    }

    /// The first error of a tool that has to refuse.
    pub async fn tool_refused(&self, token: &str, name: &str, arguments: Value) -> String {
        let content = self.tool(token, name, arguments).await;
        assert_eq!(content["success"], false, "{name}: {content}");
        content["errors"][0].as_str().unwrap().to_owned()
    }
}

/// A call of a tool, in the revisions with a handshake.
pub fn call(name: &str, arguments: Value) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    })
}

/// Where a response redirects to.
pub fn redirect_of(response: &Response) -> Url {
    assert_eq!(response.status(), 302);
    let location = response.headers()[LOCATION].to_str().unwrap();
    Url::parse(location).unwrap()
}

/// A field of a redirect.
pub fn field(url: &Url, name: &str) -> Option<String> {
    let mut fields = url.query_pairs();
    let found = fields.find(|(field, _)| field == name);
    found.map(|(_, value)| value.into_owned())
}

/// The challenge of a response to a request without a valid token.
pub fn challenge_of(response: &Response) -> String {
    assert_eq!(response.status(), 401);
    let header = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
    header.to_owned()
}
