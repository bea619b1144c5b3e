//! The properties of an operation besides its types.
//!
//! Invariant: a row is complete at compile time and never changes. To find out what an operation
//! touches, use its selectors, not its name.

use serde_json::{Map, Value};
use strum::IntoStaticStr;

use crate::remote::{Remote, RemoteTool, Way};
use crate::shape::{self, Field, Function};
use crate::untyped::Untyped;

/// What an operation can do to an account, from harmless to harmful. Decided here and not by
/// the server's hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Access {
    /// Changes nothing.
    Read,
    /// Makes the account safer: stops, liquidates, aborts.
    Reduce,
    /// Creates or changes something that can be changed back.
    Write,
    /// Deletes.
    Destroy,
    /// Puts money at stake, or gives another user the power to: deploys, commands, broadcasts,
    /// grants of live control.
    Trade,
}

impl Access {
    /// All classes, from harmless to harmful.
    pub const ALL: [Self; 5] = [
        Self::Read,
        Self::Reduce,
        Self::Write,
        Self::Destroy,
        Self::Trade,
    ];

    /// Its name in manifests, audit records and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// Whether a glob in a manifest may cover operations of this class; the others have to be
    /// granted by name.
    #[must_use]
    pub fn globbed(self) -> bool {
        !matches!(self, Self::Destroy | Self::Trade)
    }
}

