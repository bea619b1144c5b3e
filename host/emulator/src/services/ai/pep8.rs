//! LEAN's Python interface has two spellings: `self.AddEquity` and `self.add_equity`. This
//! rewrites the first into the second.
//!
//! Rule: a name in camel case that follows a dot and is called, or that follows `def`, becomes
//! snake case. Names that follow a dot and stand for a value (`Resolution.Daily`) become upper
//! case if they follow one of LEAN's enumerations. Comments and strings stay as they are, and
//! everything else does too: this is no formatter.

use crate::text::{is_word, snake};

/// Enumerations whose members PEP 8 writes in upper case.
const ENUMERATIONS: [&str; 6] = [
    "Resolution",
    "Market",
    "DataNormalizationMode",
    "InsightDirection",
    "OrderStatus",
    "SecurityType",
];

/// The source with its names rewritten.
pub(super) fn convert(source: &str) -> String {
    let tokens = tokens(source);
    let mut converted = String::with_capacity(source.len());
    for (index, token) in tokens.iter().enumerate() {
        let before = |steps: usize| Some(*tokens.get(index.checked_sub(steps)?)?);
        let follows_dot = before(1) == Some(".");
        let called = tokens.get(index + 1) == Some(&"(");
        let defined = before(1) == Some(" ") && before(2) == Some("def");
        let member = follows_dot && before(2).is_some_and(|owner| ENUMERATIONS.contains(&owner));
        if !token.starts_with(is_word) {
            converted.push_str(token);
        } else if member {
            converted.push_str(&snake(token).to_uppercase());
        } else if defined || (follows_dot && called) {
            converted.push_str(&snake(token));
        } else {
            converted.push_str(token);
        }
    }
    converted
}

/// Words, whole strings and comments, and other characters one by one.
fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => string_length(rest, first),
            _ if is_word(first) => rest.find(|it| !is_word(it)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        // The length always ends at a character's boundary.
        let (token, tail) = rest.split_at_checked(length).unwrap_or((rest, ""));
        tokens.push(token);
        rest = tail;
    }
    tokens
}

/// The length in bytes of the string literal at the start of `text`, quotes included; all of
/// it if the literal does not end.
fn string_length(text: &str, quote: char) -> usize {
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let (opening, end) = if text.starts_with(&triple) {
        (3, triple)
    } else {
        (1, quote.to_string())
    };
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(opening) {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if text.get(at..).is_some_and(|rest| rest.starts_with(&end)) {
            return at + end.len();
        } else if character == '\n' && opening == 1 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_definitions_and_enumerations_change() {
        let source = "class A(QCAlgorithm):\n    def Initialize(self):\n        \
                      self.AddEquity(\"SPY\", Resolution.Daily)  # self.AddEquity(\n        \
                      self.rsi = self.RSI('SPY', 14)\n        x = Thing(1)\n";
        let converted = "class A(QCAlgorithm):\n    def initialize(self):\n        \
                         self.add_equity(\"SPY\", Resolution.DAILY)  # self.AddEquity(\n        \
                         self.rsi = self.rsi('SPY', 14)\n        x = Thing(1)\n";
        assert_eq!(convert(source), converted);
    }

    #[test]
    fn strings_stay() {
        let source = "a = \"x.AddEquity(\" + '''\n.SetCash(\n''' + 'don\\'t.Do('\n";
        assert_eq!(convert(source), source);
    }

    proptest! {
        #[test]
        fn any_text_is_converted_once_and_for_all(source in ".{0,200}") {
            let once = convert(&source);
            prop_assert_eq!(convert(&once), once);
        }

        #[test]
        fn tokens_are_the_text(source in "[a-zA-Z_.()'\"#\\\\\n ]{0,200}") {
            prop_assert_eq!(tokens(&source).concat(), source);
        }
    }
}
