//! What a plugin can and cannot do through the gate.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use qchost_audit::AuditError;
use qchost_catalog::{Access, Failure, OPERATIONS};
use qchost_gate::{PluginCalls as _, Refusal};
use qchost_testing::cloud::{Live, Setup, World, parse};
use serde_json::{Map, Value, json};

/// Every list a grant can have, each of it all.
const EVERYWHERE: &str = "projects = [\"*\"]\norganizations = [\"*\"]\nkeys = [\"*\"]\nbrokerages = [\"*\", \"ib\"]\ndata-providers = [\"*\"]\ncommands = [\"*\"]\ncollaborators = [\"*\"]\nrecipients = [\"*\"]\n";

pub fn grant(allow: &str) -> Setup {
    let grants = format!("[[grant]]\nname = \"g\"\nallow = [{allow}]\n{EVERYWHERE}");
    let mut setup = Setup::grants(&grants);
    setup.live_trading = true;
    setup
}

#[tokio::test]
async fn no_operation_passes_without_a_grant_that_names_it() {
    for operation in OPERATIONS {
        let others = OPERATIONS
            .iter()
            .filter(|other| other.name != operation.name);
        let allow: Vec<_> = others.map(|other| format!("\"{}\"", other.name)).collect();
        let world = grant(&allow.join(",")).open().await;
        let Err(Refusal::Denied(denial)) = world.call(operation.name, json!({})).await else {
            panic!("{} passed without a grant", operation.name)
        };
        let remedy = denial.remedy.unwrap_or_default();
        assert!(
            remedy.contains(operation.name),
            "{}: {remedy}",
            operation.name
        );
        assert!(world.cloud.calls().is_empty(), "{}", operation.name);
    }
}

#[tokio::test]
async fn a_star_does_not_cover_what_deletes_or_trades() {
    let world = grant("\"*\"").open().await;
    for operation in OPERATIONS {
        let answer = world.call(operation.name, json!({})).await;
        let denied = matches!(answer, Err(Refusal::Denied(_)));
        let dangerous = matches!(operation.access, Access::Destroy | Access::Trade);
        if dangerous {
            assert!(denied, "{}", operation.name);
        }
    }
    let sent = world.cloud.sent();
    let dangerous = OPERATIONS
        .iter()
        .filter(|one| matches!(one.access, Access::Destroy | Access::Trade));
    for operation in dangerous {
        assert!(!sent.contains(&operation.tool.to_owned()));
    }
}

#[tokio::test]
async fn an_empty_manifest_allows_nothing() {
    let world = Setup::grants("").open().await;
    for operation in OPERATIONS {
        let answer = world.call(operation.name, json!({})).await;
        assert!(
            matches!(answer, Err(Refusal::Denied(_))),
            "{}",
            operation.name
        );
    }
    assert!(world.gate.check_workflow(&world.principal).await.is_err());
    let download = world.gate.download(&world.principal, "org", "key", 10);
    assert!(download.await.is_err());
    assert!(world.cloud.calls().is_empty());
}

#[tokio::test]
async fn an_account_without_an_agreement_on_derived_data_downloads_nothing() {
    for (derived_data, sent) in [(true, 3), (false, 0)] {
        let mut setup = grant("\"object-store/*\", \"raw/*\"");
        setup.derived_data = derived_data;
        let world = setup.open().await;
        world.cloud.hook(|tool, _| {
            let downloads = tool.starts_with("read_object_store_file");
            downloads.then(|| Err(Failure::NotFound("nothing here".to_owned())))
        });
        let keys = json!({ "organizationId": "o", "keys": ["k"] });
        let flat = keys.as_object().cloned().unwrap();
        let start = "object-store/read-object-store-file-job-id";
        let (gate, plugin) = (&world.gate, &world.principal);
        let refusals = [
            gate.download(plugin, "o", "k", 10).await.map(drop),
            world.call(start, keys).await.map(drop),
            // By the tool's name, it is the same operation.
            gate.call_raw(plugin, "read_object_store_file_job_id", flat)
                .await
                .map(drop),
        ];
        for refusal in refusals.map(Result::unwrap_err) {
            let denied = matches!(refusal, Refusal::Denied(_));
            assert_eq!(denied, !derived_data, "{refusal:?}");
        }
        let steps = world.cloud.sent();
        let steps = steps.iter();
        let steps = steps.filter(|tool| **tool == "read_object_store_file_job_id");
        assert_eq!(steps.count(), sent);
        if !derived_data {
            assert!(world.cloud.calls().is_empty());
            assert!(!world.records_of("denied").await.is_empty());
        }
    }
}

