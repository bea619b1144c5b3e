//! Tools that take more than one request: what is sent, in which order, and what is not sent after a refusal.

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::fake::{Fake, Seen, reply};

const CONTENT: &str = "one = 1\ntwo = 2\n";

/// Answers as a project with one file does, except that requests to `refused` are refused.
async fn project(refused: &'static str) -> Fake {
    Fake::start(move |seen| answer(seen, refused)).await
}

fn answer(seen: &Seen, refused: &str) -> Response<Body> {
    let body = match seen.path.strip_prefix("/api/v2").unwrap() {
        path if path == refused => json!({ "success": false, "errors": ["It is refused"] }),
        "/files/read" => {
            let file = json!({ "name": "main.py", "content": CONTENT });
            json!({ "success": true, "files": [file] })
        }
        _ => json!({ "success": true }),
    };
    reply(200, &[], body.to_string())
}

fn paths(fake: &Fake) -> Vec<String> {
    let seen = fake.seen();
    let paths = seen.iter().map(|seen| seen.path.strip_prefix("/api/v2"));
    paths.map(|path| path.unwrap().to_owned()).collect()
}

fn edit(old: &str) -> Value {
    json!({ "projectId": 7, "name": "main.py", "oldString": old, "newString": "two = 22" })
}

const LOCK: &str = "/projects/collaboration/lock/acquire";

#[tokio::test]
async fn an_edit_holds_the_lock_while_it_reads_checks_and_writes() {
    let fake = project("").await;
    let connection = Connection::to(&fake.url).await;
    let (is_error, text) = connection.call("edit_file", edit("two = 2")).await;
    assert!(!is_error, "{text}");
    assert_eq!(paths(&fake), [LOCK, "/files/read", "/files/update"]);
    let seen = fake.seen();
    let sources: Vec<Value> = seen
        .iter()
        .map(|seen| seen.json()["codeSourceId"].clone())
        .collect();
    assert!(
        sources.iter().all(|source| *source == sources[0]),
        "{sources:?}"
    );
    assert_eq!(seen[2].json()["content"], "one = 1\ntwo = 22\n");

    // Another edit has another name, so that it takes the lock from the first one.
    connection.call("edit_file", edit("one = 1")).await;
    assert_ne!(fake.seen()[3].json()["codeSourceId"], sources[0]);
}

#[tokio::test]
async fn what_does_not_occur_exactly_once_is_not_edited() {
    for (old, sent) in [(" = ", 2), ("three", 2), ("", 0), ("two = 22", 0)] {
        let fake = project("").await;
        let connection = Connection::to(&fake.url).await;
        connection.fails("edit_file", edit(old)).await;
        assert_eq!(fake.seen().len(), sent, "{old:?}");
        assert!(
            !paths(&fake).iter().any(|path| path == "/files/update"),
            "{old:?}"
        );
    }
}

#[tokio::test]
async fn after_a_refusal_nothing_more_is_sent() {
    for (refused, sent) in [
        (LOCK, vec![LOCK]),
        ("/files/read", vec![LOCK, "/files/read"]),
        ("/files/update", vec![LOCK, "/files/read", "/files/update"]),
    ] {
        let fake = project(refused).await;
        let connection = Connection::to(&fake.url).await;
        let body = connection.fails("edit_file", edit("two = 2")).await;
        assert_eq!(body["errors"][0], "It is refused");
        assert_eq!(paths(&fake), sent, "{refused}");
    }
}

#[tokio::test]
async fn a_file_is_replaced_if_there_is_one_and_created_if_not() {
    for (name, write) in [("main.py", "/files/update"), ("new.py", "/files/create")] {
        let fake = project("").await;
        let connection = Connection::to(&fake.url).await;
        let arguments = json!({ "projectId": 7, "name": name, "content": "a = 1\n" });
        let (is_error, text) = connection.call("write_file", arguments.clone()).await;
        assert!(!is_error, "{text}");
        assert_eq!(paths(&fake), ["/files/read", write]);
        assert_eq!(fake.seen()[1].json(), arguments);
    }
}

#[tokio::test]
async fn settings_and_files_of_a_project_go_out_as_a_form() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    let configure =
        json!({ "projectId": 7, "parameters": { "fast & slow": "5=6" }, "versionId": -1 });
    connection.call("configure_project", configure).await;
    let file = json!({ "name": "main.py", "content": "a = '&'\n" });
    let replace = json!({ "projectId": 7, "files": [file] });
    connection.call("replace_project_files", replace).await;
    let seen = fake.seen();
    for seen in &seen {
        assert_eq!(seen.path, "/api/v2/projects/update");
        let form = "application/x-www-form-urlencoded";
        assert_eq!(seen.header("content-type"), form);
    }
    let text = |at: usize| String::from_utf8(seen[at].body.to_vec()).unwrap();
    assert_eq!(
        text(0),
        "projectId=7&parameters%5B0%5D%5Bkey%5D=fast+%26+slow&parameters%5B0%5D%5Bvalue%5D=5%3D6&versionId=-1"
    );
    assert_eq!(
        text(1),
        "projectId=7&files%5B0%5D%5Bname%5D=main.py&files%5B0%5D%5Bcontent%5D=a+%3D+%27%26%27%0A"
    );
}

#[tokio::test]
async fn a_search_and_a_range_that_make_no_sense_are_refused_unsent() {
    let fake = Fake::content().await;
    let connection = Connection::to(&fake.url).await;
    for query in ["", "a\nb"] {
        let arguments = json!({ "projectId": 7, "query": query });
        connection.fails("search_file_content", arguments).await;
    }
    for (start, end) in [(3, 3), (3, 2), (0, 101)] {
        let arguments = json!({ "start": start, "end": end });
        connection.fails("find_projects", arguments).await;
    }
    assert!(fake.seen().is_empty());
    // An answer without the list that was asked for is no empty list.
    let body = connection.fails("find_projects", json!({})).await;
    assert_eq!(body["failure"]["kind"], "unexpected-response");
}
