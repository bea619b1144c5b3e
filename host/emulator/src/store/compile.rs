//! A compile job and what it found.
//!
//! A log line about a source line has the form
//! `Build Error: File: main.py Line:3 Column:5 - message`.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::clock;
use super::project::Project;
use crate::engine::{Compilation, Diagnostic, Job, Language, SourceFile};

/// One compile job with the sources as they were.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CompileJob {
    pub(crate) id: String,
    pub(crate) project_id: u32,
    pub(crate) language: Language,
    pub(crate) files: Vec<SourceFile>,
    pub(crate) compilation: Compilation,
    #[serde(with = "clock")]
    pub(crate) requested: Instant,
}

impl CompileJob {
    pub(crate) fn state(&self, duration: Duration) -> &'static str {
        if self.requested.elapsed() < duration {
            "InQueue"
        } else if self.compilation.errors.is_empty() {
            "BuildSuccess"
        } else {
            "BuildError"
        }
    }

    pub(crate) fn logs(&self, duration: Duration) -> Vec<String> {
        let line = |kind: &str, diagnostic: &Diagnostic| {
            format!(
                "{kind}: File: {} Line:{} Column:{} - {}",
                diagnostic.file, diagnostic.line, diagnostic.column, diagnostic.message
            )
        };
        let warnings = self.compilation.warnings.iter();
        let mut logs: Vec<String> = warnings.map(|it| line("Build Warning", it)).collect();
        match self.state(duration) {
            "InQueue" => return Vec::new(),
            "BuildSuccess" => logs.push(format!(
                "Build Request Successful for Project ID: {}, with CompileID: {}",
                self.project_id, self.id
            )),
            _ => {
                let errors = self.compilation.errors.iter();
                logs.extend(errors.map(|it| line("Build Error", it)));
            }
        }
        logs
    }

    /// A run of the sources with the parameters of their project.
    pub(crate) fn job(&self, project: &Project) -> Job {
        Job {
            language: self.language,
            files: self.files.clone(),
            parameters: project.parameters.iter().cloned().collect(),
        }
    }

    /// How many parameters the sources read.
    pub(crate) fn parameter_count(&self) -> usize {
        self.compilation.parameters.len()
    }

    /// A hash of the sources, by name and content in order.
    pub(crate) fn signature(&self) -> String {
        let mut digest = Sha256::new();
        for file in &self.files {
            for part in [&file.name, &file.content] {
                digest.update(part.len().to_le_bytes());
                digest.update(part.as_bytes());
            }
        }
        hex::encode(digest.finalize())
    }
}
