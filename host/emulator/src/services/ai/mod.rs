//! `/ai/tools/…`: the tools that the cloud answers with a language model.
//!
//! Two of them check the sources: `syntax-check` parses the sources and `backtest-init` runs them
//! with the engine. The others answer from a few built-in texts and by plain rules; the
//! same question always gets the same answer, and no language model is involved. The texts are
//! written for the emulator; none of them is QuantConnect's documentation.

mod pep8;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal, Reply};
use super::arguments::{Arguments, integer_of};
use super::cloud::{Cloud, check, run};
use crate::engine::{Compilation, Job, Language, SourceFile};
use crate::store::{State, limits};
use crate::text::is_word;

/// Methods of an algorithm, in Python's spelling, one a line.
const METHODS: &str = include_str!("corpus/methods.txt");

/// A line each: part of an error message in lower case, and what to do about it.
const ADVICE: &str = include_str!("corpus/advice.txt");

/// The categories of pages; the index of one is its number in answers.
const PAGE_KINDS: [&str; 4] = ["Stubs", "Forum", "Docs", "Examples"];

/// A line each: a page's title, and its text.
const PAGES: &str = include_str!("corpus/pages.txt");

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
    let errors = compilation.errors.iter();
    let lines = errors.map(|it| format!("{}:{}:{}: {}", it.file, it.line, it.column, it.message));
    lines.collect()
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
    let mut found = completions(language, sentence);
    found.truncate(limit);
    answer("End", json!(found), "StringArray")
}

pub(crate) fn error_enhance(_: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    arguments.language()?;
    let error = arguments.object("error")?;
    let message = error.get("message").and_then(Value::as_str);
    let message = message.ok_or_else(|| Refusal::missing("error.message"))?;
    answer("End", json!(advice(message)), "String")
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
    Ok(pages(language, input, kind, count))
}

/// A number from 1 to 100.
fn count_of(value: &Value) -> Option<usize> {
    let count = usize::try_from(integer_of(value)?).ok()?;
    (1..=100).contains(&count).then_some(count)
}

/// The lines of a text as pairs of what stands before and after the first colon.
fn pairs(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines().filter_map(|line| line.split_once(": "))
}

/// Names that complete the last word of a sentence, with what stands before the word.
fn completions(language: Language, sentence: &str) -> Vec<String> {
    let sentence = sentence.trim_end();
    let before = sentence.trim_end_matches(is_word);
    let word = sentence.strip_prefix(before).unwrap_or_default();
    // Only the expression that the word belongs to is repeated.
    let other = before.trim_end_matches(|letter| is_word(letter) || letter == '.');
    let lead = before.strip_prefix(other).unwrap_or_default();
    METHODS
        .lines()
        .map(|method| match language {
            Language::Python => method.to_owned(),
            Language::CSharp => pascal(method),
        })
        .filter(|method| method.starts_with(word))
        .map(|method| format!("{lead}{method}"))
        .collect()
}

/// `add_equity` → `AddEquity`.
fn pascal(name: &str) -> String {
    name.split('_')
        .flat_map(|part| {
            let mut characters = part.chars();
            let first = characters.next().map(|it| it.to_ascii_uppercase());
            first.into_iter().chain(characters)
        })
        .collect()
}

/// Advice on an error message.
fn advice(message: &str) -> &'static str {
    let message = message.to_lowercase();
    pairs(ADVICE)
        .find(|(part, _)| message.contains(part))
        .map_or(
            "The emulator has no advice on this error. Read the stack trace from its last line \
             upwards.",
            |(_, advice)| advice,
        )
}

/// The pages that share most words with the question, best first; `kind` is only repeated.
fn pages(language: Language, input: &str, kind: usize, count: usize) -> Vec<Value> {
    let words: Vec<String> = input
        .to_lowercase()
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| word.len() > 2)
        .map(str::to_owned)
        .collect();
    let score = |title: &str, text: &str| -> f64 {
        let page = format!("{title} {text}").to_lowercase();
        let found = words
            .iter()
            .filter(|word| page.contains(word.as_str()))
            .count();
        let share = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        share(found) / share(words.len().max(1))
    };
    let pages = pairs(PAGES).map(|(title, text)| (score(title, text), title, text));
    let mut pages: Vec<(f64, &str, &str)> = pages.collect();
    pages.sort_by(|one, other| other.0.total_cmp(&one.0));
    pages
        .into_iter()
        .take(count)
        .map(|(score, title, text)| {
            json!({
                "url": format!("emulator:/{language}/{title}"),
                "score": score,
                "content": text,
                "type": kind,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_completed() {
        assert_eq!(
            completions(Language::Python, "x = self.add_e"),
            ["self.add_equity"]
        );
        assert_eq!(completions(Language::CSharp, "AddE"), ["AddEquity"]);
        assert_eq!(completions(Language::Python, "self."), {
            let all = METHODS.lines().map(|method| format!("self.{method}"));
            all.collect::<Vec<_>>()
        });
        assert!(completions(Language::Python, "self.zzz").is_empty());
    }

    #[test]
    fn the_best_page_comes_first() {
        let found = pages(Language::Python, "How to create an Alpha model", 3, 3);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0]["url"], "emulator:/Py/alpha-model");
        assert_eq!(found[0]["type"], 3);
    }
}
