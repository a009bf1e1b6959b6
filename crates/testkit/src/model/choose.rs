//! From a request to the answer that the script has for it. Nothing is remembered: a retry, a restart and a resumed
//! session get the same step again.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use super::Wire;
use super::script::{DEFAULT, Part, SIDE, Script, Step};

/// Names of shell tools that agents offer, the likeliest first.
const SHELLS: [&str; 9] = [
    "exec_command",
    "shell_command",
    "shell",
    "local_shell",
    "bash",
    "Bash",
    "terminal",
    "execute_bash",
    "run_shell_command",
];

/// Something of a conversation that counts.
enum Said {
    User(String),
    Result,
}

/// A tool that the client offers.
#[derive(Debug, Clone)]
struct Tool {
    /// The group that it is in, which a call has to name.
    namespace: Option<String>,
    parameters: Value,
}

/// What a response holds, with tools as the client calls them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Call { id: String, namespace: Option<String>, name: String, arguments: Map<String, Value> },
}

/// The step for a request.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) script: String,
    pub(super) index: usize,
    /// A call without tools.
    pub(super) side: bool,
    pub(super) step: Step,
    pub(super) pieces: Vec<Piece>,
    /// Same for the same prompt and step.
    pub(super) prompt: u64,
}

pub(super) fn choose(script: &Script, wire: Wire, body: &Value) -> Chosen {
    let said = said(wire, body);
    let tools = tools(wire, body);
    let marked = said.iter().enumerate().rev().find_map(|(at, said)| match said {
        Said::User(text) => Some((at, named(text)?, text.as_str())),
        Said::Result => None,
    });
    let newest = said.iter().enumerate().rev().find_map(|(at, said)| match said {
        Said::User(text) => Some((at, DEFAULT, text.as_str())),
        Said::Result => None,
    });
    let (at, name, prompt) = marked.or(newest).unwrap_or((0, DEFAULT, ""));
    let results = said.iter().skip(at).filter(|said| matches!(said, Said::Result)).count();
    let side = tools.is_empty();
    let (name, index) = if side { (SIDE, 0) } else { (name, position(script.steps(name), results)) };
    let nothing_left = || Step::say(if side { "A scripted title" } else { "ok" });
    let step = script.steps(name).get(index).cloned().unwrap_or_else(nothing_left);
    let conversation = hashed(&(said.len(), body.get(wire.history()).map(Value::to_string)));
    let pieces = step
        .answer
        .iter()
        .enumerate()
        .map(|(number, part)| piece(part, &tools, format!("call_{conversation:016x}_{number}")))
        .collect();
    Chosen { script: name.to_owned(), index, side, pieces, prompt: hashed(&(name, index, prompt)), step }
}

/// Which step comes after so many tool results. A step that calls two tools brings two.
fn position(steps: &[Step], mut results: usize) -> usize {
    for (index, step) in steps.iter().enumerate() {
        let calls = step.calls();
        if calls == 0 || results < calls {
            return index;
        }
        results -= calls;
    }
    steps.len()
}

/// The script that a text names last.
fn named(text: &str) -> Option<&str> {
    let (_, rest) = text.rsplit_once("[[script:")?;
    rest.split_once("]]").map(|(name, _)| name.trim())
}

