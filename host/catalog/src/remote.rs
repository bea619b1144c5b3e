//! The tools of QuantConnect's remote MCP server: the table of their names and the forms of their arguments.
//!
//! The remote server shares 22 names with the REST API's tools, most of them with other arguments and another meaning. A
//! row of the table of operations refers to a tool here only if the tool means the same as the function; the others are in
//! [`NOT_BY_REMOTE`], with the reason.
//!
//! Invariant: where the documentation does not name an argument or a field of an answer, the name is a [`guess`]. The
//! connection compares the arguments with the server's own schema before it sends anything, so a wrong guess is a
//! refused call and never another action.

/// A way from the host to QuantConnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// An MCP server in front of the REST API: ours, or QuantConnect's deprecated one.
    Rest,
    /// QuantConnect's remote MCP server.
    Remote,
}

impl Way {
    /// Both ways, the one with precedence first.
    pub const ALL: [Self; 2] = [Self::Rest, Self::Remote];

    /// Its name for people and machines.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Remote => "remote",
        }
    }

    /// The lines of `qchost.toml` that add this way to an account.
    #[must_use]
    pub fn lines(self, account: &str) -> String {
        match self {
            Self::Rest => {
                format!("[account.{account}]\nconnection = \"embedded\"\ncloud = \"quantconnect\"")
            }
            Self::Remote => {
                format!("[account.{account}.remote]\nurl = \"{REMOTE_SERVER}\"")
            }
        }
    }
}

/// The address of QuantConnect's remote MCP server.
pub const REMOTE_SERVER: &str = "https://www.quantconnect.com/api/v2/mcp";

/// Whether and how an operation goes to the remote server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// It does not.
    No,
    /// By this tool.
    Tool(&'static RemoteTool),
    /// The host answers it with what the server said about itself when the session was opened.
    Handshake,
    /// There is nothing of the kind, so the answer is `not-found`: the reason.
    Nothing(&'static str),
}

/// A tool of the remote server that means the same as a function of the contract.
#[derive(Debug, PartialEq, Eq)]
pub struct RemoteTool {
    /// Its name.
    pub name: &'static str,
    /// Every argument of the contract that the tool takes. The call is refused if it has others.
    pub arguments: &'static [RemoteArgument],
    /// The path in its answer to what the function returns.
    pub answer: &'static str,
    /// What that becomes in the operation's own answer.
    pub form: Form,
    /// The argument that counts pages from 1, if the answer comes in pages: the host reads all of them.
    pub page: Option<&'static str>,
    /// The tool that answers a call without arguments, which this one would take for what it has open.
    pub all: Option<&'static RemoteTool>,
}

/// How what the remote server answers becomes what the function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// It is the same.
    Same,
    /// One item, of which the function returns a list.
    One,
    /// Lines of files, which the function returns by file.
    Lines,
}

/// An argument of the contract and its name at the remote server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteArgument {
    /// Its JSON name in the contract.
    pub ours: &'static str,
    /// Its name at the remote server.
    pub theirs: &'static str,
    /// Whether the name is documented.
    pub documented: bool,
    /// Whether it is an address, which has to be one of QuantConnect's own.
    pub address: bool,
}

const fn argument(ours: &'static str, theirs: &'static str) -> RemoteArgument {
    RemoteArgument {
        ours,
        theirs,
        documented: true,
        address: false,
    }
}

/// An argument with a guessed name.
const fn guess(ours: &'static str, theirs: &'static str) -> RemoteArgument {
    RemoteArgument {
        documented: false,
        ..argument(ours, theirs)
    }
}

const fn tool(
    name: &'static str,
    arguments: &'static [RemoteArgument],
    answer: &'static str,
) -> RemoteTool {
    RemoteTool {
        name,
        arguments,
        answer,
        form: Form::Same,
        page: None,
        all: None,
    }
}

