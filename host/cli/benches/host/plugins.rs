//! Components of a wanted size whose code is real: a small plugin that says which version it is, with copies of the code
//! of a plugin from the SDK inside. The copies are compiled like any other code and never run.

use std::path::Path;

use qchost_testing::Guest;

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

/// A plugin whose action `act` answers `version`, from 0 to 99, of about `bytes` bytes: with as many copies of a module
/// inside as there is room for, and one of which only the first functions are left. No two calls give the same bytes if
/// `mark` differs.
pub fn version(version: u32, bytes: usize, mark: u32) -> Vec<u8> {
    let mut component = Guest::new(&format!("(call $digit (i32.const {version}))")).build();
    let module = core(&built("host/cli/tests/plugins/any-tool"));
    while component.len() + module.len() <= bytes {
        section(&mut component, MODULE, &module);
    }
    let room = bytes - component.len();
    if room > module.len() / 10 {
        section(&mut component, MODULE, &beginning(&module, room));
    }
    let mut custom = b"\x04mark".to_vec();
    custom.extend(mark.to_le_bytes());
    section(&mut component, 0, &custom);
    component
}

/// A module with the code of its first functions alone, so that it is no larger than `bytes` or has no code left; the
/// others trap.
fn beginning(module: &[u8], bytes: usize) -> Vec<u8> {
    /// A function without locals, of one instruction: `unreachable`.
    const TRAP: [u8; 4] = [3, 0, 0x00, 0x0b];
    let mut short = module[..8].to_vec();
    for (kind, body) in sections(module) {
        if kind != CODE {
            section(&mut short, kind, body);
            continue;
        }
        let (count, mut at) = number(body, 0);
        let mut code = body[..at].to_vec();
        let mut room = bytes.saturating_sub(module.len() - body.len() + count * TRAP.len());
        for _ in 0..count {
            let (size, begin) = number(body, at);
            let function = &body[at..begin + size];
            at = begin + size;
            if function.len() <= room {
                room -= function.len();
                code.extend(function);
            } else {
                room = 0;
                code.extend(TRAP);
            }
        }
        section(&mut short, kind, &code);
    }
    short
}

const MODULE: u8 = 1;
const CODE: u8 = 10;

/// The sections of a module or a component: what kind each is of, and what is in it.
fn sections(binary: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut found, mut at) = (Vec::new(), 8);
    while at < binary.len() {
        let (size, begin) = number(binary, at + 1);
        found.push((binary[at], &binary[begin..begin + size]));
        at = begin + size;
    }
    found
}

/// The largest core module of a component.
fn core(component: &[u8]) -> Vec<u8> {
    let modules = sections(component)
        .into_iter()
        .filter(|(kind, _)| *kind == MODULE);
    let largest = modules.map(|(_, body)| body).max_by_key(|body| body.len());
    largest.unwrap().to_vec()
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
