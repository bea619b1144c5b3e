//! `folders`: files in granted folders of the host's machine. The gate decides, makes and records each request; requests
//! of one plugin are limited as those to its state are.

use std::sync::Arc;
use std::time::Instant;

use qchost_folders::FolderError as Failed;
use qchost_gate::{FolderAction, FolderAnswer, FolderFailure, FolderRequest, Refusal};

use crate::calls::CallContext;
use crate::contract::qchost::agent::folders::{Expectation, File, Folder, FolderError, Host};
use crate::services::state_limiter::StateLimiter;

/// The folders of one version of a plugin; none while a component describes itself.
#[derive(Debug, Default)]
pub(crate) struct GrantedFolders {
    pub(crate) folders: Arc<qchost_folders::Folders>,
    limiter: StateLimiter,
}

impl GrantedFolders {
    pub(crate) fn new(folders: qchost_folders::Folders) -> Self {
        Self {
            folders: Arc::new(folders),
            limiter: StateLimiter::default(),
        }
    }
}

/// The folders of the calling plugin.
#[derive(Debug, Clone)]
pub(crate) struct Folders(pub(crate) CallContext);

impl Folders {
    async fn ask(&self, folder: String, action: FolderAction) -> Result<FolderAnswer, FolderError> {
        let Ok(gate) = self.0.gate().cloned() else {
            return Err(FolderError::Unavailable(
                "a component that describes itself has no folders".to_owned(),
            ));
        };
        // A disk may be slow, which is not the agent's delay.
        let _wait = self.0.wait();
        let granted = &self.0.version_context().folders;
        // It is never closed.
        let _permit = granted.limiter.requests.acquire().await;
        if let FolderAction::Write { content, .. } = &action {
            let until = granted.limiter.until(content.len(), Instant::now());
            tokio::time::sleep_until(until.into()).await;
        }
        let asked = FolderRequest {
            folders: Arc::clone(&granted.folders),
            folder,
            action,
        };
        let principal = self.0.principal().clone();
        // In a task of its own: a decision is recorded even if the plugin ends meanwhile.
        let asking = tokio::spawn(async move { gate.folder(&principal, asked).await });
        let answer = asking
            .await
            .map_err(|error| FolderError::Unavailable(error.to_string()))?;
        answer.map_err(refused)
    }

    async fn change(&self, folder: String, action: FolderAction) -> Result<(), FolderError> {
        self.ask(folder, action).await.map(drop)
    }
}

/// The contract's error for a failure.
fn refused(failure: FolderFailure) -> FolderError {
    match failure {
        FolderFailure::Failed(error) => match error {
            Failed::NotGranted(why) => FolderError::NotGranted(why),
            Failed::InvalidPath(why) => FolderError::InvalidPath(why),
            Failed::NotFound(why) => FolderError::NotFound(why),
            Failed::ReadOnly(why) => FolderError::ReadOnly(why),
            Failed::Conflict(why) => FolderError::Conflict(why),
            Failed::QuotaExceeded(why) => FolderError::QuotaExceeded(why),
            Failed::Unavailable(why) => FolderError::Unavailable(why),
        },
        FolderFailure::Refused(Refusal::Halted(reason)) => FolderError::Halted(reason),
        FolderFailure::Refused(Refusal::Exhausted { message, .. }) => {
            FolderError::QuotaExceeded(message)
        }
        FolderFailure::Refused(refusal) => FolderError::Unavailable(refusal.to_string()),
    }
}

impl From<Expectation> for qchost_folders::Expectation {
    fn from(expected: Expectation) -> Self {
        match expected {
            Expectation::Anything => Self::Anything,
            Expectation::Absent => Self::Absent,
            Expectation::Digest(digest) => Self::Digest(digest),
        }
    }
}

impl Host for Folders {
    fn granted(&mut self) -> Vec<Folder> {
        let folders = self.0.version_context().folders.folders.iter();
        let folders = folders.map(|folder| {
            let grant = folder.grant();
            Folder {
                name: grant.name.clone(),
                writable: grant.writable,
                max_bytes: grant.max_bytes,
                max_files: grant.max_files,
            }
        });
        folders.collect()
    }

    async fn list_files(
        &mut self,
        folder: String,
        prefix: String,
    ) -> Result<Vec<File>, FolderError> {
        let answer = self.ask(folder, FolderAction::List { prefix }).await?;
        let FolderAnswer::Files(files) = answer else {
            return Ok(Vec::new());
        };
        let files = files.into_iter().map(|file| File {
            path: file.path,
            size: file.size,
            modified: file.modified.as_secs_f64(),
        });
        Ok(files.collect())
    }

    async fn read_file(&mut self, folder: String, path: String) -> Result<Vec<u8>, FolderError> {
        match self.ask(folder, FolderAction::Read { path }).await? {
            FolderAnswer::Content(content) => Ok(content),
            FolderAnswer::Files(_) | FolderAnswer::Changed => Ok(Vec::new()),
        }
    }

    async fn write_file(
        &mut self,
        folder: String,
        path: String,
        content: Vec<u8>,
        expected: Expectation,
    ) -> Result<(), FolderError> {
        let action = FolderAction::Write {
            path,
            content,
            expected: expected.into(),
        };
        self.change(folder, action).await
    }

    async fn delete_file(
        &mut self,
        folder: String,
        path: String,
        expected: Expectation,
    ) -> Result<(), FolderError> {
        let expected = expected.into();
        self.change(folder, FolderAction::Delete { path, expected })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_component_that_describes_itself_has_no_folders() {
        let mut describing = Folders(CallContext::describing_for_test());
        assert!(describing.granted().is_empty());
        let refused = describing.read_file("out".to_owned(), "f".to_owned()).await;
        assert!(
            matches!(refused, Err(FolderError::Unavailable(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn a_halt_and_a_full_share_of_the_audit_reach_the_agent_as_what_they_are() {
        let halted = refused(FolderFailure::Refused(Refusal::Halted("lunch".to_owned())));
        assert!(matches!(halted, FolderError::Halted(reason) if reason == "lunch"));
        let full = refused(FolderFailure::Refused(Refusal::Exhausted {
            grant: "every grant".to_owned(),
            budget: "audit",
            message: "the share is full".to_owned(),
            resets_in: None,
        }));
        assert!(matches!(full, FolderError::QuotaExceeded(why) if why == "the share is full"));
    }
}
