//! Text that others wrote, made safe to show on a terminal.
//!
//! Invariant: what was escaped can neither move the cursor, nor colour, hide or reorder what stands
//! beside it: an approval that is read on a terminal is the one that is approved.

/// The text in one line.
pub fn line(text: &str) -> String {
    escape(text, false)
}

/// The text with its line breaks and tabs, and with nothing else that is not printed.
pub fn block(text: &str) -> String {
    escape(text, true)
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

/// Whether a terminal acts on a character instead of printing it: controls, the marks that change the
/// direction of text, and what has no width at all.
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

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(text in any::<String>()) {
            prop_assert!(!line(&text).chars().any(acts));
            let kept = block(&text);
            prop_assert!(!kept.chars().any(|c| acts(c) && c != '\n' && c != '\t'));
            prop_assert_eq!(kept.matches('\n').count(), text.matches('\n').count());
        }
    }
}
