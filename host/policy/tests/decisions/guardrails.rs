//! Guardrails forbid regardless of grants, and a call that a guardrail cannot decide on is denied.

use qchost_policy::{Context, Evidence, Facts, Resource, Usd};

use crate::rows::{Row, allowed, check, denied, deploy, forbidden, named, object, own, project, with};

const WIDE: &str = "[[grant]]\nname = \"g\"\nallow = [\"*\", \"live/create-live-algorithm\", \"backtests/delete-backtest\"]\n\
    projects = [\"*\"]\nbrokerages = [\"*\", \"ib\"]\ndata-providers = [\"*\"]\norganizations = [\"*\"]\nkeys = [\"*\"]\n";

#[test]
fn a_guardrail_forbids_whatever_is_granted() {
    let prod = r#"
@id("no-live-in-prod")
forbid (principal, action in Action::"trade", resource is Project)
when { resource.name like "Prod/*" };

@id("production-is-read-only")
forbid (principal, action in [Action::"write", Action::"destroy"], resource is Project)
when { resource.name like "Prod/*" }
unless { principal.account == "release" };
"#;
    let at = |name: &str| Facts { context: deploy("paper", false).context, ..project(12, name) };
    check(
        WIDE,
        &[prod],
        &[
            allowed("live/create-live-algorithm", at("Lab/x"), &["g"]),
            forbidden("live/create-live-algorithm", at("Prod/x"), &["no-live-in-prod"]),
            allowed("backtests/read-backtest", project(1, "Prod/x"), &["g"]),
            forbidden("backtests/create-backtest", project(1, "Prod/x"), &["production-is-read-only"]),
            forbidden("backtests/delete-backtest", project(1, "Prod/x"), &["production-is-read-only"]),
            allowed("backtests/delete-backtest", project(1, "Lab/x"), &["g"]),
            allowed("live/stop-live-algorithm", project(1, "Prod/x"), &["g"]),
            forbidden("projects/create-project", named("Prod/new"), &["production-is-read-only"]),
            allowed("projects/create-project", named("Lab/new"), &["g"]),
        ],
    );
}

#[test]
fn guardrails_see_plugin_resource_and_context() {
    let one = |text: &str, rows: &[Row]| check(WIDE, &[text], rows);
    let trade = "live/create-live-algorithm";
    one(
        "@id(\"x\") forbid (principal == Plugin::\"plugin\", action, resource);",
        &[forbidden("backtests/read-backtest", project(1, "a"), &["x"]), forbidden("account/read-account", Facts::of(Resource::Account), &["x"])],
    );
    one("@id(\"x\") forbid (principal == Plugin::\"other\", action, resource);", &[allowed("backtests/read-backtest", project(1, "a"), &["g"])]);
    one(
        "@id(\"x\") forbid (principal is Plugin in Plugin::\"plugin\", action, resource);",
        &[forbidden("backtests/read-backtest", project(1, "a"), &["x"])],
    );
    one("@id(\"x\") forbid (principal is Person, action, resource);", &[allowed("backtests/read-backtest", project(1, "a"), &["g"])]);
    one(
        "@id(\"x\") forbid (principal, action == Action::\"backtests/read-backtest\", resource);",
        &[forbidden("backtests/read-backtest", project(1, "a"), &["x"]), allowed("backtests/list-backtests", project(1, "a"), &["g"])],
    );
    one(
        "@id(\"x\") forbid (principal, action in Action::\"backtests\", resource);",
        &[forbidden("backtests/read-backtest", project(1, "a"), &["x"]), allowed("files/read-file", project(1, "a"), &["g"])],
    );
    one(
        "@id(\"x\") forbid (principal, action, resource) when { action in Action::\"reduce\" };",
        &[forbidden("live/stop-live-algorithm", project(1, "a"), &["x"]), allowed("live/read-live-algorithm", project(1, "a"), &["g"])],
    );
    one(
        "@id(\"x\") forbid (principal, action, resource == Project::\"12\");",
        &[
            forbidden("files/read-file", project(12, "a"), &["x"]),
            allowed("files/read-file", project(13, "12"), &["g"]),
            allowed("projects/create-project", named("12"), &["g"]),
        ],
    );
    one(
        "@id(\"x\") forbid (principal, action, resource is Project) when { resource has id && resource.id == 12 };",
        &[
            forbidden("files/read-file", project(12, "a"), &["x"]),
            allowed("files/read-file", project(13, "a"), &["g"]),
            allowed("projects/create-project", named("12"), &["g"]),
        ],
    );
    one(
        "@id(\"x\") forbid (principal, action, resource is Project) unless { resource.created };",
        &[forbidden("files/read-file", project(12, "a"), &["x"]), allowed("files/read-file", own(12, "a"), &["g"])],
    );
    one(
        "@id(\"x\") forbid (principal is Plugin, action, resource) when { context.live };",
        &[forbidden(trade, deploy("ib", true), &["x"]), allowed(trade, deploy("paper", false), &["g"])],
    );
    one(
        "@id(\"x\") forbid (principal is Plugin, action, resource) when { context has brokerage && context.brokerage.profile == \"ib\" };",
        &[
            forbidden(trade, deploy("ib", true), &["x"]),
            allowed(trade, deploy("paper", false), &["g"]),
            allowed("files/read-file", project(1, "a"), &["g"]),
        ],
    );
    one(
        "@id(\"x\") forbid (principal is Plugin, action, resource) when { context has cost && context.cost.greaterThan(decimal(\"10.5\")) };",
        &[
            forbidden("optimizations/create-optimization", with(project(1, "a"), |c| c.cost = Some(Usd(105_001))), &["x"]),
            allowed("optimizations/create-optimization", with(project(1, "a"), |c| c.cost = Some(Usd(105_000))), &["g"]),
            allowed("optimizations/create-optimization", project(1, "a"), &["g"]),
        ],
    );
    one(
        "@id(\"x\") forbid (principal is Plugin, action, resource) when { context has parallel_nodes && context.parallel_nodes > 4 };",
        &[
            forbidden("optimizations/create-optimization", with(project(1, "a"), |c| c.parallel_nodes = Some(5)), &["x"]),
            allowed("optimizations/create-optimization", with(project(1, "a"), |c| c.parallel_nodes = Some(4)), &["g"]),
        ],
    );
    one(
        "@id(\"x\") forbid (principal is Plugin, action == Action::\"live/create-live-algorithm\", resource) unless { context has evidence && context.evidence.trials < 1000 };",
        &[
            forbidden(trade, with(project(1, "a"), |c| c.evidence = Some(Evidence { trials: 1000 })), &["x"]),
            allowed(trade, with(project(1, "a"), |c| c.evidence = Some(Evidence { trials: 999 })), &["g"]),
            // What is unknown is not few.
            forbidden(trade, project(1, "a"), &["x"]),
            allowed("files/read-file", project(1, "a"), &["g"]),
        ],
    );
    one(
        "@id(\"x\") forbid (principal, action, resource is Object) when { resource.key like \"secret/*\" };",
        &[forbidden("object-store/download", object("o", "secret/a"), &["x"]), allowed("object-store/download", object("o", "lab/a"), &["g"])],
    );
    one(
        "@id(\"x\") forbid (principal is Plugin, action, resource) when { principal.digest != \"sha256:00\" };",
        &[allowed("files/read-file", project(1, "a"), &["g"])],
    );
    one(
        "@id(\"x\") forbid (principal is Plugin, action, resource) unless { principal.digest == \"sha256:11\" };",
        &[forbidden("files/read-file", project(1, "a"), &["x"])],
    );
    one(
        "@id(\"x\") forbid (principal is Plugin, action, resource) when { principal.account == \"research\" };",
        &[forbidden("files/read-file", project(1, "a"), &["x"])],
    );
    one(
        "@id(\"x\") forbid (principal is Plugin, action, resource) when { [\"a\", \"b\"].contains(principal.name) };",
        &[allowed("files/read-file", project(1, "a"), &["g"])],
    );
}

