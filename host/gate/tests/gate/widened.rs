//! What comes into force: at once if nothing is gained, otherwise once it is approved.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use qchost_audit::{Disk, Files};
use qchost_gate::{
    AdmitError, Admitted, DecideError, Gate, PendingApproval, PluginCalls as _, Proposal, Refusal,
    Settings, Sources, StoredText, Waits, Why,
};
use qchost_ledger::{Approval, ApprovalError, Status, Subject};
use qchost_policy::{Change, ChangeKind, Guardrails, Manifest, Origin, Person, Remembered, Role};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::changes::{HOOKS, ask_hooks, to_hooks};
use crate::reconfigured::reconfigure;
use qchost_testing::cloud::{
    Cloud, Setup, World, approve, call, parse, person, principal, records,
};

pub const READ: &str = "[[grant]]\nname = \"read\"\nallow = [\"backtests/*\"]\nprojects = [\"Lab/*\"]\nlimits = { per-day = 9 }\n";
const DELETE: &str = "[[grant]]\nname = \"delete\"\nallow = [\"backtests/delete-backtest\"]\nprojects = [\"Lab/*\"]\n";

/// As `READ`, without what may hold licensed data.
const STATISTICS: &str = "[[grant]]\nname = \"read\"\nallow = [\"backtests/read-backtest\"]\nprojects = [\"Lab/*\"]\nlimits = { per-day = 9 }\n";

pub fn manifest(grants: &str) -> Manifest {
    let head = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\n";
    parse(&format!("{head}{grants}"))
}

/// Loads a manifest as the runtime does.
pub async fn load(gate: &Gate, manifest: &Manifest) -> Option<PendingApproval> {
    gate.policies.restrict(manifest.clone()).await.unwrap();
    let digest: Arc<str> = "sha256:0".into();
    let admitted = gate
        .adoptions
        .admit(manifest, &digest, &[], None)
        .await
        .unwrap();
    let new = match &admitted {
        Admitted::Whole => gate.policies.prepare(manifest.clone()).await.unwrap(),
        Admitted::Partly {
            base,
            pending: waiting,
        } => gate
            .policies
            .prepare_pending(base, manifest, waiting)
            .await
            .unwrap(),
    };
    assert!(gate.policies.enforce(&new));
    match admitted {
        Admitted::Whole => None,
        Admitted::Partly {
            pending: waiting, ..
        } => Some(waiting),
    }
}

/// A production gate that has adopted a manifest that only reads and writes.
pub async fn production(two: bool) -> (Setup, World) {
    let setup = || Setup {
        production: true,
        two_person: two,
        ..Setup::grants(READ)
    };
    let world = setup().open().await;
    assert_eq!(load(&world.gate, &manifest(READ)).await, None);
    world.gate.proposals.end_adopting().await.unwrap();
    (setup(), world)
}

async fn delete(gate: &Gate) -> Result<serde_json::Value, Refusal> {
    on_backtest(gate, "lab", "backtests/delete-backtest").await
}

/// Makes a call about a backtest.
async fn on_backtest(gate: &Gate, plugin: &str, name: &str) -> Result<Value, Refusal> {
    let backtest = json!({ "projectId": 1, "backtestId": "b1" });
    call(gate, &principal(plugin), name, backtest).await
}

/// Asserts that a person may not decide, having an interest in it.
fn interested<T: std::fmt::Debug>(decided: Result<T, DecideError>) {
    assert!(
        matches!(
            decided,
            Err(DecideError::Approval(ApprovalError::Interested))
        ),
        "{decided:?}"
    );
}

#[tokio::test]
async fn what_is_gained_waits_for_two_admins_other_than_who_asked_and_is_used_up_by_coming_into_force()
 {
    let (_, world) = production(true).await;
    let wide = manifest(&format!("{READ}{DELETE}"));
    let asked = world.gate.changes.reload_asked_by(7);
    let waiting = load(&world.gate, &wide).await.unwrap();
    drop(asked);
    assert_eq!(waiting.gains, ["backtests/delete-backtest"]);
    assert_eq!(
        world.gate.proposals.pending_approval("lab"),
        Some(waiting.clone())
    );
    let refused = delete(&world.gate).await;
    assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    assert_eq!(world.cloud.count("delete_backtest"), 0);

    let yes = async |by: &Person| {
        world
            .gate
            .approvals
            .approve(&waiting.approval, by, None)
            .await
    };
    interested(yes(&person(7, "editor")).await);
    let approver = Person {
        roles: [Role::Approver].into(),
        ..person(6, "approver")
    };
    let lesser = yes(&approver).await;
    assert!(
        matches!(lesser, Err(DecideError::NotAdmin(_))),
        "{lesser:?}"
    );
    yes(&person(8, "ann")).await.unwrap();
    let twice = yes(&person(8, "ann")).await;
    assert!(
        matches!(twice, Err(DecideError::Approval(ApprovalError::SamePerson))),
        "{twice:?}"
    );
    assert!(load(&world.gate, &wide).await.is_some());
    assert!(delete(&world.gate).await.is_err());
    yes(&person(9, "bob")).await.unwrap();
    // The approval alone changes nothing: the files must still say so.
    assert!(delete(&world.gate).await.is_err());
    assert_eq!(world.cloud.count("delete_backtest"), 0);
    assert_eq!(load(&world.gate, &wide).await, None);
    delete(&world.gate).await.unwrap();
    assert_eq!(world.cloud.count("delete_backtest"), 1);

    // Taken back at once; giving it again is another change.
    assert_eq!(load(&world.gate, &manifest(READ)).await, None);
    assert!(delete(&world.gate).await.is_err());
    let again = load(&world.gate, &wide).await.unwrap();
    assert_ne!(again.approval, waiting.approval);
    assert_eq!(world.cloud.count("delete_backtest"), 1);
}

