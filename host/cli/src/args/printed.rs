//! Every command of qchost that a message, a help text or a document prints is one that the command line takes.
//!
//! Commands are found in the sources' strings and in the documents, and only parsed. The end-to-end tests run what is meant
//! to be pasted.

use std::iter::once;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use proc_macro2::{TokenStream, TokenTree};
use qchost_testing::DOCUMENTS;

use super::Cli;

/// Strings that begin like a command, and name something inside the host.
const NAMES: [&str; 6] = [
    "qchost audit 1",
    "qchost data folder 1",
    "qchost emulator model",
    "qchost emulator prices 1:",
    "qchost gate 1",
    "qchost manifest",
];
/// Words that follow the name of the program in a sentence.
const WORDS: [&str; 4] = ["and", "is", "that", "with"];

/// A command as it is printed.
#[derive(Debug, PartialEq)]
struct Printed {
    command: String,
    /// Whether it is printed to be run, and not named in a sentence, which may leave its arguments out.
    whole: bool,
}

impl Printed {
    fn whole(command: &str) -> Self {
        let command = command.trim_end().trim_end_matches('.').to_owned();
        Self {
            command,
            whole: true,
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names of the verbs, hidden ones too.
fn verbs() -> Vec<String> {
    let command = Cli::command();
    let names = command.get_subcommands().map(|verb| verb.get_name());
    names.map(str::to_owned).collect()
}

/// The strings in a program, each with whether it is documentation.
fn strings(tokens: TokenStream, found: &mut Vec<(String, bool)>) {
    let mut is_documentation = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => strings(group.stream(), found),
            TokenTree::Ident(name) => is_documentation = name == "doc",
            TokenTree::Literal(literal) => {
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    found.push((text.value(), is_documentation));
                }
            }
            TokenTree::Punct(_) => {}
        }
    }
}

/// A command at the beginning of a text that goes on after it.
fn up_to_its_end(text: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        let rest = text.get(at..).unwrap_or_default();
        match quote {
            Some(open) => quote = (letter != open).then_some(open),
            None if before == ' ' && matches!(letter, '\'' | '"') => quote = Some(letter),
            None if matches!(letter, ';' | ',' | ')' | '\n' | '>' | '&' | '|' | '#' | '"')
                || rest.starts_with(": ") =>
            {
                return text.get(..at).unwrap_or_default();
            }
            None => {}
        }
        before = letter;
    }
    text
}

/// The commands in running text: wherever the name of the program is followed by a verb or an option.
fn in_text(text: &str) -> Vec<Printed> {
    // A long command goes on in the next line.
    let text = text.replace("\\\n", " ");
    let mut found = Vec::new();
    for (at, name) in text.match_indices("qchost ") {
        let before = text.get(..at).unwrap_or_default();
        // The package of that name is another argument of `cargo`.
        let is_name = before.ends_with(|it: char| it.is_alphanumeric() || "_-./".contains(it))
            || before.ends_with("-p ");
        let after = text.get(at + name.len()..).unwrap_or_default();
        let word = after
            .split(|it: char| !it.is_ascii_lowercase() && it != '-')
            .next()
            .unwrap_or_default();
        if !is_name && !word.is_empty() && !WORDS.contains(&word) {
            let command = up_to_its_end(text.get(at..).unwrap_or_default());
            found.push(Printed::whole(command));
        }
    }
    found
}

/// The commands in backticks. `a | b` are alternatives of the last word before the line.
fn in_backticks(span: &str, whole: bool) -> Vec<Printed> {
    let span = span.replace("\\|", "|");
    let mut words = span.split_whitespace();
    let named = match words.next() {
        Some("qchost") => words.next().is_some(),
        Some(first) => words.next().is_some() && verbs().iter().any(|verb| verb == first),
        None => false,
    };
    if !named {
        return Vec::new();
    }
    let mut alternatives = span.split('|').map(str::trim);
    let first = alternatives.next().unwrap_or_default().to_owned();
    let before = first.rsplit_once(' ').map_or("", |(before, _)| before);
    let others: Vec<String> = alternatives.map(|it| format!("{before} {it}")).collect();
    let all = once(first).chain(others);
    let all = all.map(|command| match command.starts_with("qchost ") {
        true => Printed { command, whole },
        // A verb alone is named in a sentence.
        false => Printed {
            command: format!("qchost {command}"),
            whole: false,
        },
    });
    all.collect()
}

/// The commands in a text with backticks.
fn commands(text: &str, is_documentation: bool) -> Vec<Printed> {
    let parts = text.split('`').enumerate();
    let found = parts.map(|(number, part)| match number % 2 {
        0 if is_documentation => Vec::new(),
        0 => in_text(part),
        _ => in_backticks(part, !is_documentation),
    });
    found.flatten().collect()
}

