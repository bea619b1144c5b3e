//! The object store.

use std::io::{Cursor, Read as _};

use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::client::{Cloud, cloud, start};

impl Cloud {
    async fn set(&self, key: &str, bytes: &[u8]) -> Value {
        let form = Form::new()
            .text("organizationId", self.emulator.organization_id().to_owned())
            .text("key", key.to_owned())
            .part(
                "objectData",
                Part::bytes(bytes.to_vec()).file_name("objectData"),
            );
        let request = self.request(Method::POST, "/object/set").multipart(form);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    fn of(&self, fields: Value) -> Value {
        let mut body = fields;
        body["organizationId"] = json!(self.emulator.organization_id());
        body
    }

    /// The archive of a job, whose address is served without credentials.
    async fn archive(&self, job: &Value) -> Vec<u8> {
        let body = self.of(json!({"jobId": job["jobId"]}));
        let ready = self
            .until("/object/get", body, |it| it["url"].is_string())
            .await;
        let address = self.open(ready["url"].as_str().unwrap()).await;
        address.bytes().await.unwrap().to_vec()
    }

    /// The files of the archive with these keys.
    async fn download(&self, keys: &[&str]) -> Vec<(String, Vec<u8>)> {
        let job = self.ok("/object/get", self.of(json!({"keys": keys}))).await;
        assert_eq!(job["url"], Value::Null);
        let bytes = self.archive(&job).await;
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        (0..archive.len())
            .map(|index| {
                let mut file = archive.by_index(index).unwrap();
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                (file.name().unwrap().into_owned(), content)
            })
            .collect()
    }
}

#[tokio::test]
async fn an_object_is_set_described_downloaded_and_deleted() {
    let cloud = cloud().await;
    assert_eq!(
        cloud.set("data/model.txt", b"Hello, world!").await["success"],
        true
    );
    let body = cloud.of(json!({"key": "data/model.txt"}));
    let properties = cloud.ok("/object/properties", body.clone()).await;
    let metadata = &properties["metadata"];
    assert_eq!(metadata["key"], "data/model.txt");
    assert_eq!(metadata["size"], 13);
    assert_eq!(metadata["md5"], "6cd3556deb0da54bca060b4c39479839");
    assert_eq!(metadata["mime"], "text/plain");
    assert_eq!(metadata["preview"], "Hello, world!");
    let files = cloud.download(&["data/model.txt"]).await;
    assert_eq!(
        files,
        [("data/model.txt".to_owned(), b"Hello, world!".to_vec())]
    );
    cloud.ok("/object/delete", body.clone()).await;
    for path in ["/object/properties", "/object/delete"] {
        let error = cloud.refused(path, body.clone()).await;
        assert_eq!(error, "Object not found: data/model.txt");
    }
}

#[tokio::test]
async fn bytes_come_back_as_they_were() {
    let cloud = cloud().await;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
    cloud.set("/big", &bytes).await;
    let files = cloud.download(&["big"]).await;
    assert_eq!(files[0].0, "big");
    assert!(files[0].1 == bytes);
    let body = cloud.of(json!({"key": "/big"}));
    let properties = cloud.ok("/object/properties", body).await;
    assert_eq!(properties["metadata"]["key"], "/big");
    assert_eq!(properties["metadata"]["mime"], "application/octet-stream");
}

#[tokio::test]
async fn folders_are_listed_downloaded_and_deleted_whole() {
    let cloud = cloud().await;
    for key in [
        "root/file",
        "root/folder/inner",
        "root/folder/deep/leaf",
        "other",
    ] {
        cloud.set(key, b"12345").await;
    }
    let list = async |path: Option<&str>| -> Value {
        let mut body = cloud.of(json!({}));
        if let Some(path) = path {
            body["path"] = json!(path);
        }
        cloud.ok("/object/list", body).await
    };
    let entries = |answer: &Value| -> Vec<(String, bool, u64)> {
        answer["objects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| {
                let key = it["key"].as_str().unwrap().to_owned();
                (
                    key,
                    it["folder"].as_bool().unwrap(),
                    it["size"].as_u64().unwrap(),
                )
            })
            .collect()
    };
    let whole = list(None).await;
    assert_eq!(whole["path"], "/");
    assert_eq!(whole["objectStorageUsed"], 20);
    assert_eq!(whole["objectStorageUsedHuman"], "20.00 B");
    assert_eq!(
        entries(&whole),
        [
            ("/other".to_owned(), false, 5),
            ("/root".to_owned(), true, 15)
        ]
    );
    assert_eq!(
        entries(&list(Some("root")).await),
        [
            ("root/file".to_owned(), false, 5),
            ("root/folder".to_owned(), true, 10)
        ]
    );
    assert_eq!(entries(&list(Some("/nothing")).await), []);
    assert_eq!(cloud.download(&["root/folder", "other"]).await.len(), 3);
    cloud
        .ok("/object/delete", cloud.of(json!({"key": "root"})))
        .await;
    assert_eq!(entries(&list(Some("/")).await).len(), 1);
}

