//! Parsing of manifests: good ones are read completely, errors name the problem and its line, and the
//! published schema agrees.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[rustfmt::skip] // A change a line.
mod changes;

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use qchost_policy::{
    Alias, Approval, FolderGrant, FolderMode, Glob, GrantLimits, Limits, Manifest, ManifestError,
    ProjectScope, Usd, manifest_schema,
};
use serde_json::{Value, json};

use changes::CHANGES;

const GOOD: &str = r#"
plugin    = "strategy-lab"
component = "strategy_lab.wasm"
digest    = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
account   = "research"
egress    = "licensed"
[[grant]]
name           = "lab"
allow          = ["projects/create-project", "backtests/*", "workflow", "raw/new_tool"]
projects       = ["Lab/*", 12345, { created = true }]
organizations  = ["*"]
keys           = ["lab/*"]
brokerages     = ["paper"]
data-providers = ["free"]
commands       = ["OrderCommand"]
collaborators  = ["ada"]
files          = ["*.py"]
nodes          = ["O2-*"]
max-cost       = 5
max-parameters = 3
limits         = { concurrent = 4, per-second = 2, per-minute = 60, per-day = 500, cost-per-day = 20.55 }
approval       = "operator"

[limits]
memory      = "32MiB"
cpu         = "1500ms"
wall        = "2m"
concurrency = 4
output      = "1MiB"

[config]
benchmark = "SPY"
nested = { a = [1, 2.5, true] }

[[http]]
allow     = "https://Hooks.example.com/qc/"
methods   = ["POST"]
headers   = { Authorization = { env = "ALERT_TOKEN" }, X-From = "lab", X-Key = { vault = "kv/hooks#key" } }
addresses = ["10.0.0.7", "fd00::1"]
limits    = { per-minute = 10 }
request   = "64KiB"
response  = "1KiB"
timeout   = "5s"

[[folder]]
name      = "reports"
path      = "/srv/reports"
mode      = "read-write"
max-bytes = "1GiB"
max-files = 700

[[alias]]
name   = "quantconnect.backtest.run"
action = "backtest"
"#;

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse(text, Path::new("/etc/qchost/lab.toml")).map_err(|error| error.to_string())
}

fn globs(texts: &[&str]) -> Vec<Glob> {
    texts
        .iter()
        .map(|text| Glob::parse(text).unwrap())
        .collect()
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

    let [grant] = manifest.grants.as_slice() else {
        panic!("{:?}", manifest.grants)
    };
    let allow: Vec<_> = grant.allow.iter().map(|pattern| pattern.as_str()).collect();
    assert_eq!(
        allow,
        [
            "projects/create-project",
            "backtests/*",
            "workflow",
            "raw/new_tool"
        ]
    );
    assert_eq!(
        grant.projects,
        [
            ProjectScope::Name(Glob::parse("Lab/*").unwrap()),
            ProjectScope::Id(12345),
            ProjectScope::Created
        ]
    );
    for (found, expected) in [
        (&grant.organizations, "*"),
        (&grant.keys, "lab/*"),
        (&grant.brokerages, "paper"),
        (&grant.data_providers, "free"),
        (&grant.commands, "OrderCommand"),
        (&grant.collaborators, "ada"),
        (grant.files.as_ref().unwrap(), "*.py"),
        (grant.nodes.as_ref().unwrap(), "O2-*"),
    ] {
        assert_eq!(found, &globs(&[expected]));
    }
    assert_eq!(grant.max_cost, Some(Usd(50_000)));
    assert_eq!(grant.max_parameters, Some(3));
    assert_eq!(
        grant.limits,
        GrantLimits {
            concurrent: Some(4),
            per_second: Some(2),
            per_minute: Some(60),
            per_day: Some(500),
            cost_per_day: Some(Usd(205_500)),
        }
    );
    assert_eq!(grant.approval, Approval::Operator);

    let [http] = manifest.http.as_slice() else {
        panic!("{:?}", manifest.http)
    };
    assert_eq!(http.name, "hooks-example-com-qc");
    assert_eq!(http.url.to_string(), "https://hooks.example.com/qc/");
    assert_eq!(
        (http.url.host.as_str(), http.url.port),
        ("hooks.example.com", 443)
    );
    assert_eq!(http.methods, ["POST"]);
    assert_eq!(
        http.headers["authorization"],
        json!({ "env": "ALERT_TOKEN" })
    );
    assert_eq!(http.headers["x-from"], json!("lab"));
    assert_eq!(http.addresses.len(), 2);
    assert_eq!(http.limits.per_minute, Some(10));
    assert_eq!((http.request, http.response), (64 << 10, 1 << 10));
    assert_eq!(http.timeout, Duration::from_secs(5));
}

