//! Every parser of this crate that meets bytes of others, behind one door: for whoever feeds them nonsense (`cargo xtask fuzz`).
//! What they make of it is thrown away; that they end, and do not panic, is what is looked at.

use std::sync::Arc;

use async_trait::async_trait;
use dalsegno_engine::core::Usage;
use dalsegno_engine::{AgentSink, ToolAnswer, ToolCall, ToolSpec, Toolbox, TranscriptKind};

use crate::{agent, forge, process, tracker, webhook, workflow, workspace};

/// A parser and its name.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them; each has a corpus of its name in `fuzz/corpus`.
pub const READERS: &[Reader] = &[
    ("workflow", workflow::foreign),
    ("template", workflow::foreign_template),
    ("issue_file", tracker::local::foreign),
    ("codex_lines", agent::foreign_codex),
    ("acp_lines", agent::foreign_acp),
    ("script", agent::scripted::foreign),
    ("forge_answer", forge::foreign),
    ("webhook", webhook::foreign),
    ("git_patch", workspace::foreign),
    ("git_refs", workspace::foreign_refs),
    ("processes", process::foreign),
];

/// Has the parser of that name read these bytes; there may be none of that name.
pub fn read(name: &str, bytes: &[u8]) {
    READERS.iter().filter(|(known, _)| *known == name).for_each(|(_, reader)| reader(bytes));
}

/// Nothing takes that long unless it waits for somebody.
const LONGEST: std::time::Duration = std::time::Duration::from_millis(300);

/// Hears an agent, and keeps nothing.
pub(crate) struct Nobody;

impl AgentSink for Nobody {
    fn activity(&self) {}
    fn usage(&self, _: Usage, _: Option<&str>) {}
    fn transcript(&self, _: TranscriptKind, _: &str) {}
}

#[async_trait]
impl Toolbox for Nobody {
    fn tools(&self) -> Vec<ToolSpec> {
        Vec::new()
    }

    async fn call(&self, _: ToolCall) -> ToolAnswer {
        ToolAnswer { success: false, text: String::new() }
    }
}

/// Has it read by code that waits for others, on this thread alone. What waits for ever is given up: nobody answers here.
pub(crate) fn run(task: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    if let Ok(runtime) = runtime {
        runtime.block_on(async { drop(tokio::time::timeout(LONGEST, task).await) });
    }
}

/// A listener that nobody listens to.
pub(crate) fn sink() -> Arc<dyn AgentSink> {
    Arc::new(Nobody)
}
