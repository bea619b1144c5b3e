//! The scopes other than projects, and the conditions.

use qchost_policy::{Brokerage, Facts, Resource, Usd};

use crate::rows::{allowed, check, denied, deploy, object, organization, project, with};

#[test]
fn a_star_covers_paper_and_a_live_brokerage_is_named() {
    let grant = |brokerages: &str| {
        format!(
            "[[grant]]\nname = \"deploy\"\nallow = [\"live/create-live-algorithm\"]\n\
             projects = [\"Lab/*\"]\ndata-providers = [\"free\"]\n{brokerages}\n"
        )
    };
    let call = "live/create-live-algorithm";
    check(
        &grant(""),
        &[],
        &[
            denied(call, deploy("paper", false), "not the brokerage profile `paper`, which is paper"),
            denied(call, deploy("ib-main", true), "not the brokerage profile `ib-main`, which is live"),
        ],
    );
    check(&grant("brokerages = []"), &[], &[denied(call, deploy("paper", false), "not the brokerage profile `paper`, which is paper")]);
    check(
        &grant("brokerages = [\"*\"]"),
        &[],
        &[
            allowed(call, deploy("paper", false), &["deploy"]),
            denied(call, deploy("ib-main", true), "`ib-main`, which is live and must be named in full"),
        ],
    );
    check(
        &grant("brokerages = [\"ib-*\"]"),
        &[],
        &[
            allowed(call, deploy("ib-paper", false), &["deploy"]),
            denied(call, deploy("ib-main", true), "must be named in full"),
            denied(call, deploy("paper", false), "`paper`, which is paper"),
        ],
    );
    check(
        &grant("brokerages = [\"ib-main\"]"),
        &[],
        &[
            allowed(call, deploy("ib-main", true), &["deploy"]),
            denied(call, deploy("ib-other", true), "`ib-other`, which is live"),
            denied(call, deploy("paper", false), "`paper`, which is paper"),
        ],
    );
    let provider = |name: &str| with(deploy("paper", false), |context| context.data_provider = Some(name.to_owned()));
    check(
        &grant("brokerages = [\"paper\"]"),
        &[],
        &[allowed(call, provider("free"), &["deploy"]), denied(call, provider("dear"), "not the data-provider profile `dear`")],
    );
}

#[test]
fn authorising_a_connection_needs_its_brokerage() {
    let at = |profile: &str| {
        with(Facts::of(Resource::Account), |context| {
            context.brokerage = Some(Brokerage { profile: profile.to_owned(), live: true });
        })
    };
    let call = "live/authorize-connection";
    check(
        "[[grant]]\nname = \"g\"\nallow = [\"live/*\"]\nbrokerages = [\"alpaca\"]\n",
        &[],
        &[allowed(call, at("alpaca"), &["g"]), denied(call, at("other"), "not the brokerage profile `other`")],
    );
}

