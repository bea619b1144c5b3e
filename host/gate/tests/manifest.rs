//! What an operator sees of a manifest: the good ones are read whole, the others say what is wrong
//! and where.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use qchost_gate::{Limits, Manifest};

const GOOD: &str = r#"
plugin    = "strategy-lab"
component = "strategy_lab.wasm"
digest    = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
account   = "research"

[[grant]]
name  = "lab"
allow = ["projects/create-project", "backtests/*", "workflow"]

[limits]
memory      = "32MiB"
cpu         = "1500ms"
wall        = "2m"
concurrency = 4
output      = "1MiB"

[config]
benchmark = "SPY"
nested = { a = [1, 2.5, true] }
"#;

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse(text, Path::new("/etc/qchost/lab.toml")).map_err(|error| error.to_string())
}

#[test]
fn a_good_manifest_is_read_whole() {
    let manifest = parse(GOOD).unwrap();
    assert_eq!(manifest.plugin, "strategy-lab");
    assert_eq!(
        manifest.component,
        Path::new("/etc/qchost/strategy_lab.wasm")
    );
    assert_eq!(manifest.account, "research");
    assert_eq!(manifest.grants.len(), 1);
    assert_eq!(
        manifest.limits,
        Limits {
            memory: 32 << 20,
            cpu: Duration::from_millis(1500),
            wall: Duration::from_secs(120),
            concurrency: 4,
            output: 1 << 20,
        }
    );
    assert_eq!(manifest.config["nested"]["a"][1], 2.5);
}

#[test]
fn an_error_says_where_and_what_is_allowed() {
    for (from, to, expected) in [
        (
            "plugin    =",
            "plugn     =",
            "plugn: unknown key; did you mean `plugin`?",
        ),
        (
            "allow = [",
            "alow = [",
            "grant.alow: unknown key; did you mean `allow`?",
        ),
        (
            "allow = [",
            "projects = [\"Lab/*\"]\nallow = [",
            "`grant.projects` is not enforced by this version",
        ),
        (
            "[limits]",
            "[[schedule]]\n[limits]",
            "`schedule` is not enforced by this version",
        ),
        (
            "backtests/*",
            "backtest/*",
            "`backtest/*` names no operation; did you mean",
        ),
        ("backtests/*", "live-commands/*", "must be named in full"),
        (
            "concurrency = 4",
            "concurrency = 0",
            "limits.concurrency: 0 is not between 1 and 1000",
        ),
        (
            "concurrency = 4",
            "concurrency = \"4\"",
            "lab.toml:15: invalid type: string",
        ),
        (
            "\"32MiB\"",
            "\"32 parsecs\"",
            "limits.memory: `32 parsecs` is not a size such as",
        ),
        (
            "\"32MiB\"",
            "\"99999999999999999999GiB\"",
            "is not between 1B and 4GiB",
        ),
        (
            "\"2m\"",
            "\"-2m\"",
            "limits.wall: `-2m` is not a time such as",
        ),
        ("\"2m\"", "\"25h\"", "is not between 1ms and 24h"),
        ("wall  ", "wal  ", "unknown field `wal`"),
        (
            "\"strategy-lab\"",
            "\"Strategy Lab\"",
            "plugin: `Strategy Lab` is not a name",
        ),
        ("sha256:0", "sha1:0", "digest: "),
        (
            "\"strategy_lab.wasm\"",
            "\"oci://example.com/lab\"",
            "only files next to the manifest",
        ),
        ("account   = \"research\"", "", "missing field `account`"),
        (
            "[config]",
            "[[grant]]\nname = \"lab\"\nallow = []\n[config]",
            "two grants of this name",
        ),
        ("[config]", "[config", "lab.toml:18: "),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = parse(&GOOD.replacen(from, to, 1)).expect_err(to);
        assert!(error.contains(expected), "{to}: {error}");
        assert!(error.starts_with("/etc/qchost/lab.toml"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Manifest::load(Path::new("/does/not/exist.toml"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/does/not/exist.toml"), "{error}");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,400}") {
        drop(parse(&text));
    }

    #[test]
    fn no_change_of_a_good_one_makes_the_parser_panic(at in 0usize..500, with in ".{0,4}") {
        let at = at.min(GOOD.len());
        if GOOD.is_char_boundary(at) {
            let (before, after) = GOOD.split_at(at);
            drop(parse(&format!("{before}{with}{after}")));
        }
    }
}
