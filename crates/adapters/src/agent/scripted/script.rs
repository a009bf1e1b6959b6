//! The script: lists of turns, each a list of steps.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::time::Duration;

use dalsegno_engine::core::{Failure, span_ms};
use serde_json::{Map, Value};

/// No script is larger than this.
const MAX_SCRIPT_BYTES: u64 = 4 * 1024 * 1024;
/// Most lines that one step writes.
const MAX_LINES: u64 = 1_000_000;
/// All steps, for the error that names an unknown one.
const STEPS: &str = "say, sh, sleep, usage, write, tool, ask, permission, fail, rate_limit, hang, exit, flood, garbage";

/// One thing that the agent does in a turn.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Say(String),
    Sh(String),
    Sleep(Duration),
    Usage {
        input: u64,
        output: u64,
    },
    Write {
        path: String,
        content: String,
    },
    Tool {
        name: String,
        args: Value,
    },
    Ask {
        text: String,
        options: Vec<String>,
    },
    /// With a path it is a permission to change that file, else to run the text as a command.
    Permission {
        text: String,
        path: Option<String>,
    },
    Fail(String),
    RateLimit {
        reset_in: Duration,
    },
    Hang,
    Exit(u8),
    /// So many message chunks.
    Flood(u64),
    /// So many rounds of what is no protocol, and of text that is no UTF-8.
    Garbage(u64),
}

/// What each issue's session plays.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Script {
    lists: BTreeMap<String, Vec<Vec<Step>>>,
}

impl Script {
    /// Reads and checks the whole file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| {
            Failure::permanent(
                "agent_script_unreadable",
                format!("the script {} cannot be read: {error}", path.display()),
            )
            .hint("`agent.script` in WORKFLOW.md is relative to WORKFLOW.md")
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_SCRIPT_BYTES {
            return Err(invalid(path, &format!("it has {size} bytes, and at most {MAX_SCRIPT_BYTES} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|reason| invalid(path, &reason))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let Value::Object(entries) = value else {
            return Err("it must map issue identifiers, or `default`, to lists of turns".to_owned());
        };
        let mut lists = BTreeMap::new();
        for (issue, turns) in entries {
            let mut parsed = Vec::new();
            for (turn, steps) in list(&turns, &issue)?.iter().enumerate() {
                let place = format!("{issue}, turn {}", turn + 1);
                let steps = list(steps, &place)?.iter().enumerate();
                parsed.push(
                    steps
                        .map(|(step, value)| {
                            Step::parse(value).map_err(|why| format!("{place}, step {}: {why}", step + 1))
                        })
                        .collect::<Result<Vec<Step>, String>>()?,
                );
            }
            lists.insert(issue.to_lowercase(), parsed);
        }
        Ok(Self { lists })
    }

    /// Steps of the turn, from 0; none past the last.
    pub(super) fn turn(&self, issue: &str, turn: usize) -> &[Step] {
        let turns = self.lists.get(&issue.to_lowercase()).or_else(|| self.lists.get("default"));
        turns.and_then(|turns| turns.get(turn)).map(Vec::as_slice).unwrap_or_default()
    }
}

fn invalid(path: &Path, reason: &str) -> Failure {
    Failure::permanent("agent_script_invalid", format!("the script {} is not valid: {reason}", path.display()))
        .hint(format!("steps are {STEPS}"))
}

fn list<'a>(value: &'a Value, place: &str) -> Result<&'a [Value], String> {
    match value {
        Value::Array(items) => Ok(items),
        // `DS-1:` with nothing behind it.
        Value::Null => Ok(&[]),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Err(format!("{place}: a list is expected"))
        }
    }
}

