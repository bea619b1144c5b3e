//! A client for MCP's conformance suite: `conformance_client URL`, with the scenario in `MCP_CONFORMANCE_SCENARIO`, and
//! what it tells a client in advance in `MCP_CONFORMANCE_CONTEXT`.
//!
//! It is the host's own: an account behind HTTP, and its login. What the host does not do is done by the library under it,
//! in the scenarios that `QCHOST_CONFORMANCE_BY_LIBRARY` names.

#![allow(missing_docs, unreachable_pub)]

mod browser;
mod library;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::{Call, Target, Upstream as _, always};
use qchost_upstream::{
    Account, AccountOptions, Accounts, Authorization, HttpConnector, OAuthClient,
};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use browser::{consent, words};

const ACCOUNT: &str = "suite";
/// Where the browser would be sent. Nothing listens there: the redirect is read and not followed.
const PORT: u16 = 49_152;
/// The client metadata document that the suite knows.
const DOCUMENT: &str = "https://conformance-test.local/client-metadata.json";
/// Of each step; a machine that compiles beside is slow.
const TIME_LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(run()),
        Err(error) => Err(error.to_string()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let url = std::env::args().nth(1).ok_or("an address is missing")?;
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO").map_err(words)?;
    let context = std::env::var("MCP_CONFORMANCE_CONTEXT").unwrap_or_default();
    let context: Value = serde_json::from_str(&context).unwrap_or_default();
    let others = std::env::var("QCHOST_CONFORMANCE_BY_LIBRARY").unwrap_or_default();
    let by_library = others.split(' ').any(|other| other == scenario);
    match (by_library, scenario.starts_with("auth/")) {
        (true, true) => {
            let token = library::token(&scenario, &url, PORT, &context).await?;
            let header = SecretString::from(format!("Bearer {token}"));
            let headers = [("Authorization".to_owned(), header)];
            call(HttpConnector::new(&url, headers).map_err(words)?, &scenario).await
        }
        (true, false) => {
            let (tool, _) = call_of(&scenario).ok_or("there is no call")?;
            library::call_and_answer(&url, tool, TIME_LIMIT).await
        }
        (false, true) => call_with_login(&url, &scenario, &context).await,
        (false, false) => call(HttpConnector::new(&url, []).map_err(words)?, &scenario).await,
    }
}

/// Logs in and calls, and once more where the host says that a person has to log in again.
async fn call_with_login(url: &str, scenario: &str, context: &Value) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(words)?;
    let client = client(scenario, context);
    let authorization = open(url, folder.path())?;
    let called = log_in_and_call(&authorization, &client, url, scenario).await;
    match authorization.login().and(authorization.status().problem) {
        Some(problem) => {
            println!("{problem}");
            log_in_and_call(&authorization, &client, url, scenario).await
        }
        None => called,
    }
}

async fn log_in_and_call(
    authorization: &Authorization,
    client: &OAuthClient,
    url: &str,
    scenario: &str,
) -> Result<(), String> {
    let address = authorization.begin(client, PORT).await.map_err(words)?;
    let redirect = consent(&address).await?;
    authorization.finish(&redirect).await.map_err(words)?;
    let login = authorization.login().ok_or("there is no login")?;
    let connector = HttpConnector::new(url, []).map_err(words)?;
    call(connector.with_bearer(login).map_err(words)?, scenario).await
}

fn open(url: &str, folder: &Path) -> Result<Authorization, String> {
    let redactor = qchost_text::Redactor::default();
    Authorization::open(ACCOUNT, url, folder, redactor, true).map_err(words)
}

/// Connects, and calls what the scenario waits for.
async fn call(connector: HttpConnector, scenario: &str) -> Result<(), String> {
    let account = Account::new(ACCOUNT, Arc::new(connector), AccountOptions::default());
    let accounts = Accounts::new([account]).map_err(words)?;
    let deadline = Instant::now() + TIME_LIMIT;
    accounts.connect(ACCOUNT, deadline).await.map_err(words)?;
    if let Some((tool, arguments)) = call_of(scenario) {
        // The suite's tools answer words and not QuantConnect's JSON. What was sent is what counts.
        let answer = accounts
            .call(Call {
                account: ACCOUNT,
                target: Target::Unknown(tool),
                arguments,
                deadline,
                clearance: always(),
                sends: None,
            })
            .await;
        println!("{tool}: {answer:?}");
    }
    Ok(())
}

/// How the client identifies itself.
fn client(scenario: &str, context: &Value) -> OAuthClient {
    let text = |name: &str| context.get(name).and_then(Value::as_str).map(str::to_owned);
    OAuthClient {
        client_id: text("client_id"),
        client_secret: text("client_secret").map(SecretString::from),
        metadata_url: (scenario == "auth/basic-cimd").then(|| DOCUMENT.to_owned()),
    }
}

/// The call that a scenario waits for.
fn call_of(scenario: &str) -> Option<(&'static str, Map<String, Value>)> {
    let (tool, arguments) = match scenario {
        "initialize" => return None,
        "tools_call" => ("add_numbers", json!({ "a": 5, "b": 3 })),
        "sse-retry" => ("test_reconnection", json!({})),
        "elicitation-sep1034-client-defaults" => ("test_client_elicitation_defaults", json!({})),
        _ => ("test-tool", json!({})),
    };
    Some((tool, arguments.as_object().cloned().unwrap_or_default()))
}
