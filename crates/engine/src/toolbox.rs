//! Tools that an agent may call and the daemon executes. Those that are here change nothing outside: they read the
//! tracker or note something in the transcript, so a call that is delivered twice does no harm.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_core::IssueId;
use serde_json::{Value, json};

use crate::live::{Sink, clip};
use crate::ports::{AgentSink as _, ToolAnswer, ToolSpec, Toolbox, Tracker, TranscriptKind};

/// Longest answer to the model, in bytes.
const ANSWER_BYTES: usize = 16 * 1024;
/// Longest wait for the tracker.
const TRACKER_LIMIT: Duration = Duration::from_secs(30);

/// The tools of one run.
pub(crate) struct DaemonTools {
    tracker: Arc<dyn Tracker>,
    issue: IssueId,
    sink: Sink,
}

impl DaemonTools {
    pub(crate) fn new(tracker: Arc<dyn Tracker>, issue: IssueId, sink: Sink) -> Self {
        Self { tracker, issue, sink }
    }

    async fn get_issue(&self) -> ToolAnswer {
        let ids = std::slice::from_ref(&self.issue);
        let answer = match tokio::time::timeout(TRACKER_LIMIT, self.tracker.fetch_issues_by_ids(ids)).await {
            Ok(Ok(issues)) => issues.into_iter().next(),
            Ok(Err(failure)) => return refusal(failure.to_string()),
            Err(_) => return refusal("the tracker does not answer".to_owned()),
        };
        let Some(issue) = answer else { return refusal("the issue is not visible in the tracker any more".to_owned()) };
        let told = json!({
            "identifier": issue.identifier, "title": issue.title, "description": issue.description,
            "state": issue.state, "labels": issue.labels, "priority": issue.priority, "url": issue.url,
        });
        ToolAnswer { text: clip(&told.to_string(), ANSWER_BYTES).to_owned(), success: true }
    }

    fn report_progress(&self, arguments: &Value) -> ToolAnswer {
        match arguments.get("text").and_then(Value::as_str) {
            Some(text) if !text.trim().is_empty() => {
                self.sink.transcript(TranscriptKind::Note, &format!("progress: {}", text.trim()));
                ToolAnswer { text: "noted".to_owned(), success: true }
            }
            Some(_) | None => refusal("`text` is missing: say in a sentence what was done".to_owned()),
        }
    }
}

fn refusal(text: String) -> ToolAnswer {
    ToolAnswer { text, success: false }
}

#[async_trait]
impl Toolbox for DaemonTools {
    fn tools(&self) -> Vec<ToolSpec> {
        vec![
            ToolSpec {
                name: "report_progress".to_owned(),
                description: "Tell the people who watch this run, in a sentence, what was done or found.".to_owned(),
                input_schema: json!({
                    "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"],
                    "additionalProperties": false,
                }),
            },
            ToolSpec {
                name: "tracker_get_issue".to_owned(),
                description: "Read the issue that this run works on, as the tracker has it now.".to_owned(),
                input_schema: json!({"type": "object", "properties": {}, "additionalProperties": false}),
            },
        ]
    }

    async fn call(&self, name: &str, arguments: Value) -> ToolAnswer {
        self.sink.activity();
        match name {
            "report_progress" => self.report_progress(&arguments),
            "tracker_get_issue" => self.get_issue().await,
            other => refusal(format!("there is no tool {:?}", clip(other, 100))),
        }
    }
}
