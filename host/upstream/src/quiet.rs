//! Which log targets must be kept quiet, because the libraries behind them log what they carry.
//!
//! Invariant: a subscriber that asks [`permits`] about every event never prints the arguments
//! of a call, a header's value or an answer, whatever the operator's own filter says.

use tracing::Metadata;
use tracing::level_filters::LevelFilter;

/// The targets and the most that each may log. A target covers the modules below it.
pub const QUIET_TARGETS: &[(&str, LevelFilter)] = &[
    // Whole messages at every level; what is worth saying of a connection, this crate says.
    ("rmcp", LevelFilter::OFF),
    ("hyper", LevelFilter::WARN),
    ("hyper_util", LevelFilter::WARN),
    ("h2", LevelFilter::WARN),
    ("reqwest", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
    ("tower_http", LevelFilter::WARN),
];

/// Whether an event or a span may be recorded. To be used as a filter of its own, beside the
/// operator's: merged into one, a more specific directive of theirs would win.
#[must_use]
pub fn permits(metadata: &Metadata<'_>) -> bool {
    QUIET_TARGETS
        .iter()
        .find(|(target, _)| covers(target, metadata.target()))
        .is_none_or(|(_, most)| metadata.level() <= most)
}

fn covers(target: &str, name: &str) -> bool {
    name.strip_prefix(target)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_target_covers_itself_and_its_modules() {
        assert!(covers("hyper", "hyper"));
        assert!(covers("hyper", "hyper::proto::h1"));
        assert!(!covers("hyper", "hyper_util::client"));
        assert!(!covers("rmcp", "qchost_upstream"));
    }
}
