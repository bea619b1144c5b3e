//! Why calls were decided as they were, for random histories of manifests, guardrails, configurations, reloads,
//! restarts, approvals and calls, compared with an independent model.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use qchost_audit::{Disk, Files};
use qchost_gate::{Gate, Refusal, Settings, Sources, Why};
use qchost_policy::{Guardrails, Origin};
use serde_json::{Value, json};

use crate::reconfigured::reconfigure;
use crate::widened::digest;
use qchost_testing::cloud::{
    Cloud, Setup, approve, call, parse, person, principal, records, required,
};

const PLUGINS: [&str; 2] = ["lab", "desk"];
const APPROVER: u32 = 7;

/// A grant: its name, the operations that it covers, the projects, whether it needs approval, and its text.
struct Block {
    name: &'static str,
    operations: &'static [&'static str],
    projects: &'static [u32],
    approval: bool,
    text: &'static str,
}

const READ: &str = "files/read-file";
const CREATE: &str = "files/create-file";
const ORDER: &str = "live-commands/create-live-command";

const BLOCKS: [Block; 6] = [
    Block {
        name: "files",
        operations: &[READ, CREATE],
        projects: &[1],
        approval: false,
        text: "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]",
    },
    Block {
        name: "files",
        operations: &[READ, CREATE],
        projects: &[1, 9],
        approval: false,
        text: "[[grant]]\nname = \"files\"\nallow = [\"files/*\"]\nprojects = [\"*\"]\n[grant.limits]\nper-day = 1000",
    },
    Block {
        name: "reads",
        operations: &[READ],
        projects: &[9],
        approval: false,
        text: "[[grant]]\nname = \"reads\"\nallow = [\"files/read-file\"]\nprojects = [9]",
    },
    Block {
        name: "orders",
        operations: &[ORDER],
        projects: &[1],
        approval: false,
        text: "[[grant]]\nname = \"orders\"\nallow = [\"live-commands/create-live-command\"]\nprojects = [\"Lab/*\"]\ncommands = [\"*\"]",
    },
    Block {
        name: "orders",
        operations: &[ORDER],
        projects: &[1, 9],
        approval: true,
        text: "[[grant]]\nname = \"orders\"\nallow = [\"live-commands/create-live-command\"]\nprojects = [\"*\"]\ncommands = [\"*\"]\napproval = \"operator\"",
    },
    Block {
        name: "more",
        operations: &[CREATE],
        projects: &[1],
        approval: false,
        text: "[[grant]]\nname = \"more\"\nallow = [\"files/create-file\"]\nprojects = [1]\nlimits = { per-day = 1000 }",
    },
];

/// Guardrails, by id, with what they forbid.
const RULES: [(&str, &str, &[&str], &[u32]); 2] = [
    (
        "no-prod",
        "@id(\"no-prod\")\nforbid (principal, action, resource is Project) when { resource.name like \"Prod/*\" };",
        &[READ, CREATE, ORDER],
        &[9],
    ),
    (
        "no-create",
        "@id(\"no-create\")\nforbid (principal, action == Action::\"files/create-file\", resource);",
        &[CREATE],
        &[1, 9],
    ),
];

#[derive(Debug, Clone)]
enum Step {
    /// A manifest is written, and its component serves or does not yet.
    Edit {
        plugin: usize,
        blocks: Vec<usize>,
        serves: bool,
    },
    Remove(usize),
    Rules(Vec<usize>),
    Configure(u32),
    Call {
        plugin: usize,
        operation: &'static str,
        project: u32,
    },
    Approve(usize),
    /// The host ends and starts again; a manifest may be another one by then.
    Restart(Option<(usize, Vec<usize>)>),
}

fn blocks() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..BLOCKS.len(), 0..5).prop_map(|mut chosen| {
        let mut names = Vec::new();
        chosen.retain(|at| {
            let new = !names.contains(&BLOCKS[*at].name);
            names.push(BLOCKS[*at].name);
            new
        });
        chosen
    })
}

