//! Separation: two configurations on one data folder, an unusable account beside usable ones, a data folder
//! and other users.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::common::{Folder, strategy_lab};

#[test]
fn a_command_is_not_carried_out_by_the_host_of_another_configuration() {
    let folder = Folder::embedded("emulator");
    let host = folder.serve(&["run"]);
    std::fs::copy(
        folder.path().join("qchost.toml"),
        folder.path().join("other.toml"),
    )
    .unwrap();
    let create = json!({ "name": "Lab/meant-for-another", "language": "Py" }).to_string();
    let ran = folder.run(&["--config", "other.toml", "call", "create_project", &create]);
    let error = ran.error();
    for expected in ["another configuration", "qchost.toml", "other.toml"] {
        assert!(error.contains(expected), "{error}");
    }
    // The twin: the folder's own configuration is accepted, and nothing was created.
    let listed = folder.call("list_projects", &json!({}));
    assert_eq!(listed["projects"], json!([]), "{listed}");
    host.end();
}

#[test]
fn an_account_that_cannot_be_used_takes_no_other_one_down() {
    let folder = Folder::new(
        "[account.research]\nconnection = \"embedded\"\ncloud = \"emulator\"\n\
         [account.broken]\nconnection = \"http\"\nurl = \"https://mcp.example.com/mcp\"\n\
         headers = { Authorization = { env = \"NOT_SET_BY_ANYBODY\" } }\n",
    );
    folder.manifest("strategy-lab", &strategy_lab());
    let listed = folder.run(&["--json", "plugin", "list"]).json();
    assert_eq!(listed[0]["status"], "ready", "{listed}");
    folder
        .run(&["call", "--account", "research", "read_account"])
        .good();
    let ran = folder.run(&["call", "--account", "broken", "read_account"]);
    let error = ran.error();
    for expected in ["broken", "NOT_SET_BY_ANYBODY"] {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_data_folder_that_is_open_to_others_is_not_used() {
    let folder = Folder::embedded("emulator");
    let data = folder.path().join("data");
    for (mode, accepted) in [(0o755, false), (0o770, false), (0o700, true)] {
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();
        let ran = folder.run(&["call", "read_account"]);
        assert_eq!(ran.status.success(), accepted, "{mode:o}: {ran:?}");
        if !accepted {
            assert!(ran.error().contains("chmod 700"), "{ran:?}");
        }
    }
}
