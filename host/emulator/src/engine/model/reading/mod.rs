//! Reads what an algorithm asks for out of its source.
//!
//! `initialize` is *run*: its statements are evaluated in order, with the parameters of the
//! backtest, following loops over known values, decided conditions, the project's own functions
//! and classes; what Python would refuse there (`int(None)`) fails the algorithm with a stack
//! trace. The other methods are only *surveyed*: every branch is walked once, with the attributes
//! that `initialize` left, to find the calls that trade. Nothing else of Python is needed to know
//! a [`Plan`].
//!
//! Invariant: reading is bounded in steps, depth and memory whatever the source, and what could
//! not be read is in the logs of the plan.

mod algorithm;
mod arguments;
mod builtins;
mod calls;
mod collections;
mod expressions;
mod methods;
mod modules;
mod statements;
mod survey;
mod trading;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::civil::Date;
use ruff_python_ast::{Expr, StmtClassDef};
use ruff_text_size::{Ranged, TextSize};

use self::value::{Refused, Value};
use super::plan::{Average, Entry, Plan, Security, WarmUp};
use super::source::PythonFile;
use super::{DEFAULT_BENCHMARK, DEFAULT_CASH, DEFAULT_END, DEFAULT_START};
use crate::engine::RuntimeError;

/// How many steps (expressions, elements) `initialize` may take, and the survey again.
const MAX_STEPS: usize = 300_000;
/// How many expressions and calls may nest while they are evaluated.
const MAX_DEPTH: usize = 2_000;
/// How many functions may have called one another.
const MAX_FRAMES: usize = 32;
/// How many elements a list and how many bytes a text may have.
const MAX_ELEMENTS: usize = 100_000;
/// How many lines the algorithm and the reader may log while reading.
const MAX_LOGS: usize = 1_000;

/// Reads the plan of the algorithm class `class` of file number `file`.
///
/// # Errors
/// What the algorithm itself does wrong before or in `initialize`.
pub(super) fn read<'a>(
    files: &'a [PythonFile<'a>],
    (file, class): (usize, &'a StmtClassDef),
    overrides: &'a BTreeMap<String, String>,
) -> Result<Plan, RuntimeError> {
    let mut reader = Reader::new(files, overrides);
    reader
        .read_all(file, class)
        .map_err(|raise| reader.runtime_error(&raise))?;
    Ok(reader.into_plan())
}

/// Which of the two ways of reading is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Run,
    Survey,
}

/// An exception on its way up.
#[derive(Debug)]
struct Raise {
    refused: Refused,
    /// File, line and function, outermost first.
    trace: Vec<(usize, u32, String)>,
    /// Not an exception of Python's but a bound of the reader's: no `except` stops it.
    fatal: bool,
}

/// One function that is being evaluated.
struct Frame<'a> {
    locals: BTreeMap<Rc<str>, Value<'a>>,
    file: usize,
    line: u32,
    name: &'a str,
    /// The class whose method it is, and its `self`.
    method: Option<(usize, usize)>,
    /// Whether its names are those of the file.
    is_module: bool,
}

/// A class of the project.
struct Class<'a> {
    file: usize,
    def: &'a StmtClassDef,
    bases: Vec<usize>,
    attributes: BTreeMap<Rc<str>, Value<'a>>,
}

/// An instance.
#[derive(Default)]
struct Object<'a> {
    class: usize,
    attributes: BTreeMap<Rc<str>, Value<'a>>,
}

/// A file's names, once it was imported.
#[derive(Default)]
struct Module<'a> {
    imported: bool,
    names: BTreeMap<Rc<str>, Value<'a>>,
}

/// A function that runs later, with what it sees of its surroundings.
struct Deferred<'a> {
    locals: BTreeMap<Rc<str>, Value<'a>>,
    file: usize,
    method: Option<(usize, usize)>,
    body: Body<'a>,
}

