//! Untrusted text of plugins in logs, errors and terminals: bounded and never interpreted.

/// One line of at most `limit` bytes: control characters are escaped, and the rest is truncated.
pub(crate) fn line(text: &str, limit: usize) -> String {
    bounded(text, limit, |letter| !letter.is_control())
}

/// The same with line breaks, for messages such as suggested lines for a manifest.
pub(crate) fn lines(text: &str, limit: usize) -> String {
    bounded(text.trim_end(), limit, |letter| {
        letter == '\n' || !letter.is_control()
    })
}

fn bounded(text: &str, limit: usize, harmless: impl Fn(char) -> bool) -> String {
    let mut line = String::with_capacity(text.len().min(limit));
    for letter in text.chars() {
        let before = line.len();
        if harmless(letter) {
            line.push(letter);
        } else {
            line.extend(letter.escape_default());
        }
        if line.len() > limit {
            line.truncate(before);
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_nothing_and_length_is_bounded() {
        assert_eq!(line("a\n\u{1b}[31mb", 100), "a\\n\\u{1b}[31mb");
        assert_eq!(line("äöü", 4), "äö…");
        assert_eq!(line("\n\n\n", 3), "\\n…");
        assert_eq!(lines("a\n\u{1b}b\n\n", 100), "a\n\\u{1b}b");
    }
}
