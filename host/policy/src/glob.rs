//! Globs over names, paths and keys.
//!
//! Invariant: `*` matches any characters, including slashes, and nothing else is special. Matching
//! here and by the pattern in Cedar is equivalent.

use std::fmt;

use serde_json::{Value, json};

/// A glob as written in a manifest.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Glob {
    text: String,
    /// Whether it also covers what must otherwise be named in full; used for operators, never for
    /// manifests.
    #[serde(skip)]
    unbound: bool,
}

/// Maximum bytes of a glob in a manifest.
pub const MAX_GLOB: usize = 1024;

impl Glob {
    /// Parses a glob. `None` when it is empty or longer than [`MAX_GLOB`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (1..=MAX_GLOB).contains(&text.len()).then(|| Self {
            text: text.to_owned(),
            unbound: false,
        })
    }

    /// Matches everything, including what a star in a manifest does not cover.
    pub(crate) fn everything() -> Self {
        Self {
            text: "*".to_owned(),
            unbound: true,
        }
    }

    /// The text as written in the manifest.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it covers a text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        matches(&self.text, text)
    }

    /// Whether it has no star, so that it covers one thing only.
    #[must_use]
    pub fn names_in_full(&self) -> bool {
        self.unbound || !self.text.contains('*')
    }

    /// The pattern of a Cedar `like`, in Cedar's JSON, where stars are separate from characters, so
    /// that nothing needs escaping.
    pub(crate) fn pattern(&self) -> Value {
        let mut elements = Vec::new();
        for (at, literal) in self.text.split('*').enumerate() {
            if at > 0 {
                elements.push(json!("Wildcard"));
            }
            if !literal.is_empty() {
                elements.push(json!({ "Literal": literal }));
            }
        }
        Value::Array(elements)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// Whether a pattern covers a text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, mut rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(start) else {
        return false;
    };
    while let Some((middle, after)) = rest.split_once('*') {
        let Some((_, behind)) = left.split_once(middle) else {
            return false;
        };
        left = behind;
        rest = after;
    }
    left.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name, fits) in [
            ("backtests/*", "backtests/read-backtest", true),
            ("backtests/read-*", "backtests/read-backtest", true),
            ("backtests/read-*", "backtests/create-backtest", false),
            ("*/read-*", "compile/read-compile", true),
            ("*-project*", "projects/read-project", true),
            ("*read", "read", true),
            ("a*a", "a", false),
            ("a*b*b", "ab", false),
            ("Lab/?", "Lab/x", false),
            ("Lab/[ab]", "Lab/a", false),
            ("Lab/**", "Lab/", true),
            ("é*", "tété", false),
            ("é*é", "été", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} on {name}");
        }
    }

    #[test]
    fn an_empty_glob_and_an_endless_one_are_none() {
        assert!(Glob::parse("").is_none());
        assert!(Glob::parse(&"x".repeat(MAX_GLOB)).is_some());
        assert!(Glob::parse(&"x".repeat(MAX_GLOB + 1)).is_none());
    }
}
