//! What Codex asks its client: approvals, questions, and calls of the daemon's tools. The policy answers what it may, a person the rest;
//! what nobody answers in time ends the turn; what we do not serve is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dalsegno_engine::core::{AutoApprove, Reply, Wants};
use dalsegno_engine::{ToolCall, Toolbox};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::calls::turn_interrupt;
use super::listener::Listener;
use super::wire::Wire;
use crate::agent::ear::Asked;
use crate::agent::inside::contained;
use crate::agent::text::clip;

/// Longest question.
const MAX_QUESTION_BYTES: usize = 2 * 1024;
/// Questions of one request.
const MAX_QUESTIONS: usize = 20;
/// Longest call of a tool of the daemon.
const TOOL_LIMIT: Duration = Duration::from_secs(120);
/// How long the interrupt may take before the wish is declined all the same.
const INTERRUPT_LIMIT: Duration = Duration::from_millis(500);
/// The code of JSON-RPC for a method that is not served.
const NOT_SERVED: i64 = -32601;

/// Answers requests of the agent.
pub(super) struct Asks {
    pub(super) approve: AutoApprove,
    pub(super) workspace: PathBuf,
    /// What operators permitted in this session before, in the words in which it was asked for.
    pub(super) grants: Vec<String>,
    pub(super) tools: Arc<dyn Toolbox>,
    pub(super) listener: Arc<Listener>,
}

/// A wish of the agent, and the answers to it.
struct Wish {
    text: String,
    /// Every path that it is tied to; `None`: it is not tied to paths.
    paths: Option<Vec<String>>,
    granted: Value,
    /// Not permitted; the agent goes on without it.
    denied: Value,
    /// The turn is over.
    declined: Value,
}

impl Asks {
    /// Answers one request.
    pub(super) async fn serve(&self, wire: &Arc<Wire>, id: &Value, method: &str, params: &Value) {
        let result = match method {
            "item/tool/call" => Ok(self.call(params).await),
            "item/tool/requestUserInput" => Ok(self.input(wire, params).await),
            "mcpServer/elicitation/request" => Ok(self.elicitation(wire, params).await),
            _ => match self.wish(method, params) {
                Some(wish) => {
                    let item = params.get("itemId").and_then(Value::as_str).unwrap_or_default();
                    Ok(self.decide(wire, item, wish).await)
                }
                None => {
                    self.listener.note(&format!("codex asks for {}, which is not served", clip(method, 200)));
                    Err((NOT_SERVED, "this client does not serve the method".to_owned()))
                }
            },
        };
        wire.answer(id, result).await;
    }

    async fn decide(&self, wire: &Arc<Wire>, item: &str, wish: Wish) -> Value {
        if self.grants(&wish) {
            self.listener.note(&format!("permission granted by `questions.auto_approve`: {}", wish.text));
            return wish.granted;
        }
        let question = clip(&format!("The agent asks for permission: {}", wish.text), MAX_QUESTION_BYTES);
        if self.grants.contains(&question) {
            self.listener.note(&format!("permission granted by an operator before: {}", wish.text));
            return wish.granted;
        }
        let reply = self.listener.ask(&question, Wants::Permission).await;
        if reply == Some(Reply::Granted) {
            return wish.granted;
        }
        // What was not permitted does not run, and Codex does not always say so.
        self.listener.not_run(item);
        if matches!(reply, Some(Reply::Denied { .. })) {
            return wish.denied;
        }
        self.end_turn(wire, question, Wants::Permission).await;
        wish.declined
    }

    /// Asks a person what Codex asks its user. One answer goes to all questions of one request.
    async fn input(&self, wire: &Arc<Wire>, params: &Value) -> Value {
        let question = clip(&input_question(params), MAX_QUESTION_BYTES);
        if let Some(Reply::Text { text }) = self.listener.ask(&question, Wants::Input).await {
            let ids =
                list(params, "questions").iter().filter_map(|question| question.get("id").and_then(Value::as_str));
            let answers: serde_json::Map<String, Value> =
                ids.take(MAX_QUESTIONS).map(|id| (id.to_owned(), json!({"answers": [text]}))).collect();
            return json!({"answers": answers});
        }
        self.end_turn(wire, question, Wants::Input).await;
        json!({"answers": {}})
    }

