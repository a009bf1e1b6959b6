//! What callers without a token see of an event: its facts, not the texts of people, agents and programs.

use serde_json::Value;

/// Fields whose text is a name, a word of ours, a place or a title. The text of any other field is a content: a field that is
/// forgotten here is withheld and not shown. The hash of a kept file is not here: whoever may not read a short text could
/// find it out by guessing.
const OPEN: [&str; 49] = [
    "action_id",
    "action_kind",
    "assignee_id",
    "base_commit",
    "branch",
    "branch_name",
    "code",
    "commit",
    "created",
    "effect",
    "ending",
    "expected",
    "file",
    "found",
    "from",
    "handoff",
    "hash",
    "hook",
    "id",
    "identifier",
    "issue",
    "journal",
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
    "result",
    "resume",
    "run",
    "saga",
    "seek",
    "session",
    "state",
    "step",
    "surfaces",
    "then",
    "tip",
    "title",
    "to",
    "turn",
    "url",
    "version",
    "what",
];

/// Rules of dispatch whose findings are words and figures of ours, and states and labels of the tracker. What any other
/// rule found may quote a program or a person.
const OPEN_RULES: [&str; 14] = [
    "agent_available",
    "daemon_running",
    "day_budget",
    "disk_room",
    "issue_budget",
    "not_drained",
    "required_labels",
    "restore_probed",
    "retry_due",
    "runs_left",
    "slot_free",
    "state_active",
    "state_slot_free",
    "workspace_free",
];

/// What everybody may read of a reason: its stable code. The words behind it may be a hook's output, the end of a check
/// or an agent's question; a reason without a code is not told at all.
pub(crate) fn open_reason(reason: &str) -> Option<String> {
    let code = reason.split_once(": ").map_or(reason, |(code, _)| code);
    let is_code = code.starts_with(|c: char| c.is_ascii_lowercase())
        && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_code.then(|| code.to_owned())
}

/// What everybody may read of an evidence: that there is one, and for which commit. The commands are the policy's.
pub(crate) fn open_evidence(evidence: &str) -> String {
    evidence.split(": ").next().unwrap_or_default().to_owned()
}

/// Whether everybody may read what this rule of dispatch found.
pub(crate) fn is_open_rule(rule: &str) -> bool {
    OPEN_RULES.contains(&rule)
}

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
                let told = match (name.as_str(), &*value) {
                    ("reason", Value::String(reason)) => open_reason(reason),
                    ("evidence", Value::String(evidence)) => Some(open_evidence(evidence)),
                    _ => None,
                };
                if let Some(told) = told {
                    withheld |= *value != Value::String(told.clone());
                    *value = Value::String(told);
                    return true;
                }
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
    fn of_what_a_check_said_everybody_is_told_the_file_and_how_long_it_is() {
        let kept = json!({"file": "7-0-check-1.log", "sha256": "secret", "bytes": 12});
        let mut data = json!({"run": "run-1", "commit": "c0ffee", "command": "secret", "passed": false, "kept": kept});
        assert!(withhold("check_ended", &mut data));
        let kept = json!({"file": "7-0-check-1.log", "bytes": 12});
        assert_eq!(data, json!({"run": "run-1", "commit": "c0ffee", "passed": false, "kept": kept}));
    }

    #[test]
    fn of_a_reason_its_code_stays_and_of_an_evidence_its_commit() {
        let mut data = json!({
            "from": "running", "to": "parked", "reason": "hook_failed: it printed secret",
            "state": {"state": "parked", "reason": "push_failed: secret"},
            "ending": {"outcome": "failed", "reason": "stalled", "then": {"then": "park", "detail": "secret"}},
            "other": {"reason": "secret words without a code"},
            "evidence": "passed on c0ffee: secret --check",
        });
        assert!(withhold("issue_status", &mut data));
        assert_eq!(
            data,
            json!({
                "from": "running", "to": "parked", "reason": "hook_failed",
                "state": {"state": "parked", "reason": "push_failed"},
                "ending": {"outcome": "failed", "reason": "stalled", "then": {"then": "park"}},
                "other": {},
                "evidence": "passed on c0ffee",
            })
        );
        assert!(!withhold("issue_status", &mut data), "nothing is left to withhold");
        assert_eq!(open_reason(""), None);
        assert_eq!(open_evidence("no evidence: no checks are configured"), "no evidence");
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
