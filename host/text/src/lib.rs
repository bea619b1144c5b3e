//! Texts that leave the process: excerpts of foreign text, errors with their causes, and no secrets.
//!
//! Invariant: an excerpt is at most as long as its limit, plus the ellipsis that says that more was there.

mod credential;
mod redactor;

use std::error::Error;

pub use credential::{is_named_like_secret, looks_like_secret};
pub use redactor::{EMULATOR_TOKEN, MIN_SECRET, RedactingWriter, Redactor};

/// The first `limit` characters.
#[must_use]
pub fn excerpt(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => cut(text, end),
        None => text.to_owned(),
    }
}

/// The first `limit` bytes, without half a character. For what is stored, where space is counted in bytes.
#[must_use]
pub fn excerpt_bytes(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    cut(text, text.floor_char_boundary(limit))
}

/// The first `limit` characters on one line: a space stands for each control character.
#[must_use]
pub fn one_line(text: &str, limit: usize) -> String {
    excerpt(text, limit).replace(char::is_control, " ")
}

/// What happened, and each cause that the text before it does not contain yet: `error: cause: cause`.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

fn cut(text: &str, end: usize) -> String {
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_ends_with_an_ellipsis() {
        assert_eq!(excerpt("äöü", 3), "äöü");
        assert_eq!(excerpt("äöü", 2), "äö…");
        assert_eq!(excerpt("äöü", 0), "…");
        assert_eq!(excerpt("", 0), "");
        assert_eq!(one_line("a\nb\u{1b}[31m", 4), "a b …");
    }

    #[test]
    fn bytes_are_cut_between_characters() {
        assert_eq!(excerpt_bytes("äöü", 6), "äöü");
        assert_eq!(excerpt_bytes("äöü", 5), "äö…");
        assert_eq!(excerpt_bytes("ä", 1), "…");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Failed(&'static str, #[source] Option<Box<Failed>>);

    #[test]
    fn a_cause_is_said_once() {
        let disk = Failed("disk full", None);
        let write = Failed("cannot write a.log: disk full", Some(Box::new(disk)));
        let save = Failed("cannot save", Some(Box::new(write)));
        assert_eq!(
            error_chain(&save),
            "cannot save: cannot write a.log: disk full"
        );
    }
}
