//! How far an invocation is, for its client.

pub use crate::bindings::qchost::agent::progress::report;

/// Reports that `done` of `total` steps are done.
pub fn steps(done: u32, total: u32, message: &str) {
    report(fraction(done, total), message);
}

fn fraction(done: u32, total: u32) -> f64 {
    if total == 0 {
        return 1.0;
    }
    (f64::from(done) / f64::from(total)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_stays_between_nothing_and_all() {
        assert_eq!(fraction(0, 4), 0.0);
        assert_eq!(fraction(1, 4), 0.25);
        assert_eq!(fraction(5, 4), 1.0);
        assert_eq!(fraction(0, 0), 1.0);
    }
}
