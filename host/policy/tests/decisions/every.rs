//! Every operation of the catalog, granted and denied in each possible way.

use qchost_catalog::{Access, OPERATIONS};
use qchost_policy::{Brokerage, Facts, Resource};

use crate::rows::{allowed, check, denied, forbidden, object, organization, project};

#[test]
fn nothing_is_granted_by_nothing() {
    for (name, _, scopes) in EVERY {
        check("", &[], &[denied(name, thing(scopes), "no grant of `plugin` allows")]);
    }
}

/// For each operation of the catalog, what it acts on, and the scopes that it needs, as an operator
/// who reads the contract would write them; with `=*` where a scope has to be for everything.
#[rustfmt::skip]
const EVERY: &[(&str, Access, &str)] = &[
    ("account/read-account", Access::Read, ""),
    ("account/read-organization-account", Access::Read, "organizations"),
    ("agents/create-agent", Access::Write, "organizations recipients"),
    ("agents/read-agent", Access::Read, "organizations=*"),
    ("agents/update-agent", Access::Write, "organizations=* recipients"),
    ("agents/delete-agent", Access::Destroy, "organizations=*"),
    ("agents/list-agents", Access::Read, "organizations"),
    ("agent-tasks/create-agent-task", Access::Write, "organizations"),
    ("agent-tasks/read-agent-task", Access::Read, "organizations=*"),
    ("agent-tasks/update-agent-task", Access::Write, "organizations=*"),
    ("agent-tasks/delete-agent-task", Access::Destroy, "organizations=*"),
    ("agent-tasks/list-agent-tasks", Access::Read, "organizations"),
    ("agent-deployments/create-agent-deployment", Access::Trade, "organizations=*"),
    ("agent-deployments/read-agent-deployment", Access::Read, "organizations=*"),
    ("agent-deployments/prompt-agent-deployment", Access::Trade, "organizations=*"),
    ("agent-deployments/list-agent-deployments", Access::Read, "organizations=*"),
    ("agent-deployments/stop-agent-deployment", Access::Reduce, "organizations=*"),
    ("agent-deployments/delete-agent-deployment", Access::Destroy, "organizations=*"),
    ("agent-deployments/read-agent-conversation", Access::Read, "organizations=*"),
    ("ai/check-initialization-errors", Access::Read, ""),
    ("ai/complete-code", Access::Read, ""),
    ("ai/enhance-error-message", Access::Read, ""),
    ("ai/update-code-to-pep8", Access::Read, ""),
    ("ai/check-syntax", Access::Read, ""),
    ("ai/search-quantconnect", Access::Read, ""),
    ("backtests/create-backtest", Access::Write, "projects"),
    ("backtests/read-backtest", Access::Read, "projects"),
    ("backtests/list-backtests", Access::Read, "projects"),
    ("backtests/read-backtest-chart", Access::Read, "projects"),
    ("backtests/read-backtest-orders", Access::Read, "projects"),
    ("backtests/filter-backtest-orders", Access::Read, "projects"),
    ("backtests/read-backtest-insights", Access::Read, "projects"),
    ("backtests/read-backtest-trades", Access::Read, "projects"),
    ("backtests/read-backtest-logs", Access::Read, "projects"),
    ("backtests/read-backtest-report", Access::Read, "projects"),
    ("backtests/update-backtest-tags", Access::Write, "projects"),
    ("backtests/update-backtest", Access::Write, "projects"),
    ("backtests/delete-backtest", Access::Destroy, "projects"),
    ("collaboration/create-project-collaborator", Access::Trade, "projects collaborators"),
    ("collaboration/read-project-collaborators", Access::Read, "projects"),
    ("collaboration/update-project-collaborator", Access::Trade, "projects collaborators"),
    ("collaboration/delete-project-collaborator", Access::Destroy, "projects collaborators"),
    ("collaboration/lock-project-with-collaborators", Access::Write, "projects"),
    ("compile/create-compile", Access::Write, "projects"),
    ("compile/read-compile", Access::Read, "projects"),
    ("datasets/list-datasets", Access::Read, ""),
    ("datasets/get-dataset-details", Access::Read, ""),
    ("datasets/environment-library-support", Access::Read, ""),
    ("data-issues/create-data-issue", Access::Write, "projects recipients"),
    ("data-issues/list-data-issues", Access::Read, ""),
    ("exports/export-backtest-orders", Access::Read, "projects"),
    ("exports/export-backtest-trades", Access::Read, "projects"),
    ("exports/export-backtest-insights", Access::Read, "projects"),
    ("exports/export-backtest-logs", Access::Read, "projects"),
    ("exports/export-live-orders", Access::Read, "projects"),
    ("exports/export-live-trades", Access::Read, "projects"),
    ("exports/export-live-insights", Access::Read, "projects"),
    ("exports/export-live-logs", Access::Read, "projects"),
    ("files/create-file", Access::Write, "projects"),
    ("files/read-file", Access::Read, "projects"),
    ("files/update-file-name", Access::Write, "projects"),
    ("files/update-file-contents", Access::Write, "projects"),
    ("files/write-file", Access::Write, "projects"),
    ("files/edit-file", Access::Write, "projects"),
    ("files/search-file-content", Access::Read, "projects"),
    ("files/patch-file", Access::Write, "projects"),
    ("files/delete-file", Access::Destroy, "projects"),
    ("lean-versions/read-lean-versions", Access::Read, ""),
    ("lean-versions/read-lean-environments", Access::Read, ""),
    ("libraries/add-library", Access::Write, "projects"),
    ("libraries/remove-library", Access::Write, "projects"),
    ("live/authorize-connection", Access::Write, "brokerages"),
    ("live/create-live-algorithm", Access::Trade, "projects brokerages data-providers"),
    ("live/read-live-algorithm", Access::Read, "projects"),
    ("live/read-live-details", Access::Read, "projects"),
    ("live/list-live-algorithms", Access::Read, "projects"),
    ("live/list-latest-live-algorithms", Access::Read, "projects"),
    ("live/read-live-chart", Access::Read, "projects"),
    ("live/read-live-logs", Access::Read, "projects"),
    ("live/search-live-logs", Access::Read, "projects"),
    ("live/read-live-portfolio", Access::Read, "projects"),
    ("live/read-live-orders", Access::Read, "projects"),
    ("live/read-live-trades", Access::Read, "projects"),
    ("live/read-live-insights", Access::Read, "projects"),
    ("live/stop-live-algorithm", Access::Reduce, "projects"),
    ("live/liquidate-live-algorithm", Access::Reduce, "projects"),
    ("live-commands/create-live-command", Access::Trade, "projects commands"),
    ("live-commands/broadcast-live-command", Access::Trade, "organizations commands"),
    ("nodes/read-project-nodes", Access::Read, "projects"),
    ("nodes/read-organization-nodes", Access::Read, "organizations"),
    ("nodes/update-project-nodes", Access::Write, "projects"),
    ("notifications/send-email-notification", Access::Write, "recipients"),
    ("notifications/send-sms-notification", Access::Write, "recipients"),
    ("notifications/send-telegram-notification", Access::Write, "recipients"),
    ("object-store/upload-object", Access::Write, "keys organizations"),
    ("object-store/read-object-properties", Access::Read, "keys organizations"),
    ("object-store/read-object-store-file-job-id", Access::Read, "keys organizations"),
    ("object-store/read-object-store-file-download-url", Access::Read, "keys organizations"),
    ("object-store/list-object-store-files", Access::Read, "keys organizations"),
    ("object-store/delete-object", Access::Destroy, "keys organizations"),
    ("optimizations/estimate-optimization-time", Access::Read, "projects"),
    ("optimizations/create-optimization", Access::Write, "projects"),
    ("optimizations/read-optimization", Access::Read, "projects"),
    ("optimizations/read-optimization-analysis", Access::Read, "projects"),
    ("optimizations/list-optimizations", Access::Read, "projects"),
    ("optimizations/update-optimization", Access::Write, "projects"),
    ("optimizations/abort-optimization", Access::Reduce, "projects"),
    ("optimizations/delete-optimization", Access::Destroy, "projects"),
    ("organizations/list-organizations", Access::Read, ""),
    ("organizations/read-organization", Access::Read, "organizations"),
    ("projects/create-project", Access::Write, "projects organizations"),
    ("projects/read-project", Access::Read, "projects"),
    ("projects/list-projects", Access::Read, "projects"),
    ("projects/find-projects", Access::Read, "projects organizations"),
    ("projects/update-project", Access::Write, "projects"),
    ("projects/configure-project", Access::Write, "projects"),
    ("projects/replace-project-files", Access::Destroy, "projects"),
    ("projects/delete-project", Access::Destroy, "projects"),
    ("research/jupyter-create-cell", Access::Write, "projects"),
    ("research/jupyter-read-cell", Access::Read, "projects"),
    ("research/jupyter-update-cell", Access::Write, "projects"),
    ("research/jupyter-delete-cell", Access::Destroy, "projects"),
    ("research/jupyter-execute-cell", Access::Trade, "projects"),
    ("research/jupyter-create-notebook", Access::Write, "projects"),
    ("research/jupyter-read-notebook", Access::Read, "projects"),
    ("research/jupyter-execute-notebook", Access::Trade, "projects"),
    ("research/jupyter-get-image", Access::Read, "projects=*"),
    ("server/read-mcp-server-version", Access::Read, ""),
    ("server/read-latest-mcp-server-version", Access::Read, ""),
    ("skills/list-skills", Access::Read, ""),
    ("skills/load-skill", Access::Read, ""),
    ("support/create-support-ticket", Access::Write, "projects organizations recipients"),
    ("support/read-support-ticket", Access::Read, "organizations"),
    ("support/list-support-tickets", Access::Read, "organizations"),
    ("templates/read-project-templates", Access::Read, ""),
];