#[tokio::test]
async fn a_download_that_quantconnect_refuses_to_the_organisation_is_denied() {
    let world = grant("\"object-store/*\"").open().await;
    world.cloud.hook(|tool, _| {
        let says = "Organization does not have derivative export enabled";
        let refuses = tool.starts_with("read_object_");
        refuses.then(|| Err(Failure::Rejected(vec![says.to_owned()])))
    });
    let keys = json!({ "organizationId": "o", "keys": ["k"] });
    let start = "object-store/read-object-store-file-job-id";
    let download = world.gate.download(&world.principal, "o", "k", 10).await;
    for refusal in [download.map(drop), world.call(start, keys).await.map(drop)] {
        let Err(Refusal::Denied(denial)) = refusal else {
            panic!("{refusal:?}")
        };
        assert!(denial.reason.contains("derived-data"), "{}", denial.reason);
    }
    // Of another call the same words are QuantConnect's refusal.
    let properties = json!({ "organizationId": "o", "key": "k" });
    let refusal = world
        .call("object-store/read-object-properties", properties)
        .await;
    let rejected = matches!(&refusal, Err(Refusal::Failed(Failure::Rejected(_))));
    assert!(rejected, "{refusal:?}");
}

#[tokio::test]
async fn nothing_is_written_where_quantconnects_assistants_look() {
    let world = grant("\"object-store/*\", \"object-store/delete-object\"")
        .open()
        .await;
    let object = |key: &str| json!({ "organizationId": "o", "key": key, "objectData": "x" });
    let upload = "object-store/upload-object";
    world.call(upload, object("lab/notes")).await.unwrap();
    let sent = world.cloud.calls().len();
    let skill = world.call(upload, object(".assistant/skills/a/skill.md"));
    let refusal = skill.await.unwrap_err();
    assert!(matches!(refusal, Refusal::Denied(_)), "{refusal:?}");
    assert!(refusal.to_string().contains("`.assistant/`"), "{refusal}");
    assert_eq!(world.cloud.calls().len(), sent);
}

#[tokio::test]
async fn a_project_out_of_scope_is_out_of_reach_and_out_of_sight() {
    let grants = "[[grant]]\nname = \"g\"\nallow = [\"projects/*\", \"files/*\", \"projects/delete-project\"]\nprojects = [\"Lab/*\"]\n";
    let world = Setup::grants(grants).open().await;
    for (name, arguments) in [
        ("projects/read-project", json!({ "projectId": 9 })),
        ("files/read-file", json!({ "projectId": 9 })),
        (
            "files/create-file",
            json!({ "projectId": 9, "name": "a.py" }),
        ),
        ("projects/delete-project", json!({ "projectId": 9 })),
        (
            "projects/update-project",
            json!({ "projectId": 9, "name": "Lab/taken" }),
        ),
        (
            "projects/update-project",
            json!({ "projectId": 1, "name": "Prod/one" }),
        ),
        (
            "projects/create-project",
            json!({ "name": "Prod/new", "language": "Py" }),
        ),
        ("files/read-file", json!({ "projectId": 12345 })),
    ] {
        let refused = world.call(name, arguments.clone()).await;
        assert!(
            matches!(refused, Err(Refusal::Denied(_))),
            "{name} {arguments}: {refused:?}"
        );
    }
    assert!(world.cloud.sent().is_empty());
    for (name, arguments) in [
        ("files/read-file", json!({ "projectId": "1" })),
        ("files/read-file", json!({ "projectId": 1.5 })),
        ("files/read-file", json!({})),
    ] {
        let refused = world.call(name, arguments.clone()).await;
        let invalid = matches!(&refused, Err(Refusal::Failed(Failure::InvalidArgument(_))));
        assert!(invalid, "{name} {arguments}: {refused:?}");
    }
    assert!(world.cloud.sent().is_empty());
    world.create_file("a.py").await.unwrap();
    world
        .call(
            "projects/update-project",
            json!({ "projectId": 1, "name": "Lab/three" }),
        )
        .await
        .unwrap();
    let listed = world
        .call("projects/list-projects", json!({}))
        .await
        .unwrap();
    let names: Vec<_> = listed["projects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(
        names.iter().all(|name| name.starts_with("Lab/")),
        "{names:?}"
    );
}

