//! Looks for a prompt in a thread's history.

use serde_json::{Value, json};

/// Turns on a page.
const PAGE: u32 = 20;
/// Pages that are looked at, newest first: the prompt that is sought is the last one that was sent.
pub(super) const MAX_PAGES: usize = 50;

/// Parameters of `thread/turns/list` for the next page.
pub(super) fn page(thread: &str, cursor: Option<&str>) -> Value {
    // The summary of a turn has the user's messages and leaves out what tools put out, which may be long.
    let mut params = json!({"threadId": thread, "limit": PAGE, "sortDirection": "desc", "itemsView": "summary"});
    if let (Some(cursor), Some(params)) = (cursor, params.as_object_mut()) {
        params.insert("cursor".to_owned(), Value::from(cursor));
    }
    params
}

/// Whether a user's message on this page holds the marker. A turn without items is one that lost its prompt.
pub(super) fn holds(page: &Value, marker: &str) -> bool {
    list(page, "data")
        .iter()
        .flat_map(|turn| list(turn, "items"))
        .filter(|item| item.get("type").and_then(Value::as_str) == Some("userMessage"))
        .flat_map(|message| list(message, "content"))
        .any(|content| content.get("text").and_then(Value::as_str).is_some_and(|text| text.contains(marker)))
}

/// Whether the page has any turn.
pub(super) fn any(page: &Value) -> bool {
    !list(page, "data").is_empty()
}

/// Where the next page begins, if there is one.
pub(super) fn next(page: &Value) -> Option<String> {
    page.get("nextCursor").and_then(Value::as_str).map(str::to_owned)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_users_message_counts() {
        let page = |kind: &str| {
            json!({"data": [{"id": "1", "items": []}, {"id": "2", "items": [
                {"type": kind, "content": [{"type": "text", "text": "do it dalsegno:1"}], "text": "dalsegno:1"}]}]})
        };
        assert!(holds(&page("userMessage"), "dalsegno:1"));
        assert!(!holds(&page("userMessage"), "dalsegno:2"));
        assert!(!holds(&page("agentMessage"), "dalsegno:1"));
        assert!(!holds(&json!({"data": [{"id": "1", "items": []}]}), "dalsegno:1"));
    }
}
