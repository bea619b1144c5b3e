//! Files of a project and objects of the store: names are read strictly, and answers are filtered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::time::Duration;

use common::{
    ACCOUNT, MINE, ORGANIZATION, PLUGIN, World, allowed, answered, configured, operation, scope,
    touch,
};
use qchost_policy::{Facts, Resource};
use qchost_scope::{Scope, ScopeError};
use serde_json::{Value, json};

fn files(facts: &[Facts]) -> Vec<Option<&str>> {
    facts
        .iter()
        .map(|facts| facts.context.file.as_deref())
        .collect()
}

fn keys(facts: &[Facts]) -> Vec<&str> {
    let mut keys = Vec::new();
    for facts in facts {
        match &facts.resource {
            Resource::Object { organization, key } => {
                assert_eq!(organization, ORGANIZATION);
                keys.push(key.as_str());
            }
            other => panic!("{other:?}"),
        }
    }
    keys
}

fn call(name: &str, file: &str) -> Value {
    match name {
        "update-file-name" => json!({"projectId": MINE, "name": file, "newName": "notes/b.md"}),
        "update-file-contents" => json!({"projectId": MINE, "name": file, "content": "c"}),
        _ => json!({"projectId": MINE, "name": file}),
    }
}

#[tokio::test]
async fn a_file_is_the_one_that_is_named() {
    let (scope, world) = (scope(), World::default());
    for name in [
        "create-file",
        "read-file",
        "update-file-name",
        "update-file-contents",
        "delete-file",
    ] {
        let operation = format!("files/{name}");
        let touched = touch(&scope, &world, &operation, call(name, "notes/a.md"))
            .await
            .unwrap();
        assert!(touched.facts.iter().all(allowed), "{name}");
        assert_eq!(files(&touched.facts)[0], Some("notes/a.md"), "{name}");
        let touched = touch(&scope, &world, &operation, call(name, "main.py"))
            .await
            .unwrap();
        assert!(!touched.facts.iter().all(allowed), "{name}");
        for bad in [
            "notes/../main.py",
            "/notes/a.md",
            "notes\\a.md",
            "notes//a.md",
            " notes/a.md",
            "notes/a.md\0",
            "",
        ] {
            let error = touch(&scope, &world, &operation, call(name, bad))
                .await
                .unwrap_err();
            assert!(
                matches!(&error, ScopeError::Invalid(why) if why.contains("`name`")),
                "{name} {bad:?}: {error}"
            );
        }
        for bad in [json!(5), json!(["notes/a.md"]), json!({"a": 1})] {
            let mut arguments = common::object(call(name, "x"));
            arguments.insert("name".to_owned(), bad);
            let error = touch(&scope, &world, &operation, Value::Object(arguments))
                .await
                .unwrap_err();
            assert!(matches!(error, ScopeError::Invalid(_)), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn renaming_a_file_touches_two() {
    let (scope, world) = (scope(), World::default());
    for (old, new, fine) in [
        ("notes/a.md", "notes/b.md", true),
        ("notes/a.md", "main.py", false),
        ("main.py", "notes/b.md", false),
    ] {
        let arguments = json!({"projectId": MINE, "name": old, "newName": new});
        let touched = touch(&scope, &world, "files/update-file-name", arguments)
            .await
            .unwrap();
        assert_eq!(files(&touched.facts), [Some(old), Some(new)]);
        assert_eq!(touched.facts.iter().all(allowed), fine, "{old} {new}");
    }
}

#[tokio::test]
async fn a_patch_touches_every_file_that_it_names() {
    let (scope, world) = (scope(), World::default());
    let part = |name: &str| {
        format!("diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-a\n+b\n")
    };
    let patch = async |patch: String| {
        let arguments = json!({"projectId": MINE, "patch": patch});
        touch(&scope, &world, "files/patch-file", arguments).await
    };
    let touched = patch(part("notes/a.md")).await.unwrap();
    assert!(touched.facts.iter().all(allowed));
    let touched = patch(part("notes/a.md") + &part("main.py")).await.unwrap();
    assert_eq!(files(&touched.facts), [Some("main.py"), Some("notes/a.md")]);
    assert!(!touched.facts.iter().all(allowed));
    for bad in [
        String::new(),
        "words".to_owned(),
        part("../main.py"),
        part("notes/../main.py"),
    ] {
        let error = patch(bad).await.unwrap_err();
        assert!(
            matches!(&error, ScopeError::Invalid(why) if why.contains("`patch`")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn without_a_name_only_the_allowed_files_are_shown() {
    let (scope, world) = (scope(), World::default());
    let arguments = json!({"projectId": MINE});
    let touched = touch(&scope, &world, "files/read-file", arguments.clone())
        .await
        .unwrap();
    assert_eq!(files(&touched.facts), [None]);
    let (body, _) = answered(&scope, &world, "files/read-file", arguments.clone())
        .await
        .unwrap();
    assert_eq!(body["files"].as_array().unwrap().len(), 1);
    assert_eq!(body["files"][0]["name"], "notes/a.md");
    // Deployments include files, too.
    let (body, _) = answered(
        &scope,
        &world,
        "live/read-live-algorithm",
        arguments.clone(),
    )
    .await
    .unwrap();
    assert_eq!(body["files"].as_array().unwrap().len(), 1);

    let read = json!({"projectId": MINE, "name": "notes/a.md"});
    let (body, _) = answered(&scope, &world, "files/read-file", read.clone())
        .await
        .unwrap();
    assert_eq!(body["files"][0]["name"], "notes/a.md");
    let touched = touch(&scope, &world, "files/read-file", read)
        .await
        .unwrap();
    let other = json!({"files": [{"name": "main.py", "content": "SECRET"}]});
    let answer = scope
        .answer(
            &world,
            ACCOUNT,
            PLUGIN,
            operation("files/read-file"),
            &touched,
            other,
            &allowed,
        )
        .await;
    assert!(matches!(answer, Err(ScopeError::Denied(_))), "{answer:?}");
}

fn of(key: Value) -> Value {
    json!({"organizationId": ORGANIZATION, "key": key})
}

#[tokio::test]
async fn an_object_is_the_one_whose_key_is_given() {
    let (scope, world) = (scope(), World::default());
    for name in ["upload-object", "read-object-properties", "delete-object"] {
        let full = format!("object-store/{name}");
        let arguments = |key: Value| {
            let mut all = common::object(of(key));
            if name == "upload-object" {
                all.insert("objectData".to_owned(), json!("bytes"));
            }
            Value::Object(all)
        };
        let touched = touch(&scope, &world, &full, arguments(json!("lab/data")))
            .await
            .unwrap();
        assert_eq!(keys(&touched.facts), ["lab/data"], "{name}");
        assert!(touched.facts.iter().all(allowed));
        let touched = touch(&scope, &world, &full, arguments(json!("private/SECRET")))
            .await
            .unwrap();
        assert!(!touched.facts.iter().all(allowed), "{name}");
        for bad in [
            json!("lab/../private/SECRET"),
            json!("/lab/data"),
            json!("lab\\data"),
            json!("lab/"),
            json!(""),
            json!(" lab/data"),
            json!(["lab/data"]),
            json!(1),
        ] {
            let error = touch(&scope, &world, &full, arguments(bad.clone()))
                .await
                .unwrap_err();
            assert!(
                matches!(error, ScopeError::Invalid(_)),
                "{name} {bad}: {error}"
            );
        }
    }
    for bad in [
        json!(""),
        json!(5),
        json!("a b"),
        json!("../x"),
        json!([ORGANIZATION]),
    ] {
        let arguments = json!({"organizationId": bad, "key": "lab/data"});
        let error = touch(
            &scope,
            &world,
            "object-store/read-object-properties",
            arguments,
        )
        .await
        .unwrap_err();
        assert!(
            matches!(&error, ScopeError::Invalid(why) if why.contains("organizationId")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_key_that_is_a_folder_stands_for_what_is_below_it() {
    let (scope, world) = (scope(), World::default());
    let delete = "object-store/delete-object";
    let touched = touch(&scope, &world, delete, of(json!("shared")))
        .await
        .unwrap();
    assert_eq!(keys(&touched.facts), ["shared", "shared/"]);
    assert!(
        !touched.facts.iter().all(allowed),
        "`shared` is granted, and nothing below it"
    );
    let touched = touch(&scope, &world, delete, of(json!("single")))
        .await
        .unwrap();
    assert_eq!(keys(&touched.facts), ["single"]);
    let touched = touch(&scope, &world, delete, of(json!("lab/deep")))
        .await
        .unwrap();
    assert_eq!(keys(&touched.facts), ["lab/deep", "lab/deep/"]);
    assert!(touched.facts.iter().all(allowed));
    let begin = "object-store/read-object-store-file-job-id";
    let arguments = json!({"organizationId": ORGANIZATION, "keys": ["lab/data", "shared"]});
    let touched = touch(&scope, &world, begin, arguments).await.unwrap();
    assert_eq!(keys(&touched.facts), ["lab/data", "shared", "shared/"]);
}

#[tokio::test]
async fn keys_are_a_list_and_all_of_them_are_decided() {
    let (scope, world) = (scope(), World::default());
    let begin = "object-store/read-object-store-file-job-id";
    let arguments = |keys: Value| json!({"organizationId": ORGANIZATION, "keys": keys});
    let touched = touch(
        &scope,
        &world,
        begin,
        arguments(json!(["lab/data", "private/SECRET"])),
    )
    .await
    .unwrap();
    assert_eq!(
        touched.facts.iter().map(allowed).collect::<Vec<_>>(),
        [true, false]
    );
    for bad in [
        json!([]),
        json!("lab/data"),
        json!(["lab/data", 5]),
        json!(["/x"]),
        json!(vec!["lab/data"; 101]),
        json!(null),
    ] {
        let error = touch(&scope, &world, begin, arguments(bad.clone()))
            .await
            .unwrap_err();
        assert!(matches!(error, ScopeError::Invalid(_)), "{bad}: {error}");
    }
}

#[tokio::test]
async fn one_listing_serves_all_keys_of_a_folder() {
    let (scope, world) = (scope(), World::default());
    let begin = "object-store/read-object-store-file-job-id";
    let arguments = |keys: Vec<String>| json!({"organizationId": ORGANIZATION, "keys": keys});
    for key in 0..98 {
        let mut state = world.state.lock();
        state.objects.insert(format!("lab/many/{key}"));
    }
    world
        .state
        .lock()
        .objects
        .insert("lab/many/deep/x".to_owned());
    let mut asked: Vec<String> = (0..98).map(|key| format!("lab/many/{key}")).collect();
    asked.extend(["lab/many/deep", "lab/many/none"].map(str::to_owned));
    let touched = touch(&scope, &world, begin, arguments(asked))
        .await
        .unwrap();
    assert_eq!(world.drain().len(), 1);
    let folders = keys(&touched.facts).split_off(100);
    assert_eq!(
        folders,
        ["lab/many/deep/", "lab/many/none/"],
        "what is not listed may be a folder"
    );

    let scattered = |folders: u32| (0..folders).map(|at| format!("lab/{at}/x")).collect();
    touch(&scope, &world, begin, arguments(scattered(16)))
        .await
        .unwrap();
    assert_eq!(world.drain().len(), 16);
    let refused = touch(&scope, &world, begin, arguments(scattered(17))).await;
    assert!(
        matches!(&refused, Err(ScopeError::Invalid(why)) if why.contains("17 folders")),
        "{refused:?}"
    );
    assert_eq!(world.drain().len(), 0);
}

async fn begun(scope: &Scope, world: &World) -> String {
    let begin = "object-store/read-object-store-file-job-id";
    let arguments = json!({"organizationId": ORGANIZATION, "keys": ["lab/data"]});
    let (body, _) = answered(scope, world, begin, arguments).await.unwrap();
    body["jobId"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_download_counts_for_who_began_it_and_for_an_hour() {
    let (scope, world) = (scope(), World::default());
    let read = operation("object-store/read-object-store-file-download-url");
    let job = begun(&scope, &world).await;
    let arguments = |job: &str, organization: &str| {
        common::object(json!({"organizationId": organization, "jobId": job}))
    };
    let resolve = async |plugin: &str, job: &str, organization: &str| {
        let arguments = arguments(job, organization);
        scope
            .resolve(&world, configured(), ACCOUNT, plugin, read, &arguments)
            .await
    };
    let touched = resolve(PLUGIN, &job, ORGANIZATION).await.unwrap();
    assert_eq!(keys(&touched.facts), ["lab/data"]);
    let other = json!({"jobId": "job-other", "url": "SECRET"});
    let answer = scope
        .answer(&world, ACCOUNT, PLUGIN, read, &touched, other, &allowed)
        .await;
    assert!(matches!(answer, Err(ScopeError::Denied(_))), "{answer:?}");

    for (plugin, job, organization) in [
        ("other", job.as_str(), ORGANIZATION),
        (PLUGIN, "job-999", ORGANIZATION),
        (PLUGIN, job.as_str(), "an0ther"),
    ] {
        let error = resolve(plugin, job, organization).await.unwrap_err();
        assert!(matches!(error, ScopeError::Denied(_)), "{error}");
    }
    tokio::time::advance(Duration::from_secs(3_601)).await;
    let error = resolve(PLUGIN, &job, ORGANIZATION).await.unwrap_err();
    assert!(matches!(error, ScopeError::Denied(_)), "{error}");
}

#[tokio::test]
async fn a_folder_shows_what_is_allowed_in_it() {
    let (scope, world) = (scope(), World::default());
    let list = "object-store/list-object-store-files";
    let arguments = |path: &str| json!({"organizationId": ORGANIZATION, "path": path});
    let (body, _) = answered(&scope, &world, list, arguments("/"))
        .await
        .unwrap();
    let shown: Vec<_> = body["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["key"])
        .collect();
    assert_eq!(
        shown,
        ["lab"],
        "`shared` is granted as an object, and is a folder"
    );
    assert_eq!(body["total"], 1);
    assert_eq!(
        body.get("objectStorageUsed"),
        None,
        "that is about the whole store"
    );
    let (body, _) = answered(&scope, &world, list, arguments("lab"))
        .await
        .unwrap();
    let shown: Vec<_> = body["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["key"])
        .collect();
    assert_eq!(
        shown,
        ["lab/data", "lab/deep"],
        "as keys that can be asked for"
    );
    let error = touch(&scope, &world, list, arguments("lab/../private"))
        .await
        .unwrap_err();
    assert!(matches!(error, ScopeError::Invalid(_)), "{error}");

    let touched = touch(&scope, &world, list, arguments("/")).await.unwrap();
    assert_eq!(
        touched.facts[0].context.organization.as_deref(),
        Some(ORGANIZATION)
    );
    let whole = json!({"objects": [{"key": "a"}], "objectStorageUsed": 5});
    let everything = |_: &Facts| true;
    let (body, _) = scope
        .answer(
            &world,
            ACCOUNT,
            PLUGIN,
            operation(list),
            &touched,
            whole.clone(),
            &everything,
        )
        .await
        .unwrap();
    assert_eq!(body, whole);
}

#[tokio::test]
async fn bytes_are_of_one_object() {
    let scope = scope();
    let touched = scope.download(ORGANIZATION, "lab/data").unwrap();
    assert_eq!(keys(&touched.facts), ["lab/data"]);
    assert!(allowed(&touched.facts[0]));
    assert!(!allowed(
        &scope.download(ORGANIZATION, "private/x").unwrap().facts[0]
    ));
    for (organization, key) in [
        (ORGANIZATION, "lab/../x"),
        (ORGANIZATION, "/lab"),
        ("", "lab/data"),
    ] {
        assert!(matches!(
            scope.download(organization, key),
            Err(ScopeError::Invalid(_))
        ));
    }
}

#[tokio::test]
async fn files_that_replace_those_of_a_project_touch_the_present_ones_too() {
    let (scope, world) = (scope(), World::default());
    let replace = "projects/replace-project-files";
    let with = |names: &[&str]| {
        let files: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "content": "c"}))
            .collect();
        json!({"projectId": MINE, "files": files})
    };
    let touched = touch(&scope, &world, replace, with(&["notes/b.md"]))
        .await
        .unwrap();
    // The project has `main.py`, which would be deleted, and only `notes/*` is allowed.
    let all = [Some("main.py"), Some("notes/a.md"), Some("notes/b.md")];
    assert_eq!(files(&touched.facts), all);
    assert!(!touched.facts.iter().all(allowed));

    world.drain();
    let many: Vec<String> = (0..251).map(|number| format!("notes/{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let bad: [&[&str]; 4] = [&[], &["a.py", "a.py"], &["notes/../main.py"], &many];
    for bad in bad {
        let refused = touch(&scope, &world, replace, with(bad)).await;
        assert!(
            matches!(refused, Err(ScopeError::Invalid(_))),
            "{refused:?}"
        );
    }
    for file in [
        json!({"content": "c"}),
        json!("notes/b.md"),
        // Some servers read the last of the spellings.
        json!({"name": "notes/b.md", "content": "c", "Name": "main.py"}),
        json!({"name": "notes/b.md", "content": "c", "name]": "main.py"}),
    ] {
        let arguments = json!({"projectId": MINE, "files": [file]});
        let refused = touch(&scope, &world, replace, arguments).await;
        assert!(
            matches!(refused, Err(ScopeError::Invalid(_))),
            "{refused:?}"
        );
    }
    assert_eq!(
        world.count(),
        0,
        "nothing is read for a call that makes no sense"
    );
}

#[tokio::test]
async fn without_the_list_of_present_files_they_are_not_replaced() {
    let (scope, world) = (scope(), World::default());
    let failure = qchost_catalog::Failure::Unavailable("busy".to_owned());
    *world.broken.lock() = Some(("files/read-file", failure));
    let arguments = json!({"projectId": MINE, "files": [{"name": "notes/a.md", "content": "c"}]});
    let refused = touch(&scope, &world, "projects/replace-project-files", arguments).await;
    assert!(matches!(refused, Err(ScopeError::Failed(_))), "{refused:?}");
}

#[tokio::test]
async fn a_search_shows_no_line_of_a_hidden_file() {
    let (scope, world) = (scope(), World::default());
    let search = json!({"projectId": MINE, "query": "e"});
    let name = "files/search-file-content";
    let (body, _) = answered(&scope, &world, name, search).await.unwrap();
    let found = body["files"].as_array().unwrap();
    let names: Vec<_> = found.iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["notes/a.md"]);
}

#[tokio::test]
async fn a_file_that_came_while_the_call_waited_is_not_deleted() {
    let (scope, world) = (scope(), World::default());
    let replace = operation("projects/replace-project-files");
    let arguments = json!({"projectId": MINE, "files": [{"name": "notes/a.md", "content": "c"}]});
    let mut touched = touch(&scope, &world, replace.name, arguments)
        .await
        .unwrap();
    scope.check_files(&world, replace, &touched).await.unwrap();
    touched
        .facts
        .retain(|facts| facts.context.file.as_deref() != Some("main.py"));
    let refused = scope
        .check_files(&world, replace, &touched)
        .await
        .unwrap_err();
    let says = refused.to_string();
    assert!(
        says.contains("got another file") && !says.contains("main.py"),
        "{says}"
    );
    // No other call reads the files once more.
    world.drain();
    let other = operation("files/delete-file");
    scope.check_files(&world, other, &touched).await.unwrap();
    assert_eq!(world.count(), 0);
}
