//! `/live/auth0/…`: authorising the connection to a brokerage, without a brokerage and without
//! a browser that has to be logged in.
//!
//! `authorize` answers with a redirect (HTTP 302, `Location`), as the cloud does; the address
//! leads to a page of the emulator, and opening that page is the consent. `read` refuses until
//! then and gives the authorisation afterwards. The cloud keeps `read` waiting instead; a
//! client of the emulator polls.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::answer::{Answer, Refusal, Reply};
use super::arguments::Arguments;
use super::cloud::Cloud;
use crate::store::{Connection, State};
use crate::text::{digest_id, instant_text};

/// Brokerages whose connections are authorised in a browser.
const BROKERAGES: [&str; 4] = ["alpaca", "tradestation", "charlesschwab", "tastytrade"];

fn brokerage_of(arguments: &Arguments) -> Result<&str, Refusal> {
    let brokerage = arguments.text("brokerage")?;
    if BROKERAGES.contains(&brokerage) {
        return Ok(brokerage);
    }
    Err(Refusal::invalid(
        "brokerage",
        "'alpaca', 'tradestation', 'charlesschwab' or 'tastytrade'",
    ))
}

/// Replaces an earlier authorisation of the brokerage.
pub(crate) fn authorize(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let brokerage = brokerage_of(arguments)?.to_owned();
    let number = state.next_number();
    let token = &cloud.settings.credentials.token;
    let grant = digest_id(&format!("grant/{token}/{number}"));
    let address = format!("{}/live/auth0/consent?grant={grant}", cloud.base_url);
    let connection = Connection {
        brokerage: brokerage.clone(),
        grant,
        authorized: None,
    };
    state.connections.insert(brokerage, connection.into());
    Ok(Reply::Redirect(address))
}

/// The page that stands for the brokerage's own.
pub(crate) fn consent(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let grant = arguments.text("grant")?;
    let mut connections = state.connections.iter_mut();
    let connection = connections.find(|(_, connection)| connection.grant == grant);
    let (brokerage, connection) =
        connection.ok_or_else(|| Refusal::not_found("Authorization", grant))?;
    connection.authorized.get_or_insert_with(Timestamp::now);
    Ok(Reply::Page(format!(
        "<!doctype html><title>Authorized</title>\
         <p>The emulator's connection to {brokerage} is authorized. You can close this page.</p>"
    )))
}

pub(crate) fn read(_: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    let brokerage = brokerage_of(arguments)?;
    let connection = state.connections.get(brokerage);
    let authorized = connection.and_then(|connection| connection.authorized);
    let authorized = authorized.ok_or_else(|| Refusal::not_found("Authorization", brokerage))?;
    let token = format!("{brokerage}-access-token");
    Reply::success(json!({
        "authorization": {
            "authorized": instant_text(authorized),
            "accounts": [{"id": "EMULATOR-1", "name": "Paper account of the emulator"}],
            token: "issued-by-the-emulator",
        },
    }))
}