    fn grants(&self, wish: &Wish) -> bool {
        match self.approve {
            AutoApprove::None => false,
            AutoApprove::All => true,
            AutoApprove::Workspace => wish.paths.as_ref().is_some_and(|paths| {
                !paths.is_empty() && paths.iter().all(|path| contained(&self.workspace, Path::new(path)))
            }),
        }
    }

    /// Ends the turn with the question. The interrupt goes first, so that the agent does nothing with the answer.
    async fn end_turn(&self, wire: &Arc<Wire>, question: String, wants: Wants) {
        self.listener.asked.send_replace(Some(Asked { question, wants }));
        if let Some((thread, turn)) = self.listener.open_turn() {
            let params = turn_interrupt(&thread, &turn);
            // Late or refused: the session interrupts too, and the wish is declined in any case.
            let _ = timeout(INTERRUPT_LIMIT, wire.clone().request("turn/interrupt", params)).await;
        }
    }

    /// The wish that a request for an approval is; `None`: it is no such request.
    fn wish(&self, method: &str, params: &Value) -> Option<Wish> {
        let decision = |word: &str| json!({"decision": word});
        let (text, paths, granted, denied, declined) = match method {
            "item/commandExecution/requestApproval" => (
                with_reason(command_text(params), params),
                None,
                decision("accept"),
                decision("decline"),
                decision("cancel"),
            ),
            "execCommandApproval" => {
                let words = params.get("command").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                (
                    with_reason(words.join(" "), params),
                    None,
                    decision("approved"),
                    decision("denied"),
                    decision("abort"),
                )
            }
            "item/fileChange/requestApproval" => {
                let item = params.get("itemId").and_then(Value::as_str).unwrap_or_default();
                let paths = with_root(self.listener.changes(item).unwrap_or_default(), params);
                (change_text(&paths, params), Some(paths), decision("accept"), decision("decline"), decision("cancel"))
            }
            "applyPatchApproval" => {
                let paths = with_root(patch_paths(params), params);
                (change_text(&paths, params), Some(paths), decision("approved"), decision("denied"), decision("abort"))
            }
            "item/permissions/requestApproval" => {
                let asked = params.get("permissions").cloned().unwrap_or_else(|| json!({}));
                let text = with_reason(format!("more rights: {asked}"), params);
                let granted = json!({"permissions": asked, "scope": "turn"});
                let none = json!({"permissions": {}, "scope": "turn"});
                (text, permission_paths(&asked), granted, none.clone(), none)
            }
            _ => return None,
        };
        Some(Wish { text: clip(&text, MAX_QUESTION_BYTES), paths, granted, denied, declined })
    }

    /// A server of the agent wants something: the permission to run a tool, which `all` grants, or an answer.
    async fn elicitation(&self, wire: &Arc<Wire>, params: &Value) -> Value {
        let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or_default();
        let tool = params.pointer("/_meta/codex_approval_kind").and_then(Value::as_str) == Some("mcp_tool_call");
        let question = format!("{}: {}", text("serverName"), text("message"));
        if tool && self.approve == AutoApprove::All {
            self.listener.note(&format!("permission granted by `questions.auto_approve`: {question}"));
            return json!({"action": "accept", "content": {}});
        }
        let question = clip(&question, MAX_QUESTION_BYTES);
        if tool {
            let granted = self.grants.contains(&question);
            let reply =
                if granted { Some(Reply::Granted) } else { self.listener.ask(&question, Wants::Permission).await };
            if reply == Some(Reply::Granted) {
                return json!({"action": "accept", "content": {}});
            }
            if matches!(reply, Some(Reply::Denied { .. })) {
                return json!({"action": "decline"});
            }
        }
        let wants = if tool { Wants::Permission } else { Wants::Input };
        self.end_turn(wire, question, wants).await;
        json!({"action": "cancel"})
    }

