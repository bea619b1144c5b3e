//! Valid and invalid configurations.

use std::time::Duration;

use super::*;

fn load(text: &str) -> Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qchost.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path)
}

const ACCOUNT: &str = "[account.a]\nconnection = \"embedded\"\n";

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    for text in [
        "[account.a]\nconnection = \"http\"\nurl = \"https://x.test\"\nheaders = \"hunter2, expected\"",
        "[account.a.remote]\nheaders = \"hunter2\"",
        "[account.a]\nconnection = \"stdio\"\ncommand = \"x\"\nenv = \"hunter2\"",
        "[[account.a.endpoint]]\nconnection = \"http\"\nurl = \"https://x.test\"\nheaders = \"hunter2\"",
        "[brokerage]\nib = \"hunter2\"",
    ] {
        let error = format!("{:#}", load(text).unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
        assert!(error.contains("string …, expected a map"), "{error}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, expected) in [
        ("modus = 1", "qchost.toml:1: unknown field `modus`"),
        (
            "\n[account.a]\nconnection = \"pigeon\"",
            "unknown variant `pigeon`",
        ),
        (
            "[account.a]\nconnection = \"http\"\nurl = \"x\"\nport = 1",
            "unknown field `port`",
        ),
        (
            "[account.\"A b\"]\nconnection = \"embedded\"",
            "`A b` is not a name",
        ),
        (
            "[account.a]\nconnection = \"http\"\nurl = \"https://x.test\"\noauth = { client-secret = { file = \"s\" } }",
            "account.a: oauth: client-secret belongs to a client-id",
        ),
        (
            "[account.a]\nconnection = \"http\"\nurl = \"https://x.test\"\noauth = { client-metadata = \"http://x.test/y\" }",
            "`http://x.test/y` is no https address of a document",
        ),
        (
            "[account.a]\nconnection = \"http\"\nurl = \"https://x.test\"\noauth = { redirect-port = 0 }",
            "0 is no port",
        ),
        (
            "[account.a]\nconnection = \"http\"\nurl = \"https://x.test\"\nheaders = { authorization = \"x\" }\noauth = {}",
            "the header Authorization is that of the login",
        ),
        ("mode = \"relaxed\"", "unknown variant `relaxed`"),
        ("mode = \"prod\"", "(at `mode`)"),
        (
            "mode = \"development\"\n[engine] # comment\nbaseline = 1",
            "(at `engine.baseline`)",
        ),
        (
            "\n[people.me]\nuid = 1\nroles = [\"king\"]",
            "qchost.toml:4: unknown variant `king`",
        ),
        (
            "[people.me]\nuid = -1\nroles = [\"admin\"]",
            "qchost.toml:2: ",
        ),
        (
            "[people.me]\nuid = 1\nroles = []",
            "people.me: roles: name at least one",
        ),
        (
            "[people.a]\nuid = 1\nroles = [\"admin\"]\n[people.b]\nuid = 1\nroles = [\"viewer\"]",
            "people.b: uid 1 is `a` already",
        ),
        (
            "mode = \"production\"",
            "in production the host obeys configured people only",
        ),
        (
            "two-person = true\n[people.a]\nuid = 1\nroles = [\"admin\"]\n[people.b]\nuid = 2\nroles = [\"operator\"]",
            "two-person: 1 of the configured people may approve",
        ),
        (
            "[control]\ngroup = \"qchost\"",
            "control.group: the data folder is closed",
        ),
        ("[control]\nport = 1", "qchost.toml:2: unknown field `port`"),
        (
            "[limits.a]\nper-minute = 10",
            "limits.a: there is no account `a`",
        ),
        (
            "[account.a]\nconnection = \"embedded\"\n[limits.a]\nper-minute = 0",
            "qchost.toml:4: ",
        ),
        (
            "[limits.a]\nper-hour = 10",
            "qchost.toml:2: unknown field `per-hour`",
        ),
        (
            "\n[node-prices]\nO2-8 = nan",
            "qchost.toml:3: `NaN` is not a price",
        ),
        ("[node-prices]\nO2-8 = -1.0", "`-1` is not a price"),
        (
            "[approvals]\nexpire = \"1 fortnight\"",
            "qchost.toml:2: `1 fortnight` is not a time",
        ),
        (
            "[audit]\nsegment = \"0MiB\"",
            "qchost.toml:2: `0MiB` is not a size",
        ),
        (
            "[audit]\nanchor = { syslog = false }",
            "qchost.toml:2: an anchor is { file = \"path\" } or { syslog = true }",
        ),
        (
            "[audit]\nanchor = { file = \"a\", syslog = true }",
            "an anchor is",
        ),
    ] {
        let error = format!("{:#}", load(text).unwrap_err());
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn everything_can_be_said_at_once() {
    let config = load(
        r#"
        mode = "production"
        plugins = "p"
        policies = "g"
        data = "d"
        live-trading = true
        two-person = true
        [account.a]
        connection = "http"
        url = "https://mcp.example.com/mcp"
        headers = { Authorization = { vault = "secret/qc#authorization" } }
        derived-data = true
        [limits.a]
        per-minute = 60
        in-flight = 8
        [brokerage.ib-main]
        id = "InteractiveBrokersBrokerage"
        ib-password = { vault = "secret/ib#password" }
        [deployment.ib-main]
        automatic-redeploy = true
        parameters = { fast = "7" }
        [deployment.ib-main.notification]
        events = ["order-event"]
        targets = [{ webhook = "https://hooks.example.com", headers = { Key = { file = "hook" } } }]
        [node-prices]
        O2-8 = 0.06
        [node-maxima]
        O2-8 = 12
        [people.ann]
        uid = 1000
        roles = ["operator", "approver"]
        [people.bob]
        uid = 1001
        roles = ["admin"]
        [control]
        socket = "run/control.sock"
        group = "traders"
        [approvals]
        expire = "2h"
        [audit]
        segment = "1MiB"
        keep = "365d"
        reserve = "8MiB"
        anchor = { file = "anchor" }
        "#,
    )
    .unwrap();
    let folder = config.path.parent().unwrap();
    assert!(config.live_trading && config.two_person);
    assert_eq!(
        config.socket().unwrap().file_name(),
        Some("control.sock".as_ref())
    );
    assert!(config.account["a"].derived_data());
    let deployment = &config.deployment["ib-main"];
    assert_eq!(deployment.automatic_redeploy, Some(true));
    // A file is one beside the configuration.
    let shown = format!("{deployment:?}");
    assert!(shown.contains("/hook\")"), "{shown}");
    assert_eq!(config.node_prices["O2-8"].0.0, 600);
    assert_eq!(config.node_maxima["O2-8"].get(), 12);
    assert_eq!(config.approvals.expire.0, Duration::from_secs(7200));
    assert_eq!(config.approvals.permit.0, Duration::from_secs(3600));
    assert_eq!(config.audit.segment.0, 1 << 20);
    assert_eq!(
        config.audit.keep,
        Some(Period(Duration::from_secs(365 * 86_400)))
    );
    let Some(Anchor::File(anchor)) = &config.audit.anchor else {
        panic!("{:?}", config.audit);
    };
    assert!(anchor.ends_with("anchor") && anchor != Path::new("anchor"));
    assert!(config.plugins().ends_with("p"), "{folder:?}");
    let names: Vec<_> = persons(&config.people)
        .into_iter()
        .map(|person| (person.uid, person.name))
        .collect();
    assert_eq!(names, [(1000, "ann".to_owned()), (1001, "bob".to_owned())]);
}

#[test]
fn what_is_added_to_deployments_belongs_to_a_profile() {
    let error = load("[deployment.paper]\nautomatic-redeploy = true\n").unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("deployment.paper") && error.contains("no profile"),
        "{error}"
    );
    let profile = "[brokerage.paper]\nid = \"QuantConnectBrokerage\"\n";
    let loaded = load(&format!(
        "{profile}[deployment.paper]\nautomatic-redeploy = true\n"
    ));
    assert!(loaded.unwrap().deployment["paper"].parameters.is_empty());
}

#[test]
fn without_configured_people_it_is_the_user_that_runs_the_host() {
    let config = load(ACCOUNT).unwrap();
    let persons = persons(&config.people);
    assert_eq!(persons.len(), 1);
    assert_eq!(persons[0].uid, nix::unistd::geteuid().as_raw());
    assert!(persons[0].roles.contains(&qchost_policy::Role::Admin));
}

#[test]
fn an_empty_file_names_the_folder_of_manifests_that_the_default_names() {
    let config = load("").unwrap();
    let usual = Config::default().plugins();
    assert_eq!(config.plugins(), config.file.with_file_name(usual));
}

#[test]
fn a_folder_of_guardrails_that_is_named_must_be_there() {
    assert!(load(ACCOUNT).unwrap().guardrails().is_ok());
    let error = load("policies = \"nowhere\"")
        .unwrap()
        .guardrails()
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error:#}");
}

#[test]
fn the_engine_is_set_as_it_is_written_and_never_to_baseline_with_money_at_stake() {
    let text = "[engine]\nbaseline = true\ninvocations = 7\nmemory = \"1GiB\"\nqueue = 0\ncompile-cpu = \"5s\"\ndrain = \"2s\"\n";
    let compiler = crate::children::compiler();
    let mut options = qchost_runtime::Options::new("cache".into(), "key".into(), compiler);
    let component = options.component;
    load(text).unwrap().engine.apply(&mut options);
    assert!(options.baseline);
    assert_eq!(
        (options.invocations, options.memory, options.queue),
        (7, 1 << 30, 0)
    );
    assert_eq!(options.compile_cpu, Duration::from_secs(5));
    assert_eq!(options.drain, Duration::from_secs(2));
    assert_eq!(options.component, component);

    let people = "[people.ann]\nuid = 1000\nroles = [\"admin\"]\n";
    let production = format!("mode = \"production\"\n{people}");
    assert!(load(&format!("{production}[engine]\nqueue = 1\n")).is_ok());
    let error = load(&format!("{production}{text}")).map(drop).unwrap_err();
    assert!(
        format!("{error:#}").contains("engine.baseline: the baseline compiler is for development"),
        "{error:#}"
    );
    for wrong in ["invocations = 0", "memory = 5", "threads = 2"] {
        assert!(load(&format!("[engine]\n{wrong}\n")).is_err(), "{wrong}");
    }
}

#[test]
fn the_only_account_needs_no_name() {
    let one = load(ACCOUNT).unwrap();
    assert_eq!(one.only_account().unwrap(), "a");
    let two = load(&format!("{ACCOUNT}[account.b]\nconnection = \"embedded\"")).unwrap();
    let error = two.only_account().unwrap_err().to_string();
    assert!(
        error.contains("--account") && error.contains("configured are: a, b"),
        "{error}"
    );
}

#[test]
fn an_account_has_a_connection_a_remote_server_or_both() {
    let both = format!("{ACCOUNT}[account.a.remote]\nurl = \"https://mcp.example.com/mcp\"\n");
    let both = load(&both).unwrap();
    let account = &both.account["a"];
    assert!(account.rest.is_some());
    let (server, oauth) = account.login().unwrap();
    assert_eq!(server, "https://mcp.example.com/mcp");
    assert_eq!(*oauth, OAuth::default());

    let alone = load("[account.a.remote]\n").unwrap();
    let account = &alone.account["a"];
    assert!(account.rest.is_none() && !account.derived_data());
    assert_eq!(account.login().unwrap().0, qchost_catalog::REMOTE_SERVER);
    let by_rest = qchost_catalog::by_name("backtests/create-backtest").unwrap();
    let by_remote = qchost_catalog::by_name("research/jupyter-read-cell").unwrap();
    assert!(!account.carries(by_rest) && account.carries(by_remote));
    assert!(both.account["a"].carries(by_rest) && both.account["a"].carries(by_remote));

    // With a token of its own, no person logs in.
    let token = "[account.a.remote]\nheaders = { Authorization = { file = \"bearer\" } }\n";
    let token = load(token).unwrap();
    assert!(token.account["a"].login().is_none());
    assert_eq!(token.account["a"].secret_files().len(), 1);

    for (text, expected) in [
        ("[account.a]\n", "connection"),
        (
            "[account.a.remote]\nport = 1\n",
            "remote: unknown field `port`",
        ),
        (
            "[account.a]\ncloud = \"emulator\"\n[account.a.remote]\n",
            "connection",
        ),
        (
            "[account.a.remote]\nheaders = { authorization = \"x\" }\noauth = { client-id = \"y\" }\n",
            "remote.oauth: the header Authorization is that of the login",
        ),
        (
            "[account.a]\nconnection = \"http\"\nurl = \"https://x.example.com\"\noauth = {}\n[account.a.remote]\n",
            "remote: an account has one login",
        ),
    ] {
        let error = format!("{:#}", load(text).unwrap_err());
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn a_seed_is_a_file_beside_the_configuration_and_for_an_emulator_only() {
    let emulated = |cloud: &str| {
        format!(
            "[account.a]\nconnection = \"embedded\"\ncloud = \"{cloud}\"\nseed = \"seed.toml\"\n"
        )
    };
    for more in ["", "[account.a.remote]\n"] {
        let config = load(&format!("{}{more}", emulated("emulator"))).unwrap();
        let account = config.account.get("a").unwrap();
        assert!(account.is_emulator());
        let seed = account.seed().unwrap();
        assert!(
            seed.is_absolute() && seed.ends_with("seed.toml"),
            "{seed:?}"
        );
        assert_eq!(account.paths(), [seed]);
    }
    let error = load(&emulated("quantconnect")).unwrap_err();
    assert!(
        format!("{error:#}").contains("account.a: seed: only an account"),
        "{error:#}"
    );
    let alone = load("[account.a.remote]\n").unwrap();
    assert!(!alone.account.get("a").unwrap().is_emulator());
}

#[test]
fn further_endpoints_have_what_is_not_the_account_s() {
    let endpoint = |keys: &str| format!("{ACCOUNT}[[account.a.endpoint]]\n{keys}\n");
    let text = endpoint(
        "connection = \"http\"\nurl = \"https://mcp.example.com/mcp\"\nheaders = { X = { file = \"key\" } }",
    );
    let two =
        format!("{text}[[account.a.endpoint]]\nconnection = \"stdio\"\ncommand = \"server\"\n");
    let config = load(&two).unwrap();
    let account = config.account.get("a").unwrap();
    assert_eq!(account.endpoints.len(), 2);
    assert!(
        account
            .secret_files()
            .iter()
            .any(|file| file.ends_with("key"))
    );
    assert!(account.reads_environment());
    for (keys, reason) in [
        (
            "connection = \"embedded\"\ncloud = \"emulator\"",
            "an account of its own",
        ),
        (
            "connection = \"embedded\"\nderived-data = true",
            "it is true of the account",
        ),
        (
            "connection = \"embedded\"\nseed = \"seed.toml\"",
            "seed: an endpoint leads to no emulator",
        ),
        ("connection = \"embedded\"\nclout = \"x\"", "unknown field"),
        ("url = \"https://mcp.example.com/mcp\"", "connection"),
        (
            "connection = \"http\"\nurl = \"https://mcp.example.com/mcp\"\n[account.a.endpoint.endpoint]\n",
            "unknown field",
        ),
    ] {
        let error = format!("{:#}", load(&endpoint(keys)).unwrap_err());
        assert!(error.contains(reason), "{keys}: {error}");
        assert!(error.contains("endpoint"), "{keys}: {error}");
    }
    assert!(account.keep_answers);
    let sent = load(&format!("{ACCOUNT}keep-answers = false\n")).unwrap();
    assert!(!sent.account.get("a").unwrap().keep_answers);
    let error = load(&format!("{ACCOUNT}keep-answers = 1\n")).unwrap_err();
    assert!(format!("{error:#}").contains("keep-answers"), "{error:#}");
    let alone = "[account.a.remote]\n[[account.a.endpoint]]\nconnection = \"embedded\"\n";
    let error = format!("{:#}", load(alone).unwrap_err());
    assert!(error.contains("no `connection`"), "{error}");
}

#[test]
fn what_the_template_has_as_a_comment_is_right_too() {
    let text: String = include_str!("../../templates/qchost.toml")
        .lines()
        .map(|line| {
            let comment = line.strip_prefix("# ").filter(|text| {
                let key = text.split('=').next().unwrap_or_default().trim();
                text.starts_with('[') || text.contains('=') && !key.contains(' ')
            });
            format!("{}\n", comment.unwrap_or(line))
        })
        .collect();
    let config: Config = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(config.vault.is_some() && config.audit.anchor.is_some());
    assert_eq!((config.account.len(), config.people.len()), (4, 1));
    assert!(config.account["cloud"].remote.is_some());
    assert_eq!((config.node_prices.len(), config.node_maxima.len()), (3, 3));
}

#[test]
fn a_host_is_found_by_what_stands_before_the_fault_of_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("qchost.toml");
    for fault in [
        "mode = \"no such mode\"\n",
        "key without a value\n",
        "x = \"\n",
        "[[[\n",
    ] {
        for after in ["", "[control]\ngroup = \"desk\"\n", "still = [\n"] {
            std::fs::write(&file, format!("data = \"here\"\n{fault}{after}")).unwrap();
            assert!(Config::load(&file).is_err(), "{fault}");
            let found = Config::readable_parts(&file).unwrap();
            assert_eq!(
                found.data().unwrap(),
                folder.path().join("here"),
                "{fault}{after}"
            );
        }
    }
    std::fs::write(&file, "nothing of this is TOML\ndata = \"here\"\n").unwrap();
    assert_eq!(Config::readable_parts(&file).unwrap().data, None);
}