#[test]
fn conditions_narrow_only_where_they_are_written() {
    let call = "optimizations/create-optimization";
    let grant = |line: &str| format!("[[grant]]\nname = \"g\"\nallow = [\"*\"]\nprojects = [\"Lab/*\"]\n{line}\n");
    let costs = |cost: Option<u64>| with(project(1, "Lab/x"), |context| context.cost = cost.map(Usd));
    let counted = |count| with(project(1, "Lab/x"), |context| context.parameters = count);
    let on = |node: &str| with(project(1, "Lab/x"), |context| context.node_type = Some(node.to_owned()));
    let node = |id: &str| with(project(1, "Lab/x"), |context| context.node = Some(id.to_owned()));
    let file = |path: &str| with(project(1, "Lab/x"), |context| context.file = Some(path.to_owned()));

    check(
        &grant(""),
        &[],
        &[
            allowed(call, costs(None), &["g"]),
            allowed(call, costs(Some(u64::from(u32::MAX))), &["g"]),
            allowed(call, counted(Some(1000)), &["g"]),
            allowed(call, on("O8-16"), &["g"]),
            allowed("files/read-file", file("secret.py"), &["g"]),
        ],
    );
    check(
        &grant("max-cost = 5.0"),
        &[],
        &[
            allowed(call, costs(Some(50_000)), &["g"]),
            denied(call, costs(Some(50_001)), "not a cost of $5.0001 (its max-cost is $5.00)"),
            allowed(call, costs(Some(0)), &["g"]),
            denied(call, costs(None), "not a cost that is not known"),
            // The price of a free operation is not looked up.
            allowed("backtests/read-backtest", costs(None), &["g"]),
            denied("backtests/read-backtest", costs(Some(60_000)), "not a cost of $6.00"),
        ],
    );
    check(
        &grant("limits = { cost-per-day = 5.0 }"),
        &[],
        &[
            allowed(call, costs(Some(60_000)), &["g"]),
            denied(call, costs(None), "not a cost that is not known (it has a cost-per-day;"),
            allowed("backtests/read-backtest", costs(None), &["g"]),
        ],
    );
    check(
        &grant("max-cost = 0"),
        &[],
        &[allowed(call, costs(Some(0)), &["g"]), denied(call, costs(Some(1)), "not a cost of $0.0001 (its max-cost is $0.00)")],
    );
    check(
        &grant("max-cost = 1000000"),
        &[],
        &[allowed(call, costs(Some(10_000_000_000)), &["g"]), denied(call, costs(Some(10_000_000_001)), "not a cost of $1000000.0001")],
    );
    check(
        &grant("max-parameters = 3"),
        &[],
        &[
            allowed(call, counted(Some(3)), &["g"]),
            denied(call, counted(Some(4)), "not 4 parameters (its max-parameters is 3)"),
            allowed(call, counted(None), &["g"]),
            allowed("backtests/create-backtest", counted(Some(3)), &["g"]),
            denied("backtests/create-backtest", counted(Some(4)), "not 4 parameters"),
        ],
    );
    check(
        &grant("max-parameters = 0"),
        &[],
        &[allowed("backtests/create-backtest", counted(Some(0)), &["g"]), denied("backtests/create-backtest", counted(Some(1)), "not 1 parameters")],
    );
    check(
        &grant("nodes = [\"O2-*\", \"L-7\"]"),
        &[],
        &[
            allowed(call, on("O2-8"), &["g"]),
            denied(call, on("O8-16"), "not the node type `O8-16`"),
            allowed("nodes/update-project-nodes", node("L-7"), &["g"]),
            denied("nodes/update-project-nodes", node("L-8"), "not the node `L-8`"),
            allowed("nodes/read-project-nodes", project(1, "Lab/x"), &["g"]),
        ],
    );
    check(
        &grant("nodes = []"),
        &[],
        &[denied(call, on("O2-8"), "not the node type `O2-8`"), allowed("nodes/read-project-nodes", project(1, "Lab/x"), &["g"])],
    );
    check(
        &grant("files = [\"*.py\", \"docs/*\"]"),
        &[],
        &[
            allowed("files/read-file", file("main.py"), &["g"]),
            allowed("files/update-file-contents", file("docs/a/b.md"), &["g"]),
            denied("files/read-file", file("main.ipynb"), "not the file `main.ipynb`"),
            denied("files/patch-file", file("config.json"), "not the file `config.json`"),
            allowed("files/patch-file", file("a/main.py"), &["g"]),
            denied(
                "files/read-file",
                with(project(1, "Prod/x"), |c| c.file = Some("a.md".to_owned())),
                "not the project `Prod/x` (1), and not the file `a.md`",
            ),
            allowed("projects/read-project", project(1, "Lab/x"), &["g"]),
        ],
    );
}

