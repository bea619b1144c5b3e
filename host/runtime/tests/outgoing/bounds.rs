//! Limits of requests: size, time and number.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Reply, Server};
use crate::{Client, error, request, with};

#[tokio::test]
async fn bodies_have_a_size() {
    let server = Server::start(|seen| match seen.path() {
        "/qc/known" => Reply::ok(&"y".repeat(5000)),
        "/qc/chunked" => {
            let chunk = format!("3e8\r\n{}\r\n", "y".repeat(1000));
            Reply::raw(&format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                chunk.repeat(5)
            ))
        }
        "/qc/head" => Reply::raw(&format!(
            "HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n",
            "y".repeat(300_000)
        )),
        _ => Reply::ok("fine"),
    })
    .await;
    let here = format!("localhost:{}", server.port);
    let post = |bytes: usize| {
        with(
            request("POST", "http", &here, "/qc/"),
            json!({ "body": bytes }),
        )
    };

    let roomy = Client::granted(&server, "request = \"64KiB\"\nresponse = \"5000B\"").await;
    for path in ["/qc/known", "/qc/chunked"] {
        let report = roomy.get(&here, path).await;
        assert_eq!(report["error"], Value::Null, "{path}: {report}");
        assert_eq!(report["size"], 5000, "{path}");
    }
    assert_eq!(roomy.fetch(post(65536)).await["body"], "fine");
    let report = roomy.get(&here, "/qc/head").await;
    assert!(
        error(&report).contains("HttpResponseHeaderSectionSize"),
        "{report}"
    );

    let narrow = Client::granted(&server, "request = \"1KiB\"\nresponse = \"4999B\"").await;
    let report = narrow.get(&here, "/qc/known").await;
    assert!(error(&report).contains("HttpResponseBodySize"), "{report}");
    let report = narrow.get(&here, "/qc/chunked").await;
    assert!(error(&report).contains("size exceeds limit"), "{report}");
    assert!(report["size"].as_u64().unwrap() < 5000, "{report}");

    let before = server.seen().len();
    let report = narrow.fetch(post(1025)).await;
    assert!(error(&report).contains("HttpRequestBodySize"), "{report}");
    let announced = with(post(0), json!({ "headers": [["content-length", "2000"]] }));
    let report = narrow.fetch(announced).await;
    assert!(error(&report).contains("HttpRequestBodySize"), "{report}");
    assert_eq!(server.seen().len(), before, "a whole request arrived");
}

#[tokio::test]
async fn requests_end_in_time() {
    let pause = Duration::from_secs(60);
    let server = Server::start(move |seen| match seen.path() {
        "/qc/silent" => Reply::default().hold(),
        "/qc/slow" => {
            Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst").then(pause, "last")
        }
        "/qc/short" => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst"),
        _ => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst")
            .then(Duration::from_millis(50), "last"),
    })
    .await;
    let here = format!("localhost:{}", server.port);
    let client = Client::granted(&server, "timeout = \"1s\"").await;
    assert_eq!(client.get(&here, "/qc/").await["body"], "firstlast");
    for (path, expected) in [
        ("/qc/silent", "HttpResponseTimeout"),
        ("/qc/slow", "HTTP response timeout"),
        ("/qc/short", "incomplete HTTP response"),
    ] {
        let begun = Instant::now();
        let report = client.get(&here, path).await;
        assert!(error(&report).contains(expected), "{path}: {report}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{path}");
    }

    let patient = Client::granted(&server, "timeout = \"50s\"").await;
    let asked = with(
        request("GET", "http", &here, "/qc/slow"),
        json!({ "patience_ms": 200 }),
    );
    let begun = Instant::now();
    let report = patient.fetch(asked).await;
    assert!(
        error(&report).contains("connection read timeout"),
        "{report}"
    );
    assert_eq!(report["body"], "first");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_request_ends_with_its_invocation() {
    let server = Server::start(|_| Reply::default().hold()).await;
    let here = format!("localhost:{}", server.port);
    let client = Client::granted(&server, "timeout = \"1h\"").await;
    let asked = with(
        request("GET", "http", &here, "/qc/"),
        json!({ "patience_ms": 200 }),
    );
    client.act("leave", asked).await;
    // The server waits for the other side to close.
    server.asked(1).await;
    server.closed(server.accepted()).await;
    let records = client.host.records().await;
    let last = records.last().unwrap();
    assert_eq!(last["outcome"], "failed", "{last}");
    assert!(last["reason"].to_string().contains("was gone"), "{last}");

    let waiting = client.get(&here, "/qc/");
    let asked = server.seen().len() + 1;
    tokio::select! {
        report = waiting => panic!("{report}"),
        () = server.asked(asked) => {}
    }
    server.closed(server.accepted()).await;
}

#[tokio::test]
async fn one_invocation_has_a_limited_number_of_requests_open() {
    let server = Server::start(|_| {
        Reply::default().then(
            Duration::from_millis(300),
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        )
    })
    .await;
    let client = Client::granted(&server, "").await;
    let request = request("GET", "http", &format!("localhost:{}", server.port), "/qc/");
    let reports = client
        .act("fetch-many", json!({ "request": request, "times": 20 }))
        .await;
    let count = |what: &str| {
        let reports = reports.as_array().unwrap().iter();
        reports.filter(|it| it.to_string().contains(what)).count()
    };
    assert_eq!(count("ConnectionLimitReached"), 4, "{reports}");
    assert_eq!(count("\"status\":200"), 16, "{reports}");
    // Further requests can be opened again.
    let again = client.act("fetch-many", json!({ "request": request, "times": 16 }));
    assert!(!again.await.to_string().contains("error\":\""));
}
