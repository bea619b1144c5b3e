//! What unit tests share with the tests in `tests/`: a connection that a test scripts, and a gate
//! before it.

#[path = "../tests/common/gate.rs"]
mod gate;
#[path = "../tests/common/upstream.rs"]
mod upstream;

pub(crate) use gate::Gated;
pub(crate) use upstream::{COMPILED, Scripted, Sent};

/// A connection that nobody should use.
pub(crate) fn nobody() -> Scripted {
    Scripted::new(|sent| panic!("{sent:?} was sent"))
}
