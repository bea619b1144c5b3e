//! Requests from inside Wasm to real servers on this machine: what is granted arrives, and nothing
//! else does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod bounds;
mod server;

use std::path::Path;

use qchost_runtime::LoadError;
use qchost_testing::runtime::manifest;
use qchost_testing::{Host, uncalled};
use serde_json::{Value, json};
use server::{Reply, Server};

/// A host with the test agent in it.
struct Client {
    host: Host,
}

fn component() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/plugins/http-client");
    std::fs::read(folder.join("http_client.wasm")).expect(
        "the test agent is not built: run `make test`, or \
         `qchost plugin build host/cli/tests/plugins/http-client`",
    )
}

impl Client {
    /// One with these lines in its manifest.
    async fn new(lines: &str) -> Self {
        let host = Host::new(&uncalled()).await;
        host.load("http-client", &component(), lines).await.unwrap();
        Self { host }
    }

    /// One that may send `GET` and `POST` to a folder of a server, with more lines in the grant.
    async fn granted(server: &Server, more: &str) -> Self {
        Self::new(&grant(server, more)).await
    }

    async fn act(&self, action: &str, input: Value) -> Value {
        self.host
            .runtime
            .invoke("http-client", action, input, None, None)
            .await
            .unwrap()
    }

    async fn fetch(&self, request: Value) -> Value {
        self.act("fetch", request).await
    }

    async fn get(&self, authority: &str, path: &str) -> Value {
        self.fetch(request("GET", "http", authority, path)).await
    }
}

fn grant(server: &Server, more: &str) -> String {
    format!(
        "[[http]]\nname = \"local\"\nallow = \"http://localhost:{}/qc/\"\n\
         methods = [\"GET\", \"POST\"]\naddresses = [\"127.0.0.1\", \"::1\"]\n{more}\n",
        server.port
    )
}

fn request(method: &str, scheme: &str, authority: &str, path: &str) -> Value {
    json!({ "method": method, "scheme": scheme, "authority": authority, "path": path })
}

fn with(mut request: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(more);
    request
}

