//! What the arguments of one call select, parsed strictly but not verified: only the account knows
//! whether a backtest belongs to the given project, and the project's name.
//!
//! Invariant: a name or an id that two servers could read differently is rejected.

use std::collections::BTreeSet;

use qchost_catalog::{Access, Exception, Operation, PUBLIC, Selector};
use qchost_policy::{Brokerage, Context, Usd};
use serde_json::{Map, Value};

use crate::arguments::{Arguments, wrong};
use crate::children::Child;
use crate::error::ScopeError;
use crate::live::{self, LiveProfile};
use crate::patch::Patch;
use crate::{cost, names};

/// Maximum files of a call that replaces those of a project: the largest tier's projects have as many.
const MAX_FILES: usize = 250;
/// The members of such a file.
const FILE_FIELDS: [&str; 2] = ["name", "content"];

/// What one call selects.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The project.
    pub(crate) project: Option<u32>,
    /// Whether everything of a kind is requested.
    pub(crate) listing: bool,
    /// The name that a project is to get.
    pub(crate) name: Option<String>,
    pub(crate) organization: Option<String>,
    pub(crate) files: Vec<String>,
    /// Whether these files take the place of all that the project has.
    pub(crate) replaces_files: bool,
    /// Projects whose files an algorithm of the project is to read.
    pub(crate) libraries: Vec<u32>,
    /// A patch that names more files, not read yet.
    pub(crate) patch: Option<Patch>,
    pub(crate) keys: Vec<String>,
    /// A download of objects.
    pub(crate) job: Option<String>,
    pub(crate) children: Vec<(Child, String)>,
    pub(crate) brokerage: Option<Brokerage>,
    pub(crate) providers: Vec<String>,
    pub(crate) nodes: Vec<String>,
    pub(crate) node_type: Option<String>,
    pub(crate) parallel_nodes: Option<u32>,
    /// A command's kind.
    pub(crate) command: Option<String>,
    pub(crate) collaborator: Option<String>,
    /// The name of a chart.
    pub(crate) chart: Option<String>,
    /// Who gets a message.
    pub(crate) recipient: Option<String>,
    /// Whether the collaborator may trade afterwards.
    pub(crate) live_control: Option<bool>,
    /// The cost that the caller claims.
    pub(crate) claimed: Option<Usd>,
    /// Number of parameters.
    pub(crate) parameters: Option<u32>,
    /// The largest number of backtests that a search of a grid makes.
    pub(crate) backtests: Option<u64>,
}

impl Selection {
    /// Reads every argument that selects something.
    pub(crate) fn of(
        operation: &'static Operation,
        given: &Arguments<'_>,
        profiles: LiveProfile<'_>,
    ) -> Result<Self, ScopeError> {
        let mut selection = Self {
            recipient: operation.audience.map(str::to_owned),
            ..Self::default()
        };
        for selector in operation.selectors {
            match Child::selected(selector) {
                Some((child, argument)) => {
                    if let Some(id) = text(given, argument, names::identifier)? {
                        selection.children.push((child, id));
                    }
                }
                None => selection.take(selector, operation, given, profiles)?,
            }
        }
        let attaches = |selector: &&Selector| matches!(selector, Selector::AttachedProject(_));
        if let Some(attached) = operation.selectors.iter().find(attaches)
            && selection.project.is_none()
            && !selection.children.is_empty()
        {
            let argument = attached.argument();
            let fault = "what is attached belongs to a project, which has to be named too";
            return Err(ScopeError::Invalid(format!(
                "`{argument}` is missing: {fault}"
            )));
        }
        if operation.answers_projects() && selection.project.is_none() {
            selection.listing = true;
        }
        Ok(selection)
    }

