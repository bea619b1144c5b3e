//! `qchost backup`: the host's data as one consistent set in a folder.

use std::path::Path;

use anyhow::Result;

use crate::backup::FILES;
use crate::control::{self, Route};
use crate::output::{Output, counted};
use crate::requests::Backup;
use crate::terminal;

/// Requests a backup.
pub async fn run(route: &Route, folder: &Path, output: Output) -> Result<()> {
    let folder = std::path::absolute(folder)?;
    let request = Backup {
        folder: folder.clone(),
    };
    let made = control::perform(route, request, output).await?;
    output.result(&made, |made| {
        let by_hand: String = made
            .by_hand
            .lines(&folder.join(FILES))
            .iter()
            .map(|line| format!("\nby hand after a restore: {}", terminal::line(line)))
            .collect();
        format!(
            "copied to {} and verified: {}, {}\nkey:    {}\ndigest: {}\nkeep these two lines elsewhere, and bring the \
             backup back with: qchost restore {0} --key {3} --digest {4}{by_hand}",
            folder.display(),
            counted(made.records, "record"),
            counted(made.files, "file"),
            made.key,
            made.digest,
        )
    })
}