/// An argument that says what an operation touches, by its JSON name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Selector {
    /// A project's id.
    Project(&'static str),
    /// The id of the one project of the organisation that is left alone: it narrows what is touched
    /// and is never itself touched, so it may not be what a scope is checked against.
    ExcludedProject(&'static str),
    /// The id of another project, whose files an algorithm of the project is to read: both are touched.
    Library(&'static str),
    /// The name that a project is to have.
    ProjectName(&'static str),
    /// The id of a project that may be attached, and is touched then.
    AttachedProject(&'static str),
    /// An organisation's id.
    Organization(&'static str),
    /// A file's path in the project.
    File(&'static str),
    /// Files with their names and texts, instead of all that the project has: the present ones are
    /// touched as well.
    Files(&'static str),
    /// A patch, whose text names files of the project.
    Patch(&'static str),
    /// A key, or a list of keys, of the Object Store.
    ObjectKey(&'static str),
    /// A key, or a list of keys, of which the objects are downloaded.
    DownloadKey(&'static str),
    /// The id of a download that was started by key.
    DownloadJob(&'static str),
    /// A folder of the Object Store.
    ObjectPath(&'static str),
    /// The id of a backtest, which belongs to a project.
    Backtest(&'static str),
    /// The id of an optimisation, which belongs to a project.
    Optimization(&'static str),
    /// The id of a compile job, which belongs to a project.
    Compile(&'static str),
    /// The id of a live deployment, which belongs to a project.
    Deployment(&'static str),
    /// A brokerage profile, or a list of data-provider profiles.
    Profile(&'static str),
    /// A brokerage by name.
    Brokerage(&'static str),
    /// A node's id, or a list of them.
    Node(&'static str),
    /// A node type.
    NodeType(&'static str),
    /// How many nodes at a time.
    ParallelNodes(&'static str),
    /// A live command, whose `$type` is its kind.
    Command(&'static str),
    /// A user who is given rights or loses them.
    Collaborator(&'static str),
    /// Whether that user may trade with the project.
    LiveControl(&'static str),
    /// What the caller believes the operation costs, in US dollars.
    Cost(&'static str),
    /// Parameters of an algorithm.
    Parameters(&'static str),
    /// The name of a chart.
    Chart(&'static str),
    /// Who gets a message: an email address, a telephone number, a chat.
    Recipient(&'static str),
    /// Whether others see what is written: the recipient is [`PUBLIC`] then.
    Published(&'static str),
}

/// The recipient of what everyone can read.
pub const PUBLIC: &str = "public";

/// What an operation may touch any of, since its arguments do not say which: a grant covers it only if it is for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnyOf {
    /// Any project of the account.
    Projects,
    /// What belongs to any organisation of the account.
    Organizations,
}

impl Selector {
    /// What it selects, in a word: `project`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.into()
    }

    /// The JSON name of the argument.
    #[must_use]
    pub fn argument(&self) -> &'static str {
        match self {
            Self::Project(name)
            | Self::ExcludedProject(name)
            | Self::Library(name)
            | Self::ProjectName(name)
            | Self::AttachedProject(name)
            | Self::Organization(name)
            | Self::File(name)
            | Self::Files(name)
            | Self::Patch(name)
            | Self::ObjectKey(name)
            | Self::DownloadKey(name)
            | Self::DownloadJob(name)
            | Self::ObjectPath(name)
            | Self::Backtest(name)
            | Self::Optimization(name)
            | Self::Compile(name)
            | Self::Deployment(name)
            | Self::Profile(name)
            | Self::Brokerage(name)
            | Self::Node(name)
            | Self::NodeType(name)
            | Self::ParallelNodes(name)
            | Self::Command(name)
            | Self::Collaborator(name)
            | Self::LiveControl(name)
            | Self::Cost(name)
            | Self::Parameters(name)
            | Self::Chart(name)
            | Self::Recipient(name)
            | Self::Published(name) => name,
        }
    }
}

/// What a write does, where the host must recognise it, or can find out whether it happened after
/// its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Creates an item.
    Creates {
        /// The operation that lists such items.
        list: &'static str,
        /// The member of its answer with the items.
        items: &'static str,
        /// The argument with the item's name.
        name: &'static str,
    },
    /// Removes an item.
    Removes {
        /// The operation that reads it, and does not find it afterwards.
        read: &'static str,
    },
    /// Creates a file.
    CreatesFile,
    /// Replaces the text of a file.
    ReplacesFile,
    /// Compiles a project. The job changes nothing, so a second one does no harm.
    Compiles,
    /// Starts a live deployment of a project.
    Deploys,
    /// Ends the live deployment of a project.
    EndsDeployment,
}

/// Whether an answer may hold values of datasets that QuantConnect's terms keep in its cloud. Source code, statistics,
/// orders, signals and the standard charts may leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Licensed {
    /// It holds none.
    No,
    /// It may: a log, an object, what a notebook printed.
    Always,
    /// It may if the chart is not one of [`STANDARD_CHARTS`].
    Charts,
    /// It may if a file in it is a notebook.
    Notebooks,
}

/// The charts that QuantConnect lets out: equity curves and what follows from them.
pub const STANDARD_CHARTS: [&str; 3] = ["Strategy Equity", "Drawdown", "Benchmark"];

/// How the REST API takes a request and answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// JSON is posted, and JSON is the answer.
    Json,
    /// A form with the bytes of an object is posted.
    Upload,
    /// The answer is a redirect to a page that a person opens.
    Redirect,
    /// JSON is posted, and a file is the answer.
    File,
    /// Our server reads the orders in pages and answers with a range of those that match.
    FilterOrders,
    /// A form is posted, with brackets for what is nested, and JSON is the answer.
    Form,
    /// Our server replaces the file or, if there is none, creates it.
    WriteFile,
    /// Our server takes the project's lock, reads the file, checks it and replaces it.
    EditFile,
    /// Our server reads the project's files and answers with the lines that match.
    SearchFiles,
    /// Our server lists the projects and answers with a range of those that match.
    FindProjects,
}

/// The member with the type of a file, where an answer is a file.
pub const MEDIA_TYPE: &str = "mediaType";
/// The member with the text of a file, where an answer is a file.
pub const CONTENT: &str = "content";

/// Where a function differs from its tool on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    /// The plugin names a profile; the tool takes its settings. The JSON name.
    Profile(&'static str),
    /// The plugin names profiles; the tool takes an object of their settings. The JSON name.
    Profiles(&'static str),
    /// The brokerage's profile gives it, and no plugin: the JSON name.
    OfProfile(&'static str),
    /// The host gives it: the JSON name and the text.
    Constant(&'static str, &'static str),
    /// The REST API wants null where the plugin leaves it out. The JSON name.
    Null(&'static str),
    /// The host sets it to true: the JSON name.
    Flag(&'static str),
    /// The tool takes text; bytes that are not UTF-8 go as base64 under the second name, which
    /// only our own server knows.
    Bytes(&'static str, &'static str),
}

impl Exception {
    /// The field of the tool that is concerned.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Profile(field)
            | Self::Profiles(field)
            | Self::OfProfile(field)
            | Self::Constant(field, _)
            | Self::Null(field)
            | Self::Flag(field)
            | Self::Bytes(field, _) => field,
        }
    }
}

/// How long the answer of a read may be given again to any user of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Not at all: it is live state, a secret, or computed for the call.
    None,
    /// This many seconds, whatever it says: people change such items in the web terminal too.
    Seconds(u32),
    /// The ending's seconds if the answer itself proves that its item is finished, otherwise not at all.
    Proof(&'static Ending),
    /// [`FINISHED_SECONDS`] if an earlier answer proved that its item is finished, otherwise not at all.
    Finished,
}

/// How long an answer about a finished item is kept, in seconds: nothing but this account's own writes changes it.
pub const FINISHED_SECONDS: u32 = 24 * 60 * 60;

/// How long an answer with names, notes or a list is kept, in seconds.
pub(crate) const BRIEF_SECONDS: u32 = 5;

/// How an answer says that its backtest or optimisation has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    /// The path in the answer to the status.
    pub status: &'static str,
    /// The path in the answer to the item's own id.
    pub id: &'static str,
    /// The statuses of an item that completed, and never changes again.
    pub completed: &'static [&'static str],
    /// The statuses of an item that ended in another way.
    pub failed: &'static [&'static str],
    /// How long an answer that says so is kept, in seconds. It has names, notes or the layout of the web page too, which
    /// people change, and may lack an analysis that is made later: so it is an exception from [`FINISHED_SECONDS`], by
    /// which the other answers about the item are kept.
    pub seconds: u32,
}

/// What QuantConnect runs until it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// A backtest.
    Backtest,
    /// An optimisation.
    Optimization,
}

/// How an item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As it was meant to.
    Completed,
    /// In another way, such as by an error.
    Failed,
}

impl Ending {
    /// How the item with this id ended according to an answer; `None` if it did not, or the answer is about another.
    #[must_use]
    pub fn of(&self, id: &str, answer: &Value) -> Option<Ended> {
        let at = |path: &str| {
            path.split('.')
                .try_fold(answer, |body, step| body.get(step))
        };
        if at(self.id).and_then(Value::as_str)? != id {
            return None;
        }
        let status = at(self.status).and_then(Value::as_str)?;
        if self.completed.contains(&status) {
            return Some(Ended::Completed);
        }
        self.failed.contains(&status).then_some(Ended::Failed)
    }
}

/// How a call says which of several live deployments of a project it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// By its argument for a deployment, which may be left out if there is only one.
    Named,
    /// It cannot: QuantConnect answers about one of them, or gives a command to one.
    Unnamed,
}

/// One row of the catalog.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// The WIT interface and function: `compile/read-compile`.
    pub name: &'static str,
    /// The MCP tool: `read_compile`.
    pub tool: &'static str,
    /// The path under the REST base, or empty where the server answers by itself and where there is no such way.
    pub endpoint: &'static str,
    /// Whether it goes by the REST API, which has precedence where an account has both ways.
    pub rest: bool,
    /// Whether and how it goes by the remote server.
    pub remote: Remote,
    /// The access class.
    pub access: Access,
    /// Whether a second send leaves the same state *and* returns an answer that reads as success.
    pub idempotent: bool,
    /// Whether a write only adds: nothing that existed before is changed or removed.
    pub additive: bool,
    /// How long an answer may be given again.
    pub lifetime: Lifetime,
    /// Whether the answer may hold licensed data.
    pub licensed: Licensed,
    /// The most calls that QuantConnect takes from one account in half an hour, if it says so.
    pub calls_per_half_hour: Option<u32>,
    /// Whether the answer contains a secret, such as a download address that works without
    /// credentials.
    pub secret_answer: bool,
    /// What a write does, where the host has to know.
    pub effect: Option<Effect>,
    /// How the REST API takes it.
    pub transport: Transport,
    /// The arguments that select what it touches.
    pub selectors: &'static [Selector],
    /// Where its function differs from its tool.
    pub exceptions: &'static [Exception],
    /// How a call says which deployment it is about, if its answer is about one.
    pub deployment: Option<Choice>,
    /// Arguments that the official server's tool does not take. It drops in silence what it does not know.
    pub newer: &'static [&'static str],
    /// Why no pattern covers it, in a word or two, if that follows from nothing else in the row: `data of persons`.
    pub named: Option<&'static str>,
    /// What its calls may touch any of, without saying which.
    pub any_of: Option<AnyOf>,
    /// Whether what its caller writes is what one of QuantConnect's agents is told, or sets it to work.
    pub prompts: bool,
    /// Who reads what its caller writes, if that is always the same recipient outside of the account.
    pub audience: Option<&'static str>,
    /// Its documentation and arguments, where the contract has no function for it.
    pub untyped: Option<&'static Untyped>,
    /// The path in the answer to what the function returns: `projects.0`, or empty for the whole
    /// body.
    pub answer: &'static str,
}

impl Operation {
    /// A new row: a write that must not be sent twice.
    pub(crate) const fn new(
        name: &'static str,
        tool: &'static str,
        endpoint: &'static str,
    ) -> Self {
        Self {
            name,
            tool,
            endpoint,
            rest: true,
            remote: Remote::No,
            access: Access::Write,
            idempotent: false,
            additive: false,
            lifetime: Lifetime::None,
            licensed: Licensed::No,
            calls_per_half_hour: None,
            secret_answer: false,
            effect: None,
            transport: Transport::Json,
            selectors: &[],
            exceptions: &[],
            deployment: None,
            newer: &[],
            named: None,
            any_of: None,
            prompts: false,
            audience: None,
            untyped: None,
            answer: "",
        }
    }

    /// A new row of an operation that only the remote server has: a write that must not be sent twice.
    pub(crate) const fn only_remote(name: &'static str, tool: &'static RemoteTool) -> Self {
        let mut row = Self::new(name, tool.name, "").by(Remote::Tool(tool));
        row.rest = false;
        row.answer = tool.answer;
        row
    }

    /// What it does at the remote server, besides the REST API.
    pub(crate) const fn by(mut self, remote: Remote) -> Self {
        self.remote = remote;
        self
    }

    pub(crate) const fn reads(mut self) -> Self {
        self.access = Access::Read;
        self.idempotent = true;
        self
    }

    /// No pattern covers it, for this reason.
    pub(crate) const fn named_for(mut self, reason: &'static str) -> Self {
        self.named = Some(reason);
        self
    }

    /// Its calls do not say which of these they touch.
    pub(crate) const fn on_any_of(mut self, what: AnyOf) -> Self {
        self.any_of = Some(what);
        self
    }

    /// Tells one of QuantConnect's agents what to do, or sets it to work.
    pub(crate) const fn prompts(mut self) -> Self {
        self.prompts = true;
        self
    }

    /// What its caller writes goes to this recipient.
    pub(crate) const fn to(mut self, audience: &'static str) -> Self {
        self.audience = Some(audience);
        self
    }

    /// A row without a function in the contract.
    pub(crate) const fn untyped(mut self, untyped: &'static Untyped) -> Self {
        self.untyped = Some(untyped);
        self
    }

    pub(crate) const fn is(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    pub(crate) const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    pub(crate) const fn adds(mut self) -> Self {
        self.additive = true;
        self
    }

    /// QuantConnect takes no more calls of it from one account in half an hour.
    pub(crate) const fn per_half_hour(mut self, calls: u32) -> Self {
        self.calls_per_half_hour = Some(calls);
        self
    }

    /// Published now and then: a minute old is new enough.
    pub(crate) const fn cacheable(mut self) -> Self {
        self.lifetime = Lifetime::Seconds(60);
        self
    }

    /// Names, notes and lists, which people change in the web terminal.
    pub(crate) const fn brief(mut self) -> Self {
        self.lifetime = Lifetime::Seconds(BRIEF_SECONDS);
        self
    }

    /// Says how its item ended.
    pub(crate) const fn proves(mut self, ending: &'static Ending) -> Self {
        self.lifetime = Lifetime::Proof(ending);
        self
    }

    /// What never changes once its item is finished.
    pub(crate) const fn finished(mut self) -> Self {
        self.lifetime = Lifetime::Finished;
        self
    }

    pub(crate) const fn licensed(mut self, licensed: Licensed) -> Self {
        self.licensed = licensed;
        self
    }

    pub(crate) const fn secret_answer(mut self) -> Self {
        self.secret_answer = true;
        self
    }

    pub(crate) const fn does(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    pub(crate) const fn over(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    pub(crate) const fn on(mut self, selectors: &'static [Selector]) -> Self {
        self.selectors = selectors;
        self
    }

    pub(crate) const fn except(mut self, exceptions: &'static [Exception]) -> Self {
        self.exceptions = exceptions;
        self
    }

    pub(crate) const fn newer(mut self, arguments: &'static [&'static str]) -> Self {
        self.newer = arguments;
        self
    }

    pub(crate) const fn of_one(mut self, choice: Choice) -> Self {
        self.deployment = Some(choice);
        self
    }

    pub(crate) const fn answers(mut self, path: &'static str) -> Self {
        self.answer = path;
        self
    }

    /// The interface's name: `compile`.
    #[must_use]
    pub fn interface(&self) -> &'static str {
        self.name
            .split_once('/')
            .map_or(self.name, |(interface, _)| interface)
    }

    /// The function of the contract; `None` of those that are reached by `raw` alone.
    #[must_use]
    pub fn function(&self) -> Option<&'static Function> {
        shape::functions()
            .iter()
            .find(|function| self.name.split_once('/') == Some((function.interface, function.name)))
    }

    /// Whether the contract has a function for it. The others are reached by `raw` alone.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        self.untyped.is_none()
    }

    /// The fields of its request.
    #[must_use]
    pub fn request(&self) -> &'static [Field] {
        match self.untyped {
            Some(untyped) => untyped.fields,
            None => self
                .function()
                .map_or(&[][..], |function| function.request()),
        }
    }

    /// What it does, from the contract's own documentation where it has a function.
    #[must_use]
    pub fn description(&self) -> &'static str {
        match self.untyped {
            Some(untyped) => untyped.doc,
            None => self.function().map_or("", |function| function.doc),
        }
    }

    /// Whether it can go by this way.
    #[must_use]
    pub fn goes_by(&self, way: Way) -> bool {
        match way {
            Way::Rest => self.rest,
            Way::Remote => self.remote != Remote::No,
        }
    }

    /// That an account lacks the way of this operation, with the lines that add it.
    #[must_use]
    pub fn lacks_way(&self, account: &str) -> String {
        let (way, server) = match self.rest {
            true => (Way::Rest, "a server in front of the REST API"),
            false => (Way::Remote, "QuantConnect's remote MCP server"),
        };
        format!(
            "`{}` goes by {server}, which the account `{account}` is not connected to; add to qchost.toml:\n{}",
            self.name,
            way.lines(account)
        )
    }

    /// Whether the MCP server in front of the REST API answers it without asking the API.
    #[must_use]
    pub fn answered_by_server(&self) -> bool {
        self.rest && self.endpoint.is_empty()
    }

    /// Whether one of its selectors is such.
    pub fn selects(&self, is: impl Fn(&Selector) -> bool) -> bool {
        self.selectors.iter().any(is)
    }

    /// The project that a call is about, according to its arguments.
    #[must_use]
    pub fn project(&self, arguments: &Map<String, Value>) -> Option<u64> {
        let project = |selector: &Selector| matches!(selector, Selector::Project(_));
        let selector = self.selectors.iter().find(|selector| project(selector))?;
        arguments.get(selector.argument()).and_then(Value::as_u64)
    }

    /// The backtest or optimisation that a call is about: its kind and id.
    #[must_use]
    pub fn job<'a>(&self, arguments: &'a Map<String, Value>) -> Option<(Job, &'a str)> {
        let (job, argument) = self.selectors.iter().find_map(|selector| match selector {
            Selector::Backtest(argument) => Some((Job::Backtest, *argument)),
            Selector::Optimization(argument) => Some((Job::Optimization, *argument)),
            _ => None,
        })?;
        let id = arguments.get(argument).and_then(Value::as_str)?;
        Some((job, id))
    }

    /// What a successful call starts: its kind, and the member of what the call returns that has its id.
    #[must_use]
    pub fn starts(&self) -> Option<(Job, &'static str)> {
        match self.effect {
            Some(Effect::Creates { items, .. }) => match items {
                "backtests" => Some((Job::Backtest, "backtestId")),
                "optimizations" => Some((Job::Optimization, "optimizationId")),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a pattern of a grant may cover it; otherwise it is named in full, or not granted.
    #[must_use]
    pub fn globbed(&self) -> bool {
        self.guarded_as().is_none()
    }

    /// Why no pattern covers it, in a word or two; `None` if one may.
    #[must_use]
    pub fn guarded_as(&self) -> Option<&'static str> {
        if !self.access.globbed() {
            return Some(self.access.word());
        }
        match (self.prompts, self.sends()) {
            (true, _) => Some("steers an agent of QuantConnect's"),
            (false, true) => Some("sends to others"),
            (false, false) => self.named,
        }
    }

    /// Whether what its caller writes leaves the account: for a recipient, or for an agent of QuantConnect's, whose model
    /// another company may run.
    #[must_use]
    pub fn sends(&self) -> bool {
        self.prompts || self.addresses()
    }

    /// Whether its calls have, or may have, a recipient outside of the account.
    #[must_use]
    pub fn addresses(&self) -> bool {
        self.audience.is_some()
            || self.selects(|selector| {
                matches!(selector, Selector::Recipient(_) | Selector::Published(_))
            })
    }

    /// Whether it starts a live deployment.
    #[must_use]
    pub fn deploys(&self) -> bool {
        self.effect == Some(Effect::Deploys)
    }

    /// Whether a brokerage's profile gives this argument.
    #[must_use]
    pub fn is_of_profile(&self, argument: &str) -> bool {
        self.of_profile().any(|field| field == argument)
    }

    /// The arguments that a brokerage's profile gives.
    pub fn of_profile(&self) -> impl Iterator<Item = &'static str> {
        self.exceptions
            .iter()
            .filter_map(|exception| match exception {
                Exception::OfProfile(field) => Some(*field),
                _ => None,
            })
    }

    /// Whether it compiles a project.
    #[must_use]
    pub fn compiles(&self) -> bool {
        self.effect == Some(Effect::Compiles)
    }

    /// Whether its answer is a list of projects, or a page of one.
    #[must_use]
    pub fn answers_projects(&self) -> bool {
        self.answer == "projects" || self.transport == Transport::FindProjects
    }

    /// Whether its answer shows nodes, with the projects that occupy them.
    #[must_use]
    pub fn answers_nodes(&self) -> bool {
        self.interface() == "nodes"
    }

    /// Whether its call names files, or its answer shows them: deployments come with theirs.
    #[must_use]
    pub fn concerns_files(&self) -> bool {
        matches!(self.interface(), "files" | "live")
            || self.selects(|selector| matches!(selector, Selector::Files(_)))
    }

    /// Whether it may rename or delete a project.
    #[must_use]
    pub fn changes_project(&self) -> bool {
        self.interface() == "projects" && self.access != Access::Read
    }

    /// Whether it changes a project's files, notebooks, libraries or settings.
    #[must_use]
    pub fn changes_source(&self) -> bool {
        matches!(
            self.interface(),
            "files" | "libraries" | "projects" | "research"
        ) && !matches!(self.access, Access::Read | Access::Reduce)
    }

    /// Whether it lets code or an agent act with the authority of the account, which may then change anything of it.
    #[must_use]
    pub fn hands_over_account(&self) -> bool {
        self.access == Access::Trade
            && !matches!(self.interface(), "live" | "live-commands" | "collaboration")
    }

    /// Whether it costs something, which the caller claims to know.
    #[must_use]
    pub fn costs(&self) -> bool {
        self.selects(|selector| matches!(selector, Selector::Cost(_)))
    }

    /// Whether it starts a download of objects or returns its address.
    #[must_use]
    pub fn downloads(&self) -> bool {
        self.selects(|selector| {
            matches!(
                selector,
                Selector::DownloadKey(_) | Selector::DownloadJob(_)
            )
        })
    }

    /// Whether its answer is a file, whose text is the member [`CONTENT`].
    #[must_use]
    pub fn answers_file(&self) -> bool {
        self.transport == Transport::File
    }

    /// Whether the server applies a key to everything below it too, if it is a folder.
    #[must_use]
    pub fn takes_folders(&self) -> bool {
        self.access == Access::Destroy || self.downloads()
    }

    /// Adds the constants that the host supplies instead of the plugin.
    pub fn complete(&self, arguments: &mut Map<String, Value>) {
        for exception in self.exceptions {
            match exception {
                Exception::Constant(field, value) => {
                    arguments.insert((*field).to_owned(), Value::from(*value));
                }
                Exception::Flag(field) => {
                    arguments.insert((*field).to_owned(), Value::Bool(true));
                }
                Exception::Profile(_)
                | Exception::Profiles(_)
                | Exception::OfProfile(_)
                | Exception::Null(_)
                | Exception::Bytes(..) => {}
            }
        }
    }

    /// The steps of [`answer`](Self::answer); none for the whole body.
    pub fn answer_path(&self) -> impl DoubleEndedIterator<Item = &'static str> {
        self.answer.split('.').filter(|step| !step.is_empty())
    }

    /// Adds null for what the REST API wants to be there, if only as null.
    pub fn write_nulls(&self, arguments: &mut Map<String, Value>) {
        for exception in self.exceptions {
            if let Exception::Null(field) = exception
                && !arguments.contains_key(*field)
            {
                arguments.insert((*field).to_owned(), Value::Null);
            }
        }
    }

    /// Extracts what the function returns from a whole answer. `None` if the answer does not
    /// contain it.
    #[must_use]
    pub fn select(&self, mut body: Value) -> Option<Value> {
        for step in self.answer_path() {
            body = match body {
                Value::Object(mut fields) => fields.remove(step)?,
                Value::Array(mut items) => {
                    let at = step.parse::<usize>().ok().filter(|at| *at < items.len())?;
                    items.swap_remove(at)
                }
                _ => return None,
            };
        }
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::by_tool;

    fn ending(tool: &str) -> &'static Ending {
        match by_tool(tool).map(|operation| operation.lifetime) {
            Some(Lifetime::Proof(ending)) => ending,
            other => panic!("{tool} proves nothing: {other:?}"),
        }
    }

    #[test]
    fn only_the_status_of_the_item_itself_proves_that_it_is_finished() {
        let read = ending("read_backtest");
        let answer =
            |id: &str, status: Value| json!({ "backtest": { "backtestId": id, "status": status } });
        assert_eq!(
            read.of("b", &answer("b", json!("Completed."))),
            Some(Ended::Completed)
        );
        assert_eq!(
            read.of("b", &answer("b", json!("Runtime Error"))),
            Some(Ended::Failed)
        );
        for open in [
            json!("Running: 99%"),
            json!("In Queue..."),
            json!("Completed?"),
            json!(1),
            Value::Null,
        ] {
            assert_eq!(read.of("b", &answer("b", open)), None);
        }
        assert_eq!(read.of("b", &answer("another", json!("Completed."))), None);
        assert_eq!(
            read.of("b", &json!({ "backtest": { "status": "Completed." } })),
            None
        );
        assert_eq!(read.of("b", &json!([])), None);
        let read = ending("read_optimization");
        let answer =
            |status: &str| json!({ "optimization": { "optimizationId": "o", "status": status } });
        assert_eq!(read.of("o", &answer("completed")), Some(Ended::Completed));
        assert_eq!(read.of("o", &answer("aborted")), Some(Ended::Failed));
        assert_eq!(read.of("o", &answer("running")), None);
    }

    #[test]
    fn what_is_kept_is_a_read_without_a_secret_and_nothing_live_is() {
        for operation in crate::OPERATIONS {
            if operation.lifetime == Lifetime::None {
                continue;
            }
            assert_eq!(operation.access, Access::Read, "{}", operation.name);
            assert!(!operation.secret_answer, "{}", operation.name);
            let live = ["live", "live-commands", "nodes", "account"];
            assert!(!live.contains(&operation.interface()), "{}", operation.name);
            if matches!(operation.lifetime, Lifetime::Proof(_) | Lifetime::Finished) {
                let item =
                    |it: &Selector| matches!(it, Selector::Backtest(_) | Selector::Optimization(_));
                assert!(operation.selects(item), "{}", operation.name);
            }
        }
    }
}
