//! Finds the calls of `get_parameter` that a compile answer lists.
//!
//! Invariant: this looks at the text of the calls only; the reader decides which of them a
//! backtest reaches, and with which value.

use ruff_python_ast::visitor::source_order::{self, SourceOrderVisitor};
use ruff_python_ast::{Expr, ExprCall};
use ruff_text_size::Ranged as _;

use super::source::PythonFile;
use crate::engine::DetectedParameter;

/// All calls with a literal name, file by file, in source order.
pub(super) fn detected(files: &[PythonFile<'_>]) -> Vec<DetectedParameter> {
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
        let named = |wanted: &[&str]| {
            let keyword = call.arguments.keywords.iter().find(|keyword| {
                let name = keyword.arg.as_ref();
                name.is_some_and(|name| wanted.contains(&name.as_str()))
            });
            keyword.map(|keyword| &keyword.value)
        };
        let name = call.arguments.args.first().or_else(|| named(&["name"]));
        let Some(Expr::StringLiteral(name)) = name else {
            return;
        };
        let default = call
            .arguments
            .args
            .get(1)
            .or_else(|| named(&["default_value", "defaultValue"]));
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
