//! The state of the reader, its errors and its log.
//!
//! Invariant: every step is counted against one budget, and an exception carries the frames at
//! which it was raised.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ruff_python_ast::{Expr, Stmt, StmtClassDef};
use ruff_text_size::{Ranged, TextSize};

use super::value::{Refused, Value};
use crate::engine::RuntimeError;
use crate::engine::model::constants::DEFAULT_END;
use crate::engine::model::plan::Plan;
use crate::engine::model::source::PythonFile;

/// How many steps (expressions, elements) `initialize` may take, and the survey again.
const MAX_STEPS: usize = 300_000;
/// How many expressions and calls may nest while they are evaluated.
pub(super) const MAX_DEPTH: usize = 2_000;
/// How many calls of functions may nest.
pub(super) const MAX_FRAMES: usize = 32;
/// How many elements a list and how many bytes a text may have.
pub(super) const MAX_ELEMENTS: usize = 100_000;
/// How many lines the algorithm and the reader may log while reading.
const MAX_LOGS: usize = 1_000;

/// How statements are read: executed, or walked once on every branch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Run,
    Survey,
}

/// An exception that propagates to a handler or out of the algorithm.
#[derive(Debug)]
pub(super) struct Raise {
    pub(super) refused: Refused,
    /// File, line and function, outermost first.
    pub(super) trace: Vec<(usize, u32, String)>,
    /// Whether it is a bound of the reader rather than an exception of Python: no `except` catches it.
    pub(super) fatal: bool,
}

/// The value of an expression, or the exception that it raises.
pub(super) type Evaluated<'a> = Result<Value<'a>, Raise>;

/// One function that is being evaluated.
#[derive(Default)]
pub(super) struct Frame<'a> {
    pub(super) locals: BTreeMap<Rc<str>, Value<'a>>,
    pub(super) file: usize,
    pub(super) line: u32,
    pub(super) name: &'a str,
    /// The class whose method it is, and its `self`.
    pub(super) method: Option<(usize, usize)>,
    /// Whether its names are those of the file.
    pub(super) is_module: bool,
}

impl<'a> Frame<'a> {
    /// A function's frame before its first statement, which sets the line.
    pub(super) fn new(file: usize, name: &'a str) -> Self {
        Self {
            file,
            name,
            ..Self::default()
        }
    }
}

/// A class of the project.
pub(super) struct Class<'a> {
    pub(super) file: usize,
    pub(super) def: &'a StmtClassDef,
    pub(super) bases: Vec<usize>,
    pub(super) attributes: BTreeMap<Rc<str>, Value<'a>>,
}

/// An instance.
#[derive(Default)]
pub(super) struct Object<'a> {
    pub(super) class: usize,
    pub(super) attributes: BTreeMap<Rc<str>, Value<'a>>,
}

/// The names of a file, once it is imported.
#[derive(Default)]
pub(super) struct Module<'a> {
    pub(super) imported: bool,
    pub(super) names: BTreeMap<Rc<str>, Value<'a>>,
}

