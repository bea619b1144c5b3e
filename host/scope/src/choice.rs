//! Which of several live deployments of a project a call is about.
//!
//! QuantConnect answers about the latest one where a call does not say. The host never relies on that: it lists the
//! project's deployments, and where there are several candidates the caller has to name one.
//!
//! Invariant: an answer about another deployment than the named one is withheld.

use qchost_catalog::shape::Type;
use qchost_catalog::{Access, Choice, Operation, Selector};
use serde_json::Value;
use tokio::time::Instant;

use crate::children::Child;
use crate::deployments::{id_in, listed, runs};
use crate::error::{ScopeError, shown};
use crate::reads::Reader;
use crate::scope::{Scope, Touched};

/// Maximum deployments that a message names.
const MAX_NAMED: usize = 10;

impl Scope {
    /// Checks that it is clear which deployment an allowed call is about.
    ///
    /// # Errors
    /// [`ScopeError::Invalid`] with the candidates if there are several, and the error of the read if they cannot be
    /// listed.
    pub async fn check_deployment(
        &self,
        reader: &dyn Reader,
        account: &str,
        operation: &'static Operation,
        touched: &Touched,
    ) -> Result<(), ScopeError> {
        let (Some(choice), Some((project, _))) = (operation.deployment, &touched.project) else {
            return Ok(());
        };
        if touched.check.deployment.is_some() || self.deployments.is_sole(account, *project) {
            return Ok(());
        }
        let begun = Instant::now();
        let rows = listed(reader, *project).await?;
        let mut candidates: Vec<&Value> = rows.iter().filter(|row| runs(row)).collect();
        let some_run = !candidates.is_empty();
        if !some_run && choice == Choice::Named {
            candidates = rows.iter().collect();
        }
        if candidates.len() > 1 {
            return Err(several(operation, *project, &candidates, some_run));
        }
        if some_run || rows.len() < 2 {
            self.deployments.learn_sole(account, *project, begun);
        }
        Ok(())
    }
}

/// The error for a call that is about one of several deployments and does not say which.
fn several(
    operation: &Operation,
    project: u32,
    candidates: &[&Value],
    some_run: bool,
) -> ScopeError {
    let named: Vec<String> = candidates
        .iter()
        .take(MAX_NAMED)
        .map(|row| shown(id_in(row).unwrap_or("without an id")))
        .collect();
    let more = match candidates.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let many = candidates.len();
    let that = if some_run { " that run" } else { "" };
    let mut selectors = operation.selectors.iter();
    let argument = selectors.find_map(|selector| match selector {
        Selector::Deployment(name) => Some(*name),
        _ => None,
    });
    let advice = match argument {
        Some(argument) => format!("name one of them as `{argument}`"),
        None if operation.access == Access::Read => {
            "QuantConnect does not say about which of them it answers, so nothing was sent"
                .to_owned()
        }
        None => "QuantConnect does not say which of them gets it, so nothing was sent".to_owned(),
    };
    ScopeError::Invalid(format!(
        "{}: project {project} has {many} deployments{that}, {}{more}; {advice}",
        operation.tool,
        named.join(", ")
    ))
}

/// Withholds an answer about another deployment than the named one.
pub(crate) fn check_named(
    operation: &Operation,
    touched: &Touched,
    part: Option<&Value>,
) -> Result<(), ScopeError> {
    let Some(named) = &touched.check.deployment else {
        return Ok(());
    };
    let says = match operation.function().and_then(|function| function.result) {
        Some(Type::Record(record)) => {
            let mut fields = record.fields.iter();
            fields.any(|field| field.json == Child::Deployment.field())
        }
        _ => false,
    };
    if !says || part.and_then(id_in) == Some(named.as_str()) {
        return Ok(());
    }
    Err(ScopeError::Denied(format!(
        "the answer of `{}` is not about the deployment {} as far as can be seen; it is withheld",
        operation.name,
        shown(named)
    )))
}