fn hashed(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// All text in a message's content, however deep.
fn flat(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(flat).collect::<Vec<_>>().join("\n"),
        Value::Object(part) => part.get("text").or_else(|| part.get("content")).map(flat).unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

fn said(wire: Wire, body: &Value) -> Vec<Said> {
    let items = match body.get(wire.history()) {
        Some(Value::String(text)) => return vec![Said::User(text.clone())],
        Some(Value::Array(items)) => items.as_slice(),
        _ => &[],
    };
    let mut found = Vec::new();
    for item in items {
        let field = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        let content = item.get("content").unwrap_or(&Value::Null);
        match (field("role"), wire) {
            ("tool", Wire::Chat) => found.push(Said::Result),
            ("user", Wire::Messages) => {
                let one = [content.clone()];
                for part in content.as_array().map_or(&one[..], Vec::as_slice) {
                    let result = part.get("type").and_then(Value::as_str) == Some("tool_result");
                    found.push(if result { Said::Result } else { Said::User(flat(part)) });
                }
            }
            ("user", _) => found.push(Said::User(flat(content))),
            (_, Wire::Responses) if field("type").ends_with("_output") => found.push(Said::Result),
            _ => {}
        }
    }
    found
}

fn tools(wire: Wire, body: &Value) -> BTreeMap<String, Tool> {
    let mut found = BTreeMap::new();
    let mut add = |namespace: Option<&str>, tool: &Value| {
        let tool = if wire == Wire::Chat { tool.get("function").unwrap_or(tool) } else { tool };
        let Some(name) = tool.get("name").or_else(|| tool.get("type")).and_then(Value::as_str) else { return };
        let parameters = tool.get("parameters").or_else(|| tool.get("input_schema")).cloned().unwrap_or_default();
        let namespace = namespace.map(str::to_owned);
        found.insert(name.to_owned(), Tool { namespace, parameters });
    };
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        match (tool.get("name").and_then(Value::as_str), tool.get("tools").and_then(Value::as_array)) {
            (Some(namespace), Some(inner)) => inner.iter().for_each(|tool| add(Some(namespace), tool)),
            _ => add(None, tool),
        }
    }
    found
}

fn piece(part: &Part, tools: &BTreeMap<String, Tool>, id: String) -> Piece {
    let (name, arguments) = match part {
        Part::Say(text) => return Piece::Text(text.clone()),
        Part::Call { tool, arguments } => (tool.as_str(), arguments.clone()),
        Part::Run(command) | Part::Escalate { command, .. } => {
            let Some((name, tool)) = SHELLS.iter().find_map(|name| Some((*name, tools.get(*name)?))) else {
                return not_offered("a shell", tools);
            };
            let mut arguments = shell_arguments(command, &tool.parameters);
            if let Part::Escalate { justification, .. } = part {
                arguments.insert("sandbox_permissions".to_owned(), json!("require_escalated"));
                arguments.insert("justification".to_owned(), json!(justification));
            }
            (name, arguments)
        }
    };
    match tools.get(name) {
        Some(tool) => Piece::Call { id, namespace: tool.namespace.clone(), name: name.to_owned(), arguments },
        None => not_offered(name, tools),
    }
}

/// Said in place of a call that the client could not understand, so that a wrong script is seen.
fn not_offered(name: &str, tools: &BTreeMap<String, Tool>) -> Piece {
    let offered: Vec<&str> = tools.keys().map(String::as_str).collect();
    Piece::Text(format!("The script calls {name}, which is not offered. Offered: {}.", offered.join(", ")))
}

/// The command as the tool wants it, and something for everything else that it requires.
fn shell_arguments(command: &str, parameters: &Value) -> Map<String, Value> {
    let properties = parameters.get("properties").unwrap_or(&Value::Null);
    let mut arguments = Map::new();
    if properties.get("cmd").is_some() {
        arguments.insert("cmd".to_owned(), json!(command));
    } else if properties.pointer("/command/type").and_then(Value::as_str) == Some("array") {
        arguments.insert("command".to_owned(), json!(["bash", "-lc", command]));
    } else {
        arguments.insert("command".to_owned(), json!(command));
    }
    for name in parameters.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if arguments.contains_key(name) {
            continue;
        }
        let wanted = properties.get(name).unwrap_or(&Value::Null);
        let first = wanted.pointer("/enum/0").cloned();
        let value = first.unwrap_or_else(|| match wanted.get("type").and_then(Value::as_str) {
            Some("boolean") => json!(false),
            Some("integer" | "number") => json!(60_000),
            _ => json!("A scripted command"),
        });
        arguments.insert(name.to_owned(), value);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell_tool(name: &str, parameters: &Value) -> Value {
        json!({"type": "function", "name": name, "parameters": parameters})
    }

    #[test]
    fn the_step_is_counted_from_the_newest_marked_text_and_by_calls() {
        let both = Step::of([Part::Run("a".to_owned()), Part::Run("b".to_owned())]);
        let script = Script::default()
            .with("x", vec![both, Step::run("c"), Step::say("end")])
            .with(DEFAULT, vec![Step::say("other")]);
        let tools = json!([shell_tool("shell", &json!({}))]);
        let output = json!({"type": "function_call_output", "call_id": "c", "output": "fine"});
        let user = |text: &str| json!({"role": "user", "content": [{"type": "input_text", "text": text}]});
        let at = |input: Value| {
            let chosen = choose(&script, Wire::Responses, &json!({"input": input, "tools": tools}));
            (chosen.script, chosen.index)
        };
        let x = |index: usize| ("x".to_owned(), index);
        assert_eq!(at(json!([user("go [[script:x]]")])), x(0));
        assert_eq!(at(json!([user("go [[script:x]]"), output])), x(0), "one of two results");
        assert_eq!(at(json!([user("go [[script:x]]"), output, output])), x(1));
        assert_eq!(at(json!([user("[[script:x]]"), output, output, user("a note"), output])), x(2));
        assert_eq!(at(json!([user("[[script:x]]"), output, output, user("again [[script:x]]")])), x(0));
        assert_eq!(at(json!([user("no name")])), (DEFAULT.to_owned(), 0));
        assert_eq!(at(json!("go [[script:x]]")), x(0));
    }

    #[test]
    fn a_command_fits_whichever_shell_is_offered() {
        let run = |parameters: Value| Value::Object(shell_arguments("ls", &parameters));
        assert_eq!(run(json!({"properties": {"cmd": {}}})), json!({"cmd": "ls"}));
        let array = json!({"properties": {"command": {"type": "array"}}});
        assert_eq!(run(array), json!({"command": ["bash", "-lc", "ls"]}));
        let more = json!({"properties": {"command": {}, "risk": {"enum": ["LOW", "HIGH"]}}, "required": ["command", "risk", "why"]});
        assert_eq!(run(more), json!({"command": "ls", "risk": "LOW", "why": "A scripted command"}));
    }

    #[test]
    fn what_is_not_offered_is_said_and_not_called() {
        let script = Script::default().with(DEFAULT, vec![Step::run("ls")]);
        let chosen = choose(&script, Wire::Chat, &json!({"messages": [], "tools": [{"function": {"name": "web"}}]}));
        assert!(matches!(chosen.pieces.as_slice(), [Piece::Text(text)] if text.contains("Offered: web")));
        assert!(!chosen.side);
    }

    #[test]
    fn a_tool_in_a_group_is_called_with_its_group() {
        let call = Part::Call { tool: "list".to_owned(), arguments: Map::new() };
        let script = Script::default().with(DEFAULT, vec![Step::of([call])]);
        let tools = json!([{"type": "namespace", "name": "mcp__tracker", "tools": [shell_tool("list", &json!({}))]}]);
        let chosen = choose(&script, Wire::Responses, &json!({"input": "go", "tools": tools}));
        assert!(
            matches!(chosen.pieces.as_slice(), [Piece::Call { namespace: Some(group), .. }] if group == "mcp__tracker")
        );
    }
}
