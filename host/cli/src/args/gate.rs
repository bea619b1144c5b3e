//! The verbs about the gate: approvals, halts, the audit, policies.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::Period;
use crate::control::{ExportFormat, Query};

/// What a halt is for; without either, everything.
#[derive(Debug, Args)]
pub struct Target {
    /// This account.
    #[arg(long)]
    pub account: Option<String>,
    /// This plugin.
    #[arg(long)]
    pub plugin: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Approvals {
    /// List what waits for a decision, oldest first.
    #[command(
        after_help = "EXPIRES is when it can no longer be decided, or when the permit that it gave ends.\n\n\
        Examples:\n  qchost approvals list\n  qchost approvals list --all --json\n  \
        qchost approvals list --after ap-abcdefghij"
    )]
    List {
        /// Those too that are decided, used or expired.
        #[arg(long)]
        all: bool,
        /// Those that were asked for later than this one.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// The most at once.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show what exactly would be done: project, cost, code and what changed in it.
    #[command(after_help = "Examples:\n  qchost approvals show ap-abcdefghij\n  \
        qchost approvals show ap-abcdefghij --page 2")]
    Show {
        /// The approval.
        id: String,
        /// Which page of a changed manifest, configuration or set of guardrails that is too long for one.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        page: u32,
    },
    /// Approve the one call that was requested, or with --uses and --for several of its kind.
    #[command(after_help = "Examples:\n  qchost approvals approve ap-abcdefghij\n  \
        qchost approvals approve ap-abcdefghij --uses 10 --for 8h --max-cost 50")]
    Approve {
        /// The approval.
        id: String,
        /// The number of calls of the operation on the same project.
        #[arg(long, requires = "for", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
        /// How long the permit is valid: `8h`.
        #[arg(long, requires = "uses", value_name = "TIME")]
        r#for: Option<Period>,
        /// The most dollars that they may cost together.
        #[arg(long, requires = "uses", value_name = "DOLLARS")]
        max_cost: Option<f64>,
    },
    /// Revoke a permit that an approval gave, so that no further call can use it, or the approval of a change that is not in
    /// force yet.
    #[command(after_help = "Example:\n  qchost approvals revoke ap-abcdefghij")]
    Revoke {
        /// The approval, or its permit.
        id: String,
    },
    /// Refuse a request.
    #[command(
        after_help = "Example:\n  qchost approvals refuse ap-abcdefghij --reason \"not before the review\""
    )]
    Refuse {
        /// The approval.
        id: String,
        /// The reason; the plugin is told.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Find any record that was changed, dropped, moved or cut off.
    #[command(
        after_help = "With --since it is checked as well that the record goes back to a head that was kept elsewhere.\n\n\
        Examples:\n  qchost audit verify\n  qchost audit verify --since \"$(cat head-of-last-week)\""
    )]
    Verify {
        /// A head, as `qchost audit head` printed it.
        #[arg(long, value_name = "HEAD")]
        since: Option<String>,
    },
    /// Print the signed head, to be kept where it cannot be changed together with the record.
    #[command(after_help = "Example:\n  qchost audit head > /mnt/elsewhere/head")]
    Head,
    /// Print the last records.
    #[command(after_help = "Examples:\n  qchost audit tail\n  qchost audit tail -f")]
    Tail {
        /// How many.
        #[arg(long, short = 'n', default_value_t = 10, value_name = "N")]
        lines: usize,
        /// Print new records as they come, until it is ended.
        #[arg(long, short)]
        follow: bool,
    },
    /// Print the records of a plugin, an operation, a project, a call, a time …, the newest first.
    #[command(
        after_help = "Examples:\n  qchost audit query --plugin strategy-lab --decision denied\n  \
        qchost audit query --operation live/create-live-algorithm --from 2026-01-01 --json"
    )]
    Query {
        #[command(flatten)]
        query: Box<Query>,
    },
    /// Say why a call was allowed or refused: the grants as they were, the guardrails, who approved it, and what became
    /// of it.
    #[command(
        after_help = "The texts of manifests, guardrails and the configuration are kept in the data folder, without comments, \
        and with keyed digests in place of values that may be secrets. Viewers see what changed in them.\n\n\
        Examples:\n  qchost audit why 19ad3b7c2f1-17\n  qchost audit why 19ad3b7c2f1-17 --json"
    )]
    Why {
        /// The call, as records name it.
        call: String,
    },
    /// Write records for other programs.
    #[command(
        after_help = "Example:\n  qchost audit export --format csv --from 2026-01-01 > january.csv"
    )]
    Export {
        /// As what.
        #[arg(long, value_enum)]
        format: ExportFormat,
        #[command(flatten)]
        query: Box<Query>,
    },
    /// Learn from QuantConnect what became of calls whose outcome is unknown, and record it.
    #[command(
        after_help = "A create, deploy or command whose outcome is unknown is not sent again with the same arguments before \
        that is known, or --accept says that it may be.\n\nExamples:\n  qchost audit reconcile\n  \
        qchost audit reconcile --accept 19c3f2-17"
    )]
    Reconcile {
        /// A call that may be sent again although its outcome stays unknown; may be given several times.
        #[arg(long, value_name = "CALL")]
        accept: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Say whether a plugin may make a call, by which grants, and under which conditions.
    #[command(
        after_help = "The project of a call is known by its id; without asking QuantConnect, its name is known from \
        --project alone.\n\nExamples:\n  qchost policy explain strategy-lab compile/create-compile \
        '{\"projectId\": 1}' --project Lab/Momentum\n  qchost policy explain strategy-lab projects/list-projects"
    )]
    Explain {
        /// The plugin.
        plugin: String,
        /// The operation: `backtests/create-backtest`.
        operation: String,
        /// Its arguments; `-` reads them from standard input.
        #[arg(default_value = "{}", value_name = "JSON")]
        arguments: String,
        /// The name that the project is taken to have.
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// Say of each guardrail of the configuration which operations it can forbid.
    #[command(after_help = "Example:\n  qchost policy coverage")]
    Coverage,
    /// Check a file of expected decisions against manifests and the guardrails of the configuration.
    #[command(
        after_help = "The file is TOML:\n\n  manifest = \"strategy-lab.toml\"    # beside the file; a case may name its own, or hold grants\n\n  \
        [[case]]\n  name      = \"the lab may backtest\"\n  operation = \"backtests/create-backtest\"\n  \
        project   = { id = 12, name = \"Lab/momentum\" }\n  expect    = \"allowed\"          # or \"denied\"\n  \
        grants    = [\"lab-backtests\"]   # optional, as are guardrails and reason\n\n\
        Example:\n  qchost policy test policies/cases.toml"
    )]
    Test {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Schema {
    /// The JSON Schema of manifests, for editors.
    #[command(after_help = "Example:\n  qchost schema manifest > manifest.schema.json")]
    Manifest,
    /// The Cedar schema that guardrails are checked against.
    #[command(after_help = "Example:\n  qchost schema guardrails > guardrails.cedarschema")]
    Guardrails,
}
