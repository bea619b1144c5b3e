//! The verbs about the gate: approvals, halts, the audit, policies.

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::Period;
use crate::requests::{ExportFormat, ListApprovals, Query, Refuse, Revoke, ShowApproval};

#[derive(Debug, Subcommand)]
pub enum Approvals {
    /// List the pending approvals, oldest first.
    #[command(
        after_help = "EXPIRES is the deadline for the decision, or the end of the permit.\n\n\
        Examples:\n  qchost approvals list\n  qchost approvals list --all --json\n  \
        qchost approvals list --after ap-abcdefghij"
    )]
    List(ListApprovals),
    /// Show exactly what would be done: project, cost, code and its changes.
    #[command(after_help = "Examples:\n  qchost approvals show ap-abcdefghij\n  \
        qchost approvals show ap-abcdefghij --page 2")]
    Show(ShowApproval),
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
        /// Maximum total cost in dollars.
        #[arg(long, requires = "uses", value_name = "DOLLARS")]
        max_cost: Option<f64>,
    },
    /// Revoke a permit that an approval gave, so that no further call can use it, or the approval of a change that is not in
    /// force yet.
    #[command(after_help = "Example:\n  qchost approvals revoke ap-abcdefghij")]
    Revoke(Revoke),
    /// Refuse a request.
    #[command(
        after_help = "It is final, and stands until the deadline of the request: until then the same call ends with\n\
        `approval-refused`. After that, or with other arguments, the call asks again.\n\n\
        Example:\n  qchost approvals refuse ap-abcdefghij --reason \"not before the review\""
    )]
    Refuse(Refuse),
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Find any record that was changed, dropped, moved or cut off.
    #[command(
        after_help = "With --since it is also checked that the record continues a head that was kept elsewhere.\n\n\
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
        /// Number of records.
        #[arg(long, short = 'n', default_value_t = 10, value_name = "N")]
        lines: usize,
        /// Print new records as they are written, until interrupted.
        #[arg(long, short)]
        follow: bool,
    },
    /// Print records by plugin, operation, project, call, time and more, newest first.
    #[command(
        after_help = "Examples:\n  qchost audit query --plugin strategy-lab --decision denied\n  \
        qchost audit query --operation compile/create-compile --from 2026-01-01 --json\n  \
        qchost audit query --kind denied --since 1h"
    )]
    Query {
        #[command(flatten)]
        query: Box<Query>,
    },
    /// Explain why a call was allowed or refused: the grants and guardrails at that time, who approved it, and its
    /// outcome.
    #[command(
        after_help = "The texts of manifests, guardrails and the configuration are kept in the data folder, without comments, \
        and with keyed digests in place of values that may be secrets. Viewers see what changed in them.\n\n\
        Examples:\n  qchost audit why 19ad3b7c2f1-17\n  qchost audit why 19ad3b7c2f1-17 --json"
    )]
    Why {
        /// The call, as records name it.
        call: String,
    },
    /// Export records for other programs.
    #[command(
        after_help = "In a table, a text that a spreadsheet would take for a formula, or that begins\n\
        with an apostrophe, has an apostrophe before it: a program that reads the\n\
        table removes one. Characters that a terminal acts on are JSON escapes.\n\
        JSON lines are the records exactly as recorded.\n\n\
        Examples:\n  qchost audit export --format csv --from 2026-01-01 > january.csv\n  \
        qchost audit export --format jsonl > record.jsonl"
    )]
    Export {
        /// The format.
        #[arg(long, value_enum)]
        format: ExportFormat,
        #[command(flatten)]
        query: Box<Query>,
    },
    /// Find out from QuantConnect how calls with unknown outcome ended, and record it.
    #[command(
        after_help = "A create, deploy or command whose outcome is unknown is not sent again with the same arguments until \
        the outcome is known, or --accept allows it.\n\nExamples:\n  qchost audit reconcile\n  \
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
    /// Explain whether a plugin may make a call, by which grants, and under which conditions.
    #[command(
        after_help = "Nothing is read from QuantConnect, so the name of the project is what --project says.\n\n\
        The exit status is 0 for every decision, also if it is `denied`.\n\nExamples:\n  qchost policy explain strategy-lab compile/create-compile \
        '{\"projectId\": 1}' \\\n    --project Lab/Momentum\n  qchost policy explain strategy-lab projects/list-projects"
    )]
    Explain {
        /// The plugin.
        plugin: String,
        /// The operation: `backtests/create-backtest`.
        operation: String,
        /// Its arguments; `-` reads them from standard input.
        #[arg(default_value = "{}", value_name = "JSON")]
        arguments: String,
        /// The assumed name of the project.
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
    },
    /// List the operations that each guardrail of the configuration can forbid.
    #[command(after_help = "Example:\n  qchost policy coverage")]
    Coverage,
    /// Check a file of expected decisions against manifests and the guardrails of the configuration.
    #[command(
        after_help = "The file is TOML:\n\n  # The path from this file's folder. A case may name its own, or hold grants.\n  manifest = \"../plugins/strategy-lab.toml\"\n\n  \
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
    /// The JSON Schema of what --json prints: a definition for each verb, and for errors.
    #[command(
        after_help = "A verb that prints a document a line, such as `audit query`, has the schema of a line.\n\n\
        Examples:\n  qchost schema output > output.schema.json\n  qchost schema output approvals list"
    )]
    Output {
        /// The verb, for the schema of what it prints; or `error`, `remark`, `progress` or `log`.
        verb: Vec<String>,
    },
}
