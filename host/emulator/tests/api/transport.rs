//! Authentication, encodings, and requests that make no sense at all.

use std::collections::BTreeSet;
use std::time::Duration;

use qchost_emulator::{Emulator, StartError};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Cloud, cloud, credentials, now, start};

#[test]
fn every_operation_of_the_catalog_is_served() {
    for operation in qchost_catalog::OPERATIONS {
        // Two operations are answered by the MCP server itself.
        if !operation.endpoint.is_empty() {
            let served = Emulator::endpoints().any(|path| path == operation.endpoint);
            assert!(served, "{} at {}", operation.name, operation.endpoint);
        }
    }
}

#[test]
fn every_tool_of_the_remote_server_that_the_catalog_knows_is_served() {
    let operations = qchost_catalog::OPERATIONS.iter();
    let by_tool = operations.filter_map(|operation| match operation.remote {
        qchost_catalog::Remote::Tool(tool) => Some(tool.name),
        _ => None,
    });
    let listed = qchost_catalog::NOT_BY_REMOTE.iter().map(|(tool, _)| *tool);
    let known: BTreeSet<&str> = by_tool.chain(listed).collect();
    assert_eq!(Emulator::remote_tools().collect::<BTreeSet<_>>(), known);
}

async fn authenticate(cloud: &Cloud, headers: &[(&'static str, String)]) -> Value {
    let url = format!("{}/authenticate", cloud.emulator.base_url());
    let mut request = cloud.http.get(url);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

#[tokio::test]
async fn authentication_is_checked_as_the_cloud_does() {
    let cloud = start(|builder| builder.credentials(42, "word")).await;
    let accepted = authenticate(&cloud, &credentials(42, "word", &now())).await;
    assert_eq!(accepted, json!({"success": true, "errors": []}));
    let stale = (jiff::Timestamp::now().as_second() - 8_000).to_string();
    let [header, _] = credentials(42, "word", &now());
    for (headers, error) in [
        (
            credentials(42, "wrong", &now()).to_vec(),
            "Hash doesn't match.",
        ),
        (credentials(7, "word", &now()).to_vec(), "UserID not valid"),
        (
            credentials(42, "word", &stale).to_vec(),
            "Invalid timestamp, value received: ",
        ),
        (vec![header], "Invalid timestamp, value received: 0"),
        (vec![("Timestamp", now())], "UserID not valid"),
        (
            vec![
                ("Timestamp", now()),
                ("Authorization", "Basic ?".to_owned()),
            ],
            "UserID not valid",
        ),
        (Vec::new(), "Invalid timestamp, value received: 0"),
    ] {
        let answer = authenticate(&cloud, &headers).await;
        assert_eq!(answer["success"], false);
        let text = answer["errors"][0].as_str().unwrap();
        assert!(text.starts_with(error), "{text}");
    }
}

#[tokio::test]
async fn without_authentication_nothing_is_read_or_written() {
    let cloud = cloud().await;
    let project = cloud.project("code").await;
    for path in Emulator::endpoints() {
        let url = format!("{}{path}", cloud.emulator.base_url());
        let body = json!({"projectId": project, "name": "Stolen", "language": "Py"});
        let response = cloud.http.post(url).json(&body).send().await.unwrap();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["success"], false, "{path}");
    }
    let list = cloud.ok("/projects/read", json!({})).await;
    assert_eq!(list["projects"].as_array().unwrap().len(), 1);
    assert_eq!(list["projects"][0]["name"], "Lab");
}

#[tokio::test]
async fn reads_may_be_asked_by_get_with_a_query() {
    let cloud = cloud().await;
    let project = cloud.project("code").await;
    let path = format!("/files/read?projectId={project}&name=main.py");
    let response = cloud.request(Method::GET, &path).send().await.unwrap();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["files"][0]["content"], "code");
}

#[tokio::test]
async fn wrong_paths_and_methods_are_answered_in_json() {
    let cloud = cloud().await;
    let ask = async |method: Method, path: &str| -> (u16, Value) {
        let response = cloud.request(method, path).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    };
    for path in ["/nothing", "/projects", "/projects/read/more", "/%00", ""] {
        let (status, answer) = ask(Method::POST, path).await;
        assert_eq!(status, 404, "{path}");
        assert_eq!(answer["success"], false);
        assert!(
            answer["errors"][0]
                .as_str()
                .unwrap()
                .starts_with("Endpoint not found")
        );
    }
    for (method, path) in [
        (Method::GET, "/projects/create"),
        (Method::PUT, "/projects/read"),
        (Method::DELETE, "/projects/delete"),
        (Method::PATCH, "/files/patch"),
    ] {
        let (status, answer) = ask(method, path).await;
        assert_eq!(status, 405, "{path}");
        assert_eq!(answer["success"], false);
    }
    // Outside the base path.
    let url = format!("http://{}/projects/read", cloud.emulator.address());
    let response = cloud.http.post(url).send().await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn bodies_without_sense_are_refused() {
    let cloud = cloud().await;
    let send = async |kind: &str, body: Vec<u8>| -> (u16, Value) {
        let request = cloud
            .request(Method::POST, "/projects/read")
            .header("Content-Type", kind)
            .body(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    };
    let deep = "[".repeat(100_000);
    for body in [
        "{",
        "[]",
        "7",
        "\"text\"",
        "null",
        "{\"a\":}",
        "\u{1}",
        deep.as_str(),
    ] {
        let (status, answer) = send("application/json", body.as_bytes().to_vec()).await;
        assert_eq!(status, 200, "{body:.20}");
        assert_eq!(answer["success"], false, "{body:.20}");
    }
    let (_, answer) = send("application/json", vec![0xff, 0xfe]).await;
    assert_eq!(answer["success"], false);
    let (_, answer) = send("multipart/form-data; boundary=x", b"no parts".to_vec()).await;
    assert_eq!(answer["success"], false);
    let (_, answer) = send("multipart/form-data", b"no boundary".to_vec()).await;
    assert_eq!(answer["success"], false);
    let (_, answer) = send(
        "application/x-www-form-urlencoded",
        b"a[b][c][d][e]=1".to_vec(),
    )
    .await;
    assert_eq!(answer["success"], false);
    // No body at all asks for everything.
    let (_, answer) = send("application/json", Vec::new()).await;
    assert_eq!(answer["success"], true);
    let (status, answer) = send("application/json", vec![b' '; (64 << 20) + 1]).await;
    assert_eq!(status, 413);
    assert_eq!(answer["success"], false);
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let cloud = cloud().await;
    let address = cloud.emulator.address();
    let error = Emulator::builder()
        .address(address)
        .start()
        .await
        .unwrap_err();
    assert!(matches!(&error, StartError::Bind { address: named, .. } if *named == address));
    assert!(error.to_string().contains(&address.to_string()));
}

#[tokio::test]
async fn after_shutdown_no_request_is_answered() {
    let cloud = cloud().await;
    let id = cloud.project("code").await;
    let compile = cloud.built(id).await;
    cloud.backtest(id, &compile).await;
    let url = format!("{}/projects/read", cloud.emulator.base_url());
    cloud.emulator.shutdown().await;
    let error = cloud
        .http
        .get(url)
        .timeout(Duration::from_secs(5))
        .send()
        .await;
    assert!(error.is_err());
}

/// What is answered to bytes that are sent as they are; the connection stays open.
async fn raw(cloud: &Cloud, bytes: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(cloud.emulator.address())
        .await
        .unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let ended = async {
        while !String::from_utf8_lossy(&answer).contains('}') {
            let read = stream.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            answer.extend_from_slice(&buffer[..read]);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .expect("it is not answered");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn no_body_is_waited_for_before_authentication_nor_forever_after_it() {
    let cloud = start(|builder| builder.body_timeout(Duration::from_millis(200))).await;
    let head = "POST /api/v2/projects/create HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 60000000\r\n";
    let answer = raw(&cloud, &format!("{head}\r\n")).await;
    assert!(answer.contains("Invalid timestamp"), "{answer}");
    let [(_, basic), (_, time)] =
        credentials(cloud.emulator.user_id(), cloud.emulator.token(), &now());
    let answer = raw(
        &cloud,
        &format!("{head}Authorization: {basic}\r\nTimestamp: {time}\r\n\r\n{{\"na"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn it_answers_under_the_name_of_this_machine_only() {
    let cloud = cloud().await;
    let [(_, basic), (_, time)] =
        credentials(cloud.emulator.user_id(), cloud.emulator.token(), &now());
    for (host, served) in [
        ("127.0.0.1", true),
        ("127.0.0.1:5612", true),
        ("localhost:80", true),
        ("LOCALHOST", true),
        ("[::1]:5612", true),
        ("evil.example", false),
        ("localhost.evil.example", false),
        ("192.168.0.7", false),
        ("", false),
    ] {
        let request = format!(
            "GET /api/v2/projects/read HTTP/1.1\r\nHost: {host}\r\nAuthorization: {basic}\r\nTimestamp: {time}\r\n\r\n"
        );
        let answer = raw(&cloud, &request).await;
        assert_eq!(
            answer.starts_with("HTTP/1.1 200"),
            served,
            "{host}: {answer}"
        );
        assert_eq!(
            answer.starts_with("HTTP/1.1 421"),
            !served,
            "{host}: {answer}"
        );
    }
}