#[test]
fn an_error_in_a_guardrail_denies_and_says_which() {
    let broken = r#"
@id("overflows")
forbid (principal is Plugin, action, resource)
when { context has parameters && context.parameters * 9223372036854775807 > 5 };
"#;
    let counted = |count| with(project(1, "a"), |context| context.parameters = Some(count));
    check(
        WIDE,
        &[broken],
        &[
            allowed("backtests/read-backtest", project(1, "a"), &["g"]),
            allowed("backtests/create-backtest", counted(0), &["g"]),
            forbidden("backtests/create-backtest", counted(1), &["overflows"]),
            denied("backtests/create-backtest", counted(2), "the guardrail `overflows` could not be evaluated, so it denies"),
        ],
    );
}

#[test]
fn every_guardrail_that_forbids_is_named() {
    let two = "@id(\"one\") forbid (principal, action, resource);\nforbid (principal, action in Action::\"read\", resource);";
    check(
        WIDE,
        &[two],
        &[
            forbidden("backtests/read-backtest", project(1, "a"), &["one", "rails-0.cedar:2"]),
            forbidden("backtests/create-backtest", project(1, "a"), &["one"]),
        ],
    );
    check("", &[two], &[denied("backtests/read-backtest", project(1, "a"), "the guardrail `one` forbids it")]);
}

#[test]
fn what_the_call_has_and_no_grant_is_asked_about_is_denied() {
    let stray = |change: fn(&mut Context)| with(project(1, "Lab/x"), change);
    check(
        WIDE,
        &[],
        &[
            allowed("backtests/read-backtest", project(1, "Lab/x"), &["g"]),
            denied("backtests/read-backtest", stray(|c| c.command = Some("x".to_owned())), "it has a live command"),
            denied("backtests/read-backtest", stray(|c| c.collaborator = Some("x".to_owned())), "it has a collaborator"),
            denied("backtests/read-backtest", stray(|c| c.organization = Some("x".to_owned())), "it has an organisation"),
            denied("no/such-operation", project(1, "Lab/x"), "there is no operation of this name"),
            denied("", project(1, "Lab/x"), "there is no operation of this name"),
            denied("account/read-account", project(1, "Lab/x"), "cannot be decided on a project"),
        ],
    );
}
