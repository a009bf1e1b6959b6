//! Playing one turn.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    ContentBlock, CreateElicitationRequest, ElicitationAction, ElicitationFormMode, ElicitationSchema,
    ElicitationSessionScope, PermissionOption, PermissionOptionKind, PromptRequest, RequestPermissionOutcome,
    RequestPermissionRequest, StringPropertySchema, ToolCallLocation, ToolCallStatus, ToolCallUpdate,
    ToolCallUpdateFields, ToolKind,
};
use agent_client_protocol::{Client, Error};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::internal;
use super::out::Out;
use super::record::{Record, SessionFile};
use super::script::{Script, Step};
use crate::process::{OutputPipe, describe};

/// How much of a command's output is told.
const OUTPUT_TAIL_BYTES: usize = 4 * 1024;
/// How long background children of a command may hold its pipes.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// What a permission request offers; the first two grant it.
const OPTIONS: [(&str, PermissionOptionKind); 3] = [
    ("allow_once", PermissionOptionKind::AllowOnce),
    ("allow_always", PermissionOptionKind::AllowAlways),
    ("reject_once", PermissionOptionKind::RejectOnce),
];

/// Plays the turns of one session.
pub(super) struct Player {
    pub(super) session: String,
    pub(super) issue: String,
    pub(super) cwd: PathBuf,
    pub(super) file: SessionFile,
    pub(super) script: Arc<Script>,
    pub(super) out: Out,
    pub(super) exit: watch::Sender<Option<u8>>,
}

/// How a step ended.
enum Done {
    /// The next one is due.
    Next,
    /// The turn was canceled in the midst of it.
    Cut,
    /// The turn ends with this error.
    Error(Error),
    /// The process ends.
    Exit(u8),
}

/// What a turn gathers.
#[derive(Default)]
struct Turn {
    /// What the client was told in the step, for the file.
    updates: Vec<Value>,
    /// The answer that the step got.
    answer: Option<String>,
    input: u64,
    output: u64,
}

impl Player {
    /// Records the prompt and plays its list; answers what `session/prompt` answers.
    pub(super) async fn turn(
        &mut self,
        request: &PromptRequest,
        client: &ConnectionTo<Client>,
        cancel: &CancellationToken,
    ) -> Result<Value, Error> {
        let text: String = request
            .prompt
            .iter()
            .filter_map(|block| if let ContentBlock::Text(text) = block { Some(text.text.as_str()) } else { None })
            .collect::<Vec<_>>()
            .join("\n");
        let list = self.file.prompts;
        if let Some(answer) = answer_in(&text) {
            self.file.answer = answer;
        }
        self.record(&Record::Prompt { list, text })?;
        self.file.prompts = list + 1;
        let steps = self.script.turn(&self.issue, list).to_vec();
        let mut turn = Turn::default();
        for (number, step) in steps.iter().enumerate() {
            let title = title(step);
            if cancel.is_cancelled() {
                return self.end("cancelled", &turn);
            }
            self.record(&Record::Begun { step: number, title: title.clone() })?;
            let call = format!("call-{list}-{number}");
            let done = self.step(step, &call, &mut turn, client, cancel).await?;
            if matches!(done, Done::Cut) {
                self.record(&Record::Aborted { step: number, title })?;
                return self.end("cancelled", &turn);
            }
            let (updates, answer) = (std::mem::take(&mut turn.updates), turn.answer.take());
            if let Some(answer) = &answer {
                self.file.answer.clone_from(answer);
            }
            self.record(&Record::Ended { step: number, updates, answer })?;
            match done {
                Done::Next | Done::Cut => {}
                Done::Error(error) => {
                    self.record(&Record::TurnEnded { stop: "error".to_owned() })?;
                    return Err(error);
                }
                Done::Exit(code) => {
                    self.exit.send_replace(Some(code));
                    // The process ends around us.
                    std::future::pending::<()>().await;
                }
            }
        }
        self.end("end_turn", &turn)
    }

    fn end(&mut self, stop: &str, turn: &Turn) -> Result<Value, Error> {
        self.record(&Record::TurnEnded { stop: stop.to_owned() })?;
        Ok(match usage(turn) {
            Some(usage) => json!({ "stopReason": stop, "usage": usage }),
            None => json!({ "stopReason": stop }),
        })
    }