#[tokio::test]
async fn what_a_plugin_created_is_its_own() {
    let grants = "[[grant]]\nname = \"make\"\nallow = [\"projects/create-project\"]\nprojects = [\"Lab/*\"]\n[[grant]]\nname = \"own\"\nallow = [\"files/*\"]\nprojects = [{ created = true }]\n";
    let world = Setup::grants(grants).open().await;
    let made = world
        .call(
            "projects/create-project",
            json!({ "name": "Lab/new", "language": "Py" }),
        )
        .await
        .unwrap();
    let id = made["projects"][0]["projectId"].clone();
    world
        .call(
            "files/create-file",
            json!({ "projectId": id, "name": "a.py" }),
        )
        .await
        .unwrap();
    let other = world.create_file("a.py").await;
    assert!(matches!(other, Err(Refusal::Denied(_))), "{other:?}");
}

#[tokio::test]
async fn a_guardrail_wins_over_every_grant() {
    let mut setup = grant("\"*\", \"projects/delete-project\"");
    let forbid = "@id(\"prod\") forbid(principal, action, resource is Project) when { resource.name like \"Prod/*\" };";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("prod.cedar"), forbid).unwrap();
    setup.guardrails = qchost_policy::Guardrails::load(folder.path()).unwrap();
    let world = setup.open().await;
    let refused = world
        .call(
            "files/create-file",
            json!({ "projectId": 9, "name": "a.py" }),
        )
        .await;
    let Err(Refusal::Denied(denial)) = refused else {
        panic!("{refused:?}")
    };
    assert!(denial.reason.contains("prod"), "{}", denial.reason);
    assert!(world.cloud.sent().is_empty());
    world.create_file("a.py").await.unwrap();
}

#[tokio::test]
async fn a_known_tool_by_its_name_needs_the_grant_of_its_operation() {
    let world = grant("\"raw/*\", \"compile/read-compile\"").open().await;
    let arguments = json!({ "projectId": 1, "compileId": "c1" })
        .as_object()
        .unwrap()
        .clone();
    let raw = async |tool: &str| {
        world
            .gate
            .call_raw(&world.principal, tool, arguments.clone())
            .await
    };
    assert!(raw("read_compile").await.is_ok());
    assert!(matches!(
        raw("create_compile").await,
        Err(Refusal::Failed(_) | Refusal::Denied(_))
    ));
    assert!(matches!(
        raw("brand_new_tool").await,
        Err(Refusal::Denied(_))
    ));
    assert!(world.cloud.sent().iter().all(|tool| tool == "read_compile"));

    let exact = grant("\"raw/brand_new_tool\"").open().await;
    let raw = async |tool: &str| {
        exact
            .gate
            .call_raw(&exact.principal, tool, Map::new())
            .await
    };
    raw("brand_new_tool").await.unwrap();
    assert!(raw("other_tool").await.is_err());
    assert_eq!(exact.cloud.sent(), ["brand_new_tool"]);
}

#[tokio::test]
async fn files_are_not_replaced_if_the_project_got_another_one_meanwhile() {
    for (later, sent) in [("main.py", 1), ("new.py", 0)] {
        let world = grant("\"projects/replace-project-files\"").open().await;
        let reads = AtomicUsize::new(0);
        world.cloud.hook(move |tool, _| {
            (tool == "read_file").then(|| {
                let name = match reads.fetch_add(1, Ordering::Relaxed) {
                    0 => "main.py",
                    _ => later,
                };
                Ok(json!({ "success": true, "files": [{ "name": name }] }))
            })
        });
        let files = json!([{ "name": "main.py", "content": "a = 1" }]);
        let arguments = json!({ "projectId": 1, "files": files });
        let answer = world
            .call("projects/replace-project-files", arguments)
            .await;
        let unavailable = matches!(&answer, Err(Refusal::Failed(Failure::Unavailable(_))));
        assert_eq!(unavailable, sent == 0, "{answer:?}");
        assert_eq!(world.cloud.count("replace_project_files"), sent, "{later}");
    }
}

