//! A component: the bytes of a file, their kind, and code that matches the host.
//!
//! Invariant: an accepted component has the right shape and imports nothing that the host does not provide.
//! Each error is one line about the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use qchost_policy::Manifest;
use qchost_text::{Redactor, error_chain};
use rustix::fs::OFlags;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use crate::compiler::Compiled;
use crate::content;
use crate::contract::AgentPre;
use crate::description::{Description, Schemas};
use crate::imports::{GUEST, Import, Kind, hint};
use crate::instance::Instance;
use crate::limits::ELEMENT_BYTES;
use crate::load_error::{ComponentError, LoadError, MAX_REASON};
use crate::text;

/// Bytes of a page of WebAssembly's memory.
const PAGE_BYTES: u64 = 64 << 10;

/// A component's file, read once: the checked bytes are the compiled ones.
pub(crate) struct Source {
    /// Its hash, as manifests write it.
    pub(crate) digest: Arc<str>,
    pub(crate) bytes: Bytes,
}

/// What is known of a component before it runs.
pub(crate) struct Parsed {
    pub(crate) component: Component,
    pub(crate) imports: Vec<Import>,
    pub(crate) exports: Vec<String>,
    /// Bytes that its largest memory and its largest table start with.
    pub(crate) memory: u64,
}

/// A component that may run.
pub(crate) struct Code {
    pub(crate) digest: Arc<str>,
    /// Its size, in bytes.
    pub(crate) size: u64,
    pub(crate) imports: Vec<Import>,
    pub(crate) exports: Vec<String>,
    /// Bytes that its largest memory and its largest table start with.
    pub(crate) memory: u64,
    pub(crate) agent: Agent,
    pub(crate) description: Description,
    pub(crate) schemas: Schemas,
}

/// A component linked with everything it imports.
pub(crate) struct Agent {
    pub(crate) pre: InstancePre<Instance>,
    /// Index of its `invoke`: an invocation looks up only this export, since resolving all of them takes a
    /// tenth of a small invocation.
    pub(crate) invoke: ComponentExportIndex,
}

impl Source {
    /// Reads a file of at most `limit` bytes, and checks its pinned hash. Blocks.
    pub(crate) fn read(path: &Path, limit: u64, pin: Option<&str>) -> Result<Self, ComponentError> {
        // Opening a pipe would block until a writer opens it.
        let file = File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            let why = "it is no regular file".to_owned();
            return Err(ComponentError::NotAComponent(why));
        }
        let size = about.len();
        if size > limit {
            return Err(ComponentError::TooLarge { size, limit });
        }
        // One byte more than its size, to notice that it grows.
        let room = usize::try_from(size.saturating_add(1)).unwrap_or(usize::MAX);
        let bytes = content::read(&file, room)?;
        if bytes.len() == room {
            return Err(io::Error::other("it grew while it was read").into());
        }
        let digest = digest(&bytes);
        if let Some(expected) = pin.filter(|pin| *pin != digest) {
            return Err(ComponentError::Digest {
                expected: expected.to_owned(),
                found: digest,
            });
        }
        let source = Self {
            digest: digest.into(),
            bytes,
        };
        source.check_format()?;
        Ok(source)
    }

    /// Its size, in bytes.
    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    /// Distinguishes a component from files that are commonly mistaken for one.
    pub(crate) fn check_format(&self) -> Result<(), ComponentError> {
        let refused = |why: &str| Err(ComponentError::NotAComponent(why.to_owned()));
        match &*self.bytes {
            [] => refused("the file is empty"),
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => refused(
                "it is a core module; build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`",
            ),
            [0, b'a', b's', b'm', _, _, _, _, ..] => {
                refused("it is WebAssembly of a version that this host does not know")
            }
            bytes if b"\0asm\x0d\0\x01\0".starts_with(bytes) => {
                let why = format!("it has {} bytes", bytes.len());
                Err(ComponentError::Truncated(why))
            }
            bytes if bytes.trim_ascii_start().starts_with(b"(") => refused(
                "it is WebAssembly in text form; turn it into a binary with `wasm-tools parse`",
            ),
            bytes => {
                let start: Vec<u8> = bytes.iter().copied().take(16).collect();
                let start = text::line(&String::from_utf8_lossy(&start), 64);
                refused(&format!("it begins with `{start}`"))
            }
        }
    }
}

impl Code {
    /// Checks that a manifest grants what the component imports.
    pub(crate) fn check_granted(&self, manifest: &Manifest) -> Result<(), LoadError> {
        let mut imports = self.imports.iter();
        let needs_folder =
            manifest.folders.is_empty() && imports.any(|import| import.kind == Kind::Folders);
        // One answer has all the lines that are missing.
        match (self.check_other_grants(manifest), needs_folder) {
            (checked, false) => checked,
            (Ok(()), true) => Err(LoadError::FoldersDenied {
                plugin: manifest.plugin.clone(),
            }),
            (Err(denied), true) => Err(LoadError::DeniedWithFolders(Box::new(denied))),
        }
    }

