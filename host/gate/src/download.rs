//! Reads an object's bytes: requests a download, waits until it is ready, fetches and unpacks it.
//!
//! QuantConnect serves objects as a zip archive under an address that is readable without credentials; so
//! neither the address nor the archive leaves this module. The whole flow is one decision and one record;
//! each step is a read of the host's own.
//!
//! Invariant: no step is sent or retried once the plugin may no longer make the download; a queued step
//! ends then, and so do each wait for the next one and the transfer of the bytes.

use std::io::{Cursor, Read as _};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use qchost_catalog::host_calls::{
    READ_OBJECT_STORE_FILE_DOWNLOAD_URL, READ_OBJECT_STORE_FILE_JOB_ID,
};
use qchost_catalog::{Backoff, BoxFuture, Clearance, Failure, Operation};
use qchost_scope::Reader as _;
use serde_json::{Map, Value, json};
use tokio_util::task::TaskTracker;

use crate::admission::AdmittedCall;
use crate::authorize::Authorizer;
use crate::call::CallRequest;
use crate::call_log::CallLog;
use crate::decision::CallDecision;
use crate::reads::HostReader;
use crate::record::AuditContext;
use crate::refusal::{Refusal, export_refused};
use crate::reserve::Reserver;
use crate::throttle::CallGuards;

/// QuantConnect does not announce that a download is ready.
const POLL_BACKOFF: Backoff = Backoff::exact(Duration::from_millis(100), Duration::from_secs(3));

/// Downloads objects.
pub(crate) struct Downloader {
    pub authorizer: Arc<Authorizer>,
    pub reserver: Reserver,
    pub reads: Arc<HostReader>,
    pub log: Arc<CallLog>,
    pub tasks: TaskTracker,
}

/// One download that was admitted.
struct Download {
    downloader: Arc<Downloader>,
    request: CallRequest,
    decision: CallDecision,
    _guards: CallGuards,
    /// Maximum size of the object in bytes.
    limit: u64,
}

impl Downloader {
    /// Makes a download that was admitted, of at most `limit` bytes. It runs to completion even if its caller goes away.
    pub(crate) async fn download(
        self: &Arc<Self>,
        request: CallRequest,
        admitted: AdmittedCall,
        limit: u64,
    ) -> Result<Vec<u8>, Refusal> {
        let AdmittedCall {
            decision,
            mut guards,
            ..
        } = admitted;
        // Each of its steps waits for the rate limit by itself.
        guards.account_admission = None;
        let download = Download {
            downloader: Arc::clone(self),
            request,
            decision,
            _guards: guards,
            limit,
        };
        let result = self.tasks.spawn(download.run()).await;
        result.unwrap_or_else(|_| {
            let failed = "the host failed while it fetched the object";
            Err(Refusal::Failed(Failure::Unavailable(failed.to_owned())))
        })
    }
}

impl Download {
    /// Runs the download to completion and records it.
    async fn run(self) -> Result<Vec<u8>, Refusal> {
        let (downloader, request) = (&self.downloader, &self.request);
        let context = AuditContext::of(&self.decision, None);
        downloader
            .reserver
            .charge_read(request, &self.decision)
            .await?;
        let redactor = request.settings().secrets.redactor();
        let clean = |text: String| redactor.clean(&text).into_owned();
        let result = self.fetch().await.map_err(|refusal| match refusal {
            Refusal::Failed(failure) => {
                export_refused(&failure).unwrap_or_else(|| failure.map_text(clean).into())
            }
            refusal => refusal,
        });
        let outcome = match &result {
            Ok(bytes) => Ok(bytes.len().into()),
            Err(Refusal::Failed(failure)) => Err(failure.clone()),
            Err(refusal) => {
                downloader.log.note_refusal(request, &context, refusal);
                return result;
            }
        };
        downloader.log.note_read(request, &context, &outcome);
        result
    }

