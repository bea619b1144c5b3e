//! `/object/…`: the organisation's object store.
//!
//! Getting objects is a job: `/object/get` with `keys` gives a job id, `/object/get` with `jobId` gives an
//! address once the job is done, and the address serves a zip archive with the objects under
//! their keys, as in the cloud.
//!
//! Invariant: a key never begins with a slash and has no empty part, no `.` and no `..`, so the
//! archive can be unpacked anywhere.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::answer::{Answer, Refusal, Reply, refuse};
use super::arguments::{Arguments, is_relative_path};
use super::cloud::Cloud;
use crate::store::object::{Download, Object};
use crate::store::{State, limits};
use crate::text::{digest_id, instant_text};

/// Length of the preview in `properties`, in characters.
const PREVIEW_LENGTH: usize = 1_000;
/// In characters.
pub(super) const MAX_KEY_LENGTH: usize = 1_000;

/// A key without its leading slashes.
fn key_of(text: &str) -> Result<&str, Refusal> {
    let key = text.trim_start_matches('/');
    if is_relative_path(key, MAX_KEY_LENGTH) {
        return Ok(key);
    }
    Err(Refusal::invalid(
        "key",
        "a path of at most 1000 characters without '.', '..' or empty parts",
    ))
}

pub(crate) fn set(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let key = key_of(arguments.text("key")?)?;
    let bytes = arguments
        .object_data
        .clone()
        .ok_or_else(|| Refusal::missing("objectData"))?;
    let store = &mut state.objects;
    let now = Timestamp::now();
    let previous = store.objects.get(key);
    let freed = previous.map_or(0, |object| object.bytes.len());
    let created = previous.map_or(now, |object| object.created);
    let used = store.used() - freed + bytes.len();
    let quota = cloud.settings.object_store_quota;
    if used > quota {
        refuse!("The object store is full: {used} bytes would exceed its {quota} bytes");
    }
    if previous.is_none() && store.objects.len() >= limits::OBJECTS {
        refuse!("The object store holds at most 10000 objects");
    }
    let folder = format!("{key}/");
    if store.objects.keys().any(|other| other.starts_with(&folder)) {
        refuse!("'{key}' is a folder");
    }
    let object = Object {
        key: key.to_owned(),
        bytes,
        created,
        modified: now,
    };
    store.objects.insert(key.to_owned(), object.into());
    Reply::done()
}

pub(crate) fn properties(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let requested = arguments.text("key")?;
    let key = key_of(requested)?;
    let object = state.objects.objects.get(key);
    let object = object.ok_or_else(|| Refusal::not_found("Object", requested))?;
    let preview: Option<String> = std::str::from_utf8(&object.bytes)
        .ok()
        .map(|text| text.chars().take(PREVIEW_LENGTH).collect());
    Reply::success(json!({
        "metadata": {
            "key": requested,
            "created": instant_text(object.created),
            "modified": instant_text(object.modified),
            "size": object.bytes.len(),
            "md5": hex::encode(Md5::digest(&object.bytes)),
            "mime": mime_of(key, &object.bytes),
            "preview": preview.unwrap_or_default(),
        },
    }))
}

/// With `keys` begins a download, with `jobId` returns its address, which is `null` until
/// [`crate::Timing::object_download`] has passed.
pub(crate) fn get(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    if !cloud.settings.derived_data {
        refuse!("Organization does not have derivative export enabled");
    }
    if let Some(job) = arguments.optional("jobId", Arguments::text)? {
        let mut downloads = state.objects.downloads.iter();
        let download = downloads.find(|download| download.job == job);
        let download = download.ok_or_else(|| Refusal::not_found("Job", job))?;
        let done = download.requested.elapsed() >= cloud.settings.timing.object_download;
        let url = done.then(|| {
            let (base_url, token) = (&cloud.base_url, &download.token);
            format!("{base_url}/object/download?token={token}")
        });
        return Reply::success(json!({"jobId": job, "url": url}));
    }
    let keys = arguments.list("keys")?;
    if keys.is_empty() || keys.len() > limits::OBJECTS {
        return Err(Refusal::invalid("keys", "at least one key"));
    }
    let mut objects = BTreeMap::new();
    for item in keys {
        let requested = item
            .as_str()
            .ok_or_else(|| Refusal::invalid("keys", "a list of keys"))?;
        let found = objects_below(state, requested)?.into_iter();
        objects.extend(found.map(|(key, it)| (key.clone(), it.bytes.clone())));
    }
    let number = state.next_number();
    let token = &cloud.settings.credentials.token;
    let download = Download {
        job: state.next_id(),
        token: digest_id(&format!("download/{token}/{number}")),
        requested: Instant::now(),
        objects: objects.into_iter().collect(),
    };
    let answer = Reply::success(json!({"jobId": download.job, "url": null}));
    if state.objects.downloads.len() >= limits::DOWNLOADS {
        state.objects.downloads.pop_front();
    }
    state.objects.downloads.push_back(download.into());
    answer
}