    /// Checks the grants of everything but folders.
    fn check_other_grants(&self, manifest: &Manifest) -> Result<(), LoadError> {
        let interfaces: Vec<_> = self.imports.iter().filter_map(Import::to_grant).collect();
        let http = self
            .imports
            .iter()
            .find(|import| import.kind == Kind::Http && manifest.http.is_empty());
        match (manifest.check_imports(&interfaces, http.is_some()), http) {
            (Ok(()), None) => Ok(()),
            (Err(denied), None) => Err(denied.into()),
            // One answer has all the lines that are missing.
            (Err(denied), Some(_)) => Err(LoadError::DeniedWithHttp(denied)),
            (Ok(()), Some(import)) => Err(LoadError::HttpDenied {
                plugin: manifest.plugin.clone(),
                import: import.name.clone(),
                egress: manifest.egress_lines_for_requests(),
            }),
        }
    }

    /// Checks that the `[config]` of a manifest fits the component's schema of it.
    pub(crate) async fn check_config(
        self: &Arc<Self>,
        manifest: &Manifest,
        redactor: &Redactor,
    ) -> Result<(), LoadError> {
        let (code, redactor) = (Arc::clone(self), redactor.clone());
        let config = Value::Object(manifest.config.clone());
        // A check may take a second.
        let checking = tokio::task::spawn_blocking(move || {
            let Some(schema) = &code.schemas.config else {
                return Ok(());
            };
            schema.work(&config)?;
            schema.validate(&config, &redactor)
        });
        let checked = checking.await.unwrap_or_else(|error| {
            let why = format!("it could not be checked: {error}");
            Err((String::new(), why))
        });
        checked.map_err(|(pointer, message)| {
            let (key, line) = manifest.place_in_config(&pointer);
            LoadError::Config {
                path: manifest.path.clone(),
                line,
                key: text::line(&key, MAX_REASON),
                message,
            }
        })
    }

    /// Checks that the component can start within the memory that a manifest allows.
    pub(crate) fn check_memory(&self, manifest: &Manifest) -> Result<(), LoadError> {
        let limit = manifest.limits.memory;
        if self.memory <= limit {
            return Ok(());
        }
        Err(LoadError::MemoryLimit {
            plugin: manifest.plugin.clone(),
            needed: self.memory,
            limit,
        })
    }
}

/// The hash of a component, as manifests write it.
fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl Parsed {
    /// Maps compiled code, and reads its imports and exports.
    pub(crate) fn map(engine: &Engine, compiled: &Compiled) -> wasmtime::Result<Self> {
        let component = deserialize(engine, compiled)?;
        let ty = component.component_type();
        let imports = ty
            .imports(engine)
            .map(|(name, item)| Import::new(name, &item.ty, engine))
            .collect();
        let exports = ty
            .exports(engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        let memory = component.resources_required().map_or(0, |required| {
            let memory = required.max_initial_memory_size.unwrap_or_default();
            let table = required.max_initial_table_size.unwrap_or_default();
            let table = table.saturating_mul(ELEMENT_BYTES);
            memory.saturating_mul(PAGE_BYTES).saturating_add(table)
        });
        Ok(Self {
            component,
            imports,
            exports,
            memory,
        })
    }

    /// Checks that the host provides everything a component imports, and that it exports what an agent must
    /// export.
    pub(crate) fn link(&self, linker: &Linker<Instance>) -> Result<Agent, ComponentError> {
        check_world(&self.imports, &self.exports)?;
        let linked = linker.instantiate_pre(&self.component).and_then(|pre| {
            // The error names the missing function.
            AgentPre::new(pre.clone())?;
            let guest = self.component.get_export_index(None, GUEST);
            let invoke = self
                .component
                .get_export_index(guest.as_ref(), "invoke")
                .ok_or_else(|| wasmtime::format_err!("it has no `invoke`"))?;
            Ok(Agent { pre, invoke })
        });
        linked.map_err(|error| {
            let why = text::line(&error_chain(error.as_ref()), MAX_REASON);
            ComponentError::Incompatible(why)
        })
    }
}

/// Checks that the host provides these imports, and that an agent's export is among these exports.
pub(crate) fn check_world(imports: &[Import], exports: &[String]) -> Result<(), ComponentError> {
    if let Some(import) = imports.iter().find(|import| import.kind == Kind::Unknown) {
        return Err(ComponentError::UnknownImport {
            import: text::line(&import.name, MAX_REASON),
            hint: hint(&import.name),
        });
    }
    if !exports.iter().any(|name| name == GUEST) {
        return Err(ComponentError::NotAnAgent(exports.to_owned()));
    }
    Ok(())
}

#[allow(unsafe_code)]
fn deserialize(engine: &Engine, compiled: &Compiled) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` runs its input as native code, so the bytes must come from a compatible engine's
    // `precompile_component`, unchanged. They do, since a `Compiled` has only two sources: a pipe from a
    // process that this host started from its own executable for this purpose, and the cache, which has
    // verified their MAC in memory (not over the file, which could change after the check), under a key that
    // only this host can read and with which it signs only what came over that pipe. wasmtime itself checks
    // that version and settings match.
    unsafe { Component::deserialize(engine, compiled.bytes()) }
}
