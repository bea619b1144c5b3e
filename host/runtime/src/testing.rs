//! Helpers shared by unit tests and the tests in `tests/`: a scripted connection, and a gate in
//! front of it.

#[path = "../tests/common/gate.rs"]
mod gate;
#[path = "../tests/common/upstream.rs"]
mod upstream;

pub(crate) use gate::Gated;
pub(crate) use upstream::{COMPILED, Scripted, Sent};

/// A connection that is never called.
pub(crate) fn nobody() -> Scripted {
    Scripted::new(|sent| panic!("{sent:?} was sent"))
}