    async fn fetch(&self) -> Result<Vec<u8>, Refusal> {
        let text = |name: &str| self.request.text(name).unwrap_or_default().to_owned();
        let (organization, key) = (text("organizationId"), text("key"));
        let deadline = self.request.started_at + self.downloader.reads.call_timeout;
        let job = json!({ "organizationId": organization, "keys": [key] });
        let mut answer = self.call(READ_OBJECT_STORE_FILE_JOB_ID, job).await?;
        let mut polls = 0;
        let url = loop {
            if let Some(url) = answer
                .get("url")
                .and_then(Value::as_str)
                .filter(|url| !url.is_empty())
            {
                break url.to_owned();
            }
            let Some(job) = answer
                .get("jobId")
                .and_then(Value::as_str)
                .map(str::to_owned)
            else {
                let neither = "the download has neither an address nor a job".to_owned();
                return Err(Failure::UnexpectedResponse(neither).into());
            };
            polls += 1;
            let wait = POLL_BACKOFF.delay(polls);
            if Instant::now() + wait >= deadline {
                let after = self.request.started_at.elapsed();
                return Err(Failure::TimedOut { after }.into());
            }
            self.while_allowed(tokio::time::sleep(wait)).await?;
            let poll = json!({ "organizationId": organization, "jobId": job });
            answer = self.call(READ_OBJECT_STORE_FILE_DOWNLOAD_URL, poll).await?;
        };
        // Slack, since the archive may be a little larger than its content.
        let most = self.limit.saturating_add(64 << 10);
        self.check()?;
        let account = self.request.account();
        let upstream = &self.downloader.reads.upstream;
        let archive = upstream.download(account, &url, most, deadline);
        let archive = self.while_allowed(archive).await??;
        let limit = self.limit;
        let unpacked = tokio::task::spawn_blocking(move || unpack(archive, &key, limit)).await;
        let unpacked = unpacked.unwrap_or_else(|error| {
            Err(Failure::UnexpectedResponse(format!(
                "the download cannot be unpacked: {error}"
            )))
        });
        Ok(unpacked?)
    }

    /// Whether the download may continue; each of its steps is sent separately.
    fn check(&self) -> Result<(), Refusal> {
        self.downloader
            .authorizer
            .recheck(&self.request, &self.decision)
    }

    /// Waits for something as long as the download may continue.
    async fn while_allowed<T>(&self, work: impl Future<Output = T>) -> Result<T, Refusal> {
        let authorizer = &self.downloader.authorizer;
        tokio::select! {
            done = work => Ok(done),
            refusal = authorizer.revoked(&self.request, &self.decision) => Err(refusal),
        }
    }

    async fn call(
        &self,
        operation: &'static Operation,
        arguments: Value,
    ) -> Result<Value, Refusal> {
        let arguments = match arguments {
            Value::Object(arguments) => arguments,
            _ => Map::new(),
        };
        let clearance = StepClearance {
            download: self,
            refused: OnceLock::new(),
        };
        let mut reads = self.downloader.reads.for_call(&self.request);
        reads.clearance = &clearance;
        let outcome = reads.read(operation, arguments).await;
        match clearance.refused.into_inner() {
            Some(refusal) => Err(refusal),
            None => Ok(outcome?),
        }
    }
}

/// Clears the steps of a download while the plugin may make it.
struct StepClearance<'a> {
    download: &'a Download,
    /// Why it refused.
    refused: OnceLock<Refusal>,
}

impl StepClearance<'_> {
    fn refuse(&self, refusal: Refusal) -> Failure {
        let failure = Failure::Unavailable(refusal.to_string());
        self.refused.get_or_init(|| refusal);
        failure
    }
}

impl Clearance for StepClearance<'_> {
    fn clear(&self) -> Result<(), Failure> {
        let checked = self.download.check();
        checked.map_err(|refusal| self.refuse(refusal))
    }

    fn withdrawn(&self) -> BoxFuture<'_, Failure> {
        Box::pin(async {
            let Download {
                downloader,
                request,
                decision,
                ..
            } = self.download;
            self.refuse(downloader.authorizer.revoked(request, decision).await)
        })
    }
}