#[test]
fn objects_need_their_key_and_their_organisation() {
    let manifest = r#"
[[grant]]
name          = "store"
allow         = ["object-store/*", "object-store/delete-object"]
keys          = ["lab/*", "shared.json"]
organizations = ["org-1"]
"#;
    let at = |organization: &str, key: &str| {
        with(object(organization, key), |context| {
            context.organization = Some(organization.to_owned());
        })
    };
    for call in [
        "object-store/download",
        "object-store/upload-object",
        "object-store/read-object-properties",
        "object-store/read-object-store-file-job-id",
        "object-store/read-object-store-file-download-url",
        "object-store/delete-object",
    ] {
        check(
            manifest,
            &[],
            &[
                allowed(call, at("org-1", "lab/model.bin"), &["store"]),
                allowed(call, at("org-1", "shared.json"), &["store"]),
                denied(call, at("org-1", "prod/model.bin"), "not the object `prod/model.bin`"),
                denied(call, at("org-2", "lab/model.bin"), "not the organisation `org-2`"),
                denied(call, object("org-2", "shared.json"), "not the organisation `org-2`"),
                denied(call, Facts::of(Resource::Account), "cannot be decided on the account"),
                denied(call, organization("org-1"), "cannot be decided on an organisation"),
            ],
        );
    }
    check(
        "[[grant]]\nname = \"g\"\nallow = [\"object-store/*\"]\nkeys = [\"*\"]\n",
        &[],
        &[denied("object-store/download", at("org-1", "a"), "not the organisation `org-1`")],
    );
    check(
        "[[grant]]\nname = \"g\"\nallow = [\"object-store/*\"]\norganizations = [\"*\"]\n",
        &[],
        &[denied("object-store/download", at("org-1", "a"), "not the object `a`")],
    );
}

#[test]
fn what_trades_is_named_and_scoped() {
    let manifest = r#"
[[grant]]
name     = "orders"
allow    = ["live-commands/create-live-command"]
projects = ["Lab/*"]
commands = ["OrderCommand", "Cancel*"]

[[grant]]
name          = "all-hands"
allow         = ["live-commands/broadcast-live-command"]
organizations = ["org-1"]
commands      = ["Pause"]

[[grant]]
name          = "team"
allow         = ["collaboration/create-project-collaborator", "collaboration/delete-project-collaborator"]
projects      = ["Lab/*"]
collaborators = ["ada"]

[[grant]]
name     = "wide"
allow    = ["*"]
projects = ["*"]
organizations = ["*"]
commands = ["*"]
collaborators = ["*"]
"#;
    let order = |name: &str, kind: &str| with(project(1, name), |context| context.command = Some(kind.to_owned()));
    let send = |id: &str, kind: &str| {
        with(organization(id), |context| {
            context.organization = Some(id.to_owned());
            context.command = Some(kind.to_owned());
        })
    };
    let with_user = |user: &str| with(project(1, "Lab/x"), |context| context.collaborator = Some(user.to_owned()));
    check(
        manifest,
        &[],
        &[
            allowed("live-commands/create-live-command", order("Lab/x", "OrderCommand"), &["orders"]),
            allowed("live-commands/create-live-command", order("Lab/x", "CancelAll"), &["orders"]),
            denied("live-commands/create-live-command", order("Lab/x", "Pause"), "not the live command `Pause`"),
            denied("live-commands/create-live-command", order("Prod/x", "OrderCommand"), "not the project `Prod/x` (1)"),
            allowed("live-commands/broadcast-live-command", send("org-1", "Pause"), &["all-hands"]),
            denied("live-commands/broadcast-live-command", send("org-1", "OrderCommand"), "not the live command `OrderCommand`"),
            denied("live-commands/broadcast-live-command", send("org-2", "Pause"), "not the organisation `org-2`"),
            allowed("collaboration/create-project-collaborator", with_user("ada"), &["team"]),
            denied("collaboration/create-project-collaborator", with_user("eve"), "not the collaborator `eve`"),
            allowed("collaboration/delete-project-collaborator", with_user("ada"), &["team"]),
            denied("collaboration/delete-project-collaborator", with_user("eve"), "not the collaborator `eve`"),
            denied("collaboration/update-project-collaborator", with_user("ada"), "no grant of `plugin` allows"),
            allowed("collaboration/read-project-collaborators", project(1, "Prod/x"), &["wide"]),
            allowed("live/stop-live-algorithm", project(1, "Prod/x"), &["wide"]),
            denied("live/create-live-algorithm", project(1, "Prod/x"), "no grant of `plugin` allows"),
        ],
    );
}

