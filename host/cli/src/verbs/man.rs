//! `qchost man`: the manual, made of what the command line says about itself.
//!
//! Invariant: the pages depend on nothing but the binary, so a package that is built twice has the same ones.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use qchost_policy::nearest;

use crate::args::Cli;
use crate::exit_status::{ErrorKind, ExitStatus, Failed};
use crate::output::{Output, counted};
use crate::terminal;

/// The variables that commands read.
const ENVIRONMENT: [(&str, &str); 9] = [
    (
        "QCHOST_CONFIG",
        "The configuration, where --config is not given.",
    ),
    (
        "QCHOST_LOG",
        "The filter of the log, where --log is not given.",
    ),
    (
        "QUANTCONNECT_USER_ID, QUANTCONNECT_API_TOKEN",
        "The credentials of an account that has no file with them, and of `qchost mcp`.",
    ),
    (
        "QC_MCP_USER_ID, QC_MCP_API_TOKEN",
        "The same, by the names of the official MCP server.",
    ),
    (
        "QCHOST_EMULATOR_TOKEN",
        "The API token that `qchost emulator` accepts.",
    ),
    (
        "QCHOST_WASM_TOOLCHAIN",
        "The Rust toolchain that `plugin build` uses.",
    ),
    (
        "XDG_STATE_HOME",
        "The folder above the data folder, where the configuration names none.",
    ),
    (
        "XDG_CACHE_HOME",
        "The folder above compiled components, where the configuration names none.",
    ),
    ("COLUMNS", "The width of tables, instead of the terminal's."),
];

/// What the host reads and keeps. DATA is the data folder.
const FILES: [(&str, &str); 12] = [
    ("qchost.toml", "The configuration, in the current folder."),
    (
        "plugins/*.toml, plugins/*/manifest.toml",
        "The manifests, beside the configuration.",
    ),
    (
        "policies/*.cedar",
        "The guardrails, beside the configuration.",
    ),
    (
        "$XDG_STATE_HOME/qchost, ~/.local/state/qchost",
        "The data folder, where neither --data nor the configuration names one.",
    ),
    (
        "DATA/state.db",
        "Budgets, approvals, permits, halts and the state of plugins.",
    ),
    ("DATA/audit", "The record of what was done."),
    ("DATA/host.key", "The host's key, which signs the record."),
    (
        "DATA/backup.key",
        "The key that signs backups, and is in none of them.",
    ),
    (
        "DATA/authorizations",
        "The tokens of accounts that a person logged in to. No backup has them.",
    ),
    (
        "DATA/emulator",
        "What the emulators of accounts keep in development. No backup has it.",
    ),
    (
        "DATA/control.sock",
        "The control socket of the running host.",
    ),
    ("DATA/halt", "While this file exists, everything is halted."),
];

/// A page of the manual.
struct Page {
    file: String,
    text: String,
}

/// Writes the pages into the folder, or prints the one about the command with these words.
pub fn run(words: &[String], folder: Option<&Path>, output: Output) -> Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = folder else {
        let page = page(named(&command, words)?)?;
        return output.result(&page.text, |text| text.trim_end().to_owned());
    };
    let mut pages = Vec::new();
    collect(&command, &mut pages)?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut written = Vec::new();
    for Page { file, text } in pages {
        let path = folder.join(file);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    output.result(&written, |written| {
        let count = counted(written.len(), "page");
        format!("wrote {count} into {}", folder.display())
    })
}

/// The command with these words.
fn named<'c>(command: &'c Command, words: &[String]) -> Result<&'c Command> {
    let mut found = command;
    for word in words {
        let above = found;
        let shown = move || above.get_subcommands().filter(|it| !it.is_hide_set());
        found = shown().find(|it| it.get_name() == word).ok_or_else(|| {
            let near = nearest(word, shown().map(Command::get_name));
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let typed = terminal::line(&words.join(" "));
            Failed::error(
                ErrorKind::Usage,
                format!("there is no command `{typed}`{near}"),
            )
        })?;
    }
    Ok(found)
}

/// The pages of a command and of those below it.
fn collect(command: &Command, pages: &mut Vec<Page>) -> Result<()> {
    pages.push(page(command)?);
    for inner in command.get_subcommands() {
        if !inner.is_hide_set() {
            collect(inner, pages)?;
        }
    }
    Ok(())
}

