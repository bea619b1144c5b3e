//! Nodes: the machines of the organisation.

use crate::text::digest_id;

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Backtest,
    Live,
    Research,
}

/// One node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: NodeKind,
    pub(crate) sku: &'static str,
    /// Cores, gigabytes, and the price in US dollars a month, which is only shown.
    pub(crate) size: (u32, f64, u32),
}

/// The nodes of a new organisation.
pub(crate) fn fleet(backtest: u32, live: u32) -> Vec<Node> {
    let kinds = [
        (NodeKind::Backtest, backtest, "BN", "B2-8", (2, 8.0, 14)),
        (NodeKind::Live, live, "LN", "L1-2", (1, 2.0, 24)),
        (NodeKind::Research, 1, "RN", "R1-4", (1, 4.0, 14)),
    ];
    let nodes = kinds.into_iter();
    let nodes = nodes.flat_map(|(kind, count, prefix, sku, size)| {
        (1..=count).map(move |number| Node {
            id: format!("{prefix}-{}", digest_id(&format!("{sku}/{number}"))),
            name: format!("{sku} node {number}"),
            kind,
            sku,
            size,
        })
    });
    nodes.collect()
}
