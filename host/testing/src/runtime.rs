//! A runtime with a scripted connection, and plugins written as WebAssembly text.

use std::path::{Path, PathBuf};

use qchost_gate::Gate;
use qchost_policy::Manifest;
use qchost_runtime::{Compiler, LoadError, Options, Plugin, Runtime};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Gated, Scripted};

/// A host in a folder of its own.
pub struct Host {
    pub home: TempDir,
    pub gate: Gate,
    pub runtime: Runtime,
}

impl Host {
    pub async fn new(upstream: &Scripted) -> Self {
        Self::with(upstream, |_| {}).await
    }

    pub async fn with(upstream: &Scripted, set: impl FnOnce(&mut Options)) -> Self {
        Self::behind(Gated::new(upstream.clone()).await, set)
    }

    /// One behind a gate that is there already.
    pub fn behind(gated: Gated, set: impl FnOnce(&mut Options)) -> Self {
        let Gated { gate, folder: home } = gated;
        let mut options = options(home.path());
        set(&mut options);
        let runtime = Runtime::new(gate.clone(), options).unwrap();
        Self {
            home,
            gate,
            runtime,
        }
    }

    /// What the audit has by now, in order.
    pub async fn records(&self) -> Vec<Value> {
        self.gate.audit.flush().await.unwrap();
        let files = std::fs::read_dir(self.home.path().join("audit")).unwrap();
        let mut segments: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        segments.retain(|file| file.extension().is_some_and(|it| it == "jsonl"));
        segments.sort();
        segments
            .iter()
            .flat_map(|file| {
                let text = std::fs::read_to_string(file).unwrap();
                text.lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect::<Vec<Value>>()
            })
            .collect()
    }

    /// Writes a component into the host's folder.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Loads a component under a name, with these lines in its manifest.
    pub async fn load(
        &self,
        name: &str,
        bytes: &[u8],
        lines: &str,
    ) -> Result<std::sync::Arc<Plugin>, LoadError> {
        self.file(&format!("{name}.wasm"), bytes);
        self.runtime
            .load(manifest(self.home.path(), name, lines))
            .await
    }
}

/// The settings of a host with everything that it keeps in a folder.
pub fn options(home: &Path) -> Options {
    let compiler = Compiler {
        program: compiler(),
        arguments: Vec::new(),
    };
    let mut options = Options::new(home.join("cache"), home.join("key"), compiler);
    options.invocations = 16;
    options
}

/// The program `qchost-compiler`, which Cargo builds beside the folder of the test programs.
fn compiler() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let compiler = folder.join("qchost-compiler");
    assert!(
        compiler.exists(),
        "{} is missing; run: cargo build -p qchost-runtime --bins",
        compiler.display()
    );
    compiler
}

pub fn manifest(folder: &Path, name: &str, lines: &str) -> Manifest {
    let text = format!(
        "plugin = \"{name}\"\ncomponent = \"{name}.wasm\"\naccount = \"research\"\n{lines}\n"
    );
    Manifest::parse(&text, &folder.join(format!("{name}.toml"))).unwrap()
}