#[test]
fn messages_go_to_recipients_that_the_grant_names() {
    let to = |recipient: &str| {
        with(Facts::of(Resource::Account), |context| context.recipient = Some(recipient.to_owned()))
    };
    check(
        r#"
[[grant]]
name       = "desk"
allow      = ["notifications/send-email-notification", "notifications/send-sms-notification", "notifications/send-telegram-notification"]
recipients = ["ops@example.com", "*@desk.example.com", "+1555*"]
"#,
        &[],
        &[
            allowed("notifications/send-email-notification", to("ops@example.com"), &["desk"]),
            allowed("notifications/send-email-notification", to("ada@desk.example.com"), &["desk"]),
            allowed("notifications/send-sms-notification", to("+15551234567"), &["desk"]),
            denied("notifications/send-email-notification", to("eve@example.com"), "not the recipient `eve@example.com`"),
            denied("notifications/send-sms-notification", to("+4915551234"), "not the recipient `+4915551234`"),
            denied("notifications/send-telegram-notification", to("-100123"), "not the recipient `-100123`"),
        ],
    );
    check(
        "[[grant]]\nname = \"g\"\nallow = [\"notifications/send-email-notification\"]\n",
        &[],
        &[denied("notifications/send-email-notification", to("ops@example.com"), "not the recipient `ops@example.com`")],
    );
    // A pattern covers no message to any recipient.
    check(
        "[[grant]]\nname = \"g\"\nallow = [\"*\"]\nrecipients = [\"*\"]\n",
        &[],
        &[denied("notifications/send-email-notification", to("ops@example.com"), "no grant of `plugin` allows")],
    );
}

#[test]
fn an_agent_that_everyone_sees_needs_the_recipient_public() {
    let public = |facts: Facts| with(facts, |context| context.recipient = Some("public".to_owned()));
    let of = || with(organization("o"), |context| context.organization = Some("o".to_owned()));
    let grants = "[[grant]]\nname = \"g\"\nallow = [\"agents/create-agent\", \"agents/update-agent\"]\norganizations = [\"*\"]\n";
    check(
        grants,
        &[],
        &[
            allowed("agents/create-agent", of(), &["g"]),
            allowed("agents/update-agent", Facts::of(Resource::Account), &["g"]),
            denied("agents/create-agent", public(of()), "not the recipient `public`"),
            denied("agents/update-agent", public(Facts::of(Resource::Account)), "not the recipient `public`"),
        ],
    );
    check(
        &format!("{grants}recipients = [\"public\"]\n"),
        &[],
        &[
            allowed("agents/create-agent", public(of()), &["g"]),
            allowed("agents/update-agent", public(Facts::of(Resource::Account)), &["g"]),
        ],
    );
}

#[test]
fn what_does_not_say_what_it_touches_needs_a_grant_for_all_of_it() {
    let call = || Facts::of(Resource::Account);
    let grant = |operation: &str, scope: &str| format!("[[grant]]\nname = \"g\"\nallow = [\"{operation}\"]\n{scope}\n");
    for (operation, key) in [
        ("research/jupyter-get-image", "projects"),
        ("agents/read-agent", "organizations"),
        ("agent-tasks/delete-agent-task", "organizations"),
        ("agent-deployments/read-agent-conversation", "organizations"),
        ("agent-deployments/prompt-agent-deployment", "organizations"),
    ] {
        for scope in ["", "KEY = []", "KEY = [\"Lab/*\"]", "KEY = [\"o\", \"p*\"]"] {
            let less = grant(operation, &scope.replace("KEY", key));
            check(&less, &[], &[denied(operation, call(), "its calls do not say of which one")]);
        }
        let all = grant(operation, &format!("{key} = [\"*\"]"));
        check(&all, &[], &[allowed(operation, call(), &["g"])]);
    }
    // No pattern covers what shows images or conversations of all of them.
    for room in ["research", "agent-deployments"] {
        let wide = grant(&format!("{room}/*"), "projects = [\"*\"]\norganizations = [\"*\"]");
        let operation = match room {
            "research" => "research/jupyter-get-image",
            _ => "agent-deployments/read-agent-conversation",
        };
        check(&wide, &[], &[denied(operation, call(), "no grant of `plugin` allows")]);
    }
}

