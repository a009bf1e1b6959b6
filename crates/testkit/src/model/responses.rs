//! OpenAI Responses.

use serde_json::{Value, json};

use super::choose::Piece;
use super::script::{End, Tokens};
use super::wire::{Answer, Frame, deltas};

/// An output item, finished.
fn item(answer: &Answer, index: usize, piece: &Piece) -> Value {
    match piece {
        Piece::Text(text) => json!({
            "type": "message", "id": format!("msg_{}_{index}", answer.id), "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }),
        Piece::Call { id, namespace, name, arguments } => {
            let mut item = json!({
                "type": "function_call", "id": format!("fc_{}_{index}", answer.id), "call_id": id, "name": name,
                "arguments": Value::Object(arguments.clone()).to_string(), "status": "completed",
            });
            if let (Some(namespace), Some(item)) = (namespace, item.as_object_mut()) {
                item.insert("namespace".to_owned(), json!(namespace));
            }
            item
        }
    }
}

fn usage(Tokens { input, cached, output }: Tokens) -> Value {
    json!({
        "input_tokens": input, "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + output,
    })
}

/// The whole response, which is also what the last event of a stream holds.
pub(super) fn whole(answer: &Answer) -> Value {
    let output: Vec<Value> =
        answer.pieces.iter().enumerate().map(|(index, piece)| item(answer, index, piece)).collect();
    let mut response = json!({
        "id": format!("resp_{}", answer.id), "object": "response", "model": answer.model, "status": "completed",
        "output": output, "usage": usage(answer.tokens), "error": null, "incomplete_details": null,
    });
    match &answer.end {
        End::Complete | End::Cut | End::Hang => {}
        End::Failed { code, message } => {
            response["status"] = json!("failed");
            response["usage"] = Value::Null;
            response["error"] = json!({"code": code, "message": message});
        }
        End::Incomplete { reason } => {
            response["status"] = json!("incomplete");
            response["incomplete_details"] = json!({"reason": reason});
        }
    }
    response
}

pub(super) fn frames(answer: &Answer) -> Vec<Frame> {
    let begun = json!({
        "id": format!("resp_{}", answer.id), "object": "response", "model": answer.model, "status": "in_progress",
        "output": [],
    });
    let mut frames = vec![Frame::of(&json!({"type": "response.created", "response": begun}))];
    for (index, piece) in answer.pieces.iter().enumerate() {
        let finished = item(answer, index, piece);
        let mut added = finished.clone();
        added["status"] = json!("in_progress");
        let emptied = if matches!(piece, Piece::Text(_)) { ("content", json!([])) } else { ("arguments", json!("")) };
        added[emptied.0] = emptied.1;
        let at = |kind: &str, field: &str, value: Value| {
            let mut event = json!({"type": kind, "item_id": finished["id"], "output_index": index, "content_index": 0});
            event[field] = value;
            Frame::of(&event)
        };
        frames.push(at("response.output_item.added", "item", added));
        match piece {
            Piece::Text(text) => {
                frames.extend(
                    deltas(text).into_iter().map(|delta| at("response.output_text.delta", "delta", json!(delta))),
                );
            }
            Piece::Call { .. } => {
                frames.push(at("response.function_call_arguments.done", "arguments", finished["arguments"].clone()));
            }
        }
        frames.push(at("response.output_item.done", "item", finished.clone()));
    }
    let (last, reports) = match answer.end {
        End::Failed { .. } => ("response.failed", Tokens::ZERO),
        End::Incomplete { .. } => ("response.incomplete", answer.tokens),
        End::Complete | End::Cut | End::Hang => ("response.completed", answer.tokens),
    };
    frames.push(Frame::of(&json!({"type": last, "response": whole(answer)})).reporting(reports));
    frames
}
