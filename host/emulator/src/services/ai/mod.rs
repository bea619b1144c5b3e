//! `/ai/tools/…`: the tools that the cloud answers with a language model.
//!
//! Two of them check the sources: `syntax-check` parses the sources and `backtest-init` runs them
//! with the engine. The others answer from a small built-in [`corpus`] and by plain rules; the
//! same question always gets the same answer, and no language model is involved.

mod corpus;
mod pep8;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::corpus::PAGE_KINDS;
use super::answer::{Answer, Refusal, Reply};
use super::arguments::{Arguments, integer_of};
use super::cloud::{Cloud, check, run};
use crate::engine::{Compilation, Job, Language, SourceFile};
use crate::store::{State, limits};

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

/// The files that a tool looks at.
fn files_of(arguments: &Arguments) -> Result<Vec<SourceFile>, Refusal> {
    if !(1..=limits::FILES).contains(&arguments.list("files")?.len()) {
        return Err(Refusal::invalid("files", "from 1 to 500 files"));
    }
    arguments.files("files")
}

fn error_lines(compilation: &Compilation) -> Vec<String> {
    compilation
        .errors
        .iter()
        .map(|it| format!("{}:{}:{}: {}", it.file, it.line, it.column, it.message))
        .collect()
}

pub(crate) async fn syntax_check(cloud: Arc<Cloud>, arguments: Arguments) -> Answer {
    let language = arguments.language()?;
    let (compilation, _) = check(&cloud, language, files_of(&arguments)?).await?;
    let errors = error_lines(&compilation);
    let state = if errors.is_empty() { "End" } else { "Error" };
    answer(state, json!(errors), "StringArray")
}

/// Runs the algorithm; only an error in `initialize` is reported.
pub(crate) async fn backtest_init(cloud: Arc<Cloud>, arguments: Arguments) -> Answer {
    let language = arguments.language()?;
    let (compilation, files) = check(&cloud, language, files_of(&arguments)?).await?;
    if !compilation.errors.is_empty() {
        let errors = error_lines(&compilation).join("\n");
        return answer("Error", json!(errors), "String");
    }
    let job = Job {
        language,
        files,
        parameters: Default::default(),
    };
    match run(Arc::clone(&cloud.engine), Arc::new(job)).await? {
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
}

/// Names of the API that begin as the last word of the sentence does.
pub(crate) fn complete(_: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    let language = arguments.language()?;
    let sentence = arguments.filled_text("sentence")?;
    let limit = match arguments.get("responseSizeLimit") {
        None => 10,
        Some(limit) => count_of(limit)
            .ok_or_else(|| Refusal::invalid("responseSizeLimit", "a number from 1 to 100"))?,
    };
    let mut found = corpus::completions(language, sentence);
    found.truncate(limit);
    answer("End", json!(found), "StringArray")
}

pub(crate) fn error_enhance(_: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    arguments.language()?;
    let error = arguments.object("error")?;
    let message = error
        .get("message")
        .and_then(Value::as_str)
        .ok_or_else(|| Refusal::missing("error.message"))?;
    answer("End", json!(corpus::advice(message)), "String")
}

/// Python only, as in the cloud.
pub(crate) fn pep8_convert(_: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    let files: Map<String, Value> = files_of(arguments)?
        .into_iter()
        .map(|file| (file.name, Value::String(pep8::convert(&file.content))))
        .collect();
    answer("End", Value::Object(files), "StringDict")
}

pub(crate) fn search(_: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    let language = arguments.language()?;
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
    let kind = text("type").and_then(|kind| PAGE_KINDS.iter().position(|known| *known == kind));
    let kind = kind.ok_or_else(|| {
        Refusal::invalid("criteria.type", "'Stubs', 'Forum', 'Docs' or 'Examples'")
    })?;
    let count = item
        .get("count")
        .and_then(count_of)
        .ok_or_else(|| Refusal::invalid("criteria.count", "a number from 1 to 100"))?;
    Ok(corpus::search(language, input, kind, count))
}

/// A number from 1 to 100.
fn count_of(value: &Value) -> Option<usize> {
    let count = usize::try_from(integer_of(value)?).ok()?;
    (1..=100).contains(&count).then_some(count)
}
