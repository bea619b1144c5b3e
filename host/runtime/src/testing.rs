//! What unit tests share with the tests in `tests/`: a connection that a test scripts.

#[path = "../tests/common/upstream.rs"]
mod upstream;

pub(crate) use upstream::{Scripted, Sent};

/// A connection that nobody should use.
pub(crate) fn nobody() -> Scripted {
    Scripted::new(|sent| panic!("{sent:?} was sent"))
}