/// Extracts the single object of the archive. The size that the archive claims is not trusted.
fn unpack(archive: Vec<u8>, key: &str, limit: u64) -> Result<Vec<u8>, Failure> {
    let broken =
        |what: &str| Failure::UnexpectedResponse(format!("the download of `{key}` {what}"));
    let mut archive =
        zip::ZipArchive::new(Cursor::new(archive)).map_err(|_| broken("is not a zip archive"))?;
    let files: Vec<usize> = (0..archive.len())
        .filter(|at| archive.by_index_raw(*at).is_ok_and(|entry| entry.is_file()))
        .collect();
    let [only] = files.as_slice() else {
        return Err(broken(&format!("holds {} files, not one", files.len())));
    };
    let entry = archive
        .by_index(*only)
        .map_err(|_| broken("cannot be unpacked"))?;
    // A key may also be that of a folder, whose contents were not decided about.
    let name = entry
        .name()
        .map_err(|_| broken("holds an unnamed object"))?;
    let name = name.trim_start_matches('/');
    if name != key && Some(name) != key.rsplit('/').next() {
        return Err(broken("holds another object"));
    }
    let mut bytes = Vec::new();
    entry
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|_| broken("cannot be unpacked"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(bytes)
    } else {
        Err(Failure::InvalidArgument(format!(
            "the object `{key}` has more than {limit} bytes"
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use qchost_policy::DOWNLOAD;
    use qchost_scope::Scope;

    use crate::testing::{Stores, admitted_call};

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            archive
                .start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn one_object_is_unpacked_and_nothing_else() {
        assert_eq!(
            unpack(archive(&[("a/b", b"bytes")]), "a/b", 5).unwrap(),
            b"bytes"
        );
        let large = unpack(archive(&[("k", &vec![0; 1 << 20])]), "k", 1000).unwrap_err();
        assert!(
            large.to_string().contains("more than 1000 bytes"),
            "{large}"
        );
        for (bytes, what) in [
            (b"junk".to_vec(), "not a zip archive"),
            (archive(&[]), "holds 0 files"),
            (archive(&[("a", b""), ("b", b"")]), "holds 2 files"),
            (archive(&[("k/other", b"")]), "holds another object"),
        ] {
            let error = unpack(bytes, "k", 1000).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    const GRANT: &str = "[[grant]]\nname = \"one\"\nallow = [\"object-store/download\"]\norganizations = [\"*\"]\nkeys = [\"*\"]\n";
    const OTHER: &str = "[[grant]]\nname = \"one\"\nallow = [\"files/*\"]\n";

    fn request(stores: &Stores) -> CallRequest {
        stores.request(DOWNLOAD, json!({ "organizationId": "o", "key": "k" }))
    }

    async fn download(stores: &Stores, request: CallRequest) -> Result<Vec<u8>, Refusal> {
        let downloader = Arc::new(Downloader {
            authorizer: stores.authorizer(),
            reserver: stores.reserver(),
            reads: stores.reads(),
            log: stores.log(),
            tasks: stores.tasks.clone(),
        });
        let touched = Scope::new().download("o", "k").unwrap();
        downloader
            .download(request, admitted_call(touched), 1000)
            .await
    }

    #[tokio::test]
    async fn an_object_is_fetched_and_recorded_once() {
        let stores = Stores::new(GRANT).await;
        *stores.cloud.archive.lock() = archive(&[("k", b"bytes")]);
        let bytes = download(&stores, request(&stores)).await.unwrap();
        assert_eq!(bytes, b"bytes");
        assert_eq!(stores.cloud.sent(), ["read_object_store_file_job_id"]);
        assert_eq!(stores.kinds().await, ["read"]);
    }

    #[tokio::test]
    async fn a_download_that_is_no_longer_allowed_sends_nothing() {
        let stores = Stores::new(GRANT).await;
        let request = request(&stores);
        stores.install(OTHER);
        let refusal = download(&stores, request).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Denied(_)), "{refusal:?}");
        assert!(stores.cloud.sent().is_empty());
        assert_eq!(stores.kinds().await, ["denied"]);
    }
}