#[test]
fn a_folder_is_read_whole_and_has_quotas_that_are_not_written() {
    let reports = FolderGrant {
        name: "reports".to_owned(),
        path: "/srv/reports".into(),
        mode: FolderMode::ReadWrite,
        max_bytes: 1 << 30,
        max_files: 700,
    };
    assert_eq!(parse(GOOD).unwrap().folders, std::slice::from_ref(&reports));
    let without = GOOD.replace("max-bytes = \"1GiB\"\nmax-files = 700\n", "");
    let usual = FolderGrant {
        max_bytes: 64 << 20,
        max_files: 10_000,
        ..reports
    };
    assert_eq!(parse(&without).unwrap().folders, [usual]);
}

#[test]
fn what_is_not_written_is_nothing() {
    let manifest = parse(
        "plugin = \"a\"\ncomponent = \"a.wasm\"\naccount = \"b\"\n\
         [[grant]]\nname = \"g\"\nallow = [\"backtests/*\"]\n\
         [[http]]\nallow = \"http://localhost:8080\"\n",
    )
    .unwrap();
    let grant = &manifest.grants[0];
    assert!(grant.projects.is_empty() && grant.keys.is_empty() && grant.organizations.is_empty());
    assert!(grant.files.is_none() && grant.max_cost.is_none());
    assert_eq!(grant.limits, GrantLimits::default());
    assert_eq!(grant.approval, Approval::None);
    let http = &manifest.http[0];
    assert_eq!(http.methods, ["GET", "HEAD", "POST"]);
    assert_eq!(http.url.to_string(), "http://localhost:8080/");
    assert_eq!(http.name, "localhost");
    assert!(http.addresses.is_empty() && http.headers.is_empty());
}

