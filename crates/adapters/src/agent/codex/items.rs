//! Items of a turn: what they are to the transcript, to the stall clock, and to the digest of tool results.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::agent::text::{MAX_LINE_BYTES, clip};

/// Kind of the items that are commands.
pub(super) const COMMAND: &str = "commandExecution";
/// Kinds whose items are work while they are in progress, however quiet.
const TOOLS: [&str; 6] = [COMMAND, "fileChange", "mcpToolCall", "dynamicToolCall", "collabAgentToolCall", "sleep"];
/// Changes of one item that are looked at.
const MAX_CHANGES: usize = 1000;

/// The kind, when an item of it is work while it is in progress.
pub(super) fn tool(kind: &str) -> Option<&'static str> {
    TOOLS.into_iter().find(|tool| *tool == kind)
}

/// Every path that a file change names: what is changed, and where it is moved to. More than can be looked at are
/// none, so that nobody takes some for all.
pub(super) fn paths(item: &Value) -> Vec<String> {
    let changes = item.get("changes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if changes.len() > MAX_CHANGES {
        return Vec::new();
    }
    let mut paths = Vec::new();
    for change in changes {
        // A change without a path is one that nobody can judge.
        let Some(path) = change.get("path").and_then(Value::as_str) else { return Vec::new() };
        paths.push(path.to_owned());
        paths.extend(change.pointer("/kind/move_path").and_then(Value::as_str).map(str::to_owned));
    }
    paths
}

/// A line for a tool that begins.
pub(super) fn begin_line(item: &Value) -> Option<String> {
    (kind_of(item) == COMMAND).then(|| clip(&format!("$ {}", text(item, "command")), MAX_LINE_BYTES))
}

/// A line for a tool that ended, with its result.
pub(super) fn end_line(item: &Value) -> Option<String> {
    let status = text(item, "status");
    let line = match kind_of(item) {
        COMMAND => {
            let exit = match item.get("exitCode").and_then(Value::as_i64) {
                Some(code) => format!(", exit code {code}"),
                None => String::new(),
            };
            with(format!("{}: {status}{exit}", text(item, "command")), text(item, "aggregatedOutput"))
        }
        "fileChange" => with(format!("file change: {status}"), &paths(item).join("\n")),
        "mcpToolCall" => {
            let result = item.get("result").or_else(|| item.get("error")).filter(|result| !result.is_null());
            let said = result.map(Value::to_string).unwrap_or_default();
            with(format!("{}/{}: {status}", text(item, "server"), text(item, "tool")), &said)
        }
        "dynamicToolCall" => {
            let contents = item.get("contentItems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let said: Vec<&str> = contents.iter().map(|content| text(content, "text")).collect();
            with(format!("{}: {status}", text(item, "tool")), &said.join("\n"))
        }
        "webSearch" => format!("web search: {}", text(item, "query")),
        "contextCompaction" => "the context was compacted".to_owned(),
        _ => return None,
    };
    Some(clip(&line, MAX_LINE_BYTES))
}

/// The plan, step by step.
pub(super) fn plan_line(params: &Value) -> String {
    let steps = params.get("plan").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut line = "plan:".to_owned();
    for step in steps.iter().take(100) {
        line.push_str(&format!("\n- [{}] {}", text(step, "status"), text(step, "step")));
    }
    clip(&line, MAX_LINE_BYTES)
}

fn kind_of(item: &Value) -> &str {
    text(item, "type")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn with(mut line: String, said: &str) -> String {
    let said = said.trim_end();
    if !said.is_empty() {
        line.push('\n');
        line.push_str(said);
    }
    line
}

/// Hash over the tool results of a turn. Ids and times are left out: the same work gives the same digest.
#[derive(Default)]
pub(super) struct Digest(Option<Sha256>);

impl Digest {
    /// An item was completed; one that is no tool result does not count.
    pub(super) fn add(&mut self, item: &Value) {
        let part = |name: &str| item.get(name).unwrap_or(&Value::Null);
        let result = match kind_of(item) {
            COMMAND => json!([COMMAND, part("command"), part("exitCode"), part("aggregatedOutput")]),
            "fileChange" => json!(["fileChange", part("changes"), part("status")]),
            "mcpToolCall" => {
                json!(["mcpToolCall", part("server"), part("tool"), part("arguments"), part("result"), part("error")])
            }
            "dynamicToolCall" => {
                json!(["dynamicToolCall", part("tool"), part("arguments"), part("contentItems"), part("success")])
            }
            _ => return,
        };
        let hash = self.0.get_or_insert_with(Sha256::new);
        hash.update(result.to_string());
        hash.update(b"\n");
    }

    /// In hexadecimal; `None` when there were no results.
    pub(super) fn finish(self) -> Option<String> {
        Some(hex::encode(self.0?.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(items: &[Value]) -> Option<String> {
        let mut digest = Digest::default();
        items.iter().for_each(|item| digest.add(item));
        digest.finish()
    }

    fn command(id: &str, output: &str) -> Value {
        json!({"type": "commandExecution", "id": id, "command": "ls", "exitCode": 0, "aggregatedOutput": output,
            "durationMs": id.len(), "completedAtMs": id.len(), "processId": id, "status": "completed"})
    }

    #[test]
    fn the_digest_leaves_out_ids_and_times_and_nothing_that_counts() {
        assert_eq!(digest(&[command("1", "a")]), digest(&[command("22", "a")]));
        assert_ne!(digest(&[command("1", "a")]), digest(&[command("1", "b")]));
        assert_ne!(digest(&[command("1", "a")]), digest(&[command("1", "a"), command("1", "a")]));
        assert_eq!(digest(&[json!({"type": "agentMessage", "id": "1", "text": "a"})]), None);
    }

    #[test]
    fn a_change_that_cannot_be_judged_names_no_path() {
        let change = |path: Value| {
            json!({"type": "fileChange", "changes": [{"path": "/w/a", "kind": {"type": "update",
            "move_path": "/etc/b"}, "diff": ""}, {"path": path, "kind": {"type": "add"}, "diff": ""}]})
        };
        assert_eq!(paths(&change(json!("/w/c"))), ["/w/a", "/etc/b", "/w/c"]);
        assert!(paths(&change(Value::Null)).is_empty());
    }
}
