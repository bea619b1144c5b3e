//! The project of a backtest, an optimisation, a compile job or a deployment.
//!
//! It never changes, so a known one is kept until it is evicted.
//!
//! Invariant: it is only learned from answers: those that contain the project's id, and those to calls that could only
//! concern one project.

use qchost_catalog::host_calls::{
    LIST_LIVE_ALGORITHMS, READ_BACKTEST, READ_COMPILE, READ_OPTIMIZATION,
};
use qchost_catalog::{Operation, Selector};
use serde_json::{Map, Value};

use crate::cache::PerAccount;
use crate::error::{ScopeError, shown};
use crate::reads::{Carried, Reader, project_in, read, unavailable, unresolved};

const MAX_CHILDREN: usize = 50_000;

/// The kinds of objects that belong to a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Child {
    /// A backtest.
    Backtest,
    /// An optimisation.
    Optimization,
    /// A compile job.
    Compile,
    /// A live deployment.
    Deployment,
}

impl Child {
    pub(crate) const ALL: [Self; 4] = [
        Self::Backtest,
        Self::Optimization,
        Self::Compile,
        Self::Deployment,
    ];

    /// The child of a selector, and its argument.
    pub(crate) fn selected(selector: &Selector) -> Option<(Self, &'static str)> {
        match selector {
            Selector::Backtest(name) => Some((Self::Backtest, name)),
            Selector::Optimization(name) => Some((Self::Optimization, name)),
            Selector::Compile(name) => Some((Self::Compile, name)),
            Selector::Deployment(name) => Some((Self::Deployment, name)),
            _ => None,
        }
    }

    /// The field with its id in answers, its word in messages, and the read whose answer reveals its project.
    fn row(self) -> (&'static str, &'static str, &'static Operation) {
        match self {
            Self::Backtest => ("backtestId", "backtest", READ_BACKTEST),
            Self::Optimization => ("optimizationId", "optimisation", READ_OPTIMIZATION),
            Self::Compile => ("compileId", "compile job", READ_COMPILE),
            Self::Deployment => ("deployId", "deployment", LIST_LIVE_ALGORITHMS),
        }
    }

    /// The field with its id in answers.
    pub(crate) fn field(self) -> &'static str {
        self.row().0
    }
}

/// Projects by account and child.
pub(crate) struct Children(PerAccount<(Child, String), u32>);

impl Children {
    pub(crate) fn new() -> Self {
        Self(PerAccount::new(MAX_CHILDREN))
    }

    pub(crate) fn learn(&self, account: &str, child: Child, id: &str, project: u32) {
        self.0
            .with(account, |known| known.put((child, id.to_owned()), project));
    }

    pub(crate) fn cached(&self, account: &str, child: Child, id: &str) -> Option<u32> {
        self.0
            .with(account, |known| known.get(&(child, id.to_owned())).copied())
    }

    /// The project of a child. `project` is the one that the caller claims.
    pub(crate) async fn project(
        &self,
        reader: &dyn Reader,
        account: &str,
        child: Child,
        id: &str,
        project: Option<u32>,
    ) -> Result<u32, ScopeError> {
        if let Some(project) = self.cached(account, child, id) {
            return Ok(project);
        }
        let found = read_project(reader, child, id, project).await?;
        self.learn(account, child, id, found);
        Ok(found)
    }
}

async fn read_project(
    reader: &dyn Reader,
    child: Child,
    id: &str,
    project: Option<u32>,
) -> Result<u32, ScopeError> {
    let (field, word, operation) = child.row();
    let what = format!("{word} {}", shown(id));
    let mut arguments = Map::new();
    if let Some(project) = project {
        arguments.insert("projectId".to_owned(), Value::from(project));
    }
    if child != Child::Deployment {
        arguments.insert(field.to_owned(), Value::from(id));
    }
    let answer = read(reader, operation, arguments, &what).await?;
    let found = operation
        .select(answer)
        .ok_or_else(|| unavailable(&what, &format!("the answer has no `{}`", operation.answer)))?;
    let is_it = |value: &&Value| value.get(field).and_then(Value::as_str) == Some(id);
    let found = match &found {
        Value::Array(items) => items.iter().find(is_it),
        found => Some(found).filter(is_it),
    };
    match found.map(project_in) {
        Some(Carried::Project(project)) => Ok(project),
        _ => Err(unresolved(&what)),
    }
}

/// The denial of a child under another project's id. It is the same whether the child is in another project or does not
/// exist.
pub(crate) fn elsewhere(child: Child, id: &str, project: u32) -> ScopeError {
    let (_, word, _) = child.row();
    let id = shown(id);
    ScopeError::Denied(format!("{word} {id} does not belong to project {project}"))
}