#[tokio::test]
async fn a_secret_of_the_host_goes_nowhere_before_a_person_says_yes() {
    let (_, world) = production(false).await;
    let secret = |name: &str| {
        let path = world.folder.path().join(name);
        std::fs::write(&path, name).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        format!("X-Key = {{ file = \"{}\" }}", path.display())
    };
    let hooks = |headers: &str| {
        let http = format!(
            "[[http]]\nname = \"hooks\"\nallow = \"https://hooks.example/\"\nheaders = {{ {headers} }}\n"
        );
        manifest(&format!("{STATISTICS}{http}"))
    };
    let sent = async || {
        let permission = ask_hooks(&world).await?;
        let headers = permission.headers.iter();
        Ok::<Vec<String>, Refusal>(
            headers
                .map(|(_, value)| value.expose_secret().to_owned())
                .collect(),
        )
    };
    // Under a new name, and over a manifest that asked for none.
    let with_a_secret = hooks(&secret("first"));
    let fresh = Manifest {
        plugin: "fresh".to_owned(),
        ..with_a_secret.clone()
    };
    for asks in [&fresh, &with_a_secret] {
        let waiting = load(&world.gate, asks).await.unwrap();
        assert!(
            waiting.gains[0].contains("/first")
                && waiting.gains[0].contains("https://hooks.example/"),
            "{waiting:?}"
        );
    }
    let outcome = world.gate.outgoing(&principal("fresh"), to_hooks()).await;
    assert!(matches!(outcome, Err(Refusal::Denied(_))), "{outcome:?}");
    assert!(matches!(sent().await, Err(Refusal::Denied(_))));
    // A header without a secret needs no approval.
    assert_eq!(load(&world.gate, &hooks("X-Key = \"own\"")).await, None);
    assert_eq!(sent().await.unwrap(), ["own"]);

    let agree = async |to: &Manifest| {
        let waiting = load(&world.gate, to).await.unwrap();
        let by = person(8, "ann");
        approve(&world.gate, &waiting.approval, &by).await;
        assert_eq!(load(&world.gate, to).await, None);
    };
    agree(&with_a_secret).await;
    assert_eq!(sent().await.unwrap(), ["first"]);
    // Another secret in the place of the one, the same one to another host, by another method.
    let other = with_a_secret.clone();
    let mut elsewhere = other.clone();
    elsewhere.http[0].url.host = "evil.example".to_owned();
    let mut more = other;
    more.http[0].methods.push("DELETE".to_owned());
    for wider in [hooks(&secret("second")), elsewhere, more] {
        let waiting = load(&world.gate, &wider).await.unwrap();
        assert_eq!(waiting.gains.len(), 1, "{waiting:?}");
    }
    assert_eq!(load(&world.gate, &with_a_secret).await, None);
    assert_eq!(sent().await.unwrap(), ["first"]);
    // Removing it needs no approval.
    assert_eq!(load(&world.gate, &manifest(READ)).await, None);
    assert!(matches!(sent().await, Err(Refusal::Denied(_))));
}

#[tokio::test]
async fn licensed_data_leaves_by_no_way_before_a_person_says_yes() {
    let (_, world) = production(false).await;
    let out = manifest(&format!("egress = \"licensed\"\n{READ}{HOOKS}"));
    let fresh = Manifest {
        plugin: "fresh".to_owned(),
        ..out.clone()
    };
    for asks in [&fresh, &out] {
        let waiting = load(&world.gate, asks).await.unwrap();
        assert_eq!(waiting.gains.len(), 1, "{waiting:?}");
        assert!(waiting.gains[0].starts_with("egress: "), "{waiting:?}");
    }
    let outcome = world.gate.outgoing(&principal("fresh"), to_hooks()).await;
    assert!(matches!(outcome, Err(Refusal::Denied(_))), "{outcome:?}");
    let outcome = ask_hooks(&world).await;
    assert!(matches!(outcome, Err(Refusal::Denied(_))), "{outcome:?}");
    // What reads, and what could carry nothing out, goes on.
    on_backtest(&world.gate, "lab", "backtests/read-backtest")
        .await
        .unwrap();
    let free = manifest(&format!("{STATISTICS}{HOOKS}"));
    assert_eq!(load(&world.gate, &free).await, None);
    ask_hooks(&world).await.unwrap();

    let waiting = load(&world.gate, &out).await.unwrap();
    approve(&world.gate, &waiting.approval, &person(8, "ann")).await;
    assert_eq!(load(&world.gate, &out).await, None);
    ask_hooks(&world).await.unwrap();
    // Taken back at once; giving it again is another change.
    assert_eq!(load(&world.gate, &manifest(READ)).await, None);
    let outcome = ask_hooks(&world).await;
    assert!(matches!(outcome, Err(Refusal::Denied(_))), "{outcome:?}");
    let again = load(&world.gate, &out).await.unwrap();
    assert_ne!(again.approval, waiting.approval);
}

