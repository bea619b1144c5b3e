//! The account and its organisation: `/account`, `/organizations`, `/user`,
//! `/lean/versions`, and lists that the `lean` command line requests and that are empty
//! here (modules, data sets, news, encryption keys).
//!
//! The emulator has one user in one organisation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{Answer, Refusal, Reply};
use super::arguments::Arguments;
use super::cloud::Cloud;
use crate::store::State;
use crate::text::digest_id;

/// The display name of the one user.
pub(super) const USER_NAME: &str = "Emulator";

/// The most recent version of LEAN; a project that is pinned to none follows it. The emulator runs
/// none of the versions.
pub(super) const LATEST_VERSION: i64 = 17_001;
const PREVIOUS: i64 = 17_000;

/// The id of a LEAN version, or `None` for the latest, which is written -1.
pub(super) fn version_of(arguments: &Arguments, field: &str) -> Result<Option<i64>, Refusal> {
    match arguments.integer(field)? {
        -1 => Ok(None),
        id @ (LATEST_VERSION | PREVIOUS) => Ok(Some(id)),
        id => Err(Refusal::not_found("LEAN version", id)),
    }
}

/// All versions as the API shows them, most recent first.
pub(super) fn versions_json() -> [Value; 2] {
    let versions = [
        (LATEST_VERSION, "master", "2026-01-05", "LEAN master"),
        (PREVIOUS, "previous", "2025-07-01", "an earlier LEAN"),
    ];
    versions.map(|(id, name, day, stands_for)| {
        let hash = digest_id(name);
        json!({
            "id": id,
            "created": format!("{day}T00:00:00Z"),
            "description": format!("The emulator's model in place of {stands_for}"),
            "leanHash": hash,
            "leanCloudHash": hash,
            "name": name,
            "ref": format!("refs/heads/{name}"),
            "public": true,
        })
    })
}

pub(crate) fn authenticate(_: &Arc<Cloud>, _: &mut State, _: &Arguments) -> Answer {
    Reply::done()
}

pub(crate) fn account(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_optional_organization(arguments)?;
    Reply::success(json!({
        "organizationId": cloud.settings.organization_id,
        "creditBalance": cloud.balance(state),
        "card": {"brand": "none", "expiration": "12/99", "last4": "0000"},
    }))
}

pub(crate) fn user(cloud: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_optional_organization(arguments)?;
    Reply::success(json!({
        "user": {"name": USER_NAME, "profile": "", "badge": null},
    }))
}

pub(crate) fn list(cloud: &Arc<Cloud>, _: &mut State, _: &Arguments) -> Answer {
    Reply::success(json!({
        "organizations": [{
            "id": cloud.settings.organization_id,
            "name": cloud.settings.organization_name,
            "type": "Quant Researcher",
            // What the `lean` command line looks for to find the user's own organisation.
            "ownerName": "You",
            "members": 1,
            "preferred": true,
        }],
    }))
}

pub(crate) fn read(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_optional_organization(arguments)?;
    Reply::success(json!({
        "organization": {
            "id": cloud.settings.organization_id,
            "name": cloud.settings.organization_name,
            "seats": 1,
            "type": "Quant Researcher",
            "credit": {"movements": [], "balance": cloud.balance(state)},
            "products": [],
            "data": {"signedTime": null, "current": false},
            "members": [{
                "id": cloud.settings.credentials.user_id,
                "name": USER_NAME,
                "isAdmin": true,
                "email": "",
            }],
        },
    }))
}

pub(crate) fn versions(_: &Arc<Cloud>, _: &mut State, _: &Arguments) -> Answer {
    Reply::success(json!({"versions": versions_json()}))
}

pub(crate) fn environments(_: &Arc<Cloud>, _: &mut State, _: &Arguments) -> Answer {
    Reply::success(json!({
        "environments": [{
            "id": 1,
            "name": "Default",
            "path": null,
            "description": "The emulator's only environment",
            "public": true,
        }],
    }))
}

pub(crate) fn encryption_keys(cloud: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    Reply::success(json!({"keys": []}))
}

pub(crate) fn modules(cloud: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    Reply::success(json!({"files": []}))
}

pub(crate) fn news(_: &Arc<Cloud>, _: &mut State, _: &Arguments) -> Answer {
    Reply::success(json!({"news": []}))
}

pub(crate) fn data_sets(_: &Arc<Cloud>, _: &mut State, _: &Arguments) -> Answer {
    Reply::success(json!({"list": []}))
}

pub(crate) fn data_files(_: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    arguments.text("filePath")?;
    Reply::success(json!({"objects": []}))
}

pub(crate) fn data_prices(cloud: &Arc<Cloud>, _: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    Reply::success(json!({"datasources": {}, "prices": [], "agreement": ""}))
}

/// Market data and modules cannot be bought here.
pub(crate) fn not_offered(_: &Arc<Cloud>, _: &mut State, _: &Arguments) -> Answer {
    Err(Refusal::because(
        "The emulator offers no market data and no modules",
    ))
}
