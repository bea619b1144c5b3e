//! Folders of the host's machine, which a manifest grants.

use std::path::Path;
use std::sync::Arc;

use qchost_folders::{FolderError, Places};
use qchost_gate::{
    FolderAction, FolderAnswer, FolderFailure, FolderRequest, Gate, PluginCalls as _, open_folders,
};
use qchost_policy::Manifest;
use qchost_testing::cloud::{approve, person, principal};
use serde_json::json;

use crate::widened::{READ, load, manifest, production};

fn granting(folder: &Path, quota: &str) -> Manifest {
    let path = json!(folder);
    manifest(&format!(
        "{READ}[[folder]]\nname = \"out\"\npath = {path}\nmode = \"read\"\nmax-bytes = \"{quota}\"\n"
    ))
}

/// Lists the folder of a manifest, as its plugin does.
async fn list(gate: &Gate, opened: &Manifest) -> Result<FolderAnswer, FolderFailure> {
    let asked = FolderRequest {
        folders: Arc::new(open_folders(opened, &Places::default()).unwrap()),
        folder: "out".to_owned(),
        action: FolderAction::List {
            prefix: String::new(),
        },
    };
    gate.folder(&principal("lab"), asked).await
}

#[tokio::test]
async fn a_folder_is_closed_in_production_before_a_person_says_yes() {
    let (_, world) = production(false).await;
    let gate = &world.gate;
    let folder = tempfile::tempdir().unwrap();
    let granted = granting(folder.path(), "1MiB");
    let waiting = load(gate, &granted).await.unwrap();
    assert_eq!(waiting.gains.len(), 1, "{waiting:?}");
    assert!(
        waiting.gains[0].starts_with("folder `out`: read of "),
        "{waiting:?}"
    );
    let refused = list(gate, &granted).await;
    assert!(
        matches!(
            refused,
            Err(FolderFailure::Failed(FolderError::NotGranted(_)))
        ),
        "{refused:?}"
    );
    approve(gate, &waiting.approval, &person(8, "ann")).await;
    assert_eq!(load(gate, &granted).await, None);
    list(gate, &granted).await.unwrap();
    // A smaller quota holds at once, and a larger one waits.
    assert_eq!(load(gate, &granting(folder.path(), "1KiB")).await, None);
    assert!(load(gate, &granted).await.is_some());
    // Taken back at once.
    assert_eq!(load(gate, &manifest(READ)).await, None);
    let refused = list(gate, &granted).await;
    assert!(
        matches!(
            refused,
            Err(FolderFailure::Failed(FolderError::NotGranted(_)))
        ),
        "{refused:?}"
    );
}
