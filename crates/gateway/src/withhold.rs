//! What callers without a token see of an event: its facts, not the texts of people, agents and programs.

use serde_json::Value;

/// Fields whose text is a name, a word of ours, a place or a title. The text of any other field is a content: a field that is
/// forgotten here is withheld and not shown.
const OPEN: [&str; 43] = [
    "assignee_id",
    "base_commit",
    "branch",
    "branch_name",
    "code",
    "commit",
    "created",
    "effect",
    "ending",
    "evidence",
    "expected",
    "from",
    "handoff",
    "hash",
    "hook",
    "id",
    "identifier",
    "issue",
    "key",
    "kind",
    "labels",
    "name",
    "outcome",
    "output",
    "parent",
    "path",
    "phase",
    "policy",
    "reason",
    "result",
    "resume",
    "run",
    "seek",
    "session",
    "state",
    "step",
    "then",
    "title",
    "to",
    "turn",
    "url",
    "version",
    "what",
];

/// Takes the contents out of an event's data; tells whether there were any.
pub(crate) fn withhold(kind: &str, data: &mut Value) -> bool {
    // Commands, paths, prompts: a policy is content but for its hash.
    let mut withheld = false;
    if kind == "workflow_loaded"
        && let Value::Object(fields) = data
    {
        withheld |= fields.remove("policy").is_some();
    }
    strip(data) || withheld
}

fn strip(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => {
            let mut withheld = false;
            fields.retain(|name, value| {
                let open = OPEN.contains(&name.as_str());
                let keep = match value {
                    Value::String(_) => open,
                    Value::Array(items) => open || items.iter().all(Value::is_object),
                    Value::Object(_) => name != "native_ref" && name != "provider",
                    Value::Null | Value::Bool(_) | Value::Number(_) => true,
                };
                withheld |= !keep || strip(value);
                keep
            });
            withheld
        }
        Value::Array(items) => items.iter_mut().filter_map(|item| strip(item).then_some(())).count() > 0,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_go_and_facts_stay() {
        let mut data = json!({
            "issue": {"id": "1", "title": "T", "description": "secret", "native_ref": {"id": "x"}, "labels": ["a"],
                      "blocked_by": [{"id": "2", "identifier": "DS-2", "state": "Todo"}], "priority": 1},
            "outcome": {"result": "failed", "failure": {"code": "hook_failed", "message": "secret", "hint": "secret", "retryable": true}},
            "missing": {"what": "uncommitted", "files": ["secret"]},
            "brand_new_field": "secret", "usage": {"input_tokens": 3},
        });
        assert!(withhold("issue_seen", &mut data));
        assert_eq!(
            data,
            json!({
                "issue": {"id": "1", "title": "T", "labels": ["a"],
                          "blocked_by": [{"id": "2", "identifier": "DS-2", "state": "Todo"}], "priority": 1},
                "outcome": {"result": "failed", "failure": {"code": "hook_failed", "retryable": true}},
                "missing": {"what": "uncommitted"},
                "usage": {"input_tokens": 3},
            })
        );
        assert!(!withhold("issue_seen", &mut data), "nothing is left to withhold");
    }

    #[test]
    fn a_policy_goes_whole_and_its_hash_stays() {
        let mut data = json!({"hash": "h", "policy": {"hooks": {"before_run": "x"}}});
        assert!(withhold("workflow_loaded", &mut data));
        assert_eq!(data, json!({"hash": "h"}));
        let mut data = json!({"run": "run-1", "policy": "h"});
        assert!(!withhold("run_started", &mut data));
        assert_eq!(data, json!({"run": "run-1", "policy": "h"}));
    }
}
