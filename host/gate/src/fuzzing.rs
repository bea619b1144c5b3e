//! What the growth tests call.

use std::time::{Duration, Instant};

use crate::difference::{Bounds, MAX_LINE, difference, excerpt};

/// The difference that an approver is shown, of one file, with all the time that it takes and all of it shown.
#[must_use]
pub fn shown_difference(former: &str, now: &str) -> String {
    let file = |text: &str| [("main.py".to_owned(), text.to_owned())];
    difference(&file(former), &file(now), bounds()).text
}

/// The text that an approver is shown, all of it.
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
