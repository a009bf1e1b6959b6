//! What must hold of a scene, wherever it was cut.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::script::TOLD;
use super::world::{Line, Recorded, World};

/// Judges a ledger whose play came to its end.
///
/// # Panics
/// When something does not hold.
pub fn judge(world: &World) {
    let lines = world.lines();
    let runs = lines.iter().filter(|line| **line == Line::Began).count();
    assert_eq!(lines.last(), Some(&Line::Ended), "the play did not come to its end");
    executions(&lines, runs);
    remotes(&lines);
    answers(&lines);
    times(&lines);
}

/// Every executed effect had an intent and no outcome; what was told ran no more; each has one key, but where a probe or an operator
/// found it not applied.
fn executions(lines: &[Line], runs: usize) {
    let mut entered: BTreeMap<(&str, &str), Vec<(&str, u32)>> = BTreeMap::new();
    let mut over = BTreeSet::new();
    for line in lines {
        match line {
            Line::Entered { scope, key, idempotency_key, attempt, recorded } => {
                assert_eq!(*recorded, Recorded::Intent, "{key} of {scope} was executed");
                // One key is in three scopes, and told under its name in the first.
                let told_by_its_name = key != "pay" || scope == "turn 1 of session session-1";
                assert!(!told_by_its_name || !over.contains(key.as_str()), "{key} was told, and ran again");
                entered.entry((scope, key)).or_default().push((idempotency_key, *attempt));
            }
            Line::Told { what, .. } => {
                over.insert(what.as_str());
            }
            Line::Began | Line::Applied { .. } | Line::Probed { .. } | Line::Due { .. } | Line::Ended => {}
        }
    }
    let mut owners: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for (effect, calls) in &entered {
        let (scope, key) = effect;
        // Twice in a process that loses its scope, and as often as the policy of retries says.
        let most = match *key {
            "busy" => runs + 2,
            "stolen" => runs * 2,
            _ => runs,
        };
        assert!(calls.len() <= most, "{key} of {scope} was executed {} times in {runs} runs", calls.len());
        let attempts: Vec<u32> = calls.iter().map(|(_, attempt)| *attempt).collect();
        assert!(attempts.windows(2).all(|pair| pair[0] < pair[1]), "{key} of {scope}: attempts {attempts:?}");
        let keys: BTreeSet<&str> = calls.iter().map(|(key, _)| *key).collect();
        let renewed = ["mail", "together c", "launch"].contains(key);
        assert!(keys.len() == 1 || renewed, "{key} of {scope} carried the keys {keys:?}");
        for idempotency_key in keys {
            let other = owners.insert(idempotency_key, *effect);
            assert!(other.is_none(), "{effect:?} and {other:?} have one key");
        }
    }
}

/// Each remote did its thing once.
fn remotes(lines: &[Line]) {
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    let mut keys = BTreeSet::new();
    for line in lines {
        if let Line::Applied { idempotency_key, output } = line {
            assert!(keys.insert(idempotency_key), "twice under one key");
            *done.entry(output["did"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    let once = ["mail", "launch", "together a", "together b", "together c", "busy", "stolen", "import 1", "import 2"];
    for what in once {
        assert_eq!(done.get(what), Some(&1), "{what} was done so often");
    }
    assert_eq!(done.get("pay"), Some(&3), "once in each of three scopes");
}

/// What was told once is told the same ever after, and everything is told at last.
fn answers(lines: &[Line]) {
    let mut told: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut accepted = BTreeSet::new();
    let mut last = BTreeSet::new();
    for line in lines {
        match line {
            Line::Began => last.clear(),
            Line::Told { what, value } if what.starts_with("accepted ") => {
                assert!(accepted.insert(what.as_str()), "{what} twice");
                assert!(value["payload"].is_string());
            }
            Line::Told { what, value } => {
                last.insert(what.as_str());
                let first = *told.entry(what).or_insert(value);
                assert_eq!(first, value, "{what} was told otherwise before");
            }
            Line::Entered { .. } | Line::Applied { .. } | Line::Probed { .. } | Line::Due { .. } | Line::Ended => {}
        }
    }
    for what in TOLD {
        // What is pruned is not told again.
        assert!(last.contains(what) || (what.starts_with("import") && told.contains_key(what)), "{what} was lost");
    }
    let expected = [
        ("pay", "/output/did", "pay"),
        ("mail", "/output/did", "mail"),
        ("launch", "/output/did", "launch"),
        ("refused", "/error", "refused_by_remote"),
        ("busy", "/output/did", "busy"),
        ("resolved early", "/output/payload", "early"),
        ("resolved elsewhere", "/output/payload", "elsewhere"),
        ("deadline", "/output/as", "timeout"),
        ("canceled", "/output/as", "canceled"),
        ("asked", "/output/payload", "asked"),
        ("second look", "/output/payload", "asked"),
        ("session canceled", "/output/as", "canceled"),
        ("usable afterwards", "/output/payload", "usable"),
        ("revoked", "/error", "await_event_unknown_or_revoked"),
        ("import is gone", "/0/error", "await_event_unknown_or_revoked"),
        ("import is gone", "/1/error", "scope_ended"),
    ];
    for (what, at, value) in expected {
        assert_eq!(told[what].pointer(at).and_then(Value::as_str), Some(value), "{what}: {}", told[what]);
    }
    assert_eq!(told["pay"], told["pay again"]);
    assert_ne!(told["pay"], told["pay of session-2"]);
    assert_eq!(told["first look"]["output"], Value::Null);
}

/// What sleeps is due when it was due at first.
fn times(lines: &[Line]) {
    let mut due: BTreeMap<&str, i64> = BTreeMap::new();
    for line in lines {
        if let Line::Due { what, at } = line {
            let first = *due.entry(what).or_insert(*at);
            assert_eq!(first, *at, "{what} began to wait anew");
        }
    }
}
