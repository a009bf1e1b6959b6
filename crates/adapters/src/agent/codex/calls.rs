//! Parameters of the requests that we send. What comes of the policy is in [`super::overrides`].

use dalsegno_engine::Toolbox;
use serde_json::{Map, Value, json};

/// Parameters of `initialize`. Tools of ours and the end of commands are experimental.
pub(super) fn initialize() -> Value {
    json!({
        "clientInfo": {"name": "dalsegno", "title": "Dalsegno", "version": env!("CARGO_PKG_VERSION")},
        "capabilities": {"experimentalApi": true},
    })
}

/// Parameters of `thread/start`.
pub(super) fn thread_start(mut params: Map<String, Value>, tools: &dyn Toolbox) -> Value {
    let tools: Vec<Value> = tools
        .tools()
        .into_iter()
        .map(|tool| {
            json!({"type": "function", "name": tool.name, "description": tool.description,
                "inputSchema": tool.input_schema})
        })
        .collect();
    if !tools.is_empty() {
        params.insert("dynamicTools".to_owned(), Value::Array(tools));
    }
    Value::Object(params)
}

/// Parameters of `thread/resume`. A thread keeps the tools that it was started with.
pub(super) fn thread_resume(mut params: Map<String, Value>, thread: &str) -> Value {
    params.insert("threadId".to_owned(), Value::from(thread));
    params.insert("excludeTurns".to_owned(), Value::from(true));
    Value::Object(params)
}

/// Parameters of `turn/start`.
pub(super) fn turn_start(mut params: Map<String, Value>, thread: &str, text: &str) -> Value {
    params.insert("threadId".to_owned(), Value::from(thread));
    params.insert("input".to_owned(), input(text));
    Value::Object(params)
}

/// Parameters of `turn/steer`.
pub(super) fn turn_steer(thread: &str, turn: &str, text: &str) -> Value {
    json!({"threadId": thread, "expectedTurnId": turn, "input": input(text)})
}

/// Parameters of `turn/interrupt`.
pub(super) fn turn_interrupt(thread: &str, turn: &str) -> Value {
    json!({"threadId": thread, "turnId": turn})
}

/// Parameters of `thread/backgroundTerminals/clean`.
pub(super) fn clean(thread: &str) -> Value {
    json!({"threadId": thread})
}

fn input(text: &str) -> Value {
    json!([{"type": "text", "text": text}])
}
