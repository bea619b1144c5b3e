//! The command line: verbs, their options and their help.

mod gate;
#[cfg(test)]
mod printed;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use qchost_emulator::DEFAULT_ADDRESS;

pub use gate::{Approvals, Audit, Policy, Schema};

use crate::exit_status::ExitStatus;
use crate::requests::{AccountStatus, Grants, Halt, LogOut, PluginLogs, Resume};

/// A headless WebAssembly plugin host for QuantConnect agents.
#[derive(Debug, Parser)]
#[command(name = "qchost", version, after_help = ExitStatus::help(), propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What `qchost backup` printed about a backup.
#[derive(Debug, Args)]
pub struct Expected {
    /// The key of backups, as `qchost backup` printed it; a backup that is signed with another key is refused.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The digest of the backup, as `qchost backup` printed it; any other backup is refused, also an older one of the
    /// same key.
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<String>,
}

/// The heading of the options that every verb has.
const GLOBAL: &str = "Options of every command";

#[derive(Debug, Args)]
pub struct Global {
    /// The host's configuration.
    #[arg(
        long,
        global = true,
        env = "QCHOST_CONFIG",
        default_value = "qchost.toml",
        value_name = "FILE",
        help_heading = GLOBAL
    )]
    pub config: PathBuf,
    /// The data folder, instead of the one that the configuration names; a running host is found by it too.
    #[arg(long, global = true, value_name = "FOLDER", help_heading = GLOBAL)]
    pub data: Option<PathBuf>,
    /// The control socket of the running host that a command is for, whatever the configuration says.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        conflicts_with = "data",
        help_heading = GLOBAL
    )]
    pub socket: Option<PathBuf>,
    /// Print results, progress and errors as JSON.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Log filter for standard error: `error`, `warn`, `info`, `debug`, `trace`, or by target: `gate=info`.
    #[arg(
        long,
        global = true,
        env = "QCHOST_LOG",
        default_value = "warn,notify=error",
        value_name = "FILTER",
        help_heading = GLOBAL
    )]
    pub log: String,
    /// Log as JSON lines.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub log_json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a configuration and an example manifest into a folder.
    #[command(after_help = "Example:\n  qchost init my-host")]
    Init {
        /// The folder; created if it does not exist.
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// Write a unit for systemd too, and a configuration with the folders that the unit gives the host.
        #[arg(long)]
        systemd: bool,
        /// The version of systemd that the unit is for, instead of this machine's.
        #[arg(long, requires = "systemd", value_name = "N")]
        systemd_version: Option<u32>,
    },
    /// Run the host until SIGTERM or Ctrl-C, then let running invocations end.
    #[command(after_help = "Example:\n  qchost run --log info")]
    Run {
        /// How many seconds running invocations get to end.
        #[arg(long, default_value_t = 30, value_name = "SECONDS")]
        drain: u64,
        /// Bring the people of the configuration into force without an approval. Only where too few of those in force could
        /// approve it, and for the user that the host runs as; it is recorded.
        #[arg(long)]
        recover_people: bool,
    },
    /// Invoke a plugin's action; by the running host if there is one, in this process otherwise.
    #[command(
        after_help = "Examples:\n  qchost invoke strategy-lab.sweep '{\"grid\": {\"fast\": [10], \"slow\": [50, 90]}}'\n  \
        echo '{}' | qchost invoke strategy-lab.backtest -\n  qchost invoke strategy-lab.backtest --logs"
    )]
    Invoke {
        /// Plugin and action, or an alias of it: `strategy-lab.sweep`.
        #[arg(value_name = "PLUGIN.ACTION")]
        action: String,
        /// The input; `-` reads it from standard input.
        #[arg(default_value = "{}", value_name = "JSON")]
        input: String,
        /// Print what the plugin logs meanwhile to standard error.
        #[arg(long)]
        logs: bool,
    },
    /// Call one of QuantConnect's tools as the operator, past no plugin.
    #[command(
        after_help = "Examples:\n  qchost call account/read-account\n  qchost call create_project '{\"name\": \"Lab/first\", \"language\": \"Py\"}'"
    )]
    Call {
        /// The operation, or its tool: `backtests/read-backtest`, `read_backtest`.
        tool: String,
        /// Its arguments; `-` reads them from standard input.
        #[arg(default_value = "{}", value_name = "JSON")]
        arguments: String,
        /// The account; needed when several are configured.
        #[arg(long)]
        account: Option<String>,
    },
    /// List and search QuantConnect's operations: what they do and touch, and their arguments.
    #[command(
        after_help = "NAME is what `call` and the manifests of plugins take. An operation of class destroy or trade is \
        granted by its whole name only, and no pattern with a star covers it. No host is needed.\n\n\
        Examples:\n  qchost tools\n  qchost tools backtest orders\n  qchost tools backtests/read-backtest"
    )]
    Tools {
        /// Words that all occur in the name, description or arguments of an operation; or the name of one, to show it whole.
        words: Vec<String>,
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
    /// Check configurations, manifests, guardrails and components.
    #[command(
        after_help = "Manifests are checked against the configuration (--config) too, where there is one.\n\nExample:\n  \
        qchost validate qchost.toml plugins/*.toml"
    )]
    Validate {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Make the running host reload its files now, and show the state of each.
    #[command(
        after_help = "A running host notices changes automatically; this waits until they are in effect. The exit status is 1 \
        if a file is not in effect.\n\nExample:\n  qchost reload"
    )]
    Reload,
    /// Check what the host needs, and show how to fix what fails.
    #[command(
        after_help = "A check is ok, a warning, failed, or unknown because what it depends on failed. The exit status is 1 if a check \
        failed.\n\nExample:\n  qchost doctor --json"
    )]
    Doctor,
    /// Build, inspect and list plugins.
    #[command(subcommand)]
    Plugin(Plugin),
    /// Show accounts, and log in to the servers of those that want a person.
    #[command(subcommand)]
    Account(Account),
    /// List, show, approve and refuse requests of plugins.
    #[command(subcommand)]
    Approvals(Approvals),
    /// Refuse every write and trade, at once and until `resume`; reading, stopping and liquidating go on.
    #[command(
        after_help = "It takes effect at the instant before a call is sent, whatever waits or is retried, and survives a \
        restart. The result lists the calls that were past that point, how each ended, and where the halt is kept. A file \
        `halt` in the data folder halts everything too, within a second: touch DATA/halt\n\n\
        Exit status: 0 halted, and with --liquidate nothing runs and nothing is held; 9 halted, and positions are open; \
        any other: not as asked, the error says what (qchost --help).\n\nExamples:\n  \
        qchost halt --reason \"fills look wrong\"\n  qchost halt --account research --liquidate\n  \
        qchost halt --plugin strategy-lab\n  qchost halt --list"
    )]
    Halt {
        #[command(flatten)]
        request: Halt,
        /// List the halts, and halt nothing.
        #[arg(long, conflicts_with_all = ["account", "plugin", "reason", "liquidate"])]
        list: bool,
    },
    /// End the halt with the same account and plugin. Other halts are listed, and stay.
    #[command(
        after_help = "Ending the halt of everything removes the file `halt` from the data folder first. Liquidations \
        that the halt has not finished are not continued.\n\nExamples:\n  qchost resume\n  qchost resume --account research\n  qchost resume --plugin strategy-lab"
    )]
    Resume(Resume),
    /// Verify, read and export the record of what was done.
    #[command(subcommand)]
    Audit(Audit),
    /// Show what the gate would decide about calls, without sending anything.
    #[command(subcommand)]
    Policy(Policy),
    /// Print the schema of a file that the host reads, or of what --json prints.
    #[command(subcommand)]
    Schema(Schema),
    /// Copy the host's data, configuration, manifests, guardrails and components into a folder, signed.
    #[command(
        after_help = "A running host makes the copy itself, with its own rights, and keeps serving. The copy contains the \
        host's key: protect it like the data folder. It contains no other secret: a manifest or a configuration is copied \
        without comments, and one with a value that may be a secret without that value, which is reported. The key that \
        signs the copy stays in the data folder (backup.key). Keep the key and the digest that are printed elsewhere: a \
        backup is restored by one of them.\n\n\
        Example:\n  qchost backup /var/backups/qchost/2026-01-31"
    )]
    Backup {
        /// The folder; created if it does not exist, otherwise empty.
        folder: PathBuf,
    },
    /// Restore a backup into an empty data folder.
    #[command(
        after_help = "The signature and every file are checked before anything is written, and the key or the digest has to \
        be the one that was printed when the backup was made. Halts are restored. Permits and approvals are void, and in \
        production manifests that trade or destroy, components, guardrails and the configuration need a new approval by an \
        admin whom the backup and the configuration both name. Budgets, plugins' state and the projects that plugins made \
        are as in the backup: with `--digest` it is certain that it is the one that was taken.\n\n\
        Run by root, it gives what it restores to the owner and the group of each folder: make both before, for the user \
        that the host runs as. An empty folder of another user stays as it is until all is there; a restore that was \
        killed before is repeated by the same command.\n\n\
        Example:\n  qchost restore /var/backups/qchost/2026-01-31 --data /var/lib/qchost \\\n    --files /etc/qchost --digest sha256:…"
    )]
    Restore {
        /// The folder that `qchost backup` wrote.
        folder: PathBuf,
        #[command(flatten)]
        expected: Expected,
        /// A folder for the configuration, manifests, guardrails and components of the backup, which has none of them;
        /// without it they are checked and stay where they are.
        #[arg(long, value_name = "FOLDER")]
        files: Option<PathBuf>,
    },
    /// Serve QuantConnect's tools to an MCP client on standard input and output.
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
        args_conflicts_with_subcommands = true,
        after_help = "The API token is `emulator`, unless the variable QCHOST_EMULATOR_TOKEN has another one.\n\n\
        Examples:\n  qchost emulator\n  QC_API=local lean login --user-id 1 --api-token emulator\n  \
        qchost emulator --remote"
    )]
    Emulator {
        #[command(subcommand)]
        verb: Option<Emulator>,
        #[command(flatten)]
        serve: ServeEmulator,
    },
    /// Print a script by which a shell completes commands and options.
    #[command(
        after_help = "Put it where the shell looks for it, under the name that it looks for:\n  \
        bash  ~/.local/share/bash-completion/completions/qchost\n  \
        zsh   _qchost, in a folder of $fpath\n  \
        fish  ~/.config/fish/completions/qchost.fish\n\n\
        Example:\n  qchost completions bash > qchost.bash"
    )]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print a page of the manual, or write all of them into a folder.
    #[command(after_help = "Examples:\n  qchost man plugin inspect\n  \
        qchost man > qchost.1\n  qchost man --output man1")]
    Man {
        /// The command that the page is about; without one, it is about qchost.
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
        /// Write all pages into this folder, which is created if it does not exist.
        #[arg(long, short, value_name = "FOLDER", conflicts_with = "command")]
        output: Option<PathBuf>,
    },
    /// Compile one component, as a process that a host starts: it reads from standard input and answers on
    /// standard output.
    #[command(hide = true)]
    CompileComponent,
    /// Run the command of an account until it or the host ends, as a process that a host starts.
    #[command(hide = true)]
    SuperviseServer {
        /// The host's process id.
        host: i32,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
}

