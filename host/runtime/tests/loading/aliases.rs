//! Aliases: of which actions, who has a name, and what is invoked by it.

use std::time::Duration;

use qchost_runtime::{LoadError, Target};
use serde_json::json;

use qchost_testing::{Guest, Host, Scripted, uncalled};

use crate::granted::compiler;

fn alias(name: &str, action: &str) -> String {
    format!("[[alias]]\nname = \"{name}\"\naction = \"{action}\"\n")
}

/// Returns its input, whichever of these actions is invoked.
fn echo(actions: &[&str]) -> Vec<u8> {
    let actions: Vec<_> = actions.iter().map(|action| (*action, "{}")).collect();
    Guest::echo().actions(&actions).build()
}

#[tokio::test]
async fn an_alias_of_no_action_is_refused_with_the_actions_that_there_are() {
    let host = Host::new(&uncalled()).await;
    let component = echo(&["sweep", "compile"]);
    for (action, near) in [("sweeep", "; did you mean `sweep`?; "), ("other", "; ")] {
        let lines = alias("lab.run", action);
        let error = host.load("lab", &component, &lines).await.unwrap_err();
        assert!(
            matches!(error, LoadError::AliasWithoutAction { .. }),
            "{error}"
        );
        let text = error.to_string();
        let expected = format!(
            "the alias `lab.run` is for the action `{action}`, which the component does not have{near}it has: sweep, compile"
        );
        assert!(text.contains(&expected), "{text}");
    }
    assert!(host.runtime.plugins().is_empty());
    let lines = alias("lab.run", "sweep");
    host.load("lab", &component, &lines).await.unwrap();
    // A component that loses the action does not take the place of the one that has it.
    let error = host.load("lab", &echo(&["compile"]), &lines).await;
    assert!(matches!(error, Err(LoadError::AliasWithoutAction { .. })));
    assert!(host.runtime.alias("lab.run").is_some());
}

#[tokio::test]
async fn a_name_stays_with_the_plugin_that_serves_whatever_wants_it_later() {
    let host = Host::new(&uncalled()).await;
    let act = echo(&["act"]);
    let refused = async |plugin: &str, component: &[u8], lines: &str, by: &str| {
        let error = host.load(plugin, component, lines).await.unwrap_err();
        assert!(matches!(error, LoadError::NameTaken { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(by), "{text}");
    };
    host.load("one", &act, &alias("shared.name", "act"))
        .await
        .unwrap();
    // An alias, and the action of another plugin.
    refused(
        "two",
        &act,
        &alias("shared.name", "act"),
        "`shared.name` is taken: it is an alias of the plugin `one`",
    )
    .await;
    refused(
        "two",
        &act,
        &alias("one.act", "act"),
        "`one.act` is taken: it is an action of the plugin `one`",
    )
    .await;
    refused(
        "two",
        &act,
        &alias("two.act", "act"),
        "`two.act` is taken: it is an action of the plugin `two`",
    )
    .await;
    assert!(host.runtime.plugin("two").is_none());
    // Twins: other names, also that of an action which is not there.
    for name in ["shared", "shared.name.too", "one.other", "two.other"] {
        host.load("two", &act, &alias(name, "act")).await.unwrap();
    }

    // The other order: an action that comes when an alias has its name.
    host.load("first", &act, &alias("late.act", "act"))
        .await
        .unwrap();
    let by = "`late.act` is taken: it is an alias of the plugin `first`";
    refused("late", &act, "", by).await;
    assert!(host.runtime.plugin("late").is_none());
    // A plugin of this name without the action loads, and no version of it with the action.
    host.load("late", &echo(&["other"]), "").await.unwrap();
    refused("late", &echo(&["other", "act"]), "", by).await;
    let serving = host.runtime.plugin("late").unwrap();
    assert_eq!(serving.description().actions.len(), 1);
    let echoed = host.runtime.invoke("late", "other", json!(1), None, None);
    assert_eq!(echoed.await, Ok(json!(1)));
    // It may when the name is free.
    assert!(host.runtime.unload("first"));
    host.load("late", &echo(&["other", "act"]), "")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_alias_comes_moves_and_goes_with_its_manifest() {
    let host = Host::new(&uncalled()).await;
    let component = echo(&["one", "other"]);
    let target = |action: &str, alias: &str| Target {
        alias: Some(alias.to_owned()),
        ..Target::new("lab", action)
    };
    for (lines, run, go) in [
        (String::new(), None, None),
        (alias("a.run", "one"), Some("one"), None),
        (alias("a.run", "other"), Some("other"), None),
        (
            alias("a.run", "one") + &alias("go", "other"),
            Some("one"),
            Some("other"),
        ),
        (alias("go", "one"), None, Some("one")),
    ] {
        host.load("lab", &component, &lines).await.unwrap();
        for (name, action) in [("a.run", run), ("go", go)] {
            let expected = action.map(|action| target(action, name));
            assert_eq!(host.runtime.alias(name), expected, "{lines}");
        }
        assert_eq!(host.runtime.alias("lab.one"), None);
    }
    let go = host.runtime.alias("go").unwrap();
    let echoed = host.runtime.invoke_target(&go, json!(1), None, None, None);
    assert_eq!(echoed.await, Ok(json!(1)));
    host.runtime.unload("lab");
    assert_eq!(host.runtime.alias("go"), None);
}

#[tokio::test]
async fn records_have_the_action_and_the_alias_that_it_was_invoked_by() {
    let upstream = Scripted::new(|_| {
        let body = json!({ "compileId": "c", "state": "InQueue", "projectId": 7 });
        (Duration::ZERO, Ok(body))
    });
    let host = Host::new(&upstream).await;
    let grant = "[[grant]]\nname = \"all\"\nallow = [\"compile/*\"]\nprojects = [\"*\"]\n";
    let lines = format!("{grant}{}", alias("lab.build", "act"));
    host.load("lab", &compiler("").build(), &lines)
        .await
        .unwrap();
    let by_alias = host.runtime.alias("lab.build").unwrap();
    for target in [Target::new("lab", "act"), by_alias] {
        let invoked = host
            .runtime
            .invoke_target(&target, json!({}), None, None, None);
        invoked.await.unwrap();
    }
    let records = host.records().await;
    let asked: Vec<_> = records
        .iter()
        .filter(|record| record["operation"] == "compile/create-compile")
        .map(|record| {
            (
                record["plugin"].as_str(),
                record["action"].as_str(),
                record["alias"].as_str(),
            )
        })
        .collect();
    let expected = |alias| (Some("lab"), Some("act"), alias);
    assert!(asked.contains(&expected(None)), "{records:#?}");
    assert!(asked.contains(&expected(Some("lab.build"))), "{records:#?}");
    assert!(
        asked
            .iter()
            .all(|one| [expected(None), expected(Some("lab.build"))].contains(one)),
        "{records:#?}"
    );
}
