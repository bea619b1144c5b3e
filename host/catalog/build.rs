//! Reads `wit/` and writes it down as constant tables: the shapes of all records, variants and
//! functions of `quantconnect:api`, with the JSON names that the rule and `names.rs` give.
//!
//! Invariant: a record or variant name stands for one shape in the whole package, because the
//! serde adapter knows types by their Rust name alone. Two shapes of one name fail the build.

// An arena of wit-parser is indexed by the ids that it gave out; it has no `get` for all of them.
#![allow(clippy::indexing_slicing)]

// A build script cannot depend on the crate that it builds for, and both need these names.
#[path = "src/names.rs"]
mod names;
#[path = "src/units.rs"]
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use units::Unit;
use wit_parser::{Docs, Resolve, Type, TypeDefKind, TypeId, UnresolvedPackageGroup};

fn main() -> Result<()> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/deps/quantconnect");
    println!("cargo::rerun-if-changed={}", wit.display());
    println!("cargo::rerun-if-changed=src/names.rs");
    println!("cargo::rerun-if-changed=src/units.rs");

    let mut resolve = Resolve::default();
    let group = UnresolvedPackageGroup::parse_dir(&wit)
        .with_context(|| format!("cannot read the contract in {}", wit.display()))?;
    let package = resolve.push_group(group)?;

    let mut tables = Tables {
        resolve: &resolve,
        used: BTreeSet::new(),
        records: BTreeMap::new(),
        variants: BTreeMap::new(),
    };
    let parameters = parameter_docs(&wit)?;
    let mut functions = String::new();
    for interface in resolve.packages[package].interfaces.values() {
        let interface = &resolve.interfaces[*interface];
        let room = interface
            .name
            .as_deref()
            .context("an interface without a name")?;
        for function in interface.functions.values() {
            let mut fields = String::new();
            for parameter in &function.params {
                let docs = parameters.get(&(
                    room.to_owned(),
                    function.name.clone(),
                    parameter.name.clone(),
                ));
                let docs = Docs {
                    contents: docs.cloned(),
                };
                fields.push_str(&tables.field(None, &parameter.name, &parameter.ty, &docs)?);
            }
            let result = match function.result {
                Some(ty) => tables.success(&ty)?,
                None => "None".to_owned(),
            };
            writeln!(
                functions,
                "    Function {{ interface: {room:?}, name: {:?}, doc: {:?}, parameters: &[{fields}], result: {result} }},",
                function.name,
                doc(&function.docs),
            )?;
        }
    }
    tables.check_names()?;

    let mut out = String::new();
    for (name, body) in tables.records.iter().chain(&tables.variants) {
        writeln!(out, "static {}: {body};", constant(name))?;
    }
    for (table, kind, entries) in [
        ("RECORDS", "Record", &tables.records),
        ("VARIANTS", "Variant", &tables.variants),
    ] {
        // Sorted by Rust name, for a binary search.
        let mut sorted: Vec<_> = entries
            .keys()
            .map(|name| (pascal(name), constant(name)))
            .collect();
        sorted.sort();
        let list: String = sorted
            .iter()
            .map(|(_, constant)| format!("&{constant}, "))
            .collect();
        writeln!(out, "static {table}: &[&{kind}] = &[{list}];")?;
    }
    writeln!(out, "static FUNCTIONS: &[Function] = &[\n{functions}];")?;
    let path = Path::new(&std::env::var("OUT_DIR")?).join("shapes.rs");
    std::fs::write(&path, out).with_context(|| format!("cannot write {}", path.display()))
}

struct Tables<'a> {
    resolve: &'a Resolve,
    /// Entries of `names.rs` that were looked up: the rest name nothing.
    used: BTreeSet<(&'static str, &'static str)>,
    records: BTreeMap<String, String>,
    variants: BTreeMap<String, String>,
}