/// QuantConnect's own agents, issues and tickets have no function in the contract.
#[tokio::test]
async fn what_is_reached_by_raw_alone_needs_its_grant_and_takes_no_secret_of_a_provider() {
    let create = json!({ "organizationId": "o", "name": "Reader" });
    let deploy = json!({ "taskId": 1 });
    let mut secret = create.clone();
    secret["token"] = json!({ "llmApiTokenUser": "s3cret", "llmProviderApi": "any" });
    let ticket = json!({ "organizationId": "o", "message": "m", "subject": "s" });
    let mut attached = ticket.clone();
    attached["backtestId"] = json!("b1");

    // A pattern covers what is read, and neither what steers an agent nor what hands the account to one.
    let patterns = grant("\"*\", \"raw/*\", \"agents/*\", \"agent-*/*\"")
        .open()
        .await;
    for (tool, arguments) in [
        ("create_agent", &create),
        ("create_agent_deployment", &deploy),
        ("create_support_ticket", &ticket),
    ] {
        let arguments = arguments.as_object().unwrap().clone();
        let refused = patterns
            .gate
            .call_raw(&patterns.principal, tool, arguments)
            .await;
        assert!(
            matches!(refused, Err(Refusal::Denied(_))),
            "{tool}: {refused:?}"
        );
    }
    assert!(patterns.cloud.calls().is_empty());

    let world = grant(
        "\"agents/create-agent\", \"agents/update-agent\", \"support/create-support-ticket\"",
    )
    .open()
    .await;
    let raw = async |tool: &str, arguments: &Value| {
        let arguments = arguments.as_object().unwrap().clone();
        world.gate.call_raw(&world.principal, tool, arguments).await
    };
    let refused = raw("create_agent", &secret).await.unwrap_err().to_string();
    assert!(
        refused.contains("there is no argument \"token\""),
        "{refused}"
    );
    assert!(!refused.contains("s3cret"), "{refused}");
    let refused = raw("create_agent_deployment", &deploy).await;
    assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    let refused = raw("create_support_ticket", &attached).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("`projectId` is missing"), "{refused}");
    assert!(world.cloud.calls().is_empty());
    raw("create_agent", &create).await.unwrap();
    raw("create_support_ticket", &ticket).await.unwrap();
    assert_eq!(
        world.cloud.sent(),
        ["create_agent", "create_support_ticket"]
    );

    let named = grant("\"agent-deployments/create-agent-deployment\"")
        .open()
        .await;
    let arguments = deploy.as_object().unwrap().clone();
    let call = named
        .gate
        .call_raw(&named.principal, "create_agent_deployment", arguments);
    call.await.unwrap();
    assert_eq!(named.cloud.sent(), ["create_agent_deployment"]);
}

/// A server unwraps an argument in which the gate would find neither a profile nor a project.
#[tokio::test]
async fn nothing_is_smuggled_past_the_gate_in_an_argument_that_does_not_exist() {
    let world = grant("\"raw/*\", \"live/create-live-algorithm\", \"compile/read-compile\"")
        .open()
        .await;
    let raw = async |tool: &str, arguments: Value| {
        let arguments = arguments.as_object().unwrap().clone();
        world.gate.call_raw(&world.principal, tool, arguments).await
    };
    let settings = json!({ "brokerage": { "id": "InteractiveBrokersBrokerage" } });
    for (tool, arguments) in [
        ("create_live_algorithm", json!({ "model": settings })),
        ("read_compile", json!({ "model": { "projectId": 1 } })),
        ("read_compile", json!({ "projectId": 1, "compileID": "c" })),
    ] {
        let error = raw(tool, arguments).await.unwrap_err().to_string();
        assert!(error.contains("there is no argument"), "{error}");
    }
    assert!(world.cloud.calls().is_empty());
}