/// A shell that completions can be made for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// How an emulator serves.
#[derive(Debug, Args)]
pub struct ServeEmulator {
    /// The address to listen on.
    #[arg(long, default_value_t = DEFAULT_ADDRESS, value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The one user's id. That of the organisation follows from it.
    #[arg(long, default_value_t = 1)]
    pub user_id: u64,
    /// How many times faster than by default compiles, backtests and the like run.
    #[arg(long, default_value_t = 1, value_name = "FACTOR")]
    pub faster: u32,
    /// Keep the data in this file, and go on with what is in it. Without, it begins afresh and keeps nothing.
    #[arg(long, value_name = "FILE")]
    pub keep: Option<PathBuf>,
    /// What to begin with, if it begins afresh.
    #[arg(long, value_name = "FILE")]
    pub seed: Option<PathBuf>,
    /// Serve the remote MCP server as well, behind its OAuth authorization server.
    #[arg(long)]
    pub remote: bool,
    /// Let objects be downloaded, as QuantConnect does once the agreement on derived data is signed.
    #[arg(long)]
    pub derived_data: bool,
}

#[derive(Debug, Subcommand)]
pub enum Emulator {
    /// Forget what an account's emulator keeps in the data folder. Ids that were given are not given again.
    #[command(
        after_help = "It begins with the seed of the account again. No host may run meanwhile.\n\n\
        Example:\n  qchost emulator reset --account research"
    )]
    Reset {
        /// The account; needed if several have an emulator.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// What to begin with, instead of the seed of the account.
        #[arg(long, value_name = "FILE")]
        seed: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Plugin {
    /// Build a plugin's component.
    #[command(after_help = "Example:\n  qchost plugin build plugins/strategy-lab")]
    Build {
        /// The plugin's folder.
        folder: PathBuf,
        /// Where to put the component; by default beside the folder's Cargo.toml.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show a component: actions, imports, size, digest, and the grants it needs.
    #[command(
        after_help = "Example:\n  qchost plugin inspect plugins/strategy-lab/strategy_lab.wasm"
    )]
    Inspect {
        /// The component, or the plugin of the configuration whose component it is.
        component: PathBuf,
    },
    /// List the plugins of the configuration, with their problems.
    #[command(after_help = "Example:\n  qchost plugin list")]
    List,
    /// Print the recent lines that a plugin logged, as the running host has them.
    #[command(
        after_help = "The host keeps the last 256 KiB of each plugin until it ends. With --json, each line is an object.\n\n\
        Examples:\n  qchost plugin logs strategy-lab\n  qchost plugin logs strategy-lab -f"
    )]
    Logs(PluginLogs),
    /// Show a plugin's grants, their conditions, and how much of them is used today.
    #[command(after_help = "Example:\n  qchost plugin grants strategy-lab")]
    Grants(Grants),
}

