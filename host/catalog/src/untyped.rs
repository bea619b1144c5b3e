//! Operations that have no function in the contract: what agents of QuantConnect do, issues of its data, and its support.
//! They are called by `raw` alone, under the names and with the arguments that stand here.
//!
//! Left out on purpose, so that a call with it is refused: the `token` of an agent, which is a secret of the provider of
//! its model, and the `agent` within `chainedAgents`, which can carry one; `author`, `organization` and `node` of an
//! agent, which say whose it is and what it costs.
//!
//! Invariant: arguments are named as QuantConnect's documentation of November 2026 names them. That has no forms of most
//! answers, so answers are passed on as they come.

use crate::shape::{Field, Record, Type};
use crate::units::Unit;

/// What the contract says of other operations.
#[derive(Debug, PartialEq, Eq)]
pub struct Untyped {
    /// What it does.
    pub doc: &'static str,
    /// Its arguments.
    pub fields: &'static [Field],
}

const fn required(json: &'static str, ty: Type, doc: &'static str) -> Field {
    Field {
        name: json,
        json,
        former: &[],
        doc,
        positions: &[],
        unit: Unit::Plain,
        ty,
    }
}

const fn optional(json: &'static str, ty: &'static Type, doc: &'static str) -> Field {
    required(json, Type::Option(ty), doc)
}

const TEXT: &Type = &Type::String;
const NUMBER: &Type = &Type::U32;
const FLAG: &Type = &Type::Bool;
const TEXTS: &Type = &Type::List(TEXT);
const CHAIN: &Type = &Type::List(&Type::Record(CHAINED_AGENT));
const HELPERS: &Type = &Type::List(&Type::Record(SUB_AGENT));

const CHAINED_AGENT: &Record = &Record {
    name: "chained-agent",
    rust: "ChainedAgent",
    fields: &[
        required("agentId", Type::U32, "Number of the agent."),
        required("step", Type::U32, "Position of the agent in the chain."),
    ],
};

const SUB_AGENT: &Record = &Record {
    name: "sub-agent",
    rust: "SubAgent",
    fields: &[
        required("agentId", Type::U32, "Number of the agent."),
        optional(
            "callableCount",
            NUMBER,
            "How often a deployment may call the agent.",
        ),
    ],
};

const ORGANIZATION: Field = required(
    "organizationId",
    Type::String,
    "Id of the organisation, from `read-account`.",
);
const AGENT: Field = required(
    "agentId",
    Type::U32,
    "Number of the agent, from `list-agents`.",
);
const TASK: Field = required(
    "taskId",
    Type::U32,
    "Number of the task, from `list-agent-tasks`.",
);
const DEPLOYMENT: Field = required(
    "deploymentId",
    Type::String,
    "Id of the deployment: `A-` and 32 hexadecimal digits.",
);

const AGENT_NAME: &str = "Name of the agent.";
const DESCRIPTION: Field = optional("description", TEXT, "What the agent is for.");
const IMAGE: Field = optional("profileImage", TEXT, "Picture of the agent.");
const SYSTEM_PROMPT: Field = optional("systemPrompt", TEXT, "What the agent is told at first.");
const EFFORT: Field = optional(
    "reasoningEffort",
    TEXT,
    "How much the model reasons: `low`, `medium` or `high`.",
);
const TURNS: Field = optional("maxTurns", NUMBER, "Maximum turns of a deployment.");
const TOOL_CHOICE: Field = optional("toolChoice", TEXT, "How the model chooses tools.");
const TOOLS: Field = optional("tools", TEXTS, "Names of the tools that the agent may use.");
const PUBLIC: Field = optional("public", FLAG, "Whether others see the agent.");
const MODEL: Field = optional("model", TEXT, "Name of the model.");
const CHAINED: Field = optional("chainedAgents", CHAIN, "Agents that continue the work.");
const SUBORDINATE: Field = optional("subAgents", HELPERS, "Agents that the agent can call.");
const CREDIT: Field = optional(
    "useQCC",
    FLAG,
    "Whether QuantConnect Credit pays for the model.",
);
const PIPELINE: Field = optional("pipeline", TEXT, "How the agent's steps are run.");

