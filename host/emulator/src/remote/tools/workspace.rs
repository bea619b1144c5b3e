//! What the tools work on: the emulated cloud, and what the server keeps for its session.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::services::answer::Refusal;
use crate::services::cloud::Cloud;

/// The cloud, the open project and the scripts of notebook cells.
pub(in crate::remote) struct Workspace {
    pub(super) cloud: Arc<Cloud>,
    /// What a cell prints whose source contains a text.
    pub(super) outputs: Vec<(String, String)>,
    open: Mutex<Option<u32>>,
}

impl Workspace {
    pub(in crate::remote) fn new(cloud: Arc<Cloud>, outputs: Vec<(String, String)>) -> Self {
        Self {
            cloud,
            outputs,
            open: Mutex::new(None),
        }
    }

    /// The project that was created or read last: what opens one is not documented.
    pub(super) fn open_project(&self) -> Result<u32, Refusal> {
        let open = *self.open.lock();
        open.ok_or_else(|| Refusal::because("No project is open: name one by projectId"))
    }

    pub(super) fn open(&self, project: u32) {
        *self.open.lock() = Some(project);
    }
}
