//! The table of cases: two for each tool.

mod account;
mod ai;
mod assistance;
mod backtests;
mod compile;
mod exports;
mod files;
mod live;
mod live_commands;
mod object_store;
mod optimizations;
mod projects;

use qchost_catalog::BoxFuture;

use crate::bench::Bench;
use crate::body::Check;

/// Whether a case calls its tool with valid arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The arguments are valid.
    Valid,
    /// The arguments are invalid.
    Invalid,
}

/// The body of a case.
pub type Run = for<'b> fn(&'b Bench) -> BoxFuture<'b, Check>;

/// One case.
pub struct Case {
    pub tool: &'static str,
    pub kind: Kind,
    pub run: Run,
}

fn valid(tool: &'static str, run: Run) -> Case {
    let kind = Kind::Valid;
    Case { tool, kind, run }
}

fn invalid(tool: &'static str, run: Run) -> Case {
    let kind = Kind::Invalid;
    Case { tool, kind, run }
}

/// All cases.
pub fn all() -> Vec<Case> {
    [
        account::cases(),
        ai::cases(),
        assistance::cases(),
        backtests::cases(),
        compile::cases(),
        exports::cases(),
        files::cases(),
        live::cases(),
        live_commands::cases(),
        object_store::cases(),
        optimizations::cases(),
        projects::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
