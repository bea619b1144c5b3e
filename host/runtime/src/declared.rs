//! What a component says that it imports and exports, read before it is compiled: compiling takes a second per megabyte, and
//! a component that the host cannot run anyway is refused at once.
//!
//! Only the outermost component's sections of types, imports, exports and aliases are read. Whatever cannot be read, is
//! unusually large or deep, or is not certain from these sections alone, is left to the compiler, which has limits of its own,
//! and to the check of its result (`Parsed::link`).
//!
//! Invariant: a component that the compiler and `Parsed::link` would accept is not refused here. Reading takes time in
//! proportion to the component's size, and a few megabytes of memory.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentImport, ComponentOuterAliasKind, ComponentType,
    ComponentTypeRef, InstanceTypeDeclaration, Parser, Payload, TypeBounds,
};

use crate::component::check_world;
use crate::imports::Import;
use crate::load_error::ComponentError;

/// Maximum bytes of the sections of types that are read. The types of the whole contract have a tenth of that.
const MAX_TYPE_BYTES: usize = 256 << 10;
/// Maximum types within types, of which each takes stack to read, and components within components.
const MAX_NESTED: usize = 64;
/// Maximum imports, their functions, exports, and aliases of types together. A long name counts as several.
const MAX_ITEMS: usize = 10_000;
/// Bytes of a name for which it counts once more: each import has the names of its functions, and may share them with others.
const NAME_BYTES: usize = 256;
/// What a type within an instance's or a component's type begins with: a declaration of a type, and its kind.
const NESTED: [[u8; 2]; 2] = [[0x01, 0x41], [0x01, 0x42]];

/// The imports and exports that a component declares.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) imports: Vec<Import>,
    pub(crate) exports: Vec<String>,
}

impl Declared {
    /// Reads them; `None` leaves the component to the compiler.
    pub(crate) fn read(component: &[u8]) -> Option<Self> {
        let mut reader = Reader::default();
        let mut depth = 0usize;
        for payload in Parser::new(0).parse_all(component) {
            match payload.ok()? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                    depth += 1;
                    if depth > MAX_NESTED {
                        return None;
                    }
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                section if depth == 0 => reader.add(section, component)?,
                _ => {}
            }
        }
        Some(Self {
            imports: reader.imports,
            exports: reader.exports,
        })
    }

    /// Checks that the host provides what it imports, and that it exports what an agent must export.
    pub(crate) fn check(&self) -> Result<(), ComponentError> {
        check_world(&self.imports, &self.exports)
    }
}

/// What the sections up to now say.
#[derive(Default)]
struct Reader {
    /// The types by their index; `None` for those that are no instance's, or are defined elsewhere.
    types: Vec<Option<Interface>>,
    /// Bytes of the sections of types.
    type_bytes: usize,
    /// Imports, their functions, exports, and aliases of types.
    items: usize,
    imports: Vec<Import>,
    exports: Vec<String>,
}

/// What an instance's type has.
struct Interface {
    functions: Vec<String>,
    /// Whether there is something to call: a function, a resource, or a thing of another kind.
    callable: bool,
}