/// Once a person has logged in, the answer holds the brokerage's tokens.
#[tokio::test]
async fn a_plugin_learns_that_a_connection_is_authorised_and_not_its_tokens() {
    let mut setup = grant("\"raw/*\", \"live/*\"");
    setup.manifest = setup.manifest.replace("\"ib\"", "\"alpaca\"");
    let world = setup.open().await;
    for (answer, seen) in [
        (
            json!({ "url": "https://log.in" }),
            json!({ "url": "https://log.in" }),
        ),
        (
            json!({ "alpaca-access-token": "t", "accounts": [] }),
            json!({}),
        ),
        (json!("a-token"), json!({})),
    ] {
        world.cloud.hook(move |_, _| {
            Some(Ok(
                json!({ "authorization": answer.clone(), "success": true }),
            ))
        });
        let arguments = json!({ "brokerage": "alpaca" })
            .as_object()
            .unwrap()
            .clone();
        let raw = world
            .gate
            .call_raw(&world.principal, "authorize_connection", arguments)
            .await;
        assert_eq!(
            raw.unwrap(),
            json!({ "authorization": seen, "success": true })
        );
    }
}

#[tokio::test]
async fn authority_is_read_at_every_call() {
    let world = grant("\"compile/*\"").open().await;
    let read = async || {
        world
            .call(
                "compile/read-compile",
                json!({ "projectId": 1, "compileId": "c1" }),
            )
            .await
    };
    read().await.unwrap();
    let sent = world.cloud.sent().len();
    let install = |allow: &str| {
        let manifest = parse(&grant(allow).manifest);
        world.gate.policies.install(manifest).unwrap();
    };
    install("\"files/*\"");
    let Err(Refusal::Denied(denial)) = read().await else {
        panic!("still allowed")
    };
    assert!(
        denial.reason.contains("compile/read-compile"),
        "{}",
        denial.reason
    );
    assert_eq!(world.cloud.sent().len(), sent);
    install("\"compile/*\"");
    read().await.unwrap();
    assert_eq!(world.cloud.sent().len(), sent + 1);
    world.gate.proposals.remove("lab");
    assert!(matches!(read().await, Err(Refusal::Denied(_))));
    assert_eq!(world.cloud.sent().len(), sent + 1);
}

async fn cut_off(world: &World) {
    let arguments = json!({ "name": "x", "language": "Py" });
    let call = world.call("projects/create-project", arguments);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), call)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_write_that_was_sent_ends_even_if_its_caller_left() {
    let world = grant("\"projects/create-project\"").open().await;
    world.cloud.hold();
    cut_off(&world).await;
    world.cloud.may_answer.add_permits(1);
    tokio::time::timeout(Duration::from_secs(5), world.gate.idle())
        .await
        .unwrap();
    assert_eq!(world.cloud.sent(), ["create_project"]);
    let outcomes = world.records_of("outcome").await;
    assert_eq!(outcomes[0]["outcome"], "answered");
}

#[tokio::test]
async fn a_read_that_its_caller_polls_no_more_does_not_keep_the_audit_from_closing() {
    let mut setup = grant("\"files/*\"");
    setup.call_timeout = Duration::from_millis(50);
    let world = setup.open().await;
    world.cloud.hold();
    let mut read = Box::pin(world.read_file());
    assert!((&mut read).now_or_never().is_none());
    world.gate.close().await;
    let flushed = world.gate.audit.flush().await;
    assert!(matches!(flushed, Err(AuditError::Closed)), "{flushed:?}");
    drop(read);
}

/// The host's own reads for decisions and checks also count against the account's limits.
#[tokio::test]
async fn one_call_at_a_time_is_enough_for_every_call() {
    let mut setup = grant(
        "\"projects/*\", \"compile/*\", \"live/create-live-algorithm\", \"object-store/download\"",
    );
    setup.limits.in_flight = std::num::NonZeroU32::new(1);
    let world = setup.open().await;
    let calls = async {
        world
            .call("projects/list-projects", json!({}))
            .await
            .unwrap();
        let compile = world
            .call("compile/create-compile", json!({ "projectId": 1 }))
            .await
            .unwrap();
        let read = json!({ "projectId": 1, "compileId": compile["compileId"] });
        world.call("compile/read-compile", read).await.unwrap();
        let download = world
            .gate
            .download(&world.principal, "org", "key", 10)
            .await;
        assert!(download.is_err(), "the cloud of the tests has no objects");
    };
    tokio::time::timeout(Duration::from_secs(5), calls)
        .await
        .unwrap();
}

