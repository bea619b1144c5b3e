//! Files with which operators test their own manifests and guardrails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;

use qchost_policy::{CaseResult, Guardrails, run_policy_tests};

const MANIFEST: &str = r#"
plugin    = "strategy-lab"
component = "strategy_lab.wasm"
account   = "research"

[[grant]]
name     = "lab-backtests"
allow    = ["backtests/*"]
projects = ["Lab/*"]
"#;

const CASES: &str = r#"
manifest = "lab.toml"

[[case]]
name      = "the lab may backtest"
operation = "backtests/create-backtest"
project   = { id = 12, name = "Lab/momentum" }
expect    = "allowed"
grants    = ["lab-backtests"]

[[case]]
name      = "and nothing else"
operation = "backtests/create-backtest"
project   = { id = 13, name = "Prod/main" }
expect    = "denied"
reason    = "not the project `Prod/main` (13)"

[[case]]
name       = "not the frozen ones either"
operation  = "backtests/create-backtest"
project    = { id = 14, name = "Lab/frozen" }
expect     = "denied"
guardrails = ["frozen"]

[[case]]
name      = "paper is enough"
operation = "live/create-live-algorithm"
project   = { id = 12, name = "Lab/momentum", created = true }
context   = { brokerage = { profile = "paper" }, data-provider = "free" }
expect    = "allowed"
[[case.grant]]
name           = "paper"
allow          = ["live/create-live-algorithm"]
projects       = [{ created = true }]
brokerages     = ["*"]
data-providers = ["free"]

[[case]]
name      = "live is not"
operation = "live/create-live-algorithm"
project   = { id = 12, name = "Lab/momentum" }
context   = { brokerage = { profile = "ib", live = true }, live = true }
expect    = "denied"
[[case.grant]]
name       = "paper"
allow      = ["live/create-live-algorithm"]
projects   = ["*"]
brokerages = ["*"]

[[case]]
name      = "dear"
operation = "optimizations/create-optimization"
project   = { id = 12, name = "Lab/momentum" }
context   = { cost = 5.01, parameters = 2, node-type = "O2-8", parallel-nodes = 4 }
expect    = "denied"
reason    = "$5.01"
[[case.grant]]
name     = "cheap"
allow    = ["optimizations/*", "optimizations/create-optimization"]
projects = ["*"]
max-cost = 5

[[case]]
name      = "an object"
operation = "object-store/download"
object    = { organization = "o", key = "lab/x" }
context   = { organization = "o" }
expect    = "allowed"
[[case.grant]]
name          = "store"
allow         = ["object-store/*"]
keys          = ["lab/*"]
organizations = ["o"]

[[case]]
name      = "a new tool"
operation = "raw/new_tool"
expect    = "allowed"
[[case.grant]]
name  = "raw"
allow = ["raw/new_tool"]

[[case]]
name      = "a hook"
operation = "http/request"
url       = "https://hooks.example.com/qc/alert"
method    = "POST"
expect    = "allowed"
grants    = ["hook"]
[[case.http]]
name  = "hook"
allow = "https://hooks.example.com/qc/"
"#;

const FROZEN: &str = "@id(\"frozen\")\nforbid (principal, action in Action::\"write\", resource is Project)\nwhen { resource.name like \"*/frozen\" };";

fn run(cases: &str) -> Result<Vec<CaseResult>, String> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("lab.toml"), MANIFEST).unwrap();
    std::fs::write(at("tests.toml"), cases).unwrap();
    let guardrails = Guardrails::read(&[("rails.cedar".into(), FROZEN.to_owned())]).unwrap();
    run_policy_tests(&at("tests.toml"), &guardrails).map_err(|error| error.to_string())
}

#[test]
fn what_is_as_expected_passes() {
    let results = run(CASES).unwrap();
    assert_eq!(results.len(), 9);
    for result in results {
        assert!(result.passed(), "{result:?}");
    }
}

