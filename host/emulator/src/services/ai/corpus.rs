//! The built-in answers of the AI tools: names of the algorithm interface, advice on
//! frequent errors, and a few pages to be found.
//!
//! Everything here is written for the emulator; none of it is QuantConnect's documentation.

use serde_json::{Value, json};

use crate::engine::Language;
use crate::text::is_word;

/// Methods of an algorithm, in Python's spelling, one a line.
const METHODS: &str = include_str!("corpus/methods.txt");

/// A line each: part of an error message in lower case, and what to do about it.
const ADVICE: &str = include_str!("corpus/advice.txt");

/// The categories of pages; the index of one is its number in answers.
pub(super) const PAGE_KINDS: [&str; 4] = ["Stubs", "Forum", "Docs", "Examples"];

/// A line each: a page's title, and its text.
const PAGES: &str = include_str!("corpus/pages.txt");

/// The lines of a text as pairs of what stands before and after the first colon.
fn pairs(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.lines().filter_map(|line| line.split_once(": "))
}

/// Names that complete the last word of a sentence, with what stands before the word.
pub(super) fn completions(language: Language, sentence: &str) -> Vec<String> {
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
pub(super) fn advice(message: &str) -> &'static str {
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
pub(super) fn search(language: Language, input: &str, kind: usize, count: usize) -> Vec<Value> {
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
        let found = search(Language::Python, "How to create an Alpha model", 3, 3);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0]["url"], "emulator:/Py/alpha-model");
        assert_eq!(found[0]["type"], 3);
    }
}
