//! `/ai/tools/…`: the tools that the cloud answers with a language model.
//!
//! Two of them really check: `syntax-check` parses the sources and `backtest-init` runs them
//! with the engine. The others answer from a small built-in [`corpus`] and by plain rules; the
//! same question always gets the same answer, and none of it is intelligent.

mod corpus;
mod pep8;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::answer::{Answer, Refusal, Reply};
use crate::arguments::Arguments;
use crate::compile::check;
use crate::engine::{Compilation, Job, Language, SourceFile};
use crate::limits;
use crate::project::{check_path, language_of};
use crate::router::Work;
use crate::state::Cloud;

/// The version that the cloud puts into these answers.
const VERSION: f64 = 2.0;

fn answer(state: &str, payload: Value, kind: &str) -> Answer {
    Reply::success(json!({
        "state": state,
        "version": VERSION,
        "payload": payload,
        "payloadType": kind,
    }))
}

/// `files`: names with contents.
fn files_of(arguments: &Arguments) -> Result<Vec<SourceFile>, Refusal> {
    let items = arguments.list("files")?;
    if items.is_empty() || items.len() > limits::FILES {
        return Err(Refusal::invalid("files", "from 1 to 500 files"));
    }
    items
        .iter()
        .map(|item| {
            let text = |field: &str| item.get(field).and_then(Value::as_str);
            let (Some(name), Some(content)) = (text("name"), text("content")) else {
                return Err(Refusal::invalid(
                    "files",
                    "a name and a content for each file",
                ));
            };
            check_path("files", name)?;
            crate::files::check_content(content)?;
            Ok(SourceFile {
                name: name.to_owned(),
                content: content.to_owned(),
            })
        })
        .collect()
}

fn error_lines(compilation: &Compilation) -> Vec<String> {
    compilation
        .errors
        .iter()
        .map(|it| format!("{}:{}:{}: {}", it.file, it.line, it.column, it.message))
        .collect()
}

pub(crate) fn syntax_check(cloud: Arc<Cloud>, arguments: Arguments) -> Work {
    Box::pin(async move {
        let language = language_of(&arguments)?;
        let (compilation, _) = check(&cloud, language, files_of(&arguments)?).await?;
        let errors = error_lines(&compilation);
        let state = if errors.is_empty() { "End" } else { "Error" };
        answer(state, json!(errors), "StringArray")
    })
}

/// Runs the algorithm; an error outside `initialize` is none of this tool's business.
pub(crate) fn backtest_init(cloud: Arc<Cloud>, arguments: Arguments) -> Work {
    Box::pin(async move {
        let language = language_of(&arguments)?;
        let (compilation, files) = check(&cloud, language, files_of(&arguments)?).await?;
        if !compilation.errors.is_empty() {
            let errors = error_lines(&compilation).join("\n");
            return answer("Error", json!(errors), "String");
        }
        let engine = Arc::clone(&cloud.engine);
        let job = Job {
            language,
            files,
            parameters: Default::default(),
        };
        let outcome = tokio::task::spawn_blocking(move || engine.run(&job))
            .await
            .map_err(|_| Refusal::because("The emulator's engine failed on these sources"))?;
        match outcome {
            Err(error) if error.in_initialize => {
                let text = format!("{}\n{}", error.message, error.stacktrace);
                answer("Error", json!(text.trim_end()), "String")
            }
            _ => answer(
                "End",
                json!("The algorithm initialized without errors."),
                "String",
            ),
        }
    })
}

/// Names of the API that begin as the last word of the sentence does.
pub(crate) fn complete(_: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let language = language_of(arguments)?;
    let sentence = arguments.filled_text("sentence")?;
    let limit = match arguments.optional_integer("responseSizeLimit")? {
        None => 10,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=100).contains(limit))
            .ok_or_else(|| Refusal::invalid("responseSizeLimit", "a number from 1 to 100"))?,
    };
    let mut found = corpus::completions(language, sentence);
    found.truncate(limit);
    answer("End", json!(found), "StringArray")
}

pub(crate) fn error_enhance(_: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    language_of(arguments)?;
    let error = arguments.object("error")?;
    let message = error
        .get("message")
        .and_then(Value::as_str)
        .ok_or_else(|| Refusal::missing("error.message"))?;
    answer("End", json!(corpus::advice(message)), "String")
}

/// Python only, as in the cloud.
pub(crate) fn pep8_convert(_: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let files: Map<String, Value> = files_of(arguments)?
        .into_iter()
        .map(|file| (file.name, Value::String(pep8::convert(&file.content))))
        .collect();
    answer("End", Value::Object(files), "StringDict")
}

pub(crate) fn search(_: &Arc<Cloud>, arguments: &Arguments) -> Answer {
    let language = language_of(arguments)?;
    let criteria = arguments.list("criteria")?;
    if criteria.is_empty() || criteria.len() > 20 {
        return Err(Refusal::invalid("criteria", "from 1 to 20 criteria"));
    }
    let mut retrievals = Vec::new();
    for item in criteria {
        retrievals.extend(search_one(language, item)?);
    }
    Reply::success(json!({
        "state": "End",
        "version": VERSION,
        "retrivals": retrievals,
        "messageId": 0,
    }))
}

fn search_one(language: Language, item: &Value) -> Result<Vec<Value>, Refusal> {
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    let input = text("input").ok_or_else(|| Refusal::missing("criteria.input"))?;
    let kind = text("type").and_then(corpus::Kind::named).ok_or_else(|| {
        Refusal::invalid("criteria.type", "'Stubs', 'Forum', 'Docs' or 'Examples'")
    })?;
    let count = item
        .get("count")
        .and_then(crate::arguments::integer_of)
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| (1..=100).contains(count))
        .ok_or_else(|| Refusal::invalid("criteria.count", "a number from 1 to 100"))?;
    Ok(corpus::search(language, input, kind, count))
}