const PROJECT: RemoteArgument = argument("projectId", "projectId");
/// The project of a notebook, a search or a deployment. That the tools take it is a guess: without it they act on the project that
/// the session has open, which the host never relies on.
const OPEN_PROJECT: RemoteArgument = guess("projectId", "projectId");
/// Which cell of a notebook, counted from 0.
const CELL: RemoteArgument = guess("index", "index");
const SOURCE: RemoteArgument = guess("source", "source");
const NOTEBOOK: RemoteArgument = guess("notebook", "notebook");
const IMAGE: RemoteArgument = RemoteArgument {
    address: true,
    ..guess("url", "url")
};
const FILE: RemoteArgument = argument("name", "filePath");
const CONTENT: RemoteArgument = argument("content", "content");
const OLD_STRING: RemoteArgument = argument("oldString", "oldString");
const NEW_STRING: RemoteArgument = guess("newString", "newString");
const QUERY: RemoteArgument = guess("query", "query");
const ADDRESS: RemoteArgument = guess("address", "address");
const PHONE_NUMBER: RemoteArgument = guess("phoneNumber", "phoneNumber");
const CHAT: RemoteArgument = guess("chatId", "id");
const SUBJECT: RemoteArgument = guess("subject", "subject");
const MESSAGE: RemoteArgument = guess("message", "message");
const NAME: RemoteArgument = guess("name", "name");
const DESCRIPTION: RemoteArgument = guess("description", "description");

pub(crate) static LIST_PROJECTS: RemoteTool = RemoteTool {
    page: Some("page"),
    ..tool("list_projects", &[], "projects")
};
pub(crate) static READ_PROJECT: RemoteTool = RemoteTool {
    form: Form::One,
    all: Some(&LIST_PROJECTS),
    ..tool("read_project", &[PROJECT], "project")
};
/// It may replace a file that exists, so it is no way to `create-file`. What it says of the compile is left out.
pub(crate) static CREATE_FILE: RemoteTool = tool("create_file", &[PROJECT, FILE, CONTENT], "");
pub(crate) static EDIT_FILE: RemoteTool =
    tool("edit_file", &[PROJECT, FILE, OLD_STRING, NEW_STRING], "");
pub(crate) static SEARCH_FILE_CONTENT: RemoteTool = RemoteTool {
    form: Form::Lines,
    page: Some("page"),
    ..tool("search_file_content", &[OPEN_PROJECT, QUERY], "matches")
};
pub(crate) static STOP_LIVE_ALGORITHM: RemoteTool =
    tool("stop_live_algorithm", &[OPEN_PROJECT], "");
pub(crate) static LIQUIDATE_LIVE_ALGORITHM: RemoteTool =
    tool("liquidate_live_algorithm", &[OPEN_PROJECT], "");

pub(crate) static CREATE_CELL: RemoteTool =
    tool("jupyter_create_cell", &[OPEN_PROJECT, SOURCE, CELL], "");
pub(crate) static READ_CELL: RemoteTool = tool("jupyter_read_cell", &[OPEN_PROJECT, CELL], "cell");
pub(crate) static UPDATE_CELL: RemoteTool =
    tool("jupyter_update_cell", &[OPEN_PROJECT, CELL, SOURCE], "");
pub(crate) static DELETE_CELL: RemoteTool = tool("jupyter_delete_cell", &[OPEN_PROJECT, CELL], "");
pub(crate) static EXECUTE_CELL: RemoteTool =
    tool("jupyter_execute_cell", &[OPEN_PROJECT, CELL], "outputs");
pub(crate) static CREATE_NOTEBOOK: RemoteTool =
    tool("jupyter_create_notebook", &[OPEN_PROJECT, NOTEBOOK], "");
pub(crate) static READ_NOTEBOOK: RemoteTool =
    tool("jupyter_read_notebook", &[OPEN_PROJECT], "notebook");
pub(crate) static EXECUTE_NOTEBOOK: RemoteTool =
    tool("jupyter_execute_notebook", &[OPEN_PROJECT], "outputs");
