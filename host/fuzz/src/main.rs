//! The targets under libFuzzer. `QCHOST_FUZZ` names the one to run; the arguments are libFuzzer's.
#![no_main]
#![allow(clippy::expect_used, clippy::indexing_slicing)] // Of the fuzzer itself, before an input is tried.

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use qchost_targets::mutate::{Random, mutate};
use qchost_targets::{Target, target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("QCHOST_FUZZ").expect("QCHOST_FUZZ names the target");
    target(&name).expect("QCHOST_FUZZ names no target")
});
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| (TARGET.words)());

fuzz_target!(|input: &[u8]| TARGET.attempt(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut input = data[..size].to_vec();
    let mut change = |part: &mut Vec<u8>| {
        let size = part.len();
        part.resize(size.max(max_size), 0);
        let size = fuzzer_mutate(part, size, max_size);
        part.truncate(size);
    };
    let mut random = Random::new(seed.into());
    mutate(&TARGET, &WORDS, &mut input, &mut random, &mut change);
    let size = input.len().min(max_size);
    data[..size].copy_from_slice(&input[..size]);
    size
});
