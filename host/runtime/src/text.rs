//! Untrusted text of plugins in logs, errors and terminals: bounded and never interpreted.

use qchost_text::Redactor;

/// Bytes after the limit that are redacted too, and as many at the end that may contain the beginning of a secret and are
/// left out.
const SECRET_MARGIN_BYTES: usize = 8 << 10;

/// One line of at most `limit` bytes: control characters are escaped, and the rest is truncated.
pub(crate) fn line(text: &str, limit: usize) -> String {
    bounded(text, limit, |letter| !letter.is_control())
}

/// [`line`] without secrets. They are redacted before the text is truncated, so that no part of one remains.
pub(crate) fn clean_line(text: &str, limit: usize, redactor: &Redactor) -> String {
    clean(text, limit, redactor, line)
}

/// [`lines`] without secrets, in the same way.
pub(crate) fn clean_lines(text: &str, limit: usize, redactor: &Redactor) -> String {
    clean(text, limit, redactor, lines)
}

fn clean(
    text: &str,
    limit: usize,
    redactor: &Redactor,
    shorten: fn(&str, usize) -> String,
) -> String {
    let end = text.floor_char_boundary(limit.saturating_add(SECRET_MARGIN_BYTES));
    let start = text.get(..end).unwrap_or_default();
    let clean = redactor.clean(start);
    if start.len() == text.len() {
        return shorten(&clean, limit);
    }
    let end = limit.min(clean.len().saturating_sub(SECRET_MARGIN_BYTES));
    let kept = clean.get(..clean.floor_char_boundary(end));
    let mut kept = shorten(kept.unwrap_or_default(), limit);
    if !kept.ends_with('…') {
        kept.push('…');
    }
    kept
}

/// [`line`] with line breaks, for messages such as suggested lines for a manifest.
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

    #[test]
    fn no_part_of_a_secret_is_left_where_a_line_is_cut() {
        const LIMIT: usize = 256;
        let secret = "s3cret-0123456789-abcdefghij";
        let redactor = Redactor::default();
        redactor.remember(secret.into());
        let far = LIMIT + SECRET_MARGIN_BYTES;
        for before in (LIMIT - 40..LIMIT + 40).chain(far - 40..far + 40) {
            for after in [0, far] {
                let text = format!("{}{secret}{}", "x".repeat(before), "y".repeat(after));
                for cut in [clean_line, clean_lines] {
                    let shown = cut(&text, LIMIT, &redactor);
                    assert!(!shown.contains("s3c"), "{before}, {after}: {shown}");
                    assert!(shown.len() <= LIMIT + '…'.len_utf8(), "{}", shown.len());
                }
            }
        }
        assert_eq!(clean_line("a\nb", LIMIT, &redactor), "a\\nb");
        assert_eq!(clean_lines("a\nb\n", LIMIT, &redactor), "a\nb");
        let long = "x".repeat(2 * far);
        assert_eq!(clean_line(&long, LIMIT, &redactor), line(&long, LIMIT));
    }
}