#[tokio::test]
async fn the_owner_of_the_file_and_of_the_link_to_it_is_none_of_the_two() {
    let (_, world) = production(true).await;
    let mut wide = manifest(&format!("{READ}{DELETE}"));
    let me = std::os::unix::fs::MetadataExt::uid(&world.folder.path().metadata().unwrap());
    let (file, link) = (
        world.folder.path().join("lab.toml"),
        world.folder.path().join("link.toml"),
    );
    std::fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    wide.path = PathBuf::from(&link);
    let waiting = load(&world.gate, &wide).await.unwrap();
    let (approvals, owner) = (&world.gate.approvals, person(me, "owner"));
    interested(approvals.approve(&waiting.approval, &owner, None).await);
}

#[tokio::test]
async fn the_owner_of_a_file_that_is_gone_by_now_is_none_of_the_two() {
    let (_, world) = production(true).await;
    let mut wide = manifest(&format!("{READ}{DELETE}"));
    wide.path = world.folder.path().join("gone.toml");
    wide.origin.owner = Some(64_001);
    let waiting = load(&world.gate, &wide).await.unwrap();
    let (approvals, owner) = (&world.gate.approvals, person(64_001, "owner"));
    interested(approvals.approve(&waiting.approval, &owner, None).await);
}

const ORDERS: &str = "[[grant]]\nname = \"orders\"\nallow = [\"live-commands/create-live-command\"]\nprojects = [\"Lab/*\"]\ncommands = [\"*\"]\n";

#[tokio::test]
async fn a_component_that_may_trade_is_adopted_by_two_who_do_not_own_its_files() {
    let (_, world) = production(true).await;
    let gate = &world.gate;
    let mut trading = manifest(&format!("{READ}{ORDERS}"));
    let waiting = load(gate, &trading).await.unwrap();
    for by in [person(8, "ann"), person(9, "bob")] {
        approve(gate, &waiting.approval, &by).await;
    }
    assert_eq!(load(gate, &trading).await, None);
    trading.origin.owner = Some(64_001);
    let (new, serving): (Arc<str>, _) = ("sha256:1".into(), Some("sha256:0"));
    let admitted = gate.adoptions.admit(&trading, &new, &[], serving).await;
    let Err(AdmitError::Waiting(waiting)) = admitted else {
        panic!("{admitted:?}")
    };
    let yes = async |by: Person| gate.approvals.approve(&waiting.approval, &by, None).await;
    interested(yes(person(64_001, "owner")).await);
    assert_eq!(yes(person(8, "ann")).await.unwrap().status, Status::Pending);
    assert_eq!(
        yes(person(9, "bob")).await.unwrap().status,
        Status::Approved
    );
    gate.adoptions
        .admit(&trading, &new, &[], serving)
        .await
        .unwrap();
}

#[tokio::test]
async fn no_component_is_adopted_while_its_manifest_waits_for_the_right_to_trade() {
    let (_, world) = production(false).await;
    let adoptions = async || {
        let records = world.records().await;
        let adopted = records.iter().filter(|one| one["what"] == "adoption");
        adopted.count()
    };
    let trading = manifest(&format!("{READ}{ORDERS}"));
    let waiting = load(&world.gate, &trading).await.unwrap();
    assert_eq!(adoptions().await, 0);
    let ann = person(8, "ann");
    approve(&world.gate, &waiting.approval, &ann).await;
    assert_eq!(load(&world.gate, &trading).await, None);
    assert_eq!(adoptions().await, 1);
}

async fn approval(gate: &Gate, id: &str) -> Approval {
    gate.approvals.get(id).await.unwrap().unwrap()
}