/// What no pattern covers although its class would let one.
const NAMED: &[&str] = &[
    "agents/create-agent",
    "agents/update-agent",
    "agent-tasks/create-agent-task",
    "agent-deployments/read-agent-conversation",
    "data-issues/create-data-issue",
    "notifications/send-email-notification",
    "notifications/send-sms-notification",
    "notifications/send-telegram-notification",
    "organizations/read-organization",
    "research/jupyter-get-image",
    "support/create-support-ticket",
];

/// A call of an operation whose resource has a value `thing` for each scope.
fn thing(scopes: &str) -> Facts {
    let has = |scope: &str| scopes.split(' ').any(|one| one == scope);
    let text = || Some("thing".to_owned());
    let mut facts = if has("projects") {
        project(7, "thing")
    } else if has("keys") {
        object("thing", "thing")
    } else if has("organizations") {
        organization("thing")
    } else {
        Facts::of(Resource::Account)
    };
    let context = &mut facts.context;
    context.organization = has("organizations").then(text).flatten();
    context.command = has("commands").then(text).flatten();
    context.collaborator = has("collaborators").then(text).flatten();
    context.recipient = has("recipients").then(text).flatten();
    context.data_provider = has("data-providers").then(text).flatten();
    context.brokerage = has("brokerages").then(|| Brokerage { profile: "thing".to_owned(), live: true });
    facts
}

