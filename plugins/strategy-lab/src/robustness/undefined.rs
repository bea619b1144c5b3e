//! Why a statistic has no value.

use thiserror::Error;

/// Why a statistic has no value, in words that follow "the figure is not known: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Undefined {
    /// Fewer observations than the statistic needs.
    #[error("it needs at least {needed} {what}, and there are {given}")]
    TooFew {
        /// What is counted, in the plural.
        what: &'static str,
        /// The least number that gives a value.
        needed: usize,
        /// How many there are.
        given: usize,
    },
    /// A NaN or an infinite number among the values, or as the result.
    #[error("a number in it is not finite")]
    NotFinite,
    /// Values without variation, by which the statistic would divide.
    #[error("the values do not vary")]
    Constant,
    /// An argument that the formula does not cover: which, and what it has to be.
    #[error("{0}")]
    OutOfRange(&'static str),
}

/// The number if it is finite.
pub(crate) fn finite(number: f64) -> Result<f64, Undefined> {
    if number.is_finite() {
        Ok(number)
    } else {
        Err(Undefined::NotFinite)
    }
}

/// Refuses a sample that is too small or has a number that is not finite.
pub(crate) fn check(values: &[f64], what: &'static str, needed: usize) -> Result<(), Undefined> {
    if values.len() < needed {
        return Err(Undefined::TooFew {
            what,
            needed,
            given: values.len(),
        });
    }
    if values.iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(Undefined::NotFinite)
    }
}
