//! Components: the loader of `qchost_runtime`, which recognises, validates, compiles, links and asks
//! for a description.
//!
//! Whatever is no component that the host can run is refused in one bounded line. What gets through
//! exports what an agent exports and calls nothing that the host does not have.
//!
//! An input that begins with `(` is WebAssembly text, as the seeds are written. One that is no
//! WebAssembly at all is tried as it is, and under `make fuzz` also as what wasm-smith makes a component of.

use std::sync::LazyLock;

use qchost_runtime::Kind;
use qchost_runtime::fuzzing::Loader;

use crate::mutate::{Change, Random};

/// The longest refusal.
const ERROR: usize = 1500;
const MAGIC: &[u8] = b"\0asm";
/// The preamble of a component, and its length, which is a module's too.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// Sections of a component that hold a module or a component.
const NESTED: [u8; 2] = [1, 4];
static LOADER: LazyLock<Loader> = LazyLock::new(|| Loader::new().expect("the engine starts"));

pub(crate) fn run(data: &[u8]) {
    load(data);
    if data.starts_with(b"(") {
        if let Ok(binary) = wat::parse_bytes(data) {
            load(&binary);
        }
    } else if !data.starts_with(MAGIC)
        && let Some(binary) = generated(data)
    {
        load(&binary);
    }
}

/// A component made from the bytes; too few bytes are none.
#[cfg(feature = "generate")]
fn generated(data: &[u8]) -> Option<Vec<u8>> {
    /// Larger ones take too long to compile.
    const MAX_BYTES: usize = 1 << 16;
    let config = wasm_smith::Config {
        max_components: 3,
        max_modules: 3,
        max_instances: 5,
        ..wasm_smith::Config::default()
    };
    let bytes = &mut arbitrary::Unstructured::new(data);
    let binary = wasm_smith::Component::new(config, bytes).ok()?.to_bytes();
    (binary.len() <= MAX_BYTES).then_some(binary)
}

/// Without wasm-smith, none.
#[cfg(not(feature = "generate"))]
fn generated(_: &[u8]) -> Option<Vec<u8>> {
    None
}

fn load(bytes: &[u8]) {
    match LOADER.load(bytes) {
        Ok(loaded) => {
            assert!(bytes.starts_with(COMPONENT), "it is no component");
            assert!(!loaded.refused, "it is refused before it is compiled");
            let guest = |name: &String| name == "qchost:agent/guest@0.1.0";
            assert!(loaded.exports.iter().any(guest), "{:?}", loaded.exports);
            for import in &loaded.imports {
                assert!(import.kind != Kind::Unknown, "{import:?}");
                let ours = ["wasi:", "qchost:agent/", "quantconnect:api/"];
                assert!(
                    import.functions.is_empty()
                        || ours.iter().any(|start| import.name.starts_with(start)),
                    "{import:?}"
                );
            }
            match loaded.description {
                Ok(description) => assert!(qchost_policy::is_name(&description.name)),
                Err(why) => crate::assert_line(&why, ERROR),
            }
        }
        Err(error) => crate::assert_line(&error.to_string(), ERROR),
    }
}

/// Changes sections: swaps, doubles or drops one, or changes what is in it and corrects its size, in
/// nested modules and components too. Text becomes binary first.
pub(crate) fn reshape(input: &mut Vec<u8>, random: &mut Random, change: Change<'_>) {
    if input.starts_with(b"(")
        && let Ok(binary) = wat::parse_bytes(input)
    {
        *input = binary.into_owned();
    }
    let Some(mut sections) = sections(input) else {
        return change(input);
    };
    let length = sections.len();
    let at = random.below(length);
    match random.below(8) {
        _ if length == 0 => return change(input),
        0 => sections.swap(at, random.below(length)),
        1 => sections.insert(random.below(length), sections[at].clone()),
        2 => drop(sections.remove(at)),
        _ => {
            let component = input.starts_with(COMPONENT);
            let (id, content) = &mut sections[at];
            if component && NESTED.contains(id) && random.below(4) > 0 {
                reshape(content, random, change);
            } else {
                change(content);
            }
        }
    }
    input.truncate(COMPONENT.len());
    for (id, content) in sections {
        input.push(id);
        push_length(input, content.len());
        input.extend(content);
    }
}

/// A section: its number and what is in it.
type Section = (u8, Vec<u8>);

/// The sections of a binary. `None` if it cannot be taken apart.
fn sections(binary: &[u8]) -> Option<Vec<Section>> {
    let mut rest = binary
        .starts_with(MAGIC)
        .then(|| binary.get(COMPONENT.len()..))??;
    let mut sections = Vec::new();
    while let [id, after @ ..] = rest {
        let (length, after) = length(after)?;
        let (content, after) = after.split_at_checked(length)?;
        sections.push((*id, content.to_vec()));
        rest = after;
    }
    Some(sections)
}

/// A number in LEB128, and what follows.
fn length(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21] {
        let (byte, after) = bytes.split_first()?;
        length |= usize::from(byte & 0x7f) << shift;
        bytes = after;
        if byte & 0x80 == 0 {
            return Some((length, bytes));
        }
    }
    None
}

fn push_length(out: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        out.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    out.push(length.to_le_bytes()[0]);
}

/// The names that components import and export.
pub(crate) fn words() -> Vec<String> {
    [
        "qchost:agent/guest@0.1.0",
        "qchost:agent/log@0.1.0",
        "qchost:agent/state@0.1.0",
        "qchost:agent/workflow@0.1.0",
        "quantconnect:api/backtests@0.1.0",
        "quantconnect:api/raw@0.1.0",
        "quantconnect:api/types@0.1.0",
        "wasi:io/streams@0.2.3",
        "wasi:cli/environment@0.2.3",
        "wasi:http/outgoing-handler@0.2.3",
        "wasi:sockets/tcp@0.2.3",
        "wasi:keyvalue/store@0.2.0",
        "@0.2.0",
        "cabi_realloc",
        "memory",
        "describe",
        "invoke",
    ]
    .map(str::to_owned)
    .to_vec()
}