#[test]
fn every_operation_is_covered_by_its_scopes_and_by_no_fewer() {
    let names: Vec<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
    let table: Vec<_> = EVERY.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(names, table, "the table is complete");
    for (name, access, scopes) in EVERY {
        let scopes_of = |value: &str, but: &str| -> String {
            let scopes = scopes.split(' ').filter(|scope| !scope.is_empty() && *scope != but);
            let line = |scope: &str| match scope.strip_suffix("=*") {
                Some(scope) => format!("{scope} = [\"*\"]\n"),
                None => format!("{scope} = [\"{value}\"]\n"),
            };
            scopes.map(line).collect()
        };
        let grant = |allow: &str, scopes: &str| format!("[[grant]]\nname = \"g\"\nallow = [{allow}]\n{scopes}");
        let quoted = format!("\"{name}\"");
        // Granted by name, with all scopes.
        let full = grant(&quoted, &scopes_of("thing", ""));
        check(&full, &[], &[allowed(name, thing(scopes), &["g"])]);
        // With each scope missing, or naming another resource.
        for scope in scopes.split(' ').filter(|scope| !scope.is_empty()) {
            let less = grant(&quoted, &scopes_of("thing", scope));
            check(&less, &[], &[denied(name, thing(scopes), "but not ")]);
            let other = format!("{less}{} = [\"another*\"]\n", scope.trim_end_matches("=*"));
            check(&other, &[], &[denied(name, thing(scopes), "but not ")]);
        }
        // Granted by a pattern, which never covers what deletes or trades, nor what is listed here.
        let (room, _) = name.split_once('/').unwrap();
        let wide = grant("\"*\"", &scopes_of("*", ""));
        let live = scopes.contains("brokerages");
        check(
            &wide,
            &[],
            &[match access {
                Access::Destroy | Access::Trade => denied(name, thing(scopes), "no grant of `plugin` allows"),
                _ if NAMED.contains(name) => denied(name, thing(scopes), "no grant of `plugin` allows"),
                _ if live => denied(name, thing(scopes), "must be named in full"),
                _ => allowed(name, thing(scopes), &["g"]),
            }],
        );
        // Granted by the pattern of another interface.
        let elsewhere = if room == "server" { "account/*" } else { "server/*" };
        let other = grant(&format!("\"{elsewhere}\""), &scopes_of("*", ""));
        check(&other, &[], &[denied(name, thing(scopes), "no grant of `plugin` allows")]);
        // Under a guardrail for its class, and under one for another class.
        let word = access.word();
        let forbid = format!("@id(\"class\") forbid (principal, action in Action::\"{word}\", resource);");
        check(&full, &[&forbid], &[forbidden(name, thing(scopes), &["class"])]);
        let another = if word == "read" { "write" } else { "read" };
        let forbid = format!("@id(\"class\") forbid (principal, action in Action::\"{another}\", resource);");
        check(&full, &[&forbid], &[allowed(name, thing(scopes), &["g"])]);
        // Under a guardrail for its interface.
        let forbid = format!("@id(\"room\") forbid (principal, action in Action::\"{room}\", resource);");
        check(&full, &[&forbid], &[forbidden(name, thing(scopes), &["room"])]);
    }
}
