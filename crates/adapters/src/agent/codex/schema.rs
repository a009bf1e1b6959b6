//! What we send and read, against the schema that the pinned Codex prints of itself.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::process::Command;

use dalsegno_engine::core::{AgentKind, AgentPolicy, Sandbox};
use dalsegno_engine::{ToolAnswer, ToolCall, ToolSpec, Toolbox};
use serde_json::{Value, json};

use super::overrides::Overrides;
use super::{calls, history, outcome};

/// Requests that we send.
const SENT: [&str; 8] = [
    "initialize",
    "thread/start",
    "thread/resume",
    "thread/turns/list",
    "thread/backgroundTerminals/clean",
    "turn/start",
    "turn/steer",
    "turn/interrupt",
];
/// Requests that we serve.
const SERVED: [&str; 8] = [
    "item/commandExecution/requestApproval",
    "item/fileChange/requestApproval",
    "item/permissions/requestApproval",
    "item/tool/call",
    "item/tool/requestUserInput",
    "mcpServer/elicitation/request",
    "applyPatchApproval",
    "execCommandApproval",
];
/// Notifications that we read, with the fields that we look at.
const READ: [(&str, &[&str]); 17] = [
    (
        "thread/tokenUsage/updated",
        &[
            "/threadId",
            "/turnId",
            "/tokenUsage/total/inputTokens",
            "/tokenUsage/last/outputTokens",
            "/tokenUsage/total/cachedInputTokens",
            "/tokenUsage/total/totalTokens",
        ],
    ),
    (
        "account/rateLimits/updated",
        &[
            "/rateLimits/limitId",
            "/rateLimits/primary/usedPercent",
            "/rateLimits/secondary/resetsAt",
            "/rateLimits/primary/windowDurationMins",
        ],
    ),
    ("warning", &["/message"]),
    ("guardianWarning", &["/message"]),
    ("configWarning", &["/summary"]),
    ("deprecationNotice", &["/summary"]),
    ("item/agentMessage/delta", &["/threadId", "/itemId", "/delta"]),
    ("item/reasoning/summaryTextDelta", &["/threadId", "/delta"]),
    ("item/reasoning/textDelta", &["/threadId", "/delta"]),
    ("item/started", &["/threadId", "/item"]),
    ("item/completed", &["/threadId", "/item"]),
    ("turn/plan/updated", &["/threadId", "/plan"]),
    ("turn/started", &["/threadId", "/turn/id"]),
    (
        "turn/completed",
        &[
            "/threadId",
            "/turn/id",
            "/turn/status",
            "/turn/error/codexErrorInfo",
            "/turn/error/message",
            "/turn/error/additionalDetails",
        ],
    ),
    ("model/rerouted", &["/threadId", "/toModel", "/fromModel"]),
    ("thread/settings/updated", &["/threadId", "/threadSettings/model"]),
    ("error", &["/threadId", "/error/message", "/willRetry"]),
];

/// The schema, as far as these tests need one.
struct Schema {
    dir: tempfile::TempDir,
}

