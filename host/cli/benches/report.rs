//! Makes BENCHMARKS.md of what the benchmarks measured: a table with every figure beside its floor and its target, and
//! the machine on which that was. Run after them, by `make bench`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use qchost_testing::report::figure;
use serde_json::Value;

/// The benchmarks, in the order of the table.
const PARTS: [(&str, &str); 9] = [
    ("invoke", "Invocations and scalar calls of the host"),
    ("bridge", "From JSON into the guest"),
    ("calls", "Calls end to end"),
    ("parked", "Memory of parked invocations"),
    (
        "reload",
        "Reload: from the renaming of the file to the first answer of the new version",
    ),
    ("start", "Start and idle memory"),
    ("mcp", "The MCP server"),
    ("hostile", "A well-behaved plugin beside hostile ones"),
    ("revocation", "Revocation"),
];

const HEAD: &str = "# Benchmarks

Written by `make bench`. A floor is measured in the same run as the figure beside it and in turns with it, so that
whatever else the machine does slows both; the ratio is the figure over its floor. A target that was missed stands here
as missed.

Built as a release is. Reloads, starts, idle memory and `qchost mcp` are those of the released program, without what the
other benchmarks need. Memory is what is resident (`VmRSS`), the program's own code with it. That of parked invocations is
what the process grew by, counted twice: resident, with the kernel's page tables (`VmPTE`), and with a page that several of
them show counted once (`Pss`); the target holds for both.
";

fn main() {
    let mut text = format!("{HEAD}\n{}", machine());
    for (name, title) in PARTS {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench/{name}.jsonl"));
        let rows = std::fs::read_to_string(file).unwrap_or_default();
        write!(text, "\n## {title}\n\n").unwrap();
        if rows.is_empty() {
            text.push_str("Not measured.\n");
            continue;
        }
        text.push_str(
            "| what | measured | floor | ratio | target | met |\n|---|--:|--:|--:|---|---|\n",
        );
        for row in rows.lines() {
            let row: Value = serde_json::from_str(row).unwrap();
            let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let met = match row["met"].as_bool() {
                Some(true) => "yes",
                Some(false) => "**missed**",
                None => "",
            };
            let with_unit = |value: &Value| match figure(value) {
                text if text.is_empty() => text,
                text => format!("{text} {}", word("unit")),
            };
            writeln!(
                text,
                "| {} | {} | {} | {} | {} | {met} |",
                word("what"),
                with_unit(&row["measured"]),
                with_unit(&row["floor"]),
                figure(&row["ratio"]),
                word("target"),
            )
            .unwrap();
        }
    }
    print!("{text}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("BENCHMARKS.md");
    std::fs::write(path, text).unwrap();
}

/// What it ran on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")
                .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
        })
        .unwrap_or_else(|| "unknown".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kilobytes| kilobytes / 1_048_576);
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let rustc = Command::new("rustc").arg("--version").output().unwrap();
    let rustc = String::from_utf8(rustc.stdout).unwrap().trim().to_owned();
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "| machine | |\n|---|---|\n| processor | {processor} |\n| cores | {cores} |\n| memory | {memory} GiB |\n| kernel | Linux {kernel} |\n| compiler | {rustc} |\n| load when this was written | {load} |\n"
    )
}