/// A person who only triggers another look at what is already pending did not cause it: otherwise two admins could never
/// approve it.
#[tokio::test]
async fn a_yes_of_a_person_who_asks_for_the_reload_of_what_waits_already_counts() {
    let (_, world) = production(true).await;
    let (ann, bob) = (person(8, "ann"), person(9, "bob"));
    let wide = manifest(&format!("{READ}{DELETE}"));
    let waiting = load(&world.gate, &wide).await.unwrap();
    let asked = world.gate.changes.reload_asked_by(8);
    assert_eq!(load(&world.gate, &wide).await, Some(waiting.clone()));
    drop(asked);
    let shown = approval(&world.gate, &waiting.approval).await;
    assert_eq!(shown.view["reload-asked-for-by"], json!([]));
    assert!(!shown.interested.contains(&8), "{shown:?}");
    for by in [&ann, &bob] {
        approve(&world.gate, &waiting.approval, by).await;
    }
    let asked = world.gate.changes.reload_asked_by(8);
    assert_eq!(load(&world.gate, &wide).await, None);
    drop(asked);
    delete(&world.gate).await.unwrap();
    // The control: a person who triggered the reload that found it is not an approver.
    let asked = world.gate.changes.reload_asked_by(8);
    assert_eq!(load(&world.gate, &manifest(READ)).await, None);
    let waiting = load(&world.gate, &wide).await.unwrap();
    drop(asked);
    let deciding = world.gate.approvals.approve(&waiting.approval, &ann, None);
    interested(deciding.await);
    assert_eq!(world.cloud.count("delete_backtest"), 1);
}

#[tokio::test]
async fn a_yes_to_a_change_can_be_taken_back_until_it_is_in_force() {
    let (_, world) = production(false).await;
    let ann = person(8, "ann");
    let wide = manifest(&format!("{READ}{DELETE}"));
    let waiting = load(&world.gate, &wide).await.unwrap();
    let early = world.gate.approvals.revoke(&waiting.approval, &ann).await;
    assert!(
        matches!(
            early,
            Err(DecideError::Approval(ApprovalError::NothingToRevoke(_)))
        ),
        "{early:?}"
    );
    approve(&world.gate, &waiting.approval, &ann).await;
    let revoked = world.gate.approvals.revoke(&waiting.approval, &ann).await;
    let revoked = revoked.unwrap();
    assert_eq!(revoked.status, Status::Revoked);
    let next = load(&world.gate, &wide).await.unwrap();
    assert_ne!(next.approval, waiting.approval);
    assert!(delete(&world.gate).await.is_err());
    assert_eq!(world.cloud.count("delete_backtest"), 0);
    // A change in force cannot be revoked: only the file can be changed.
    approve(&world.gate, &next.approval, &ann).await;
    assert_eq!(load(&world.gate, &wide).await, None);
    delete(&world.gate).await.unwrap();
    let late = world.gate.approvals.revoke(&next.approval, &ann).await;
    assert!(late.is_err());
    let records = world.records().await;
    let revokes = records.iter().filter(|one| one["what"] == "revoke");
    assert_eq!(revokes.count(), 3);
}

#[tokio::test]
async fn only_the_latest_change_of_a_manifest_can_come_into_force() {
    let (_, world) = production(false).await;
    let ann = person(8, "ann");
    let wide = manifest(&format!("{READ}{DELETE}"));
    let wider = manifest(&format!("{READ}{}", DELETE.replace("Lab/*", "*")));
    let first = load(&world.gate, &wide).await.unwrap();
    approve(&world.gate, &first.approval, &ann).await;
    let second = load(&world.gate, &wider).await.unwrap();
    assert_ne!(first.approval, second.approval);
    let closed = approval(&world.gate, &first.approval).await;
    assert_eq!(closed.status, Status::Closed);
    assert_eq!(
        closed.closed.as_deref(),
        Some("the files ask for another change by now")
    );
    let third = load(&world.gate, &wide).await.unwrap();
    assert!(third.approval != first.approval && third.approval != second.approval);
    assert!(delete(&world.gate).await.is_err());
    assert_eq!(world.cloud.count("delete_backtest"), 0);
}

/// Proposes guardrails as the host does.
async fn propose(gate: &Gate, ids: &[&str]) -> Option<PendingApproval> {
    let texts = ids.iter().map(|id| {
        let text = format!(
            "@id(\"{id}\")\nforbid (principal, action, resource is Project) when {{ resource.name == \"{id}\" }};"
        );
        (PathBuf::from(format!("{id}.cedar")), text)
    });
    let found = Guardrails::read(&texts.collect::<Vec<_>>()).unwrap();
    let row = gate
        .proposals
        .in_force(Subject::Guardrails, "")
        .await
        .unwrap();
    let former = row.map_or_else(Guardrails::none, |row| {
        let kept: StoredText<Vec<(String, String)>> = serde_json::from_str(&row.text).unwrap();
        Guardrails::from_stored(&kept.text).unwrap()
    });
    let gone: Vec<_> = former.without(&found).ids().map(str::to_owned).collect();
    let proposal = Proposal {
        subject: Subject::Guardrails,
        name: String::new(),
        account: String::new(),
        text: json!(found.stored()),
        remembered: Remembered::default(),
        changes: gone
            .iter()
            .map(|id| Change {
                kind: ChangeKind::Widened,
                line: format!("{id} is gone"),
            })
            .collect(),
        gains: gone,
        files: vec![PathBuf::from("policies")],
        owners: BTreeSet::new(),
        successors: Vec::new(),
    };
    gate.proposals.propose(proposal).await.unwrap()
}

