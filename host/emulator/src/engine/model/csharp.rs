//! As much of C# as the model looks at: whether brackets, strings and comments are closed.
//!
//! Invariant: this never says that a C# project is correct, only that its brackets balance; the
//! warning that goes with it says so.

use crate::engine::{Compilation, Diagnostic, SourceFile};

use super::source::MAX_FILE_BYTES;

/// Checks the `*.cs` files of a project.
pub(super) fn compile(files: &[SourceFile]) -> Compilation {
    let sources: Vec<&SourceFile> = files
        .iter()
        .filter(|file| file.name.to_lowercase().ends_with(".cs"))
        .collect();
    let diagnostic = |file: &str, line, column, message: String| Diagnostic {
        file: file.to_owned(),
        line,
        column,
        message,
    };
    let Some(first) = sources.first() else {
        let message = "the project has no *.cs file".to_owned();
        return Compilation {
            errors: vec![diagnostic("Main.cs", 1, 1, message)],
            ..Compilation::default()
        };
    };
    let warning = "the emulator does not compile C#: it only checked that brackets, strings and \
                   comments are closed, and it cannot backtest this project";
    Compilation {
        warnings: vec![diagnostic(&first.name, 1, 1, warning.to_owned())],
        errors: sources
            .iter()
            .filter_map(|file| {
                if file.content.len() > MAX_FILE_BYTES {
                    let message = format!("too large: files have up to {MAX_FILE_BYTES} bytes");
                    return Some(diagnostic(&file.name, 1, 1, message));
                }
                let (line, column, message) = Scanner::new(&file.content).unbalanced()?;
                Some(diagnostic(&file.name, line, column, message))
            })
            .collect(),
        parameters: Vec::new(),
    }
}

/// What the scanner is inside of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Code within a bracket that this character closes.
    Bracket(char),
    /// Code within the `{}` of an interpolated string.
    Hole,
    /// A string with escapes; whether it is interpolated.
    Text { interpolated: bool },
    /// `@"…"`, where a quote is doubled.
    Verbatim { interpolated: bool },
    /// `"""…"""` with so many quotes.
    Raw { quotes: usize },
}

impl Inside {
    fn unclosed(self) -> String {
        match self {
            Self::Bracket(closes) => format!("expected '{closes}'"),
            Self::Hole => "expected '}' of an interpolated string".to_owned(),
            Self::Text { .. } | Self::Verbatim { .. } | Self::Raw { .. } => {
                "the string is not closed".to_owned()
            }
        }
    }
}

struct Scanner<'s> {
    rest: std::iter::Peekable<std::str::Chars<'s>>,
    line: u32,
    column: u32,
    open: Vec<(Inside, u32, u32)>,
}

type Finding = (u32, u32, String);

