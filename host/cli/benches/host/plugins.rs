//! Components of a wanted size whose code is real: a small plugin that says which version it is, with copies of the code
//! of a plugin from the SDK inside. The copies are compiled like any other code and never run.

use std::path::Path;

use crate::guest::Guest;

/// The bytes of a plugin in the repository.
pub fn built(folder: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(folder);
    let name = folder
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .replace('-', "_");
    std::fs::read(folder.join(format!("{name}.wasm")))
        .unwrap_or_else(|_| panic!("{name}.wasm is missing; run: make bench"))
}

/// A plugin whose action `act` answers `version`, from 0 to 99, with so many copies of a module inside. No two calls give
/// the same bytes if `mark` differs.
pub fn version(version: u32, copies: usize, mark: u32) -> Vec<u8> {
    let mut component = Guest::new(&format!("(call $digit (i32.const {version}))")).build();
    let module = core(&built("host/cli/tests/plugins/any-tool"));
    for _ in 0..copies {
        section(&mut component, 1, &module);
    }
    let mut custom = b"\x04mark".to_vec();
    custom.extend(mark.to_le_bytes());
    section(&mut component, 0, &custom);
    component
}

/// The largest core module of a component.
fn core(component: &[u8]) -> Vec<u8> {
    let mut found: &[u8] = &[];
    let mut at = 8;
    while at < component.len() {
        let kind = component[at];
        let (size, begin) = number(component, at + 1);
        let body = &component[begin..begin + size];
        if kind == 1 && body.len() > found.len() {
            found = body;
        }
        at = begin + size;
    }
    found.to_vec()
}

fn section(component: &mut Vec<u8>, kind: u8, body: &[u8]) {
    component.push(kind);
    let mut rest = body.len();
    while rest >= 128 {
        component.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    component.push(u8::try_from(rest).unwrap());
    component.extend(body);
}

/// An unsigned LEB128 number and the place behind it.
fn number(bytes: &[u8], mut at: usize) -> (usize, usize) {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[at];
        number |= usize::from(byte & 127) << shift;
        (at, shift) = (at + 1, shift + 7);
        if byte < 128 {
            return (number, at);
        }
    }
}