#[tokio::test]
async fn a_yes_is_to_the_change_from_what_was_in_force_then() {
    for put_back in [false, true] {
        for approved in [false, true] {
            let (_, world) = production(false).await;
            let (gate, ann) = (&world.gate, person(8, "ann"));
            assert_eq!(propose(gate, &["one"]).await, None);
            let first = propose(gate, &[]).await.unwrap().approval;
            if approved {
                approve(gate, &first, &ann).await;
            }
            if put_back {
                assert_eq!(propose(gate, &["one"]).await, None);
                assert_eq!(approval(gate, &first).await.status, Status::Closed);
            }
            // Narrowing is in force at once.
            assert_eq!(propose(gate, &["one", "two"]).await, None);
            let closed = approval(gate, &first).await;
            assert_eq!(closed.status, Status::Closed);
            let waiting = propose(gate, &[]).await.unwrap();
            assert_ne!(waiting.approval, first);
            let asked = approval(gate, &waiting.approval).await;
            assert_eq!(asked.status, Status::Pending);
            assert_eq!(
                asked.view["changes"],
                json!(["widened: one is gone", "widened: two is gone"])
            );
            let late = gate.approvals.approve(&first, &ann, None).await;
            assert!(
                matches!(
                    late,
                    Err(DecideError::Approval(ApprovalError::NotPending(_)))
                ),
                "{late:?}"
            );
            assert!(propose(gate, &[]).await.is_some());
            // Closing is on record.
            let records = world.records().await;
            let closings = records
                .iter()
                .filter(|one| one["what"] == "close" && one["approval"] == first.as_str());
            assert_eq!(closings.count(), 1);
        }
    }
}

pub fn digest(text: &str) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(text);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The changes of a kind that are on record, those that only restrict or those that came into force.
fn changes(records: &[Value], what: &str, pending: bool) -> Vec<Value> {
    let changes = records.iter().filter(|one| {
        one["kind"] == "change" && one["what"] == what && (one["pending"] == true) == pending
    });
    changes.cloned().collect()
}

/// Why the last call of a plugin was decided as it was, with the texts.
fn why_last(records: &[Value], folder: &Path, plugin: &str) -> Why {
    let decided = |one: &&Value| {
        one["plugin"] == plugin && ["denied", "intent"].contains(&one["kind"].as_str().unwrap())
    };
    let call = records.iter().rfind(decided).unwrap()["call"].clone();
    let disk: Arc<dyn Files> = Arc::new(Disk);
    let why = qchost_gate::why(&disk, &folder.join("audit"), call.as_str().unwrap(), true);
    why.unwrap().unwrap()
}

#[tokio::test]
async fn the_record_names_what_is_in_force_while_a_manifest_waits_and_who_brought_it_into_force() {
    for plugin in ["lab", "new"] {
        let (_, world) = production(true).await;
        let gate = &world.gate;
        let text = |grants: &str| {
            format!("plugin = \"{plugin}\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\n{grants}")
        };
        let wide_text = text(&format!("{READ}{DELETE}"));
        let wide = parse(&wide_text);
        let waiting = load(gate, &wide).await.unwrap();
        let delete = || on_backtest(gate, plugin, "backtests/delete-backtest");
        assert!(delete().await.is_err());

        let records = world.records().await;
        let why = why_last(&records, world.folder.path(), plugin);
        let (base, pending) = (why.manifest.unwrap(), why.manifest_pending.unwrap());
        assert_eq!(pending.digest, digest(&wide_text));
        let waits = pending.change.unwrap();
        assert_eq!(waits.approval.as_ref(), Some(&waiting.approval));
        assert_eq!(waits.by, None);
        assert!(waits.note.unwrap().contains("waits for a person"));
        let shown = base.text.unwrap();
        assert!(
            shown.contains("backtests/*") && !shown.contains("delete-backtest"),
            "{shown}"
        );
        assert_eq!(base.change.unwrap().by, None);
        // What waits is nowhere said to be in force.
        let of_plugin = |records: &[Value]| {
            let mut changes = changes(records, "manifest", false);
            changes.retain(|one| one["plugin"] == plugin);
            changes
        };
        let so_far = of_plugin(&records);
        assert!(
            so_far
                .iter()
                .all(|one| one["digest-after"] != digest(&wide_text).as_str()),
            "{so_far:#?}"
        );
        let asked = records
            .iter()
            .find(|one| one["what"] == "request" && one["approval"] == waiting.approval.as_str());
        assert!(asked.unwrap()["detail"].to_string().contains("delete"));

        for by in [person(8, "ann"), person(9, "bob")] {
            approve(gate, &waiting.approval, &by).await;
        }
        assert_eq!(load(gate, &wide).await, None);
        delete().await.unwrap();
        let records = world.records().await;
        let now = of_plugin(&records);
        assert_eq!(now.len(), so_far.len() + 1);
        let change = now.last().unwrap();
        assert_eq!(change["by"], "ann, bob");
        assert_eq!(change["approval"], waiting.approval.as_str());
        assert_eq!(change["digest-before"], base.digest.as_str());
        assert_eq!(change["digest-after"], digest(&wide_text).as_str());
        assert!(
            change["difference"].to_string().contains("delete"),
            "{change}"
        );
        let why = why_last(&records, world.folder.path(), plugin);
        assert_eq!(
            why.manifest.unwrap().change.unwrap().by.unwrap(),
            "ann, bob"
        );
        assert!(why.manifest_pending.is_none());
        // The approvers are not named for what an editor changes later.
        let again = parse(&text(READ));
        assert_eq!(load(gate, &again).await, None);
        let last = of_plugin(&world.records().await).pop().unwrap();
        assert!(last["by"].is_null() && last["approval"].is_null(), "{last}");
    }
}