#[test]
fn a_case_says_what_evidence_there_is() {
    let rule = "@id(\"tried-too-often\")\nforbid (principal, action == Action::\"backtests/create-backtest\", resource)\n\
                unless { context has evidence && context.evidence.trials < 1000 };";
    let guardrails = Guardrails::read(&[("rails.cedar".into(), rule.to_owned())]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("lab.toml"), MANIFEST).unwrap();
    let case = |context: &str, expected: &str| {
        format!(
            "[[case]]\nname = \"with {context}\"\noperation = \"backtests/create-backtest\"\n\
             project = {{ id = 12, name = \"Lab/momentum\" }}\n{context}\nexpect = \"{expected}\"\n"
        )
    };
    let cases = [
        "manifest = \"lab.toml\"\n".to_owned(),
        case("context = { evidence = { trials = 999 } }", "allowed"),
        case("context = { evidence = { trials = 1000 } }", "denied"),
        case("", "denied"),
    ];
    std::fs::write(at("tests.toml"), cases.concat()).unwrap();
    let results = run_policy_tests(&at("tests.toml"), &guardrails).unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        assert!(result.passed(), "{result:?}");
    }
}

#[test]
fn what_is_not_as_expected_says_what_it_is() {
    for (from, to, case, problem) in [
        (
            "expect    = \"allowed\"",
            "expect    = \"denied\"",
            0,
            "expected denied, and it is allowed",
        ),
        (
            "id = 12, name = \"Lab/momentum\" }",
            "id = 12, name = \"Prod/x\" }",
            0,
            "expected allowed, and it is denied: grant `lab-backtests` covers",
        ),
        (
            "[\"lab-backtests\"]",
            "[\"other\"]",
            0,
            "expected the grants [other], and they are [lab-backtests]",
        ),
        (
            "not the project `Prod",
            "not the project `Lab",
            1,
            "expected a reason with",
        ),
        (
            "[\"frozen\"]",
            "[]",
            2,
            "expected the guardrails [], and they are [frozen]",
        ),
    ] {
        assert!(CASES.contains(from), "{from}");
        let results = run(&CASES.replacen(from, to, 1)).unwrap();
        let failed: Vec<_> = results.iter().filter(|result| !result.passed()).collect();
        assert_eq!(failed.len(), 1, "{to}: {failed:?}");
        assert_eq!(failed[0].name, results[case].name);
        assert!(
            failed[0].problems.iter().any(|text| text.contains(problem)),
            "{to}: {failed:?}"
        );
    }
}

#[test]
fn a_case_that_is_misspelt_is_an_error() {
    for (from, to, expected) in [
        (
            "expect    = \"allowed\"",
            "expct     = \"allowed\"",
            "tests.toml:8: case `the lab may backtest`.expct: unknown key; did you mean `expect`?",
        ),
        (
            "expect    = \"allowed\"",
            "expect    = \"allow\"",
            "tests.toml:8: case `the lab may backtest`.expect: `allow` is not",
        ),
        (
            "backtests/create-backtest",
            "backtests/create-backtests",
            "`backtests/create-backtests` is no operation; did you mean `backtests/create-backtest`?",
        ),
        (
            "{ id = 12,",
            "{ idd = 12,",
            "unknown key; did you mean `id`?",
        ),
        ("created = true }", "created = 1 }", "must be true or false"),
        (
            "project   = { id = 12",
            "organization = \"o\"\nproject   = { id = 12",
            "a case has one resource",
        ),
        (
            "manifest = \"lab.toml\"",
            "manifest = \"gone.toml\"",
            "gone.toml: cannot read the manifest",
        ),
        ("cost = 5.01", "cost = -1.0", "is no amount of dollars"),
        (
            "max-cost = 5",
            "max-cots = 5",
            "grant `cheap`.max-cots: unknown key",
        ),
        ("[[case]]", "[[cases]]", "unknown key; did you mean `case`?"),
        (
            "name  = \"hook\"",
            "name  = \"hook\"\nmethods = [\"FETCH\"]",
            "`FETCH` is no method",
        ),
    ] {
        assert!(CASES.contains(from), "{from}");
        let error = run(&CASES.replacen(from, to, 1)).expect_err(to);
        assert!(error.contains(expected), "{to}: {error}");
    }
    let missing = run_policy_tests(Path::new("/no/such.toml"), &Guardrails::none()).unwrap_err();
    assert!(missing.to_string().contains("/no/such.toml"), "{missing}");
}