    fn take(
        &mut self,
        selector: &Selector,
        operation: &'static Operation,
        given: &Arguments<'_>,
        profiles: LiveProfile<'_>,
    ) -> Result<(), ScopeError> {
        match selector {
            Selector::Project(argument) => match given.positive(argument)? {
                Some(project) => self.project = Some(project),
                None if operation.access == Access::Read => self.listing = true,
                None => return Err(ScopeError::Invalid(format!("`{argument}` is missing"))),
            },
            Selector::ExcludedProject(argument) => drop(given.positive(argument)?),
            Selector::ProjectName(argument) => self.name = text(given, argument, names::path)?,
            Selector::Organization(argument) => {
                self.organization = text(given, argument, names::identifier)?;
            }
            Selector::File(argument) => self.files.extend(text(given, argument, names::path)?),
            Selector::Files(argument) => {
                self.replaces_files = true;
                self.files = file_names(given, argument)?;
            }
            Selector::AttachedProject(argument) => self.project = given.positive(argument)?,
            Selector::Library(argument) => self.libraries.extend(given.positive(argument)?),
            Selector::Patch(argument) => {
                let text = given.text(argument)?;
                self.patch = text.map(|text| Patch::new(argument, text)).transpose()?;
            }
            Selector::DownloadJob(argument) => {
                self.job = text(given, argument, names::identifier)?;
            }
            Selector::ObjectKey(argument) | Selector::DownloadKey(argument) => {
                self.keys = texts(given, argument, names::path)?;
                if self.keys.is_empty() {
                    return Err(wrong(argument, "at least one key"));
                }
            }
            Selector::ObjectPath(argument) => {
                self.listing = true;
                drop(text(given, argument, names::folder)?);
            }
            Selector::Profile(argument) if several(operation, argument) => {
                for name in given.texts(argument)? {
                    names::word(argument, name)?;
                    live::is_live(profiles, name)?;
                    self.providers.push(name.to_owned());
                }
            }
            Selector::Profile(argument) => {
                if let Some(profile) = text(given, argument, names::word)? {
                    let live = live::is_live(profiles, &profile)?;
                    self.brokerage = Some(Brokerage { profile, live });
                }
            }
            // It is authorised by name, and the authorisation is for real money.
            Selector::Brokerage(argument) => {
                let name = text(given, argument, names::word)?;
                self.brokerage = name.map(|profile| Brokerage {
                    profile,
                    live: true,
                });
            }
            Selector::Node(argument) => self.nodes = texts(given, argument, names::word)?,
            Selector::NodeType(argument) => self.node_type = text(given, argument, names::word)?,
            Selector::ParallelNodes(argument) => self.parallel_nodes = given.positive(argument)?,
            Selector::Command(argument) => {
                let command = given.object(argument)?;
                self.command = command
                    .map(|command| live::command(argument, command))
                    .transpose()?;
            }
            Selector::Collaborator(argument) => {
                self.collaborator = text(given, argument, names::word)?;
            }
            Selector::Chart(argument) => self.chart = text(given, argument, names::word)?,
            Selector::Recipient(argument) => {
                self.recipient = text(given, argument, names::recipient)?;
            }
            Selector::Published(argument) => {
                if given.flag(argument)? == Some(true) {
                    self.recipient = Some(PUBLIC.to_owned());
                }
            }
            Selector::LiveControl(argument) => self.live_control = given.flag(argument)?,
            Selector::Cost(argument) => {
                let value = given.get(argument)?;
                self.claimed = value
                    .map(|value| cost::claimed(argument, value))
                    .transpose()?;
            }
            Selector::Parameters(argument) => {
                self.parameters = Some(count(given, argument)?);
                let grid = given.get(argument)?.and_then(Value::as_array);
                self.backtests = grid.and_then(|grid| cost::backtests(grid));
            }
            Selector::Backtest(_)
            | Selector::Optimization(_)
            | Selector::Compile(_)
            | Selector::Deployment(_) => {}
        }
        Ok(())
    }

    /// The id of a child of this kind, if the call names one.
    pub(crate) fn named(&self, child: Child) -> Option<String> {
        let mut children = self.children.iter();
        let named = children.find(|(kind, _)| *kind == child);
        named.map(|(_, id)| id.clone())
    }

    /// The context common to everything that is touched.
    pub(crate) fn context(&self) -> Context {
        Context {
            organization: self.organization.clone(),
            brokerage: self.brokerage.clone(),
            node_type: self.node_type.clone(),
            parallel_nodes: self.parallel_nodes,
            command: self.command.clone(),
            collaborator: self.collaborator.clone(),
            chart: self.chart.clone(),
            recipient: self.recipient.clone(),
            parameters: self.parameters,
            ..Context::default()
        }
    }
}

/// Checks a name in an argument.
type Check = fn(&str, &str) -> Result<(), ScopeError>;

fn text(given: &Arguments<'_>, argument: &str, check: Check) -> Result<Option<String>, ScopeError> {
    let Some(text) = given.text(argument)? else {
        return Ok(None);
    };
    check(argument, text)?;
    Ok(Some(text.to_owned()))
}

/// One or several texts, depending on the contract.
fn texts(given: &Arguments<'_>, argument: &str, check: Check) -> Result<Vec<String>, ScopeError> {
    if !given.is_list(argument) {
        return Ok(text(given, argument, check)?.into_iter().collect());
    }
    let texts = given.texts(argument)?;
    for text in &texts {
        check(argument, text)?;
    }
    Ok(texts.into_iter().map(str::to_owned).collect())
}

/// The names of files that are given with their texts: at least one, and none twice.
fn file_names(given: &Arguments<'_>, argument: &str) -> Result<Vec<String>, ScopeError> {
    let expected = format!("a list of 1 to {MAX_FILES} files, each with its own name");
    let list = given.get(argument)?.and_then(Value::as_array);
    let list = list.filter(|list| (1..=MAX_FILES).contains(&list.len()));
    let mut names = BTreeSet::new();
    for file in list.ok_or_else(|| wrong(argument, &expected))? {
        // A member of another name may be read in place of one of these, such as `Name`.
        let fields = file.as_object().filter(|fields| {
            let mut given = fields.keys();
            given.all(|field| FILE_FIELDS.contains(&field.as_str()))
        });
        let name = fields.and_then(|fields| fields.get("name")?.as_str());
        let name = name.ok_or_else(|| wrong(argument, &expected))?;
        names::path(argument, name)?;
        if !names.insert(name.to_owned()) {
            return Err(wrong(argument, &expected));
        }
    }
    Ok(names.into_iter().collect())
}

/// Whether the argument names several profiles.
fn several(operation: &Operation, argument: &str) -> bool {
    let mut exceptions = operation.exceptions.iter();
    exceptions
        .any(|exception| matches!(exception, Exception::Profiles(field) if *field == argument))
}

/// Number of parameters: a grid is a list of them, values are an object.
fn count(given: &Arguments<'_>, argument: &str) -> Result<u32, ScopeError> {
    let count = if given.is_list(argument) {
        let list = given.get(argument)?.map(|value| {
            let list = value.as_array();
            list.map(Vec::len).ok_or_else(|| wrong(argument, "a list"))
        });
        list.transpose()?
    } else {
        given.object(argument)?.map(Map::len)
    };
    Ok(u32::try_from(count.unwrap_or(0)).unwrap_or(u32::MAX))
}
