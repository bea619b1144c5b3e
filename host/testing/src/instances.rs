//! Components with more core instances than an agent's own: toolchains of other languages make one of each
//! library, and a malicious component makes many.

/// The kinds of a component's sections.
const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;

/// Adds a core module to a component, and this many instances of it, which import nothing.
pub fn add(component: &mut Vec<u8>, module: &[u8], instances: u32) {
    let number = modules(component);
    section(component, CORE_MODULE, module);
    let mut body = Vec::new();
    leb(&mut body, instances);
    for _ in 0..instances {
        // An instance of a module, without arguments.
        body.push(0);
        leb(&mut body, number);
        body.push(0);
    }
    section(component, CORE_INSTANCE, &body);
}

/// How many core modules a component has.
fn modules(component: &[u8]) -> u32 {
    let (mut count, mut at) = (0, 8);
    while let Some(kind) = component.get(at) {
        count += u32::from(*kind == CORE_MODULE);
        let (mut size, mut shift) = (0, 0);
        loop {
            at += 1;
            size |= usize::from(component[at] & 0x7f) << shift;
            shift += 7;
            if component[at] < 0x80 {
                break;
            }
        }
        at += 1 + size;
    }
    count
}

fn section(component: &mut Vec<u8>, kind: u8, body: &[u8]) {
    component.push(kind);
    leb(component, u32::try_from(body.len()).unwrap());
    component.extend(body);
}

fn leb(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
}