#[test]
fn an_error_says_where_and_what_is_allowed() {
    for (from, to, line, expected) in CHANGES {
        assert!(GOOD.contains(from), "{from}");
        let error = parse(&GOOD.replacen(from, to, 1)).expect_err(to);
        assert!(error.contains(expected), "{to}: {error}");
        let place = format!("/etc/qchost/lab.toml:{line}: ");
        assert!(error.starts_with(&place), "{to}: not at {line}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Manifest::load(Path::new("/does/not/exist.toml")).unwrap_err();
    assert!(matches!(error, ManifestError::Read { .. }));
    assert!(
        error.to_string().contains("/does/not/exist.toml"),
        "{error}"
    );
}

fn as_json(text: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(text).ok()?;
    serde_json::to_value(table).ok()
}

/// Errors that the schema cannot express: unknown names, duplicate names, and sizes as numbers.
const BEYOND_A_SCHEMA: &[&str] = &[
    "names no operation",
    "must be named in full",
    "two grants of this name",
    "is there twice",
    "is not between 1B",
    "is not between 1ms",
    "must not hold line breaks",
    "belongs to the connection",
    "has a `..`",
    "is no name of a header",
    "is no address such as",
    "may hold licensed data",
    "two aliases of this name",
    "is named like a secret",
    "looks like an Authorization header",
    // TOML has numbers that JSON does not have.
    "NaN",
    "must be finite",
];

#[test]
fn the_schema_says_what_the_parser_says() {
    let schema = jsonschema::validator_for(&manifest_schema()).unwrap();
    assert!(schema.is_valid(&as_json(GOOD).unwrap()));
    let mut compared = 0;
    for (from, to, _, expected) in CHANGES {
        let Some(document) = as_json(&GOOD.replacen(from, to, 1)) else {
            continue;
        };
        if BEYOND_A_SCHEMA.iter().any(|part| expected.contains(part)) {
            continue;
        }
        assert!(!schema.is_valid(&document), "the schema takes {to}");
        compared += 1;
    }
    assert!(compared >= 40, "{compared}");
    for (from, to) in [
        ("\"Lab/*\", 12345, { created = true }", ""),
        ("= 5\n", "= 0.0001\n"),
        ("\"operator\"", "\"none\""),
        (
            "\"backtests/*\"",
            "\"backtests/read-*\", \"raw/*\", \"live/create-live-algorithm\"",
        ),
        ("\"5s\"", "\"500ms\""),
        ("limits         = {", "limits = { #"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        if let Some(document) = as_json(&text) {
            parse(&text).unwrap();
            assert!(schema.is_valid(&document), "the schema refuses {to}");
        }
    }
}

#[test]
fn a_secret_in_config_is_refused_without_its_value_and_its_harmless_twin_is_not() {
    let with = |line: &str| GOOD.replacen("benchmark = \"SPY\"", line, 1);
    for (secret, value, allowed) in [
        ("password = \"hunter2\"", "hunter2", "password = \"\""),
        (
            "slack-token = \"hunter2\"",
            "hunter2",
            "max-tokens = \"hunter2\"",
        ),
        (
            "secrets = { main = \"hunter2\" }",
            "hunter2",
            "secrets = { main = 7 }",
        ),
        (
            "api-key = [\"\", \"hunter2\"]",
            "hunter2",
            "keys = [\"\", \"hunter2\"]",
        ),
        (
            "note = \"-----BEGIN PRIVATE KEY-----\\nMII\"",
            "MII",
            "note = \"-----BEGIN CERTIFICATE-----\\nMII\"",
        ),
        (
            "list = [{ deep = \"Bearer hunter2\" }]",
            "hunter2",
            "list = [{ deep = \"bearer of bad news\" }]",
        ),
        (
            "model = \"9f86d081884c7d659a2feaa0c55ad015\"",
            "9f86d081",
            "model-digest = \"9f86d081884c7d659a2feaa0c55ad015\"",
        ),
    ] {
        let error = parse(&with(secret)).expect_err(secret);
        assert!(error.contains(":32: config."), "{error}");
        assert!(error.contains("[[http]] headers = {"), "{error}");
        assert!(!error.contains(value), "{error}");
        parse(&with(allowed)).expect(allowed);
    }
}

#[test]
fn a_value_of_config_is_found_by_its_pointer() {
    let text = GOOD.replacen(
        "nested = { a = [1, 2.5, true] }",
        "[config.nested]\na = [\n1,\n2]\n\"b/c\" = 3",
        1,
    );
    let manifest = parse(&text).unwrap();
    for (pointer, key, line) in [
        ("", "config", 31),
        ("/benchmark", "config.benchmark", 32),
        ("/nested", "config.nested", 33),
        ("/nested/a/1", "config.nested.a", 36),
        ("/nested/b~1c", "config.nested.b/c", 37),
        ("/nested/a/7/deeper", "config.nested.a", 34),
        ("/missing", "config", 31),
    ] {
        let (found, at) = manifest.place_in_config(pointer);
        assert_eq!((found.as_str(), at), (key, line), "{pointer}");
    }
    let without = GOOD.split_once("[config]").unwrap().0;
    let place = parse(without).unwrap().place_in_config("");
    assert_eq!(place, ("config".to_owned(), 1));
}

#[test]
fn aliases_are_names_with_dots_that_differ_with_underscores_too() {
    let manifest = parse(GOOD).unwrap();
    let alias = Alias {
        name: "quantconnect.backtest.run".to_owned(),
        action: "backtest".to_owned(),
    };
    assert_eq!(manifest.aliases, [alias]);
    let long = "x".repeat(64);
    let with = |name: &str| parse(&GOOD.replacen("quantconnect.backtest.run", name, 1));
    for name in ["run", "a.b", "a-b.0", "-", &long] {
        assert_eq!(with(name).unwrap().aliases[0].name, name);
    }
    // With underscores it is that of `a.b`.
    for name in [
        "a_b",
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "A.b",
        "a b",
        "a/b",
        &format!("{long}a"),
        &format!("{long}.a"),
    ] {
        let error = with(name).expect_err(name);
        assert!(error.contains("is not an alias: "), "{name}: {error}");
    }
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn look(schema: &Value, path: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let described =
                property.get("description").is_some() || property.get("const").is_some();
            assert!(described || path.contains(".headers"), "{path}");
            look(property, &path);
            look(&property["items"], &path);
        }
    }
    look(&manifest_schema(), "");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,400}") {
        drop(parse(&text));
    }

    #[test]
    fn no_change_of_a_good_one_makes_the_parser_panic(at in 0usize..1700, with in ".{0,4}") {
        let at = at.min(GOOD.len());
        if GOOD.is_char_boundary(at) {
            let (before, after) = GOOD.split_at(at);
            let schema = manifest_schema();
            prop_assert!(schema.is_object());
            match parse(&format!("{before}{with}{after}")) {
                Ok(manifest) => prop_assert!(!manifest.plugin.is_empty()),
                Err(error) => prop_assert!(error.starts_with("/etc/qchost/lab.toml:"), "{error}"),
            }
        }
    }
}