    fn record(&mut self, record: &Record) -> Result<(), Error> {
        self.file.append(record).map(drop).map_err(internal)
    }

    /// Tells the client, and keeps it for the file.
    async fn tell(&self, turn: &mut Turn, update: Value) -> Result<(), Error> {
        self.out.update(&self.session, &update).await.map_err(internal)?;
        turn.updates.push(update);
        Ok(())
    }

    /// `${answer}` filled in.
    fn filled(&self, text: &str) -> String {
        text.replace("${answer}", &self.file.answer)
    }

    async fn step(
        &self,
        step: &Step,
        call: &str,
        turn: &mut Turn,
        client: &ConnectionTo<Client>,
        cancel: &CancellationToken,
    ) -> Result<Done, Error> {
        match step {
            Step::Say(text) => {
                self.tell(turn, message(&format!("{}\n", self.filled(text)))).await?;
                Ok(Done::Next)
            }
            Step::Sh(script) => self.sh(script, call, turn, cancel).await,
            Step::Sleep(time) => Ok(tokio::select! {
                () = sleep(*time) => Done::Next,
                () = cancel.cancelled() => Done::Cut,
            }),
            Step::Usage { input, output } => {
                turn.input = turn.input.saturating_add(*input);
                turn.output = turn.output.saturating_add(*output);
                let update = json!({
                    "sessionUpdate": "usage_update", "used": turn.input, "size": 200_000, "_meta": { "usage": usage(turn) },
                });
                self.tell(turn, update).await?;
                Ok(Done::Next)
            }
            Step::Write { path, content } => {
                let target = self.cwd.join(path);
                let written = match target.parent() {
                    Some(folder) => std::fs::create_dir_all(folder),
                    None => Ok(()),
                }
                .and_then(|()| std::fs::write(&target, self.filled(content)));
                let (status, text) = match written {
                    Ok(()) => ("completed", String::new()),
                    Err(error) => ("failed", error.to_string()),
                };
                self.tell(turn, tool(call, &format!("write {path}"), "edit", status, &text)).await?;
                Ok(Done::Next)
            }
            Step::Tool { name, args } => {
                let text =
                    format!("no tool server in this session; the arguments were {}", self.filled(&args.to_string()));
                self.tell(turn, tool(call, name, "other", "failed", &text)).await?;
                Ok(Done::Next)
            }
            Step::Ask { text, options } => self.ask(text, options, call, turn, client, cancel).await,
            Step::Permission { text, path } => self.permission(text, path.as_deref(), call, turn, client, cancel).await,
            Step::Fail(text) => {
                let error = Error::new(-32603, self.filled(text)).data(json!({ "kind": "model_error" }));
                Ok(Done::Error(error))
            }
            Step::RateLimit { reset_in } => {
                let wait = i64::try_from(reset_in.as_millis()).unwrap_or(i64::MAX);
                let at = jiff::Timestamp::now().as_millisecond().saturating_add(wait);
                let data = json!({ "kind": "rate_limit", "reset_at_ms": at });
                Ok(Done::Error(Error::new(-32603, "the model's provider limits the rate").data(data)))
            }
            Step::Hang => {
                cancel.cancelled().await;
                Ok(Done::Cut)
            }
            Step::Exit(code) => Ok(Done::Exit(*code)),
            Step::Flood(count) => {
                for number in 0..*count {
                    if cancel.is_cancelled() {
                        return Ok(Done::Cut);
                    }
                    self.out.update(&self.session, &message(&format!("flood {number}\n"))).await.map_err(internal)?;
                }
                Ok(Done::Next)
            }
            Step::Garbage(rounds) => {
                for _ in 0..*rounds {
                    if cancel.is_cancelled() {
                        return Ok(Done::Cut);
                    }
                    self.garbage().await.map_err(internal)?;
                }
                Ok(Done::Next)
            }
        }
    }

    /// A line that is no JSON, one that is no message, one that is no text, and a message whose text is no UTF-8.
    async fn garbage(&self) -> std::io::Result<()> {
        self.out.line(b"this is { no JSON").await?;
        self.out.line(b"{\"jsonrpc\":\"2.0\",\"neither\":\"request nor answer\"}").await?;
        self.out.line(b"\xff\xfe\x00\x01").await?;
        let text = message("caf\u{e9} in Latin-1\n");
        let update = json!({
            "jsonrpc": "2.0", "method": "session/update", "params": { "sessionId": self.session, "update": text },
        });
        let latin: Vec<u8> =
            update.to_string().chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?')).collect();
        self.out.line(&latin).await
    }

