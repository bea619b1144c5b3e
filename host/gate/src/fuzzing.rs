//! Entry points for the growth tests.

use std::time::{Duration, Instant};

use crate::difference::{Bounds, MAX_LINE, difference, excerpt};

/// The difference of one file as an approver is shown it, without time or size limit.
#[must_use]
pub fn shown_difference(former: &str, now: &str) -> String {
    let file = |text: &str| [("main.py".to_owned(), text.to_owned())];
    difference(&file(former), &file(now), bounds()).text
}

/// The text as an approver is shown it, without size limit.
#[must_use]
pub fn shown_text(text: &str) -> String {
    excerpt(text, bounds()).text
}

fn bounds() -> Bounds {
    Bounds {
        bytes: usize::MAX,
        line: MAX_LINE,
        deadline: Instant::now() + Duration::from_secs(3600),
    }
}