/// What a deferred function consists of.
pub(super) enum Body<'a> {
    Expression(&'a Expr),
    Statements(&'a [Stmt]),
}

#[derive(Default)]
pub(super) struct Reader<'a> {
    pub(super) files: &'a [PythonFile<'a>],
    pub(super) overrides: BTreeMap<String, String>,
    pub(super) mode: Mode,
    pub(super) steps: usize,
    pub(super) depth: usize,
    pub(super) frames: Vec<Frame<'a>>,
    pub(super) modules: Vec<Module<'a>>,
    pub(super) classes: Vec<Class<'a>>,
    pub(super) objects: Vec<Object<'a>>,
    pub(super) lists: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    /// Functions that run later, with the names that they can see.
    pub(super) deferred: Vec<(Frame<'a>, Body<'a>)>,
    /// How many objects `initialize` left; in the run itself none is settled.
    pub(super) settled_objects: usize,
    /// Calls of the algorithm's interface that were run: the survey need not report them again.
    pub(super) ran: BTreeSet<(usize, TextSize)>,
    pub(super) noted: BTreeSet<String>,
    /// The frames at which a date was last set, for the error if the end is before the start.
    pub(super) dates_set: Option<Vec<(usize, u32, String)>>,
    pub(super) default_resolution_daily: bool,
    /// Whether there may be securities that the reader does not know of.
    pub(super) missed_subscription: bool,
    /// What was read so far.
    pub(super) plan: Plan,
    pub(super) end_is_set: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a [PythonFile<'a>], overrides: &BTreeMap<String, String>) -> Self {
        Self {
            files,
            overrides: overrides.clone(),
            modules: files.iter().map(|_| Module::default()).collect(),
            ..Self::default()
        }
    }

    /// LEAN refuses an end before the start once both are known.
    pub(super) fn check_dates(&mut self) -> Result<(), Raise> {
        let Plan { start, end, .. } = self.plan;
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

    pub(super) fn into_plan(mut self) -> Plan {
        if !self.end_is_set {
            self.log(format!(
                "no end date is set: the model ends on {DEFAULT_END} (LEAN: yesterday)"
            ));
        }
        self.plan
    }

    /// Counts steps. Exceeding the budget is an error that no source can catch.
    pub(super) fn step(&mut self, count: usize) -> Result<(), Raise> {
        self.steps = self.steps.saturating_add(count);
        if self.steps <= MAX_STEPS {
            return Ok(());
        }
        Err(self.fatal(format!("the model reads at most {MAX_STEPS} steps")))
    }

    /// An exception at the current statement.
    pub(super) fn raise(&self, refused: Refused) -> Raise {
        Raise {
            refused,
            trace: self.trace(),
            fatal: false,
        }
    }

    pub(super) fn fatal(&self, message: String) -> Raise {
        Raise {
            fatal: true,
            ..self.raise(Refused::new("TooComplex", message))
        }
    }

    /// Raises in a run; in a survey, where values are missing anyway, the result is unknown.
    pub(super) fn refuse(&self, kind: &'static str, message: impl Into<String>) -> Evaluated<'a> {
        match self.mode {
            Mode::Run => Err(self.raise(Refused::new(kind, message))),
            Mode::Survey => Ok(Value::Unknown),
        }
    }

    pub(super) fn refused(&self, result: Result<Value<'a>, Refused>) -> Evaluated<'a> {
        result.or_else(|refused| self.refuse(refused.kind, refused.message))
    }

    pub(super) fn trace(&self) -> Vec<(usize, u32, String)> {
        self.frames
            .iter()
            .map(|frame| (frame.file, frame.line, frame.name.to_owned()))
            .collect()
    }

    /// The exception as the cloud would show it: message, and a Python stack trace.
    pub(super) fn runtime_error(&self, raise: &Raise) -> RuntimeError {
        use std::fmt::Write as _;
        let Refused { kind, message } = &raise.refused;
        let mut stacktrace = "Traceback (most recent call last):\n".to_owned();
        let mut location = String::new();
        for (file, line, function) in &raise.trace {
            let Some(source) = self.files.get(*file) else {
                continue;
            };
            let name = source.name;
            let _ = writeln!(stacktrace, "  File \"{name}\", line {line}, in {function}");
            let _ = writeln!(stacktrace, "    {}", source.line_text(*line));
            location = format!(" ({name}, line {line})");
        }
        let _ = write!(stacktrace, "{kind}: {message}");
        RuntimeError {
            message: format!("Error while initializing the algorithm: {kind}: {message}{location}"),
            stacktrace,
            in_initialize: true,
        }
    }

    /// Logs, once, that a part of the source does not enter the plan.
    pub(super) fn note(&mut self, what: &str) {
        if self.noted.insert(what.to_owned()) {
            self.log(format!("not read by the model: {what}"));
        }
    }

    /// [`Self::note`] with the place of a node, such as `main.py:12`.
    pub(super) fn note_at(&mut self, what: &str, node: &impl Ranged) {
        let file = self.files.get(self.file());
        let location = file.map(|file| format!("{}:{}", file.name, file.line(node.start())));
        self.note(&format!("{what} at {}", location.unwrap_or_default()));
    }

    /// [`Self::note_at`] for a call, whose result is unknown then.
    pub(super) fn unread(&mut self, what: &str, call: &impl Ranged) -> Evaluated<'a> {
        self.note_at(what, call);
        Ok(Value::Unknown)
    }

    pub(super) fn log(&mut self, line: String) {
        if self.plan.logs.len() < MAX_LOGS {
            self.plan.logs.push(line.chars().take(2_000).collect());
        }
    }

    pub(super) fn file(&self) -> usize {
        self.frames.last().map_or(0, |frame| frame.file)
    }
}
