//! Log targets that must be silenced, because their libraries log what they transport.
//!
//! Invariant: a subscriber that checks [`may_log`] for every event never logs the arguments of a
//! call, a header's value or an answer, whatever the operator's own filter says.

use tracing::Metadata;
use tracing::level_filters::LevelFilter;

/// The targets and the maximum level of each. A target includes the modules below it.
pub const CAPPED_TARGETS: &[(&str, LevelFilter)] = &[
    // It logs whole messages at every level, and at `debug` the code of a login; this crate logs what matters about a
    // connection.
    ("rmcp", LevelFilter::OFF),
    ("hyper", LevelFilter::WARN),
    ("hyper_util", LevelFilter::WARN),
    ("h2", LevelFilter::WARN),
    ("reqwest", LevelFilter::WARN),
    ("rustls", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
    ("tower_http", LevelFilter::WARN),
];

/// Whether an event or a span may be recorded. Must be a separate filter beside the operator's:
/// merged into one, a more specific directive of the operator would win.
#[must_use]
pub fn may_log(metadata: &Metadata<'_>) -> bool {
    CAPPED_TARGETS
        .iter()
        .find(|(target, _)| covers(target, metadata.target()))
        .is_none_or(|(_, limit)| metadata.level() <= limit)
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