#[test]
fn a_tool_that_the_catalog_does_not_know_is_granted_by_its_name() {
    let raw = |tool: &str| {
        with(Facts::of(Resource::Account), |context| {
            context.tool = Some(tool.to_owned());
            context.live = true;
        })
    };
    check(
        "[[grant]]\nname = \"g\"\nallow = [\"raw/new_tool\", \"raw/other.tool\"]\n",
        &[],
        &[
            allowed("raw/new_tool", raw("new_tool"), &["g"]),
            allowed("raw/other.tool", raw("other.tool"), &["g"]),
            denied("raw/old_tool", raw("old_tool"), "not this tool"),
            denied("raw/new_tool2", raw("new_tool2"), "not this tool"),
            denied("raw/new_tool", raw("other.tool"), "it does not say for which tool"),
            denied("raw/new_tool", Facts::of(Resource::Account), "it does not say for which tool"),
        ],
    );
    check(
        "[[grant]]\nname = \"g\"\nallow = [\"raw/*\", \"*\"]\n",
        &[],
        &[denied("raw/new_tool", raw("new_tool"), "no grant of `plugin` allows `raw/new_tool` (trade)")],
    );
}

#[test]
fn no_grant_covers_what_steers_quantconnects_assistants() {
    let key = |key: &str| Facts::of(Resource::Object { organization: "o".to_owned(), key: key.to_owned() });
    let steers = "objects in `.assistant/` steer QuantConnect's own agents";
    for operation in ["object-store/upload-object", "object-store/delete-object", "object-store/read-object-properties", "object-store/download"] {
        check(
            "[[grant]]\nname = \"g\"\nallow = [\"object-store/*\", \"object-store/delete-object\"]\norganizations = [\"*\"]\nkeys = [\"*\", \".assistant/*\", \".assistant/skills/mine/skill.md\"]\n",
            &[],
            &[
                allowed(operation, key("lab/.assistant/x"), &["g"]),
                allowed(operation, key(".assistants/x"), &["g"]),
                denied(operation, key(".assistant/skills/mine/skill.md"), steers),
                denied(operation, key(".assistant/memories/x"), steers),
                denied(operation, key(".Assistant/skills/x"), steers),
                denied(operation, key(".assistant"), steers),
                denied(operation, key(".assistant/"), steers),
            ],
        );
    }
}

#[test]
fn charts_are_read_by_the_names_that_the_grant_has() {
    let chart = |name: &str| with(project(1, "Lab/x"), |context| context.chart = Some(name.to_owned()));
    let grant = |line: &str| format!("[[grant]]\nname = \"g\"\nallow = [\"*\"]\nprojects = [\"Lab/*\"]\n{line}\n");
    for operation in ["backtests/read-backtest-chart", "live/read-live-chart"] {
        check(&grant(""), &[], &[allowed(operation, chart("Prices"), &["g"])]);
        check(
            &grant("charts = [\"Strategy Equity\"]"),
            &[],
            &[
                allowed(operation, chart("Strategy Equity"), &["g"]),
                denied(operation, chart("Prices"), "not the chart `Prices`"),
                denied(operation, chart("strategy equity"), "not the chart `strategy equity`"),
                allowed("backtests/read-backtest", project(1, "Lab/x"), &["g"]),
            ],
        );
        check(&grant("charts = []"), &[], &[denied(operation, chart("Prices"), "not the chart `Prices`")]);
    }
}