impl Schema {
    fn of_the_pinned_codex() -> Option<Self> {
        let codex = dalsegno_testkit::parts::codex()?;
        let dir = tempfile::tempdir().unwrap();
        let done = Command::new(codex.program)
            .args(["app-server", "generate-json-schema", "--experimental", "--out"])
            .arg(dir.path().join("schema"))
            .env("HOME", dir.path())
            .env("CODEX_HOME", dir.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        Some(Self { dir })
    }

    fn file(&self, name: &str) -> Value {
        let path = self.dir.path().join("schema").join(format!("{name}.json"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }
}

/// The methods of a file of messages, each with the schema of its parameters.
fn methods(file: &Value) -> Vec<(String, Value)> {
    let messages = file.get("oneOf").unwrap().as_array().unwrap();
    messages
        .iter()
        .map(|message| {
            let method = message.pointer("/properties/method/enum/0").unwrap().as_str().unwrap().to_owned();
            (method, message.pointer("/properties/params").cloned().unwrap_or_default())
        })
        .collect()
}

fn params(file: &Value, method: &str) -> Value {
    let found = methods(file).into_iter().find(|(name, _)| name == method);
    found.unwrap_or_else(|| panic!("the schema has no {method}")).1
}

/// Why the value does not fit the schema; all that the pinned schema uses of the standard is looked at.
fn misfit(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let Value::Object(rules) = schema else {
        return (*schema == Value::Bool(false)).then(|| "nothing fits".to_owned());
    };
    if let Some(name) = rules.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("no {name}"));
        return misfit(root, target, value);
    }
    if let Some(words) = rules.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        return Some(format!("{value} is none of {words:?}"));
    }
    if let Some(kind) = rules.get("type") {
        let kinds = kind.as_array().cloned().unwrap_or_else(|| vec![kind.clone()]);
        if !kinds.iter().any(|kind| is(kind.as_str().unwrap(), value)) {
            return Some(format!("{value} is no {kind}"));
        }
    }
    for all in rules.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        if let Some(why) = misfit(root, all, value) {
            return Some(why);
        }
    }
    for choice in ["anyOf", "oneOf"] {
        let Some(choices) = rules.get(choice).and_then(Value::as_array) else { continue };
        let misfits: Vec<String> = choices.iter().filter_map(|one| misfit(root, one, value)).collect();
        if misfits.len() == choices.len() {
            return Some(format!("{value} is none of: {}", misfits.join("; or ")));
        }
    }
    let Value::Object(map) = value else {
        let items = rules.get("items").filter(|_| value.is_array())?;
        return value.as_array().unwrap().iter().find_map(|item| misfit(root, items, item));
    };
    let properties = rules.get("properties").and_then(Value::as_object);
    for name in rules.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !map.contains_key(name.as_str().unwrap()) {
            return Some(format!("{name} is missing in {value}"));
        }
    }
    for (name, value) in map {
        let why = match properties.and_then(|properties| properties.get(name)) {
            Some(schema) => misfit(root, schema, value),
            None => match rules.get("additionalProperties") {
                Some(schema) => misfit(root, schema, value),
                // The schema lets unknown names pass where properties are listed. We send none: a typing error is one.
                None => properties.map(|_| "nobody reads it".to_owned()),
            },
        };
        if let Some(why) = why {
            return Some(format!("{name}: {why}"));
        }
    }
    None
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("what is a {other}?"),
    }
}

/// Whether values of the schema can have something at this place.
fn has(root: &Value, schema: &Value, path: &[&str]) -> bool {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return has(root, root.pointer(name.trim_start_matches('#')).unwrap(), path);
    }
    let Some((name, rest)) = path.split_first() else { return true };
    let here = schema.get("properties").and_then(|properties| properties.get(name));
    here.is_some_and(|schema| has(root, schema, rest))
        || ["allOf", "anyOf", "oneOf"].iter().any(|choice| {
            let choices = schema.get(choice).and_then(Value::as_array);
            choices.into_iter().flatten().any(|one| has(root, one, path))
        })
}

fn place(path: &str) -> Vec<&str> {
    path.split('/').skip(1).collect()
}

struct OneTool;

#[async_trait::async_trait]
impl Toolbox for OneTool {
    fn tools(&self) -> Vec<ToolSpec> {
        let input_schema = json!({"type": "object"});
        vec![ToolSpec { name: "a_tool".to_owned(), description: "Does it.".to_owned(), input_schema }]
    }

    async fn call(&self, _: ToolCall) -> ToolAnswer {
        ToolAnswer { text: String::new(), success: true }
    }
}

fn fits(file: &Value, method: &str, value: &Value) {
    assert_eq!(misfit(file, &params(file, method), value), None, "{method}: {value}");
}

