//! The command line: verbs, their options and their help.
//!
//! Exit status: 0 when what was asked for was done, 1 when it was not, 2 when the command line is wrong.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use qchost_emulator::DEFAULT_ADDRESS;

const EXIT: &str = "Exit status: 0 done, 1 not done, 2 the command line is wrong.";

/// A headless WebAssembly plugin host for QuantConnect agents.
#[derive(Debug, Parser)]
#[command(name = "qchost", version, after_help = EXIT, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Args)]
pub struct Global {
    /// The host's configuration.
    #[arg(
        long,
        global = true,
        env = "QCHOST_CONFIG",
        default_value = "qchost.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// Print results, progress and errors as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log to standard error: `error`, `warn`, `info`, `debug`, `trace`, or by target: `gate=info`.
    #[arg(
        long,
        global = true,
        env = "QCHOST_LOG",
        default_value = "warn",
        value_name = "FILTER"
    )]
    pub log: String,
    /// Log as JSON lines.
    #[arg(long, global = true)]
    pub log_json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a configuration and an example manifest into a folder.
    #[command(after_help = "Example:\n  qchost init my-host && cd my-host && qchost doctor")]
    Init {
        /// The folder; made if it does not exist.
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Run the host until SIGTERM or Ctrl-C, then let running invocations end.
    #[command(after_help = "Example:\n  qchost run --log info")]
    Run {
        /// How many seconds running invocations get to end.
        #[arg(long, default_value_t = 30, value_name = "SECONDS")]
        drain: u64,
    },
    /// Invoke a plugin's action; by the running host if there is one, in this process otherwise.
    #[command(
        after_help = "Examples:\n  qchost invoke strategy-lab.sweep '{\"project\": \"Lab/Momentum\"}'\n  \
        echo '{}' | qchost invoke strategy-lab.sweep -"
    )]
    Invoke {
        /// Plugin and action: `strategy-lab.sweep`.
        #[arg(value_name = "PLUGIN.ACTION")]
        action: String,
        /// The input; `-` reads it from standard input.
        #[arg(default_value = "{}", value_name = "JSON")]
        input: String,
    },
    /// Call one of QuantConnect's tools as the operator, past no plugin.
    #[command(
        after_help = "Examples:\n  qchost call read_account\n  qchost call read_compile '{\"projectId\": 1, \"compileId\": \"c\"}'"
    )]
    Call {
        /// The tool: `read_backtest`.
        tool: String,
        /// Its arguments; `-` reads them from standard input.
        #[arg(default_value = "{}", value_name = "JSON")]
        arguments: String,
        /// The account; needed when several are configured.
        #[arg(long)]
        account: Option<String>,
    },
    /// Sweep a strategy on an emulated QuantConnect, with the bundled plugin.
    #[command(after_help = "Example:\n  qchost demo")]
    Demo {
        /// The bundled plugin's manifest.
        #[arg(
            long,
            default_value = "plugins/strategy-lab/manifest.toml",
            value_name = "FILE"
        )]
        manifest: PathBuf,
    },
    /// Check configurations, manifests and components.
    #[command(after_help = "Example:\n  qchost validate qchost.toml plugins/*/manifest.toml")]
    Validate {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Check what the host needs, and say how to mend what is missing.
    #[command(after_help = "Example:\n  qchost doctor --json")]
    Doctor,
    /// Build, inspect and list plugins.
    #[command(subcommand)]
    Plugin(Plugin),
    /// Serve QuantConnect's 64 tools to an MCP client on standard input and output.
    #[command(
        after_help = "Credentials come from QUANTCONNECT_USER_ID and QUANTCONNECT_API_TOKEN (or QC_MCP_USER_ID and \
        QC_MCP_API_TOKEN).\n\nExamples:\n  qchost mcp\n  qchost mcp --base-url http://127.0.0.1:5612/api/v2"
    )]
    Mcp {
        /// The REST API.
        #[arg(long, default_value = qchost_quantconnect::CLOUD, value_name = "URL")]
        base_url: String,
        /// A file with credentials, as `lean login` writes it.
        #[arg(long, value_name = "FILE")]
        credentials: Option<PathBuf>,
    },
    /// Serve QuantConnect's REST API on this machine. Results come from a model and not from LEAN.
    #[command(
        after_help = "Example:\n  qchost emulator\n  QC_API=local lean login --user-id 1 --api-token emulator"
    )]
    Emulator {
        /// Where to listen.
        #[arg(long, default_value_t = DEFAULT_ADDRESS, value_name = "ADDRESS")]
        listen: SocketAddr,
        /// The one user's id.
        #[arg(long, default_value_t = 1)]
        user_id: u64,
        /// How many times as fast as by default things go.
        #[arg(long, default_value_t = 1, value_name = "FACTOR")]
        faster: u32,
    },
}

#[derive(Debug, Subcommand)]
pub enum Plugin {
    /// Build a plugin's component.
    #[command(after_help = "Example:\n  qchost plugin build plugins/strategy-lab")]
    Build {
        /// The plugin's folder.
        folder: PathBuf,
        /// Where to put the component; beside the folder's Cargo.toml if not given.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show what a component is: actions, imports, size, digest, and the grants it would need.
    #[command(
        after_help = "Example:\n  qchost plugin inspect plugins/strategy-lab/strategy_lab.wasm"
    )]
    Inspect {
        /// The component.
        component: PathBuf,
    },
    /// List the plugins of the configuration, with what is wrong with them.
    #[command(after_help = "Example:\n  qchost plugin list")]
    List,
    /// Show what a plugin may do.
    #[command(after_help = "Example:\n  qchost plugin grants strategy-lab")]
    Grants {
        /// The plugin.
        plugin: String,
    },
}
