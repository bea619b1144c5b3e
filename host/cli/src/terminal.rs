//! Makes untrusted text safe to show on a terminal. Everything that this program prints or logs passes through here,
//! by way of [`output`](crate::output) and [`logging`](crate::logging).
//!
//! Invariant: escaped text can neither move the cursor nor colour, hide or reorder the text around it: an approval
//! that is read on a terminal is the one that is approved.

/// The text in one line.
pub fn line(text: &str) -> String {
    escape(text, false)
}

/// The text with its line breaks and tabs, and without other non-printing characters.
pub fn block(text: &str) -> String {
    escape(text, true)
}

/// JSON, or lines of it, with the same values: characters that a terminal acts on occur only in strings, where they
/// are escaped.
pub fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\n' | '\t') || !acts(character) {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

fn escape(text: &str, lines: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if lines && matches!(character, '\n' | '\t') || !acts(character) {
            escaped.push(character);
        } else {
            match character {
                '\n' => escaped.push_str("\\n"),
                '\r' => escaped.push_str("\\r"),
                '\t' => escaped.push_str("\\t"),
                _ => escaped.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
            }
        }
    }
    escaped
}

/// Whether a terminal acts on a character instead of printing it: controls, characters that change the direction of
/// text, and those without width.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{13430}'..='\u{1345f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_shown_instead() {
        assert_eq!(line("a\u{1b}[2Jb\r\nc"), "a\\u{1b}[2Jb\\r\\nc");
        assert_eq!(block("a\n\tb\rc"), "a\n\tb\\rc");
        assert_eq!(line("buy \u{202e}lles"), "buy \\u{202e}lles");
        assert_eq!(line("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(line("Größe 日本 ₿"), "Größe 日本 ₿");
    }

    /// Each class of characters in the module's invariant, by its own definition.
    #[test]
    fn every_character_that_acts_is_escaped() {
        let (c0, c1) = ('\u{0}'..='\u{1f}', '\u{7f}'..='\u{9f}');
        let directions = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        let no_width =
            "\u{ad}\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{180e}\u{e0001}\u{e007f}\u{fe0f}";
        let breaks = "\u{2028}\u{2029}\u{85}";
        let others = [directions, no_width, breaks].concat();
        for character in c0.chain(c1).chain(others.chars()) {
            let text = character.to_string();
            assert!(line(&text).starts_with('\\'), "{character:?}");
            assert!(line(&text).is_ascii(), "{character:?}");
            if !matches!(character, '\n' | '\t') {
                assert_eq!(block(&text), line(&text));
                assert!(json(&text).is_ascii(), "{character:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn json_reads_as_the_same_values(text in any::<String>(), key in "[\u{202a}-\u{202e}a-z\u{e0001}]{0,4}") {
            let value = serde_json::json!({ key: [text] });
            let shown = json(&value.to_string());
            prop_assert!(!shown.chars().any(acts));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }

        #[test]
        fn to_clean_twice_is_to_clean_once(text in any::<String>()) {
            prop_assert_eq!(line(&line(&text)), line(&text));
            prop_assert_eq!(block(&block(&text)), block(&text));
        }

        #[test]
        fn nothing_that_acts_is_left(text in any::<String>()) {
            prop_assert!(!line(&text).chars().any(acts));
            let kept = block(&text);
            prop_assert!(!kept.chars().any(|c| acts(c) && c != '\n' && c != '\t'));
            prop_assert_eq!(kept.matches('\n').count(), text.matches('\n').count());
        }
    }
}
