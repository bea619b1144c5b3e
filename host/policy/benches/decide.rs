//! What a decision costs: 100 grants that all mention the operation, 50 guardrails that all apply to
//! it, and, in the same run, the same call with none of either.
//!
//! No decision is remembered, so each round does all the work; the facts change from round to round.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchost_catalog::Access;
use qchost_policy::{Authority, Context, Facts, Guardrails, Manifest, Project, Resource, Usd};

const ROUNDS: u32 = 20_000;

fn main() {
    let text = grants(100, |at| format!("projects = [\"Lab/{at}/*\"]"), "*");
    let begun = Instant::now();
    let all = authority(&text, 50);
    let took = begun.elapsed().as_secs_f64() * 1e3;
    println!("load: 100 grants of all operations, 50 guardrails: {took:.0} ms");
    drop(all);

    let call = "backtests/create-backtest";
    let one = authority(&grants(1, |_| "projects = [\"Lab/*\"]".to_owned(), call), 0);
    show("floor: 1 grant, no guardrail", &one, call, None);

    let apart = |at: usize| {
        format!(
            "projects = [\"Lab/{at}/*\"]\nlimits = {{ per-day = {} }}",
            at + 1
        )
    };
    let many = authority(&grants(100, apart, call), 50);
    show(
        "100 grants, of which one covers; 50 guardrails",
        &many,
        call,
        None,
    );

    let same = |at: usize| {
        format!(
            "projects = [\"Lab/*\"]\nlimits = {{ per-day = {} }}",
            at + 1
        )
    };
    let many = authority(&grants(100, same, call), 50);
    show(
        "100 grants of the same scope; 50 guardrails",
        &many,
        call,
        None,
    );

    let call = "optimizations/create-optimization";
    let priced = |at: usize| format!("projects = [\"Lab/{at}/*\"]\nmax-cost = {}.5", at + 10);
    let many = authority(&grants(100, priced, call), 50);
    show(
        "100 grants with prices, of which one covers; 50 guardrails",
        &many,
        call,
        Some(Usd(52_345)),
    );

    let worst = |at: usize| format!("projects = [\"Lab/*\", \"Other/{at}/*\"]");
    let many = authority(&grants(100, worst, call), 50);
    show(
        "100 grants that all cover and all differ; 50 guardrails",
        &many,
        call,
        None,
    );
}

fn grants(count: usize, scope: impl Fn(usize) -> String, operation: &str) -> String {
    let mut text =
        "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"research\"\n".to_owned();
    for at in 0..count {
        writeln!(
            text,
            "[[grant]]\nname = \"g{at}\"\nallow = [\"{operation}\"]\n{}",
            scope(at)
        )
        .unwrap();
    }
    text
}

fn authority(manifest: &str, guardrails: usize) -> Authority {
    let mut text = String::new();
    for at in 0..guardrails {
        let condition = match at % 3 {
            0 => format!("resource.name like \"Prod/{at}/*\""),
            1 => format!(
                "context has parameters && context.parameters > {} && resource.name like \"Big/*\"",
                at + 1
            ),
            _ => format!("resource.name like \"*/{at}-frozen\" && !context.live"),
        };
        writeln!(text, "forbid (principal, action in Action::\"write\", resource is Project) when {{ {condition} }};").unwrap();
    }
    let manifest = Manifest::parse(manifest, Path::new("lab.toml")).unwrap();
    let guardrails = Guardrails::read(&[(PathBuf::from("all.cedar"), text)]).unwrap();
    Authority::new(Arc::new(manifest), &guardrails).unwrap()
}

fn show(what: &str, authority: &Authority, operation: &str, cost: Option<Usd>) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let facts = Facts {
                resource: Resource::Project(Project {
                    id: Some(round + 1),
                    name: format!("Lab/{}/momentum-{round}", round % 100),
                    created: false,
                }),
                context: Context {
                    cost,
                    ..Context::default()
                },
            };
            let begun = Instant::now();
            let decision =
                authority.decide("sha256:00", operation, Access::Write, black_box(&facts));
            let took = begun.elapsed();
            assert!(
                decision.allowed || authority.manifest().grants.len() < 100,
                "{decision:?}"
            );
            took
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.1} µs, p99 {:.1} µs", at(50), at(99));
}
