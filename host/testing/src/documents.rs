//! The documents for people, which the tests read.

/// Their paths from the top of the repository.
pub const DOCUMENTS: [&str; 12] = [
    "README.md",
    "host/README.md",
    "host/OPERATING.md",
    "host/CONTRIBUTING.md",
    "host/SECURITY.md",
    "host/CHANGELOG.md",
    "wit/README.md",
    "sdk/README.md",
    "plugins/README.md",
    "plugins/data-edge/README.md",
    "plugins/quantconnect/README.md",
    "plugins/strategy-lab/README.md",
];