/// A call that waits for the account holds its grant's guard, but has used nothing of the daily
/// count yet.
#[tokio::test]
async fn a_call_that_waits_for_its_turn_is_not_sent_once_its_caller_left() {
    let mut setup = grant("\"projects/create-project\"");
    setup
        .manifest
        .push_str("limits = { concurrent = 2, per-day = 2 }\n");
    setup.limits.in_flight = std::num::NonZeroU32::new(1);
    let world = setup.open().await;
    world.cloud.hold();
    let arguments = json!({ "name": "x", "language": "Py" });
    // Takes the account's only admission, and one of the two guards.
    let first = world.start("projects/create-project", arguments.clone());
    world.cloud.until_called("create_project").await;
    // Each takes the other guard and releases it, or the next would be refused instead of waiting.
    for _ in 0..3 {
        cut_off(&world).await;
    }
    world.cloud.release();
    first.await.unwrap().unwrap();
    tokio::time::timeout(Duration::from_secs(5), world.gate.idle())
        .await
        .unwrap();
    assert_eq!(world.cloud.sent(), ["create_project"]);
    let create = async || {
        world
            .call("projects/create-project", arguments.clone())
            .await
    };
    create().await.unwrap();
    let third = create().await;
    assert!(matches!(third, Err(Refusal::Exhausted { .. })), "{third:?}");
    assert_eq!(world.records_of("intent").await.len(), 2);
}

#[tokio::test]
async fn a_call_is_not_sent_once_its_caller_left_during_the_decision() {
    let world = grant("\"files/*\"").open().await;
    world.cloud.hold();
    for (name, arguments) in [
        ("files/read-file", json!({ "projectId": 1 })),
        (
            "files/create-file",
            json!({ "projectId": 1, "name": "a.py", "content": "x" }),
        ),
    ] {
        // The host reads the project's name to decide, and is not answered.
        let call = world.call(name, arguments);
        let answer = tokio::time::timeout(Duration::from_millis(50), call).await;
        assert!(answer.is_err(), "{name}: {answer:?}");
    }
    assert!(!world.cloud.calls().is_empty());
    world.cloud.release();
    let records = world.records().await;
    assert!(world.cloud.sent().is_empty());
    assert!(records.iter().all(|record| record["kind"] != "intent"));
}

/// A write begins in a task of its own; its caller may be gone by then.
#[tokio::test]
async fn a_write_is_not_sent_if_its_caller_left_before_it_begins() {
    let world = grant("\"projects/*\"").open().await;
    let arguments = json!({ "name": "x", "language": "Py" });
    let answer = world
        .call("projects/create-project", arguments)
        .now_or_never();
    assert!(answer.is_none(), "{answer:?}");
    world.gate.idle().await;
    assert!(world.cloud.calls().is_empty(), "{:?}", world.cloud.calls());
}

/// A read begins in its caller's task. Once it is sent, it ends without its caller.
#[tokio::test]
async fn a_read_that_was_sent_is_recorded_even_if_its_caller_left() {
    let world = grant("\"projects/*\"").open().await;
    let answer = world
        .call("projects/list-projects", json!({}))
        .now_or_never();
    assert!(answer.is_none(), "{answer:?}");
    world.gate.idle().await;
    assert_eq!(world.cloud.sent(), ["list_projects"]);
    assert_eq!(world.records_of("read").await.len(), 1);
}

#[tokio::test]
async fn an_id_of_a_wrong_form_is_an_invalid_argument_whatever_is_granted() {
    for grants in ["\"files/*\"", "\"projects/*\""] {
        let world = grant(grants).open().await;
        for id in [
            json!("20000001"),
            json!(20_000_001.5),
            json!(-1),
            json!(0),
            json!([1]),
        ] {
            let mut arguments = Map::new();
            arguments.insert("projectId".to_owned(), id.clone());
            let refused = world
                .gate
                .call_raw(&world.principal, "read_project", arguments.clone());
            let refused = refused.await.unwrap_err();
            let Refusal::Failed(Failure::InvalidArgument(why)) = &refused else {
                panic!("{grants} {id}: {refused:?}")
            };
            assert!(why.contains("`projectId`"), "{why}");
            let explained = world
                .gate
                .explain("lab", "projects/read-project", arguments, None);
            let reason = explained.await.unwrap().reason.unwrap();
            assert!(!reason.contains("[[grant]]"), "{reason}");
        }
        assert!(world.cloud.calls().is_empty(), "{:?}", world.cloud.calls());
    }
}

