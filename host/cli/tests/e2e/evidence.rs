//! Facts that the host establishes by its own reads, as plugins and guardrails get them.

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{ALGORITHM, Folder, component, embedded, strategy_lab};

/// The manifest of a plugin of its own name that counts trials and starts optimisations in projects of these names.
fn manifest(name: &str, projects: &str) -> String {
    let component = component("host/cli/tests/plugins/trials");
    format!(
        "plugin = \"{name}\"\ncomponent = \"{}\"\naccount = \"research\"\n[[grant]]\nname = \"trials\"\n\
         allow = [\"evidence\", \"files/read-file\", \"backtests/list-backtests\", \"optimizations/*\"]\n\
         projects = [\"{projects}\"]\n",
        component.display()
    )
}

fn folder(cloud: &Cloud) -> Folder {
    let folder = Folder::new(&embedded(cloud.url()));
    for name in ["one", "two"] {
        folder.manifest(name, &manifest(name, "Lab/*"));
    }
    folder
}

/// Makes a project with the strategy, and returns its id.
fn project(folder: &Folder, name: &str) -> Value {
    let made = folder.call("create_project", &json!({ "name": name, "language": "Py" }));
    let id = made["projects"][0]["projectId"].clone();
    let file = json!({ "projectId": id, "name": "main.py", "content": ALGORITHM });
    folder.call("update_file_contents", &file);
    id
}

fn counted(folder: &Folder, plugin: &str, project: &Value) -> Value {
    folder.invoke(&format!("{plugin}.count"), &json!({ "project": project }))
}

#[test]
fn trials_of_two_plugins_count_together_after_a_restart_and_for_a_copy_of_the_project() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    folder.manifest("strategy-lab", &strategy_lab());
    let host = folder.serve(&["run"]);
    let original = project(&folder, "Lab/original");
    let compile = folder.compile(&original);
    assert_eq!(counted(&folder, "one", &original)["count"], 0);
    for (plugin, fast, slow) in [("one", 20, 25), ("two", 15, 20)] {
        let search = json!({ "project": original, "compile": compile, "fast": fast, "slow": slow });
        folder.invoke(&format!("{plugin}.search"), &search);
    }
    assert_eq!(counted(&folder, "one", &original)["count"], 800);
    host.end();

    let host = folder.serve(&["run"]);
    let found = counted(&folder, "two", &original);
    assert_eq!(found["count"], 800, "{found}");
    assert_eq!(found["combinations"], 800, "{found}");
    assert_eq!(found["inherited"], 0, "{found}");
    let copy = project(&folder, "Lab/copy");
    let found = counted(&folder, "two", &copy);
    assert_eq!(found["count"], 800, "{found}");
    assert_eq!(found["inherited"], 800, "{found}");

    // A batch counts as well, and once, although its backtests are listed too.
    let sweep = json!({ "project": "Lab/original", "grid": { "fast": [10, 20], "slow": [100] } });
    folder.invoke("strategy-lab.sweep", &sweep);
    let found = counted(&folder, "one", &original);
    assert_eq!(found["count"], 802, "{found}");
    assert_eq!(found["backtests"], 2, "{found}");
    assert_eq!(counted(&folder, "one", &copy)["count"], 802);
    let other = folder.call(
        "create_project",
        &json!({ "name": "Lab/other", "language": "Py" }),
    );
    let other = counted(&folder, "one", &other["projects"][0]["projectId"]);
    assert_eq!(other["count"], 0, "{other}");
    host.end();
}

#[test]
fn trials_of_a_project_out_of_scope_are_not_counted_and_nothing_is_sent() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    folder.manifest("three", &manifest("three", "Prod/*"));
    let project = project(&folder, "Lab/one");
    assert_eq!(counted(&folder, "one", &project)["count"], 0);
    let lists = || cloud.requests_to("/backtests/list").len();
    let reads = || cloud.requests_to("/files/read").len();
    let before = (lists(), reads());
    let input = json!({ "project": project }).to_string();
    let ran = folder.run(&["invoke", "three.count", &input]);
    assert!(!ran.status.success(), "{ran:?}");
    assert_eq!((lists(), reads()), before);
}

#[test]
fn a_guardrail_forbids_one_more_optimisation_of_what_was_tried_too_often() {
    let cloud = Cloud::start();
    let folder = folder(&cloud);
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let rule = "@id(\"tried-too-often\")\nforbid (principal, action == Action::\"optimizations/create-optimization\", resource)\n\
                unless { context has evidence && context.evidence.trials < 6 };\n";
    std::fs::write(folder.path().join("policies/tried.cedar"), rule).unwrap();
    let project = project(&folder, "Lab/one");
    let compile = folder.compile(&project);
    let search = json!({ "project": project, "compile": compile, "fast": 2, "slow": 3 });
    folder.invoke("one.search", &search);
    let ran = folder.run(&["invoke", "two.search", &search.to_string()]);
    assert!(ran.error().contains("tried-too-often"), "{ran:?}");
    assert_eq!(cloud.requests_to("/optimizations/create").len(), 1);
}
