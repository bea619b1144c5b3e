//! Compiles.

use serde_json::json;

use super::{Case, invalid, valid};
use crate::body::{Body as _, ensure};
use crate::setup::UNKNOWN;

pub fn cases() -> Vec<Case> {
    vec![
        valid("create_compile", |b| {
            Box::pin(async move {
                let project = b.algorithm().await?;
                let body = b
                    .call("create_compile", json!({ "projectId": project }))
                    .await?;
                body.equals("/state", "InQueue")?;
                body.equals("/projectId", project.clone())?;
                let file = body.find("/parameters", "file", "main.py")?;
                ensure!(
                    file.list("/parameters")?.len() == 2,
                    "fast and slow: {file}"
                );
                let compile = body.text("/compileId")?;
                let read = json!({ "projectId": project, "compileId": compile });
                b.call("read_compile", read)
                    .await?
                    .equals("/compileId", compile)
            })
        }),
        invalid("create_compile", |b| {
            Box::pin(async move {
                let project = b.algorithm().await?;
                let bad = [json!({ "projectId": UNKNOWN })];
                b.rejects("create_compile", json!({ "projectId": project }), &bad)
                    .await
            })
        }),
        valid("read_compile", |b| {
            Box::pin(async move {
                let project = b.algorithm().await?;
                let good = b.compile_of(&project).await?;
                good.equals("/state", "BuildSuccess")?;
                let broken =
                    json!({ "projectId": project, "name": "main.py", "content": "def f(:\n" });
                b.call("update_file_contents", broken).await?;
                let bad = b.compile_of(&project).await?;
                bad.equals("/state", "BuildError")?;
                let logs = bad.list("/logs")?;
                let told = logs
                    .iter()
                    .filter_map(|line| line.as_str())
                    .any(|line| line.contains("main.py"));
                ensure!(told, "the file is not named: {bad}");
                Ok(())
            })
        }),
        invalid("read_compile", |b| {
            Box::pin(async move {
                let (project, compile) = b.compiled().await?;
                let other = b.project_called("Other").await?;
                let bad = [
                    json!({ "projectId": UNKNOWN, "compileId": compile }),
                    json!({ "projectId": project, "compileId": "nothing" }),
                    json!({ "projectId": other.at("/projectId")?, "compileId": compile }),
                ];
                let good = json!({ "projectId": project, "compileId": compile });
                b.rejects("read_compile", good, &bad).await
            })
        }),
    ]
}
