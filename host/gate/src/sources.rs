//! The source behind a compile: what the host saw of it, and how it differs from what was last
//! approved.
//!
//! The files are read before and after the compile is asked for. Only if they are the same is the
//! compile known by their hash: a file changed in between might be in it or not.
//!
//! Invariant: a compile has the source that is shown for it, or none is shown.

use qchost_catalog::{Failure, Operation};
use qchost_scope::{Reader as _, Touched};
use serde_json::{Map, Value, json};
use similar::TextDiff;

use crate::ask::Ask;
use crate::gate::{Gate, Inner, known};
use crate::record::text_hash;
use crate::refusal::Refusal;
use crate::trade::unusable;

/// The longest difference that is shown, in bytes.
const LONGEST_DIFF: usize = 64 << 10;
const CONTEXT_LINES: usize = 3;
/// The operation that deploys a compile.
const DEPLOY: &str = "live/create-live-algorithm";

/// The files of a project, by name, in order.
pub(crate) type Files = Vec<(String, String)>;

impl Inner {
    /// Whether anybody of the account may deploy, so that sources are worth reading.
    pub(crate) fn is_deployed_from(&self, account: &str) -> bool {
        self.terms.any(|manifest| {
            let mut patterns = manifest.grants.iter().flat_map(|grant| &grant.allow);
            manifest.account == account
                && patterns.any(|pattern| pattern.covers(DEPLOY, qchost_catalog::Access::Trade))
        })
    }
}

impl Gate {
    /// Reads the files of the project that is about to be compiled, or nothing if that is not
    /// what the call does, or nobody of the account may deploy.
    pub(crate) async fn files_to_compile(&self, ask: &Ask, touched: &Touched) -> Option<Files> {
        let project = touched.project.as_ref()?.0;
        if ask.operation.map(|operation| operation.name) != Some("compile/create-compile")
            || !self.0.is_deployed_from(ask.account())
        {
            return None;
        }
        match self.read_files(ask, project).await {
            Ok(files) => Some(files),
            Err(failure) => {
                tracing::warn!(target: "gate", project, %failure, "the source cannot be read: its compile will be of unknown code");
                None
            }
        }
    }

    /// Remembers which project a compile is of, and what it was made of, if that is known: the files
    /// were read before it, and are still the same.
    pub(crate) async fn remember_compile(
        &self,
        ask: &Ask,
        project: u32,
        compile: &str,
        before: Option<&Files>,
    ) {
        let source = match before {
            Some(before) if self.read_files(ask, project).await.as_ref() == Ok(before) => {
                Some(before)
            }
            Some(_) => {
                tracing::warn!(target: "gate", project, compile, "the source changed while it was compiled: the compile is of unknown code");
                None
            }
            None => None,
        };
        let (ledger, account) = (&self.0.ledger, ask.account());
        let kept = match source {
            Some(files) => {
                let hash = source_hash(files);
                ledger
                    .put_compile(account, compile, project, &hash, files)
                    .await
            }
            None => ledger.record_compile(account, compile, project).await,
        };
        if let Err(error) = kept {
            tracing::warn!(target: "gate", project, compile, %error, "a compile is not remembered");
        }
    }

    async fn read_files(&self, ask: &Ask, project: u32) -> Result<Files, Failure> {
        let operation: &'static Operation = known("files/read-file")?;
        let mut arguments = Map::new();
        arguments.insert("projectId".to_owned(), project.into());
        let answer = self.reads(ask).read(operation, arguments).await?;
        let text = |file: &Value, field: &str| {
            file.get(field)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| Failure::UnexpectedResponse(format!("a file has no `{field}`")))
        };
        let files = operation.select(answer);
        let files = files.as_ref().and_then(Value::as_array);
        let mut files = files
            .ok_or_else(|| Failure::UnexpectedResponse("the project has no files".to_owned()))?
            .iter()
            .map(|file| Ok((text(file, "name")?, text(file, "content")?)))
            .collect::<Result<Files, Failure>>()?;
        files.sort();
        Ok(files)
    }

    /// The hash of the source that a compile was made of; nothing if the host did not see it.
    pub(crate) async fn source_of(
        &self,
        account: &str,
        compile: &str,
    ) -> Result<Option<String>, Refusal> {
        let ledger = &self.0.ledger;
        let source = ledger.compile_source(account, compile).await;
        Ok(source.map_err(unusable)?.map(|(hash, _)| hash))
    }

    /// What a person is shown of the code that a deployment would run.
    pub(crate) async fn source_view(
        &self,
        account: &str,
        project: u32,
        compile: &str,
    ) -> Result<Value, Refusal> {
        let ledger = &self.0.ledger;
        let Some(hash) = self.source_of(account, compile).await? else {
            return Ok(json!({
                "compile": compile,
                "known": false,
                "warning": "unknown code: this compile was not made through this host",
            }));
        };
        let files = ledger.source(&hash).await.map_err(unusable)?;
        let files = files.unwrap_or_default();
        let approved = ledger
            .approved_source(account, project)
            .await
            .map_err(unusable)?;
        let former = match &approved {
            Some(approved) => ledger.source(approved).await.map_err(unusable)?,
            None => None,
        };
        Ok(json!({
            "compile": compile,
            "known": true,
            "hash": hash,
            "last approved": approved,
            "diff": difference(&former.unwrap_or_default(), &files),
        }))
    }
}

/// One hash for all files: of their names and contents, each with its length before it.
fn source_hash(files: &Files) -> String {
    let mut text = String::new();
    for (name, content) in files {
        text.push_str(&format!("{}:{name}{}:{content}", name.len(), content.len()));
    }
    text_hash(&text)
}

/// A unified difference of two sets of files, cut where it gets too long to be read.
fn difference(former: &Files, files: &Files) -> String {
    let find = |files: &Files, name: &str| {
        files
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, content)| content.clone())
            .unwrap_or_default()
    };
    let mut names: Vec<&String> = former.iter().chain(files).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    let mut text = String::new();
    for name in names {
        let (old, new) = (find(former, name), find(files, name));
        if old == new {
            continue;
        }
        let diff = TextDiff::from_lines(&old, &new);
        let shown = diff
            .unified_diff()
            .context_radius(CONTEXT_LINES)
            .header(name, name)
            .to_string();
        let left = LONGEST_DIFF.saturating_sub(text.len());
        match shown.get(..left.min(shown.len())) {
            Some(part) if part.len() == shown.len() => text.push_str(part),
            _ => {
                text.extend(shown.chars().take(left));
                text.push_str("\n[the rest is left out: read the files]\n");
                break;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Files {
        files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), (*content).to_owned()))
            .collect()
    }

    #[test]
    fn a_difference_names_what_was_added_changed_and_removed() {
        let former = files(&[("a.py", "1\n2\n"), ("b.py", "same\n"), ("c.py", "gone\n")]);
        let now = files(&[("a.py", "1\n3\n"), ("b.py", "same\n"), ("d.py", "new\n")]);
        let shown = difference(&former, &now);
        for line in ["--- a.py", "-2", "+3", "-gone", "+new"] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
        assert!(!shown.contains("same"));
        assert_eq!(difference(&now, &now), "");
    }

    #[test]
    fn files_cannot_be_moved_into_one_another_under_the_same_hash() {
        assert_ne!(
            source_hash(&files(&[("a", "b"), ("c", "d")])),
            source_hash(&files(&[("a", "b1:c1:d")]))
        );
        let long = "x\n".repeat(LONGEST_DIFF);
        assert!(difference(&files(&[]), &files(&[("a", &long)])).contains("left out"));
    }
}
