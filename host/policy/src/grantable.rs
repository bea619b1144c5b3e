//! What a manifest can allow, by name, and the patterns that cover it.
//!
//! Besides the 64 operations there are three names that stand for something the host does itself:
//! `object-store/download`, `workflow`, and `raw/<tool>` for a tool that the catalog does not know.
//!
//! Invariant: a pattern with a star never covers an operation of class `destroy` or `trade`;
//! those are named in full, or not granted.

use std::fmt;

use qchost_catalog::{Access, OPERATIONS};

use crate::glob::matches;

/// Reading an object's bytes, a flow of several calls that the host makes.
pub const DOWNLOAD: &str = "object-store/download";
/// An outgoing request, by `[[http]]` and not by a grant.
pub const HTTP: &str = "http/request";
/// Host-run batches.
pub const WORKFLOW: &str = "workflow";
/// The interface by which any tool can be called.
pub const RAW: &str = "raw";

/// One entry of an `allow` list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pattern(String);

/// Why an entry of an `allow` list is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is called that.
    #[error("`{entry}` names no operation{}", nearest.as_deref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// The entry.
        entry: String,
        /// The name most like it.
        nearest: Option<String>,
    },
    /// It covers nothing, since whatever it would cover has to be named.
    #[error("`{entry}` covers nothing: {} must be named in full, since no pattern covers operations of class destroy or trade", names.join(", "))]
    OnlyNamed {
        /// The entry.
        entry: String,
        /// What it would have covered.
        names: Vec<String>,
    },
    /// A tool's name that no MCP server could have.
    #[error("`{0}` is no tool's name: letters, digits, `_`, `-`, `.` and at most 128 of them")]
    Tool(String),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Pattern {
    /// Reads an entry.
    ///
    /// # Errors
    /// When it covers nothing: a misspelling would otherwise be a grant that silently is none.
    pub fn parse(entry: &str) -> Result<Self, PatternError> {
        let pattern = Self(entry.to_owned());
        if let Some(tool) = entry.strip_prefix("raw/") {
            return if tool == "*" || is_tool_name(tool) {
                Ok(pattern)
            } else {
                Err(PatternError::Tool(entry.to_owned()))
            };
        }
        if grantable().any(|(name, access)| pattern.covers(name, access)) {
            return Ok(pattern);
        }
        let names: Vec<_> = grantable()
            .filter(|(name, _)| matches(entry, name))
            .map(|(name, _)| name.to_owned())
            .collect();
        if names.is_empty() {
            let rooms: Vec<_> = grantable()
                .filter_map(|(name, _)| name.split_once('/'))
                .map(|(room, _)| format!("{room}/*"))
                .collect();
            let names = grantable().map(|(name, _)| name);
            let nearest =
                nearest(entry, names.chain(rooms.iter().map(String::as_str))).map(str::to_owned);
            Err(PatternError::Unknown {
                entry: entry.to_owned(),
                nearest,
            })
        } else {
            Err(PatternError::OnlyNamed {
                entry: entry.to_owned(),
                names,
            })
        }
    }

    /// Whether it allows the operation with this name and class.
    #[must_use]
    pub fn covers(&self, name: &str, access: Access) -> bool {
        if self.0.contains('*') {
            access.globbed() && matches(&self.0, name)
        } else {
            self.0 == name
        }
    }

    /// Whether it allows anything of an interface (or host service), so that a component
    /// may import it.
    #[must_use]
    pub fn mentions(&self, interface: &str) -> bool {
        if interface == RAW {
            return self.0.starts_with("raw/");
        }
        grantable().any(|(name, access)| {
            name.split('/').next() == Some(interface) && self.covers(name, access)
        })
    }

    /// The tool that it names, of a call that the catalog does not know: the `x` of `raw/x`.
    pub(crate) fn tool(&self) -> Option<&str> {
        self.0.strip_prefix("raw/").filter(|tool| *tool != "*")
    }

    /// The entry as it stands in the manifest.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a tool may be called so: `[A-Za-z0-9_.-]{1,128}`, as MCP has it.
#[must_use]
pub fn is_tool_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Everything that can be granted by name, with its class.
pub fn grantable() -> impl Iterator<Item = (&'static str, Access)> {
    OPERATIONS
        .iter()
        .map(|operation| (operation.name, operation.access))
        .chain([(DOWNLOAD, Access::Read), (WORKFLOW, Access::Read)])
}

/// The lines of a manifest that would allow an operation (`backtests/read-backtest`) or all of
/// an interface (`backtests`) that a pattern may cover.
#[must_use]
pub fn remedy(name: &str) -> String {
    let entry = match name {
        WORKFLOW => WORKFLOW.to_owned(),
        name if name.contains('/') => name.to_owned(),
        interface => {
            let covered = grantable().any(|(name, access)| {
                access.globbed() && name.split('/').next() == Some(interface)
            });
            if covered || interface == RAW {
                format!("{interface}/*")
            } else {
                // Nothing of it may be covered by a pattern: name the first operation.
                grantable()
                    .map(|(name, _)| name)
                    .find(|name| name.split('/').next() == Some(interface))
                    .unwrap_or(interface)
                    .to_owned()
            }
        }
    };
    let grant = entry
        .replace("/*", "")
        .replace(['/', '_', '.'], "-")
        .to_lowercase();
    format!("[[grant]]\nname  = \"{grant}\"\nallow = [\"{entry}\"]\n")
}

/// Characters of a word that another one is looked for that is like it: no name that this host knows is longer.
const MAX_WORD: usize = 128;

/// The candidate that is most like a word, if one is like it at all.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_WORD {
        return None;
    }
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3 + 1)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_never_covers_what_deletes_or_trades() {
        for (name, access) in grantable() {
            let star = Pattern::parse("*").unwrap();
            assert_eq!(star.covers(name, access), access.globbed(), "{name}");
            assert!(Pattern::parse(name).unwrap().covers(name, access), "{name}");
        }
    }

    #[test]
    fn an_entry_that_covers_nothing_says_what_was_meant() {
        let unknown = Pattern::parse("backtest/read-backtest")
            .unwrap_err()
            .to_string();
        assert!(
            unknown.contains("did you mean `backtests/read-backtest`"),
            "{unknown}"
        );
        let named = Pattern::parse("live-commands/*").unwrap_err().to_string();
        assert!(
            named.contains("must be named in full") && named.contains("create-live-command"),
            "{named}"
        );
        assert!(Pattern::parse("raw/a b").is_err());
        assert!(Pattern::parse("").is_err());
    }
}
