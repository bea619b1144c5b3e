//! Walks the methods that LEAN would call while the algorithm runs.
//!
//! Invariant: a survey never fails an algorithm. Where it comes to the end of its budget it says
//! so and leaves out the rest.

use std::collections::BTreeSet;

use ruff_python_ast::visitor::source_order::{self, SourceOrderVisitor};
use ruff_python_ast::{Expr, Stmt};

use super::arguments::CallArguments;
use super::reader::{Body, Mode, Reader};

/// The methods that LEAN calls before anything trades; all others are surveyed.
pub(super) const SET_UP: [&str; 3] = ["__init__", "initialize", "Initialize"];

impl<'a> Reader<'a> {
    /// Surveys the methods of the algorithm's class that no other method calls (those are followed
    /// from where they are called, with their arguments), and the functions that were handed over
    /// to run later.
    pub(super) fn survey(&mut self, class: usize) {
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
