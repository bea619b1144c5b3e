//! Who the server says it is, and what it says when the cloud does not believe it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use qchost_catalog::Failure;
use qchost_quantconnect::{RestClient, RestError, RestOptions};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::connection::{Connection, TOKEN, USER, options, rest};
use crate::fake::{Fake, Seen, reply};

fn now() -> i64 {
    Timestamp::now().as_second()
}

/// The `Date` header of a server whose clock is off by this many seconds.
fn date(offset: i64) -> String {
    let time = Timestamp::from_second(now() + offset).unwrap();
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&time)
        .unwrap()
}

/// The cloud's side of the authentication, written from its documentation.
fn believes(seen: &Seen) -> bool {
    let timestamp = seen.header("timestamp");
    let hash: String = Sha256::digest(format!("{TOKEN}:{timestamp}"))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{hash}")));
    let age = now() - timestamp.parse::<i64>().unwrap();
    seen.header("authorization") == expected && (0..5).contains(&age)
}

#[tokio::test]
async fn every_kind_of_request_carries_a_fresh_hash() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    connection.call("read_account", json!({})).await;
    connection
        .call("create_compile", json!({ "projectId": 7 }))
        .await;
    connection
        .call(
            "upload_object",
            json!({ "organizationId": "o", "key": "k", "objectData": "d" }),
        )
        .await;
    connection
        .call("authorize_connection", json!({ "brokerage": "alpaca" }))
        .await;
    rest(&options(&fake.url)).probe().await;
    let seen = fake.seen();
    assert_eq!(seen.len(), 6);
    for seen in seen {
        assert!(believes(&seen), "{}", seen.path);
        assert!(seen.header("user-agent").starts_with("qchost/"));
    }
}

#[tokio::test]
async fn a_later_request_has_another_hash() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    connection.call("read_account", json!({})).await;
    let first = fake.only().header("timestamp").to_owned();
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let next = Duration::from_secs(start.as_secs() + 1) - start;
    tokio::time::sleep(next + Duration::from_millis(20)).await;
    connection.call("read_account", json!({})).await;
    let seen = fake.seen();
    assert_ne!(first, seen[1].header("timestamp"));
    assert_ne!(
        seen[0].header("authorization"),
        seen[1].header("authorization")
    );
    assert!(believes(&seen[1]));
}

#[tokio::test]
async fn a_wrong_clock_is_named_when_the_cloud_refuses_the_hash() {
    for (offset, says) in [(3600, "3600 s behind"), (-3600, "3600 s ahead of")] {
        // The cloud has been seen to use both.
        for status in [200, 500] {
            let fake = Fake::start(move |_| {
                let body = r#"{"success":false,"errors":["Hash doesn't match."]}"#;
                reply(status, &[("date", &date(offset))], body)
            })
            .await;
            let connection = Connection::to(&fake.url).await;
            let body = connection
                .fails("create_compile", json!({ "projectId": 7 }))
                .await;
            assert_eq!(body["errors"][0], "Hash doesn't match.");
            let hint = body["errors"][1].as_str().unwrap();
            assert!(
                hint.contains(says) || hint.contains(&says.replace("3600", "3601")),
                "{hint}"
            );
            assert_eq!(
                body["failure"],
                json!(null),
                "nothing was done, so nothing is in doubt"
            );
        }
    }
}

#[tokio::test]
async fn a_right_clock_or_another_refusal_is_not_blamed_on_the_clock() {
    for (offset, error) in [(0, "Hash doesn't match."), (3600, "Project not found")] {
        let body = json!({ "success": false, "errors": [error] }).to_string();
        let fake = {
            let body = body.clone();
            Fake::start(move |_| reply(200, &[("date", &date(offset))], body.clone())).await
        };
        let connection = Connection::to(&fake.url).await;
        let answer = connection
            .call("create_compile", json!({ "projectId": 7 }))
            .await;
        assert_eq!(answer, (true, body));
    }
}

#[tokio::test]
async fn a_probe_tells_what_doctor_needs() {
    let fake = Fake::start(|seen| {
        assert_eq!(seen.path, "/api/v2/authenticate");
        let headers = [
            ("date", date(120)),
            ("x-ratelimit-limit", "60".to_owned()),
            ("x-ratelimit-remaining", "59".to_owned()),
        ];
        let headers: Vec<_> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
        reply(200, &headers, r#"{"success":true}"#)
    })
    .await;
    let probe = rest(&options(&fake.url)).probe().await;
    assert_eq!(probe.outcome, Ok(()));
    let skew = probe.skew.unwrap();
    assert!((skew - 120.0).abs() < 5.0, "{skew}");
    assert!(probe.latency < Duration::from_secs(5) && !probe.latency.is_zero());
    assert_eq!(
        (probe.rate_limit.limit, probe.rate_limit.remaining),
        (Some(60), Some(59))
    );
    assert_eq!(probe.rate_limit.retry_after, None);
}

#[tokio::test]
async fn a_probe_tells_why_it_failed() {
    let refused = Fake::always(200, r#"{"success":false,"errors":["Hash doesn't match."]}"#).await;
    let busy = Fake::start(|_| reply(429, &[("retry-after", "3")], "")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);

    let probe = rest(&options(&refused.url)).probe().await;
    let errors = vec!["Hash doesn't match.".to_owned()];
    assert_eq!(probe.outcome, Err(Failure::Rejected(errors)));

    let probe = rest(&options(&busy.url)).probe().await;
    let wait = Some(Duration::from_secs(3));
    assert_eq!(
        probe.outcome,
        Err(Failure::RateLimited { retry_after: wait })
    );
    assert_eq!(probe.rate_limit.retry_after, wait);

    let probe = rest(&options(&nobody)).probe().await;
    assert!(
        matches!(probe.outcome, Err(Failure::Unavailable(_))),
        "{:?}",
        probe.outcome
    );
    assert_eq!(probe.skew, None);
}

#[tokio::test]
async fn the_name_localhost_is_this_machine() {
    let fake = Fake::content().await;
    let url = fake.url.replace("127.0.0.1", "localhost");
    let connection = Connection::to(&url).await;
    let (is_error, text) = connection.call("read_account", json!({})).await;
    assert!(!is_error, "{text}");
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn the_hash_is_not_sent_in_the_clear() {
    let credentials = qchost_quantconnect::Credentials::new(USER, TOKEN.into()).unwrap();
    let options = RestOptions {
        base_url: "http://192.0.2.1/api/v2".to_owned(),
        ..RestOptions::default()
    };
    let error = RestClient::new(credentials.clone(), &options).unwrap_err();
    assert!(matches!(error, RestError::BaseUrl(_)));
    assert!(error.to_string().contains("https"), "{error}");
    RestClient::new(credentials, &RestOptions::default()).unwrap();
}
