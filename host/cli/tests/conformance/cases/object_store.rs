//! The Object Store.

use serde_json::{Value, json};

use super::{Case, invalid, valid};
use crate::bench::{Bench, ORGANIZATION};
use crate::body::{Body as _, Check, ensure};

/// An organisation that the user does not belong to.
const STRANGERS: &str = "ffffffffffffffffffffffffffffffff";

fn of(organization: &str, key: &str) -> Value {
    json!({ "organizationId": organization, "key": key })
}

async fn put(b: &Bench, key: &str, data: &str) -> Check {
    let mut arguments = of(ORGANIZATION, key);
    arguments["objectData"] = json!(data);
    b.call("upload_object", arguments).await.map(drop)
}

async fn job(b: &Bench, key: &str) -> Check<String> {
    let arguments = json!({ "organizationId": ORGANIZATION, "keys": [key] });
    let body = b.call("read_object_store_file_job_id", arguments).await?;
    body.text("/jobId")
}

pub fn cases() -> Vec<Case> {
    vec![
        valid("upload_object", |b| {
            Box::pin(async move {
                put(b, "notes/ß.txt", "Grüße").await?;
                let read = b
                    .call("read_object_properties", of(ORGANIZATION, "notes/ß.txt"))
                    .await?;
                read.equals("/metadata/size", 7)?;
                read.equals("/metadata/preview", "Grüße")?;
                // Not valid UTF-8: 0x00 0xff.
                let mut bytes = of(ORGANIZATION, "raw.bin");
                bytes["objectDataBase64"] = json!("AP8=");
                b.call("upload_object", bytes).await?;
                let read = b
                    .call("read_object_properties", of(ORGANIZATION, "raw.bin"))
                    .await?;
                // `printf '\0\377' | md5sum`
                read.equals("/metadata/md5", "d07d34efac6328007ad67c7e0a985e00")?;
                read.equals("/metadata/size", 2)
            })
        }),
        invalid("upload_object", |b| {
            Box::pin(async move {
                let ask = |organization: &str, key: &str| json!({ "organizationId": organization, "key": key, "objectData": "d" });
                let bad = [
                    ask(STRANGERS, "k"),
                    ask(ORGANIZATION, "../k"),
                    ask(ORGANIZATION, ""),
                ];
                b.rejects("upload_object", ask(ORGANIZATION, "k"), &bad)
                    .await
            })
        }),
        valid("read_object_properties", |b| {
            Box::pin(async move {
                put(b, "a.json", "{}").await?;
                let body = b
                    .call("read_object_properties", of(ORGANIZATION, "a.json"))
                    .await?;
                body.equals("/metadata/key", "a.json")?;
                body.equals("/metadata/mime", "application/json")?;
                // `printf '{}' | md5sum`
                body.equals("/metadata/md5", "99914b932bd37a50b983c5e7c90ae93b")
            })
        }),
        invalid("read_object_properties", |b| {
            Box::pin(async move {
                put(b, "k", "d").await?;
                let bad = [of(STRANGERS, "k"), of(ORGANIZATION, "absent")];
                b.rejects("read_object_properties", of(ORGANIZATION, "k"), &bad)
                    .await
            })
        }),
        valid("read_object_store_file_job_id", |b| {
            Box::pin(async move {
                put(b, "k", "d").await?;
                let job = job(b, "k").await?;
                ensure!(!job.is_empty(), "no job");
                // The id of the job is accepted later.
                let ask = json!({ "organizationId": ORGANIZATION, "jobId": job });
                let body = b.call("read_object_store_file_download_url", ask).await?;
                body.equals("/jobId", job)
            })
        }),
        invalid("read_object_store_file_job_id", |b| {
            Box::pin(async move {
                put(b, "k", "d").await?;
                let ask = |organization: &str, keys: Value| json!({ "organizationId": organization, "keys": keys });
                let bad = [
                    ask(STRANGERS, json!(["k"])),
                    ask(ORGANIZATION, json!(["absent"])),
                    ask(ORGANIZATION, json!([])),
                ];
                let good = ask(ORGANIZATION, json!(["k"]));
                b.rejects("read_object_store_file_job_id", good, &bad).await
            })
        }),
        valid("read_object_store_file_download_url", |b| {
            Box::pin(async move {
                put(b, "k", "what was stored").await?;
                let ask = json!({ "organizationId": ORGANIZATION, "jobId": job(b, "k").await? });
                let ready = |body: &Value| Ok(body.at("/url")?.is_string());
                let body = b
                    .until("read_object_store_file_download_url", ask, ready)
                    .await?;
                let url = body.text("/url")?;
                let archive = reqwest::get(&url)
                    .await
                    .map_err(|error| error.to_string())?;
                ensure!(
                    archive.status().is_success(),
                    "the address answers {}",
                    archive.status()
                );
                let bytes = archive.bytes().await.map_err(|error| error.to_string())?;
                // The archive stores its entries uncompressed, so the bytes occur in it unchanged.
                let found = bytes.windows(15).any(|window| window == b"what was stored");
                ensure!(found, "{} bytes without the object", bytes.len());
                Ok(())
            })
        }),
        invalid("read_object_store_file_download_url", |b| {
            Box::pin(async move {
                put(b, "k", "d").await?;
                let job = job(b, "k").await?;
                let ask = |organization: &str, job: &str| json!({ "organizationId": organization, "jobId": job });
                let bad = [ask(STRANGERS, &job), ask(ORGANIZATION, "nothing")];
                let good = ask(ORGANIZATION, &job);
                b.rejects("read_object_store_file_download_url", good, &bad)
                    .await
            })
        }),
        valid("list_object_store_files", |b| {
            Box::pin(async move {
                for key in ["top.txt", "deep/one.txt", "deep/er/two.txt"] {
                    put(b, key, "1234").await?;
                }
                let ask = json!({ "organizationId": ORGANIZATION, "path": "/" });
                let root = b.call("list_object_store_files", ask).await?;
                root.find("/objects", "name", "top.txt")?
                    .equals("/folder", false)?;
                root.find("/objects", "name", "deep")?
                    .equals("/folder", true)?;
                root.equals("/objectStorageUsed", 12)?;
                let ask = json!({ "organizationId": ORGANIZATION, "path": "deep" });
                let deep = b.call("list_object_store_files", ask).await?;
                ensure!(
                    deep.list("/objects")?.len() == 2,
                    "a file and a folder: {deep}"
                );
                deep.find("/objects", "name", "one.txt")?.equals("/size", 4)
            })
        }),
        invalid("list_object_store_files", |b| {
            Box::pin(async move {
                let ask = |organization: &str, path: &str| json!({ "organizationId": organization, "path": path });
                let bad = [ask(STRANGERS, "/"), ask(ORGANIZATION, "../x")];
                b.rejects("list_object_store_files", ask(ORGANIZATION, "/"), &bad)
                    .await
            })
        }),
        valid("delete_object", |b| {
            Box::pin(async move {
                put(b, "gone", "d").await?;
                put(b, "kept", "d").await?;
                b.call("delete_object", of(ORGANIZATION, "gone")).await?;
                let list = json!({ "organizationId": ORGANIZATION });
                let body = b.call("list_object_store_files", list).await?;
                body.lacks("/objects", "name", "gone")?;
                body.find("/objects", "name", "kept")?;
                b.refused("read_object_properties", of(ORGANIZATION, "gone"))
                    .await
                    .map(drop)
            })
        }),
        invalid("delete_object", |b| {
            Box::pin(async move {
                put(b, "k", "d").await?;
                let bad = [of(STRANGERS, "k"), of(ORGANIZATION, "absent")];
                b.rejects("delete_object", of(ORGANIZATION, "k"), &bad)
                    .await
            })
        }),
    ]
}
