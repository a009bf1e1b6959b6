//! Keys of WORKFLOW.md that nothing reads: ignored, and never without a word.

use std::sync::{Mutex, PoisonError};

use dalsegno_adapters::workflow::{UnknownKey, WorkflowFile};
use dalsegno_core::{Failure, Issue, Policy};
use dalsegno_engine::Workflow;

use crate::text::clean;

/// That nothing reads a key, and which one may be meant.
pub(crate) fn words(key: &UnknownKey) -> String {
    let UnknownKey { path, nearest } = key;
    let meant = nearest.as_ref().map_or(String::new(), |nearest| format!("; is `{}` meant?", clean(nearest)));
    format!("nothing reads `{}`{meant}", clean(path))
}

/// WORKFLOW.md, which tells in the log what nothing reads of it: at the start, and whenever that changes.
pub(crate) struct ToldWorkflow {
    file: WorkflowFile,
    told: Mutex<Vec<UnknownKey>>,
}

impl ToldWorkflow {
    pub(crate) fn new(file: WorkflowFile) -> Self {
        Self { file, told: Mutex::default() }
    }

    /// Those of `unknown` that were not told by the last load.
    fn new_ones(&self, unknown: Vec<UnknownKey>) -> Vec<UnknownKey> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let new_ones = unknown.iter().filter(|key| !told.contains(key)).cloned().collect();
        *told = unknown;
        new_ones
    }
}

impl Workflow for ToldWorkflow {
    fn load(&self) -> Result<Policy, Failure> {
        let loaded = self.file.load_full()?;
        for key in self.new_ones(loaded.unknown_keys) {
            tracing::warn!("in WORKFLOW.md {}", words(&key));
        }
        Ok(loaded.policy)
    }

    fn changed(&self) -> bool {
        self.file.changed()
    }

    fn render(&self, template: &str, issue: &Issue, attempt: Option<u32>) -> Result<String, Failure> {
        self.file.render(template, issue, attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_once_and_again_when_it_comes_back() {
        let key = |path: &str| UnknownKey { path: path.to_owned(), nearest: None };
        let workflow = ToldWorkflow::new(WorkflowFile::new("WORKFLOW.md"));
        assert_eq!(workflow.new_ones(vec![key("a"), key("b")]), [key("a"), key("b")]);
        assert_eq!(workflow.new_ones(vec![key("a"), key("b")]), []);
        assert_eq!(workflow.new_ones(vec![key("b"), key("c")]), [key("c")]);
        assert_eq!(workflow.new_ones(vec![key("a")]), [key("a")]);
    }
}