/// A configuration that names people, and may wait.
fn configured(setup: &Setup, people: &[&str], waits: Option<Waits>) -> Settings {
    Settings {
        sources: Sources {
            file: "qchost.toml".into(),
            configuration: Origin {
                text: configuration_of(people).into(),
                owner: Some(64_001),
            },
            waits,
            ..Sources::default()
        },
        ..setup.settings()
    }
}

fn configuration_of(people: &[&str]) -> String {
    let people = people
        .iter()
        .map(|name| format!("[people.{name}]\nroles = [\"admin\"]\n"));
    people.collect()
}

async fn propose_people(gate: &Gate, people: &[&str], gains: &[&str]) -> Option<PendingApproval> {
    let gains = gains.iter().map(|name| format!("person `{name}`"));
    let proposal = Proposal {
        subject: Subject::Configuration,
        name: String::new(),
        account: String::new(),
        text: json!(people),
        remembered: Remembered::default(),
        changes: Vec::new(),
        gains: gains.collect(),
        files: vec![PathBuf::from("qchost.toml")],
        owners: [64_001].into(),
        successors: Vec::new(),
    };
    gate.proposals.propose(proposal).await.unwrap()
}

#[tokio::test]
async fn the_record_names_what_is_in_force_while_a_configuration_waits_also_over_a_restart() {
    for ends_before_it_is_taken_over in [false, true] {
        let (setup, world) = production(true).await;
        let World {
            gate,
            folder,
            cloud,
            ..
        } = world;
        let (narrow, wide) = (&["ann", "bob"][..], &["ann", "bob", "eve"][..]);
        assert_eq!(propose_people(&gate, narrow, &[]).await, None);
        reconfigure(&gate, configured(&setup, narrow, None)).await;
        let waiting = propose_people(&gate, wide, &["eve"]).await.unwrap();
        let waits = Waits {
            approval: Some(waiting.approval.clone()),
            refused: false,
        };
        reconfigure(&gate, configured(&setup, wide, Some(waits))).await;
        let check = async |gate: &Gate| {
            assert!(delete(gate).await.is_err());
            gate.idle().await;
            let records = records(folder.path());
            let why = why_last(&records, folder.path(), "lab");
            let in_force = why.configuration.unwrap();
            assert_eq!(in_force.text.unwrap(), configuration_of(narrow));
            let pending = why.configuration_pending.unwrap();
            assert_eq!(pending.text.unwrap(), configuration_of(wide));
            let change = pending.change.unwrap();
            assert_eq!(change.approval.as_ref(), Some(&waiting.approval));
            let lines = change.difference.concat();
            assert!(lines.contains("people.eve"), "{lines}");
            let people = changes(&records, "people", false);
            assert!(people.iter().all(|one| !one.to_string().contains("eve")));
        };
        check(&gate).await;
        gate.close().await;
        drop(gate);
        // Right after a start it is not known what it waits for, but that it does.
        let open = async |settings: Settings| {
            let mut options = setup.options(folder.path()).await;
            options.settings = settings;
            let gate = cloud.open(options).await;
            assert_eq!(load(&gate, &manifest(READ)).await, None);
            gate
        };
        let mut gate = open(configured(&setup, wide, Some(Waits::default()))).await;
        check(&gate).await;
        for by in [person(8, "ann"), person(9, "bob")] {
            approve(&gate, &waiting.approval, &by).await;
        }
        assert_eq!(propose_people(&gate, wide, &["eve"]).await, None);
        if ends_before_it_is_taken_over {
            gate.close().await;
            drop(gate);
            gate = open(configured(&setup, wide, None)).await;
        } else {
            // Another change that is applied meanwhile was not approved by them.
            let waits = Some(Waits::default());
            reconfigure(&gate, configured(&setup, wide, waits)).await;
            reconfigure(&gate, configured(&setup, wide, None)).await;
        }
        gate.idle().await;
        let recorded = records(folder.path());
        let people = changes(&recorded, "people", false);
        let last = people.last().unwrap();
        assert!(last["difference"].to_string().contains("people.eve"));
        assert_eq!(last["by"], "ann, bob");
        assert_eq!(last["approval"], waiting.approval.as_str());
        assert_eq!(
            last["digest-before"],
            digest(&configuration_of(narrow)).as_str()
        );
        assert_eq!(
            last["digest-after"],
            digest(&configuration_of(wide)).as_str()
        );
        let decided = recorded.iter().filter(|one| one["by"] == "ann, bob");
        assert_eq!(decided.count(), 1);
        gate.close().await;
        drop(gate);
        let gate = open(configured(&setup, wide, None)).await;
        gate.close().await;
        let records = records(folder.path());
        let decided = records.iter().filter(|one| one["by"] == "ann, bob");
        assert_eq!(decided.count(), 1, "recorded once");
    }
}

