//! Parses a project's Python files and finds its algorithm class and its parameters.
//!
//! Invariant: no source makes the parser or a walk of its tree overflow the stack. The
//! tree's depth is bounded before it is built, from the tokens, because a syntax tree that is too
//! deep could not even be dropped.

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::visitor::source_order::{self, SourceOrderVisitor};
use ruff_python_ast::{Expr, ExprCall, ModModule, PythonVersion, Stmt, StmtClassDef};
use ruff_python_parser::{Mode, ParseOptions, lexer, parse_unchecked};
use ruff_source_file::LineIndex;
use ruff_text_size::{Ranged as _, TextRange, TextSize};

use super::constants::MAX_INHERITANCE;
use crate::engine::{DetectedParameter, Diagnostic, SourceFile};

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Limit for all Python files of a project together, in bytes.
const MAX_PROJECT_BYTES: usize = 4 << 20;
/// How many tokens may nest in one another: those since the last comma, counted on every level of
/// brackets that is open, plus the levels of indentation. The depth of a syntax tree is below it.
const MAX_NESTING: usize = 1_000;
/// The version of Python that LEAN runs.
const PYTHON: PythonVersion = PythonVersion::PY311;

/// One parsed file.
pub(super) struct PythonFile<'s> {
    /// The path inside the project.
    pub(super) name: &'s str,
    text: &'s str,
    lines: LineIndex,
    /// The syntax tree.
    pub(super) module: ModModule,
}

impl PythonFile<'_> {
    /// The line of an offset, from 1.
    pub(super) fn line(&self, offset: TextSize) -> u32 {
        u32::try_from(self.lines.line_index(offset).get()).unwrap_or(u32::MAX)
    }

    /// The text of a line without its indentation.
    pub(super) fn line_text(&self, line: u32) -> &str {
        let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        self.text.lines().nth(index).unwrap_or_default().trim()
    }

    /// The text of a range.
    pub(super) fn slice(&self, range: TextRange) -> &str {
        self.text.get(range.to_std_range()).unwrap_or_default()
    }

    /// The name by which Python imports the file, such as `lib.signals`.
    pub(super) fn module_name(&self) -> String {
        let stem = self.name.strip_suffix(".py").unwrap_or(self.name);
        let stem = stem.strip_suffix("/__init__").unwrap_or(stem);
        stem.replace('/', ".")
    }
}

/// Parses all `*.py` files. What cannot be parsed is in the second list, by file and line.
pub(super) fn parse(files: &[SourceFile]) -> (Vec<PythonFile<'_>>, Vec<Diagnostic>) {
    let mut parsed = Vec::new();
    let mut errors = Vec::new();
    let mut total: usize = 0;
    for file in files.iter().filter(|file| is_python(&file.name)) {
        total = total.saturating_add(file.content.len());
        if file.content.len() > MAX_FILE_BYTES || total > MAX_PROJECT_BYTES {
            let message = format!(
                "too large: the emulator reads files of up to {MAX_FILE_BYTES} bytes and \
                 projects of up to {MAX_PROJECT_BYTES} bytes"
            );
            errors.push(Diagnostic::new(&file.name, message));
            continue;
        }
        match parse_file(file) {
            Ok(file) => parsed.push(file),
            Err(found) => errors.extend(found),
        }
    }
    (parsed, errors)
}

fn is_python(name: &str) -> bool {
    std::path::Path::new(name)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("py"))
}

