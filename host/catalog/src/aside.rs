//! Reading long texts on threads that also serve other work.
//!
//! A call may bring 32 MiB from a guest and an answer 64 MiB from a server. Parsing them is linear but takes a tenth of a
//! second, during which the thread would block its other tasks. So those are first moved to another thread; the reader
//! itself stays, and is measured and charged as usual.
//!
//! Invariant: texts longer than [`MAX_INLINE_BYTES`] are read while other threads serve, if there are any.

use serde_json::{Map, Value};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Bytes that take a millisecond or two to read.
const MAX_INLINE_BYTES: usize = 256 << 10;
/// Overhead of a JSON value besides its text, in bytes.
const VALUE_OVERHEAD: usize = 16;

/// Runs `work`, which reads `bytes` bytes, and lets other tasks of the thread move on if they are many.
pub fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let others = Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > MAX_INLINE_BYTES && others {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// The approximate size of a value, as far as it matters to [`aside`]: computing it stops beyond that size.
#[must_use]
pub fn length(value: &Value) -> usize {
    measured(|left| fits(value, left))
}

/// The same for an object's members.
#[must_use]
pub fn length_of_members(members: &Map<String, Value>) -> usize {
    measured(|left| fit(members, left))
}

fn measured(fits: impl FnOnce(&mut usize) -> bool) -> usize {
    let mut left = MAX_INLINE_BYTES;
    match fits(&mut left) {
        true => MAX_INLINE_BYTES - left,
        false => usize::MAX,
    }
}

/// Whether a value is no larger than what is left; stops as soon as it is not.
fn fits(value: &Value, left: &mut usize) -> bool {
    let mut take = |bytes: usize| {
        let taken = left.checked_sub(bytes.saturating_add(VALUE_OVERHEAD));
        *left = taken.unwrap_or(0);
        taken.is_some()
    };
    match value {
        Value::String(text) => take(text.len()),
        Value::Array(items) => take(0) && items.iter().all(|item| fits(item, left)),
        Value::Object(members) => take(0) && fit(members, left),
        Value::Null | Value::Bool(_) | Value::Number(_) => take(0),
    }
}

fn fit(members: &Map<String, Value>, left: &mut usize) -> bool {
    members.iter().all(|(name, member)| {
        let named = left.checked_sub(name.len());
        *left = named.unwrap_or(0);
        named.is_some() && fits(member, left)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_long_by_its_texts_its_names_or_its_number() {
        for (value, short) in [
            (json!({ "a": [1, "b", null] }), true),
            (json!("x".repeat(MAX_INLINE_BYTES - VALUE_OVERHEAD)), true),
            (json!("x".repeat(MAX_INLINE_BYTES)), false),
            (json!({ "x".repeat(MAX_INLINE_BYTES): 1 }), false),
            (json!(vec![0; MAX_INLINE_BYTES / VALUE_OVERHEAD - 1]), true),
            (json!(vec![0; MAX_INLINE_BYTES / VALUE_OVERHEAD]), false),
        ] {
            assert_eq!(length(&value) <= MAX_INLINE_BYTES, short);
        }
    }

    /// A single thread reads something long, and serves meanwhile.
    #[test]
    fn others_are_served_while_something_long_is_read() {
        let serving = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (served, answer) = std::sync::mpsc::channel();
        let reading = serving.spawn(async move {
            tokio::spawn(async move { served.send(()) });
            aside(MAX_INLINE_BYTES + 1, || {
                answer.recv_timeout(std::time::Duration::from_secs(30))
            })
        });
        let read = serving.block_on(reading).unwrap();
        assert_eq!(read, Ok(()), "no other task was served");
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_reads_at_once() {
        assert_eq!(aside(usize::MAX, || 7), 7);
    }
}
