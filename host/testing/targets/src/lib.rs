//! Fuzz targets: the parsers of untrusted bytes, each with what must hold for every input, beyond not panicking.
//!
//! A [`Target`] is a function of bytes that panics where a rule is broken; and an input that takes longer than its target
//! allows breaks one too. `make fuzz` runs it under libFuzzer, which keeps the inputs that reach code no other input
//! reached (`host/fuzz`). `tests/replay.rs` runs it over the committed inputs and over a fixed number of mutations of
//! them, in every `make test`.
//!
//! `seeds/<target>/` holds inputs that reach much, `regressions/<target>/` inputs that once broke a
//! rule. A new finding is fixed, and its input goes there under a name that says what it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // A target is a test: what it panics about is a finding.

pub mod mutate;

mod adapter;
mod decoder;
mod description;
mod diff;
mod guardrails;
mod loader;
mod manifest;
mod shaped;

use std::time::Duration;

use mutate::{Change, Random};

/// Something that reads foreign bytes.
pub struct Target {
    /// Its name, and that of its folders.
    pub name: &'static str,
    /// Tries one input. Panics where a rule is broken.
    pub run: fn(&[u8]),
    /// Words that inputs are made of, to be put in by a mutation.
    pub words: fn() -> Vec<String>,
    /// A change that knows the form of the inputs, by way of plain changes of parts of them.
    pub reshape: Option<fn(&mut Vec<u8>, &mut Random, Change<'_>)>,
    /// How many mutations of each committed input every `cargo test` tries.
    pub mutations: u32,
    /// How long one input may take on the processor. Inputs have 64 KiB at most, and without optimisation everything takes
    /// ten times as long as in a release, so this is far above what is usual and far below what a time that grows with
    /// the square of the input comes to.
    pub time: Duration,
}

impl Target {
    /// Tries one input, and how long it takes. Panics where a rule is broken.
    pub fn attempt(&self, input: &[u8]) {
        let mut took = qchost_testing::cost::once(|| (self.run)(input));
        // The first try may have made what the others find.
        if took > self.time {
            took = qchost_testing::cost::least(2, || (self.run)(input));
        }
        assert!(
            took <= self.time,
            "{took:?} on the processor for {} bytes; {:?} are allowed",
            input.len(),
            self.time
        );
    }
}

/// All of them.
pub static TARGETS: &[Target] = &[
    Target {
        name: "manifest",
        run: manifest::run,
        words: manifest::words,
        reshape: None,
        mutations: 300,
        time: Duration::from_millis(1000),
    },
    Target {
        name: "adapter",
        run: adapter::run,
        words: shaped::words,
        reshape: None,
        mutations: 300,
        time: Duration::from_millis(1000),
    },
    Target {
        name: "loader",
        run: loader::run,
        words: loader::words,
        reshape: Some(loader::reshape),
        mutations: 30,
        time: Duration::from_millis(10000),
    },
    Target {
        name: "description",
        run: description::run,
        words: description::words,
        reshape: None,
        mutations: 100,
        time: Duration::from_millis(4000),
    },
    Target {
        name: "decoder",
        run: decoder::run,
        words: decoder::words,
        reshape: None,
        mutations: 300,
        time: Duration::from_millis(1000),
    },
    Target {
        name: "diff",
        run: diff::run,
        words: diff::words,
        reshape: None,
        mutations: 500,
        time: Duration::from_millis(1000),
    },
    Target {
        name: "guardrails",
        run: guardrails::run,
        words: guardrails::words,
        reshape: None,
        mutations: 60,
        time: Duration::from_millis(10000),
    },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Fails where a text for a person or a log is none: more than one line, a control character, or
/// longer than `most` bytes.
fn assert_line(text: &str, most: usize) {
    assert!(!text.is_empty(), "an error without a word");
    assert!(
        !text.contains(char::is_control),
        "control characters: {text:?}"
    );
    assert!(text.len() <= most, "{} bytes: {text}", text.len());
}