fn step() -> impl Strategy<Value = Step> {
    let plugin = || 0..PLUGINS.len();
    let operation = prop::sample::select(vec![READ, CREATE, ORDER]);
    let project = prop::sample::select(vec![1, 9]);
    prop_oneof![
        3 => (plugin(), blocks(), prop::bool::weighted(0.7))
            .prop_map(|(plugin, blocks, serves)| Step::Edit { plugin, blocks, serves }),
        1 => plugin().prop_map(Step::Remove),
        1 => prop::sample::subsequence(vec![0, 1], 0..=2).prop_map(Step::Rules),
        1 => (0..3_u32).prop_map(Step::Configure),
        8 => (plugin(), operation, project)
            .prop_map(|(plugin, operation, project)| Step::Call { plugin, operation, project }),
        3 => plugin().prop_map(Step::Approve),
        1 => prop::option::of((plugin(), blocks())).prop_map(Step::Restart),
    ]
}

fn manifest(plugin: &str, blocks: &[usize]) -> String {
    let mut text =
        format!("plugin = \"{plugin}\"\ncomponent = \"{plugin}.wasm\"\naccount = \"a\"\n");
    for at in blocks {
        text.push_str(&format!("\n{}\n", BLOCKS[*at].text));
    }
    text
}

/// What is in force for a plugin.
#[derive(Debug, Clone)]
struct InForce {
    serving: Vec<usize>,
    pending: Option<Vec<usize>>,
}

/// What should be on record of a call.
#[derive(Debug)]
struct Expected {
    plugin: usize,
    operation: &'static str,
    terms: InForce,
    rules: Vec<usize>,
    configuration: u32,
    decision: &'static str,
    grants: Vec<usize>,
    forbidden: Vec<&'static str>,
    approval: Option<String>,
    sent: bool,
}

#[derive(Default)]
struct Model {
    files: BTreeMap<usize, Vec<usize>>,
    in_force: BTreeMap<usize, InForce>,
    rules: Vec<usize>,
    configuration: u32,
    /// Approvals that wait or were given, by plugin and project.
    approvals: BTreeMap<(usize, u32), (String, bool)>,
    calls: Vec<Expected>,
    /// What came into force for each plugin, by text; nothing for a removal.
    changes: Vec<(usize, Option<String>)>,
    last: BTreeMap<usize, String>,
}

impl Model {
    fn serves(&mut self, plugin: usize, blocks: Vec<usize>) {
        let text = manifest(PLUGINS[plugin], &blocks);
        if self.last.get(&plugin) != Some(&text) {
            self.last.insert(plugin, text.clone());
            self.changes.push((plugin, Some(text)));
        }
        let terms = InForce {
            serving: blocks,
            pending: None,
        };
        self.in_force.insert(plugin, terms);
    }

    /// What a call should be decided as: its grants, what forbids it, and whether a person has to agree.
    fn decide(
        &self,
        terms: &InForce,
        operation: &str,
        project: u32,
    ) -> (bool, Vec<usize>, Vec<&'static str>, bool) {
        let has_say = || std::iter::once(&terms.serving).chain(&terms.pending);
        let covers = |blocks: &Vec<usize>| {
            let mut blocks = blocks.iter();
            blocks.any(|at| BLOCKS[*at].operations.contains(&operation))
        };
        if !has_say().all(covers) {
            return (false, Vec::new(), Vec::new(), false);
        }
        let forbids = self.rules.iter().filter(|at| {
            let (_, _, operations, projects) = RULES[**at];
            operations.contains(&operation) && projects.contains(&project)
        });
        let forbidden: Vec<_> = forbids.map(|at| RULES[*at].0).collect();
        if !forbidden.is_empty() {
            return (false, Vec::new(), forbidden, false);
        }
        let mut grants: Vec<usize> = Vec::new();
        let mut approval = false;
        for blocks in has_say() {
            let matching = |at: &&usize| {
                let block = &BLOCKS[**at];
                block.operations.contains(&operation) && block.projects.contains(&project)
            };
            let matched: Vec<usize> = blocks.iter().filter(matching).copied().collect();
            if matched.is_empty() {
                return (false, Vec::new(), Vec::new(), false);
            }
            approval |= matched.iter().any(|at| BLOCKS[*at].approval);
            grants.extend(matched);
        }
        (true, grants, Vec::new(), approval)
    }
}