impl Tables<'_> {
    /// The type of a function's success, where it has one.
    fn success(&mut self, ty: &Type) -> Result<String> {
        if let Type::Id(id) = ty
            && let TypeDefKind::Result(result) = &self.resolve.types[*id].kind
        {
            return match result.ok {
                Some(ok) => Ok(format!("Some({})", self.ty(&ok)?)),
                None => Ok("None".to_owned()),
            };
        }
        bail!("a function that does not return a result");
    }

    /// What a list of `names.rs` says of a field or a case.
    fn listed<T>(
        &mut self,
        list: &'static [(&'static str, &'static str, T)],
        of: Option<&str>,
        name: &str,
    ) -> Option<&'static T> {
        let (of, name, found) = list
            .iter()
            .find(|(owner, member, _)| Some(*owner) == of && *member == name)?;
        self.used.insert((of, name));
        Some(found)
    }

    fn field(
        &mut self,
        record: Option<&str>,
        name: &str,
        ty: &Type,
        docs: &Docs,
    ) -> Result<String> {
        let json = self.listed(names::FIELDS, record, name);
        let json = json.map_or_else(|| camel(name), |json| (*json).to_owned());
        let former = self.listed(names::FORMER, record, name);
        let former = former.copied().unwrap_or_default();
        let positions = self.listed(names::POSITIONS, record, name);
        let positions: String = positions
            .copied()
            .unwrap_or_default()
            .iter()
            .map(|(name, unit)| format!("({name:?}, Unit::{unit:?}), "))
            .collect();
        let unit = self.unit(record, name);
        Ok(format!(
            "Field {{ name: {name:?}, json: {json:?}, former: &{former:?}, doc: {:?}, positions: &[{positions}], unit: Unit::{unit:?}, ty: {} }},",
            doc(docs),
            self.ty(ty)?
        ))
    }

    /// The unit of a field.
    fn unit(&mut self, record: Option<&str>, name: &str) -> Unit {
        let found = units::UNITS.iter().find_map(|(of, unit, fields)| {
            let field = fields.iter().find(|field| **field == name)?;
            (Some(*of) == record).then_some((*of, *field, *unit))
        });
        found.map_or(Unit::Plain, |(of, field, unit)| {
            self.used.insert((of, field));
            unit
        })
    }

    fn ty(&mut self, ty: &Type) -> Result<String> {
        Ok(match ty {
            Type::Bool => "Type::Bool".to_owned(),
            Type::U8 => "Type::U8".to_owned(),
            Type::U32 => "Type::U32".to_owned(),
            Type::S32 => "Type::S32".to_owned(),
            Type::F64 => "Type::F64".to_owned(),
            Type::String => "Type::String".to_owned(),
            Type::Id(id) => self.defined(*id)?,
            other => bail!("the contract uses {other:?}, which the adapter does not carry"),
        })
    }

    fn defined(&mut self, id: TypeId) -> Result<String> {
        let resolve = self.resolve;
        let def = &resolve.types[id];
        let name = def.name.as_deref();
        Ok(match &def.kind {
            // `json` is text on one side and a value on the other, so it must be told apart.
            TypeDefKind::Type(Type::String) if name == Some("json") => "Type::Json".to_owned(),
            TypeDefKind::Type(aliased) => self.ty(aliased)?,
            TypeDefKind::Option(inner) => format!("Type::Option(&{})", self.ty(inner)?),
            TypeDefKind::List(inner) => format!("Type::List(&{})", self.ty(inner)?),
            TypeDefKind::Tuple(tuple) => {
                ensure!(
                    tuple.types.len() == 2 && tuple.types.first() == Some(&Type::String),
                    "a tuple that is not an entry of a map"
                );
                let value = tuple.types.last().context("an empty tuple")?;
                format!("Type::Entry(&{})", self.ty(value)?)
            }
            TypeDefKind::Record(record) => {
                let name = name.context("a record without a name")?;
                let mut fields = String::new();
                for field in &record.fields {
                    fields.push_str(&self.field(
                        Some(name),
                        &field.name,
                        &field.ty,
                        &field.docs,
                    )?);
                }
                let body = format!(
                    "Record {{ name: {name:?}, rust: {:?}, fields: &[{fields}] }}",
                    pascal(name)
                );
                Self::define(&mut self.records, name, "Record", body)?;
                format!("Type::Record(&{})", constant(name))
            }
            TypeDefKind::Variant(variant) => {
                let name = name.context("a variant without a name")?;
                let mut cases = String::new();
                for case in &variant.cases {
                    let list = self.listed(names::CASES, Some(name), &case.name);
                    let regular = pascal(&case.name);
                    let regular = [regular.as_str()];
                    let json = match list {
                        Some(json) => *json,
                        None if case.ty.is_some() => &[][..],
                        None => &regular[..],
                    };
                    write!(
                        cases,
                        "Case {{ name: {:?}, rust: {:?}, json: &{json:?}, open: {} }},",
                        case.name,
                        pascal(&case.name),
                        case.ty.is_some(),
                    )?;
                }
                let body = format!(
                    "Variant {{ name: {name:?}, rust: {:?}, cases: &[{cases}] }}",
                    pascal(name)
                );
                Self::define(&mut self.variants, name, "Variant", body)?;
                format!("Type::Variant(&{})", constant(name))
            }
            other => bail!("the contract uses {other:?}, which the adapter does not carry"),
        })
    }

    fn define(
        table: &mut BTreeMap<String, String>,
        name: &str,
        kind: &str,
        body: String,
    ) -> Result<()> {
        let body = format!("{kind} = {body}");
        let former = table.insert(name.to_owned(), body.clone());
        ensure!(
            former.is_none_or(|former| former == body),
            "two types of the contract are called `{name}` and differ: the serde adapter could not tell them apart"
        );
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        let fields = names::FIELDS.iter().map(|(of, name, _)| (*of, *name));
        let cases = names::CASES.iter().map(|(of, name, _)| (*of, *name));
        let former = names::FORMER.iter().map(|(of, name, _)| (*of, *name));
        let positions = names::POSITIONS.iter().map(|(of, name, _)| (*of, *name));
        let units = units::UNITS
            .iter()
            .flat_map(|(of, _, fields)| fields.iter().map(move |name| (*of, *name)));
        let listed = fields.chain(cases).chain(former).chain(positions);
        for entry in listed.chain(units) {
            ensure!(
                self.used.contains(&entry),
                "names.rs or units.rs lists {}.{}, which wit/ does not have",
                entry.0,
                entry.1
            );
        }
        Ok(())
    }
}