/// What a deferred function consists of.
enum Body<'a> {
    Expression(&'a Expr),
    Statements(&'a [ruff_python_ast::Stmt]),
}

struct Reader<'a> {
    files: &'a [PythonFile<'a>],
    overrides: &'a BTreeMap<String, String>,
    mode: Mode,
    steps: usize,
    depth: usize,
    frames: Vec<Frame<'a>>,
    modules: Vec<Module<'a>>,
    classes: Vec<Class<'a>>,
    objects: Vec<Object<'a>>,
    lists: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    deferred: Vec<Deferred<'a>>,
    /// How many objects `initialize` left; in the run itself none is settled.
    settled_objects: usize,
    /// Calls of the algorithm's interface that were run: the survey need not report them again.
    ran: BTreeSet<(usize, TextSize)>,
    noted: BTreeSet<String>,
    /// Where the dates were last set, for the error when they are the wrong way round.
    dates_set: Option<Vec<(usize, u32, String)>>,
    default_resolution_daily: bool,
    /// Whether there may be securities that the reader does not know of.
    missed_subscription: bool,
    start: Option<Date>,
    end: Option<Date>,
    cash: f64,
    securities: Vec<Security>,
    benchmark: Option<String>,
    averages: Vec<Average>,
    entries: Vec<Entry>,
    warm_up: WarmUp,
    parameters: BTreeMap<String, String>,
    logs: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(files: &'a [PythonFile<'a>], overrides: &'a BTreeMap<String, String>) -> Self {
        Self {
            files,
            overrides,
            mode: Mode::Run,
            steps: 0,
            depth: 0,
            frames: Vec::new(),
            modules: files.iter().map(|_| Module::default()).collect(),
            classes: Vec::new(),
            objects: Vec::new(),
            lists: Vec::new(),
            dicts: Vec::new(),
            deferred: Vec::new(),
            settled_objects: 0,
            ran: BTreeSet::new(),
            noted: BTreeSet::new(),
            dates_set: None,
            default_resolution_daily: false,
            missed_subscription: false,
            start: None,
            end: None,
            cash: DEFAULT_CASH,
            securities: Vec::new(),
            benchmark: None,
            averages: Vec::new(),
            entries: Vec::new(),
            warm_up: WarmUp::Bars(0),
            parameters: BTreeMap::new(),
            logs: Vec::new(),
        }
    }

    /// Imports the file, runs `initialize` and surveys the rest.
    fn read_all(&mut self, file: usize, class: &'a StmtClassDef) -> Result<(), Raise> {
        self.import(file)?;
        let Some(class) = self
            .classes
            .iter()
            .position(|known| std::ptr::eq(known.def, class))
        else {
            self.note("the algorithm class, which is not defined at the top of main.py");
            return Ok(());
        };
        self.objects.push(Object {
            class,
            attributes: BTreeMap::new(),
        });
        for name in ["__init__", "initialize", "Initialize"] {
            if let Some(method) = self.find_method(class, name) {
                self.call_method(0, method, arguments::Arguments::default())?;
            }
        }
        self.check_dates()?;
        self.survey(class);
        Ok(())
    }

    /// LEAN refuses an end before the start once both are known.
    fn check_dates(&mut self) -> Result<(), Raise> {
        let (start, end) = (self.start(), self.end());
        if end >= start {
            return Ok(());
        }
        let mut raise = self.raise(Refused::new(
            "ArgumentException",
            format!("the end date {end} is before the start date {start}"),
        ));
        raise.trace = self.dates_set.take().unwrap_or_default();
        Err(raise)
    }

    fn start(&self) -> Date {
        self.start.unwrap_or(DEFAULT_START)
    }

    fn end(&self) -> Date {
        self.end.unwrap_or(DEFAULT_END)
    }

    fn into_plan(mut self) -> Plan {
        let (start, end) = (self.start(), self.end());
        if self.end.is_none() {
            self.log(format!(
                "no end date is set: the model ends on {DEFAULT_END} (LEAN: yesterday)"
            ));
        }
        Plan {
            start,
            end,
            cash: self.cash,
            securities: self.securities,
            benchmark: self
                .benchmark
                .unwrap_or_else(|| DEFAULT_BENCHMARK.to_owned()),
            averages: self.averages,
            entries: self.entries,
            warm_up: self.warm_up,
            parameters: self.parameters,
            logs: self.logs,
        }
    }

    /// Counts steps; the end of the budget is an error that no source can catch.
    fn step(&mut self, count: usize) -> Result<(), Raise> {
        self.steps = self.steps.saturating_add(count);
        if self.steps <= MAX_STEPS {
            return Ok(());
        }
        Err(self.fatal(format!("the model reads at most {MAX_STEPS} steps")))
    }

    /// An exception where the reader stands now.
    fn raise(&self, refused: Refused) -> Raise {
        Raise {
            refused,
            trace: self.trace(),
            fatal: false,
        }
    }

    fn fatal(&self, message: String) -> Raise {
        Raise {
            refused: Refused::new("TooComplex", message),
            trace: self.trace(),
            fatal: true,
        }
    }

    /// Raises in a run; in a survey, where values are missing anyway, the result is unknown.
    fn refuse(&self, kind: &'static str, message: impl Into<String>) -> Result<Value<'a>, Raise> {
        match self.mode {
            Mode::Run => Err(self.raise(Refused::new(kind, message))),
            Mode::Survey => Ok(Value::Unknown),
        }
    }

    fn refused(&self, result: Result<Value<'a>, Refused>) -> Result<Value<'a>, Raise> {
        result.or_else(|refused| self.refuse(refused.kind, refused.message))
    }

    fn trace(&self) -> Vec<(usize, u32, String)> {
        self.frames
            .iter()
            .map(|frame| (frame.file, frame.line, frame.name.to_owned()))
            .collect()
    }

    /// The exception as the cloud would show it: message, and a Python stack trace.
    fn runtime_error(&self, raise: &Raise) -> RuntimeError {
        use std::fmt::Write as _;
        let Refused { kind, message } = &raise.refused;
        let mut stacktrace = "Traceback (most recent call last):\n".to_owned();
        let mut place = String::new();
        for (file, line, function) in &raise.trace {
            let Some(source) = self.files.get(*file) else {
                continue;
            };
            let name = source.name;
            let _ = writeln!(stacktrace, "  File \"{name}\", line {line}, in {function}");
            let _ = writeln!(stacktrace, "    {}", source.line_text(*line));
            place = format!(" ({name}, line {line})");
        }
        let _ = write!(stacktrace, "{kind}: {message}");
        RuntimeError {
            message: format!("Error while initializing the algorithm: {kind}: {message}{place}"),
            stacktrace,
            in_initialize: true,
        }
    }

    /// Says once that something of the source has no part in the plan.
    fn note(&mut self, what: &str) {
        if self.noted.insert(what.to_owned()) {
            self.log(format!("not read by the model: {what}"));
        }
    }

    /// [`Self::note`] with the place of a node.
    fn note_at(&mut self, what: &str, node: &impl Ranged) {
        let place = self.place(node.start());
        self.note(&format!("{what} at {place}"));
    }

    fn log(&mut self, line: String) {
        if self.logs.len() < MAX_LOGS {
            self.logs.push(line.chars().take(2_000).collect());
        }
    }

    fn file(&self) -> usize {
        self.frames.last().map_or(0, |frame| frame.file)
    }

    /// `main.py:12`
    fn place(&self, offset: TextSize) -> String {
        self.files
            .get(self.file())
            .map(|file| format!("{}:{}", file.name, file.line(offset)))
            .unwrap_or_default()
    }
}

/// A name of LEAN's interface as Python spells it today: `SetStartDate` → `set_start_date`,
/// `SMA` → `sma`, `set_start_date` → `set_start_date`.
fn snake(name: &str) -> String {
    let mut result = String::with_capacity(name.len() + 4);
    let mut previous = '_';
    let mut rest = name.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter.is_uppercase() {
            let next_is_lower = rest.peek().is_some_and(|next| next.is_lowercase());
            let starts_word = previous.is_lowercase()
                || previous.is_ascii_digit()
                || (previous.is_uppercase() && next_is_lower);
            if starts_word {
                result.push('_');
            }
            result.extend(letter.to_lowercase());
        } else {
            result.push(letter);
        }
        previous = letter;
    }
    result
}