    async fn sh(&self, script: &str, call: &str, turn: &mut Turn, cancel: &CancellationToken) -> Result<Done, Error> {
        let begun = json!({
            "sessionUpdate": "tool_call", "toolCallId": call, "title": script, "kind": "execute", "status": "in_progress",
            "rawInput": { "command": script },
        });
        self.tell(turn, begun).await?;
        let mut command = Command::new("sh");
        // A variable, not text that is put into the script: an answer is data.
        command.arg("-c").arg(script).current_dir(&self.cwd).env("answer", &self.file.answer);
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        let piped = OutputPipe::attach(&mut command, OUTPUT_TAIL_BYTES).map_err(|failure| failure.to_string());
        let spawned = piped.and_then(|pipe| Ok((command.spawn().map_err(|error| error.to_string())?, pipe)));
        drop(command);
        let (mut child, mut pipe) = match spawned {
            Ok(spawned) => spawned,
            Err(why) => {
                self.tell(turn, finished(call, false, &why)).await?;
                return Ok(Done::Next);
            }
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let mut exit = None;
        let mut grace = Instant::now();
        while exit.is_none() || pipe.open() {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    if let (Some(group), None) = (group, exit)
                        && let Err(error) = killpg(Pid::from_raw(group), Signal::SIGKILL)
                    {
                        tracing::debug!(%error, "a command was gone before it could be killed");
                    }
                    return Ok(Done::Cut);
                }
                () = sleep_until(grace), if exit.is_some() => break,
                status = child.wait(), if exit.is_none() => {
                    exit = Some(status.unwrap_or_else(|_| std::process::ExitStatus::from_raw(-1)));
                    grace = Instant::now() + PIPE_GRACE;
                }
                () = pipe.read(), if pipe.open() => {}
            }
        }
        let success = exit.is_some_and(|exit| exit.success());
        let mut text = pipe.tail.text();
        if !success {
            text.push_str(&format!("\n({})", describe(exit)));
        }
        self.tell(turn, finished(call, success, text.trim())).await?;
        Ok(Done::Next)
    }

    async fn ask(
        &self,
        text: &str,
        options: &[String],
        call: &str,
        turn: &mut Turn,
        client: &ConnectionTo<Client>,
        cancel: &CancellationToken,
    ) -> Result<Done, Error> {
        let mut field = StringPropertySchema::new();
        if !options.is_empty() {
            field = field.enum_values(options.to_vec());
        }
        let schema = ElicitationSchema::new().property("answer", field, true);
        let scope = ElicitationSessionScope::new(self.session.clone());
        let request = CreateElicitationRequest::new(ElicitationFormMode::new(scope, schema), self.filled(text));
        let response = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(Done::Cut),
            response = client.send_request(request).block_task() => response,
        };
        let answer = match response.map(|response| response.action) {
            Ok(ElicitationAction::Accept(accepted)) => {
                let value = accepted.content.and_then(|content| content.get("answer").cloned());
                value.and_then(|value| match serde_json::to_value(&value) {
                    Ok(Value::String(text)) => Some(text),
                    Ok(other) => Some(other.to_string()),
                    Err(_) => None,
                })
            }
            // An agent whose question is closed has nothing to go on with; the end of the turn comes in a moment.
            Ok(ElicitationAction::Cancel) => {
                cancel.cancelled().await;
                return Ok(Done::Cut);
            }
            Ok(_) => None,
            Err(error) => {
                self.tell(turn, tool(call, text, "other", "failed", &format!("nobody to ask: {}", error.message)))
                    .await?;
                return Ok(Done::Next);
            }
        };
        let said = answer.clone().unwrap_or_else(|| "no answer".to_owned());
        self.tell(turn, tool(call, text, "other", "completed", &said)).await?;
        turn.answer = answer;
        Ok(Done::Next)
    }

    async fn permission(
        &self,
        text: &str,
        path: Option<&str>,
        call: &str,
        turn: &mut Turn,
        client: &ConnectionTo<Client>,
        cancel: &CancellationToken,
    ) -> Result<Done, Error> {
        let text = self.filled(text);
        let mut fields = ToolCallUpdateFields::new().title(text.clone()).status(ToolCallStatus::Pending);
        fields = match path {
            Some(path) => fields.kind(ToolKind::Edit).locations(vec![ToolCallLocation::new(self.cwd.join(path))]),
            None => fields.kind(ToolKind::Execute).raw_input(json!({ "command": text })),
        };
        let options =
            OPTIONS.iter().map(|(id, kind)| PermissionOption::new(*id, id.replace('_', " "), *kind)).collect();
        let request =
            RequestPermissionRequest::new(self.session.clone(), ToolCallUpdate::new(call.to_owned(), fields), options);
        let response = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(Done::Cut),
            response = client.send_request(request).block_task() => response,
        };
        let granted = match response.map(|response| response.outcome) {
            Ok(RequestPermissionOutcome::Selected(selected)) => {
                OPTIONS.iter().take(2).any(|(id, _)| *selected.option_id.0 == **id)
            }
            // The protocol answers so only when the turn is being canceled.
            Ok(_) => {
                cancel.cancelled().await;
                return Ok(Done::Cut);
            }
            Err(_) => false,
        };
        let said = if granted { "granted" } else { "refused" };
        self.tell(turn, tool(call, &text, "other", if granted { "completed" } else { "failed" }, said)).await?;
        Ok(Done::Next)
    }
}