/// Doc comments of parameters, by interface, function and parameter. The parser drops them, and an
/// MCP client has nothing else to go by; each stands on lines of its own above its parameter.
fn parameter_docs(wit: &Path) -> Result<BTreeMap<(String, String, String), String>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(wit)? {
        let (mut interface, mut function, mut docs) =
            (String::new(), None::<String>, String::new());
        for line in std::fs::read_to_string(entry?.path())?
            .lines()
            .map(str::trim)
        {
            if let Some(text) = line.strip_prefix("///") {
                docs.push_str(text);
                docs.push(' ');
                continue;
            }
            if let Some(name) = line
                .strip_prefix("interface ")
                .and_then(|rest| rest.strip_suffix(" {"))
            {
                name.clone_into(&mut interface);
            } else if let Some(name) = line.strip_suffix(": func(") {
                function = Some(name.to_owned());
            } else if line.starts_with(')') {
                function = None;
            } else if let (Some(function), Some((name, _))) = (&function, line.split_once(':')) {
                let name = name.trim_start_matches('%').to_owned();
                all.insert((interface.clone(), function.clone(), name), docs.clone());
            }
            docs.clear();
        }
    }
    Ok(all)
}

/// A doc comment as one paragraph.
fn doc(docs: &Docs) -> String {
    docs.contents
        .as_deref()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn constant(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn pascal(name: &str) -> String {
    name.split('-').map(capital).collect()
}

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    first + &words.map(capital).collect::<String>()
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
