//! `nodes`: the nodes of the organisation, and those that a project may use.

use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found};
use crate::setup;

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let project = checks.answer(
        "read-project-nodes",
        "has a project",
        setup::project("nodes"),
        |_| true,
    )?;
    let found = checks.answer(
        "read-project-nodes",
        "gives nodes of each kind",
        nodes::read_project_nodes(project),
        |it| {
            it.auto_select_node == Some(true)
                && [&it.nodes.backtest, &it.nodes.live, &it.nodes.research]
                    .iter()
                    .all(|it| !it.is_empty())
                && it
                    .nodes
                    .backtest
                    .iter()
                    .all(|it| it.id.is_some() && it.cpu.is_some() && it.ram.is_some())
        },
    )?;
    checks.refusal(
        "read-project-nodes",
        "does not know a project",
        nodes::read_project_nodes(1),
        not_found,
    );

    let organization = checks.answer(
        "read-organization-nodes",
        "has an organisation",
        setup::organization(),
        |it| !it.is_empty(),
    )?;
    checks.answer(
        "read-organization-nodes",
        "gives nodes of each kind",
        nodes::read_organization_nodes(&organization),
        |it| {
            [&it.backtest, &it.live, &it.research]
                .iter()
                .all(|it| it.iter().any(|it| it.id.is_some()))
        },
    )?;
    checks.refusal(
        "read-organization-nodes",
        "does not know an organisation",
        nodes::read_organization_nodes("none"),
        not_found,
    );

    let first = found.nodes.backtest.into_iter().next()?.id?;
    let chosen = nodes::update_project_nodes(project, Some(std::slice::from_ref(&first)));
    checks.answer("update-project-nodes", "chooses one", chosen, |it| {
        it.auto_select_node == Some(false)
            && it
                .nodes
                .backtest
                .iter()
                .any(|it| it.id.as_deref() == Some(&first) && it.active == Some(true))
    })?;
    let unknown = nodes::update_project_nodes(project, Some(&["none".to_owned()]));
    checks.refusal(
        "update-project-nodes",
        "does not know a node",
        unknown,
        not_found,
    );
    let automatic = nodes::update_project_nodes(project, None);
    checks.answer(
        "update-project-nodes",
        "leaves the choice again",
        automatic,
        |it| it.auto_select_node == Some(true),
    )?;
    Some(())
}
