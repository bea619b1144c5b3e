//! What goes wrong between the server and the cloud, and what a client is told of it: the kind
//! of failure decides whether a call may be sent again.

use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::connection::{Connection, options, rest};
use crate::fake::{Fake, reply};

/// A call that changes nothing, one that can be repeated, and one that must not be.
fn calls() -> [(&'static str, Value); 3] {
    [
        ("list_projects", json!({})),
        ("update_project", json!({ "projectId": 7, "name": "n" })),
        ("create_compile", json!({ "projectId": 7 })),
    ]
}

/// Expects a kind for the two calls that can be repeated, and one for the third.
async fn expect(base_url: &str, repeatable: &str, once: &str, says: &str) {
    let connection = Connection::to(base_url).await;
    for ((tool, arguments), kind) in calls().into_iter().zip([repeatable, repeatable, once]) {
        let body = connection.fails(tool, arguments).await;
        assert_eq!(body["failure"]["kind"], kind, "{tool}: {body}");
        let error = body["errors"][0].as_str().unwrap();
        assert!(error.contains(says), "{tool}: {error}");
        assert!(error.len() < 1_000, "{tool}: {} bytes", error.len());
    }
}

#[tokio::test]
async fn nothing_was_sent_if_no_server_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v2", listener.local_addr().unwrap());
    drop(listener);
    expect(
        &url,
        "unavailable",
        "unavailable",
        "cannot connect to http://127.0.0.1",
    )
    .await;
    let connection = Connection::to(&url).await;
    for (tool, arguments) in calls() {
        let body = connection.fails(tool, arguments).await;
        let told = json!({ "kind": "unavailable", "sent": false });
        assert_eq!(body["failure"], told, "{tool}");
    }
}

#[tokio::test]
async fn a_rate_limit_tells_how_long_to_wait() {
    let fake = Fake::start(|seen| {
        let after: &[_] = match seen.path.as_str() {
            "/api/v2/projects/read" => &[("retry-after", "7")],
            _ => &[],
        };
        reply(429, after, "<html>slow down</html>")
    })
    .await;
    let connection = Connection::to(&fake.url).await;
    let body = connection.fails("list_projects", json!({})).await;
    assert_eq!(
        body["failure"],
        json!({ "kind": "rate-limited", "retryAfter": 7 })
    );
    let body = connection
        .fails("create_compile", json!({ "projectId": 7 }))
        .await;
    assert_eq!(body["failure"], json!({ "kind": "rate-limited" }));
}

