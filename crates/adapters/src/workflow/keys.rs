//! The keys that WORKFLOW.md may have, for telling which ones nobody reads.

use serde_json::{Map, Value};

/// A key of WORKFLOW.md that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// Dotted path of the key.
    pub path: String,
    /// The known key beside it that looks most like it.
    pub nearest: Option<String>,
}

// Sections and keys. A path that ends in `.*` takes any keys below it.
const KNOWN: &[&str] = &[
    "tracker.kind",
    "tracker.provider.*",
    "tracker.required_labels",
    "tracker.active_states",
    "tracker.terminal_states",
    "tracker.webhooks.*",
    "polling.interval_ms",
    "workspace.root",
    "workspace.strategy",
    "workspace.repo",
    "workspace.base",
    "workspace.branch",
    "workspace.disk_limit_gb",
    "hooks.after_create",
    "hooks.before_run",
    "hooks.after_run",
    "hooks.before_remove",
    "hooks.timeout_ms",
    "agent.kind",
    "agent.command",
    "agent.model",
    "agent.script",
    "agent.sandbox",
    "agent.sandbox_network",
    "agent.sandbox_write",
    "agent.max_concurrent_agents",
    "agent.max_turns",
    "agent.max_retry_backoff_ms",
    "agent.max_concurrent_agents_by_state.*",
    "codex.command",
    "codex.approval_policy.*",
    "codex.thread_sandbox.*",
    "codex.turn_sandbox_policy.*",
    "codex.turn_timeout_ms",
    "codex.read_timeout_ms",
    "codex.stall_timeout_ms",
    "server.host",
    "server.port",
    "server.hosts",
    "server.auth",
    "worker.ssh_hosts",
    "worker.max_concurrent_agents_per_host",
    "handoff.forge",
    "handoff.provider.*",
    "handoff.remote",
    "handoff.checks",
    "handoff.check_timeout_ms",
    "handoff.commit",
    "handoff.approval",
    "handoff.approval_expires",
    "handoff.claim_state",
    "handoff.state",
    "handoff.comment",
    "budget.issue.tokens",
    "budget.issue.cost_usd",
    "budget.issue.runs",
    "budget.issue.turns",
    "budget.issue.wall_clock",
    "budget.day.tokens",
    "budget.day.cost_usd",
    "budget.prices.*",
    "breaker.same_failure",
    "breaker.no_progress_turns",
    "breaker.cooldown",
    "quota.resume_at_reset",
    "questions.expire",
    "questions.auto_approve",
    "notify",
    "store.url",
];

/// The unknown keys of a front matter, in its order, at most 100.
pub(super) fn unknown(config: &Map<String, Value>) -> Vec<UnknownKey> {
    let mut found = Vec::new();
    walk("", config, &mut found);
    found.truncate(100);
    found
}

fn walk(prefix: &str, map: &Map<String, Value>, found: &mut Vec<UnknownKey>) {
    for (key, value) in map {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let open = format!("{path}.*");
        if KNOWN.iter().any(|known| *known == path || *known == open) {
            continue;
        }
        let below = format!("{path}.");
        if KNOWN.iter().any(|known| known.starts_with(&below)) {
            if let Value::Object(inner) = value {
                walk(&path, inner, found);
            }
        } else {
            found.push(UnknownKey { nearest: nearest(prefix, key), path });
        }
    }
}

fn nearest(prefix: &str, key: &str) -> Option<String> {
    let start = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
    // The siblings first; a key that stands in the wrong section is found by its last word.
    let siblings = KNOWN.iter().filter_map(|known| known.strip_prefix(start.as_str())).filter_map(|rest| {
        let name = rest.split('.').next()?;
        Some((distance(key, name), format!("{start}{name}")))
    });
    let elsewhere = KNOWN.iter().filter_map(|known| {
        let known = known.trim_end_matches(".*");
        let name = known.rsplit('.').next()?;
        Some((distance(key, name) + 1, known.to_owned()))
    });
    let limit = (key.chars().count() / 3).clamp(1, 4);
    siblings.chain(elsewhere).filter(|(far, _)| *far <= limit).min_by_key(|(far, _)| *far).map(|(_, name)| name)
}

// Levenshtein, letter case ignored.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().take(64).collect();
    let b: Vec<char> = b.to_lowercase().chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let kept = row.get(j).copied().unwrap_or(0) + usize::from(x != y);
            let dropped = row.get(j + 1).copied().unwrap_or(0) + 1;
            let added = next.get(j).copied().unwrap_or(0) + 1;
            next.push(kept.min(dropped).min(added));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lists_unknown_keys_with_the_nearest_known_one() {
        let config = serde_json::json!({
            "poling": {"interval_ms": 1},
            "agent": {"max_turn": 3, "kind": "acp", "max_concurrent_agents_by_state": {"todo": 1}},
            "tracker": {"provider": {"anything": {"goes": 1}}},
            "zebra": 1,
            "branch": "x",
        });
        let found = unknown(config.as_object().unwrap());
        let pairs: Vec<_> = found.iter().map(|key| (key.path.as_str(), key.nearest.as_deref())).collect();
        assert!(pairs.contains(&("poling", Some("polling"))), "{pairs:?}");
        assert!(pairs.contains(&("agent.max_turn", Some("agent.max_turns"))), "{pairs:?}");
        assert!(pairs.contains(&("zebra", None)), "{pairs:?}");
        assert!(pairs.contains(&("branch", Some("workspace.branch"))), "{pairs:?}");
        assert_eq!(pairs.len(), 4);
    }
}
