//! The source of a compile, what an approver is shown of it, and what is deployed are the same.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

use qchost_catalog::{Failure, Outcome};
use qchost_gate::{PluginCalls as _, Refusal};
use qchost_ledger::{Ledger, NewCompile, StandingPermit};
use serde_json::{Map, Value, json};

use crate::approvals::{deployment, profiles};
use qchost_testing::cloud::{Setup, World, approve, call, parse, person, principal, required};

const GRANTS: &str = "[[grant]]\nname = \"real\"\nallow = [\"live/create-live-algorithm\"]\nprojects = [\"Lab/*\"]\nbrokerages = [\"ib\", \"paper\"]\n\
    [[grant]]\nname = \"work\"\nallow = [\"compile/*\", \"files/*\"]\nprojects = [\"Lab/*\"]\n";

/// A change of projects made elsewhere.
type Change = fn(&mut Projects);

/// The files of projects, one each, and what was compiled and deployed of them.
#[derive(Default)]
struct Projects {
    files: BTreeMap<u32, String>,
    /// How often each was changed.
    changed: BTreeMap<u32, u32>,
    /// By project, the libraries.
    libraries: BTreeMap<u32, Vec<u32>>,
    /// By compile, what it was made of.
    compiled: BTreeMap<String, Vec<String>>,
    next: u32,
    /// Changes made elsewhere before a compile takes the files, and after.
    meddle: Option<Change>,
    mend: Option<Change>,
    /// What the cloud says that it deployed, in place of what it did.
    deployed: Option<Value>,
    /// Whether the deployment cannot be read back.
    unreadable: bool,
    /// Whether the deployments cannot be listed.
    unlisted: bool,
}

impl Projects {
    fn set(&mut self, project: u32, content: &str) {
        self.files.insert(project, content.to_owned());
        *self.changed.entry(project).or_default() += 1;
    }

    fn contents(&self, project: u32) -> Vec<String> {
        let linked = self.libraries.get(&project).into_iter().flatten();
        let all = std::iter::once(&project).chain(linked);
        all.map(|one| self.files[one].clone()).collect()
    }

    fn answer(&mut self, tool: &str, arguments: &Map<String, Value>) -> Option<Outcome> {
        let project = u32::try_from(arguments.get("projectId")?.as_u64()?).unwrap();
        let file = |content: &str, changed: u32| json!({ "id": project, "name": "main.py", "content": content, "projectId": project, "modified": changed.to_string() });
        Some(Ok(match tool {
            "read_project" => {
                let libraries: Vec<_> =
                    self.libraries.get(&project).into_iter().flatten().collect();
                let libraries: Vec<_> = libraries
                    .iter()
                    .map(|id| json!({ "projectId": id, "libraryName": format!("Lab/{id}") }))
                    .collect();
                let name = if project == 9 {
                    "Prod/main".to_owned()
                } else {
                    format!("Lab/{project}")
                };
                json!({ "success": true, "projects": [{
                    "projectId": project, "name": name, "created": "2020-01-01 00:00:00", "libraries": libraries,
                }] })
            }
            "read_file" => {
                let changed = self.changed.get(&project).copied().unwrap_or_default();
                json!({ "success": true, "files": [file(&self.files[&project], changed)] })
            }
            "update_file_contents" => {
                let content = arguments["content"].as_str().unwrap().to_owned();
                self.set(project, &content);
                json!({ "success": true, "files": [file(&content, 0)] })
            }
            "create_compile" => {
                if let Some(meddle) = self.meddle {
                    meddle(self);
                }
                self.next += 1;
                let id = format!("c-{}", self.next);
                let contents = self.contents(project);
                self.compiled.insert(id.clone(), contents);
                if let Some(mend) = self.mend {
                    mend(self);
                }
                json!({ "success": true, "compileId": id, "projectId": project, "state": "InQueue" })
            }
            "read_live_algorithm" if self.unreadable => {
                return Some(Err(Failure::Unavailable("no answer".to_owned())));
            }
            "list_live_algorithms" if self.unlisted => {
                return Some(Err(Failure::Unavailable("no answer".to_owned())));
            }
            "create_live_algorithm" => json!({
                "success": true,
                "live": { "projectId": project, "deployId": "L-7", "files": self.deployed },
            }),
            _ => return None,
        }))
    }
}

