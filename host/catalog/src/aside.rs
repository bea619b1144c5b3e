//! Long texts, on threads that also serve others.
//!
//! A call may bring 32 MiB of a guest's and an answer 64 MiB of a server's. To read those is linear and takes a tenth of
//! a second nevertheless, in which a thread would serve nobody else. So what else runs on the thread is handed to another
//! one first; the reader itself stays where it is, and is measured and charged as everything is.
//!
//! Invariant: what is longer than [`AT_ONCE`] is read while other threads serve, wherever there are any.

use serde_json::{Map, Value};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Bytes that take a millisecond or two to read.
const AT_ONCE: usize = 256 << 10;
/// What a value of JSON takes besides its text, in bytes.
const VALUE: usize = 16;

/// Does some work that reads so many bytes, and has others served meanwhile if they are many.
pub fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let others = Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > AT_ONCE && others {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// About how many bytes a value is, as far as it matters to [`aside`]: to find out takes no time for what is behind that.
#[must_use]
pub fn length(value: &Value) -> usize {
    let mut left = AT_ONCE;
    match fits(value, &mut left) {
        true => AT_ONCE - left,
        false => usize::MAX,
    }
}

/// The same of an object's members.
#[must_use]
pub fn length_of_members(members: &Map<String, Value>) -> usize {
    let mut left = AT_ONCE;
    match fit(members, &mut left) {
        true => AT_ONCE - left,
        false => usize::MAX,
    }
}

/// Whether a value is no longer than what is left; takes no time for what is behind that.
fn fits(value: &Value, left: &mut usize) -> bool {
    let mut take = |bytes: usize| {
        let taken = left.checked_sub(bytes.saturating_add(VALUE));
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
            (json!("x".repeat(AT_ONCE - VALUE)), true),
            (json!("x".repeat(AT_ONCE)), false),
            (json!({ "x".repeat(AT_ONCE): 1 }), false),
            (json!(vec![0; AT_ONCE / VALUE - 1]), true),
            (json!(vec![0; AT_ONCE / VALUE]), false),
        ] {
            assert_eq!(length(&value) <= AT_ONCE, short);
        }
    }

    /// One thread serves; it reads something long, and serves nevertheless.
    #[test]
    fn others_are_served_while_something_long_is_read() {
        let serving = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (served, answer) = std::sync::mpsc::channel();
        let reading = serving.spawn(async move {
            tokio::spawn(async move { served.send(()) });
            aside(AT_ONCE + 1, || {
                answer.recv_timeout(std::time::Duration::from_secs(30))
            })
        });
        let read = serving.block_on(reading).unwrap();
        assert_eq!(read, Ok(()), "nobody was served");
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_reads_at_once() {
        assert_eq!(aside(usize::MAX, || 7), 7);
    }
}