/// The answer to an earlier question that comes with a prompt.
fn answer_in(prompt: &str) -> Option<String> {
    let mut lines = prompt.lines().skip_while(|line| !line.starts_with("The answer of "));
    lines.next()?;
    lines.next().map(str::to_owned)
}

/// What is told of a record when the session is loaded. `place` makes ids of their own for aborted steps.
pub(super) fn replay(place: usize, record: &Record) -> Vec<Value> {
    match record {
        Record::Prompt { text, .. } => {
            vec![json!({ "sessionUpdate": "user_message_chunk", "content": { "type": "text", "text": text } })]
        }
        Record::Ended { updates, .. } => updates.clone(),
        Record::Aborted { title, .. } => {
            let text = "aborted: the agent ended in the midst of it; it is not done again";
            vec![tool(&format!("aborted-{place}"), title, "other", "failed", text)]
        }
        Record::Session { .. } | Record::Begun { .. } | Record::TurnEnded { .. } => Vec::new(),
    }
}

fn usage(turn: &Turn) -> Option<Value> {
    let total = turn.input.saturating_add(turn.output);
    (total > 0).then(|| json!({ "inputTokens": turn.input, "outputTokens": turn.output, "totalTokens": total }))
}

fn message(text: &str) -> Value {
    json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": "text", "text": text } })
}

/// A tool call that begins and ends at once.
fn tool(call: &str, title: &str, kind: &str, status: &str, text: &str) -> Value {
    json!({
        "sessionUpdate": "tool_call", "toolCallId": call, "title": title, "kind": kind, "status": status,
        "content": contents(text),
    })
}

fn finished(call: &str, success: bool, text: &str) -> Value {
    json!({
        "sessionUpdate": "tool_call_update", "toolCallId": call,
        "status": if success { "completed" } else { "failed" }, "content": contents(text),
    })
}

fn contents(text: &str) -> Value {
    if text.is_empty() {
        return json!([]);
    }
    json!([{ "type": "content", "content": { "type": "text", "text": text } }])
}

/// What a step is, for the file and for the history.
fn title(step: &Step) -> String {
    match step {
        Step::Say(_) => "say".to_owned(),
        Step::Sh(script) => format!("sh: {script}"),
        Step::Sleep(time) => format!("sleep: {} ms", time.as_millis()),
        Step::Usage { .. } => "usage".to_owned(),
        Step::Write { path, .. } => format!("write: {path}"),
        Step::Tool { name, .. } => format!("tool: {name}"),
        Step::Ask { text, .. } => format!("ask: {text}"),
        Step::Permission { text, .. } => format!("permission: {text}"),
        Step::Fail(_) => "fail".to_owned(),
        Step::RateLimit { .. } => "rate_limit".to_owned(),
        Step::Hang => "hang".to_owned(),
        Step::Exit(code) => format!("exit: {code}"),
        Step::Flood(count) => format!("flood: {count}"),
        Step::Garbage(_) => "garbage".to_owned(),
    }
}