struct Cloud {
    world: World,
    projects: Arc<Mutex<Projects>>,
}

async fn open(setup: Setup) -> Cloud {
    let world = setup.open().await;
    let mut projects = Projects::default();
    for project in [1, 2, 9] {
        projects.set(project, "a");
    }
    let projects = Arc::new(Mutex::new(projects));
    let shared = Arc::clone(&projects);
    world
        .cloud
        .hook(move |tool, arguments| shared.lock().answer(tool, arguments));
    Cloud { world, projects }
}

fn setup(grants: &str) -> Setup {
    let mut setup = Setup::grants(grants);
    setup.profiles = profiles();
    setup.live_trading = true;
    setup
}

/// A plugin that may deploy what a person approved.
async fn asking() -> Cloud {
    let asks = "\napproval = \"operator\"\nprojects";
    open(setup(&GRANTS.replacen("\nprojects", asks, 1))).await
}

impl Cloud {
    fn projects(&self) -> parking_lot::MutexGuard<'_, Projects> {
        self.projects.lock()
    }

    async fn compile(&self) -> String {
        let answer = self
            .world
            .call("compile/create-compile", json!({ "projectId": 1 }))
            .await
            .unwrap();
        answer["compileId"].as_str().unwrap().to_owned()
    }

    async fn deploy(&self, compile: &str, brokerage: &str) -> Result<Value, Refusal> {
        let mut arguments = deployment(1, brokerage);
        arguments["compileId"] = compile.into();
        self.world
            .call("live/create-live-algorithm", arguments)
            .await
    }

    async fn write(&self, project: u32, content: &str) {
        let file = json!({ "projectId": project, "name": "main.py", "content": content });
        self.world
            .call("files/update-file-contents", file)
            .await
            .unwrap();
    }

    fn sent(&self, tool: &str) -> usize {
        self.world.cloud.count(tool)
    }

    /// The contents on record for a compile; nothing if its code is unknown.
    async fn on_record(&self, compile: &str) -> Option<Vec<String>> {
        let ledger = Ledger::open(&self.world.folder.path().join("state.db")).unwrap();
        let (hash, _) = ledger.compile_source("a", compile).await.unwrap()?;
        let files = ledger.source(&hash).await.unwrap().unwrap();
        let files = files
            .into_iter()
            .filter(|(name, _)| name.ends_with("main.py"));
        Some(files.map(|(_, content)| content).collect())
    }

    /// Compiles while other tasks swap two versions of a project's file through the host as fast as they can.
    async fn compile_under_swaps(&self, swapped: u32, compiles: usize) -> Vec<String> {
        let swappers: Vec<_> = ["lab", "second"]
            .into_iter()
            .map(|plugin| {
                let (gate, principal) = (self.world.gate.clone(), principal(plugin));
                tokio::spawn(async move {
                    loop {
                        for content in ["b", "a"] {
                            let file = json!({ "projectId": swapped, "name": "main.py", "content": content });
                            let written = call(&gate, &principal, "files/update-file-contents", file);
                            written.await.unwrap();
                        }
                    }
                })
            })
            .collect();
        let mut made = Vec::new();
        for _ in 0..compiles {
            made.push(self.compile().await);
        }
        for swapper in swappers {
            swapper.abort();
        }
        made
    }
}

