//! What a turn's answer means.

use agent_client_protocol::{Error, ErrorCode};
use dalsegno_engine::core::{Failure, Timestamp, TurnOutcome};
use serde_json::Value;

use crate::agent::text::clip;

/// Longest message taken over from an agent.
const MAX_MESSAGE_BYTES: usize = 2 * 1024;
/// Longest wait that is believed: seven days. A point in time beyond it is a mistake (milliseconds taken for seconds),
/// and the run is tried again by its own backoff.
const MAX_RETRY_AFTER_S: f64 = 604_800.0;
const MAX_WAIT_MS: u64 = 604_800_000;

/// The turn as the agent reports it to have ended.
pub(super) fn of_answer(answer: &Value) -> TurnOutcome {
    match answer.get("stopReason").and_then(Value::as_str).unwrap_or_default() {
        "refusal" => TurnOutcome::Failed {
            failure: Failure::permanent("turn_refused", "the agent refuses to go on with what it was asked")
                .hint("read the transcript; reword the issue"),
        },
        // We did not ask for it, or the caller would not look here.
        "cancelled" => TurnOutcome::Failed {
            failure: Failure::retryable(
                "turn_cancelled",
                "the agent ended the turn as canceled, and nobody asked for that",
            ),
        },
        // Limits of one turn (`max_tokens`, `max_turn_requests`) end it like any other: the work is looked at, and a
        // next turn goes on. The same holds for reasons that later versions add.
        _ => TurnOutcome::Completed,
    }
}

/// The turn as an error ended it. The protocol has no word for rate limits: each agent says it in its own way.
pub(super) fn of_error(error: &Error, now: Timestamp) -> TurnOutcome {
    let data = error.data.as_ref();
    if limited(error) {
        let reset_at = data.and_then(|data| reset_at(data, now)).filter(|at| at.since_ms(now) <= MAX_WAIT_MS);
        return TurnOutcome::RateLimited { reset_at };
    }
    let detail = match data {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => format!(" ({text})"),
        Some(other) => format!(" ({other})"),
    };
    let message = clip(&format!("the agent reports: {}{detail}", error.message), MAX_MESSAGE_BYTES);
    let failure = if error.code == ErrorCode::AUTH_REQUIRED {
        Failure::permanent("agent_auth_required", message)
            .hint("log in with the agent's own program, as the user of the daemon")
    } else {
        Failure::retryable("turn_failed", message)
    };
    TurnOutcome::Failed { failure }
}

fn limited(error: &Error) -> bool {
    let said = |text: &str| {
        let text = text.to_ascii_lowercase();
        ["rate_limit", "rate limit", "ratelimit", "too many requests", "usage limit", "usage_limit", "quota_exceeded"]
            .iter()
            .any(|word| text.contains(word))
    };
    let kind = |name: &str| error.data.as_ref().and_then(|data| data.get(name));
    let status = ["status", "statusCode", "httpStatus"].iter().filter_map(|name| kind(name)).any(|value| value == 429);
    let named = ["kind", "errorKind", "errorName", "error", "code", "type"]
        .iter()
        .filter_map(|name| kind(name).and_then(Value::as_str))
        .any(said);
    status || named || said(&error.message)
}

/// When the limit ends, as a point in time or as a wait.
fn reset_at(data: &Value, now: Timestamp) -> Option<Timestamp> {
    let point = ["reset_at_ms", "resetAtMs"].iter().find_map(|name| data.get(name)).and_then(Value::as_i64);
    if let Some(point) = point {
        return Some(Timestamp(point));
    }
    let seconds =
        ["reset_at", "resetAt", "resetsAt", "resets_at"].iter().find_map(|name| data.get(name)).and_then(Value::as_i64);
    if let Some(seconds) = seconds {
        return Some(Timestamp(seconds.saturating_mul(1000)));
    }
    let wait = ["retry_after", "retryAfter", "retry_after_s"]
        .iter()
        .find_map(|name| data.get(name))
        .and_then(Value::as_f64)?;
    if !(0.0..=MAX_RETRY_AFTER_S).contains(&wait) {
        return None;
    }
    let ms = std::time::Duration::from_secs_f64(wait).as_millis();
    Some(now.after_ms(u64::try_from(ms).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(message: &str, data: Value) -> Error {
        Error::new(-32603, message).data(data)
    }

    fn reset(message: &str, data: Value) -> Option<Option<i64>> {
        match of_error(&error(message, data), Timestamp(1_000)) {
            TurnOutcome::RateLimited { reset_at } => Some(reset_at.map(|at| at.0)),
            TurnOutcome::Completed
            | TurnOutcome::Failed { .. }
            | TurnOutcome::Asked { .. }
            | TurnOutcome::Interrupted => None,
        }
    }

    #[test]
    fn rate_limits_are_recognised_in_the_forms_that_agents_use() {
        assert_eq!(reset("no", json!({"kind": "rate_limit", "reset_at_ms": 5})), Some(Some(5)));
        assert_eq!(reset("no", json!({"statusCode": 429, "retryAfter": 2.5})), Some(Some(3_500)));
        assert_eq!(reset("Too Many Requests", json!(null)), Some(None));
        assert_eq!(reset("no", json!({"errorKind": "rate_limit_exceeded", "retry_after": -1})), Some(None));
        assert_eq!(reset("Internal error", json!({"errorName": "APIError"})), None);
        // Milliseconds where seconds are meant: the issue would wait for a thousand years.
        assert_eq!(reset("no", json!({"kind": "rate_limit", "resetsAt": 1_800_000_000_000_i64})), Some(None));
    }

    #[test]
    fn what_the_agent_says_of_its_error_is_kept() {
        let TurnOutcome::Failed { failure } = of_error(&error("scripted failure", json!({"a": 1})), Timestamp(0))
        else {
            panic!("an error is a failure");
        };
        assert_eq!(failure.code, "turn_failed");
        assert!(failure.message.contains("scripted failure") && failure.message.contains("{\"a\":1}"), "{failure}");
    }
}
