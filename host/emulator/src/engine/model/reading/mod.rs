//! Reads a [`Plan`] from the source of an algorithm.
//!
//! `initialize` is *run*: its statements are evaluated in order, with the parameters of the
//! backtest, following loops over known values, decided conditions, the project's own functions
//! and classes; what Python would refuse there (`int(None)`) fails the algorithm with a stack
//! trace. The other methods are only *surveyed*: every branch is walked once, with the attributes
//! that `initialize` left, to find the calls that trade. A plan depends on nothing else.
//!
//! Invariant: reading is bounded in steps, depth and memory for every source, and what could
//! not be read is in the logs of the plan. A survey never fails an algorithm: where it comes to the
//! end of its budget it says so and leaves out the rest.

mod algorithm;
mod builtins;
mod calls;
mod collections;
mod expressions;
mod modules;
mod reader;
mod statements;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use ruff_python_ast::visitor::source_order::{self, SourceOrderVisitor};
use ruff_python_ast::{Expr, Stmt, StmtClassDef};

use self::calls::CallArguments;
use self::reader::{Body, Mode, Object, Raise, Reader};
use super::plan::Plan;
use super::source::PythonFile;
use crate::engine::RuntimeError;

/// The methods that LEAN calls before anything trades; all others are surveyed.
const SET_UP: [&str; 3] = ["__init__", "initialize", "Initialize"];

/// Reads the plan of the algorithm class `class` of file number `file`.
///
/// # Errors
/// What the algorithm itself does wrong before or in `initialize`.
pub(super) fn read<'a>(
    files: &'a [PythonFile<'a>],
    (file, class): (usize, &'a StmtClassDef),
    overrides: &BTreeMap<String, String>,
) -> Result<Plan, RuntimeError> {
    let mut reader = Reader::new(files, overrides);
    reader
        .read_all(file, class)
        .map_err(|raise| reader.runtime_error(&raise))?;
    Ok(reader.into_plan())
}

impl<'a> Reader<'a> {
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
        for name in SET_UP {
            if let Some(method) = self.find_method(class, name) {
                self.call_method(0, method, CallArguments::default())?;
            }
        }
        self.check_dates()?;
        self.survey(class);
        Ok(())
    }

    /// Surveys the methods of the algorithm's class that no other method calls (those are followed
    /// from where they are called, with their arguments), and the functions that were handed over
    /// to run later.
    fn survey(&mut self, class: usize) {
        self.mode = Mode::Survey;
        self.steps = 0;
        self.settled_objects = self.objects.len();
        let mut called = Called::default();
        let mut methods: Vec<&'a str> = Vec::new();
        for class in self.ancestry(class) {
            let Some(class) = self.classes.get(class) else {
                continue;
            };
            for statement in &class.def.body {
                called.visit_stmt(statement);
                if let Stmt::FunctionDef(function) = statement {
                    methods.push(function.name.as_str());
                }
            }
        }
        methods.retain(|name| !SET_UP.contains(name) && !called.names.contains(name));
        let mut surveyed = BTreeSet::new();
        for name in methods {
            let Some(method) = self
                .find_method(class, name)
                .filter(|_| surveyed.insert(name))
            else {
                continue;
            };
            let result = self.call_method(0, method, CallArguments::default());
            if result.is_err() {
                self.give_up(name);
            }
        }
        for (frame, body) in std::mem::take(&mut self.deferred) {
            self.frames.push(frame);
            let result = match body {
                Body::Expression(expression) => self.evaluate(expression).map(|_| ()),
                Body::Statements(body) => self.execute(body).map(|_| ()),
            };
            if result.is_err() {
                self.give_up("a function that runs later");
            }
            self.frames.clear();
        }
    }

    fn give_up(&mut self, name: &str) {
        self.frames.clear();
        self.depth = 0;
        self.note(&format!("{name}, or a part of it, which is too complex"));
    }
}

/// The names of the methods that are called on `self`.
#[derive(Default)]
struct Called<'a> {
    names: BTreeSet<&'a str>,
}

impl<'a> SourceOrderVisitor<'a> for Called<'a> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Call(call) = expression
            && let Expr::Attribute(attribute) = call.func.as_ref()
            && let Expr::Name(name) = attribute.value.as_ref()
            && name.id.as_str() == "self"
        {
            self.names.insert(attribute.attr.as_str());
        }
        source_order::walk_expr(self, expression);
    }
}
