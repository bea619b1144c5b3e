//! Output for people and machines: results on standard output, progress and errors on standard error.
//!
//! Invariant: everything written has been cleaned by [`terminal`], whatever its origin.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::error::{ContextKind, ContextValue};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use qchost_policy::nearest;
use qchost_runtime::Progress;
use qchost_text::error_chain;
use schemars::JsonSchema;
use serde::Serialize;

use crate::exit_status::{ErrorKind, ExitStatus, hint};
pub use crate::layout::{fields, fits, folded, records, table};
use crate::reports::LogRow;
use crate::terminal;

/// Minimum interval between progress lines with the same message.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a command takes before a bar is drawn: one that ends earlier would only flash.
const BAR_DELAY: Duration = Duration::from_millis(500);
/// How often a bar is drawn.
const BAR_INTERVAL: Duration = Duration::from_millis(200);

/// The output format.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// As JSON, for machines.
    pub json: bool,
}

/// The one object that ends a command which fails.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorObject<'a> {
    /// The kind of the error, by which a program decides.
    kind: ErrorKind,
    /// The error with its causes, in one line.
    message: &'a str,
    /// What helps further, if anything does: a command, or the lines of a manifest that would allow what was denied.
    hint: Option<&'a str>,
}

/// A remark beside a result.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Remark<'a> {
    Warning(&'a str),
    Note(&'a str),
}

/// A line about the progress of a command.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProgressLine<'a> {
    progress: ProgressState<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ProgressState<'a> {
    /// What is done: 0 to 1.
    fraction: f64,
    message: &'a str,
}

/// A line about what the invoked plugin logged.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LogObject<'a> {
    log: LogEntry<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum LogEntry<'a> {
    Row(&'a LogRow),
    Missing(MissingLines),
}

/// At the end: lines that were not printed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct MissingLines {
    /// The number of lines.
    left_out: u64,
}

impl Output {
    /// Prints a result: as JSON for machines, formatted by `text` for people.
    /// `verbs/outputs.rs` has a row for it.
    pub fn result<T: Serialize + JsonSchema>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        if self.json {
            let text = serde_json::to_string(value);
            print_json(&text.context("the result cannot be written as JSON")?)
        } else {
            print(&text(value))
        }
    }

    /// Prints an error to standard error.
    pub fn error(self, error: &anyhow::Error) {
        let text = words(error);
        if self.json {
            let hint = hint(error, &text);
            write_json_error(ErrorKind::from_error(error), &text, hint.as_deref());
        } else {
            let remedy = match ErrorKind::from_error(error).exit_status() {
                ExitStatus::Halted => {
                    "; list the halts with `qchost halt --list`, and end one with `qchost resume`"
                }
                _ => "",
            };
            write_stderr(&terminal::block(&format!("error: {text}{remedy}")));
        }
    }

    /// Prints a warning to standard error.
    pub fn warning(self, text: &str) {
        self.remark(&Remark::Warning(text));
    }

    /// Prints a note beside the result to standard error, unless it was printed before.
    pub fn note(self, text: &str) {
        static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        if PRINTED.lock().insert(text.to_owned()) {
            self.remark(&Remark::Note(text));
        }
    }

    fn remark(self, remark: &Remark<'_>) {
        if self.json {
            write_stderr_json(remark);
            return;
        }
        let line = match remark {
            Remark::Warning(text) => format!("warning: {text}"),
            Remark::Note(text) => format!("note: {text}"),
        };
        write_stderr(&terminal::block(&line));
    }

    /// Creates a progress display.
    pub fn progress(self) -> Display {
        let kind = if self.json {
            Kind::Json
        } else if std::io::stderr().is_terminal() {
            Kind::Bar(delayed_bar(ProgressDrawTarget::stderr()))
        } else {
            Kind::Lines
        };
        Self::display(kind)
    }

    /// Creates a progress display without a bar, which would be drawn into the lines of a result.
    pub fn progress_among_lines(self) -> Display {
        Self::display(if self.json { Kind::Json } else { Kind::Lines })
    }

    fn display(kind: Kind) -> Display {
        Display {
            kind,
            last: None,
            unprinted: None,
            heard: Arc::default(),
        }
    }
}

/// A bar that is drawn once [`BAR_DELAY`] is over, unless it is finished by then.
fn delayed_bar(target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::hidden());
    if let Ok(style) =
        ProgressStyle::with_template("{elapsed_precise} {bar:32} {percent:>3}% {msg}")
    {
        bar.set_style(style);
    }
    let waiting = bar.downgrade();
    tokio::spawn(async move {
        tokio::time::sleep(BAR_DELAY).await;
        if let Some(bar) = waiting.upgrade()
            && !bar.is_finished()
        {
            bar.set_draw_target(target);
            bar.enable_steady_tick(BAR_INTERVAL);
        }
    });
    bar
}

