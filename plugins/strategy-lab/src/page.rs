//! Ranges of long lists: how an action gives a bounded part, and says where it goes on.
//!
//! Invariant: a range is read in pieces that follow each other and none of which is larger than QuantConnect allows.

use qchost_sdk::prelude::*;

use crate::project::Project;

/// How many entries an action gives at most.
pub(crate) const MAX_COUNT: u32 = 200;
/// Longest text of one entry, in characters; the rest is cut off.
const MAX_TEXT: usize = 2_000;

/// The number of entries where the caller names none.
pub(crate) fn count() -> u32 {
    100
}

/// Checks how many entries are wanted.
pub(crate) fn check(count: u32) -> Result<(), Failure> {
    if (1..=MAX_COUNT).contains(&count) {
        return Ok(());
    }
    Err(Failure::invalid_input(format!(
        "`count` is {count}; it goes from 1 to {MAX_COUNT}"
    )))
}

/// The backtest that is meant: the one that the caller names, or the newest of the project.
pub(crate) fn backtest(project: &Project, named: Option<String>) -> Result<String, Failure> {
    if let Some(id) = named {
        return Ok(id);
    }
    let list = backtests::list_backtests(project.id, Some(false))?;
    let newest = list.backtests.into_iter().next();
    let newest = newest
        .ok_or_else(|| Error::NotFound(format!("project \"{}\" has no backtest", project.name)))?;
    Ok(newest.backtest_id)
}

/// The pieces of `count` entries from `start` on, each with its start and its end, of at most `largest` entries.
pub(crate) fn pieces(start: u32, count: u32, largest: u32) -> impl Iterator<Item = (u32, u32)> {
    let end = start.saturating_add(count);
    let largest = largest.max(1);
    std::iter::successors(Some(start), move |at| at.checked_add(largest))
        .take_while(move |at| *at < end)
        .map(move |at| (at, at.saturating_add(largest).min(end)))
}

/// Where the entries after a range begin; `None` if there are none.
pub(crate) fn next(end: u32, length: u32) -> Option<u32> {
    (end < length).then_some(end)
}

/// A text of an entry, cut off where it is very long.
pub(crate) fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text,
        Some((at, _)) => {
            let mut cut = text;
            cut.truncate(at);
            cut.push('…');
            cut
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_are_as_large_as_allowed() {
        let all: Vec<_> = pieces(5, 200, 99).collect();
        assert_eq!(all, [(5, 104), (104, 203), (203, 205)]);
        assert_eq!(pieces(5, 0, 99).count(), 0);
        assert_eq!(
            pieces(u32::MAX - 1, 200, 99).collect::<Vec<_>>(),
            [(u32::MAX - 1, u32::MAX)]
        );
    }

    #[test]
    fn what_is_asked_for_is_bounded() {
        assert_eq!(check(1), Ok(()));
        assert_eq!(check(MAX_COUNT), Ok(()));
        for count in [0, MAX_COUNT + 1] {
            let failure = check(count).unwrap_err().to_string();
            assert!(failure.contains("from 1 to 200"), "{failure}");
        }
        assert_eq!(next(100, 100), None);
        assert_eq!(next(100, 101), Some(100));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("short".into()), "short");
        let long = cut("ü".repeat(3_000));
        assert_eq!(long.chars().count(), MAX_TEXT + 1);
        assert!(long.ends_with("ü…"));
    }

    proptest! {
        #[test]
        fn pieces_cover_the_range_once(start in 0u32..1_000, count in 0u32..500, largest in 1u32..120) {
            let mut at = start;
            for (from, to) in pieces(start, count, largest) {
                prop_assert_eq!(from, at);
                prop_assert!(to > from && to - from <= largest);
                at = to;
            }
            prop_assert_eq!(at, start + count);
        }
    }
}
