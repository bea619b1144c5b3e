//! Requests of plugins to folders of the host's machine; each one is decided like a call, made here and recorded.
//!
//! The folders are opened when a plugin is loaded. What may be done in them follows from the manifests in force at each
//! request: one that was taken away is closed at once, also to what runs already.
//!
//! Invariant: a change is recorded on disk before it is made, and runs to its end whatever becomes of the plugin. No record
//! has the content of a file, only its size and digest.

use std::sync::Arc;

use qchost_audit::Kind;
use qchost_catalog::{Access, Failure, aside};
use qchost_folders::{Expectation, File, Folder, FolderError, Folders, Grant, OpenError, Places};
use qchost_policy::{FolderGrant, FolderMode, Manifest};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio_util::task::TaskTracker;

use crate::authorize::Authorizer;
use crate::call::CallRequest;
use crate::call_log::CallLog;
use crate::policy::EffectivePolicy;
use crate::record::{self, AuditContext, CallRecord};
use crate::refusal::Refusal;

/// What a plugin asks of a folder.
#[derive(Debug)]
pub struct FolderRequest {
    /// The folders that were opened when the plugin was loaded.
    pub folders: Arc<Folders>,
    /// The name of the folder in the manifest.
    pub folder: String,
    /// What is to be done.
    pub action: FolderAction,
}

/// What can be done in a folder.
#[derive(Debug)]
pub enum FolderAction {
    /// Lists the files whose paths begin with a prefix.
    List {
        /// The prefix.
        prefix: String,
    },
    /// Reads a file.
    Read {
        /// Its path.
        path: String,
    },
    /// Writes a file.
    Write {
        /// Its path.
        path: String,
        /// Its content.
        content: Vec<u8>,
        /// What has to be there.
        expected: Expectation,
    },
    /// Deletes a file.
    Delete {
        /// Its path.
        path: String,
        /// What has to be there.
        expected: Expectation,
    },
}

/// What a folder answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderAnswer {
    /// The files of a list.
    Files(Vec<File>),
    /// The content of a file.
    Content(Vec<u8>),
    /// A change was made.
    Changed,
}

/// Why a request to a folder has no answer.
#[derive(Debug, thiserror::Error)]
pub enum FolderFailure {
    /// The gate refused it; nothing was done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The manifest does not grant it, or the folder refused it.
    #[error(transparent)]
    Failed(#[from] FolderError),
}

/// Opens the folders that a manifest grants. Blocks.
///
/// # Errors
/// When one of them cannot be opened, or is not apart from these places.
pub fn open_folders(manifest: &Manifest, places: &Places) -> Result<Folders, OpenError> {
    Folders::open(manifest.folders.iter().map(opened_as), places)
}

fn opened_as(grant: &FolderGrant) -> Grant {
    Grant {
        name: grant.name.clone(),
        path: grant.path.clone(),
        writable: grant.mode == FolderMode::ReadWrite,
        max_bytes: grant.max_bytes,
        max_files: grant.max_files,
    }
}

impl FolderRequest {
    pub(crate) fn name(&self) -> &'static str {
        match self.action {
            FolderAction::List { .. } => "folders/list-files",
            FolderAction::Read { .. } => "folders/read-file",
            FolderAction::Write { .. } => "folders/write-file",
            FolderAction::Delete { .. } => "folders/delete-file",
        }
    }

    pub(crate) fn access(&self) -> Access {
        match self.action {
            FolderAction::List { .. } | FolderAction::Read { .. } => Access::Read,
            FolderAction::Write { .. } | FolderAction::Delete { .. } => Access::Write,
        }
    }

    /// What is recorded of it.
    pub(crate) fn arguments(&self) -> Map<String, Value> {
        let mut arguments = Map::from_iter([("folder".to_owned(), self.folder.as_str().into())]);
        let mut put = |name: &str, value: Value| drop(arguments.insert(name.to_owned(), value));
        let expected = match &self.action {
            FolderAction::List { prefix } => {
                put("prefix", prefix.as_str().into());
                None
            }
            FolderAction::Read { path } => {
                put("path", path.as_str().into());
                None
            }
            FolderAction::Write {
                path,
                content,
                expected,
            } => {
                put("path", path.as_str().into());
                put("bytes", content.len().into());
                put("digest", digest(content).into());
                Some(expected)
            }
            FolderAction::Delete { path, expected } => {
                put("path", path.as_str().into());
                Some(expected)
            }
        };
        match expected {
            None | Some(Expectation::Anything) => {}
            Some(Expectation::Absent) => put("expected", "absent".into()),
            Some(Expectation::Digest(digest)) => put("expected", digest.as_str().into()),
        }
        arguments
    }

