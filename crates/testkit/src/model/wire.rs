//! What the three wire formats have in common.

use serde_json::{Value, json};

use super::choose::Piece;
use super::script::{End, Tokens};
use super::{chat, messages, responses};

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI Responses.
    Responses,
    /// OpenAI Chat Completions.
    Chat,
    /// Anthropic Messages.
    Messages,
}

/// A response, before it is put into a wire format.
pub(super) struct Answer {
    /// Ends the ids of the response and its parts.
    pub(super) id: String,
    pub(super) model: String,
    pub(super) pieces: Vec<Piece>,
    pub(super) tokens: Tokens,
    pub(super) end: End,
}

/// One event of a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) event: Option<String>,
    pub(super) data: String,
    /// What the client has been told of usage once it has this.
    pub(super) reports: Tokens,
}

impl Frame {
    pub(super) fn of(data: &Value) -> Self {
        let event = data.get("type").and_then(Value::as_str).map(str::to_owned);
        Self { event, data: data.to_string(), reports: Tokens::ZERO }
    }

    pub(super) fn reporting(mut self, tokens: Tokens) -> Self {
        self.reports = tokens;
        self
    }

    /// As it goes over the wire.
    pub(super) fn text(&self) -> String {
        let event = self.event.as_ref().map(|event| format!("event: {event}\n")).unwrap_or_default();
        format!("{event}data: {}\n\n", self.data)
    }
}

/// A response in one piece.
pub(super) struct Whole {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) reports: Tokens,
}

impl Wire {
    /// The field of a request that holds the conversation.
    pub(super) fn history(self) -> &'static str {
        match self {
            Self::Responses => "input",
            Self::Chat | Self::Messages => "messages",
        }
    }

    pub(super) fn frames(self, answer: &Answer) -> Vec<Frame> {
        match self {
            Self::Responses => responses::frames(answer),
            Self::Chat => chat::frames(answer),
            Self::Messages => messages::frames(answer),
        }
    }

    pub(super) fn whole(self, answer: &Answer) -> Whole {
        if let (End::Failed { code, message }, true) = (&answer.end, self != Self::Responses) {
            let status = if code.contains("rate_limit") || code.contains("quota") { 429 } else { 400 };
            return Whole { status, body: self.error(code, message), reports: Tokens::ZERO };
        }
        let body = match self {
            Self::Responses => responses::whole(answer),
            Self::Chat => chat::whole(answer),
            Self::Messages => messages::whole(answer),
        };
        let failed = matches!(answer.end, End::Failed { .. });
        Whole { status: 200, body, reports: if failed { Tokens::ZERO } else { answer.tokens } }
    }

    /// The body of an error.
    pub(super) fn error(self, code: &str, message: &str) -> Value {
        match self {
            Self::Responses | Self::Chat => {
                json!({"error": {"message": message, "type": code, "code": code, "param": null}})
            }
            Self::Messages => json!({"type": "error", "error": {"type": code, "message": message}}),
        }
    }

    /// The code that goes with a status, where a script names none.
    pub(super) fn code(self, status: u16) -> &'static str {
        match (status, self) {
            (400, _) => "invalid_request_error",
            (401 | 403, _) => "authentication_error",
            (429, Self::Messages) => "rate_limit_error",
            (429, _) => "rate_limit_exceeded",
            (503 | 529, Self::Messages) => "overloaded_error",
            (503, _) => "server_is_overloaded",
            (_, Self::Messages) => "api_error",
            _ => "server_error",
        }
    }
}

/// The text in at most four pieces.
pub(super) fn deltas(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(letters.len().div_ceil(4).max(1)).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_in_several_pieces_and_none_is_lost() {
        for text in ["", "a", "ab", "größer als vier Zeichen"] {
            let pieces = deltas(text);
            assert_eq!(pieces.concat(), text);
            assert_eq!(pieces.len(), text.chars().count().min(4), "{pieces:?}");
        }
    }
}
