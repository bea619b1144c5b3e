//! Account, organisations, versions, nodes of the organisation, authorised connections.

use qchost_emulator::{Builder, Emulator};
use serde_json::json;

use crate::client::{cloud, start};

#[tokio::test]
async fn the_account_is_the_organization_s() {
    let cloud = cloud().await;
    let account = cloud.ok("/account/read", json!({})).await;
    assert_eq!(account["organizationId"], cloud.emulator.organization_id());
    assert_eq!(account["creditBalance"], 10_000.0);
    let error = cloud
        .refused("/account/read", json!({"organizationId": "other"}))
        .await;
    assert_eq!(error, "Organization not found: other");
}

#[tokio::test]
async fn the_one_organization_is_listed_and_read() {
    let cloud = cloud().await;
    let list = cloud.ok("/organizations/list", json!({})).await;
    let id = &list["organizations"][0]["id"];
    assert_eq!(list["organizations"][0]["preferred"], true);
    let read = cloud
        .ok("/organizations/read", json!({"organizationId": id}))
        .await;
    assert_eq!(read["organization"]["id"], *id);
    let nodes = cloud.ok("/nodes/read", json!({"organizationId": id})).await;
    assert_eq!(nodes["backtest"].as_array().unwrap().len(), 4);
    cloud
        .refused("/nodes/read", json!({"organizationId": " "}))
        .await;
    cloud.refused("/nodes/read", json!({})).await;
}

#[tokio::test]
async fn two_users_have_two_organizations_and_one_user_has_the_same_each_time() {
    async fn organization(configure: impl FnOnce(Builder) -> Builder) -> String {
        let cloud = start(configure).await;
        let account = cloud.ok("/account/read", json!({})).await;
        let id = account["organizationId"].as_str().unwrap().to_owned();
        assert_eq!(id, cloud.emulator.organization_id());
        id
    }
    let [first, again] = [
        organization(|builder| builder).await,
        organization(|builder| builder.credentials(1, "word")).await,
    ];
    // Clients remember it.
    assert_eq!(first, "af3a1bb312bf8430055d0f513e3a27c4");
    assert_eq!(first, again);
    let other = organization(|builder| builder.credentials(2, "word")).await;
    let same = organization(|builder| builder.credentials(3, "a").credentials(2, "b")).await;
    assert_eq!(other, same);
    assert_ne!(other, first);
    assert!(other.len() == 32 && other.bytes().all(|byte| byte.is_ascii_hexdigit()));
    // One that is set is not changed.
    for builder in [
        Emulator::builder()
            .organization("own", "Own")
            .credentials(2, "word"),
        Emulator::builder()
            .credentials(2, "word")
            .organization("own", "Own"),
    ] {
        let emulator = builder.any_port().start().await.unwrap();
        assert_eq!(emulator.organization_id(), "own");
    }
}

#[tokio::test]
async fn versions_are_listed_and_a_project_is_pinned_to_one() {
    let cloud = cloud().await;
    let versions = cloud.ok("/lean/versions/read", json!({})).await;
    let version = versions["versions"][1]["id"].as_i64().unwrap();
    let project = cloud.project("code").await;
    let body = json!({"projectId": project, "versionId": version});
    cloud.ok("/projects/update", body).await;
    let read = cloud
        .ok("/projects/read", json!({"projectId": project}))
        .await;
    assert_eq!(read["projects"][0]["leanVersionId"], version);
    assert_eq!(read["projects"][0]["leanPinnedToMaster"], false);
    let body = json!({"projectId": project, "versionId": 1});
    cloud.refused("/projects/update", body).await;
}

#[tokio::test]
async fn a_connection_is_authorized_by_opening_the_page() {
    let cloud = cloud().await;
    let body = json!({"brokerage": "alpaca"});
    let error = cloud.refused("/live/auth0/read", body.clone()).await;
    assert_eq!(error, "Authorization not found: alpaca");

    let redirect = cloud.send("/live/auth0/authorize", &body).await;
    assert_eq!(redirect.status(), 302);
    let page = redirect.headers()["location"].to_str().unwrap().to_owned();
    assert!(page.starts_with(cloud.emulator.base_url()), "{page}");
    // Asking for the page is not opening it.
    cloud.refused("/live/auth0/read", body.clone()).await;

    let opened = cloud.open(&page).await;
    assert_eq!(opened.status(), 200);
    assert!(opened.text().await.unwrap().contains("alpaca"));
    let read = cloud.ok("/live/auth0/read", body.clone()).await;
    assert_eq!(read["authorization"]["accounts"][0]["id"], "EMULATOR-1");
    let other = json!({"brokerage": "tastytrade"});
    cloud.refused("/live/auth0/read", other).await;

    // Asking again takes the authorisation back.
    cloud.send("/live/auth0/authorize", &body).await;
    cloud.refused("/live/auth0/read", body).await;
}

#[tokio::test]
async fn a_browser_needs_no_credentials_to_authorize() {
    let cloud = cloud().await;
    let base = cloud.emulator.base_url();
    let url = format!("{base}/live/auth0/authorize?brokerage=charlesschwab&projectId=1");
    let redirect = cloud.open(&url).await;
    assert_eq!(redirect.status(), 302);
    cloud
        .refused("/live/auth0/authorize", json!({"brokerage": "bank"}))
        .await;
    let url = format!("{base}/live/auth0/consent?grant=guess");
    let page: serde_json::Value = cloud.open(&url).await.json().await.unwrap();
    assert_eq!(page["success"], false);
}
