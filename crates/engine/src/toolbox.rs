//! Tools that an agent may call and the daemon executes. What only reads or notes is done at each call; what writes to the
//! tracker is a durable effect under the call's id: delivered again, it is answered from the record, and a call whose end
//! nobody knows is looked up in the tracker before it is done again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_core::{Failure, IssueId};
use dalsegno_durable::key::{Secret, marker};
use dalsegno_durable::{Command, DurableError, EffectError, EffectHost, ExecutionScope, Probed, Progress, Retry};
use serde_json::{Value, json};

use crate::live::{Sink, clip};
use crate::ports::{AgentSink as _, ToolAnswer, ToolCall, ToolSpec, Toolbox, Tracker};
use crate::reads::TranscriptKind;

/// Longest answer to the model, in bytes.
const ANSWER_BYTES: usize = 16 * 1024;
/// Longest comment of an agent, in bytes.
const COMMENT_BYTES: usize = 32 * 1024;
/// Longest wait for the tracker.
const TRACKER_LIMIT: Duration = Duration::from_secs(30);
/// The tool that comments.
const COMMENT: &str = "tracker_comment";
/// What the replay keys of tools' writes begin with.
const WRITE: &str = "tool/";
/// Attempts of a write that the tracker did not take.
const WRITE_ATTEMPTS: u32 = 3;

/// The tools of one run.
pub(crate) struct DaemonTools {
    tracker: Arc<dyn Tracker>,
    issue: IssueId,
    sink: Sink,
    writes: Writes,
}

/// Where the writes of a run are recorded.
pub(crate) struct Writes {
    pub(crate) effects: Arc<dyn EffectHost>,
    pub(crate) scope: ExecutionScope,
    pub(crate) secret: Secret,
}

impl DaemonTools {
    pub(crate) fn new(tracker: Arc<dyn Tracker>, issue: IssueId, sink: Sink, writes: Writes) -> Self {
        Self { tracker, issue, sink, writes }
    }

    async fn comment(&self, call: &ToolCall) -> ToolAnswer {
        let body = call.arguments.get("body").and_then(Value::as_str).map(str::trim).unwrap_or_default();
        if body.is_empty() {
            return refusal("`body` is missing: say what the comment is to say".to_owned());
        }
        if body.len() > COMMENT_BYTES {
            return refusal(format!(
                "`body` has {} bytes, and {COMMENT_BYTES} are allowed: say it shorter",
                body.len()
            ));
        }
        match self.comment_once(&format!("{WRITE}{}", call.id), body).await {
            Ok(()) => ToolAnswer { text: "commented".to_owned(), success: true },
            Err(error) => refusal(format!("{}: {error}", error.code())),
        }
    }

    async fn comment_once(&self, replay_key: &str, body: &str) -> Result<(), DurableError> {
        let Writes { effects, scope, secret } = &self.writes;
        // The same for every attempt, also for one that was shown not to be there: what is late is found then, too.
        let marker = marker(secret, &json!([scope.key(), replay_key]).to_string());
        let there = || self.tracker.has_comment(&self.issue, &marker);
        let look = |_| async {
            match there().await {
                Ok(true) => Probed::Applied(()),
                Ok(false) => Probed::NotApplied,
                Err(failure) => Probed::Inconclusive(EffectError::unknown(failure.code, failure.message)),
            }
        };
        let comment = |_| async {
            let Err(failure) = self.tracker.comment(&self.issue, body, &marker).await else { return Ok(()) };
            // A tracker says `retryable` when it wrote nothing for certain; anything else has to be looked at.
            let Failure { code, message, retryable, .. } = failure;
            if retryable {
                return Err(EffectError::retryable(code, message));
            }
            match there().await {
                Ok(true) => Ok(()),
                Ok(false) => Err(EffectError::permanent(code, message)),
                Err(_) => Err(EffectError::unknown(code, message)),
            }
        };
        let request = json!({"tool": COMMENT, "issue": self.issue, "body": body});
        let command = Command::External { system: "tracker".to_owned(), request };
        let scope = effects.scoped(scope.clone()).await?;
        let effect = scope.effect(replay_key, command);
        effect.probe(look).retry(Retry::attempts(WRITE_ATTEMPTS)).limit(TRACKER_LIMIT).run(comment).await
    }

    /// Carries out what a dead daemon was about to write when it died: nobody delivers those calls again.
    pub(crate) async fn finish_cut(&self) {
        for (replay_key, body) in self.cut_writes().await {
            match self.comment_once(&replay_key, &body).await {
                Ok(()) => self.sink.transcript(TranscriptKind::Note, "a comment that was cut is made"),
                Err(error) => {
                    tracing::warn!(%error, replay_key, "a comment of the agent that was cut could not be made")
                }
            }
        }
    }

    /// Writes of the run that have no outcome.
    async fn cut_writes(&self) -> Vec<(String, String)> {
        let found = async {
            let scope = self.writes.effects.scoped(self.writes.scope.clone()).await?;
            scope.controller().effects().await
        };
        let records = found.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what the agent's tools wrote cannot be read");
            Vec::new()
        });
        let cut = records.into_iter().filter(|record| {
            record.replay_key.starts_with(WRITE) && matches!(record.state.progress, Progress::Open | Progress::Resting)
        });
        cut.filter_map(|record| {
            let content: Value = serde_json::from_str(record.content.as_deref()?).ok()?;
            let body = content.pointer("/command/request/body")?.as_str()?.to_owned();
            Some((record.replay_key, body))
        })
        .collect()
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
                name: COMMENT.to_owned(),
                description: "Comment on the issue that this run works on, for the people who follow it.".to_owned(),
                input_schema: json!({
                    "type": "object", "properties": {"body": {"type": "string"}}, "required": ["body"],
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

    async fn call(&self, call: ToolCall) -> ToolAnswer {
        self.sink.activity();
        match call.name.as_str() {
            "report_progress" => self.report_progress(&call.arguments),
            COMMENT => self.comment(&call).await,
            "tracker_get_issue" => self.get_issue().await,
            other => refusal(format!("there is no tool {:?}", clip(other, 100))),
        }
    }
}