fn settings(setup: &Setup, model: &Model) -> Settings {
    let texts = model.rules.iter().map(|at| {
        let (id, text, ..) = RULES[*at];
        (PathBuf::from(format!("{id}.cedar")), text.to_owned())
    });
    let texts: Vec<_> = texts.collect();
    Settings {
        guardrails: Guardrails::read(&texts).unwrap(),
        sources: Sources {
            file: "qchost.toml".into(),
            configuration: Origin {
                text: configuration(model.configuration).into(),
                owner: Some(0),
            },
            ..Sources::default()
        },
        ..setup.settings()
    }
}

fn configuration(number: u32) -> String {
    format!(
        "two-person = false\n\n[approvals]\nexpire = \"{}h\"\n",
        number + 1
    )
}

fn rules_text(rules: &[usize]) -> String {
    let rules = rules.iter().map(|at| {
        let (id, text, ..) = RULES[*at];
        format!("// guardrail {id}\n{text}\n")
    });
    rules.collect()
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let setup = Setup::grants("");
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::new();
    let mut model = Model::default();
    let open = async |model: &Model| {
        let mut options = setup.options(folder.path()).await;
        options.settings = settings(&setup, model);
        let gate = cloud.open(options).await;
        for (plugin, blocks) in &model.files {
            gate.policies.install(parse_as(*plugin, blocks)).unwrap();
        }
        gate.changes.loaded();
        gate
    };
    let mut gate = open(&model).await;
    for step in steps {
        match step {
            Step::Edit {
                plugin,
                blocks,
                serves,
            } => {
                model.files.insert(plugin, blocks.clone());
                let manifest = parse_as(plugin, &blocks);
                if serves {
                    gate.policies.install(manifest).unwrap();
                    model.serves(plugin, blocks);
                } else {
                    gate.policies.restrict(manifest).await.unwrap();
                    if let Some(terms) = model.in_force.get_mut(&plugin) {
                        terms.pending = (terms.serving != blocks).then_some(blocks);
                    }
                }
            }
            Step::Remove(plugin) => {
                gate.proposals.remove(PLUGINS[plugin]);
                gate.idle().await;
                // Requests of its calls are closed.
                model
                    .approvals
                    .retain(|(of, _), (_, given)| *of != plugin || *given);
                model.files.remove(&plugin);
                model.in_force.remove(&plugin);
                if model.last.remove(&plugin).is_some() {
                    model.changes.push((plugin, None));
                }
            }
            Step::Rules(rules) => {
                model.rules = rules;
                reconfigure(&gate, settings(&setup, &model)).await;
            }
            Step::Configure(number) => {
                model.configuration = number;
                reconfigure(&gate, settings(&setup, &model)).await;
            }
            Step::Approve(plugin) => {
                let waits = model
                    .approvals
                    .iter_mut()
                    .find(|((of, _), (_, given))| *of == plugin && !*given);
                if let Some((_, (id, given))) = waits {
                    approve(&gate, id, &person(APPROVER, "ann")).await;
                    *given = true;
                }
            }
            Step::Restart(edit) => {
                gate.close().await;
                // Requests of invocations of the former run are closed.
                model.approvals.retain(|_, (_, given)| *given);
                if let Some((plugin, blocks)) = edit {
                    model.files.insert(plugin, blocks);
                }
                for (plugin, blocks) in model.files.clone() {
                    model.serves(plugin, blocks);
                }
                gate = open(&model).await;
            }
            Step::Call {
                plugin,
                operation,
                project,
            } => {
                make_call(&gate, &mut model, plugin, operation, project).await?;
            }
        }
    }
    gate.close().await;
    drop(gate);
    check(folder.path(), &model)
}

fn parse_as(plugin: usize, blocks: &[usize]) -> qchost_policy::Manifest {
    parse(&manifest(PLUGINS[plugin], blocks))
}

fn arguments(operation: &str, project: u32) -> Value {
    match operation {
        ORDER => json!({ "projectId": project, "command": { "$type": "Order" } }),
        READ => json!({ "projectId": project, "name": "a.py" }),
        _ => json!({ "projectId": project, "name": "a.py", "content": "x" }),
    }
}

