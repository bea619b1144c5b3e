//! Every category from inside Wasm: a test agent calls each function of the contract through the real host.

use std::collections::BTreeSet;

use qchost_catalog::OPERATIONS;
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::common::{Folder, bundled, embedded, served};
use crate::process::Process;

pub const EVERY: &str = "host/cli/tests/plugins/every-category";
/// A brokerage profile that needs no secret.
pub const PAPER: &str = "[brokerage.paper]\nid = \"QuantConnectBrokerage\"\n";

/// A folder with the test agent. Its manifest grants commands and rights, which may concern real money.
pub fn folder(account: &str) -> Folder {
    let folder = Folder::new(&format!("live-trading = true\n{account}{PAPER}"));
    folder.manifest("every-category", &bundled(EVERY));
    folder
}

/// Such a folder, with the cloud of its account.
pub fn with_cloud() -> (Cloud, Folder) {
    let cloud = Cloud::start();
    let folder = folder(&embedded(cloud.url()));
    (cloud, folder)
}

/// Such a folder and its cloud, with a host that is ready.
pub fn serving() -> (Cloud, Folder, Process) {
    let (cloud, folder) = with_cloud();
    let host = folder.serve(&["run"]);
    (cloud, folder, host)
}

#[test]
fn all_functions_of_the_contract_answer_as_they_should() {
    let cloud = Cloud::start();
    let account = format!("{}derived-data = true\n", embedded(cloud.url()));
    check(&folder(&account), |_| true);
}

#[test]
fn all_functions_answer_over_a_server_that_is_a_child() {
    let cloud = Cloud::start();
    // Downloads from the object store are served on this machine. Only an account that is configured for an
    // emulator may be redirected here; for any other server it may be an attack.
    check(&folder(&served(cloud.url())), |interface| {
        interface != "object-store"
    });
}

#[test]
fn a_figure_is_one_number_however_it_is_asked_for() {
    // QuantConnect sends the statistics of an optimisation's row in two forms.
    for keyed in [false, true] {
        let cloud = Cloud::with(|builder| builder.keyed_statistics(keyed));
        let folder = folder(&embedded(cloud.url()));
        let host = folder.serve(&["run"]);
        let report = folder.invoke("every-category.units", &json!({ "profile": "paper" }));
        let checks = report["checks"].as_array().unwrap();
        let failed: Vec<_> = checks.iter().filter(|check| check["ok"] != true).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert!(checks.len() > 40, "only {} checks", checks.len());
        host.end();
    }
}

fn check(folder: &Folder, wanted: impl Fn(&str) -> bool) {
    let host = folder.serve(&["run"]);
    let by_rest = || {
        OPERATIONS
            .iter()
            .filter(|operation| operation.rest && operation.is_typed())
    };
    let interfaces: BTreeSet<&str> = by_rest().map(|operation| operation.interface()).collect();
    // Actions for what is no operation of the catalog: `raw` and the host's services.
    let services = ["raw", "state", "config", "signals", "workflow"];

    let (mut called, mut failed) = (BTreeSet::new(), Vec::new());
    let actions = interfaces.iter().chain(&services);
    for action in actions.filter(|action| wanted(action)) {
        let input = if action.starts_with("live") || *action == "exports" {
            json!({ "profile": "paper" })
        } else {
            json!({})
        };
        let report = folder.invoke(&format!("every-category.{action}"), &input);
        let checks = report["checks"].as_array().unwrap();
        assert!(!checks.is_empty(), "{action}");
        for check in checks {
            if check["ok"] == Value::Bool(true) {
                called.insert(check["operation"].as_str().unwrap().to_owned());
            } else {
                failed.push(check.clone());
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    let called: BTreeSet<&str> = called
        .iter()
        .map(String::as_str)
        .filter(|name| qchost_catalog::by_name(name).is_some())
        .collect();
    let all: BTreeSet<&str> = by_rest()
        .filter(|operation| wanted(operation.interface()))
        .map(|operation| operation.name)
        .collect();
    assert_eq!(called, all);
    host.end();
}