pub(crate) static CREATE_AGENT: Untyped = Untyped {
    doc: "Create one of QuantConnect's agents. The secret of a model's provider is not taken: set it in the web terminal.",
    fields: &[
        ORGANIZATION,
        required("name", Type::String, AGENT_NAME),
        DESCRIPTION,
        IMAGE,
        SYSTEM_PROMPT,
        EFFORT,
        TURNS,
        TOOL_CHOICE,
        TOOLS,
        PUBLIC,
        MODEL,
        CHAINED,
        SUBORDINATE,
        CREDIT,
        PIPELINE,
    ],
};
pub(crate) static READ_AGENT: Untyped = Untyped {
    doc: "Read an agent.",
    fields: &[AGENT],
};
pub(crate) static UPDATE_AGENT: Untyped = Untyped {
    doc: "Change an agent; what is absent stays as it is. The secret of a model's provider is not taken.",
    fields: &[
        AGENT,
        optional("name", TEXT, AGENT_NAME),
        DESCRIPTION,
        IMAGE,
        SYSTEM_PROMPT,
        EFFORT,
        TURNS,
        TOOL_CHOICE,
        TOOLS,
        PUBLIC,
        MODEL,
        CHAINED,
        SUBORDINATE,
        CREDIT,
        PIPELINE,
    ],
};
pub(crate) static DELETE_AGENT: Untyped = Untyped {
    doc: "Delete an agent.",
    fields: &[AGENT],
};
pub(crate) static LIST_AGENTS: Untyped = Untyped {
    doc: "List the agents of an organisation.",
    fields: &[ORGANIZATION],
};

pub(crate) static CREATE_TASK: Untyped = Untyped {
    doc: "Write down what an agent is to do. It does nothing before the task is deployed.",
    fields: &[
        ORGANIZATION,
        AGENT,
        required(
            "name",
            Type::String,
            "Name of the task, which QuantConnect may change.",
        ),
        required("prompt", Type::String, "What the agent is to do."),
        required(
            "projectPreference",
            Type::String,
            "`project-each-task-deployment` or `project-for-task`: which project the agent works in.",
        ),
    ],
};
pub(crate) static READ_TASK: Untyped = Untyped {
    doc: "Read a task of an agent.",
    fields: &[TASK],
};
pub(crate) static UPDATE_TASK: Untyped = Untyped {
    doc: "Rename a task of an agent.",
    fields: &[TASK, optional("name", TEXT, "New name of the task.")],
};
pub(crate) static DELETE_TASK: Untyped = Untyped {
    doc: "Delete a task of an agent.",
    fields: &[TASK],
};
pub(crate) static LIST_TASKS: Untyped = Untyped {
    doc: "List the tasks of an organisation's agents.",
    fields: &[ORGANIZATION],
};

pub(crate) static CREATE_DEPLOYMENT: Untyped = Untyped {
    doc: "Let an agent work on a task. It has the authority of the account: to trade, too.",
    fields: &[TASK],
};
pub(crate) static READ_DEPLOYMENT: Untyped = Untyped {
    doc: "Read the state of an agent's work.",
    fields: &[DEPLOYMENT],
};
pub(crate) static PROMPT_DEPLOYMENT: Untyped = Untyped {
    doc: "Tell an agent at work what to do. It has the authority of the account: to trade, too.",
    fields: &[
        DEPLOYMENT,
        required("prompt", Type::String, "What the agent is told."),
    ],
};
pub(crate) static LIST_DEPLOYMENTS: Untyped = Untyped {
    doc: "List the deployments of a task.",
    fields: &[TASK],
};
pub(crate) static STOP_DEPLOYMENT: Untyped = Untyped {
    doc: "Stop an agent's work.",
    fields: &[DEPLOYMENT],
};
pub(crate) static DELETE_DEPLOYMENT: Untyped = Untyped {
    doc: "Delete a deployment of an agent.",
    fields: &[DEPLOYMENT],
};
pub(crate) static READ_CONVERSATION: Untyped = Untyped {
    doc: "Read what an agent was told, what it said and which tools it called.",
    fields: &[
        DEPLOYMENT,
        optional("callableId", TEXT, "Id of an agent that it called."),
    ],
};