pub(crate) static GET_IMAGE: RemoteTool = tool("jupyter_get_image", &[IMAGE], "data");

pub(crate) static SEND_EMAIL: RemoteTool =
    tool("send_email_notification", &[ADDRESS, SUBJECT, MESSAGE], "");
pub(crate) static SEND_SMS: RemoteTool =
    tool("send_sms_notification", &[PHONE_NUMBER, MESSAGE], "");
pub(crate) static SEND_TELEGRAM: RemoteTool =
    tool("send_telegram_notification", &[CHAT, MESSAGE], "");

pub(crate) static LIST_DATASETS: RemoteTool = tool("list_datasets", &[], "datasets");
pub(crate) static GET_DATASET_DETAILS: RemoteTool = tool("get_dataset_details", &[NAME], "");
pub(crate) static ENVIRONMENT_LIBRARY_SUPPORT: RemoteTool =
    tool("environment_library_support", &[], "");

pub(crate) static LIST_SKILLS: RemoteTool = tool("list_skills", &[], "skills");
pub(crate) static LOAD_SKILL: RemoteTool = tool("load_skill", &[NAME], "content");
pub(crate) static READ_PROJECT_TEMPLATES: RemoteTool =
    tool("read_project_templates", &[DESCRIPTION], "templates");

/// Tools of the remote server that no operation goes by, with the reason.
pub const NOT_BY_REMOTE: &[(&str, &str)] = &[
    (
        "create_project",
        "it takes files at once, and its organisation is that of the login",
    ),
    (
        "read_open_project",
        "which project is open is state of the server's that another session may change",
    ),
    (
        "update_project",
        "whether it takes the project's id is not documented, so it may change the open project",
    ),
    ("read_file", "it reads .py and .cs files only"),
    (
        "delete_file",
        "whether it takes the project's id is not documented, so it may delete in the open project",
    ),
    ("create_compile", "it answers a result and no job to read"),
    (
        "create_backtest",
        "it compiles by itself what the project has at that moment, and takes no compile",
    ),
    (
        "read_backtest",
        "it may answer empty or stale data before the end",
    ),
    (
        "read_backtest_orders",
        "it pages by its own number and not by position",
    ),
    (
        "list_backtests",
        "it answers recent backtests only, and how many is not documented",
    ),
    (
        "update_backtest",
        "it falls back to the latest backtest if it does not take the id",
    ),
    (
        "delete_backtest",
        "whether it falls back to the latest backtest is not documented",
    ),
    (
        "search_backtest_logs",
        "the REST API answers the same by position",
    ),
    (
        "create_optimization",
        "it compiles by itself, and has no estimate from which the cost follows",
    ),
    ("read_optimization", "it answers an interpretation in prose"),
    (
        "list_optimizations",
        "it answers names, states and dates only",
    ),
    (
        "delete_optimization",
        "it deletes a running optimisation, since it cannot abort one",
    ),
    (
        "create_live_algorithm",
        "it deploys to QuantConnect's paper brokerage whatever profile is named",
    ),
    (
        "read_live_algorithm",
        "it answers what it takes for the current deployment",
    ),
    (
        "read_live_holdings",
        "it answers the holdings of what it takes for the current deployment, without cash",
    ),
    (
        "search_live_logs",
        "it falls back to the current deployment if it does not take the id",
    ),
    (
        "object_store_set",
        "it takes no organisation, and writes below `.assistant/` what steers QuantConnect's agents",
    ),
    (
        "object_store_pdf_to_markdown",
        "it reads or overwrites an object, depending on an argument",
    ),
];

/// Why the host never calls a tool of the remote server, if it does not.
#[must_use]
pub fn not_by_remote(tool: &str) -> Option<&'static str> {
    let mut listed = NOT_BY_REMOTE.iter();
    listed
        .find(|(name, _)| *name == tool)
        .map(|(_, reason)| *reason)
}
