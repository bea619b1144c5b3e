//! `live-commands`: to one running algorithm, to all of them, and to none.

use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found, unfit};
use crate::setup;

const COMMAND: &str = r#"{"$type": "Rebalance", "weight": 0.5}"#;
const TO_ALL: &str = r#"{"$type": "Report"}"#;
const TO_OTHERS: &str = r#"{"$type": "Forget"}"#;

pub(crate) fn run(checks: &mut Checks, profile: &str) -> Option<()> {
    let function = "create-live-command";
    let (project, compile) = checks.answer(
        function,
        "has a build",
        setup::built("live-commands"),
        |_| true,
    )?;
    let send = |command: &str| live_commands::create_live_command(project, command);
    checks.refusal(function, "finds no algorithm yet", send(COMMAND), not_found);

    let deployment = setup::deployment(project, &compile, profile);
    let launched = deployment.and_then(|it| live::create_live_algorithm(&it));
    let deploy_id = checks
        .answer(function, "has a deployment", launched, |it| {
            it.deploy_id.is_some()
        })?
        .deploy_id?;
    checks.answer(
        function,
        "has one that runs",
        setup::running(project, None),
        |_| true,
    )?;

    checks.answer(function, "succeeds", send(COMMAND), |()| true)?;
    checks.refusal(function, "refuses what is not JSON", send("{"), unfit);
    checks.refusal(
        function,
        "refuses what is not an object",
        send("[1]"),
        unfit,
    );

    let function = "broadcast-live-command";
    let organization = checks.answer(
        function,
        "has an organisation",
        setup::organization(),
        |_| true,
    )?;
    let broadcast =
        |but, command: &str| live_commands::broadcast_live_command(&organization, but, command);
    checks.answer(function, "succeeds", broadcast(None, TO_ALL), |()| true)?;
    checks.answer(
        function,
        "leaves a project out",
        broadcast(Some(project), TO_OTHERS),
        |()| true,
    )?;
    checks.refusal(
        function,
        "does not know a project",
        broadcast(Some(1), TO_ALL),
        not_found,
    );

    let arrived = setup::until("the commands did not arrive", || {
        let logs = live::read_live_logs(project, &deploy_id, 0, 250)?
            .logs
            .join("\n");
        Ok(Some(logs).filter(|it| it.contains("Rebalance") && it.contains("Report")))
    });
    checks.answer(
        function,
        "reached it, but not the one that left it out",
        arrived,
        |it| !it.contains("Forget"),
    )?;
    checks.answer(
        function,
        "can be stopped",
        live::stop_live_algorithm(project),
        |()| true,
    )?;
    Some(())
}
