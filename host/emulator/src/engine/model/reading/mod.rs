//! Reads a [`Plan`] from the source of an algorithm.
//!
//! `initialize` is *run*: its statements are evaluated in order, with the parameters of the
//! backtest, following loops over known values, decided conditions, the project's own functions
//! and classes; what Python would refuse there (`int(None)`) fails the algorithm with a stack
//! trace. The other methods are only *surveyed*: every branch is walked once, with the attributes
//! that `initialize` left, to find the calls that trade. A plan depends on nothing else.
//!
//! Invariant: reading is bounded in steps, depth and memory for every source, and what could
//! not be read is in the logs of the plan.

mod algorithm;
mod arguments;
mod builtins;
mod calls;
mod collections;
mod expressions;
mod methods;
mod modules;
mod reader;
mod statements;
mod survey;
mod trading;
mod value;

use std::collections::BTreeMap;

use ruff_python_ast::StmtClassDef;

use self::arguments::CallArguments;
use self::reader::{Object, Raise, Reader};
use self::survey::SET_UP;
use super::plan::Plan;
use super::source::PythonFile;
use crate::engine::RuntimeError;

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
}
