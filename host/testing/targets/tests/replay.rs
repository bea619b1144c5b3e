//! The fuzz targets in short: every committed input, and a fixed number of mutations of each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use qchost_targets::mutate::{Random, mutate, plain};
use qchost_targets::{TARGETS, Target, target};

/// The committed inputs of a folder, in the order of their names.
fn inputs(folder: &str, target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(target.name);
    let Ok(files) = std::fs::read_dir(&folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| (file.display().to_string(), std::fs::read(file).unwrap()))
        .collect()
}

/// Tries an input; one that breaks a rule is kept in a file, which the panic names.
fn try_out(target: &Target, what: &str, input: &[u8]) {
    if catch_unwind(|| target.attempt(input)).is_err() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
        std::fs::write(&kept, input).unwrap();
        panic!(
            "{}: {what} breaks a rule; it is in {}",
            target.name,
            kept.display()
        );
    }
}

fn replay(name: &str) {
    let target = target(name).unwrap();
    let words = (target.words)();
    let seeds = inputs("seeds", target);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let known = seeds.into_iter().chain(inputs("regressions", target));
    let mut random = Random::new(1);
    for (file, input) in known {
        try_out(target, &file, &input);
        let mut mutated = input.clone();
        for number in 0..target.mutations {
            // A chain of mutations gets far from the seed, so it is restarted from time to time.
            if number % 8 == 0 {
                mutated.clone_from(&input);
            }
            let mut changes = random.clone();
            random.number();
            let change = &mut |part: &mut Vec<u8>| plain(part, &mut changes);
            mutate(target, &words, &mut mutated, &mut random, change);
            mutated.truncate(1 << 16);
            try_out(target, &format!("mutation {number} of {file}"), &mutated);
        }
    }
}

#[test]
fn every_target_is_replayed() {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(
        names,
        [
            "manifest",
            "adapter",
            "loader",
            "description",
            "decoder",
            "diff",
            "guardrails"
        ]
    );
}

#[test]
fn manifests() {
    replay("manifest");
}

#[test]
fn answers_and_arguments() {
    replay("adapter");
}

#[test]
fn components() {
    replay("loader");
}

#[test]
fn descriptions() {
    replay("description");
}

#[test]
fn answers_of_servers() {
    replay("decoder");
}

#[test]
fn diffs() {
    replay("diff");
}

#[test]
fn guardrails() {
    replay("guardrails");
}
