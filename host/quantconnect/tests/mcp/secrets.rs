//! What must not be shown: the API token and the hashes made from it, in no log at any level
//! and in no error.

use parking_lot::Mutex;
use std::io::Write;
use std::sync::Arc;

use qchost_quantconnect::{Credentials, RestOptions};
use serde_json::json;
use tokio::net::TcpListener;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::connection::{Connection, TOKEN, options, rest};
use crate::fake::{Fake, reply};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_the_token_nor_a_hash_of_it_is_shown() {
    let log = Log::default();
    let writer = log.clone();
    // For the whole process: what other tests log meanwhile is looked at too.
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish()
        .init();

    // A server that throws back all it got.
    let echo = Fake::start(|seen| {
        let headers = format!("{:?} {}", seen.headers, seen.header("authorization"));
        match seen.path.as_str() {
            "/api/v2/projects/read" => reply(500, &[], headers),
            "/api/v2/compile/create" => reply(200, &[], headers),
            "/api/v2/files/create" => {
                let body = json!({ "success": false, "errors": [headers] });
                reply(500, &[], body.to_string())
            }
            "/api/v2/account/read" => reply(200, &[], json!({ "you": headers }).to_string()),
            _ => {
                let body = json!({ "success": false, "errors": [headers] });
                reply(200, &[], body.to_string())
            }
        }
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);

    let mut shown = Vec::new();
    for url in [&echo.url, &nobody] {
        let connection = Connection::to(url).await;
        for (tool, arguments) in [
            ("list_projects", json!({})),
            ("create_compile", json!({ "projectId": 7 })),
            ("create_file", json!({ "projectId": 7, "name": "n" })),
            ("read_account", json!({})),
            ("read_file", json!({ "projectId": 7 })),
            (
                "upload_object",
                json!({ "organizationId": "o", "key": "k", "objectData": "d" }),
            ),
            ("authorize_connection", json!({ "brokerage": "alpaca" })),
        ] {
            shown.push(format!("{:?}", connection.result(tool, arguments).await));
        }
        let client = rest(&options(url));
        shown.push(format!("{:?}", client.probe().await));
        shown.push(format!("{client:?}"));
    }
    shown.push(format!(
        "{:?}",
        Credentials::new("1", TOKEN.into()).unwrap()
    ));
    let options = RestOptions {
        base_url: format!("https://{TOKEN}@example.com"),
        ..RestOptions::default()
    };
    let credentials = Credentials::new("1", TOKEN.into()).unwrap();
    let error = qchost_quantconnect::RestClient::new(credentials, &options).unwrap_err();
    shown.push(format!("{error} {error:?}"));

    let mut secrets = vec![TOKEN.to_owned()];
    for seen in echo.seen() {
        let header = seen.header("authorization").to_owned();
        let encoded = header.strip_prefix("Basic ").unwrap().to_owned();
        let decoded =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &encoded).unwrap();
        let pair = String::from_utf8(decoded).unwrap();
        secrets.push(pair.split_once(':').unwrap().1.to_owned());
        secrets.push(encoded);
    }
    assert!(secrets.len() > 10);

    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    // The capture works, and at the most talkative level.
    for source in [
        "TRACE",
        "rmcp::",
        "hyper_util::",
        "qchost_quantconnect::rest",
    ] {
        assert!(log.contains(source), "nothing was logged by {source}");
    }
    shown.push(log);
    for text in &shown {
        for secret in &secrets {
            assert!(
                !text.contains(secret),
                "{secret} is shown in {}",
                around(text, secret)
            );
        }
    }
    assert!(shown.iter().any(|text| text.contains("[redacted]")));
}

#[tokio::test]
async fn a_password_that_does_not_fit_is_not_repeated() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    let body = connection
        .fails(
            "create_live_algorithm",
            json!({
                "versionId": 1,
                "projectId": 7,
                "compileId": "c",
                "nodeId": "n",
                "brokerage": "open sesame",
                "dataProviders": ["open sesame"],
            }),
        )
        .await;
    assert_eq!(body["failure"]["kind"], "invalid-argument");
    assert!(
        body["errors"][0].as_str().unwrap().contains("/brokerage"),
        "{body}"
    );
    assert!(!body.to_string().contains("sesame"), "{body}");
    assert!(fake.seen().is_empty());
}

/// The place, for a person who has to find it.
fn around(text: &str, secret: &str) -> String {
    text.lines()
        .find(|line| line.contains(secret))
        .unwrap_or_default()
        .chars()
        .take(500)
        .collect()
}
