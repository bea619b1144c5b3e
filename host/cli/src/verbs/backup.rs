//! `qchost backup`: the host's data as one consistent set in a folder.

use std::path::Path;

use anyhow::Result;

use crate::control::{self, Route};
use crate::output::{Output, counted};
use crate::requests::Backup;

/// Requests a backup.
pub async fn run(route: &Route, folder: &Path, output: Output) -> Result<()> {
    let folder = std::path::absolute(folder)?;
    let request = Backup {
        folder: folder.clone(),
    };
    let made = control::perform(route, request, output).await?;
    output.result(&made, |made| {
        format!(
            "copied to {} and verified: {}\nkey:    {}\ndigest: {}\nkeep these two lines elsewhere, and bring the \
             backup back with: qchost restore {0} --key {2} --digest {3}",
            folder.display(),
            counted(made.records, "record"),
            made.key,
            made.digest,
        )
    })
}
