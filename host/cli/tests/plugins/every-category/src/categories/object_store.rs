//! `object-store`: bytes written, described, listed, downloaded in both ways, deleted.

use qchost_sdk::prelude::*;

use crate::checks::{Checks, not_found};
use crate::setup;

const KEY: &str = "every/object-store.txt";
const BYTES: &[u8] = "Prices in \u{20ac}\n".as_bytes();

pub(crate) fn run(checks: &mut Checks) -> Option<()> {
    let organization = checks.answer(
        "upload-object",
        "has an organisation",
        setup::organization(),
        |_| true,
    )?;
    let uploaded = object_store::upload_object(&organization, KEY, BYTES);
    checks.answer("upload-object", "succeeds", uploaded, |()| true)?;
    let stranger = object_store::upload_object(&"0".repeat(32), KEY, BYTES);
    checks.refusal(
        "upload-object",
        "refuses another organisation",
        stranger,
        |_| true,
    );

    let properties = || object_store::read_object_properties(&organization, KEY);
    checks.answer(
        "read-object-properties",
        "describes it",
        properties(),
        |it| {
            it.size == Some(14.0)
                && it.md5.as_deref().is_some_and(|it| it.len() == 32)
                && it
                    .preview
                    .as_deref()
                    .is_some_and(|it| it.starts_with("Prices"))
        },
    )?;
    let listing = object_store::list_object_store_files(&organization, Some("every"));
    checks.answer("list-object-store-files", "contains it", listing, |it| {
        it.object_storage_used.is_some_and(|used| used >= 14.0)
            && it.objects.iter().any(|it| {
                it.name.as_deref() == Some("object-store.txt") && it.folder == Some(false)
            })
    })?;
    let root = object_store::list_object_store_files(&organization, None);
    checks.answer("list-object-store-files", "shows its folder", root, |it| {
        it.objects
            .iter()
            .any(|it| it.name.as_deref() == Some("every") && it.folder == Some(true))
    })?;

    download(checks, &organization)?;

    let delete = || object_store::delete_object(&organization, KEY);
    checks.answer("delete-object", "succeeds", delete(), |()| true)?;
    checks.refusal(
        "delete-object",
        "leaves nothing to delete",
        delete(),
        not_found,
    );
    checks.refusal(
        "read-object-properties",
        "does not know a key",
        properties(),
        not_found,
    );
    checks.refusal(
        "download",
        "does not know a key",
        object_store::download(&organization, KEY),
        not_found,
    );
    Some(())
}

fn download(checks: &mut Checks, organization: &str) -> Option<()> {
    let function = "read-object-store-file-job-id";
    let begun = object_store::read_object_store_file_job_id(organization, &[KEY.to_owned()]);
    let job = checks
        .answer(function, "begins a download", begun, |it| {
            it.job_id.is_some()
        })?
        .job_id?;
    let unknown = object_store::read_object_store_file_job_id(organization, &["none".to_owned()]);
    checks.refusal(function, "does not know a key", unknown, not_found);

    let function = "read-object-store-file-download-url";
    let ready = setup::until("the download did not get ready", || {
        let url = |job: &str| object_store::read_object_store_file_download_url(organization, job);
        Ok(wait::until_ready(|| url(&job))?.url)
    });
    // The address is a secret, so the report only says whether it is one.
    let address = ready.map(|it| it.starts_with("http"));
    checks.answer(function, "gives an address", address, |it| *it)?;
    let unknown = object_store::read_object_store_file_download_url(organization, "none");
    checks.refusal(
        function,
        "does not know a job that it did not begin",
        unknown.map(|_| ()),
        |it| matches!(it, Error::NotFound(reason) if reason.contains("was not begun")),
    );

    let bytes = object_store::download(organization, KEY);
    checks.answer("download", "gives the bytes", bytes, |it| it == BYTES)?;
    Some(())
}