fn denied(refused: &Result<Value, Refusal>) -> String {
    match refused {
        Err(Refusal::Denied(denial)) => denial.reason.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_that_are_swapped_between_the_reads_give_no_wrong_source() {
    let cloud = open(setup(GRANTS)).await;
    let second = parse(&setup(GRANTS).manifest.replace("\"lab\"", "\"second\""));
    cloud.world.gate.policies.install(second).unwrap();
    cloud.projects().libraries.insert(1, vec![2]);
    let mut seen = std::collections::BTreeSet::new();
    for swapped in [1, 2] {
        for compile in cloud.compile_under_swaps(swapped, 75).await {
            let compiled = cloud.projects().compiled[&compile].clone();
            let on_record = cloud.on_record(&compile).await;
            assert_eq!(on_record.as_ref(), Some(&compiled), "{compile}");
            seen.insert(compiled);
        }
        cloud.world.gate.idle().await;
    }
    assert!(seen.len() > 1, "nothing was swapped");
}

#[tokio::test]
async fn a_compile_with_many_libraries_costs_more_of_a_rate_than_one_without() {
    const PER_MINUTE: usize = 60;
    let limits = format!("limits = {{ per-minute = {PER_MINUTE} }}\n");
    for libraries in [0, 40] {
        let cloud = open(setup(&format!("{GRANTS}{limits}"))).await;
        for library in 100..100 + libraries {
            cloud.projects().set(library, "a");
        }
        let linked = (100..100 + libraries).collect();
        cloud.projects().libraries.insert(1, linked);
        let begun = std::time::Instant::now();
        cloud.compile().await;
        let reads = cloud.world.cloud.calls().len() - 1;
        let file = json!({ "projectId": 1, "name": "main.py" });
        let mut passed = 1;
        while cloud
            .world
            .call("files/read-file", file.clone())
            .await
            .is_ok()
        {
            passed += 1;
        }
        // What the rate gave meanwhile.
        let refilled = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
        if libraries == 0 {
            assert!(reads <= 10 && passed >= PER_MINUTE, "{reads}: {passed}");
        } else {
            let charged = (reads - 1) / 10;
            assert!(charged >= 8, "{reads} reads");
            let most = PER_MINUTE - charged + refilled;
            assert!(passed <= most, "{passed} and not {most} for {reads} reads");
        }
    }
}

#[tokio::test]
async fn what_is_changed_elsewhere_and_put_back_makes_the_compile_unknown() {
    for library in [false, true] {
        let cloud = open(setup(GRANTS)).await;
        let (meddle, mend): (Change, Change) = if library {
            cloud.projects().libraries.insert(1, vec![2]);
            (|it| it.set(2, "b"), |it| it.set(2, "a"))
        } else {
            (|it| it.set(1, "b"), |it| it.set(1, "a"))
        };
        {
            let mut projects = cloud.projects();
            (projects.meddle, projects.mend) = (Some(meddle), Some(mend));
        }
        let compile = cloud.compile().await;
        assert_eq!(cloud.on_record(&compile).await, None);
        let reason = denied(&cloud.deploy(&compile, "ib").await);
        assert!(reason.contains("not known"), "{reason}");
        assert_eq!(cloud.sent("create_live_algorithm"), 0);
        // The control: no changes elsewhere.
        cloud.projects().meddle = None;
        cloud.projects().mend = None;
        let compile = cloud.compile().await;
        cloud.deploy(&compile, "ib").await.unwrap();
        assert_eq!(cloud.sent("create_live_algorithm"), 1);
    }
}

#[tokio::test]
async fn real_money_runs_what_was_compiled_or_nothing() {
    // Whose file is changed after the compile: the project's, its library's; or the libraries themselves.
    let changes: [Change; 3] = [
        |it| it.set(1, "b"),
        |it| it.set(2, "b"),
        |it| drop(it.libraries.remove(&1)),
    ];
    for change in changes {
        let cloud = open(setup(GRANTS)).await;
        cloud.projects().libraries.insert(1, vec![2]);
        let compile = cloud.compile().await;
        change(&mut cloud.projects());
        let reason = denied(&cloud.deploy(&compile, "ib").await);
        assert!(reason.contains("not those that were compiled"), "{reason}");
        assert_eq!(cloud.sent("create_live_algorithm"), 0);
        let compile = cloud.compile().await;
        cloud.deploy(&compile, "ib").await.unwrap();
        assert_eq!(cloud.sent("create_live_algorithm"), 1);
    }
}

#[tokio::test]
async fn a_deployment_that_runs_something_else_is_stopped() {
    let file = |content: &str| json!([{ "name": "main.py", "content": content }]);
    for (deployed, stopped) in [(Value::Null, 0), (file("a"), 0), (file("b"), 1)] {
        let cloud = open(setup(GRANTS)).await;
        let compile = cloud.compile().await;
        cloud.projects().deployed = Some(deployed.clone());
        let result = cloud.deploy(&compile, "ib").await;
        assert_eq!(cloud.sent("create_live_algorithm"), 1);
        assert_eq!(cloud.sent("stop_live_algorithm"), stopped, "{deployed}");
        if stopped == 0 {
            result.unwrap();
            continue;
        }
        let Err(Refusal::Failed(Failure::UnexpectedResponse(said))) = result else {
            panic!("{result:?}")
        };
        assert!(
            said.contains("was stopped") && said.contains("main.py"),
            "{said}"
        );
        let records = cloud.world.records().await;
        let stops = |record: &&Value| record["operation"] == "live/stop-live-algorithm";
        let stops: Vec<_> = records.iter().filter(stops).collect();
        assert_eq!(stops.len(), 2, "{records:?}");
        for stop in stops {
            assert!(
                stop["stops-deployment"]["why"]
                    .as_str()
                    .unwrap()
                    .contains("main.py")
            );
        }
    }
}

/// Real money does not run on code that cannot be checked.
#[tokio::test]
async fn a_deployment_that_cannot_be_read_back_is_stopped() {
    let cloud = open(setup(GRANTS)).await;
    let compile = cloud.compile().await;
    cloud.projects().unreadable = true;
    let result = cloud.deploy(&compile, "ib").await;
    assert_eq!(cloud.sent("create_live_algorithm"), 1);
    assert_eq!(cloud.sent("stop_live_algorithm"), 1);
    let said = result.unwrap_err().to_string();
    assert!(
        said.contains("was stopped") && said.contains("cannot be read"),
        "{said}"
    );
}

/// The stop may have ended another deployment of the project.
#[tokio::test]
async fn a_stop_that_cannot_be_read_back_is_not_reported_as_one() {
    let cloud = open(setup(GRANTS)).await;
    let compile = cloud.compile().await;
    {
        let mut projects = cloud.projects();
        projects.deployed = Some(json!([{ "name": "main.py", "content": "b" }]));
        projects.unlisted = true;
    }
    let result = cloud.deploy(&compile, "ib").await;
    assert_eq!(cloud.sent("create_live_algorithm"), 1);
    assert_eq!(cloud.sent("stop_live_algorithm"), 3);
    let said = result.unwrap_err().to_string();
    assert!(
        said.contains("may be trading") && said.contains("whether it still runs"),
        "{said}"
    );
    assert!(!said.contains("was stopped"), "{said}");
}

/// A compile that fills what is kept of a plugin's sources.
fn large(plugin: &str, now: i64) -> NewCompile {
    NewCompile {
        account: "a".to_owned(),
        plugin: plugin.to_owned(),
        compile: format!("large of {plugin}"),
        project: 2,
        source: format!("sha256:{plugin}"),
        files: vec![("main.py".to_owned(), "x".repeat((64 << 20) - 100))],
        signature: None,
        contents: String::new(),
        now,
    }
}

/// Another plugin's sources make none of this one's unknown; its own do, and are refused then.
#[tokio::test]
async fn a_source_that_is_not_kept_is_unknown_and_refused_for_real_money() {
    let cloud = open(setup(GRANTS)).await;
    let compile = cloud.compile().await;
    let ledger = Ledger::open(&cloud.world.folder.path().join("state.db")).unwrap();
    ledger.put_compile(large("other", 0)).await.unwrap();
    cloud.deploy(&compile, "ib").await.unwrap();
    ledger.put_compile(large("lab", 0)).await.unwrap();
    let reason = denied(&cloud.deploy(&compile, "ib").await);
    assert!(reason.contains("not known"), "{reason}");
    assert_eq!(cloud.sent("create_live_algorithm"), 1);
}

/// As after a loss of data: what would run can no longer be shown, so it is neither taken as unchanged nor approved.
#[tokio::test]
async fn real_money_is_not_approved_for_what_cannot_be_shown() {
    let cloud = asking().await;
    let compile = cloud.compile().await;
    let id = required(cloud.deploy(&compile, "ib").await);
    let shown = async || {
        let shown = cloud.world.gate.viewer.show(&id, 1).await.unwrap();
        shown.unwrap().1
    };
    assert!(shown().await["source"]["difference"].is_string());
    let ledger = Ledger::open(&cloud.world.folder.path().join("state.db")).unwrap();
    // At the end of all time nothing waits any more.
    ledger.put_compile(large("lab", i64::MAX)).await.unwrap();
    let unknown = shown().await["source"]["unknown"].clone();
    assert!(
        unknown.as_str().unwrap().contains("cannot be shown"),
        "{unknown}"
    );
    let ann = person(7, "ann");
    let refused = cloud.world.gate.approvals.approve(&id, &ann, None).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("is not known"), "{refused}");
    denied(&cloud.deploy(&compile, "ib").await);
    assert_eq!(cloud.sent("create_live_algorithm"), 0);
}

#[tokio::test]
async fn what_runs_after_the_yes_is_what_was_shown() {
    let cloud = asking().await;
    cloud.projects().libraries.insert(1, vec![2]);
    let ask = async |compile: &str| required(cloud.deploy(compile, "paper").await);
    let shown = async |id: &str| {
        let shown = cloud.world.gate.viewer.show(id, 1).await.unwrap();
        shown.unwrap().1["source"].clone()
    };
    let yes = async |id: &str| {
        let ann = person(7, "ann");
        approve(&cloud.world.gate, id, &ann).await
    };
    let first = cloud.compile().await;
    let id = ask(&first).await;
    let source = shown(&id).await;
    let difference = source["difference"].as_str().unwrap();
    assert!(difference.contains("+++ main.py\n"), "{difference}");
    assert!(
        difference.contains("+++ library:2:Lab/2/main.py\n"),
        "{difference}"
    );
    assert!(
        source["note"]
            .as_str()
            .unwrap()
            .contains("nothing of this project was approved")
    );
    yes(&id).await;
    // The library is changed after the approval: what was shown is not what would run.
    cloud.write(2, "b").await;
    let reason = denied(&cloud.deploy(&first, "paper").await);
    assert!(reason.contains("not those that were compiled"), "{reason}");
    assert_eq!(cloud.sent("create_live_algorithm"), 0);
    // Compiled again it is another source, which needs another approval, and only the change is shown.
    let second = cloud.compile().await;
    let id = ask(&second).await;
    let source = shown(&id).await;
    assert_eq!(
        source["difference"],
        "--- library:2:Lab/2/main.py\n+++ library:2:Lab/2/main.py\n@@ -1 +1 @@\n-a\n+b\n"
    );
    assert_eq!(cloud.sent("create_live_algorithm"), 0);
    yes(&id).await;
    cloud.deploy(&second, "paper").await.unwrap();
    assert_eq!(cloud.sent("create_live_algorithm"), 1);
}

/// A write that is asked for while its project is compiled is sent when the host has read the project again.
#[tokio::test]
async fn a_write_to_a_project_that_is_compiled_waits() {
    let cloud = open(setup(GRANTS)).await;
    let (gate, projects) = (cloud.world.gate.clone(), Arc::clone(&cloud.projects));
    let written = Arc::new(Mutex::new(None));
    let writing = Arc::clone(&written);
    cloud.world.cloud.hook(move |tool, arguments| {
        let mut writing = writing.lock();
        if tool == "read_file" && writing.is_none() {
            let gate = gate.clone();
            *writing = Some(tokio::spawn(async move {
                let file = json!({ "projectId": 1, "name": "main.py", "content": "b" });
                call(&gate, &principal("lab"), "files/update-file-contents", file).await
            }));
        }
        projects.lock().answer(tool, arguments)
    });
    let compile = cloud.compile().await;
    let write = written.lock().take().unwrap();
    write.await.unwrap().unwrap();
    let sent = cloud.world.cloud.sent();
    let order = [
        "read_file",
        "create_compile",
        "read_file",
        "update_file_contents",
    ];
    assert_eq!(sent, order);
    assert_eq!(cloud.on_record(&compile).await, Some(vec!["a".to_owned()]));
}

/// A write that waits counts against the concurrency limit of its grant, like any waiting call.
#[tokio::test]
async fn a_write_that_waits_counts_among_its_plugins_calls() {
    let grants = GRANTS.replace(", \"files/*\"", "")
        + "[[grant]]\nname = \"write\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\nlimits = { concurrent = 1 }\n";
    let cloud = open(setup(&grants)).await;
    let (gate, projects) = (cloud.world.gate.clone(), Arc::clone(&cloud.projects));
    let written = Arc::new(Mutex::new(Vec::new()));
    let writing = Arc::clone(&written);
    cloud.world.cloud.hook(move |tool, arguments| {
        let mut writing = writing.lock();
        if tool == "read_file" && writing.is_empty() {
            for _ in 0..2 {
                let gate = gate.clone();
                writing.push(tokio::spawn(async move {
                    let file = json!({ "projectId": 1, "name": "main.py", "content": "b" });
                    call(&gate, &principal("lab"), "files/update-file-contents", file).await
                }));
            }
        }
        projects.lock().answer(tool, arguments)
    });
    cloud.compile().await;
    let writes = std::mem::take(&mut *written.lock());
    let mut refused = 0;
    for write in writes {
        match write.await.unwrap() {
            Ok(_) => {}
            Err(Refusal::Exhausted { budget, .. }) => {
                assert_eq!(budget, "concurrent");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((refused, cloud.sent("update_file_contents")), (1, 1));
}

#[tokio::test]
async fn contents_are_shown_and_not_their_digest() {
    let grants = "[[grant]]\nname = \"asks\"\nallow = [\"files/update-file-contents\", \"files/create-file\", \"files/patch-file\"]\n\
        projects = [\"Lab/*\"]\napproval = \"operator\"\n\
        [[grant]]\nname = \"store\"\nallow = [\"object-store/upload-object\"]\norganizations = [\"o\"]\nkeys = [\"*\"]\napproval = \"operator\"\n";
    let cloud = open(setup(grants)).await;
    let shown = async |operation: &str, arguments: Value| {
        let id = required(cloud.world.call(operation, arguments).await);
        let (approval, shown) = cloud.world.gate.viewer.show(&id, 1).await.unwrap().unwrap();
        assert!(approval.view.to_string().len() < 32 << 10);
        shown["arguments"].clone()
    };
    let long = "x".repeat(300);
    let file = json!({ "projectId": 1, "name": "main.py", "content": format!("{long}\n") });
    let replaced = shown("files/update-file-contents", file.clone()).await;
    assert_eq!(
        replaced["difference"],
        format!("--- main.py\n+++ main.py\n@@ -1 +1 @@\n-a\n+{long}\n")
    );
    let created = shown("files/create-file", file).await;
    assert_eq!(
        created["difference"],
        format!("--- /dev/null\n+++ main.py\n@@ -0,0 +1 @@\n+{long}\n")
    );
    let patch = format!("--- a/main.py\n+++ b/main.py\n@@ -1 +1 @@\n-a\n+{long}\n");
    let patched = shown(
        "files/patch-file",
        json!({ "projectId": 1, "patch": patch }),
    )
    .await;
    let contents = patched["contents"].as_str().unwrap();
    assert!(contents.contains(&format!("-a\n+{long}\n")), "{contents}");
    let object =
        json!({ "organizationId": "o", "key": "k", "objectData": format!("{long}\nsecond\n") });
    let stored = shown("object-store/upload-object", object).await;
    assert!(stored["contents"].as_str().unwrap().contains("second\n"));
    // What is too long is counted.
    let lines = "line\n".repeat(100_000);
    let file = json!({ "projectId": 1, "name": "main.py", "content": lines });
    let cut = shown("files/update-file-contents", file).await;
    assert!(cut["difference"].as_str().unwrap().len() <= 64 << 10);
    assert!(
        cut["not-shown"]
            .as_str()
            .unwrap()
            .contains("added and 0 removed lines"),
        "{cut}"
    );
    // Nothing was sent but what the host read.
    let sent = cloud.world.cloud.sent();
    assert!(
        sent.iter().all(|tool| tool.starts_with("read_")),
        "{sent:?}"
    );
}

#[tokio::test]
async fn a_standing_yes_that_was_revoked_lets_nothing_through() {
    let cloud = asking().await;
    let compile = cloud.compile().await;
    let id = required(cloud.deploy(&compile, "paper").await);
    let standing = StandingPermit {
        uses: 5,
        until_ms: i64::MAX,
        max_cost: None,
    };
    let (gate, ann) = (&cloud.world.gate, person(7, "ann"));
    gate.approvals
        .approve(&id, &ann, Some(standing))
        .await
        .unwrap();
    cloud.deploy(&compile, "paper").await.unwrap();
    let revoked = gate.approvals.revoke(&id, &ann).await.unwrap();
    assert_eq!(revoked.permit.unwrap().uses_left, 4);
    let next = required(cloud.deploy(&compile, "paper").await);
    assert_ne!(next, id);
    assert_eq!(cloud.sent("create_live_algorithm"), 1);
    let records = cloud.world.records().await;
    assert!(records.iter().any(|record| record["what"] == "revoke"));
}

#[tokio::test]
async fn what_a_cut_off_invocation_asked_for_is_closed() {
    let cloud = asking().await;
    let compile = cloud.compile().await;
    let gate = cloud.world.gate.clone();
    let mut arguments = deployment(1, "paper");
    arguments["compileId"] = compile.as_str().into();
    let by = |invocation: &str| {
        let mut by = principal("lab");
        by.invocation = invocation.into();
        by
    };
    let ask = async |invocation: &str| {
        let by = by(invocation);
        required(call(&gate, &by, "live/create-live-algorithm", arguments.clone()).await)
    };
    let status = async |id: &str| {
        gate.idle().await;
        let approval = gate.approvals.get(id).await.unwrap();
        approval.unwrap().status.to_string()
    };
    // Two invocations request the same: it is closed only when both are gone.
    let orphan = ask("one").await;
    assert_eq!(ask("two").await, orphan);
    gate.invocation_ended(&by("one"), false);
    assert_eq!(status(&orphan).await, "pending");
    gate.invocation_ended(&by("two"), false);
    assert_eq!(status(&orphan).await, "closed");
    let late = gate
        .approvals
        .approve(&orphan, &person(7, "ann"), None)
        .await;
    assert!(late.unwrap_err().to_string().contains("closed"));
    // A client that was told comes back, whatever becomes of other invocations.
    let told = ask("three").await;
    assert_ne!(told, orphan);
    gate.invocation_ended(&by("three"), true);
    assert_eq!(ask("four").await, told);
    gate.invocation_ended(&by("four"), false);
    assert_eq!(status(&told).await, "pending");
    assert_eq!(cloud.sent("create_live_algorithm"), 0);
    approve(&gate, &told, &person(7, "ann")).await;
    cloud.deploy(&compile, "paper").await.unwrap();
    assert_eq!(cloud.sent("create_live_algorithm"), 1);
}

/// Names of arguments do not evade the limits.
#[tokio::test]
async fn large_requests_do_not_keep_people_from_the_list() {
    let grants = "[[grant]]\nname = \"command\"\nallow = [\"live-commands/create-live-command\"]\nprojects = [\"Lab/*\"]\ncommands = [\"*\"]\napproval = \"operator\"\n";
    let world = setup(grants).open().await;
    let mut refused = 0;
    for number in 0..30 {
        let name = format!("{number}{}", "n".repeat(1 << 20));
        let command = json!({ "projectId": 1, "command": { "$type": "Order", name: 1 } });
        match world
            .call("live-commands/create-live-command", command)
            .await
        {
            Err(Refusal::ApprovalRequired { id }) => {
                let (approval, shown) = world.gate.viewer.show(&id, 1).await.unwrap().unwrap();
                assert!(approval.view.to_string().len() < 32 << 10);
                assert!(shown.to_string().len() < 256 << 10);
            }
            Err(Refusal::Exhausted { message, .. }) => {
                assert!(message.contains("bytes"), "{message}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused >= 20, "{refused}");
    let all = qchost_ledger::ApprovalFilter {
        all: true,
        after: None,
        limit: 1000,
    };
    let page = world.gate.approvals.list(all).await.unwrap();
    assert_eq!(page.approvals.len(), 30 - refused);
    assert!(serde_json::to_string(&page.approvals).unwrap().len() < 64 << 10);
    let sent = world.cloud.sent();
    assert!(
        sent.iter().all(|tool| tool != "create_live_command"),
        "{sent:?}"
    );
}
