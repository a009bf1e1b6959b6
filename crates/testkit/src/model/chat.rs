//! OpenAI Chat Completions.

use serde_json::{Map, Value, json};

use super::Wire;
use super::choose::Piece;
use super::script::{End, Tokens};
use super::wire::{Answer, Frame, deltas};

fn usage(Tokens { input, cached, output }: Tokens) -> Value {
    json!({
        "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    })
}

fn call(id: &str, name: &str, arguments: &Map<String, Value>) -> Value {
    let arguments = Value::Object(arguments.clone()).to_string();
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn finish_reason(answer: &Answer) -> &'static str {
    if matches!(answer.end, End::Incomplete { .. }) {
        return "length";
    }
    if answer.pieces.iter().any(|piece| matches!(piece, Piece::Call { .. })) { "tool_calls" } else { "stop" }
}

pub(super) fn whole(answer: &Answer) -> Value {
    let mut text = String::new();
    let mut calls = Vec::new();
    for piece in &answer.pieces {
        match piece {
            Piece::Text(more) => text.push_str(more),
            Piece::Call { id, name, arguments, namespace: _ } => calls.push(call(id, name, arguments)),
        }
    }
    let mut message = json!({"role": "assistant", "content": (!text.is_empty()).then_some(text)});
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    json!({
        "id": format!("chatcmpl-{}", answer.id), "object": "chat.completion", "created": 0, "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason(answer)}],
        "usage": usage(answer.tokens),
    })
}

pub(super) fn frames(answer: &Answer) -> Vec<Frame> {
    let chunk = |choices: Value| {
        json!({
            "id": format!("chatcmpl-{}", answer.id), "object": "chat.completion.chunk", "created": 0,
            "model": answer.model, "choices": choices,
        })
    };
    let delta = |delta: Value, finish: Option<&str>| {
        Frame::of(&chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}])))
    };
    let mut frames = vec![delta(json!({"role": "assistant", "content": ""}), None)];
    let mut calls = 0;
    for piece in &answer.pieces {
        match piece {
            Piece::Text(text) => {
                frames.extend(deltas(text).into_iter().map(|text| delta(json!({"content": text}), None)));
            }
            Piece::Call { id, name, arguments, namespace: _ } => {
                let mut call = call(id, name, arguments);
                call["index"] = json!(calls);
                calls += 1;
                frames.push(delta(json!({"tool_calls": [call]}), None));
            }
        }
    }
    if let End::Failed { code, message } = &answer.end {
        frames.push(Frame::of(&Wire::Chat.error(code, message)));
        return frames;
    }
    frames.push(delta(json!({}), Some(finish_reason(answer))));
    let mut last = chunk(json!([]));
    last["usage"] = usage(answer.tokens);
    frames.push(Frame::of(&last).reporting(answer.tokens));
    frames.push(Frame { event: None, data: "[DONE]".to_owned(), reports: Tokens::ZERO });
    frames
}
