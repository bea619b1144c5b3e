//! `qchost reload`: makes the running host reload its files now, and shows the state of each.

use anyhow::{Result, anyhow, ensure};

use super::cells::{maybe, text, word};
use crate::control::{self, Route};
use crate::output::{Output, cell_and_remark, part_is, table};
use crate::requests::{FileRow, Reload};

/// Requests a reload, and shows the result.
pub async fn run(route: &Route, output: Output) -> Result<()> {
    let Some(rows) = control::ask_starting(route, Reload {}, output).await? else {
        return Err(route.none_runs(&anyhow!(
            "there is no host to reload its files; one that starts reads them as they are"
        )));
    };
    output.result(&rows, |rows| {
        let mut below = String::new();
        let lines: Vec<_> = rows
            .iter()
            .map(|row| {
                let (status, plugin) = match row {
                    FileRow::Account { status, .. } => (word(status), None),
                    FileRow::File { status, .. } => (word(status), None),
                    FileRow::Manifest { status, plugin, .. } => (word(status), plugin.as_ref()),
                    FileRow::Dormant { status, .. } => (word(status), None),
                };
                let file = row.file().to_string_lossy();
                let (detail, remark) = cell_and_remark(&file, row.detail().unwrap_or("-"));
                if let Some(remark) = remark {
                    below += &format!("\n{remark}");
                }
                vec![status, text(&file), maybe(plugin), detail]
            })
            .collect();
        table(&["status", "file", "plugin", "detail"], &lines) + &below
    })?;
    let wrong = trouble(&rows);
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// The number of files not in effect, and the accounts that cannot be used, in words.
pub fn trouble(rows: &[FileRow]) -> Vec<String> {
    let (mut files, mut wrong, mut unusable) = (0, 0, Vec::new());
    for row in rows {
        match row {
            FileRow::Account {
                account, status, ..
            } if !row.is_in_effect() => {
                unusable.push(format!("{} ({})", text(account), word(status)));
            }
            FileRow::Account { .. } => {}
            row => {
                files += 1;
                wrong += usize::from(!row.is_in_effect());
            }
        }
    }
    let mut words = Vec::new();
    if wrong > 0 {
        words.push(format!(
            "{} not in effect as {}",
            part_is(wrong, files, "file"),
            if files == 1 { "it is" } else { "they are" }
        ));
    }
    if !unusable.is_empty() {
        words.push(format!(
            "these accounts cannot be used: {}",
            unusable.join(", ")
        ));
    }
    words
}
