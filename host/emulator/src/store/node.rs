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
}

/// The nodes of a new organisation.
pub(crate) fn fleet(backtest: u32, live: u32) -> Vec<Node> {
    let kinds = [
        (NodeKind::Backtest, backtest),
        (NodeKind::Live, live),
        (NodeKind::Research, 1),
    ];
    kinds
        .into_iter()
        .flat_map(|(kind, count)| (1..=count).map(move |number| Node::new(kind, number)))
        .collect()
}

impl Node {
    fn new(kind: NodeKind, number: u32) -> Self {
        let sku = kind.sku();
        let prefix = match kind {
            NodeKind::Backtest => "BN",
            NodeKind::Live => "LN",
            NodeKind::Research => "RN",
        };
        Self {
            id: format!("{prefix}-{}", digest_id(&format!("{sku}/{number}"))),
            name: format!("{sku} node {number}"),
            kind,
        }
    }
}

impl NodeKind {
    pub(crate) fn sku(self) -> &'static str {
        match self {
            Self::Backtest => "B2-8",
            Self::Live => "L1-2",
            Self::Research => "R1-4",
        }
    }

    /// Cores, gigabytes, and the price in US dollars a month, which is only shown.
    pub(crate) fn size(self) -> (u32, f64, u32) {
        match self {
            Self::Backtest => (2, 8.0, 14),
            Self::Live => (1, 2.0, 24),
            Self::Research => (1, 4.0, 14),
        }
    }
}