fn parse_file(file: &SourceFile) -> Result<PythonFile<'_>, Vec<Diagnostic>> {
    let lines = LineIndex::from_source_text(&file.content);
    let diagnostic = |offset: TextSize, message: String| {
        let position = lines.line_column(offset, &file.content);
        Diagnostic {
            file: file.name.clone(),
            line: u32::try_from(position.line.get()).unwrap_or(u32::MAX),
            column: u32::try_from(position.column.get()).unwrap_or(u32::MAX),
            message,
        }
    };
    if nests_too_deeply(&file.content) {
        let offset = first_too_deep_line(&file.content, &lines);
        let message = format!(
            "SyntaxError: too complex: more than {MAX_NESTING} tokens nest in one another here"
        );
        return Err(vec![diagnostic(offset, message)]);
    }
    let options = ParseOptions::from(Mode::Module).with_target_version(PYTHON);
    let parsed = parse_unchecked(&file.content, options);
    let unsupported = parsed.unsupported_syntax_errors().iter();
    let unsupported = unsupported.map(|error| (error.range.start(), error.to_string()));
    let errors = parsed.errors().iter();
    let errors = errors.map(|error| (error.location.start(), error.error.to_string()));
    let mut errors: Vec<(TextSize, String)> = errors.chain(unsupported).collect();
    errors.sort_by_key(|(offset, _)| *offset);
    // After the first error of a line the rest of the line only repeats it.
    errors.dedup_by_key(|(offset, _)| lines.line_index(*offset));
    if !errors.is_empty() {
        let found = errors.into_iter();
        let found = found.map(|(at, message)| diagnostic(at, format!("SyntaxError: {message}")));
        return Err(found.collect());
    }
    parsed
        .try_into_module()
        .map(|module| PythonFile {
            name: &file.name,
            text: &file.content,
            lines: lines.clone(),
            module: module.into_syntax(),
        })
        .ok_or_else(|| vec![diagnostic(TextSize::default(), "not a module".to_owned())])
}

/// One open bracket (or the top level): what closes it, and what stands in it since the last
/// comma. A `lambda` stays counted after a comma, which may separate its parameters.
#[derive(Default)]
struct Level {
    closes: Option<TokenKind>,
    tokens: usize,
    lambdas: usize,
}

/// The first line at which a text nests too deeply. The lexer does not report positions, so this is
/// the first line whose preceding lines nest too deeply together with it.
fn first_too_deep_line(text: &str, lines: &LineIndex) -> TextSize {
    let ends = lines.line_starts().get(1..).unwrap_or_default();
    let index = ends.partition_point(|end| {
        let before = text.get(..end.to_usize()).unwrap_or_default();
        !nests_too_deeply(before)
    });
    lines.line_starts().get(index).copied().unwrap_or_default()
}

/// Whether the syntax tree of a text could exceed [`MAX_NESTING`].
fn nests_too_deeply(text: &str) -> bool {
    let mut lexer = lexer::lex(text, Mode::Module);
    let mut levels = vec![Level::default()];
    let mut nested: usize = 0;
    let mut indentation: usize = 0;
    loop {
        let kind = lexer.next_token();
        let opens = match kind {
            TokenKind::EndOfFile => return false,
            TokenKind::Lpar => Some(TokenKind::Rpar),
            TokenKind::Lsqb => Some(TokenKind::Rsqb),
            TokenKind::Lbrace => Some(TokenKind::Rbrace),
            TokenKind::FStringStart => Some(TokenKind::FStringEnd),
            TokenKind::TStringStart => Some(TokenKind::TStringEnd),
            _ => None,
        };
        let Some(innermost) = levels.last_mut() else {
            return false;
        };
        match kind {
            TokenKind::NonLogicalNewline | TokenKind::Comment => {}
            TokenKind::Indent => indentation = indentation.saturating_add(1),
            TokenKind::Dedent => indentation = indentation.saturating_sub(1),
            TokenKind::Newline => {
                levels = vec![Level::default()];
                nested = 0;
            }
            TokenKind::Comma => {
                nested = nested.saturating_sub(innermost.tokens - innermost.lambdas);
                innermost.tokens = innermost.lambdas;
            }
            // A closing bracket of another kind closes nothing: the parser goes on inside.
            kind if innermost.closes == Some(kind) => {
                nested = nested.saturating_sub(innermost.tokens);
                levels.pop();
            }
            kind => {
                nested = nested.saturating_add(1);
                innermost.tokens = innermost.tokens.saturating_add(1);
                if kind == TokenKind::Lambda {
                    innermost.lambdas = innermost.lambdas.saturating_add(1);
                }
            }
        }
        if let Some(closes) = opens {
            levels.push(Level {
                closes: Some(closes),
                ..Level::default()
            });
        }
        if nested.saturating_add(indentation) > MAX_NESTING {
            return true;
        }
    }
}