/// A progress display: a bar on a terminal, lines elsewhere.
pub struct Display {
    kind: Kind,
    last: Option<PrintedLine>,
    /// The newest line, if it was not worth printing when it came. It is printed at the end.
    unprinted: Option<String>,
    heard: Arc<AtomicBool>,
}

/// The last line printed.
struct PrintedLine {
    at: Instant,
    message: String,
    line: String,
}

/// Whether to print progress: one line a second is enough for a log file, but a new message is always printed.
fn is_worth_a_line(last: Option<&PrintedLine>, now: Instant, message: &str, line: &str) -> bool {
    last.is_none_or(|last| {
        let due = now.duration_since(last.at) >= LINE_INTERVAL;
        last.message != message || (due && last.line != line)
    })
}

enum Kind {
    Bar(ProgressBar),
    Lines,
    Json,
}

impl Display {
    /// Set once a host has reported that a halt is in force.
    pub fn heard(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heard)
    }

    /// Shows that a halt is in force, and what it waits for.
    pub fn halted(&mut self, message: String) {
        self.heard.store(true, Ordering::Relaxed);
        let fraction = 0.0;
        // Never suppressed because of a line shown just before.
        self.last = None;
        self.report(&Progress { fraction, message });
    }

    /// Shows the progress.
    pub fn report(&mut self, progress: &Progress) {
        let fraction = &progress.fraction;
        let message = terminal::line(&progress.message);
        let percent = (fraction.clamp(0.0, 1.0) * 100.0).round();
        match &self.kind {
            Kind::Bar(bar) => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 1000
                bar.set_position((percent * 10.0) as u64);
                bar.set_message(message);
            }
            Kind::Lines => {
                let now = Instant::now();
                let line = format!("{percent:>3}% {message}");
                self.unprinted = None;
                if is_worth_a_line(self.last.as_ref(), now, &message, &line) {
                    write_stderr(&line);
                    self.last = Some(PrintedLine {
                        at: now,
                        message,
                        line,
                    });
                } else if self.last.as_ref().is_some_and(|last| last.line != line) {
                    self.unprinted = Some(line);
                }
            }
            Kind::Json => {
                let (fraction, message) = (progress.fraction, progress.message.as_str());
                let progress = ProgressState { fraction, message };
                write_stderr_json(&ProgressLine { progress });
            }
        }
    }

    /// Shows a line that the plugin logged.
    pub fn log(&mut self, row: &LogRow) {
        match &self.kind {
            Kind::Json => write_stderr_json(&LogObject {
                log: LogEntry::Row(row),
            }),
            Kind::Bar(bar) => bar.suspend(|| write_stderr(&terminal::line(&row.text()))),
            Kind::Lines => write_stderr(&terminal::line(&row.text())),
        }
    }

    /// Says how many lines that the plugin logged are not shown.
    pub fn log_left_out(&mut self, left_out: u64) {
        let text = || {
            let lines = counted(left_out, "line");
            format!("note: {lines} of the plugin's log came faster than they were read")
        };
        match &self.kind {
            Kind::Json => write_stderr_json(&LogObject {
                log: LogEntry::Missing(MissingLines { left_out }),
            }),
            Kind::Bar(bar) => bar.suspend(|| write_stderr(&text())),
            Kind::Lines => write_stderr(&text()),
        }
    }

    /// Ends the display: removes a bar, and prints the last line if it was not printed yet.
    pub fn done(self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
        if let Some(line) = self.unprinted {
            write_stderr(&line);
        }
    }
}

/// Formats clap's message about the command line. Help is shown unchanged. An error repeats arguments among its own lines,
/// so it is generated again from cleaned ones: `parse` parses a command line.
pub fn usage<T: clap::CommandFactory>(
    error: clap::Error,
    parse: impl FnOnce(Vec<String>) -> Result<T, clap::Error>,
) -> ExitStatus {
    if error.use_stderr() {
        let arguments = std::env::args_os();
        let clean = arguments.map(|argument| terminal::line(&argument.to_string_lossy()));
        let mut error = parse(clean.collect()).err().unwrap_or(error);
        prune_suggestions(&mut error, &T::command());
        let text = terminal::block(&error.to_string());
        if !asks_for_json() {
            write_stderr(text.trim_end());
        } else if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            // Its text is the help.
            let hint = ExitStatus::Usage.hint();
            write_json_error(ErrorKind::Usage, "a command is missing", hint);
        } else {
            let (message, hint) = split_usage(&text);
            write_json_error(ErrorKind::Usage, message, Some(hint));
        }
        return ExitStatus::Usage;
    }
    if let Err(error) = error.print() {
        write_stderr(&format!("error: cannot write the help: {error}"));
    }
    ExitStatus::Done
}

