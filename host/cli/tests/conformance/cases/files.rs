//! The files of a project.

use serde_json::json;

use super::{Case, invalid, valid};
use crate::body::{Body as _, ensure};
use crate::setup::UNKNOWN;

pub fn cases() -> Vec<Case> {
    vec![
        valid("create_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let file = json!({ "projectId": id, "name": "lib/é.py", "content": "ß = 1\n" });
                b.call("create_file", file).await?;
                ensure!(
                    b.content(&id, "lib/é.py").await? == "ß = 1\n",
                    "another content"
                );
                Ok(())
            })
        }),
        invalid("create_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let file =
                    |name: &str| json!({ "projectId": id, "name": name, "content": "a = 1\n" });
                let bad = [
                    json!({ "projectId": UNKNOWN, "name": "a.py", "content": "a" }),
                    file("main.py"),
                    file("../a.py"),
                    file(""),
                ];
                b.rejects("create_file", file("a.py"), &bad).await
            })
        }),
        valid("read_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let all = b.call("read_file", json!({ "projectId": id })).await?;
                all.find("/files", "name", "research.ipynb")?;
                let main = all.find("/files", "name", "main.py")?;
                main.equals("/projectId", id.clone())?;
                let one = b
                    .call("read_file", json!({ "projectId": id, "name": "main.py" }))
                    .await?;
                ensure!(one.list("/files")?.len() == 1, "one was asked for: {one}");
                one.equals("/files/0/content", main.at("/content")?.clone())
            })
        }),
        invalid("read_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let bad = [
                    json!({ "projectId": UNKNOWN }),
                    json!({ "projectId": id, "name": "absent.py" }),
                ];
                b.rejects(
                    "read_file",
                    json!({ "projectId": id, "name": "main.py" }),
                    &bad,
                )
                .await
            })
        }),
        valid("update_file_name", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let before = b.content(&id, "main.py").await?;
                let rename = json!({ "projectId": id, "name": "main.py", "newName": "core.py" });
                b.call("update_file_name", rename).await?;
                ensure!(
                    b.content(&id, "core.py").await? == before,
                    "another content"
                );
                b.refused("read_file", json!({ "projectId": id, "name": "main.py" }))
                    .await
                    .map(drop)
            })
        }),
        invalid("update_file_name", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let rename =
                    |from: &str, to: &str| json!({ "projectId": id, "name": from, "newName": to });
                let bad = [
                    json!({ "projectId": UNKNOWN, "name": "main.py", "newName": "a.py" }),
                    rename("absent.py", "a.py"),
                    rename("main.py", "research.ipynb"),
                    rename("main.py", "../a.py"),
                ];
                b.rejects("update_file_name", rename("main.py", "a.py"), &bad)
                    .await
            })
        }),
        valid("update_file_contents", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let change = json!({ "projectId": id, "name": "main.py", "content": "a = 2\n" });
                let body = b.call("update_file_contents", change).await?;
                body.equals("/files/0/name", "main.py")?;
                ensure!(
                    b.content(&id, "main.py").await? == "a = 2\n",
                    "another content"
                );
                Ok(())
            })
        }),
        invalid("update_file_contents", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let write =
                    |name: &str| json!({ "projectId": id, "name": name, "content": "a = 1\n" });
                let bad = [
                    json!({ "projectId": UNKNOWN, "name": "main.py", "content": "a" }),
                    write("absent.py"),
                ];
                b.rejects("update_file_contents", write("main.py"), &bad)
                    .await
            })
        }),
        valid("patch_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let content = "one = 1\ntwo = 2\nthree = 3\n";
                let write = json!({ "projectId": id, "name": "main.py", "content": content });
                b.call("update_file_contents", write).await?;
                let patch = "--- a/main.py\n+++ b/main.py\n@@ -1,3 +1,3 @@\n one = 1\n-two = 2\n+two = 22\n three = 3\n";
                b.call("patch_file", json!({ "projectId": id, "patch": patch }))
                    .await?;
                let after = b.content(&id, "main.py").await?;
                ensure!(
                    after == "one = 1\ntwo = 22\nthree = 3\n",
                    "patched to {after:?}"
                );
                Ok(())
            })
        }),
        invalid("patch_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let patch = |text: &str| json!({ "projectId": id, "patch": text });
                let absent = "--- a/absent.py\n+++ b/absent.py\n@@ -1 +1 @@\n-a\n+b\n";
                let other = "--- a/main.py\n+++ b/main.py\n@@ -1 +1 @@\n-no such line\n+b\n";
                let bad = [
                    json!({ "projectId": UNKNOWN, "patch": other }),
                    patch("no patch at all"),
                    patch(absent),
                    patch(other),
                ];
                b.rejects("patch_file", patch(other), &bad).await
            })
        }),
        valid("delete_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                b.call("delete_file", json!({ "projectId": id, "name": "main.py" }))
                    .await?;
                let all = b.call("read_file", json!({ "projectId": id })).await?;
                all.lacks("/files", "name", "main.py")?;
                all.find("/files", "name", "research.ipynb").map(drop)
            })
        }),
        invalid("delete_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let bad = [
                    json!({ "projectId": UNKNOWN, "name": "main.py" }),
                    json!({ "projectId": id, "name": "absent.py" }),
                ];
                b.rejects(
                    "delete_file",
                    json!({ "projectId": id, "name": "main.py" }),
                    &bad,
                )
                .await
            })
        }),
    ]
}