/// Serves the archive of a download.
pub(crate) async fn download(cloud: Arc<Cloud>, arguments: Arguments) -> Answer {
    let token = arguments.text("token")?;
    let objects = {
        let state = cloud.state();
        let download = state
            .objects
            .downloads
            .iter()
            .find(|download| download.token == token)
            .ok_or_else(|| Refusal::not_found("Download", "the address is not valid"))?;
        download.objects.clone()
    };
    let broken = |error: &dyn std::fmt::Display| {
        Refusal::because(format!("The archive cannot be built: {error}"))
    };
    let bytes = tokio::task::spawn_blocking(move || archive(&objects))
        .await
        .map_err(|error| broken(&error))?
        .map_err(|error| broken(&error))?;
    Ok(Reply::Archive(Bytes::from(bytes)))
}

fn archive(objects: &[(String, Bytes)]) -> zip::result::ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (key, bytes) in objects {
        archive.start_file(key.as_str(), options)?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// The files and folders directly below `path`.
pub(crate) fn list(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let requested = arguments.optional("path", Arguments::text)?.unwrap_or("/");
    let path = requested.trim_matches('/');
    let prefix = if path.is_empty() { "" } else { key_of(path)? };
    // Keys in the answer begin as the path did.
    let shown = requested.trim_end_matches('/');
    let mut entries: BTreeMap<&str, Value> = BTreeMap::new();
    for (key, object) in state.objects.below(prefix) {
        let rest = key
            .strip_prefix(prefix)
            .unwrap_or(key)
            .trim_start_matches('/');
        let (name, folder) = match rest.split_once('/') {
            Some((name, _)) => (name, true),
            // The path is an object itself.
            None if rest.is_empty() => (key.rsplit('/').next().unwrap_or(key), false),
            None => (rest, false),
        };
        let entry_key = if rest.is_empty() {
            requested.to_owned()
        } else {
            format!("{shown}/{name}")
        };
        let modified = instant_text(object.modified);
        let entry = entries.entry(name).or_insert_with(|| {
            json!({
                "key": entry_key,
                "name": name,
                "modified": modified,
                "mime": if folder { "directory".to_owned() } else { mime_of(key, &object.bytes) },
                "folder": folder,
                "size": 0,
            })
        });
        if let Some(size) = entry.get_mut("size") {
            let so_far = size.as_u64().unwrap_or_default();
            let own = u64::try_from(object.bytes.len()).unwrap_or_default();
            *size = json!(so_far + own);
        }
    }
    let used = state.objects.used();
    Reply::success(json!({
        "path": requested,
        "objects": entries.into_values().collect::<Vec<_>>(),
        "page": 1,
        "totalPages": 1,
        "objectStorageUsed": used,
        "objectStorageUsedHuman": human(used),
    }))
}

/// Deletes an object, or a folder with everything in it.
pub(crate) fn delete(cloud: &Arc<Cloud>, state: &mut State, arguments: &Arguments) -> Answer {
    cloud.check_organization(arguments)?;
    let found = objects_below(state, arguments.text("key")?)?.into_iter();
    let keys: Vec<String> = found.map(|(key, _)| key.clone()).collect();
    for key in keys {
        state.objects.objects.remove(&key);
    }
    Reply::done()
}

/// The object under a key, or all of a folder; at least one.
fn objects_below<'s>(
    state: &'s State,
    requested: &str,
) -> Result<Vec<(&'s String, &'s Object)>, Refusal> {
    let found: Vec<_> = state.objects.below(key_of(requested)?).collect();
    if found.is_empty() {
        return Err(Refusal::not_found("Object", requested));
    }
    Ok(found)
}

fn mime_of(key: &str, bytes: &[u8]) -> String {
    let fallback = if std::str::from_utf8(bytes).is_ok() {
        mime_guess::mime::TEXT_PLAIN
    } else {
        mime_guess::mime::APPLICATION_OCTET_STREAM
    };
    mime_guess::from_path(key).first_or(fallback).to_string()
}

/// A size in bytes with a unit, in steps of 1024.
fn human(bytes: usize) -> String {
    const UNITS: [&str; 4] = ["B", "KB", "MB", "GB"];
    let mut size = u32::try_from(bytes).map_or(f64::from(u32::MAX), f64::from);
    let mut unit = UNITS[0];
    for larger in UNITS.iter().skip(1) {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    format!("{size:.2} {unit}")
}
