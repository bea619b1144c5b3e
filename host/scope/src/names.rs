//! Names given by a plugin: paths of files, keys of objects, names of projects, identifiers.
//!
//! Invariant: every server interprets an accepted name in the same way. A name that some servers
//! would normalise and others not (`a/../b`, `/a`, `a//b`, ` a`) is rejected, so that the name that
//! was decided is the name that is used.

use crate::error::{ScopeError, shown};

/// Maximum characters of a path, a key or a project's name.
const MAX_PATH_LENGTH: usize = 1_000;
/// Maximum characters of an identifier or of a name without structure.
const MAX_WORD_LENGTH: usize = 200;

/// A file's path in its project, an object's key, or a project's name, which is also a path with
/// folders.
pub(crate) fn path(argument: &str, text: &str) -> Result<(), ScopeError> {
    let fault = if text.is_empty() {
        "it is empty"
    } else if text.chars().nth(MAX_PATH_LENGTH).is_some() {
        "it has more than 1000 characters"
    } else if text.chars().any(char::is_control) {
        "it has control characters"
    } else if text.contains('\\') {
        "it has a backslash; parts are separated by `/`"
    } else if text.starts_with('/') {
        "it begins with `/`; write it without"
    } else if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "it has a part that is empty, `.` or `..`"
    } else if text.split('/').any(|part| part.trim_matches(blank) != part) {
        "a part of it begins or ends with white space"
    } else {
        return Ok(());
    };
    Err(invalid(argument, text, fault))
}

/// A folder to list: `/` or a path, with or without a slash at either end.
pub(crate) fn folder(argument: &str, text: &str) -> Result<(), ScopeError> {
    if matches!(text, "" | "/") {
        return Ok(());
    }
    let inner = text.strip_prefix('/').unwrap_or(text);
    path(argument, inner.strip_suffix('/').unwrap_or(inner))
}

/// An identifier assigned by QuantConnect: letters, digits, `-`, `_`, `.` and `:`.
pub(crate) fn identifier(argument: &str, text: &str) -> Result<(), ScopeError> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.:".contains(character);
    if text.is_empty() || text.len() > MAX_WORD_LENGTH || !text.chars().all(plain) {
        let fault = "an identifier has 1 to 200 letters, digits, `-`, `_`, `.` or `:`";
        return Err(invalid(argument, text, fault));
    }
    Ok(())
}

/// A name without structure: a profile, a node type, a user.
pub(crate) fn word(argument: &str, text: &str) -> Result<(), ScopeError> {
    let fault = if text.is_empty() {
        "it is empty"
    } else if text.chars().nth(MAX_WORD_LENGTH).is_some() {
        "it has more than 200 characters"
    } else if text.chars().any(char::is_control) {
        "it has control characters"
    } else if text.trim_matches(blank) != text {
        "it begins or ends with white space"
    } else {
        return Ok(());
    };
    Err(invalid(argument, text, fault))
}

/// Who gets one message: an address, a telephone number or a chat. What a server could read as several recipients, or as an
/// address with a name, is refused: the grant would be compared with another text than is used.
pub(crate) fn recipient(argument: &str, text: &str) -> Result<(), ScopeError> {
    let plain =
        |character: char| character.is_ascii_graphic() && !",;<>()[]\"'`\\|".contains(character);
    let signs = text.chars().filter(|character| *character == '@').count();
    let fault = if text.is_empty() || text.len() > MAX_WORD_LENGTH {
        "a recipient has 1 to 200 characters"
    } else if !text.chars().all(plain) {
        "a recipient is one address, number or chat, in letters, digits and signs without white space, quotes, commas and brackets"
    } else if signs > 1 {
        "it has more than one `@`"
    } else {
        return Ok(());
    };
    Err(invalid(argument, text, fault))
}

/// Characters that some server strips from the ends of a text.
fn blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{feff}'
}

fn invalid(argument: &str, text: &str, fault: &str) -> ScopeError {
    ScopeError::Invalid(format!("`{argument}` is {}: {fault}", shown(text)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_pass_and_others_do_not() {
        for good in [
            "main.py",
            "lab/deep/x.py",
            "Lab/My project 1",
            "a..b",
            ".env",
            "ünï/码",
        ] {
            assert_eq!(path("name", good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "../a",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a/./b",
            "a\\b",
            "a\0b",
            "a\nb",
            " a",
            "a ",
            "a/ b",
            "a /b",
            "\u{feff}a",
            "a\u{a0}/b",
            "\u{85}",
        ] {
            let error = path("name", bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid argument: `name` is"), "{error}");
        }
        assert!(path("name", &"x".repeat(1_000)).is_ok());
        assert!(path("name", &"x".repeat(1_001)).is_err());
    }

    #[test]
    fn folders_may_have_slashes_at_their_ends() {
        for good in ["/", "", "lab", "/lab/deep/", "lab/"] {
            assert_eq!(folder("path", good), Ok(()), "{good}");
        }
        for bad in ["//", "lab//", "../", "/lab/../x", "lab\\x"] {
            assert!(folder("path", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn identifiers_and_words() {
        for good in ["5d1f2cba-173e", "L-9f", "a_b.c:d"] {
            assert_eq!(identifier("backtestId", good), Ok(()));
        }
        for bad in ["", "a b", "a/b", "é", " a", "a\n"] {
            assert!(identifier("backtestId", bad).is_err(), "{bad}");
        }
        assert!(word("brokerage", "My broker").is_ok());
        for bad in ["", " paper", "paper\n", "pa\0per"] {
            assert!(word("brokerage", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_recipient_is_one() {
        for good in [
            "ops@example.com",
            "a.b+c@example.com",
            "+15551234567",
            "-100123",
            "@desk",
        ] {
            assert_eq!(recipient("address", good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a@example.com,b@example.com",
            "a@example.com;b@example.com",
            "a@example.com b@example.com",
            "Ada <a@example.com>",
            "a@b@example.com",
            "a@example.com\nBcc:b@example.com",
            "ä@example.com",
        ] {
            assert!(recipient("address", bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// What a server splits into recipients is one text.
        #[test]
        fn no_separator_passes_in_a_recipient(text in "[a@.,;<> \t\"]{1,20}") {
            if recipient("address", &text).is_ok() {
                let parts = text.split([',', ';', '<', '>', ' ', '\t', '"']).count();
                prop_assert_eq!(parts, 1);
            }
        }

        /// A server that resolves, trims and collapses leaves accepted names unchanged.
        #[test]
        fn no_server_tidies_a_path_that_passes(text in "[a./\\\\ \u{feff}\t]{0,12}") {
            if path("name", &text).is_ok() {
                let mut parts: Vec<&str> = Vec::new();
                let forward = text.replace('\\', "/");
                for part in forward.split('/').map(str::trim) {
                    match part {
                        "" | "." => {}
                        ".." => drop(parts.pop()),
                        part => parts.push(part),
                    }
                }
                prop_assert_eq!(parts.join("/"), text);
            }
        }
    }
}
