//! The built-in answers of the AI tools: names of the algorithm interface, advice on
//! frequent errors, and a few pages to be found.
//!
//! Everything here is written for the emulator; none of it is QuantConnect's documentation.

use serde_json::{Value, json};

use crate::engine::Language;
use crate::text::is_word;

/// Methods of an algorithm, in Python's spelling.
const METHODS: [&str; 40] = [
    "add_alpha",
    "add_cfd",
    "add_chart",
    "add_crypto",
    "add_equity",
    "add_forex",
    "add_future",
    "add_index",
    "add_option",
    "add_risk_management",
    "add_universe",
    "buy",
    "debug",
    "ema",
    "emit_insights",
    "error",
    "get_parameter",
    "history",
    "limit_order",
    "liquidate",
    "log",
    "macd",
    "market_order",
    "plot",
    "quit",
    "rsi",
    "schedule",
    "sell",
    "set_alpha",
    "set_benchmark",
    "set_brokerage_model",
    "set_cash",
    "set_end_date",
    "set_execution",
    "set_holdings",
    "set_portfolio_construction",
    "set_start_date",
    "set_warm_up",
    "sma",
    "stop_market_order",
];

/// Part of an error message in lower case, and what to do about it.
const ADVICE: [(&str, &str); 8] = [
    (
        "wasn't found in the markets lookup",
        "The market is not known. Pass one of the members of Market, or leave the argument out.",
    ),
    (
        "has no attribute",
        "The object has no member of that name. Check the spelling: LEAN's Python interface \
         writes methods in snake case, such as add_equity.",
    ),
    (
        "nonetype",
        "A value is missing. Check that data for the symbol is there before using it, for \
         example with data.contains_key(symbol).",
    ),
    (
        "is not defined",
        "The name is used before it is given a value, or an import is missing. Algorithms begin \
         with: from AlgorithmImports import *",
    ),
    (
        "division by zero",
        "The divisor is zero. Skip the calculation until there is enough data.",
    ),
    (
        "not accept the data",
        "The security has no price yet. Wait for the first data, or set a warm-up period.",
    ),
    (
        "syntax",
        "The source cannot be parsed. Look at the given line and the one before it for a missing \
         colon, bracket or quotation mark.",
    ),
    (
        "insufficient buying power",
        "The order costs more than the portfolio can pay. Order less, or use set_holdings with a \
         fraction.",
    ),
];

/// The categories of pages; the index of one is its number in answers.
pub(super) const PAGE_KINDS: [&str; 4] = ["Stubs", "Forum", "Docs", "Examples"];

/// Title and text of pages that can be found as any kind.
const PAGES: [(&str, &str); 8] = [
    (
        "initialization",
        "An algorithm sets its dates, cash and securities in initialize: set_start_date, \
         set_end_date, set_cash, add_equity.",
    ),
    (
        "indicators",
        "Indicators such as sma, ema and rsi are created in initialize and read in on_data once \
         is_ready is true.",
    ),
    (
        "parameters",
        "get_parameter reads a value that a backtest or an optimization sets; its second \
         argument is the default.",
    ),
    (
        "orders",
        "market_order, limit_order and stop_market_order place orders; set_holdings trades to a \
         target fraction of the portfolio; liquidate closes positions.",
    ),
    (
        "alpha-model",
        "An alpha model emits insights; a portfolio construction model turns them into targets. \
         Create one by deriving from AlphaModel and add it with add_alpha.",
    ),
    (
        "scheduling",
        "schedule.on runs a function at a date rule and a time rule.",
    ),
    (
        "object-store",
        "The object store keeps data between runs: object_store.save and object_store.read.",
    ),
    (
        "live-trading",
        "A live deployment runs an algorithm on a live node with a brokerage; on_command handles \
         commands that are sent to it.",
    ),
];

/// Names that complete the last word of a sentence, with what stands before the word.
pub(super) fn completions(language: Language, sentence: &str) -> Vec<String> {
    let sentence = sentence.trim_end();
    let before = sentence.trim_end_matches(is_word);
    let word = sentence.strip_prefix(before).unwrap_or_default();
    // Only the expression that the word belongs to is repeated.
    let other = before.trim_end_matches(|letter| is_word(letter) || letter == '.');
    let lead = before.strip_prefix(other).unwrap_or_default();
    METHODS
        .iter()
        .map(|method| match language {
            Language::Python => (*method).to_owned(),
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
    ADVICE
        .iter()
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
    let score = |(title, text): &(&str, &str)| -> f64 {
        let page = format!("{title} {text}").to_lowercase();
        let found = words
            .iter()
            .filter(|word| page.contains(word.as_str()))
            .count();
        let share = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        share(found) / share(words.len().max(1))
    };
    let mut pages: Vec<(f64, &(&str, &str))> =
        PAGES.iter().map(|page| (score(page), page)).collect();
    pages.sort_by(|one, other| other.0.total_cmp(&one.0));
    pages
        .into_iter()
        .take(count)
        .map(|(score, (title, text))| {
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
            METHODS.map(|method| format!("self.{method}"))
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
