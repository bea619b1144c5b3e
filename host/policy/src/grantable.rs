//! What a manifest can allow by name, and the patterns that cover it.
//!
//! Besides the operations there are names for the host's own services: `object-store/download`, `workflow`, `evidence`, and
//! `raw/<tool>` for a tool that the catalog does not know.
//!
//! Invariant: a pattern with a star never covers an operation of class `destroy` or `trade`, one that sends to others or
//! steers an agent of QuantConnect's, or one whose row names another reason, such as data of persons; those are named in
//! full, or not granted.

use std::fmt;

use qchost_catalog::{Access, OPERATIONS, Operation, by_name};

use crate::glob::matches;

/// Reads an object's bytes, in several calls made by the host.
pub const DOWNLOAD: &str = "object-store/download";
/// An outgoing request, granted by `[[http]]`.
pub const HTTP: &str = "http/request";
/// Batches run by the host.
pub const WORKFLOW: &str = "workflow";
/// Facts about a project, computed by the host.
pub const EVIDENCE: &str = "evidence";
/// The interface for calling any tool.
pub const RAW: &str = "raw";

/// One entry of an `allow` list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pattern(String);

/// Why an entry of an `allow` list is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// There is no such name.
    #[error("`{entry}` names no operation{}", nearest.as_deref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// The entry.
        entry: String,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// It covers nothing, since everything it would match has to be named in full.
    #[error("`{entry}` covers nothing: {} must be named in full, since no pattern covers operations of class destroy or trade, that send to others, that steer QuantConnect's agents, or that answer data of persons or of any project", names.join(", "))]
    OnlyNamed {
        /// The entry.
        entry: String,
        /// The names that it would match.
        names: Vec<String>,
    },
    /// A tool name that no MCP server can have.
    #[error("`{0}` is no tool's name: letters, digits, `_`, `-`, `.` and at most 128 of them")]
    Tool(String),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Pattern {
    /// Parses an entry.
    ///
    /// # Errors
    /// When it covers nothing: a misspelt entry must not silently grant nothing.
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
            let nearest = full_name(entry)
                .or_else(|| nearest(entry, names.chain(rooms.iter().map(String::as_str))))
                .map(str::to_owned);
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
            let globbed = || by_name(name).is_none_or(Operation::globbed);
            access.globbed() && matches(&self.0, name) && globbed()
        } else {
            self.0 == name
        }
    }

    /// Whether it allows anything of an interface (or host service), so that a component may import it.
    #[must_use]
    pub fn mentions(&self, interface: &str) -> bool {
        if interface == RAW {
            return self.0.starts_with("raw/") || self.covers_untyped();
        }
        grantable().any(|(name, access)| {
            name.split('/').next() == Some(interface) && self.covers(name, access)
        })
    }

    /// Whether it allows, by its interface, an operation that is reached by `raw` alone. A pattern for every interface says
    /// nothing about `raw`.
    fn covers_untyped(&self) -> bool {
        let mut untyped = OPERATIONS.iter().filter(|operation| !operation.is_typed());
        untyped.any(|operation| {
            self.0.split('/').next() == Some(operation.interface())
                && self.covers(operation.name, operation.access)
        })
    }

    /// The tool that it names, for a call that the catalog does not know: the `x` of `raw/x`.
    pub(crate) fn tool(&self) -> Option<&str> {
        self.0.strip_prefix("raw/").filter(|tool| *tool != "*")
    }

    /// The entry as written in the manifest.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text is a valid tool name: `[A-Za-z0-9_.-]{1,128}`, as in MCP.
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
        .chain([DOWNLOAD, WORKFLOW, EVIDENCE].map(|service| (service, Access::Read)))
}

/// The operation that a word names without its category, or as its tool is called: `create-backtest` or `create_backtest` for
/// `backtests/create-backtest`. `None` if that is not one operation.
#[must_use]
pub(crate) fn full_name(word: &str) -> Option<&'static str> {
    if let Some(operation) = qchost_catalog::by_tool(word) {
        return Some(operation.name);
    }
    let bare = word.replace('_', "-");
    let mut named = grantable()
        .map(|(name, _)| name)
        .filter(|name| name.split_once('/').is_some_and(|(_, last)| last == bare));
    let first = named.next()?;
    named.next().is_none().then_some(first)
}

/// The operation that a word means: the one that it names in part, or the most similar one.
#[must_use]
pub fn nearest_operation(word: &str) -> Option<&'static str> {
    let names = OPERATIONS.iter().map(|operation| operation.name);
    full_name(word).or_else(|| nearest(word, names))
}

/// Maximum characters of a word that similar ones are searched for: no name of this host is longer.
const MAX_WORD: usize = 128;

/// The candidate most similar to a word, if any is similar.
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
    fn a_star_never_covers_what_deletes_trades_sends_or_answers_data_of_persons() {
        for (name, access) in grantable() {
            let star = Pattern::parse("*").unwrap();
            let globbed = by_name(name).map_or(access.globbed(), Operation::globbed);
            assert_eq!(star.covers(name, access), globbed, "{name}");
            assert!(Pattern::parse(name).unwrap().covers(name, access), "{name}");
        }
    }

    #[test]
    fn what_is_reached_by_raw_alone_mentions_raw_by_its_interface() {
        for (entry, mentions) in [
            ("agents/*", true),
            ("agents/read-agent", true),
            ("agent-deployments/create-agent-deployment", true),
            ("raw/some_tool", true),
            ("*", false),
            ("*/read-*", false),
            ("projects/*", false),
        ] {
            assert_eq!(
                Pattern::parse(entry).unwrap().mentions(RAW),
                mentions,
                "{entry}"
            );
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
        for part in ["create-backtest", "create_backtest"] {
            let unknown = Pattern::parse(part).unwrap_err().to_string();
            assert!(
                unknown.contains("did you mean `backtests/create-backtest`"),
                "{unknown}"
            );
        }
        let named = Pattern::parse("live-commands/*").unwrap_err().to_string();
        assert!(
            named.contains("must be named in full") && named.contains("create-live-command"),
            "{named}"
        );
        assert_eq!(full_name("download"), Some(DOWNLOAD));
        assert_eq!(full_name("no-such-thing"), None);
        assert_eq!(
            nearest_operation("backtest/read-backtest"),
            Some("backtests/read-backtest")
        );
        assert!(Pattern::parse("raw/a b").is_err());
        assert!(Pattern::parse("").is_err());
    }
}
