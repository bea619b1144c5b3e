//! The way back for a host whose people are too few to approve anything: `qchost run --recover-people`.
//!
//! Invariant: it is recorded before it is done, and done only where the people in force cannot bring a change of the files
//! into force themselves. Besides the people and `two-person`, and the guardrails if these forbid approving, nothing comes
//! into force by it.

use anyhow::{Result, ensure};
use nix::unistd::geteuid;
use qchost_gate::{AdminAction, AdminDetail};
use qchost_ledger::Subject;

use crate::config::Config;
use crate::host::{Host, without_role};
use crate::in_force::{CanDecide, guardrails_of_files, people_of_file};

/// Brings the people of a file into force for a host that starts, before it follows its files. Only the user that the host
/// runs as gets here: the data folder is closed to others, and a running host keeps it locked.
pub async fn recover_people(host: &Host, file: &Config) -> Result<()> {
    let current = host.current();
    ensure!(
        !CanDecide::of(&current.config, &current.guardrails)?.decides_changes(),
        "--recover-people: the people in force can approve changes, so nothing is to be recovered: start the host without it, and see: \
         qchost approvals list"
    );
    let proposals = &host.gate.proposals;
    let row = proposals.in_force(Subject::Configuration, "").await?;
    let mut recovered = vec![people_of_file(file, row.as_ref())?];
    if !CanDecide::of_file(file, &current.guardrails)?.decides_changes() {
        let (guardrails, proposal) = guardrails_of_files(file)?;
        ensure!(
            CanDecide::of_file(file, &guardrails)?.decides_changes(),
            "--recover-people: {} names too few who may approve changes: one person with the role admin, or two with `two-person`, \
             whom no guardrail forbids to `approve`",
            file.file.display()
        );
        recovered.push(proposal);
    }
    let by = without_role(geteuid().as_raw());
    let gate = &host.gate;
    gate.note_admin(&by, AdminAction::RecoverPeople, AdminDetail::Nothing {})
        .await?;
    for proposal in recovered {
        proposals.recover(proposal).await?;
    }
    tracing::warn!(target: "host", "the people of the configuration are in force without an approval: --recover-people");
    Ok(())
}