async fn make_call(
    gate: &Gate,
    model: &mut Model,
    plugin: usize,
    operation: &'static str,
    project: u32,
) -> Result<(), TestCaseError> {
    let mut who = principal(PLUGINS[plugin]);
    who.invocation = format!("invocation-{}", model.calls.len()).into();
    let answer = call(gate, &who, operation, arguments(operation, project)).await;
    let Some(terms) = model.in_force.get(&plugin).cloned() else {
        prop_assert!(answer.is_err());
        return Ok(());
    };
    let (allowed, grants, forbidden, wants) = model.decide(&terms, operation, project);
    let key = (plugin, project);
    let mut approval = None;
    let decision = match (allowed, wants) {
        (false, _) => "denied",
        (true, false) => "allowed",
        (true, true) => match model.approvals.get(&key).cloned() {
            Some((id, true)) => {
                model.approvals.remove(&key);
                approval = Some(id);
                "allowed"
            }
            known => {
                let Err(Refusal::ApprovalRequired { id }) = &answer else {
                    return Err(TestCaseError::fail(format!("{answer:?}")));
                };
                prop_assert!(known.is_none_or(|(known, _)| known == *id));
                model.approvals.insert(key, (id.clone(), false));
                approval = Some(id.clone());
                "approval-required"
            }
        },
    };
    prop_assert_eq!(answer.is_ok(), decision == "allowed", "{:?}", answer);
    let sent = answer.is_ok();
    model.calls.push(Expected {
        plugin,
        operation,
        terms,
        rules: model.rules.clone(),
        configuration: model.configuration,
        decision,
        grants: if sent { grants } else { Vec::new() },
        forbidden,
        approval,
        sent,
    });
    Ok(())
}

/// Compares the record with the model.
fn check(folder: &std::path::Path, model: &Model) -> Result<(), TestCaseError> {
    let records = records(folder);
    let disk: Arc<dyn Files> = Arc::new(Disk);
    let audit = folder.join("audit");
    for (number, expected) in model.calls.iter().enumerate() {
        let invocation = format!("invocation-{number}");
        let decided = records.iter().find(|record| {
            let kind = record["kind"].as_str().unwrap_or_default();
            record["invocation"] == invocation.as_str()
                && ["read", "intent", "denied"].contains(&kind)
        });
        let Some(decided) = decided else {
            return Err(TestCaseError::fail(format!("{invocation} is not recorded")));
        };
        let name = decided["call"].as_str().unwrap_or_default();
        let why = qchost_gate::why(&disk, &audit, name, true)
            .unwrap()
            .unwrap();
        compare(&why, expected)?;
        let shown = qchost_gate::why(&disk, &audit, name, false)
            .unwrap()
            .unwrap();
        let parts = shown.grants.iter().chain(&shown.forbidden_by);
        prop_assert!(parts.clone().all(|part| part.text.is_none()));
        let whole = [
            &shown.manifest,
            &shown.manifest_pending,
            &shown.guardrails,
            &shown.configuration,
        ];
        prop_assert!(
            whole
                .into_iter()
                .flatten()
                .all(|text| text.text.is_none() && text.change.is_some())
        );
        prop_assert_eq!(shown.grants.len(), why.grants.len());
    }
    let recorded: Vec<(usize, Option<String>)> = records
        .iter()
        .filter(|record| {
            record["kind"] == "change"
                && record["what"] == "manifest"
                && record["pending"].is_null()
        })
        .map(|record| {
            let plugin = PLUGINS
                .iter()
                .position(|name| record["plugin"] == *name)
                .unwrap();
            let digest = record["digest-after"].as_str().map(str::to_owned);
            (plugin, digest)
        })
        .collect();
    let changes: Vec<(usize, Option<String>)> = model
        .changes
        .iter()
        .map(|(plugin, text)| (*plugin, text.as_deref().map(digest)))
        .collect();
    prop_assert_eq!(recorded, changes);
    Ok(())
}