impl<'s> Scanner<'s> {
    fn new(text: &'s str) -> Self {
        Self {
            rest: text.chars().peekable(),
            line: 1,
            column: 0,
            open: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        if letter == '\n' {
            self.line += 1;
            self.column = 0;
        } else {
            self.column += 1;
        }
        Some(letter)
    }

    fn next_if(&mut self, wanted: char) -> bool {
        self.rest.peek() == Some(&wanted) && self.next().is_some()
    }

    fn push(&mut self, inside: Inside) {
        self.open.push((inside, self.line, self.column));
    }

    /// The first thing that is not closed, or closed without having been opened.
    fn unbalanced(mut self) -> Option<Finding> {
        while let Some(letter) = self.next() {
            let finding = match self.open.last().map(|(inside, ..)| *inside) {
                None | Some(Inside::Bracket(_) | Inside::Hole) => self.code(letter),
                Some(Inside::Text { interpolated }) => self.text(letter, interpolated),
                Some(Inside::Verbatim { interpolated }) => {
                    self.verbatim(letter, interpolated);
                    None
                }
                Some(Inside::Raw { quotes }) => {
                    if letter == '"' && 1 + self.quotes(quotes - 1) == quotes {
                        self.open.pop();
                    }
                    None
                }
            };
            if finding.is_some() {
                return finding;
            }
        }
        let (inside, line, column) = self.open.last()?;
        Some((*line, *column, inside.unclosed()))
    }

    /// Takes up to `most` quotes.
    fn quotes(&mut self, most: usize) -> usize {
        (0..most).take_while(|_| self.next_if('"')).count()
    }

    fn code(&mut self, letter: char) -> Option<Finding> {
        match letter {
            '(' => self.push(Inside::Bracket(')')),
            '[' => self.push(Inside::Bracket(']')),
            '{' => self.push(Inside::Bracket('}')),
            ')' | ']' | '}' => return self.close(letter),
            '/' if self.next_if('/') => {
                while self.rest.peek().is_some_and(|next| *next != '\n') {
                    self.next();
                }
            }
            '/' if self.next_if('*') => return self.block_comment(),
            '\'' => return self.character(),
            '"' => self.string(false, false),
            '$' | '@' => {
                let mut prefix = String::from(letter);
                while let Some(next) = self.rest.peek().copied().filter(|c| matches!(c, '$' | '@'))
                {
                    prefix.push(next);
                    self.next();
                }
                if self.next_if('"') {
                    self.string(prefix.contains('$'), prefix.contains('@'));
                }
            }
            _ => {}
        }
        None
    }

    fn close(&mut self, letter: char) -> Option<Finding> {
        match self.open.last().map(|(inside, ..)| *inside) {
            Some(Inside::Bracket(closes)) if closes == letter => {
                self.open.pop();
                None
            }
            Some(Inside::Hole) if letter == '}' => {
                self.open.pop();
                None
            }
            Some(inside) => Some((
                self.line,
                self.column,
                format!("'{letter}' found, {}", inside.unclosed()),
            )),
            None => Some((self.line, self.column, format!("'{letter}' closes nothing"))),
        }
    }

    fn block_comment(&mut self) -> Option<Finding> {
        let place = (self.line, self.column);
        while let Some(letter) = self.next() {
            if letter == '*' && self.next_if('/') {
                return None;
            }
        }
        Some((place.0, place.1, "the comment is not closed".to_owned()))
    }

    fn character(&mut self) -> Option<Finding> {
        let place = (self.line, self.column);
        while let Some(letter) = self.next() {
            match letter {
                '\'' => return None,
                '\\' => {
                    self.next();
                }
                '\n' => break,
                _ => {}
            }
        }
        Some((place.0, place.1, "the character is not closed".to_owned()))
    }

    /// After an opening quote: which kind of string it is.
    fn string(&mut self, interpolated: bool, verbatim: bool) {
        if verbatim {
            return self.push(Inside::Verbatim { interpolated });
        }
        match 1 + self.quotes(usize::MAX) {
            1 => self.push(Inside::Text { interpolated }),
            // An empty string.
            2 => {}
            quotes => self.push(Inside::Raw { quotes }),
        }
    }

    fn text(&mut self, letter: char, interpolated: bool) -> Option<Finding> {
        match letter {
            '"' => {
                self.open.pop();
            }
            '\\' => {
                self.next();
            }
            '\n' => {
                let (inside, line, column) = self.open.pop()?;
                return Some((line, column, inside.unclosed()));
            }
            '{' if interpolated && !self.next_if('{') => self.push(Inside::Hole),
            _ => {}
        }
        None
    }

    fn verbatim(&mut self, letter: char, interpolated: bool) {
        match letter {
            '"' if !self.next_if('"') => {
                self.open.pop();
            }
            '{' if interpolated && !self.next_if('{') => self.push(Inside::Hole),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(text: &str) -> Option<(u32, u32)> {
        Scanner::new(text)
            .unbalanced()
            .map(|(line, column, _)| (line, column))
    }

    #[test]
    fn balanced_sources_pass_whatever_their_strings_hold() {
        for text in [
            "",
            "class A { void B() { int[] c = {1}; } }",
            "// (\n/* [ \n { */ var s = \"(\\\"\";",
            "var c = '('; var d = '\\''; var e = '\"';",
            "var s = $\"a {b[\"(\"]} {{ c\";",
            "var s = @\"\\\"; var t = $@\"{x} \"\" (\";",
            "var s = \"\"\"\n ( \" \n\"\"\"; var e = \"\";",
        ] {
            assert_eq!(finding(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_closed_is_found_where_it_was_opened() {
        assert_eq!(finding("class A {\n  void B( {\n}"), Some((2, 9)));
        assert_eq!(finding("class A {\n  (]"), Some((2, 4)));
        assert_eq!(finding("}"), Some((1, 1)));
        assert_eq!(finding("var s = \"abc;\nx"), Some((1, 9)));
        assert_eq!(finding("/* abc"), Some((1, 2)));
        assert_eq!(finding("var c = 'a"), Some((1, 9)));
        assert_eq!(finding("var s = @\"abc"), Some((1, 10)));
    }
}