fn error(report: &Value) -> &str {
    report["error"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn a_granted_request_arrives_with_the_granted_header() {
    let server = Server::start(|_| {
        Reply::of(
            "201 Created",
            "x-echo: token=the-granted-token\r\nx-own: kept\r\nkeep-alive: timeout=5\r\n",
            "an answer",
        )
    })
    .await;
    let client = Client::granted(
        &server,
        "headers = { Authorization = \"Bearer the-granted-token\" }",
    )
    .await;
    let at = format!("LocalHost.:{}", server.port);
    let asked = with(
        request("POST", "http", &at, "/qc/hook?a=b"),
        json!({
            "headers": [["authorization", "mine"], ["Authorization", "mine too"], ["x-mine", "1"]],
            "body": 10_000,
        }),
    );
    let report = client.fetch(asked).await;
    assert_eq!(report["error"], Value::Null, "{report}");
    assert_eq!(report["status"], 201);
    assert_eq!(report["body"], "an answer");
    let headers = report["headers"].to_string();
    assert!(headers.contains("[\"x-echo\",\"[redacted]\"]"), "{headers}");
    assert!(headers.contains("[\"x-own\",\"kept\"]"), "{headers}");
    assert!(!headers.contains("keep-alive"), "{headers}");

    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line(), "POST /qc/hook?a=b HTTP/1.1");
    assert_eq!(
        seen[0].header("host"),
        [format!("localhost:{}", server.port)]
    );
    assert_eq!(
        seen[0].header("authorization"),
        ["Bearer the-granted-token"]
    );
    assert_eq!(seen[0].header("x-mine"), ["1"]);
    assert!(seen[0].body >= 10_000);

    for name in ["host", "connection", "transfer-encoding", "te", "expect"] {
        let asked = with(
            request("GET", "http", &at, "/qc/"),
            json!({ "headers": [[name, "x"]] }),
        );
        let report = client.fetch(asked).await;
        assert!(error(&report).contains("Forbidden"), "{name}: {report}");
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn nothing_of_what_is_not_granted_arrives_or_is_looked_up() {
    let server = Server::start(|_| Reply::ok("hello")).await;
    let client = Client::granted(&server, "").await;
    let port = server.port;
    let here = format!("localhost:{port}");
    for path in ["/qc/", "/qc/x", "/qc/x%2Fy", "/qc/..x", "/qc/?a=/../b"] {
        let report = client.get(&here, path).await;
        assert_eq!(report["status"], 200, "{path}: {report}");
    }
    let arrived = server.seen().len();
    assert_eq!(arrived, 5);

    const DENIED: &str = "HttpRequestDenied";
    const INVALID: &str = "HttpRequestUriInvalid";
    for (method, scheme, authority, path, expected) in [
        ("GET", "http", here.as_str(), "/", DENIED),
        ("GET", "http", &here, "/qc", DENIED),
        ("GET", "http", &here, "/QC/", DENIED),
        ("GET", "http", &here, "/qcx/", DENIED),
        ("GET", "http", &here, "/admin?/qc/", DENIED),
        ("GET", "http", &here, "/%71c/", DENIED),
        ("GET", "http", &here, "//qc/", DENIED),
        ("GET", "http", &here, "/qc%2Fx", DENIED),
        ("DELETE", "http", &here, "/qc/", DENIED),
        ("get", "http", &here, "/qc/", DENIED),
        ("GET", "https", &here, "/qc/", DENIED),
        ("GET", "http", "localhost", "/qc/", DENIED),
        (
            "GET",
            "http",
            &format!("localhost:{}", port ^ 1),
            "/qc/",
            DENIED,
        ),
        ("GET", "http", &format!("127.0.0.1:{port}"), "/qc/", DENIED),
        (
            "GET",
            "http",
            &format!("localhost.evil.example:{port}"),
            "/qc/",
            DENIED,
        ),
        // No resolver knows this name: had it been looked up, the error would be another one.
        ("GET", "http", "no-such-name.invalid", "/qc/", DENIED),
        ("GET", "http", &here, "/qc/../admin", INVALID),
        ("GET", "http", &here, "/qc/%2e%2e/admin", INVALID),
        ("GET", "http", &here, "/qc/..%2fadmin", INVALID),
        ("GET", "http", &here, "/qc/%252e%252e/admin", INVALID),
        ("GET", "http", &here, "/qc/..;/admin", INVALID),
        ("GET", "http", &here, "/qc/..%5cadmin", INVALID),
        (
            "GET",
            "http",
            &format!("user@localhost:{port}"),
            "/qc/",
            INVALID,
        ),
        (
            "GET",
            "http",
            &format!("localhost:{port}@evil.example"),
            "/qc/",
            INVALID,
        ),
        ("CONNECT", "http", &here, "/qc/", "HttpRequestMethodInvalid"),
        ("TRACE", "http", &here, "/qc/", "HttpRequestMethodInvalid"),
        ("GET", "ftp", &here, "/qc/", "HttpProtocolError"),
    ] {
        let report = client.fetch(request(method, scheme, authority, path)).await;
        assert!(
            error(&report).contains(expected),
            "{method} {scheme}://{authority}{path}: {report}"
        );
    }
    assert_eq!(server.seen().len(), arrived);
    assert_eq!(server.accepted(), arrived);
}

#[tokio::test]
async fn a_granted_name_that_does_not_resolve_is_looked_up() {
    let client = Client::new("[[http]]\nallow = \"http://no-such-name.invalid/\"").await;
    let report = client.get("no-such-name.invalid", "/").await;
    assert!(
        error(&report).contains("DnsError") || error(&report).contains("DestinationNotFound"),
        "{report}"
    );
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_granted_by_address() {
    let server = Server::start(|_| Reply::ok("hello")).await;
    let port = server.port;
    for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"] {
        for addresses in ["", "addresses = [\"127.0.0.2\", \"10.0.0.1\"]"] {
            let allow = format!("[[http]]\nallow = \"http://{host}:{port}/\"\n{addresses}");
            let client = Client::new(&allow).await;
            let report = client.get(&format!("{host}:{port}"), "/").await;
            assert!(
                error(&report).contains("DestinationIpProhibited"),
                "{host}: {report}"
            );
        }
    }
    assert_eq!(server.accepted(), 0);

    let allow =
        format!("[[http]]\nallow = \"http://127.0.0.1:{port}/\"\naddresses = [\"127.0.0.1\"]");
    let client = Client::new(&allow).await;
    // Another spelling of the same address is the same address.
    for host in ["127.0.0.1", "2130706433", "0x7f.1"] {
        let report = client.get(&format!("{host}:{port}"), "/").await;
        assert_eq!(report["status"], 200, "{host}: {report}");
    }
}

#[tokio::test]
async fn each_redirect_is_a_decision() {
    let hidden = Server::start(|_| Reply::ok("the hidden server")).await;
    let port = hidden.port;
    let server = Server::start(move |seen| match seen.path() {
        "/qc/within" => Reply::of(
            "302 Found",
            &format!("location: http://{}/qc/end\r\n", seen.header("host")[0]),
            "",
        ),
        "/qc/above" => Reply::of(
            "302 Found",
            &format!("location: http://{}/admin\r\n", seen.header("host")[0]),
            "",
        ),
        "/qc/private" => Reply::of(
            "302 Found",
            &format!("location: http://127.0.0.1:{port}/\r\n"),
            "",
        ),
        "/qc/metadata" => Reply::of(
            "307 Temporary Redirect",
            "location: http://169.254.169.254/latest/meta-data/\r\n",
            "",
        ),
        _ => Reply::ok("the end"),
    })
    .await;
    let client = Client::granted(&server, "").await;
    let here = format!("localhost:{}", server.port);
    let follow = |path: &str| {
        with(
            request("GET", "http", &here, path),
            json!({ "redirects": 3 }),
        )
    };

    let report = client.fetch(follow("/qc/within")).await;
    assert_eq!(report["body"], "the end", "{report}");
    for path in ["/qc/above", "/qc/private", "/qc/metadata"] {
        let report = client.fetch(follow(path)).await;
        assert!(
            error(&report).contains("HttpRequestDenied"),
            "{path}: {report}"
        );
    }
    let paths: Vec<_> = server
        .seen()
        .iter()
        .map(|it| it.path().to_owned())
        .collect();
    assert_eq!(
        paths,
        [
            "/qc/within",
            "/qc/end",
            "/qc/above",
            "/qc/private",
            "/qc/metadata"
        ]
    );
    assert_eq!(hidden.accepted(), 0);

    // A grant of the name does not grant the address.
    let both = format!(
        "{}[[http]]\nallow = \"http://127.0.0.1:{port}/\"\n",
        grant(&server, "")
    );
    let client = Client::new(&both).await;
    let report = client.fetch(follow("/qc/private")).await;
    assert!(
        error(&report).contains("DestinationIpProhibited"),
        "{report}"
    );
    assert_eq!(hidden.accepted(), 0);
}

#[tokio::test]
async fn a_component_with_http_needs_an_http_grant() {
    let host = Host::new(&uncalled()).await;
    let refused = host
        .load("http-client", &component(), "")
        .await
        .unwrap_err();
    assert!(matches!(refused, LoadError::HttpDenied { .. }), "{refused}");
    let text = refused.to_string();
    let lines = text.split_once(":\n").unwrap().1;
    let plugin = host.load("http-client", &component(), lines).await.unwrap();
    assert_eq!(plugin.manifest().http.len(), 1);
}

#[tokio::test]
async fn what_is_granted_is_read_at_every_request() {
    let server = Server::start(|_| Reply::ok("hello")).await;
    let here = format!("localhost:{}", server.port);
    let client = Client::granted(&server, "").await;
    assert_eq!(client.get(&here, "/qc/").await["status"], 200);
    let narrower = grant(&server, "").replace("/qc/", "/other/");
    let manifest = manifest(client.host.home.path(), "http-client", &narrower);
    client.host.gate.policies.install(manifest).unwrap();
    let report = client.get(&here, "/qc/").await;
    assert!(error(&report).contains("HttpRequestDenied"), "{report}");
    assert_eq!(server.accepted(), 1);
}
