//! `qchost plugin build`: builds a component from a plugin's sources.
//!
//! There are three ways to build Rust, tried in this order: the installed `wasm32-wasip2` target; Debian's
//! packages, with the standard library compiled on the spot; the target fetched by rustup. The result is the
//! same. A component is built for size, since each host compiles it once more before it runs; a `[profile.release]` of the
//! plugin's workspace has the last word.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::output::Output;

const TARGET: &str = "wasm32-wasip2";
/// How a component is built where the workspace's `[profile.release]` does not say it: the key and its value.
const SMALL: [(&str, &str); 3] = [
    ("opt-level", "\"s\""),
    ("lto", "true"),
    ("codegen-units", "1"),
];
const DEBIAN: [&str; 6] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "rust-web-llvm",
    "lld-22",
    "wasi-libc",
];

/// The result of a build.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Built {
    component: PathBuf,
    bytes: u64,
    toolchain: &'static str,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

/// How to compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Toolchain {
    Installed,
    Debian,
}

/// Builds the plugin in a folder.
pub fn run(folder: &Path, to: Option<&Path>, output: Output) -> Result<()> {
    // The component replaces an existing file, which must not be a device such as `/dev/null`.
    if let Some(to) = to {
        ensure!(
            to.is_file() || !to.exists(),
            "`{}` is no regular file; name the component's own with --output",
            to.display()
        );
    }
    ensure!(
        folder.join("Cargo.toml").is_file(),
        "{} has no Cargo.toml; this version builds plugins in Rust, others are built by their own tools: wit/README.md says how",
        folder.display()
    );
    let metadata = metadata(folder)?;
    let manifest = folder.join("Cargo.toml").canonicalize()?;
    let package = metadata
        .packages
        .iter()
        .find(|package| package.manifest_path == manifest)
        .with_context(|| {
            format!(
                "{} holds a workspace and no package; name the plugin's own folder",
                folder.display()
            )
        })?;
    let library = package
        .targets
        .iter()
        .find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"))
        .with_context(|| {
            format!("{} has no library of type cdylib; add to it:\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]", manifest.display())
        })?;
    let file = format!("{}.wasm", library.name.replace('-', "_"));
    let component = to.map_or_else(|| folder.join(&file), Path::to_owned);

    let toolchain = toolchain()?;
    let target_directory = compile(folder, package, &metadata, toolchain)?;
    let built = target_directory.join(TARGET).join("release").join(&file);
    let bytes = install(&built, &component)?;
    let toolchain = match toolchain {
        Toolchain::Installed => TARGET,
        Toolchain::Debian => "Debian's packages",
    };
    output.result(
        &Built {
            component,
            bytes,
            toolchain,
        },
        |built| {
            format!(
                "{} ({} KiB, by {})",
                built.component.display(),
                built.bytes.div_ceil(1024),
                built.toolchain
            )
        },
    )
}

fn metadata(folder: &Path) -> Result<Metadata> {
    let read = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo; install Rust from https://rustup.rs")?;
    ensure!(
        read.status.success(),
        "cargo cannot read {}",
        folder.join("Cargo.toml").display()
    );
    serde_json::from_slice(&read.stdout).context("cargo's metadata cannot be read")
}

fn toolchain() -> Result<Toolchain> {
    let forced = std::env::var("QCHOST_WASM_TOOLCHAIN").ok();
    match forced.as_deref() {
        None | Some("") => {}
        Some("debian") => {
            ensure!(
                debian_is_there(),
                "QCHOST_WASM_TOOLCHAIN=debian, but its packages are not all there; {}",
                debian_line()
            );
            return Ok(Toolchain::Debian);
        }
        Some(other) => bail!("QCHOST_WASM_TOOLCHAIN={other}: only `debian` can be asked for"),
    }
    if target_is_there() {
        return Ok(Toolchain::Installed);
    }
    if debian_is_there() {
        return Ok(Toolchain::Debian);
    }
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .is_ok_and(|status| status.success());
    // rustup may report success without having the files.
    if added && target_is_there() {
        return Ok(Toolchain::Installed);
    }
    bail!(
        "no way to compile for {TARGET}: run `rustup target add {TARGET}`, or where that cannot be fetched {}",
        debian_line()
    )
}

fn debian_line() -> String {
    format!("run: apt-get install -y {}", DEBIAN.join(" "))
}

/// rustc prints the folder whether it exists or not.
fn target_is_there() -> bool {
    let printed = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    printed.is_ok_and(|printed| {
        printed.status.success()
            && Path::new(String::from_utf8_lossy(&printed.stdout).trim()).is_dir()
    })
}

fn debian_is_there() -> bool {
    let listed = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}\n"])
        .args(DEBIAN)
        .output();
    listed.is_ok_and(|listed| {
        listed.status.success()
            && String::from_utf8_lossy(&listed.stdout)
                .lines()
                .all(|line| line == "installed")
    })
}

/// What a workspace says of its release profile.
fn release_profile(workspace: &Path) -> Result<toml::Table> {
    let path = workspace.join("Cargo.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: toml::Table = text
        .parse()
        .with_context(|| format!("{} is not TOML", path.display()))?;
    let profile = manifest.get("profile").and_then(|it| it.get("release"));
    Ok(profile
        .and_then(toml::Value::as_table)
        .cloned()
        .unwrap_or_default())
}

/// Compiles, and returns the target directory used.
fn compile(
    folder: &Path,
    package: &Package,
    metadata: &Metadata,
    toolchain: Toolchain,
) -> Result<PathBuf> {
    let mut command = match toolchain {
        Toolchain::Installed => Command::new("cargo"),
        Toolchain::Debian => Command::new("/usr/bin/cargo"),
    };
    command.args([
        "build",
        "--release",
        "--target",
        TARGET,
        "--package",
        &package.name,
    ]);
    let own = release_profile(&metadata.workspace_root)?;
    for (key, value) in SMALL {
        if !own.contains_key(key) {
            command.arg("--config");
            command.arg(format!("profile.release.{key}={value}"));
        }
    }
    let target = &metadata.target_directory;
    let target = match toolchain {
        Toolchain::Installed => target.to_owned(),
        Toolchain::Debian => {
            // Two compilers in one directory would invalidate each other's work.
            let target = target.join("debian");
            command
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTFLAGS", "-L /usr/lib/wasm32-wasi")
                .env_remove("CARGO_ENCODED_RUSTFLAGS");
            target
        }
    };
    let status = command
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", &target)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot run cargo; install Rust from https://rustup.rs")?;
    ensure!(
        status.success(),
        "{} was not built: see the compiler's messages above",
        package.name
    );
    Ok(target)
}

/// Moves the component into place atomically: a running host may be reading the old one.
fn install(built: &Path, component: &Path) -> Result<u64> {
    let folder = component
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let bytes = std::fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    std::io::Write::write_all(&mut file, &bytes)?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644))?;
    file.persist(component)
        .with_context(|| format!("cannot write {}", component.display()))?;
    Ok(u64::try_from(bytes.len())?)
}