#[tokio::test]
async fn what_we_send_is_in_the_schema_and_fits_it() {
    let Some(schema) = Schema::of_the_pinned_codex() else { return };
    let requests = schema.file("ClientRequest");
    for method in SENT {
        params(&requests, method);
    }
    let notifications = methods(&schema.file("ClientNotification"));
    assert!(notifications.iter().any(|(method, _)| method == "initialized"));

    fits(&requests, "initialize", &calls::initialize());
    let mut policy = AgentPolicy::of(AgentKind::Codex);
    policy.model = Some("m".to_owned());
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".git")).unwrap();
    for sandbox in [Sandbox::None, Sandbox::Bubblewrap] {
        policy.sandbox = sandbox;
        let overrides = Overrides::new(dir.path().to_str().unwrap(), &policy);
        fits(&requests, "thread/start", &calls::thread_start(overrides.thread(), &OneTool));
        fits(&requests, "thread/resume", &calls::thread_resume(overrides.thread(), "t"));
        fits(&requests, "turn/start", &calls::turn_start(overrides.turn().await, "t", "text"));
    }
    fits(&requests, "turn/steer", &calls::turn_steer("t", "u", "text"));
    fits(&requests, "turn/interrupt", &calls::turn_interrupt("t", "u"));
    fits(&requests, "thread/backgroundTerminals/clean", &calls::clean("t"));
    fits(&requests, "thread/turns/list", &history::page("t", Some("c")));
    let typed_wrong = json!({"threadId": "t", "input": [], "sandboxPolice": {}});
    assert!(misfit(&requests, &params(&requests, "turn/start"), &typed_wrong).is_some(), "the test sees nothing");
}

#[test]
fn what_we_read_and_serve_is_in_the_schema() {
    let Some(schema) = Schema::of_the_pinned_codex() else { return };
    let requests = schema.file("ServerRequest");
    for method in SERVED {
        params(&requests, method);
    }
    let notifications = schema.file("ServerNotification");
    for (method, fields) in READ {
        let params = params(&notifications, method);
        for field in fields {
            assert!(has(&notifications, &params, &place(field)), "{method} has no {field}");
        }
    }
    for (answer, fields) in [
        ("v2/ThreadStartResponse", ["/thread/id", "/model"]),
        ("v2/ThreadResumeResponse", ["/thread/id", "/model"]),
        ("v2/TurnStartResponse", ["/turn/id", "/turn/status"]),
        ("v2/ThreadTurnsListResponse", ["/data", "/nextCursor"]),
    ] {
        let answer = schema.file(answer);
        for field in fields {
            assert!(has(&answer, &answer, &place(field)), "{field}");
        }
    }
}

#[test]
fn our_answers_fit_the_schema() {
    let Some(schema) = Schema::of_the_pinned_codex() else { return };
    for (file, answers) in [
        ("CommandExecutionRequestApprovalResponse", vec![json!({"decision": "accept"}), json!({"decision": "cancel"})]),
        ("FileChangeRequestApprovalResponse", vec![json!({"decision": "accept"}), json!({"decision": "cancel"})]),
        ("ApplyPatchApprovalResponse", vec![json!({"decision": "approved"}), json!({"decision": "abort"})]),
        ("ExecCommandApprovalResponse", vec![json!({"decision": "approved"}), json!({"decision": "abort"})]),
        ("PermissionsRequestApprovalResponse", vec![json!({"permissions": {}, "scope": "turn"})]),
        ("ToolRequestUserInputResponse", vec![json!({"answers": {}})]),
        (
            "McpServerElicitationRequestResponse",
            vec![json!({"action": "cancel"}), json!({"action": "accept", "content": {}})],
        ),
        (
            "DynamicToolCallResponse",
            vec![json!({"contentItems": [{"type": "inputText", "text": "t"}], "success": true})],
        ),
    ] {
        let schema = schema.file(file);
        for answer in answers {
            assert_eq!(misfit(&schema, &schema, &answer), None, "{file}: {answer}");
        }
    }
}

#[test]
fn every_kind_of_error_has_its_place_in_the_table() {
    let Some(schema) = Schema::of_the_pinned_codex() else { return };
    let all = schema.file("codex_app_server_protocol.v2.schemas");
    let kinds = all.pointer("/definitions/CodexErrorInfo/anyOf").unwrap().as_array().unwrap();
    let mut known = BTreeSet::new();
    for kind in kinds {
        let words = kind.get("enum").and_then(Value::as_array).into_iter().flatten();
        known.extend(words.map(|word| word.as_str().unwrap().to_owned()));
        let keys = kind.get("required").and_then(Value::as_array).into_iter().flatten();
        known.extend(keys.map(|key| key.as_str().unwrap().to_owned()));
    }
    let ours: BTreeSet<String> = outcome::kinds().into_iter().map(str::to_owned).collect();
    assert_eq!(ours, known);
}