impl Step {
    fn parse(value: &Value) -> Result<Self, String> {
        let step = value.as_object().filter(|step| step.len() == 1);
        let Some((name, value)) = step.and_then(|step| step.iter().next()) else {
            return Err("a step is a map with one key, its name".to_owned());
        };
        match name.as_str() {
            "say" => Ok(Self::Say(text(value, "say")?)),
            "sh" => Ok(Self::Sh(text(value, "sh")?)),
            "sleep" => Ok(Self::Sleep(duration(value)?)),
            "usage" => {
                let map = fields(value, &["input", "output"])?;
                Ok(Self::Usage { input: whole(map.get("input"))?, output: whole(map.get("output"))? })
            }
            "write" => {
                let map = fields(value, &["path", "content"])?;
                let path = field(map, "path")?;
                let inside =
                    Path::new(&path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
                if !inside || path.is_empty() {
                    return Err(format!("`path` must lead into the workspace, and {path:?} does not"));
                }
                Ok(Self::Write { path, content: field(map, "content")? })
            }
            "tool" => {
                let map = fields(value, &["name", "args"])?;
                Ok(Self::Tool { name: field(map, "name")?, args: map.get("args").cloned().unwrap_or(Value::Null) })
            }
            "ask" => {
                let map = fields(value, &["text", "options"])?;
                let options = list(map.get("options").unwrap_or(&Value::Null), "options")?;
                let options = options.iter().map(|option| text(option, "options")).collect::<Result<_, _>>()?;
                Ok(Self::Ask { text: field(map, "text")?, options })
            }
            "permission" if value.is_object() => {
                let map = fields(value, &["text", "path"])?;
                Ok(Self::Permission { text: field(map, "text")?, path: Some(field(map, "path")?) })
            }
            "permission" => Ok(Self::Permission { text: text(value, "permission")?, path: None }),
            "fail" => Ok(Self::Fail(text(value, "fail")?)),
            "rate_limit" => {
                let map = fields(value, &["reset_in"])?;
                let reset_in = map.get("reset_in").ok_or("`reset_in` is missing")?;
                Ok(Self::RateLimit { reset_in: duration(reset_in)? })
            }
            "hang" if *value == Value::Bool(true) => Ok(Self::Hang),
            "hang" => Err("`hang` takes `true`".to_owned()),
            "exit" => {
                let code = u8::try_from(whole(Some(value))?).map_err(|_| "an exit code is 0 to 255".to_owned())?;
                Ok(Self::Exit(code))
            }
            "flood" => Ok(Self::Flood(lines(value)?)),
            "garbage" if *value == Value::Bool(true) => Ok(Self::Garbage(1)),
            "garbage" => Ok(Self::Garbage(lines(value)?)),
            unknown => Err(format!("there is no step `{unknown}`; steps are {STEPS}")),
        }
    }
}

fn text(value: &Value, name: &str) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(format!("`{name}` takes a text")),
    }
}

fn fields<'a>(value: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, String> {
    let map = value.as_object().ok_or_else(|| format!("a map with {} is expected", known.join(", ")))?;
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("there is no key `{key}` here; keys are {}", known.join(", "))),
        None => Ok(map),
    }
}

fn field(map: &Map<String, Value>, name: &str) -> Result<String, String> {
    text(map.get(name).ok_or_else(|| format!("`{name}` is missing"))?, name)
}

fn whole(value: Option<&Value>) -> Result<u64, String> {
    value.and_then(Value::as_u64).ok_or_else(|| "a whole number is expected".to_owned())
}

fn lines(value: &Value) -> Result<u64, String> {
    whole(Some(value)).and_then(|count| {
        if count <= MAX_LINES { Ok(count) } else { Err(format!("at most {MAX_LINES} lines can be written")) }
    })
}

/// `500ms`, `2s`, `1m`, or a number of milliseconds.
fn duration(value: &Value) -> Result<Duration, String> {
    let ms = value.as_u64().or_else(|| value.as_str().and_then(span_ms));
    ms.map(Duration::from_millis).ok_or_else(|| "a duration is `500ms`, `2s` or `1m`".to_owned())
}

/// Reads what passes for a script.
pub(crate) fn foreign(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Script::parse(text));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use super::*;

    #[test]
    fn all_steps_are_read() {
        let script = Script::parse(
            r#"
default:
  - [ {say: "looking"}, {sh: "echo hi >> a.txt && git add -A"}, {sleep: 500ms}, {usage: {input: 1200, output: 80}} ]
  - [ {write: {path: b.txt, content: "…"}}, {tool: {name: tracker_comment, args: {body: "halfway"}}}, {ask: {text: "Which colour?", options: [red, blue]}}, {permission: "rm -rf build"}, {fail: "model error"} ]
DS-7:
  - - rate_limit: {reset_in: 2s}
    - hang: true
    - exit: 1
    - flood: 10000
    - garbage: true
"#,
        )
        .unwrap();
        assert_eq!(script.turn("DS-1", 0).len(), 4);
        assert_eq!(script.turn("DS-1", 0)[2], Step::Sleep(Duration::from_millis(500)));
        assert_eq!(script.turn("DS-1", 1)[3], Step::Permission { text: "rm -rf build".to_owned(), path: None });
        assert_eq!(
            script.turn("ds-7", 0),
            [
                Step::RateLimit { reset_in: Duration::from_secs(2) },
                Step::Hang,
                Step::Exit(1),
                Step::Flood(10_000),
                Step::Garbage(1)
            ]
        );
        assert!(script.turn("DS-7", 1).is_empty() && script.turn("DS-1", 2).is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, part) in [
            ("default:\n  - [ {say: a}, {shout: b} ]", "default, turn 1, step 2: there is no step `shout`"),
            ("default:\n  - [ {sleep: soon} ]", "a duration is"),
            ("default:\n  - [ {write: {path: ../a, content: b}} ]", "must lead into the workspace"),
            ("default:\n  - [ {usage: {input: 1, output: 2, cost: 3}} ]", "no key `cost`"),
            ("default:\n  - [ {exit: 256} ]", "0 to 255"),
            ("default:\n  - {say: a}", "a list is expected"),
            ("- a", "issue identifiers"),
            ("a: [", ""),
        ] {
            let error = Script::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
