//! Anthropic Messages.

use serde_json::{Value, json};

use super::Wire;
use super::choose::Piece;
use super::script::{End, Tokens};
use super::wire::{Answer, Frame, deltas};

fn block(piece: &Piece) -> Value {
    match piece {
        Piece::Text(text) => json!({"type": "text", "text": text}),
        Piece::Call { id, name, arguments, namespace: _ } => {
            json!({"type": "tool_use", "id": id.replacen("call_", "toolu_", 1), "name": name, "input": arguments})
        }
    }
}

/// Here input does not include what was read from the cache.
fn usage(Tokens { input, cached, output }: Tokens) -> Value {
    json!({
        "input_tokens": input.saturating_sub(cached), "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0, "output_tokens": output,
    })
}

fn stop_reason(answer: &Answer) -> &'static str {
    if matches!(answer.end, End::Incomplete { .. }) {
        return "max_tokens";
    }
    if answer.pieces.iter().any(|piece| matches!(piece, Piece::Call { .. })) { "tool_use" } else { "end_turn" }
}

pub(super) fn whole(answer: &Answer) -> Value {
    json!({
        "id": format!("msg_{}", answer.id), "type": "message", "role": "assistant", "model": answer.model,
        "content": answer.pieces.iter().map(block).collect::<Vec<_>>(),
        "stop_reason": stop_reason(answer), "stop_sequence": null, "usage": usage(answer.tokens),
    })
}

pub(super) fn frames(answer: &Answer) -> Vec<Frame> {
    let at_first = Tokens { output: 0, ..answer.tokens };
    let mut begun = whole(answer);
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    begun["usage"] = usage(at_first);
    let mut frames = vec![Frame::of(&json!({"type": "message_start", "message": begun})).reporting(at_first)];
    for (index, piece) in answer.pieces.iter().enumerate() {
        let mut empty = block(piece);
        let pieces: Vec<Value> = match piece {
            Piece::Text(text) => {
                empty["text"] = json!("");
                deltas(text).into_iter().map(|text| json!({"type": "text_delta", "text": text})).collect()
            }
            Piece::Call { arguments, .. } => {
                empty["input"] = json!({});
                let arguments = Value::Object(arguments.clone()).to_string();
                let delta = |json: String| json!({"type": "input_json_delta", "partial_json": json});
                deltas(&arguments).into_iter().map(delta).collect()
            }
        };
        let event = |kind: &str, field: &str, value: Value| {
            let mut event = json!({"type": kind, "index": index});
            event[field] = value;
            Frame::of(&event)
        };
        frames.push(event("content_block_start", "content_block", empty));
        frames.extend(pieces.into_iter().map(|delta| event("content_block_delta", "delta", delta)));
        frames.push(Frame::of(&json!({"type": "content_block_stop", "index": index})));
    }
    if let End::Failed { code, message } = &answer.end {
        frames.push(Frame::of(&Wire::Messages.error(code, message)));
        return frames;
    }
    let output = answer.tokens.output;
    let last = json!({
        "type": "message_delta", "delta": {"stop_reason": stop_reason(answer), "stop_sequence": null},
        "usage": {"output_tokens": output},
    });
    frames.push(Frame::of(&last).reporting(Tokens { output, ..Tokens::ZERO }));
    frames.push(Frame::of(&json!({"type": "message_stop"})));
    frames
}