#[tokio::test]
async fn a_tool_that_no_server_has_is_not_there_and_not_denied() {
    let world = grant("\"files/*\"").open().await;
    let call = |tool: &'static str| world.gate.call_raw(&world.principal, tool, Map::new());
    let nowhere = call(qchost_testing::cloud::NOWHERE).await.unwrap_err();
    let Refusal::Failed(Failure::NotFound(why)) = &nowhere else {
        panic!("{nowhere:?}")
    };
    assert!(why.contains("did you mean `create_backtest`?"), "{why}");
    // Of one that may be there the lines are given.
    let Err(Refusal::Denied(denial)) = call("read_weather").await else {
        panic!("not denied")
    };
    assert!(denial.remedy.unwrap().contains("raw/read_weather"));
    assert!(world.cloud.calls().is_empty());
}

#[tokio::test]
async fn a_deploy_is_explained_without_a_question_and_what_is_assumed_is_not_believed() {
    let mut setup = grant("\"live/create-live-algorithm\", \"files/*\", \"backtests/*\"");
    setup.profiles = crate::approvals::profiles();
    let world = setup.open().await;
    let deploy = json!({
        "projectId": 1, "compileId": "c-other", "nodeId": "L-MICRO", "brokerage": "paper", "versionId": "-1",
    });
    let Value::Object(deploy) = deploy else {
        unreachable!()
    };
    let explain = async |project: Option<&str>| {
        let name = "live/create-live-algorithm";
        let explained = world
            .gate
            .explain("lab", name, deploy.clone(), project.map(str::to_owned));
        explained.await.unwrap()
    };
    let unknown = explain(None).await;
    assert!(
        unknown.reason.as_ref().unwrap().contains("--project"),
        "{unknown:?}"
    );
    let named = explain(Some("Lab/one")).await;
    assert_eq!(named.decision, "allowed", "{named:?}");
    assert_eq!(named.assumed, ["the compile \"c-other\" is of project 1"]);
    assert!(world.cloud.calls().is_empty(), "nothing is read to explain");
    // The host has read the name for a call.
    world.read_file().await.unwrap();
    let read = explain(None).await;
    assert_eq!(read.decision, "allowed", "{read:?}");
    // The compile is of another project, as QuantConnect says.
    world.cloud.hook(|tool, _| {
        (tool == "read_compile").then(|| Ok(json!({ "success": true, "compileId": "c-other", "projectId": 2, "state": "BuildSuccess" })))
    });
    let refused = world
        .call(
            "backtests/create-backtest",
            json!({ "projectId": 1, "compileId": "c-other", "backtestName": "x" }),
        )
        .await;
    assert!(
        matches!(refused, Err(Refusal::Failed(Failure::NotFound(_)))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_foreign_project_and_one_that_is_not_there_are_denied_in_the_same_words() {
    let grants = "[[grant]]\nname = \"g\"\nallow = [\"files/*\", \"optimizations/*\", \"backtests/*\", \"live/create-live-algorithm\"]\n\
                  projects = [\"Lab/*\"]\nfiles = [\"notes/*\"]\nbrokerages = [\"paper\"]\n";
    let guardrail = "@id(\"prod\") forbid (principal, action, resource is Project) when { resource.name like \"Prod/*\" };";
    let mut setup = Setup::grants(grants);
    setup.profiles = crate::approvals::profiles();
    setup.guardrails =
        qchost_policy::Guardrails::read(&[("prod.cedar".into(), guardrail.to_owned())]).unwrap();
    let world = setup.open().await;
    world.cloud.hook(|tool, arguments| {
        let of = |id: &str| Some(Ok(json!({ "success": true, "optimization": { "optimizationId": id, "projectId": 9 } })));
        match (tool, arguments.get("optimizationId").and_then(Value::as_str)) {
            ("read_optimization", Some("foreign")) => of("foreign"),
            ("read_optimization", Some(_)) => Some(Err(Failure::NotFound("no such optimisation".to_owned()))),
            ("read_backtest", _) => Some(match arguments["backtestId"].as_str() {
                Some("foreign") => Ok(json!({ "success": true, "backtest": { "backtestId": "foreign", "projectId": 9 } })),
                _ => Err(Failure::NotFound("no such backtest".to_owned())),
            }),
            _ => None,
        }
    });
    let told = async |name: &str, arguments: Value| {
        let refused = world.call(name, arguments).await.unwrap_err();
        let Refusal::Denied(denial) = refused else {
            panic!("{name}: {refused:?}")
        };
        format!(
            "{} {:?} {:?}",
            denial.reason, denial.nearest_grant, denial.remedy
        )
    };
    // Project 9 belongs to others, and there is no project 8.
    for (name, more) in [
        ("files/read-file", json!({})),
        (
            "files/create-file",
            json!({ "name": "secret.py", "content": "" }),
        ),
        (
            "backtests/update-backtest",
            json!({ "backtestId": "x", "name": "y" }),
        ),
        (
            "live/create-live-algorithm",
            json!({ "compileId": "c9", "nodeId": "n", "brokerage": "paper", "versionId": "-1" }),
        ),
    ] {
        let of = |project: u32| {
            let mut arguments = more.clone();
            arguments["projectId"] = project.into();
            arguments
        };
        let (foreign, unknown) = (told(name, of(9)).await, told(name, of(8)).await);
        assert_eq!(
            foreign.replace('9', "8"),
            unknown.replace('9', "8"),
            "{name}"
        );
        assert!(!foreign.contains("Prod"), "{foreign}");
    }
    let of = |id: &str| json!({ "optimizationId": id });
    let foreign = told("optimizations/read-optimization", of("foreign")).await;
    assert_eq!(
        foreign,
        told("optimizations/read-optimization", of("nowhere")).await
    );
    assert!(!foreign.contains('9'), "{foreign}");
    let of = |id: &str| json!({ "projectId": 1, "backtestId": id, "name": "x" });
    let foreign = told("backtests/update-backtest", of("foreign")).await;
    let unknown = told("backtests/update-backtest", of("nowhere")).await;
    assert_eq!(foreign.replace("foreign", "nowhere"), unknown);
    let of = |id: &str| json!({ "projectId": 1, "backtestId": id });
    let foreign = told("backtests/read-backtest", of("foreign")).await;
    let unknown = told("backtests/read-backtest", of("nowhere")).await;
    assert_eq!(foreign.replace("foreign", "nowhere"), unknown);
    // The record has it all.
    let records = world.records().await;
    assert!(
        records
            .iter()
            .any(|record| record["project"]["name"] == "Prod/main")
    );
    // A file that is not granted, in a granted project, is named in the denial.
    let told = told(
        "files/create-file",
        json!({ "projectId": 1, "name": "secret.py", "content": "" }),
    )
    .await;
    assert!(
        told.contains("the file `secret.py`") && !told.contains("the project"),
        "{told}"
    );
}

/// QuantConnect would answer about the latest one.
#[tokio::test]
async fn what_is_about_one_of_several_deployments_is_not_sent_unless_it_says_which() {
    let grants = "[[grant]]\nname = \"g\"\nallow = [\"live/*\"]\nprojects = [\"Lab/two\"]\n";
    let world = grant("\"live/*\"").open().await;
    let scoped = Setup::grants(grants).open().await;
    for world in [&world, &scoped] {
        let two = Live {
            beside: vec!["Running"],
            ..Live::holding()
        };
        world.cloud.live.lock().insert(("a".to_owned(), 1), two);
    }
    let project = || json!({ "projectId": 1 });
    for (name, tool) in [
        ("live/read-live-algorithm", "read_live_algorithm"),
        ("live/read-live-portfolio", "read_live_portfolio"),
    ] {
        let refused = world.call(name, project()).await;
        let Err(Refusal::Failed(Failure::InvalidArgument(why))) = &refused else {
            panic!("{name}: {refused:?}")
        };
        assert!(why.contains("L-1") && why.contains("L-2"), "{why}");
        assert_eq!(world.cloud.count(tool), 0);
        // Who may not see the project learns nothing of its deployments.
        let denied = scoped.call(name, project()).await;
        let Err(Refusal::Denied(denial)) = &denied else {
            panic!("{name}: {denied:?}")
        };
        assert!(!denial.reason.contains("L-"), "{}", denial.reason);
    }
    assert_eq!(scoped.cloud.count("list_live_algorithms"), 0);
    // The twin: one is named.
    let named = json!({ "projectId": 1, "deployId": "L-1" });
    world.call("live/read-live-algorithm", named).await.unwrap();
    assert_eq!(world.cloud.count("read_live_algorithm"), 1);
}