    /// The folder, as all manifests in force grant it.
    fn granted(&self, policy: &EffectivePolicy) -> Result<Folder, FolderError> {
        let mut folder = self.folders.get(&self.folder)?.clone();
        for authority in policy.authorities() {
            let mut grants = authority.manifest().folders.iter();
            let grant = grants.find(|grant| grant.name == self.folder);
            let narrowed = grant.and_then(|grant| folder.narrowed(&opened_as(grant)));
            folder = narrowed.ok_or_else(|| {
                FolderError::NotGranted(format!(
                    "the folder `{}` is not granted any more, or the change of its grant is not in force yet",
                    self.folder
                ))
            })?;
        }
        if self.access() != Access::Read {
            folder.check_writable()?;
        }
        Ok(folder)
    }
}

impl FolderAction {
    /// Does it. Blocks.
    fn run(self, folder: &Folder) -> Result<FolderAnswer, FolderError> {
        match self {
            Self::List { prefix } => folder.list(&prefix).map(FolderAnswer::Files),
            Self::Read { path } => folder.read(&path).map(FolderAnswer::Content),
            Self::Write {
                path,
                content,
                expected,
            } => {
                folder.write(&path, &content, &expected)?;
                Ok(FolderAnswer::Changed)
            }
            Self::Delete { path, expected } => {
                folder.delete(&path, &expected)?;
                Ok(FolderAnswer::Changed)
            }
        }
    }
}

/// Decides about requests to folders, makes them and records them.
pub(crate) struct FolderCalls {
    pub authorizer: Arc<Authorizer>,
    pub log: Arc<CallLog>,
    pub tasks: TaskTracker,
}

impl FolderCalls {
    /// Decides about a request, and records a refusal.
    pub(crate) fn decide(
        &self,
        request: &CallRequest,
        asked: &FolderRequest,
    ) -> Result<Folder, FolderFailure> {
        self.check(request, asked, &request.policy)
            .inspect_err(|failure| {
                let refusal = match failure {
                    FolderFailure::Refused(refusal) => refusal.clone(),
                    FolderFailure::Failed(error) => Refusal::denied(error.to_string()),
                };
                let context = AuditContext::default();
                self.log.note_refusal(request, &context, &refusal);
            })
    }

    fn check(
        &self,
        request: &CallRequest,
        asked: &FolderRequest,
        policy: &EffectivePolicy,
    ) -> Result<Folder, FolderFailure> {
        self.authorizer.check_halt(request)?;
        self.authorizer.audit_quotas.check(request)?;
        Ok(asked.granted(policy)?)
    }

    /// Makes a request that was allowed. It runs to its end even if its caller goes away.
    pub(crate) async fn make(
        self: &Arc<Self>,
        request: CallRequest,
        folder: Folder,
        asked: FolderRequest,
    ) -> Result<FolderAnswer, FolderFailure> {
        let calls = Arc::clone(self);
        let made = self
            .tasks
            .spawn(async move { calls.run(&request, folder, asked).await });
        made.await.unwrap_or_else(|_| Err(failed_within().into()))
    }