/// The command with something in the places of what is filled in when it is printed.
fn filled(command: &str) -> String {
    let mut filled = String::new();
    let mut rest = command;
    while let Some((before, after)) = rest.split_once('{') {
        filled += before;
        match after.split_once('}') {
            Some((name, after)) if name.chars().all(|it| it.is_alphanumeric() || it == '_') => {
                // One at the end of a word is an option that may be left out.
                if before.ends_with(|it: char| !it.is_alphanumeric()) {
                    filled.push('1');
                }
                rest = after;
            }
            _ => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled + rest
}

/// Why the command line does not take a command.
fn problem(printed: &Printed) -> Option<String> {
    let Some(words) = shlex::split(&filled(&printed.command)) else {
        return Some("its quotes do not match".to_owned());
    };
    // In a synopsis, `[JSON]` may be left out, and `FILE…` repeated.
    let plain = |word: &String| {
        word.trim_matches(['[', ']'])
            .trim_end_matches('…')
            .to_owned()
    };
    let words = match printed.whole {
        true => words,
        false => words.iter().map(plain).collect(),
    };
    let error = Cli::command().try_get_matches_from(words).err()?;
    let unknown = matches!(
        error.kind(),
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand
    );
    // The help ends like an error, but is none.
    (error.use_stderr() && (printed.whole || unknown)).then(|| error.to_string())
}

/// Every file of Rust below a folder, without those that hold tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs")
            && !["tests.rs", "testing.rs", "printed.rs"]
                .iter()
                .any(|name| path.ends_with(name))
        {
            found.push(path);
        }
    }
}

/// Fails with every command that the command line does not take.
fn check(all: &[(String, Printed)]) {
    let wrong = all.iter().filter_map(|(place, printed)| {
        let problem = problem(printed)?;
        let first = problem.lines().next().unwrap_or_default().to_owned();
        Some(format!("{place}: {}: {first}", printed.command))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_command_in_a_message_or_a_help_text_is_one_that_there_is() {
    let root = repository();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.join("host")).unwrap() {
        let folder = entry.unwrap().path();
        // What only tests print is not shown to users.
        if folder.join("src").is_dir() && !folder.ends_with("testing") {
            sources(&folder.join("src"), &mut files);
        }
    }
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let tokens: TokenStream = program
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut found = Vec::new();
        strings(tokens, &mut found);
        for (text, is_documentation) in found {
            if NAMES.contains(&text.as_str()) {
                continue;
            }
            let commands = commands(&text, is_documentation).into_iter();
            all.extend(commands.map(|it| (file.display().to_string(), it)));
        }
    }
    assert!(all.len() >= 120, "{}", all.len());
    check(&all);
}

#[test]
fn every_command_in_a_document_is_one_that_there_is() {
    let root = repository();
    let mut all = Vec::new();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let blocks = text.split("\n```").enumerate();
        for (number, part) in blocks {
            let found = match (number % 2, part.lines().next()) {
                (0, _) => commands(part, true),
                (_, Some(info)) if info.starts_with("sh") => {
                    in_text(&part.replace("target/debug/qchost", "qchost"))
                }
                _ => Vec::new(),
            };
            all.extend(found.into_iter().map(|it| (document.to_owned(), it)));
        }
    }
    assert!(all.len() >= 70, "{}", all.len());
    check(&all);
}

#[test]
fn a_command_that_there_is_not_is_noticed() {
    let wrong = |text: &str, is_documentation: bool| {
        let found = commands(text, is_documentation).into_iter();
        let wrong = found.filter(|it| problem(it).is_some());
        wrong.map(|it| it.command).collect::<Vec<_>>()
    };
    let good = "see: qchost halt --list; end it: qchost resume. `qchost init` writes {more}, part of qchost and more, \
                `halt --liquidate` (qchost approvals list{all} --after {}): qchost refuses";
    assert_eq!(wrong(good, false), ["qchost refuses"]);
    // What a person is to run is whole.
    assert_eq!(wrong("`qchost restore`", false), ["qchost restore"]);
    assert_eq!(wrong("`qchost restore`", true), [""; 0]);
    assert_eq!(
        wrong("run qchost reload shows it", false),
        ["qchost reload shows it"]
    );
    let table = "`qchost audit head \\| heads \\| tail`, `qchost invoke PLUGIN.ACTION [JSON]`, `audit verify --from HEAD`";
    assert_eq!(
        wrong(table, true),
        ["qchost audit heads", "qchost audit verify --from HEAD"]
    );
    let quoted =
        "  qchost halt --reason \"fills; or orders\"\n  qchost restore here \\\n    --digests 1";
    assert_eq!(
        wrong(quoted, false),
        ["qchost restore here      --digests 1"]
    );
}
