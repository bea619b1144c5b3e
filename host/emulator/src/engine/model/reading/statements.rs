//! Executes statements: in order and as decided in a run, every branch once in a survey.
//!
//! Invariant: a survey changes nothing that `initialize` left, so the order in which methods are
//! surveyed does not matter.

use std::rc::Rc;

use ruff_python_ast::visitor::source_order::{self, SourceOrderVisitor};
use ruff_python_ast::{self as ast, AnyNodeRef, ExceptHandler, Expr, Stmt};
use ruff_text_size::Ranged;

use super::reader::{Body, MAX_ELEMENTS, Mode, Raise, Reader};
use super::value::{Refused, Value};
use crate::text::snake;

/// How a block was left.
#[derive(Debug)]
pub(super) enum Flow<'a> {
    Next,
    Break,
    Continue,
    Return(Value<'a>),
}

impl<'a> Reader<'a> {
    /// Executes a block.
    pub(super) fn execute(&mut self, body: &'a [Stmt]) -> Result<Flow<'a>, Raise> {
        for statement in body {
            let line = self
                .files
                .get(self.file())
                .map_or(0, |file| file.line(statement.start()));
            if let Some(frame) = self.frames.last_mut() {
                frame.line = line;
            }
            self.step(1)?;
            let flow = self.statement(statement)?;
            if !matches!(flow, Flow::Next) && self.mode == Mode::Run {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'a Stmt) -> Result<Flow<'a>, Raise> {
        match statement {
            Stmt::Expr(expression) => {
                self.evaluate(&expression.value)?;
            }
            Stmt::Assign(assign) => {
                let value = self.evaluate(&assign.value)?;
                for target in &assign.targets {
                    self.assign(target, value.clone())?;
                }
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    let value = self.evaluate(value)?;
                    self.assign(&assign.target, value)?;
                }
            }
            Stmt::AugAssign(assign) => {
                let old = self.evaluate(&assign.target)?;
                let by = self.evaluate(&assign.value)?;
                let value = self.operate(assign.op, &old, &by)?;
                self.assign(&assign.target, value)?;
            }
            Stmt::Return(value) => {
                let value = match &value.value {
                    Some(value) => self.evaluate(value)?,
                    None => Value::None,
                };
                return Ok(Flow::Return(value));
            }
            Stmt::If(choice) => return self.branch(choice),
            Stmt::For(each) => return self.for_each(each),
            Stmt::While(repeat) => return self.repeat(repeat),
            Stmt::Try(attempt) => return self.attempt(attempt),
            Stmt::With(with) => {
                for item in &with.items {
                    self.evaluate(&item.context_expr)?;
                    if let Some(target) = &item.optional_vars {
                        self.assign(target, Value::Unknown)?;
                    }
                }
                return self.execute(&with.body);
            }
            Stmt::Match(choice) => {
                self.evaluate(&choice.subject)?;
                if self.mode == Mode::Run {
                    self.skip("match", choice);
                } else {
                    for case in &choice.cases {
                        self.execute(&case.body)?;
                    }
                }
            }
            Stmt::Raise(raise) => return self.raised(raise),
            Stmt::Assert(assert) => {
                let test = self.evaluate(&assert.test)?;
                if self.truth(&test) == Some(false) {
                    self.refuse("AssertionError", "")?;
                }
            }
            Stmt::FunctionDef(function) => {
                let value = Value::Function(self.file(), function);
                self.bind(function.name.as_str(), value);
                // A function nested in a method is most often a callback.
                if self.frames.last().is_some_and(|frame| !frame.is_module) {
                    self.defer(Body::Statements(&function.body))?;
                }
            }
            Stmt::ClassDef(class) => self.define_class(class)?,
            Stmt::Import(import) => self.import_names(import)?,
            Stmt::ImportFrom(import) => self.import_from(import)?,
            Stmt::Break(_) => return Ok(Flow::Break),
            Stmt::Continue(_) => return Ok(Flow::Continue),
            _ => {}
        }
        Ok(Flow::Next)
    }

    /// Skips a statement that cannot be evaluated. The names that it assigns become unknown, and so
    /// does the set of securities.
    fn skip<'n, N>(&mut self, what: &str, statement: &'n N)
    where
        N: Ranged,
        AnyNodeRef<'n>: From<&'n N>,
    {
        self.note_at(what, statement);
        self.missed_subscription = true;
        let mut stored = Stored::default();
        AnyNodeRef::from(statement).visit_source_order(&mut stored);
        for name in stored.names {
            self.bind(name, Value::Unknown);
        }
        let this = self.frames.last().and_then(|frame| frame.method);
        if let Some(object) = this.and_then(|(_, object)| self.objects.get_mut(object)) {
            for name in stored.attributes {
                object.attributes.insert(Rc::from(name), Value::Unknown);
            }
        }
    }

    fn branch(&mut self, choice: &'a ast::StmtIf) -> Result<Flow<'a>, Raise> {
        let clauses = std::iter::once((Some(choice.test.as_ref()), &choice.body)).chain(
            choice
                .elif_else_clauses
                .iter()
                .map(|clause| (clause.test.as_ref(), &clause.body)),
        );
        for (test, body) in clauses {
            let truth = match test {
                Some(test) => {
                    let test = self.evaluate(test)?;
                    self.truth(&test)
                }
                None => Some(true),
            };
            match (self.mode, truth) {
                (Mode::Run, Some(true)) => return self.execute(body),
                (Mode::Run, Some(false)) => {}
                (Mode::Run, None) => {
                    self.skip("the condition, none of whose branches is followed,", choice);
                    return Ok(Flow::Next);
                }
                (Mode::Survey, _) => {
                    self.execute(body)?;
                }
            }
        }
        Ok(Flow::Next)
    }

    fn for_each(&mut self, each: &'a ast::StmtFor) -> Result<Flow<'a>, Raise> {
        let iterable = self.evaluate(&each.iter)?;
        let elements = self.elements(&iterable)?;
        if elements.is_none() && self.mode == Mode::Run {
            self.skip("the loop over something unknown", each);
            return Ok(Flow::Next);
        }
        for element in elements.unwrap_or_else(|| vec![Value::Unknown]) {
            self.step(1)?;
            self.assign(&each.target, element)?;
            match self.execute(&each.body)? {
                Flow::Break => return Ok(Flow::Next),
                Flow::Return(value) => return Ok(Flow::Return(value)),
                Flow::Next | Flow::Continue => {}
            }
        }
        self.execute(&each.orelse)
    }

    fn repeat(&mut self, repeat: &'a ast::StmtWhile) -> Result<Flow<'a>, Raise> {
        if self.mode == Mode::Survey {
            self.evaluate(&repeat.test)?;
            return self.execute(&repeat.body);
        }
        loop {
            let test = self.evaluate(&repeat.test)?;
            match self.truth(&test) {
                Some(true) => {}
                Some(false) => return self.execute(&repeat.orelse),
                None => {
                    self.skip("the loop with an unknown condition", repeat);
                    return Ok(Flow::Next);
                }
            }
            match self.execute(&repeat.body)? {
                Flow::Break => return Ok(Flow::Next),
                Flow::Return(value) => return Ok(Flow::Return(value)),
                Flow::Next | Flow::Continue => {}
            }
        }
    }

    /// `try`: the first handler that names the exception, or names a base of all, takes it.
    fn attempt(&mut self, attempt: &'a ast::StmtTry) -> Result<Flow<'a>, Raise> {
        if self.mode == Mode::Survey {
            self.execute(&attempt.body)?;
            for ExceptHandler::ExceptHandler(handler) in &attempt.handlers {
                self.execute(&handler.body)?;
            }
            self.execute(&attempt.orelse)?;
            return self.execute(&attempt.finalbody);
        }
        let (frames, depth) = (self.frames.len(), self.depth);
        let mut result = self.execute(&attempt.body);
        if let Err(raise) = &result
            && !raise.fatal
        {
            let kind = raise.refused.kind;
            let handler = attempt.handlers.iter().find_map(|handler| {
                let ExceptHandler::ExceptHandler(handler) = handler;
                handles(handler.type_.as_deref(), kind).then_some(handler)
            });
            if let Some(handler) = handler {
                self.frames.truncate(frames);
                self.depth = depth;
                if let Some(name) = &handler.name {
                    self.bind(name.as_str(), Value::Unknown);
                }
                result = self.execute(&handler.body);
            }
        } else if matches!(result, Ok(Flow::Next)) {
            result = self.execute(&attempt.orelse);
        }
        if result.is_ok()
            && let flow @ (Flow::Break | Flow::Continue | Flow::Return(_)) =
                self.execute(&attempt.finalbody)?
        {
            return Ok(flow);
        }
        result
    }

    fn raised(&mut self, raise: &'a ast::StmtRaise) -> Result<Flow<'a>, Raise> {
        let (mut message, mut kind) = (String::new(), "Exception");
        if let Some(exception) = &raise.exc {
            let name = match exception.as_ref() {
                Expr::Call(call) => {
                    let arguments = self.arguments(&call.arguments)?;
                    if let Some(first) = arguments.positional.first() {
                        message = self.display(first).unwrap_or_default();
                    }
                    call.func.as_ref()
                }
                name => name,
            };
            if let Expr::Name(name) = name
                && let Some(&known) = EXCEPTIONS.iter().find(|known| **known == name.id.as_str())
            {
                kind = known;
            }
        }
        if self.mode == Mode::Survey {
            return Ok(Flow::Next);
        }
        Err(self.raise(Refused::new(kind, message)))
    }

    /// `target = value`
    pub(super) fn assign(&mut self, target: &'a Expr, value: Value<'a>) -> Result<(), Raise> {
        match target {
            Expr::Name(name) => self.bind(name.id.as_str(), value),
            Expr::Attribute(attribute) => {
                let of = self.evaluate(&attribute.value)?;
                let name = attribute.attr.as_str();
                match of {
                    // What `initialize` left stays; a survey's own objects it may fill.
                    Value::Object(object) if object >= self.settled_objects => {
                        if object == 0 {
                            self.set_api_attribute(name, &value);
                        }
                        if let Some(object) = self.objects.get_mut(object) {
                            object.attributes.insert(Rc::from(name), value);
                        }
                    }
                    Value::Api(path) if self.mode == Mode::Run => {
                        let path = format!("{path}.{name}");
                        if !self.set_api_attribute(&path, &value) {
                            self.note_at(&snake(&path), attribute);
                        }
                    }
                    _ => {}
                }
            }
            Expr::Subscript(subscript) => {
                let of = self.evaluate(&subscript.value)?;
                let index = self.evaluate(&subscript.slice)?;
                if self.mode == Mode::Survey {
                    return Ok(());
                }
                match of {
                    Value::Dict(dict) => self.dict_set(dict, index, value)?,
                    Value::List(list) => {
                        let element = index
                            .integer()
                            .and_then(|index| usize::try_from(index).ok())
                            .and_then(|index| self.lists.get_mut(list)?.get_mut(index));
                        if let Some(element) = element {
                            *element = value;
                        }
                    }
                    _ => {}
                }
            }
            Expr::Tuple(tuple) => self.unpack(&tuple.elts, &value)?,
            Expr::List(list) => self.unpack(&list.elts, &value)?,
            _ => {}
        }
        Ok(())
    }

    fn unpack(&mut self, targets: &'a [Expr], value: &Value<'a>) -> Result<(), Raise> {
        let elements = self.elements(value)?;
        if let Some(elements) = &elements
            && elements.len() != targets.len()
            && !targets.iter().any(Expr::is_starred_expr)
        {
            let (values, names) = (elements.len(), targets.len());
            let message = format!("cannot unpack {values} values into {names} names");
            self.refuse("ValueError", message)?;
        }
        let mut elements = elements.unwrap_or_default().into_iter();
        for target in targets {
            self.assign(target, elements.next().unwrap_or(Value::Unknown))?;
        }
        Ok(())
    }

    /// Gives a name its value in the function or file that is being evaluated.
    pub(super) fn bind(&mut self, name: &str, value: Value<'a>) {
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        let names = if frame.is_module {
            match self.modules.get_mut(frame.file) {
                Some(module) => &mut module.names,
                None => return,
            }
        } else {
            &mut frame.locals
        };
        if names.len() < MAX_ELEMENTS {
            names.insert(Rc::from(name), value);
        }
    }
}

/// The names, and the attributes of `self`, that a statement assigns to.
#[derive(Default)]
struct Stored<'a> {
    names: Vec<&'a str>,
    attributes: Vec<&'a str>,
}

impl<'a> SourceOrderVisitor<'a> for Stored<'a> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Name(name) if name.ctx.is_store() => self.names.push(name.id.as_str()),
            Expr::Attribute(attribute) if attribute.ctx.is_store() => {
                self.attributes.push(attribute.attr.as_str());
            }
            _ => {}
        }
        source_order::walk_expr(self, expression);
    }
}

/// The exceptions that the reader tells apart.
const EXCEPTIONS: [&str; 10] = [
    "ArgumentException",
    "AssertionError",
    "AttributeError",
    "IndexError",
    "KeyError",
    "OverflowError",
    "RuntimeError",
    "TypeError",
    "ValueError",
    "ZeroDivisionError",
];

/// Whether an `except` clause names an exception.
fn handles(clause: Option<&Expr>, kind: &str) -> bool {
    match clause {
        None => true,
        Some(Expr::Name(name)) => {
            let name = name.id.as_str();
            let base = matches!(
                (name, kind),
                ("LookupError", "KeyError" | "IndexError")
                    | ("ArithmeticError", "ZeroDivisionError" | "OverflowError")
            );
            base || name == kind || name == "Exception" || name == "BaseException"
        }
        Some(Expr::Tuple(tuple)) => tuple.elts.iter().any(|name| handles(Some(name), kind)),
        Some(_) => false,
    }
}