fn compare(why: &Why, expected: &Expected) -> Result<(), TestCaseError> {
    let plugin = PLUGINS[expected.plugin];
    prop_assert_eq!(why.plugin.as_deref(), Some(plugin));
    prop_assert_eq!(why.operation.as_deref(), Some(expected.operation));
    prop_assert_eq!(why.decision.as_deref(), Some(expected.decision));
    let text = |found: &Option<qchost_gate::TextWhy>, wanted: &str| {
        let found = found.as_ref().unwrap();
        prop_assert_eq!(&found.digest, &digest(wanted));
        prop_assert_eq!(found.text.as_deref(), Some(wanted));
        let change = found.change.as_ref().unwrap();
        prop_assert_eq!(change.digest_after.as_deref(), Some(found.digest.as_str()));
        Ok(())
    };
    text(&why.manifest, &manifest(plugin, &expected.terms.serving))?;
    match &expected.terms.pending {
        Some(pending) => text(&why.manifest_pending, &manifest(plugin, pending))?,
        None => prop_assert!(why.manifest_pending.is_none()),
    }
    text(&why.configuration, &configuration(expected.configuration))?;
    let guardrails = why.guardrails.as_ref().unwrap();
    let rules = rules_text(&expected.rules);
    prop_assert_eq!(guardrails.text.as_deref(), Some(rules.as_str()));
    let found: Vec<(&str, Option<&str>)> = why
        .grants
        .iter()
        .map(|grant| (grant.name.as_str(), grant.text.as_deref()))
        .collect();
    let mut wanted: Vec<(&str, Option<&str>)> = expected
        .grants
        .iter()
        .map(|at| (BLOCKS[*at].name, Some(BLOCKS[*at].text)))
        .collect();
    let mut sorted = found.clone();
    sorted.sort_unstable();
    wanted.sort_unstable();
    prop_assert_eq!(sorted, wanted);
    let forbidden: Vec<&str> = why
        .forbidden_by
        .iter()
        .map(|rule| rule.name.as_str())
        .collect();
    prop_assert_eq!(&forbidden, &expected.forbidden);
    for rule in &why.forbidden_by {
        let text = RULES
            .iter()
            .find(|(id, ..)| *id == rule.name)
            .map(|(_, text, ..)| *text);
        prop_assert_eq!(rule.text.as_deref(), text);
    }
    prop_assert_eq!(
        why.approval.as_ref().map(|it| &it.id),
        expected.approval.as_ref()
    );
    if let Some(approval) = &why.approval {
        prop_assert_eq!(approval.steps[0].what.as_str(), "request");
        prop_assert!(approval.steps[0].asked_by_call.is_some());
        let yes = approval.steps.iter().find(|step| step.what == "approve");
        if expected.decision == "allowed" {
            prop_assert_eq!(yes.and_then(|step| step.person), Some(APPROVER));
            let permits = approval
                .steps
                .iter()
                .filter_map(|step| step.permit.as_ref());
            prop_assert_eq!(permits.collect::<Vec<_>>(), [why.permit.as_ref().unwrap()]);
        }
    }
    if expected.sent {
        prop_assert_eq!(why.sends, Some(1));
        prop_assert_eq!(
            why.outcome.as_ref().map(|it| it.outcome.as_str()),
            Some("answered")
        );
    } else {
        prop_assert!(why.outcome.is_none());
        prop_assert!(why.reason.is_some());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn why_names_the_exact_text_that_decided_each_call(steps in prop::collection::vec(step(), 10..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}

/// What happens to a manifest in production, where orders wait for an admin.
#[derive(Debug, Clone)]
enum Held {
    Edit(Vec<usize>),
    Approve,
    Restart,
    Call(&'static str),
}

fn held_step() -> impl Strategy<Value = Held> {
    prop_oneof![
        3 => blocks().prop_map(Held::Edit),
        2 => Just(Held::Approve),
        1 => Just(Held::Restart),
        4 => prop::sample::select(vec![READ, CREATE, ORDER]).prop_map(Held::Call),
    ]
}

/// What should hold of a manifest.
#[derive(Default)]
struct Holds {
    /// What was adopted last.
    adopted: Option<Vec<usize>>,
    file: Option<Vec<usize>>,
    /// The text in force, with that of the file where it waits.
    texts: Option<(String, Option<String>)>,
    /// The texts that came into force, with whether people decided that.
    came: Vec<(String, bool)>,
}

impl Holds {
    fn take(&mut self, text: String, pending: Option<String>, decided: bool) {
        if self
            .texts
            .as_ref()
            .is_none_or(|(former, _)| *former != text)
        {
            self.came.push((text.clone(), decided));
        }
        self.texts = Some((text, pending));
    }

    /// Whether a manifest gains something that the adopted one does not allow.
    fn gains(&self, file: &[usize]) -> bool {
        let orders = |blocks: &[usize]| {
            let mut orders = blocks.iter().copied();
            orders.find(|at| BLOCKS[*at].name == "orders")
        };
        let adopted = self.adopted.as_deref().and_then(orders);
        orders(file).is_some_and(|now| adopted != Some(now))
    }

    /// The file was loaded; `approved`: people said yes to it.
    fn load(&mut self, approved: bool) {
        let Some(file) = self.file.clone() else {
            return;
        };
        let text = manifest(PLUGINS[0], &file);
        let gains = self.gains(&file);
        if gains && !approved {
            let base = match &self.adopted {
                Some(adopted) => manifest(PLUGINS[0], adopted),
                None => text.replace("[\"live-commands/create-live-command\"]", "[]"),
            };
            return self.take(base, Some(text), false);
        }
        self.take(text, None, gains);
        self.adopted = Some(file);
    }
}

async fn run_held(steps: Vec<Held>) -> Result<(), TestCaseError> {
    let setup = Setup {
        production: true,
        ..Setup::grants("")
    };
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let open = async || {
        let gate = cloud.open(setup.options(folder.path()).await).await;
        gate.proposals.end_adopting().await.unwrap();
        gate
    };
    let mut gate = open().await;
    let mut holds = Holds::default();
    let mut calls = Vec::new();
    for step in steps {
        let mut approved = false;
        match step {
            Held::Edit(blocks) => holds.file = Some(blocks),
            Held::Approve => {
                if let Some(waiting) = gate.proposals.pending_approval(PLUGINS[0]) {
                    let ann = person(APPROVER, "ann");
                    approve(&gate, &waiting.approval, &ann).await;
                    approved = true;
                }
            }
            Held::Restart => {
                gate.close().await;
                gate = open().await;
            }
            Held::Call(operation) => {
                let Some(texts) = holds.texts.clone() else {
                    continue;
                };
                let mut who = principal(PLUGINS[0]);
                who.invocation = format!("invocation-{}", calls.len()).into();
                let answer = call(&gate, &who, operation, arguments(operation, 1)).await;
                prop_assert!(answer.is_err() || operation != ORDER || texts.1.is_none());
                calls.push(texts);
                continue;
            }
        }
        if let Some(file) = &holds.file {
            let waiting = crate::widened::load(&gate, &parse_as(0, file)).await;
            holds.load(approved);
            let waits = holds
                .texts
                .as_ref()
                .is_some_and(|(_, pending)| pending.is_some());
            prop_assert_eq!(waiting.is_some(), waits);
        }
    }
    gate.close().await;
    drop(gate);
    let records = records(folder.path());
    let disk: Arc<dyn Files> = Arc::new(Disk);
    for (number, (text, pending)) in calls.iter().enumerate() {
        let invocation = format!("invocation-{number}");
        let mut of_call = records.iter();
        let call = of_call
            .find(|one| one["invocation"] == invocation.as_str() && one["manifest"].is_string());
        let name = call.unwrap()["call"].as_str().unwrap();
        let why = qchost_gate::why(&disk, &folder.path().join("audit"), name, true);
        let why = why.unwrap().unwrap();
        let in_force = why.manifest.unwrap();
        prop_assert_eq!(in_force.text.as_ref(), Some(text));
        let found = why.manifest_pending;
        prop_assert_eq!(
            found.as_ref().and_then(|found| found.text.as_ref()),
            pending.as_ref()
        );
        let approval = found.map(|found| found.change.and_then(|change| change.approval).is_some());
        prop_assert_eq!(approval, pending.as_ref().map(|_| true));
    }
    let changes = records.iter().filter(|one| {
        one["kind"] == "change" && one["what"] == "manifest" && one["pending"].is_null()
    });
    let came: Vec<_> = changes
        .map(|one| {
            (
                one["digest-after"].as_str().unwrap().to_owned(),
                one["by"] == "ann",
            )
        })
        .collect();
    let expected = holds.came.iter();
    let expected: Vec<_> = expected
        .map(|(text, decided)| (digest(text), *decided))
        .collect();
    prop_assert_eq!(came, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn why_names_what_holds_of_a_manifest_that_waits_and_who_ended_that(
        steps in prop::collection::vec(held_step(), 5..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run_held(steps))?;
    }
}

#[tokio::test]
async fn a_change_names_the_owner_of_the_file_and_who_asked_for_the_reload() {
    let setup = Setup::grants(BLOCKS[0].text);
    let text = setup.manifest.clone();
    let world = setup.open().await;
    let mut wider = parse(&text.replace("Lab/*", "*"));
    wider.origin.owner = Some(64_001);
    let asked = world.gate.changes.reload_asked_by(64_002);
    world.gate.policies.install(wider).unwrap();
    drop(asked);
    world.gate.proposals.remove("lab");
    let digest = format!("sha256:{}", "1".repeat(64));
    let component = parse(&text);
    world
        .gate
        .changes
        .note_component(&component, &digest, Some(64_003));
    world
        .gate
        .changes
        .note_quarantine("lab", &digest, Some("5 failures\u{1b}[31m".to_owned()));
    world.gate.changes.note_quarantine("lab", &digest, None);
    let records = world.records().await;
    let changes = |what: &str| {
        let changes = records
            .iter()
            .filter(|one| one["kind"] == "change" && one["what"] == what);
        changes.cloned().collect::<Vec<_>>()
    };
    let manifests = changes("manifest");
    let [_, widened, removed] = manifests.as_slice() else {
        panic!("{manifests:#?}")
    };
    assert_eq!(widened["owners"], json!([64_001]));
    assert_eq!(widened["asked-by"], json!([64_002]));
    assert!(
        widened["difference"].to_string().contains("widened: "),
        "{widened}"
    );
    assert!(
        removed["asked-by"].is_null() && removed["digest-after"].is_null(),
        "{removed}"
    );
    assert_eq!(changes("component")[0]["owners"], json!([64_003]));
    let quarantine = changes("quarantine");
    assert_eq!(quarantine.len(), 2);
    assert_eq!(quarantine[0]["note"], "5 failures [31m");
    assert_eq!(quarantine[1]["digest-before"], digest.as_str());
}

/// What a plugin asks for has a name that ties it to what is recorded of it.
#[tokio::test]
async fn records_of_a_call_its_approval_and_its_permit_name_each_other() {
    let grant = format!("{}\n", BLOCKS[4].text);
    let world = Setup::grants(&grant).open().await;
    let order = json!({ "projectId": 1, "command": { "$type": "Order" } });
    let id = required(world.call(ORDER, order.clone()).await);
    let ann = person(APPROVER, "ann");
    approve(&world.gate, &id, &ann).await;
    world.call(ORDER, order).await.unwrap();
    let records = world.records().await;
    let of = |kind: &str, what: Option<&str>| {
        let found = records.iter().find(|record| {
            record["kind"] == kind && what.is_none_or(|what| record["what"] == what)
        });
        found
            .unwrap_or_else(|| panic!("{kind} {what:?}: {records:#?}"))
            .clone()
    };
    let denied = of("denied", None);
    let request = of("approval", Some("request"));
    assert_eq!(denied["approval"], id.as_str());
    assert_eq!(request["asked-by-call"], denied["call"]);
    for what in ["request", "approve", "permit"] {
        let record = of("approval", Some(what));
        for (name, value) in [
            ("approval", id.as_str()),
            ("plugin", "lab"),
            ("account", "a"),
            ("operation", ORDER),
        ] {
            assert_eq!(record[name], value, "{what}: {record}");
        }
    }
    let (intent, outcome) = (of("intent", None), of("outcome", None));
    let permit = of("approval", Some("permit"))["permit"].clone();
    for record in [&intent, &outcome] {
        assert_eq!(record["approval"], id.as_str());
        assert_eq!(record["permit"], permit);
        assert_eq!(record["project"], json!({ "id": 1, "name": "Lab/one" }));
        assert!(record["reservation"].is_i64(), "{record}");
    }
    assert_eq!(outcome["sends"], 1);
    for digest in ["manifest", "guardrails", "configuration", "digest"] {
        let digest = intent[digest].as_str().unwrap();
        assert!(digest.starts_with("sha256:"), "{digest}");
    }
    // And a denied twin: nothing was sent for the call that was refused.
    assert_eq!(world.cloud.count("create_live_command"), 1);
    let none: Vec<&Value> = records
        .iter()
        .filter(|record| record["kind"] == "outcome" && record["call"] == denied["call"])
        .collect();
    assert!(none.is_empty());
}