    async fn run(
        &self,
        request: &CallRequest,
        folder: Folder,
        asked: FolderRequest,
    ) -> Result<FolderAnswer, FolderFailure> {
        let context = AuditContext::default();
        let mut record = record::intent(request, &context, &self.log.fingerprints);
        record.body.grants = Some(vec![format!("folder:{}", asked.folder)]);
        let changes = request.access != Access::Read;
        if changes {
            let entry = record.entry();
            let quotas = &self.authorizer.audit_quotas;
            quotas.count(request.plugin(), &entry);
            self.log.audit.record(entry).await.map_err(|error| {
                FolderError::Unavailable(format!(
                    "the host cannot write its audit, so nothing was changed: {error}"
                ))
            })?;
        }
        let sent = match &asked.action {
            FolderAction::Write { content, .. } => Some(content.len()),
            _ => None,
        };
        let result = match self.still_allowed(request, folder, &asked) {
            Ok(folder) => {
                let using = tokio::task::spawn_blocking(move || -> Result<_, FolderError> {
                    let answer = asked.action.run(&folder)?;
                    let read = match &answer {
                        FolderAnswer::Content(content) => Some(digest(content)),
                        FolderAnswer::Files(_) | FolderAnswer::Changed => None,
                    };
                    Ok((answer, read))
                });
                let used = using.await.unwrap_or_else(|_| Err(failed_within()));
                used.map_err(FolderFailure::from)
            }
            Err(failure) => Err(failure),
        };
        let body = &mut record.body;
        body.bytes_sent = sent.and_then(|bytes| u64::try_from(bytes).ok());
        body.latency_us = Some(record::latency(request));
        match &result {
            Ok((answer, read)) => {
                if let FolderAnswer::Content(content) = answer {
                    body.bytes_received = u64::try_from(content.len()).ok();
                }
                body.response_hash.clone_from(read);
                body.outcome = Some(Some("answered".to_owned()));
            }
            Err(failure) => {
                body.reason = Some(failure.to_string());
                body.outcome = Some(Some(word(failure).to_owned()));
            }
        }
        self.note(request, record).await;
        result.map(|(answer, _)| answer)
    }

    /// A change waits for its intent to be on disk; meanwhile a halt or another manifest may have come into force.
    fn still_allowed(
        &self,
        request: &CallRequest,
        folder: Folder,
        asked: &FolderRequest,
    ) -> Result<Folder, FolderFailure> {
        if request.access == Access::Read {
            return Ok(folder);
        }
        self.authorizer.check_halt(request)?;
        if self.authorizer.is_current(request) {
            return Ok(folder);
        }
        let policy = self.authorizer.policy_of(&request.principal)?;
        Ok(asked.granted(&policy)?)
    }

    /// Records how a request ended.
    async fn note(&self, request: &CallRequest, mut record: CallRecord) {
        let changes = request.access != Access::Read;
        record.kind = if changes { Kind::Outcome } else { Kind::Read };
        let entry = record.entry();
        self.authorizer.audit_quotas.count(request.plugin(), &entry);
        if !changes {
            self.log.audit.note(entry);
        } else if let Err(error) = self.log.audit.record(entry).await {
            tracing::error!(target: "gate", %error, "the outcome of a change of a folder is not recorded");
        }
    }
}

/// How a request ended, in the words of records.
fn word(failure: &FolderFailure) -> &'static str {
    let text = || failure.to_string();
    let as_failure = match failure {
        FolderFailure::Refused(refusal) => return refusal.word(),
        FolderFailure::Failed(error) => match error {
            FolderError::InvalidPath(_) => Failure::InvalidArgument(text()),
            FolderError::NotFound(_) => Failure::NotFound(text()),
            FolderError::NotGranted(_)
            | FolderError::ReadOnly(_)
            | FolderError::Conflict(_)
            | FolderError::QuotaExceeded(_) => Failure::Rejected(vec![text()]),
            FolderError::Unavailable(_) => Failure::Unavailable(text()),
        },
    };
    as_failure.word()
}

fn failed_within() -> FolderError {
    FolderError::Unavailable(
        "the host failed while it used the folder; look at what is there before you try again"
            .to_owned(),
    )
}

