//! What the compiler says, line by line: `Build Error: File: main.py Line:3 Column:5 - message`.
//!
//! Invariant: no line of a log is lost. What has another form is a diagnostic without a place or,
//! if it says neither error nor warning, not a diagnostic and still in the log.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// The project does not build.
    Error,
    /// The project builds.
    Warning,
}

/// Something the compiler says about the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Diagnostic {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// The file in the project, if the compiler names one.
    pub(crate) file: Option<String>,
    /// The line, from 1.
    pub(crate) line: Option<u32>,
    /// The column, as the compiler counts.
    pub(crate) column: Option<u32>,
    /// The compiler's words.
    pub(crate) message: String,
    /// What the compiler calls the problem, such as `CS0103` or `SyntaxError`, if the message begins with it.
    pub(crate) code: Option<String>,
}

impl Diagnostic {
    /// One without a place.
    pub(crate) fn new(severity: Severity, message: &str) -> Self {
        Self {
            severity,
            file: None,
            line: None,
            column: None,
            message: message.to_owned(),
            code: code(message),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, "{number}:")?;
        }
        if self.file.is_some() {
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

/// The diagnostics in a compile log, in its order.
pub(crate) fn parse(logs: &[String]) -> Vec<Diagnostic> {
    logs.iter()
        .flat_map(|entry| entry.lines())
        .filter_map(line)
        .collect()
}

fn line(text: &str) -> Option<Diagnostic> {
    let text = text.trim();
    let (severity, rest) = if let Some(rest) = text.strip_prefix("Build Error:") {
        (Severity::Error, rest)
    } else {
        (Severity::Warning, text.strip_prefix("Build Warning:")?)
    };
    let rest = rest.trim();
    Some(match place(rest) {
        Some((file, line, column, message)) => Diagnostic {
            file: Some(file.to_owned()),
            line: Some(line),
            column,
            ..Diagnostic::new(severity, message)
        },
        None => Diagnostic::new(severity, rest),
    })
}

/// The error that a line of the syntax check says: `main.py:3:5: message`, or a message alone.
pub(crate) fn checked(text: &str) -> Diagnostic {
    let text = text.trim();
    let place = || {
        let (place, message) = text.split_once(": ")?;
        let mut parts = place.rsplitn(3, ':');
        let (column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
        Some((file, line.parse().ok()?, column.parse().ok()?, message))
    };
    match place() {
        Some((file, line, column, message)) => Diagnostic {
            file: Some(file.to_owned()),
            line: Some(line),
            column: Some(column),
            ..Diagnostic::new(Severity::Error, message.trim())
        },
        None => Diagnostic::new(Severity::Error, text),
    }
}

/// The code that a message begins with: `CS0103: …`, `error CS0103: …`, or the class of a Python error, `SyntaxError: …`.
fn code(message: &str) -> Option<String> {
    let (first, _) = message.split_once(':')?;
    let word = first.strip_prefix("error ").unwrap_or(first).trim();
    let letters = word.trim_end_matches(|it: char| it.is_ascii_digit());
    let numbered = letters.len() < word.len() && (1..=4).contains(&letters.len());
    let is_code = numbered && letters.chars().all(|it| it.is_ascii_uppercase());
    let of_python = ["Error", "Warning", "Exception"];
    let is_class = of_python.iter().any(|end| word.ends_with(end))
        && word
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || it == '_');
    (is_code || is_class).then(|| word.to_owned())
}

/// `File: main.py Line:3 Column:5 - message`; the column may be missing.
fn place(text: &str) -> Option<(&str, u32, Option<u32>, &str)> {
    let rest = text.strip_prefix("File:")?;
    let (file, rest) = rest.split_once(" Line:")?;
    let (numbers, message) = rest.split_once(" - ")?;
    let (line, column) = match numbers.split_once(" Column:") {
        Some((line, column)) => (line, Some(column.trim().parse().ok()?)),
        None => (numbers, None),
    };
    Some((
        file.trim(),
        line.trim().parse().ok()?,
        column,
        message.trim(),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(log: &str) -> Vec<Diagnostic> {
        parse(&[log.to_owned()])
    }

    #[test]
    fn a_line_of_the_compiler_becomes_a_place_and_a_message() {
        let found = parsed(
            "Build Error: File: lib/signals.py Line:3 Column:5 - SyntaxError: expected ':' - here",
        );
        assert_eq!(
            found,
            [Diagnostic {
                severity: Severity::Error,
                file: Some("lib/signals.py".into()),
                line: Some(3),
                column: Some(5),
                message: "SyntaxError: expected ':' - here".into(),
                code: Some("SyntaxError".into()),
            }]
        );
        assert_eq!(
            found[0].to_string(),
            "lib/signals.py:3:5: SyntaxError: expected ':' - here"
        );
    }

    #[test]
    fn warnings_and_lines_without_a_place_are_kept() {
        let found = parsed(
            "Build Warning: File: Main.cs Line:7 - unused\n\nBuild Error: out of memory\n\
             Build Error: File: main.py Line:many Column:1 - odd\nBuild Request Successful",
        );
        let texts: Vec<String> = found.iter().map(Diagnostic::to_string).collect();
        assert_eq!(
            texts,
            [
                "Main.cs:7: unused",
                "out of memory",
                "File: main.py Line:many Column:1 - odd"
            ]
        );
        assert_eq!(found[0].severity, Severity::Warning);
        assert_eq!(found[0].column, None);
        assert_eq!(found[1].severity, Severity::Error);
    }

    #[test]
    fn a_good_build_has_no_diagnostics() {
        assert_eq!(
            parsed("Build Request Successful for Project ID: 7, with CompileID: a-b"),
            []
        );
        assert_eq!(parse(&[]), []);
    }

    #[test]
    fn a_code_is_what_a_message_begins_with() {
        for (message, expected) in [
            ("CS0103: The name 'x' does not exist", Some("CS0103")),
            ("error CS1002: ; expected", Some("CS1002")),
            ("E0602: undefined name", Some("E0602")),
            (
                "IndentationError: unexpected indent",
                Some("IndentationError"),
            ),
            ("expected ':'", None),
            ("2024: no", None),
            ("ABCDE1: no", None),
            ("an Error: no", None),
            ("", None),
        ] {
            assert_eq!(code(message).as_deref(), expected, "{message}");
        }
    }

    #[test]
    fn a_line_of_the_syntax_check_has_a_place_or_is_a_message() {
        let found = checked("lib/a.py:3:5: SyntaxError: expected ':'");
        assert_eq!(found.to_string(), "lib/a.py:3:5: SyntaxError: expected ':'");
        assert_eq!(found.code.as_deref(), Some("SyntaxError"));
        let found = checked("at noon: it rains");
        assert_eq!((found.file, found.line), (None, None));
        assert_eq!(found.message, "at noon: it rains");
    }

    proptest! {
        #[test]
        fn any_line_of_the_syntax_check_is_read(text in ".{0,80}") {
            prop_assert_eq!(checked(&text).severity, Severity::Error);
        }

        #[test]
        fn any_log_is_read_and_no_error_is_dropped(lines in proptest::collection::vec(".{0,80}", 0..8)) {
            let logs: Vec<String> = lines.iter().map(|it| format!("Build Error: {it}")).collect();
            let entries: usize = logs.iter().flat_map(|it| it.lines()).filter(|it| it.trim().starts_with("Build Error:")).count();
            prop_assert_eq!(parse(&logs).len(), entries);
            parse(&lines);
        }

        #[test]
        fn what_was_written_is_read_back(
            file in "[a-z/]{1,20}\\.py", line in 0u32.., column in 0u32.., message in "[!-~]([ -~]{0,40}[!-~])?",
        ) {
            let found = parsed(&format!("Build Error: File: {file} Line:{line} Column:{column} - {message}"));
            prop_assert_eq!(found, vec![Diagnostic {
                severity: Severity::Error,
                file: Some(file),
                line: Some(line),
                column: Some(column),
                code: code(&message),
                message,
            }]);
        }
    }
}