fn page(command: &Command) -> Result<Page> {
    let man = Man::new(command.clone())
        // An empty date would be left out, and the source taken for it.
        .date(" ")
        .source(concat!("qchost ", env!("CARGO_PKG_VERSION")))
        .manual("Manual of qchost");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    let after = command.get_after_help();
    let after = after.map(ToString::to_string).unwrap_or_default();
    let after = After::new(&after);
    lines(&after.notes).to_writer(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    sections(command, &after).to_writer(&mut text)?;
    Ok(Page {
        file: man.get_filename(),
        text: String::from_utf8(text).context("the page is not text")?,
    })
}

/// The paragraphs below the options of a help text, by the section that they belong to.
#[derive(Default)]
struct After<'a> {
    notes: Vec<&'a str>,
    status: Vec<&'a str>,
    examples: Vec<&'a str>,
}

impl<'a> After<'a> {
    fn new(help: &'a str) -> Self {
        let mut after = Self::default();
        for paragraph in help.split("\n\n").filter(|it| !it.trim().is_empty()) {
            if let Some(examples) = ["Example:\n", "Examples:\n"]
                .iter()
                .find_map(|title| paragraph.strip_prefix(title))
            {
                after.examples.push(examples);
            } else if let Some(status) = paragraph.strip_prefix("Exit status:") {
                // Every page has the table that the help of qchost ends with.
                if !status.starts_with('\n') {
                    after.status.push(status.trim_start());
                }
            } else {
                after.notes.push(paragraph);
            }
        }
        after
    }
}

/// Paragraphs, in which indented lines stay as they are.
fn lines(paragraphs: &[&str]) -> Roff {
    let mut roff = Roff::new();
    for paragraph in paragraphs {
        roff.control("PP", []);
        let mut is_verbatim = false;
        for line in paragraph.lines() {
            let verbatim = line.strip_prefix("  ");
            if is_verbatim && verbatim.is_none() {
                roff.control("fi", []).control("RE", []);
            } else if !is_verbatim && verbatim.is_some() {
                roff.control("RS", ["4"]).control("nf", []);
            }
            is_verbatim = verbatim.is_some();
            roff.text([roman(verbatim.unwrap_or(line))]);
        }
        if is_verbatim {
            roff.control("fi", []).control("RE", []);
        }
    }
    roff
}

/// What follows the options and commands.
fn sections(command: &Command, after: &After<'_>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    roff.extend([lines(&after.status)]);
    for status in ExitStatus::ALL {
        roff.control("TP", []);
        roff.text([bold(status.number().to_string())]);
        roff.text([roman(status.meaning())]);
    }
    let lists: [(&str, &[(&str, &str)]); 2] = [("ENVIRONMENT", &ENVIRONMENT), ("FILES", &FILES)];
    for (title, entries) in lists {
        roff.control("SH", [title]);
        for (name, meaning) in entries {
            roff.control("TP", []);
            roff.text([italic(*name)]);
            roff.text([roman(*meaning)]);
        }
    }
    if !after.examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        roff.extend([lines(&after.examples)]);
    }
    if command.get_name() != "qchost" {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([bold("qchost"), roman("(1)")]);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_below_the_options_is_divided_into_the_sections_of_a_page() {
        let help = "A file:\n\n  [[case]]\n\nExit status: 0 halted\n\nExit status:\n  0  done\n\nExamples:\n  qchost a\n  qchost b";
        let after = After::new(help);
        assert_eq!(after.notes, ["A file:", "  [[case]]"]);
        assert_eq!(after.status, ["0 halted"]);
        assert_eq!(after.examples, ["  qchost a\n  qchost b"]);
        let shown = lines(&after.examples).to_roff();
        assert_eq!(shown, ".PP\n.RS 4\n.nf\nqchost a\nqchost b\n.fi\n.RE\n");
    }

    #[test]
    fn every_variable_of_an_option_is_in_the_manual() {
        let command = Cli::command();
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        let variables: Vec<_> = variables.map(|it| it.to_string_lossy()).collect();
        assert_eq!(variables.len(), 2);
        for variable in variables {
            let is_told = ENVIRONMENT.iter().any(|(name, _)| *name == variable);
            assert!(is_told, "{variable}");
        }
    }
}