fn digest(content: &[u8]) -> String {
    let digest = aside(content.len(), || Sha256::digest(content));
    format!("sha256:{}", hex::encode(digest))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::call::Callee;
    use crate::halts::HaltScope;
    use crate::testing::Stores;

    fn grant(folder: &Path, mode: &str) -> String {
        format!(
            "[[folder]]\nname = \"out\"\npath = {}\nmode = \"{mode}\"\n",
            json!(folder)
        )
    }

    fn write(content: &str) -> FolderAction {
        FolderAction::Write {
            path: "d/f".to_owned(),
            content: content.as_bytes().to_vec(),
            expected: Expectation::Absent,
        }
    }

    fn read() -> FolderAction {
        FolderAction::Read {
            path: "d/f".to_owned(),
        }
    }

    /// Makes a request with the folders that the plugin has been granted by `opened`.
    async fn make(
        stores: &Stores,
        opened: &str,
        action: FolderAction,
    ) -> Result<FolderAnswer, FolderFailure> {
        let manifest = crate::testing::manifest(opened);
        let asked = FolderRequest {
            folders: Arc::new(open_folders(&manifest, &Places::default()).unwrap()),
            folder: "out".to_owned(),
            action,
        };
        let calls = Arc::new(FolderCalls {
            authorizer: stores.authorizer(),
            log: stores.log(),
            tasks: stores.tasks.clone(),
        });
        let callee = Callee::service(asked.name(), asked.access());
        let request = stores.request_to(callee, Value::Object(asked.arguments()));
        let folder = calls.decide(&request, &asked)?;
        calls.make(request, folder, asked).await
    }

    #[tokio::test]
    async fn a_change_is_recorded_before_and_after_and_a_read_after_without_contents() {
        let folder = tempfile::tempdir().unwrap();
        let granted = grant(folder.path(), "read-write");
        let stores = Stores::new(&granted).await;
        make(&stores, &granted, write("secret content"))
            .await
            .unwrap();
        let answer = make(&stores, &granted, read()).await.unwrap();
        assert_eq!(answer, FolderAnswer::Content(b"secret content".to_vec()));
        let again = make(&stores, &granted, write("other")).await;
        let Err(FolderFailure::Failed(FolderError::Conflict(_))) = again else {
            panic!("{again:?}");
        };
        assert_eq!(
            stores.kinds().await,
            ["intent", "outcome", "read", "intent", "outcome"]
        );
        let records = stores.records().await;
        let digest = digest(b"secret content");
        let [intent, outcome, read, _, conflict] = records.as_slice() else {
            panic!("{records:?}");
        };
        assert_eq!(intent["operation"], "folders/write-file");
        assert_eq!(intent["grants"], json!(["folder:out"]));
        assert_eq!(
            intent["arguments"],
            json!({ "folder": "out", "path": "d/f", "bytes": 14, "digest": digest, "expected": "absent" })
        );
        assert_eq!(outcome["outcome"], "answered");
        assert_eq!(
            (&read["bytes-received"], &read["response-hash"]),
            (&json!(14), &json!(digest))
        );
        assert_eq!(conflict["outcome"], "rejected");
        assert!(!json!(records).to_string().contains("secret content"));
    }

    #[tokio::test]
    async fn what_is_granted_for_reading_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let granted = grant(folder.path(), "read");
        let stores = Stores::new(&granted).await;
        let refused = make(&stores, &granted, write("x")).await;
        let Err(FolderFailure::Failed(FolderError::ReadOnly(_))) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(stores.kinds().await, ["denied"]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_manifest_that_grants_less_holds_for_folders_that_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let opened = grant(folder.path(), "read-write");
        let stores = Stores::new(&opened).await;
        make(&stores, &opened, write("x")).await.unwrap();
        stores.install(&grant(folder.path(), "read"));
        let refused = make(&stores, &opened, write("y")).await;
        let Err(FolderFailure::Failed(FolderError::ReadOnly(_))) = refused else {
            panic!("{refused:?}");
        };
        make(&stores, &opened, read()).await.unwrap();
        for other in [String::new(), grant(Path::new("/srv"), "read-write")] {
            stores.install(&other);
            let refused = make(&stores, &opened, read()).await;
            let Err(FolderFailure::Failed(FolderError::NotGranted(_))) = refused else {
                panic!("{refused:?}");
            };
        }
    }

    #[tokio::test]
    async fn a_halted_plugin_reads_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let granted = grant(folder.path(), "read-write");
        let stores = Stores::new(&granted).await;
        std::fs::create_dir(folder.path().join("d")).unwrap();
        std::fs::write(folder.path().join("d/f"), "x").unwrap();
        let halt = qchost_ledger::Halt {
            account: None,
            plugin: None,
            reason: "lunch".to_owned(),
            by: "ann".to_owned(),
            at: 0,
        };
        stores.halts.halt(
            halt,
            &HaltScope::default(),
            crate::body::HaltBody::default(),
        );
        let refused = make(
            &stores,
            &granted,
            FolderAction::Delete {
                path: "d/f".to_owned(),
                expected: Expectation::Anything,
            },
        )
        .await;
        let Err(FolderFailure::Refused(Refusal::Halted(_))) = refused else {
            panic!("{refused:?}");
        };
        make(&stores, &granted, read()).await.unwrap();
        assert_eq!(stores.kinds().await, ["denied", "read"]);
    }
}