impl Reader {
    /// Reads a section of the outermost component.
    fn add(&mut self, section: Payload<'_>, component: &[u8]) -> Option<()> {
        match section {
            Payload::ComponentTypeSection(types) => {
                self.measure(component.get(types.range())?)?;
                for ty in types {
                    self.types.push(interface(&ty.ok()?));
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    self.import(&import.ok()?)?;
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    if is_type(&alias.ok()?) {
                        self.count(1)?;
                        self.types.push(None);
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export.ok()?;
                    // The exported type has an index of its own.
                    if export.kind == ComponentExternalKind::Type {
                        self.types.push(None);
                    }
                    self.count(items(export.name.name))?;
                    self.exports.push(export.name.name.to_owned());
                }
            }
            _ => {}
        }
        Some(())
    }

    fn import(&mut self, import: &ComponentImport<'_>) -> Option<()> {
        let name = import.name.name;
        let (functions, callable) = match import.ty {
            ComponentTypeRef::Instance(ty) => {
                let known = usize::try_from(ty).ok().and_then(|ty| self.types.get(ty));
                match known.and_then(Option::as_ref) {
                    Some(interface) => (interface.functions.clone(), interface.callable),
                    None => (Vec::new(), false),
                }
            }
            ComponentTypeRef::Type(bounds) => {
                self.types.push(None);
                (Vec::new(), bounds == TypeBounds::SubResource)
            }
            _ => (vec![name.to_owned()], true),
        };
        let inner: usize = functions.iter().map(|name| items(name)).sum();
        self.count(items(name) + inner)?;
        self.imports
            .push(Import::declared(name, functions, callable));
        Some(())
    }

    fn count(&mut self, items: usize) -> Option<()> {
        self.items += items;
        (self.items <= MAX_ITEMS).then_some(())
    }

    /// Checks a section of types before it is read.
    fn measure(&mut self, section: &[u8]) -> Option<()> {
        self.type_bytes = self.type_bytes.saturating_add(section.len());
        let is_nested = |pair: &&[u8]| NESTED.iter().any(|start| *pair == start.as_slice());
        let nested = section.windows(2).filter(is_nested).count();
        (self.type_bytes <= MAX_TYPE_BYTES && nested <= MAX_NESTED).then_some(())
    }
}

/// What a name counts for.
fn items(name: &str) -> usize {
    1 + name.len() / NAME_BYTES
}

/// What a type has, if it is an instance's.
fn interface(ty: &ComponentType<'_>) -> Option<Interface> {
    let ComponentType::Instance(declarations) = ty else {
        return None;
    };
    let mut found = Interface {
        functions: Vec::new(),
        callable: false,
    };
    for declaration in declarations.iter() {
        let InstanceTypeDeclaration::Export { name, ty } = declaration else {
            continue;
        };
        match ty {
            // It may be another name of a resource. That is left to the compiler.
            ComponentTypeRef::Type(TypeBounds::Eq(_)) => {}
            ComponentTypeRef::Func(_) => {
                found.functions.push(name.name.to_owned());
                found.callable = true;
            }
            _ => found.callable = true,
        }
    }
    Some(found)
}

/// Whether an alias has an index among the types.
fn is_type(alias: &ComponentAlias<'_>) -> bool {
    matches!(
        alias,
        ComponentAlias::InstanceExport {
            kind: ComponentExternalKind::Type,
            ..
        } | ComponentAlias::Outer {
            kind: ComponentOuterAliasKind::Type,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imports::Kind;

    const GUEST: &str =
        r#"(instance $guest) (export "qchost:agent/guest@0.1.0" (instance $guest))"#;

    fn read(text: &str) -> Option<Declared> {
        Declared::read(&wat::parse_str(format!("(component {text} {GUEST})")).unwrap())
    }

    #[test]
    fn only_an_import_that_can_be_called_is_refused_and_its_functions_are_read() {
        let service = r#"(import "qchost:agent/log@0.1.0" (instance (export "write" (func))))"#;
        let types = r#"(import "acme:tools/types@1.0.0"
            (instance (type (list u8)) (export "bytes" (type (eq 0)))))"#;
        // Its alias and its export have indices of their own.
        let aliased = r#"(import "quantconnect:api/types@0.1.0"
            (instance $types (type (list u8)) (export "bytes" (type (eq 0)))))
            (alias export $types "bytes" (type $bytes))
            (export $again "again" (type $bytes))"#;
        let stranger = r#"(import "acme:tools/teleport@1.0.0"
            (instance (export "go" (func)) (export "back" (func))))"#;
        let resource = r#"(import "acme:tools/door@1.0.0"
            (instance (export "door" (type (sub resource)))))"#;
        // What an inner component imports, the outer one provides.
        let inner = format!("(component {stranger})");
        for good in [service, types, aliased, inner.as_str()] {
            read(good).unwrap().check().unwrap();
        }
        let bad: [(&str, &[&str]); 2] = [(stranger, &["go", "back"]), (resource, &[])];
        for (import, functions) in bad {
            for before in ["", types, aliased, inner.as_str()] {
                let declared = read(&format!("{before} {import}")).unwrap();
                let found = declared.imports.last().unwrap();
                assert_eq!(found.kind, Kind::Unknown);
                assert_eq!(found.functions, functions);
                let error = declared.check().unwrap_err();
                assert!(
                    matches!(error, ComponentError::UnknownImport { .. }),
                    "{error}"
                );
            }
        }
        let nothing = Declared::read(&wat::parse_str("(component)").unwrap()).unwrap();
        let error = nothing.check().unwrap_err();
        assert!(matches!(error, ComponentError::NotAnAgent(_)), "{error}");
    }

    #[test]
    fn what_is_torn_deep_or_large_is_left_to_the_compiler() {
        let whole = wat::parse_str(format!(
            r#"(component (import "acme:tools/teleport@1.0.0" (instance (export "go" (func)))) {GUEST})"#
        ))
        .unwrap();
        assert!(Declared::read(&whole).is_some());
        for length in 8..whole.len() {
            // A whole number of sections is a component too.
            let declared = Declared::read(&whole[..length]);
            assert!(declared.is_none_or(|declared| declared.imports.len() <= 1));
        }

        let types = |body: &[u8]| {
            let mut size = Vec::new();
            let mut rest = body.len();
            while rest >= 0x80 {
                size.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
                rest >>= 7;
            }
            size.push(u8::try_from(rest).unwrap());
            [b"\0asm\x0d\0\x01\0\x07", &size[..], body].concat()
        };
        // An instance's type within an instance's type, and so on: to read them takes the stack of a thread.
        let deep = [&[1][..], &[0x42, 1, 1].repeat(50_000)].concat();
        assert!(Declared::read(&types(&deep)).is_none());
        // Many small types.
        let count = 100_000;
        let many = [&[0xa0, 0x8d, 0x06][..], &[0x70, 0x7f, 0x7f].repeat(count)].concat();
        assert!(Declared::read(&types(&many)).is_none());

        let imports = r#"(import "i" (func)) "#;
        let few = wat::parse_str(format!("(component {})", imports.repeat(10))).unwrap();
        assert!(Declared::read(&few).is_some());
        let many = wat::parse_str(format!("(component {})", imports.repeat(MAX_ITEMS + 1)));
        assert!(Declared::read(&many.unwrap()).is_none());
    }

    #[test]
    fn what_takes_more_memory_than_the_component_has_bytes_is_left_to_the_compiler() {
        // Each import has the name of the one function.
        let shared = |name: &str| {
            let import = |at: usize| format!(r#"(import "i{at}" (instance (type 0)))"#);
            let imports: String = (0..1000).map(import).collect();
            let text =
                format!(r#"(component (type (instance (export "{name}" (func)))) {imports})"#);
            Declared::read(&wat::parse_str(text).unwrap())
        };
        assert_eq!(shared("go").unwrap().imports.len(), 1000);
        assert!(shared(&"a".repeat(50_000)).is_none());

        let aliased = |count: usize| {
            let alias = |at: usize| format!(r#"(alias export $i "t" (type $t{at}))"#);
            let aliases: String = (0..count).map(alias).collect();
            let instance = r#"(import "i" (instance $i (export "t" (type (sub resource)))))"#;
            let text = format!("(component {instance} {aliases})");
            Declared::read(&wat::parse_str(text).unwrap())
        };
        assert!(aliased(10).is_some());
        assert!(aliased(MAX_ITEMS).is_none());
    }
}
