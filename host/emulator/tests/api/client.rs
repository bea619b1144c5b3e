//! A client of the cloud, and the steps that many tests begin with.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use qchost_emulator::{Builder, Emulator, Timing};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::engine::Tiny;

/// How long a test waits for something that has to come.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Cloud {
    pub emulator: Emulator,
    pub http: reqwest::Client,
}

/// Long enough that a state which passes is seen on a busy machine as well.
pub fn visible() -> Timing {
    let second = Duration::from_secs(1);
    Timing {
        compile: second,
        backtest_queue: second,
        backtest: second,
        optimization_queue: second,
        optimization_backtest: second,
        live_login: second,
        live_initialize: second,
        ..quick()
    }
}

/// For tests that only wait for the end.
pub fn quick() -> Timing {
    Timing {
        compile: Duration::from_millis(60),
        backtest_queue: Duration::from_millis(60),
        backtest: Duration::from_millis(120),
        optimization_queue: Duration::from_millis(60),
        optimization_backtest: Duration::from_millis(60),
        live_login: Duration::from_millis(80),
        live_initialize: Duration::from_millis(80),
        live_day: Duration::from_millis(100),
        object_download: Duration::from_millis(60),
    }
}

pub async fn cloud() -> Cloud {
    start(|builder| builder).await
}

/// A cloud in which every state can be seen.
pub async fn slow_cloud() -> Cloud {
    start(|builder| builder.timing(visible())).await
}

pub async fn start(settings: impl FnOnce(Builder) -> Builder) -> Cloud {
    let builder = Emulator::builder()
        .any_port()
        .engine(Tiny)
        .timing(quick())
        .derived_data(true);
    let emulator = settings(builder).start().await.unwrap();
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .unwrap();
    Cloud { emulator, http }
}

/// `Authorization` and `Timestamp` for a user at a time.
pub fn credentials(user: u64, token: &str, timestamp: &str) -> [(&'static str, String); 2] {
    let digest = Sha256::digest(format!("{token}:{timestamp}"));
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let pair = BASE64_STANDARD.encode(format!("{user}:{hash}"));
    [
        ("Authorization", format!("Basic {pair}")),
        ("Timestamp", timestamp.to_owned()),
    ]
}

pub fn now() -> String {
    jiff::Timestamp::now().as_second().to_string()
}

impl Cloud {
    /// An authenticated request to an endpoint.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.emulator.base_url());
        let mut request = self.http.request(method, url);
        let user = self.emulator.user_id();
        for (name, value) in credentials(user, self.emulator.token(), &now()) {
            request = request.header(name, value);
        }
        request
    }

    pub async fn send(&self, path: &str, body: &Value) -> Response {
        let request = self.request(Method::POST, path).json(body);
        request.send().await.unwrap()
    }

    /// What an address gives to a browser, which has no credentials.
    pub async fn open(&self, url: &str) -> Response {
        self.http.get(url).send().await.unwrap()
    }

    /// The answer, whether a success or a refusal; always HTTP 200.
    pub async fn answer(&self, path: &str, body: Value) -> Value {
        let response = self.send(path, &body).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// The answer, which has to be a success.
    pub async fn ok(&self, path: &str, body: Value) -> Value {
        let answer = self.answer(path, body).await;
        assert_eq!(answer["success"], true, "{path}: {answer}");
        answer
    }

    /// The errors of the answer, which has to be a refusal.
    pub async fn refused(&self, path: &str, body: Value) -> String {
        let answer = self.answer(path, body).await;
        assert_eq!(answer["success"], false, "{path}: {answer}");
        let errors = answer["errors"].as_array().unwrap();
        assert!(!errors.is_empty(), "{path}: {answer}");
        errors[0].as_str().unwrap().to_owned()
    }

    /// Asks again until the answer is as wanted.
    pub async fn until(
        &self,
        path: &str,
        body: Value,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        let start = Instant::now();
        loop {
            let answer = self.ok(path, body.clone()).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "{path} stays {answer}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A project whose code file has this content; its id.
    pub async fn project(&self, content: &str) -> u64 {
        let body = json!({"name": "Lab", "language": "Py"});
        let project = self.ok("/projects/create", body).await;
        let id = project["projects"][0]["projectId"].as_u64().unwrap();
        let body = json!({"projectId": id, "name": "main.py", "content": content});
        self.ok("/files/update", body).await;
        id
    }

    /// A successful compile of a project; its id.
    pub async fn built(&self, project: u64) -> String {
        let body = json!({"projectId": project});
        let created = self.ok("/compile/create", body).await;
        let id = created["compileId"].as_str().unwrap().to_owned();
        let body = json!({"projectId": project, "compileId": id});
        let done = self
            .until("/compile/read", body, |answer| answer["state"] != "InQueue")
            .await;
        assert_eq!(done["state"], "BuildSuccess", "{done}");
        id
    }

    /// A backtest that was just created; its id.
    pub async fn backtest(&self, project: u64, compile: &str) -> String {
        let body = json!({"projectId": project, "compileId": compile, "backtestName": "Run"});
        let created = self.ok("/backtests/create", body).await;
        created["backtest"]["backtestId"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A backtest when it has a result.
    pub async fn result(&self, project: u64, backtest: &str) -> Value {
        let body = json!({"projectId": project, "backtestId": backtest});
        let read = self
            .until("/backtests/read", body, |it| {
                it["backtest"]["completed"] == true
            })
            .await;
        read["backtest"].clone()
    }

    /// A project with a live deployment that runs: project id and deploy id.
    pub async fn deployed(&self, brokerage: Value) -> (u64, String) {
        let project = self.project("code").await;
        let compile = self.built(project).await;
        let body = self.deployment(project, &compile, brokerage).await;
        let created = self.ok("/live/create", body).await;
        let body = json!({"projectId": project});
        self.until("/live/read", body, |answer| answer["status"] == "Running")
            .await;
        (project, created["deployId"].as_str().unwrap().to_owned())
    }

    /// The body of a deployment on an idle node.
    pub async fn deployment(&self, project: u64, compile: &str, brokerage: Value) -> Value {
        let nodes = self
            .ok("/projects/nodes/read", json!({"projectId": project}))
            .await;
        let nodes = nodes["nodes"]["live"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["busy"] == false).unwrap();
        json!({
            "versionId": "-1",
            "projectId": project,
            "compileId": compile,
            "nodeId": node["id"],
            "brokerage": brokerage,
            "dataProviders": {"QuantConnectBrokerage": {"id": "QuantConnectBrokerage"}},
        })
    }
}