#[tokio::test]
async fn a_broken_server_leaves_a_write_in_doubt() {
    let page = format!("<html>{}</html>", "x".repeat(100_000));
    for status in [500, 502, 503, 504] {
        let fake = Fake::always(status, &page).await;
        expect(
            &fake.url,
            "unavailable",
            "unknown-outcome",
            &status.to_string(),
        )
        .await;
    }
    let fake = Fake::always(500, r#"{"success":false,"errors":["disk full"]}"#).await;
    expect(&fake.url, "unavailable", "unknown-outcome", "disk full").await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_leaves_a_write_in_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v2", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    expect(&url, "timed-out", "unknown-outcome", " s").await;
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_a_write_in_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v2", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"POST /api/v2/"));
        }
    });
    expect(&url, "unavailable", "unknown-outcome", "").await;
    // It may have been carried out: nothing says that it was not sent.
    let connection = Connection::to(&url).await;
    for (tool, arguments) in calls() {
        let body = connection.fails(tool, arguments).await;
        assert_eq!(body["failure"].get("sent"), None, "{tool}: {body}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_a_write_in_doubt() {
    let fake = Fake::start(|_| {
        let parts = futures::stream::iter([
            Ok("{\"success\": tr"),
            Err(std::io::Error::other("cable cut")),
        ]);
        reply(200, &[], Body::from_stream(parts))
    })
    .await;
    expect(&fake.url, "unavailable", "unknown-outcome", "").await;
}

#[tokio::test]
async fn what_is_no_answer_is_told_as_such() {
    for body in [
        "",
        "[]",
        "null",
        "\"ok\"",
        "<html>log in</html>",
        "{\"success\": tr",
        "{\"success\": 1}",
    ] {
        let fake = Fake::always(200, body).await;
        expect(
            &fake.url,
            "unexpected-response",
            "unknown-outcome",
            "answer",
        )
        .await;
    }
    let fake = Fake::start(|_| reply(200, &[], vec![b'{', 0xff, b'}'])).await;
    expect(&fake.url, "unexpected-response", "unknown-outcome", "UTF-8").await;
}

#[tokio::test]
async fn a_status_that_says_nothing_was_done_is_not_in_doubt() {
    for status in [400, 403, 404] {
        let fake = Fake::always(status, "nginx").await;
        expect(
            &fake.url,
            "unexpected-response",
            "unexpected-response",
            &status.to_string(),
        )
        .await;
    }
}

#[tokio::test]
async fn a_refusal_keeps_its_body_whatever_its_status() {
    let body = r#"{"success":false,"errors":["Project not found"]}"#;
    for status in [200, 400, 404] {
        let fake = Fake::always(status, body).await;
        let connection = Connection::to(&fake.url).await;
        for (tool, arguments) in calls() {
            assert_eq!(
                connection.call(tool, arguments).await,
                (true, body.to_owned())
            );
        }
    }
}

#[tokio::test]
async fn an_answer_past_the_limit_is_not_read_to_its_end() {
    // Endless: only a limit ends it.
    let fake = Fake::start(|_| {
        let chunk = "x".repeat(64 * 1024);
        let start = futures::stream::once(std::future::ready("{\"a\": \"".to_owned()));
        let endless = futures::StreamExt::chain(start, futures::stream::repeat(chunk));
        let endless = futures::StreamExt::map(endless, Ok::<_, std::io::Error>);
        reply(200, &[], Body::from_stream(endless))
    })
    .await;
    expect(
        &fake.url,
        "unexpected-response",
        "unknown-outcome",
        "1048576 bytes",
    )
    .await;
}

#[tokio::test]
async fn an_answer_at_the_limit_is_read() {
    let body = format!("{{\"a\": \"{}\"}}", "x".repeat(1024 * 1024 - 9));
    assert_eq!(body.len(), 1024 * 1024);
    let fake = Fake::always(200, &body).await;
    let connection = Connection::to(&fake.url).await;
    assert_eq!(
        connection.call("read_account", json!({})).await,
        (false, body)
    );
}

#[tokio::test]
async fn a_compressed_answer_is_read_and_its_limit_holds_for_what_it_unpacks_to() {
    let body = format!("{{\"a\": \"{}\"}}", "x".repeat(4 * 1024 * 1024));
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(body.as_bytes()).unwrap();
    let bomb = packer.finish().unwrap();
    assert!(bomb.len() < 16 * 1024);
    let fake = Fake::start(move |seen| {
        assert!(seen.header("accept-encoding").contains("gzip"));
        reply(200, &[("content-encoding", "gzip")], bomb.clone())
    })
    .await;
    expect(
        &fake.url,
        "unexpected-response",
        "unknown-outcome",
        "1048576 bytes",
    )
    .await;
    let wide = qchost_quantconnect::RestOptions {
        max_response_bytes: 16 * 1024 * 1024,
        ..options(&fake.url)
    };
    let connection = Connection::open(rest(&wide), Default::default()).await;
    assert_eq!(
        connection.call("read_account", json!({})).await,
        (false, body)
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Fake::content().await;
    let target = format!("{}/stolen?secret=1", elsewhere.url);
    for status in [301, 302, 307, 308] {
        let target = target.clone();
        let fake = Fake::start(move |_| reply(status, &[("location", &target)], "")).await;
        expect(
            &fake.url,
            "unexpected-response",
            "unexpected-response",
            "redirects to",
        )
        .await;
    }
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_slow_drip_ends_at_the_total_time() {
    let fake = Fake::start(|_| {
        let drips = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some((Ok::<_, std::io::Error>(" "), ()))
        });
        reply(200, &[], Body::from_stream(drips))
    })
    .await;
    let short = qchost_quantconnect::RestOptions {
        total_timeout: Duration::from_millis(600),
        ..options(&fake.url)
    };
    let connection = Connection::open(rest(&short), Default::default()).await;
    let body = connection.fails("list_projects", json!({})).await;
    assert_eq!(body["failure"]["kind"], "timed-out", "{body}");
}
