//! The assistant's tools.

use serde_json::{Value, json};

use super::{Case, invalid, valid};
use crate::body::{Body as _, ensure};
use crate::setup::SOURCE;

/// Python with an unclosed parenthesis.
const BROKEN: &str = "class Broken:\n    def initialize(self:\n        pass\n";

fn files(content: &str) -> Value {
    json!([{ "name": "main.py", "content": content }])
}

pub fn cases() -> Vec<Case> {
    vec![
        valid("check_syntax", |b| {
            Box::pin(async move {
                let check = |content| json!({ "language": "Py", "files": files(content) });
                let good = b.call("check_syntax", check(SOURCE)).await?;
                good.equals("/state", "End")?;
                good.equals("/payload", json!([]))?;
                let broken = b.call("check_syntax", check(BROKEN)).await?;
                broken.equals("/state", "Error")?;
                let fault = broken.text("/payload/0")?;
                ensure!(fault.contains("main.py"), "which file? {fault}");
                Ok(())
            })
        }),
        invalid("check_syntax", |b| {
            Box::pin(async move {
                let good = json!({ "language": "Py", "files": files(SOURCE) });
                let bad = [
                    json!({ "language": "Cobol", "files": files(SOURCE) }),
                    json!({ "language": "Py", "files": [] }),
                ];
                b.rejects("check_syntax", good, &bad).await
            })
        }),
        valid("check_initialization_errors", |b| {
            Box::pin(async move {
                let tool = "check_initialization_errors";
                let check = |content| json!({ "language": "Py", "files": files(content) });
                let good = b.call(tool, check(SOURCE)).await?;
                good.equals("/state", "End")?;
                let broken = b.call(tool, check(BROKEN)).await?;
                broken.equals("/state", "Error")?;
                ensure!(
                    broken.text("/payload")?.contains("main.py"),
                    "which file? {broken}"
                );
                Ok(())
            })
        }),
        invalid("check_initialization_errors", |b| {
            Box::pin(async move {
                let good = json!({ "language": "Py", "files": files(SOURCE) });
                let bad = [
                    json!({ "language": "Cobol", "files": files(SOURCE) }),
                    json!({ "language": "Py", "files": [] }),
                ];
                b.rejects("check_initialization_errors", good, &bad).await
            })
        }),
        valid("complete_code", |b| {
            Box::pin(async move {
                let ask = |limit| json!({ "language": "Py", "sentence": "self.set_", "responseSizeLimit": limit });
                let body = b.call("complete_code", ask(10)).await?;
                body.equals("/state", "End")?;
                let found = body.list("/payload")?.len();
                ensure!(found > 1, "nothing to complete with: {body}");
                let body = b.call("complete_code", ask(1)).await?;
                ensure!(
                    body.list("/payload")?.len() == 1,
                    "the limit does not hold: {body}"
                );
                Ok(())
            })
        }),
        invalid("complete_code", |b| {
            Box::pin(async move {
                let good = json!({ "language": "Py", "sentence": "self.", "responseSizeLimit": 5 });
                let bad = [
                    json!({ "language": "Cobol", "sentence": "self." }),
                    json!({ "language": "Py", "sentence": "" }),
                    json!({ "language": "Py", "sentence": "self.", "responseSizeLimit": 0 }),
                ];
                b.rejects("complete_code", good, &bad).await
            })
        }),
        valid("enhance_error_message", |b| {
            Box::pin(async move {
                let error = json!({ "message": "ZeroDivisionError: division by zero", "stacktrace": "at main.py:3" });
                let ask = json!({ "language": "Py", "error": error });
                let body = b.call("enhance_error_message", ask).await?;
                body.equals("/state", "End")?;
                ensure!(body.text("/payload")?.len() > 20, "no advice: {body}");
                Ok(())
            })
        }),
        invalid("enhance_error_message", |b| {
            Box::pin(async move {
                let error = json!({ "message": "TypeError" });
                let good = json!({ "language": "Py", "error": error });
                let bad = [json!({ "language": "Cobol", "error": error })];
                b.rejects("enhance_error_message", good, &bad).await
            })
        }),
        valid("update_code_to_pep8", |b| {
            Box::pin(async move {
                let ask = json!({ "files": files("self.SetCash(1)  # SetCash(2)\n") });
                let body = b.call("update_code_to_pep8", ask).await?;
                body.equals("/state", "End")?;
                body.equals("/payload/main.py", "self.set_cash(1)  # SetCash(2)\n")
            })
        }),
        invalid("update_code_to_pep8", |b| {
            Box::pin(async move {
                let good = json!({ "files": files(SOURCE) });
                let bad = [
                    json!({ "files": [] }),
                    json!({ "files": [{ "name": "../main.py", "content": "" }] }),
                ];
                b.rejects("update_code_to_pep8", good, &bad).await
            })
        }),
        valid("search_quantconnect", |b| {
            Box::pin(async move {
                let ask = json!({
                    "language": "Py",
                    "criteria": [{ "input": "moving average indicator", "type": "Docs", "count": 2 }],
                });
                let body = b.call("search_quantconnect", ask).await?;
                body.equals("/state", "End")?;
                let found = body.list("/retrivals")?;
                ensure!((1..=2).contains(&found.len()), "{} results", found.len());
                for result in found {
                    // The answer says 2 for "Docs".
                    result.equals("/type", 2)?;
                    ensure!(!result.text("/content")?.is_empty(), "no content: {result}");
                }
                let best = body.number("/retrivals/0/score")?;
                ensure!(best > 0.0, "nothing fits: {body}");
                Ok(())
            })
        }),
        invalid("search_quantconnect", |b| {
            Box::pin(async move {
                let ask = |kind: &str, count: u32| {
                    let criteria = json!([{ "input": "sma", "type": kind, "count": count }]);
                    json!({ "language": "Py", "criteria": criteria })
                };
                let bad = [
                    ask("Rumours", 1),
                    ask("Docs", 0),
                    json!({ "language": "Py", "criteria": [] }),
                ];
                b.rejects("search_quantconnect", ask("Docs", 1), &bad).await
            })
        }),
    ]
}