/// Removes suggested commands that no person uses, and those that have some letters in common with what was typed and
/// are no slip of it: `restore` for `stop`.
fn prune_suggestions(error: &mut clap::Error, command: &clap::Command) {
    let Some(ContextValue::Strings(suggested)) = error.remove(ContextKind::SuggestedSubcommand)
    else {
        return;
    };
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else {
        return;
    };
    let is_meant = |name: &String| {
        let near = nearest(typed, std::iter::once(name.as_str()));
        near.is_some() && !is_hidden(command, name)
    };
    let meant: Vec<String> = suggested.into_iter().filter(is_meant).collect();
    if !meant.is_empty() {
        error.insert(
            ContextKind::SuggestedSubcommand,
            ContextValue::Strings(meant),
        );
    }
}

/// Whether a command of this name is hidden in its help.
fn is_hidden(command: &clap::Command, name: &str) -> bool {
    command
        .get_subcommands()
        .any(|inner| (inner.is_hide_set() && inner.get_name() == name) || is_hidden(inner, name))
}

/// Whether the command line asks for JSON, even if it cannot be parsed.
fn asks_for_json() -> bool {
    let arguments = std::env::args_os().skip(1);
    let mut options = arguments.take_while(|argument| argument.to_str() != Some("--"));
    options.any(|argument| argument.to_str() == Some("--json"))
}

/// The problem in clap's text about a command line, and the tips and the usage below it.
fn split_usage(text: &str) -> (&str, &str) {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    (message.trim_end(), rest.trim())
}

/// Writes the one object that ends a command with `--json`, in one line.
fn write_json_error(kind: ErrorKind, message: &str, hint: Option<&str>) {
    write_stderr_json(&ErrorObject {
        kind,
        message,
        hint,
    });
}

/// Writes a document to standard error, in one line.
fn write_stderr_json(document: &impl Serialize) {
    // These documents have texts and numbers only, which always have a form in JSON.
    if let Ok(line) = serde_json::to_string(document) {
        write_stderr(&terminal::json(&line));
    }
}

/// Prints text for people to standard output.
pub fn print(text: &str) -> Result<()> {
    write(&terminal::block(text))
}

/// Prints JSON, or lines of it, to standard output.
pub fn print_json(text: &str) -> Result<()> {
    write(&terminal::json(text))
}