/// All pages of what is shown of a change.
async fn pages(gate: &Gate, id: &str) -> Vec<String> {
    let mut pages = Vec::new();
    loop {
        let page = u32::try_from(pages.len()).unwrap() + 1;
        let (_, shown) = gate.viewer.show(id, page).await.unwrap().unwrap();
        let text = shown["change"]["difference"].as_str().unwrap();
        assert!(text.len() <= 64 << 10);
        pages.push(text.to_owned());
        let Some(more) = shown["change"]["not-shown"].as_str() else {
            assert_eq!(shown["change"]["page"], format!("{page} of {page}"));
            return pages;
        };
        assert!(more.contains(&format!("--page {}", page + 1)), "{more}");
    }
}

#[tokio::test]
async fn all_of_a_change_can_be_seen_however_many_harmless_lines_it_has() {
    let (_, world) = production(false).await;
    let harmless = |at: usize| {
        let projects: Vec<_> = (0..12)
            .map(|project| format!("\"Lab/{at}-{project}\""))
            .collect();
        format!(
            "[[grant]]\nname = \"a{at}\"\nallow = [\"backtests/read-*\"]\nprojects = [{}]\n",
            projects.join(", ")
        )
    };
    let grants: String = (0..250).map(harmless).collect();
    let projects: Vec<_> = (0..50).map(|at| format!("\"Prod/{at}\"")).collect();
    let hidden = DELETE.replace("\"Lab/*\"", &projects.join(", "));
    let header = "[[http]]\nname = \"hooks\"\nallow = \"https://hooks.example/\"\nheaders = { x-key = \"hunter2\" }\n";
    let wide = format!("egress = \"licensed\"\n{READ}{grants}{hidden}{header}");
    let wide = manifest(&wide);
    let waiting = load(&world.gate, &wide).await.unwrap();
    let asked = approval(&world.gate, &waiting.approval).await;
    let shown = asked.view["changes"].as_array().unwrap();
    let left_out = asked.view["changes-not-shown"].as_u64().unwrap();
    assert_eq!((shown.len(), left_out), (100, 153));
    assert_eq!(asked.view["gains-not-shown"], Value::Null);
    let pages = pages(&world.gate, &waiting.approval).await;
    assert!(pages.len() > 1);
    let all = pages.concat();
    for words in ["`delete`", "Prod/49", "Lab/249-11", "hooks.example"] {
        assert!(all.contains(words), "{words}");
    }
    assert!(!all.contains("hunter2"));
    // What is the same is not shown as new.
    assert!(!all.contains("+      \"name\": \"read\""));
}

