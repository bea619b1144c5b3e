//! The AI tools.

use serde_json::{Value, json};

use crate::client::cloud;

fn files(content: &str) -> Value {
    json!({"language": "Py", "files": [{"name": "main.py", "content": content}]})
}

#[tokio::test]
async fn syntax_is_really_checked() {
    let cloud = cloud().await;
    let good = cloud.ok("/ai/tools/syntax-check", files("fine")).await;
    assert_eq!(good["state"], "End");
    assert_eq!(good["payload"], json!([]));
    let bad = cloud
        .ok("/ai/tools/syntax-check", files("fine\nSYNTAX ERROR"))
        .await;
    assert_eq!(bad["state"], "Error");
    assert_eq!(bad["payload"], json!(["main.py:2:1: invalid syntax"]));
}

#[tokio::test]
async fn initialisation_is_really_run() {
    let cloud = cloud().await;
    let path = "/ai/tools/backtest-init";
    assert_eq!(cloud.ok(path, files("fine")).await["state"], "End");
    assert_eq!(cloud.ok(path, files("FAIL LATER")).await["state"], "End");
    let failed = cloud.ok(path, files("FAIL IN INITIALIZE")).await;
    assert_eq!(failed["state"], "Error");
    assert!(
        failed["payload"]
            .as_str()
            .unwrap()
            .contains("division by zero")
    );
    assert_eq!(
        cloud.ok(path, files("SYNTAX ERROR")).await["state"],
        "Error"
    );
    let broken = cloud.refused(path, files("PANIC ON RUN")).await;
    assert!(broken.contains("engine"), "{broken}");
}

#[tokio::test]
async fn code_is_completed_and_converted() {
    let cloud = cloud().await;
    let body = json!({"language": "Py", "sentence": "self.add_e", "responseSizeLimit": 1});
    let completed = cloud.ok("/ai/tools/complete", body).await;
    assert_eq!(completed["payload"], json!(["self.add_equity"]));
    let body = json!({"files": [{"name": "a.py", "content": "self.AddEquity('SPY')"}]});
    let converted = cloud.ok("/ai/tools/pep8-convert", body).await;
    assert_eq!(
        converted["payload"],
        json!({"a.py": "self.add_equity('SPY')"})
    );
}

#[tokio::test]
async fn errors_and_questions_are_answered_the_same_each_time() {
    let cloud = cloud().await;
    let body = json!({
        "language": "Py",
        "error": {"message": "'A' object has no attribute 'b'", "stacktrace": "…"},
    });
    let advice = cloud.ok("/ai/tools/error-enhance", body.clone()).await;
    assert!(advice["payload"].as_str().unwrap().contains("spelling"));
    assert_eq!(cloud.ok("/ai/tools/error-enhance", body).await, advice);
    let criteria = json!([
        {"input": "alpha model", "type": "Examples", "count": 3},
        {"input": "orders", "type": "Docs", "count": 1},
    ]);
    let body = json!({"language": "C#", "criteria": criteria});
    let found = cloud.ok("/ai/tools/search", body).await;
    assert_eq!(found["retrivals"].as_array().unwrap().len(), 4);
    assert_eq!(found["retrivals"][3]["type"], 2);
}

#[tokio::test]
async fn bad_questions_are_refused() {
    let cloud = cloud().await;
    for path in ["syntax-check", "backtest-init", "pep8-convert"] {
        for files in [
            json!(null),
            json!([]),
            json!("main.py"),
            json!([{"name": "a.py"}]),
        ] {
            let body = json!({"language": "Py", "files": files});
            cloud.refused(&format!("/ai/tools/{path}"), body).await;
        }
    }
    for body in [
        json!({"language": "Py"}),
        json!({"language": "R", "sentence": "x"}),
        json!({"language": "Py", "sentence": " "}),
        json!({"language": "Py", "sentence": "x", "responseSizeLimit": 0}),
    ] {
        cloud.refused("/ai/tools/complete", body).await;
    }
    for error in [json!(null), json!("text"), json!({}), json!({"message": 7})] {
        let body = json!({"language": "Py", "error": error});
        cloud.refused("/ai/tools/error-enhance", body).await;
    }
    for criteria in [
        json!([]),
        json!([{"input": "x", "type": "Books", "count": 1}]),
        json!([{"input": "x", "type": "Docs", "count": 0}]),
        json!([{"type": "Docs", "count": 1}]),
    ] {
        let body = json!({"language": "Py", "criteria": criteria});
        cloud.refused("/ai/tools/search", body).await;
    }
}
