//! Authorising a brokerage connection: a person opens an address, the client polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use qchost_quantconnect::{Options, RestOptions};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::connection::{Connection, options, rest};
use crate::fake::{Fake, reply};

#[tokio::test]
async fn authorising_answers_the_address_to_open_until_it_is_done() {
    let done = Arc::new(AtomicBool::new(false));
    let asked = done.clone();
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/api/v2/live/auth0/read" if asked.load(SeqCst) => reply(
            200,
            &[],
            r#"{"authorization":{"alpaca-access-token":"x"},"success":true}"#,
        ),
        "/api/v2/live/auth0/read" => reply(200, &[], r#"{"authorization":null,"success":true}"#),
        _ => reply(
            302,
            &[("location", "https://login.example/start?state=1&b=2")],
            "",
        ),
    })
    .await;
    let connection = Connection::to(&fake.url).await;
    let ask = || connection.result("authorize_connection", json!({ "brokerage": "alpaca" }));
    for _ in 0..2 {
        let answer = ask().await.structured_content.unwrap();
        assert_eq!(
            answer,
            json!({
                "authorization": { "url": "https://login.example/start?state=1&b=2" },
                "success": true,
            })
        );
    }
    let paths: Vec<_> = fake.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(
        paths,
        [
            "/api/v2/live/auth0/read",
            "/api/v2/live/auth0/authorize",
            // Polling does not begin another log-in.
            "/api/v2/live/auth0/read",
        ]
    );
    assert!(
        fake.seen()
            .iter()
            .all(|seen| seen.json() == json!({ "brokerage": "alpaca" }))
    );

    done.store(true, SeqCst);
    let answer = ask().await.structured_content.unwrap();
    assert_eq!(
        answer["authorization"],
        json!({ "alpaca-access-token": "x" })
    );
    assert_eq!(fake.seen().len(), 4, "nothing is authorised twice");

    done.store(false, SeqCst);
    ask().await;
    let last = fake.seen().pop().unwrap().path;
    assert_eq!(
        last, "/api/v2/live/auth0/authorize",
        "the old address is used up"
    );
}

#[tokio::test]
async fn authorising_does_not_wait_where_the_cloud_does() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v2", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut waiting = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            if String::from_utf8_lossy(&request[..read]).contains("/live/auth0/read") {
                waiting.push(stream);
                continue;
            }
            let answer = "HTTP/1.1 302 Found\r\nlocation: https://login.example/\r\n\
                          connection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let patient = RestOptions {
        read_timeout: Duration::from_secs(60),
        ..options(&url)
    };
    let connection = Connection::open(rest(&patient), Options::default()).await;
    let ask = connection.result("authorize_connection", json!({ "brokerage": "alpaca" }));
    let answer = tokio::time::timeout(Duration::from_secs(20), ask)
        .await
        .unwrap();
    let answer = answer.structured_content.unwrap();
    assert_eq!(answer["authorization"]["url"], "https://login.example/");
}

#[tokio::test]
async fn authorising_hands_on_a_refusal() {
    let fake = Fake::always(200, r#"{"success":false,"errors":["Unknown brokerage"]}"#).await;
    let connection = Connection::to(&fake.url).await;
    let body = connection
        .fails("authorize_connection", json!({ "brokerage": "nobody" }))
        .await;
    assert_eq!(body["errors"], json!(["Unknown brokerage"]));
}