#[tokio::test]
async fn a_download_is_of_the_moment_it_was_asked_for() {
    let cloud = cloud().await;
    cloud.set("a", b"old").await;
    let job = cloud
        .ok("/object/get", cloud.of(json!({"keys": ["a"]})))
        .await;
    cloud.set("a", b"new").await;
    let bytes = cloud.archive(&job).await;
    let found = bytes.windows(3).any(|window| window == b"old");
    assert!(found && !bytes.windows(3).any(|window| window == b"new"));
}

#[tokio::test]
async fn the_quota_is_kept() {
    let cloud = start(|builder| builder.object_store_quota(10)).await;
    assert_eq!(cloud.set("a", b"123456").await["success"], true);
    let full = cloud.set("b", b"123456").await;
    assert_eq!(full["success"], false);
    assert!(
        full["errors"][0].as_str().unwrap().contains("full"),
        "{full}"
    );
    // Replacing frees what was there.
    assert_eq!(cloud.set("a", b"1234567890").await["success"], true);
    cloud
        .refused("/object/properties", cloud.of(json!({"key": "b"})))
        .await;
}

#[tokio::test]
async fn bad_objects_are_refused() {
    let cloud = cloud().await;
    for key in ["", "/", "../a", "a//b", "a/./b", "a\\b", &"k".repeat(1_001)] {
        assert_eq!(cloud.set(key, b"x").await["success"], false, "{key}");
    }
    cloud.set("folder/a", b"x").await;
    assert_eq!(cloud.set("folder", b"x").await["success"], false);
    // Not as an upload.
    let body = cloud.of(json!({"key": "a", "objectData": "x"}));
    cloud.refused("/object/set", body).await;
    let other = json!({"organizationId": "other", "key": "folder/a"});
    for path in ["/object/properties", "/object/delete", "/object/list"] {
        cloud.refused(path, other.clone()).await;
    }
    for body in [
        json!({}),
        json!({"keys": []}),
        json!({"keys": "folder/a"}),
        json!({"keys": [7]}),
        json!({"keys": ["folder/a", "missing"]}),
        json!({"jobId": "unknown"}),
    ] {
        cloud.refused("/object/get", cloud.of(body)).await;
    }
    let url = format!("{}/object/download?token=guess", cloud.emulator.base_url());
    let answer: Value = cloud.open(&url).await.json().await.unwrap();
    assert_eq!(answer["success"], false);
}

#[tokio::test]
async fn without_the_agreement_on_derived_data_no_object_is_downloaded() {
    let cloud = start(|builder| builder.derived_data(false)).await;
    assert_eq!(cloud.set("a", b"text").await["success"], true);
    for body in [json!({"keys": ["a"]}), json!({"jobId": "any"})] {
        let says = cloud.refused("/object/get", cloud.of(body)).await;
        assert!(
            says.contains("does not have derivative export enabled"),
            "{says}"
        );
    }
    // What is read otherwise is not affected.
    cloud
        .ok("/object/list", cloud.of(json!({"path": "/"})))
        .await;
}
