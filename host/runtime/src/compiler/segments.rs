//! Limits passive element segments, which the engine allocates per instance outside of memories and tables.
//!
//! A passive element segment is kept as values of sixteen bytes each for every instance of its module, and the memory
//! limiter is not consulted. Current toolchains make no large ones: they are for `table.init`.
//!
//! Invariant: the segments of one component, in the maximum number of instances, take a few megabytes.

use wasmparser::{ElementItems, ElementKind, Parser, Payload};

/// Maximum elements in the passive segments of all modules of a component.
const MAX_ELEMENTS: u64 = 4096;

/// What is wrong with a component's segments, if anything. Invalid components are left to the engine to refuse.
pub(super) fn excess(component: &[u8]) -> Option<String> {
    let mut passive = 0u64;
    for payload in Parser::new(0).parse_all(component) {
        let Ok(Payload::ElementSection(segments)) = payload else {
            continue;
        };
        for segment in segments.into_iter().flatten() {
            let elements = match segment.items {
                ElementItems::Functions(items) => items.count(),
                ElementItems::Expressions(_, items) => items.count(),
            };
            if matches!(segment.kind, ElementKind::Passive) {
                passive = passive.saturating_add(u64::from(elements));
            }
        }
    }
    (passive > MAX_ELEMENTS).then(|| {
        format!(
            "its passive element segments have {passive} elements; at most {MAX_ELEMENTS} are allowed"
        )
    })
}