    /// Executes a call of a tool of the daemon.
    async fn call(&self, params: &Value) -> Value {
        let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        // Ids of calls are made anew in each turn.
        let id = format!("{}/{}", text("turnId"), text("callId"));
        let call =
            ToolCall { id, name: text("tool"), arguments: params.get("arguments").cloned().unwrap_or(Value::Null) };
        let (text, success) = match timeout(TOOL_LIMIT, self.tools.call(call)).await {
            Ok(answer) => (answer.text, answer.success),
            Err(_) => (format!("the tool did not answer within {} s", TOOL_LIMIT.as_secs()), false),
        };
        json!({"contentItems": [{"type": "inputText", "text": text}], "success": success})
    }
}

fn command_text(params: &Value) -> String {
    if let Some(command) = params.get("command").and_then(Value::as_str) {
        return command.to_owned();
    }
    match params.pointer("/networkApprovalContext/host").and_then(Value::as_str) {
        Some(host) => format!("to reach {host} over the network"),
        None => "a command that it does not name".to_owned(),
    }
}

fn change_text(paths: &[String], params: &Value) -> String {
    let what = if paths.is_empty() { "files that it does not name".to_owned() } else { paths.join(", ") };
    with_reason(format!("to change {what}"), params)
}

fn with_reason(text: String, params: &Value) -> String {
    match params.get("reason").and_then(Value::as_str).filter(|reason| !reason.trim().is_empty()) {
        Some(reason) => format!("{text} ({reason})"),
        None => text,
    }
}

/// The paths, and the directory that is to be writable from now on, if one is asked for.
fn with_root(mut paths: Vec<String>, params: &Value) -> Vec<String> {
    // A root alone ties the change to nothing: what is changed is not known then.
    if !paths.is_empty() {
        paths.extend(params.get("grantRoot").and_then(Value::as_str).map(str::to_owned));
    }
    paths
}

fn patch_paths(params: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    for (path, change) in params.get("fileChanges").and_then(Value::as_object).into_iter().flatten() {
        paths.push(path.clone());
        paths.extend(change.get("move_path").and_then(Value::as_str).map(str::to_owned));
    }
    paths
}

/// The paths that more rights are wanted for; `None` when they are about something else too.
fn permission_paths(asked: &Value) -> Option<Vec<String>> {
    let asked = asked.as_object()?;
    let mut paths = Vec::new();
    for (name, wanted) in asked.iter().filter(|(_, wanted)| !wanted.is_null()) {
        if name != "fileSystem" {
            return None;
        }
        for (name, list) in wanted.as_object()?.iter().filter(|(_, list)| !list.is_null()) {
            if name != "read" && name != "write" {
                return None;
            }
            for path in list.as_array()? {
                paths.push(path.as_str()?.to_owned());
            }
        }
    }
    Some(paths)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The questions, and what may be answered.
fn input_question(params: &Value) -> String {
    let mut text = Vec::new();
    for question in list(params, "questions").iter().take(MAX_QUESTIONS) {
        text.push(question.get("question").and_then(Value::as_str).unwrap_or("a question without words").to_owned());
        let labels: Vec<&str> =
            list(question, "options").iter().filter_map(|option| option.get("label").and_then(Value::as_str)).collect();
        if !labels.is_empty() {
            text.push(labels.join(" | "));
        }
    }
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_are_about_more_than_paths_are_tied_to_none() {
        let paths = |asked: Value| permission_paths(&asked);
        let one = json!({"fileSystem": {"write": ["/a"], "read": null}, "network": null});
        assert_eq!(paths(one), Some(vec!["/a".to_owned()]));
        assert_eq!(paths(json!({"fileSystem": {"write": ["/a"]}, "network": {"enabled": true}})), None);
        assert_eq!(paths(json!({"fileSystem": {"write": ["/a"], "entries": [{}]}})), None);
        assert_eq!(paths(json!({"fileSystem": {"write": [1]}})), None);
    }

    #[test]
    fn a_patch_is_tied_to_where_it_moves_files_too() {
        let params = json!({"fileChanges": {"/w/a": {"type": "update", "unified_diff": "", "move_path": "/etc/b"}},
            "grantRoot": "/home"});
        assert_eq!(with_root(patch_paths(&params), &params), ["/w/a", "/etc/b", "/home"]);
        assert!(with_root(Vec::new(), &params).is_empty());
    }
}
