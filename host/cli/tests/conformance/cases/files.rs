//! The files of a project.

use serde_json::{Value, json};

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
        valid("write_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                for (name, content) in [("lib/new.py", "ß = 1\n"), ("main.py", "a = 3\n")] {
                    let file = json!({ "projectId": id, "name": name, "content": content });
                    b.call("write_file", file).await?;
                    ensure!(b.content(&id, name).await? == content, "another content");
                }
                Ok(())
            })
        }),
        invalid("write_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let write =
                    |name: &str| json!({ "projectId": id, "name": name, "content": "a = 1\n" });
                let bad = [
                    json!({ "projectId": UNKNOWN, "name": "a.py", "content": "a" }),
                    write("../a.py"),
                    write(""),
                    json!({ "projectId": id, "name": "main.py", "content": "" }),
                ];
                b.rejects("write_file", write("main.py"), &bad).await
            })
        }),
        valid("edit_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let content = "one = 1\ntwo = 2\n";
                let write = json!({ "projectId": id, "name": "main.py", "content": content });
                b.call("write_file", write).await?;
                let edit = json!({
                    "projectId": id, "name": "main.py", "oldString": "two = 2", "newString": "two = 22",
                });
                b.call("edit_file", edit).await?;
                let after = b.content(&id, "main.py").await?;
                ensure!(after == "one = 1\ntwo = 22\n", "edited to {after:?}");
                // The edit took the lock, so another environment has to take it back before it writes.
                let other = json!({
                    "projectId": id, "name": "main.py", "content": "a = 1\n", "codeSourceId": "other",
                });
                b.refused("update_file_contents", other).await.map(drop)
            })
        }),
        invalid("edit_file", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let content = "one = 1\none = 1\n";
                let write = json!({ "projectId": id, "name": "main.py", "content": content });
                b.call("write_file", write).await?;
                let edit = |name: &str, old: &str| json!({ "projectId": id, "name": name, "oldString": old, "newString": "x" });
                let bad = [
                    json!({ "projectId": UNKNOWN, "name": "main.py", "oldString": "one", "newString": "x" }),
                    edit("absent.py", "one"),
                    edit("main.py", "two"),
                    edit("main.py", "one = 1\n"),
                ];
                b.rejects("edit_file", edit("main.py", "1\none"), &bad)
                    .await?;
                let after = b.content(&id, "main.py").await?;
                ensure!(after == content, "changed to {after:?}");
                Ok(())
            })
        }),
        valid("search_file_content", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let content = "one = 1\ntwo = ONE\n";
                let write = json!({ "projectId": id, "name": "lib/a.py", "content": content });
                b.call("write_file", write).await?;
                let search = json!({ "projectId": id, "query": "One" });
                let body = b.call("search_file_content", search).await?;
                let file = body.find("/files", "name", "lib/a.py")?;
                ensure!(file.list("/matches")?.len() == 2, "two lines match: {file}");
                file.equals("/matches/1/line", 2)?;
                file.equals("/matches/1/text", "two = ONE")?;
                body.equals("/more", false)
            })
        }),
        invalid("search_file_content", |b| {
            Box::pin(async move {
                let id = b.project().await?;
                let search =
                    |project: &Value| json!({ "projectId": project, "query": "initialize" });
                let bad = [search(&json!(UNKNOWN))];
                b.rejects("search_file_content", search(&id), &bad).await
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
