//! Files as modules, and the classes in them.
//!
//! Invariant: a file is evaluated once, when it is first imported, and one that imports itself in a
//! circle sees what is there so far, as in Python.

use std::rc::Rc;

use ruff_python_ast::{Alias, Stmt, StmtClassDef, StmtImport, StmtImportFrom};

use super::reader::{Class, Frame, Raise, Reader};
use super::value::{BoundMethod, Value};
use crate::engine::model::constants::MAX_INHERITANCE;

impl<'a> Reader<'a> {
    /// Evaluates a file's top level, unless that was done.
    pub(super) fn import(&mut self, file: usize) -> Result<(), Raise> {
        let Some(module) = self.modules.get_mut(file) else {
            return Ok(());
        };
        if module.imported {
            return Ok(());
        }
        module.imported = true;
        let Some(source) = self.files.get(file) else {
            return Ok(());
        };
        self.frames.push(Frame {
            is_module: true,
            ..Frame::new(file, "<module>")
        });
        self.execute(&source.module.body)?;
        self.frames.pop();
        Ok(())
    }

    /// `import a, b as c`
    pub(super) fn import_names(&mut self, statement: &'a StmtImport) -> Result<(), Raise> {
        for alias in &statement.names {
            let name = alias.name.as_str();
            let value = match self.module_named(name) {
                Some(file) => {
                    self.import(file)?;
                    Value::Module(file)
                }
                None => Value::Path(Rc::from(name)),
            };
            let bound = bound_name(alias);
            // `import a.b` binds `a`, through which the reader would have to look for `b`.
            if !bound.contains('.') {
                self.bind(bound, value);
            }
        }
        Ok(())
    }

    /// `from a import b as c`, `from a import *`
    pub(super) fn import_from(&mut self, statement: &'a StmtImportFrom) -> Result<(), Raise> {
        let module = statement
            .module
            .as_ref()
            .map_or("", |module| module.as_str());
        let file = self.module_named(module);
        if let Some(file) = file {
            self.import(file)?;
        }
        for alias in &statement.names {
            let name = alias.name.as_str();
            let names = file.and_then(|file| self.modules.get(file));
            let names = names.map(|module| &module.names);
            if name == "*" {
                let names = names.cloned().unwrap_or_default();
                self.step(names.len())?;
                for (name, value) in names {
                    self.bind(&name, value);
                }
                continue;
            }
            let value = match names {
                Some(names) => names.get(name).cloned().unwrap_or(Value::Unknown),
                // Only the last part counts: `from datetime import timedelta as days`.
                None => Value::Path(Rc::from(name)),
            };
            self.bind(bound_name(alias), value);
        }
        Ok(())
    }

    /// The file of the project that a module name means.
    fn module_named(&self, name: &str) -> Option<usize> {
        self.files
            .iter()
            .position(|file| file.module_name() == name)
    }

    /// `class X(Base): …`: its attributes are evaluated now, its methods when they are called.
    pub(super) fn define_class(&mut self, def: &'a StmtClassDef) -> Result<(), Raise> {
        let mut bases = Vec::new();
        for base in def.bases() {
            if let Value::Class(class) = self.evaluate(base)? {
                bases.push(class);
            }
        }
        let file = self.file();
        self.frames.push(Frame::new(file, def.name.as_str()));
        for statement in &def.body {
            if !matches!(statement, Stmt::FunctionDef(_)) {
                self.execute(std::slice::from_ref(statement))?;
            }
        }
        let attributes = self.frames.pop().unwrap_or_default().locals;
        let class = Value::Class(self.classes.len());
        self.classes.push(Class {
            file,
            def,
            bases,
            attributes,
        });
        self.bind(def.name.as_str(), class);
        Ok(())
    }

    /// The class and those that it derives from, nearest first.
    pub(super) fn ancestry(&self, class: usize) -> Vec<usize> {
        let mut found = vec![class];
        let mut next = 0;
        while let Some(&class) = found.get(next)
            && found.len() < MAX_INHERITANCE
        {
            next += 1;
            if let Some(class) = self.classes.get(class) {
                found.extend(class.bases.iter().copied());
            }
        }
        found
    }

    /// A method by its exact name.
    pub(super) fn find_method(&self, class: usize, name: &str) -> Option<BoundMethod<'a>> {
        self.ancestry(class).into_iter().find_map(|index| {
            let class = self.classes.get(index)?;
            class
                .def
                .body
                .iter()
                .filter_map(Stmt::as_function_def_stmt)
                .find(|def| def.name.as_str() == name)
                .map(|def| BoundMethod {
                    class: index,
                    file: class.file,
                    def,
                })
        })
    }

    /// A class attribute by its exact name.
    pub(super) fn class_attribute(&self, class: usize, name: &str) -> Option<Value<'a>> {
        self.ancestry(class).into_iter().find_map(|class| {
            let class = self.classes.get(class)?;
            class.attributes.get(name).cloned()
        })
    }
}

/// The name that an import gives a value: that after `as`, where there is one.
fn bound_name(alias: &Alias) -> &str {
    alias.asname.as_ref().unwrap_or(&alias.name).as_str()
}
