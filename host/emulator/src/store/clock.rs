//! Instants as they are stored: by the wall clock, in microseconds since the Unix epoch.
//!
//! An [`Instant`] has no meaning in another process. What took place a minute before the emulator ended took
//! place a minute, and the time without an emulator, before the next one began.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

/// The time since an instant of the wall clock; zero if that is still to come.
pub(crate) fn elapsed(since: Timestamp) -> Duration {
    elapsed_micros(since.as_microsecond())
}

fn elapsed_micros(since: i64) -> Duration {
    let passed = Timestamp::now().as_microsecond().saturating_sub(since);
    Duration::from_micros(u64::try_from(passed).unwrap_or(0))
}

fn micros_of(instant: Instant) -> i64 {
    let passed = i64::try_from(instant.elapsed().as_micros()).unwrap_or(i64::MAX);
    Timestamp::now().as_microsecond().saturating_sub(passed)
}

fn instant_of(micros: i64) -> Instant {
    let now = Instant::now();
    // Before the machine was started, on systems that count from there.
    now.checked_sub(elapsed_micros(micros)).unwrap_or(now)
}

pub(crate) fn serialize<S: Serializer>(
    instant: &Instant,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    micros_of(*instant).serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
    i64::deserialize(deserializer).map(instant_of)
}

/// The same for an instant that may be missing.
pub(crate) mod optional {
    use std::time::Instant;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{instant_of, micros_of};

    pub(crate) fn serialize<S: Serializer>(
        instant: &Option<Instant>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        instant.map(micros_of).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Instant>, D::Error> {
        let micros = Option::<i64>::deserialize(deserializer)?;
        Ok(micros.map(instant_of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_keeps_its_age() {
        let age = Duration::from_secs(90);
        let before = Instant::now().checked_sub(age).unwrap();
        let after = instant_of(micros_of(before));
        let (one, other) = (before.elapsed(), after.elapsed());
        assert!(
            one.abs_diff(other) < Duration::from_secs(5),
            "{one:?} {other:?}"
        );
    }

    #[test]
    fn what_is_to_come_has_no_age() {
        let later = Timestamp::now().as_microsecond().saturating_add(1 << 40);
        assert_eq!(elapsed_micros(later), Duration::ZERO);
    }
}
