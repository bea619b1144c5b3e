//! How long something takes on the processor. What else the machine does is no part of it.

use std::time::Duration;

use qchost_gate::processor_time;

/// Processor time of this thread for some work.
pub fn once(work: impl FnOnce()) -> Duration {
    let begun = processor_time();
    work();
    processor_time().saturating_sub(begun)
}

/// The least of some tries: what the others took longer was not the work's own.
pub fn least(tries: u32, mut work: impl FnMut()) -> Duration {
    (0..tries)
        .map(|_| once(&mut work))
        .min()
        .unwrap_or_default()
}

/// Fails where the time of some work grows faster than its size: for four times the size it may take eight times as long,
/// where twice four would be sixteen, and what a cache or a page fault costs.
///
/// `made` makes an input of about the given number of bytes, `work` reads it.
///
/// # Panics
/// When it grows faster.
pub fn assert_linear<T>(
    what: &str,
    size: usize,
    made: impl Fn(usize) -> T,
    mut work: impl FnMut(&T),
) {
    let took: Vec<Duration> = [1, 2, 4]
        .into_iter()
        .map(|times| {
            let input = made(times * size);
            least(3, || work(&input))
        })
        .collect();
    println!("{what}: {took:?} for {size} bytes and twice and four times as many");
    assert!(
        took[2] < 8 * took[0] + Duration::from_millis(10),
        "{what}: {took:?} for {size} bytes and twice and four times as many"
    );
}