/// The class that LEAN would run: the last one in `main.py` that derives from `QCAlgorithm`,
/// directly or through classes of the project. The index is that of its file.
///
/// # Errors
/// Why there is none, as a compile error.
pub(super) fn algorithm<'a>(
    files: &'a [PythonFile<'_>],
) -> Result<(usize, &'a StmtClassDef), Diagnostic> {
    let missing = |message: &str| Diagnostic::new("main.py", message);
    let (index, main) = files
        .iter()
        .enumerate()
        .find(|(_, file)| file.name == "main.py")
        .ok_or_else(|| missing("the project has no main.py, where the algorithm has to be"))?;
    classes(&main.module.body)
        .filter(|class| derives(class, files, 0))
        .last()
        .map(|class| (index, class))
        .ok_or_else(|| missing("main.py has no class that derives from QCAlgorithm"))
}

fn classes(body: &[Stmt]) -> impl Iterator<Item = &StmtClassDef> {
    body.iter().filter_map(Stmt::as_class_def_stmt)
}

/// Whether a class is a `QCAlgorithm`. Inheritance deeper than [`MAX_INHERITANCE`] is not
/// followed.
fn derives(class: &StmtClassDef, files: &[PythonFile<'_>], depth: usize) -> bool {
    depth < MAX_INHERITANCE
        && class.bases().iter().any(|base| {
            let Some(name) = base_name(base) else {
                return false;
            };
            name == "QCAlgorithm"
                || files
                    .iter()
                    .flat_map(|file| classes(&file.module.body))
                    .any(|other| other.name.as_str() == name && derives(other, files, depth + 1))
        })
}

/// The last part of a base class's name.
fn base_name(base: &Expr) -> Option<&str> {
    match base {
        Expr::Name(name) => Some(name.id.as_str()),
        Expr::Attribute(attribute) => Some(attribute.attr.as_str()),
        _ => None,
    }
}

/// The calls of `get_parameter` with a literal name that a compile answer lists, file by file, in source
/// order. Only their text is looked at: the reader decides which of them a backtest reaches, and with
/// which value.
pub(super) fn parameters(files: &[PythonFile<'_>]) -> Vec<DetectedParameter> {
    files
        .iter()
        .flat_map(|file| {
            let mut visitor = Visitor {
                file,
                found: Vec::new(),
            };
            visitor.visit_body(&file.module.body);
            visitor.found
        })
        .collect()
}

struct Visitor<'f> {
    file: &'f PythonFile<'f>,
    found: Vec<DetectedParameter>,
}

impl Visitor<'_> {
    fn call(&mut self, call: &ExprCall) {
        let arguments = &call.arguments;
        let named = |name: &str| arguments.find_keyword(name).map(|keyword| &keyword.value);
        let name = arguments.args.first().or_else(|| named("name"));
        let Some(Expr::StringLiteral(name)) = name else {
            return;
        };
        let default = arguments.args.get(1);
        let default = default.or_else(|| named("default_value").or_else(|| named("defaultValue")));
        self.found.push(DetectedParameter {
            file: self.file.name.to_owned(),
            line: self.file.line(call.range_start),
            name: name.value.to_str().to_owned(),
            default: default.map(|default| self.file.slice(default.range()).to_owned()),
        });
    }
}

impl<'a> SourceOrderVisitor<'a> for Visitor<'_> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Call(call) = expression
            && let Expr::Attribute(attribute) = call.func.as_ref()
            && matches!(attribute.attr.as_str(), "get_parameter" | "GetParameter")
        {
            self.call(call);
        }
        source_order::walk_expr(self, expression);
    }
}