#[derive(Debug, Subcommand)]
pub enum Account {
    /// Log in to the server of an account through the running host.
    #[command(
        after_help = "The address that is printed is opened in a browser of this machine, which comes back to this command. \
        With --paste the browser may run elsewhere: it ends at a page that it cannot load, and the address of that page is \
        pasted into this terminal; one that is not that of this login is refused with the reason, and asked for again. The host keeps the tokens in its data folder, readable by its user alone, and no backup \
        contains them. Another login replaces them; calls under way end with the former ones.\n\n\
        Examples:\n  qchost account login research\n  qchost account login research --paste"
    )]
    Login {
        /// The account.
        #[arg(value_name = "NAME")]
        account: String,
        /// Read the address that the browser ends at from standard input.
        #[arg(long)]
        paste: bool,
    },
    /// Show the state of accounts, how long they are authorized, and what their calls came to.
    #[command(
        after_help = "The exit status is 1 if an account that is shown cannot be used.\n\n\
        Examples:\n  qchost account status\n  qchost account status --json"
    )]
    Status(AccountStatus),
    /// Remove the tokens of an account, have its server end them, and forget whose it was.
    #[command(after_help = "Example:\n  qchost account logout research")]
    Logout(LogOut),
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Cli, ExitStatus};

    #[test]
    fn every_hint_of_an_exit_status_is_a_command() {
        for hint in ExitStatus::ALL.iter().filter_map(|status| status.hint()) {
            match Cli::try_parse_from(hint.split_whitespace()) {
                Ok(_) => {}
                // The help ends like an error, but is none.
                Err(error) => assert!(!error.use_stderr(), "{hint}: {error}"),
            }
        }
    }

    /// The parser asserts it only in a debug build, and only for the verb that is run.
    #[test]
    fn every_verb_is_well_formed() {
        Cli::command().debug_assert();
    }
}