#[tokio::test]
async fn what_is_gained_is_counted_where_it_is_not_shown_and_what_widens_comes_first() {
    let (_, world) = production(false).await;
    let ids: Vec<String> = (0..150).map(|at| format!("rule-{at}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(propose(&world.gate, &ids).await, None);
    let waiting = propose(&world.gate, &["another"]).await.unwrap();
    let asked = approval(&world.gate, &waiting.approval).await;
    assert_eq!(asked.view["gains"].as_array().unwrap().len(), 100);
    assert_eq!(asked.view["gains-not-shown"], 50);
    let all = pages(&world.gate, &waiting.approval).await.concat();
    for id in ids {
        let rule = format!("-// guardrail {id}\n");
        assert!(all.contains(&rule) && all.contains(&format!("widened: {id} is gone")));
    }
    assert!(all.contains("+// guardrail another\n"));

    let (_, world) = production(false).await;
    let mixed = format!(
        "{DELETE}{}",
        READ.replace("Lab/*", "Lab/one").replace("= 9", "= 10")
    );
    let waiting = load(&world.gate, &manifest(&mixed)).await.unwrap();
    let asked = approval(&world.gate, &waiting.approval).await;
    let kinds: Vec<_> = asked.view["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            line.as_str()
                .unwrap()
                .split(": ")
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(kinds, ["widened", "added", "changed", "taken away"]);
}

#[tokio::test]
async fn what_a_waiting_manifest_takes_away_is_gone_and_a_restart_changes_nothing() {
    let (setup, world) = production(false).await;
    let mixed = format!(
        "{DELETE}{}",
        READ.replace("backtests/*", "backtests/read-*")
    );
    let waiting = load(&world.gate, &manifest(&mixed)).await.unwrap();
    let reading = "backtests/read-backtest";
    assert_eq!(created(&world.gate).await, 0);
    assert!(delete(&world.gate).await.is_err());
    on_backtest(&world.gate, "lab", reading).await.unwrap();
    let denied = world.gate.proposals.denied("lab", "sha256:0");
    assert!(denied.contains("backtests/create-backtest"));
    world.gate.idle().await;
    let World {
        gate,
        cloud,
        folder,
        ..
    } = world;
    drop(gate);

    let gate = cloud.open(setup.options(folder.path()).await).await;
    assert_eq!(load(&gate, &manifest(&mixed)).await, Some(waiting));
    assert_eq!(created(&gate).await, 0);
    assert!(delete(&gate).await.is_err());
    on_backtest(&gate, "lab", reading).await.unwrap();
    // Under another name it is a first manifest, of which nothing that is guarded is in force.
    let mut other = manifest(&format!("{READ}{DELETE}"));
    other.plugin = "new".to_owned();
    assert!(load(&gate, &other).await.is_some());
    let refused = on_backtest(&gate, "new", "backtests/delete-backtest").await;
    assert!(refused.is_err());
    on_backtest(&gate, "new", reading).await.unwrap();
    for tool in ["delete_backtest", "create_backtest"] {
        assert_eq!(cloud.count(tool), 0);
    }
}

/// A manifest whose grants all allow the one call, three times a day each, under these names.
fn named(grants: &[(&str, &str)]) -> Manifest {
    let grant = |(name, projects): &(&str, &str)| {
        format!(
            "[[grant]]\nname = \"{name}\"\nallow = [\"backtests/create-backtest\"]\nprojects = [\"{projects}\"]\nlimits = {{ per-day = 3 }}\n"
        )
    };
    manifest(&grants.iter().map(grant).collect::<String>())
}

async fn created(gate: &Gate) -> usize {
    let backtest = json!({ "projectId": 1, "compileId": "c1", "backtestName": "x" });
    let lab = principal("lab");
    let made = call(gate, &lab, "backtests/create-backtest", backtest).await;
    usize::from(made.is_ok())
}

#[tokio::test]
async fn a_rename_takes_the_rate_along_also_over_a_restart() {
    let setup = Setup::grants("");
    let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
    let gate = setup.open_in(folder.path(), &cloud).await;
    let named = |name: &str| {
        manifest(&format!(
            "[[grant]]\nname = \"{name}\"\nallow = [\"backtests/create-backtest\"]\nprojects = [\"Lab/*\"]\nlimits = {{ per-minute = 2 }}\n"
        ))
    };
    load(&gate, &named("a")).await;
    assert_eq!(created(&gate).await + created(&gate).await, 2);
    load(&gate, &named("b")).await;
    assert_eq!(created(&gate).await, 0);
    let gate = setup.restart(gate, folder.path(), &cloud).await;
    load(&gate, &named("b")).await;
    assert_eq!(created(&gate).await, 0);
    load(&gate, &named("c")).await;
    assert_eq!(created(&gate).await, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_rename_split_order_removal_or_restart_refills_a_day(
        steps in proptest::collection::vec(
            (proptest::collection::vec((0usize..4, 0usize..3), 0..3), 0usize..3, any::<bool>()), 1..9),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let made = runtime.block_on(async {
            let setup = Setup::grants("");
            let (folder, cloud) = (tempfile::tempdir().unwrap(), Cloud::new());
            let mut gate = setup.open_in(folder.path(), &cloud).await;
            let mut made = 0;
            for (grants, calls, restart) in steps {
                let mut grants: Vec<_> = grants
                    .into_iter()
                    .map(|(name, projects)| (["a", "b", "c", "d"][name], ["Lab/*", "Lab/one", "*"][projects]))
                    .collect();
                grants.dedup_by_key(|(name, _)| *name);
                if grants.len() == 2 && grants[0].0 == grants[1].0 {
                    grants.pop();
                }
                if restart {
                    gate = setup.restart(gate, folder.path(), &cloud).await;
                }
                load(&gate, &named(&grants)).await;
                for _ in 0..calls {
                    made += created(&gate).await;
                }
            }
            made
        });
        prop_assert!(made <= 3, "{made} calls were made in a day");
    }

    #[test]
    fn a_rename_takes_the_count_along_and_no_more(names in proptest::collection::vec(0usize..4, 1..9)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let made = runtime.block_on(async {
            let world = Setup::grants("").open().await;
            let mut made = 0;
            for (at, name) in names.into_iter().enumerate() {
                load(&world.gate, &named(&[(["a", "b", "c", "d"][name], "Lab/*")])).await;
                if at % 3 == 0 {
                    made += created(&world.gate).await;
                }
            }
            for _ in 0..5 {
                made += created(&world.gate).await;
            }
            made
        });
        prop_assert_eq!(made, 3);
    }
}
