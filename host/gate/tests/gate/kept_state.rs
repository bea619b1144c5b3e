//! What a plugin keeps in its state of the licensed data that an earlier manifest let it read.

use std::sync::Arc;

use qchost_gate::{AdmitError, Gate, PluginCalls as _};
use qchost_policy::Manifest;
use qchost_testing::cloud::{Setup, World, parse};

use crate::changes::HOOKS;
use crate::widened::load;

const LOGS: &str = "[[grant]]\nname = \"logs\"\nallow = [\"backtests/read-backtest-logs\"]\nprojects = [\"Lab/*\"]\n";
const FILES: &str = "[[grant]]\nname = \"source\"\nallow = [\"files/*\"]\nprojects = [\"Lab/*\"]\nfiles = [\"*.py\"]\n";

fn manifest(grants: &str) -> Manifest {
    let head = "plugin = \"lab\"\ncomponent = \"lab.wasm\"\naccount = \"a\"\n";
    parse(&format!("{head}{grants}"))
}

/// Writes a key of the plugin's state, or deletes it.
async fn keep(gate: &Gate, value: Option<&'static [u8]>) {
    let gate = gate.clone();
    let kept = tokio::task::spawn_blocking(move || match value {
        Some(value) => gate.state().set("lab", "k", value).map(drop),
        None => gate.state().delete("lab", "k"),
    });
    kept.await.unwrap().unwrap();
}

/// Why a manifest is refused when it is loaded.
async fn refused(gate: &Gate, manifest: &Manifest) -> String {
    let digest: Arc<str> = "sha256:0".into();
    let admitted = gate.adoptions.admit(manifest, &digest, &[], None).await;
    match admitted {
        Err(error @ AdmitError::LicensedState { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_kept_under_an_earlier_manifest_leaves_by_no_way_of_a_later_one() {
    let setup = || Setup::grants(FILES);
    let World {
        gate,
        cloud,
        folder,
        ..
    } = setup().open().await;
    let (logs, out) = (manifest(LOGS), manifest(&format!("{FILES}{HOOKS}")));
    // The other order: what a plugin kept before it could read such data is none.
    keep(&gate, Some(b"its own")).await;
    assert_eq!(load(&gate, &out).await, None);
    assert_eq!(load(&gate, &logs).await, None);
    for way in [
        HOOKS,
        "[[grant]]\nname = \"issues\"\nallow = [\"data-issues/create-data-issue\"]\nrecipients = [\"public\"]\n",
    ] {
        let why = refused(&gate, &manifest(&format!("{FILES}{way}"))).await;
        assert!(
            why.contains("egress = \"licensed\"") && why.contains("state"),
            "{why}"
        );
    }
    // Also after one without a way out, and after a restart.
    assert_eq!(load(&gate, &manifest(FILES)).await, None);
    refused(&gate, &out).await;
    let gate = setup().restart(gate, folder.path(), &cloud).await;
    refused(&gate, &out).await;
    // The twins: the operator says so, or nothing is kept any more.
    let licensed = manifest(&format!("egress = \"licensed\"\n{FILES}{HOOKS}"));
    assert_eq!(load(&gate, &licensed).await, None);
    refused(&gate, &out).await;
    keep(&gate, None).await;
    assert_eq!(load(&gate, &out).await, None);
    // What it keeps from now on is its own again.
    keep(&gate, Some(b"its own")).await;
    assert_eq!(load(&gate, &out).await, None);
}