/// Writes a clean line to standard error. There is no way to report that it is gone.
fn write_stderr(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn write(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // The reader has closed the pipe: `qchost … | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// A count with its noun: `1 plugin`, `2 plugins`.
pub fn counted<N: std::fmt::Display + PartialEq + From<u8>>(number: N, one: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {one}{plural}")
}

/// A part of a count, as the subject of a sentence: `1 of 1 file is`, `1 of 2 files are`.
pub fn part_is(number: usize, of: usize, one: &str) -> String {
    format!("{number} of {} {}", counted(of, one), is_or_are(of))
}

/// The verb of a count.
pub fn is_or_are(number: usize) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// A line about something. Further lines are there to be pasted: they stay whole on a narrow terminal too, and are indented,
/// so that none of them is taken for a line about something else.
pub fn remark(what: &str, text: &str) -> String {
    let what = terminal::line(what);
    let text = terminal::block(text.trim_end());
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    let mut shown = match first.starts_with(&format!("{what}:")) {
        true => folded(first),
        false => folded(&format!("{what}: {first}")),
    };
    for line in lines {
        shown.push_str(if line.is_empty() { "\n" } else { "\n    " });
        shown.push_str(line);
    }
    shown
}

/// What a cell of a table says of a text, and the remark below the table if the text has lines to be pasted, which a table
/// would break.
pub fn cell_and_remark(what: &str, text: &str) -> (String, Option<String>) {
    match text.trim_end() {
        text if text.contains('\n') => ("see below".to_owned(), Some(remark(what, text))),
        text => (text.to_owned(), None),
    }
}

/// An error in one line: what happened, and each cause that is not already contained in the text before it.
pub fn words(error: &anyhow::Error) -> String {
    let mut words = error_chain(error.as_ref());
    // A remedy in the form of TOML ends its last line.
    words.truncate(words.trim_end().len());
    words
}

/// A JSON document for people.
pub fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicUsize;

    use clap::{CommandFactory as _, Parser as _};
    use indicatif::TermLike;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn progress_is_a_line_a_second_and_one_for_each_new_message() {
        let begun = Instant::now();
        let printed = PrintedLine {
            at: begun,
            message: "compiling".to_owned(),
            line: "  0% compiling".to_owned(),
        };
        let after = |milliseconds, message: &str, line: &str| {
            let now = begun + Duration::from_millis(milliseconds);
            is_worth_a_line(Some(&printed), now, message, line)
        };
        assert!(is_worth_a_line(None, begun, "compiling", "  0% compiling"));
        // The same message with more progress is not dropped forever, and not printed for each percent.
        assert!(!after(900, "compiling", " 40% compiling"));
        assert!(after(1_000, "compiling", " 50% compiling"));
        assert!(!after(5_000, "compiling", "  0% compiling"));
        assert!(after(1, "uploading", "  0% uploading"));
    }

    #[test]
    fn the_last_progress_is_printed_even_if_it_comes_at_once() {
        let mut display = Output { json: false }.progress_among_lines();
        let mut report = |fraction| {
            let message = "sweeping".to_owned();
            display.report(&Progress { fraction, message });
            // Whatever this takes, the next one comes before the interval is over.
            if let Some(last) = &mut display.last {
                last.at = Instant::now() + LINE_INTERVAL * 100;
            }
            display.unprinted.clone()
        };
        assert_eq!(report(0.0), None);
        assert_eq!(report(0.5).as_deref(), Some(" 50% sweeping"));
        assert_eq!(report(1.0).as_deref(), Some("100% sweeping"));
        // One that says nothing new is not printed again.
        assert_eq!(report(0.0), None);
    }

    /// A terminal that counts what is written to it.
    #[derive(Debug)]
    struct Screen(Arc<AtomicUsize>);

    impl Screen {
        fn write(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, _: &str) -> io::Result<()> {
            self.write()
        }

        fn write_str(&self, _: &str) -> io::Result<()> {
            self.write()
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_bar_is_drawn_for_a_command_that_takes_long_and_for_no_other() {
        let written = Arc::new(AtomicUsize::new(0));
        let bar = || {
            let screen = Box::new(Screen(Arc::clone(&written)));
            delayed_bar(ProgressDrawTarget::term_like(screen))
        };
        let quick = bar();
        quick.set_position(10);
        quick.finish_and_clear();
        tokio::time::sleep(BAR_DELAY * 2).await;
        assert_eq!(written.load(Ordering::Relaxed), 0);

        let slow = bar();
        let drawn = async {
            while written.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), drawn)
            .await
            .unwrap();
        slow.finish_and_clear();
    }

    #[test]
    fn what_is_suggested_is_a_slip_of_what_was_typed_and_a_command_for_people() {
        let said = |typed: &str| {
            let mut error = Cli::try_parse_from(["qchost", typed]).unwrap_err();
            prune_suggestions(&mut error, &Cli::command());
            error.to_string()
        };
        for typed in ["stop", "compile-componen", "supervise-serve"] {
            let text = said(typed);
            assert!(!text.contains("tip"), "{text}");
        }
        for (typed, meant) in [("hlt", "'halt'"), ("aprovals", "'approvals'")] {
            let text = said(typed);
            assert!(text.contains(meant), "{text}");
        }
    }

    #[test]
    fn the_problem_of_a_command_line_is_split_from_its_usage() {
        let text = "error: unrecognized subcommand 'hlt'\n\n  tip: a similar subcommand exists: 'halt'\n\nUsage: qchost\n";
        let (message, hint) = split_usage(text);
        assert_eq!(message, "unrecognized subcommand 'hlt'");
        assert!(
            hint.starts_with("tip: ") && hint.ends_with("Usage: qchost"),
            "{hint}"
        );
    }

    #[test]
    fn what_is_one_is_not_plural() {
        assert_eq!(counted(1, "plugin"), "1 plugin");
        assert_eq!(counted(0, "plugin"), "0 plugins");
        assert_eq!(counted(2, "plugin"), "2 plugins");
        assert_eq!(part_is(1, 1, "plugin"), "1 of 1 plugin is");
        assert_eq!(part_is(1, 2, "plugin"), "1 of 2 plugins are");
    }

    #[test]
    fn a_remark_of_several_lines_can_be_pasted_and_passes_for_no_other() {
        let text = remark(
            "lab",
            "no grant; add:\n[[grant]]\nallow = [\"files/*\"]\u{1b}\n",
        );
        assert_eq!(
            text,
            "lab: no grant; add:\n    [[grant]]\n    allow = [\"files/*\"]\\u{1b}"
        );
        assert_eq!(remark("a.toml", "a.toml:1: no"), "a.toml:1: no");
    }
}
