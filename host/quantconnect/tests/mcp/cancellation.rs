//! Calls whose client stops waiting: a read ends, a write does not.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest};
use rmcp::service::PeerRequestOptions;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::fake::Fake;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A REST API that answers each request when it gets a permit, and tells whether the client was
/// still there.
struct Slow {
    url: String,
    arrived: Arc<Semaphore>,
    permits: Arc<Semaphore>,
    answered: Arc<Semaphore>,
    hung_up: Arc<Semaphore>,
}

impl Slow {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v2", listener.local_addr().unwrap());
        let [arrived, permits, answered, hung_up] =
            std::array::from_fn(|_| Arc::new(Semaphore::new(0)));
        let slow = Self {
            url,
            arrived: arrived.clone(),
            permits: permits.clone(),
            answered: answered.clone(),
            hung_up: hung_up.clone(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (arrived, permits) = (arrived.clone(), permits.clone());
                let (answered, hung_up) = (answered.clone(), hung_up.clone());
                tokio::spawn(async move {
                    if serve(stream, &arrived, &permits).await {
                        answered.add_permits(1);
                    } else {
                        hung_up.add_permits(1);
                    }
                });
            }
        });
        slow
    }
}

/// Serves one request; `false` if the client hung up first.
async fn serve(mut stream: TcpStream, arrived: &Semaphore, permits: &Semaphore) -> bool {
    let mut request = [0; 8192];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    arrived.add_permits(1);
    let mut rest = [0; 1];
    let permit = tokio::select! {
        permit = permits.acquire() => permit.unwrap(),
        _ = stream.read(&mut rest) => return false,
    };
    permit.forget();
    let body = r#"{"success":true}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.is_ok()
}

async fn wait(semaphore: &Semaphore) {
    timeout(PATIENCE, semaphore.acquire())
        .await
        .expect("in time")
        .unwrap()
        .forget();
}

/// Sends a call and cancels it once it has arrived at the REST API.
async fn cancel(connection: &Connection, slow: &Slow, tool: &'static str, arguments: Value) {
    let arguments = arguments.as_object().unwrap().clone();
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(
        CallToolRequestParams::new(tool).with_arguments(arguments),
    ));
    let handle = connection
        .client
        .send_cancellable_request(request, PeerRequestOptions::no_options())
        .await
        .unwrap();
    wait(&slow.arrived).await;
    handle
        .cancel(Some("changed my mind".to_owned()))
        .await
        .unwrap();
    // Notifications and requests come in order: once this is answered, the server knows.
    connection.client.list_all_tools().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_read_hangs_up() {
    let slow = Slow::start().await;
    let connection = Connection::to(&slow.url).await;
    cancel(&connection, &slow, "read_account", json!({})).await;
    wait(&slow.hung_up).await;
}

#[tokio::test]
async fn a_cancelled_write_is_seen_through() {
    let slow = Slow::start().await;
    let connection = Connection::to(&slow.url).await;
    cancel(
        &connection,
        &slow,
        "create_compile",
        json!({ "projectId": 7 }),
    )
    .await;
    slow.permits.add_permits(1);
    wait(&slow.answered).await;
    assert_eq!(slow.hung_up.available_permits(), 0);
}

#[tokio::test]
async fn a_server_whose_client_left_ends_after_its_writes() {
    let slow = Slow::start().await;
    let Connection { client, server } = Connection::to(&slow.url).await;
    let peer = client.peer().clone();
    let call = tokio::spawn(async move {
        let arguments = json!({ "projectId": 7 }).as_object().unwrap().clone();
        peer.call_tool(CallToolRequestParams::new("create_compile").with_arguments(arguments))
            .await
    });
    wait(&slow.arrived).await;
    client.cancel().await.unwrap();
    assert!(call.await.unwrap().is_err(), "the client gave up");
    assert!(!server.is_finished(), "a write is still under way");
    slow.permits.add_permits(1);
    wait(&slow.answered).await;
    timeout(PATIENCE, server).await.expect("in time").unwrap();
}

#[tokio::test]
async fn calls_run_side_by_side() {
    let slow = Slow::start().await;
    let connection = Connection::to(&slow.url).await;
    let calls = futures::future::join_all((0..32).map(|project| {
        let tool = if project % 2 == 0 {
            "create_compile"
        } else {
            "read_file"
        };
        connection.call(tool, json!({ "projectId": project }))
    }));
    let all_arrived = async {
        for _ in 0..32 {
            wait(&slow.arrived).await;
        }
        slow.permits.add_permits(32);
    };
    let (answers, ()) = futures::future::join(calls, all_arrived).await;
    assert!(answers.iter().all(|(is_error, _)| !is_error));
}

#[tokio::test]
async fn two_hundred_calls_at_once_are_all_answered() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    let all =
        futures::future::join_all((0..200).map(|_| connection.call("read_account", json!({}))));
    let answers = timeout(PATIENCE, all).await.expect("in time");
    assert_eq!(answers.len(), 200);
    assert!(answers.iter().all(|(is_error, _)| !is_error));
}