const FIXED: &str = "The text that QuantConnect has for this kind of issue.";

pub(crate) static CREATE_DATA_ISSUE: Untyped = Untyped {
    doc: "Report an issue of a dataset on a public page: the recipient `public` of grants. At least one kind of issue is needed. An attached project can be \
     read by QuantConnect.",
    fields: &[
        required("ticker", Type::String, "Ticker of the security."),
        required(
            "security",
            Type::String,
            "Kind of the security, such as `Equity`.",
        ),
        required("market", Type::String, "Market of the security."),
        required(
            "resolution",
            Type::String,
            "Resolution of the data, such as `Daily`.",
        ),
        required("from-date", Type::String, "First day of the issue."),
        required("to-date", Type::String, "Last day of the issue."),
        optional(
            "from-time",
            TEXT,
            "Time of the first day, for data by second or minute.",
        ),
        optional(
            "to-time",
            TEXT,
            "Time of the last day, for data by second or minute.",
        ),
        required(
            "content",
            Type::String,
            "What is wrong, in HTML. It is public.",
        ),
        optional("corrupted-files", TEXT, FIXED),
        optional("missing-points", TEXT, FIXED),
        optional("missing-files", TEXT, FIXED),
        optional("wrong-values", TEXT, FIXED),
        optional("listing-error", TEXT, FIXED),
        optional("split-error", TEXT, FIXED),
        optional("dividend-error", TEXT, FIXED),
        optional("name-mapping-error", TEXT, FIXED),
        optional("select-project", NUMBER, "Id of a project to attach."),
        optional("select-backtest", TEXT, "Id of a backtest of that project."),
    ],
};
pub(crate) static LIST_DATA_ISSUES: Untyped = Untyped {
    doc: "List reported issues of datasets, with the persons who reported them.",
    fields: &[
        optional("status", TEXT, "`open` or `closed`."),
        optional("start", NUMBER, "Position of the first issue, from 0."),
        optional(
            "end",
            NUMBER,
            "Position after the last issue; 20 if absent.",
        ),
        optional("search", TEXT, "Exact ticker."),
        optional(
            "subscribed",
            FLAG,
            "Whether only subscribed issues are wanted.",
        ),
    ],
};

pub(crate) static CREATE_TICKET: Untyped = Untyped {
    doc: "Ask QuantConnect's support, the recipient `support` of grants, or comment on a ticket. A ticket uses the quota of the month, and what is attached can \
     be read by QuantConnect's staff.",
    fields: &[
        ORGANIZATION,
        required("message", Type::String, "The question or comment, in HTML."),
        optional("subject", TEXT, "Subject of a new ticket."),
        optional(
            "hash",
            TEXT,
            "The ticket that is commented on; absent for a new one.",
        ),
        optional(
            "close",
            FLAG,
            "Whether the ticket is closed with the comment.",
        ),
        optional(
            "projectId",
            NUMBER,
            "Id of a project to attach to a new ticket.",
        ),
        optional("backtestId", TEXT, "Id of a backtest of that project."),
        optional("deployId", TEXT, "Id of a live deployment of that project."),
        optional(
            "agentDeploymentId",
            TEXT,
            "Id of an agent's deployment to attach.",
        ),
    ],
};
pub(crate) static READ_TICKET: Untyped = Untyped {
    doc: "Read the messages of a support ticket.",
    fields: &[
        ORGANIZATION,
        required(
            "hash",
            Type::String,
            "The ticket, from `list-support-tickets`.",
        ),
    ],
};
pub(crate) static LIST_TICKETS: Untyped = Untyped {
    doc: "List the support tickets of an organisation, and how many it has left.",
    fields: &[
        ORGANIZATION,
        optional("closedPage", NUMBER, "Page of the closed tickets, from 0."),
    ],
};
